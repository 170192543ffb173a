//! The pieces of a segment's index file. Each piece has its own checksum, so that a lookup copies
//! and verifies a few hundred bytes, and opening reads one page.
//!
//! ```text
//! header (512) | buckets (256 each) | entries, sorted by term | samples (pages of 4,096) | waypoints (pages of 4,096)
//! ```

use super::checksum::{CRC, Mask, crc};
use super::frame::Chain;
use super::segment_header::{LEN as SEGMENT_HEADER, SegmentHeader};
use super::{VERSION, put, u16_at, u32_at, u64_at, varint};
use std::ops::Range;

pub const HEADER: usize = 512;
const MAGIC: [u8; 8] = *b"\x89ANX\r\n\x1A\n";

pub const BUCKET: usize = 256;
const SLOT: usize = 8;
/// Slots of a bucket: the rest of it is the CRC and the count.
pub const SLOTS: usize = (BUCKET - 8) / SLOT;
/// Average number of filled slots.
const LOAD: usize = 20;

pub const PAGE: usize = 4096;
const WAYPOINT: usize = 20;
/// Number of waypoints in a page.
pub const WAYPOINTS: usize = (PAGE - CRC) / WAYPOINT;
/// Number of samples in a page.
pub const SAMPLES: usize = (PAGE - CRC) / 4;
/// One entry in this many has a sample, its offset.
pub const SAMPLE_EVERY: usize = 64;

/// Length of the prelude of an entry.
pub const PRELUDE: usize = 12;
/// A chunk of postings ends when it has this many bytes.
const CHUNK: usize = 512;
const CHUNK_ENTRY: usize = 16;

/// The masks of an index file differ from those of its segment, and from those of other index files
/// of the same segment: a piece of one never passes for a piece of another.
pub fn mask(segment: &SegmentHeader, generation: u64) -> Mask {
    Mask::new(&segment.store, segment.number, !segment.salt ^ generation)
}

/// The generation of an index: up to where it covers the segment. Two that cover the same are
/// identical.
pub fn generation(end: u64, chain: &Chain) -> u64 {
    let [end, digest, position] = [end, chain.digest, chain.next_position].map(u64::to_le_bytes);
    hash(&[end, digest, position].concat(), 0)
}

/// The parts of the file, and what of the segment they cover.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexHeader {
    pub store: [u8; 16],
    pub segment: u64,
    pub salt: u64,
    /// Of this file, as a segment may get several indexes, one after the other: see [`generation`].
    pub generation: u64,
    /// Number of covered events.
    pub events: u64,
    /// The end of the last covered frame.
    pub end: u64,
    /// The chain there.
    pub chain: Chain,
    pub buckets: u32,
    pub entries: u32,
    pub entries_at: u64,
    pub samples_at: u64,
    pub waypoints: u32,
    pub waypoints_at: u64,
    /// Length of the whole file in bytes.
    pub len: u64,
}

impl IndexHeader {
    pub fn encode(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        put(&mut out, 0, &MAGIC);
        put(&mut out, 8, &VERSION.to_le_bytes());
        put(&mut out, 10, &1u16.to_le_bytes());
        put(&mut out, 12, &(HEADER as u32).to_le_bytes());
        put(&mut out, 16, &self.store);
        put(&mut out, 32, &self.segment.to_le_bytes());
        put(&mut out, 40, &self.salt.to_le_bytes());
        put(&mut out, 48, &self.events.to_le_bytes());
        put(&mut out, 56, &self.end.to_le_bytes());
        put(&mut out, 64, &self.chain.next_position.to_le_bytes());
        put(&mut out, 72, &self.chain.digest.to_le_bytes());
        put(&mut out, 80, &self.chain.frames.to_le_bytes());
        put(&mut out, 88, &self.chain.recorded_at.to_le_bytes());
        put(&mut out, 96, &self.chain.previous.to_le_bytes());
        put(&mut out, 100, &self.buckets.to_le_bytes());
        put(&mut out, 104, &self.entries.to_le_bytes());
        put(&mut out, 108, &self.waypoints.to_le_bytes());
        put(&mut out, 112, &self.entries_at.to_le_bytes());
        put(&mut out, 120, &self.samples_at.to_le_bytes());
        put(&mut out, 128, &self.waypoints_at.to_le_bytes());
        put(&mut out, 136, &self.len.to_le_bytes());
        put(&mut out, 144, &self.generation.to_le_bytes());
        let crc = crc(&out[..HEADER - CRC]);
        put(&mut out, HEADER - CRC, &crc.to_le_bytes());
        out
    }

