//! What is intact in the directory of a store that may be damaged, in order of positions, and what
//! is lost: the common core of salvage, repair, and reads around damage.
//!
//! Files are identified by their content, not by their names. An [`Inventory`] examines each once,
//! and finds the *slots*: the segments that the log had, each with the files that hold it and the
//! positions that it must hold. A slot is then [rebuilt](Inventory::rebuild) on its own, so that
//! memory is bounded by one segment: whole commits first, then, where a commit is damaged, each of
//! its events whose own checksum holds. Positions between them are lost. [`Builder`] makes a
//! segment of all that.

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

/// Positions whose events are lost, and what is known of them. If the newest segment is missing,
/// the number of its events is unknown: the positions of the last loss then have no end
/// (`u64::MAX`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// The damaged bytes, and the reason.
    pub damage: Damage,
    /// The lost events of each stream, as far as the index of the segment tells.
    pub streams: Vec<LostEvents>,
    /// The index names everything that is lost here: no other stream is affected.
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
    /// Their sequences.
    pub sequences: Range<u64>,
}

/// A part of a segment, in order of positions.
#[derive(Clone, Debug)]
pub(crate) enum SlotPart {
    /// A commit that is intact.
    Commit { file: usize, at: usize, header: FrameHeader },
    /// Events of a damaged commit: recorded at one time, at consecutive positions.
    Events { file: usize, first: u64, recorded_at: i64, records: Vec<Range<usize>>, attributes: Range<usize> },
    /// Positions whose events are lost.
    Lost { positions: Range<u64> },
    /// An implied deletion of an edition, which is lost.
    Implied { position: u64, deletion: Implied },
}

/// The content of a segment slot.
#[derive(Debug, Default)]
pub(crate) struct RebuiltSegment {
    /// The bytes of the files that parts are in, and the headers that they have or must have had.
    pub files: Vec<Vec<u8>>,
    pub sources: Vec<SegmentHeader>,
    pub parts: Vec<SlotPart>,
    pub losses: Vec<Loss>,
    /// Bytes that were left out at the end of the log: no whole commit, and not proven to have been
    /// acknowledged.
    pub torn: Option<Damage>,
    /// What else may be lost.
    pub notices: Vec<String>,
}

impl RebuiltSegment {
    /// Removes everything after a position, at which a commit begins.
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
