//! The index: from terms to events, segment by segment. A sealed segment has an index file; the
//! index of everything else is in memory.
//!
//! All of it is derived from the segments. An index file that is missing, or found to be broken
//! when it is used, is rebuilt.

pub(crate) mod deletions;
pub(crate) mod editions;
mod encode;
pub(crate) mod file;
mod heads;
mod lookup;
pub(crate) mod memory;
pub(crate) mod term;
mod terms;

use crate::directory::{index_name, segment_name};
use crate::error::{Error, Result};
use crate::format::commit::{Each, Recorded};
use crate::format::frame::Chain;
use crate::format::index_file::Waypoint;
use crate::format::segment_header::SegmentHeader;
use crate::fs::owned::Owned;
use crate::fs::{Fs, Mode};
use crate::position::Location;
use crate::segment::scan::ScanSource;
use crate::stream::{continues, expected_sequence};
use crate::system::System;
use deletions::{Deletion, Deletions};
use encode::Put;
use file::{IndexBroken, IndexFile, Unnamed};
use heads::Heads;
use memory::{Memory, Posted};
use parking_lot::{Mutex, RwLock};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use term::{Term, TermKind};

#[derive(Default)]
struct SegmentIndexes {
    /// Index files; that of segment n is at n - 1.
    files: Vec<Option<Arc<IndexFile>>>,
    /// Indexes in memory, by number of the segment. If the segment has an index file, too, the one
    /// in memory continues it.
    memory: BTreeMap<u64, Arc<Memory>>,
    heads: Heads,
    deletions: Arc<Deletions>,
    /// Segments whose index files were rebuilt.
    rebuilt: BTreeSet<u64>,
    /// The tracked positions of upstreams that have been looked up.
    tracked: HashMap<Box<str>, Option<u64>>,
    /// The log has records of lost events: sequences of streams have gaps.
    lossy: bool,
}

impl SegmentIndexes {
    fn file(&self, segment: u64) -> Option<Arc<IndexFile>> {
        self.files.get(segment as usize - 1)?.clone()
    }

    fn set_file(&mut self, segment: u64, file: Option<Arc<IndexFile>>) {
        let index = segment as usize - 1;
        if self.files.len() <= index {
            self.files.resize(index + 1, None);
        }
        self.files[index] = file;
    }

    fn segments(&self) -> u64 {
        let in_memory = self.memory.last_key_value().map_or(0, |(&segment, _)| segment);
        in_memory.max(self.files.len() as u64)
    }

    /// Returns the next sequence of a stream, from the newest segment that has events of it; 0 if
    /// none has. An error is the number of a segment whose index file is broken.
    fn next_sequence(&self, key: &[u8]) -> std::result::Result<u64, u64> {
        let since = self.deletions.of_key(key).at;
        let term = Term::stream(key);
        let Some((segment, next)) = self.newest(term.bytes(), since.segment.max(1))? else { return Ok(0) };
        // Only in the segment of the deletion do the offsets of the events matter.
        let gone = segment == since.segment && self.offsets_since(segment, term.bytes(), since)?.is_empty();
        Ok(if gone { 0 } else { next })
    }

    /// Returns the newest segment, from `from` on, in which a term has postings, and the value of
    /// the last one.
    fn newest(&self, term: &[u8], from: u64) -> std::result::Result<Option<(u64, u64)>, u64> {
        for segment in (from..=self.segments()).rev() {
            if let Some(posted) = self.memory.get(&segment).and_then(|memory| memory.posted(term)) {
                return Ok(Some((segment, posted.value)));
            }
            let Some(file) = self.files.get(segment as usize - 1).and_then(Option::as_deref) else { continue };
            if let Some(entry) = file.find(term).map_err(|IndexBroken| segment)? {
                return Ok(Some((segment, entry.value)));
            }
        }
        Ok(None)
    }

