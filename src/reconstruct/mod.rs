//! What is intact in the directory of a store that may be damaged, in order of positions, and what
//! is lost: the common core of salvage, repair, and reading around damage.
//!
//! Files are taken by what is in them and not by their names. A [`Inventory`] looks at each once,
//! and finds the *places*: the segments that the log had, each with the files that hold it and the
//! positions that belong into it. A place is then [rebuilt](Inventory::rebuild) on its own, so that
//! memory is bounded by one segment: whole commits first, then, where a commit is not intact, each
//! of its events whose own checksum holds. Positions between them are lost. [`Builder`] makes a
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

/// Positions whose events are lost, and what is known of them. If the newest segment is gone,
/// nothing tells how many events it held: the positions of the last loss are then without end
/// (`u64::MAX`).
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loss {
    /// Where they stood, and why they are not there.
    pub damage: Damage,
    /// What was lost of which streams, as far as the index of the segment tells.
    pub streams: Vec<LostEvents>,
    /// The index names all that is lost here: no other stream is touched.
    pub all_known: bool,
}

impl Loss {
    fn new(damage: Damage) -> Self {
        Loss { damage, streams: Vec::new(), all_known: false }
    }
}

/// Events of one stream that are lost.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LostEvents {
    /// The stream.
    pub stream: StreamId,
    /// Their sequences.
    pub sequences: Range<u64>,
}

/// A part of a place, in order of positions.
#[derive(Clone, Debug)]
pub(crate) enum SlotPart {
    /// A commit that is intact.
    Commit { file: usize, at: usize, header: FrameHeader },
    /// Events of a commit that is not: recorded at one time, at positions that follow one another.
    Events { file: usize, first: u64, recorded_at: i64, records: Vec<Range<usize>>, attributes: Range<usize> },
    /// Positions whose events are lost.
    Lost { positions: Range<u64> },
    /// A deletion of an edition that is lost, and must have been there.
    Implied { position: u64, deletion: Implied },
}

/// What a place holds.
#[derive(Debug, Default)]
pub(crate) struct RebuiltSegment {
    /// The bytes of the files that parts are in, and the headers that they have or must have had.
    pub files: Vec<Vec<u8>>,
    pub sources: Vec<SegmentHeader>,
    pub parts: Vec<SlotPart>,
    pub losses: Vec<Loss>,
    /// What was left out of the end of the log: bytes that are no whole commit, and that nothing
    /// proves to have been acknowledged.
    pub torn: Option<Damage>,
    /// What else may be lost.
    pub notices: Vec<String>,
}

impl RebuiltSegment {
    /// Forgets what stands after a position, at which a commit begins.
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
