//! Small stores, made of the parts of the format and the same each time: what the mutations begin with.

use super::facts::Fact;
use super::noise;
use crate::event::{ContentType, NewEvent};
use crate::format::draft::{Draft, Limits, Place};
use crate::format::frame::{self, Chain};
use crate::format::head::{self, Head};
use crate::format::put;
use crate::format::segment_header::SegmentHeader;
use crate::fs::{File, Fs, MemFs, Mode};
use crate::index::{file, memory::Memory};
use crate::segment::scan::frames;
use crate::segment::{START, Segment, file_name};
use crate::stream::StreamId;
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use uuid::Uuid;

/// A commit of so many events is one that this code does not write: see [`odd`].
const ODD: u64 = 7;

/// Streams that are written to.
pub(super) const STREAMS: [&str; 4] = ["a-1", "b-2", "b-%FF", "a-1@what-if"];

/// A store as its files.
pub(super) struct Built {
    pub files: BTreeMap<String, Vec<u8>>,
    /// The events of all segments that came with a seal or are known to HEAD.
    pub facts: Vec<Fact>,
}

/// How a store came to its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Ended {
    /// Closed: HEAD knows all, and all segments have an index.
    Closed,
    /// The process died: HEAD knows of the last roll, and zeros stand behind the last commit.
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

/// An event that has all that an event can have, some of it, or nothing: by the bits of a number.
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

/// A store whose segments hold commits of so many events, with data of so many bytes each.
pub(super) fn store(segments: &[&[(u64, usize)]], ended: Ended) -> Built {
    let mut built = Built { files: BTreeMap::new(), facts: Vec::new() };
    let mut next = BTreeMap::new();
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
                    event.tags.extend(vec!["t".into(); 1_000]);
                }
                let pushed = draft.push(stream.key(), &event, events == ODD);
                pushed.expect("the events are good");
                let sequence = next.entry(stream).or_insert(0);
                let at = (event_number - number) as usize;
                assert!(draft.set_sequences(at..at + 1, *sequence));
                *sequence += 1;
            }
            number += events;
            if events == 2 {
                let mut attributes = Vec::new();
                frame::put_attribute(&mut attributes, frame::IDEMPOTENCY_KEY, format!("key {number}").as_bytes());
                draft.set_attributes(&attributes);
            }
            let offset = bytes.len() as u64;
            let recorded_at = chain.recorded_at + 10;
            let durable_upto = chain.next_position;
            let place = Place { segment: &header, mask, offset, chain: &chain, recorded_at, durable_upto };
            let (frame, behind) = draft.finish(&place);
            for frame in frames(&frame, offset, mask) {
                let added = frame.records(Path::new(""), |event| memory.add(&event));
                added.expect("the records are good");
            }
            bytes.extend_from_slice(&frame);
            chain = behind;
        }
        let end = bytes.len() as u64;
        built.facts.extend(facts(&header, &bytes));
        if !newest || ended == Ended::Closed {
            let index = memory.encode(&header, end, chain);
            built.files.insert(file::file_name(header.number), index);
        }
        if newest {
            let (clean, upto, len) = match ended {
                Ended::Closed => (true, chain.next_position, end),
                Ended::Killed => (false, header.first_position, START),
            };
            built.files.insert("HEAD".into(), head(&header, clean, upto, len));
        } else {
            let seal = chain.seal(&header).frame(chain.previous, chain.recorded_at, chain.next_position, mask, end);
            bytes.extend_from_slice(&seal);
        }
        let len = bytes.len() as u64;
        if ended == Ended::Killed {
            bytes.resize(bytes.len() + 600, 0);
        }
        built.files.insert(file_name(header.number), bytes);
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

fn head(segment: &SegmentHeader, clean: bool, position: u64, len: u64) -> Vec<u8> {
    let mut bytes = vec![0; head::LEN];
    let older = Head { clean: false, store: segment.store, generation: 6, segment: 1, position: 0, len: START };
    let newer = Head { clean, generation: 7, segment: segment.number, position, len, ..older };
    for head in [older, newer] {
        put(&mut bytes, head.slot_at() as usize, &head.encode());
    }
    bytes
}

/// The events of a segment, read one by one from where its frames say that they stand.
fn facts(header: &SegmentHeader, bytes: &[u8]) -> Vec<Fact> {
    let path = Path::new("x.seg");
    let segment = Segment::new(path.to_owned(), *header, put_file(&MemFs::new(), path, bytes), false);
    segment.set_readable(bytes.len() as u64);
    let mut found = Vec::new();
    for frame in frames(&bytes[START as usize..], START, header.mask()) {
        let shown = frame.records(path, |event| {
            let event = segment.event_at(event.offset).expect("the records are good");
            found.push(Fact::of(&event));
        });
        shown.expect("the records are good");
    }
    found
}

/// The small store that most seeds are taken from: three segments, with short and long commits.
pub(super) fn small(ended: Ended) -> Built {
    store(&[&[(1, 20), (2, 40), (3, 0)], &[(2, 9000), (1, 10)], &[(1, 5), (2, 30), (1, 300)]], ended)
}

/// A store that this code does not write, and would not mind if somebody else had: an event has the same tag many times, and one stands in a wide record.
pub(super) fn odd() -> Built {
    store(&[&[(1, 10), (ODD, 20)], &[(1, 20)]], Ended::Closed)
}
