//! Verification: reads a whole store and reports what is wrong with it.

use super::bindings::Bindings;
use super::{SegmentFile, is_incomplete, segments, sidecars, tell_holes};
use crate::directory::{
    HEAD, INCOMPLETE, LOCK, NEW_POSITIONS, POSITIONS, QUARANTINE, REBUILT, REPAIRING, SNAPSHOTS, index_name,
    index_number, meant_by, segment_name, segment_number, spare_number,
};
use crate::error::{Damage, Error, Result};
use crate::format::commit::{Frame, Recorded};
use crate::format::head::DurableMark;
use crate::format::index_file::IndexHeader;
use crate::format::segment_header::SegmentHeader;
use crate::format::{self, frame::Chain};
use crate::fs::{Fs, Holes, Mode, RealFs, is_no_file};
use crate::index::deletions::covers;
use crate::index::memory::Memory;
use crate::segment::remains::{self, Claims, misplaced};
use crate::segment::scan::{ScanEnd, ScanSource, Scanned};
use crate::segment::succession::Discontinuity;
use crate::segment::verdict::{
    NoHeader, SegmentEnd, SegmentFinding, SegmentRole, SegmentVerdict, judge, was_being_created,
};
use crate::segment::{START, head};
use crate::stream::{continues, expected_sequence};
use crate::system::System;
use std::collections::HashMap;
use std::path::Path;

/// The next sequence of each stream, by its key.
pub(super) type Sequences = HashMap<Box<[u8]>, u64>;

/// What [`verify`] found.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Report {
    /// Number of segments read.
    pub segments: u64,
    /// Number of events verified.
    pub events: u64,
    /// Number of events that were lost before this store was salvaged or repaired, and that system
    /// records replace.
    pub lost: u64,
    /// Number of streams that have events.
    pub streams: u64,
    /// Number of intact handler positions.
    pub positions: u64,
    /// Number of intact checkpoints.
    pub checkpoints: u64,
    /// Number of intact snapshots in the right place.
    /// [`Snapshots::verify`](crate::snapshot::Snapshots::verify) also checks that the event of each
    /// exists.
    pub snapshots: u64,
    /// Number of bytes read.
    pub bytes: u64,
    /// Acknowledged bytes that have changed or are missing.
    pub damage: Vec<Damage>,
    /// Bytes after the last commit that are no commit: a torn write, which the next open cuts off.
    pub torn: Option<Damage>,
    /// Irregularities that cost no event.
    pub notices: Vec<String>,
    /// Files in the directory that were not checked.
    pub not_covered: Vec<String>,
}

impl Report {
    /// Returns whether no acknowledged event or position is known to be damaged or missing.
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty()
    }
}

/// Reads a whole store: frames, events, the chain of checksums, sequences, positions, seals, HEAD;
/// handler positions and snapshots. Checkpoints, handler positions and dead letters whose events
/// are not in this log, as after a backup was restored, are notices. Changes nothing and takes no
/// lock, so it may run beside a process that writes.
///
/// ```
/// let dir = tempfile::tempdir()?;
/// annals::Store::open(dir.path())?.close()?;
/// assert!(annals::offline::verify(dir.path())?.is_sound());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
///
/// * [`Error::NotAStore`];
/// * [`Error::Io`] if a file cannot be opened or a directory cannot be listed;
/// * [`Error::UnsupportedFormat`] if a newer version wrote the store;
/// * [`Error::Unfinished`] if the directory holds the beginning of a copy that
///   [`Salvage`](super::Salvage) did not complete.
///
/// Damage is not an error: it is in the report.
pub fn verify(path: impl AsRef<Path>) -> Result<Report> {
    verify_in(&RealFs, path)
}

/// Verifies a store in another file system.
///
/// # Errors
///
/// As [`verify`].
pub fn verify_in(fs: &dyn Fs, path: impl AsRef<Path>) -> Result<Report> {
    let path = path.as_ref();
    // The beginning of a copy may be sound, but it is not the copy.
    if is_incomplete(fs, path) {
        return Err(Error::Unfinished { path: path.to_owned(), what: "salvage" });
    }
    read_all(fs, path).map(|(report, _)| report)
}

