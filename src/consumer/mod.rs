//! Consumers: a handler that is given each event at least once, and is told of in the store how far
//! it is.

mod control;
mod dead_letters;
mod handle;
mod outcome;
mod partition;
mod place;
mod retry;
mod schedule;
mod work;

pub use control::{Control, Lag, Status};
pub use dead_letters::{DeadLetter, Retried};
pub use handle::ConsumerHandle;
pub use outcome::Outcome;
pub use partition::Partition;
pub use place::{ConsumerInfo, Reset};
pub use retry::Retry;

use crate::Event;
use crate::error::Result;
use crate::store::progress::consumers::{Claim, StoredCheckpoint};
use crate::store::{Query, Store};
use crate::subscription::Subscription;
use crate::time::Timestamp;
use control::ControlShared;
use parking_lot::Mutex;
use schedule::Schedule;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};
use work::ConsumerRun;

/// What happens to an event on which the handler has failed as often as [`Retry`] allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Poison {
    /// It goes to the dead letters, and the events after it go on, those of its key too.
    #[default]
    Park,
    /// The consumer ends with [`Error::HandlerFailed`](crate::Error::HandlerFailed), and stands
    /// before the event.
    Stop,
}

#[derive(Clone)]
struct ConsumerSettings {
    every: (u64, Duration),
    retry: Retry,
    poison: Poison,
    partition: Partition,
    window: usize,
    /// 0 is the caller's thread.
    workers: usize,
    dead_letters: usize,
    until_caught_up: bool,
    begin_at: Option<Timestamp>,
}

/// A handler for the events of a query, with a name under which the store keeps how far it is. From
/// [`Store::consumer`].
///
/// ```
/// use annals::consumer::Retry;
/// use annals::{Event, Expected, NewEvent, Query, Store, StreamId};
/// let store = Store::in_memory();
/// let order = StreamId::new("order", "1")?;
/// store.append(&order, Expected::Any, ["Placed", "Paid"].map(|of| NewEvent::new(of, "")))?;
///
/// // Without `until_caught_up` it would go on with what happens, until it is stopped.
/// let mailer = store.consumer("mailer").query(Query::new().domain("order")).retry(Retry::new().attempts(1)).until_caught_up();
/// let mut sent = Vec::new();
/// let status = mailer.run(|event: &Event| match event.event_type() {
///     "Paid" => Err("no such mailbox"),
///     other => Ok(sent.push(other.to_owned())),
/// })?;
/// assert_eq!((status.handled, status.parked, status.position), (1, 1, Some(1)));
/// assert_eq!(sent, ["Placed"]);
/// assert_eq!(store.consumer("mailer").dead_letters()?[0].reason, "no such mailbox");
/// # Ok::<(), annals::Error>(())
/// ```
///
/// # At least once
///
/// The store keeps a checkpoint: the position up to which all events of the query are acknowledged
/// by the handler or are dead letters. It is kept after a number of events, after a time, and when
/// the consumer ends, see [`Consumer::checkpoint_every`], and it never runs ahead. So, after a
/// crash, **each event is handed to the handler at least once, and those since the last checkpoint
/// once more**: what a handler does must be safe to be done twice, or the handler must find out by
/// the position of the event that it was done.
///
/// The checkpoint is bound to its event. If the log does not have that event, as after a backup was
/// put back over the store, nobody knows what is done: the consumer is refused until
/// [`Consumer::reset_to`] says where to go on. See
/// [`Checkpoints`](crate::progress::Checkpoints#bound-to-events).
///
/// # Order
///
/// Events of the same key, those of a stream unless [`Consumer::partition_by`] says otherwise, are
/// handled one after the other, in order. An event on which the handler fails is tried again after
/// a while ([`Retry`]); those of its key wait after it, and others go on. Where order over all
/// events counts, there is [`Partition::Store`].
///
/// # Failing
///
/// The handler says how it went: see [`Outcome`]. A panic is caught, and is a failed attempt; the
/// handler is called again, and must be fit for that. An event that fails too often goes to the
/// [dead letters](Consumer::dead_letters), together with the reason, unless [`Consumer::on_poison`]
/// says otherwise. They become durable together with the first checkpoint after them.
///
/// # Limits
///
/// A name has 1 to 255 bytes and is that of a [checkpoint](crate::progress::Checkpoints). In memory
/// are the events that were taken in and are not done, at most [`Consumer::window`] of them for
/// each worker; and dead letters, at most [`Consumer::dead_letter_limit`].
///
/// # When the store is closed
///
/// The consumer ends after the last event, and what was acknowledged since the last checkpoint is
/// seen again: [stop](Control::stop) it first.
pub struct Consumer {
    store: Store,
    name: Arc<str>,
    query: Arc<Query>,
    settings: ConsumerSettings,
    shared: Arc<ControlShared>,
}

