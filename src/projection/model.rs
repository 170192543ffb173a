//! Running projections: the state, which any thread can read, and its controls.

use super::engine::Engine;
use super::{Projection, ProjectionStatus, follow};
use crate::error::{Error, Result};
use crate::store::notify::hooks::Hook;
use crate::store::{Query, Store};
use crate::waker::this_thread;
use parking_lot::Mutex;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The state of a running projection. From [`Project`](crate::projection::Project).
///
/// Any thread can read it; share it in an [`Arc`]. A read sees the state after all events up to a
/// position, and none after it: that of a fold over a prefix of the store. (While the model catches
/// up, that prefix may end within a commit of many events.)
///
/// Dropping it ends the projection and saves its state; [`ReadModel::stop`] does the same and
/// returns errors. It keeps the store open. If the store is closed first, the state is saved then
/// and no longer changes.
pub struct ReadModel<P: Projection> {
    store: Store,
    engine: Arc<Engine<P>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Lets appends apply new events.
    inline: AtomicBool,
}

impl<P: Projection> ReadModel<P> {
    pub(super) fn new(store: Store, engine: Arc<Engine<P>>) -> Self {
        ReadModel { store, engine, thread: Mutex::default(), inline: AtomicBool::new(false) }
    }

    fn hook(&self) -> Arc<dyn Hook> {
        self.engine.clone()
    }

    /// Lets a thread of its own apply new events.
    pub(super) fn follow(&self) -> Result<()> {
        let (store, engine) = (self.store.clone(), self.engine.clone());
        let named = thread::Builder::new().name("annals-projection".into());
        let spawned = named.spawn(move || follow::follow(&store, &engine));
        *self.thread.lock() = Some(spawned.map_err(|e| Error::io("spawn a thread", self.store.path(), e))?);
        Ok(())
    }

    /// Lets appends apply new events.
    pub(super) fn set_inline(&self) -> Result<()> {
        self.store.hooks().set_inline(&self.hook());
        self.inline.store(true, SeqCst);
        // Events that were appended before that, by threads that did not know.
        self.engine.advance(&self.store)
    }

    pub(super) fn engine(&self) -> &Engine<P> {
        &self.engine
    }

    /// Applies what no appending thread has: a commit whose ticket was dropped, or whose future was
    /// cancelled, is still written, but has no waiting caller.
    fn take_in_the_rest(&self) {
        if self.inline.load(SeqCst) && self.engine.next() < self.store.len() {
            // The state and the status report an error.
            let (Ok(()) | Err(_)) = self.engine.advance(&self.store);
        }
    }

    /// Calls `read` with the state. No event is applied until it returns, so it should not take
    /// long; it must not read the same model, wait for it, or, if the model is inline, append to
    /// the store: that would be a deadlock.
    ///
    /// # Errors
    ///
    /// [`Error::ProjectionFailed`] if the projection could not apply an event: then there is no
    /// valid state.
    pub fn read<R>(&self, read: impl FnOnce(&P::State) -> R) -> Result<R> {
        self.take_in_the_rest();
        self.engine.read(|state, _| read(state))
    }

    /// Reads the state together with the position up to which all events of the query have been
    /// applied; `None` if that is none.
    ///
    /// # Errors
    ///
    /// As [`ReadModel::read`].
    pub fn read_at<R>(&self, read: impl FnOnce(&P::State, Option<u64>) -> R) -> Result<R> {
        self.take_in_the_rest();
        self.engine.read(|state, next| read(state, next.checked_sub(1)))
    }

    /// Returns a copy of the state.
    ///
    /// # Errors
    ///
    /// As [`ReadModel::read`].
    pub fn state(&self) -> Result<P::State>
    where
        P::State: Clone,
    {
        self.read(P::State::clone)
    }

    /// Returns the position up to which all events of the query have been applied; `None` if that
    /// is none. It also advances over events that do not match.
    pub fn position(&self) -> Option<u64> {
        self.take_in_the_rest();
        self.engine.next().checked_sub(1)
    }

    /// Applies all events that exist now, in the caller's thread, unless another thread is doing
    /// so; then waits. Returns the position. Does nothing if it is paused.
    ///
    /// # Errors
    ///
    /// [`Error::ProjectionFailed`]; [`Error::Damaged`], [`Error::Io`] if the log cannot be read:
    /// what was applied before stays.
    pub fn catch_up(&self) -> Result<Option<u64>> {
        self.engine.advance(&self.store)?;
        Ok(self.position())
    }

