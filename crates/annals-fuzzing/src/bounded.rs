//! A file system in memory that asserts, for some files, that no more bytes of them are requested
//! than they have: a length in a file is not trusted before it is compared with the file.

use annals::fs::{File, FileLayer, Fs, FsLayer, MemFs, Mode};
use std::io;
use std::path::Path;
use std::sync::Arc;

#[derive(Clone, Debug)]
pub(super) struct Bounded(pub(super) MemFs);

#[derive(Debug)]
struct BoundedFile(Arc<dyn File>);

impl FsLayer for Bounded {
    fn inner(&self) -> &dyn Fs {
        &self.0
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        let file = self.0.open(path, mode)?;
        let bounded = path.ends_with("POSITIONS") || path.extension().is_some_and(|extension| extension == "snap");
        Ok(if bounded { Arc::new(BoundedFile(file)) } else { file })
    }
}

impl FileLayer for BoundedFile {
    fn inner(&self) -> &dyn File {
        &*self.0
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        assert!(out.len() as u64 <= self.0.size()?, "{} bytes are asked for, of {:?}", out.len(), self.0.size());
        self.0.read_at(offset, out)
    }
}
