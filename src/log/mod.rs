//! Many segments, one sequence: total order, group commit, watermark, recovery.
//!
//! The log knows frames and positions. What a stream is, the store knows: it decides on sequences
//! in a closure that runs under the commit lock, and it hears of each group, in order, once that is
//! as durable as was asked for.

mod commit;
mod head_file;
mod interval;
mod maintenance;
mod open;
pub(crate) mod owner;

mod read;
pub(crate) mod recovery;

mod spare;
mod ticket;
mod writer;

pub(crate) use commit::{InFlight, PendingCommits, Proposal};
pub(crate) use read::{Backwards, Forwards};
pub use recovery::report::{Cut, OpenReport};
pub(crate) use ticket::CommitTicket;

use crate::error::{Error, Result};
use crate::format::checksum::Mask;
use crate::format::draft::Limits;
use crate::format::frame::Chain;
use crate::format::index_file::Waypoint;
use crate::format::segment_header::SegmentHeader;
use crate::fs::owned::{Owned, WorkToken};
use crate::fs::{Fs, Lock};
use crate::process::Process;
use crate::segment::scan::Each;
use crate::segment::{START, Segment};
use crate::time::Timestamp;
use head_file::HeadFile;
use parking_lot::{Condvar, Mutex, RwLock};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use ticket::CommitSlot;
use writer::Writer;

/// When an append returns, and what it survives.
///
/// | | an append returns when its bytes are | survives a crash of the process | survives a power cut | cost |
/// |---|---|---|---|---|
/// | `Sync` | on the disk (`fdatasync`, shared by all who wait) | yes | yes | a disk flush a group |
/// | `Interval(d)` | with the operating system; synced every `d` | yes | all but the last `d` and one sync | a system call |
/// | `Os` | with the operating system, which syncs when it likes (often within 30 s) | yes | what it has synced | a system call |
///
/// In all three, a commit is whole or absent after any crash, and what survives is a prefix of what
/// was acknowledged. [`Store::sync`](crate::Store::sync) makes all of it durable at once; closing
/// does too.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// Acknowledged means durable. The default.
    #[default]
    Sync,
    /// Synced in the background at least this often while there is something to sync, by a thread
    /// that does nothing else. It runs in every store that is opened with it, also with
    /// [`maintenance(false)`](crate::Options::maintenance): the commits before an idle time have
    /// nobody else.
    Interval(Duration),
    /// Synced by the operating system, and when a segment is full or the store is closed.
    Os,
}

/// How the log is to behave.
#[derive(Clone)]
pub(crate) struct LogSettings {
    pub durability: Durability,
    pub segment_size: u64,
    pub limits: Limits,
    pub memory_map: bool,
    pub maintenance: bool,
    pub strict: bool,
    pub create: bool,
    pub read_only: bool,
    /// What is damaged was replaced by what was made of it, so segments need not say the digest of
    /// the one before. Read-only.
    pub mended: bool,
    pub reserve: u64,
    pub clock: Arc<dyn Fn() -> Timestamp + Send + Sync>,
}

/// Whether what a segment has up to here has this chain.
pub(crate) type Fits<'a> = dyn Fn(u64, &Chain) -> Result<bool> + 'a;