impl Store {
    /// A consumer of this name, to be set up. Nothing happens before it runs.
    pub fn consumer(&self, name: impl AsRef<str>) -> Consumer {
        let settings = ConsumerSettings {
            every: (100, Duration::from_secs(1)),
            retry: Retry::new(),
            poison: Poison::Park,
            partition: Partition::Stream,
            window: 64,
            workers: 0,
            dead_letters: 10_000,
            until_caught_up: false,
            begin_at: None,
        };
        Consumer {
            store: self.clone(),
            name: name.as_ref().into(),
            query: Arc::default(),
            settings,
            shared: Arc::new(ControlShared::new()),
        }
    }
}

impl Consumer {
    /// Which events it is given: all of them by default. A consumer that is given another query
    /// than the last time goes on from its checkpoint.
    pub fn query(mut self, query: impl Into<Query>) -> Self {
        self.query = Arc::new(query.into());
        self
    }

    /// Where it begins as long as it has no checkpoint: with the first event that was recorded at
    /// this time or later, or, if there is none, with the next one. With the first of all by
    /// default. Give the same time whenever it runs: then nothing is missed, though it ends before
    /// its first checkpoint.
    pub fn begin_at(mut self, time: Timestamp) -> Self {
        self.settings.begin_at = Some(time);
        self
    }

