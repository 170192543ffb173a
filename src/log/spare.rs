//! Spare files: the file of the next segment, made ahead, whose zeros are on the disk before
//! anything is committed into it.
//!
//! A sync is cheapest if neither the length of a file nor the state of its blocks changes. Zeros
//! that a commit writes ahead go to the disk with its own bytes, and a file that grows costs each
//! sync a change of its metadata: commits of 350 KB take 180 µs with zeros in place, 370 µs without
//! (ext4 without a journal; with one, more). So once a segment is a quarter full, the maintenance
//! thread makes a spare file, no faster than the segment fills, and a roll renames it. Nothing
//! depends on it: if it cannot be made, segments grow instead, and the next open of the store
//! removes the rest of one.

use super::LogWriter;
use crate::directory::{index_number, meant_by, segment_number, spare_name, spare_number};
use crate::format::checksum::{crc, extend};
use crate::format::is_zero;
use crate::format::segment_header::may_be_header;
use crate::fs::{self, Entry, File, Fs, Mode};
use crate::segment::START;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The sizes of complete spare files, as [`Options::segment_size`](crate::Options::segment_size)
/// allows them.
const SMALLEST: u64 = 4 << 10;
const LARGEST: u64 = 1 << 30;

/// Zeros are written in pieces of this size, at multiples of it: a write leaves folios of its size
/// in the page cache, and Linux then visits all blocks of a folio for each small write into it.
/// Measured on ext4: 64 MiB of zeros and then a write of 416 bytes, with 4 KiB a call 40 ms and
/// 0.56 µs, with 64 KiB 12 ms and 0.54 µs, with 1 MiB 10 ms and 1.0 µs, with 4 MiB 12 ms and more
/// and 3.3 µs.
const PIECE: u64 = 64 << 10;

/// Number of bytes written between two syncs, so that no sync takes long.
const STEP: u64 = 4 << 20;

/// Writes zeros into a file.
pub(super) fn write_zeros(file: &dyn File, from: u64, len: u64) -> io::Result<()> {
    let zeros = vec![0; PIECE.min(len) as usize];
    let (mut at, end) = (from, from + len);
    while at < end {
        let step = (PIECE - at % PIECE).min(end - at);
        fs::write_full(file, at, &zeros[..step as usize]).map_err(|(_, e)| e)?;
        at += step;
    }
    Ok(())
}

/// A spare file that is being made. Each has a name and a file of its own, and only one thread has
/// it: zeros that one thread is still writing can never land in the segment of another.
pub(super) struct Spare {
    pub path: PathBuf,
    pub file: Arc<dyn File>,
    /// Number of zeros that are on the disk.
    pub zeroed: u64,
    len: u64,
}

impl Spare {
    fn begin(fs: &dyn Fs, path: PathBuf, len: u64) -> io::Result<Spare> {
        let file = fs.open(&path, Mode::Create)?;
        Ok(Spare { path, file, zeroed: 0, len })
    }

    fn is_whole(&self) -> bool {
        self.zeroed == self.len
    }

    /// Frees the room.
    pub(super) fn remove(&self, fs: &dyn Fs) {
        let (Ok(()) | Err(_)) = fs.remove(&self.path);
    }

    fn go_on(&mut self) -> io::Result<()> {
        let step = STEP.min(self.len - self.zeroed);
        write_zeros(&*self.file, self.zeroed, step)?;
        self.file.sync()?;
        self.zeroed += step;
        Ok(())
    }
}

/// The number of a spare file: the upper half distinguishes those of one store, the lower half
/// identifies the store. No other file has such a name by chance, so that its content need not be
/// read to the end.
fn number(store: &[u8; 16], n: u32) -> u64 {
    let of = extend(crc(store), &n.to_le_bytes());
    u64::from(n) << 32 | u64::from(of)
}

fn is_of(store: &[u8; 16], name: &str) -> bool {
    spare_number(name).is_some_and(|found| number(store, (found >> 32) as u32) == found)
}

