//! The store: what an application sees. It owns the meaning of streams.

mod append;
mod catalog;
mod discover;
mod editions;
pub(crate) mod notify;
mod options;
pub(crate) mod progress;
mod query;
mod read;
pub(crate) mod site;
mod snapshot;

pub use append::guard::Guard;
pub use append::{Appended, Committed, Ticket, Transaction};
pub use discover::{Correlated, NameInfo, StreamInfo};
pub use editions::{EditionInfo, Editions};
pub use options::Options;
pub use progress::checkpoints::{Checkpoint, Checkpoints};
pub use progress::handlers::{HandlerInfo, HandlerPosition, Positions};
pub use query::Query;
pub use query::search::{AsOf, Search};
pub use read::{Events, Read};
pub use snapshot::Snapshots;
pub use snapshot::load::{Load, Loaded};
pub use snapshot::report::{SkippedSnapshots, Snapshot, SnapshotCheck, SnapshotFault, SnapshotInfo, SnapshotReport};

use crate::error::Result;
use crate::format::draft::Limits;
use crate::index::editions::PositionContents;
use crate::log::{Clock, LogReader, LogWriter, OpenReport};
pub use crate::positions::BindingFault;
use crate::positions::Register;
use crate::time::Timestamp;
use catalog::Catalog;
use notify::waiters::Waiters;
use parking_lot::Mutex;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An event store: a directory of files, or memory.
///
/// Handles are cheap to clone and may be used from any thread. Dropping the last one, or
/// [`Store::close`], closes the store; iterators count as handles, tickets do not. If a waker of an
/// async runtime that this store calls drops the last handle, another thread closes the store a
/// moment later. One process at a time can have a store open for writing; the README says what the
/// lock protects from. In a process that was forked from it, a handle can only read, and dropping
/// it does nothing.
///
/// ```
/// use annals::{Expected, NewEvent, Store, StreamId};
/// let dir = tempfile::tempdir()?;
/// let store = Store::open(dir.path())?;
/// let order = StreamId::new("order", "123")?;
/// store.append(&order, Expected::NoStream, [NewEvent::new("OrderPlaced", r#"{"sku":7}"#)])?;
/// for event in store.read(&order) {
///     assert_eq!(event?.event_type(), "OrderPlaced");
/// }
/// store.close()?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

pub(crate) struct Inner {
    log: Arc<LogReader>,
    /// `None` if the store is read-only.
    writer: Option<Arc<LogWriter>>,
    clock: Clock,
    limits: Limits,
    /// Bytes of the disk that must stay free.
    reserve: u64,
    catalog: Arc<Catalog>,
    snapshots: snapshot::Cache,
    positions: Arc<Register>,
    hooks: Arc<notify::hooks::Hooks>,
    report: OpenReport,
    /// The consumers that are running.
    consuming: Mutex<BTreeSet<String>>,
    /// Held while an edition is deleted.
    deleting: Mutex<()>,
    /// The damage, if the store is read around damage.
    gaps: read::gaps::Gaps,
    /// How to read around damage that is found later, in a store that was opened read-only.
    around: read::around_damage::AroundDamage,
}

/// The size of a store.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Number of events that a reader of the whole store sees, over all editions.
    pub events: u64,
    /// Number of events that were deleted with their [edition](crate::edition::Editions). They keep
    /// their positions and their bytes in the log, but no reader sees them.
    pub deleted_events: u64,
    /// Number of system records, each of which has a position: deletions of editions, commits
    /// without events that [track](Transaction::tracking) an upstream, and lost events.
    pub system_records: u64,
    /// Number of streams that have events.
    pub streams: u64,
    /// The segments, oldest first.
    pub segments: Vec<SegmentStats>,
}

/// The size of a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentStats {
    /// The path of its file.
    pub path: PathBuf,
    /// The position of its first event.
    pub first_position: u64,
    /// Bytes up to the end of the last commit.
    pub bytes: u64,
    /// Bytes of the file: more than `bytes` where zeros have been written ahead.
    pub file_bytes: u64,
    /// Bytes of its index file; 0 while its index is in memory.
    pub index_bytes: u64,
    /// Bytes of memory that its index takes, or the part of it that its index file does not cover;
    /// 0 if the file covers all of it.
    pub index_memory: u64,
}

