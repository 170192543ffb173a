//! The maintenance thread of a store, off the commit path: index files of sealed segments, spare
//! files, the mark in HEAD after a short idle time, and commits whose tickets are not waited for.
//! Without it (`Options::maintenance(false)`) callers do the same work inline, except for the idle
//! mark.

use super::spare::Spare;
use super::{Durability, LogWriter};
use crate::segment::succession::SegmentExtent;
use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

/// Interval at which progress of a spare file is checked.
const PAUSE: Duration = Duration::from_millis(2);

/// Without a commit for this long, a store counts as idle.
const IDLE: Duration = Duration::from_millis(100);

/// Number of sealed segments that may wait for the thread.
const MOST_SEALED: usize = 2;

#[derive(Default)]
struct Wishes {
    stop: bool,
    /// Tickets were dropped before their commits were written.
    orphans: bool,
    /// Segments that have been sealed.
    sealed: Vec<SegmentExtent>,
    /// The active segment is a quarter full.
    spare: bool,
}

/// What the thread and its clients share.
#[derive(Default)]
struct MaintenanceShared {
    wishes: Mutex<Wishes>,
    wake: Condvar,
    /// The thread sleeps until it is woken.
    asleep: AtomicBool,
}

#[derive(Default)]
pub(super) struct MaintenanceSignal {
    shared: Arc<MaintenanceShared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The thread runs, or a test takes its turns.
    attended: AtomicBool,
    #[cfg(annals_internals)]
    by_hand: Mutex<Turns>,
}

impl MaintenanceSignal {
    fn is_attended(&self) -> bool {
        self.attended.load(Ordering::SeqCst)
    }

    /// Notifies the thread that something has been committed.
    #[inline]
    pub(super) fn committed(&self) {
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.shared.asleep.store(false, Ordering::SeqCst);
            let _wishes = self.shared.wishes.lock();
            self.shared.wake.notify_one();
        }
    }

    /// Asks the thread to write what has been accepted. Returns `false` if there is no thread.
    pub(super) fn take_over(&self) -> bool {
        if !self.is_attended() {
            return false;
        }
        self.shared.wishes.lock().orphans = true;
        self.shared.wake.notify_one();
        true
    }

    /// Asks the thread to write the index of a sealed segment. Returns `false` if there is no
    /// thread, or if it has so many to write that the caller should do it: until then these indexes
    /// are in memory, and commits must not get ahead of that without end.
    pub(super) fn write_index(&self, extent: SegmentExtent) -> bool {
        if !self.is_attended() {
            return false;
        }
        let mut wishes = self.shared.wishes.lock();
        if wishes.sealed.len() >= MOST_SEALED {
            return false;
        }
        wishes.sealed.push(extent);
        drop(wishes);
        self.shared.wake.notify_one();
        true
    }

    /// Asks the thread to make a spare file. Returns `false` if there is no thread.
    pub(super) fn make_spare(&self) -> bool {
        if !self.is_attended() {
            return false;
        }
        self.shared.wishes.lock().spare = true;
        self.shared.wake.notify_one();
        true
    }

    /// Returns the segments whose indexes the thread was asked to write and has not written.
    pub(super) fn take_sealed(&self) -> Vec<SegmentExtent> {
        std::mem::take(&mut self.shared.wishes.lock().sealed)
    }

    /// Ends the thread, and waits until it has ended.
    pub(super) fn stop(&self) {
        self.attended.store(false, Ordering::SeqCst);
        // A test that takes the turns by hand is waited for as the thread is.
        #[cfg(annals_internals)]
        drop(self.by_hand.lock());
        let Some(thread) = self.thread.lock().take() else { return };
        self.shared.wishes.lock().stop = true;
        self.shared.wake.notify_one();
        // A waiter that is woken by what it writes may drop the last handle in this very thread,
        // which then ends on its own.
        if thread.thread().id() != std::thread::current().id() {
            // A panic in it has been reported by the panic hook; what it held is released.
            let (Ok(()) | Err(_)) = thread.join();
        }
    }
}

/// Bytes of the active segment that the next open may read again: below that, closing does not
/// write an index of it.
const UNINDEXED: u64 = 1 << 20;

impl LogWriter {
    /// Writes the index of a segment. It can be rebuilt: an error is left to the next open.
    pub(super) fn write_index(&self, extent: &SegmentExtent) {
        if self.check_owner().is_err() {
            return;
        }
        let (Ok(()) | Err(_)) = self.log.indexes.write(extent);
    }

