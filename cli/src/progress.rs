//! How far a long verb has come: on stderr, and only where that is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use std::io::{IsTerminal, Read, stderr};
use std::time::Duration;

const BYTES: &str = "{spinner} {bytes:>11} of {total_bytes} {wide_bar} {eta:>4}";
const EVENTS: &str = "{spinner} {human_pos:>11} of {human_len} events {wide_bar} {eta:>4}";
const UNKNOWN: &str = "{spinner} {msg} {elapsed}";

/// A bar that goes away when it is dropped.
pub struct Progress(ProgressBar);

impl Progress {
    /// Counts bytes that are read, of a total that may be unknown.
    pub fn bytes(total: Option<u64>) -> Self {
        match total {
            Some(total) => Self::new(Some(total), BYTES),
            None => Self::new(None, "{spinner} {bytes:>11}"),
        }
    }

    pub fn events(total: u64) -> Self {
        Self::new(Some(total), EVENTS)
    }

    /// Shows that something is going on, and for how long.
    pub fn unknown(what: &'static str) -> Self {
        let progress = Self::new(None, UNKNOWN);
        progress.0.set_message(what);
        if !progress.0.is_hidden() {
            progress.0.enable_steady_tick(Duration::from_millis(200));
        }
        progress
    }

    pub fn hidden() -> Self {
        Progress(ProgressBar::hidden())
    }

    fn new(total: Option<u64>, template: &str) -> Self {
        if !stderr().is_terminal() {
            return Self::hidden();
        }
        let style = ProgressStyle::with_template(template).expect("the templates above can be parsed");
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::stderr_with_hz(5));
        Progress(bar.with_style(style).with_finish(ProgressFinish::AndClear))
    }

    /// A reader that counts.
    pub fn reading<R: Read + 'static>(&self, reader: R) -> Box<dyn Read> {
        match self.0.is_hidden() {
            true => Box::new(reader),
            false => Box::new(self.0.wrap_read(reader)),
        }
    }

    pub fn add(&self, count: u64) {
        self.0.inc(count);
    }

    /// Runs what may say something on stderr.
    pub fn aside<T>(&self, run: impl FnOnce() -> T) -> T {
        self.0.suspend(run)
    }
}