impl Store {
    /// Opens the store in a directory, and creates both if they are missing. [`Options`] opens a
    /// store with other settings.
    ///
    /// Blocks while the log is read. Recovers from a crash; [`Store::open_report`] says what was
    /// done.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`](crate::Error::Locked) if it is open elsewhere,
    /// [`Error::ForeignFile`](crate::Error::ForeignFile) if a file of another program would be
    /// overwritten, [`Error::Damaged`](crate::Error::Damaged) if acknowledged events have changed
    /// or are missing, [`Error::UnsupportedFormat`](crate::Error::UnsupportedFormat) if a newer
    /// version wrote it, [`Error::Io`](crate::Error::Io).
    pub fn open(path: impl AsRef<Path>) -> Result<Store> {
        Options::new().open(path)
    }

    /// Returns a new store in memory, with the semantics of one on disk. Its events are gone when
    /// the last handle is dropped. To open such a store again, keep its
    /// [`MemFs`](crate::fs::MemFs).
    pub fn in_memory() -> Store {
        let options = Options::new().file_system(crate::fs::MemFs::new()).maintenance(false);
        options.open("memory").expect("memory has no errors")
    }

    /// Returns the highest position that has been assigned, or `None` if there is none. Its event
    /// can be read, unless it was deleted with its [edition](crate::edition::Editions) or is a
    /// system record. An event can be read once it is as durable as
    /// [`Durability`](crate::Durability) asks for.
    pub fn head(&self) -> Option<u64> {
        self.len().checked_sub(1)
    }

    /// Returns the number of positions that have been assigned, which is the next position: that of
    /// all events, including deleted ones and system records.
    pub fn len(&self) -> u64 {
        self.inner.log.watermark()
    }

    /// Does what the threads of the store do while time passes.
    #[cfg(annals_internals)]
    pub(crate) fn pass_time(&self) {
        if let Some(writer) = &self.inner.writer {
            writer.pass_time();
        }
    }

    /// Returns whether no position has been assigned yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Returns the size of the store. Events, deleted events and system records add up to
    /// [`Store::len`].
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if the length of a file cannot be determined.
    pub fn stats(&self) -> Result<Stats> {
        let segments = self.inner.log.segments();
        let segments = segments.iter().map(|segment| {
            let file_bytes = segment.file.size();
            Ok(SegmentStats {
                path: segment.path.clone(),
                first_position: segment.header.first_position,
                bytes: segment.readable(),
                file_bytes: file_bytes.map_err(|e| crate::Error::io("stat", &segment.path, e))?,
                index_bytes: self.inner.catalog.index.file_len(segment.header.number),
                index_memory: self.inner.catalog.index.weight(segment.header.number),
            })
        });
        let segments = segments.collect::<Result<_>>()?;
        let (held, streams) =
            self.ask(|store| Ok((store.inner.catalog.index.held_from(1)?, store.count_streams()?)))?;
        let PositionContents { events, deleted: deleted_events, system: system_records } = held;
        Ok(Stats { events, deleted_events, system_records, streams, segments })
    }

    /// Returns what opening the store has found and done.
    pub fn open_report(&self) -> &OpenReport {
        &self.inner.report
    }

    /// Returns the directory, by the path that it was opened with. The store stays in that
    /// directory even if the path leads to another one later.
    pub fn path(&self) -> &Path {
        self.inner.log.dir()
    }

    /// Writes everything that was accepted before the call, and makes it durable. Needed only with
    /// [`Durability::Interval`](crate::Durability::Interval) and
    /// [`Durability::Os`](crate::Durability::Os). Blocks for a sync.
    ///
    /// # Errors
    ///
    /// [`Error::DurabilityUnknown`](crate::Error::DurabilityUnknown) if the sync fails.
    pub fn sync(&self) -> Result<()> {
        match &self.inner.writer {
            Some(writer) => writer.sync(),
            None => self.inner.log.held().check_process(),
        }
    }

