//! Waiting for a commit.

use super::LogWriter;
use crate::error::{Error, Result};
use crate::waker::{Caller, this_thread};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::task::Waker;

/// What became of one commit, and who waits for it.
#[derive(Default)]
pub(super) struct CommitSlot {
    /// There is an outcome: anyone who only looks takes no lock.
    completed: AtomicBool,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    outcome: Option<Result<(), Error>>,
    waker: Option<Waker>,
    /// Who waits is a thread that can write the next group; tasks must not block.
    can_lead: bool,
    /// The waiter is to lead the next group.
    lead: bool,
    /// Nobody will ever wait.
    abandoned: bool,
}

impl CommitSlot {
    /// Says what became of the commit. Returns who waits for it, to be woken.
    #[must_use]
    pub(super) fn complete(&self, outcome: Result<(), Error>) -> Option<Waker> {
        let mut waiting = self.waiting.lock();
        waiting.outcome = Some(outcome);
        self.completed.store(true, Release);
        waiting.waker.take()
    }

    /// Wakes who waits, to lead the next group. `false` if nobody waits any more.
    pub(super) fn promote(&self, caller: Caller) -> bool {
        let mut waiting = self.waiting.lock();
        if !waiting.can_lead {
            return false;
        }
        let Some(waker) = waiting.waker.take() else { return false };
        waiting.lead = true;
        drop(waiting);
        caller.wake(waker);
        true
    }

    pub(super) fn outcome(&self) -> Option<Result<(), Error>> {
        if self.completed.load(Acquire) { self.waiting.lock().outcome.clone() } else { None }
    }

    pub(super) fn is_abandoned(&self) -> bool {
        self.waiting.lock().abandoned
    }

    /// Says that this thread waits. Called under the commit lock, so that no leader misses it.
    pub(super) fn register(&self) {
        let mut waiting = self.waiting.lock();
        waiting.waker = Some(this_thread());
        waiting.can_lead = true;
    }

    /// Sleeps until the outcome is known or the next group is to be led.
    pub(super) fn park(&self) {
        loop {
            let mut waiting = self.waiting.lock();
            if waiting.outcome.is_some() || std::mem::take(&mut waiting.lead) {
                return;
            }
            drop(waiting);
            std::thread::park();
        }
    }
}

/// A commit that has been accepted: it has its place in the order, and is not yet durable.
pub(crate) struct CommitTicket {
    pub(super) writer: Arc<LogWriter>,
    pub(super) slot: Arc<CommitSlot>,
    pub(super) waited: bool,
}

impl CommitTicket {
    /// Blocks until the commit is as durable as was asked for, or has failed.
    pub(crate) fn wait(mut self) -> Result<()> {
        self.waited = true;
        self.writer.wait(&self.slot)
    }

    /// What became of the commit, if that is known; if not, `waker` is told when it is. The commit
    /// is written in the background, or here if there is no maintenance thread.
    #[cfg(feature = "async")]
    pub(crate) fn poll(&mut self, waker: &Waker) -> Option<Result<()>> {
        // In a forked process there is nobody who would write it.
        if let Err(forked) = self.writer.check_process() {
            self.waited = true;
            return Some(Err(forked));
        }
        let mut waiting = self.slot.waiting.lock();
        if waiting.outcome.is_none() {
            waiting.waker = Some(waker.clone());
            drop(waiting);
            if !self.writer.maintenance.take_over() {
                let (Ok(()) | Err(_)) = self.writer.wait(&self.slot);
            }
            waiting = self.slot.waiting.lock();
        }
        let outcome = waiting.outcome.clone();
        self.waited |= outcome.is_some();
        outcome
    }

    /// Whether waiting would not block.
    pub(crate) fn is_done(&self) -> bool {
        self.slot.completed.load(Acquire)
    }
}

impl Drop for CommitTicket {
    /// Nobody will wait, so nobody would write: the maintenance thread does, or else this one.
    fn drop(&mut self) {
        if self.waited || self.writer.check_process().is_err() {
            return;
        }
        self.slot.waiting.lock().abandoned = true;
        if !self.is_done() && !self.writer.maintenance.take_over() {
            // An error is told by the next sync or close.
            let (Ok(()) | Err(_)) = self.writer.wait(&self.slot);
        }
    }
}
