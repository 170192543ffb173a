//! The write path of the store: encode outside any lock, decide under the commit lock, wait.

use super::Store;
use super::view::{Part, Refused};
use crate::error::{Error, Result};
use crate::event::NewEvent;
use crate::expected::Expected;
use crate::format::draft::Draft;
use crate::log;
use crate::stream::StreamId;
use crate::time::Timestamp;
use std::fmt;
use std::ops::Range;

/// From this sequence on, records are encoded with room for 64 bits of it. Far enough below the last one that 32 bits can hold, so that what is
/// appended between encoding and committing cannot reach that.
const WIDE_FROM: u64 = 1 << 31;

/// What an append has stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Appended {
    /// The sequences of the events in their stream, in the order in which they were given.
    pub sequences: Range<u64>,
    /// Their positions in the store.
    pub positions: Range<u64>,
    /// When they were recorded.
    pub recorded_at: Timestamp,
}

/// What a transaction has stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// One for each call of [`Transaction::append`], in order.
    pub appends: Vec<Appended>,
    /// The positions of all events.
    pub positions: Range<u64>,
    /// When they were recorded.
    pub recorded_at: Timestamp,
}

impl Store {
    /// Appends events to a stream, as one commit. Returns when they are as durable as [`Durability`](crate::Durability) asks for.
    ///
    /// Blocks for a write and a sync, which threads that append at the same time share. An append without events succeeds and changes nothing.
    ///
    /// ```
    /// use annals::{Expected, NewEvent, Store, StreamId};
    /// let store = Store::in_memory();
    /// let order = StreamId::new("order", "1")?;
    /// let events = [NewEvent::new("Placed", ""), NewEvent::new("Paid", "")];
    /// let appended = store.append(&order, Expected::NoStream, events)?;
    /// assert_eq!(appended.sequences, 0..2);
    /// assert_eq!(appended.positions, 0..2);
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Nothing is stored if the result is an error, but for [`Error::DurabilityUnknown`].
    ///
    /// * [`Error::Conflict`] if the stream is not as expected;
    /// * [`Error::Invalid`], [`Error::LimitExceeded`] if an event breaks a [limit](NewEvent#limits);
    /// * [`Error::Io`], [`Error::DiskFull`] if it could not be written; the store goes on when the cause is gone;
    /// * [`Error::DurabilityUnknown`] if the sync failed;
    /// * [`Error::Closed`], [`Error::ReadOnly`].
    pub fn append<'e>(
        &self,
        stream: &StreamId,
        expected: Expected,
        events: impl IntoIterator<Item = NewEvent<'e>>,
    ) -> Result<Appended> {
        let committed = self.transaction().append(stream, expected, events).commit()?;
        Ok(committed.appends.into_iter().next().expect("one append gives one result"))
    }

    /// Begins a commit that may write to several streams: all of it is stored, or nothing.
    pub fn transaction(&self) -> Transaction {
        Transaction { draft: Draft::new(self.inner.log.limits()), store: self.clone(), parts: Vec::new(), error: None }
    }
}

/// A commit that is being put together. Nothing happens before [`Transaction::commit`] or [`Transaction::submit`].
///
/// ```
/// use annals::{Expected, NewEvent, Store, StreamId};
/// let store = Store::in_memory();
/// let (order, stock) = (StreamId::new("order", "1")?, StreamId::new("stock", "7")?);
/// let committed = store
///     .transaction()
///     .append(&order, Expected::NoStream, [NewEvent::new("Placed", "")])
///     .append(&stock, Expected::Any, [NewEvent::new("Reserved", "")])
///     .commit()?;
/// assert_eq!(committed.positions, 0..2);
/// # Ok::<(), annals::Error>(())
/// ```
#[must_use = "nothing is stored before `commit` or `submit`"]
pub struct Transaction {
    store: Store,
    draft: Draft,
    parts: Vec<Part>,
    /// The first thing that was wrong with what was given.
    error: Option<Error>,
}

