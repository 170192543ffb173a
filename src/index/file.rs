//! The index file of a segment: looked up in place, a few hundred verified bytes at a time.

use super::encode::Put;
use super::memory::Posted;
use crate::directory::index_name;
use crate::error::{Error, Result};
use crate::format::checksum::Mask;
use crate::format::frame::Chain;
use crate::format::index_file::{
    self, BUCKET, EntryHead, IndexHeader, PAGE, PRELUDE, SAMPLE_EVERY, SAMPLES, WAYPOINTS, Waypoint,
};
use crate::format::segment_header::SegmentHeader;
use crate::format::u32_at;
use crate::fs::owned::Owned;
use crate::fs::{self, File, Fs, Map, Mode};
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Number of bytes of an entry that are read at first: enough for most.
const GUESS: usize = 192;

/// A piece of the file is damaged, or the file cannot be read: the index must be rebuilt from the
/// segment.
#[derive(Debug)]
pub struct IndexBroken;

type Lookup<T> = std::result::Result<T, IndexBroken>;

/// Where the bytes of the file are read from.
enum Bytes {
    File(Arc<dyn File>),
    Map(Arc<dyn Map>),
}

pub struct IndexFile {
    bytes: Bytes,
    header: IndexHeader,
    mask: Mask,
    salt: u64,
}

/// An index file that is written and synced, under a temporary name that no other thread knows, so
/// that several threads may write indexes of one segment; the index decides which of them is
/// published.
pub struct Unnamed {
    path: PathBuf,
    name: PathBuf,
    file: IndexFile,
}

impl Unnamed {
    /// Writes the index file of a segment under a temporary name, and syncs it.
    pub(super) fn write(
        fs: &Owned,
        dir: &Path,
        segment: &SegmentHeader,
        use_map: bool,
        content: impl FnOnce(Put<'_>) -> io::Result<()>,
    ) -> Result<Self> {
        let name = index_name(segment.number);
        let path = dir.join(fs.temporary(&name));
        let written = || -> Result<IndexFile, (&'static str, io::Error)> {
            let file = fs.open(&path, Mode::Create).map_err(|e| ("create", e))?;
            let put = &mut |at: u64, bytes: &[u8]| fs::write_full(&*file, at, bytes).map_err(|(_, e)| e);
            content(put).map_err(|e| ("write", e))?;
            file.sync().map_err(|e| ("sync", e))?;
            IndexFile::of(file, segment, use_map).ok_or(("read", io::ErrorKind::InvalidData.into()))
        };
        match written() {
            Ok(file) => Ok(Unnamed { name: dir.join(name), path, file }),
            Err((operation, e)) => {
                // It only takes room; the next open removes one that a crash leaves.
                let (Ok(()) | Err(_)) = fs.remove(&path);
                Err(Error::io(operation, &path, e))
            }
        }
    }

    /// Renames it. The name is not synced: a missing index is rebuilt.
    pub(super) fn publish(self, fs: &dyn Fs) -> Result<IndexFile> {
        let Unnamed { path, name, file } = self;
        if let Err(e) = fs.rename(&path, &name) {
            let (Ok(()) | Err(_)) = fs.remove(&path);
            return Err(Error::io("rename", &path, e));
        }
        Ok(file)
    }

    /// Returns up to where it covers the segment.
    pub(super) fn covered(&self) -> u64 {
        self.file.covered().0
    }

    /// Removes it: another one was published in the meantime.
    pub(super) fn discard(self, fs: &dyn Fs) {
        let (Ok(()) | Err(_)) = fs.remove(&self.path);
    }
}

impl IndexFile {
    /// Opens the index file of a segment; `None` if it is missing, cannot be read, or is not the
    /// index of this segment.
    pub fn open(fs: &dyn Fs, dir: &Path, segment: &SegmentHeader, use_map: bool) -> Option<Self> {
        let file = fs.open(&dir.join(index_name(segment.number)), Mode::Read).ok()?;
        IndexFile::of(file, segment, use_map)
    }

