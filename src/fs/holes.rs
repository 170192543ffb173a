//! Reading from a disk with unreadable bytes: they show as bytes without meaning, and are
//! remembered.
//!
//! A read that meets a bad sector fails as a whole, although all other pages of the file are
//! intact. Tools that salvage what is left read through [`Holes`]: a page that cannot be read
//! becomes a *hole*, whose bytes fail every checksum as damaged ones do, and which is read only
//! once, as a failing disk may take seconds to give up. Holes are not filled with zeros, because
//! zeros are what a log ends in.

use super::{File, Fs, FsLayer, Map, Mode};
use crate::error::{Damage, Error};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The byte that holes show: no magic, and no length of anything, begins with it.
const FILLER: u8 = 0xEE;

/// The step in which unreadable bytes are located: the unit in which kernels read files.
const PAGE: u64 = 4096;

/// Returns whether a call failed because the disk does not return what it stores: a bad sector, or
/// a block whose checksum in the file system does not hold.
pub(crate) fn is_unreadable(error: &io::Error) -> bool {
    #[cfg(unix)]
    if let Some(errno) = rustix::io::Errno::from_io_error(error) {
        use rustix::io::Errno;
        #[cfg(target_os = "linux")]
        if [Errno::UCLEAN, Errno::REMOTEIO, Errno::NODATA].contains(&errno) {
            return true;
        }
        return [Errno::IO, Errno::BADMSG].contains(&errno);
    }
    // ERROR_CRC, ERROR_SECTOR_NOT_FOUND, ERROR_READ_FAULT, ERROR_IO_DEVICE.
    cfg!(windows) && error.raw_os_error().is_some_and(|code| [23, 27, 30, 1117].contains(&code))
}

/// Returns the error of a read of these bytes. Bytes that the disk does not return are damage; the
/// caller may know their positions.
pub(crate) fn read_error(file: &dyn File, path: &Path, bytes: Range<u64>, error: io::Error) -> Error {
    if !is_unreadable(&error) {
        return Error::io("read", path, error);
    }
    // The first page that fails; the read may have been long.
    let pages = std::iter::successors(Some(bytes.start), |at| Some((at / PAGE + 1) * PAGE));
    let mut pages = pages.take_while(|&at| at < bytes.end);
    let first = pages.find(|&at| file.read_at(at, &mut [0]).is_err_and(|e| is_unreadable(&e)));
    let bytes = first.map_or(bytes, |at| page_of(file, at));
    Error::damaged(path, bytes, 0..0, why(&error))
}

fn why(error: &io::Error) -> String {
    format!("these bytes cannot be read: {error}")
}

fn page_of(file: &dyn File, at: u64) -> Range<u64> {
    let start = at / PAGE * PAGE;
    let end = start + PAGE;
    start..file.size().map_or(end, |size| size.clamp(at + 1, end))
}

/// The holes that were met, by file and offset, with their ends and the system's error.
type Met = BTreeMap<PathBuf, BTreeMap<u64, (u64, String)>>;

/// A file system in which unreadable bytes are holes.
#[derive(Debug)]
pub(crate) struct Holes<'a> {
    under: &'a dyn Fs,
    met: Arc<Mutex<Met>>,
}

#[derive(Debug)]
struct HoledFile {
    /// `None` if even the file itself cannot be opened: then it has no bytes.
    under: Option<Arc<dyn File>>,
    path: PathBuf,
    met: Arc<Mutex<Met>>,
}

impl<'a> Holes<'a> {
    pub(crate) fn new(under: &'a dyn Fs) -> Self {
        Holes { under, met: Arc::default() }
    }

