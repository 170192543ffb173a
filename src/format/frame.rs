//! The layout of a frame: the envelope of one commit.
//!
//! ```text
//! 0       4     8      9      12       16         20               24               32             40            48         52         56
//! | magic | CRC | kind | zero | events | body len | attributes len | first position | durable_upto | recorded-at | previous | body CRC |
//! | body | table, if the body is longer than 8,192 | zeros to a multiple of 8 |
//! | frame len | events | header CRC | CRC |
//! ```

use super::checksum::{self, BLOCK, CRC, Mask};
use super::segment_header::{LEN as SEGMENT_HEADER, SegmentHeader};
use super::{content_digest, is_zero, put, u32_at, u64_at, varint};
use crate::error::{Error, Result};
use std::path::Path;

pub const HEADER: usize = 56;
pub const TRAILER: usize = 16;
/// Frames start at multiples of this offset.
pub const ALIGN: u64 = 8;
pub const MAGIC: [u8; 4] = [0xA7, b'F', b'R', 0x0A];
/// Maximum length of the body of a frame, in bytes.
pub const MAX_BODY: u64 = 1 << 30;
/// Maximum length of the attributes of a frame, in bytes.
const MAX_ATTRIBUTES: u32 = 16 << 10;
/// Offset of the header CRC in a frame.
const CRC_AT: usize = 4;
const CRC_FROM: usize = 8;
const BODY_CRC_AT: usize = 52;

/// Attributes with lower keys are critical: a reader that does not know one refuses the frame.
const FIRST_OPTIONAL_ATTRIBUTE: u64 = 128;

/// The attribute with the idempotency key.
pub const IDEMPOTENCY_KEY: u64 = 1;
/// The attribute with the tracked position of an upstream: the position, then the name of the
/// upstream.
pub const TRACKING: u64 = 2;
/// The attribute with the digest of the content of an idempotent commit. A reader that does not
/// know it accepts any commit with the same key as a repeat.
pub const CONTENT_DIGEST: u64 = 129;

pub const EVENTS: u8 = 1;
pub const SEAL: u8 = 2;

// The first frame of a segment starts after its header, aligned like all others.
const _: () = assert!((SEGMENT_HEADER as u64).is_multiple_of(ALIGN));
const _: () = assert!((HEADER as u64).is_multiple_of(ALIGN) && (TRAILER as u64).is_multiple_of(ALIGN));

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FrameHeader {
    pub kind: u8,
    /// Three bytes that are zero in this version.
    pub reserved: u32,
    pub events: u32,
    pub body_len: u32,
    pub attributes_len: u32,
    pub first_position: u64,
    pub durable_upto: u64,
    pub recorded_at: i64,
    pub previous: u32,
    pub body_crc: u32,
    /// The stored CRC of this header, which is `previous` in the next frame.
    pub crc: u32,
}

impl FrameHeader {
    /// Decodes and verifies the header at `offset`; `None` if it is not one. Its length is checked
    /// against the limit of the format, not against the bytes that are left.
    #[inline]
    pub fn decode(bytes: &[u8], mask: Mask, offset: u64) -> Option<Self> {
        if bytes.len() < HEADER || bytes[..4] != MAGIC {
            return None;
        }
        let crc = u32_at(bytes, CRC_AT);
        if mask.stored(checksum::crc(&bytes[CRC_FROM..HEADER]), offset) != crc {
            return None;
        }
        let header = FrameHeader {
            kind: bytes[8],
            reserved: u32_at(bytes, 8) >> 8,
            events: u32_at(bytes, 12),
            body_len: u32_at(bytes, 16),
            attributes_len: u32_at(bytes, 20),
            first_position: u64_at(bytes, 24),
            durable_upto: u64_at(bytes, 32),
            recorded_at: u64_at(bytes, 40) as i64,
            previous: u32_at(bytes, 48),
            body_crc: u32_at(bytes, BODY_CRC_AT),
            crc,
        };
        let sound = header.body_len > 0
            && u64::from(header.body_len) <= MAX_BODY
            && header.attributes_len <= header.body_len
            && header.first_position.checked_add(header.events.into()).is_some();
        sound.then_some(header)
    }

