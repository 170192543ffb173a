//! An index file: whatever its bytes are, lookups end, and an answer is right unless checksums were
//! crafted.

use super::build::{self, Ended, put_file};
use super::seal;
use annals::fs::{Fs, MemFs};
use annals::internals::directory::{index_name, segment_name};
use annals::internals::format::index_file::{self, EntryHead, IndexHeader, NewEntry, PRELUDE, entry_lens};
use annals::internals::format::segment_header::SegmentHeader;
use annals::internals::index::file::{IndexBroken, IndexFile};
use annals::internals::index::term::{Term, TermKind};
use annals::internals::segment::START;
use std::ops::Range;
use std::path::Path;
use std::sync::OnceLock;

/// A segment and its index, as they should be.
struct Base {
    segment: SegmentHeader,
    index: Vec<u8>,
    /// Each term with its offsets.
    terms: Vec<(Vec<u8>, Vec<u32>)>,
}

fn base() -> &'static Base {
    static BASE: OnceLock<Base> = OnceLock::new();
    BASE.get_or_init(|| {
        let commits: Vec<(u64, usize)> = (0..90).map(|n| (1 + n % 3, 20 + n as usize * 7 % 300)).collect();
        let built = build::store(&[&commits], Ended::Closed);
        let index = built.files[&index_name(1)].clone();
        let bytes = &built.files[&segment_name(1)];
        let segment = SegmentHeader::decode(bytes, Path::new("")).ok().flatten().expect("a good header");
        let mut terms = Vec::new();
        let file = open(&index, &segment).expect("a good index");
        file.entries(b"", |entry| {
            let offsets = offsets(&file, &entry)?;
            terms.push((entry.term, offsets));
            Ok(())
        })
        .expect("a good index");
        assert!(terms.len() > 10);
        Base { segment, index, terms }
    })
}

fn open(bytes: &[u8], segment: &SegmentHeader) -> Option<IndexFile> {
    let fs = MemFs::new();
    put_file(&fs, &Path::new("store").join(index_name(segment.number)), bytes);
    IndexFile::open(&fs as &dyn Fs, Path::new("store"), segment, false)
}

fn offsets(file: &IndexFile, entry: &EntryHead) -> Result<Vec<u32>, IndexBroken> {
    let mut found = Vec::new();
    file.offsets(entry, &(0..u64::MAX), &mut found)?;
    Ok(found)
}

/// The first byte says what the rest is: an index file; one that is sealed before it is used;
/// changes to a good one, two bytes for the place and one for the new value; offsets for an entry.
pub fn index_file(input: &[u8]) {
    let Some((&mode, bytes)) = input.split_first() else { return };
    match mode % 4 {
        0 => look(bytes, false),
        1 => look(bytes, true),
        2 => changed(bytes),
        _ => round_trip(bytes),
    }
}

/// Reads everything in the file, in every way.
fn look(bytes: &[u8], sealed: bool) {
    let base = base();
    let mut bytes = bytes.to_vec();
    let mut segment = base.segment;
    if sealed {
        seal::index(&mut bytes);
        // The index of whatever segment it names.
        if let Some(IndexHeader { store, segment: number, salt, .. }) = IndexHeader::decode(&bytes) {
            segment = SegmentHeader { store, number, salt, ..segment };
        }
    }
    let Some(file) = open(&bytes, &segment) else { return };
    let mut entries = Vec::new();
    let _ = file.entries(b"", |entry| {
        entries.push(entry);
        Ok(())
    });
    for entry in &entries {
        let _ = file.find(&entry.term);
        let _ = file.last(entry);
        let all = offsets(&file, entry);
        for range in [0..1, 0..START + 200, 300..301, 1000..u64::from(u32::MAX)] {
            within(&file, entry, &range, all.as_ref().ok());
        }
        for (first, count) in [(0, 1), (0, usize::MAX >> 1), (2, 3), (u64::from(entry.count) - 1, 1)] {
            let mut found = Vec::new();
            let nth = file.nth(entry, first, count, &mut found);
            if let (Ok(()), Ok(all)) = (nth, &all) {
                assert!(found.iter().eq(all.iter().skip(first as usize).take(count)), "{first}, {count}: {found:?}");
            }
        }
    }
    for (term, _) in &base.terms {
        let _ = file.find(term);
        let _ = file.entries(&term[..term.len().min(3)], |_| Ok(()));
    }
    let _ = file.find(Term::new(TermKind::Tag, None, b"nowhere").bytes());
    for number in 0..file.waypoint_count().min(300) {
        let _ = file.waypoint(number);
    }
    let _ = file.waypoints_before(|waypoint| waypoint.ordinal < 10);
}

