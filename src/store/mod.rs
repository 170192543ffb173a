//! The store: what an application sees. Owns what streams mean.

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
/// Handles are cheap to clone and can be used from any thread; the store is closed when the last
/// one is dropped (iterators count, tickets do not), or by [`Store::close`]. If the last one is
/// dropped by a waker of an async runtime that this store calls, a thread of its own closes it, a
/// moment later. One process at a time can have it open for writing: what the lock
/// protects from, and what not, stands in the README. In a process that was forked from that one, a
/// handle can only read, and dropping it does nothing.
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
    /// Bytes of the disk that stay free.
    reserve: u64,
    catalog: Arc<Catalog>,
    snapshots: snapshot::Cache,
    positions: Arc<Register>,
    hooks: Arc<notify::hooks::Hooks>,
    report: OpenReport,
    /// The consumers that run.
    consuming: Mutex<BTreeSet<String>>,
    /// Held while an edition is deleted.
    deleting: Mutex<()>,
    /// What is damaged, if the store is read around damage.
    gaps: read::gaps::Gaps,
    /// How to read around damage that shows later, in a store that was opened read-only.
    around: read::around_damage::AroundDamage,
}

/// How large a store is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Number of events that a reader of the whole store sees, in all editions.
    pub events: u64,
    /// Number of events that were deleted with their [edition](crate::edition::Editions). They keep
    /// their positions and their room in the log, and no reader sees them.
    pub deleted_events: u64,
    /// Number of system records, which have a position each: deletions of editions, what commits
    /// without events [track](Transaction::tracking), and positions whose events are lost.
    pub system_records: u64,
    /// Number of streams that have events.
    pub streams: u64,
    /// The segments, oldest first.
    pub segments: Vec<SegmentStats>,
}

/// How large a segment is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentStats {
    /// Its file.
    pub path: PathBuf,
    /// The position of its first event.
    pub first_position: u64,
    /// Bytes up to the end of the last commit.
    pub bytes: u64,
    /// Bytes of the file: more, where zeros have been written ahead.
    pub file_bytes: u64,
    /// Bytes of its index file; 0 as long as its index is in memory.
    pub index_bytes: u64,
    /// Bytes of memory that its index takes, or what of it came after its file; 0 if all of it is
    /// in the file.
    pub index_memory: u64,
}

impl Store {
    /// Opens the store in a directory, and creates both if they are missing. For anything else
    /// there is [`Options`].
    ///
    /// Blocks while the log is read. What a crash has left is put in order, as
    /// [`Store::open_report`] tells.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`](crate::Error::Locked) if it is open elsewhere,
    /// [`Error::ForeignFile`](crate::Error::ForeignFile) if a file of something else would be
    /// overwritten, [`Error::Damaged`](crate::Error::Damaged) if acknowledged events have changed
    /// or are gone, [`Error::UnsupportedFormat`](crate::Error::UnsupportedFormat) if a newer
    /// version wrote it, [`Error::Io`](crate::Error::Io).
    pub fn open(path: impl AsRef<Path>) -> Result<Store> {
        Options::new().open(path)
    }

    /// A new store in memory, with the semantics of one on disk; it is gone when the last handle is
    /// dropped. To open one again, keep its [`MemFs`](crate::fs::MemFs).
    pub fn in_memory() -> Store {
        let options = Options::new().file_system(crate::fs::MemFs::new()).maintenance(false);
        options.open("memory").expect("memory has no errors")
    }

    /// The highest position that was given, or `None` if there is none: of an event that can be
    /// read, unless it was deleted with its [edition](crate::edition::Editions) or belongs to a
    /// system record, such as that of a deletion. An event can be read when it is as durable as
    /// [`Durability`](crate::Durability) asks for.
    pub fn head(&self) -> Option<u64> {
        self.len().checked_sub(1)
    }

    /// The number of positions that were given, and the next one, as they are 0, 1, 2 …: the number
    /// of events, with those that were deleted with their edition and the few system records.
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

    /// Whether no position was given yet.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How large the store is. Events, deleted events and system records together are what
    /// [`Store::len`] counts.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if the length of a file cannot be had.
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

    /// What opening found and did.
    pub fn open_report(&self) -> &OpenReport {
        &self.inner.report
    }

