//! The files of one owner of a directory: no handle changes them once its lock is released.
//!
//! A store releases its lock while threads may still be working for it: a leader that makes a spare
//! file after its commit, a reader that rebuilds an index. Two things keep those away from the
//! files of the next owner. Work of several calls holds the owner's token, and closing waits for
//! it; and every single call that changes anything passes a gate that is shut before the lock is
//! released, whoever makes it and whatever it forgot.

use super::gate::Gate;
pub(crate) use super::gate::WorkToken;
use super::{Entry, File, Fs, Lock, LockMode, Map, Mode};
use crate::directory::temporary_name;
use crate::error::{Error, NotOwner, Result};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A file system as the owner of a directory uses it, from taking the lock to releasing it.
#[derive(Debug)]
pub(crate) struct Owned {
    under: Arc<dyn Fs>,
    gate: Arc<Gate>,
    /// Random, for names.
    owner: u64,
    named: AtomicU64,
}

impl Owned {
    pub(crate) fn new(under: Arc<dyn Fs>) -> Self {
        let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
        Owned { under, gate: Arc::new(Gate::new()), owner: high ^ low.rotate_left(32), named: AtomicU64::new(0) }
    }

    /// Begins work of several calls. It must not wait for anything that closing waits for.
    ///
    /// # Errors
    ///
    /// [`Error::Closed`] once the owner is closing.
    pub(crate) fn work(&self) -> Result<WorkToken<'_>> {
        self.gate.work().ok_or(Error::Closed)
    }

    /// Returns whether long work should stop.
    pub(crate) fn is_ending(&self) -> bool {
        self.gate.is_ending()
    }

    /// Lets no more work begin, and waits for the work of other threads. This thread may have work
    /// in progress, too: a leader wakes the waiters of its commit, and a waker may drop the last
    /// handle. Its remaining calls are refused.
    pub(crate) fn end_work(&self) {
        self.gate.end_work();
    }

    /// Waits for calls in progress, and refuses all later ones that would change something. Reading
    /// continues.
    pub(crate) fn end(&self) {
        self.gate.end();
    }

    /// Refuses all later calls that would change something, without waiting for work in progress:
    /// the directory may already have another owner.
    pub(crate) fn shut(&self) {
        self.gate.shut();
    }

    /// Returns a temporary name for what will be called `name`, which no other file has, of this
    /// owner or another.
    pub(crate) fn temporary(&self, name: &str) -> String {
        let number = self.named.fetch_add(1, Ordering::Relaxed);
        temporary_name(name, self.owner, number)
    }
}

/// Allows a call that changes something, while the lock is held.
fn pass<T>(gate: &Gate, call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    gate.pass(call).unwrap_or_else(|| Err(io::Error::other(NotOwner)))
}

impl Fs for Owned {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        pass(&self.gate, || self.under.create_dir(path))
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        if mode == Mode::Read {
            return self.under.open(path, mode);
        }
        let file = pass(&self.gate, || self.under.open(path, mode))?;
        Ok(Arc::new(OwnedFile { file, gate: self.gate.clone() }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.under.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        pass(&self.gate, || self.under.rename(from, to))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        pass(&self.gate, || self.under.remove(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        pass(&self.gate, || self.under.remove_dir(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        pass(&self.gate, || self.under.sync_dir(dir))
    }

    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<Lock> {
        pass(&self.gate, || self.under.lock(path, mode))
    }

    fn available(&self, dir: &Path) -> io::Result<Option<u64>> {
        self.under.available(dir)
    }

    fn gains_from_zeros(&self) -> bool {
        self.under.gains_from_zeros()
    }
}

/// A file that was opened for writing.
#[derive(Debug)]
struct OwnedFile {
    file: Arc<dyn File>,
    gate: Arc<Gate>,
}

impl File for OwnedFile {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.file.read_at(offset, out)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        pass(&self.gate, || self.file.write_at(offset, bytes))
    }

    fn sync(&self) -> io::Result<()> {
        pass(&self.gate, || self.file.sync())
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        pass(&self.gate, || self.file.truncate(size))
    }

    fn map(&self, len: u64) -> io::Result<Option<Arc<dyn Map>>> {
        self.file.map(len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::meant_by;
    use crate::fs::MemFs;

    #[test]
    fn nothing_is_changed_after_the_end() {
        let fs = MemFs::new();
        let owned = Owned::new(Arc::new(fs.clone()));
        let path = Path::new("d/file");
        let file = owned.open(path, Mode::Create).unwrap();
        file.write_at(0, b"before").unwrap();
        let reader = owned.open(path, Mode::Read).unwrap();
        owned.end();

        let refused = |e: io::Error| matches!(Error::io("write", path, e), Error::Closed);
        assert!(refused(file.write_at(0, b"behind").unwrap_err()));
        assert!(refused(file.truncate(0).unwrap_err()) && refused(file.sync().unwrap_err()));
        assert!([Mode::Write, Mode::Create].into_iter().all(|mode| refused(owned.open(path, mode).unwrap_err())));
        assert!(refused(owned.rename(path, Path::new("d/other")).unwrap_err()));
        assert!(refused(owned.remove(path).unwrap_err()) && refused(owned.remove_dir(Path::new("d")).unwrap_err()));
        assert!(refused(owned.create_dir(Path::new("e")).unwrap_err()));
        assert!(refused(owned.sync_dir(Path::new("d")).unwrap_err()));
        assert!(matches!(owned.work(), Err(Error::Closed)));

        let mut bytes = [0; 6];
        reader.read_at(0, &mut bytes).unwrap();
        assert_eq!((&bytes, file.size().unwrap()), (b"before", 6));
        assert!(owned.open(path, Mode::Read).is_ok());
    }

    #[test]
    fn names_tell_owners_apart() {
        let [one, other] = [(); 2].map(|()| Owned::new(Arc::new(MemFs::new())));
        let names = [one.temporary("1.idx"), one.temporary("1.idx"), other.temporary("1.idx")];
        assert!(names[0] != names[1] && names[1] != names[2] && names[0] != names[2]);
        assert!(names.iter().all(|name| meant_by(name) == Some("1.idx")));
    }
}