    /// Decodes a header at `offset` in a segment whose mask is not known, and returns the mask that
    /// it implies. That proves nothing by itself: see [`Mask::implied`].
    pub fn implied(bytes: &[u8], offset: u64) -> Option<(Self, Mask)> {
        if bytes.len() < HEADER || bytes[..4] != MAGIC {
            return None;
        }
        let mask = Mask::implied(checksum::crc(&bytes[CRC_FROM..HEADER]), u32_at(bytes, CRC_AT), offset);
        Some((Self::decode(bytes, mask, offset)?, mask))
    }

    /// Writes the header into the first bytes of `frame`, whose offset is `offset`, and returns its
    /// CRC.
    fn encode_into(&self, frame: &mut [u8], mask: Mask, offset: u64) -> u32 {
        put(frame, 0, &MAGIC);
        frame[8] = self.kind;
        put(frame, 12, &self.events.to_le_bytes());
        put(frame, 16, &self.body_len.to_le_bytes());
        put(frame, 20, &self.attributes_len.to_le_bytes());
        put(frame, 24, &self.first_position.to_le_bytes());
        put(frame, 32, &self.durable_upto.to_le_bytes());
        put(frame, 40, &self.recorded_at.to_le_bytes());
        put(frame, 48, &self.previous.to_le_bytes());
        put(frame, BODY_CRC_AT, &self.body_crc.to_le_bytes());
        let crc = mask.stored(checksum::crc(&frame[CRC_FROM..HEADER]), offset);
        put(frame, CRC_AT, &crc.to_le_bytes());
        crc
    }

    /// Returns whether this version knows the kind of frame. The checksum has been verified, so a
    /// frame of another kind is from a newer version, and never a torn write.
    pub fn is_known(&self) -> bool {
        let Self { kind, events, body_len, attributes_len, reserved, .. } = *self;
        let kind_holds = match kind {
            EVENTS => events > 0 && attributes_len < body_len && attributes_len <= MAX_ATTRIBUTES,
            SEAL => events == 0 && attributes_len == 0 && body_len as usize == Seal::LEN,
            _ => false,
        };
        kind_holds && reserved == 0
    }

    /// Returns the position after the last event.
    pub fn end_position(&self) -> u64 {
        self.first_position + u64::from(self.events)
    }

    /// Returns the length of the whole frame in bytes.
    pub fn frame_len(&self) -> u64 {
        frame_len(self.body_len.into())
    }

    /// Returns the offset of the table in the frame.
    pub fn table_at(&self) -> u64 {
        HEADER as u64 + u64::from(self.body_len)
    }

    /// Returns the length of the table in bytes.
    pub fn table_len(&self) -> u64 {
        checksum::table_len(self.body_len.into())
    }

    /// Returns whether this is the body whose CRC the header has; or the table, if there is one.
    pub fn vouches_for(&self, body_or_table: &[u8], mask: Mask, offset: u64) -> bool {
        mask.stored(checksum::crc(body_or_table), offset + BODY_CRC_AT as u64) == self.body_crc
    }

