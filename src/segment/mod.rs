//! A segment: one file of the log, to append to and read from.

pub mod cursor;
pub mod foreign;
pub mod head;
pub mod remains;
pub mod scan;
pub mod succession;
pub mod verdict;
pub mod verified;

use verified::Verified;

use crate::directory::segment_name;
use crate::error::{Error, Result};
use crate::format::checksum::{self, BLOCK, CRC, Mask};
use crate::format::event::Event;
use crate::format::frame::{self, FrameHeader};
use crate::format::record;
use crate::format::segment_header::{self, SegmentHeader};
use crate::fs::{self, File, Fs, Map, Mode};
use parking_lot::RwLock;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The offset of the first frame of a segment.
pub const START: u64 = segment_header::LEN as u64;

/// Bytes after the map that are still read by position: mapping again costs more than a few reads.
const MAP_STEP: u64 = 4 << 20;

/// A segment that can be read.
pub struct Segment {
    pub path: PathBuf,
    pub header: SegmentHeader,
    pub mask: Mask,
    pub file: Arc<dyn File>,
    /// The end of the last visible frame: bytes up to there may be read, and are never written
    /// again.
    readable: AtomicU64,
    use_map: bool,
    map: RwLock<Option<Arc<dyn Map>>>,
}

/// Number of bytes that events which are read together may share.
const SHARED: usize = 64 << 10;
/// Number of bytes that are read for a record before its length is known, and how many more than
/// the previous one had.
const GUESS: usize = 512;
const SLACK: usize = 16;
/// Number of records whose memory is prefetched: those of one stream are far apart.
const AHEAD: usize = 8;

/// Returns a random number, from the source of UUIDs: the salt of a new segment.
pub fn random() -> u64 {
    let (high, low) = uuid::Uuid::new_v4().as_u64_pair();
    high ^ low.rotate_left(32)
}

impl Segment {
    /// Returns a segment whose header has been read or written.
    pub fn new(path: PathBuf, header: SegmentHeader, file: Arc<dyn File>, use_map: bool) -> Self {
        Segment {
            path,
            mask: header.mask(),
            header,
            file,
            readable: AtomicU64::new(START),
            use_map,
            map: RwLock::default(),
        }
    }

    /// Creates the file of a segment, or takes over an incomplete one, and writes its header.
    /// Nothing is synced.
    pub fn create(fs: &dyn Fs, dir: &Path, header: SegmentHeader, use_map: bool) -> Result<Self> {
        let path = dir.join(segment_name(header.number));
        let file = fs.open(&path, Mode::Create).map_err(|e| Error::io("create", &path, e))?;
        fs::write_full(&*file, 0, &header.encode()).map_err(|(_, e)| Error::io("write", &path, e))?;
        Ok(Segment::new(path, header, file, use_map))
    }

    /// Does the same with a file of zeros under another name, which is renamed once its header is
    /// on the disk.
    pub fn adopt(
        fs: &dyn Fs,
        (spare, file): (&Path, Arc<dyn File>),
        dir: &Path,
        header: SegmentHeader,
        use_map: bool,
    ) -> io::Result<Self> {
        let path = dir.join(segment_name(header.number));
        fs::write_full(&*file, 0, &header.encode()).map_err(|(_, e)| e)?;
        file.sync()?;
        fs.rename(spare, &path)?;
        Ok(Segment::new(path, header, file, use_map))
    }

    pub fn readable(&self) -> u64 {
        self.readable.load(Ordering::Acquire)
    }

    /// Lets readers read up to `end`, which must be the end of a frame.
    pub fn set_readable(&self, end: u64) {
        self.readable.store(end, Ordering::Release);
    }

    /// Appends `len` bytes from `offset` on to `out`. They are copies: verify them before use.
    /// After an error, what was appended has no meaning.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if they are not in the readable part, [`Error::Io`].
    pub fn copy(&self, offset: u64, len: usize, out: &mut Vec<u8>) -> Result<()> {
        let end = offset.saturating_add(len as u64);
        if end > self.readable() {
            return Err(self.damaged(offset..end, "a record or a frame reaches beyond the end of the log"));
        }
        if let Some(map) = self.map_for(end)? {
            map.copy(offset, len, out);
            return Ok(());
        }
        let start = out.len();
        out.resize(start + len, 0);
        let read = fs::read_full(&*self.file, offset, &mut out[start..]);
        let read = read.map_err(|e| match fs::read_error(&*self.file, &self.path, offset..end, e) {
            Error::Damaged(hole) => self.damaged(hole.bytes, &hole.why),
            error => error,
        })?;
        if read < len {
            return Err(self.damaged(offset..end, "the file ends here; it has been shortened"));
        }
        Ok(())
    }

    /// Returns a map that reaches `end`, or `None` if it is cheaper to read by position.
    fn map_for(&self, end: u64) -> Result<Option<Arc<dyn Map>>> {
        if !self.use_map {
            return Ok(None);
        }
        let mapped = {
            let map = self.map.read();
            match &*map {
                Some(map) if map.mapped() >= end => return Ok(Some(map.clone())),
                Some(map) => map.mapped(),
                None => 0,
            }
        };
        let readable = self.readable();
        if mapped > 0 && readable - mapped < MAP_STEP {
            return Ok(None);
        }
        let made = self.file.map(readable);
        let made = match made {
            Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => {
                return Err(self.damaged(START..readable, "the file has been shortened"));
            }
            // If it cannot be mapped, it is read by position.
            other => other.unwrap_or(None),
        };
        self.map.write().clone_from(&made);
        Ok(made)
    }

