//! The one background thread of a store, off the commit path: syncs for `Interval`, the mark in HEAD after a short idle time, and commits whose tickets
//! nobody waits for. Without it (`Options::maintenance(false)`) callers do the same work inline, but for the idle mark.

use super::{Durability, Log};
use parking_lot::{Condvar, Mutex};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Without a commit for this long, a store counts as idle.
const IDLE: Duration = Duration::from_millis(100);

#[derive(Default)]
struct Wishes {
    stop: bool,
    /// Tickets were dropped before their commits were written.
    orphans: bool,
}

/// What the thread and the others share.
#[derive(Default)]
struct Shared {
    wishes: Mutex<Wishes>,
    wake: Condvar,
    /// The thread sleeps until it is woken.
    asleep: AtomicBool,
}

#[derive(Default)]
pub(super) struct Signal {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    last_sync: Mutex<Option<Instant>>,
}

impl Signal {
    /// Says that something has been committed.
    #[inline]
    pub(super) fn committed(&self) {
        if self.shared.asleep.load(Ordering::SeqCst) {
            self.shared.asleep.store(false, Ordering::SeqCst);
            let _wishes = self.shared.wishes.lock();
            self.shared.wake.notify_one();
        }
    }

    /// Asks the thread to write what has been accepted. `false` if there is no thread.
    pub(super) fn take_over(&self) -> bool {
        if self.thread.lock().is_none() {
            return false;
        }
        self.shared.wishes.lock().orphans = true;
        self.shared.wake.notify_one();
        true
    }

    /// Ends the thread, and waits until it has ended.
    pub(super) fn stop(&self) {
        let Some(thread) = self.thread.lock().take() else { return };
        self.shared.wishes.lock().stop = true;
        self.shared.wake.notify_one();
        // A panic in it has been reported by the panic hook; what it held is released.
        let (Ok(()) | Err(_)) = thread.join();
    }

    /// Whether the caller is to sync, as an interval is over and there is no thread that would.
    pub(super) fn sync_is_due(&self, durability: Durability) -> bool {
        let Durability::Interval(interval) = durability else { return false };
        if self.thread.lock().is_some() {
            return false;
        }
        let mut last = self.last_sync.lock();
        let due = last.is_none_or(|last| last.elapsed() >= interval);
        if due {
            *last = Some(Instant::now());
        }
        due
    }
}

impl Log {
    pub(super) fn start_maintenance(self: &Arc<Self>) -> std::io::Result<()> {
        let (log, shared) = (Arc::downgrade(self), self.maintenance.shared.clone());
        let tick = match self.settings.durability {
            Durability::Interval(interval) => interval.clamp(Duration::from_millis(1), IDLE),
            _ => IDLE,
        };
        let thread = std::thread::Builder::new().name("annals-maintenance".into());
        let thread = thread.spawn(move || run(&log, &shared, tick))?;
        *self.maintenance.thread.lock() = Some(thread);
        Ok(())
    }
}

fn run(log: &Weak<Log>, shared: &Shared, tick: Duration) {
    let mut seen = u64::MAX;
    let mut synced = Instant::now();
    loop {
        let mut wishes = shared.wishes.lock();
        if !wishes.stop && !wishes.orphans {
            if shared.asleep.load(Ordering::SeqCst) {
                shared.wake.wait(&mut wishes);
            } else {
                shared.wake.wait_for(&mut wishes, tick);
            }
        }
        if wishes.stop {
            return;
        }
        let orphans = std::mem::take(&mut wishes.orphans);
        drop(wishes);
        let Some(log) = log.upgrade() else { return };
        if orphans {
            log.drain();
        }
        if let Durability::Interval(interval) = log.settings.durability
            && synced.elapsed() >= interval
        {
            synced = Instant::now();
            // A failed sync has poisoned the log: the next append says so.
            let (Ok(()) | Err(_)) = log.sync_written();
        }
        let watermark = log.watermark();
        if std::mem::replace(&mut seen, watermark) != watermark {
            shared.asleep.store(false, Ordering::SeqCst);
            continue;
        }
        if log.head_lags() {
            // Only a witness: the next idle time tries again.
            let (Ok(()) | Err(_)) = log.mark(false);
        }
        let settled = !matches!(log.settings.durability, Durability::Interval(_)) || log.all_durable();
        shared.asleep.store(settled, Ordering::SeqCst);
        // Whoever committed in between has not seen that this thread was about to sleep.
        if log.watermark() != seen {
            shared.asleep.store(false, Ordering::SeqCst);
        }
    }
}
