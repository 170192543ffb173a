//! Retries: how often, and when, an event is tried again.

use std::time::Duration;

/// How often an event is tried on which a handler fails, and how long it waits in between: first
/// [`initial`](Retry::initial), then [`factor`](Retry::factor) times as long each time, up to
/// [`longest`](Retry::longest). Default: five attempts, 100 ms, twice as long each time, 30 s.
///
/// ```
/// use annals::consumer::Retry;
/// use std::time::Duration;
/// let retry = Retry::new().attempts(4).initial(Duration::from_millis(10)).factor(3).longest(Duration::from_millis(50));
/// let pauses: Vec<_> = (1..4).map(|failed| retry.pause(failed).as_millis()).collect();
/// assert_eq!(pauses, [10, 30, 50]);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retry {
    pub(super) attempts: u64,
    initial: Duration,
    factor: u32,
    longest: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Retry::new()
    }
}

impl Retry {
    /// Returns the defaults.
    pub fn new() -> Self {
        let (initial, longest) = (Duration::from_millis(100), Duration::from_secs(30));
        Retry { attempts: 5, initial, factor: 2, longest }
    }

    /// Number of attempts, including the first. With 1 or 0, no event is tried again; with
    /// `u64::MAX`, forever.
    pub fn attempts(mut self, attempts: u64) -> Self {
        self.attempts = attempts;
        self
    }

    /// The pause after the first attempt.
    pub fn initial(mut self, pause: Duration) -> Self {
        self.initial = pause;
        self
    }

    /// The factor by which each further pause is longer.
    pub fn factor(mut self, factor: u32) -> Self {
        self.factor = factor;
        self
    }

    /// The longest pause.
    pub fn longest(mut self, pause: Duration) -> Self {
        self.longest = pause;
        self
    }

    /// Returns the pause after this many failed attempts.
    pub fn pause(&self, failed: u64) -> Duration {
        let times = u32::try_from(failed.saturating_sub(1)).ok().and_then(|times| self.factor.checked_pow(times));
        self.initial.saturating_mul(times.unwrap_or(u32::MAX)).min(self.longest)
    }
}
