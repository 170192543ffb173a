//! How a store is opened: [`Options`].

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

/// Bytes of memory that the index of the active segment may take per byte of the maximum size of a
/// segment, before the segment is sealed early: four times what short events with several tags
/// need. An index may always take `LEAST_INDEX`.
const INDEX_TO_SEGMENT: u64 = 2;
const LEAST_INDEX: u64 = 4 << 20;

/// Options for opening a store.
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
    /// Returns the default options.
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

    /// When an append returns, and what it survives. Default: [`Durability::Sync`].
    pub fn durability(mut self, durability: Durability) -> Self {
        self.settings.durability = durability;
        self
    }

    /// Bytes after which a new segment begins: 4 KiB to 1 GiB. Default: 64 MiB. A larger commit
    /// gets a segment of its own. The value may differ from one open to the next.
    ///
    /// The index of the active segment is in memory. A segment is also sealed when its index takes
    /// twice as many bytes (and at least 4 MiB), as many short tags cause that only one event has;
    /// [`Stats`](crate::info::Stats) returns its size. The last commit is indexed as a whole: if it
    /// has such tags, it alone may add ten times its own bytes.
    pub fn segment_size(mut self, bytes: u64) -> Self {
        self.settings.segment_size = bytes;
        self
    }

    /// Bytes of the largest event, including its names: at most 512 MiB. Default: 16 MiB.
    pub fn max_event_bytes(mut self, bytes: usize) -> Self {
        self.settings.limits.event = bytes;
        self
    }

    /// Bytes of the largest commit: at most 1 GiB. Default: 64 MiB.
    ///
    /// A commit is indexed in memory as a whole, at some 45 bytes a term besides its text: 60 MiB
    /// of short tags that only one event has take about 400 MiB during the commit.
    pub fn max_commit_bytes(mut self, bytes: usize) -> Self {
        self.settings.limits.commit = bytes;
        self
    }

    /// Whether sealed and other complete bytes are read through a memory map (the default) or by
    /// positioned reads. Reads through a map are several times faster; but if another program
    /// shortens a file of the store while it is read, or a bad sector is read, the process ends
    /// with SIGBUS. With positioned reads, both are [`Error::Damaged`], which names the bytes. The
    /// functions in [`offline`](crate::offline) never use maps, nor does a view
    /// [around damage](Options::open_read_only) on a disk with unreadable bytes.
    pub fn memory_map(mut self, map: bool) -> Self {
        self.settings.memory_map = map;
        self
    }

    /// Whether a background thread does what need not be on the commit path (the default). Without
    /// it, callers do the same inline, and HEAD is not updated when the store is idle. The thread
    /// that syncs for [`Durability::Interval`] is a separate one and runs in any case.
    pub fn maintenance(mut self, thread: bool) -> Self {
        self.settings.maintenance = thread;
        self
    }

    /// Starts no threads: [`pass_time`](crate::internals::pass_time) does their work.
    #[cfg(annals_internals)]
    pub(crate) fn by_hand(mut self) -> Self {
        self.settings.by_hand = true;
        self
    }

    /// Refuses to cut a torn tail if it cannot be proven that it was never acknowledged. Default:
    /// off. See [`OpenReport::cut`](crate::OpenReport::cut).
    pub fn strict(mut self, strict: bool) -> Self {
        self.settings.strict = strict;
        self
    }

    /// Whether a missing store is created (the default) or is [`Error::NotAStore`].
    pub fn create(mut self, create: bool) -> Self {
        self.settings.create = create;
        self
    }

    /// Bytes that must stay free on the disk: with less, appends return [`Error::DiskFull`] before
    /// the disk is completely full. Checked when a file grows. Default: 16 MiB; 0 switches the
    /// check off.
    pub fn reserve(mut self, bytes: u64) -> Self {
        self.settings.reserve = bytes;
        self
    }

    /// Whether each change of a [position](crate::Store::positions) or a
    /// [checkpoint](crate::Store::checkpoints) is durable when the call returns. Threads that
    /// change some at the same time share a sync. Default: off; then they are durable after a flush
    /// or a close.
    pub fn sync_positions(mut self, sync: bool) -> Self {
        self.sync_positions = sync;
        self
    }

    /// The clock that events are recorded with. It need not be monotonic: a time before that of the
    /// last event, or before the creation of the store, is replaced by that time.
    pub fn clock(mut self, clock: impl Fn() -> Timestamp + Send + Sync + 'static) -> Self {
        self.settings.clock = Arc::new(clock);
        self
    }

    /// How many older snapshots of a stream are kept besides its newest one, of those with
    /// [`Retention::Default`](crate::snapshot::Retention::Default). Default: 1.
    pub fn snapshots_kept(mut self, count: usize) -> Self {
        self.snapshots_kept = count;
        self
    }

    /// Whether a snapshot survives a power cut once it has been put. Default: off; it costs syncs,
    /// and a lost snapshot costs only a longer replay.
    pub fn sync_snapshots(mut self, sync: bool) -> Self {
        self.sync_snapshots = sync;
        self
    }

    /// Whether snapshots are used (the default). Without them all answers are the same, but may
    /// take longer.
    pub fn read_snapshots(mut self, read: bool) -> Self {
        self.read_snapshots = read;
        self
    }

    /// The file system. Default: [`RealFs`]. Another implementation keeps a store in its directory
    /// only if it implements [`Fs::hold`].
    pub fn file_system(mut self, fs: impl Fs + 'static) -> Self {
        self.fs = Arc::new(fs);
        self
    }

    /// Opens a store, as [`Store::open`]. A relative path is resolved during the call: the store
    /// stays in the directory that it leads to now.
    ///
    /// Advisory locks on the file `LOCK` and, on Unix, on the directory keep other writers and
    /// readers out. Programs that do not ask for them ignore them, and so do other machines on file
    /// systems that do not forward `flock`. The README has a table of what the lock protects from.
    ///
    /// # Errors
    ///
    /// As [`Store::open`], and [`Error::LimitExceeded`] or [`Error::Invalid`] if an option is
    /// outside its limits.
    pub fn open(self, path: impl AsRef<Path>) -> Result<Store> {
        let path = path.as_ref();
        self.held(path)?.open_with(path, Gaps::default())
    }

    /// Opens the store in the directory that has this path now, whatever has the path later.
    fn held(mut self, path: &Path) -> Result<Self> {
        self.check()?;
        // An empty path would be the working directory.
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

    /// Opens a store for reading: nothing is written, created or cut. Several processes may do so
    /// at once, but not while one has it open for writing.
    ///
    /// A damaged store is read *around* the damage: every intact event is served, before it and
    /// after it. A read that reaches a gap returns one [`Error::Damaged`] that names its positions
    /// and, for a stream, its sequences, and continues after it; so an incomplete answer says that
    /// it is incomplete. A read of a stream reports only gaps that may have held events of that
    /// stream: if the index of the segment is intact, that is known.
    /// [`OpenReport::damage`](crate::OpenReport::damage) lists all gaps. The intact content of
    /// damaged segments is held in memory.
    ///
    /// Bytes of sealed segments are checked only when they are read. The first read that meets
    /// damage there checks the whole store, which takes as long as verifying it, and from then on
    /// all reads go around the damage.
    ///
    /// # Errors
    ///
    /// As [`Store::open`], except for damage.
    pub fn open_read_only(mut self, path: impl AsRef<Path>) -> Result<Store> {
        self.settings.read_only = true;
        let path = path.as_ref();
        let held = self.held(path)?;
        match held.clone().open_with(path, Gaps::default()) {
            Err(Error::Damaged(damage)) => {
                let mut store = held.open_around(path, None)?;
                if let Some(inner) = Arc::get_mut(&mut store.inner) {
                    // Also if no event is lost, for example because files have the wrong names.
                    inner.report.notices.insert(0, format!("read around damage: {damage}"));
                }
                Ok(store)
            }
            opened => opened,
        }
    }

    /// Replaces what is damaged, in memory, by what is intact of it. With `open_to`, the store is
    /// already open, and shows positions up to that one.
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
            // HEAD is made to match what is shown.
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
