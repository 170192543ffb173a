//! What the store knows of its streams: those that can be read, and those that commits on their way will make.

use super::waiters::Waiters;
use crate::error::{Error, Result};
use crate::expected::Expected;
use crate::format::frame::Chain;
use crate::format::index_file::Waypoint;
use crate::format::segment_header::SegmentHeader;
use crate::index::Index;
use crate::index::deletions::covers;
use crate::index::memory::TermHash;
use crate::index::term::Term;
use crate::log::{Listener, Settled};
use crate::segment::scan::Each;
use crate::stream::{StreamId, main_key};
use parking_lot::Mutex;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

pub(super) struct View {
    pub index: Index,
    pub waiters: Arc<Waiters>,
    /// Streams with commits that have been accepted and not yet published. Locked under the commit lock, and when a group is published.
    pending: Mutex<HashMap<Arc<[u8]>, Pending, TermHash>>,
    /// Idempotency keys of such commits, and the positions behind them.
    pending_keys: Mutex<HashMap<Term, u64>>,
    /// What such commits say of editions and upstreams.
    pending_notes: Mutex<Vec<Note>>,
}

/// What a commit on its way says beside its events.
struct Note {
    what: Noted,
    /// The position behind the commit.
    end_position: u64,
}

/// What a commit says beside its events.
#[derive(Clone, Debug)]
pub(super) enum Noted {
    /// An edition is deleted, or a domain of it.
    Deletion { edition: String, domain: Option<String> },
    /// An upstream has been taken in so far.
    Tracking { upstream: String, position: u64 },
}

#[derive(Clone, Copy)]
struct Pending {
    next_sequence: u64,
    /// The first sequence of what is on its way, if the stream had no events before.
    begins_at: Option<u64>,
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
    Failed(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused::Failed(error)
    }
}

impl View {
    pub(super) fn new(index: Index) -> Self {
        let (pending, pending_keys, pending_notes) = Default::default();
        View { index, waiters: Arc::default(), pending, pending_keys, pending_notes }
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
        let mut begun: HashSet<&[u8]> = HashSet::new();
        for (n, part) in parts.iter().enumerate() {
            let key = part.stream.key();
            // A part sees what the parts before it have added, and those what is on its way.
            let next_of = |key: &[u8]| match (ends.get(key), pending.get(key)) {
                (Some(&next), _) => Ok(next),
                (None, Some(pending)) => Ok(pending.next_sequence),
                (None, None) if self.is_deletion_pending(key) => Ok(0),
                (None, None) => self.index.next_sequence(key),
            };
            let (next, main) = (next_of(key)?, main_key(key));
            let first = if next == 0 && main.len() < key.len() {
                begun.insert(key);
                let next = next_of(main)?;
                part.expected.diverges(next).ok_or(Refused::Conflict { part: n, next })?
            } else {
                part.expected.allows(next).then_some(next).ok_or(Refused::Conflict { part: n, next })?
            };
            let Some(end) = first.checked_add(part.events as u64) else {
                return Err(Error::invalid("append", "the stream has no more sequences").into());
            };
            firsts.push(first);
            if parts.len() > 1 && part.events > 0 {
                ends.insert(key, end);
            }
        }
        let events: usize = parts.iter().map(|part| part.events).sum();
        let end_position = first_position + events as u64;
        for (part, first) in parts.iter().zip(&firsts).filter(|(part, _)| part.events > 0) {
            let next_sequence = first + part.events as u64;
            let begins_at = match pending.get(part.stream.key()) {
                Some(before) => before.begins_at,
                None => begun.contains(part.stream.key()).then_some(*first),
            };
            pending.insert(part.stream.shared_key(), Pending { next_sequence, begins_at, end_position });
        }
        Ok(firsts)
    }

    /// Whether a commit may say this. Called under the commit lock.
    pub(super) fn check_note(&self, what: &Noted) -> Result<()> {
        let Noted::Tracking { upstream, position } = what else { return Ok(()) };
        match self.tracked(upstream)? {
            Some(tracked) if tracked >= *position => {
                Err(Error::AlreadyTracked { upstream: upstream.clone(), tracked, position: *position })
            }
            _ => Ok(()),
        }
    }

    /// A commit that says this has been accepted. Called under the commit lock.
    pub(super) fn accept_note(&self, what: Noted, end_position: u64) {
        if let Noted::Deletion { edition, domain } = &what {
            let covered = |key: &[u8]| covers(edition, domain.as_deref(), key);
            self.pending.lock().retain(|key, _| !covered(key));
            self.pending_keys.lock().retain(|term, _| !term.stream_of_key().is_some_and(covered));
        }
        self.pending_notes.lock().push(Note { what, end_position });
    }

    /// Whether a deletion in this edition is on its way.
    pub(super) fn is_edition_being_deleted(&self, name: &str) -> bool {
        let notes = self.pending_notes.lock();
        notes.iter().any(|note| matches!(&note.what, Noted::Deletion { edition, .. } if edition == name))
    }

    /// Whether a deletion on its way hits the stream with this key.
    fn is_deletion_pending(&self, key: &[u8]) -> bool {
        let notes = self.pending_notes.lock();
        notes.iter().any(|note| match &note.what {
            Noted::Deletion { edition, domain } => covers(edition, domain.as_deref(), key),
            Noted::Tracking { .. } => false,
        })
    }

    /// How far an upstream has been taken in, by commits on their way or visible.
    pub(super) fn tracked(&self, wanted: &str) -> Result<Option<u64>> {
        let notes = self.pending_notes.lock();
        let pending = notes.iter().rev().find_map(|note| match &note.what {
            Noted::Tracking { upstream, position } if upstream == wanted => Some(*position),
            _ => None,
        });
        pending.map_or_else(|| self.index.tracked(wanted), |position| Ok(Some(position)))
    }

    /// From which sequence on a stream of the main edition is shadowed in a named one, going by all that was accepted. `None` if it is not.
    pub(super) fn diverges_at(&self, stream: &StreamId) -> Result<Option<u64>> {
        let pending = self.pending.lock().get(stream.key()).map(|pending| pending.begins_at);
        if let Some(Some(sequence)) = pending {
            return Ok(Some(sequence));
        }
        if self.is_deletion_pending(stream.key()) {
            return Ok(None);
        }
        let own = self.index.own(stream.key())?.sequences;
        Ok((!own.is_empty()).then_some(own.start))
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
        // Deletions first: a stream that was begun anew behind one is known by its head.
        self.pending_notes.lock().retain(|note| note.end_position > upto);
        self.pending.lock().retain(|_, pending| pending.end_position > upto);
        self.pending_keys.lock().retain(|_, end_position| *end_position > upto);
        self.waiters.published(events);
        wrong
    }

    fn wake(&self) {
        self.waiters.wake();
    }

    fn rolled_back(&self) {
        self.pending.lock().clear();
        self.pending_keys.lock().clear();
        self.pending_notes.lock().clear();
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
