//! The cursor: reads the events of a segment in order of positions, in blocks.
//!
//! A block is copied out of the file and verified as a whole (by the checksums of frames, one per 8
//! KiB), which costs half of verifying each record. Frames that are larger than a block are read in
//! pieces, so that memory stays bounded.

use super::verified::{Next, Verified};
use super::{START, Segment};
use crate::error::{Error, Result};
use crate::format::checksum::{self, BLOCK, CRC};
use crate::format::event::Event;
use crate::format::frame::{EVENTS, FrameHeader, HEADER};
use crate::format::index_file::Waypoint;
use crate::format::record;
use crate::fs::Map;
use std::sync::Arc;

/// Number of bytes read at a time: they stay in the second-level cache until their events have been
/// used.
const CHUNK: usize = 64 << 10;

/// Size of a cache line in bytes.
const LINE: usize = 64;

/// A run of verified records in a block.
struct Run {
    at: usize,
    end: usize,
    /// Position of the record at `at`.
    position: u64,
}

/// A frame that is larger than a block and is read in pieces.
struct Large {
    offset: u64,
    header: FrameHeader,
    table: Vec<u8>,
    /// Number of bytes of the body that have been read and verified.
    done: u64,
}

/// The events of one segment, from a position on.
pub struct SegmentCursor {
    segment: Arc<Segment>,
    /// The start of the next frame that has not been read.
    offset: u64,
    /// The current run, and the position of its next record.
    verified: Verified,
    position: u64,
    /// The next runs of the same block, in reverse order.
    runs: Vec<Run>,
    large: Option<Large>,
    /// The start of the next block in the map. While events of this block are returned, the same
    /// bytes of the next one are prefetched: otherwise decoding and memory wait for each other.
    ahead: Option<(Arc<dyn Map>, u64)>,
    /// Positions below this one are skipped.
    from: u64,
}

impl SegmentCursor {
    /// Returns a cursor that begins with the event at `from`. It reads from `waypoint` on, which
    /// must not be after that, or from the first event of the segment.
    pub fn new(segment: Arc<Segment>, from: u64, waypoint: Option<Waypoint>) -> Result<Self> {
        let mut cursor = SegmentCursor {
            offset: START,
            verified: Verified::none(),
            position: from,
            runs: Vec::new(),
            large: None,
            ahead: None,
            from,
            segment,
        };
        if let Some(waypoint) = waypoint {
            cursor.start_at(waypoint)?;
        }
        Ok(cursor)
    }

    pub fn segment(&self) -> &Segment {
        &self.segment
    }

    /// Begins at a waypoint. In a large frame, that is the block of 8 KiB in which its record
    /// begins.
    fn start_at(&mut self, waypoint: Waypoint) -> Result<()> {
        let into = u64::from(waypoint.record).checked_sub(u64::from(waypoint.frame) + HEADER as u64);
        // An index file may be crafted with valid checksums. If its waypoint cannot be one, the
        // segment is read from the start.
        let Some(into) = into else { return Ok(()) };
        self.offset = waypoint.frame.into();
        if into < (CHUNK - HEADER) as u64 {
            return Ok(());
        }
        let header = self.segment.frame_at(self.offset)?;
        if into >= header.body_len.into() {
            self.offset = START;
            return Ok(());
        }
        let mut large = self.open_large(header)?;
        large.done = into / BLOCK as u64 * BLOCK as u64;
        let skip = (into - large.done) as usize;
        self.large = Some(large);
        let position = self.segment.header.first_position.saturating_add(waypoint.ordinal.into());
        self.fill_large(skip, position)
    }

    /// Returns the position of the next event, unless events are missing there.
    #[inline]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Returns the next event if its record has been read. Events whose keys begin with a zero are
    /// returned only with `all`.
    #[inline(always)]
    pub fn at_hand(&mut self, all: bool) -> Option<(Next, &Verified)> {
        let next = self.verified.peek().filter(|next| next.position == self.position)?;
        if !all && self.verified.key(&next).first() == Some(&0) {
            return None;
        }
        if let Some((map, after)) = &self.ahead {
            // Each line once: that of the end of the record before has been prefetched.
            let (start, end) = (self.verified.at.next_multiple_of(LINE), next.end());
            map.prefetch(after + start as u64, end.saturating_sub(start));
        }
        self.verified.pass(&next);
        self.position += 1;
        Some((next, &self.verified))
    }

