//! The overlay: a file system that shows a damaged store as a sound one. Rebuilt files in memory
//! replace the damaged ones; all other files are shown unchanged.

use crate::fs::{Entry, File, Fs, Held, Lock, LockMode, Map, Mode};
use std::collections::{HashMap, HashSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A read-only file system in which some files are replaced and some are hidden.
#[derive(Debug)]
pub(crate) struct Overlay {
    under: Arc<dyn Fs>,
    images: HashMap<PathBuf, Arc<Image>>,
    hidden: HashSet<PathBuf>,
    locks: bool,
}

/// Stands in for a lock that the open store holds already.
#[derive(Debug)]
struct HeldAlready;

impl Held for HeldAlready {}

/// A file in memory.
#[derive(Debug)]
struct Image(Vec<u8>);

impl Overlay {
    pub(crate) fn new(under: Arc<dyn Fs>, locks: bool) -> Self {
        Overlay { under, images: HashMap::new(), hidden: HashSet::new(), locks }
    }

    /// Shows these bytes as a file.
    pub(crate) fn show(&mut self, path: PathBuf, bytes: Vec<u8>) {
        self.images.insert(path, Arc::new(Image(bytes)));
    }

    /// Shows a hidden file again.
    pub(crate) fn reveal(&mut self, path: &Path) {
        self.hidden.remove(path);
    }

    /// Hides a file.
    pub(crate) fn hide(&mut self, path: PathBuf) {
        self.hidden.insert(path);
    }
}

fn read_only<T>() -> io::Result<T> {
    Err(io::ErrorKind::ReadOnlyFilesystem.into())
}

impl Fs for Overlay {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        read_only()
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        if mode != Mode::Read {
            return read_only();
        }
        match self.images.get(path) {
            Some(image) => Ok(image.clone()),
            None if self.hidden.contains(path) => Err(io::ErrorKind::NotFound.into()),
            None => self.under.open(path, mode),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = self.under.list(dir)?;
        entries.retain(|entry| {
            let path = dir.join(&entry.name);
            !self.hidden.contains(&path) && !self.images.contains_key(&path)
        });
        let shown = self.images.iter().filter(|(path, _)| path.parent() == Some(dir));
        entries.extend(shown.map(|(path, image)| Entry {
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            size: image.0.len() as u64,
            is_dir: false,
            is_file: true,
        }));
        Ok(entries)
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        read_only()
    }

    fn remove(&self, _: &Path) -> io::Result<()> {
        read_only()
    }

    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        read_only()
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<Lock> {
        if self.locks { self.under.lock(path, mode) } else { Ok(Lock::Held(Box::new(HeldAlready))) }
    }

    fn available(&self, dir: &Path) -> io::Result<Option<u64>> {
        self.under.available(dir)
    }

    fn gains_from_zeros(&self) -> bool {
        false
    }
}

impl File for Image {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(offset).ok().and_then(|at| self.0.get(at..)).unwrap_or_default();
        let count = left.len().min(out.len());
        out[..count].copy_from_slice(&left[..count]);
        Ok(count)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<usize> {
        read_only()
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        read_only()
    }

    fn map(&self, _: u64) -> io::Result<Option<Arc<dyn Map>>> {
        Ok(None)
    }
}
