//! Small stores, built from the parts of the format and the same each time: the start of all
//! mutations.

use super::noise;
use annals::StreamId;
use annals::Timestamp;
use annals::fs::{File, Fs, MemFs, Mode};
use annals::internals::directory::{index_name, segment_name};
use annals::internals::format::commit::frames;
use annals::internals::format::draft::{Draft, FramePlace, Limits};
use annals::internals::format::frame::{self, Chain};
use annals::internals::format::head::{self, DurableMark};
use annals::internals::format::segment_header::SegmentHeader;
use annals::internals::format::{put, snapshot_file};
use annals::internals::index::memory::Memory;
use annals::internals::repeat_tag;
use annals::internals::segment::{START, Segment};
use annals::internals::snapshots::{Directory, SnapshotSettings};
use annals::internals::system::System;
use annals::{ContentType, NewEvent};
use annals_testkit::EventRecord;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

/// A commit of as many events as this code does not write: see [`odd`].
const ODD: u64 = 7;

/// A commit of no events is a system record: it only sets the tracked position of an upstream, or
/// deletes an edition, or a domain of it.
pub(super) const TRACKED: (u64, usize) = (0, 0);
pub(super) const DELETED: (u64, usize) = (0, 1);
pub(super) const DELETED_IN_A: (u64, usize) = (0, 2);

/// What is tracked.
pub(super) const UPSTREAM: &str = "inbox";
/// The edition that is deleted.
pub(super) const EDITION: &str = "what-if";

/// Streams that are written to.
pub(super) const STREAMS: [&str; 4] = ["a-1", "b-2", "b-%FF", "a-1@what-if"];

/// A store as its files.
#[derive(Default)]
pub(super) struct Built {
    pub files: BTreeMap<String, Vec<u8>>,
    /// All events that were written.
    pub records: Vec<EventRecord>,
    /// Where the edition was deleted, or which domain of it.
    pub deletions: Vec<(u64, Option<&'static str>)>,
    /// Where the position of the upstream is tracked, and its value.
    pub tracked: Vec<(u64, u64)>,
    /// The position after all.
    pub end: u64,
    /// HEAD says that all below this position is durable.
    pub proven: u64,
}

impl Built {
    /// The events that are visible if the log ends before this position.
    pub(super) fn live(&self, end: u64) -> Vec<EventRecord> {
        let is_gone = |record: &EventRecord| {
            self.deletions.iter().any(|(position, domain)| {
                (record.position..end).contains(position)
                    && record.stream.edition() == Some(EDITION)
                    && domain.is_none_or(|domain| domain == record.stream.domain())
            })
        };
        self.records.iter().filter(|record| record.position < end && !is_gone(record)).cloned().collect()
    }

    /// The tracked position of the upstream if the log ends before this position.
    pub(super) fn tracked(&self, end: u64) -> Option<u64> {
        self.tracked.iter().rev().find(|(position, _)| *position < end).map(|(_, upto)| *upto)
    }

    /// Adds a positions file, and snapshots of the last events of two streams.
    pub(super) fn with_caches(mut self) -> Built {
        self.files.insert("POSITIONS".into(), super::positions::sample());
        let root = Path::new("store");
        let settings = SnapshotSettings { kept: 1, sync: false, reserve: 0 };
        for stream in [stream(0), stream(3)] {
            let fs = MemFs::new();
            let directory = Directory::new(Arc::new(fs.clone()), root.to_owned(), settings);
            let record = self.live(self.end).into_iter().rfind(|record| record.stream == stream);
            let record = record.expect("a stream with events");
            let state = state(&record);
            let head = snapshot_file::SnapshotHeader {
                store: first_header().store,
                created_at: 0,
                sequence: record.sequence,
                position: record.position,
                recorded_at: record.recorded_at.as_nanos(),
                fingerprint: 0,
                codec: snapshot_file::Codec::Bytes,
                retention: snapshot_file::Retention::Default,
                state_len: state.len() as u64,
            };
            directory.put(&head, stream.key(), &state, &|_| false).expect("memory takes any file");
            let listed = directory.list(stream.key()).expect("memory");
            let path = listed[0].path.strip_prefix(root).expect("it is in the store");
            let bytes = snapshot_file::encode(&head, stream.key(), &state);
            self.files.insert(path.to_string_lossy().into_owned(), bytes);
        }
        self
    }
}

/// The state of a snapshot after this event.
pub(super) fn state(record: &EventRecord) -> Vec<u8> {
    format!("{} {} {}", record.stream, record.sequence, record.position).repeat(3).into_bytes()
}

/// How a store has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    /// Closed: HEAD knows all, and all segments have an index.
    Closed,
    /// The process died: HEAD knows of the last roll, and zeros follow the last commit.
    Killed,
}

