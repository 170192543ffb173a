//! Events as plain records, and reading a store in every way that must give the same ones.

use annals::{ContentType, Event, Events, Read, Store, StreamId, Timestamp, Uuid};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// Bytes that print as their length and how they begin.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Bytes(pub Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = &self.0[..self.0.len().min(12)];
        write!(f, "{} bytes {head:02X?}", self.0.len())
    }
}

/// All fields of an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EventRecord {
    pub position: u64,
    pub stream: StreamId,
    pub sequence: u64,
    pub event_type: String,
    pub id: Uuid,
    pub recorded_at: Timestamp,
    pub occurred_at: Option<Timestamp>,
    pub correlation_id: Option<String>,
    pub causation_id: Option<String>,
    pub tags: Vec<String>,
    pub metadata: Bytes,
    pub data: Bytes,
    pub content_type: ContentType,
    pub schema_version: u32,
}

impl EventRecord {
    pub fn of(event: &Event) -> EventRecord {
        let stream = event.stream();
        assert!(event.is_in(&stream));
        assert_eq!((event.domain(), event.root(), event.edition()), (stream.domain(), stream.root(), stream.edition()));
        EventRecord {
            position: event.position(),
            stream,
            sequence: event.sequence(),
            event_type: event.event_type().to_owned(),
            id: event.id(),
            recorded_at: event.recorded_at(),
            occurred_at: event.occurred_at(),
            correlation_id: event.correlation_id().map(str::to_owned),
            causation_id: event.causation_id().map(str::to_owned),
            tags: event.tags().map(str::to_owned).collect(),
            metadata: Bytes(event.metadata().to_vec()),
            data: Bytes(event.data().to_vec()),
            content_type: event.content_type().clone(),
            schema_version: event.schema_version(),
        }
    }
}

/// Compares, and on a difference shows the first one, not all events.
#[track_caller]
pub fn assert_same(found: &[EventRecord], expected: &[EventRecord], context: &dyn fmt::Debug) {
    for (n, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found, expected, "event {n}; {context:?}");
    }
    assert_eq!(found.len(), expected.len(), "number of events; {context:?}");
}

pub fn records(read: Read) -> Vec<EventRecord> {
    drain(read.into_iter())
}

/// The rest of a read: some events returned, some lent.
pub fn drain(mut events: Events) -> Vec<EventRecord> {
    let mut found = Vec::new();
    loop {
        let event = match found.len() % 5 {
            0 | 3 => events.next().map(|event| EventRecord::of(&event.unwrap())),
            _ => events.advance().unwrap().map(EventRecord::of),
        };
        match event {
            Some(record) => found.push(record),
            None => return found,
        }
    }
}

/// Returns all events of a store that is not written to, read forwards and backwards, as a whole
/// and stream by stream, and found the same each time. The store's own figures agree.
pub fn all_records(store: &Store) -> Vec<EventRecord> {
    all_records_but(store, &BTreeSet::new())
}

/// Does the same for a store that has lost the events at these positions.
pub fn all_records_but(store: &Store, lost: &BTreeSet<u64>) -> Vec<EventRecord> {
    let all = records(store.read_all());
    check_order_but(&all, lost);
    let len = (all.len() + lost.len()) as u64;
    assert_eq!((store.len(), store.is_empty(), store.head()), (len, len == 0, len.checked_sub(1)));
    assert!(store.losses().unwrap().into_iter().flatten().eq(lost.iter().copied()), "losses");
    let mut backwards = records(store.read_all().backwards());
    backwards.reverse();
    assert_same(&backwards, &all, &"the whole store backwards");

    let mut streams: BTreeMap<StreamId, Vec<EventRecord>> = BTreeMap::new();
    for record in &all {
        streams.entry(record.stream.clone()).or_default().push(record.clone());
    }
    let next = |records: &[EventRecord]| records.last().map_or(0, |last| last.sequence + 1);
    for (stream, expected) in &streams {
        assert_same(&records(store.read(stream)), expected, stream);
        let mut backwards = records(store.read(stream).backwards());
        backwards.reverse();
        assert_same(&backwards, expected, stream);
        let info = store.stream(stream).unwrap().unwrap();
        assert_eq!((&info.stream, info.next_sequence), (stream, next(expected)));
    }
    let told: Vec<_> = store.streams("").unwrap().into_iter().map(|info| (info.stream, info.next_sequence)).collect();
    let found: Vec<_> = streams.iter().map(|(stream, records)| (stream.clone(), next(records))).collect();
    assert_eq!(told, found, "streams");
    let stats = store.stats().unwrap();
    assert_eq!((stats.events, stats.streams), (all.len() as u64, streams.len() as u64));
    assert_eq!(stats.segments[0].first_position, 0);
    assert!(stats.segments.is_sorted_by(|a, b| a.first_position <= b.first_position && a.path < b.path), "{stats:?}");
    assert!(stats.segments.iter().all(|segment| segment.bytes <= segment.file_bytes), "{stats:?}");
    all
}

/// Positions and sequences are dense from 0 on, and times never decrease.
#[track_caller]
pub fn check_order(all: &[EventRecord]) {
    check_order_but(all, &BTreeSet::new());
}

/// Checks the same for a store that has lost the events at these positions. A stream lacks at most
/// as many sequences as there are lost positions between its events.
#[track_caller]
pub fn check_order_but(all: &[EventRecord], lost: &BTreeSet<u64>) {
    // The next sequence and the next position of each stream.
    let mut next: BTreeMap<&StreamId, (u64, u64)> = BTreeMap::new();
    let mut positions = (0u64..).filter(|position| !lost.contains(position));
    for record in all {
        assert_eq!(positions.next(), Some(record.position), "positions are dense");
        let (sequence, position) = next.entry(&record.stream).or_default();
        let most = *sequence + lost.range(*position..record.position).count() as u64;
        assert!((*sequence..=most).contains(&record.sequence), "sequences of {} are dense", record.stream);
        (*sequence, *position) = (record.sequence + 1, record.position + 1);
    }
    assert!(all.is_sorted_by_key(|record| record.recorded_at), "times decrease");
}
