//! Who owns the directory: it is held and locked by opening, and looked at again while the store is
//! open.
//!
//! The lock is that of a file, so it protects only as long as LOCK leads to that file. It is looked
//! at where that costs nothing beside what else is done: when a segment ends or begins, before
//! HEAD, POSITIONS, indexes, snapshots and projections are written, on closing, and by the
//! maintenance thread every 100 ms while there are commits.

use super::{Log, LogSettings};
use crate::error::{Error, Result};
use crate::fs::{Fs, Lock, LockMode};
use crate::segment::vestiges::index_number;
use crate::segment::{LOCK, foreign, head, number_of};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Binds the directory of a store, and creates it if need be. Returns what the store works through
/// from now on.
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

/// Takes the lock. `None` in a copy without a lock file that is only read.
pub(super) fn lock(fs: &dyn Fs, dir: &Path, settings: &LogSettings) -> Result<Option<Lock>> {
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
        // A copy that was made without its lock file, on a medium that cannot be written to, can
        // still be read.
        Err(e) if settings.read_only && e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("lock", &path, e)),
    }
}

fn is_ours(name: &str) -> bool {
    name == head::NAME || name == LOCK || number_of(name).or(index_number(name)).is_some()
}

impl Log {
    /// Whether this is the process that opened the store. Takes no lock: in another process, the
    /// thread that held it may be missing.
    pub(crate) fn check_process(&self) -> Result<()> {
        self.process.check().map_err(|other| Error::Forked { opener: other.opener })
    }

    /// Whether LOCK still leads to what is locked.
    pub(super) fn check_lock(&self) -> Result<()> {
        match &*self.lock.lock() {
            Some(Lock::Held(held)) if !held.is_named() => Err(Error::LockLost { path: self.dir.join(LOCK) }),
            _ => Ok(()),
        }
    }

    /// Whether the store still owns its directory, as far as it knows already: cheap enough for
    /// each change of what is only in memory.
    pub(crate) fn check_known(&self) -> Result<()> {
        self.check_process()?;
        match self.owner.is_ending() {
            true => Err(self.state.lock().refused.clone().unwrap_or(Error::Closed)),
            false => Ok(()),
        }
    }

    /// Whether the store still owns its directory. If it does not, it writes nothing any more and
    /// says so to everybody.
    pub(crate) fn check_owner(&self) -> Result<()> {
        self.check_process()?;
        if self.settings.read_only {
            return Ok(());
        }
        self.check_lock().inspect_err(|error| {
            self.writer.lock().refuse(error.clone());
            self.refuse(error);
            self.owner.shut();
        })
    }
}
