//! What the store knows of its streams: those that can be read, and those that commits on their way will make.

use crate::error::Result;
use crate::expected::Expected;
use crate::format::frame::Chain;
use crate::format::index_file::Waypoint;
use crate::format::segment_header::SegmentHeader;
use crate::index::Index;
use crate::index::term::Term;
use crate::log::{Listener, Settled};
use crate::segment::scan::Each;
use crate::stream::StreamId;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

pub(super) struct View {
    pub index: Index,
    /// Streams with commits that have been accepted and not yet published. Locked under the commit lock, and when a group is published.
    pending: Mutex<HashMap<Arc<[u8]>, Pending>>,
    /// Idempotency keys of such commits, and the positions behind them.
    pending_keys: Mutex<HashMap<Term, u64>>,
}

#[derive(Clone, Copy)]
struct Pending {
    next_sequence: u64,
    /// The position behind the commit.
    end_position: u64,
}

/// One append of a commit.
pub(super) struct Part {
    pub stream: StreamId,
    pub expected: Expected,
    /// Number of events.
    pub events: usize,
}

/// Why a commit is not accepted.
pub(super) enum Refused {
    /// The expectation of a part does not hold: its number, and the next sequence of its stream.
    Conflict {
        part: usize,
        next: u64,
    },
    Failed(crate::Error),
}

impl View {
    pub(super) fn new(index: Index) -> Self {
        View { index, pending: Mutex::default(), pending_keys: Mutex::default() }
    }

    /// Whether a commit with one of these idempotency keys is on its way.
    pub(super) fn is_key_pending(&self, keys: &[Term]) -> bool {
        !keys.is_empty() && {
            let pending = self.pending_keys.lock();
            keys.iter().any(|key| pending.contains_key(key))
        }
    }

    /// A commit with these idempotency keys has been accepted.
    pub(super) fn accept_keys(&self, keys: &[Term], end_position: u64) {
        if !keys.is_empty() {
            self.pending_keys.lock().extend(keys.iter().map(|key| (key.clone(), end_position)));
        }
    }

    /// Checks the parts of a commit against all that was accepted before, and gives the first sequence of each. Runs under the commit lock. The commit
    /// counts as accepted if all parts are as expected.
    pub(super) fn accept(&self, parts: &[Part], first_position: u64) -> Result<Vec<u64>, Refused> {
        let mut pending = self.pending.lock();
        let mut firsts = Vec::with_capacity(parts.len());
        let mut ends: HashMap<&[u8], u64> = HashMap::new();
        for (n, part) in parts.iter().enumerate() {
            let key = part.stream.key();
            // A part sees what the parts before it have added, and those what is on its way.
            let next = match (ends.get(key), pending.get(key)) {
                (Some(&next), _) => next,
                (None, Some(pending)) => pending.next_sequence,
                (None, None) => self.index.next_sequence(key).map_err(Refused::Failed)?,
            };
            if !part.expected.allows(next) {
                return Err(Refused::Conflict { part: n, next });
            }
            firsts.push(next);
            if parts.len() > 1 {
                ends.insert(key, next + part.events as u64);
            }
        }
        let events: usize = parts.iter().map(|part| part.events).sum();
        let end_position = first_position + events as u64;
        for (part, first) in parts.iter().zip(&firsts).filter(|(part, _)| part.events > 0) {
            let next_sequence = first + part.events as u64;
            pending.insert(part.stream.shared_key(), Pending { next_sequence, end_position });
        }
        Ok(firsts)
    }
}

impl Listener for View {
    fn publish(&self, events: &mut dyn FnMut(Each<'_>), raise: &dyn Fn()) -> Option<u64> {
        let mut upto = 0;
        let wrong = self.index.add(
            &mut |each| {
                events(&mut |segment, event| {
                    each(segment, event);
                    upto = event.position + 1;
                });
            },
            raise,
        );
        self.pending.lock().retain(|_, pending| pending.end_position > upto);
        self.pending_keys.lock().retain(|_, end_position| *end_position > upto);
        wrong
    }

    fn rolled_back(&self) {
        self.pending.lock().clear();
        self.pending_keys.lock().clear();
    }

    fn waypoint(&self, segment: u64, ordinal: u64) -> Result<Option<Waypoint>> {
        let (last, _) = self.index.waypoints(segment, |waypoint| u64::from(waypoint.ordinal) <= ordinal)?;
        Ok(last)
    }

    fn resume(&self, segment: &SegmentHeader) -> Option<(u64, Chain)> {
        self.index.resume(segment)
    }

    fn forget(&self, segment: u64) {
        self.index.forget(segment);
    }

    fn settled(&self, segment: u64) -> u64 {
        self.index.settled(segment)
    }

    fn settle(&self, settled: &Settled) -> Result<()> {
        self.index.settle(&settled.segment, settled.end, settled.chain)
    }
}
