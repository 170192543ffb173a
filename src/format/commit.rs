//! A commit as readers see it: a frame whose checksums hold, and the records in it, decoded in
//! place.

use super::checksum::Mask;
use super::extras::Extras;
use super::frame::{self, EVENTS, FrameHeader, HEADER, SEAL, Seal};
use super::record;
use super::segment_header::SegmentHeader;
use crate::error::{Error, Result};
use crate::stream;
use std::path::Path;

/// A frame whose checksums have been verified.
pub struct Frame<'a> {
    pub offset: u64,
    pub header: FrameHeader,
    pub bytes: &'a [u8],
}

/// One event of a verified frame, borrowed from its bytes.
pub struct Recorded<'a> {
    /// Offset of the frame and of the record in the file.
    pub frame: u64,
    pub offset: u64,
    /// The position minus the first position of the segment.
    pub ordinal: u32,
    pub position: u64,
    pub sequence: u64,
    pub recorded_at: i64,
    pub key: &'a [u8],
    /// The name of its edition, empty in the main edition and for system records; the name of its
    /// domain.
    pub edition: &'a [u8],
    pub domain: &'a [u8],
    pub event_type: &'a [u8],
    /// The idempotency key of the commit.
    pub idempotency_key: Option<&'a str>,
    /// The tracked position that the commit sets, and its upstream.
    pub tracking: Option<(&'a str, u64)>,
    /// Ids, tags and other fields that few events have.
    pub extras: Extras<'a>,
}

/// Called with events: the number of the segment, and the event.
pub type Each<'a> = &'a mut dyn FnMut(u64, &Recorded<'_>);

pub fn unsupported(path: &Path, found: &str) -> Error {
    Error::UnsupportedFormat { path: path.to_owned(), found: found.into() }
}

/// The reason when the records of an intact frame cannot be decoded.
const BROKEN: &str = "the records of a commit break the grammar";

impl Frame<'_> {
    /// Returns the seal, if this frame is one that can be decoded.
    pub fn seal(&self) -> Option<Seal> {
        match self.header.kind {
            SEAL => Seal::decode(&self.bytes[HEADER..self.header.table_at() as usize]),
            _ => None,
        }
    }

    /// Calls `each` with the start and the end of each record in `bytes`, and its position, until
    /// it returns `false`. Returns `false` if it did, or if the body does not consist of as many
    /// whole records as the header says.
    fn each_record(&self, mut each: impl FnMut(usize, usize, u64) -> bool) -> bool {
        let end = self.header.table_at() as usize;
        let mut at = HEADER + self.header.attributes_len as usize;
        for n in 0..self.header.events {
            let Some(len) = record::len(&self.bytes[at..end]).filter(|&len| len <= end - at) else { return false };
            if !each(at, at + len, self.header.first_position + u64::from(n)) {
                return false;
            }
            at += len;
        }
        at == end
    }

    /// Returns whether all records are intact, and their positions and times are those of the
    /// frame.
    ///
    /// # Errors
    ///
    /// [`Error::UnsupportedFormat`] if an intact attribute or record is from a newer version.
    pub fn records_are_intact(&self, segment: &SegmentHeader, mask: Mask, path: &Path) -> Result<bool> {
        frame::check_attributes(self.attributes(), path)?;
        let time = self.header.recorded_at.wrapping_sub(segment.base_time) as u64;
        let mut known = true;
        let hold = self.each_record(|start, end, position| {
            let intact = record::verify(&self.bytes[start..end], mask, self.offset + start as u64);
            let parts = record::decode(self.bytes, start, end);
            // Intact, and not decodable: no torn write looks like that.
            known &= !intact || parts.is_some();
            let in_place =
                |parts: record::RecordParts| parts.ordinal == position - segment.first_position && parts.time == time;
            intact && parts.is_some_and(in_place)
        });
        match known {
            true => Ok(hold),
            false => Err(unsupported(path, "an event that this version cannot read")),
        }
    }

    fn attributes(&self) -> &[u8] {
        &self.bytes[HEADER..][..self.header.attributes_len as usize]
    }

    /// Calls `each` with each event, in order of positions.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if the frame is intact and its records do not follow the grammar.
    pub fn records(&self, path: &Path, mut each: impl FnMut(Recorded<'_>)) -> Result<()> {
        let idempotency_key = frame::idempotency_key(self.attributes());
        let tracking = frame::tracking(self.attributes());
        let mut last = record::Beginning::default();
        let (mut before, mut names): (&[u8], _) = (&[], None);
        let sound = self.each_record(|start, end, position| {
            let Some(parts) = record::decode_next(self.bytes, start, end, &mut last) else { return false };
            let key = parts.layout.key(self.bytes);
            if key != before {
                (before, names) = (key, stream::names(key));
            }
            let (edition, domain) = names.as_ref().map_or_else(Default::default, |n| (n.edition, n.domain));
            each(Recorded {
                frame: self.offset,
                offset: self.offset + start as u64,
                ordinal: parts.ordinal as u32,
                position,
                sequence: parts.sequence,
                recorded_at: self.header.recorded_at,
                key,
                edition,
                domain,
                event_type: parts.layout.event_type(self.bytes),
                idempotency_key,
                tracking,
                extras: parts.layout.extras(self.bytes),
            });
            true
        });
        if sound {
            return Ok(());
        }
        let bytes = self.offset..self.offset + self.bytes.len() as u64;
        Err(Error::damaged(path, bytes, self.header.first_position..self.header.end_position(), BROKEN))
    }
}

/// Iterates over the frames with events of a group that has just been written, and so is intact.
pub fn frames(group: &[u8], mut offset: u64, mask: Mask) -> impl Iterator<Item = Frame<'_>> {
    let mut rest = group;
    let all = std::iter::from_fn(move || {
        let header = FrameHeader::decode(rest, mask, offset)?;
        let (bytes, after) = rest.split_at_checked(header.frame_len() as usize)?;
        let frame = Frame { offset, header, bytes };
        rest = after;
        offset += bytes.len() as u64;
        Some(frame)
    });
    all.filter(|frame| frame.header.kind == EVENTS)
}
