//! States in a database of the application's own: the checkpoint goes into the same transaction as the state.

use crate::Event;
use crate::error::{Error, Result};
use crate::store::{Query, Store};
use crate::subscription::{Delivery, Stop, Subscription};
use std::fmt;
use std::time::Duration;

/// Events in a batch, and bytes of their data, unless said otherwise.
const BATCH: usize = 1000;
const BATCH_BYTES: usize = 4 << 20;

/// A state outside of the store, in a database that has transactions, say. Each event comes into it exactly once, if the database stores the checkpoint together with what the events have changed.
///
/// [`Store::external`] runs it.
pub trait ExternalSink {
    /// What can go wrong in it.
    type Error: From<Error>;

    /// Which events: all of the main edition unless said otherwise. Asked once for each run.
    fn query(&self) -> Query {
        Query::new()
    }

    /// The checkpoint that was stored last, or `None` if none was: what comes behind it is handed out next. Asked once for each run.
    ///
    /// # Errors
    ///
    /// Its own; they end the run.
    fn checkpoint(&mut self) -> Result<Option<u64>, Self::Error>;

    /// Takes in events and stores the checkpoint, in one transaction: both or nothing. The events are durable, come in order of positions, and are at least one.
    ///
    /// # Errors
    ///
    /// Its own; they end the run, and the next run hands out what comes behind the checkpoint that is stored then.
    fn apply(&mut self, events: &[Event], checkpoint: u64) -> Result<(), Self::Error>;
}

impl Store {
    /// Hands events to a state outside of the store. Nothing happens before [`External::catch_up`] or [`External::follow`].
    pub fn external<S: ExternalSink>(&self, sink: S) -> External<S> {
        External { store: self.clone(), sink, batch: BATCH, stop: Stop::default() }
    }
}

/// What hands events to a state outside of the store. From [`Store::external`].
///
/// The store keeps nothing about it: how far it has come, only its own checkpoint tells. What it is handed is durable, whatever [`Durability`](crate::Durability) the store has, so that it never knows of events that a power cut
/// takes.
///
/// ```
/// use annals::{Error, Event, Expected, ExternalSink, NewEvent, Store, StreamId};
///
/// /// Stands for a database: both fields would be stored in one transaction.
/// #[derive(Default)]
/// struct Database {
///     types: Vec<String>,
///     checkpoint: Option<u64>,
/// }
///
/// impl ExternalSink for Database {
///     type Error = Error;
///     fn checkpoint(&mut self) -> Result<Option<u64>, Error> {
///         Ok(self.checkpoint)
///     }
///     fn apply(&mut self, events: &[Event], checkpoint: u64) -> Result<(), Error> {
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
    /// Hands out at most so many events at once: 1,000 unless said otherwise, and fewer if they have more than 4 MiB of data.
    pub fn batch(mut self, events: usize) -> Self {
        self.batch = events.max(1);
        self
    }

    /// What ends [`External::follow`] from another thread, between two batches, for good: whatever is called then gets [`Error::Closed`].
    pub fn stopper(&self) -> Stop {
        self.stop.clone()
    }

    /// Hands out all events that there are behind the checkpoint, and returns their number.
    ///
    /// # Errors
    ///
    /// Those of the state; [`Error::Damaged`], [`Error::Io`] if the log cannot be read, [`Error::DurabilityUnknown`]; [`Error::Invalid`] if the checkpoint is that of an event that the store does not have: the state
    /// belongs to another store, or a part of the store was restored from a backup. Make the state anew then.
    pub fn catch_up(&mut self) -> Result<u64, S::Error> {
        self.run(false)
    }

    /// The same, and then hands out events as they come. Blocks until it is [stopped](External::stopper) or the store is closed, and returns the number of events.
    ///
    /// # Errors
    ///
    /// As [`External::catch_up`].
    pub fn follow(&mut self) -> Result<u64, S::Error> {
        self.run(true)
    }

    /// The state.
    pub fn sink(&self) -> &S {
        &self.sink
    }

    /// The state, to be run no more.
    pub fn into_sink(self) -> S {
        self.sink
    }

    fn run(&mut self, follow: bool) -> Result<u64, S::Error> {
        let checkpoint = self.sink.checkpoint()?;
        if let Some(checkpoint) = checkpoint.filter(|&checkpoint| checkpoint >= self.store.len()) {
            let why = format!("{checkpoint} is behind the last event: the state is not of this store");
            return Err(Error::invalid("checkpoint", why).into());
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

    /// What comes next: waits for the first event only. And whether there is nothing more for now.
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
