//! Frames, records, headers and HEAD: single pieces of a segment.

use super::build::{self, Ended, first_header};
use super::seal;
use annals::internals::directory::segment_name;
use annals::internals::format::event::Block;
use annals::internals::format::frame::{self, EVENTS, FrameHeader, HEADER, Seal};
use annals::internals::format::segment_header::SegmentHeader;
use annals::internals::format::{head, put, record};
use annals::internals::segment::START;
use annals::internals::stream_key;
use annals::internals::system::System;
use annals_testkit::EventRecord;
use std::path::Path;
use std::sync::Arc;

/// Uses the input, without its first byte, as a frame at the start of a segment, sealed if the
/// first byte is odd. Verified bytes are the same when they are encoded again, and no longer verify
/// with one bit flipped.
pub fn frame(input: &[u8]) {
    let Some((&mode, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    let path = Path::new("x.seg");
    let segment = first_header();
    let mask = segment.mask();
    if mode & 1 == 1 {
        seal::frame(&mut bytes, mask, START);
    }
    pieces(&bytes, path);
    let Some(header) = FrameHeader::decode(&bytes, mask, START) else { return };
    let Some(whole) = usize::try_from(header.frame_len()).ok().and_then(|len| bytes.get(..len)) else { return };
    if header.verify(whole, mask, START).is_err() {
        return;
    }
    again(&header, whole);
    flipped(whole, input.len());
    let body = &whole[HEADER..header.table_at() as usize];
    let _ = Seal::decode(body);
    let attributes = &body[..header.attributes_len as usize];
    if frame::check_attributes(attributes, path).is_ok() {
        let _ = frame::idempotency_key(attributes);
    }
    if header.kind != EVENTS {
        return;
    }
    let mut at = HEADER + attributes.len();
    let end = header.table_at() as usize;
    while let Some(len) = record::len(&whole[at..end]).filter(|&len| len <= end - at) {
        one_record(&whole[at..at + len], START + at as u64, &segment);
        at += len;
    }
}

/// Decodes the bytes as everything that has a decoder of its own, at any length.
fn pieces(bytes: &[u8], path: &Path) {
    if let Ok(Some(header)) = SegmentHeader::decode(bytes, path) {
        assert_eq!(SegmentHeader::decode(&header.encode(), path).ok().flatten(), Some(header));
    }
    let mut sealed = bytes.to_vec();
    seal::segment_header(&mut sealed);
    if let Ok(Some(header)) = SegmentHeader::decode(&sealed, path) {
        assert_eq!(SegmentHeader::decode(&header.encode(), path).ok().flatten(), Some(header));
    }
    for sealed in [false, true] {
        let mut bytes = bytes.to_vec();
        if sealed {
            seal::head(&mut bytes);
        }
        let Ok(slots) = head::decode(&bytes, path) else { continue };
        if let Some(newest) = slots.newest {
            let mut again = vec![0; head::LEN];
            put(&mut again, newest.slot_at() as usize, &newest.encode());
            assert_eq!(head::decode(&again, path).ok().and_then(|slots| slots.newest), Some(newest));
        }
    }
    let segment = first_header();
    let mut bytes = bytes.to_vec();
    if let Some(len) = record::len(&bytes).filter(|&len| len <= bytes.len()) {
        // Records are decoded under the checksum of their frame, too, which says nothing of their
        // own.
        let _ = record::decode(&bytes, 0, len);
        seal::record(&mut bytes[..len], segment.mask(), START);
        one_record(&bytes[..len], START, &segment);
    }
}

/// A record that verifies and can be decoded is the same when it is encoded again.
fn one_record(bytes: &[u8], offset: u64, segment: &SegmentHeader) {
    if !record::verify(bytes, segment.mask(), offset) {
        return;
    }
    let Some(parts) = record::decode(bytes, 0, bytes.len()) else { return };
    let (ordinal, time, sequence) = (parts.ordinal, parts.time, parts.sequence);
    let block = Arc::new(Block { bytes: bytes.to_vec(), id_seed: segment.id_seed() });
    let Some(event) = annals::internals::event(&block, &parts, segment) else { return };
    if System::of(stream_key(&event)).is_some() {
        // A system record: no reader gets it, and its stream has no name.
        return;
    }
    let record = EventRecord::of(&event);
    assert_eq!((record.position, record.sequence), (segment.first_position + ordinal, sequence));

    let mut again = Vec::new();
    let wide = sequence > u32::MAX.into();
    let encoded = record::encode(&mut again, stream_key(&event), &event.to_new(), wide, record::MAX_RECORD);
    let mut unfinished = encoded.expect("what was decoded keeps the limits");
    assert!(unfinished.set_sequence(sequence));
    unfinished.finish(&mut again, segment.mask(), offset, ordinal, time);
    assert!(record::verify(&again, segment.mask(), offset));
    assert_eq!(record::len(&again), Some(again.len()));
    let parts = record::decode(&again, 0, again.len()).expect("what was just encoded");
    let block = Arc::new(Block { bytes: again, id_seed: segment.id_seed() });
    let event = annals::internals::event(&block, &parts, segment).expect("what was just encoded");
    assert_eq!(EventRecord::of(&event), record);
}

/// A frame with the same header and body is the same frame, but for bits that this version does not
/// write.
fn again(header: &FrameHeader, whole: &[u8]) {
    if header.reserved != 0 {
        return;
    }
    let mut again = vec![0; HEADER];
    again.extend_from_slice(&whole[HEADER..header.table_at() as usize]);
    frame::finish(&mut again, *header, None, first_header().mask(), START);
    assert_eq!(again, whole, "the frame is another one when it is written again");
}

/// No error of one bit passes the checksums.
fn flipped(whole: &[u8], seed: usize) {
    let mask = first_header().mask();
    let mut bytes = whole.to_vec();
    let bit = seed.wrapping_mul(0x9E37_79B1) % (bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    let holds = FrameHeader::decode(&bytes, mask, START)
        .is_some_and(|header| header.frame_len() == bytes.len() as u64 && header.verify(&bytes, mask, START).is_ok());
    assert!(!holds, "bit {bit} is another one, and nobody sees it");
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let built = build::small(Ended::Closed);
    let mut seeds = vec![Vec::new(), [&[0][..], &built.files["HEAD"]].concat()];
    for number in 1..=3 {
        let bytes = &built.files[&segment_name(number)];
        seeds.push([&[0][..], &bytes[..START as usize]].concat());
        let mut at = START as usize;
        while let Some(header) = bytes.get(at..at + HEADER) {
            let len = frame::frame_len(annals::internals::format::u32_at(header, 16).into()) as usize;
            // A frame of the first segment is one for this target as it is; one of another only
            // when it is sealed.
            seeds.push([&[1][..], &bytes[at..at + len]].concat());
            // Records alone.
            seeds.push([&[0][..], &bytes[at + HEADER..at + len]].concat());
            at += len;
        }
    }
    seeds
}
