//! Opening: lock, read everything, judge, and only then write.

use super::commit::random;
use super::head::{self, HeadFile};
use super::quarantine;
use super::recover::{Cut, Ending, NoHeader, OpenReport, Place, Verdict, judge, was_being_created};
use super::{Each, Listener, Log, Settings, State, Tail, writer::Writer};
use crate::error::{Error, Result};
use crate::format::frame::Seal;
use crate::format::head::Slots;
use crate::format::segment_header::SegmentHeader;
use crate::fs::{self, Entry, Fs, Lock, LockMode, Mode};
use crate::segment::scan::{Scanned, Source, Stop};
use crate::segment::{START, Segment, file_name, number_of};
use parking_lot::{Condvar, Mutex, RwLock};
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Instant;

const LOCK: &str = "LOCK";

pub(crate) struct Opened {
    pub log: Arc<Log>,
    pub report: OpenReport,
}

/// What the files hold, and where the log goes on.
struct Recovered {
    segments: Vec<Arc<Segment>>,
    tail: Tail,
    /// The segment that is written to next, and where its last frame ends.
    active: Arc<Segment>,
    end: u64,
    /// All of it is known to be durable.
    proven: bool,
}

impl Log {
    pub(crate) fn open(
        fs: Arc<dyn Fs>,
        dir: PathBuf,
        settings: Settings,
        listener: Arc<dyn Listener>,
    ) -> Result<Opened> {
        let started = Instant::now();
        let mut report = OpenReport::default();
        let lock = lock(&*fs, &dir, &settings)?;
        let entries = fs.list(&dir).map_err(|e| Error::io("list", &dir, e))?;
        let (head, slots) = HeadFile::read(&*fs, &dir)?;
        let opening = Opening { fs: &*fs, dir: &dir, settings: &settings, slots, listener: &*listener };

        let numbers = opening.segment_numbers(&entries, &mut report)?;
        let recovered = match numbers.is_empty() {
            true => opening.create(&mut report)?,
            false => opening.recover(&numbers, &mut report)?,
        };
        if slots.bad > 0 {
            report.notices.push(format!("HEAD: {} of 2 slots not intact", slots.bad));
        }
        if slots.newest.is_none() && !report.created {
            report.notices.push("HEAD says nothing; it will be written anew".into());
        }

        let position = recovered.tail.next_position();
        report.segments = recovered.segments.len() as u64;
        report.events = position;
        let writer = Writer::new(fs.clone(), dir.clone(), &settings, recovered.active.clone(), recovered.end);
        let (maintained, read_only) = (settings.maintenance && !settings.read_only, settings.read_only);
        let log = Arc::new(Log {
            state: Mutex::new(State {
                written: recovered.tail.clone(),
                tail: recovered.tail,
                groups: VecDeque::new(),
                pending_bytes: 0,
                leading: false,
                refused: settings.read_only.then_some(Error::ReadOnly),
            }),
            progress: Condvar::new(),
            writer: Mutex::new(writer),
            segments: RwLock::new(recovered.segments),
            watermark: AtomicU64::new(position),
            durable: AtomicU64::new(position),
            head: Mutex::new(head),
            maintenance: Default::default(),
            closed: AtomicBool::new(false),
            lock: Mutex::new(lock),
            dir,
            fs,
            settings,
            listener,
        });
        if !read_only {
            if !recovered.proven {
                log.mark(false)?;
            }
            if maintained {
                log.start_maintenance().map_err(|e| Error::io("start the maintenance thread of", &log.dir, e))?;
            }
        }
        report.took = started.elapsed();
        Ok(Opened { log, report })
    }

    /// Adds a segment that has just been created.
    pub(super) fn register(&self, segment: Arc<Segment>) {
        let mut segments = self.segments.write();
        // A first attempt to create it may have failed after it was registered.
        segments.truncate(segment.header.number as usize - 1);
        segments.push(segment);
    }
}

fn lock(fs: &dyn Fs, dir: &Path, settings: &Settings) -> Result<Option<Lock>> {
    let path = dir.join(LOCK);
    let mode = if settings.read_only { LockMode::Shared } else { LockMode::Exclusive };
    let missing = || match fs.list(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Error::io("list", dir, e),
        _ => Error::NotAStore { path: dir.to_owned() },
    };
    if !settings.read_only && settings.create {
        fs.create_dir(dir).map_err(|e| Error::io("create", dir, e))?;
    } else if !fs.list(dir).is_ok_and(|entries| entries.iter().any(|entry| is_ours(&entry.name))) {
        return Err(missing());
    }
    match fs.lock(&path, mode) {
        Ok(Lock::Taken(owner)) => {
            let owner = (!owner.is_empty()).then_some(owner);
            Err(Error::Locked { path: dir.to_owned(), owner })
        }
        Ok(held) => Ok(Some(held)),
        // A copy that was made without its lock file, on a medium that cannot be written to, can still be read.
        Err(e) if settings.read_only && e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("lock", &path, e)),
    }
}

