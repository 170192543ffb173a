//! The contract of an event store, as scenarios that any backend can be run against.
//!
//! [`EventStore`], [`PositionStore`] and [`SnapshotStore`] are what a backend does, in plain types.
//! Each function of [`events`], [`editions`], [`positions`], [`snapshots`] and so on is a scenario:
//! it takes a new, empty backend, and panics with what the contract wants if the backend does
//! otherwise. [`Store`](annals::Store) implements the traits, and [`contract!`](crate::contract!)
//! makes tests of the scenarios:
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

/// What the contract must be able to tell of a backend's errors.
pub trait BackendError: Debug {
    /// Whether the stream was not as the writer expected. Nothing was stored then, and the writer
    /// may decide again.
    fn is_conflict(&self) -> bool;
}

/// Streams of events: what the kinds `events`, `writers`, `editions` and `durability` are about.
///
/// What a call gives is what was stored when it began, or a little later; what a call has stored,
/// every later one sees.
pub trait EventStore: Sync {
    /// What can go wrong.
    type Error: BackendError;

    /// Stores all of it, or nothing. The expectation of each part is held against the stream as
    /// those before it leave it.
    ///
    /// With a key that is not empty, a repeat stores nothing and checks no expectation: if one of
    /// the streams has a commit with this key that says the same (streams, types, data and tags in
    /// the same order), the result is that of the first one, marked as a duplicate.
    ///
    /// # Errors
    ///
    /// A conflict, if a stream is not as expected; any error, if an earlier commit with this key
    /// says something else.
    fn commit(&self, appends: &[Append], key: &str) -> Result<Stored, Self::Error>;

    /// The events of a stream, as its edition shows them.
    ///
    /// # Errors
    ///
    /// Those of the backend. That there is nothing is none.
    fn read(&self, stream: &StreamId, reading: &Reading) -> Result<Vec<RecordedEvent>, Self::Error>;

    /// The events of all streams of all editions, by position. `from` and `to` are positions then.
    ///
    /// # Errors
    ///
    /// Those of the backend.
    fn read_all(&self, reading: &Reading) -> Result<Vec<RecordedEvent>, Self::Error>;

    /// The events that fit, by position.
    ///
    /// # Errors
    ///
    /// Those of the backend.
    fn query(&self, criteria: &Criteria) -> Result<Vec<RecordedEvent>, Self::Error>;

    /// The events with this correlation id, of all domains and editions, by stream, each in order.
    /// The empty id finds nothing.
    ///
    /// # Errors
    ///
    /// Those of the backend.
    fn correlated(&self, id: &str) -> Result<BTreeMap<StreamId, Vec<RecordedEvent>>, Self::Error>;

    /// The sequence that the next event of a stream will have: 0 if it has none.
    ///
    /// # Errors
    ///
    /// Those of the backend.
    fn next_sequence(&self, stream: &StreamId) -> Result<u64, Self::Error>;

    /// The named editions that have events of their own, and how many.
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
    /// The main edition, by either name, is refused.
    fn delete_edition(&self, edition: &str, domain: Option<&str>) -> Result<u64, Self::Error>;
}

/// How far handlers have come in streams: what the kind `positions` is about. Whether the stream
/// has events does not matter.
pub trait PositionStore: Sync {
    /// What can go wrong.
    type Error: Debug;

    /// The sequence that was put, or `None` if none was, which is not the same as 0.
    ///
    /// # Errors
    ///
    /// Those of the backend.
    fn position(&self, handler: &str, stream: &StreamId) -> Result<Option<u64>, Self::Error>;

    /// Says that a handler has come to this sequence. A lower one than that before is ignored.
    ///
    /// # Errors
    ///
    /// Those of the backend. That the sequence is lower is none.
    fn put_position(&self, handler: &str, stream: &StreamId, sequence: u64) -> Result<(), Self::Error>;

    /// The same, but may go back.
    ///
    /// # Errors
    ///
    /// Those of the backend.
    fn reset_position(&self, handler: &str, stream: &StreamId, sequence: u64) -> Result<(), Self::Error>;

