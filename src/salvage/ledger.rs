//! What is known of streams while events are copied: which sequence comes next in each, and which are missing.

use crate::error::Damage;
use crate::format::frame::HEADER;
use crate::format::record;
use crate::index::deletions::covers;
use crate::mend::{Loss, LostEvents, Mended, Part};
use crate::stream::{StreamId, main_key};
use crate::system::System;
use std::collections::HashMap;
use std::ops::Range;

#[derive(Default)]
pub(super) struct Ledger {
    /// The next sequence of each stream.
    streams: HashMap<Box<[u8]>, u64>,
    events: u64,
    missing: Vec<LostEvents>,
    /// Something is lost, now or in an earlier salvage: streams may go on with a later sequence than the next.
    lossy: bool,
}

impl Ledger {
    /// Takes note of what a place holds. Events that contradict those before them, which would keep a store from opening, are lost.
    pub(super) fn sift(&mut self, mended: &mut Mended) {
        let parts = std::mem::take(&mut mended.parts);
        for part in parts {
            self.lossy |= matches!(part, Part::Lost { .. });
            let records = records_of(mended, &part);
            let mut bad = Vec::new();
            for (position, bytes) in &records {
                if !self.note(&mended.files[file_of(&part)][bytes.clone()]) {
                    bad.push(*position);
                }
            }
            match bad.is_empty() {
                true => mended.parts.push(part),
                false => self.without(mended, &part, &records, &bad),
            }
        }
    }

    /// Takes note of an event. `false` if it cannot come next in its stream.
    fn note(&mut self, bytes: &[u8]) -> bool {
        let Some(parts) = record::decode(bytes, 0, bytes.len()) else { return false };
        let (key, next) = (parts.key(bytes), parts.sequence.saturating_add(1));
        let system = System::of(key);
        self.lossy |= system == Some(System::Lost);
        if let Some(System::Deletion { edition, domain }) = system {
            self.streams.retain(|key, _| !covers(edition, domain, key));
        }
        let main = main_key(key);
        let expected = match self.streams.get(key) {
            Some(&expected) => expected,
            None if main.len() < key.len() => self.streams.get(main).map_or(0, |&next| next.min(parts.sequence)),
            None => 0,
        };
        let fits = parts.sequence == expected || (self.lossy && parts.sequence > expected);
        if !fits {
            return false;
        }
        if let Some(stream) = StreamId::from_key(key).filter(|_| parts.sequence > expected) {
            self.missing.push(LostEvents { stream, sequences: expected..parts.sequence });
        }
        self.streams.insert(key.into(), next);
        self.events += u64::from(system != Some(System::Lost));
        true
    }

    /// Adds a part without some of its events.
    fn without(&mut self, mended: &mut Mended, part: &Part, records: &[(u64, Range<usize>)], bad: &[u64]) {
        self.lossy = true;
        let (file, recorded_at) = match part {
            Part::Commit { file, header, .. } => (*file, header.recorded_at),
            Part::Events { file, recorded_at, .. } => (*file, *recorded_at),
            Part::Lost { .. } => return,
        };
        for (position, bytes) in records {
            if bad.contains(position) {
                let damage = Damage {
                    path: mended.paths.get(file).cloned().unwrap_or_default(),
                    bytes: bytes.start as u64..bytes.end as u64,
                    positions: *position..position + 1,
                    why: "its sequence contradicts the events before it".into(),
                };
                mended.parts.push(Part::Lost { positions: *position..position + 1 });
                mended.losses.push(Loss::new(damage));
                continue;
            }
            match mended.parts.last_mut() {
                Some(Part::Events { first, records, recorded_at: time, .. })
                    if *first + records.len() as u64 == *position && *time == recorded_at && *first >= records_start(part) =>
                {
                    records.push(bytes.clone());
                }
                _ => mended.parts.push(Part::Events {
                    file,
                    first: *position,
                    recorded_at,
                    records: vec![bytes.clone()],
                    attributes: 0..0,
                }),
            }
        }
    }

    /// Number of events and of streams, and what streams lack.
    pub(super) fn finish(self) -> (u64, u64, Vec<LostEvents>) {
        let streams = self.streams.keys().filter(|key| System::of(key).is_none()).count();
        (self.events, streams as u64, self.missing)
    }
}

fn file_of(part: &Part) -> usize {
    match part {
        Part::Commit { file, .. } | Part::Events { file, .. } => *file,
        Part::Lost { .. } => 0,
    }
}

fn records_start(part: &Part) -> u64 {
    match part {
        Part::Commit { header, .. } => header.first_position,
        Part::Events { first, .. } => *first,
        Part::Lost { positions } => positions.start,
    }
}

/// The records of a part: their positions, and their bytes in its file.
fn records_of(mended: &Mended, part: &Part) -> Vec<(u64, Range<usize>)> {
    match part {
        Part::Lost { .. } => Vec::new(),
        Part::Events { first, records, .. } => (*first..).zip(records.iter().cloned()).collect(),
        Part::Commit { file, at, header } => {
            let bytes = &mended.files[*file];
            let end = at + header.table_at() as usize;
            let mut at = at + HEADER + header.attributes_len as usize;
            let mut records = Vec::with_capacity(header.events as usize);
            for position in header.first_position..header.end_position() {
                let Some(len) = record::len(&bytes[at..end]) else { break };
                records.push((position, at..at + len));
                at += len;
            }
            records
        }
    }
}
