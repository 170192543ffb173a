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
/// [`Consumer::control`](crate::Consumer::control); it works before the consumer runs, and after.
/// It keeps the store open.
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

/// The status of a consumer.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// Whether it is running.
    pub running: bool,
    /// Whether it is paused.
    pub paused: bool,
    /// Number of events that this run has handled.
    pub handled: u64,
    /// Number of attempts of this run that have failed.
    pub retried: u64,
    /// Number of events of this run that became dead letters.
    pub parked: u64,
    /// Number of events that have been read and are not done.
    pub open: u64,
    /// All events of the query up to this position are done or dead letters. The checkpoint follows
    /// it.
    pub position: Option<u64>,
    /// Acknowledged events per second, over the last ten seconds.
    pub rate: f64,
}

/// The lag of a consumer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Lag {
    /// Number of positions from the first event that is not done to the newest one in the store,
    /// both included, whether they match the query or not; 0 if there is none.
    pub positions: u64,
    /// How long ago the first event that is not done was recorded, by the clock of the store;
    /// zero if there is none.
    pub time: Duration,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Ending {
    No,
    /// Events that have been read and are ready are finished.
    Drain,
    /// Events that are being handled are finished, and nothing else.
    Now,
}

pub(super) struct ControlShared {
    pub state: Mutex<ControlState>,
    /// Notified when something is ready or done, or there is a new order.
    pub changed: Condvar,
}

pub(super) struct ControlState {
    pub schedule: Option<Schedule>,
    pub ending: Ending,
    pub failure: Option<Error>,
    /// Wakes the reader.
    stop: Option<Stop>,
    /// Nothing more will be read.
    pub closing: bool,
    /// The last checkpoint that was stored, and when storing was last tried.
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

    /// Marks the consumer as running, and sets what wakes its reader.
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

    /// The first failure is the one that is reported.
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

    /// Marks the run as over.
    pub(super) fn finish(&mut self) {
        self.status = self.status();
        self.status.running = false;
        (self.schedule, self.stop) = (None, None);
    }
}

/// The number of events done at the beginning of each of the last seconds.
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
        // Seconds in which nothing was done have no entry: the number is that of the next one.
        let before = self.seconds.iter().find(|&&(second, _)| second >= from).map_or(handled, |&(_, before)| before);
        let over = elapsed.as_secs_f64() - from as f64;
        (handled - before) as f64 / over.max(0.001)
    }
}

impl Control {
    /// Returns whether this thread is in a handler of the consumer.
    pub(super) fn is_handling(&self) -> bool {
        is_handling(&self.shared)
    }

    /// Stops the consumer, even one that has not begun to run. No more events are read; those that
    /// have been read and do not wait for a retry are finished, the checkpoint is made durable, and
    /// the run ends. Does not wait for that.
    pub fn stop(&self) {
        self.shared.end(Ending::Drain);
    }

    /// Hands no more events to the handler until [`Control::resume`]; those that are being handled
    /// are finished. Does not wait for them.
    pub fn pause(&self) {
        self.shared.pause(true);
    }

    /// Continues after [`Control::pause`].
    pub fn resume(&self) {
        self.shared.pause(false);
    }

    /// Returns the status of the current run, or of the last one.
    pub fn status(&self) -> Status {
        self.shared.lock().status()
    }

    /// Returns the position up to which all is done; if it is not running, that of the checkpoint.
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

    /// Returns the lag. Looks up the first event that is not done in the index, and reads it.
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