impl Transaction {
    /// Adds events of a stream. The data are copied; errors in them are told by the commit.
    ///
    /// A stream may be named several times: each append sees what those before it have added, so `NoStream` with two events and then
    /// `Next(2)` is right. An append without events, in a transaction that has some, only checks its expectation.
    pub fn append<'e>(
        mut self,
        stream: &StreamId,
        expected: Expected,
        events: impl IntoIterator<Item = NewEvent<'e>>,
    ) -> Self {
        let before = self.draft.len();
        // Asked here, outside the commit lock, it is known under it.
        let wide = match self.store.inner.view.index.next_sequence(stream.key()) {
            Ok(next) => next >= WIDE_FROM,
            Err(error) => {
                self.error.get_or_insert(error);
                false
            }
        };
        for event in events {
            if self.error.is_some() {
                break;
            }
            self.error = self.draft.push(stream.key(), &event, wide).err();
        }
        let events = self.draft.len() - before;
        self.parts.push(Part { stream: stream.clone(), expected, events });
        self
    }

    /// Stores all of it, and returns when it is as durable as [`Durability`](crate::Durability) asks for.
    ///
    /// A transaction without any event succeeds and changes nothing.
    ///
    /// # Errors
    ///
    /// As [`Store::append`].
    pub fn commit(self) -> Result<Committed> {
        self.submit()?.wait()
    }

    /// Decides on the commit and gives it its place, without waiting until it is durable: whoever submits the next one before waiting for this one shares its
    /// sync. Blocks only if 64 MiB wait to be written.
    ///
    /// Positions and sequences are final if the ticket's [wait](Ticket::wait) succeeds. Until then nobody can read the events.
    ///
    /// # Errors
    ///
    /// As [`Store::append`]; those of writing come from the ticket.
    pub fn submit(self) -> Result<Ticket> {
        let Transaction { store, draft, parts, error } = self;
        if let Some(error) = error {
            return Err(error);
        }
        if draft.len() == 0 {
            return Ok(Ticket { committed: nothing(&store, &parts)?, waiting: None });
        }
        let view = store.inner.view.clone();
        let (committed, waiting) = store.inner.log.commit(draft, move |proposal| {
            let accepted = view.accept(&parts, proposal.first_position);
            let firsts = accepted.map_err(|refused| match refused {
                Refused::Failed(error) => error,
                Refused::Conflict { part, next } => {
                    let Part { stream, expected, .. } = &parts[part];
                    Error::Conflict { stream: stream.clone(), expected: *expected, actual: next }
                }
            })?;
            let (mut at, mut position) = (0, proposal.first_position);
            let mut appends = Vec::with_capacity(parts.len());
            for (part, first) in parts.iter().zip(firsts) {
                let events = part.events as u64;
                let fits = proposal.draft.set_sequences(at..at + part.events, first);
                assert!(fits, "a stream grew by 2^31 events while one commit was encoded");
                appends.push(Appended {
                    sequences: first..first + events,
                    positions: position..position + events,
                    recorded_at: proposal.recorded_at,
                });
                at += part.events;
                position += events;
            }
            Ok(Committed { appends, positions: proposal.first_position..position, recorded_at: proposal.recorded_at })
        })?;
        Ok(Ticket { committed, waiting: Some(waiting) })
    }
}

/// What a commit without events gives.
fn nothing(store: &Store, parts: &[Part]) -> Result<Committed> {
    let (head, recorded_at) = (store.len(), store.inner.log.now());
    let appends = parts.iter().map(|part| {
        let next = store.inner.view.index.next_sequence(part.stream.key())?;
        Ok(Appended { sequences: next..next, positions: head..head, recorded_at })
    });
    Ok(Committed { appends: appends.collect::<Result<_>>()?, positions: head..head, recorded_at })
}

/// A commit that has its place and is not yet durable.
///
/// The commit is written by whoever waits next, on this ticket or another. A ticket that is dropped gives nothing up: its commit is written by
/// the next one who waits, in the background, or, without a maintenance thread, by the drop itself, which then blocks.
#[must_use = "only `wait` tells whether the commit was stored"]
pub struct Ticket {
    committed: Committed,
    waiting: Option<log::Ticket>,
}

impl Ticket {
    /// Blocks until the commit is as durable as [`Durability`](crate::Durability) asks for.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::DiskFull`], [`Error::DurabilityUnknown`]: as [`Store::append`]. A commit fails, too, if one before it, that it
    /// was decided against, could not be written.
    pub fn wait(self) -> Result<Committed> {
        self.waiting.map_or(Ok(()), log::Ticket::wait)?;
        Ok(self.committed)
    }

    /// Whether [`Ticket::wait`] would return at once.
    pub fn is_done(&self) -> bool {
        self.waiting.as_ref().is_none_or(log::Ticket::is_done)
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("events", &self.draft.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("done", &self.is_done()).finish_non_exhaustive()
    }
}