    /// Forgets what a handler has put for a stream, if it has.
    ///
    /// # Errors
    ///
    /// Those of the backend. That there was nothing is none.
    fn delete_position(&self, handler: &str, stream: &StreamId) -> Result<(), Self::Error>;

    /// All that a handler has put.
    ///
    /// # Errors
    ///
    /// Those of the backend.
    fn positions_of(&self, handler: &str) -> Result<BTreeMap<StreamId, u64>, Self::Error>;
}

/// States of streams: what the kind `snapshots` is about. It goes with the events, as a state is
/// that after one of them.
pub trait SnapshotStore: EventStore {
    /// Stores the state of a stream after the event with this sequence; one that is there for this
    /// sequence is replaced. Then others go, as their retention says.
    ///
    /// # Errors
    ///
    /// A sequence that the stream has no event for is refused.
    fn put_snapshot(
        &self,
        stream: &StreamId,
        sequence: u64,
        retention: Retention,
        state: &[u8],
    ) -> Result<(), Self::Error>;

    /// The one with the highest sequence.
    ///
    /// # Errors
    ///
    /// Those of the backend. That there is none is no error.
    fn latest_snapshot(&self, stream: &StreamId) -> Result<Option<Snapshot>, Self::Error>;

    /// The one with the highest sequence that is not above this one.
    ///
    /// # Errors
    ///
    /// Those of the backend.
    fn snapshot_at(&self, stream: &StreamId, sequence: u64) -> Result<Option<Snapshot>, Self::Error>;

    /// The one with the highest sequence whose event was recorded at this time or before.
    ///
    /// # Errors
    ///
    /// Those of the backend.
    fn snapshot_at_time(&self, stream: &StreamId, time: Timestamp) -> Result<Option<Snapshot>, Self::Error>;

    /// The sequences of those that there are, lowest first, and how long each is kept.
    ///
    /// # Errors
    ///
    /// Those of the backend.
    fn snapshots_of(&self, stream: &StreamId) -> Result<Vec<(u64, Retention)>, Self::Error>;

    /// Removes all of a stream. Returns their number.
    ///
    /// # Errors
    ///
    /// Those of the backend. That there is none is no error.
    fn delete_snapshots(&self, stream: &StreamId) -> Result<u64, Self::Error>;
}

/// What a writer says: an event that has no place yet.
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
    /// What the event belongs to.
    pub correlation_id: Option<String>,
    /// What caused it.
    pub causation_id: Option<String>,
    /// When it happened, if the writer says so.
    pub occurred_at: Option<Timestamp>,
}

impl EventData {
    /// One that has only type and data.
    pub fn new(event_type: &str, data: impl Into<Vec<u8>>) -> EventData {
        EventData { event_type: event_type.to_owned(), data: data.into(), ..EventData::default() }
    }
}

/// What a reader gets: a fact, and its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedEvent {
    /// The stream in which it was stored; of an edition's stream, what it shares is of the main
    /// one.
    pub stream: StreamId,
    /// Its number in the stream.
    pub sequence: u64,
    /// Its number in the store.
    pub position: u64,
    /// When it was stored.
    pub recorded_at: Timestamp,
    /// What the writer said.
    pub fact: EventData,
}

/// One stream's part of a commit.
#[derive(Clone, Debug)]
pub struct Append {
    /// The stream.
    pub stream: StreamId,
    /// What it must look like.
    pub expected: Expected,
    /// What is added. Without any, only the expectation is checked.
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

/// Which events are to be read. The default is all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// The first sequence.
    pub from: u64,
    /// The one after the last.
    pub to: u64,
    /// At most so many.
    pub limit: u64,
    /// The newest first.
    pub backwards: bool,
    /// Only what had been recorded then, it included.
    pub as_of: Option<AsOf>,
    /// Of a stream in a named edition: as if it diverged there. What it has of its own counts only
    /// if it goes on there without a gap.
    pub diverging_at: Option<u64>,
}

impl Default for Reading {
    fn default() -> Self {
        Reading { from: 0, to: u64::MAX, limit: u64::MAX, backwards: false, as_of: None, diverging_at: None }
    }
}

/// Which events are wanted. All that is said must hold.
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
    /// Only what had been recorded then, it included.
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