/// Verifies a store, and returns the next sequence of each stream with the report.
pub(super) fn read_all(fs: &dyn Fs, dir: &Path) -> Result<(Report, Sequences)> {
    let fs = &Holes::new(fs);
    let mut check = Check {
        report: Report::default(),
        streams: HashMap::new(),
        before: None,
        number: 1,
        position: 0,
        holes: false,
        bindings: Bindings::default(),
    };
    let head = check.head(fs, dir)?;
    let claims = Claims::read(fs, dir, 0);
    let named = match segments(fs, dir) {
        // It was a store, and HEAD names a segment, which is missing.
        Err(Error::NotAStore { path }) if head.is_none() && remains::of_a_log(fs, dir)?.is_none() => {
            return Err(Error::NotAStore { path });
        }
        Err(Error::NotAStore { .. }) => Vec::new(),
        named => named?,
    };
    let claims = claims?;
    let newest = named.last().map_or(0, |named| named.number);
    check.bindings = Bindings::read(fs, dir)?;
    for (n, at_hand) in named.iter().enumerate() {
        let next = match named.get(n + 1) {
            Some(next) => {
                let (file, size) = next.open(fs)?;
                ScanSource { path: &next.path, file: &*file, size }.header()?
            }
            None => None,
        };
        let place = Neighbours { newest: n + 1 == named.len(), next, head };
        check.segment(fs, at_hand, &place, dir)?;
    }
    check.end(head, newest, dir);
    let left = match &check.before {
        Some(before) => claims.after(dir, &before.header, check.position),
        None if check.position == 0 && check.report.damage.is_empty() => remains::of_a_log(fs, dir)?,
        None => None,
    };
    check.report.damage.extend(left);
    let store = head.map(|head| head.store).or(check.before.as_ref().map(|before| before.header.store));
    let end = check.report.damage.is_empty().then_some(check.position);
    let (found, unbound) = std::mem::take(&mut check.bindings).finish(fs, dir, store, end);
    sidecars::verify(fs, dir, store, found, &mut check.report)?;
    check.report.notices.extend(unbound);
    check.not_covered(fs, dir)?;
    tell_holes(fs, &mut check.report.damage, &mut check.report.torn);
    check.report.streams = check.streams.keys().filter(|key| System::of(key).is_none()).count() as u64;
    Ok((check.report, check.streams))
}

/// Rebuilds the index of a segment, up to where its index file covers it, and compares the two.
struct IndexCheck<'a> {
    segment: &'a SegmentHeader,
    file: Vec<u8>,
    /// The header of the index file, if it can be read.
    covered: Option<(u64, Chain)>,
    memory: Memory,
    /// The end of the last frame, and the chain there.
    chain: Chain,
    end: u64,
}

impl<'a> IndexCheck<'a> {
    fn new(fs: &dyn Fs, dir: &Path, segment: &'a SegmentHeader) -> Result<Self> {
        let path = dir.join(index_name(segment.number));
        let mut file = Vec::new();
        match fs.open(&path, Mode::Read) {
            Ok(opened) => {
                let size = opened.size().map_err(|e| Error::io("stat", &path, e))?;
                ScanSource { path: &path, file: &*opened, size }.chunks(0..size, |_, chunk| {
                    file.extend_from_slice(chunk);
                    Ok(())
                })?;
            }
            Err(e) if is_no_file(&e) => {}
            Err(e) => return Err(Error::io("open", &path, e)),
        }
        let ours = |header: &IndexHeader| (header.store, header.salt) == (segment.store, segment.salt);
        let covered = IndexHeader::decode(&file).filter(ours).map(|header| (header.end, header.chain));
        Ok(IndexCheck { segment, file, covered, memory: Memory::default(), chain: Chain::start(segment), end: START })
    }

    fn size(&self) -> u64 {
        self.file.len() as u64
    }

    fn is_covered(&self, offset: u64) -> bool {
        self.covered.is_some_and(|(end, _)| offset < end)
    }

    fn frame(&mut self, frame: &Frame<'_>) {
        if self.is_covered(frame.offset) {
            self.chain = self.chain.then(&frame.header);
            self.end = frame.offset + frame.bytes.len() as u64;
        }
    }

    fn event(&mut self, event: &Recorded<'_>) {
        if self.is_covered(event.frame) {
            self.memory.add(event);
        }
    }

