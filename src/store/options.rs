//! How a store is opened.

use super::catalog::Catalog;
use super::read::around_damage::AroundDamage;
use super::read::gaps::Gaps;
use super::snapshot::Cache;
use super::{Inner, Store};
use crate::error::{Damage, Error, Result};
use crate::format::draft::Limits;
use crate::format::frame::MAX_BODY;
use crate::format::record::MAX_RECORD;
use crate::fs::owned::Owned;
use crate::fs::{Fs, RealFs};
use crate::index::Index;
use crate::log::{Cut, Durability, LogSettings, OpenedLog, owner};
use crate::positions::Register;
use crate::reconstruct::readable;
use crate::snapshots;
use crate::time::Timestamp;
use parking_lot::Mutex;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

const MIN_SEGMENT: u64 = 4 << 10;
const MAX_SEGMENT: u64 = 1 << 30;

/// Bytes of memory that the index of the active segment may take for each byte that a segment may
/// have, before the segment is sealed early: four times what short events with several tags need.
/// Small segments may always have `LEAST_INDEX`.
const INDEX_TO_SEGMENT: u64 = 2;
const LEAST_INDEX: u64 = 4 << 20;

/// How to open a store.
///
/// ```
/// use annals::{Durability, Options};
/// let dir = tempfile::tempdir()?;
/// let store = Options::new().segment_size(16 << 20).durability(Durability::Os).open(dir.path())?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
#[must_use = "nothing is opened before `open` or `open_read_only`"]
pub struct Options {
    settings: LogSettings,
    sync_positions: bool,
    fs: Arc<dyn Fs>,
    snapshots_kept: usize,
    sync_snapshots: bool,
    read_snapshots: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// The defaults.
    pub fn new() -> Self {
        let settings = LogSettings {
            durability: Durability::Sync,
            segment_size: 64 << 20,
            limits: Limits { event: 16 << 20, commit: 64 << 20 },
            memory_map: true,
            maintenance: true,
            #[cfg(annals_internals)]
            by_hand: false,
            strict: false,
            create: true,
            read_only: false,
            reconstructed: false,
            reserve: 16 << 20,
            clock: Arc::new(Timestamp::now),
        };
        Options {
            settings,
            fs: Arc::new(RealFs),
            snapshots_kept: 1,
            sync_snapshots: false,
            read_snapshots: true,
            sync_positions: false,
        }
    }

    /// When an append returns, and what it survives. [`Durability::Sync`] by default.
    pub fn durability(mut self, durability: Durability) -> Self {
        self.settings.durability = durability;
        self
    }

    /// Bytes after which a new segment is begun: 4 KiB to 1 GiB, 64 MiB by default. A larger commit
    /// gets a segment of its own. It may differ from one open to the next.
    ///
    /// The index of the active segment is in memory. A segment is also full when that takes twice
    /// as many bytes (4 MiB at least), as it does with many short tags that only one event has;
    /// [`Stats`](crate::info::Stats) tells how many it takes. The last commit is indexed as a
    /// whole: one of such tags alone may add ten times its own bytes.
    pub fn segment_size(mut self, bytes: u64) -> Self {
        self.settings.segment_size = bytes;
        self
    }

    /// The largest event, with its names and all: at most 512 MiB, 16 MiB by default.
    pub fn max_event_bytes(mut self, bytes: usize) -> Self {
        self.settings.limits.event = bytes;
        self
    }

    /// The largest commit: at most 1 GiB, 64 MiB by default.
    ///
    /// A commit is indexed in memory as a whole, at some 45 bytes a term beside its text: 60 MiB of
    /// short tags that only one event has take about 400 MiB while it is committed.
    pub fn max_commit_bytes(mut self, bytes: usize) -> Self {
        self.settings.limits.commit = bytes;
        self
    }

    /// Whether sealed and other complete bytes are read through a memory map (the default) or by
    /// position. With a map, reads are several times faster, and another program that shortens a
    /// file of the store while it is read ends this process, and so does a bad sector that is read
    /// (SIGBUS). By position, both are errors: [`Error::Damaged`] names the bytes. The functions in
    /// [`offline`](crate::offline) never use maps, nor does a view [around
    /// damage](Options::open_read_only) on a disk with unreadable bytes.
    pub fn memory_map(mut self, map: bool) -> Self {
        self.settings.memory_map = map;
        self
    }

    /// Whether a background thread does what can be done off the commit path (the default). Without
    /// it, callers do the same inline, and HEAD is not marked when the store is idle. The thread
    /// that syncs for [`Durability::Interval`] is another one, and runs in any case.
    pub fn maintenance(mut self, thread: bool) -> Self {
        self.settings.maintenance = thread;
        self
    }

