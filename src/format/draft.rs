//! Drafts: a commit before it is in the log, encoded outside the commit lock and completed under
//! it.

use super::checksum::{BLOCK, Mask};
use super::content_digest::ContentDigest;
use super::frame::{self, Chain, EVENTS, FrameHeader, HEADER, MAX_BODY};
use super::record::{self, Unfinished};
use super::segment_header::{MAX_EVENTS, SegmentHeader};
use crate::error::{Error, Result};
use crate::event::NewEvent;

/// The limits of a commit.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub event: usize,
    pub commit: usize,
}

/// A frame without what the commit lock decides: positions, sequences, time, offset.
pub struct Draft {
    /// Room for the header, then the body.
    frame: Vec<u8>,
    records: Vec<Unfinished>,
    attributes_len: usize,
    limits: Limits,
}

/// Where a frame goes.
pub struct FramePlace<'a> {
    pub segment: &'a SegmentHeader,
    pub mask: Mask,
    pub offset: u64,
    pub chain: &'a Chain,
    pub recorded_at: i64,
    pub durable_upto: u64,
}

/// Maximum number of bytes that are reserved for announced events.
const MOST_RESERVED: usize = 1 << 20;

impl Draft {
    pub fn new(limits: Limits) -> Self {
        Draft { frame: Vec::new(), records: Vec::new(), attributes_len: 0, limits }
    }

    /// Adds an event of the stream with this key.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] and [`Error::LimitExceeded`]; the draft must then be dropped.
    pub fn push(&mut self, key: &[u8], event: &NewEvent<'_>, wide: bool) -> Result<()> {
        if self.records.len() as u64 == MAX_EVENTS {
            return Err(Error::limit("events of a commit", self.records.len() + 1, MAX_EVENTS as usize));
        }
        self.begin(key.len() + event.event_type.len() + event.metadata.len() + event.data.len());
        let record = record::encode(&mut self.frame, key, event, wide, self.limits.event)?;
        self.records.push(record);
        self.check_len()
    }

    /// Returns an error for a body that is longer than the limit, or than a frame can have.
    ///
    /// # Errors
    ///
    /// [`Error::LimitExceeded`].
    fn check_len(&self) -> Result<()> {
        let (body, limit) = (self.body_len(), self.limits.commit.min(MAX_BODY as usize));
        if body > limit { Err(Error::limit("bytes in a commit", body, limit)) } else { Ok(()) }
    }

    /// Makes room for the header, and with the first event for the whole frame of a commit of one
    /// event, the most common kind.
    fn begin(&mut self, content: usize) {
        if self.frame.is_empty() {
            self.frame.reserve(HEADER + content + 128);
            self.frame.resize(HEADER, 0);
        }
    }

    /// Makes room for this many more events of about the size of the last one, as far as that is
    /// worth it.
    pub fn reserve(&mut self, events: usize) {
        let Some(last) = self.records.last() else { return };
        let each = self.frame.len() - last.start();
        self.frame.reserve(events.saturating_mul(each).min(MOST_RESERVED));
        self.records.reserve(events.min(MOST_RESERVED / each.max(1)));
    }

    /// Adds an intact record unchanged, or with another sequence if one is given. Returns `false`
    /// if it breaks the grammar, or has no room for that sequence.
    #[must_use]
    pub fn adopt(&mut self, record: &[u8], sequence: Option<u64>) -> bool {
        self.begin(record.len());
        let Some(mut adopted) = record::adopt(&mut self.frame, record) else { return false };
        let fits = sequence.is_none_or(|sequence| adopted.set_sequence(sequence));
        self.records.push(adopted);
        fits
    }

    /// Puts the attributes of the commit before its events, instead of earlier ones.
    pub fn set_attributes(&mut self, attributes: &[u8]) {
        if attributes.is_empty() && self.attributes_len == 0 {
            return;
        }
        self.begin(attributes.len());
        self.frame.splice(HEADER..HEADER + self.attributes_len, attributes.iter().copied());
        for record in &mut self.records {
            record.shift(self.attributes_len, attributes.len());
        }
        self.attributes_len = attributes.len();
    }

    /// Puts the attributes of a new commit before its events. They count towards the limit as its
    /// events do: a commit within a few bytes of the longest body was once acknowledged together
    /// with its idempotency key, and no reader accepted a body that long.
    ///
    /// # Errors
    ///
    /// [`Error::LimitExceeded`].
    pub fn put_attributes(&mut self, attributes: &[u8]) -> Result<()> {
        self.set_attributes(attributes);
        self.check_len()
    }

    /// Returns the content of the commit, without its attributes.
    pub fn digest(&self) -> ContentDigest {
        let mut digest = ContentDigest::new();
        let ends = self.records.iter().skip(1).map(Unfinished::start).chain([self.frame.len()]);
        for (record, end) in self.records.iter().zip(ends) {
            let parts = record::decode(&self.frame, record.start(), end);
            digest.event(&parts.expect("a record that was just encoded can be decoded").layout, &self.frame);
        }
        digest
    }

    /// Returns the number of events.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Returns the length of the body so far.
    pub fn body_len(&self) -> usize {
        self.frame.len().saturating_sub(HEADER)
    }

    /// Returns the length of the frame.
    pub fn frame_len(&self) -> u64 {
        frame::frame_len(self.body_len() as u64)
    }

    /// Assigns the events from `first` on the sequences from `sequence` on. Returns `false` if a
    /// record has no room for such a high sequence.
    #[must_use]
    pub fn set_sequences(&mut self, events: std::ops::Range<usize>, sequence: u64) -> bool {
        let mut sequences = sequence..;
        let records = &mut self.records[events];
        records.iter_mut().zip(&mut sequences).all(|(record, n)| record.set_sequence(n))
    }

    /// Completes the frame. Returns it and the chain after it.
    pub fn finish(mut self, place: &FramePlace<'_>) -> (Vec<u8>, Chain) {
        self.begin(0);
        let first = place.chain.next_position;
        let ordinal = first - place.segment.first_position;
        let time = place.recorded_at.wrapping_sub(place.segment.base_time) as u64;
        let mut whole = None;
        for (record, ordinal) in self.records.iter().zip(ordinal..) {
            whole = Some(record.finish(&mut self.frame, place.mask, place.offset, ordinal, time));
        }
        // If the body is one record, its CRC is known and need not be computed again.
        let is_record = self.records.len() == 1 && self.attributes_len == 0 && self.body_len() <= BLOCK;
        let body_crc = whole.filter(|_| is_record).map(|whole| whole.crc());
        let mut header = FrameHeader {
            kind: EVENTS,
            reserved: 0,
            events: self.records.len() as u32,
            body_len: (self.frame.len() - HEADER) as u32,
            attributes_len: self.attributes_len as u32,
            first_position: first,
            durable_upto: place.durable_upto,
            recorded_at: place.recorded_at,
            previous: place.chain.previous,
            body_crc: 0,
            crc: 0,
        };
        header.crc = frame::finish(&mut self.frame, header, body_crc, place.mask, place.offset);
        (self.frame, place.chain.then(&header))
    }
}
