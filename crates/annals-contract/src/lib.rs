//! The contract of an event store, as scenarios that any backend can be run against.
//!
//! [`EventStore`], [`PositionStore`] and [`SnapshotStore`] are the operations of a backend, in
//! plain types. Each function of [`events`], [`editions`], [`positions`], [`snapshots`] and so on
//! is a scenario: it takes a new, empty backend, and panics with the violated clause if the backend
//! breaks the contract. [`Store`](annals::Store) implements the traits, and
//! [`contract!`](crate::contract!) makes tests of the scenarios:
//!
//! ```
//! use annals::Store;
//! annals_contract::contract!(in_memory, [events, editions], Store::in_memory);
//! // One scenario, by hand:
//! annals_contract::events::a_stale_writer_is_refused(&Store::in_memory());
//! ```

#![deny(missing_docs)]
#![deny(unsafe_code)]

pub mod durability;
pub mod edition_positions;
pub mod editions;
pub mod events;
pub mod large_snapshots;
pub mod positions;
pub mod snapshots;
mod store;
mod suite;
mod verbs;
pub mod writers;

pub use suite::{
    Place, Scenario, of_durability, of_edition_positions, of_editions, of_events, of_positions, of_snapshots,
};

use annals::snapshot::Retention;
use annals::{AsOf, Expected, StreamId, Timestamp};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::ops::Range;

/// What the contract must know of a backend's errors.
pub trait BackendError: Debug {
    /// Returns whether the stream was not as the writer expected. Nothing was stored then, and the
    /// writer may decide again.
    fn is_conflict(&self) -> bool;
}

/// Streams of events: for the kinds `events`, `writers`, `editions` and `durability`.
///
/// A call returns what was stored when it began, or a little later; what a call has stored, every
/// later one sees.
pub trait EventStore: Sync {
    /// The error type.
    type Error: BackendError;

    /// Stores all of it, or nothing. The expectation of each part is compared with the stream as
    /// the earlier parts leave it.
    ///
    /// With a key that is not empty, a repeat stores nothing and checks no expectation: if one of
    /// the streams has a commit with this key and the same content (streams, types, data and tags
    /// in the same order), the result is that of the first one, marked as a duplicate.
    ///
    /// # Errors
    ///
    /// A conflict, if a stream is not as expected; any error, if an earlier commit with this key
    /// has other content.
    fn commit(&self, appends: &[Append], key: &str) -> Result<Stored, Self::Error>;

    /// Returns the events of a stream, as its edition shows them.
    ///
    /// # Errors
    ///
    /// Those of the backend. A stream without events is no error.
    fn read(&self, stream: &StreamId, reading: &Reading) -> Result<Vec<RecordedEvent>, Self::Error>;

    /// Returns the events of all streams of all editions, by position. `from` and `to` are
    /// positions then.
    ///
    /// # Errors
    ///
    /// Those of the backend.
    fn read_all(&self, reading: &Reading) -> Result<Vec<RecordedEvent>, Self::Error>;

    /// Returns the events that match, by position.
    ///
    /// # Errors
    ///
    /// Those of the backend.
    fn query(&self, criteria: &Criteria) -> Result<Vec<RecordedEvent>, Self::Error>;

    /// Returns the events with this correlation id, of all domains and editions, by stream, each in
    /// order. The empty id matches nothing.
    ///
    /// # Errors
    ///
    /// Those of the backend.
    fn correlated(&self, id: &str) -> Result<BTreeMap<StreamId, Vec<RecordedEvent>>, Self::Error>;

    /// Returns the next sequence of a stream: 0 if it has no event.
    ///
    /// # Errors
    ///
    /// Those of the backend.
    fn next_sequence(&self, stream: &StreamId) -> Result<u64, Self::Error>;

    /// Returns the named editions that have events of their own, and their number.
    ///
    /// # Errors
    ///
    /// Those of the backend.
    fn editions(&self) -> Result<BTreeMap<String, u64>, Self::Error>;

    /// Deletes what an edition has of its own, in one domain or in all: events, idempotency keys,
    /// and the positions and snapshots of these streams. Returns the number of events.
    ///
    /// # Errors
    ///
    /// The main edition, under either name, is refused.
    fn delete_edition(&self, edition: &str, domain: Option<&str>) -> Result<u64, Self::Error>;
}

/// Positions of handlers in streams: for the kind `positions`. Whether the stream has events does
/// not matter.
pub trait PositionStore: Sync {
    /// The error type.
    type Error: Debug;

    /// Returns the sequence that was put, or `None` if none was, which is not the same as 0.
    ///
    /// # Errors
    ///
    /// Those of the backend.
    fn position(&self, handler: &str, stream: &StreamId) -> Result<Option<u64>, Self::Error>;

    /// Puts the sequence that a handler has reached. A lower one than before is ignored.
    ///
    /// # Errors
    ///
    /// Those of the backend. A lower sequence is no error.
    fn put_position(&self, handler: &str, stream: &StreamId, sequence: u64) -> Result<(), Self::Error>;

    /// Does the same, but may go back.
    ///
    /// # Errors
    ///
    /// Those of the backend.
    fn reset_position(&self, handler: &str, stream: &StreamId, sequence: u64) -> Result<(), Self::Error>;