    /// No threads: [`pass_time`](crate::internals::pass_time) does their work.
    #[cfg(annals_internals)]
    pub(crate) fn by_hand(mut self) -> Self {
        self.settings.by_hand = true;
        self
    }

    /// Refuse to cut a torn tail, where it cannot be proven that it was never acknowledged. Off by
    /// default: see [`OpenReport::cut`](crate::OpenReport::cut).
    pub fn strict(mut self, strict: bool) -> Self {
        self.settings.strict = strict;
        self
    }

    /// Whether a missing store is created (the default) or is [`Error::NotAStore`].
    pub fn create(mut self, create: bool) -> Self {
        self.settings.create = create;
        self
    }

    /// Bytes that must stay free on the disk: with less, appends get [`Error::DiskFull`] before the
    /// disk is quite full. Looked at when a file grows. 16 MiB by default; 0 switches it off.
    pub fn reserve(mut self, bytes: u64) -> Self {
        self.settings.reserve = bytes;
        self
    }

    /// Whether each change of a [position](crate::Store::positions) or a
    /// [checkpoint](crate::Store::checkpoints) is durable when the call returns. Threads that make
    /// some at the same time share a sync. Off by default: then they are durable after a flush or a
    /// close.
    pub fn sync_positions(mut self, sync: bool) -> Self {
        self.sync_positions = sync;
        self
    }

    /// Where the time comes from that events are recorded at. It need not rise: a time before that
    /// of the last event, or before the creation of the store, is replaced by that one.
    pub fn clock(mut self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.settings.clock = Arc::new(clock);
        self
    }

    /// How many snapshots of a stream stay beside its newest one, of those with
    /// [`Retention::Default`](crate::snapshot::Retention::Default). 1 by default.
    pub fn snapshots_kept(mut self, count: usize) -> Self {
        self.snapshots_kept = count;
        self
    }

    /// Whether a snapshot that was put survives a power cut. Off by default: it would cost syncs,
    /// and a lost one costs nothing but a longer replay.
    pub fn sync_snapshots(mut self, sync: bool) -> Self {
        self.sync_snapshots = sync;
        self
    }

    /// Whether snapshots are used (the default). Without them all answers are the same and may take
    /// longer.
    pub fn read_snapshots(mut self, read: bool) -> Self {
        self.read_snapshots = read;
        self
    }

    /// Where the files are: [`RealFs`] by default. One of your own keeps a store in its directory
    /// only as far as it implements [`Fs::hold`].
    pub fn file_system(mut self, fs: impl Fs + 'static) -> Self {
        self.fs = Arc::new(fs);
        self
    }

