//! Corrects the checksums of any bytes.

use annals::internals::format::checksum::{self, BLOCK, CRC, Mask, crc};
use annals::internals::format::frame::{self, ALIGN, HEADER, MAGIC, SEAL, Seal, TRAILER};
use annals::internals::format::index_file::{self, BUCKET, IndexHeader, PAGE, PRELUDE};
use annals::internals::format::positions_file::{
    self, BATCH, BATCH_MAGIC, FileHeader, HEADER as POSITIONS_HEADER, MAX_BODY,
};
use annals::internals::format::segment_header::{self, LEN as SEGMENT_HEADER, SegmentHeader};
use annals::internals::format::{head, put, record, u16_at, u32_at, u64_at, varint};
use std::path::Path;

/// What the checksum of a body or a record covers: the table, if there is one.
fn table_of(piece: &[u8]) -> Vec<u8> {
    let mut out = piece.to_vec();
    checksum::put_table(&mut out, 0..piece.len());
    out.split_off(piece.len())
}

/// Seals the record that `bytes` are, if they can be one.
pub(super) fn record(bytes: &mut [u8], mask: Mask, offset: u64) {
    let Some((_, field)) = varint::get(bytes) else { return };
    if bytes.len() < field + 2 {
        return;
    }
    const WIDE: u16 = 1 << 7;
    let tail = if u16_at(bytes, field) & WIDE != 0 { 22 } else { 18 };
    let Some(tail_at) = bytes.len().checked_sub(tail) else { return };
    let Some(covered) = checksum::piece_len(tail_at as u64).map(|len| len as usize) else { return };
    if covered > BLOCK {
        let table = table_of(&bytes[..covered]);
        put(bytes, covered, &table);
    }
    let stands_in = if covered > BLOCK { covered..tail_at } else { 0..covered };
    let crc_at = bytes.len() - CRC;
    let sum = checksum::extend(crc(&bytes[stands_in]), &bytes[tail_at..crc_at]);
    put(bytes, crc_at, &mask.stored(sum, offset).to_le_bytes());
}

/// Seals the frame at the start of `bytes`, with its records. Returns its length, if it has one.
pub(super) fn frame(bytes: &mut [u8], mask: Mask, offset: u64) -> Option<usize> {
    if bytes.len() < HEADER {
        return None;
    }
    let body_len = u64::from(u32_at(bytes, 16));
    let len = usize::try_from(frame::frame_len(body_len)).ok().filter(|&len| body_len > 0 && len <= bytes.len())?;
    let bytes = &mut bytes[..len];
    let table_at = HEADER + body_len as usize;
    let mut at = HEADER.saturating_add(u32_at(bytes, 20) as usize);
    while at < table_at {
        let Some(len) = record::len(&bytes[at..table_at]).filter(|&len| len <= table_at - at) else { break };
        record(&mut bytes[at..at + len], mask, offset + at as u64);
        at += len;
    }
    let table = if body_len > BLOCK as u64 { table_of(&bytes[HEADER..table_at]) } else { Vec::new() };
    put(bytes, table_at, &table);
    let vouched = if table.is_empty() { HEADER..table_at } else { table_at..table_at + table.len() };
    let body_crc = mask.stored(crc(&bytes[vouched]), offset + 52);
    put(bytes, 52, &body_crc.to_le_bytes());
    put(bytes, 0, &MAGIC);
    let header_crc = mask.stored(crc(&bytes[8..HEADER]), offset);
    put(bytes, 4, &header_crc.to_le_bytes());
    let trailer = len - TRAILER;
    bytes[table_at + table.len()..trailer].fill(0);
    put(bytes, trailer, &(len as u32).to_le_bytes());
    bytes.copy_within(12..16, trailer + 4);
    put(bytes, trailer + 8, &header_crc.to_le_bytes());
    let trailer_crc = mask.stored(crc(&bytes[table_at..len - CRC]), offset + (len - CRC) as u64);
    put(bytes, len - CRC, &trailer_crc.to_le_bytes());
    Some(len)
}

/// Seals the header of a segment.
pub(super) fn segment_header(bytes: &mut [u8]) {
    if bytes.len() >= SEGMENT_HEADER {
        put(bytes, 0, b"\x89ANL\r\n\x1A\n");
        let sum = crc(&bytes[..SEGMENT_HEADER - 4]);
        put(bytes, SEGMENT_HEADER - 4, &sum.to_le_bytes());
    }
}

