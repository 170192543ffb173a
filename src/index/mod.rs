//! Terms to events, segment by segment: in a file beside each sealed segment, in memory for what
//! has no file yet.
//!
//! All of it can be derived from the segments. A file that is missing, or that turns out to be
//! wrong when it is looked into, is rebuilt.

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
    /// Index files by number of the segment, from 1 on.
    files: Vec<Option<Arc<IndexFile>>>,
    /// What has no index file, by number of the segment. Where there is a file too, this is what
    /// came after it.
    memory: BTreeMap<u64, Arc<Memory>>,
    heads: Heads,
    deletions: Arc<Deletions>,
    /// Segments whose index files were rebuilt.
    made_anew: BTreeSet<u64>,
    /// How far upstreams that were asked about have been taken in.
    tracked: HashMap<Box<str>, Option<u64>>,
    /// There are records of lost events: sequences of streams have gaps.
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

    /// The next sequence of a stream, as the newest part says that knows it; 0 if none does. On an
    /// error, the segment whose file is not intact.
    fn next_sequence(&self, key: &[u8]) -> std::result::Result<u64, u64> {
        let since = self.deletions.of_key(key).at;
        let term = Term::stream(key);
        let Some((segment, next)) = self.newest(term.bytes(), since.segment.max(1))? else { return Ok(0) };
        // Only beside the deletion itself it matters where the events stand.
        let gone = segment == since.segment && self.offsets_since(segment, term.bytes(), since)?.is_empty();
        Ok(if gone { 0 } else { next })
    }

    /// The newest segment, from this one on, that a term has postings in, and what the last of them
    /// says.
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

    /// The terms of a segment that begin with `prefix`, sorted; those of the file before those in
    /// memory.
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

    /// Takes note of what an event says about others. Returns whether it may come next in its
    /// stream.
    fn note(&mut self, segment: u64, event: &Recorded<'_>) -> bool {
        // A file that is not intact is rebuilt by anyone who asks; until then the event is
        // believed.
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
            // Another one, even if nobody holds on to this one: it shows that something was
            // deleted.
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

/// What is known of a term.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TermInfo {
    /// Number of events.
    pub count: u64,
    /// Where the last of them stands.
    pub last: Location,
    /// What the last of them says: see `docs/FORMAT.md`, Index file.
    pub value: u64,
}

pub(crate) struct Index {
    fs: Arc<Owned>,
    dir: PathBuf,
    use_map: bool,
    read_only: bool,
    parts: RwLock<SegmentIndexes>,
    /// Held while an index file is published: whether it is still wanted, its name, and that it is
    /// served from then on are one step. Locked before `parts`.
    publishing: Mutex<()>,
    /// Bytes of memory that the index of a segment may take before the segment is to be sealed.
    most: u64,
    /// The newest segment whose index takes more.
    full: AtomicU64,
    /// How often events have been added: as long as it stays the same, so do the heads of streams.
    added: AtomicU64,
    /// What was found wrong and rebuilt.
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

