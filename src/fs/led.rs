//! A file system whose paths lead elsewhere: it holds a directory on systems without names relative
//! to one.

use super::{Entry, File, Fs, Lock, LockMode, Mode};
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub(super) struct Led<F> {
    pub under: F,
    /// The path of the directory when it was held: the prefix of the paths that lead into it.
    pub path: PathBuf,
    /// Its path in the file system below.
    pub now: Box<dyn Fn(&F) -> PathBuf + Send + Sync>,
}

impl<F: Fs> Led<F> {
    fn at(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.path) {
            // Without the separator that an empty rest would leave at the end.
            Ok(below) => (self.now)(&self.under).join(below).components().collect(),
            Err(_) => path.to_owned(),
        }
    }
}

impl<F: Fs> Fs for Led<F> {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.under.create_dir(&self.at(path))
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        self.under.open(&self.at(path), mode)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.under.list(&self.at(dir))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.under.rename(&self.at(from), &self.at(to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.under.remove(&self.at(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.under.remove_dir(&self.at(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.under.sync_dir(&self.at(dir))
    }

    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<Lock> {
        self.under.lock(&self.at(path), mode)
    }

    fn available(&self, dir: &Path) -> io::Result<Option<u64>> {
        self.under.available(&self.at(dir))
    }

    fn gains_from_zeros(&self) -> bool {
        self.under.gains_from_zeros()
    }
}

impl<F: Fs> fmt::Debug for Led<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Led").field("under", &self.under).field("path", &self.path).finish_non_exhaustive()
    }
}