/// A header that a segment of the same store can have.
pub(super) fn first_header() -> SegmentHeader {
    SegmentHeader {
        store: *b"annals fuzz seed",
        number: 1,
        first_position: 0,
        salt: 0x5A17_5A17,
        base_time: 1_000,
        previous_digest: 0,
        previous_len: 0,
    }
}

pub(super) fn stream(n: usize) -> StreamId {
    STREAMS[n % STREAMS.len()].parse().expect("a good name")
}

/// An event that has all fields, some, or none: by the bits of a number.
pub(super) fn event(number: u64, len: usize) -> NewEvent<'static> {
    let has = |bit: u64| number >> bit & 1 == 1;
    let mut event = NewEvent::with_data(["Placed", "Paid", "Shipped"][number as usize % 3], noise(number, len));
    if has(0) {
        event = event.tag(format!("n:{}", number % 5)).tag("all");
    }
    if has(1) {
        event = event.correlation_id("workflow").causation_id("cause").id(Uuid::from_u128(number.into()));
    }
    if has(2) {
        event = event.metadata(noise(!number, 9)).occurred_at(Timestamp::from_nanos(number as i64 - 3));
    }
    if has(3) {
        event = event.content_type(ContentType::Named("x/y".into())).schema_version(number as u32);
    }
    event
}

/// Puts a file with these bytes into a file system.
pub(super) fn put_file(fs: &MemFs, path: &Path, bytes: &[u8]) -> Arc<dyn File> {
    let file = fs.open(path, Mode::Create).expect("memory takes any file");
    file.write_at(0, bytes).expect("memory takes any bytes");
    file
}

/// A store whose segments hold commits of this many events, with data of this many bytes each.
/// Commits of two events have an idempotency key.
pub(super) fn store(segments: &[&[(u64, usize)]], ended: Ended) -> Built {
    let mut built = Built::default();
    let (mut next, mut next_own) = (BTreeMap::new(), BTreeMap::new());
    let mut header = first_header();
    let mut number = 0;
    for (n, commits) in segments.iter().enumerate() {
        let newest = n + 1 == segments.len();
        let mask = header.mask();
        let (mut bytes, mut chain, mut memory) = (header.encode().to_vec(), Chain::start(&header), Memory::default());
        for &(events, len) in *commits {
            let mut draft = Draft::new(Limits { event: 1 << 20, commit: 1 << 20 });
            for event_number in number..number + events {
                let stream = stream(event_number as usize);
                let mut event = event(event_number, len);
                if events == ODD {
                    repeat_tag(&mut event, "t", 1_000);
                }
                let pushed = draft.push(stream.key(), &event, events == ODD);
                pushed.expect("the events are good");
                let sequence = next.entry(stream).or_insert(0);
                let at = (event_number - number) as usize;
                assert!(draft.set_sequences(at..at + 1, *sequence));
                *sequence += 1;
            }
            number += events;
            let mut attributes = Vec::new();
            if events == 2 {
                frame::put_attribute(&mut attributes, frame::IDEMPOTENCY_KEY, format!("key {number}").as_bytes());
            }
            if events == 0 {
                let domain = (len == DELETED_IN_A.1).then_some("a");
                let system = match (events, len) {
                    TRACKED => System::Tracking,
                    _ => System::Deletion { edition: EDITION, domain },
                };
                let event = NewEvent::new(system.event_type(), "");
                draft.push(&system.key(), &event, false).expect("it is good");
                let sequence = next_own.entry(system.key()).or_insert(0);
                assert!(draft.set_sequences(0..1, *sequence));
                *sequence += 1;
                if system == System::Tracking {
                    frame::put_tracking(&mut attributes, UPSTREAM, number);
                    built.tracked.push((chain.next_position, number));
                } else {
                    built.deletions.push((chain.next_position, domain));
                    // It is begun again.
                    next.retain(|stream: &StreamId, _| {
                        stream.edition() != Some(EDITION) || domain.is_some_and(|domain| domain != stream.domain())
                    });
                }
            }
            if !attributes.is_empty() {
                draft.set_attributes(&attributes);
            }
            let offset = bytes.len() as u64;
            let recorded_at = chain.recorded_at + 10;
            let durable_upto = chain.next_position;
            let place = FramePlace { segment: &header, mask, offset, chain: &chain, recorded_at, durable_upto };
            let (frame, behind) = draft.finish(&place);
            for frame in frames(&frame, offset, mask) {
                let added = frame.records(Path::new(""), |event| memory.add(&event));
                added.expect("the records are good");
            }
            bytes.extend_from_slice(&frame);
            chain = behind;
        }
        let end = bytes.len() as u64;
        built.records.extend(records(&header, &bytes));
        built.end = chain.next_position;
        if !newest || ended == Ended::Closed {
            let index = memory.encode(&header, end, chain);
            built.files.insert(index_name(header.number), index);
        }
        if newest {
            let (clean, upto, len) = match ended {
                Ended::Closed => (true, chain.next_position, end),
                Ended::Killed => (false, header.first_position, START),
            };
            let digest = if clean { chain.mark(&header) } else { header.previous_digest };
            built.files.insert("HEAD".into(), head(&header, clean, (upto, digest), len));
            built.proven = upto;
        } else {
            let seal = chain.seal(&header).frame(chain.previous, chain.recorded_at, chain.next_position, mask, end);
            bytes.extend_from_slice(&seal);
        }
        let len = bytes.len() as u64;
        if ended == Ended::Killed {
            bytes.resize(bytes.len() + 600, 0);
        }
        built.files.insert(segment_name(header.number), bytes);
        header = SegmentHeader {
            number: header.number + 1,
            first_position: chain.next_position,
            salt: header.salt + 1,
            base_time: chain.recorded_at,
            previous_digest: chain.digest,
            previous_len: len,
            ..header
        };
    }
    built
}