    /// Writes everything that has been accepted, makes it durable, flushes
    /// [positions](Store::positions) and [checkpoints](Store::checkpoints), marks the store as
    /// closed cleanly, and releases the lock. Blocks for up to three syncs, and as many again if
    /// there are unflushed positions.
    ///
    /// Waits for work of other handles on files of the store: a snapshot or a projection state that
    /// is being saved, the index of a full segment. After it has returned, this store no longer
    /// changes the directory, whichever thread is still running, so that the next owner has it
    /// alone.
    ///
    /// Other handles can still read; their appends return [`Error::Closed`](crate::Error::Closed).
    /// Dropping the last handle closes the store as well, but cannot report errors.
    ///
    /// # Errors
    ///
    /// [`Error::DurabilityUnknown`](crate::Error::DurabilityUnknown),
    /// [`Error::Io`](crate::Error::Io), [`Error::LockLost`](crate::Error::LockLost). The lock is
    /// released in any case, except in a forked process, which gets
    /// [`Error::Forked`](crate::Error::Forked). [`Error::Invalid`](crate::Error::Invalid) in a
    /// waker that this store calls, which cannot wait for its own caller: another thread closes the
    /// store a moment later. In a waker of another store, `close` works as anywhere.
    pub fn close(self) -> Result<()> {
        match self.inner.is_waking() {
            false => self.inner.close(),
            true => {
                self.inner.close_aside();
                Err(crate::Error::invalid("close", "a waker cannot wait for the end of the store that calls it"))
            }
        }
    }

    /// Returns whether the store can be written to.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.inner.writer()?.check_writable()
    }

    /// Returns whether the handle was copied by a fork: the threads that work for it are in the
    /// other process.
    pub(crate) fn is_forked(&self) -> bool {
        self.inner.log.held().check_process().is_err()
    }

    /// Returns the callers that wait for events.
    pub(crate) fn waiters(&self) -> &Arc<Waiters> {
        &self.inner.catalog.waiters
    }
}

impl Inner {
    /// Returns the writer.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`](crate::Error::ReadOnly).
    fn writer(&self) -> Result<&Arc<LogWriter>> {
        self.writer.as_ref().ok_or(crate::Error::ReadOnly)
    }

    /// Returns the current time of the clock that events are recorded with.
    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Makes all events durable that can be read. Does nothing in a read-only store, where all of
    /// them are.
    fn sync_visible(&self) -> Result<()> {
        self.writer.as_ref().map_or(Ok(()), |writer| writer.sync_visible())
    }

    /// Returns whether the calling thread is in a waker that this store calls.
    fn is_waking(&self) -> bool {
        self.log.caller().is_waking()
    }

    fn close(&self) -> Result<()> {
        self.closing()()
    }

    /// Closes the store in another thread. If none can be started, the store is left as after a
    /// kill.
    fn close_aside(&self) {
        let closing = self.closing();
        let spawned = std::thread::Builder::new().name("annals-close".into()).spawn(move || drop(closing()));
        drop(spawned);
    }

    /// Projections and positions are saved before the lock is released, and after the events that
    /// they depend on: neither may outlive its event. If one fails, the other is still saved.
    fn closing(&self) -> impl FnOnce() -> Result<()> + Send + 'static {
        let (hooks, positions) = (self.hooks.clone(), self.positions.clone());
        let (log, writer, catalog) = (self.log.clone(), self.writer.clone(), self.catalog.clone());
        move || {
            log.held().check_process()?;
            hooks.closing();
            let flushed = positions.close();
            let closed = match &writer {
                Some(writer) => writer.close(),
                None => log.held().release(),
            };
            catalog.waiters.close(log.caller());
            closed.and(flushed)
        }
    }
}

impl Drop for Inner {
    /// The last handle closes the store in its own thread: when the drop returns, the lock is
    /// released, whatever the maintenance thread is doing. A waker, however, runs in a thread that
    /// works for the store, perhaps the maintenance thread itself, which cannot wait for its own
    /// end: then another thread closes the store.
    fn drop(&mut self) {
        if self.is_waking() {
            self.close_aside();
        } else {
            // Callers that need errors call `close`; a drop has no caller to return them to.
            let _ = self.close();
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.path()).field("events", &self.len()).finish_non_exhaustive()
    }
}
