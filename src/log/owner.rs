//! The owner of a directory: opening holds and locks it, and the lock is checked again while the
//! store is open.
//!
//! The lock is that of a file, so it protects only while LOCK leads to that file. That is checked
//! where it costs little compared with the rest: when a segment ends or begins, before HEAD,
//! POSITIONS, indexes, snapshots and projections are written, on closing, and by the maintenance
//! thread every 100 ms while there are commits.

use super::{LogSettings, LogWriter};
use crate::directory::{HEAD, INCOMPLETE, LOCK, index_number, segment_number};
use crate::error::{Error, Result};
use crate::fs::owned::{Owned, WorkToken};
use crate::fs::{Fs, Lock, LockMode};
use crate::process::Process;
use crate::segment::foreign;
use parking_lot::Mutex;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Opens the directory of a store, and creates it if necessary. Returns the file system through
/// which the store works from now on.
pub(crate) fn hold(fs: Arc<dyn Fs>, dir: &Path, settings: &LogSettings) -> Result<Arc<dyn Fs>> {
    if settings.create && !settings.read_only {
        fs.create_dir(dir).map_err(|e| Error::directory("create", dir, e))?;
    }
    let held = fs.hold(dir).map_err(|e| match e.kind() {
        io::ErrorKind::NotFound => Error::NotAStore { path: dir.to_owned() },
        _ => Error::directory("list", dir, e),
    })?;
    let fs = held.unwrap_or(fs);
    if !settings.read_only {
        foreign::check(&*fs, dir)?;
    }
    Ok(fs)
}

/// The directory of a store, as one open holds it: its files, its lock, and the process.
pub(crate) struct HeldDirectory {
    pub(super) path: PathBuf,
    pub(super) files: Arc<Owned>,
    /// `None` once it is released, and in a copy without a lock file that is only read.
    lock: Mutex<Option<Lock>>,
    process: Process,
}

impl HeldDirectory {
    /// Takes the lock.
    pub(super) fn lock(files: Arc<Owned>, path: PathBuf, settings: &LogSettings) -> Result<Self> {
        let lock = lock(&*files, &path, settings)?;
        Ok(HeldDirectory { path, files, lock: Mutex::new(lock), process: Process::this() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn fs(&self) -> Arc<dyn Fs> {
        self.files.clone()
    }

    /// Returns whether this is the process that opened the store. Takes no lock: in another
    /// process, the thread that held it may be missing.
    pub(crate) fn check_process(&self) -> Result<()> {
        self.process.check().map_err(|other| Error::Forked { opener: other.opener })
    }

    pub(super) fn is_released(&self) -> bool {
        self.lock.lock().is_none()
    }

    /// Returns whether LOCK still leads to the locked file.
    pub(super) fn check_lock(&self) -> Result<()> {
        match &*self.lock.lock() {
            Some(Lock::Held(held)) if !held.is_named() => Err(Error::LockLost { path: self.path.join(LOCK) }),
            _ => Ok(()),
        }
    }

    /// Waits for calls that change files, refuses later ones, and releases the lock: the files may
    /// be another owner's from now on.
    ///
    /// # Errors
    ///
    /// [`Error::Forked`] in a process that has not opened the store: neither lock nor files are its
    /// own.
    pub(crate) fn release(&self) -> Result<()> {
        self.check_process()?;
        self.files.end();
        *self.lock.lock() = None;
        Ok(())
    }
}

/// Takes the lock. `None` in a copy without a lock file that is only read.
fn lock(fs: &dyn Fs, dir: &Path, settings: &LogSettings) -> Result<Option<Lock>> {
    let path = dir.join(LOCK);
    let mode = if settings.read_only { LockMode::Shared } else { LockMode::Exclusive };
    if !settings.read_only && settings.create {
        fs.create_dir(dir).map_err(|e| Error::directory("create", dir, e))?;
    } else {
        let entries = match fs.list(dir) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Vec::new(),
            listed => listed.map_err(|e| Error::directory("list", dir, e))?,
        };
        if !entries.iter().any(|entry| is_ours(&entry.name)) {
            return Err(Error::NotAStore { path: dir.to_owned() });
        }
    }
    match fs.lock(&path, mode) {
        Ok(Lock::Taken(owner)) => {
            let owner = (!owner.is_empty()).then_some(owner);
            Err(Error::Locked { path: dir.to_owned(), owner })
        }
        Ok(held) => Ok(Some(held)),
        // A copy that was made without its lock file, on read-only media, can still be read.
        Err(e) if settings.read_only && e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("lock", &path, e)),
    }
}

fn is_ours(name: &str) -> bool {
    name == HEAD || name == LOCK || name == INCOMPLETE || segment_number(name).or(index_number(name)).is_some()
}

impl LogWriter {
    pub(crate) fn check_process(&self) -> Result<()> {
        self.held.check_process()
    }

    /// Returns an error if the store is already known not to own its directory: cheap enough for
    /// each change that is only in memory.
    pub(crate) fn check_known(&self) -> Result<()> {
        self.check_process()?;
        match self.held.files.is_ending() {
            true => Err(self.state.lock().refused.clone().unwrap_or(Error::Closed)),
            false => Ok(()),
        }
    }

    /// Checks that the store still owns its directory. If it does not, it writes nothing any more,
    /// and every writing call returns the error.
    pub(crate) fn check_owner(&self) -> Result<()> {
        self.check_process()?;
        self.held.check_lock().inspect_err(|error| {
            self.active.lock().refuse(error.clone());
            self.refuse(error);
            self.held.files.shut();
        })
    }

    /// Returns an error if files of the store must not be written, because it has lost its lock.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.check_process()?;
        if self.held.is_released() {
            return Err(Error::Closed);
        }
        self.check_owner()
    }

    /// Begins work on sidecar files: closing waits for it.
    ///
    /// # Errors
    ///
    /// As [`LogWriter::check_writable`].
    pub(crate) fn work(&self) -> Result<WorkToken<'_>> {
        self.check_writable()?;
        self.held.files.work()
    }
}