    /// How often an event is tried on which the handler fails, and when.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.settings.retry = retry;
        self
    }

    /// What happens to an event that was tried often enough.
    pub fn on_poison(mut self, poison: Poison) -> Self {
        self.settings.poison = poison;
        self
    }

    /// Which events are handled one after the other.
    pub fn partition_by(mut self, partition: Partition) -> Self {
        self.settings.partition = partition;
        self
    }

    /// The checkpoint is made durable after so many events, or when there is something to keep and
    /// so much time has gone by; 100 events or a second by default. It costs a sync, or two with a
    /// durability that does not sync events.
    pub fn checkpoint_every(mut self, events: u64, time: Duration) -> Self {
        self.settings.every = (events.max(1), time);
        self
    }

    /// For each worker, the most events that are taken in and not done: more are not read until
    /// then. 64 by default. An event that waits for its next attempt is one of them, and so are
    /// those after it.
    pub fn window(mut self, events: usize) -> Self {
        self.settings.window = events.max(1);
        self
    }

    /// The most dead letters that it may have. With one more it ends, with
    /// [`Error::LimitExceeded`](crate::Error::LimitExceeded): then it is not the events that are
    /// wrong. 10,000 by default.
    pub fn dead_letter_limit(mut self, letters: usize) -> Self {
        self.settings.dead_letters = letters;
        self
    }

    /// It ends when it has caught up and all that it was given is done, instead of waiting for what
    /// comes.
    pub fn until_caught_up(mut self) -> Self {
        self.settings.until_caught_up = true;
        self
    }

    /// Hands the events to several threads, which all use one handler. The last step before it
    /// runs.
    pub fn workers(mut self, workers: usize) -> Workers {
        self.settings.workers = workers.max(1);
        Workers { consumer: self }
    }

    /// What stops, pauses and watches it.
    pub fn control(&self) -> Control {
        let (store, name, query, shared) =
            (self.store.clone(), self.name.clone(), self.query.clone(), self.shared.clone());
        Control { store, name, query, shared }
    }

    /// Runs the handler in this thread, and blocks until the consumer is stopped, the store is
    /// closed, or there is an error. Returns what was done.
    ///
    /// # Errors
    ///
    /// * [`Error::ConsumerRunning`](crate::Error::ConsumerRunning) if one of this name runs in this
    ///   process, [`Error::CheckpointConflict`](crate::Error::CheckpointConflict) if somebody else
    ///   has moved its checkpoint meanwhile;
    /// * [`Error::PositionAhead`](crate::Error::PositionAhead),
    ///   [`Error::Diverged`](crate::Error::Diverged) if the log does not have the event at its
    ///   checkpoint, as after a backup was put back: nothing is handed out before
    ///   [`Consumer::reset_to`] says where to go on;
    /// * [`Error::HandlerFailed`](crate::Error::HandlerFailed) with [`Poison::Stop`],
    ///   [`Error::LimitExceeded`](crate::Error::LimitExceeded) with too many dead letters;
    /// * those of reading events, and those of [`Checkpoints`](crate::progress::Checkpoints) and
    ///   [their flush](crate::progress::Checkpoints::flush). Nothing is lost: run it again when the
    ///   cause is gone.
    pub fn run<O: Into<Outcome>>(self, mut handler: impl FnMut(&Event) -> O) -> Result<Status> {
        let claim = self.store.claim_consumer(&self.name)?;
        self.run_claimed(claim, |work, subscription| work.run_alone(subscription, |event| handler(event).into()))
    }

    /// The same in a thread of its own.
    ///
    /// # Errors
    ///
    /// [`Error::ConsumerRunning`](crate::Error::ConsumerRunning),
    /// [`Error::ReadOnly`](crate::Error::ReadOnly), [`Error::Closed`](crate::Error::Closed), and
    /// those of a name; all others come from [`ConsumerHandle::join`].
    pub fn spawn<O: Into<Outcome>>(
        self,
        mut handler: impl FnMut(&Event) -> O + Send + 'static,
    ) -> Result<ConsumerHandle> {
        let claim = self.store.claim_consumer(&self.name)?;
        ConsumerHandle::spawn(self.control(), move || {
            self.run_claimed(claim, |work, subscription| work.run_alone(subscription, |event| handler(event).into()))
        })
    }

    fn run_claimed(
        &self,
        _claim: Claim,
        run: impl FnOnce(&ConsumerRun<'_>, &mut Subscription) -> Result<()>,
    ) -> Result<Status> {
        let kept = self.begin()?;
        let letters = self.store.dead_letters(&self.name)?;
        // A letter about an event that is not in the log does not go with the event that has its
        // position now.
        let later = letters.iter().filter(|(position, _)| *position >= kept.next);
        let ours = later.filter(|(position, letter)| self.store.letter_fault(*position, letter).is_none());
        let known = ours.map(|(position, _)| *position);
        let schedule = Schedule::new(self.settings.partition.clone(), kept.next, known);
        let mut subscription = self.store.subscribe(&*self.query).after(kept.next.checked_sub(1));
        self.shared.begin(schedule, subscription.stopper(), (kept.next, Instant::now()));
        let _running = RunGuard(&self.shared);
        let work = ConsumerRun {
            store: &self.store,
            name: &self.name,
            settings: &self.settings,
            shared: &self.shared,
            keeping: Mutex::new(kept),
            since: AtomicU64::new(0),
        };
        let read = run(&work, &mut subscription).and_then(|()| self.step_over());
        // Also after an error: what was done need not be done again. And though there be nothing
        // new: a flush that has failed before may have left something in memory only.
        let kept = work.keep().and_then(|()| self.store.checkpoints().flush());
        let failure = self.shared.lock().failure.take();
        failure.map_or(Ok(()), Err).and(read).and(kept)?;
        let mut status = self.shared.lock().status();
        status.running = false;
        Ok(status)
    }

    /// Steps over what has come that is not for it, which has woken nobody: a consumer that is done
    /// with all that is for it has come to the end.
    fn step_over(&self) -> Result<()> {
        let (is_idle, reached) = {
            let mut state = self.shared.lock();
            let schedule = state.schedule();
            (schedule.is_idle(), schedule.reached())
        };
        if is_idle && reached < self.store.len() && !self.store.waiters().is_closed() {
            let mut found = self.store.query(&self.query).after(reached.checked_sub(1)).limit(1).into_iter();
            let first = found.next().transpose()?.map(|event| event.position());
            let next = first.or(found.head().map(|end| end + 1)).unwrap_or(reached);
            self.shared.lock().schedule().pass(next);
        }
        Ok(())
    }

    /// Where the store says that it is.
    fn begin(&self) -> Result<StoredCheckpoint> {
        match self.store.kept(&self.name)? {
            Some(kept) => Ok(kept),
            None => {
                let next = self.settings.begin_at.map_or(Ok(0), |time| self.store.recorded_before(time))?;
                Ok(StoredCheckpoint { next, version: 0 })
            }
        }
    }
}

