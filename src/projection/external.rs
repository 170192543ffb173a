//! States in a database of the application: the checkpoint is stored in the same transaction as the
//! state.

use crate::Event;
use crate::error::{Error, Result};
use crate::store::{Query, Store};
use crate::subscription::{Delivery, Stop, Subscription};
use crate::time::Timestamp;
use std::fmt;
use std::time::Duration;

/// Number of events in a batch, and bytes of their data, by default.
const BATCH: usize = 1000;
const BATCH_BYTES: usize = 4 << 20;

/// A state outside of the store, for example in a database with transactions. Each event is applied
/// to it exactly once, if the database stores the checkpoint together with the changes.
///
/// [`Store::external`] runs it.
pub trait ExternalSink {
    /// The error type.
    type Error: From<Error>;

    /// Returns which events are applied. Default: all of the main edition. Called once for each
    /// run.
    fn query(&self) -> Query {
        Query::new()
    }

    /// Returns the last stored checkpoint, or `None` if there is none: the events after it are
    /// applied next. Called once for each run.
    ///
    /// # Errors
    ///
    /// Its own errors; they end the run.
    fn checkpoint(&mut self) -> Result<Option<u64>, Self::Error>;

    /// Returns when the event at the checkpoint was recorded, if that was stored with it: it is
    /// [that of the last event](Event::recorded_at) of the last call of
    /// [`apply`](ExternalSink::apply). Called once for each run that has a checkpoint.
    ///
    /// A position is only a number. If a backup is restored over the store, and the store grows
    /// past the checkpoint, only this time tells that the event at the checkpoint is another one,
    /// and that events were never applied: then the run ends with [`Error::Diverged`]. With `None`,
    /// the default, this goes unnoticed.
    ///
    /// # Errors
    ///
    /// Its own errors; they end the run.
    fn recorded_at(&mut self) -> Result<Option<Timestamp>, Self::Error> {
        Ok(None)
    }

    /// Applies events and stores the checkpoint, in one transaction. The events are durable, in
    /// order of positions, and at least one. The checkpoint is the position of the last of them;
    /// store its recorded time, too, which [`recorded_at`](ExternalSink::recorded_at) returns.
    ///
    /// # Errors
    ///
    /// Its own errors; they end the run, and the next run begins after the checkpoint that is
    /// stored then.
    fn apply(&mut self, events: &[Event], checkpoint: u64) -> Result<(), Self::Error>;
}

impl Store {
    /// Returns what applies events to a state outside of the store. Nothing happens before
    /// [`External::catch_up`] or [`External::follow`].
    pub fn external<S: ExternalSink>(&self, sink: S) -> External<S> {
        External { store: self.clone(), sink, batch: BATCH, stop: Stop::default() }
    }
}

/// Applies events to a state outside of the store. From [`Store::external`].
///
/// The store keeps nothing about it: its progress is its own checkpoint. Events are durable before
/// they are applied, whatever [`Durability`](crate::Durability) the store has, so that the state
/// never includes events that a power cut takes.
///
/// ```
/// use annals::projection::ExternalSink;
/// use annals::{Error, Event, Expected, NewEvent, Store, StreamId, Timestamp};
///
/// /// Stands for a database: all fields would be stored in one transaction.
/// #[derive(Default)]
/// struct Database {
///     types: Vec<String>,
///     checkpoint: Option<u64>,
///     recorded_at: Option<Timestamp>,
/// }
///
/// impl ExternalSink for Database {
///     type Error = Error;
///     fn checkpoint(&mut self) -> Result<Option<u64>, Error> {
///         Ok(self.checkpoint)
///     }
///     fn recorded_at(&mut self) -> Result<Option<Timestamp>, Error> {
///         Ok(self.recorded_at)
///     }
///     fn apply(&mut self, events: &[Event], checkpoint: u64) -> Result<(), Error> {
///         self.recorded_at = events.last().map(Event::recorded_at);
///         self.types.extend(events.iter().map(|event| event.event_type().to_owned()));
///         self.checkpoint = Some(checkpoint);
///         Ok(())
///     }
/// }
///
/// let store = Store::in_memory();
/// let order = StreamId::new("order", "1")?;
/// store.append(&order, Expected::Any, [NewEvent::new("Placed", ""), NewEvent::new("Paid", "")])?;
/// let mut external = store.external(Database::default());
/// assert_eq!(external.catch_up()?, 2);
/// assert_eq!(external.catch_up()?, 0);
/// assert_eq!(external.into_sink().types, ["Placed", "Paid"]);
/// # Ok::<(), Error>(())
/// ```
#[must_use = "nothing happens before it is run"]
pub struct External<S: ExternalSink> {
    store: Store,
    sink: S,
    batch: usize,
    stop: Stop,
}

