//! The consistency check: which events contradict the events before them, and which deletions of
//! editions are lost.
//!
//! A store opens only if the sequences of each stream rise. In a damaged store, two things break
//! that rule. Bytes of an earlier use of the file can look like events of the log: such events are
//! dropped, and count as lost. And when the deletion of an edition is lost, a stream begins again
//! for no visible reason: the deletion is then put back, at the first lost position after the
//! events that it deleted.

use super::{LostEvents, SlotPart};
use crate::format::frame::HEADER;
use crate::format::record;
use crate::index::deletions::covers;
use crate::stream::{StreamId, continues, expected_sequence, split_key};
use crate::system::System;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

/// A lost deletion that other events imply.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Implied {
    pub edition: String,
    /// `None`: all of it.
    pub domain: Option<String>,
    /// In the stream of such records.
    pub sequence: u64,
    /// It can have had no other position. Otherwise it may replace an event, which is then lost.
    pub certain: bool,
}

/// What the check has found.
#[derive(Default, Debug)]
pub(super) struct Findings {
    /// Positions of events that contradict others.
    pub bad: BTreeSet<u64>,
    /// Lost deletions that are put back, by position.
    pub implied: BTreeMap<u64, Implied>,
    /// Sequences that streams are missing.
    pub missing: Vec<LostEvents>,
}

/// The newest event of a stream.
#[derive(Clone, Copy)]
struct StreamReached {
    next: u64,
    position: u64,
}

#[derive(Default)]
pub(super) struct SequenceCheck {
    streams: HashMap<Box<[u8]>, StreamReached>,
    /// Positions that are lost.
    lost: Vec<Range<u64>>,
    /// Events are lost, now or since an earlier salvage: streams may continue with a later
    /// sequence than the next one.
    lossy: bool,
    pub findings: Findings,
}

impl SequenceCheck {
    /// Adds positions that are lost.
    pub(super) fn lose(&mut self, positions: Range<u64>) {
        self.lossy = true;
        self.lost.push(positions);
    }

    /// Adds the next event: its position, the key of its stream, its sequence.
    pub(super) fn note(&mut self, position: u64, key: &[u8], sequence: u64) {
        let system = System::of(key);
        self.lossy |= system == Some(System::Lost);
        let deletion =
            if let Some(System::Deletion { edition, domain }) = system { Some((edition, domain)) } else { None };
        let mut expected = self.expected(key, sequence);
        if sequence < expected && self.imply_deletion(position, key) {
            expected = self.expected(key, sequence);
        }
        if let Some((edition, domain)) = deletion.filter(|_| sequence < expected) {
            // A deletion that was put back has its sequence, so it gets the next one.
            self.findings.bad.insert(position);
            let (edition, domain) = (edition.to_owned(), domain.map(str::to_owned));
            self.imply(position, key, Implied { edition, domain, sequence: expected, certain: true });
            return;
        }
        if !continues(sequence, expected, self.lossy) {
            return self.refuse(position);
        }
        if let Some(stream) = StreamId::from_key(key).filter(|_| sequence > expected) {
            self.findings.missing.push(LostEvents { stream, sequences: expected..sequence });
        }
        if let Some((edition, domain)) = deletion {
            self.streams.retain(|key, _| !covers(edition, domain, key));
        }
        let next = sequence.saturating_add(1);
        match self.streams.get_mut(key) {
            Some(reached) => *reached = StreamReached { next, position },
            None => {
                self.streams.insert(key.into(), StreamReached { next, position });
            }
        }
    }

    /// Drops the event at this position: it counts as lost.
    pub(super) fn refuse(&mut self, position: u64) {
        self.findings.bad.insert(position);
        self.lose(position..position + 1);
    }

    fn expected(&self, key: &[u8], sequence: u64) -> u64 {
        let next = |key: &[u8]| self.streams.get(key).map(|reached| reached.next);
        expected_sequence(key, sequence, next(key), next)
    }

    /// Puts back the deletion that must have preceded an event of a named edition whose sequence
    /// its stream already had. Returns `false` if no lost position can have been its.
    fn imply_deletion(&mut self, position: u64, key: &[u8]) -> bool {
        let parts = split_key(key).and_then(|parts| Some((parts.edition?.to_owned(), parts.domain.to_owned())));
        let (Some((edition, domain)), Some(last)) = (parts, self.streams.get(key)) else { return false };
        let free = |at: &u64| !self.findings.implied.contains_key(at);
        let mut later = self.lost.iter().flat_map(|range| range.start.max(last.position + 1)..range.end.min(position));
        let Some(at) = later.find(free) else { return false };
        let certain = later.find(free).is_none();
        let deletion = System::Deletion { edition: &edition, domain: Some(&domain) }.key();
        let sequence = self.streams.get(&*deletion).map_or(0, |reached| reached.next);
        self.imply(at, &deletion, Implied { edition, domain: Some(domain), sequence, certain });
        true
    }

    /// Puts a deletion at a position; `key` is that of the deletion's stream.
    fn imply(&mut self, at: u64, key: &[u8], deletion: Implied) {
        self.streams.retain(|key, _| !covers(&deletion.edition, deletion.domain.as_deref(), key));
        self.streams.insert(key.into(), StreamReached { next: deletion.sequence.saturating_add(1), position: at });
        self.findings.implied.insert(at, deletion);
    }
}

/// The records of a part: their positions, and their bytes in its file.
pub(super) fn records(files: &[Vec<u8>], part: &SlotPart) -> Vec<(u64, Range<usize>)> {
    match part {
        SlotPart::Lost { .. } | SlotPart::Implied { .. } => Vec::new(),
        SlotPart::Events { first, records, .. } => (*first..).zip(records.iter().cloned()).collect(),
        SlotPart::Commit { file, at, header } => {
            let bytes = &files[*file];
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

/// A part without the events at some positions: what is left of it, in pieces.
pub(super) fn without(files: &[Vec<u8>], part: SlotPart, bad: &BTreeSet<u64>) -> Vec<SlotPart> {
    let (file, recorded_at, first) = match &part {
        SlotPart::Commit { file, header, .. } => (*file, header.recorded_at, header.first_position),
        SlotPart::Events { file, recorded_at, first, .. } => (*file, *recorded_at, *first),
        SlotPart::Lost { .. } | SlotPart::Implied { .. } => return vec![part],
    };
    let all = records(files, &part);
    if bad.range(first..first + all.len() as u64).next().is_none() {
        return vec![part];
    }
    let mut pieces: Vec<SlotPart> = Vec::new();
    for (position, bytes) in all.into_iter().filter(|(position, _)| !bad.contains(position)) {
        match pieces.last_mut() {
            Some(SlotPart::Events { first, records, .. }) if *first + records.len() as u64 == position => {
                records.push(bytes)
            }
            _ => pieces.push(SlotPart::Events {
                file,
                first: position,
                recorded_at,
                records: vec![bytes],
                attributes: 0..0,
            }),
        }
    }
    pieces
}
