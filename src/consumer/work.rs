//! One run of a consumer: the thread that runs it reads, and workers handle the events, or the
//! reader does.
//!
//! | what happens | what is done |
//! |---|---|
//! | the handler has acknowledged an event | the event is done. The checkpoint is before the first event that is not, whatever is done after it |
//! | the handler fails or panics | the event waits for a retry, and later events of its key wait for it |
//! | it has failed too often, or is parked | the event becomes a dead letter, and counts as done. The dead letter becomes durable in one batch with the first checkpoint that steps over it |
//! | a checkpoint cannot be stored, the log cannot be read | the run ends with that error. Events since the last checkpoint are seen again |
//! | the process dies | the same |

use super::control::{ControlShared, ControlState, Ending};
use super::outcome::Outcome;
use super::schedule::Job;
use super::{ConsumerSettings, Poison};
use crate::Event;
use crate::error::{Error, Result, told_by};
use crate::store::Store;
use crate::store::progress::consumers::{DeadLetterEntry, StoredCheckpoint};
use crate::subscription::{Delivery, Subscription};
use parking_lot::{Mutex, MutexGuard};
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

pub(super) struct ConsumerRun<'a> {
    pub store: &'a Store,
    pub name: &'a str,
    pub settings: &'a ConsumerSettings,
    pub shared: &'a ControlShared,
    pub keeping: Mutex<StoredCheckpoint>,
    /// Number of calls of the handler since the checkpoint was stored.
    pub since: AtomicU64,
}

thread_local! {
    /// The consumer whose handler this thread is in.
    static HANDLING: Cell<*const ControlShared> = const { Cell::new(std::ptr::null()) };
}

/// Returns whether this thread is in a handler of that consumer: then it must not wait for the
/// consumer's end.
pub(super) fn is_handling(shared: &ControlShared) -> bool {
    HANDLING.get() == std::ptr::from_ref(shared)
}

/// Releases the workers when the reading thread ends, however it does.
struct Closing<'a>(&'a ControlShared);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.closing = true;
        if std::thread::panicking() {
            state.end(Ending::Now);
        }
        drop(state);
        self.0.changed.notify_all();
    }
}

