//! A directory in memory.

use super::{Entry, File, Fs, Held, Lock, LockMode, Map, Mode};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file system in memory: for [`Store::in_memory`](crate::Store::in_memory), and for tests that
/// need no disk.
///
/// Clones share the files, so a store that was closed can be opened again. Written bytes are
/// "durable" until the last clone is dropped.
#[derive(Clone, Default, Debug)]
pub struct MemFs {
    inner: Arc<MemFiles>,
}

#[derive(Default, Debug)]
struct MemFiles {
    files: RwLock<BTreeMap<PathBuf, Arc<MemFile>>>,
    locks: Mutex<BTreeSet<PathBuf>>,
}

/// A file in memory.
#[derive(Default, Debug)]
pub(crate) struct MemFile(RwLock<Vec<u8>>);

impl MemFile {
    pub(crate) fn new(bytes: Vec<u8>) -> Self {
        MemFile(RwLock::new(bytes))
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0.into_inner()
    }
}

#[derive(Debug)]
struct MemLock {
    inner: Arc<MemFiles>,
    path: PathBuf,
}

impl Held for MemLock {}

impl Drop for MemLock {
    fn drop(&mut self) {
        self.inner.locks.lock().remove(&self.path);
    }
}

impl MemFs {
    /// Returns an empty file system.
    pub fn new() -> Self {
        Self::default()
    }
}

fn missing(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no file {}", path.display()))
}

/// Returns the entries of `dir`, given all files: its files, and directories that have files below
/// them.
pub fn entries<'a>(files: impl Iterator<Item = (&'a PathBuf, u64)>, dir: &Path) -> Vec<Entry> {
    let mut found: BTreeMap<String, Entry> = BTreeMap::new();
    for (path, size) in files {
        let Ok(below) = path.strip_prefix(dir) else { continue };
        let mut parts = below.components();
        let Some(first) = parts.next() else { continue };
        let name = first.as_os_str().to_string_lossy().into_owned();
        let is_dir = parts.next().is_some();
        let size = if is_dir { 0 } else { size };
        found.insert(name.clone(), Entry { name, size, is_dir, is_file: !is_dir });
    }
    found.into_values().collect()
}

impl Fs for MemFs {
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        let mut files = self.inner.files.write();
        if mode == Mode::Create {
            let file = files.entry(path.to_owned()).or_default();
            file.0.write().clear();
            return Ok(file.clone());
        }
        let file = files.get(path).ok_or_else(|| missing(path))?;
        Ok(file.clone())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let files = self.inner.files.read();
        let sizes = files.iter().map(|(path, file)| (path, file.0.read().len() as u64));
        Ok(entries(sizes, dir))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut files = self.inner.files.write();
        let file = files.remove(from).ok_or_else(|| missing(from))?;
        files.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let removed = self.inner.files.write().remove(path);
        removed.map(drop).ok_or_else(|| missing(path))
    }

    /// A directory exists while it has files.
    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Shared locks are treated as exclusive ones.
    fn lock(&self, path: &Path, _: LockMode) -> io::Result<Lock> {
        if !self.inner.locks.lock().insert(path.to_owned()) {
            return Ok(Lock::Taken(format!("pid {} (in memory)", std::process::id())));
        }
        Ok(Lock::Held(Box::new(MemLock { inner: self.inner.clone(), path: path.to_owned() })))
    }

    fn available(&self, _: &Path) -> io::Result<Option<u64>> {
        Ok(None)
    }

    fn gains_from_zeros(&self) -> bool {
        false
    }
}

/// Reads from a file that is a vector.
pub fn read_vec(bytes: &[u8], offset: u64, out: &mut [u8]) -> usize {
    let start = usize::try_from(offset).map_or(bytes.len(), |at| at.min(bytes.len()));
    let n = out.len().min(bytes.len() - start);
    out[..n].copy_from_slice(&bytes[start..start + n]);
    n
}

/// Writes to a file that is a vector.
pub fn write_vec(file: &mut Vec<u8>, offset: u64, bytes: &[u8]) {
    let start = offset as usize;
    if file.len() < start + bytes.len() {
        file.resize(start + bytes.len(), 0);
    }
    file[start..start + bytes.len()].copy_from_slice(bytes);
}

impl File for MemFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.read().len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        Ok(read_vec(&self.0.read(), offset, out))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        write_vec(&mut self.0.write(), offset, bytes);
        Ok(bytes.len())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.0.write().resize(size as usize, 0);
        Ok(())
    }

    fn map(&self, _: u64) -> io::Result<Option<Arc<dyn Map>>> {
        Ok(None)
    }
}
