//! Records that have been copied out of a segment and verified, to be returned one by one as
//! events.

use crate::format::event::{Block, Event};
use crate::format::record::{self, Beginning, RecordParts};
use crate::format::segment_header::SegmentHeader;
use std::sync::Arc;

/// Bytes of room that a block may have beyond its content. A caller that keeps an event keeps its
/// block: small events must not keep the memory of a large one.
const SPARE: usize = 64 << 10;

/// Consecutive records in a block of memory.
pub struct Verified {
    pub(super) block: Arc<Block>,
    /// What ordinals and times are relative to.
    first_position: u64,
    base_time: i64,
    /// The start of the next record, and the end of the last one.
    pub(super) at: usize,
    pub(super) end: usize,
    last: Beginning,
}

/// The next event, decoded.
pub struct Next {
    pub parts: RecordParts,
    pub position: u64,
    recorded_at: i64,
    /// The end of its record.
    end: usize,
}

impl Next {
    /// The end of its record.
    #[inline]
    pub(super) fn end(&self) -> usize {
        self.end
    }
}

impl Verified {
    /// No records yet.
    pub fn none() -> Self {
        let block = Arc::new(Block { bytes: Vec::new(), id_seed: 0 });
        Verified { block, first_position: 0, base_time: 0, at: 0, end: 0, last: Beginning::default() }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.at == self.end
    }

    /// Returns memory for the next block: that of this one, if no event holds it.
    pub(super) fn buffer(&mut self, capacity: usize) -> Vec<u8> {
        (self.at, self.end) = (0, 0);
        let mut bytes = match Arc::get_mut(&mut self.block) {
            Some(block) => {
                let mut bytes = std::mem::take(&mut block.bytes);
                bytes.clear();
                bytes
            }
            None => Vec::new(),
        };
        if bytes.capacity() > capacity + SPARE {
            bytes = Vec::new();
        }
        bytes.reserve(capacity);
        bytes
    }

    /// Returns the same, beginning with the bytes that have not been returned as events.
    pub(super) fn buffer_with_left(&mut self, capacity: usize) -> Vec<u8> {
        let (at, end) = (std::mem::take(&mut self.at), std::mem::take(&mut self.end));
        let mut bytes = match Arc::get_mut(&mut self.block) {
            Some(block) if block.bytes.capacity() <= end - at + capacity + SPARE => {
                let mut bytes = std::mem::take(&mut block.bytes);
                bytes.truncate(end);
                bytes.drain(..at);
                bytes
            }
            _ => self.block.bytes[at..end].to_vec(),
        };
        bytes.reserve(capacity);
        bytes
    }

    /// Sets another block, of which no record has been chosen.
    pub(super) fn set_block(&mut self, bytes: Vec<u8>, header: &SegmentHeader) {
        (self.first_position, self.base_time) = (header.first_position, header.base_time);
        (self.at, self.end, self.last) = (0, 0, Beginning::default());
        let block = Block { bytes, id_seed: header.id_seed() };
        match Arc::get_mut(&mut self.block) {
            Some(shared) => *shared = block,
            None => self.block = Arc::new(block),
        }
    }

    /// Sets another block, which consists of records only.
    pub(super) fn set_records(&mut self, bytes: Vec<u8>, header: &SegmentHeader) {
        let end = bytes.len();
        self.set_block(bytes, header);
        self.end = end;
    }

    /// Returns the bytes that have not been returned as events.
    #[inline(always)]
    pub(super) fn left(&self) -> &[u8] {
        &self.block.bytes[self.at..self.end]
    }

    /// Returns the length of the next record, if all of it is in the block.
    #[inline(always)]
    pub(super) fn len(&self) -> Option<usize> {
        record::len(self.left()).filter(|&len| len <= self.end - self.at)
    }

    /// Decodes the next event. `None` if there is none, if it is cut off, or if it breaks the
    /// grammar.
    #[inline(always)]
    pub fn peek(&mut self) -> Option<Next> {
        let end = self.at + self.len()?;
        let parts = record::decode_next(&self.block.bytes, self.at, end, &mut self.last)?;
        let (position, recorded_at) = parts.place(self.first_position, self.base_time)?;
        Some(Next { parts, position, recorded_at, end })
    }

    /// Skips the event that was just decoded.
    #[inline]
    pub fn pass(&mut self, next: &Next) {
        self.at = next.end;
    }

    #[inline]
    pub fn key(&self, next: &Next) -> &[u8] {
        next.parts.layout.key(&self.block.bytes)
    }

    /// Returns the event that was just decoded.
    #[inline(always)]
    pub fn event(&self, next: &Next) -> Event {
        Event::of(&self.block, next.position, next.recorded_at, &next.parts)
    }

    /// Stores the event that was just decoded in the place of another one. In the same block that
    /// costs a few stores, and no reference count.
    #[inline(always)]
    pub fn replace(&self, slot: &mut Option<Event>, next: &Next) {
        match slot {
            Some(event) if event.is_of(&self.block) => event.become_of(next.position, next.recorded_at, &next.parts),
            _ => *slot = Some(self.event(next)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small event after a large one once kept the memory of both, as its block was that of the
    /// large one.
    #[test]
    fn the_memory_of_a_large_event_is_not_used_again() {
        let header = SegmentHeader::SAMPLE;
        let mut verified = Verified::none();
        verified.set_records(vec![0; 8 << 20], &header);
        assert!(verified.buffer(1000).capacity() <= 1000 + SPARE);
        verified.set_records(vec![7; 8 << 20], &header);
        verified.at = (8 << 20) - 10;
        let bytes = verified.buffer_with_left(1000);
        assert!(bytes.capacity() <= 2000 + SPARE && bytes == [7; 10]);
        verified.set_records(bytes, &header);
        assert_eq!(verified.buffer_with_left(1000), [7; 10]);
    }
}