    /// Blocks until the state includes everything up to this position, which need not exist yet: to
    /// read your own writes. Returns `false` if `timeout` has passed before.
    ///
    /// If the event exists, and no thread has applied it, the caller's thread does, however the
    /// projection is run.
    ///
    /// ```
    /// # use annals::{Event, Expected, NewEvent, Projection, Result, Store, StreamId};
    /// # struct Count;
    /// # impl Projection for Count {
    /// #     type State = u64;
    /// #     fn name(&self) -> &str { "count" }
    /// #     fn version(&self) -> u32 { 1 }
    /// #     fn apply(&self, count: &mut u64, _: &Event) -> Result<()> { *count += 1; Ok(()) }
    /// # }
    /// use std::time::Duration;
    /// let store = Store::in_memory();
    /// let count = store.projection(Count).live()?;
    /// let done = store.append(&StreamId::new("order", "1")?, Expected::Any, [NewEvent::new("Placed", "")])?;
    /// assert!(count.wait_for(done.positions.end - 1, Duration::from_secs(1))?);
    /// assert_eq!(count.state()?, 1);
    /// assert!(!count.wait_for(1000, Duration::ZERO)?);
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As [`ReadModel::catch_up`]; [`Error::Closed`] if the store was closed before.
    pub fn wait_for(&self, position: u64, timeout: Duration) -> Result<bool> {
        let deadline = Instant::now().checked_add(timeout);
        let there = self.store.len() > position || wait_until_visible(&self.store, &self.engine, position, deadline);
        match there {
            true => self.engine.reach(&self.store, position.saturating_add(1), deadline),
            false if self.engine.is_stopped() => Err(Error::Closed),
            false => self.engine.failure().map_or(Ok(false), Err),
        }
    }

    /// Computes the state again from the first event on, in the caller's thread. Until that is
    /// done, readers see the present state, which is kept up to date; then the new one replaces it
    /// at once, and is saved. Ends a failure, if the events can now be applied.
    ///
    /// # Errors
    ///
    /// As [`ReadModel::catch_up`], and [`Error::Closed`] if the store was closed in the meantime:
    /// the present state stays.
    pub fn rebuild(&self) -> Result<()> {
        self.engine.rebuild(&self.store)?;
        self.engine.wake();
        Ok(())
    }

    /// Applies nothing until [`ReadModel::resume`]. Waits for events that are being applied; the
    /// state can be read.
    pub fn pause(&self) {
        self.engine.pause();
    }

    /// Continues: at once if it has its own thread, otherwise when the next event is applied.
    pub fn resume(&self) {
        self.engine.resume();
    }

    /// Returns its status.
    pub fn status(&self) -> ProjectionStatus {
        self.take_in_the_rest();
        self.engine.status(self.store.len())
    }

    /// Saves state and checkpoint, if there is something new. Blocks for a write and two or three
    /// syncs, and one more if the events are not durable yet. The previous file stays until this
    /// one is complete.
    ///
    /// # Errors
    ///
    /// * [`Error::Codec`] if the state cannot be encoded, [`Error::LimitExceeded`] if it has more
    ///   than 1 GiB when encoded;
    /// * [`Error::Io`], [`Error::DiskFull`], [`Error::DurabilityUnknown`];
    /// * [`Error::ProjectionFailed`] if there is no valid state;
    /// * [`Error::ReadOnly`], [`Error::Closed`].
    pub fn save(&self) -> Result<()> {
        self.engine.save()
    }

    /// Ends the projection, and saves it.
    ///
    /// # Errors
    ///
    /// As [`ReadModel::save`].
    pub fn stop(self) -> Result<()> {
        self.end();
        self.engine.save()
    }

    fn end(&self) {
        self.engine.stop();
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            // A panic in it has been reported by the panic hook.
            let (Ok(()) | Err(_)) = thread.join();
        }
        self.store.hooks().remove(&self.hook());
    }

    /// Ends it without waiting for its thread. Unless `save`, nothing is saved from now on.
    pub(super) fn retire(&self, save: bool) {
        if !save {
            self.engine.forget();
        }
        self.engine.stop();
        self.store.hooks().remove(&self.hook());
    }
}

impl<P: Projection> Drop for ReadModel<P> {
    fn drop(&mut self) {
        if self.store.is_forked() {
            return;
        }
        self.end();
        // Callers that need errors call `stop`.
        let (Ok(()) | Err(_)) = self.engine.save();
    }
}

impl<P: Projection> fmt::Debug for ReadModel<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let status = self.engine.status(self.store.len());
        f.debug_struct("ReadModel")
            .field("name", &status.name)
            .field("version", &status.version)
            .field("position", &status.position)
            .finish_non_exhaustive()
    }
}

/// Sleeps until there is an event at this position. Returns `false` if `timeout` has passed before,
/// or the projection ends.
fn wait_until_visible<P: Projection>(
    store: &Store,
    engine: &Engine<P>,
    position: u64,
    deadline: Option<Instant>,
) -> bool {
    let seat = store.waiters().seat(&Query::new());
    loop {
        seat.signal.prepare(this_thread());
        // Checked once more: nothing wakes this thread for what came before it registered.
        let there = store.len() > position;
        let over = engine.is_stopped() || store.waiters().is_closed() || engine.failure().is_some();
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        if there || over || left == Some(Duration::ZERO) {
            seat.signal.cancel();
            return there;
        }
        while seat.signal.is_awaited() && !engine.is_stopped() {
            match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                Some(Duration::ZERO) => break,
                Some(left) => thread::park_timeout(left),
                None => thread::park(),
            }
        }
    }
}