fn head(segment: &SegmentHeader, clean: bool, (position, digest): (u64, u64), len: u64) -> Vec<u8> {
    let mut bytes = vec![0; head::LEN];
    let older = DurableMark {
        clean: false,
        store: segment.store,
        generation: 6,
        segment: 1,
        position: 0,
        len: START,
        digest: 0,
    };
    let newer = DurableMark { clean, generation: 7, segment: segment.number, position, len, digest, ..older };
    for head in [older, newer] {
        put(&mut bytes, head.slot_at() as usize, &head.encode());
    }
    bytes
}

/// The events of a segment, read one by one from where its frames say that they are.
fn records(header: &SegmentHeader, bytes: &[u8]) -> Vec<EventRecord> {
    let path = Path::new("x.seg");
    let segment = Segment::new(path.to_owned(), *header, put_file(&MemFs::new(), path, bytes), false);
    segment.set_readable(bytes.len() as u64);
    let mut found = Vec::new();
    for frame in frames(&bytes[START as usize..], START, header.mask()) {
        let shown = frame.records(path, |event| {
            if System::of(event.key).is_some() {
                return;
            }
            let event = segment.event_at(event.offset).expect("the records are good");
            found.push(EventRecord::of(&event));
        });
        shown.expect("the records are good");
    }
    found
}

/// The small store that most seeds are made from: three segments, with short and long commits.
pub(super) fn small(ended: Ended) -> Built {
    store(&[&[(1, 20), (2, 40), (3, 0)], &[(2, 9000), (1, 10)], &[(1, 5), (2, 30), (1, 300)]], ended)
}

/// A store with an edition that was deleted and begun again, more than once, and an upstream.
pub(super) fn edited(ended: Ended) -> Built {
    let first = [(5, 20), TRACKED, DELETED_IN_A, (3, 40)];
    let second = [(5, 10), DELETED, (2, 30), (1, 0), (4, 300)];
    store(&[&first, &second, &[TRACKED, (3, 5), (1, 10), DELETED_IN_A, (4, 9)]], ended)
}

/// A store that this code does not write, but accepts: an event has the same tag many times, and
/// one is in a wide record.
pub(super) fn odd() -> Built {
    store(&[&[(1, 10), (ODD, 20)], &[(1, 20)]], Ended::Closed)
}