/// Seals a segment: its header, and its frames one after the other, chained, up to the first place
/// where there is none. Returns the digest of the frames with events, and the end of all.
pub(super) fn segment(bytes: &mut [u8]) -> Option<(u64, u64)> {
    segment_header(bytes);
    let header = SegmentHeader::decode(bytes, Path::new("")).ok()??;
    let mask = header.mask();
    let mut at = SEGMENT_HEADER;
    let mut previous = header.crc();
    let mut digest = u64::from(previous);
    while at + HEADER <= bytes.len() && bytes[at..at + 4] == MAGIC {
        let kind = bytes[at + 8];
        put(bytes, at + 48, &previous.to_le_bytes());
        if kind == SEAL && u64::from(u32_at(bytes, at + 16)) + (HEADER + TRAILER) as u64 == Seal::FRAME {
            let digest_at = at + HEADER + 32;
            if digest_at + 8 <= bytes.len() {
                put(bytes, digest_at, &digest.to_le_bytes());
            }
        }
        let Some(len) = frame(&mut bytes[at..], mask, at as u64) else { break };
        previous = u32_at(bytes, at + 4);
        if kind != SEAL {
            digest = segment_header::fold_digest(digest, previous);
        }
        at = (at + len).next_multiple_of(ALIGN as usize);
    }
    Some((digest, at as u64))
}

/// Seals the slots of HEAD.
pub(super) fn head(bytes: &mut [u8]) {
    for slot in bytes.chunks_exact_mut(head::SLOT) {
        put(slot, 0, b"\x89ANH\r\n\x1A\n");
        let sum = crc(&slot[..head::SLOT - CRC]);
        put(slot, head::SLOT - CRC, &sum.to_le_bytes());
    }
}

/// Seals an index file: header, buckets, entries with their chunks, and pages, as far as the header
/// can be followed.
pub(super) fn index(bytes: &mut [u8]) {
    if bytes.len() < index_file::HEADER {
        return;
    }
    put(bytes, 0, b"\x89ANX\r\n\x1A\n");
    let sum = crc(&bytes[..index_file::HEADER - CRC]);
    put(bytes, index_file::HEADER - CRC, &sum.to_le_bytes());
    let Some(header) = IndexHeader::decode(bytes) else { return };
    // As `index_file::mask`, for the segment that the file names.
    let mask = Mask::new(&header.store, header.segment, !header.salt ^ header.generation);
    let end = bytes.len();
    for n in 0..header.buckets as usize {
        let at = index_file::HEADER + n * BUCKET;
        let Some(bucket) = bytes.get_mut(at..at + BUCKET) else { return };
        let stored = mask.stored(crc(&bucket[4..]), at as u64);
        put(bucket, 0, &stored.to_le_bytes());
    }
    let samples_at = (header.samples_at as usize).min(end);
    let mut at = header.entries_at as usize;
    while at + PRELUDE <= samples_at {
        let Some(len) = entry(&mut bytes[at..samples_at], mask, at as u64) else { break };
        at += len;
    }
    let mut at = samples_at;
    while at + PAGE <= end {
        let stored = mask.stored(crc(&bytes[at..at + PAGE - CRC]), at as u64);
        put(bytes, at + PAGE - CRC, &stored.to_le_bytes());
        at += PAGE;
    }
}

/// Seals the entry at the start of `bytes`. Returns the length of head and postings, if they are
/// within.
fn entry(bytes: &mut [u8], mask: Mask, at: u64) -> Option<usize> {
    let (head, postings) = index_file::entry_lens(bytes);
    let head_end = PRELUDE.checked_add(head as usize)?;
    let len = head_end.checked_add(postings as usize).filter(|&len| len <= bytes.len())?;
    if let Some((chunks_at, count)) = chunks(&bytes[PRELUDE..head_end]) {
        for n in 0..count {
            let chunk = PRELUDE + chunks_at + n * 16;
            let start = head_end + u32_at(bytes, chunk + 8) as usize;
            let end = if n + 1 < count { head_end + u32_at(bytes, chunk + 24) as usize } else { len };
            let Some(postings) = bytes.get(start..end.min(len)) else { break };
            let stored = mask.stored(crc(postings), at + start as u64);
            put(bytes, chunk + 12, &stored.to_le_bytes());
        }
    }
    let stored = mask.stored(crc(&bytes[4..head_end]), at);
    put(bytes, 0, &stored.to_le_bytes());
    Some(len)
}