    /// Returns the terms of a segment that begin with `prefix`, sorted. A term that is in the file
    /// and in memory comes twice, from the file first.
    fn terms_in(&self, segment: u64, prefix: &[u8]) -> std::result::Result<Vec<(Vec<u8>, Posted)>, IndexBroken> {
        let mut found = Vec::new();
        if let Some(file) = self.file(segment) {
            file.entries(prefix, |entry| {
                let posted = file.posted(&entry)?;
                found.push((entry.term, posted));
                Ok(())
            })?;
        }
        if let Some(memory) = self.memory.get(&segment) {
            found.extend(memory.terms(prefix));
        }
        found.sort_by(|a, b| a.0.cmp(&b.0));
        Ok(found)
    }

    /// Updates what is known of streams, upstreams and deletions. Returns whether the event
    /// continues its stream.
    fn note(&mut self, segment: u64, event: &Recorded<'_>) -> bool {
        // A broken index file is rebuilt when it is next used; until then the sequence of the event
        // is trusted.
        let next = event.sequence.saturating_add(1);
        let expected = self.heads.replace(event.key, next).unwrap_or_else(|| {
            let expected = self.next_sequence(event.key).unwrap_or(event.sequence);
            self.heads.learn(event.key, next);
            expected
        });
        if let Some((upstream, position)) = event.tracking {
            self.tracked.insert(upstream.into(), Some(position));
        }
        if let Some(System::Deletion { edition, domain }) = System::of(event.key) {
            let deletion = Deletion { at: Location { segment, offset: event.offset }, position: event.position };
            // A new one, even if no reader holds the old one: readers compare pointers to learn of
            // a deletion.
            let mut deletions = Deletions::clone(&self.deletions);
            deletions.note(edition, domain, deletion);
            self.deletions = Arc::new(deletions);
            self.heads.forget(|key| deletions::covers(edition, domain, key));
        }
        self.lossy |= System::of(event.key) == Some(System::Lost);
        let expected = expected_sequence(event.key, event.sequence, Some(expected).filter(|&next| next > 0), |main| {
            // A broken index file says nothing against the event.
            let next = self.heads.get(main).map_or_else(|| self.next_sequence(main), Ok);
            Some(next.unwrap_or(u64::MAX))
        });
        continues(event.sequence, expected, self.lossy)
    }
}

/// The postings of a term, summed up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TermInfo {
    /// Number of events.
    pub count: u64,
    /// Location of the last one.
    pub last: Location,
    /// Value of the last one: see `docs/FORMAT.md`, Index file.
    pub value: u64,
}

pub(crate) struct Index {
    fs: Arc<Owned>,
    dir: PathBuf,
    use_map: bool,
    read_only: bool,
    parts: RwLock<SegmentIndexes>,
    /// Held while an index file is published, so that checking that it is still wanted, renaming it
    /// and serving it are one step. Locked before `parts`.
    publishing: Mutex<()>,
    /// Bytes of memory that the index of the active segment may take before the segment is sealed.
    most: u64,
    /// The newest segment whose index has taken more.
    full: AtomicU64,
    /// Number of calls of `add`: the heads of streams do not change while it stays the same.
    added: AtomicU64,
    /// Notices of index files that were rebuilt.
    notices: Mutex<Vec<String>>,
}

impl Index {
    pub(crate) fn new(fs: Arc<Owned>, dir: PathBuf, use_map: bool, read_only: bool, most: u64) -> Self {
        Index {
            fs,
            dir,
            use_map,
            read_only,
            parts: RwLock::default(),
            publishing: Mutex::default(),
            most,
            full: AtomicU64::new(0),
            added: AtomicU64::new(0),
            notices: Mutex::default(),
        }
    }