    /// Decodes the header; `None` if the bytes are not a header of this version whose parts are
    /// inside the file. An index can be rebuilt: one of a newer version is no reason to refuse
    /// anything.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        if bytes.len() < HEADER || bytes[..8] != MAGIC || u16_at(bytes, 10) > VERSION {
            return None;
        }
        if crc(&bytes[..HEADER - CRC]) != u32_at(bytes, HEADER - CRC) {
            return None;
        }
        let header = IndexHeader {
            store: super::array(bytes, 16),
            segment: u64_at(bytes, 32),
            salt: u64_at(bytes, 40),
            events: u64_at(bytes, 48),
            end: u64_at(bytes, 56),
            chain: Chain {
                next_position: u64_at(bytes, 64),
                digest: u64_at(bytes, 72),
                frames: u64_at(bytes, 80),
                recorded_at: u64_at(bytes, 88) as i64,
                previous: u32_at(bytes, 96),
            },
            buckets: u32_at(bytes, 100),
            entries: u32_at(bytes, 104),
            waypoints: u32_at(bytes, 108),
            entries_at: u64_at(bytes, 112),
            samples_at: u64_at(bytes, 120),
            waypoints_at: u64_at(bytes, 128),
            len: u64_at(bytes, 136),
            generation: u64_at(bytes, 144),
        };
        header.is_sound().then_some(header)
    }

    /// Returns whether this is the index of that segment, and covers what the segment can have.
    pub fn is_of(&self, segment: &SegmentHeader) -> bool {
        (self.store, self.segment, self.salt) == (segment.store, segment.number, segment.salt)
            && self.chain.next_position.checked_sub(segment.first_position) == Some(self.events)
            && self.chain.recorded_at >= segment.base_time
            && self.end >= SEGMENT_HEADER as u64
    }

    /// Returns whether the parts follow each other as they are written, and none is longer than a
    /// `u32` can say.
    fn is_sound(&self) -> bool {
        let pages = |count: u64, of: usize| count.div_ceil(of as u64) * PAGE as u64;
        let samples = u64::from(self.entries).div_ceil(SAMPLE_EVERY as u64);
        self.buckets > 0
            && self.len <= u64::from(u32::MAX)
            && self.entries_at == HEADER as u64 + u64::from(self.buckets) * BUCKET as u64
            && self.entries_at <= self.samples_at
            && self.waypoints_at.checked_sub(pages(samples, SAMPLES)) == Some(self.samples_at)
            && self.len.checked_sub(pages(self.waypoints.into(), WAYPOINTS)) == Some(self.waypoints_at)
    }
}

/// Returns the hash of a term: folded multiplication of eight bytes at a time, as in wyhash. It is
/// not cryptographic; the seed, which is random for each segment, keeps whoever chooses the terms
/// from choosing collisions.
pub fn hash(term: &[u8], seed: u64) -> u64 {
    const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
    let fold = |a: u64, b: u64| {
        let product = u128::from(a) * u128::from(b);
        product as u64 ^ (product >> 64) as u64
    };
    let mut state = seed ^ FACTOR;
    let (words, rest) = term.as_chunks::<8>();
    for word in words {
        state = fold(state ^ u64::from_le_bytes(*word), FACTOR);
    }
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    state = fold(state ^ u64::from_le_bytes(last), FACTOR ^ term.len() as u64);
    fold(state, FACTOR)
}