/// The offsets within a range are those of all that are in it.
fn within(file: &IndexFile, entry: &EntryHead, range: &Range<u64>, all: Option<&Vec<u32>>) {
    let mut found = Vec::new();
    if let (Ok(()), Some(all)) = (file.offsets(entry, range, &mut found), all) {
        // This code does not write offsets that do not rise.
        if all.is_sorted() {
            assert!(found.iter().eq(all.iter().filter(|&&offset| range.contains(&offset.into()))));
        }
    }
}

/// Looks up all terms in a good file with some changed bytes. Unless the checksums fail, the
/// answers are right.
fn changed(changes: &[u8]) {
    let base = base();
    let mut bytes = base.index.clone();
    for change in changes.as_chunks::<3>().0.iter().take(4) {
        let at = usize::from(u16::from_le_bytes([change[0], change[1]])) % bytes.len();
        bytes[at] = change[2];
    }
    let Some(file) = open(&bytes, &base.segment) else { return };
    for (term, right) in &base.terms {
        let Ok(found) = file.find(term) else { continue };
        let entry = found.expect("a term that is there is not found");
        if let Ok(offsets) = offsets(&file, &entry) {
            assert_eq!(&offsets, right);
        }
    }
    let mut terms = Vec::new();
    let all = file.entries(b"", |entry| {
        terms.push(entry.term);
        Ok(())
    });
    if all.is_ok() {
        assert!(terms.iter().eq(base.terms.iter().map(|(term, _)| term)), "terms are missing");
    }
}

/// An entry with these offsets, as differences of two bytes each, comes back.
fn round_trip(bytes: &[u8]) {
    let mut last = START as u32;
    let gaps = bytes.as_chunks::<2>().0.iter();
    let rising = gaps.map(|gap| {
        last += 1 + u32::from(u16::from_le_bytes(*gap));
        last
    });
    let rising: Vec<u32> = rising.collect();
    if rising.is_empty() {
        return;
    }
    let mask = index_file::mask(&base().segment, 7);
    let new = NewEntry { term: b"\x04\0tag", value: bytes.len() as u64, offsets: &rising };
    let mut out = Vec::new();
    index_file::encode_entry(&mut out, &new, mask, 512);
    let (head, postings) = entry_lens(&out);
    assert_eq!(out.len(), PRELUDE + head as usize + postings as usize);
    let entry = index_file::decode_entry(&out[..PRELUDE + head as usize], mask, 512).expect("what was just encoded");
    let mut found = Vec::new();
    for number in 0..entry.chunks.len() {
        let (at, len) = entry.chunk_bytes(number);
        let bytes = &out[at as usize - 512..][..len];
        assert!(entry.decode_chunk(number, bytes, mask, at, &mut found));
    }
    assert_eq!((found, entry.count as usize), (rising.clone(), rising.len()));
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let built = build::small(Ended::Closed);
    let mut seeds = vec![Vec::new(), vec![2, 0, 0, 0], [&[3][..], &super::noise(1, 3000)].concat()];
    for mode in [0, 1] {
        seeds.push([&[mode][..], &base().index].concat());
        for number in 1..=3 {
            seeds.push([&[mode][..], &built.files[&index_name(number)]].concat());
        }
    }
    for seed in 0..8 {
        seeds.push([&[2][..], &super::noise(seed, 6)].concat());
    }
    seeds
}