    /// Returns what is wrong with the index file, if it exists. It may cover more of a segment than
    /// could be read.
    fn finish(&self, whole: bool) -> Option<String> {
        if !whole && self.covered.is_some_and(|(end, _)| end > self.end) {
            return None;
        }
        let same = self.memory.encode(self.segment, self.end, self.chain) == self.file;
        let wrong = !self.file.is_empty() && !same;
        wrong.then(|| format!("{}: not what the segment says; it will be rebuilt", index_name(self.segment.number)))
    }
}

/// The neighbours of the segment that is being read.
struct Neighbours {
    newest: bool,
    /// The header of the next segment, if it is intact.
    next: Option<SegmentHeader>,
    head: Option<DurableMark>,
}

/// The segment before the one that is being read.
struct Predecessor {
    header: SegmentHeader,
    scanned: Scanned,
}

impl Predecessor {
    fn is_sealed(&self) -> bool {
        matches!(self.scanned.stop, ScanEnd::Sealed { .. })
    }
}

struct Check {
    report: Report,
    /// The next sequence of each stream.
    streams: Sequences,
    before: Option<Predecessor>,
    /// The number of the next segment, and its first position if that is known.
    number: u64,
    position: u64,
    /// Events are missing: streams may continue with a later sequence than the next one.
    holes: bool,
    /// The events that entries of POSITIONS are bound to.
    bindings: Bindings,
}

impl Check {
    fn damage(&mut self, path: &Path, bytes: std::ops::Range<u64>, positions: std::ops::Range<u64>, why: String) {
        self.report.damage.push(Damage { path: path.to_owned(), bytes, positions, why });
    }

    /// Reads HEAD. A slot that is not intact costs no event.
    fn head(&mut self, fs: &dyn Fs, dir: &Path) -> Result<Option<DurableMark>> {
        let Some(slots) = head::read(fs, dir)? else {
            self.report.notices.push("HEAD is missing".into());
            return Ok(None);
        };
        self.report.bytes += format::head::LEN as u64;
        if slots.bad > 0 {
            self.report.notices.push(format!("HEAD: {} of 2 slots not intact", slots.bad));
        }
        Ok(slots.newest)
    }

