//! A file system in memory that asserts of some files that nobody asks for more bytes of them than
//! they have: a length that a file tells is not believed before it is compared with the file.

use annals::fs::{Entry, File, Fs, Lock, LockMode, Map, MemFs, Mode};
use std::io;
use std::path::Path;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(super) struct Bounded(pub(super) MemFs);

#[derive(Debug)]
struct BoundedFile(Arc<dyn File>);

impl Fs for Bounded {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.0.create_dir(path)
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        let file = self.0.open(path, mode)?;
        let bounded = path.ends_with("POSITIONS") || path.extension().is_some_and(|extension| extension == "snap");
        Ok(if bounded { Arc::new(BoundedFile(file)) } else { file })
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.0.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.remove(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.0.remove_dir(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.sync_dir(dir)
    }

    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<Lock> {
        self.0.lock(path, mode)
    }

    fn available(&self, dir: &Path) -> io::Result<Option<u64>> {
        self.0.available(dir)
    }

    fn gains_from_zeros(&self) -> bool {
        self.0.gains_from_zeros()
    }
}

impl File for BoundedFile {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        assert!(out.len() as u64 <= self.0.size()?, "{} bytes are asked for, of {:?}", out.len(), self.0.size());
        self.0.read_at(offset, out)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.0.write_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync()
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.0.truncate(size)
    }

    fn map(&self, len: u64) -> io::Result<Option<Arc<dyn Map>>> {
        self.0.map(len)
    }
}
