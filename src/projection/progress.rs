//! The progress of a projection, for threads that wait and for its status.

use crate::error::Error;
use parking_lot::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// The window over which the rate is measured.
const WINDOW: Duration = Duration::from_secs(1);

/// Notified whenever a state has advanced, or may have.
#[derive(Default)]
pub(super) struct ProgressSignal {
    steps: Mutex<u64>,
    stepped: Condvar,
}

impl ProgressSignal {
    pub(super) fn now(&self) -> u64 {
        *self.steps.lock()
    }

    pub(super) fn step(&self) {
        *self.steps.lock() += 1;
        self.stepped.notify_all();
    }

    /// Blocks until there was a step after `seen`, or the time is over.
    pub(super) fn wait(&self, seen: u64, deadline: Option<Instant>) {
        let mut steps = self.steps.lock();
        while *steps == seen {
            match deadline {
                Some(deadline) if self.stepped.wait_until(&mut steps, deadline).timed_out() => return,
                Some(_) => {}
                None => self.stepped.wait(&mut steps),
            }
        }
    }
}

/// The part of a status besides positions.
#[derive(Default)]
pub(super) struct Told {
    pub applied: u64,
    /// The beginning of the window, and the number of events applied by then.
    window: Option<(Instant, u64)>,
    /// The rate of the last complete window.
    rate: f64,
    pub saved: Option<u64>,
    pub save_error: Option<Error>,
    pub read_error: Option<Error>,
}

impl Told {
    pub(super) fn new(saved: Option<u64>) -> Self {
        Told { saved, ..Told::default() }
    }

    pub(super) fn count(&mut self, events: u64) {
        let now = Instant::now();
        let (begun, before) = self.window.unwrap_or((now, self.applied));
        self.applied += events;
        self.window = Some((begun, before));
        let span = now - begun;
        if span >= WINDOW {
            self.rate = (self.applied - before) as f64 / span.as_secs_f64();
            self.window = Some((now, self.applied));
        }
    }

    /// Returns events per second. Before the first window is over, and when the current one lasts
    /// long for want of events: the rate of the current one.
    pub(super) fn rate(&self) -> f64 {
        match self.window.map(|(begun, before)| (begun.elapsed(), self.applied - before)) {
            Some((span, events)) if self.rate == 0.0 || span >= 2 * WINDOW => {
                events as f64 / span.as_secs_f64().max(0.001)
            }
            _ => self.rate,
        }
    }
}