    /// Returns the holes that were met so far, as damage of unknown positions. Adjacent holes are
    /// merged.
    pub(crate) fn met(&self) -> Vec<Damage> {
        let met = self.met.lock();
        let mut found: Vec<Damage> = Vec::new();
        for (path, holes) in met.iter() {
            for (&start, (end, why)) in holes {
                match found.last_mut() {
                    Some(last) if last.path == *path && last.bytes.end == start && last.why == *why => {
                        last.bytes.end = *end;
                    }
                    _ => {
                        let (path, why) = (path.clone(), why.clone());
                        found.push(Damage { path, bytes: start..*end, positions: 0..0, why });
                    }
                }
            }
        }
        found
    }

    /// Returns whether a hole was met among these bytes of a file.
    pub(crate) fn is_met(&self, path: &Path, bytes: &Range<u64>) -> bool {
        let met = self.met.lock();
        let before = met.get(path).and_then(|holes| holes.range(..bytes.end).next_back());
        before.is_some_and(|(_, (end, _))| *end > bytes.start)
    }
}

impl FsLayer for Holes<'_> {
    fn inner(&self) -> &dyn Fs {
        self.under
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        let file = |under| HoledFile { under, path: path.to_owned(), met: self.met.clone() };
        match self.under.open(path, mode) {
            Err(e) if mode == Mode::Read && is_unreadable(&e) => {
                let file = file(None);
                // It has at least one byte: an empty file has no sector.
                let why = format!("the file cannot be opened: {e}");
                self.met.lock().entry(file.path.clone()).or_default().insert(0, (1, why));
                Ok(Arc::new(file))
            }
            opened => Ok(Arc::new(file(Some(opened?)))),
        }
    }
}

impl HoledFile {
    fn under(&self) -> io::Result<&dyn File> {
        self.under.as_deref().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Adds a hole, merged with the one before it if they touch: a whole disk may be unreadable.
    fn meet(&self, page: Range<u64>, why: String) {
        let mut met = self.met.lock();
        let holes = met.entry(self.path.clone()).or_default();
        match holes.range_mut(..=page.start).next_back() {
            Some((_, (end, said))) if *end == page.start && *said == why => *end = page.end,
            _ => _ = holes.insert(page.start, (page.end, why)),
        }
    }

    /// Returns the end of the hole at `offset`; or else the start of the next one, `u64::MAX` if
    /// there is none.
    fn hole_at(&self, offset: u64) -> Result<u64, u64> {
        let met = self.met.lock();
        let Some(holes) = met.get(&self.path) else { return Err(u64::MAX) };
        match holes.range(..=offset).next_back() {
            Some((_, &(end, _))) if offset < end => Ok(end),
            _ => Err(holes.range(offset..).next().map_or(u64::MAX, |(&start, _)| start)),
        }
    }
}

impl File for HoledFile {
    fn size(&self) -> io::Result<u64> {
        self.under.as_ref().map_or(Ok(0), |file| file.size())
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let Some(file) = self.under.as_deref() else { return Ok(0) };
        let up_to = |end: u64| usize::try_from(end - offset).unwrap_or(usize::MAX).min(out.len());
        let len = match self.hole_at(offset) {
            Ok(end) => {
                let len = up_to(end);
                out[..len].fill(FILLER);
                return Ok(len);
            }
            Err(next) => up_to(next),
        };
        match file.read_at(offset, &mut out[..len]) {
            Err(e) if is_unreadable(&e) => {}
            read => return read,
        }
        // Only the page at `offset`, and once more: the bad one may be after it, and the failure
        // may have passed.
        let page = page_of(file, offset);
        let len = len.min((page.end - offset) as usize);
        match file.read_at(offset, &mut out[..len]) {
            Err(e) if is_unreadable(&e) => {
                self.meet(page, why(&e));
                out[..len].fill(FILLER);
                Ok(len)
            }
            read => read,
        }
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.under()?.write_at(offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        self.under()?.sync()
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.under()?.truncate(size)
    }

    /// A bad sector ends a process that reads it through a map.
    fn map(&self, _: u64) -> io::Result<Option<Arc<dyn Map>>> {
        Ok(None)
    }
}
