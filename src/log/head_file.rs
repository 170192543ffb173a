//! The HEAD file: up to where the log is known to be durable. Written at a roll, on closing and
//! when idle; never on the commit path.

use super::LogWriter;
use crate::directory::HEAD;
use crate::error::{Error, Result};
use crate::format::frame::Chain;
use crate::format::head::{DurableMark, Slots};
use crate::format::segment_header::SegmentHeader;
use crate::fs::{self, File, Fs, Mode};
use crate::segment::head;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub(super) struct HeadFile {
    path: PathBuf,
    file: Option<Arc<dyn File>>,
    last: Option<DurableMark>,
}

impl HeadFile {
    /// Reads HEAD. A missing file proves nothing.
    pub(super) fn read(fs: &dyn Fs, dir: &Path) -> Result<(HeadFile, Slots)> {
        let slots = head::read(fs, dir)?.unwrap_or_default();
        let last = slots.newest;
        Ok((HeadFile { path: dir.join(HEAD), file: None, last }, slots))
    }

    /// Writes the next generation and makes it durable.
    fn write(&mut self, fs: &dyn Fs, next: DurableMark) -> Result<()> {
        let io_error = |e| Error::io("write", &self.path, e);
        let file = match self.file.take() {
            Some(file) => file,
            None => match fs.open(&self.path, Mode::Write) {
                Ok(file) => file,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    let file = fs.open(&self.path, Mode::Create).map_err(io_error)?;
                    let dir = self.path.parent().unwrap_or(Path::new(""));
                    fs.sync_dir(dir).map_err(io_error)?;
                    file
                }
                // The report of the open has a notice of it. HEAD is only evidence.
                Err(e) if fs::is_not_a_file(&e) => return Ok(()),
                Err(e) => return Err(io_error(e)),
            },
        };
        fs::write_full(&*file, next.slot_at(), &next.encode()).map_err(|(_, e)| io_error(e))?;
        file.sync().map_err(io_error)?;
        self.file = Some(file);
        self.last = Some(next);
        Ok(())
    }
}

impl LogWriter {
    /// Records in HEAD what is durable now.
    pub(super) fn mark(&self, clean: bool) -> Result<()> {
        self.check_owner()?;
        let active = self.active.lock();
        let (segment, end) = (active.segment().header, active.end());
        let written = self.state.lock().written.clone();
        let position = self.durable.load(Ordering::Acquire);
        let digest = written.chain.mark(&written.header);
        if active.check().is_err() || position != written.next_position() {
            return Ok(());
        }
        // The next segment may be planned and not exist yet; bytes after the last group are not
        // durable yet.
        let (segment, len) = if written.created { (written.header, written.offset) } else { (segment, end) };
        drop(active);
        self.write_head(&segment, (position, digest), len, clean)
    }

    /// Records in HEAD that a segment is durable up to a commit. It is only evidence: an error is
    /// left to the next attempt.
    pub(super) fn mark_at(&self, segment: &SegmentHeader, chain: &Chain, len: u64) {
        let marked = (chain.next_position, chain.mark(segment));
        let (Ok(()) | Err(_)) = self.write_head(segment, marked, len, false);
    }

    fn write_head(&self, segment: &SegmentHeader, (position, digest): (u64, u64), len: u64, clean: bool) -> Result<()> {
        let mut head = self.head.lock();
        let last = head.last;
        if last.is_some_and(|last| last.position > position) {
            return Ok(());
        }
        let generation = last.map_or(0, |last| last.generation + 1);
        let next =
            DurableMark { clean, store: segment.store, generation, segment: segment.number, position, len, digest };
        if last.is_some_and(|last| DurableMark { generation, ..last } == next) {
            return Ok(());
        }
        head.write(&*self.held.files, next)
    }

    /// Returns whether HEAD says less than is durable.
    pub(super) fn head_lags(&self) -> bool {
        let said = self.head.lock().last.map_or(0, |head| head.position);
        said < self.durable.load(Ordering::Acquire)
    }
}
