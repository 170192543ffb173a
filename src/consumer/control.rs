//! Control of a consumer from other threads: stop, pause, watch.

use super::schedule::Schedule;
use super::work::is_handling;
use crate::error::{Error, Result};
use crate::store::{Query, Store};
use crate::subscription::Stop;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Number of seconds over which the rate is averaged.
const RATE: u64 = 10;

/// Stops, pauses and watches a consumer from any thread. From
/// [`Consumer::control`](crate::Consumer::control); it is good before the consumer runs, and after.
/// It holds the store open.
///
/// ```
/// use annals::{Event, Expected, NewEvent, Query, Store, StreamId};
/// let store = Store::in_memory();
/// let consumer = store.consumer("mailer").query(Query::new());
/// let control = consumer.control();
/// std::thread::scope(|scope| {
///     let running = scope.spawn(|| consumer.run(|_: &Event| ()));
///     store.append(&StreamId::new("order", "1")?, Expected::Any, [NewEvent::new("Placed", "")])?;
///     while control.lag()?.positions > 0 {
///         std::thread::yield_now();
///     }
///     control.stop();
///     assert_eq!(running.join().expect("a handler that panics is no panic of the consumer")?.handled, 1);
///     annals::Result::Ok(())
/// })?;
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Clone)]
pub struct Control {
    pub(super) store: Store,
    pub(super) name: Arc<str>,
    pub(super) query: Arc<Query>,
    pub(super) shared: Arc<ControlShared>,
}

/// What a consumer is at.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// Whether it runs.
    pub running: bool,
    /// Whether it was told to pause.
    pub paused: bool,
    /// Events of this run that are done.
    pub handled: u64,
    /// Attempts of this run that have failed.
    pub retried: u64,
    /// Events of this run that went to the dead letters.
    pub parked: u64,
    /// Events that were taken in and are not done.
    pub open: u64,
    /// All events of the query up to this position are done or dead letters. The checkpoint
    /// follows.
    pub position: Option<u64>,
    /// Events that were done in a second, over the last ten.
    pub rate: f64,
}

/// How far a consumer is behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Lag {
    /// Positions from the first event that is not done to the newest one in the store, both
    /// counted, whether they match the query or not; 0 if there is none.
    pub positions: u64,
    /// How long ago the first event that is not done was recorded, by the clock of the store;
    /// nothing if there is none.
    pub time: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Ending {
    No,
    /// What was taken in and is ready is finished.
    Drain,
    /// What is at work is finished, and nothing else.
    Now,
}

pub(super) struct ControlShared {
    pub state: Mutex<ControlState>,
    /// Something is ready, or done, or there are new orders.
    pub changed: Condvar,
}

pub(super) struct ControlState {
    pub schedule: Option<Schedule>,
    pub ending: Ending,
    pub failure: Option<Error>,
    /// Wakes the reader.
    stop: Option<Stop>,
    /// Nothing more will be taken in.
    pub closing: bool,
    /// Up to where the checkpoint was kept, and when that was tried last.
    pub kept: (u64, Instant),
    pub status: Status,
    meter: Meter,
}

impl ControlShared {
    pub(super) fn new() -> Self {
        let status = Status {
            running: false,
            paused: false,
            handled: 0,
            retried: 0,
            parked: 0,
            open: 0,
            position: None,
            rate: 0.0,
        };
        let state = ControlState {
            schedule: None,
            ending: Ending::No,
            failure: None,
            stop: None,
            closing: false,
            kept: (0, Instant::now()),
            status,
            meter: Meter::new(),
        };
        ControlShared { state: Mutex::new(state), changed: Condvar::new() }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, ControlState> {
        self.state.lock()
    }

    /// Says that the consumer runs now, and what wakes its reader.
    pub(super) fn begin(&self, schedule: Schedule, stop: Stop, kept: (u64, Instant)) {
        let mut state = self.lock();
        state.kept = kept;
        state.schedule = Some(schedule);
        state.status.running = true;
        state.meter = Meter::new();
        if state.ending != Ending::No {
            stop.stop();
        }
        state.stop = Some(stop);
    }

    pub(super) fn end(&self, ending: Ending) {
        self.lock().end(ending);
        self.changed.notify_all();
    }

    fn pause(&self, pause: bool) {
        self.lock().status.paused = pause;
        self.changed.notify_all();
    }
}

impl ControlState {
    pub(super) fn end(&mut self, ending: Ending) {
        self.ending = self.ending.max(ending);
        if let Some(stop) = &self.stop {
            stop.stop();
        }
    }

    /// The first failure is the one that is told.
    pub(super) fn fail(&mut self, error: Error) {
        self.failure.get_or_insert(error);
        self.end(Ending::Now);
    }