    /// Writes the remaining indexes, on closing.
    pub(super) fn write_indexes(&self) {
        self.maintenance.take_sealed().iter().for_each(|extent| self.write_index(extent));
        let tail = self.state.lock().written.clone();
        let known = self.log.indexes.indexed_upto(tail.header.number);
        if tail.created && tail.chain.frames > 0 && tail.offset - known.min(tail.offset) > UNINDEXED {
            self.write_index(&SegmentExtent { segment: tail.header, end: tail.offset, chain: tail.chain });
        }
    }

    pub(super) fn start_maintenance(self: &Arc<Self>) -> std::io::Result<()> {
        let (writer, shared) = (Arc::downgrade(self), self.maintenance.shared.clone());
        let thread = std::thread::Builder::new().name("annals-maintenance".into());
        let thread = thread.spawn(move || run(&writer, &shared))?;
        *self.maintenance.thread.lock() = Some(thread);
        self.maintenance.attended.store(true, Ordering::SeqCst);
        Ok(())
    }

    /// From now on [`LogWriter::pass_time`] does what the threads would do.
    #[cfg(annals_internals)]
    pub(super) fn attend_by_hand(&self) {
        self.maintenance.attended.store(true, Ordering::SeqCst);
    }

    /// Lets time pass, until all threads of the store would sleep: does what they do meanwhile, in
    /// this thread and in a fixed order.
    #[cfg(annals_internals)]
    pub(crate) fn pass_time(&self) {
        const MOST_TURNS: usize = 32;
        let mut turns = self.maintenance.by_hand.lock();
        if !self.maintenance.is_attended() {
            return;
        }
        for _ in 0..MOST_TURNS {
            self.syncing.round(self);
            turns.take(self, &self.maintenance.shared);
            if turns.making.is_none() && self.maintenance.shared.asleep.load(Ordering::SeqCst) {
                return;
            }
        }
    }
}

fn run(writer: &Weak<LogWriter>, shared: &MaintenanceShared) {
    let mut turns = Turns::default();
    loop {
        let mut wishes = shared.wishes.lock();
        if !wishes.stop && !wishes.orphans && !wishes.spare && wishes.sealed.is_empty() {
            if turns.making.is_some() {
                shared.wake.wait_for(&mut wishes, turns.pause);
            } else if shared.asleep.load(Ordering::SeqCst) {
                shared.wake.wait(&mut wishes);
            } else {
                shared.wake.wait_for(&mut wishes, IDLE);
            }
        }
        let stop = wishes.stop;
        drop(wishes);
        let Some(writer) = writer.upgrade() else { return };
        if stop {
            if let Some(spare) = turns.making {
                spare.remove(&*writer.held.files);
            }
            return;
        }
        turns.take(&writer, shared);
    }
}

/// What is remembered from one turn to the next.
#[derive(Default)]
struct Turns {
    /// The watermark at the last turn.
    seen: Option<u64>,
    making: Option<Spare>,
    /// How long the spare file waits for the next turn.
    pause: Duration,
}

impl Turns {
    /// Does what was asked for and, if nothing has been committed since the last turn, what is done
    /// when a store is idle.
    fn take(&mut self, writer: &LogWriter, shared: &MaintenanceShared) {
        let mut wishes = shared.wishes.lock();
        let orphans = std::mem::take(&mut wishes.orphans);
        let sealed = std::mem::take(&mut wishes.sealed);
        let spare = std::mem::take(&mut wishes.spare);
        drop(wishes);
        if orphans {
            // Returned by the next sync or close.
            if let Err(error) = writer.drain() {
                writer.state.lock().untold.get_or_insert(error);
            }
        }
        sealed.iter().for_each(|extent| writer.write_index(extent));
        self.making = self.making.take().or_else(|| spare.then(|| writer.begin_spare()).flatten());
        // No faster than the active segment fills: others use the disk, too.
        let committed = Some(writer.log.watermark()) != self.seen;
        let waits = committed && self.making.as_ref().is_some_and(|spare| writer.is_spare_ahead(spare));
        self.pause = if waits { PAUSE } else { Duration::ZERO };
        if !waits {
            self.making = self.making.take().and_then(|spare| writer.further_spare(spare));
        }
        // The next append returns the error.
        let (Ok(()) | Err(_)) = writer.check_owner();
        let watermark = writer.log.watermark();
        if self.seen.replace(watermark) != Some(watermark) {
            shared.asleep.store(false, Ordering::SeqCst);
            return;
        }
        if writer.head_lags() {
            // Only evidence: the next idle time tries again.
            let (Ok(()) | Err(_)) = writer.mark(false);
        }
        let is_synced = !matches!(writer.settings.durability, Durability::Interval(_)) || writer.is_durable();
        shared.asleep.store(is_synced, Ordering::SeqCst);
        // A thread that committed in between did not know that this thread was about to sleep.
        if writer.log.watermark.load(Ordering::SeqCst) != watermark {
            shared.asleep.store(false, Ordering::SeqCst);
        }
    }
}
