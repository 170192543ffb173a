//! Reconstruction: finds what is intact and what is lost in the directory of a store that may be
//! damaged, in order of positions. Salvage, repair, and reads around damage share it.
//!
//! Files are identified by their content, not by their names. An [`Inventory`] examines each file
//! once and finds the *slots*: the segments that the log had, each with the files that hold it and
//! the positions that it must hold. Each slot is then [rebuilt](Inventory::rebuild) on its own, so
//! that memory is bounded by one segment. Whole commits come first; of a damaged commit, each event
//! whose own checksum matches is kept. The positions between them are lost. A [`Builder`] makes a
//! segment from these parts.

mod build;
mod carve;
mod consistency;
mod evidence;
mod files;
mod inventory;
mod order;
mod overlay;
mod parts;
pub(crate) mod readable;
mod select;

pub(crate) use build::{Builder, draft};
pub(crate) use consistency::Implied;
pub use files::LeftOut;
pub(crate) use files::read;
pub(crate) use inventory::Inventory;
use overlay::Overlay;

use crate::error::Damage;
use crate::format::frame::FrameHeader;
use crate::format::segment_header::SegmentHeader;
use crate::stream::StreamId;
use std::ops::Range;

/// Positions whose events are lost, and what is known about them. If the end of the log is unknown,
/// for example because the newest segment is missing, the positions of the last loss end at
/// `u64::MAX`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// The damaged bytes, and the reason.
    pub damage: Damage,
    /// The lost events of each stream, as far as the index of the segment names them.
    pub streams: Vec<LostEvents>,
    /// Whether the index names every event that is lost here, so that no other stream is affected.
    pub all_known: bool,
}

impl Loss {
    fn new(damage: Damage) -> Self {
        Loss { damage, streams: Vec::new(), all_known: false }
    }
}

/// Lost events of one stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostEvents {
    /// The stream.
    pub stream: StreamId,
    /// The sequences of the lost events.
    pub sequences: Range<u64>,
}

/// A part of a segment, in order of positions.
#[derive(Clone, Debug)]
pub(crate) enum SlotPart {
    /// An intact commit.
    Commit { file: usize, at: usize, header: FrameHeader },
    /// Intact events of a damaged commit, at consecutive positions and with the same recorded time.
    Events { file: usize, first: u64, recorded_at: i64, records: Vec<Range<usize>>, attributes: Range<usize> },
    /// Positions whose events are lost.
    Lost { positions: Range<u64> },
    /// A lost deletion of an edition that other events imply.
    Implied { position: u64, deletion: Implied },
}

/// The content of a segment slot.
#[derive(Debug, Default)]
pub(crate) struct RebuiltSegment {
    /// The bytes of the files that hold the parts, and the headers that these files have or must
    /// have had.
    pub files: Vec<Vec<u8>>,
    pub sources: Vec<SegmentHeader>,
    pub parts: Vec<SlotPart>,
    pub losses: Vec<Loss>,
    /// Bytes that were left out at the end of the log: they are not a complete commit, and no
    /// evidence proves that they were acknowledged.
    pub torn: Option<Damage>,
    /// What else may be lost.
    pub notices: Vec<String>,
}

impl RebuiltSegment {
    /// Removes everything from position `end` on, where a commit begins.
    fn end_at(&mut self, end: u64) {
        self.parts.retain(|part| part.positions().start < end);
        if let Some(SlotPart::Lost { positions }) = self.parts.last_mut() {
            positions.end = positions.end.min(end);
        }
        self.losses.retain(|loss| loss.damage.positions.start < end);
        if let Some(last) = self.losses.last_mut() {
            last.damage.positions.end = last.damage.positions.end.min(end);
        }
    }
}
