//! Renumbering: assigns positions and sequences without gaps.

use crate::error::{Error, Result};
use crate::event::NewEvent;
use crate::format::event::{Block, Event};
use crate::format::frame::HEADER;
use crate::format::record;
use crate::format::segment_header::SegmentHeader;
use crate::index::deletions::covers;
use crate::reconstruct::{Builder, Implied, RebuiltSegment, SlotPart, draft};
use crate::stream::main_key;
use crate::system::System;
use std::collections::HashMap;
use std::sync::Arc;

/// The numbers of a stream: its next sequence, and where gaps were closed.
#[derive(Default)]
struct Numbers {
    /// The old and the new sequence of the first event of the stream, and of the first event after
    /// each gap.
    runs: Vec<(u64, u64)>,
    old_next: u64,
    next: u64,
}

impl Numbers {
    fn begin(old: u64, new: u64) -> Self {
        Numbers { runs: vec![(old, new)], old_next: old, next: new }
    }

    fn give(&mut self, old: u64) -> u64 {
        let new = self.next;
        if old != self.old_next || self.runs.is_empty() {
            self.runs.push((old, new));
        }
        (self.old_next, self.next) = (old.saturating_add(1), new + 1);
        new
    }

    /// Returns the number of events whose old sequence is lower than `old`.
    fn below(&self, old: u64) -> u64 {
        let run = self.runs.partition_point(|&(first, _)| first < old);
        let Some(&(first, new)) = run.checked_sub(1).map(|run| &self.runs[run]) else { return 0 };
        let end = self.runs.get(run).map_or(self.next, |&(_, new)| new);
        (new + (old - first)).min(end)
    }
}

#[derive(Default)]
pub(super) struct Renumber {
    streams: HashMap<Box<[u8]>, Numbers>,
}

impl Renumber {
    /// Adds a part with the next positions and sequences. Ids that were derived from a position are
    /// stored with their events, so that they do not change.
    pub(super) fn add(&mut self, builder: &mut Builder, rebuilt: &RebuiltSegment, part: &SlotPart) -> Result<()> {
        let (file, recorded_at, records, attributes) = match part {
            SlotPart::Lost { .. } => return Ok(()),
            SlotPart::Implied { deletion, .. } => return self.delete(builder, deletion),
            SlotPart::Commit { file, at, header } => {
                let body = at + HEADER;
                let attributes = body..body + header.attributes_len as usize;
                let records = split(&rebuilt.files[*file], attributes.end..body + header.body_len as usize);
                (*file, header.recorded_at, records, attributes)
            }
            SlotPart::Events { file, recorded_at, records, attributes, .. } => {
                (*file, *recorded_at, records.clone(), attributes.clone())
            }
        };
        let (bytes, source) = (&rebuilt.files[file], &rebuilt.sources[file]);
        let mut draft = draft();
        for record in records {
            let Some(event) = event(&bytes[record], source) else { continue };
            if System::of(event.key()) == Some(System::Lost) {
                continue;
            }
            let sequence = self.sequence(event.key(), event.sequence());
            let at = draft.len();
            draft.push(event.key(), &event.to_new(), sequence > u32::MAX.into())?;
            if !draft.set_sequences(at..at + 1, sequence) {
                return Err(Error::limit("events of a stream", usize::MAX, u32::MAX as usize));
            }
        }
        if draft.len() > 0 {
            draft.set_attributes(&bytes[attributes]);
            builder.commit(draft, recorded_at, builder.chain.next_position);
        }
        Ok(())
    }

    /// Adds an implied deletion.
    fn delete(&mut self, builder: &mut Builder, deletion: &Implied) -> Result<()> {
        let system = System::Deletion { edition: &deletion.edition, domain: deletion.domain.as_deref() };
        let sequence = self.sequence(&system.key(), deletion.sequence);
        let mut draft = draft();
        draft.push(&system.key(), &NewEvent::new(system.event_type(), ""), sequence > u32::MAX.into())?;
        if draft.set_sequences(0..1, sequence) {
            builder.commit(draft, builder.chain.recorded_at, builder.chain.next_position);
        }
        Ok(())
    }

    fn sequence(&mut self, key: &[u8], old: u64) -> u64 {
        if let Some(System::Deletion { edition, domain }) = System::of(key) {
            self.streams.retain(|key, _| !covers(edition, domain, key));
        }
        if let Some(numbers) = self.streams.get_mut(key) {
            return numbers.give(old);
        }
        let main = main_key(key);
        // In a named edition, a stream begins where it diverges from the main one.
        let begin = match self.streams.get(main).filter(|_| main.len() < key.len()) {
            Some(shared) => shared.below(old),
            None => 0,
        };
        let mut numbers = Numbers::begin(old, begin);
        let new = numbers.give(old);
        self.streams.insert(key.into(), numbers);
        new
    }
}

/// Returns the ranges of the consecutive records in `all`.
fn split(bytes: &[u8], all: std::ops::Range<usize>) -> Vec<std::ops::Range<usize>> {
    let (mut at, mut records) = (all.start, Vec::new());
    while let Some(len) = record::len(&bytes[at..all.end]).filter(|&len| len <= all.end - at) {
        records.push(at..at + len);
        at += len;
    }
    records
}

/// Returns the event of a verified record of this segment.
fn event(record: &[u8], segment: &SegmentHeader) -> Option<Event> {
    let block = Arc::new(Block { bytes: record.to_vec(), id_seed: segment.id_seed() });
    Event::new(&block, &record::decode(record, 0, record.len())?, segment)
}