    /// Verifies all of `frame`, which has the length that the header says and is at `offset`.
    pub fn verify(&self, frame: &[u8], mask: Mask, offset: u64) -> std::result::Result<(), &'static str> {
        self.verify_body(frame, mask, offset)?;
        let trailer_at = frame.len() - TRAILER;
        let covered = &frame[self.table_at() as usize..frame.len() - CRC];
        let padding = &covered[self.table_len() as usize..covered.len() - (TRAILER - CRC)];
        let trailer = &frame[trailer_at..];
        let crc_at = offset + trailer_at as u64 + (TRAILER - CRC) as u64;
        let holds = mask.stored(checksum::crc(covered), crc_at) == u32_at(trailer, 12)
            && u32_at(trailer, 0) as usize == frame.len()
            && u32_at(trailer, 4) == self.events
            && u32_at(trailer, 8) == self.crc
            && is_zero(padding);
        if holds { Ok(()) } else { Err("the trailer of the commit fails its checksum") }
    }

    /// Verifies the body of `frame` only: enough for reading, once recovery has verified the
    /// trailer.
    #[inline]
    pub fn verify_body(&self, frame: &[u8], mask: Mask, offset: u64) -> std::result::Result<(), &'static str> {
        let body = &frame[HEADER..self.table_at() as usize];
        let table = &frame[self.table_at() as usize..][..self.table_len() as usize];
        let holds = if table.is_empty() {
            self.vouches_for(body, mask, offset)
        } else {
            self.vouches_for(table, mask, offset) && checksum::table_holds(body, table)
        };
        if holds { Ok(()) } else { Err("the body of the commit fails its checksum") }
    }
}

/// Iterates over the attributes of a frame: key and bytes; `None` where the grammar is broken.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = Option<(u64, &[u8])>> {
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let parsed = varint::get(rest).and_then(|(key, at)| {
            let (len, field) = varint::get(&rest[at..])?;
            let start = at + field;
            let end = usize::try_from(len).ok()?.checked_add(start)?;
            Some((key, rest.get(start..end)?, end))
        });
        rest = parsed.map_or(&[], |(.., end)| &rest[end..]);
        Some(parsed.map(|(key, bytes, _)| (key, bytes)))
    })
}

/// Checks the attributes of a frame: those with keys below 128 must be known.
///
/// # Errors
///
/// [`Error::UnsupportedFormat`] if a critical one is unknown, or if they break the grammar.
pub fn check_attributes(bytes: &[u8], path: &Path) -> Result<()> {
    for attribute in attributes(bytes) {
        let what = match attribute {
            Some((IDEMPOTENCY_KEY, key)) if str::from_utf8(key).is_ok() => continue,
            Some((TRACKING, value)) if decode_tracking(value).is_some() => continue,
            Some((key, _)) if key >= FIRST_OPTIONAL_ATTRIBUTE => continue,
            Some((key, _)) => key.to_string(),
            None => "that cannot be read".to_owned(),
        };
        let found = format!("a commit with the attribute {what}");
        return Err(Error::UnsupportedFormat { path: path.to_owned(), found });
    }
    Ok(())
}

/// An attribute of a frame.
fn attribute(bytes: &[u8], wanted: u64) -> Option<&[u8]> {
    attributes(bytes).flatten().find(|&(key, _)| key == wanted).map(|(_, value)| value)
}

/// Returns the idempotency key among the attributes of a frame.
pub fn idempotency_key(bytes: &[u8]) -> Option<&str> {
    str::from_utf8(attribute(bytes, IDEMPOTENCY_KEY)?).ok()
}

/// Returns the content digest among the attributes of a frame.
pub fn content_digest(bytes: &[u8]) -> Option<[u8; content_digest::LEN]> {
    attribute(bytes, CONTENT_DIGEST)?.try_into().ok()
}

/// Returns the upstream and its tracked position among the attributes of a frame.
pub fn tracking(bytes: &[u8]) -> Option<(&str, u64)> {
    decode_tracking(attribute(bytes, TRACKING)?)
}

fn decode_tracking(value: &[u8]) -> Option<(&str, u64)> {
    let (position, name) = value.split_first_chunk()?;
    let name = str::from_utf8(name).ok().filter(|name| !name.is_empty())?;
    Some((name, u64::from_le_bytes(*position)))
}

/// Appends the attribute with the tracked position of an upstream.
pub fn put_tracking(out: &mut Vec<u8>, upstream: &str, position: u64) {
    put_attribute(out, TRACKING, &[&position.to_le_bytes(), upstream.as_bytes()].concat());
}