/// Removes files of segments under temporary names: no other program makes such files.
pub(super) fn remove_unnamed(fs: &dyn Fs, dir: &Path, entries: &[Entry]) {
    let is_of_segment = |name: &str| segment_number(name).or(index_number(name)).is_some();
    for entry in entries.iter().filter(|entry| entry.is_file && meant_by(&entry.name).is_some_and(is_of_segment)) {
        let (Ok(()) | Err(_)) = fs.remove(&dir.join(&entry.name));
    }
}

/// Removes the spare files that a dead process has left: those whose name says that they are of
/// this store. Returns names that look like those of spare files and belong to something else.
pub(super) fn remove_left(fs: &dyn Fs, dir: &Path, entries: &[Entry], store: &[u8; 16]) -> Vec<String> {
    let mut others = Vec::new();
    for entry in entries.iter().filter(|entry| spare_number(&entry.name).is_some() && entry.is_file) {
        let path = dir.join(&entry.name);
        match is_of(store, &entry.name).then(|| is_spare(fs, &path, entry.size)) {
            Some(Ok(true)) => {
                let (Ok(()) | Err(_)) = fs.remove(&path);
            }
            Some(Ok(false)) | None => others.push(entry.name.clone()),
            // While it cannot be read, it only takes room.
            Some(Err(_)) => {}
        }
    }
    others
}

/// Returns whether a file with the name of a spare file looks like one at its start and its end:
/// zeros, possibly with what a crash has left of the header of a segment, which is written when the
/// file is complete. A segment, or a file of the user under this name, has something else after the
/// header.
fn is_spare(fs: &dyn Fs, path: &Path, size: u64) -> io::Result<bool> {
    if size == 0 || size > LARGEST {
        return Ok(size == 0);
    }
    let file = fs.open(path, Mode::Read)?;
    let mut piece = vec![0; PIECE.min(size) as usize];
    for at in [0, size.saturating_sub(PIECE)] {
        let read = fs::read_full(&*file, at, &mut piece)?;
        let mut bytes = &piece[..read];
        if at == 0 && size >= SMALLEST && may_be_header(bytes) {
            bytes = &bytes[bytes.len().min(START as usize)..];
        }
        if !is_zero(bytes) {
            return Ok(false);
        }
    }
    Ok(true)
}

impl LogWriter {
    /// Begins a spare file, if there is room for it and for the rest of the active segment.
    pub(super) fn begin_spare(&self) -> Option<Spare> {
        let len = self.settings.segment_size;
        let wanted = self.settings.reserve.saturating_add(2 * len);
        let has_room =
            self.held.files.available(self.log.dir()).is_ok_and(|free| free.is_none_or(|free| free >= wanted));
        if !has_room {
            return None;
        }
        loop {
            let number = number(&self.log.store_id(), self.spares.fetch_add(1, Ordering::Relaxed));
            let path = self.log.dir().join(spare_name(number));
            match self.held.files.open(&path, Mode::Read) {
                // A file of another program with this name.
                Ok(_) => {}
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    return Spare::begin(&*self.held.files, path, len).ok();
                }
                Err(_) => return None,
            }
        }
    }

    /// Makes more of a spare file, or hands it to the writer when it is complete. Returns it if it
    /// is not complete yet.
    pub(super) fn further_spare(&self, mut spare: Spare) -> Option<Spare> {
        if self.held.files.is_ending() || spare.go_on().is_err() {
            spare.remove(&*self.held.files);
            return None;
        }
        if !spare.is_whole() {
            return Some(spare);
        }
        self.active.lock().keep_spare(spare);
        None
    }

    /// Returns whether a spare file is ahead of the active segment: it must be complete when that
    /// is three quarters full.
    pub(super) fn is_spare_ahead(&self, spare: &Spare) -> bool {
        let filled = self.state.lock().written.offset;
        spare.zeroed / 2 > filled.saturating_sub(self.settings.segment_size / 4) + STEP
    }

    /// Makes all of it at once, if there is no thread that would.
    pub(super) fn make_spare(&self) {
        let mut making = self.begin_spare();
        while let Some(spare) = making {
            making = self.further_spare(spare);
        }
    }
}
