//! Owners of directories on the simulated disk: locks, and directories that are held while others
//! rename them.

use super::SimFs;
use annals::fs::{Entry, File, Fs, FsLayer, Held, Lock, LockMode, Mode};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct SimLock {
    pub fs: SimFs,
    pub number: u64,
}

impl Held for SimLock {
    fn is_named(&self) -> bool {
        self.fs.state.lock().locks.values().any(|number| *number == self.number)
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.fs.state.lock().locks.retain(|_, number| *number != self.number);
    }
}

impl SimFs {
    /// Renames a directory with all that is in it, durably, as another process would. An owner that
    /// [holds](Fs::hold) it continues in it under its new name.
    pub fn rename_dir(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let moved = |path: &Path| match path.strip_prefix(from.as_ref()) {
            Ok(below) => to.as_ref().join(below).components().collect(),
            Err(_) => path.to_owned(),
        };
        for disk in [&mut state.cache, &mut state.durable] {
            disk.names =
                std::mem::take(&mut disk.names).into_iter().map(|(path, inode)| (moved(&path), inode)).collect();
        }
        state.unsynced.iter_mut().for_each(|change| change.each_path(|path| *path = moved(path)));
        state.locks = std::mem::take(&mut state.locks).into_iter().map(|(path, lock)| (moved(&path), lock)).collect();
        state.held.iter_mut().for_each(|path| *path = moved(path));
    }

    /// The file system in which a path leads to the directory that it leads to now.
    pub(super) fn held(&self, dir: &Path) -> Arc<dyn Fs> {
        let held = &mut self.state.lock().held;
        held.push(dir.to_owned());
        Arc::new(HeldDir { disk: self.clone(), path: dir.to_owned(), number: held.len() - 1 })
    }
}

/// A directory that is held: paths into it lead to where it is now, however it has been renamed.
#[derive(Debug)]
struct HeldDir {
    disk: SimFs,
    /// Its path when it was held.
    path: PathBuf,
    /// Its place in the list of held directories, which a rename changes.
    number: usize,
}

impl HeldDir {
    fn now(&self, path: &Path) -> PathBuf {
        match path.strip_prefix(&self.path) {
            // Without the separator that an empty rest would leave at the end.
            Ok(below) => self.disk.state.lock().held[self.number].join(below).components().collect(),
            Err(_) => path.to_owned(),
        }
    }
}

impl FsLayer for HeldDir {
    fn inner(&self) -> &dyn Fs {
        &self.disk
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(&self.now(path))
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        self.disk.open(&self.now(path), mode)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.disk.list(&self.now(dir))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(&self.now(from), &self.now(to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(&self.now(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir(&self.now(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(&self.now(dir))
    }

    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<Lock> {
        self.disk.lock(&self.now(path), mode)
    }

    fn available(&self, dir: &Path) -> io::Result<Option<u64>> {
        self.disk.available(&self.now(dir))
    }
}
