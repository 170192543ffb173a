//! Locks of the operating system: who may write, who holds the lock, and whether the name still
//! leads to the locked file.
//!
//! On Unix two things are locked with `flock`: the file, and its directory. Removing or replacing
//! the file leads a second process to another file, whose lock is free; the lock of the directory
//! still keeps it out. File systems that cannot lock a directory do without.

#[cfg(not(unix))]
use super::Lock;
use super::{Held, LockMode};
use crate::process::Process;
use std::fs::{File, TryLockError};
use std::io::{self, Read, Seek, Write};
#[cfg(unix)]
use std::path::PathBuf;

/// The lock belongs to the open file, so the system releases it when the process dies.
#[derive(Debug)]
pub(super) struct RealLock {
    /// `None` for a reader if there is no such file.
    pub(super) file: Option<File>,
    pub(super) mode: LockMode,
    pub(super) process: Process,
    #[cfg(unix)]
    pub(super) place: Option<LockPath>,
}

/// The location of a lock's name.
#[cfg(unix)]
#[derive(Debug)]
pub(super) struct LockPath {
    /// The directory of the name, locked if that is possible.
    pub(super) dir: File,
    pub(super) name: PathBuf,
    /// Returns whether a name leads to the file that was just opened by it. If it does not, inode
    /// numbers are of no use here.
    pub(super) tells_apart: bool,
}

impl Held for RealLock {
    #[cfg(unix)]
    fn is_named(&self) -> bool {
        let (Some(file), Some(place)) = (&self.file, &self.place) else { return true };
        match super::held::leads_to(&place.dir, &place.name, file) {
            Ok(same) => same || !place.tells_apart,
            // If it cannot be determined, the lock does not count as lost.
            Err(e) => e.kind() != io::ErrorKind::NotFound,
        }
    }
}

impl Drop for RealLock {
    fn drop(&mut self) {
        // A forked child shares the open file with its parent: closing its copy releases nothing,
        // unlocking would.
        if !self.process.is_this() {
            return;
        }
        if let (LockMode::Exclusive, Some(file)) = (self.mode, &self.file) {
            // The text must not name an owner that is gone. It is for people; the lock is what
            // counts.
            let _ = file.set_len(0);
        }
        // Closing would be enough, except for a child that another thread is just starting: until
        // it executes its program it has the same open file, and with it the lock. The lock that is
        // taken first is released last.
        #[cfg(unix)]
        if let Some(place) = &self.place {
            let _ = place.dir.unlock();
        }
        if let Some(file) = &self.file {
            let _ = file.unlock();
        }
    }
}

/// Takes the lock of an open file. Returns `Some` with its owner if another one holds it.
pub(super) fn take(file: &File, mode: LockMode) -> io::Result<Option<String>> {
    let locked = match mode {
        LockMode::Exclusive => file.try_lock(),
        LockMode::Shared => file.try_lock_shared(),
    };
    match locked {
        Ok(()) => Ok(None),
        Err(TryLockError::WouldBlock) => Ok(Some(holder(file, mode))),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// Returns who holds a lock that could not be taken.
fn holder(file: &File, mode: LockMode) -> String {
    // The text is that of a writer. One that was killed leaves it behind, and a reader may have the
    // lock now.
    if mode == LockMode::Exclusive && file.try_lock_shared().is_ok() {
        let _ = file.unlock();
        return "a process that reads it".into();
    }
    let mut text = Vec::new();
    // If the text cannot be read, the owner is unknown.
    let _ = file.take(512).read_to_end(&mut text);
    let text = String::from_utf8_lossy(&text).trim().to_owned();
    match owner_of(&text) {
        Some((pid, at)) if at == host() && !runs(pid) => {
            format!("an unknown process (pid {pid}, which opened it, does not run on {at} any more)")
        }
        _ => text,
    }
}

/// Writes the owner of the lock into the file. The text is for people, so a lock without one is as
/// good: the disk may be full.
pub(super) fn sign(mut file: &File) {
    let text = format!("pid {} on {}\n", std::process::id(), host());
    // An old text is removed first, as it names another owner.
    let (Ok(()) | Err(_)) = file.set_len(0).and_then(|()| file.rewind()).and_then(|()| file.write_all(text.as_bytes()));
}

fn owner_of(text: &str) -> Option<(u32, &str)> {
    let (pid, host) = text.strip_prefix("pid ")?.split_once(" on ")?;
    Some((pid.parse().ok()?, host))
}

#[cfg(unix)]
fn runs(pid: u32) -> bool {
    let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
    let known = pid.map(rustix::process::test_kill_process);
    known.is_none_or(|known| known != Err(rustix::io::Errno::SRCH))
}

#[cfg(not(unix))]
fn runs(_: u32) -> bool {
    true
}

#[cfg(unix)]
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn host() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_else(|_| "this host".into())
}

/// Takes a lock by path alone.
#[cfg(not(unix))]
pub(super) fn lock(path: &std::path::Path, mode: LockMode) -> io::Result<Lock> {
    let mut options = std::fs::OpenOptions::new();
    options.read(true);
    if mode == LockMode::Exclusive {
        options.write(true).create(true).truncate(false);
    }
    let file = options.open(path)?;
    if let Some(holder) = take(&file, mode)? {
        return Ok(Lock::Taken(holder));
    }
    if mode == LockMode::Exclusive {
        sign(&file);
    }
    Ok(Lock::Held(Box::new(RealLock { file: Some(file), mode, process: Process::this() })))
}