/// Returns the number of buckets for this many terms.
pub fn bucket_count(terms: usize) -> usize {
    terms.div_ceil(LOAD).max(1)
}

/// Returns the bucket where a hash is looked up first.
pub fn bucket_of(hash: u64, buckets: u32) -> u32 {
    ((u128::from(hash) * u128::from(buckets)) >> 64) as u32
}

/// Returns what a slot keeps of a hash: the bits that did not choose the bucket.
fn tag(hash: u64) -> u32 {
    hash as u32
}

/// The buckets of a file that is being written. A full one overflows into the next one.
pub struct Buckets {
    bytes: Vec<u8>,
    count: usize,
}

impl Buckets {
    /// Returns buckets for this many terms.
    pub fn new(terms: usize) -> Self {
        let count = bucket_count(terms);
        Buckets { bytes: vec![0; count * BUCKET], count }
    }

    /// Returns the length of all of them.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    pub fn count(&self) -> u32 {
        self.count as u32
    }

    /// Adds a term: its hash, and the offset of its entry. There must be buckets for it.
    pub fn put(&mut self, hash: u64, at: u32) {
        let mut n = bucket_of(hash, self.count as u32) as usize;
        loop {
            let bucket = &mut self.bytes[n * BUCKET..][..BUCKET];
            let filled = u32_at(bucket, 4) as usize;
            if filled < SLOTS {
                put(bucket, 4, &(filled as u32 + 1).to_le_bytes());
                put(bucket, 8 + filled * SLOT, &tag(hash).to_le_bytes());
                put(bucket, 12 + filled * SLOT, &at.to_le_bytes());
                return;
            }
            n = (n + 1) % self.count;
        }
    }

    /// Returns their bytes, with checksums.
    pub fn finish(mut self, mask: Mask) -> Vec<u8> {
        for (n, bucket) in self.bytes.chunks_exact_mut(BUCKET).enumerate() {
            let stored = mask.stored(crc(&bucket[4..]), (HEADER + n * BUCKET) as u64);
            put(bucket, 0, &stored.to_le_bytes());
        }
        self.bytes
    }
}

/// Returns the offsets of the entries in a bucket whose terms may have this hash, and whether the
/// bucket is full; `None` if it fails its checksum.
pub fn decode_bucket(bucket: &[u8], hash: u64, mask: Mask, at: u64) -> Option<(impl Iterator<Item = u32>, bool)> {
    let count = u32_at(bucket, 4) as usize;
    if mask.stored(crc(&bucket[4..]), at) != u32_at(bucket, 0) || count > SLOTS {
        return None;
    }
    let slots = (0..count).map(move |i| 8 + i * SLOT);
    let hits = slots.filter(move |&slot| u32_at(bucket, slot) == tag(hash));
    Some((hits.map(move |slot| u32_at(bucket, slot + 4)), count == SLOTS))
}

/// Encodes a page of fixed-size items: the items, zeros, and a CRC.
pub fn encode_pages(items: &[u8], item: usize, mask: Mask, mut at: u64) -> Vec<u8> {
    let mut out = Vec::new();
    for chunk in items.chunks((PAGE - CRC) / item * item) {
        let start = out.len();
        out.extend_from_slice(chunk);
        out.resize(start + PAGE - CRC, 0);
        let stored = mask.stored(crc(&out[start..]), at);
        out.extend_from_slice(&stored.to_le_bytes());
        at += PAGE as u64;
    }
    out
}

/// Returns whether a page is intact.
pub fn page_holds(page: &[u8], mask: Mask, at: u64) -> bool {
    page.len() == PAGE && mask.stored(crc(&page[..PAGE - CRC]), at) == u32_at(page, PAGE - CRC)
}