    /// Returns the next event, or `None` at the end of what is readable.
    pub fn next(&mut self) -> Result<Option<Event>> {
        loop {
            if let Some((next, verified)) = self.at_hand(true) {
                return Ok(Some(verified.event(&next)));
            }
            if !self.go_on()? {
                return Ok(None);
            }
        }
    }

    /// Goes to the next records at the end of the current run. Returns `false` if there are none.
    #[inline(never)]
    fn go_on(&mut self) -> Result<bool> {
        if self.verified.is_empty()
            && let Some(run) = self.runs.pop()
        {
            self.begin(run);
        } else if self.large.is_some() && self.verified.len().is_none() {
            // The rest of a record, or the next one, is in the next piece.
            self.fill_large(0, self.position)?;
        } else if !self.verified.is_empty() {
            return Err(self.broken());
        } else if !self.fill()? {
            return Ok(false);
        }
        Ok(true)
    }

    fn begin(&mut self, run: Run) {
        (self.verified.at, self.verified.end) = (run.at, run.end);
        self.position = run.position;
        while self.position < self.from
            && let Some(len) = self.verified.len()
        {
            self.verified.at += len;
            self.position += 1;
        }
    }

    fn broken(&self) -> Error {
        self.segment.damaged(self.offset..self.segment.readable(), "an event breaks the grammar")
    }

    /// Reads the next block. Returns `false` at the end.
    fn fill(&mut self) -> Result<bool> {
        let readable = self.segment.readable();
        if self.offset >= readable {
            return Ok(false);
        }
        let mask = self.segment.mask;
        let mut bytes = self.verified.buffer(CHUNK);
        // The first frame says how much is needed: no byte of a frame that is too large is copied
        // twice.
        let left = readable - self.offset;
        self.segment.copy(self.offset, left.min(HEADER as u64) as usize, &mut bytes)?;
        let first = FrameHeader::decode(&bytes, mask, self.offset).filter(|header| header.frame_len() <= left);
        if let Some(header) = first
            && header.frame_len() > CHUNK as u64
        {
            self.large = Some(self.open_large(header)?);
            self.fill_large(0, header.first_position)?;
            return Ok(true);
        }
        let is_most = |header: &FrameHeader| header.frame_len() > CHUNK as u64 / 2;
        let wanted = first.filter(is_most).map_or(CHUNK as u64, |header| header.frame_len());
        let copied = bytes.len() as u64;
        self.segment.copy(self.offset + copied, (left.min(wanted) - copied) as usize, &mut bytes)?;
        let mut at = 0;
        while at < bytes.len() {
            let offset = self.offset + at as u64;
            let Some(header) = FrameHeader::decode(&bytes[at..], mask, offset) else {
                if bytes.len() - at >= HEADER || at == 0 {
                    return Err(self.segment.damaged(offset..readable, "the header of a commit fails its checksum"));
                }
                break;
            };
            let len = header.frame_len() as usize;
            if len > bytes.len() - at {
                if at == 0 {
                    self.large = Some(self.open_large(header)?);
                    self.fill_large(0, header.first_position)?;
                    return Ok(true);
                }
                break;
            }
            if let Err(why) = header.verify_body(&bytes[at..at + len], mask, offset) {
                return Err(self.segment.damaged(offset..offset + len as u64, why));
            }
            if header.kind == EVENTS {
                self.runs.push(Run {
                    at: at + HEADER + header.attributes_len as usize,
                    end: at + header.table_at() as usize,
                    position: header.first_position,
                });
            }
            at += len;
        }
        self.runs.reverse();
        self.offset += at as u64;
        self.look_ahead(self.offset);
        self.verified.set_block(bytes, &self.segment.header);
        Ok(true)
    }

    fn look_ahead(&mut self, offset: u64) {
        let map = self.segment.map.read();
        self.ahead = map
            .as_ref()
            .filter(|map| offset < map.mapped())
            .map(|map| (map.clone(), offset / LINE as u64 * LINE as u64));
    }

