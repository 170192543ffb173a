//! Recovery: read, judge, and only then write.
//!
//! `mod.rs` reads segment after segment; `judge.rs` applies the tables of `src/segment/verdict.rs`
//! to what was read, and writes nothing; `cut.rs` cuts a torn tail, `rewrite.rs` writes unproven
//! bytes back; `tail.rs` determines where the log continues.

mod cut;
mod judge;
pub(crate) mod report;
mod rewrite;
mod tail;

use super::{LogIndex, LogSettings, LogTail};
use crate::directory::{is_like_segment, segment_name, segment_number};
use crate::error::{Error, Result};
use crate::format::commit::Each;
use crate::format::frame::Chain;
use crate::format::head;
use crate::format::head::Slots;
use crate::format::segment_header::SegmentHeader;
use crate::fs::{Entry, Fs, Mode};
use crate::segment::remains;
use crate::segment::scan::{ScanSource, Scanned};
use crate::segment::succession::SegmentExtent;
use crate::segment::verdict::first_missing;
use crate::segment::{START, Segment, random};
use report::OpenReport;
use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The content of the files, and where the log continues.
pub(super) struct Recovered {
    pub segments: Vec<Arc<Segment>>,
    pub tail: LogTail,
    /// The active segment, and the end of its last frame.
    pub active: Arc<Segment>,
    pub end: u64,
    /// All of it is known to be durable.
    pub proven: bool,
}

/// The inputs of recovery.
pub(super) struct Opening<'a> {
    pub fs: &'a dyn Fs,
    pub dir: &'a Path,
    pub settings: &'a LogSettings,
    pub slots: Slots,
    pub indexes: &'a dyn LogIndex,
    /// Sealed segments whose indexes must be written once all is judged.
    pub unindexed: RefCell<Vec<SegmentExtent>>,
}

