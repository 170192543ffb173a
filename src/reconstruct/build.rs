//! The builder: assembles a segment from parts. An open accepts its bytes.

use super::{Implied, RebuiltSegment, SlotPart};
use crate::event::NewEvent;
use crate::format::checksum::Mask;
use crate::format::draft::{Draft, FramePlace, Limits};
use crate::format::frame::{Chain, HEADER, MAX_BODY};
use crate::format::record::{self, MAX_RECORD};
use crate::format::segment_header::SegmentHeader;
use crate::segment::scan::Scanned;
use crate::segment::succession::SegmentExtent;
use crate::system::System;
use std::ops::Range;

/// Maximum number of lost records in one commit.
const LOST_AT_ONCE: u64 = 4096;

/// A segment that is being built.
pub(crate) struct Builder {
    pub header: SegmentHeader,
    mask: Mask,
    pub chain: Chain,
    pub bytes: Vec<u8>,
}

/// Returns a draft with the limits of the format: it accepts the content of every existing commit.
pub(crate) fn draft() -> Draft {
    Draft::new(Limits { event: MAX_RECORD, commit: MAX_BODY as usize })
}

impl Builder {
    pub(crate) fn new(header: SegmentHeader) -> Self {
        Builder { mask: header.mask(), chain: Chain::start(&header), bytes: header.encode().to_vec(), header }
    }

    /// Returns the extent of the segment so far, without a seal.
    pub(crate) fn extent(&self) -> SegmentExtent {
        SegmentExtent { segment: self.header, end: self.bytes.len() as u64, chain: self.chain }
    }

    /// Adds a part at its positions.
    ///
    /// # Panics
    ///
    /// If the part does not follow the last one.
    pub(crate) fn add(&mut self, rebuilt: &RebuiltSegment, part: &SlotPart) {
        match part {
            SlotPart::Commit { file, at, header } => {
                let body = &rebuilt.files[*file][at + HEADER..][..header.body_len as usize];
                let (attributes, records) = body.split_at(header.attributes_len as usize);
                assert_eq!(self.chain.next_position, header.first_position, "parts follow one another");
                let mut rest = records;
                let mut draft = draft();
                while let Some(len) = record::len(rest).filter(|&len| len <= rest.len()) {
                    let (record, after) = rest.split_at(len);
                    assert!(draft.adopt(record, None), "the record was verified");
                    rest = after;
                }
                draft.set_attributes(attributes);
                // A commit claims nothing about its own and later positions, unless the bytes were
                // crafted.
                self.commit(draft, header.recorded_at, header.durable_upto.min(header.first_position));
            }
            SlotPart::Events { file, first, recorded_at, records, attributes } => {
                assert_eq!(self.chain.next_position, *first, "parts follow one another");
                let bytes = &rebuilt.files[*file];
                let mut left = records.as_slice();
                let mut attributes = &bytes[attributes.clone()];
                while !left.is_empty() {
                    let mut draft = draft();
                    while let Some(record) = left.first()
                        && draft.body_len() + record.len() + attributes.len() <= MAX_BODY as usize
                    {
                        assert!(draft.adopt(&bytes[record.clone()], None), "the record was verified");
                        left = &left[1..];
                    }
                    draft.set_attributes(std::mem::take(&mut attributes));
                    self.commit(draft, *recorded_at, self.chain.next_position);
                }
            }
            SlotPart::Implied { position, deletion } => {
                assert_eq!(self.chain.next_position, *position, "parts follow one another");
                let Implied { edition, domain, sequence, .. } = deletion;
                let system = System::Deletion { edition, domain: domain.as_deref() };
                let event = NewEvent::new(system.event_type(), "");
                let mut draft = draft();
                let wide = *sequence > u32::MAX.into();
                draft.push(&system.key(), &event, wide).expect("the record of a deletion is within all limits");
                assert!(draft.set_sequences(0..1, *sequence), "there is room for the sequence");
                self.commit(draft, self.chain.recorded_at, *position);
            }
            SlotPart::Lost { positions } => self.lose(positions.clone()),
        }
    }

    /// Adds lost records at these positions.
    pub(crate) fn lose(&mut self, positions: Range<u64>) {
        assert_eq!(self.chain.next_position, positions.start, "parts follow one another");
        let (key, event) = (System::Lost.key(), NewEvent::new(System::Lost.event_type(), ""));
        let mut at = positions.start;
        while at < positions.end {
            let count = (positions.end - at).min(LOST_AT_ONCE);
            let wide = positions.end > u32::MAX.into();
            let mut draft = draft();
            for _ in 0..count {
                draft.push(&key, &event, wide).expect("the record of a lost event is within all limits");
            }
            assert!(draft.set_sequences(0..count as usize, at), "there is room for the sequences");
            self.commit(draft, self.chain.recorded_at, at);
            at += count;
        }
    }

    /// Adds a commit.
    pub(crate) fn commit(&mut self, draft: Draft, recorded_at: i64, durable_upto: u64) {
        let place = FramePlace {
            segment: &self.header,
            mask: self.mask,
            offset: self.bytes.len() as u64,
            chain: &self.chain,
            recorded_at: recorded_at.max(self.chain.recorded_at),
            durable_upto,
        };
        let (frame, chain) = draft.finish(&place);
        self.bytes.extend_from_slice(&frame);
        self.chain = chain;
    }

    /// Seals the segment.
    pub(crate) fn seal(&mut self) {
        let seal = self.chain.seal(&self.header);
        let at = self.bytes.len() as u64;
        let chain = &self.chain;
        let frame = seal.frame(chain.previous, chain.recorded_at, chain.next_position, self.mask, at);
        self.bytes.extend_from_slice(&frame);
    }

    /// Returns what a scan of the segment would find before it is sealed.
    pub(crate) fn scanned(&self) -> Scanned {
        Scanned::known(&self.header, self.bytes.len() as u64, self.chain)
    }
}
