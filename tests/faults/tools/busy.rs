//! A disk that is busy.

use annals::fs::{Entry, File, Fs, Lock, LockMode, Map, Mode};

use annals_testkit::SimFs;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A disk on which something happens before each call. Reads are short, so that something happens
/// within long ones, too.
#[derive(Clone)]
pub struct Busy {
    pub disk: SimFs,
    pub each: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Busy")
    }
}

#[derive(Debug)]
struct BusyFile {
    under: Arc<dyn File>,
    fs: Busy,
}

impl Fs for Busy {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        (self.each)();
        Ok(Arc::new(BusyFile { under: self.disk.open(path, mode)?, fs: self.clone() }))
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        (self.each)();
        self.disk.list(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<Lock> {
        self.disk.lock(path, mode)
    }
    /// As where a sandbox forbids the call.
    fn available(&self, _: &Path) -> io::Result<Option<u64>> {
        Err(io::ErrorKind::PermissionDenied.into())
    }
    fn gains_from_zeros(&self) -> bool {
        true
    }
}

impl File for BusyFile {
    fn size(&self) -> io::Result<u64> {
        (self.fs.each)();
        self.under.size()
    }
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        (self.fs.each)();
        let len = out.len().min(1024);
        self.under.read_at(offset, &mut out[..len])
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.under.write_at(offset, bytes)
    }
    fn sync(&self) -> io::Result<()> {
        self.under.sync()
    }
    fn truncate(&self, size: u64) -> io::Result<()> {
        self.under.truncate(size)
    }
    fn map(&self, len: u64) -> io::Result<Option<Arc<dyn Map>>> {
        self.under.map(len)
    }
}
