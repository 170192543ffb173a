//! What the leader owns: the active file, zeros ahead of its end, and what follows a failed write.

use super::commit::Failure;
use super::spare::{self, Spare};
use super::{HeldDirectory, LogSettings};
use crate::error::Error;
use crate::format::segment_header::SegmentHeader;
use crate::fs::{self, Fs};
use crate::segment::{START, Segment};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Zeros are written ahead in steps: as many as the segment has bytes, within these bounds. A sync
/// is cheaper if neither the length of a file nor the state of its blocks changes: 1.5 to 3 times
/// the rate of a growing file.
const MIN_STEP: u64 = 64 << 10;
const MAX_STEP: u64 = 4 << 20;

/// For larger groups, zeros ahead do not pay: all bytes would go to the disk twice, which takes
/// longer than a new length of the file.
const MOST_GAINING: usize = 64 << 10;

pub(super) struct ActiveSegment {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    use_map: bool,
    segment_size: u64,
    /// Bytes of the disk that must stay free.
    reserve: u64,
    segment: Arc<Segment>,
    /// The end of the last frame.
    end: u64,
    /// The file has zeros up to here.
    zeroed: u64,
    /// The spare file for the next segment.
    spare: Option<Spare>,
    /// The maintenance thread has been asked for one.
    asked: bool,
    /// A sync has failed, or the lock is lost. Neither is tried again: the system forgets the pages
    /// that it could not write, so that the next sync would succeed and prove nothing.
    unknown: Option<Error>,
}

impl ActiveSegment {
    pub(super) fn new(held: &HeldDirectory, settings: &LogSettings, segment: Arc<Segment>, end: u64) -> Self {
        ActiveSegment {
            fs: held.fs(),
            dir: held.path.clone(),
            use_map: settings.memory_map,
            segment_size: settings.segment_size,
            reserve: settings.reserve,
            zeroed: segment.file.size().unwrap_or(end),
            segment,
            end,
            spare: None,
            asked: false,
            unknown: None,
        }
    }

    pub(super) fn segment(&self) -> Arc<Segment> {
        self.segment.clone()
    }

    /// Returns the end of the last frame.
    pub(super) fn end(&self) -> u64 {
        self.end
    }

    /// Creates a segment and makes it durable, name and header, before anything is in it. If an
    /// earlier attempt has failed, its file is reused.
    pub(super) fn create(&mut self, header: SegmentHeader) -> Result<Arc<Segment>, Failure> {
        self.check()?;
        self.asked = false;
        let (segment, zeroed) = match self.adopt_spare(header) {
            Some(adopted) => adopted,
            None => {
                self.check_space(MIN_STEP)?;
                let segment = Segment::create(&*self.fs, &self.dir, header, self.use_map);
                let segment = segment.map_err(Failure::NotStored)?;
                segment.file.sync().map_err(|e| self.latch(&segment.path, &e))?;
                (segment, START)
            }
        };
        self.fs.sync_dir(&self.dir).map_err(|e| match fs::is_out_of_files(&e) {
            // The directory could not be opened: no sync has failed, and the next attempt begins
            // again.
            true => Failure::NotStored(Error::io("open", &self.dir, e)),
            false => self.latch(&segment.path, &e),
        })?;
        self.segment = Arc::new(segment);
        self.end = START;
        self.zeroed = zeroed;
        Ok(self.segment.clone())
    }

    /// Makes a segment of the spare file. If that fails, the file is forgotten: nothing of the log
    /// is in it.
    fn adopt_spare(&mut self, header: SegmentHeader) -> Option<(Segment, u64)> {
        let spare = self.spare.take()?;
        let adopted = Segment::adopt(&*self.fs, (&spare.path, spare.file.clone()), &self.dir, header, self.use_map);
        if adopted.is_err() {
            spare.remove(&*self.fs);
        }
        adopted.ok().map(|segment| (segment, spare.zeroed))
    }

    /// Returns whether a spare file must be made now: once for each segment, when it is a quarter
    /// full.
    pub(super) fn wants_spare(&mut self) -> bool {
        let wants =
            !self.asked && self.spare.is_none() && self.end >= self.segment_size / 4 && self.fs.gains_from_zeros();
        self.asked |= wants;
        wants
    }