    /// Reads and verifies the table of the frame at `self.offset`, and moves the offset after the
    /// frame.
    fn open_large(&mut self, header: FrameHeader) -> Result<Large> {
        let offset = self.offset;
        let mut table = Vec::new();
        self.segment.copy(offset + header.table_at(), header.table_len() as usize, &mut table)?;
        if !table.is_empty() && !header.vouches_for(&table, self.segment.mask, offset) {
            let bytes = offset..offset + header.frame_len();
            return Err(self.segment.damaged(bytes, "the checksums of a commit fail their own"));
        }
        self.offset += header.frame_len();
        Ok(Large { offset, header, table, done: 0 })
    }

    /// Reads the next piece of a large frame: the rest of the one before, then blocks of 8 KiB. The
    /// first `skip` bytes of the piece are skipped; the next record has this position.
    fn fill_large(&mut self, skip: usize, position: u64) -> Result<()> {
        let Some(mut large) = self.large.take() else { return Err(self.broken()) };
        let kept = self.verified.left();
        let len = u64::from(large.header.body_len);
        // A record that is longer than a block is read at once.
        let wanted = record::len(kept).map_or(CHUNK, |len| len.saturating_sub(kept.len()).max(CHUNK));
        let piece = (wanted.next_multiple_of(BLOCK) as u64).min(len - large.done) as usize;
        if piece == 0 {
            return Err(self.broken());
        }
        let mut bytes = self.verified.buffer_with_left(piece);
        let start = bytes.len();
        let offset = large.offset + HEADER as u64 + large.done;
        self.segment.copy(offset, piece, &mut bytes)?;
        let fresh = &bytes[start..];
        let holds = if large.table.is_empty() {
            large.header.vouches_for(fresh, self.segment.mask, large.offset)
        } else {
            let first = (large.done / BLOCK as u64) as usize * CRC;
            checksum::table_holds(fresh, &large.table[first..first + fresh.len().div_ceil(BLOCK) * CRC])
        };
        if !holds {
            let bytes = offset..offset + piece as u64;
            return Err(self.segment.damaged(bytes, "the body of a commit fails its checksum"));
        }
        let attributes = if large.done == 0 { large.header.attributes_len as usize } else { 0 };
        large.done += piece as u64;
        let (at, end) = (skip + attributes, bytes.len());
        // The header of a frame that was not scanned can say anything.
        if at > end {
            return Err(self.broken());
        }
        self.look_ahead(large.offset + HEADER as u64 + large.done);
        self.large = (large.done < len).then_some(large);
        self.verified.set_block(bytes, &self.segment.header);
        self.begin(Run { at, end, position });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::format::frame::HEADER;
    use crate::format::segment_header::SegmentHeader;
    use crate::format::{checksum, put};
    use crate::{Error, Expected, NewEvent, Options, Store, StreamId};

    /// If the index of a sealed segment fits, opening reads none of its frames: the header of this
    /// frame claims attributes that are longer than the first piece, which once made a read panic.
    #[test]
    fn attributes_that_are_longer_than_a_piece() {
        let dir = tempfile::tempdir().unwrap();
        let store = Options::new().segment_size(1 << 20).maintenance(false).open(dir.path()).unwrap();
        let stream = StreamId::new("order", "1").unwrap();
        store.append(&stream, Expected::Any, (0..200).map(|_| NewEvent::with_data("T", vec![7; 1000]))).unwrap();
        // The seal proves the last frame, and two more events fill the segment.
        for size in [1, 900_000, 900_000] {
            store.append(&stream, Expected::Any, [NewEvent::with_data("T", vec![1; size])]).unwrap();
        }
        store.close().unwrap();

        let path = dir.path().join("00000000000000000001.seg");
        let mut bytes = std::fs::read(&path).unwrap();
        let mask = SegmentHeader::decode(&bytes, &path).unwrap().unwrap().mask();
        put(&mut bytes, 128 + 20, &150_000u32.to_le_bytes());
        let crc = mask.stored(checksum::crc(&bytes[128 + 8..128 + HEADER]), 128);
        put(&mut bytes, 128 + 4, &crc.to_le_bytes());
        std::fs::write(&path, &bytes).unwrap();

        let store = Store::open(dir.path()).unwrap();
        assert!(matches!(store.read_all().into_iter().next(), Some(Err(Error::Damaged(_)))));
        assert!(store.read_all().into_iter().advance().is_err());
    }
}