    /// The directory, by the path that it was opened by. The store stays with that directory when
    /// another one gets the path.
    pub fn path(&self) -> &Path {
        self.inner.log.dir()
    }

    /// Writes all that was accepted before the call, and makes it durable. Needed only with
    /// [`Durability::Interval`](crate::Durability::Interval) and
    /// [`Durability::Os`](crate::Durability::Os); blocks for a sync.
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

    /// Writes what has been accepted, makes it durable, flushes [positions](Store::positions) and
    /// [checkpoints](Store::checkpoints), marks the store as closed cleanly, and gives up the lock.
    /// Blocks for up to three syncs, and as many for positions, if there are new ones.
    ///
    /// Waits for what other handles do to files of the store meanwhile: a snapshot or a state of a
    /// projection that is saved, the index of a full segment. When it returns, nothing of this
    /// store reaches the directory any more, whichever thread is still at work, so that the next
    /// owner has it alone.
    ///
    /// Other handles stay good for reading; their appends get
    /// [`Error::Closed`](crate::Error::Closed). Dropping the last handle closes too, but cannot
    /// tell of errors.
    ///
    /// # Errors
    ///
    /// [`Error::DurabilityUnknown`](crate::Error::DurabilityUnknown),
    /// [`Error::Io`](crate::Error::Io), [`Error::LockLost`](crate::Error::LockLost). The lock is
    /// given up all the same; not in a forked process, which gets
    /// [`Error::Forked`](crate::Error::Forked). [`Error::Invalid`](crate::Error::Invalid) in a
    /// waker that this store calls, which cannot wait for what it is called by: the store is closed
    /// all the same, a moment later. In a waker of another store it closes as anywhere.
    pub fn close(self) -> Result<()> {
        match self.inner.is_waking() {
            false => self.inner.close(),
            true => {
                self.inner.close_aside();
                Err(crate::Error::invalid("close", "a waker cannot wait for the end of the store that calls it"))
            }
        }
    }

    /// Whether anything can be written.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.inner.writer()?.check_writable()
    }

    /// Whether a fork has brought the handle here: the threads that work for it are in the other
    /// process.
    pub(crate) fn is_forked(&self) -> bool {
        self.inner.log.held().check_process().is_err()
    }

    /// Those who wait for events.
    pub(crate) fn waiters(&self) -> &Arc<Waiters> {
        &self.inner.catalog.waiters
    }
}

impl Inner {
    /// What appends.
    ///
    /// # Errors
    ///
    /// [`Error::ReadOnly`](crate::Error::ReadOnly).
    fn writer(&self) -> Result<&Arc<LogWriter>> {
        self.writer.as_ref().ok_or(crate::Error::ReadOnly)
    }

    /// The time by the clock that events are recorded with.
    fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Makes all events durable that can be read. In a read-only store they are.
    fn sync_visible(&self) -> Result<()> {
        self.writer.as_ref().map_or(Ok(()), |writer| writer.sync_visible())
    }

    /// Whether this thread is in a waker that this store calls.
    fn is_waking(&self) -> bool {
        self.log.caller().is_waking()
    }

    fn close(&self) -> Result<()> {
        self.closing()()
    }

    /// Closes in another thread. If none can be started, the store is left as a process leaves it
    /// that is killed.
    fn close_aside(&self) {
        let closing = self.closing();
        let spawned = std::thread::Builder::new().name("annals-close".into()).spawn(move || drop(closing()));
        drop(spawned);
    }

    /// Projections and positions go before the lock of the store, and after the events that they
    /// are about: none must outlive its event. One that fails does not keep the other from being
    /// closed.
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
    /// The last handle closes, in its own thread: when it is gone, so is the lock, whatever the
    /// maintenance thread is at. But if it goes with a waker, that thread is at work for the store,
    /// may be the maintenance thread itself, and cannot wait for its own end: then another one
    /// closes.
    fn drop(&mut self) {
        if self.is_waking() {
            self.close_aside();
        } else {
            // Errors can be had from `close`; anyone who drops the last handle does not ask.
            let _ = self.close();
        }
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Store").field("path", &self.path()).field("events", &self.len()).finish_non_exhaustive()
    }
}
