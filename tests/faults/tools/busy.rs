//! A disk that is busy.

use annals::fs::{Entry, File, FileLayer, Fs, FsLayer, Mode};
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

impl FsLayer for Busy {
    fn inner(&self) -> &dyn Fs {
        &self.disk
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        (self.each)();
        Ok(Arc::new(BusyFile { under: self.disk.open(path, mode)?, fs: self.clone() }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        (self.each)();
        self.disk.list(dir)
    }

    /// As if a sandbox forbids the call.
    fn available(&self, _: &Path) -> io::Result<Option<u64>> {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

impl FileLayer for BusyFile {
    fn inner(&self) -> &dyn File {
        &*self.under
    }

    fn size(&self) -> io::Result<u64> {
        (self.fs.each)();
        self.under.size()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        (self.fs.each)();
        let len = out.len().min(1024);
        self.under.read_at(offset, &mut out[..len])
    }
}
