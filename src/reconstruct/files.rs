//! The files of a directory that hold segments, whatever their names, with the headers that they
//! have or must have had.

use super::carve::{Find, finds};
use crate::directory::{HEAD, LOCK, NEW, POSITIONS, REPAIRING, SPARE, is_like_index, segment_name, segment_number};
use crate::error::{Error, Result};
use crate::format::checksum::Mask;
use crate::format::frame::{ALIGN, Chain, EVENTS, FrameHeader, HEADER, MAGIC, SEAL, Seal};
use crate::format::index_file::IndexHeader;
use crate::format::segment_header::{self, MAX_EVENTS, SegmentHeader};
use crate::format::{head, record};
use crate::fs::{self, Entry, Fs, Mode};
use crate::segment::START;
use crate::segment::remains::misplaced;
use crate::segment::scan::{ScanEnd, ScanSource, Scanned};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Maximum number of possible commits that are tried to find a lost header: a crafted file may look
/// like many.
const MAX_TRIES: u32 = 4096;

/// Maximum length of a segment in bytes.
const MAX_SEGMENT: u64 = u32::MAX as u64;

/// A file that looks like part of a store, but is not part of this one.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeftOut {
    /// The file.
    pub path: PathBuf,
    /// Why it was not used.
    pub why: String,
}

/// What must be known about a segment to read its content.
#[derive(Clone, Copy, Debug)]
pub(super) struct KnownSegment {
    pub mask: Mask,
    /// If the header is not exact, unknown fields are 0.
    pub header: SegmentHeader,
    /// Whether the header is identical to the original.
    pub exact: bool,
}

/// A file that holds a segment of this store, or a part of one.
#[derive(Debug)]
pub(super) struct SegmentCandidate {
    pub path: PathBuf,
    pub size: u64,
    /// Whether the file has an intact header.
    pub has_header: bool,
    pub known: KnownSegment,
    /// The number of the segment, if the header, an index, or the name of the file has it.
    pub number: Option<u64>,
    /// The result of a scan, if nothing in the file is damaged.
    pub scanned: Option<Scanned>,
    /// The position after the last intact event.
    pub end: u64,
    /// Number of intact events.
    pub events: u64,
    /// Positions below this one were durable, according to the file.
    pub proven: u64,
    /// Whether the file has a different commit from the one that HEAD marks as durable.
    pub is_other: bool,
}

impl SegmentCandidate {
    /// Returns whether a scan has found only zeros after the last commit.
    pub(super) fn ends_in_zeros(&self) -> bool {
        self.scanned.as_ref().is_some_and(|scanned| scanned.stop == ScanEnd::End)
    }

    pub(super) fn is_sealed(&self) -> bool {
        self.scanned.as_ref().is_some_and(|scanned| matches!(scanned.stop, ScanEnd::Sealed { .. }))
    }
}

/// Opens a file, and returns its length.
pub(super) fn open(fs: &dyn Fs, path: &Path) -> Result<(std::sync::Arc<dyn fs::File>, u64)> {
    let opened = fs.open(path, Mode::Read).and_then(|file| Ok((file.size()?, file)));
    opened.map(|(size, file)| (file, size)).map_err(|e| Error::io("open", path, e))
}

/// Returns all bytes of a file, up to the maximum length of a segment.
pub(crate) fn read(fs: &dyn Fs, path: &Path) -> Result<Vec<u8>> {
    let (file, size) = open(fs, path)?;
    // No segment is longer: offsets in a segment have 32 bits.
    let mut bytes = vec![0; size.min(MAX_SEGMENT) as usize];
    let read = fs::read_full(&*file, 0, &mut bytes).map_err(|e| Error::io("read", path, e))?;
    bytes.truncate(read);
    Ok(bytes)
}

/// A file of the directory before its store is known.
struct Raw {
    path: PathBuf,
    size: u64,
    header: Option<SegmentHeader>,
    /// Whether the header is in the file as it was written.
    intact: bool,
}

/// The content of the files of a directory.
pub(super) struct Files {
    pub store: [u8; 16],
    pub head: Option<head::DurableMark>,
    pub candidates: Vec<SegmentCandidate>,
    /// The headers of index files.
    pub indexes: Vec<(PathBuf, IndexHeader)>,
    pub left_out: Vec<LeftOut>,
    /// Notices about files without the name of a segment that could not be opened.
    pub notices: Vec<String>,
}