/// Where in the head of an entry its chunks begin, and how many there are.
fn chunks(head: &[u8]) -> Option<(usize, usize)> {
    let (term, field) = varint::get(head)?;
    let mut at = field.checked_add(usize::try_from(term).ok()?)?;
    let mut last = 0;
    for _ in 0..4 {
        let (value, len) = varint::get(head.get(at..)?)?;
        (last, at) = (value, at + len);
    }
    let count = usize::try_from(last).ok()?;
    (at.checked_add(count.checked_mul(16)?)? <= head.len()).then_some((at, count))
}

/// Lets a sealed segment follow another one, as far as their digests go.
pub(super) fn follow(bytes: &mut [u8], (digest, end): (u64, u64)) {
    if bytes.len() >= SEGMENT_HEADER && u64_at(bytes, 64) != digest {
        put(bytes, 64, &digest.to_le_bytes());
        put(bytes, 72, &end.to_le_bytes());
    }
}

/// Seals a snapshot file, as far as it has the length in its header; with `fit`, the header gets
/// the length of the file.
pub(super) fn snapshot(bytes: &mut [u8], fit: bool) {
    const HEAD: usize = annals::internals::format::state_file::LEN;
    if bytes.len() < HEAD {
        return;
    }
    put(bytes, 0, b"\x89ANS\r\n\x1A\n");
    let key_end = HEAD + usize::from(u16_at(bytes, 80));
    if bytes.len() < key_end {
        return;
    }
    let both = (bytes.len() - key_end).checked_sub(CRC).and_then(|both| checksum::piece_len(both as u64));
    if let Some(len) = both.filter(|_| fit) {
        put(bytes, 72, &len.to_le_bytes());
    }
    let sum = checksum::extend(crc(&bytes[..HEAD - CRC]), &bytes[HEAD..key_end]);
    put(bytes, HEAD - CRC, &sum.to_le_bytes());
    let Some(len) = both.filter(|&len| len == u64_at(bytes, 72)) else { return };
    let (state_end, end) = (key_end + len as usize, bytes.len() - CRC);
    if state_end < end {
        let table = table_of(&bytes[key_end..state_end]);
        put(bytes, state_end, &table);
    }
    let piece = if state_end < end { state_end..end } else { key_end..state_end };
    let sum = checksum::extend(crc(&bytes[HEAD - CRC..HEAD]), &bytes[piece]);
    put(bytes, end, &sum.to_le_bytes());
}

/// Seals a positions file: its header, and its batches one after the other, numbered and chained,
/// up to the first place where there is none.
pub(super) fn positions(bytes: &mut [u8]) {
    if bytes.len() < POSITIONS_HEADER {
        return;
    }
    put(bytes, 0, b"\x89ANP\r\n\x1A\n");
    let sum = crc(&bytes[..POSITIONS_HEADER - CRC]);
    put(bytes, POSITIONS_HEADER - CRC, &sum.to_le_bytes());
    let Ok(Some(header)) = FileHeader::decode(bytes, Path::new("")) else { return };
    let mask = header.mask();
    let (mut at, mut number, mut previous) = (POSITIONS_HEADER, 1u64, header.chain());
    while at + BATCH <= bytes.len() && bytes[at..at + BATCH_MAGIC.len()] == BATCH_MAGIC {
        let len = u32_at(bytes, at + 16) as usize;
        let body = at + BATCH;
        let end = body + len.min(MAX_BODY);
        let table_end = end + checksum::table_len((end - body) as u64) as usize;
        if len <= MAX_BODY && table_end <= bytes.len() {
            if end < table_end {
                let table = table_of(&bytes[body..end]);
                put(bytes, end, &table);
            }
            let entries = positions_file::entries(&bytes[body..end]).count() as u32;
            put(bytes, at + 20, &entries.to_le_bytes());
            let covered = if end < table_end { end..table_end } else { body..end };
            let body_crc = mask.stored(crc(&bytes[covered]), at as u64 + 28);
            put(bytes, at + 28, &body_crc.to_le_bytes());
        }
        put(bytes, at + 8, &number.to_le_bytes());
        put(bytes, at + 24, &previous.to_le_bytes());
        previous = mask.stored(crc(&bytes[at + 8..body]), at as u64);
        put(bytes, at + 4, &previous.to_le_bytes());
        (at, number) = (table_end, number + 1);
    }
}
