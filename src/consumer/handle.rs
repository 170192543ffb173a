//! A consumer in its own thread.

use super::control::{Control, Lag, Status};
use crate::error::{Error, Result};
use std::fmt;
use std::thread::JoinHandle;

/// A consumer that runs in its own thread. From [`Consumer::spawn`](crate::Consumer::spawn).
/// Dropping it [stops](Control::stop) the consumer and waits for its end.
///
/// ```
/// use annals::{Event, Store};
/// let store = Store::in_memory();
/// let consumer = store.consumer("mailer").spawn(|_: &Event| ())?;
/// assert!(store.consumer("mailer").run(|_: &Event| ()).is_err(), "one name runs once");
/// consumer.stop();
/// assert_eq!(consumer.join()?.handled, 0);
/// # Ok::<(), annals::Error>(())
/// ```
pub struct ConsumerHandle {
    control: Control,
    thread: Option<JoinHandle<Result<Status>>>,
}

impl ConsumerHandle {
    pub(super) fn spawn(control: Control, run: impl FnOnce() -> Result<Status> + Send + 'static) -> Result<Self> {
        // The name of a thread cannot hold a NUL; it is only a label.
        let thread = std::thread::Builder::new().name(control.name.replace('\0', "\u{FFFD}")).spawn(run);
        let thread = thread.map_err(|e| Error::io("start a thread for", control.store.path(), e))?;
        Ok(ConsumerHandle { control, thread: Some(thread) })
    }

    /// Returns what stops, pauses and watches it.
    pub fn control(&self) -> &Control {
        &self.control
    }

    /// See [`Control::stop`].
    pub fn stop(&self) {
        self.control.stop();
    }

    /// See [`Control::pause`].
    pub fn pause(&self) {
        self.control.pause();
    }

    /// See [`Control::resume`].
    pub fn resume(&self) {
        self.control.resume();
    }

    /// See [`Control::status`].
    pub fn status(&self) -> Status {
        self.control.status()
    }

    /// See [`Control::position`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn position(&self) -> Result<Option<u64>> {
        self.control.position()
    }

    /// See [`Control::lag`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn lag(&self) -> Result<Lag> {
        self.control.lag()
    }

    /// Waits for the end of the consumer, without stopping it. Returns what it has done.
    ///
    /// # Errors
    ///
    /// As [`Consumer::run`](crate::Consumer::run); [`Error::Invalid`] in a handler of this
    /// consumer, which cannot wait for itself. The consumer then continues.
    pub fn join(mut self) -> Result<Status> {
        if self.control.is_handling() {
            drop(self.thread.take());
            return Err(Error::invalid("join", "a handler cannot wait for its own consumer to end"));
        }
        let thread = self.thread.take().expect("it is taken once");
        // Panics of handlers are caught: this would be one of ours, and is resumed in this thread.
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

impl Drop for ConsumerHandle {
    fn drop(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        if self.control.store.is_forked() {
            return;
        }
        self.control.stop();
        // A handler may hold the handle of its own consumer.
        if thread.thread().id() != std::thread::current().id() && !self.control.is_handling() {
            // A drop has no caller to return the result to.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for ConsumerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerHandle").field("control", &self.control).finish()
    }
}