    /// Opens the index file of a segment. Returns where the last frame ends that it covers, and the
    /// chain there. A file that cannot be read, or that does not fit the segment, tells of nothing:
    /// what it covers is added again.
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
        // Looked at before anything of it is taken: to take it back, the files of other segments
        // would have to be asked once more, and may not answer.
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
        // Events of this segment may follow those that are in memory already.
        parts.heads = Heads::default();
        parts.tracked.clear();
        Ok(covered)
    }

    /// What was found wrong and rebuilt, since the last call.
    pub(crate) fn take_notices(&self) -> Vec<String> {
        std::mem::take(&mut self.notices.lock())
    }

    /// Adds events, and calls `raise` before anybody can look. Returns the first position whose
    /// event is not the next one of its stream.
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

    /// Whether the index of a segment takes so much memory that the segment is to be sealed, so
    /// that it is written.
    pub(crate) fn is_full(&self, segment: u64) -> bool {
        self.full.load(SeqCst) == segment
    }

    /// Bytes of memory that the index of a segment takes; 0 if it is served from its file.
    pub(crate) fn weight(&self, segment: u64) -> u64 {
        self.parts.read().memory.get(&segment).map_or(0, |memory| memory.weight())
    }

    /// Looks at all parts while nothing is published. Rebuilds an index file that turns out to be
    /// wrong.
    fn at_once<T>(&self, look: impl Fn(&SegmentIndexes) -> std::result::Result<T, u64>) -> Result<T> {
        loop {
            let found = look(&self.parts.read());
            match found {
                Ok(found) => return Ok(found),
                Err(segment) => self.rebuild(segment)?,
            }
        }
    }

    /// The deletions of editions.
    pub(crate) fn deletions(&self) -> Arc<Deletions> {
        self.parts.read().deletions.clone()
    }

    /// The deletions of editions, and what `watermark` says at the same moment.
    pub(crate) fn deletions_at(&self, watermark: impl Fn() -> u64) -> (Arc<Deletions>, u64) {
        let parts = self.parts.read();
        (parts.deletions.clone(), watermark())
    }

    /// Whether there are records of lost events. Then the sequences of a stream may have gaps, and
    /// the n-th event of a stream need not be the one with sequence n.
    pub(crate) fn is_lossy(&self) -> bool {
        self.parts.read().lossy
    }

    /// How far an upstream has been taken in.
    pub(crate) fn tracked(&self, upstream: &str) -> Result<Option<u64>> {
        if let Some(&position) = self.parts.read().tracked.get(upstream) {
            return Ok(position);
        }
        let term = Term::new(TermKind::Tracking, None, upstream.as_bytes());
        let position = self.at_once(|parts| parts.newest(term.bytes(), 1))?.map(|(_, position)| position);
        // A thread that has tracked it in between knows better.
        Ok(*self.parts.write().tracked.entry(upstream.into()).or_insert(position))
    }

    /// Looks into the parts of a segment: `memory` under the lock, `file` without. Rebuilds an
    /// index file that turns out to be wrong.
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

    /// All terms that begin with `prefix`, in order, over all segments.
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

    /// The number of terms that begin with `prefix`, and of whose last posting `counts` holds. One
    /// that stands in several segments counts in each.
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

    /// Number of segments that anything is known of.
    pub(crate) fn segments(&self) -> u64 {
        self.parts.read().segments()
    }

    /// The last waypoint of a segment for which `before` holds, and the first for which it does
    /// not. Those for which it holds come first.
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

    /// Bytes of the index file of a segment; 0 if it has none.
    pub(crate) fn file_len(&self, segment: u64) -> u64 {
        self.parts.read().file(segment).map_or(0, |file| file.len())
    }

    /// How far the index file of a segment goes; 0 if it has none.
    pub(crate) fn indexed_upto(&self, segment: u64) -> u64 {
        self.parts.read().file(segment).map_or(0, |file| file.covered().0)
    }

    /// Writes the index file of a segment that ends at `end`, and serves from it what was in
    /// memory.
    pub(crate) fn write_file(&self, segment: &SegmentHeader, end: u64, chain: Chain) -> Result<()> {
        let number = segment.number;
        let covered = self.indexed_upto(number);
        if covered == end {
            return Ok(());
        }
        let memory = match covered {
            // Encoded outside the lock: nothing is added to a sealed segment. A segment
            // that was sealed without an event has nothing in memory, and an index all the same.
            0 if chain.next_position == segment.first_position => Some(Arc::default()),
            0 => self.parts.read().memory.get(&number).cloned(),
            _ => Some(Arc::new(self.read_segment(number, end, chain)?.1)),
        };
        let Some(memory) = memory else { return Ok(()) };
        let written = self.write(segment, &memory, end, chain)?;
        let _publishing = self.publishing.lock();
        // A reader may have made the file again that was there, which covers less. Nobody makes one
        // that covers more.
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

    /// Writes an index file that covers a segment up to `end`. Nobody sees it yet.
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

    /// Rebuilds the index of a segment from the segment, after its file was found wrong.
    fn rebuild(&self, segment: u64) -> Result<()> {
        let Some(file) = self.parts.read().file(segment) else { return Ok(()) };
        // What closing waits for; after it, an index stays in memory, as the directory may be
        // another's.
        let work = self.fs.work().ok().filter(|_| !self.read_only);
        let (end, chain) = file.covered();
        let (header, memory) = self.read_segment(segment, end, chain)?;
        // In memory, if it cannot be written, or does not come out better than before: nobody is to
        // rebuild it for ever.
        let first = self.parts.write().made_anew.insert(segment);
        let write = || self.write(&header, &memory, end, chain).ok();
        let written = work.is_some().then(|| first.then(write)).flatten().flatten();
        let _publishing = self.publishing.lock();
        // Another thread may have been faster.
        if !self.parts.read().file(segment).is_some_and(|now| Arc::ptr_eq(&now, &file)) {
            if let Some(written) = written {
                written.discard(&*self.fs);
            }
            return Ok(());
        }
        let anew = written.and_then(|written| written.publish(&*self.fs).ok());
        let mut parts = self.parts.write();
        if anew.is_none() {
            let behind = parts.memory.remove(&segment).map(Arc::unwrap_or_clone);
            parts.memory.insert(segment, Arc::new(memory.followed_by(behind)));
        }
        parts.set_file(segment, anew.map(Arc::new));
        self.notices.lock().push(format!("{}: not intact; made anew", index_name(segment)));
        Ok(())
    }

    /// Reads a segment from its start up to `end`, where its chain is to be `chain`: its header,
    /// and what its index is.
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
            let why = "its index cannot be made anew, as a commit is not intact or not what the index covers";
            return Err(Error::damaged(&path, bytes, scanned.chain.next_position..u64::MAX, why));
        }
        Ok((header, memory))
    }
}