/// Appends an attribute.
pub fn put_attribute(out: &mut Vec<u8>, key: u64, bytes: &[u8]) {
    varint::put(out, key);
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Returns the length of a frame with a body of this length, in bytes.
pub fn frame_len(body_len: u64) -> u64 {
    (HEADER as u64 + body_len + checksum::table_len(body_len)).next_multiple_of(ALIGN) + TRAILER as u64
}

/// Completes `frame`, which holds room for the header and a finished body: writes the header, and
/// appends table, padding and trailer. `body_crc` may be given if it is known and the body has no
/// table. Returns the CRC of the header.
pub fn finish(frame: &mut Vec<u8>, header: FrameHeader, body_crc: Option<u32>, mask: Mask, offset: u64) -> u32 {
    let body = HEADER..frame.len();
    debug_assert_eq!(body.len(), header.body_len as usize);
    let table_at = frame.len();
    let long = body.len() > BLOCK;
    if long {
        checksum::put_table(frame, body.clone());
    }
    let vouched = if long { table_at..frame.len() } else { body };
    let body_crc = body_crc.unwrap_or_else(|| checksum::crc(&frame[vouched.clone()]));
    debug_assert_eq!(body_crc, checksum::crc(&frame[vouched]));
    let body_crc = mask.stored(body_crc, offset + BODY_CRC_AT as u64);
    frame.resize(frame.len().next_multiple_of(ALIGN as usize), 0);

    let header = FrameHeader { body_crc, ..header };
    let crc = header.encode_into(frame, mask, offset);
    let len = (frame.len() + TRAILER) as u32;
    for field in [len, header.events, crc] {
        frame.extend_from_slice(&field.to_le_bytes());
    }
    let trailer_crc = mask.stored(checksum::crc(&frame[table_at..]), offset + frame.len() as u64);
    frame.extend_from_slice(&trailer_crc.to_le_bytes());
    debug_assert_eq!(frame.len() as u64, frame_len(header.body_len.into()));
    crc
}

/// The body of the frame that ends a sealed segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seal {
    pub events: u64,
    pub frames: u64,
    pub first_position: u64,
    pub next_position: u64,
    pub digest: u64,
}

impl Seal {
    const LEN: usize = 40;
    /// Length of the whole seal frame in bytes.
    pub const FRAME: u64 = (HEADER + Seal::LEN + TRAILER) as u64;

    /// Returns the bytes of the seal frame at `offset`, after the frame whose CRC is `previous`.
    pub fn frame(&self, previous: u32, recorded_at: i64, durable_upto: u64, mask: Mask, offset: u64) -> Vec<u8> {
        let mut frame = vec![0; HEADER];
        for field in [self.events, self.frames, self.first_position, self.next_position, self.digest] {
            frame.extend_from_slice(&field.to_le_bytes());
        }
        let header = FrameHeader {
            kind: SEAL,
            reserved: 0,
            events: 0,
            body_len: Seal::LEN as u32,
            attributes_len: 0,
            first_position: self.next_position,
            durable_upto,
            recorded_at,
            previous,
            body_crc: 0,
            crc: 0,
        };
        finish(&mut frame, header, None, mask, offset);
        frame
    }

    pub fn decode(body: &[u8]) -> Option<Self> {
        (body.len() == Seal::LEN).then(|| Seal {
            events: u64_at(body, 0),
            frames: u64_at(body, 8),
            first_position: u64_at(body, 16),
            next_position: u64_at(body, 24),
            digest: u64_at(body, 32),
        })
    }
}

/// The state after a frame that the next frame must continue: the position, the chain of CRCs, and
/// the running digest.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chain {
    pub next_position: u64,
    pub previous: u32,
    pub digest: u64,
    pub frames: u64,
    pub recorded_at: i64,
}

