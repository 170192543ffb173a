//! Many segments, one sequence: total order, group commit, watermark, recovery.
//!
//! The log knows frames and positions; it does not know what a stream is. It has three parts:
//! [`LogReader`] reads the events below the watermark, [`LogWriter`] appends commits and makes them
//! visible, and [`HeldDirectory`] is the directory with its lock. A store that is opened read-only
//! has no writer.
//!
//! Two traits connect the log with the rooms above it: [`LogIndex`] knows segments without reading
//! them, [`CommitObserver`] is called with each group of commits.

mod active;
mod commit;
mod head_file;
mod interval;
mod maintenance;
mod open;
pub(crate) mod owner;
mod queue;

mod reader;
pub(crate) mod recovery;

mod spare;
mod ticket;
mod writer;

pub(crate) use commit::Proposal;
pub(crate) use open::OpenedLog;
pub(crate) use owner::HeldDirectory;
pub(crate) use queue::{InFlight, PendingCommits};
pub(crate) use reader::{Backwards, Forwards, LogReader};
pub use recovery::report::{Cut, OpenReport};
pub(crate) use ticket::CommitTicket;
pub(crate) use writer::LogWriter;

use crate::error::Result;
use crate::format::checksum::Mask;
use crate::format::commit::Each;
use crate::format::draft::Limits;
use crate::format::frame::Chain;
use crate::format::index_file::Waypoint;
use crate::format::segment_header::SegmentHeader;
use crate::segment::START;
use crate::segment::succession::SegmentExtent;
use crate::time::Timestamp;
use crate::waker::Caller;
use std::sync::Arc;
use std::time::Duration;

/// When an append returns, and what it survives.
///
/// | | an append returns when its bytes are | survives a crash of the process | survives a power cut | cost |
/// |---|---|---|---|---|
/// | `Sync` | on the disk (`fdatasync`, shared by all waiters) | yes | yes | a disk flush a group |
/// | `Interval(d)` | with the operating system; synced every `d` | yes | all but the last `d` and one sync | a system call |
/// | `Os` | with the operating system, which syncs at times of its own (often within 30 s) | yes | what it has synced | a system call |
///
/// In all three, a commit is complete or absent after any crash, and what survives is a prefix of
/// what was acknowledged. [`Store::sync`](crate::Store::sync) makes all of it durable at once, and
/// so does closing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Durability {
    /// Acknowledged means durable. The default.
    #[default]
    Sync,
    /// Synced in the background at least this often while there is something to sync, by a thread
    /// that does nothing else. It runs in every store that is opened with it, also with
    /// [`maintenance(false)`](crate::Options::maintenance): no other thread syncs the commits
    /// before an idle time.
    Interval(Duration),
    /// Synced by the operating system, and when a segment is full or the store is closed.
    Os,
}

/// The clock that events are recorded with.
pub(crate) type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// The settings of the log.
#[derive(Clone)]
pub(crate) struct LogSettings {
    pub durability: Durability,
    pub segment_size: u64,
    pub limits: Limits,
    pub memory_map: bool,
    pub maintenance: bool,
    /// No threads: a test does their work when it lets time pass.
    #[cfg(annals_internals)]
    pub by_hand: bool,
    pub strict: bool,
    pub create: bool,
    pub read_only: bool,
    /// Damaged segments were rebuilt in memory, so segments need not have the digest of the one
    /// before. Read-only.
    pub reconstructed: bool,
    pub reserve: u64,
    pub clock: Clock,
}

/// Returns whether a segment has this chain at this offset.
pub(crate) type Fits<'a> = dyn Fn(u64, &Chain) -> Result<bool> + 'a;

/// What is known of the segments of a log without reading them. Called by several threads at once.
pub(crate) trait LogIndex: Send + Sync + 'static {
    /// Adds events at the end of the log, in order: `events` calls back with the number of the
    /// segment and each event. Then `raise` makes them visible; it is called before any reader can
    /// find one of them in an index. Returns the first position whose event does not continue its
    /// stream, if there is one.
    fn add(&self, events: &mut dyn FnMut(Each<'_>), raise: &dyn Fn()) -> Option<u64>;
    /// Returns the last known record of a segment at or before this ordinal.
    fn waypoint(&self, segment: u64, ordinal: u64) -> Result<Option<Waypoint>>;
    /// Returns the end of the events of a segment that its index file covers, and the chain there,
    /// if that `fits` the segment. Otherwise all events of the segment will be
    /// [added](LogIndex::add).
    fn resume(&self, segment: &SegmentHeader, fits: &Fits<'_>) -> Result<Option<(u64, Chain)>>;
    /// Returns up to where the index file of a segment covers it; 0 if there is none.
    fn indexed_upto(&self, segment: u64) -> u64;
    /// Returns whether a segment must be sealed because its index takes too much memory. Called
    /// under the commit lock, for each commit.
    fn is_full(&self, segment: u64) -> bool;
    /// Writes the index file of a segment.
    fn write(&self, extent: &SegmentExtent) -> Result<()>;
}

/// Is called with commits, in order of positions, by one thread at a time.
pub(crate) trait CommitObserver: Send + Sync + 'static {
    /// Publishes a group of commits: as [`LogIndex::add`].
    fn publish(&self, events: &mut dyn FnMut(Each<'_>), raise: &dyn Fn()) -> Option<u64>;
    /// Wakes the threads and tasks that wait for published events, on behalf of the log. Not called
    /// under any lock.
    fn wake(&self, caller: Caller);
    /// All commits that were accepted and not yet published have failed. Called under the commit
    /// lock.
    fn rolled_back(&self);
}

/// Where the next frame goes.
#[derive(Clone)]
struct LogTail {
    header: SegmentHeader,
    mask: Mask,
    /// Whether the file of the segment exists.
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
