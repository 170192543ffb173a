//! Going through the files of a store: read, judge, and only then write.

pub(crate) mod quarantine;
pub(crate) mod report;

use super::{LogIndex, LogSettings, LogTail};
use crate::error::{Error, Result};
use crate::format::frame::Chain;
use crate::format::head;
use crate::format::head::Slots;
use crate::format::segment_header::SegmentHeader;
use crate::fs::{self, Entry, Fs, Mode};
use crate::segment::scan::{Each, ScanEnd, ScanSource, Scanned};
use crate::segment::succession::SegmentExtent;
use crate::segment::verdict::{NoHeader, SegmentEnd, SegmentRole, SegmentVerdict, judge, was_being_created};
use crate::segment::vestiges::{self, Claims};
use crate::segment::{START, Segment, file_name, number_of, random};
use report::{Cut, OpenReport};
use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// What the files hold, and where the log goes on.
pub(super) struct Recovered {
    pub segments: Vec<Arc<Segment>>,
    pub tail: LogTail,
    /// The segment that is written to next, and where its last frame ends.
    pub active: Arc<Segment>,
    pub end: u64,
    /// All of it is known to be durable.
    pub proven: bool,
}

/// What recovery works with.
pub(super) struct Opening<'a> {
    pub fs: &'a dyn Fs,
    pub dir: &'a Path,
    pub settings: &'a LogSettings,
    pub slots: Slots,
    pub indexes: &'a dyn LogIndex,
    /// Sealed segments whose indexes are to be written when all is judged.
    pub unindexed: RefCell<Vec<SegmentExtent>>,
}