    fn segment(&mut self, fs: &dyn Fs, named: &SegmentFile, place: &Neighbours, dir: &Path) -> Result<()> {
        let &Neighbours { newest, head, .. } = place;
        let (file, size) = named.open(fs)?;
        let mut source = ScanSource { path: &named.path, file: &*file, size };
        self.report.segments += 1;
        self.report.bytes += size;
        let next = self.position;
        if named.number > self.number {
            let why = match named.number - self.number {
                1 => "this segment is missing".to_owned(),
                missing => format!("this segment is missing, and {} after it", missing - 1),
            };
            self.damage(&dir.join(segment_name(self.number)), 0..0, next..u64::MAX, why);
            self.before = None;
            self.holes = true;
        }
        self.number = named.number.saturating_add(1);
        let (mut found, mut content) = (source.header()?, false);
        if found.is_none() {
            // Another process may be creating it. Bytes after the header are written once the
            // header is complete.
            source.size = file.size().map_err(|e| Error::io("stat", &named.path, e))?;
            content = source.content_end(START.min(source.size))? > START;
            found = source.header()?;
        }
        let Some(header) = found else {
            let unborn = was_being_created(NoHeader {
                newest,
                sealed_before: self.before.as_ref().map_or(self.number == 2, Predecessor::is_sealed),
                content,
                in_head: head.is_some_and(|head| head.position > next),
            });
            if unborn {
                self.report.notices.push(format!("{}: was being created", segment_name(named.number)));
                return Ok(());
            }
            let why = "the header of the segment is not intact".into();
            self.damage(&named.path, 0..size, next..u64::MAX, why);
            self.before = None;
            self.holes = true;
            return Ok(());
        };
        self.check_header(named, &header, head);

        let mut index = IndexCheck::new(fs, dir, &header)?;
        let (streams, holes, bindings) = (&mut self.streams, &mut self.holes, &mut self.bindings);
        let mut gaps: Vec<Damage> = Vec::new();
        let (mut events, mut lost) = (0, 0);
        let (mut chain, mut other_log) = (Chain::start(&header), false);
        let mut visit = |frame: &Frame<'_>| {
            let before = chain.next_position;
            chain = chain.then(&frame.header);
            other_log |= head.is_some_and(|head| !head.is_of(before, &chain));
            index.frame(frame);
            frame.records(&named.path, |event| {
                events += 1;
                index.event(&event);
                bindings.event(&event);
                if let Some(System::Lost) = System::of(event.key) {
                    lost += 1;
                    *holes = true;
                }
                if let Some(why) = out_of_sequence(streams, &event, *holes) {
                    let (bytes, positions) = (event.offset..event.offset, event.position..event.position + 1);
                    gaps.push(Damage { path: named.path.clone(), bytes, positions, why });
                }
            })
        };
        let mut scanned = source.scan(&header, None, &mut visit)?;
        // Another process may be writing. Bytes after a bad commit are written after it: if they
        // exist and the commit is still bad, it is damage; otherwise the commit was in flight.
        while newest && matches!(scanned.stop, ScanEnd::Bad { .. }) && !source.resync(&header, scanned.end)?.is_empty()
        {
            source.size = file.size().map_err(|e| Error::io("stat", &named.path, e))?;
            let more = source.scan(&header, Some((scanned.end, scanned.chain)), &mut visit)?;
            if more.end == scanned.end {
                break;
            }
            scanned = more;
        }
        self.report.events += events - lost;
        self.report.lost += lost;
        self.report.damage.append(&mut gaps);
        if other_log {
            self.damage(&named.path, 0..0, header.first_position..u64::MAX, format::head::OTHER_LOG.into());
        }
        self.report.bytes += index.size();
        let whole = !matches!(scanned.stop, ScanEnd::Bad { .. });
        self.report.notices.extend(index.finish(whole));
        // What an index covers was durable when the index was written.
        let indexed = index.is_covered(scanned.end);
        let damaged = self.check_end(&source, &header, &scanned, place, indexed)?;
        self.position = scanned.chain.next_position;
        // After damage, the first position of the next segment is unknown.
        self.before = (!damaged).then_some(Predecessor { header, scanned });
        Ok(())
    }

    fn check_header(&mut self, named: &SegmentFile, header: &SegmentHeader, head: Option<DurableMark>) {
        let mut wrong = Vec::new();
        if header.number != named.number {
            wrong.push(format!("the file holds segment {}", header.number));
        }
        if head.is_some_and(|head| head.store != header.store) {
            wrong.push("the segment and HEAD belong to different stores".into());
        }
        match &self.before {
            Some(before) => {
                let (last, scanned) = (&before.header, &before.scanned);
                let told = scanned.extent(last).discontinuities(header);
                // The number has been compared with the name of the file.
                wrong.extend(told.filter(|what| *what != Discontinuity::Number).map(|what| what.to_string()));
            }
            None if named.number == 1 && header.first_position != 0 => {
                wrong.push("the first segment does not begin at position 0".into());
            }
            None => {}
        }
        for why in wrong {
            self.damage(&named.path, 0..START, header.first_position..u64::MAX, why);
        }
    }

    /// Judges how the scan of a segment ended. Returns whether the segment is damaged.
    fn check_end(
        &mut self,
        source: &ScanSource<'_>,
        header: &SegmentHeader,
        scanned: &Scanned,
        place: &Neighbours,
        indexed: bool,
    ) -> Result<bool> {
        let position = scanned.chain.next_position;
        let name = || segment_name(header.number);
        if let ScanEnd::Sealed { junk: true, .. } = scanned.stop {
            self.report.notices.push(format!("{}: bytes after the seal", name()));
        }
        let later = match scanned.stop {
            ScanEnd::Bad { .. } => source.resync(header, scanned.end)?,
            _ => Vec::new(),
        };
        let vouches = || place.next.is_some_and(|next| scanned.is_vouched_for_by(header, &next));
        let is_bad = matches!(scanned.stop, ScanEnd::Bad { .. });
        let verdict = judge(SegmentFinding {
            role: if place.newest { SegmentRole::Newest } else { SegmentRole::Followed { vouches: vouches() } },
            end: SegmentEnd::of(scanned, &later),
            // An end in zeros is compared with HEAD once all segments have been read.
            below_head: is_bad && place.head.is_some_and(|head| head.position > position),
            indexed,
            strict: false,
        });
        let why = match (&scanned.stop, verdict) {
            (_, SegmentVerdict::Keep) => return Ok(false),
            (_, SegmentVerdict::KeepWithoutSeal) => {
                self.report.notices.push(format!("{}: the seal is not intact; all events are", name()));
                return Ok(false);
            }
            (ScanEnd::Bad { why }, _) => why,
            (_, SegmentVerdict::Damage(why)) => why,
            (_, SegmentVerdict::CutTornGroup | SegmentVerdict::CutTornTail) => unreachable!("only a bad frame is torn"),
        };
        let after = later.iter().filter(|found| found.header.first_position > position);
        let next = after.clone().next();
        let positions = position..next.map_or(u64::MAX, |found| found.header.first_position);
        let bytes = scanned.end..next.map_or(source.size, |found| found.offset);
        let damage = Damage { path: source.path.to_owned(), bytes, positions, why: why.into() };
        if let SegmentVerdict::CutTornGroup | SegmentVerdict::CutTornTail = verdict {
            self.report.torn = Some(damage);
            return Ok(false);
        }
        self.holes = true;
        self.report.damage.push(damage);
        for found in after {
            source.records(found, |event| {
                let lost = System::of(event.key) == Some(System::Lost);
                self.report.lost += u64::from(lost);
                self.report.events += u64::from(!lost);
                // Their sequences cannot be checked, but they count as events of their streams.
                out_of_sequence(&mut self.streams, &event, true);
                self.bindings.event(&event);
            })?;
        }
        Ok(true)
    }

    /// Compares the end of the log with HEAD.
    fn end(&mut self, head: Option<DurableMark>, newest: u64, dir: &Path) {
        let Some(head) = head else { return };
        let path = dir.join(segment_name(head.segment));
        if head.segment > newest {
            self.damage(&path, 0..0, 0..u64::MAX, "this segment is missing".into());
        }
        // The end of the last segment, also if another one was being created after it.
        let position = self.position;
        if head.position > position && self.report.damage.is_empty() {
            let why = format!("the log ends here, but HEAD says that positions below {} were durable", head.position);
            let end = self.before.as_ref().map_or(0, |before| before.scanned.end);
            self.damage(&path, end..end, position..head.position, why);
        }
    }

    /// Lists the files that were not checked. A new kind of file that `verify` checks is left out
    /// here.
    fn not_covered(&mut self, fs: &dyn Fs, dir: &Path) -> Result<()> {
        let entries = fs.list(dir).map_err(|e| Error::io("list", dir, e))?;
        let known = [HEAD, LOCK, QUARANTINE, REBUILT, SNAPSHOTS, POSITIONS, NEW_POSITIONS];
        let names = entries.iter().map(|entry| entry.name.clone());
        let of_segment = |name: &str| {
            let name = meant_by(name).unwrap_or(name);
            segment_number(name).or(index_number(name)).is_some()
        };
        self.report.notices.extend(misplaced(&entries).into_iter().map(|(name, why)| format!("{name}: {why}")));
        for (name, what) in [(INCOMPLETE, "salvage"), (REPAIRING, "repair")] {
            if names.clone().any(|found| found == name) {
                self.report.notices.push(format!("{name}: a {what} was interrupted; the store does not open"));
            }
        }
        let others =
            names.filter(|name| !known.contains(&&**name) && spare_number(name).is_none() && !of_segment(name));
        self.report.not_covered.extend(others);
        self.report.not_covered.sort();
        Ok(())
    }
}

/// Returns what is wrong with the sequence of an event, if it does not continue its stream.
fn out_of_sequence(streams: &mut Sequences, event: &Recorded<'_>, holes: bool) -> Option<String> {
    if let Some(System::Deletion { edition, domain }) = System::of(event.key) {
        streams.retain(|key, _| !covers(edition, domain, key));
    }
    let next = event.sequence.saturating_add(1);
    let known = streams.get_mut(event.key).map(|known| std::mem::replace(known, next));
    let expected = expected_sequence(event.key, event.sequence, known, |main| streams.get(main).copied());
    if known.is_none() {
        streams.insert(event.key.into(), next);
    }
    (!continues(event.sequence, expected, holes))
        .then(|| format!("sequence {} where {expected} is expected", event.sequence))
}
