//! The parts of a rebuilt segment: whole commits, single events of damaged commits, and the lost
//! positions between them.

use super::SlotPart;
use super::select::{FragmentKind, Item, Picked};
use std::ops::Range;

impl SlotPart {
    /// Returns the index of the file that holds the part; `usize::MAX` for a part without bytes.
    pub(super) fn file(&self) -> usize {
        match self {
            SlotPart::Commit { file, .. } | SlotPart::Events { file, .. } => *file,
            SlotPart::Lost { .. } | SlotPart::Implied { .. } => usize::MAX,
        }
    }

    pub(super) fn positions(&self) -> Range<u64> {
        match self {
            SlotPart::Commit { header, .. } => header.first_position..header.end_position(),
            SlotPart::Events { first, records, .. } => *first..first + records.len() as u64,
            SlotPart::Lost { positions } => positions.clone(),
            SlotPart::Implied { position, .. } => *position..position + 1,
        }
    }

    /// Returns the bytes of the part in that file.
    pub(super) fn bytes(&self, files: &[Vec<u8>]) -> Option<Range<usize>> {
        match self {
            SlotPart::Commit { file, at, header } => {
                Some(*at..(at + header.frame_len() as usize).min(files[*file].len()))
            }
            SlotPart::Events { records, .. } => Some(records.first()?.start..records.last()?.end),
            SlotPart::Lost { .. } | SlotPart::Implied { .. } => None,
        }
    }
}

/// Adds an item to the parts. Consecutive events with the same recorded time stay in one commit.
pub(super) fn take(parts: &mut Vec<SlotPart>, item: &Item, picked: &Picked) {
    let broken = picked.broken_at(item.positions.start).filter(|broken| broken.file == item.file);
    match item.kind {
        FragmentKind::Commit(header) => parts.push(SlotPart::Commit { file: item.file, at: item.bytes.start, header }),
        FragmentKind::Event { recorded_at: time } => {
            let begins = broken.is_some_and(|broken| broken.positions.start == item.positions.start);
            if let Some(SlotPart::Events { file, first, recorded_at, records, .. }) = parts.last_mut()
                && (*file, *recorded_at, *first + records.len() as u64) == (item.file, time, item.positions.start)
                && !begins
            {
                records.push(item.bytes.clone());
                return;
            }
            // The attributes of a commit go with the first of its intact events.
            let told = broken.is_some_and(|broken| {
                let within = |part: &&SlotPart| part.positions().start >= broken.positions.start;
                parts.iter().rev().take_while(within).any(|part| matches!(part, SlotPart::Events { .. }))
            });
            let attributes = broken.filter(|_| !told).map_or(0..0, |broken| broken.attributes.clone());
            let records = vec![item.bytes.clone()];
            parts.push(SlotPart::Events {
                file: item.file,
                first: item.positions.start,
                recorded_at: time,
                records,
                attributes,
            });
        }
    }
}
