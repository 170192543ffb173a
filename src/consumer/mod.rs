//! Consumers: a handler that is given each event at least once, and whose progress the store keeps.

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
    /// It becomes a dead letter, and later events follow, including those of its key.
    #[default]
    Park,
    /// The consumer ends with [`Error::HandlerFailed`](crate::Error::HandlerFailed), and its
    /// checkpoint stays before the event.
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

/// A handler for the events of a query, with a name under which the store keeps its progress. From
/// [`Store::consumer`].
///
/// ```
/// use annals::consumer::Retry;
/// use annals::{Event, Expected, NewEvent, Query, Store, StreamId};
/// let store = Store::in_memory();
/// let order = StreamId::new("order", "1")?;
/// store.append(&order, Expected::Any, ["Placed", "Paid"].map(|of| NewEvent::new(of, "")))?;
///
/// // Without `until_caught_up` it would continue with new events, until it is stopped.
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
/// The store keeps a checkpoint: the position up to which all events of the query were acknowledged
/// by the handler or are dead letters. It is stored after a number of events, after a time, and
/// when the consumer ends, see [`Consumer::checkpoint_every`], and it is never ahead of what is
/// done. So after a crash, **each event is handed to the handler at least once, and those since the
/// last checkpoint again**: a handler must be idempotent, or must find out by the position of an
/// event that it has been handled.
///
/// The checkpoint is bound to its event. If the log does not have that event, as after a backup was
/// restored over the store, it is unknown what is done: the consumer is refused until
/// [`Consumer::reset_to`] says where to continue. See
/// [`Checkpoints`](crate::progress::Checkpoints#bound-to-events).
///
/// # Order
///
/// Events of the same key, by default those of a stream (see [`Consumer::partition_by`]), are
/// handled one after the other, in order. An event on which the handler fails is tried again later
/// ([`Retry`]); later events of its key wait for it, and others continue. For an order over all
/// events there is [`Partition::Store`].
///
/// # Failing
///
/// The handler returns an [`Outcome`]. A panic is caught and is a failed attempt; the handler is
/// called again, and must be prepared for that. An event that fails too often becomes a
/// [dead letter](Consumer::dead_letters) with the reason, unless [`Consumer::on_poison`] says
/// otherwise. Dead letters become durable together with the first checkpoint after them.
///
/// # Limits
///
/// A name has 1 to 255 bytes and is that of a [checkpoint](crate::progress::Checkpoints). In memory
/// are the events that have been read and are not done, at most [`Consumer::window`] of them for
/// each worker, and dead letters, at most [`Consumer::dead_letter_limit`].
///
/// # When the store is closed
///
/// The consumer ends after the last event, or with [`Error::Closed`](crate::Error::Closed) when it
/// must store a checkpoint. Events since the last checkpoint are seen again:
/// [stop](Control::stop) it first.
pub struct Consumer {
    store: Store,
    name: Arc<str>,
    query: Arc<Query>,
    settings: ConsumerSettings,
    shared: Arc<ControlShared>,
}

impl Store {
    /// Returns a consumer of this name, to be configured. Nothing happens before it runs.
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
    /// Which events it is given. Default: all of them. A consumer with another query than last time
    /// continues from its checkpoint.
    pub fn query(mut self, query: impl Into<Query>) -> Self {
        self.query = Arc::new(query.into());
        self
    }

    /// Where it begins while it has no checkpoint: with the first event that was recorded at this
    /// time or later, or, if there is none, with the next one. Default: the first event. Give the
    /// same time on every run: then nothing is missed even if it ends before its first checkpoint.
    pub fn begin_at(mut self, time: Timestamp) -> Self {
        self.settings.begin_at = Some(time);
        self
    }

    /// How often, and when, an event is tried again on which the handler fails.
    pub fn retry(mut self, retry: Retry) -> Self {
        self.settings.retry = retry;
        self
    }

