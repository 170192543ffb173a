//! The evidence in an index: it has the offsets of the events of each stream, even if the segment
//! itself is damaged.

use super::{Loss, LostEvents};
use crate::format::segment_header::SegmentHeader;
use crate::fs::Fs;
use crate::index::file::{IndexBroken, IndexFile};
use crate::index::term::{self, Term, TermKind};
use crate::stream::StreamId;
use crate::system::System;
use std::collections::HashMap;
use std::ops::Range;
use std::path::Path;

/// What is known without the index.
pub(super) struct KnownBytes {
    /// The ranges of intact bytes, sorted.
    pub intact: Vec<Range<usize>>,
    /// Whether all of the segment is lost.
    pub whole: bool,
    /// Length of the file in bytes; events at later offsets are part of the loss at its end.
    pub size: u64,
}

/// Names the lost events of each loss in a segment, as far as the index of the segment is intact
/// and has them.
pub(super) fn name_lost_events(
    fs: &dyn Fs,
    dir: &Path,
    segment: &SegmentHeader,
    known: &KnownBytes,
    losses: &mut [Loss],
) {
    let Some(index) = IndexFile::open(fs, dir, segment, false) else { return };
    // In a segment that already had lost events, the n-th event of a stream need not have the n-th
    // sequence.
    let lossy = index.find(Term::stream(&System::Lost.key()).bytes()).map_or(true, |entry| entry.is_some());
    if lossy {
        return;
    }
    // Offsets of the newest deletions in this segment: earlier events of their editions are not
    // lost, but deleted, and their sequences have been assigned again.
    let mut deletions: HashMap<Vec<u8>, u32> = HashMap::new();
    let listed = index.entries(&[TermKind::Deletion as u8], |entry| {
        let last = index.posted(&entry)?.last;
        deletions.insert(entry.term, last);
        Ok(())
    });
    if let Err(IndexBroken) = listed {
        return;
    }
    let deleted_upto = |stream: &StreamId| {
        let edition = stream.edition()?;
        let newest =
            |domain: &str| deletions.get(Term::new(TermKind::Deletion, Some(edition), domain.as_bytes()).bytes());
        newest("").max(newest(stream.domain())).copied()
    };
    let mut found: Vec<(Vec<LostEvents>, u64)> = losses.iter().map(|_| (Vec::new(), 0)).collect();
    let mut offsets = Vec::new();
    let listed = index.entries(&[TermKind::Stream as u8], |entry| {
        let Some(stream) = StreamId::from_key(&term::stream_key(&entry.term)) else { return Ok(()) };
        offsets.clear();
        index.offsets(&entry, &(0..u64::MAX), &mut offsets)?;
        let deleted_upto = deleted_upto(&stream);
        let count = offsets.len() as u64;
        for (&offset, n) in offsets.iter().zip(0..) {
            let is_deleted = deleted_upto.is_some_and(|upto| offset < upto);
            // The value of the entry is the sequence after the last event.
            let sequence =
                entry.value.checked_add(n).and_then(|after| after.checked_sub(count)).filter(|_| !is_deleted);
            let before = known.intact.partition_point(|bytes| bytes.start <= offset as usize);
            if before > 0 && known.intact[before - 1].contains(&(offset as usize)) {
                continue;
            }
            let offset = u64::from(offset).min(known.size.saturating_sub(1));
            let at = losses.partition_point(|loss| !known.whole && loss.damage.bytes.end <= offset);
            let Some((streams, count)) = found.get_mut(at) else { continue };
            *count += 1;
            let Some(sequence) = sequence else { continue };
            match streams.last_mut() {
                Some(last) if last.stream == stream && last.sequences.end == sequence => last.sequences.end += 1,
                _ => streams.push(LostEvents { stream: stream.clone(), sequences: sequence..sequence + 1 }),
            }
        }
        Ok(())
    });
    if let Err(IndexBroken) = listed {
        return;
    }
    let (covered, _) = index.covered();
    for (loss, (streams, count)) in losses.iter_mut().zip(found) {
        let positions = &loss.damage.positions;
        loss.all_known =
            count == positions.end - positions.start && (known.whole || loss.damage.bytes.end <= covered || count > 0);
        loss.streams = streams;
    }
}