impl ConsumerRun<'_> {
    /// Reads the subscription to its end, and calls `work` when something is ready; `work` returns
    /// whether it has taken an event.
    fn read(&self, subscription: &mut Subscription, room: usize, mut work: impl FnMut() -> bool) -> Result<()> {
        let mut caught_up = false;
        loop {
            self.keep_if_due()?;
            if work() {
                continue;
            }
            let mut state = self.shared.lock();
            if state.ending != Ending::No {
                return Ok(());
            }
            let schedule = state.schedule();
            if caught_up && self.settings.until_caught_up && schedule.is_idle() {
                return Ok(());
            }
            let wait = self.wake_at(&mut state);
            let full = state.schedule().held() >= room;
            if full && state.schedule().reached() != state.kept.0 {
                drop(state);
                self.keep()?;
                continue;
            }
            if state.status.paused || full || caught_up && self.settings.until_caught_up {
                self.wait(&mut state, wait);
                continue;
            }
            drop(state);
            let delivery = match wait {
                None => subscription.next().transpose()?,
                Some(until) => subscription.next_timeout(until.saturating_duration_since(Instant::now()))?,
            };
            let mut state = self.shared.lock();
            match delivery {
                Some(Delivery::Event(event)) => {
                    state.schedule().admit(event);
                    drop(state);
                    self.shared.changed.notify_one();
                }
                Some(Delivery::CaughtUp(_)) => {
                    caught_up = true;
                    state.schedule().pass(subscription.checkpoint().map_or(0, |done| done + 1));
                }
                Some(Delivery::FellBehind(_)) => {}
                None => {
                    state.schedule().pass(subscription.checkpoint().map_or(0, |done| done + 1));
                    if subscription.is_ended() {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Returns when the reader has something to do even if nothing happens.
    fn wake_at(&self, state: &mut ControlState) -> Option<Instant> {
        let (kept, at) = state.kept;
        let schedule = state.schedule();
        let unkept = schedule.open() > 0 || schedule.reached() != kept;
        let keep = unkept.then(|| at.checked_add(self.settings.every.1.max(Duration::from_millis(1)))).flatten();
        // The next retry is for the workers, if there are any, and for no thread during a pause.
        let due = schedule.due().filter(|_| self.settings.workers == 0);
        [keep, due.filter(|_| !state.status.paused)].into_iter().flatten().min()
    }

    fn wait(&self, state: &mut MutexGuard<'_, ControlState>, until: Option<Instant>) {
        match until {
            Some(until) => _ = self.shared.changed.wait_until(state, until),
            None => self.shared.changed.wait(state),
        }
    }

    /// Everything runs in the caller's thread.
    pub(super) fn run_alone(
        &self,
        subscription: &mut Subscription,
        mut handler: impl FnMut(&Event) -> Outcome,
    ) -> Result<()> {
        let read = self.read(subscription, self.settings.window, || {
            let mut state = self.shared.lock();
            let job = match state.status.paused || state.ending != Ending::No {
                true => None,
                false => state.schedule().begin(Instant::now()),
            };
            drop(state);
            let worked = job.is_some();
            job.into_iter().for_each(|job| self.handle(job, &mut handler));
            worked
        });
        if read.is_ok() {
            while let Some(job) = self.ready_to_drain() {
                self.handle(job, &mut handler);
            }
        }
        read
    }

    fn ready_to_drain(&self) -> Option<Job> {
        let mut state = self.shared.lock();
        let drains = state.ending <= Ending::Drain && !state.status.paused;
        drains.then(|| state.schedule().begin_ready()).flatten()
    }

    /// The caller's thread reads, and these threads handle events.
    pub(super) fn run_with_workers(
        &self,
        subscription: &mut Subscription,
        handler: impl Fn(&Event) -> Outcome + Sync,
    ) -> Result<()> {
        let workers = self.settings.workers;
        std::thread::scope(|scope| {
            // Whatever ends this thread, the workers must not wait for more events.
            let _closing = Closing(self.shared);
            for n in 0..workers {
                let thread = std::thread::Builder::new().name(format!("{}-{n}", self.name.replace('\0', "\u{FFFD}")));
                let spawned = thread.spawn_scoped(scope, || self.serve(|event| handler(event)));
                if let Err(e) = spawned {
                    let error = Error::io("start a thread for", self.store.path(), e);
                    self.shared.lock().fail(error);
                    break;
                }
            }
            let read = self.read(subscription, self.settings.window.saturating_mul(workers), || false);
            if read.is_err() {
                self.shared.lock().end(Ending::Now);
            }
            read
        })
    }

    fn serve(&self, mut handler: impl FnMut(&Event) -> Outcome) {
        let mut state = self.shared.lock();
        loop {
            if state.ending == Ending::Now {
                return;
            }
            let job = match (state.status.paused, state.closing || state.ending != Ending::No) {
                (true, false) => None,
                (true, true) => return,
                (false, true) => state.schedule().begin_ready(),
                (false, false) => state.schedule().begin(Instant::now()),
            };
            if let Some(job) = job {
                drop(state);
                self.handle(job, &mut handler);
                if let Err(error) = self.keep_if_many() {
                    self.shared.lock().fail(error);
                    self.shared.changed.notify_all();
                }
                state = self.shared.lock();
                continue;
            }
            if state.closing {
                return;
            }
            let begins = !state.status.paused && state.ending == Ending::No;
            let due = state.schedule().due().filter(|_| begins);
            self.wait(&mut state, due);
        }
    }

    fn handle(&self, mut job: Job, handler: &mut impl FnMut(&Event) -> Outcome) {
        // A handler that panics may leave its own state inconsistent; none of ours is involved.
        let before = HANDLING.replace(self.shared);
        let outcome = catch_unwind(AssertUnwindSafe(|| handler(&job.event)));
        HANDLING.set(before);
        let outcome = outcome.unwrap_or_else(|panic| Outcome::Retry(format!("the handler {}", told_by(&*panic))));
        let now = Instant::now();
        let mut state = self.shared.lock();
        let more = match outcome {
            Outcome::Ack => {
                state.count_handled(now);
                state.schedule().done(job)
            }
            Outcome::Stop => {
                state.end(Ending::Now);
                true
            }
            Outcome::Park(reason) => self.park(&mut state, job, &reason),
            Outcome::Retry(reason) => {
                job.failed += 1;
                state.status.retried += 1;
                if job.failed < self.settings.retry.attempts {
                    let until = now.checked_add(self.settings.retry.pause(job.failed));
                    state.schedule().delay(job, until.unwrap_or(now + Duration::from_secs(1 << 30)));
                    // A sleeping thread may have to wake earlier for it.
                    true
                } else if self.settings.poison == Poison::Stop {
                    let (consumer, position) = (self.name.to_owned(), job.event.position());
                    state.fail(Error::HandlerFailed { consumer, position, attempts: job.failed, reason });
                    true
                } else {
                    job.failed -= 1;
                    self.park(&mut state, job, &reason)
                }
            }
        };
        let full = state.schedule().held() + 1 >= self.settings.window.saturating_mul(self.settings.workers);
        let ends = state.ending != Ending::No;
        let idle = self.settings.until_caught_up && state.schedule().is_idle();
        drop(state);
        self.since.fetch_add(1, Ordering::Relaxed);
        if self.settings.workers > 0 && (more || ends || idle || full) {
            self.shared.changed.notify_all();
        }
    }

    fn park(&self, state: &mut ControlState, job: Job, reason: &str) -> bool {
        let known = self.store.count_dead_letters_of(self.name);
        let limit = self.settings.dead_letters;
        match known.map(|known| known + state.schedule().parked()) {
            Ok(count) if count < limit => {
                let (now, recorded_at) = (self.store.now().as_nanos(), job.event.recorded_at().as_nanos());
                let letter = DeadLetterEntry::new(job.failed + 1, now, recorded_at, reason);
                state.status.parked += 1;
                state.schedule().park(job, letter)
            }
            full => {
                let error = full.map(|count| Error::limit("dead letters of a consumer", count + 1, limit));
                state.fail(error.unwrap_or_else(|error| error));
                true
            }
        }
    }

    /// Stores the checkpoint if many events were done since the last time, or it was long ago.
    fn keep_if_due(&self) -> Result<()> {
        let many = self.since.load(Ordering::Relaxed) >= self.settings.every.0;
        let late = || self.shared.lock().kept.1.elapsed() >= self.settings.every.1;
        if many || late() { self.keep() } else { Ok(()) }
    }

    fn keep_if_many(&self) -> Result<()> {
        match self.since.load(Ordering::Relaxed) >= self.settings.every.0 {
            // Another thread is storing it: what is done meanwhile waits for the next time.
            true => self.keeping.try_lock().map_or(Ok(()), |keeping| self.keep_in(keeping)),
            false => Ok(()),
        }
    }

    /// Makes the checkpoint that has been reached durable, if it is not.
    pub(super) fn keep(&self) -> Result<()> {
        self.keep_in(self.keeping.lock())
    }

    fn keep_in(&self, mut kept: MutexGuard<'_, StoredCheckpoint>) -> Result<()> {
        self.since.store(0, Ordering::Relaxed);
        let mut state = self.shared.lock();
        let progress = state.schedule().progress();
        state.kept = (progress.next, Instant::now());
        drop(state);
        if progress.next == kept.next && progress.parked.is_empty() && progress.gone.is_empty() {
            return Ok(());
        }
        *kept = self.store.keep(self.name, *kept, progress)?;
        // There may be room again.
        self.shared.changed.notify_all();
        Ok(())
    }
}
