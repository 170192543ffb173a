//! Carving: finds the intact pieces in the bytes of one segment, which are whole commits and single
//! events of damaged commits.

use super::files::KnownSegment;
use crate::error::Result;
use crate::format::checksum::{self, Mask};
use crate::format::commit::Frame;
use crate::format::frame::{ALIGN, FrameHeader, HEADER, MAGIC, SEAL, Seal};
use crate::format::{is_zero, record};
use crate::segment::START;
use std::ops::Range;
use std::path::Path;

/// Minimum length of a record: length, flags, key, type, length of the metadata, tail.
const SHORTEST: usize = 1 + 2 + 3 + 2 + 1 + 18;

/// An intact piece of a segment.
#[derive(Clone, Debug)]
pub(super) enum Find {
    /// An intact commit.
    Commit {
        at: usize,
        header: FrameHeader,
    },
    /// The header of a damaged commit. `attributes` is the range of its attributes if they are
    /// intact, and otherwise empty.
    Broken {
        at: usize,
        header: FrameHeader,
        attributes: Range<usize>,
    },
    /// An event of a damaged commit.
    Event {
        bytes: Range<usize>,
        position: u64,
        recorded_at: i64,
    },
    Seal(Seal),
}

/// Returns the intact pieces in the bytes of a segment file, in order of offsets.
///
/// # Errors
///
/// [`Error::UnsupportedFormat`](crate::Error::UnsupportedFormat) if an intact commit is of a newer
/// version.
pub(super) fn finds(bytes: &[u8], known: &KnownSegment, path: &Path) -> Result<Vec<Find>> {
    let mut found = Vec::new();
    let mut at = START as usize;
    while at + SHORTEST <= bytes.len() {
        let aligned = at.is_multiple_of(ALIGN as usize);
        if aligned && bytes[at..at + 8] == [0; 8] {
            at += zeros(&bytes[at..]);
            continue;
        }
        if aligned
            && bytes[at..at + 4] == MAGIC
            && let Some(header) = FrameHeader::decode(&bytes[at..], known.mask, at as u64)
        {
            if let Some(find) = commit(bytes, at, header, known, path)? {
                found.push(find);
                at += header.frame_len() as usize;
            } else {
                found.push(Find::Broken { at, header, attributes: attributes(bytes, at, &header, known.mask) });
                at += HEADER;
            }
            continue;
        }
        match event(bytes, at, known) {
            Some(find) => {
                let Find::Event { bytes: Range { end, .. }, .. } = find else { unreachable!("it is an event") };
                found.push(find);
                at = end;
            }
            None => at += 1,
        }
    }
    Ok(found)
}

/// Returns the number of zeros at the start of `bytes`, in steps of 8.
fn zeros(bytes: &[u8]) -> usize {
    let blocks = bytes.chunks(4096).take_while(|chunk| is_zero(chunk)).map(<[u8]>::len).sum::<usize>();
    let rest = bytes[blocks..].chunks_exact(8).take_while(|word| is_zero(word)).count() * 8;
    blocks + rest
}

/// Returns the commit or seal with this header, if its body is intact. Its padding and trailer need
/// not be intact.
fn commit(bytes: &[u8], at: usize, header: FrameHeader, known: &KnownSegment, path: &Path) -> Result<Option<Find>> {
    let end = at as u64 + header.table_at() + header.table_len();
    if end > bytes.len() as u64 {
        return Ok(None);
    }
    let offset = at as u64;
    let frame = Frame { offset, header, bytes: &bytes[at..end as usize] };
    if header.verify_body(frame.bytes, known.mask, offset).is_err() {
        return Ok(None);
    }
    if header.kind == SEAL {
        let seal = Seal::decode(&frame.bytes[HEADER..header.table_at() as usize]);
        return Ok(seal.map(Find::Seal));
    }
    if !header.is_known() {
        return Err(crate::Error::UnsupportedFormat {
            path: path.to_owned(),
            found: "a commit of a kind that this version does not know".into(),
        });
    }
    let whole = header.first_position >= known.header.first_position
        && frame.records_are_intact(&known.header, known.mask, path)?;
    Ok(whole.then_some(Find::Commit { at, header }))
}

/// Returns the range of the attributes of a damaged commit; empty if they are not intact. The
/// header proves that the table is intact, and the table that the blocks with the attributes are.
fn attributes(bytes: &[u8], at: usize, header: &FrameHeader, mask: Mask) -> Range<usize> {
    let body = at + HEADER;
    let len = header.attributes_len as usize;
    let covered = len.next_multiple_of(checksum::BLOCK).min(header.body_len as usize);
    let table_at = at as u64 + header.table_at();
    let table = usize::try_from(table_at).ok().and_then(|from| bytes.get(from..from + header.table_len() as usize));
    let holds = len > 0
        && table.is_some_and(|table| {
            let crcs = covered.div_ceil(checksum::BLOCK) * checksum::CRC;
            !table.is_empty()
                && header.vouches_for(table, mask, at as u64)
                && checksum::table_holds(&bytes[body..body + covered], &table[..crcs])
        });
    if holds { body..body + len } else { body..body }
}

/// Returns the event whose record is at `at`, if there is one. Cheap checks come first.
fn event(bytes: &[u8], at: usize, known: &KnownSegment) -> Option<Find> {
    let left = &bytes[at..];
    let len = record::len(left).filter(|&len| SHORTEST <= len && len <= left.len())?;
    let parts = record::decode(bytes, at, at + len)?;
    let (position, recorded_at) = parts.place(known.header.first_position, known.header.base_time)?;
    let intact = record::verify(&left[..len], known.mask, at as u64);
    intact.then_some(Find::Event { bytes: at..at + len, position, recorded_at })
}