    /// Opens a store, as [`Store::open`]. A relative path counts at the time of the call: the store
    /// stays with the directory that it leads to now.
    ///
    /// An advisory lock keeps other writers and readers out, on the file `LOCK` and, on Unix, on
    /// the directory. It is not seen by programs that do not ask for it, nor across machines on
    /// file systems that do not pass `flock` on. The README has a table of what it protects from.
    ///
    /// # Errors
    ///
    /// As [`Store::open`], and [`Error::LimitExceeded`] or [`Error::Invalid`] if an option is
    /// outside its limits.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Store> {
        let path = path.as_ref();
        self.held(path)?.open_with(path, Gaps::default())
    }

    /// The same in the directory that has this path now, whatever has it later.
    fn held(mut self, path: &Path) -> Result<Self> {
        self.check()?;
        // It would be the working directory.
        if path.as_os_str().is_empty() {
            return Err(Error::invalid("path", "it is empty"));
        }
        self.fs = owner::hold(self.fs, path, &self.settings)?;
        Ok(self)
    }

    fn open_with(self, path: &Path, gaps: Gaps) -> Result<Store> {
        let owner = Arc::new(Owned::new(self.fs.clone()));
        let fs: Arc<dyn Fs> = owner.clone();
        let LogSettings { memory_map, read_only, segment_size, .. } = self.settings;
        let most = segment_size.saturating_mul(INDEX_TO_SEGMENT).max(LEAST_INDEX);
        let index = Arc::new(Index::new(owner.clone(), path.to_owned(), memory_map, read_only, most));
        let catalog = Arc::new(Catalog::new(index.clone()));
        let kept = snapshots::SnapshotSettings {
            kept: self.snapshots_kept,
            sync: self.sync_snapshots,
            reserve: self.settings.reserve,
        };
        let directory = snapshots::Directory::new(fs.clone(), path.to_owned(), kept);
        let again = (self.settings.read_only && !self.settings.reconstructed).then(|| self.clone());
        let settings = self.settings.clone();
        let opened = OpenedLog::open(owner, path.to_owned(), self.settings, index, catalog.clone())?;
        let (id, sync) = (opened.log.store_id(), self.sync_positions);
        let writer = opened.writer.clone();
        let sync_events = Arc::new(move || match &writer {
            Some(writer) => writer.check_owner().and_then(|()| writer.sync_visible()),
            None => Ok(()),
        });
        let writer = opened.writer.clone();
        let check_owner = Arc::new(move || writer.as_ref().map_or(Ok(()), |writer| writer.check_known()));
        let positions = Register::new(fs, path.to_owned(), id, read_only, sync, sync_events, check_owner);
        let mut report = opened.report;
        report.notices.extend(catalog.index.take_notices());
        let snapshots = Cache::new(directory, self.read_snapshots);
        let inner = Inner {
            log: opened.log,
            writer: opened.writer,
            clock: settings.clock,
            limits: settings.limits,
            reserve: settings.reserve,
            catalog,
            snapshots,
            positions: Arc::new(positions),
            hooks: Arc::default(),
            report,
            consuming: Mutex::default(),
            deleting: Mutex::default(),
            gaps,
            around: AroundDamage::new(again),
        };
        let mut store = Store { inner: Arc::new(inner) };
        let notices = store.binding_notices();
        if let Some(inner) = Arc::get_mut(&mut store.inner) {
            inner.report.notices.extend(notices);
        }
        Ok(store)
    }

    /// Opens a store to read: nothing is written, created or cut. Several processes may do so at
    /// once, but not beside one that has it open for writing.
    ///
    /// A store that is damaged is read *around* the damage: every intact event is served, from
    /// before it and from after it. A read that comes to a gap gives an [`Error::Damaged`] that
    /// names it, positions and, for a stream, sequences, once, and goes on after it; so an answer
    /// that could be shorter than it was says so. A stream is only told of a gap that may have held
    /// events of it: where the index of the segment is intact, that is known.
    /// [`OpenReport::damage`](crate::OpenReport::damage) lists all gaps. Damaged segments are held
    /// in memory, with what is intact in them.
    ///
    /// Bytes of sealed segments are only looked at when they are read. The first read that meets
    /// damage there looks at the whole store, which takes as long as a verification of it, and all
    /// reads then go around.
    ///
    /// # Errors
    ///
    /// As [`Store::open`], but for damage.
    pub fn open_read_only(mut self, path: impl AsRef<Path>) -> Result<Store> {
        self.settings.read_only = true;
        let path = path.as_ref();
        let held = self.held(path)?;
        match held.clone().open_with(path, Gaps::default()) {
            Err(Error::Damaged(damage)) => {
                let mut store = held.open_around(path, None)?;
                if let Some(inner) = Arc::get_mut(&mut store.inner) {
                    // Also where nothing that can be told is lost, as of files under wrong names.
                    inner.report.notices.insert(0, format!("read around damage: {damage}"));
                }
                Ok(store)
            }
            opened => opened,
        }
    }

    /// Puts in place of what is damaged what is intact of it, in memory. With `open_to`, the store
    /// is open already, and shows positions up to there.
    pub(super) fn open_around(mut self, path: &Path, open_to: Option<u64>) -> Result<Store> {
        let around = readable::overlay(&self.fs, path, open_to)?;
        self.fs = around.fs;
        self.settings.reconstructed = true;
        // A bad sector ends a process that reads it through a map.
        self.settings.memory_map &= !around.unreadable;
        let mut store = self.open_with(path, around.gaps.clone().into())?;
        if let Some(inner) = Arc::get_mut(&mut store.inner) {
            inner.report.damage = around.gaps.iter().map(|gap| gap.damage.clone()).collect();
            inner.report.notices.extend(around.notices);
            let cut = |Damage { path, bytes, positions, why }| Cut {
                path,
                bytes,
                position: positions.start,
                why,
                quarantine: None,
            };
            // HEAD is made to fit what is shown.
            inner.report.clean = false;
            inner.report.cut = around.torn.map(cut).or(inner.report.cut.take());
        }
        Ok(store)
    }

    fn check(&self) -> Result<()> {
        let LogSettings { segment_size, limits, .. } = &self.settings;
        if !(MIN_SEGMENT..=MAX_SEGMENT).contains(segment_size) {
            return Err(Error::invalid("segment size", format!("{segment_size} is not within 4 KiB and 1 GiB")));
        }
        if limits.event > MAX_RECORD {
            return Err(Error::limit("bytes as the limit of an event", limits.event, MAX_RECORD));
        }
        if limits.commit > MAX_BODY as usize {
            return Err(Error::limit("bytes as the limit of a commit", limits.commit, MAX_BODY as usize));
        }
        Ok(())
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LogSettings { durability, segment_size, .. } = &self.settings;
        f.debug_struct("Options")
            .field("durability", durability)
            .field("segment_size", segment_size)
            .field("file_system", &self.fs)
            .finish_non_exhaustive()
    }
}
