//! What those who wait for a state, or ask how it is doing, are told.

use crate::error::Error;
use parking_lot::{Condvar, Mutex};
use std::time::{Duration, Instant};

/// How long the events are counted that make a rate.
const WINDOW: Duration = Duration::from_secs(1);

/// Told whenever a state has moved on, or might.
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

/// What a status tells beside positions.
#[derive(Default)]
pub(super) struct Told {
    pub applied: u64,
    /// When the window began, and the events that had been taken in by then.
    window: Option<(Instant, u64)>,
    /// That of the last whole window.
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

    /// Events per second. Before the first window is over, and when it lasts for long, as there are
    /// no events: that of the present one.
    pub(super) fn rate(&self) -> f64 {
        match self.window.map(|(begun, before)| (begun.elapsed(), self.applied - before)) {
            Some((span, events)) if self.rate == 0.0 || span >= 2 * WINDOW => {
                events as f64 / span.as_secs_f64().max(0.001)
            }
            _ => self.rate,
        }
    }
}