    fn of(file: Arc<dyn File>, segment: &SegmentHeader, use_map: bool) -> Option<Self> {
        let mut bytes = [0; index_file::HEADER];
        let read = fs::read_full(&*file, 0, &mut bytes).ok()?;
        let header = IndexHeader::decode(&bytes[..read])?;
        if !header.is_of(segment) || file.size().ok() != Some(header.len) {
            return None;
        }
        let map = if use_map { file.map(header.len).unwrap_or(None) } else { None };
        // A map needs no open file, and a process may have few of those.
        let bytes = map.map_or(Bytes::File(file), Bytes::Map);
        Some(IndexFile { bytes, header, mask: index_file::mask(segment, header.generation), salt: segment.salt })
    }

    /// Returns the end of the last covered frame, and the chain there.
    pub fn covered(&self) -> (u64, Chain) {
        (self.header.end, self.header.chain)
    }

    /// Returns the length of the file.
    pub fn len(&self) -> u64 {
        self.header.len
    }

    fn read(&self, at: u64, len: usize, out: &mut Vec<u8>) -> Lookup<()> {
        out.clear();
        if at.checked_add(len as u64).is_none_or(|end| end > self.header.len) {
            return Err(IndexBroken);
        }
        match &self.bytes {
            Bytes::Map(map) => {
                map.copy(at, len, out);
                Ok(())
            }
            Bytes::File(file) => {
                out.resize(len, 0);
                match fs::read_full(&**file, at, out) {
                    Ok(read) if read == len => Ok(()),
                    _ => Err(IndexBroken),
                }
            }
        }
    }

    /// Returns the entry of a term, if it has one.
    pub fn find(&self, term: &[u8]) -> Lookup<Option<EntryHead>> {
        let hash = index_file::hash(term, self.salt);
        let mut bytes = Vec::with_capacity(BUCKET);
        let mut number = index_file::bucket_of(hash, self.header.buckets);
        for _ in 0..self.header.buckets {
            let at = (index_file::HEADER + number as usize * BUCKET) as u64;
            self.read(at, BUCKET, &mut bytes)?;
            let (hits, full) = index_file::decode_bucket(&bytes, hash, self.mask, at).ok_or(IndexBroken)?;
            for at in hits {
                let entry = self.entry(at.into())?;
                if entry.term == term {
                    return Ok(Some(entry));
                }
            }
            if !full {
                return Ok(None);
            }
            number = (number + 1) % self.header.buckets;
        }
        Ok(None)
    }

    /// Reads the entry at `at`.
    fn entry(&self, at: u64) -> Lookup<EntryHead> {
        let left =
            self.header.samples_at.checked_sub(at).filter(|_| at >= self.header.entries_at).ok_or(IndexBroken)?;
        let mut bytes = Vec::with_capacity(GUESS);
        self.read(at, (GUESS as u64).min(left) as usize, &mut bytes)?;
        if bytes.len() < PRELUDE {
            return Err(IndexBroken);
        }
        let (head, _) = index_file::entry_lens(&bytes);
        let len = PRELUDE as u64 + u64::from(head);
        if len > left {
            return Err(IndexBroken);
        }
        if len > bytes.len() as u64 {
            self.read(at, len as usize, &mut bytes)?;
        }
        index_file::decode_entry(&bytes[..len as usize], self.mask, at).ok_or(IndexBroken)
    }

    fn chunk(&self, entry: &EntryHead, number: usize, scratch: &mut Vec<u8>, out: &mut Vec<u32>) -> Lookup<()> {
        let (at, len) = entry.chunk_bytes(number);
        self.read(at, len, scratch)?;
        if entry.decode_chunk(number, scratch, self.mask, at, out) { Ok(()) } else { Err(IndexBroken) }
    }

    /// Appends the offsets of an entry within `range` to `out`.
    pub fn offsets(&self, entry: &EntryHead, range: &Range<u64>, out: &mut Vec<u32>) -> Lookup<()> {
        let after = |bound: u64| entry.chunks.partition_point(|chunk| u64::from(chunk.first) < bound);
        let (first, end) = (after(range.start + 1).saturating_sub(1), after(range.end));
        let start = out.len();
        let mut scratch = Vec::new();
        for number in first..end {
            self.chunk(entry, number, &mut scratch, out)?;
        }
        let keep = |&offset: &u32| range.contains(&u64::from(offset));
        let kept = out.split_off(start);
        out.extend(kept.into_iter().filter(keep));
        Ok(())
    }