impl Opening<'_> {
    /// The numbers of the segments, in order.
    pub(super) fn segment_numbers(&self, entries: &[Entry], report: &mut OpenReport) -> Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in entries.iter().filter(|entry| is_like_segment(&entry.name)) {
            match segment_number(&entry.name) {
                Some(number) if entry.is_file => numbers.push(number),
                _ => report.notices.push(format!("{}: not a file of the store; left alone", entry.name)),
            }
        }
        numbers.sort_unstable();
        let marked = self.slots.newest.map(|head| head.segment);
        if let Some(missing) = first_missing(&numbers, marked) {
            let path = self.dir.join(segment_name(missing));
            return Err(Error::damaged(&path, 0..0, 0..u64::MAX, "this segment is missing"));
        }
        Ok(numbers)
    }

    /// Creates a new store. Segment 1 comes first and HEAD last: while there is no HEAD, an
    /// incomplete store is created again.
    pub(super) fn create(&self, report: &mut OpenReport) -> Result<Recovered> {
        if let Some(damage) = remains::of_a_log(self.fs, self.dir)? {
            return Err(Error::Damaged(Box::new(damage)));
        }
        if self.settings.read_only || !self.settings.create {
            return Err(Error::NotAStore { path: self.dir.to_owned() });
        }
        report.created = true;
        // HEAD may have outlived a segment that was never complete.
        let store = self.slots.newest.map_or_else(|| uuid::Uuid::new_v4().into_bytes(), |head| head.store);
        let header = SegmentHeader::first(store, random(), (self.settings.clock)().as_nanos());
        let segment = Segment::create(self.fs, self.dir, header, self.settings.memory_map)?;
        let synced = segment.file.sync().and_then(|()| self.fs.sync_dir(self.dir));
        synced.map_err(|e| Error::io("sync", &segment.path, e))?;
        self.sync_parents()?;
        Ok(self.recovered(vec![Arc::new(segment)], LogTail::new(header, true), START))
    }

    /// Makes the name of the store's directory durable, and those above it: some of them may have
    /// been created with it, now or by an interrupted open.
    fn sync_parents(&self) -> Result<()> {
        for parent in self.dir.ancestors().skip(1) {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            match self.fs.sync_dir(parent) {
                Ok(()) => {}
                // Not ours, so not created by us; or the file system cannot do it.
                Err(e)
                    if matches!(
                        e.kind(),
                        io::ErrorKind::PermissionDenied | io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
                    ) => {}
                Err(e) => return Err(Error::io("sync the directories above", self.dir, e)),
            }
        }
        Ok(())
    }

    fn recovered(&self, segments: Vec<Arc<Segment>>, tail: LogTail, end: u64) -> Recovered {
        let active = segments.last().expect("a store has a segment").clone();
        Recovered { segments, tail, active, end, proven: false }
    }

    pub(super) fn recover(&self, numbers: &[u64], report: &mut OpenReport) -> Result<Recovered> {
        let mut segments: Vec<Arc<Segment>> = Vec::new();
        let mut before: Option<(SegmentHeader, Scanned)> = None;
        for (n, &number) in numbers.iter().enumerate() {
            let newest = n + 1 == numbers.len();
            let path = self.dir.join(segment_name(number));
            let io_error = |e| Error::io("open", &path, e);
            // A sealed segment is never written to, and may be write-protected.
            let mode = if self.settings.read_only || !newest { Mode::Read } else { Mode::Write };
            let file = self.fs.open(&path, mode).map_err(io_error)?;
            let size = file.size().map_err(io_error)?;
            let source = ScanSource { path: &path, file: &*file, size };

            let found = source.header()?;
            if found.is_none() && self.is_unborn(&source, newest, &before)? {
                report.notices.push(format!("{}: was being created when the machine stopped", path.display()));
                return self.reborn(segments, &source, before, report);
            }
            let header = found.filter(|header| header.number == number);
            let header = header.ok_or_else(|| {
                let first = before.as_ref().map_or(0, |(_, scanned)| scanned.chain.next_position);
                let why = match found {
                    Some(_) => "the file holds another segment than its name says",
                    None => "the header of the segment is not intact",
                };
                Error::damaged(&path, 0..size, first..u64::MAX, why)
            })?;
            self.check_succession(&path, &header, before.as_ref(), report)?;

            let segment = Arc::new(Segment::new(path.clone(), header, file.clone(), self.settings.memory_map));
            segments.push(segment.clone());
            let scanned = match self.known(&source, &header, newest)? {
                Some(known) if !newest => known,
                known => {
                    let resume = known.map(|known| (known.end, known.chain));
                    let scanned = self.scan(&source, &header, resume)?;
                    match newest {
                        true => scanned,
                        false => self.judge_followed(&source, &header, scanned, report)?,
                    }
                }
            };
            segment.set_readable(scanned.events_end());
            let head = self.slots.newest.filter(|_| !self.settings.reconstructed);
            let marked = head.filter(|head| head.position == scanned.chain.next_position && head.position > 0);
            if marked.is_some_and(|head| head.digest != scanned.chain.mark(&header)) {
                return Err(other_log(&path, &header));
            }
            if newest {
                return self.finish(segments, &source, &header, scanned, report);
            }
            before = Some((header, scanned));
        }
        unreachable!("the newest segment ends the loop")
    }

    /// Returns what an index knows of a segment without reading it, if that fits the end of the
    /// file.
    fn known(&self, source: &ScanSource<'_>, header: &SegmentHeader, newest: bool) -> Result<Option<Scanned>> {
        let fits = |end: u64, chain: &Chain| {
            // What HEAD says of an earlier commit can only be compared where that commit is read.
            let is_within = |at: u64| header.first_position < at && at < chain.next_position;
            match newest {
                true if self.head_position().is_some_and(is_within) => Ok(false),
                true => source.ends_with(chain, end),
                false => source.is_sealed(header, chain, end),
            }
        };
        let Some((end, chain)) = self.indexes.resume(header, &fits)? else { return Ok(None) };
        let scanned = Scanned::known(header, end, chain);
        Ok(Some(if newest { scanned } else { scanned.with_seal(header) }))
    }

    /// Reads a segment, from its start or from the end of an earlier scan, and indexes its events.
    fn scan(&self, source: &ScanSource<'_>, header: &SegmentHeader, resume: Option<(u64, Chain)>) -> Result<Scanned> {
        let mut chain = resume.map_or_else(|| Chain::start(header), |(_, chain)| chain);
        let head = self.slots.newest.filter(|_| !self.settings.reconstructed);
        source.scan(header, resume, |frame| {
            let before = chain.next_position;
            chain = chain.then(&frame.header);
            if head.is_some_and(|head| !head.is_of(before, &chain)) {
                return Err(other_log(source.path, header));
            }
            let mut read = Ok(());
            let mut events = |each: Each<'_>| {
                read = frame.records(source.path, |event| each(header.number, &event));
            };
            let wrong = self.indexes.add(&mut events, &|| {});
            read?;
            wrong.map_or(Ok(()), |position| {
                let bytes = frame.offset..frame.offset + frame.bytes.len() as u64;
                let why = "the events of a stream are not numbered 0, 1, 2 …";
                Err(Error::damaged(source.path, bytes, position..frame.header.end_position(), why))
            })
        })
    }

    fn head_position(&self) -> Option<u64> {
        self.slots.newest.map(|head| head.position)
    }
}

fn other_log(path: &Path, segment: &SegmentHeader) -> Error {
    Error::damaged(path, 0..0, segment.first_position..u64::MAX, head::OTHER_LOG)
}