/// A record from which a read in order of positions can begin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Waypoint {
    /// Position of the record minus the first position of the segment.
    pub ordinal: u32,
    /// Offset of its frame.
    pub frame: u32,
    /// Offset of the record itself.
    pub record: u32,
    /// The recorded time of the record.
    pub recorded_at: i64,
}

impl Waypoint {
    pub const LEN: usize = WAYPOINT;

    pub fn encode(&self, out: &mut Vec<u8>) {
        for field in [self.ordinal, self.frame, self.record] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        out.extend_from_slice(&self.recorded_at.to_le_bytes());
    }

    /// Decodes the waypoint with this number in a page.
    pub fn decode(page: &[u8], number: usize) -> Self {
        let at = number * WAYPOINT;
        Waypoint {
            ordinal: u32_at(page, at),
            frame: u32_at(page, at + 4),
            record: u32_at(page, at + 8),
            recorded_at: u64_at(page, at + 12) as i64,
        }
    }
}

/// A chunk of the postings of a term.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Chunk {
    /// The lowest offset in it.
    pub first: u32,
    /// Number of offsets in earlier chunks.
    pub before: u32,
    /// Where its bytes begin, after the head of the entry.
    pub at: u32,
    /// CRC of its bytes, as stored at its offset in the file.
    crc: u32,
}

/// The head of an entry.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct EntryHead {
    pub term: Vec<u8>,
    /// Number of offsets.
    pub count: u32,
    /// The value of the newest posting: see `docs/FORMAT.md`, Index file.
    pub value: u64,
    pub chunks: Vec<Chunk>,
    /// The offset of the bytes of the chunks in the file, and their length.
    pub postings_at: u64,
    pub postings_len: u32,
}

/// The parts of an entry.
pub struct NewEntry<'a> {
    pub term: &'a [u8],
    pub value: u64,
    pub offsets: &'a [u32],
}

/// Appends an entry that will be at `at`.
pub fn encode_entry(out: &mut Vec<u8>, entry: &NewEntry<'_>, mask: Mask, at: u64) {
    let start = out.len();
    let mut postings = Vec::new();
    let mut chunks = Vec::new();
    let mut last = 0;
    for (n, &offset) in entry.offsets.iter().enumerate() {
        let begun = chunks.last().map_or(0, |chunk: &Chunk| chunk.at as usize);
        if chunks.is_empty() || postings.len() - begun >= CHUNK {
            chunks.push(Chunk { first: offset, before: n as u32, at: postings.len() as u32, crc: 0 });
            last = offset;
        }
        varint::put(&mut postings, (offset - last).into());
        last = offset;
    }
    out.resize(start + PRELUDE, 0);
    varint::put(out, entry.term.len() as u64);
    out.extend_from_slice(entry.term);
    varint::put(out, entry.offsets.len() as u64);
    varint::put(out, entry.value);
    varint::put(out, 0);
    varint::put(out, chunks.len() as u64);
    let head = out.len() + chunks.len() * CHUNK_ENTRY - start - PRELUDE;
    let postings_at = at + (PRELUDE + head) as u64;
    for (n, chunk) in chunks.iter().enumerate() {
        let end = chunks.get(n + 1).map_or(postings.len(), |next| next.at as usize);
        let crc = mask.stored(crc(&postings[chunk.at as usize..end]), postings_at + u64::from(chunk.at));
        for field in [chunk.first, chunk.before, chunk.at, crc] {
            out.extend_from_slice(&field.to_le_bytes());
        }
    }
    put(out, start + 4, &(head as u32).to_le_bytes());
    put(out, start + 8, &(postings.len() as u32).to_le_bytes());
    let stored = mask.stored(crc(&out[start + 4..]), at);
    put(out, start, &stored.to_le_bytes());
    out.extend_from_slice(&postings);
}

