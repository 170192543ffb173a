//! The one writer of a log: what it is made of, what it makes durable, and how it closes.

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
    /// Told when a group is done, for those who wait for room.
    pub(super) progress: Condvar,
    pub(super) active: Mutex<ActiveSegment>,
    /// Positions below this one are durable.
    pub(super) durable: AtomicU64,
    pub(super) head: Mutex<HeadFile>,
    pub(super) maintenance: maintenance::MaintenanceSignal,
    pub(super) syncing: interval::Syncing,
    /// What tells the next spare file from the others of the store.
    pub(super) spares: AtomicU32,
    /// What closing has come to.
    pub(super) closed: Mutex<Option<Result<()>>>,
}

impl LogWriter {
    /// Whether all that is visible is durable.
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

    /// Makes all events durable that can be read.
    pub(crate) fn sync_visible(&self) -> Result<()> {
        self.make_durable(self.log.watermark())
    }

    /// Makes all events below this position durable, which are visible: with
    /// [`Durability::Sync`](super::Durability::Sync) they are.
    pub(crate) fn make_durable(&self, upto: u64) -> Result<()> {
        if self.durable.load(Ordering::Acquire) >= upto {
            return Ok(());
        }
        self.check_process()?;
        self.check_durability()?;
        // What is visible may be in the hands of a leader that has not said so yet.
        self.arrive();
        self.sync_written()?;
        self.check_durability()
    }

    /// Accepts nothing more, writes what has been accepted, makes it durable, marks the store as
    /// closed cleanly, and lets go of the lock. Reads go on.
    pub(crate) fn close(&self) -> Result<()> {
        // The thread to wait for is not here, and neither the lock nor the files are ours.
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
        // If it is lost, that is what all below comes to.
        let (Ok(()) | Err(_)) = self.check_owner();
        self.state.lock().refused.get_or_insert(Error::Closed);
        let drained = self.drain();
        // What leaders do after their commits, and readers for their own: a spare file, an index.
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

    /// Whether all syncs have gone well so far.
    fn check_durability(&self) -> Result<()> {
        match &self.state.lock().refused {
            Some(unknown @ (Error::DurabilityUnknown { .. } | Error::LockLost { .. })) => Err(unknown.clone()),
            _ => Ok(()),
        }
    }
}