/// Examines each file of a directory.
///
/// # Errors
///
/// [`Error::NotAStore`] if the directory is missing or nothing in it is part of a store,
/// [`Error::UnsupportedFormat`], [`Error::Io`].
pub(super) fn files(fs: &dyn Fs, dir: &Path) -> Result<Files> {
    // HEAD is read first: while a process writes, it must not be newer than the segments.
    let head_bytes = crate::segment::head::bytes(fs, dir)?.unwrap_or_default();
    let head = head::decode_damaged(&head_bytes, &dir.join(HEAD))?;
    let mut entries = match fs.list(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::NotAStore { path: dir.to_owned() }),
        other => other.map_err(|e| Error::directory("list", dir, e)),
    }?;
    let misplaced = misplaced(&entries);
    entries.retain(|entry| entry.is_file);
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    let indexes = index_headers(fs, dir, &entries)?;
    let (mut raw, mut unread) = (Vec::new(), Vec::new());
    for entry in entries.iter().filter(|entry| may_be_segment(&entry.name)) {
        let path = dir.join(&entry.name);
        let (file, size) = match open(fs, &path) {
            // A file of another program is left out. A file with the name of a segment is an error:
            // it may become readable later, and its events would count as lost.
            Err(Error::Io { source, .. }) if segment_number(&entry.name).is_none() && !fs::is_out_of_files(&source) => {
                unread.push(format!("{}: it cannot be opened, and is left out: {source}", entry.name));
                continue;
            }
            opened => opened?,
        };
        let mut bytes = [0; START as usize];
        let read = fs::read_full(&*file, 0, &mut bytes).map_err(|e| Error::io("read", &path, e))?;
        let header = SegmentHeader::decode_damaged(&bytes[..read], &path)?;
        let (header, intact) = header.map_or((None, false), |(header, intact)| (Some(header), intact));
        raw.push(Raw { path, size, header, intact });
    }
    let store = store_of(&raw, head.as_ref(), &indexes);
    let mut found = Files {
        store,
        head: head.filter(|head| head.store == store),
        candidates: Vec::new(),
        indexes,
        left_out: misplaced.into_iter().map(|(name, why)| LeftOut { path: dir.join(name), why: why.into() }).collect(),
        notices: unread,
    };
    for raw in raw {
        found.take(fs, raw)?;
    }
    if found.candidates.is_empty() && found.left_out.is_empty() && found.head.is_none() && found.indexes.is_empty() {
        return Err(Error::NotAStore { path: dir.to_owned() });
    }
    Ok(found)
}

/// Returns whether a file may hold a segment: its name is not that of another file of a store.
fn may_be_segment(name: &str) -> bool {
    let others = [HEAD, LOCK, POSITIONS, REPAIRING, SPARE];
    let endings = [NEW, ".snap", ".cut"];
    !is_like_index(name)
        && !others.iter().any(|other| name.starts_with(other))
        && !endings.iter().any(|ending| name.ends_with(ending))
}

fn index_headers(fs: &dyn Fs, dir: &Path, entries: &[Entry]) -> Result<Vec<(PathBuf, IndexHeader)>> {
    let mut found = Vec::new();
    for entry in entries.iter().filter(|entry| is_like_index(&entry.name)) {
        let path = dir.join(&entry.name);
        let file = match open(fs, &path) {
            // An index is not needed.
            Err(Error::Io { source, .. }) if !fs::is_out_of_files(&source) => continue,
            opened => opened?.0,
        };
        let mut bytes = [0; crate::format::index_file::HEADER];
        let read = fs::read_full(&*file, 0, &mut bytes).map_err(|e| Error::io("read", &path, e))?;
        found.extend(IndexHeader::decode(&bytes[..read]).map(|header| (path, header)));
    }
    Ok(found)
}

/// Returns the id of the store: the one that HEAD names, if a segment agrees; otherwise the one
/// that most segments name; otherwise the one in HEAD; otherwise the one in an index. All zeros if
/// no file names one.
fn store_of(raw: &[Raw], head: Option<&head::DurableMark>, indexes: &[(PathBuf, IndexHeader)]) -> [u8; 16] {
    let stores: Vec<[u8; 16]> = raw.iter().filter_map(|raw| Some(raw.header?.store)).collect();
    let mut counted: HashMap<[u8; 16], usize> = HashMap::new();
    stores.iter().for_each(|store| *counted.entry(*store).or_default() += 1);
    let votes = |store: &[u8; 16]| counted.get(store).copied().unwrap_or(0);
    // Among equally frequent ids, the first one.
    let most = stores.iter().rev().max_by_key(|store| votes(store)).copied();
    let head = head.map(|head| head.store);
    let index = indexes.first().map(|(_, header)| header.store);
    head.filter(|store| votes(store) > 0).or(most).or(head).or(index).unwrap_or_default()
}

