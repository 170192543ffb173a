//! Succession: what the header of the next segment says, and how one fails to follow.

use super::random;
use crate::format::frame::{Chain, Seal};
use crate::format::segment_header::SegmentHeader;
use std::fmt;

/// A segment up to the end of its last frame with events.
#[derive(Clone, Copy)]
pub struct SegmentExtent {
    pub segment: SegmentHeader,
    /// The end of the last frame with events.
    pub end: u64,
    /// The chain after that frame.
    pub chain: Chain,
}

impl SegmentExtent {
    /// Returns the header of the segment after this one, which ends in a seal. The next segment
    /// begins at the time of the last event.
    pub fn successor(&self) -> SegmentHeader {
        SegmentHeader {
            number: self.segment.number + 1,
            first_position: self.chain.next_position,
            salt: random(),
            base_time: self.chain.recorded_at,
            previous_digest: self.chain.digest,
            previous_len: self.end + Seal::FRAME,
            ..self.segment
        }
    }

    /// Returns in what respects the segment with this header does not follow this one, the worst
    /// first; empty if it follows.
    pub fn discontinuities(&self, next: &SegmentHeader) -> impl Iterator<Item = Discontinuity> + use<> {
        let expected = self.successor();
        let found = [
            (next.store != expected.store, Discontinuity::Store),
            (next.number != expected.number, Discontinuity::Number),
            (next.first_position != expected.first_position, Discontinuity::Position),
            (next.base_time < expected.base_time, Discontinuity::Time),
            (next.previous_digest != expected.previous_digest, Discontinuity::Digest),
            (next.previous_len != expected.previous_len, Discontinuity::Length),
        ];
        found.into_iter().filter(|(differs, _)| *differs).map(|(_, what)| what)
    }
}

/// A respect in which a segment does not follow the one before it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Discontinuity {
    Store,
    Number,
    Position,
    Time,
    Digest,
    Length,
}

impl Discontinuity {
    /// Returns whether only the bytes of the segment before differ from those that were sealed.
    pub fn is_of_bytes(self) -> bool {
        matches!(self, Discontinuity::Digest | Discontinuity::Length)
    }
}

impl fmt::Display for Discontinuity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Discontinuity::Store => "the segment belongs to another store than the one before",
            Discontinuity::Number => "the file holds another segment than its name says",
            Discontinuity::Position => "the segment does not begin where the one before ends",
            Discontinuity::Time => "the segment begins before the last event of the one before",
            Discontinuity::Digest => "the digest of the segment before is not what this segment says",
            Discontinuity::Length => "the length of the segment before is not what this segment says",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_difference_is_told() {
        let segment = SegmentHeader::SAMPLE;
        let chain = Chain { next_position: 7, recorded_at: 70, digest: 5, frames: 3, ..Chain::start(&segment) };
        let extent = SegmentExtent { segment, end: 1024, chain };
        let next = extent.successor();
        let told = |next: SegmentHeader| extent.discontinuities(&next).collect::<Vec<_>>();
        assert_eq!(told(next), []);
        assert_eq!(told(SegmentHeader { base_time: 71, salt: 1, ..next }), []);
        for (next, what) in [
            (SegmentHeader { store: [9; 16], ..next }, Discontinuity::Store),
            (SegmentHeader { number: 3, ..next }, Discontinuity::Number),
            (SegmentHeader { first_position: 8, ..next }, Discontinuity::Position),
            (SegmentHeader { base_time: 69, ..next }, Discontinuity::Time),
            (SegmentHeader { previous_digest: 6, ..next }, Discontinuity::Digest),
            (SegmentHeader { previous_len: 1025, ..next }, Discontinuity::Length),
        ] {
            assert_eq!(told(next), [what]);
        }
        assert_eq!(told(segment).len(), 5);
    }
}