    /// Deletes the position of a handler in a stream, if there is one.
    ///
    /// # Errors
    ///
    /// Those of the backend. A missing position is no error.
    fn delete_position(&self, handler: &str, stream: &StreamId) -> Result<(), Self::Error>;

    /// Returns all positions of a handler.
    ///
    /// # Errors
    ///
    /// Those of the backend.
    fn positions_of(&self, handler: &str) -> Result<BTreeMap<StreamId, u64>, Self::Error>;
}

/// States of streams: for the kind `snapshots`. It needs events, as a state is that after one of
/// them.
pub trait SnapshotStore: EventStore {
    /// Stores the state of a stream after the event with this sequence; replaces the one of this
    /// sequence. Then others are removed according to their retention.
    ///
    /// # Errors
    ///
    /// A sequence for which the stream has no event is refused.
    fn put_snapshot(
        &self,
        stream: &StreamId,
        sequence: u64,
        retention: Retention,
        state: &[u8],
    ) -> Result<(), Self::Error>;

    /// Returns the one with the highest sequence.
    ///
    /// # Errors
    ///
    /// Those of the backend. A missing one is no error.
    fn latest_snapshot(&self, stream: &StreamId) -> Result<Option<Snapshot>, Self::Error>;

    /// Returns the one with the highest sequence up to this one.
    ///
    /// # Errors
    ///
    /// Those of the backend. A missing one is no error.
    fn snapshot_at(&self, stream: &StreamId, sequence: u64) -> Result<Option<Snapshot>, Self::Error>;

    /// Returns the one with the highest sequence whose event was recorded at this time or before.
    ///
    /// # Errors
    ///
    /// Those of the backend.
    fn snapshot_at_time(&self, stream: &StreamId, time: Timestamp) -> Result<Option<Snapshot>, Self::Error>;

    /// Returns their sequences, lowest first, and how long each is kept.
    ///
    /// # Errors
    ///
    /// Those of the backend.
    fn snapshots_of(&self, stream: &StreamId) -> Result<Vec<(u64, Retention)>, Self::Error>;

    /// Removes all of a stream. Returns their number.
    ///
    /// # Errors
    ///
    /// Those of the backend. Missing ones are no error.
    fn delete_snapshots(&self, stream: &StreamId) -> Result<u64, Self::Error>;
}

/// An event before it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct EventData {
    /// The type.
    pub event_type: String,
    /// The data, any bytes.
    pub data: Vec<u8>,
    /// Data about the event, any bytes.
    pub metadata: Vec<u8>,
    /// The tags, in order, each once.
    pub tags: Vec<String>,
    /// The correlation id.
    pub correlation_id: Option<String>,
    /// The causation id.
    pub causation_id: Option<String>,
    /// When it happened, if the writer gave that time.
    pub occurred_at: Option<Timestamp>,
}

impl EventData {
    /// Returns one that has only type and data.
    pub fn new(event_type: &str, data: impl Into<Vec<u8>>) -> EventData {
        EventData { event_type: event_type.to_owned(), data: data.into(), ..EventData::default() }
    }
}

/// A stored event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedEvent {
    /// The stream in which it was stored; an event that an edition shares is in the main one.
    pub stream: StreamId,
    /// Its sequence in the stream.
    pub sequence: u64,
    /// Its position in the store.
    pub position: u64,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// What the writer gave.
    pub fact: EventData,
}

/// One stream's part of a commit.
#[derive(Clone, Debug)]
pub struct Append {
    /// The stream.
    pub stream: StreamId,
    /// The expected state of the stream.
    pub expected: Expected,
    /// The events to add. Without any, only the expectation is checked.
    pub facts: Vec<EventData>,
}

/// What a commit has stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    /// The sequences of its events, for each part.
    pub sequences: Vec<Range<u64>>,
    /// Their positions.
    pub positions: Range<u64>,
    /// Nothing was stored now: this is what the first commit with the same key has stored.
    pub duplicate: bool,
}

/// Which events are read. The default is all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The first sequence.
    pub from: u64,
    /// The one after the last.
    pub to: u64,
    /// At most this many.
    pub limit: u64,
    /// The newest first.
    pub backwards: bool,
    /// Only what had been recorded by then, included.
    pub as_of: Option<AsOf>,
    /// In a named edition: as if the stream diverged there. Its own events count only if they
    /// follow without a gap.
    pub diverging_at: Option<u64>,
}

impl Default for Reading {
    fn default() -> Self {
        Reading { from: 0, to: u64::MAX, limit: u64::MAX, backwards: false, as_of: None, diverging_at: None }
    }
}

/// Which events match. All conditions must hold.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Criteria {
    /// The edition; empty or `main` for the main one.
    pub edition: String,
    /// The domain of the stream.
    pub domain: Option<String>,
    /// The event type.
    pub event_type: Option<String>,
    /// One of the tags.
    pub tag: Option<String>,
    /// Only what had been recorded by then, included.
    pub as_of: Option<AsOf>,
    /// The newest first.
    pub backwards: bool,
}

/// The state of a stream after one of its events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    /// The sequence of that event.
    pub sequence: u64,
    /// How long it is kept.
    pub retention: Retention,
    /// The state.
    pub state: Vec<u8>,
}