impl Files {
    fn leave_out(&mut self, path: PathBuf, why: &str) {
        self.left_out.push(LeftOut { path, why: why.to_owned() });
    }

    /// Adds a file, if it holds a segment of this store.
    fn take(&mut self, fs: &dyn Fs, raw: Raw) -> Result<()> {
        let named = raw.path.file_name().and_then(|name| segment_number(&name.to_string_lossy()));
        let known = match raw.header {
            Some(header) if header.store != self.store => {
                self.leave_out(raw.path, "a segment of another store");
                return Ok(());
            }
            Some(header) => KnownSegment { mask: header.mask(), header, exact: true },
            None if raw.size > MAX_SEGMENT => {
                self.leave_out(raw.path, "longer than a segment can be");
                return Ok(());
            }
            None => {
                let bytes = read(fs, &raw.path)?;
                let Some(known) = self.guess(&bytes) else {
                    if named.is_some() {
                        self.leave_out(raw.path, "no commit in it can be read");
                    }
                    return Ok(());
                };
                known
            }
        };
        let has_header = raw.intact;
        let number = (known.header.number > 0).then_some(known.header.number).or(named);
        let mut candidate = SegmentCandidate {
            has_header,
            number,
            scanned: None,
            end: known.header.first_position,
            events: 0,
            proven: known.header.first_position,
            is_other: false,
            known,
            path: raw.path,
            size: raw.size,
        };
        candidate.look(fs, self.head.as_ref())?;
        self.candidates.push(candidate);
        Ok(())
    }

    /// Returns the lost header of a segment, as far as an index file or the commits of the segment
    /// imply it.
    fn guess(&self, bytes: &[u8]) -> Option<KnownSegment> {
        let mut tries = 0;
        for at in (START as usize..bytes.len().saturating_sub(HEADER)).step_by(ALIGN as usize) {
            if bytes[at..at + 4] != MAGIC {
                continue;
            }
            tries += 1;
            if tries > MAX_TRIES {
                break;
            }
            let Some((frame, mask)) = FrameHeader::implied(&bytes[at..], at as u64) else { continue };
            let proven = base(bytes, at, &frame, mask).or_else(|| base_of_seal(bytes, at, &frame, mask));
            let Some((first_position, base_time)) = proven else { continue };
            let unknown = SegmentHeader {
                store: self.store,
                number: 0,
                first_position,
                salt: 0,
                base_time,
                previous_digest: 0,
                previous_len: 0,
            };
            let same = |header: &&IndexHeader| Mask::new(&header.store, header.segment, header.salt) == mask;
            let index = self.indexes.iter().map(|(_, header)| header).find(same);
            let header = index.map_or(unknown, |index| SegmentHeader {
                store: index.store,
                number: index.segment,
                salt: index.salt,
                ..unknown
            });
            return Some(KnownSegment { mask, header, exact: false }).filter(|known| known.header.store == self.store);
        }
        None
    }
}

/// Returns the first position and the base time of a segment from its seal, even if the headers of
/// its commits are lost, too: the seal proves the mask, and has the recorded time of the last
/// event.
fn base_of_seal(bytes: &[u8], at: usize, frame: &FrameHeader, mask: Mask) -> Option<(u64, i64)> {
    let body = bytes.get(at + HEADER..at + frame.table_at() as usize).filter(|_| frame.kind == SEAL)?;
    let seal = Seal::decode(body).filter(|_| frame.vouches_for(body, mask, at as u64))?;
    let from_zero = SegmentHeader { first_position: seal.first_position, ..SegmentHeader::first([0; 16], 0, 0) };
    let found = finds(bytes, &KnownSegment { mask, header: from_zero, exact: false }, Path::new("")).ok()?;
    let last = found.iter().rev().find_map(|find| match find {
        Find::Event { position, recorded_at, .. } if seal.frames == 1 || position + 1 == seal.next_position => {
            Some(*recorded_at)
        }
        _ => None,
    });
    Some((seal.first_position, frame.recorded_at.checked_sub(last?)?))
}