impl Opening<'_> {
    /// The numbers of the segments, in order.
    pub(super) fn segment_numbers(&self, entries: &[Entry], report: &mut OpenReport) -> Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in entries.iter().filter(|entry| entry.name.ends_with(".seg")) {
            match number_of(&entry.name) {
                Some(number) if entry.is_file => numbers.push(number),
                _ => report.notices.push(format!("{}: not a file of the store; left alone", entry.name)),
            }
        }
        numbers.sort_unstable();
        let newest = self.slots.newest.map_or(0, |head| head.segment);
        let last = numbers.last().copied().unwrap_or(0).max(newest);
        for (expected, &number) in (1..).zip(numbers.iter().chain(&[last.saturating_add(1)])) {
            if number != expected {
                let path = self.dir.join(file_name(expected));
                return Err(Error::damaged(&path, 0..0, 0..u64::MAX, "this segment is missing"));
            }
        }
        Ok(numbers)
    }

    /// Makes a new store. Segment 1 comes first and HEAD last: as long as there is no HEAD, a
    /// half-made store is rebuilt.
    pub(super) fn create(&self, report: &mut OpenReport) -> Result<Recovered> {
        if let Some(damage) = vestiges::of_a_log(self.fs, self.dir)? {
            return Err(Error::Damaged(Box::new(damage)));
        }
        if self.settings.read_only || !self.settings.create {
            return Err(Error::NotAStore { path: self.dir.to_owned() });
        }
        report.created = true;
        // HEAD may have outlived a segment that was never whole.
        let store = self.slots.newest.map_or_else(|| uuid::Uuid::new_v4().into_bytes(), |head| head.store);
        let header = SegmentHeader::first(store, random(), (self.settings.clock)().as_nanos());
        let segment = Segment::create(self.fs, self.dir, header, self.settings.memory_map)?;
        let synced = segment.file.sync().and_then(|()| self.fs.sync_dir(self.dir));
        synced.map_err(|e| Error::io("sync", &segment.path, e))?;
        self.sync_parents()?;
        Ok(self.recovered(vec![Arc::new(segment)], LogTail::new(header, true), START))
    }

    /// Makes the name of the store's directory durable, and those above it: some of them may have
    /// been created with it, now or by an open that did not come to an end.
    fn sync_parents(&self) -> Result<()> {
        for parent in self.dir.ancestors().skip(1) {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            match self.fs.sync_dir(parent) {
                Ok(()) => {}
                // Not ours, so not made by us; or a file system that cannot do it.
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
            let path = self.dir.join(file_name(number));
            let io_error = |e| Error::io("open", &path, e);
            // A sealed segment is never written to, and may be protected against it.
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
                        false => self.sealed(&source, &header, scanned, number + 1, report)?,
                    }
                }
            };
            segment.set_readable(scanned.events_end());
            let head = self.slots.newest.filter(|_| !self.settings.mended);
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

    /// Whether a file without a good header is one that was being created.
    fn is_unborn(
        &self,
        source: &ScanSource<'_>,
        newest: bool,
        before: &Option<(SegmentHeader, Scanned)>,
    ) -> Result<bool> {
        let first = before.as_ref().map_or(0, |(_, scanned)| scanned.chain.next_position);
        Ok(was_being_created(NoHeader {
            newest,
            sealed_before: before.as_ref().is_none_or(|(_, scanned)| matches!(scanned.stop, ScanEnd::Sealed { .. })),
            content: source.content_end(START.min(source.size))? > START,
            in_head: self.slots.newest.is_some_and(|head| head.position > first),
        }))
    }

    /// Goes on after the last sealed segment; what is in the file of the next one is kept in
    /// quarantine.
    fn reborn(
        &self,
        mut segments: Vec<Arc<Segment>>,
        source: &ScanSource<'_>,
        before: Option<(SegmentHeader, Scanned)>,
        report: &mut OpenReport,
    ) -> Result<Recovered> {
        let content = source.content_end(0)?;
        if content > 0 && !self.settings.read_only {
            quarantine::keep(self.fs, self.dir, source, 0, content)?;
        }
        let Some((header, scanned)) = before else { return self.create(report) };
        self.check_end(&header, scanned.chain.next_position)?;
        let tail = LogTail::new(scanned.extent(&header).successor(), false);
        let active = segments.last().expect("there is one before").clone();
        if !self.settings.read_only {
            self.sync(&active)?;
        }
        segments.truncate(header.number as usize);
        Ok(self.recovered(segments, tail, scanned.end))
    }

    fn check_succession(
        &self,
        path: &Path,
        header: &SegmentHeader,
        before: Option<&(SegmentHeader, Scanned)>,
        report: &mut OpenReport,
    ) -> Result<()> {
        let refuse = |why: &str| {
            let positions = header.first_position..u64::MAX;
            Err(Error::damaged(path, 0..START, positions, why))
        };
        if self.slots.newest.is_some_and(|head| head.store != header.store) {
            return refuse("the segment and HEAD belong to different stores");
        }
        let Some((last, scanned)) = before else {
            return if header.first_position == 0 {
                Ok(())
            } else {
                refuse("the first segment does not begin at position 0")
            };
        };
        // What was made of a damaged segment has another digest than the one that was sealed.
        let mended = self.settings.mended;
        let what = scanned.extent(last).discontinuities(header).find(|what| !(mended && what.is_of_bytes()));
        if let Some(what) = what {
            return refuse(&what.to_string());
        }
        if mended {
            return Ok(());
        }
        if let ScanEnd::Sealed { junk: true, .. } = scanned.stop {
            report.notices.push(format!("{}: bytes behind the seal; ignored", file_name(last.number)));
        }
        Ok(())
    }

    /// The header of a segment, if it has a good one.
    fn header_of(&self, number: u64) -> Result<Option<SegmentHeader>> {
        let path = self.dir.join(file_name(number));
        let opened = self.fs.open(&path, Mode::Read).and_then(|file| Ok((file.size()?, file)));
        let (size, file) = opened.map_err(|e| Error::io("open", &path, e))?;
        ScanSource { path: &path, file: &*file, size }.header()
    }

    /// Refuses a log of which an index knows more.
    fn check_end(&self, newest: &SegmentHeader, end: u64) -> Result<()> {
        if self.settings.mended {
            return Ok(());
        }
        let known = Claims::read(self.fs, self.dir, newest.number)?.behind(self.dir, newest, end);
        known.map_or(Ok(()), |damage| Err(Error::Damaged(Box::new(damage))))
    }

    /// What an index knows of a segment without reading it, if that fits what the file ends in.
    fn known(&self, source: &ScanSource<'_>, header: &SegmentHeader, newest: bool) -> Result<Option<Scanned>> {
        let fits = |end: u64, chain: &Chain| {
            // What HEAD says of a commit before that can only be compared where the commit is read.
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

    /// Reads a segment, from its start or from where an earlier scan has ended, and indexes
    /// its events.
    fn scan(&self, source: &ScanSource<'_>, header: &SegmentHeader, resume: Option<(u64, Chain)>) -> Result<Scanned> {
        let mut chain = resume.map_or_else(|| Chain::start(header), |(_, chain)| chain);
        let head = self.slots.newest.filter(|_| !self.settings.mended);
        source.scan(header, resume, |frame| {
            let before = chain.next_position;
            chain = chain.then(&frame.header);
            if head.is_some_and(|head| !head.is_of(before, &chain)) {
                return Err(other_log(source.path, header));
            }
            let mut walked = Ok(());
            let mut events = |each: Each<'_>| {
                walked = frame.records(source.path, |event| each(header.number, &event));
            };
            let wrong = self.indexes.add(&mut events, &|| {});
            walked?;
            wrong.map_or(Ok(()), |position| {
                let bytes = frame.offset..frame.offset + frame.bytes.len() as u64;
                let why = "the events of a stream are not numbered 0, 1, 2 …";
                Err(Error::damaged(source.path, bytes, position..frame.header.end_position(), why))
            })
        })
    }

    /// Judges a segment with a successor that has been scanned.
    fn sealed(
        &self,
        source: &ScanSource<'_>,
        header: &SegmentHeader,
        scanned: Scanned,
        successor: u64,
        report: &mut OpenReport,
    ) -> Result<Scanned> {
        let name = file_name(header.number);
        report.notices.push(format!("{name}: its index was missing or not intact; made anew"));
        if let ScanEnd::Sealed { .. } = scanned.stop {
            self.unindexed.borrow_mut().push(scanned.extent(header));
            return Ok(scanned);
        }
        // A seal that is gone takes no event with it, if the successor vouches for all that stood
        // before.
        let next = self.header_of(successor)?;
        if !next.is_some_and(|next| scanned.is_vouched_for_by(header, &next)) {
            return Err(self.damage(source, header, &scanned, SegmentRole::Sealed)?);
        }
        report.notices.push(format!("{name}: the seal is not intact; all events are"));
        self.unindexed.borrow_mut().push(scanned.extent(header));
        Ok(scanned.with_seal(header))
    }

    /// The error for something bad, with the bytes and positions that it takes.
    fn damage(
        &self,
        source: &ScanSource<'_>,
        header: &SegmentHeader,
        scanned: &Scanned,
        place: SegmentRole,
    ) -> Result<Error> {
        let later = source.resync(header, scanned.end)?;
        let ending = SegmentEnd::of(scanned, &later, self.head_position(), false);
        let next = later.iter().find(|found| found.header.first_position >= scanned.chain.next_position);
        let bytes = scanned.end..next.map_or(source.size, |found| found.offset);
        let until = next.map_or(u64::MAX, |found| found.header.first_position);
        let why = match (&scanned.stop, judge(place, ending)) {
            (ScanEnd::Bad { why }, SegmentVerdict::Damage(because)) => format!("{why}; {because}"),
            (ScanEnd::Bad { why }, _) => format!("{why}; it may be a torn write, and strict opening refuses to cut it"),
            (_, _) => "the log ends before what HEAD says was durable".into(),
        };
        Ok(Error::damaged(source.path, bytes, scanned.chain.next_position..until, why))
    }

    fn head_position(&self) -> Option<u64> {
        self.slots.newest.map(|head| head.position)
    }

    /// Judges the newest segment, and cuts what is torn.
    fn finish(
        &self,
        segments: Vec<Arc<Segment>>,
        source: &ScanSource<'_>,
        header: &SegmentHeader,
        scanned: Scanned,
        report: &mut OpenReport,
    ) -> Result<Recovered> {
        let segment = segments.last().expect("there is the newest").clone();
        let position = scanned.chain.next_position;
        let head = self.slots.newest;
        self.check_end(header, position)?;
        // Zeros where HEAD knows of events are damage, too: an end is only believed if no witness
        // knows of more.
        if head.is_some_and(|head| head.position > position) {
            return Err(self.damage(source, header, &scanned, SegmentRole::Active)?);
        }
        let later = match scanned.stop {
            ScanEnd::Bad { .. } => source.resync(header, scanned.end)?,
            _ => Vec::new(),
        };
        // The scan began after what an index covers.
        let ending = SegmentEnd::of(&scanned, &later, self.head_position(), false);
        let cuts = match judge(SegmentRole::Active, ending) {
            SegmentVerdict::Keep => false,
            SegmentVerdict::Damage(_) => return Err(self.damage(source, header, &scanned, SegmentRole::Active)?),
            SegmentVerdict::CutTornGroup | SegmentVerdict::CutTornTail if self.settings.strict => {
                return Err(self.damage(source, header, &scanned, SegmentRole::Active)?);
            }
            SegmentVerdict::CutTornGroup | SegmentVerdict::CutTornTail => true,
        };
        let writable = !self.settings.read_only;
        if cuts {
            report.cut = Some(self.cut(source, &scanned)?);
        }
        let sealed = matches!(scanned.stop, ScanEnd::Sealed { .. });
        let at_head =
            head.is_some_and(|head| (head.segment, head.position, head.len) == (header.number, position, scanned.end));
        report.clean = !cuts && at_head && head.is_some_and(|head| head.clean);
        let proven_upto = scanned.durable_upto.max(head.map_or(0, |head| head.position));
        if proven_upto < position {
            report.unproven = proven_upto..position;
        }
        if writable && head.is_none() {
            self.sync_parents()?;
        }
        // That HEAD names the segment says that a header was durable: a second attempt to create it
        // may have written another.
        let in_head = |head: head::DurableMark| head.segment == header.number && head.position > header.first_position;
        let has_header = report.clean || head.is_some_and(in_head);
        if writable && (cuts || !at_head || !has_header) {
            if !has_header {
                self.rewrite(source, 0, START)?;
            }
            self.rewrite(source, scanned.unproven, scanned.end)?;
            self.sync(&segment)?;
        }
        if sealed && self.indexes.indexed_upto(header.number) == 0 {
            self.unindexed.borrow_mut().push(scanned.extent(header));
        }
        let tail = if sealed {
            LogTail::new(scanned.extent(header).successor(), false)
        } else {
            LogTail { created: true, offset: scanned.end, chain: scanned.chain, ..LogTail::new(*header, true) }
        };
        Ok(Recovered { proven: at_head && !cuts, ..self.recovered(segments, tail, scanned.end) })
    }

    /// Cuts a torn tail: first into quarantine, then off the file. Reading never does this. The
    /// caller syncs; until then a crash leaves the same tail to be cut again.
    fn cut(&self, source: &ScanSource<'_>, scanned: &Scanned) -> Result<Cut> {
        let end = source.content_end(scanned.end)?;
        let why = match &scanned.stop {
            ScanEnd::Bad { why } => (*why).to_owned(),
            _ => String::new(),
        };
        let mut cut = Cut {
            path: source.path.to_owned(),
            bytes: scanned.end..end,
            position: scanned.chain.next_position,
            why,
            quarantine: None,
        };
        if !self.settings.read_only {
            cut.quarantine = Some(quarantine::keep(self.fs, self.dir, source, scanned.end, end)?);
            let cutting = source.file.truncate(scanned.end);
            cutting.map_err(|e| Error::io("cut", source.path, e))?;
        }
        Ok(cut)
    }

    /// Writes bytes back as they are. After a failed sync the page cache may show what the disk
    /// does not hold, and a sync does not write pages that it believes to be clean.
    fn rewrite(&self, source: &ScanSource<'_>, from: u64, to: u64) -> Result<()> {
        source.chunks(from..to, |at, chunk| {
            fs::write_full(source.file, at, chunk).map_err(|(_, e)| Error::io("write", source.path, e))
        })
    }

    fn sync(&self, segment: &Segment) -> Result<()> {
        let synced = segment.file.sync().and_then(|()| self.fs.sync_dir(self.dir));
        synced.map_err(|e| Error::io("sync", &segment.path, e))
    }
}

fn other_log(path: &Path, segment: &SegmentHeader) -> Error {
    Error::damaged(path, 0..0, segment.first_position..u64::MAX, head::OTHER_LOG)
}
