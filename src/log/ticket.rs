//! Tickets: waiting for a commit.

use super::LogWriter;
use crate::error::{Error, Result};
use crate::waker::{Caller, this_thread};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Release};
use std::task::Waker;

/// The outcome of one commit, and its waiter.
#[derive(Default)]
pub(super) struct CommitSlot {
    /// There is an outcome: a caller that only checks takes no lock.
    completed: AtomicBool,
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    outcome: Option<Result<(), Error>>,
    waker: Option<Waker>,
    /// The waiter is a thread that can write the next group; tasks must not block.
    can_lead: bool,
    /// The waiter must lead the next group.
    lead: bool,
    /// The ticket was dropped: there will be no waiter.
    abandoned: bool,
}

impl CommitSlot {
    /// Sets the outcome. Returns the waiter, to be woken.
    #[must_use]
    pub(super) fn complete(&self, outcome: Result<(), Error>) -> Option<Waker> {
        let mut waiting = self.waiting.lock();
        waiting.outcome = Some(outcome);
        self.completed.store(true, Release);
        waiting.waker.take()
    }

    /// Wakes the waiter, to lead the next group. Returns `false` if there is none any more.
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

    /// Registers this thread as the waiter. Called under the commit lock, so that no leader misses
    /// it.
    pub(super) fn register(&self) {
        let mut waiting = self.waiting.lock();
        waiting.waker = Some(this_thread());
        waiting.can_lead = true;
    }

    /// Sleeps until the outcome is known or the next group must be led.
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

/// A commit that has been accepted: its order is decided, and it is not yet durable.
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

    /// Returns the outcome of the commit if it is known; otherwise wakes `waker` when it is. The
    /// commit is written in the background, or here if there is no maintenance thread.
    #[cfg(feature = "async")]
    pub(crate) fn poll(&mut self, waker: &Waker) -> Option<Result<()>> {
        // In a forked process there is no thread that would write it.
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

    /// Returns whether waiting would not block.
    pub(crate) fn is_done(&self) -> bool {
        self.slot.completed.load(Acquire)
    }
}

impl Drop for CommitTicket {
    /// There is no waiter that would write it: the maintenance thread does, or else this one.
    fn drop(&mut self) {
        if self.waited || self.writer.check_process().is_err() {
            return;
        }
        self.slot.waiting.lock().abandoned = true;
        if !self.is_done() && !self.writer.maintenance.take_over() {
            // The next sync or close returns the error.
            let (Ok(()) | Err(_)) = self.writer.wait(&self.slot);
        }
    }
}