/// Returns the first position and the base time of a segment, from a commit whose first event
/// proves the mask that its header implies.
fn base(bytes: &[u8], at: usize, frame: &FrameHeader, mask: Mask) -> Option<(u64, i64)> {
    let start = at + HEADER + frame.attributes_len as usize;
    let left = bytes.get(start..).filter(|_| frame.kind == EVENTS)?;
    let len = record::len(left).filter(|&len| len <= left.len())?;
    let parts = record::decode(bytes, start, start + len)?;
    if !record::verify(&left[..len], mask, start as u64) {
        return None;
    }
    Some((frame.first_position.checked_sub(parts.ordinal)?, frame.recorded_at.checked_sub_unsigned(parts.time)?))
}

/// Returns the position below which everything was durable when a commit was written, according to
/// the commit. It never claims its own positions, unless the bytes were crafted.
fn durable_upto(header: &FrameHeader) -> u64 {
    header.durable_upto.min(header.first_position)
}

impl SegmentCandidate {
    /// Determines how far the file is intact, and what it holds.
    fn look(&mut self, fs: &dyn Fs, head: Option<&head::DurableMark>) -> Result<()> {
        let (file, size) = open(fs, &self.path)?;
        let source = ScanSource { path: &self.path, file: &*file, size };
        if self.known.exact {
            let mut chain = Chain::start(&self.known.header);
            let scanned = source.scan(&self.known.header, None, |frame| {
                let before = chain.next_position;
                chain = chain.then(&frame.header);
                self.is_other |= head.is_some_and(|head| !head.is_of(before, &chain));
                Ok(())
            })?;
            self.end = scanned.chain.next_position;
            self.events = self.end - self.known.header.first_position;
            self.proven = self.proven.max(scanned.durable_upto.min(self.end));
            match scanned.stop {
                ScanEnd::Sealed { .. } => self.proven = self.end,
                ScanEnd::End => {}
                // `look_closely` finds the end of the intact content after the bad bytes.
                ScanEnd::Bad { .. } => return self.look_closely(fs),
            }
            self.scanned = Some(scanned);
            return Ok(());
        }
        self.look_closely(fs)
    }

    fn look_closely(&mut self, fs: &dyn Fs) -> Result<()> {
        let bytes = read(fs, &self.path)?;
        self.events = 0;
        for find in finds(&bytes, &self.known, &self.path)? {
            match find {
                Find::Commit { header, .. } => {
                    self.events += u64::from(header.events);
                    self.end = self.end.max(header.end_position());
                    self.proven = self.proven.max(durable_upto(&header));
                }
                Find::Seal(seal)
                    if seal.first_position == self.known.header.first_position
                        && seal.next_position.saturating_sub(seal.first_position) <= MAX_EVENTS =>
                {
                    self.end = self.end.max(seal.next_position);
                    self.proven = self.proven.max(seal.next_position);
                }
                Find::Event { position, .. } => {
                    self.events += 1;
                    self.end = self.end.max(position + 1);
                }
                Find::Broken { header, .. } => self.proven = self.proven.max(durable_upto(&header)),
                Find::Seal(_) => {}
            }
        }
        Ok(())
    }

    /// Fills in the fields of a lost header that describe the segment before. Returns whether the
    /// header is then exact, which the first commit shows: it repeats the checksum of the header.
    pub(super) fn complete(&mut self, fs: &dyn Fs, before: Option<(u64, u64)>) -> Result<bool> {
        let (previous_digest, previous_len) = before.unwrap_or_default();
        let header = SegmentHeader { previous_digest, previous_len, ..self.known.header };
        let (file, _) = open(fs, &self.path)?;
        let mut bytes = [0; HEADER];
        let read = fs::read_full(&*file, segment_header::LEN as u64, &mut bytes);
        read.map_err(|e| Error::io("read", &self.path, e))?;
        let first = FrameHeader::decode(&bytes, self.known.mask, START);
        self.known.exact =
            header.mask() == self.known.mask && first.is_some_and(|first| first.previous == header.crc());
        if self.known.exact {
            self.known.header = header;
        }
        Ok(self.known.exact)
    }

    /// Returns whether the file has the right name.
    pub(super) fn is_named(&self, number: u64) -> bool {
        self.path.file_name().is_some_and(|name| name.to_string_lossy() == segment_name(number))
    }
}