    /// Appends at most `count` offsets of an entry to `out`, from the n-th on.
    pub fn nth(&self, entry: &EntryHead, first: u64, count: usize, out: &mut Vec<u32>) -> Lookup<()> {
        let begin = entry.chunks.partition_point(|chunk| u64::from(chunk.before) <= first).saturating_sub(1);
        let start = out.len();
        let mut scratch = Vec::new();
        let mut skip = 0;
        for (n, chunk) in entry.chunks.iter().enumerate().skip(begin) {
            if n == begin {
                skip = (first - u64::from(chunk.before)) as usize;
            }
            self.chunk(entry, n, &mut scratch, out)?;
            if out.len() - start >= skip + count {
                break;
            }
        }
        out.drain(start..(start + skip).min(out.len()));
        out.truncate(start + count);
        Ok(())
    }

    /// Returns an entry, summed up.
    pub fn posted(&self, entry: &EntryHead) -> Lookup<Posted> {
        let last = self.last(entry)?.ok_or(IndexBroken)?;
        Ok(Posted { count: entry.count.into(), last, value: entry.value })
    }

    /// Returns the last offset of an entry.
    pub fn last(&self, entry: &EntryHead) -> Lookup<Option<u32>> {
        let Some(number) = entry.chunks.len().checked_sub(1) else { return Ok(None) };
        let mut offsets = Vec::new();
        self.chunk(entry, number, &mut Vec::new(), &mut offsets)?;
        Ok(offsets.last().copied())
    }

    /// Calls `each` with each entry whose term begins with `prefix`, in order of terms.
    pub fn entries(&self, prefix: &[u8], mut each: impl FnMut(EntryHead) -> Lookup<()>) -> Lookup<()> {
        let mut at = self.first_at(prefix)?;
        while at < self.header.samples_at {
            let entry = self.entry(at)?;
            at = entry.postings_at + u64::from(entry.postings_len);
            if entry.term.starts_with(prefix) {
                each(entry)?;
            } else if entry.term.as_slice() > prefix {
                break;
            }
        }
        Ok(())
    }

    /// Returns the offset of an entry at or before the first one whose term is not below `prefix`.
    fn first_at(&self, prefix: &[u8]) -> Lookup<u64> {
        let (mut low, mut high) = (0, (self.header.entries as usize).div_ceil(SAMPLE_EVERY));
        let mut found = self.header.entries_at;
        while low < high {
            let middle = (low + high) / 2;
            let page = self.page(self.header.samples_at, middle / SAMPLES)?;
            let at = u32_at(&page, middle % SAMPLES * 4).into();
            if self.entry(at)?.term.as_slice() < prefix {
                (low, found) = (middle + 1, at);
            } else {
                high = middle;
            }
        }
        Ok(found)
    }

    fn page(&self, pages_at: u64, number: usize) -> Lookup<Vec<u8>> {
        let at = pages_at + (number * PAGE) as u64;
        let mut page = Vec::new();
        self.read(at, PAGE, &mut page)?;
        if index_file::page_holds(&page, self.mask, at) { Ok(page) } else { Err(IndexBroken) }
    }

    pub fn waypoint_count(&self) -> usize {
        self.header.waypoints as usize
    }

    /// Returns the waypoints from `number` on that are in one page.
    fn waypoint_page(&self, number: usize) -> Lookup<Vec<u8>> {
        self.page(self.header.waypoints_at, number / WAYPOINTS)
    }

    pub fn waypoint(&self, number: usize) -> Lookup<Waypoint> {
        Ok(Waypoint::decode(&self.waypoint_page(number)?, number % WAYPOINTS))
    }

    /// Returns the number of waypoints that satisfy `before`, which come first.
    pub fn waypoints_before(&self, before: impl Fn(&Waypoint) -> bool) -> Lookup<usize> {
        let (mut low, mut high) = (0, self.waypoint_count());
        while low < high {
            let middle = (low + high) / 2;
            if before(&self.waypoint(middle)?) {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }
}
