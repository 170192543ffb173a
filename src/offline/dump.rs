//! Dump: lists each piece of each segment.

use super::segments;
use crate::error::Result;
use crate::format::frame::{EVENTS, FrameHeader};
use crate::fs::{Fs, Holes, RealFs};
use crate::segment::START;
use crate::segment::scan::ScanSource;
use crate::time::Timestamp;
use std::path::{Path, PathBuf};

/// The kind of a piece of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// The header of the segment.
    Header,
    /// A commit.
    Commit,
    /// The end of a sealed segment.
    Seal,
    /// Zeros up to the end of the file, written ahead of the log.
    Zeros,
    /// Bytes that are none of these.
    Unreadable,
}

/// A piece of a segment.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Piece {
    /// The file.
    pub path: PathBuf,
    /// Its offset in the file.
    pub offset: u64,
    /// Its length in bytes.
    pub len: u64,
    /// Its kind.
    pub kind: Kind,
    /// The position of its first event, or, without events, the next position; `None` if it is
    /// unknown.
    pub first_position: Option<u64>,
    /// Number of its events.
    pub events: u32,
    /// When it was recorded.
    pub recorded_at: Option<Timestamp>,
    /// Positions below this one were durable when it was written.
    pub durable_upto: Option<u64>,
    /// `ok`, or what is wrong with it.
    pub verdict: String,
}

/// Calls `each` with each piece of each segment, intact or not, in order of offsets. Changes
/// nothing and takes no lock.
///
/// # Errors
///
/// [`Error::NotAStore`](crate::Error::NotAStore), [`Error::Io`](crate::Error::Io),
/// [`Error::UnsupportedFormat`](crate::Error::UnsupportedFormat).
pub fn dump(path: impl AsRef<Path>, each: impl FnMut(Piece)) -> Result<()> {
    dump_in(&RealFs, path, each)
}

/// Does the same in another file system.
///
/// # Errors
///
/// As [`dump`].
pub fn dump_in(fs: &dyn Fs, path: impl AsRef<Path>, mut each: impl FnMut(Piece)) -> Result<()> {
    let fs = &Holes::new(fs);
    for named in segments(fs, path.as_ref())? {
        let (file, size) = named.open(fs)?;
        let source = ScanSource { path: &named.path, file: &*file, size };
        let piece = |offset, len, kind, verdict: &str| Piece {
            path: named.path.clone(),
            offset,
            len,
            kind,
            first_position: None,
            events: 0,
            recorded_at: None,
            durable_upto: None,
            verdict: match fs.is_met(&named.path, &(offset..offset + len)) {
                true => format!("{verdict}; some of these bytes cannot be read"),
                false => verdict.into(),
            },
        };
        let Some(header) = source.header()? else {
            let why = "the header of the segment is not intact; without it no commit can be verified";
            each(piece(0, size, Kind::Unreadable, why));
            continue;
        };
        let first_position = Some(header.first_position);
        let verdict = if header.number == named.number { "ok" } else { "belongs to another file" };
        each(Piece { first_position, ..piece(0, START, Kind::Header, verdict) });

        let mut expected = header.first_position;
        let mut at = START;
        for found in source.resync(&header, START)? {
            if found.offset > at {
                each(piece(at, found.offset - at, Kind::Unreadable, "not a commit"));
            }
            let FrameHeader { kind, events, first_position, durable_upto, recorded_at, .. } = found.header;
            let len = found.header.frame_len();
            let verdict = match first_position == expected {
                true => "ok".to_owned(),
                false => format!("intact, but position {expected} was expected"),
            };
            let kind = if kind == EVENTS { Kind::Commit } else { Kind::Seal };
            each(Piece {
                first_position: Some(first_position),
                events,
                recorded_at: Some(Timestamp::from_nanos(recorded_at)),
                durable_upto: Some(durable_upto),
                ..piece(found.offset, len, kind, &verdict)
            });
            expected = found.header.end_position();
            at = found.offset + len;
        }
        let content = source.content_end(at)?;
        if content > at {
            each(piece(at, content - at, Kind::Unreadable, "not a commit"));
        }
        let zeros = content.max(at);
        if size > zeros {
            each(piece(zeros, size - zeros, Kind::Zeros, "ok"));
        }
    }
    Ok(())
}