/// Says that it runs no more, whatever has happened.
struct RunGuard<'a>(&'a ControlShared);

impl Drop for RunGuard<'_> {
    fn drop(&mut self) {
        self.0.lock().finish();
    }
}

/// A [`Consumer`] whose events are handled by several threads. The order within a key is kept;
/// events of different keys are handled at the same time.
///
/// ```
/// use annals::consumer::Partition;
/// use annals::{Event, Expected, NewEvent, Store, StreamId};
/// use std::sync::atomic::{AtomicU64, Ordering};
/// let store = Store::in_memory();
/// for root in ["1", "2", "3"] {
///     let paid = NewEvent::new("Paid", "").tag("customer:7");
///     store.append(&StreamId::new("order", root)?, Expected::Any, [paid])?;
/// }
/// let seen = AtomicU64::new(0);
/// let consumer = store.consumer("billing").partition_by(Partition::Tag("customer".into())).until_caught_up();
/// consumer.workers(2).run(|_: &Event| drop(seen.fetch_add(1, Ordering::Relaxed)))?;
/// assert_eq!(seen.into_inner(), 3);
/// # Ok::<(), annals::Error>(())
/// ```
pub struct Workers {
    consumer: Consumer,
}

impl Workers {
    /// What stops, pauses and watches it.
    pub fn control(&self) -> Control {
        self.consumer.control()
    }

    /// Runs the handler in so many threads, and reads the events in this one. Blocks as
    /// [`Consumer::run`] does.
    ///
    /// # Errors
    ///
    /// As [`Consumer::run`], and [`Error::Io`](crate::Error::Io) if a thread cannot be started.
    pub fn run<O: Into<Outcome>>(self, handler: impl Fn(&Event) -> O + Sync) -> Result<Status> {
        let claim = self.consumer.store.claim_consumer(&self.consumer.name)?;
        self.consumer
            .run_claimed(claim, |work, subscription| work.run_with_workers(subscription, |event| handler(event).into()))
    }

    /// The same, all of it in threads of their own.
    ///
    /// # Errors
    ///
    /// As [`Consumer::spawn`].
    pub fn spawn<O: Into<Outcome>>(
        self,
        handler: impl Fn(&Event) -> O + Send + Sync + 'static,
    ) -> Result<ConsumerHandle> {
        let claim = self.consumer.store.claim_consumer(&self.consumer.name)?;
        ConsumerHandle::spawn(self.control(), move || {
            self.consumer.run_claimed(claim, |work, subscription| {
                work.run_with_workers(subscription, |event| handler(event).into())
            })
        })
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer").field("name", &self.name).field("query", &self.query).finish_non_exhaustive()
    }
}

impl fmt::Debug for Workers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let workers = self.consumer.settings.workers;
        f.debug_struct("Workers").field("consumer", &self.consumer).field("workers", &workers).finish()
    }
}