impl<S: ExternalSink> External<S> {
    /// Applies at most this many events at once. Default: 1,000; fewer if they have more than 4 MiB
    /// of data.
    pub fn batch(mut self, events: usize) -> Self {
        self.batch = events.max(1);
        self
    }

    /// Returns what ends [`External::catch_up`] and [`External::follow`] from another thread,
    /// between two batches, for good: later calls return [`Error::Closed`].
    pub fn stopper(&self) -> Stop {
        self.stop.clone()
    }

    /// Applies all existing events after the checkpoint, and returns their number.
    ///
    /// # Errors
    ///
    /// Those of the state; [`Error::Damaged`], [`Error::Io`] if the log cannot be read,
    /// [`Error::DurabilityUnknown`]; [`Error::PositionAhead`], and [`Error::Diverged`] for a state
    /// that stores [when its last event was recorded](ExternalSink::recorded_at), if the store does
    /// not have the event at the checkpoint: the state belongs to another store, or the store was
    /// restored from a backup. Then rebuild the state.
    pub fn catch_up(&mut self) -> Result<u64, S::Error> {
        self.run(false)
    }

    /// Applies all existing events, and then new ones. Blocks until it is
    /// [stopped](External::stopper) or the store is closed, and returns the number of events.
    ///
    /// # Errors
    ///
    /// As [`External::catch_up`].
    pub fn follow(&mut self) -> Result<u64, S::Error> {
        self.run(true)
    }

    /// Returns the state.
    pub fn sink(&self) -> &S {
        &self.sink
    }

    /// Returns the state, and ends its use here.
    pub fn into_sink(self) -> S {
        self.sink
    }

    fn run(&mut self, follow: bool) -> Result<u64, S::Error> {
        let checkpoint = self.sink.checkpoint()?;
        if let Some(checkpoint) = checkpoint {
            let recorded_at = self.sink.recorded_at()?;
            self.store.check_place("the checkpoint of the external state", checkpoint, recorded_at)?;
        }
        if self.stop.is_stopped() {
            return Err(Error::Closed.into());
        }
        let mut events = self.store.subscribe(self.sink.query()).after(checkpoint).stopped_by(&self.stop);
        let mut count = 0;
        loop {
            let (hand, caught_up) = self.collect(&mut events)?;
            if let Some(last) = hand.last() {
                let checkpoint = last.position();
                self.store.site().make_durable(checkpoint + 1)?;
                self.sink.apply(&hand, checkpoint)?;
                count += hand.len() as u64;
            }
            if events.is_ended() || (caught_up && !follow) {
                return Ok(count);
            }
        }
    }

    /// Returns the next batch, which waits for its first event only; and whether there is nothing
    /// more for now.
    fn collect(&self, events: &mut Subscription) -> Result<(Vec<Event>, bool)> {
        let (mut hand, mut bytes) = (Vec::new(), 0);
        while hand.len() < self.batch && bytes < BATCH_BYTES {
            let next = match hand.is_empty() {
                true => events.next_timeout(Duration::MAX)?,
                false => events.try_next()?,
            };
            match next {
                Some(Delivery::Event(event)) => {
                    bytes += event.data().len() + event.metadata().len();
                    hand.push(event);
                }
                Some(Delivery::CaughtUp(_)) => return Ok((hand, true)),
                Some(Delivery::FellBehind(_)) => {}
                None => break,
            }
        }
        Ok((hand, false))
    }
}

impl<S: ExternalSink> fmt::Debug for External<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("External").field("batch", &self.batch).finish_non_exhaustive()
    }
}