    /// What happens to an event that has failed too often.
    pub fn on_poison(mut self, poison: Poison) -> Self {
        self.settings.poison = poison;
        self
    }

    /// Which events are handled one after the other.
    pub fn partition_by(mut self, partition: Partition) -> Self {
        self.settings.partition = partition;
        self
    }

    /// Stores the checkpoint durably after this many events, or after this time if there is
    /// something to store. Default: 100 events or a second. It costs a sync, or two with a
    /// durability that does not sync events.
    pub fn checkpoint_every(mut self, events: u64, time: Duration) -> Self {
        self.settings.every = (events.max(1), time);
        self
    }

    /// The maximum number of events per worker that have been read and are not done. Default: 64.
    /// An event that waits for a retry counts, and so do those that wait for it.
    pub fn window(mut self, events: usize) -> Self {
        self.settings.window = events.max(1);
        self
    }

    /// The maximum number of dead letters. With one more the consumer ends with
    /// [`Error::LimitExceeded`](crate::Error::LimitExceeded): then the fault is not in the events.
    /// Default: 10,000.
    pub fn dead_letter_limit(mut self, letters: usize) -> Self {
        self.settings.dead_letters = letters;
        self
    }

    /// Ends the run when it has caught up and everything is done, instead of waiting for new
    /// events.
    pub fn until_caught_up(mut self) -> Self {
        self.settings.until_caught_up = true;
        self
    }

    /// Hands the events to several threads, which share one handler. The last step of the
    /// configuration.
    pub fn workers(mut self, workers: usize) -> Workers {
        self.settings.workers = workers.max(1);
        Workers { consumer: self }
    }

    /// Returns what stops, pauses and watches it.
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
    /// * [`Error::ConsumerRunning`](crate::Error::ConsumerRunning) if one of this name is running
    ///   in this process, [`Error::CheckpointConflict`](crate::Error::CheckpointConflict) if
    ///   another has moved its checkpoint in the meantime;
    /// * [`Error::PositionAhead`](crate::Error::PositionAhead),
    ///   [`Error::Diverged`](crate::Error::Diverged) if the log does not have the event at its
    ///   checkpoint, as after a backup was restored: no event is handed out before
    ///   [`Consumer::reset_to`] says where to continue;
    /// * [`Error::HandlerFailed`](crate::Error::HandlerFailed) with [`Poison::Stop`],
    ///   [`Error::LimitExceeded`](crate::Error::LimitExceeded) with too many dead letters;
    /// * those of reading events, and those of [`Checkpoints`](crate::progress::Checkpoints) and
    ///   [their flush](crate::progress::Checkpoints::flush). Nothing is lost: run it again once the
    ///   cause is gone.
    pub fn run<O: Into<Outcome>>(self, mut handler: impl FnMut(&Event) -> O) -> Result<Status> {
        let claim = self.store.claim_consumer(&self.name)?;
        self.run_claimed(claim, |work, subscription| work.run_alone(subscription, |event| handler(event).into()))
    }

    /// Runs the handler in its own thread.
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
        // A dead letter about an event that is not in the log is not removed with the event that
        // now has its position.
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
        // Also after an error: what was done need not be done again. And even if there is nothing
        // new: a failed flush may have left something in memory only.
        let kept = work.keep().and_then(|()| self.store.checkpoints().flush());
        let failure = self.shared.lock().failure.take();
        failure.map_or(Ok(()), Err).and(read).and(kept)?;
        let mut status = self.shared.lock().status();
        status.running = false;
        Ok(status)
    }

    /// Advances over events that are not for it, which have woken no thread: a consumer that is
    /// done with all its events has reached the end.
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

    /// Returns its progress according to the store.
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

/// Marks the consumer as not running, whatever has happened.
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
    /// Returns what stops, pauses and watches it.
    pub fn control(&self) -> Control {
        self.consumer.control()
    }

    /// Runs the handler in this many threads, and reads the events in this one. Blocks as
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

    /// Does the same in threads of its own.
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