/// Returns the lengths of the head and of the postings of the entry that begins with `prelude`. Not
/// verified: the head's checksum covers both.
pub fn entry_lens(prelude: &[u8]) -> (u32, u32) {
    (u32_at(prelude, 4), u32_at(prelude, 8))
}

/// Decodes prelude and head of an entry at `at`; `None` if they fail their checksum or break the
/// grammar.
pub fn decode_entry(bytes: &[u8], mask: Mask, at: u64) -> Option<EntryHead> {
    if bytes.len() < PRELUDE || mask.stored(crc(&bytes[4..]), at) != u32_at(bytes, 0) {
        return None;
    }
    let (_, postings_len) = entry_lens(bytes);
    let mut rest = &bytes[PRELUDE..];
    let mut next = || {
        let (value, len) = varint::get(rest)?;
        rest = &rest[len..];
        Some(value)
    };
    let term_len = usize::try_from(next()?).ok()?;
    let (term, tail) = rest.split_at_checked(term_len)?;
    rest = tail;
    let mut next = || {
        let (value, len) = varint::get(rest)?;
        rest = &rest[len..];
        Some(value)
    };
    let count = u32::try_from(next()?).ok()?;
    let value = next()?;
    let flags = next()?;
    let chunk_count = usize::try_from(next()?).ok()?;
    if flags != 0 || rest.len() != chunk_count.checked_mul(CHUNK_ENTRY)? {
        return None;
    }
    let (fields, _) = rest.as_chunks::<CHUNK_ENTRY>();
    let chunks: Vec<Chunk> = fields
        .iter()
        .map(|chunk| Chunk {
            first: u32_at(chunk, 0),
            before: u32_at(chunk, 4),
            at: u32_at(chunk, 8),
            crc: u32_at(chunk, 12),
        })
        .collect();
    let rising = chunks.is_sorted_by(|a, b| a.first < b.first && a.before < b.before && a.at < b.at);
    let inside = chunks.iter().all(|chunk| chunk.at <= postings_len && chunk.before < count);
    let begins = chunks.first().is_none_or(|chunk| (chunk.before, chunk.at) == (0, 0));
    let named = term.get(1).is_some_and(|&edition| term.len() >= 2 + usize::from(edition));
    let counted = count > 0 && !chunks.is_empty();
    (rising && inside && begins && named && counted).then(|| EntryHead {
        term: term.to_vec(),
        count,
        value,
        chunks,
        postings_at: at + bytes.len() as u64,
        postings_len,
    })
}

impl EntryHead {
    /// Returns the sequences of the events, for a stream. If there is a deletion among them, only
    /// the last of those after it are right.
    pub fn sequences(&self) -> Range<u64> {
        self.value.saturating_sub(self.count.into())..self.value
    }

    /// Returns where the bytes of a chunk are in the file.
    pub fn chunk_bytes(&self, number: usize) -> (u64, usize) {
        let start = self.chunks[number].at;
        let end = self.chunks.get(number + 1).map_or(self.postings_len, |next| next.at);
        (self.postings_at + u64::from(start), (end - start) as usize)
    }