/// Who hears of commits, in order of positions, called by one thread at a time, and remembers of
/// the segments what makes reading and opening them quick.
pub(crate) trait Listener: Send + Sync + 'static {
    /// `events` calls back with the segment and each event. Then `raise` makes them visible: anyone
    /// who can learn of them from the listener must see them, so it is called before the listener
    /// lets anybody look. Returns the first position whose event is not the next one of its stream,
    /// if there is such.
    fn publish(&self, events: &mut dyn FnMut(Each<'_>), raise: &dyn Fn()) -> Option<u64>;
    /// Events have been published: wakes those who wait for them. Not called by `publish` itself,
    /// under which nobody may hold up the others.
    fn wake(&self);
    /// The commits that were accepted and not yet published have failed, all of them. Runs under
    /// the commit lock.
    fn rolled_back(&self);
    /// The last known record of a segment at or before this ordinal.
    fn waypoint(&self, segment: u64, ordinal: u64) -> Result<Option<Waypoint>>;
    /// How far the listener knows the events of a segment without being told, and the chain there,
    /// if that `fits` the segment. Else it will be told all of it.
    fn resume(&self, segment: &SegmentHeader, fits: &Fits<'_>) -> Result<Option<(u64, Chain)>>;
    /// How far the listener will know the segment on the next open; 0 if it will not.
    fn settled(&self, segment: u64) -> u64;
    /// Whether a segment is to be sealed because of what the listener keeps of it in memory. Called
    /// under the commit lock, for each commit.
    fn is_full(&self, segment: u64) -> bool;
    /// Nothing is written to the segment for now: its last event ends here.
    fn settle(&self, settled: &Settled) -> Result<()>;
}

/// A segment that nothing is written to.
#[derive(Clone, Copy)]
pub(crate) struct Settled {
    pub segment: SegmentHeader,
    /// Where the last frame with events ends.
    pub end: u64,
    pub chain: Chain,
}

/// Where the next frame goes.
#[derive(Clone)]
struct LogTail {
    header: SegmentHeader,
    mask: Mask,
    /// Whether the file of the segment is there.
    created: bool,
    offset: u64,
    chain: Chain,
}

impl LogTail {
    fn new(header: SegmentHeader, created: bool) -> Self {
        LogTail { mask: header.mask(), created, offset: START, chain: Chain::start(&header), header }
    }

    fn next_position(&self) -> u64 {
        self.chain.next_position
    }
}

/// Commits that are written together, all in one segment.
struct CommitGroup {
    segment: SegmentHeader,
    /// The file of the segment is to be created first.
    create: bool,
    /// The last frame is a seal: what it seals.
    seals: Option<Settled>,
    at: u64,
    bytes: Vec<u8>,
    slots: Vec<Arc<CommitSlot>>,
    /// The tail after the group.
    end: LogTail,
}

/// What the commit lock protects.
struct CommitState {
    /// After all accepted commits.
    tail: LogTail,
    /// After all written ones.
    written: LogTail,
    /// Accepted and not yet written, in order.
    groups: VecDeque<CommitGroup>,
    /// The group that is being written.
    in_flight: Option<Arc<CommitGroup>>,
    pending_bytes: usize,
    /// Those who sleep until their commit is written, oldest first; some may have been told
    /// already.
    waiters: VecDeque<Arc<CommitSlot>>,
    /// The first failure of a commit whose ticket was dropped.
    untold: Option<Error>,
    /// How many groups have failed, and the last error.
    failures: (u64, Option<Error>),
    /// How often accepted commits have been given up. What was decided on them before counts no
    /// more.
    rollbacks: u64,
    /// A thread is writing a group.
    leading: bool,
    /// Why no more commits are accepted.
    refused: Option<Error>,
}

pub(crate) struct Log {
    dir: PathBuf,
    fs: Arc<dyn Fs>,
    /// The same files, as the owner of the lock has them.
    owner: Arc<Owned>,
    settings: LogSettings,
    listener: Arc<dyn Listener>,
    state: Mutex<CommitState>,
    /// Told when a group is done, for those who wait for room.
    progress: Condvar,
    writer: Mutex<Writer>,
    /// By number, from 1 on.
    segments: RwLock<Vec<Arc<Segment>>>,
    /// Positions below this one are visible.
    watermark: AtomicU64,
    /// Positions below this one are durable.
    durable: AtomicU64,
    head: Mutex<HeadFile>,
    maintenance: maintenance::MaintenanceSignal,
    syncing: interval::Syncing,
    /// The number of the next spare file.
    spares: AtomicU64,
    /// What closing has come to.
    closed: Mutex<Option<Result<()>>>,
    lock: Mutex<Option<Lock>>,
    /// Where the store was opened.
    process: Process,
}

impl Log {
    /// Sequentially consistent, for those who look once more before they sleep.
    pub(crate) fn watermark(&self) -> u64 {
        self.watermark.load(Ordering::SeqCst)
    }

    /// The time by the clock of the store.
    pub(crate) fn now(&self) -> Timestamp {
        (self.settings.clock)()
    }

    pub(crate) fn dir(&self) -> &PathBuf {
        &self.dir
    }

    pub(crate) fn fs(&self) -> &Arc<dyn Fs> {
        &self.fs
    }

    /// Bytes of the disk that stay free.
    pub(crate) fn reserve(&self) -> u64 {
        self.settings.reserve
    }

    pub(crate) fn limits(&self) -> Limits {
        self.settings.limits
    }

    pub(crate) fn segments(&self) -> Vec<Arc<Segment>> {
        self.segments.read().clone()
    }

    fn segment(&self, number: u64) -> Option<Arc<Segment>> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        self.segments.read().get(index).cloned()
    }

    /// Whether all that is visible is durable.
    pub(crate) fn is_durable(&self) -> bool {
        self.durable.load(Ordering::Acquire) >= self.watermark()
    }

    /// Makes everything durable that has been accepted.
    pub(crate) fn sync(&self) -> Result<()> {
        self.check_process()?;
        self.check_durability()?;
        let drained = self.drain();
        self.sync_written()?;
        drained
    }

    /// Makes all events durable that can be read.
    pub(crate) fn sync_visible(&self) -> Result<()> {
        self.make_durable(self.watermark())
    }

    /// Makes all events below this position durable, which are visible: with [`Durability::Sync`]
    /// they are.
    pub(crate) fn make_durable(&self, upto: u64) -> Result<()> {
        if self.durable.load(Ordering::Acquire) >= upto {
            return Ok(());
        }
        self.check_process()?;
        self.check_durability()?;
        // What is visible may be in the hands of a leader that has not said so yet.
        self.arrive();
        self.sync_written()?;
        self.check_durability()
    }

    /// Accepts nothing more, writes what has been accepted, makes it durable, marks the store as
    /// closed cleanly, and lets go of the lock. Reads go on.
    pub(crate) fn close(&self) -> Result<()> {
        // The thread to wait for is not here, and neither the lock nor the files are ours.
        self.check_process()?;
        let mut closed = self.closed.lock();
        if let Some(result) = &*closed {
            return result.clone();
        }
        self.maintenance.stop();
        self.syncing.stop();
        let result = if self.settings.read_only { Ok(()) } else { self.close_files() };
        self.state.lock().refused.get_or_insert(Error::Closed);
        // Whatever is still at work for this handle: the files are another's from now on.
        self.owner.end();
        *self.lock.lock() = None;
        closed.insert(result).clone()
    }

    fn close_files(&self) -> Result<()> {
        // If it is lost, that is what all below comes to.
        let (Ok(()) | Err(_)) = self.check_owner();
        self.state.lock().refused.get_or_insert(Error::Closed);
        let drained = self.drain();
        // What leaders do after their commits, and readers for their own: a spare file, an index.
        self.owner.end_work();
        self.check_durability()?;
        self.sync_written()?;
        if self.state.lock().written.created {
            self.writer.lock().trim();
        }
        self.settle_all();
        self.mark(true)?;
        drained
    }

    /// Whether files of the store may be written: it is not read-only, and still has its lock.
    pub(crate) fn check_writable(&self) -> Result<()> {
        match () {
            () if self.settings.read_only => Err(Error::ReadOnly),
            () if !self.process.is_this() => self.check_process(),
            () if self.lock.lock().is_none() => Err(Error::Closed),
            () => self.check_owner(),
        }
    }

    /// Begins work on the files of the store, beside the log: closing waits for it.
    ///
    /// # Errors
    ///
    /// As [`Log::check_writable`].
    pub(crate) fn work(&self) -> Result<WorkToken<'_>> {
        self.check_writable()?;
        self.owner.work()
    }

    /// Whether all syncs have gone well so far.
    fn check_durability(&self) -> Result<()> {
        match &self.state.lock().refused {
            Some(unknown @ (Error::DurabilityUnknown { .. } | Error::LockLost { .. })) => Err(unknown.clone()),
            _ => Ok(()),
        }
    }
}
