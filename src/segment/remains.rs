//! Remains of a log whose segments are gone: files that only a store with events has.
//!
//! A directory without a complete segment may be a store that was being created when the machine
//! stopped, and then an open creates it. It is different if something in it refers to events:
//! segments that were emptied or are missing (a copy that met a full disk, a restore that left them
//! out) would be lost for good by the first event that is appended.

use crate::directory::{HEAD, POSITIONS, PROJECTIONS, SNAPSHOTS, index_number, segment_name, segment_number};
use crate::error::{Damage, Error, Result};
use crate::format::index_file::{self, IndexHeader};
use crate::format::segment_header::SegmentHeader;
use crate::fs::{self, Entry, Fs, Mode};
use std::io;
use std::path::Path;

/// Sidecar files: they come into being with or after the first event.
const SIDECARS: [&str; 3] = [POSITIONS, SNAPSHOTS, PROJECTIONS];

/// The first bytes of all files of a store except LOCK.
const MAGIC: [u8; 3] = [0x89, b'A', b'N'];

/// Returns the damage, if something is left of an earlier log where a new one would be created.
///
/// # Errors
///
/// [`Error::Io`] if the directory cannot be listed, or a file in it cannot be read.
pub(crate) fn of_a_log(fs: &dyn Fs, dir: &Path) -> Result<Option<Damage>> {
    let entries = match fs.list(dir) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        listed => listed.map_err(|e| Error::io("list", dir, e))?,
    };
    let (mut left, mut end): (Vec<String>, u64) = (Vec::new(), 0);
    for entry in &entries {
        let path = dir.join(&entry.name);
        if index_number(&entry.name).is_some() {
            match header(fs, &path) {
                Ok(Some(index)) => {
                    left.push(format!("{} (positions below {})", entry.name, index.chain.next_position));
                    end = end.max(index.chain.next_position);
                }
                Ok(None) => {}
                // A file that the disk does not return may be ours.
                Err(e) if fs::is_unreadable(&e) => left.push(entry.name.clone()),
                Err(e) => return Err(Error::io("read", &path, e)),
            }
        } else if SIDECARS.contains(&&*entry.name) && holds_ours(fs, &path, entry, 2)? {
            left.push(entry.name.clone());
        }
    }
    left.sort();
    Ok((!left.is_empty()).then(|| Damage {
        path: dir.join(segment_name(1)),
        bytes: 0..0,
        positions: 0..if end > 0 { end } else { u64::MAX },
        why: format!(
            "the segments are missing or empty, and these files of the store remain: {}; restore them from a backup, \
                salvage what is left, or begin a new store in another directory",
            left.join(", ")
        ),
    }))
}

/// Returns whether this is a file that a store has made, or a directory with one in it: other
/// programs have directories of these names, too.
fn holds_ours(fs: &dyn Fs, path: &Path, entry: &Entry, depth: u32) -> Result<bool> {
    // A file that the disk does not return may be ours.
    let or_unreadable = |holds: io::Result<bool>| match holds {
        Err(e) if fs::is_unreadable(&e) => Ok(true),
        Err(e) if fs::is_no_file(&e) => Ok(false),
        holds => holds.map_err(|e| Error::io("read", path, e)),
    };
    if entry.is_file {
        let mut magic = [0; 3];
        let read = fs.open(path, Mode::Read).and_then(|file| fs::read_full(&*file, 0, &mut magic));
        return Ok(entry.size > 0 && or_unreadable(read.map(|_| magic == MAGIC))?);
    }
    if depth == 0 || !entry.is_dir {
        return Ok(false);
    }
    let mut below = Vec::new();
    if or_unreadable(fs.list(path).map(|entries| below = entries).map(|()| false))? {
        return Ok(true);
    }
    for entry in below {
        if holds_ours(fs, &path.join(&entry.name), &entry, depth - 1)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// What the indexes of a store say of its length. What an index covers was durable when the index
/// was written.
#[derive(Default)]
pub(crate) struct Claims(Vec<IndexHeader>);

impl Claims {
    /// Reads the headers of the indexes from that of a segment on. Beside a process that writes,
    /// they must be read before the segments.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the directory cannot be listed, or an index cannot be read. An index that
    /// the disk does not return is damaged, and claims nothing.
    pub(crate) fn read(fs: &dyn Fs, dir: &Path, from: u64) -> Result<Self> {
        let entries = fs.list(dir).map_err(|e| Error::io("list", dir, e))?;
        let mut claims = Vec::new();
        for entry in &entries {
            let Some(number) = index_number(&entry.name).filter(|&number| number >= from) else { continue };
            let path = dir.join(&entry.name);
            match header(fs, &path) {
                Ok(index) => claims.extend(index.filter(|index| index.segment == number)),
                Err(e) if fs::is_unreadable(&e) => {}
                Err(e) => return Err(Error::io("read", &path, e)),
            }
        }
        Ok(Claims(claims))
    }

    /// Returns the damage if an index covers positions after the end of the log.
    pub(crate) fn after(&self, dir: &Path, newest: &SegmentHeader, end: u64) -> Option<Damage> {
        let ours = self.0.iter().filter(|index| {
            // An index may have been left by an earlier use of the number.
            let own = index.segment > newest.number || index.salt == newest.salt;
            index.store == newest.store && index.segment >= newest.number && own
        });
        let known = ours.map(|index| (index.chain.next_position, index.segment)).max()?;
        let (position, segment) = Some(known).filter(|(position, _)| *position > end)?;
        Some(Damage {
            path: dir.join(segment_name(segment)),
            bytes: 0..0,
            positions: end..position,
            why: format!("the log ends before them, but the index of segment {segment} says that they were durable"),
        })
    }
}

/// Returns the entries that have the name of a file or directory of a store, and are something
/// else.
pub(crate) fn misplaced(entries: &[Entry]) -> Vec<(String, &'static str)> {
    let is_file =
        |name: &str| [HEAD, POSITIONS].contains(&name) || segment_number(name).or(index_number(name)).is_some();
    let is_dir = |name: &str| [SNAPSHOTS, PROJECTIONS].contains(&name);
    let wrong = entries.iter().filter_map(|entry| match () {
        () if is_file(&entry.name) && !entry.is_file => Some((entry.name.clone(), "it is not a regular file")),
        () if is_dir(&entry.name) && !entry.is_dir => Some((entry.name.clone(), "it is not a directory")),
        () => None,
    });
    wrong.collect()
}

/// Returns the header of an index that covers events, if there is one and it is intact.
fn header(fs: &dyn Fs, path: &Path) -> io::Result<Option<IndexHeader>> {
    let file = match fs.open(path, Mode::Read) {
        Err(e) if fs::is_no_file(&e) => return Ok(None),
        opened => opened?,
    };
    let mut bytes = [0; index_file::HEADER];
    let read = fs::read_full(&*file, 0, &mut bytes)?;
    Ok(IndexHeader::decode(&bytes[..read]).filter(|header| header.events > 0))
}