    /// Appends the offsets of a chunk, whose bytes are at `at`, to `out`. Returns `false` if they
    /// fail their checksum or are not as many as the head says.
    #[must_use]
    pub fn decode_chunk(&self, number: usize, bytes: &[u8], mask: Mask, at: u64, out: &mut Vec<u32>) -> bool {
        let chunk = self.chunks[number];
        if mask.stored(crc(bytes), at) != chunk.crc {
            return false;
        }
        let (before, mut rest, mut offset) = (out.len(), bytes, chunk.first);
        out.reserve(bytes.len().min(CHUNK));
        while let Some((gap, len)) = varint::get(rest) {
            let Some(next) = u32::try_from(gap).ok().and_then(|gap| offset.checked_add(gap)) else { return false };
            offset = next;
            out.push(offset);
            rest = &rest[len..];
        }
        let end = self.chunks.get(number + 1).map_or(self.count, |next| next.before);
        rest.is_empty() && out.len() - before == (end - chunk.before) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEGMENT: SegmentHeader = SegmentHeader {
        store: [2; 16],
        number: 5,
        first_position: 0,
        salt: 9,
        base_time: 0,
        previous_digest: 0,
        previous_len: 0,
    };

    #[test]
    fn entries_come_back() {
        for count in [1usize, 2, 200, 5000] {
            let offsets: Vec<u32> = (0..count as u32).map(|i| 128 + i * (1 + i % 700)).collect();
            let mut offsets = offsets;
            offsets.sort_unstable();
            offsets.dedup();
            let new = NewEntry { term: b"\x03\0term", value: 77, offsets: &offsets };
            let mut out = Vec::new();
            encode_entry(&mut out, &new, mask(&SEGMENT, 3), 1000);
            let (head, postings) = entry_lens(&out);
            assert_eq!(out.len(), PRELUDE + (head + postings) as usize);
            let entry = decode_entry(&out[..PRELUDE + head as usize], mask(&SEGMENT, 3), 1000).unwrap();
            assert_eq!((&entry.term[..], entry.count as usize, entry.value), (&b"\x03\0term"[..], offsets.len(), 77));
            let mut found = Vec::new();
            for n in 0..entry.chunks.len() {
                let (at, len) = entry.chunk_bytes(n);
                let bytes = &out[at as usize - 1000..][..len];
                assert!(entry.decode_chunk(n, bytes, mask(&SEGMENT, 3), at, &mut found));
            }
            assert_eq!(found, offsets);
        }
    }

    #[test]
    fn every_flipped_bit_of_an_entry_shows() {
        let offsets: Vec<u32> = (0..700).map(|i| i * 300).collect();
        let new = NewEntry { term: b"\x03\0term", value: 0, offsets: &offsets };
        let mut out = Vec::new();
        encode_entry(&mut out, &new, mask(&SEGMENT, 3), 512);
        let read = |out: &[u8]| {
            let (head, _) = entry_lens(out);
            let head = out.get(..PRELUDE.checked_add(head as usize)?)?;
            let entry = decode_entry(head, mask(&SEGMENT, 3), 512)?;
            let mut found = Vec::new();
            for n in 0..entry.chunks.len() {
                let (at, len) = entry.chunk_bytes(n);
                let bytes = out.get(at as usize - 512..)?.get(..len)?;
                entry.decode_chunk(n, bytes, mask(&SEGMENT, 3), at, &mut found).then_some(())?;
            }
            Some(found)
        };
        assert_eq!(read(&out), Some(offsets));
        for bit in 0..out.len() * 8 {
            out[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&out), None, "bit {bit}");
            out[bit / 8] ^= 1 << (bit % 8);
        }
    }

    #[test]
    fn all_terms_are_found_in_their_buckets() {
        let terms: Vec<(u64, u32)> = (0..3000u32).map(|i| (hash(&i.to_le_bytes(), 3), i)).collect();
        let mut made = Buckets::new(terms.len());
        terms.iter().for_each(|&(hash, at)| made.put(hash, at));
        let bytes = made.finish(mask(&SEGMENT, 3));
        let buckets = (bytes.len() / BUCKET) as u32;
        for &(hash, at) in &terms {
            let mut n = bucket_of(hash, buckets);
            loop {
                let bucket = &bytes[n as usize * BUCKET..][..BUCKET];
                let place = (HEADER + n as usize * BUCKET) as u64;
                let (mut hits, full) = decode_bucket(bucket, hash, mask(&SEGMENT, 3), place).unwrap();
                if hits.any(|hit| hit == at) {
                    break;
                }
                assert!(full, "{at} is nowhere");
                n = (n + 1) % buckets;
            }
        }
        assert!(decode_bucket(&bytes[..BUCKET], 0, mask(&SEGMENT, 3), 0).is_none(), "in another place");
    }
}
