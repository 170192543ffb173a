//! The writer of a log: its parts, durability, and closing.

use super::active::ActiveSegment;
use super::head_file::HeadFile;
use super::queue::CommitState;
use super::{CommitObserver, HeldDirectory, LogReader, LogSettings, interval, maintenance};
use crate::error::{Error, Result};
use parking_lot::{Condvar, Mutex};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

pub(crate) struct LogWriter {
    /// What it writes is read here.
    pub(super) log: Arc<LogReader>,
    pub(super) held: Arc<HeldDirectory>,
    pub(super) settings: LogSettings,
    pub(super) observer: Arc<dyn CommitObserver>,
    pub(super) state: Mutex<CommitState>,
    /// Notified when a group is done, for threads that wait for room.
    pub(super) progress: Condvar,
    pub(super) active: Mutex<ActiveSegment>,
    /// Positions below this one are durable.
    pub(super) durable: AtomicU64,
    pub(super) head: Mutex<HeadFile>,
    pub(super) maintenance: maintenance::MaintenanceSignal,
    pub(super) syncing: interval::Syncing,
    /// Distinguishes the next spare file from the others of the store.
    pub(super) spares: AtomicU32,
    /// The state of closing.
    pub(super) closed: Mutex<Option<Result<()>>>,
}

impl LogWriter {
    /// Returns whether everything visible is durable.
    pub(super) fn is_durable(&self) -> bool {
        self.durable.load(Ordering::Acquire) >= self.log.watermark()
    }

    /// Makes everything durable that has been accepted.
    pub(crate) fn sync(&self) -> Result<()> {
        self.check_process()?;
        self.check_durability()?;
        let drained = self.drain();
        self.sync_written()?;
        drained
    }

    /// Makes all visible events durable.
    pub(crate) fn sync_visible(&self) -> Result<()> {
        self.make_durable(self.log.watermark())
    }

    /// Makes all visible events below this position durable; with
    /// [`Durability::Sync`](super::Durability::Sync) they are.
    pub(crate) fn make_durable(&self, upto: u64) -> Result<()> {
        if self.durable.load(Ordering::Acquire) >= upto {
            return Ok(());
        }
        self.check_process()?;
        self.check_durability()?;
        // A leader may have made events visible and not yet recorded that they are durable.
        self.arrive();
        self.sync_written()?;
        self.check_durability()
    }

    /// Accepts nothing more, writes what has been accepted, makes it durable, marks the store as
    /// closed cleanly, and releases the lock. Reads continue.
    pub(crate) fn close(&self) -> Result<()> {
        // The thread to wait for is not in this process, and neither the lock nor the files are
        // ours.
        self.check_process()?;
        let mut closed = self.closed.lock();
        if let Some(result) = &*closed {
            return result.clone();
        }
        self.maintenance.stop();
        self.syncing.stop();
        let result = self.close_files();
        self.state.lock().refused.get_or_insert(Error::Closed);
        self.held.release()?;
        closed.insert(result).clone()
    }

    fn close_files(&self) -> Result<()> {
        // If the lock is lost, the calls below return that error.
        let (Ok(()) | Err(_)) = self.check_owner();
        self.state.lock().refused.get_or_insert(Error::Closed);
        let drained = self.drain();
        // Leaders write spare files after their commits, and readers rebuild indexes.
        self.held.files.end_work();
        self.check_durability()?;
        self.sync_written()?;
        if self.state.lock().written.created {
            self.active.lock().trim();
        }
        self.write_indexes();
        self.mark(true)?;
        drained
    }

    /// Returns whether no sync has failed so far.
    fn check_durability(&self) -> Result<()> {
        match &self.state.lock().refused {
            Some(unknown @ (Error::DurabilityUnknown { .. } | Error::LockLost { .. })) => Err(unknown.clone()),
            _ => Ok(()),
        }
    }
}
