//! The queue of commits that have been accepted and are not written yet: what the commit lock
//! protects.

use super::LogTail;
use super::ticket::CommitSlot;
use crate::error::Error;
use crate::format::commit::{Recorded, frames};
use crate::format::segment_header::SegmentHeader;
use crate::segment::succession::SegmentExtent;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;

/// Commits that are written together, all in one segment.
pub(super) struct CommitGroup {
    pub(super) segment: SegmentHeader,
    /// The file of the segment must be created first.
    pub(super) create: bool,
    /// The last frame is a seal: what it seals.
    pub(super) seals: Option<SegmentExtent>,
    pub(super) at: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) slots: Vec<Arc<CommitSlot>>,
    /// The tail after the group.
    pub(super) end: LogTail,
}

/// What the commit lock protects.
pub(super) struct CommitState {
    /// After all accepted commits.
    pub(super) tail: LogTail,
    /// After all written ones.
    pub(super) written: LogTail,
    /// Accepted and not yet written, in order.
    pub(super) groups: VecDeque<CommitGroup>,
    /// The group that is being written.
    pub(super) in_flight: Option<Arc<CommitGroup>>,
    pub(super) pending_bytes: usize,
    /// Threads that sleep until their commit is written, oldest first; some may have been notified
    /// already.
    pub(super) waiters: VecDeque<Arc<CommitSlot>>,
    /// The first failure of a commit whose ticket was dropped.
    pub(super) untold: Option<Error>,
    /// The number of groups that have failed, and the last error.
    pub(super) failures: (u64, Option<Error>),
    /// The number of times that accepted commits were given up. Decisions from before are void.
    pub(super) rollbacks: u64,
    /// A thread is writing a group.
    pub(super) leading: bool,
    /// Why no more commits are accepted.
    pub(super) refused: Option<Error>,
}

impl CommitState {
    /// Returns the state of a log that ends at `tail`.
    pub(super) fn new(tail: LogTail) -> Self {
        CommitState {
            written: tail.clone(),
            tail,
            groups: VecDeque::new(),
            in_flight: None,
            waiters: VecDeque::new(),
            untold: None,
            failures: (0, None),
            rollbacks: 0,
            pending_bytes: 0,
            leading: false,
            refused: None,
        }
    }

    /// Returns the commits that a decision made now depends on.
    pub(super) fn in_flight(&self) -> InFlight {
        InFlight { end: self.tail.next_position(), rollbacks: self.rollbacks }
    }
}

/// The commits in flight that a decision depends on: the position after the last of them, and the
/// number of times that accepted commits had been given up by then.
#[derive(Clone, Copy)]
pub(crate) struct InFlight {
    pub(super) end: u64,
    pub(super) rollbacks: u64,
}

impl InFlight {
    /// Returns those of them that end at this position or before; `None` for 0, when a decision
    /// depends on none.
    pub(crate) fn upto(self, end: u64) -> Option<InFlight> {
        (end > 0).then_some(InFlight { end, ..self })
    }
}

/// The commits that have been accepted before and may not be visible yet.
pub(crate) struct PendingCommits<'a>(pub(super) &'a CommitState);

impl PendingCommits<'_> {
    /// Calls `each` with each of their events from a position on, in order, until it returns
    /// `false`.
    pub(crate) fn events(&self, from: u64, mut each: impl FnMut(&Recorded<'_>) -> bool) {
        let mut on = true;
        for group in self.0.in_flight.as_deref().into_iter().chain(&self.0.groups) {
            if group.end.next_position() <= from {
                continue;
            }
            for frame in frames(&group.bytes, group.at, group.segment.mask()) {
                if frame.header.end_position() <= from {
                    continue;
                }
                if !on {
                    return;
                }
                let read = frame.records(Path::new(""), |event| on = on && each(&event));
                read.expect("a frame that was just encoded can be decoded");
            }
        }
    }
}