    /// Opens the index file of a segment. Returns the end of the last frame that it covers, and the
    /// chain there. A file that is missing, broken, or does not fit the segment is ignored, and the
    /// caller adds all events of the segment.
    pub(crate) fn resume(
        &self,
        segment: &SegmentHeader,
        fits: &dyn Fn(u64, &Chain) -> Result<bool>,
    ) -> Result<Option<(u64, Chain)>> {
        let (mut deleted, mut lossy) = (Vec::new(), false);
        let mut file = IndexFile::open(&*self.fs, &self.dir, segment, self.use_map).filter(|file| {
            let deletions = file.entries(&[TermKind::Deletion as u8], |entry| {
                let posted = file.posted(&entry)?;
                deleted.push((entry.term, posted));
                Ok(())
            });
            lossy = file.find(Term::stream(&System::Lost.key()).bytes()).map_or(true, |entry| entry.is_some());
            deletions.is_ok()
        });
        let mut covered = file.as_ref().map(IndexFile::covered);
        // Checked before anything of the file is used: taking it back would need the index files of
        // other segments, which may be unreadable.
        if let Some((end, chain)) = &covered
            && !fits(*end, chain)?
        {
            (file, covered) = (None, None);
        }
        let mut parts = self.parts.write();
        if file.is_some() {
            for (term, posted) in deleted {
                Arc::make_mut(&mut parts.deletions).note_term(&term, segment.number, posted);
            }
            parts.lossy |= lossy;
        }
        parts.set_file(segment.number, file.map(Arc::new));
        // Events of this segment may come before those that are in memory already.
        parts.heads = Heads::default();
        parts.tracked.clear();
        Ok(covered)
    }

    /// Returns the notices of index files that were rebuilt since the last call.
    pub(crate) fn take_notices(&self) -> Vec<String> {
        std::mem::take(&mut self.notices.lock())
    }

