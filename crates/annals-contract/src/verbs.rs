//! Helpers of the scenarios, so that each is a few lines.

use super::{Append, BackendError, Criteria, EventData, EventStore, Reading, RecordedEvent, Stored};
use annals::{Expected, StreamId};
use std::fmt::Debug;
use std::ops::Range;

pub fn stream(name: &str) -> StreamId {
    name.parse().expect("the names of scenarios are sound")
}

/// A result that must not be an error.
pub trait Must<T> {
    fn must(self, what: &str) -> T;
}

impl<T, E: Debug> Must<T> for Result<T, E> {
    #[track_caller]
    fn must(self, what: &str) -> T {
        self.unwrap_or_else(|error| panic!("{what} must succeed: {error:?}"))
    }
}

/// A part of a commit, whose events have these texts as data.
pub fn part(name: &str, expected: Expected, texts: &[&str]) -> Append {
    let facts = texts.iter().map(|text| EventData::new("T", *text)).collect();
    Append { stream: stream(name), expected, facts }
}

pub fn try_append<B: EventStore>(
    store: &B,
    name: &str,
    expected: Expected,
    texts: &[&str],
) -> Result<Stored, B::Error> {
    store.commit(&[part(name, expected, texts)], "")
}

/// Appends, which must succeed. Returns the sequences.
#[track_caller]
pub fn append<B: EventStore>(store: &B, name: &str, expected: Expected, texts: &[&str]) -> Range<u64> {
    let stored = try_append(store, name, expected, texts).must("an append that is as expected");
    assert!(!stored.duplicate, "an append without a key is no duplicate");
    assert_eq!(stored.sequences.len(), 1, "one part has one range of sequences");
    stored.sequences[0].clone()
}

/// Appends events as they are.
#[track_caller]
pub fn append_events<B: EventStore>(store: &B, stream: &StreamId, facts: &[EventData]) {
    let append = Append { stream: stream.clone(), expected: Expected::Any, facts: facts.to_vec() };
    store.commit(&[append], "").must("an append without an expectation");
}

/// A commit that must meet a conflict, and must leave the store unchanged.
#[track_caller]
pub fn refused<B: EventStore>(store: &B, appends: &[Append], why: &str) {
    let before = everything(store);
    match store.commit(appends, "") {
        Ok(stored) => panic!("{why}: it must be refused, and stored {stored:?}"),
        Err(error) => assert!(error.is_conflict(), "{why}: it must be a conflict, and is {error:?}"),
    }
    assert!(everything(store) == before, "{why}: what is refused must leave nothing");
}

#[track_caller]
pub fn read<B: EventStore>(store: &B, name: &str, reading: &Reading) -> Vec<RecordedEvent> {
    store.read(&stream(name), reading).must("a read")
}

#[track_caller]
pub fn everything<B: EventStore>(store: &B) -> Vec<RecordedEvent> {
    store.read_all(&Reading::default()).must("a read of the whole store")
}

#[track_caller]
pub fn next_sequence<B: EventStore>(store: &B, name: &str) -> u64 {
    store.next_sequence(&stream(name)).must("asking for the next sequence")
}

/// The data of events, as text.
pub fn texts(events: &[RecordedEvent]) -> Vec<String> {
    events.iter().map(|event| String::from_utf8_lossy(&event.fact.data).into_owned()).collect()
}

/// The data of all events of a stream, as text. Their sequences must be 0, 1, 2 ….
#[track_caller]
pub fn texts_of<B: EventStore>(store: &B, name: &str) -> Vec<String> {
    let events = read(store, name, &Reading::default());
    dense(&events);
    texts(&events)
}

#[track_caller]
pub fn dense(events: &[RecordedEvent]) {
    let sequences: Vec<u64> = events.iter().map(|event| event.sequence).collect();
    let wanted: Vec<u64> = (0..events.len() as u64).collect();
    assert_eq!(sequences, wanted, "the sequences of a stream are 0, 1, 2 …");
}

#[track_caller]
pub fn found<B: EventStore>(store: &B, criteria: &Criteria) -> Vec<String> {
    let events = store.query(criteria).must("a query");
    assert!(events.is_sorted_by(|a, b| a.position < b.position), "what is found comes in order of positions");
    let mut backwards =
        store.query(&Criteria { backwards: true, ..criteria.clone() }).must("a query, the newest first");
    backwards.reverse();
    assert!(backwards == events, "backwards, a query finds the same");
    texts(&events)
}

/// `m0`, `m1`, … in the main stream `order-1`.
#[track_caller]
pub fn begin<B: EventStore>(store: &B, count: u64) {
    let names: Vec<String> = (0..count).map(|n| format!("m{n}")).collect();
    let texts: Vec<&str> = names.iter().map(String::as_str).collect();
    append(store, "order-1", Expected::NoStream, &texts);
}
