//! A projection that runs: its state, to be read from any thread, and what can be done with it.

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

/// The state of a projection that runs. From [`Project`](crate::projection::Project).
///
/// It can be read from any thread; share it in an [`Arc`]. A read sees the state after all events
/// up to a position, and none after it: that of a fold over a prefix of the store. (That prefix may
/// end within a commit of many events while the model catches up.)
///
/// When it is dropped, the projection ends and its state is saved; [`ReadModel::stop`] does the
/// same and tells of errors. It holds the store open. When the store is closed before, the state is
/// saved then and stays as it is.
pub struct ReadModel<P: Projection> {
    store: Store,
    engine: Arc<Engine<P>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// Those who append take in what comes.
    inline: AtomicBool,
}

impl<P: Projection> ReadModel<P> {
    pub(super) fn new(store: Store, engine: Arc<Engine<P>>) -> Self {
        ReadModel { store, engine, thread: Mutex::default(), inline: AtomicBool::new(false) }
    }

    fn hook(&self) -> Arc<dyn Hook> {
        self.engine.clone()
    }

    /// A thread of its own takes in what comes.
    pub(super) fn follow(&self) -> Result<()> {
        let (store, engine) = (self.store.clone(), self.engine.clone());
        let named = thread::Builder::new().name("annals-projection".into());
        let spawned = named.spawn(move || follow::follow(&store, &engine));
        *self.thread.lock() = Some(spawned.map_err(|e| Error::io("spawn a thread", self.store.path(), e))?);
        Ok(())
    }

    /// Those who append take in what comes.
    pub(super) fn set_inline(&self) -> Result<()> {
        self.store.hooks().set_inline(&self.hook());
        self.inline.store(true, SeqCst);
        // What was appended before that by those who did not know.
        self.engine.advance(&self.store)
    }

    pub(super) fn engine(&self) -> &Engine<P> {
        &self.engine
    }

    /// Takes in what nobody has who appended: a commit whose ticket was dropped, or whose future
    /// was cancelled, is written all the same, and its caller is gone.
    fn take_in_the_rest(&self) {
        if self.inline.load(SeqCst) && self.engine.next() < self.store.len() {
            // The state and the status tell of an error.
            let (Ok(()) | Err(_)) = self.engine.advance(&self.store);
        }
    }

    /// Reads the state. Events are taken in again when the closure has returned, so it should not
    /// take long; it must not read the same model, nor wait for it, nor append to the store if the
    /// model is inline: that would wait for this.
    ///
    /// # Errors
    ///
    /// [`Error::ProjectionFailed`] if the projection could not take in an event: then there is no
    /// state that is right.
    pub fn read<R>(&self, read: impl FnOnce(&P::State) -> R) -> Result<R> {
        self.take_in_the_rest();
        self.engine.read(|state, _| read(state))
    }

    /// The same, with the position up to which all events of the query are in the state; `None` if
    /// that is none.
    ///
    /// # Errors
    ///
    /// As [`ReadModel::read`].
    pub fn read_at<R>(&self, read: impl FnOnce(&P::State, Option<u64>) -> R) -> Result<R> {
        self.take_in_the_rest();
        self.engine.read(|state, next| read(state, next.checked_sub(1)))
    }

    /// A copy of the state.
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

    /// The position up to which all events of the query are in the state; `None` if that is none.
    /// Moves on over events that the query does not find.
    pub fn position(&self) -> Option<u64> {
        self.take_in_the_rest();
        self.engine.next().checked_sub(1)
    }

    /// Takes in all events that there are now, in the caller's thread, unless somebody else is
    /// about it; then waits. Returns the position. Does nothing if it is paused.
    ///
    /// # Errors
    ///
    /// [`Error::ProjectionFailed`]; [`Error::Damaged`], [`Error::Io`] if the log cannot be read:
    /// what was taken in before that stays.
    pub fn catch_up(&self) -> Result<Option<u64>> {
        self.engine.advance(&self.store)?;
        Ok(self.position())
    }

    /// Blocks until the state has taken in everything up to this position, which may be one that
    /// there is not yet: to read what one has written. `false` if the time is over before.
    ///
    /// If the event is there, and nobody has taken it in yet, the caller's thread does, however the
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

    /// Makes the state again from the first event on, in the caller's thread. Until that is done,
    /// the present one is read and kept up to date; then the new one takes its place at once, and
    /// is saved. Ends a failure, if the events can be taken in now.
    ///
    /// # Errors
    ///
    /// As [`ReadModel::catch_up`], and [`Error::Closed`] if the store was closed meanwhile: the
    /// present state stays.
    pub fn rebuild(&self) -> Result<()> {
        self.engine.rebuild(&self.store)?;
        self.engine.wake();
        Ok(())
    }

    /// Takes in nothing until [`ReadModel::resume`]. Waits for the events that are being taken in;
    /// the state can be read.
    pub fn pause(&self) {
        self.engine.pause();
    }

    /// Goes on. With a thread of its own at once; else, when the next event is taken in.
    pub fn resume(&self) {
        self.engine.resume();
    }

    /// How it is doing.
    pub fn status(&self) -> ProjectionStatus {
        self.take_in_the_rest();
        self.engine.status(self.store.len())
    }

    /// Saves state and position, if there is something new. Blocks for a write and two or three
    /// syncs, and for one more if the events are not durable yet. What was saved before stays until
    /// this is.
    ///
    /// # Errors
    ///
    /// * [`Error::Codec`] if the state cannot be encoded, [`Error::LimitExceeded`] if it has more
    ///   than 1 GiB then;
    /// * [`Error::Io`], [`Error::DiskFull`], [`Error::DurabilityUnknown`];
    /// * [`Error::ProjectionFailed`] if there is no state that is right;
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

    /// Ends it without waiting for its thread. Unless it is to be saved, nothing is from now on.
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
        // Errors can be had from `stop`.
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

/// Sleeps until there is an event at this position. `false` if the time is over before, or the
/// projection ends.
fn wait_until_visible<P: Projection>(
    store: &Store,
    engine: &Engine<P>,
    position: u64,
    deadline: Option<Instant>,
) -> bool {
    let seat = store.waiters().seat(&Query::new());
    loop {
        seat.signal.prepare(this_thread());
        // Looked at once more: what has come before this, nobody will wake for.
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