impl Chain {
    /// Returns the chain at the start of a segment, before its first frame.
    pub fn start(header: &SegmentHeader) -> Self {
        let crc = header.crc();
        Chain {
            next_position: header.first_position,
            previous: crc,
            digest: crc.into(),
            frames: 0,
            recorded_at: header.base_time,
        }
    }

    /// The digest of all commits so far, including those of earlier segments.
    pub fn mark(&self, header: &SegmentHeader) -> u64 {
        if self.frames > 0 { self.digest } else { header.previous_digest }
    }

    /// Returns whether a frame with this header may come next.
    pub fn accepts(&self, header: &FrameHeader) -> bool {
        header.first_position == self.next_position
            && header.previous == self.previous
            && header.recorded_at >= self.recorded_at
    }

    /// Returns the chain after a frame with events.
    pub fn then(&self, header: &FrameHeader) -> Self {
        Chain {
            next_position: header.end_position(),
            previous: header.crc,
            digest: super::segment_header::fold_digest(self.digest, header.crc),
            frames: self.frames + 1,
            recorded_at: header.recorded_at,
        }
    }

    /// Returns the seal that fits here.
    pub fn seal(&self, header: &SegmentHeader) -> Seal {
        Seal {
            events: self.next_position - header.first_position,
            frames: self.frames,
            first_position: header.first_position,
            next_position: self.next_position,
            digest: self.digest,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(body_len: usize) -> (Vec<u8>, Mask) {
        let mask = Mask::new(&[1; 16], 1, 2);
        let mut frame = vec![0; HEADER];
        frame.extend((0..body_len).map(|i| i as u8));
        let header = FrameHeader {
            kind: EVENTS,
            reserved: 0,
            events: 3,
            body_len: body_len as u32,
            attributes_len: 0,
            first_position: 10,
            durable_upto: 9,
            recorded_at: 1,
            previous: 5,
            body_crc: 0,
            crc: 0,
        };
        finish(&mut frame, header, None, mask, 128);
        (frame, mask)
    }

    fn holds(frame: &[u8], mask: Mask, offset: u64) -> bool {
        FrameHeader::decode(frame, mask, offset).is_some_and(|header| {
            header.frame_len() == frame.len() as u64 && header.verify(frame, mask, offset).is_ok()
        })
    }

    #[test]
    fn frames_of_all_lengths_verify_in_their_place_only() {
        for len in [1, 7, 8, 100, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 5] {
            let (frame, mask) = sample(len);
            assert!(holds(&frame, mask, 128), "{len}");
            assert!(!holds(&frame, mask, 136), "{len}");
            assert!(!holds(&frame, Mask::new(&[1; 16], 2, 2), 128), "{len}");
        }
    }

    /// The chain of frames rests on this: the header of a frame depends on the bytes of its
    /// records.
    #[test]
    fn headers_depend_on_records() {
        use crate::event::NewEvent;
        use crate::format::draft::{Draft, FramePlace, Limits};
        let segment = SegmentHeader::SAMPLE;
        let crcs = ["first", "again"].map(|data| {
            let mut draft = Draft::new(Limits { event: 1000, commit: 1000 });
            draft.push(b"\x01a", &NewEvent::new("T", data), false).unwrap();
            let chain = Chain::start(&segment);
            let place = FramePlace {
                mask: segment.mask(),
                segment: &segment,
                offset: 128,
                chain: &chain,
                recorded_at: 0,
                durable_upto: 0,
            };
            draft.finish(&place).1.previous
        });
        assert_ne!(crcs[0], crcs[1]);
    }

    #[test]
    fn every_flipped_bit_of_a_frame_shows() {
        for len in [5, BLOCK + 3] {
            let (mut frame, mask) = sample(len);
            for bit in 0..frame.len() * 8 {
                frame[bit / 8] ^= 1 << (bit % 8);
                assert!(!holds(&frame, mask, 128), "body of {len}, bit {bit}");
                frame[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }
}
