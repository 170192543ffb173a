//! Replay: reads the positions file, and decides whether it is damaged. Changes nothing.
//!
//! A batch is written only after all earlier ones are durable, and the file gets its name only
//! after everything in it is durable. Therefore:
//!
//! | content of the file | verdict |
//! |---|---|
//! | intact batches to the end, or to a mark | keep |
//! | a bad header, or that of another store | damage |
//! | fewer bytes than were durable when it got its name, or a bad batch among these | damage |
//! | a bad batch, followed by an intact header of a later batch, which was written when the bad one was durable | damage |
//! | an intact batch that does not follow the one before | damage |
//! | a bad batch, and nothing intact after it | torn tail: cut. It cannot be proven if it was the very last batch |

use crate::error::{Error, Result};
use crate::format::checksum::Mask;
use crate::format::positions_file::{self, BATCH, BATCH_MAGIC, BatchHeader, FileHeader, HEADER, ProgressEntry};
use crate::fs::{self, File};
use std::io;
use std::ops::Range;
use std::path::Path;

/// Number of bytes read at once.
const WINDOW: usize = 64 << 10;

/// The end of the batches, where the next one is written.
#[derive(Clone, Debug)]
pub(super) struct End {
    pub mask: Mask,
    pub at: u64,
    /// The number of the next batch, and the CRC of its predecessor.
    pub number: u64,
    pub previous: u32,
    /// Whether a mark says that everything before `at` is durable. The next batch overwrites the
    /// mark.
    pub marked: bool,
    /// The last batch, if it was written after the file got its name; otherwise an empty range.
    pub last: Range<u64>,
}

/// A file that is read in large pieces.
pub(super) struct FileWindow<'a> {
    file: &'a dyn File,
    pub size: u64,
    at: u64,
    bytes: Vec<u8>,
}

impl<'a> FileWindow<'a> {
    pub(super) fn new(file: &'a dyn File) -> io::Result<Self> {
        Ok(FileWindow { file, size: file.size()?, at: 0, bytes: Vec::new() })
    }

    /// Returns `len` bytes from `at` on, or fewer at the end of the file.
    pub(super) fn get(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let left = self.size.saturating_sub(at);
        let len = left.min(len as u64) as usize;
        let there = at.checked_sub(self.at).is_some_and(|skip| skip + len as u64 <= self.bytes.len() as u64);
        if !there {
            self.bytes.resize(left.min(len.max(WINDOW) as u64) as usize, 0);
            let read = fs::read_full(self.file, at, &mut self.bytes)?;
            self.bytes.truncate(read);
            self.at = at;
        }
        let skip = (at - self.at) as usize;
        Ok(&self.bytes[skip..self.bytes.len().min(skip + len)])
    }

    /// Returns the intact batch at `at`: its header and its body.
    pub(super) fn batch(&mut self, at: u64, mask: Mask) -> io::Result<Option<(BatchHeader, &[u8])>> {
        let Some(header) = BatchHeader::decode(self.get(at, BATCH)?, mask, at) else { return Ok(None) };
        // The length was checked with the header, and `get` returns no more than the file has.
        let rest = self.get(at + BATCH as u64, header.rest_len() as usize)?;
        Ok(header.body(rest, mask, at).map(|body| (header, body)))
    }

    /// Returns the first offset from `from` on that has the magic of a batch and satisfies `is`.
    pub(super) fn search(
        &mut self,
        from: u64,
        mut is: impl FnMut(&mut Self, u64) -> io::Result<bool>,
    ) -> io::Result<Option<u64>> {
        let mut at = from;
        while at + BATCH as u64 <= self.size {
            self.get(at, BATCH)?;
            // All bytes from `at` on that have been read.
            let bytes = &self.bytes[(at - self.at) as usize..];
            let Some(found) = bytes.windows(BATCH_MAGIC.len()).position(|four| four == BATCH_MAGIC) else {
                at += bytes.len().saturating_sub(BATCH_MAGIC.len() - 1).max(1) as u64;
                continue;
            };
            at += found as u64;
            if is(self, at)? {
                return Ok(Some(at));
            }
            at += 1;
        }
        Ok(None)
    }

    /// Returns the offset of the first intact header of a batch from `from` on.
    fn next_header(&mut self, from: u64, mask: Mask) -> io::Result<Option<u64>> {
        self.search(from, |window, at| Ok(BatchHeader::decode(window.get(at, BATCH)?, mask, at).is_some()))
    }
}

fn damaged(path: &Path, bytes: Range<u64>, why: impl Into<String>) -> Error {
    Error::damaged(path, bytes, 0..0, why)
}

/// Reads the whole file, and calls `show` with the entries of each intact batch in order. Returns
/// the end of the batches.
///
/// # Errors
///
/// [`Error::Damaged`], [`Error::UnsupportedFormat`], [`Error::Io`].
pub(super) fn replay(
    file: &dyn File,
    path: &Path,
    store: &[u8; 16],
    mut show: impl FnMut(&mut dyn Iterator<Item = ProgressEntry<'_>>),
) -> Result<End> {
    let io_error = |e| fs::read_error(file, path, 0..file.size().unwrap_or(0), e);
    let mut window = FileWindow::new(file).map_err(io_error)?;
    let header = window.get(0, HEADER).map_err(io_error)?;
    let Some(header) = FileHeader::decode(header, path)? else {
        return Err(damaged(path, 0..HEADER as u64, "the header is not intact"));
    };
    if header.store != *store {
        return Err(damaged(path, 0..HEADER as u64, "it belongs to another store"));
    }
    let size = window.size;
    if size < header.durable_len {
        return Err(damaged(path, size..header.durable_len, "the end of the file is missing"));
    }
    let mask = header.mask();
    let (at, number) = (HEADER as u64, 1);
    let mut end = End { mask, at, number, previous: header.chain(), marked: false, last: at..at };
    while let Some((batch, body)) = window.batch(end.at, mask).map_err(io_error)? {
        let next = end.at + BATCH as u64 + batch.rest_len();
        if (batch.number, batch.previous) != (end.number, end.previous) {
            let why = format!("batch {} where batch {} is expected", batch.number, end.number);
            return Err(damaged(path, end.at..next, why));
        }
        if batch.is_mark() {
            end.marked = true;
            break;
        }
        show(&mut positions_file::entries(body));
        end.last = if end.at < header.durable_len { next..next } else { end.at..next };
        (end.at, end.number, end.previous) = (next, batch.number + 1, batch.crc);
    }
    if let Some(later) = window.next_header(end.at + 1, mask).map_err(io_error)? {
        let why = format!("batch {} is not intact, and there are later ones", end.number);
        return Err(damaged(path, end.at..later, why));
    }
    if end.at < header.durable_len {
        let why = format!("batch {} is not intact, and was durable when the file was written", end.number);
        return Err(damaged(path, end.at..size, why));
    }
    Ok(end)
}

/// Returns the last batch, or `None` if it is no longer what was read.
pub(super) fn read_again(file: &dyn File, end: &End) -> io::Result<Option<Vec<u8>>> {
    let mut window = FileWindow::new(file)?;
    let intact = window.batch(end.last.start, end.mask)?.is_some_and(|(batch, _)| batch.crc == end.previous);
    let bytes = window.get(end.last.start, (end.last.end - end.last.start) as usize)?;
    Ok(intact.then(|| bytes.to_vec()))
}