    /// Frees the room of the spare file, if there is one.
    fn give_up_spare(&mut self) -> bool {
        let spare = self.spare.take();
        spare.as_ref().inspect(|spare| spare.remove(&*self.fs)).is_some()
    }

    /// Takes a complete spare file, instead of an earlier one.
    pub(super) fn keep_spare(&mut self, spare: Spare) {
        if let Some(before) = self.spare.replace(spare) {
            before.remove(&*self.fs);
        }
    }

    /// Writes a group at the end of the segment, followed by zeros if it reaches their end. Nothing
    /// is synced.
    pub(super) fn write(&mut self, at: u64, bytes: &[u8]) -> Result<(), Failure> {
        self.check()?;
        let end = at + bytes.len() as u64;
        let step = self.zeroed.clamp(MIN_STEP, MAX_STEP).min(self.segment_size.saturating_sub(end));
        let more = end > self.zeroed;
        if more {
            self.check_space(end - self.zeroed + step)?;
        }
        if let Err((_, error)) = fs::write_full(&*self.segment.file, at, bytes) {
            return Err(self.withdraw(at, end, error));
        }
        self.end = end;
        if more {
            self.zeroed = end;
            // Zeros only make syncs cheaper: if they cannot be written, the file grows instead.
            if self.fs.gains_from_zeros() && step > 0 && bytes.len() <= MOST_GAINING {
                let (Ok(()) | Err(_)) = spare::write_zeros(&*self.segment.file, end, step);
                self.zeroed = self.segment.file.size().unwrap_or(end).max(end);
            }
        }
        Ok(())
    }

    /// Removes what a failed write has left in the file: a refused commit must not be there after a
    /// crash.
    fn withdraw(&mut self, at: u64, end: u64, error: io::Error) -> Failure {
        // The disk may be full.
        self.give_up_spare();
        let segment = self.segment.clone();
        let file = &*segment.file;
        let withdrawn = file.size().and_then(|size| {
            let left = vec![0; size.min(end).saturating_sub(at) as usize];
            fs::write_full(file, at, &left).map_err(|(_, e)| e)?;
            file.sync()
        });
        match withdrawn {
            Ok(()) => Failure::NotStored(Error::io("write", &segment.path, error)),
            Err(e) => self.latch(&segment.path, &e),
        }
    }

    fn check_space(&mut self, bytes: u64) -> Result<(), Failure> {
        // If the free space is unknown, the write fails when there is none.
        let Ok(Some(available)) = self.fs.available(&self.dir) else { return Ok(()) };
        if self.reserve == 0 || available >= self.reserve.saturating_add(bytes) {
            return Ok(());
        }
        if self.give_up_spare() {
            return self.check_space(bytes);
        }
        Err(Failure::NotStored(Error::DiskFull { path: self.dir.clone(), available, reserve: self.reserve }))
    }

    pub(super) fn sync(&mut self) -> Result<(), Failure> {
        self.check()?;
        let segment = self.segment.clone();
        segment.file.sync().map_err(|e| self.latch(&segment.path, &e))
    }

    /// Returns whether a sync has failed, or the lock is lost.
    pub(super) fn check(&self) -> Result<(), Failure> {
        self.unknown.clone().map_or(Ok(()), |error| Err(Failure::Unknown(error)))
    }

    /// Writes nothing from now on.
    pub(super) fn refuse(&mut self, error: Error) -> Failure {
        Failure::Unknown(self.unknown.get_or_insert(error).clone())
    }

    /// Remembers that a sync has failed.
    fn latch(&mut self, path: &Path, error: &io::Error) -> Failure {
        let why = format!("{}: {error}", path.display()).into();
        Failure::Unknown(self.unknown.insert(Error::DurabilityUnknown { why }).clone())
    }

    /// Frees the zeros ahead, and the spare file, on closing. Nothing below `end` is touched, and
    /// no map reaches beyond it.
    pub(super) fn trim(&mut self) {
        self.give_up_spare();
        if self.check().is_ok() && self.zeroed > self.end && self.segment.file.truncate(self.end).is_ok() {
            self.zeroed = self.end;
        }
    }
}