    pub(super) fn schedule(&mut self) -> &mut Schedule {
        self.schedule.as_mut().expect("it runs")
    }

    pub(super) fn count_handled(&mut self, now: Instant) {
        self.status.handled += 1;
        self.meter.tick(now, self.status.handled);
    }

    pub(super) fn status(&self) -> Status {
        let mut status = self.status.clone();
        if let Some(schedule) = &self.schedule {
            status.open = schedule.open() as u64;
            status.position = schedule.reached().checked_sub(1);
        }
        if status.running {
            status.rate = self.meter.rate(Instant::now(), status.handled);
        }
        status
    }

    /// The run is over.
    pub(super) fn finish(&mut self) {
        self.status = self.status();
        self.status.running = false;
        (self.schedule, self.stop) = (None, None);
    }
}

/// How many events were done at the beginning of each of the last seconds.
struct Meter {
    begun: Instant,
    seconds: VecDeque<(u64, u64)>,
}

impl Meter {
    fn new() -> Self {
        Meter { begun: Instant::now(), seconds: VecDeque::from([(0, 0)]) }
    }

    fn tick(&mut self, now: Instant, handled: u64) {
        let second = now.saturating_duration_since(self.begun).as_secs();
        if self.seconds.back().is_none_or(|&(last, _)| last < second) {
            self.seconds.push_back((second, handled - 1));
            while self.seconds.len() > 1 && self.seconds[1].0 + RATE <= second {
                self.seconds.pop_front();
            }
        }
    }

    fn rate(&self, now: Instant, handled: u64) -> f64 {
        let elapsed = now.saturating_duration_since(self.begun);
        let from = elapsed.as_secs().saturating_sub(RATE);
        // Seconds in which nothing was done have no entry: nothing has changed before the next one.
        let before = self.seconds.iter().find(|&&(second, _)| second >= from).map_or(handled, |&(_, before)| before);
        let over = elapsed.as_secs_f64() - from as f64;
        (handled - before) as f64 / over.max(0.001)
    }
}

impl Control {
    /// Whether this thread is in a handler of the consumer.
    pub(super) fn is_handling(&self) -> bool {
        is_handling(&self.shared)
    }

    /// Stops the consumer, also one that has not begun to run. No more events are taken in; those
    /// that were, and need not wait for another attempt, are finished, the checkpoint is made
    /// durable, and then it ends. Does not wait for that.
    pub fn stop(&self) {
        self.shared.end(Ending::Drain);
    }

    /// No event is handed to the handler any more until [`Control::resume`]; those that are at work
    /// go on. Does not wait for them.
    pub fn pause(&self) {
        self.shared.pause(true);
    }

    /// Goes on after [`Control::pause`].
    pub fn resume(&self) {
        self.shared.pause(false);
    }

    /// What it is at, or was at when it ended.
    pub fn status(&self) -> Status {
        self.shared.lock().status()
    }

    /// The position up to which all is done; when it does not run, that of the checkpoint.
    ///
    /// # Errors
    ///
    /// As for [`Positions`](crate::progress::Positions#errors).
    pub fn position(&self) -> Result<Option<u64>> {
        if let Some(schedule) = &self.shared.lock().schedule {
            return Ok(schedule.reached().checked_sub(1));
        }
        Ok(self.store.kept(&self.name)?.and_then(|kept| kept.next.checked_sub(1)))
    }

    /// How far it is behind. Looks the first event up that is not done, which is a lookup in the
    /// index, and reads it.
    ///
    /// # Errors
    ///
    /// As for [`Positions`](crate::progress::Positions#errors), and those of reading an event.
    pub fn lag(&self) -> Result<Lag> {
        let first = self.store.query(&self.query).after(self.position()?).limit(1).into_iter().next().transpose()?;
        let Some(first) = first else { return Ok(Lag::default()) };
        let nanos = self.store.now().as_nanos().saturating_sub(first.recorded_at().as_nanos());
        let time = Duration::from_nanos(u64::try_from(nanos).unwrap_or(0));
        Ok(Lag { positions: self.store.len() - first.position(), time })
    }
}

impl fmt::Debug for Control {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Control").field("name", &self.name).field("status", &self.status()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_that_of_the_last_seconds() {
        let mut meter = Meter::new();
        let at = |millis| meter.begun + Duration::from_millis(millis);
        let (half, eleven, thirty) = (at(500), at(11_000), at(30_000));
        (1..=100).for_each(|handled| meter.tick(half, handled));
        assert_eq!(meter.rate(half, 100), 200.0);
        assert_eq!(meter.rate(eleven, 100), 0.0);
        (101..=200).for_each(|handled| meter.tick(thirty, handled));
        assert_eq!(meter.rate(thirty, 200), 10.0);
        assert_eq!(meter.rate(thirty + Duration::from_secs(20), 200), 0.0);
    }
}
