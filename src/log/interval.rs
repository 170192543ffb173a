//! The thread that syncs for [`Durability::Interval`], in every store that is opened with it: no
//! other thread syncs after the last commit.
//!
//! It does nothing else, so that no index and no spare file that is being made delays a sync. If no
//! sync was made for an interval, a commit is synced at once; those after it together, one interval
//! later.

use super::{Durability, LogWriter};
use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

#[derive(Default)]
struct IntervalShared {
    stop: Mutex<bool>,
    wake: Condvar,
    /// The thread has been asked to sync, and has not begun.
    told: AtomicBool,
}

impl IntervalShared {
    fn sync(&self, writer: &LogWriter) {
        // Before the sync: bytes that are written during it may need another one.
        self.told.store(false, Ordering::SeqCst);
        // A failed sync ends all commits: the next append returns the error.
        let (Ok(()) | Err(_)) = writer.sync_written();
    }
}

/// The connection to the thread. Without an interval, there is none.
#[derive(Default)]
pub(super) struct Syncing {
    shared: Arc<IntervalShared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Syncing {
    /// Notifies the thread that something has been written.
    #[inline]
    pub(super) fn written(&self) {
        if !self.shared.told.swap(true, Ordering::SeqCst) {
            // Takes the lock, so that the thread either sees the flag or is already asleep.
            let _stop = self.shared.stop.lock();
            self.shared.wake.notify_one();
        }
    }

    /// Syncs, if something has been written since the last round.
    #[cfg(annals_internals)]
    pub(super) fn round(&self, writer: &LogWriter) {
        if self.shared.told.load(Ordering::SeqCst) {
            self.shared.sync(writer);
        }
    }

    /// Ends the thread, and waits until it has ended.
    pub(super) fn stop(&self) {
        let Some(thread) = self.thread.lock().take() else { return };
        *self.shared.stop.lock() = true;
        self.shared.wake.notify_one();
        // A waiter that is woken by a failed sync may drop the last handle in this very thread,
        // which then ends on its own.
        if thread.thread().id() != std::thread::current().id() {
            // A panic in it has been reported by the panic hook.
            let (Ok(()) | Err(_)) = thread.join();
        }
    }
}

impl LogWriter {
    /// Starts the thread, if the durability asks for it.
    pub(super) fn start_syncing(self: &Arc<Self>) -> std::io::Result<()> {
        let Durability::Interval(interval) = self.settings.durability else { return Ok(()) };
        let (writer, shared) = (Arc::downgrade(self), self.syncing.shared.clone());
        let thread = std::thread::Builder::new().name("annals-sync".into());
        *self.syncing.thread.lock() = Some(thread.spawn(move || run(&writer, &shared, interval))?);
        Ok(())
    }
}

fn run(writer: &Weak<LogWriter>, shared: &IntervalShared, interval: Duration) {
    let mut last = None::<Instant>;
    loop {
        let mut stop = shared.stop.lock();
        while !*stop && !shared.told.load(Ordering::SeqCst) {
            shared.wake.wait(&mut stop);
        }
        while !*stop && let Some(left) = left_of(last, interval) {
            shared.wake.wait_for(&mut stop, left);
        }
        if *stop {
            return;
        }
        drop(stop);
        last = Some(Instant::now());
        let Some(writer) = writer.upgrade() else { return };
        shared.sync(&writer);
    }
}

/// Returns the rest of the interval since the last sync began; `None` when it is over.
fn left_of(last: Option<Instant>, interval: Duration) -> Option<Duration> {
    let left = interval.checked_sub(last?.elapsed())?;
    (!left.is_zero()).then_some(left)
}
