//! Progress of long verbs: on stderr, and only if that is a terminal.

use annals::fs::{Paced, RealFs};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressFinish, ProgressStyle};
use std::io::{IsTerminal, Read, stderr};
use std::path::Path;

const BYTES: &str = "{spinner} {bytes:>11} of {total_bytes} {wide_bar} {eta:>4}";
const EVENTS: &str = "{spinner} {human_pos:>11} of {human_len} events {wide_bar} {eta:>4}";

/// A bar that disappears when it is dropped.
pub struct Progress(ProgressBar);

impl Progress {
    /// Returns a bar that counts bytes, of a total that may be unknown.
    pub fn bytes(total: Option<u64>) -> Self {
        match total {
            Some(total) => Self::new(Some(total), BYTES),
            None => Self::new(None, "{spinner} {bytes:>11}"),
        }
    }

    /// Returns a file system that reads at most `rate` megabytes per second, and the bar that it
    /// moves. The store is read `times` times.
    pub fn reading_store(store: &Path, rate: Option<u64>, times: u64) -> (Paced, Self) {
        let files = std::fs::read_dir(store).into_iter().flatten().flatten();
        let total: u64 = files.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum();
        let progress = Self::bytes(Some(total * times));
        let bar = progress.0.clone();
        let fs =
            Paced::new(RealFs).rate(rate.unwrap_or(0).saturating_mul(1_000_000)).progress(move |bytes| bar.inc(bytes));
        (fs, progress)
    }

    pub fn events(total: u64) -> Self {
        Self::new(Some(total), EVENTS)
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

    /// Returns a reader that moves the bar.
    pub fn reading<R: Read + 'static>(&self, reader: R) -> Box<dyn Read> {
        match self.0.is_hidden() {
            true => Box::new(reader),
            false => Box::new(self.0.wrap_read(reader)),
        }
    }

    pub fn add(&self, count: u64) {
        self.0.inc(count);
    }

    /// Runs `run`, which may print on stderr, without the bar.
    pub fn aside<T>(&self, run: impl FnOnce() -> T) -> T {
        self.0.suspend(run)
    }
}
