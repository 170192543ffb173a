//! The same changes of a closed store, salvaged: every event whose own bytes are unchanged comes
//! back equal, at its position; nothing else does; and the report names exactly the one that was
//! hit.
//!
//! The copy is made in memory. The store itself cannot be written to.

use crate::damage::{Base, Change, Patched, options};
use annals::fs::{Fs, MemFs};
use annals::offline::{Kind, Salvage, dump_in};
use annals::{Event, Timestamp, Uuid};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::PathBuf;

/// All fields of the events of these stores.
#[derive(Clone, PartialEq, Eq, Debug)]
struct EventRecord {
    position: u64,
    stream: String,
    sequence: u64,
    event_type: String,
    id: Uuid,
    recorded_at: Timestamp,
    correlation_id: Option<String>,
    tags: Vec<String>,
    data: Vec<u8>,
}

impl EventRecord {
    fn of(event: &Event) -> EventRecord {
        EventRecord {
            position: event.position(),
            stream: event.stream().to_string(),
            sequence: event.sequence(),
            event_type: event.event_type().to_owned(),
            id: event.id(),
            recorded_at: event.recorded_at(),
            correlation_id: event.correlation_id().map(str::to_owned),
            tags: event.tags().map(str::to_owned).collect(),
            data: event.data().to_vec(),
        }
    }
}

/// What a salvage must bring back.
pub struct Expected {
    records: Vec<EventRecord>,
    /// The location of each.
    places: BTreeMap<PathBuf, Vec<(Range<usize>, u64)>>,
}

impl Expected {
    pub fn of(base: &Base) -> Expected {
        let fs = Patched::new(base.files.clone(), None);
        let store = options(1 << 20).file_system(fs.clone()).open_read_only("store").expect("a good store");
        let records =
            store.read_all().into_iter().map(|event| EventRecord::of(&event.expect("a good store"))).collect();
        let mut places: BTreeMap<PathBuf, Vec<(Range<usize>, u64)>> = BTreeMap::new();
        dump_in(&fs, "store", |piece| {
            if piece.kind != Kind::Commit {
                return;
            }
            let (bytes, at) = (&base.files[&piece.path], piece.offset as usize);
            let attributes = u32::from_le_bytes(bytes[at + 20..at + 24].try_into().expect("four bytes"));
            let mut record = at + 56 + attributes as usize;
            let first = piece.first_position.expect("a commit has one");
            for position in first..first + u64::from(piece.events) {
                let end = record + len(&bytes[record..]);
                places.entry(piece.path.clone()).or_default().push((record..end, position));
                record = end;
            }
        })
        .expect("a good store");
        Expected { records, places }
    }

    /// Salvages the changed store. Returns the outcome.
    pub fn check(&self, base: &Base, change: &Change) -> &'static str {
        let fs = Patched::new(base.files.clone(), Some(change.clone()));
        let hit = self.places.get(&change.file).and_then(|places| {
            let n = places.partition_point(|(bytes, _)| bytes.end <= change.at);
            places.get(n).filter(|(bytes, _)| bytes.contains(&change.at)).map(|(_, position)| *position)
        });
        let report = Salvage::new().run_in(&fs, "store", "out").unwrap_or_else(|error| panic!("{error}"));
        let lost: Vec<u64> = report.losses.iter().flat_map(|loss| loss.damage.positions.clone()).collect();
        assert_eq!(lost, hit.into_iter().collect::<Vec<_>>(), "what the report says is lost");
        assert_eq!((report.positions, report.lost()), (self.records.len() as u64, lost.len() as u64));
        let out: MemFs = fs.out.clone();
        assert!(out.list("out".as_ref()).is_ok_and(|entries| !entries.is_empty()), "no copy");
        let store = options(1 << 20).file_system(out).open("out").expect("the copy opens");
        let opened = store.open_report();
        assert!(opened.clean && opened.cut.is_none() && opened.notices.is_empty(), "{opened:?}");
        let mut expected = self.records.iter().filter(|record| Some(record.position) != hit);
        for event in store.read_all() {
            let event = event.unwrap_or_else(|error| panic!("the copy cannot be read: {error}"));
            assert_eq!(Some(&EventRecord::of(&event)), expected.next(), "a wrong event");
        }
        assert_eq!(expected.next(), None, "an event that was not hit is missing");
        if lost.is_empty() { "nothing lost" } else { "one event lost, and told" }
    }
}

/// Bytes of the record at the start of `bytes`, whose length is before it as a varint.
fn len(bytes: &[u8]) -> usize {
    let field = bytes.iter().position(|byte| byte & 0x80 == 0).expect("a good record") + 1;
    field + bytes[..field].iter().rev().fold(0, |value, byte| value << 7 | usize::from(byte & 0x7F))
}