fn is_ours(name: &str) -> bool {
    name == head::NAME || name == LOCK || number_of(name).is_some()
}

/// What recovery works with.
struct Opening<'a> {
    fs: &'a dyn Fs,
    dir: &'a Path,
    settings: &'a Settings,
    slots: Slots,
    listener: &'a dyn Listener,
}

impl Opening<'_> {
    /// The numbers of the segments, in order.
    fn segment_numbers(&self, entries: &[Entry], report: &mut OpenReport) -> Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in entries.iter().filter(|entry| entry.name.ends_with(".seg")) {
            match number_of(&entry.name) {
                Some(number) if !entry.is_dir => numbers.push(number),
                _ => report.notices.push(format!("{}: not a file of the store; left alone", entry.name)),
            }
        }
        numbers.sort_unstable();
        let newest = self.slots.newest.map_or(0, |head| head.segment);
        let last = numbers.last().copied().unwrap_or(0).max(newest);
        for (expected, &number) in (1..).zip(numbers.iter().chain(&[last + 1])) {
            if number != expected {
                let path = self.dir.join(file_name(expected));
                return Err(Error::damaged(&path, 0..0, 0..u64::MAX, "this segment is missing"));
            }
        }
        Ok(numbers)
    }

    /// Makes a new store. Segment 1 comes first and HEAD last: as long as there is no HEAD, a half-made store is made anew.
    fn create(&self, report: &mut OpenReport) -> Result<Recovered> {
        if self.settings.read_only || !self.settings.create {
            return Err(Error::NotAStore { path: self.dir.to_owned() });
        }
        report.created = true;
        let header = SegmentHeader {
            store: uuid::Uuid::new_v4().into_bytes(),
            number: 1,
            first_position: 0,
            salt: random(),
            base_time: (self.settings.clock)().as_nanos(),
            previous_digest: 0,
            previous_len: 0,
        };
        let segment = Segment::create(self.fs, self.dir, header, self.settings.memory_map)?;
        let synced = segment.file.sync().and_then(|()| self.fs.sync_dir(self.dir));
        synced.map_err(|e| Error::io("sync", &segment.path, e))?;
        if let Some(parent) = self.dir.parent() {
            // The name of the directory itself. Where the parent cannot be synced there is nothing that could be done about it.
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            let (Ok(()) | Err(_)) = self.fs.sync_dir(parent);
        }
        Ok(self.recovered(vec![Arc::new(segment)], Tail::new(header, true), START))
    }

    fn recovered(&self, segments: Vec<Arc<Segment>>, tail: Tail, end: u64) -> Recovered {
        let active = segments.last().expect("a store has a segment").clone();
        Recovered { segments, tail, active, end, proven: false }
    }

    fn recover(&self, numbers: &[u64], report: &mut OpenReport) -> Result<Recovered> {
        let mut segments: Vec<Arc<Segment>> = Vec::new();
        let mut before: Option<(SegmentHeader, Scanned)> = None;
        for (n, &number) in numbers.iter().enumerate() {
            let newest = n + 1 == numbers.len();
            let path = self.dir.join(file_name(number));
            let io_error = |e| Error::io("open", &path, e);
            let mode = if self.settings.read_only { Mode::Read } else { Mode::Write };
            let file = self.fs.open(&path, mode).map_err(io_error)?;
            let size = file.size().map_err(io_error)?;
            let source = Source { path: &path, file: &*file, size };

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

            let segment = Segment::new(path.clone(), header, file.clone(), self.settings.memory_map);
            let mut scanned = source.scan(&header, |frame| {
                let mut walked = Ok(());
                let mut events = |each: Each<'_>| {
                    walked = frame.records(&path, |event| {
                        segment.note(event.position, event.frame, event.offset);
                        each(number, &event);
                    });
                };
                self.listener.publish(&mut events, &|| {});
                walked
            })?;
            segment.set_readable(scanned.end);
            let segment = Arc::new(segment);
            segments.push(segment.clone());
            if newest {
                return self.finish(segments, &source, &header, scanned, report);
            }
            if !matches!(scanned.stop, Stop::Sealed { .. }) {
                // A seal that is gone takes no event with it, if the successor vouches for all that stood before.
                scanned = self.without_seal(&source, &header, scanned, numbers[n + 1], report)?;
            }
            before = Some((header, scanned));
        }
        unreachable!("the newest segment ends the loop")
    }

    /// Whether a file without a good header is one that was being created.
    fn is_unborn(&self, source: &Source<'_>, newest: bool, before: &Option<(SegmentHeader, Scanned)>) -> Result<bool> {
        let first = before.as_ref().map_or(0, |(_, scanned)| scanned.chain.next_position);
        Ok(was_being_created(NoHeader {
            newest,
            sealed_before: before.as_ref().is_none_or(|(_, scanned)| matches!(scanned.stop, Stop::Sealed { .. })),
            content: source.content_end(START.min(source.size))? > START,
            in_head: self.slots.newest.is_some_and(|head| head.position > first),
        }))
    }

    /// Goes on behind the last sealed segment; what is in the file of the next one is kept in quarantine.
    fn reborn(
        &self,
        mut segments: Vec<Arc<Segment>>,
        source: &Source<'_>,
        before: Option<(SegmentHeader, Scanned)>,
        report: &mut OpenReport,
    ) -> Result<Recovered> {
        let content = source.content_end(0)?;
        if content > 0 && !self.settings.read_only {
            quarantine::keep(self.fs, self.dir, source, 0, content)?;
        }
        let Some((header, scanned)) = before else {
            if self.settings.read_only {
                return Err(Error::NotAStore { path: self.dir.to_owned() });
            }
            return self.create(report);
        };
        let tail = Tail::new(successor(&header, &scanned), false);
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
        if last.store != header.store {
            return refuse("the segment belongs to another store");
        }
        if header.first_position != scanned.chain.next_position {
            return refuse("the segment does not begin where the one before ends");
        }
        if header.previous_digest != scanned.chain.digest {
            return refuse("the digest of the segment before is not what this segment says");
        }
        if header.previous_len != scanned.end {
            return refuse("the length of the segment before is not what this segment says");
        }
        if let Stop::Sealed { junk: true, .. } = scanned.stop {
            report.notices.push(format!("{}: bytes behind the seal; ignored", file_name(last.number)));
        }
        Ok(())
    }

    /// Judges a segment with a successor whose scan did not end at a seal.
    fn without_seal(
        &self,
        source: &Source<'_>,
        header: &SegmentHeader,
        scanned: Scanned,
        successor: u64,
        report: &mut OpenReport,
    ) -> Result<Scanned> {
        let path = self.dir.join(file_name(successor));
        let next = self.fs.open(&path, Mode::Read).and_then(|file| Ok((file.size()?, file)));
        let (size, file) = next.map_err(|e| Error::io("open", &path, e))?;
        let next = Source { path: &path, file: &*file, size }.header()?;
        let vouched = next.is_some_and(|next| scanned.is_vouched_for_by(header, &next));
        if !vouched {
            return Err(self.damage(source, header, &scanned, Place::Sealed)?);
        }
        report.notices.push(format!("{}: the seal is not intact; all events are", file_name(header.number)));
        let seal = scanned.chain.seal(header);
        Ok(Scanned { end: scanned.end + Seal::FRAME, stop: Stop::Sealed { seal, junk: false }, ..scanned })
    }

    /// The error for something bad, with the bytes and positions that it takes.
    fn damage(&self, source: &Source<'_>, header: &SegmentHeader, scanned: &Scanned, place: Place) -> Result<Error> {
        let later = source.resync(header, scanned.end)?;
        let ending = self.ending(scanned, &later);
        let next = later.iter().find(|found| found.header.first_position >= scanned.chain.next_position);
        let bytes = scanned.end..next.map_or(source.size, |found| found.offset);
        let until = next.map_or(u64::MAX, |found| found.header.first_position);
        let why = match (&scanned.stop, judge(place, ending)) {
            (Stop::Bad { why }, Verdict::Damage(because)) => format!("{why}; {because}"),
            (Stop::Bad { why }, _) => format!("{why}; it may be a torn write, and strict opening refuses to cut it"),
            (_, _) => "the log ends before what HEAD says was durable".into(),
        };
        Ok(Error::damaged(source.path, bytes, scanned.chain.next_position..until, why))
    }

    fn ending(&self, scanned: &Scanned, later: &[crate::segment::scan::Found]) -> Ending {
        let position = scanned.chain.next_position;
        match scanned.stop {
            Stop::Bad { .. } => Ending::Bad {
                below_head: self.head_position().is_some_and(|head| head > position),
                vouched: later.iter().any(|found| found.header.durable_upto > position),
                later: !later.is_empty(),
            },
            Stop::End | Stop::Sealed { .. } => Ending::Clean,
        }
    }

    fn head_position(&self) -> Option<u64> {
        self.slots.newest.map(|head| head.position)
    }

    /// Judges the newest segment, and cuts what is torn.
    fn finish(
        &self,
        segments: Vec<Arc<Segment>>,
        source: &Source<'_>,
        header: &SegmentHeader,
        scanned: Scanned,
        report: &mut OpenReport,
    ) -> Result<Recovered> {
        let segment = segments.last().expect("there is the newest").clone();
        let position = scanned.chain.next_position;
        let head = self.slots.newest;
        // Zeros where HEAD knows of events are damage, too: an end is only believed if no witness knows of more.
        if head.is_some_and(|head| head.position > position) {
            return Err(self.damage(source, header, &scanned, Place::Active)?);
        }
        let later = match scanned.stop {
            Stop::Bad { .. } => source.resync(header, scanned.end)?,
            _ => Vec::new(),
        };
        let ending = self.ending(&scanned, &later);
        let cuts = match judge(Place::Active, ending) {
            Verdict::Keep => false,
            Verdict::Damage(_) => return Err(self.damage(source, header, &scanned, Place::Active)?),
            Verdict::CutTornGroup | Verdict::CutTornTail if self.settings.strict => {
                return Err(self.damage(source, header, &scanned, Place::Active)?);
            }
            Verdict::CutTornGroup | Verdict::CutTornTail => true,
        };
        let writable = !self.settings.read_only;
        if cuts {
            report.cut = Some(self.cut(source, &scanned)?);
        }
        let sealed = matches!(scanned.stop, Stop::Sealed { .. });
        let at_head =
            head.is_some_and(|head| (head.segment, head.position, head.len) == (header.number, position, scanned.end));
        report.clean = !cuts && at_head && head.is_some_and(|head| head.clean);
        let proven_upto = scanned.durable_upto.max(head.map_or(0, |head| head.position));
        if proven_upto < position {
            report.unproven = proven_upto..position;
        }
        if writable && !at_head {
            if head.is_none_or(|head| head.segment != header.number) {
                self.rewrite(source, 0, START)?;
            }
            self.rewrite(source, scanned.unproven, scanned.end)?;
            self.sync(&segment)?;
        }
        let tail = if sealed {
            Tail::new(successor(header, &scanned), false)
        } else {
            Tail { created: true, offset: scanned.end, chain: scanned.chain, ..Tail::new(*header, true) }
        };
        Ok(Recovered { proven: at_head, ..self.recovered(segments, tail, scanned.end) })
    }

    /// Cuts a torn tail: first into quarantine, then off the file. Reading never does this. The caller syncs; until then a crash leaves the same tail to be cut again.
    fn cut(&self, source: &Source<'_>, scanned: &Scanned) -> Result<Cut> {
        let end = source.content_end(scanned.end)?;
        let why = match &scanned.stop {
            Stop::Bad { why } => (*why).to_owned(),
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

    /// Writes bytes back as they are. After a failed sync the page cache may show what the disk does not hold, and a sync does not write pages that it
    /// believes to be clean.
    fn rewrite(&self, source: &Source<'_>, from: u64, to: u64) -> Result<()> {
        let mut chunk = vec![0; (1 << 20).min(to.saturating_sub(from) as usize)];
        let mut at = from;
        while at < to {
            let wanted = chunk.len().min((to - at) as usize);
            let read = fs::read_full(source.file, at, &mut chunk[..wanted]);
            let read = read.map_err(|e| Error::io("read", source.path, e))?;
            if read == 0 {
                break;
            }
            let written = fs::write_full(source.file, at, &chunk[..read]);
            written.map_err(|(_, e)| Error::io("write", source.path, e))?;
            at += read as u64;
        }
        Ok(())
    }

    fn sync(&self, segment: &Segment) -> Result<()> {
        let synced = segment.file.sync().and_then(|()| self.fs.sync_dir(self.dir));
        synced.map_err(|e| Error::io("sync", &segment.path, e))
    }
}

/// The header of the segment behind a sealed one.
fn successor(header: &SegmentHeader, scanned: &Scanned) -> SegmentHeader {
    SegmentHeader {
        number: header.number + 1,
        first_position: scanned.chain.next_position,
        salt: random(),
        base_time: scanned.chain.recorded_at,
        previous_digest: scanned.chain.digest,
        previous_len: scanned.end,
        ..*header
    }
}