    /// Adds events, and calls `raise` before any reader sees them. Returns the position of the
    /// first event that does not continue its stream.
    pub(crate) fn add(&self, events: &mut dyn FnMut(Each<'_>), raise: &dyn Fn()) -> Option<u64> {
        let (mut wrong, mut last) = (None, 0);
        let mut parts = self.parts.write();
        self.added.fetch_add(1, SeqCst);
        events(&mut |segment, event| {
            if !parts.note(segment, event) {
                wrong.get_or_insert(event.position);
            }
            Arc::make_mut(parts.memory.entry(segment).or_default()).add(event);
            last = segment;
        });
        if parts.memory.get(&last).is_some_and(|memory| memory.weight() > self.most) {
            self.full.fetch_max(last, SeqCst);
        }
        raise();
        wrong
    }

    /// Returns whether the index of a segment takes so much memory that the segment must be sealed,
    /// which moves the index to a file.
    pub(crate) fn is_full(&self, segment: u64) -> bool {
        self.full.load(SeqCst) == segment
    }

    /// Returns the bytes of memory that the index of a segment takes; 0 if it is served from its
    /// file.
    pub(crate) fn weight(&self, segment: u64) -> u64 {
        self.parts.read().memory.get(&segment).map_or(0, |memory| memory.weight())
    }

    /// Calls `look` with the indexes of all segments while nothing is published. Rebuilds the index
    /// file that an error names, and calls it again.
    fn at_once<T>(&self, look: impl Fn(&SegmentIndexes) -> std::result::Result<T, u64>) -> Result<T> {
        loop {
            let found = look(&self.parts.read());
            match found {
                Ok(found) => return Ok(found),
                Err(segment) => self.rebuild(segment)?,
            }
        }
    }

    /// Returns the deletions of editions.
    pub(crate) fn deletions(&self) -> Arc<Deletions> {
        self.parts.read().deletions.clone()
    }

    /// Returns the deletions of editions, and what `watermark` returns at the same moment.
    pub(crate) fn deletions_at(&self, watermark: impl Fn() -> u64) -> (Arc<Deletions>, u64) {
        let parts = self.parts.read();
        (parts.deletions.clone(), watermark())
    }

    /// Returns whether the log has records of lost events. Then streams may have gaps, and the n-th
    /// event of a stream need not have sequence n.
    pub(crate) fn is_lossy(&self) -> bool {
        self.parts.read().lossy
    }

    /// Returns the tracked position of an upstream.
    pub(crate) fn tracked(&self, upstream: &str) -> Result<Option<u64>> {
        if let Some(&position) = self.parts.read().tracked.get(upstream) {
            return Ok(position);
        }
        let term = Term::new(TermKind::Tracking, None, upstream.as_bytes());
        let position = self.at_once(|parts| parts.newest(term.bytes(), 1))?.map(|(_, position)| position);
        // Another thread may have tracked a later position in between.
        Ok(*self.parts.write().tracked.entry(upstream.into()).or_insert(position))
    }

    /// Calls `memory` with the index of a segment in memory, under the lock, and `file` with its
    /// index file, without the lock. Rebuilds a broken index file and calls both again.
    fn look<M, T>(
        &self,
        segment: u64,
        memory: impl Fn(&Memory) -> M,
        file: impl Fn(Option<&IndexFile>, Option<M>) -> std::result::Result<T, IndexBroken>,
    ) -> Result<T> {
        loop {
            let (found, in_memory) = {
                let parts = self.parts.read();
                (parts.file(segment), parts.memory.get(&segment).map(|held| memory(held)))
            };
            match file(found.as_deref(), in_memory) {
                Ok(result) => return Ok(result),
                Err(IndexBroken) => self.rebuild(segment)?,
            }
        }
    }

    /// Returns all terms of all segments that begin with `prefix`, in order.
    pub(crate) fn terms(&self, prefix: &[u8]) -> Result<BTreeMap<Vec<u8>, TermInfo>> {
        let mut all: BTreeMap<Vec<u8>, TermInfo> = BTreeMap::new();
        let mut note = |term: Vec<u8>, segment: u64, posted: Posted| {
            let last = Location { segment, offset: posted.last.into() };
            let info = all.entry(term).or_insert(TermInfo { count: 0, last, value: 0 });
            *info = TermInfo { count: info.count + posted.count, last, value: posted.value };
        };
        for segment in 1..=self.segments() {
            let found = self.at_once(|parts| parts.terms_in(segment, prefix).map_err(|IndexBroken| segment))?;
            found.into_iter().for_each(|(term, posted)| note(term, segment, posted));
        }
        Ok(all)
    }

    /// Returns the number of terms that begin with `prefix` and whose last posting satisfies
    /// `counts`. A term counts once for each segment that has it.
    pub(crate) fn count_terms(&self, prefix: &[u8], counts: impl Fn(&[u8], Location) -> bool) -> Result<u64> {
        let mut all = 0;
        for segment in 1..=self.segments() {
            let found = self.at_once(|parts| parts.terms_in(segment, prefix).map_err(|IndexBroken| segment))?;
            let counted =
                |(term, posted): &&(Vec<u8>, Posted)| counts(term, Location { segment, offset: posted.last.into() });
            all += found.iter().filter(counted).count() as u64;
        }
        Ok(all)
    }

    /// Returns the number of segments.
    pub(crate) fn segments(&self) -> u64 {
        self.parts.read().segments()
    }

    /// Returns the last waypoint of a segment that satisfies `before`, and the first one that does
    /// not. `before` is monotonic: the waypoints that satisfy it come first.
    pub(crate) fn waypoints(
        &self,
        segment: u64,
        before: impl Fn(&Waypoint) -> bool,
    ) -> Result<(Option<Waypoint>, Option<Waypoint>)> {
        self.look(
            segment,
            |memory| memory.waypoints(&before),
            |file, memory| {
                let (last, next) = memory.unwrap_or_default();
                let Some(file) = file.filter(|_| last.is_none()) else { return Ok((last, next)) };
                let n = file.waypoints_before(&before)?;
                let last = n.checked_sub(1).map(|n| file.waypoint(n)).transpose()?;
                let next = if n < file.waypoint_count() { Some(file.waypoint(n)?) } else { next };
                Ok((last, next))
            },
        )
    }

    /// Returns the length of the index file of a segment in bytes; 0 if it has none.
    pub(crate) fn file_len(&self, segment: u64) -> u64 {
        self.parts.read().file(segment).map_or(0, |file| file.len())
    }

    /// Returns the offset up to which the index file of a segment covers it; 0 if it has none.
    pub(crate) fn indexed_upto(&self, segment: u64) -> u64 {
        self.parts.read().file(segment).map_or(0, |file| file.covered().0)
    }

    /// Writes the index file of a sealed segment, whose events end at `end`, and serves the index
    /// from it.
    pub(crate) fn write_file(&self, segment: &SegmentHeader, end: u64, chain: Chain) -> Result<()> {
        let number = segment.number;
        let covered = self.indexed_upto(number);
        if covered == end {
            return Ok(());
        }
        let memory = match covered {
            // Encoded outside the lock: nothing is added to a sealed segment. A segment that was
            // sealed without an event has no index in memory, and gets an index file as well.
            0 if chain.next_position == segment.first_position => Some(Arc::default()),
            0 => self.parts.read().memory.get(&number).cloned(),
            _ => Some(Arc::new(self.read_segment(number, end, chain)?.1)),
        };
        let Some(memory) = memory else { return Ok(()) };
        let written = self.write(segment, &memory, end, chain)?;
        let _publishing = self.publishing.lock();
        // A reader may have rebuilt the earlier file, which covers less. No thread writes one that
        // covers more.
        if self.indexed_upto(number) >= end {
            written.discard(&*self.fs);
            return Ok(());
        }
        let file = written.publish(&*self.fs)?;
        let mut parts = self.parts.write();
        parts.set_file(number, Some(Arc::new(file)));
        parts.memory.remove(&number);
        Ok(())
    }

    /// Writes an index file that covers a segment up to `end`, under a temporary name.
    fn write(&self, segment: &SegmentHeader, memory: &Memory, end: u64, chain: Chain) -> Result<Unnamed> {
        let content = |put: Put<'_>| memory.write(segment, end, chain, put);
        let written = Unnamed::write(&self.fs, &self.dir, segment, self.use_map, content)?;
        if written.covered() == end {
            return Ok(written);
        }
        written.discard(&*self.fs);
        let path = self.dir.join(index_name(segment.number));
        Err(Error::io("read", &path, io::ErrorKind::InvalidData.into()))
    }

    /// Rebuilds the index of a segment, whose index file is broken, from the segment.
    fn rebuild(&self, segment: u64) -> Result<()> {
        let Some(file) = self.parts.read().file(segment) else { return Ok(()) };
        // `close` waits for this token. After it the rebuilt index stays in memory, as the
        // directory may belong to another owner.
        let work = self.fs.work().ok().filter(|_| !self.read_only);
        let (end, chain) = file.covered();
        let (header, memory) = self.read_segment(segment, end, chain)?;
        // Kept in memory if it cannot be written, or if the rebuilt file was broken, too: otherwise
        // each reader would rebuild it again.
        let first = self.parts.write().rebuilt.insert(segment);
        let write = || self.write(&header, &memory, end, chain).ok();
        let written = work.is_some().then(|| first.then(write)).flatten().flatten();
        let _publishing = self.publishing.lock();
        // Another thread may have rebuilt it in the meantime.
        if !self.parts.read().file(segment).is_some_and(|now| Arc::ptr_eq(&now, &file)) {
            if let Some(written) = written {
                written.discard(&*self.fs);
            }
            return Ok(());
        }
        let rebuilt = written.and_then(|written| written.publish(&*self.fs).ok());
        let mut parts = self.parts.write();
        if rebuilt.is_none() {
            let later = parts.memory.remove(&segment).map(Arc::unwrap_or_clone);
            parts.memory.insert(segment, Arc::new(memory.followed_by(later)));
        }
        parts.set_file(segment, rebuilt.map(Arc::new));
        self.notices.lock().push(format!("{}: not intact; rebuilt", index_name(segment)));
        Ok(())
    }

    /// Reads a segment from its start up to `end`, where its chain must be `chain`. Returns its
    /// header and its index.
    fn read_segment(&self, number: u64, end: u64, chain: Chain) -> Result<(SegmentHeader, Memory)> {
        let path = self.dir.join(segment_name(number));
        let opened = self.fs.open(&path, Mode::Read).map_err(|e| Error::io("open", &path, e))?;
        let source = ScanSource { path: &path, file: &*opened, size: end };
        let damaged = |why: &str| Error::damaged(&path, 0..end, 0..u64::MAX, why);
        let header = source.header()?.ok_or_else(|| damaged("the header of the segment is not intact"))?;
        let mut memory = Memory::default();
        let scanned = source.scan(&header, None, |frame| frame.records(&path, |event| memory.add(&event)))?;
        if scanned.end < end || scanned.chain != chain {
            let bytes = scanned.end..end;
            let why = "its index cannot be rebuilt, as a commit is not intact or not what the index covers";
            return Err(Error::damaged(&path, bytes, scanned.chain.next_position..u64::MAX, why));
        }
        Ok((header, memory))
    }
}