    /// Reads and verifies the event whose record is at `offset`.
    pub fn event_at(&self, offset: u64) -> Result<Event> {
        let mut bytes = Vec::new();
        let len = self.record_at(offset, self.map_for(offset)?.as_deref(), GUESS, &mut bytes)?;
        let mut verified = Verified::none();
        verified.set_records(bytes, &self.header);
        let next = verified.peek().ok_or_else(|| self.bad_record(offset, len as u64))?;
        Ok(verified.event(&next))
    }

    /// Reads and verifies records at the first of these offsets, in this order, and replaces those
    /// in `verified`: at most this many, as many as share a block of memory well, and at least one.
    /// Returns their number. A record that is damaged, or cannot be read, is left to the next call,
    /// which returns the error.
    pub fn records_at(&self, offsets: &[u32], most: usize, verified: &mut Verified) -> Result<usize> {
        let map = self.map_for(offsets.iter().copied().max().unwrap_or(0).into())?;
        let map = map.or_else(|| self.map.read().clone());
        // Records of one stream often have nearly the same length.
        let (mut guess, mut count) = (GUESS, 0);
        let ahead = |n: usize, guess: usize| {
            if let (Some(map), Some(&offset)) = (&map, offsets.get(n)) {
                map.prefetch(offset.into(), guess);
            }
        };
        (0..AHEAD).for_each(|n| ahead(n, guess));
        let most = most.min(offsets.len());
        let mut bytes = verified.buffer((most * GUESS).min(SHARED));
        for (n, &offset) in offsets[..most].iter().enumerate() {
            ahead(n + AHEAD, guess);
            let whole = bytes.len();
            match self.record_at(offset.into(), map.as_deref(), guess, &mut bytes) {
                Ok(len) => (guess, count) = ((len + SLACK).min(GUESS), n + 1),
                Err(error) if n == 0 => return Err(error),
                Err(_) => {
                    // The copied part of it would be taken for a verified record.
                    bytes.truncate(whole);
                    break;
                }
            }
            if bytes.len() > SHARED - GUESS {
                break;
            }
        }
        verified.set_records(bytes, &self.header);
        Ok(count)
    }

    /// Appends the record at `offset` to `bytes`, verified. Returns its length. A good `guess` of
    /// the length saves a second read. After an error, what was appended has no meaning.
    fn record_at(&self, offset: u64, map: Option<&dyn Map>, guess: usize, bytes: &mut Vec<u8>) -> Result<usize> {
        let left = self.readable().saturating_sub(offset);
        let at = bytes.len();
        let copy = |from: usize, len: usize, bytes: &mut Vec<u8>| {
            let (offset, len_wanted) = (offset + from as u64, len as u64);
            match map.filter(|map| offset + len_wanted <= map.mapped()) {
                Some(map) if from as u64 + len_wanted <= left => {
                    map.copy(offset, len, bytes);
                    Ok(())
                }
                _ => self.copy(offset, len, bytes),
            }
        };
        copy(0, left.min(guess as u64) as usize, bytes)?;
        let len = record::len(&bytes[at..]).filter(|&len| len as u64 <= left);
        let Some(len) = len else { return Err(self.bad_record(offset, left)) };
        let had = bytes.len() - at;
        if len > had {
            bytes.reserve_exact(len - had);
            copy(had, len - had, bytes)?;
        }
        bytes.truncate(at + len);
        if !record::verify(&bytes[at..], self.mask, offset) {
            return Err(self.bad_record(offset, len as u64));
        }
        Ok(len)
    }

    /// Reads and verifies the header of the frame at `offset`.
    pub fn frame_at(&self, offset: u64) -> Result<FrameHeader> {
        let mut bytes = Vec::with_capacity(frame::HEADER);
        self.copy(offset, frame::HEADER, &mut bytes)?;
        FrameHeader::decode(&bytes, self.mask, offset).ok_or_else(|| {
            let bytes = offset..offset + frame::HEADER as u64;
            self.damaged(bytes, "the header of a commit fails its checksum")
        })
    }

    /// Reads and verifies the attributes of the commit whose frame is at `offset`, without the rest
    /// of its body.
    pub fn attributes_at(&self, offset: u64) -> Result<Vec<u8>> {
        let header = self.frame_at(offset)?;
        let (len, body_at) = (header.attributes_len as usize, offset + frame::HEADER as u64);
        // Attributes are at most two blocks long; a header that says more is not trusted here,
        // either.
        let whole = u64::from(header.body_len) <= BLOCK as u64;
        let wanted =
            if whole { header.body_len as usize } else { len.next_multiple_of(BLOCK).min(header.body_len as usize) };
        if len == 0 {
            return Ok(Vec::new());
        }
        let (mut bytes, mut table) = (Vec::new(), Vec::new());
        let fits = header.frame_len() <= self.readable().saturating_sub(offset);
        if fits && header.is_known() {
            self.copy(body_at, wanted, &mut bytes)?;
            self.copy(offset + header.table_at(), header.table_len() as usize, &mut table)?;
        }
        let holds = match bytes.is_empty() {
            true => false,
            false if whole => header.vouches_for(&bytes, self.mask, offset),
            false => {
                let first = &table[..wanted.div_ceil(BLOCK) * CRC];
                header.vouches_for(&table, self.mask, offset) && checksum::table_holds(&bytes, first)
            }
        };
        if !holds {
            return Err(self.damaged(offset..body_at + len as u64, "the attributes of a commit fail their checksum"));
        }
        bytes.truncate(len);
        Ok(bytes)
    }

    fn bad_record(&self, offset: u64, len: u64) -> Error {
        self.damaged(offset..offset.saturating_add(len), "an event fails its checksum")
    }

    /// Returns damage in the readable part of the file, of unknown positions.
    pub fn damaged(&self, bytes: std::ops::Range<u64>, why: &str) -> Error {
        Error::damaged(&self.path, bytes, self.header.first_position..u64::MAX, why)
    }
}
