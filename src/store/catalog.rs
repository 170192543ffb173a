//! The catalog: what the store knows of its streams, visible ones and those of commits in flight.

use super::notify::waiters::Waiters;
use crate::error::{Error, Result};
use crate::expected::Expected;
use crate::format::commit::Each;
use crate::format::frame::Chain;
use crate::format::index_file::Waypoint;
use crate::format::segment_header::SegmentHeader;
use crate::index::Index;
use crate::index::deletions::covers;
use crate::index::memory::TermHash;
use crate::index::term::Term;
use crate::log::{CommitObserver, Fits, LogIndex};
use crate::segment::succession::SegmentExtent;
use crate::stream::{StreamId, main_key};
use crate::waker::Caller;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;

pub(super) struct Catalog {
    pub index: Arc<Index>,
    pub waiters: Arc<Waiters>,
    /// Locked under the commit lock, and when a group is published.
    accepted: Mutex<Accepted>,
}

/// What is known of commits that have been accepted and not yet published.
#[derive(Default)]
struct Accepted {
    /// The streams that they write to.
    streams: HashMap<Arc<[u8]>, PendingHeads, TermHash>,
    /// Their idempotency keys, with the positions after them.
    keys: HashMap<Term, u64>,
    /// Their side effects.
    side_effects: Vec<PendingSideEffect>,
}

/// A side effect of a commit in flight.
struct PendingSideEffect {
    what: SideEffect,
    /// The position after the commit.
    end_position: u64,
}

/// What a commit does besides adding events.
#[derive(Clone, Debug)]
pub(super) enum SideEffect {
    /// Deletes an edition, or a domain of it.
    Deletion { edition: String, domain: Option<String> },
    /// Sets the tracked position of an upstream.
    Tracking { upstream: String, position: u64 },
}

#[derive(Clone, Copy)]
struct PendingHeads {
    next_sequence: u64,
    /// The first sequence in flight, if the stream had no events before.
    begins_at: Option<u64>,
    /// The position after the commit.
    end_position: u64,
}

/// One append of a commit.
pub(super) struct AppendPart {
    pub stream: StreamId,
    pub expected: Expected,
    /// Number of events.
    pub events: usize,
    /// Its next sequence when events had been [added](Index::added) this many times. `None` if it
    /// must be looked up.
    pub known: Option<NextSequence>,
}

/// The next sequence of a stream at some time.
#[derive(Clone, Copy)]
pub(super) struct NextSequence {
    pub added: u64,
    pub next: u64,
}

/// The beginning of a part of a commit.
#[derive(Clone, Copy, Default)]
pub(super) struct First {
    pub sequence: u64,
    /// The stream had no events before, in a named edition.
    begins: bool,
}

/// Why a commit is not accepted.
pub(super) enum Refused {
    /// The expectation of a part does not hold: the number of the part, the next sequence of its
    /// stream, and the position after the commits in flight that cause it, 0 if they are visible.
    Conflict {
        part: usize,
        next: u64,
        rests_on: u64,
    },
    Failed(Error),
}

impl From<Error> for Refused {
    fn from(error: Error) -> Self {
        Refused::Failed(error)
    }
}

impl Catalog {
    pub(super) fn new(index: Arc<Index>) -> Self {
        Catalog { index, waiters: Arc::default(), accepted: Mutex::default() }
    }

    /// Returns whether a commit with one of these idempotency keys is in flight.
    pub(super) fn is_key_pending(&self, keys: &[Term]) -> bool {
        let accepted = self.accepted.lock();
        keys.iter().any(|key| accepted.keys.contains_key(key))
    }

    /// Registers a commit with these idempotency keys as accepted.
    pub(super) fn accept_keys(&self, keys: &[Term], end_position: u64) {
        self.accepted.lock().keys.extend(keys.iter().map(|key| (key.clone(), end_position)));
    }

    /// Checks the parts of a commit against all commits accepted before, and returns the beginning
    /// of each part. Runs under the commit lock. If all parts are as expected, the commit counts as
    /// accepted.
    pub(super) fn accept(
        &self,
        parts: &[AppendPart],
        firsts: &mut [First],
        first_position: u64,
    ) -> Result<(), Refused> {
        let accepted = &mut *self.accepted.lock();
        // A part sees what the parts before it have added, and these see what is in flight.
        let mut ends: Option<HashMap<&[u8], u64>> = None;
        let mut end_position = first_position;
        for (n, (part, first)) in parts.iter().zip(&mut *firsts).enumerate() {
            let key = part.stream.key();
            let main = main_key(key);
            let is_main = main.len() == key.len();
            let next_of = |key: &[u8]| match (ends.as_ref().and_then(|ends| ends.get(key)), accepted.streams.get(key)) {
                // The commit's own additions depend on whatever is in flight.
                (Some(&next), _) => Ok((next, first_position)),
                (None, Some(pending)) => Ok((pending.next_sequence, pending.end_position)),
                (None, None) => match (accepted.deletion_of(key), part.known) {
                    (Some(end_position), _) => Ok((0, end_position)),
                    (None, Some(known)) if is_main && known.added == self.index.added() => Ok((known.next, 0)),
                    _ => self.index.next_sequence(key).map(|next| (next, 0)),
                },
            };
            let (next, mut rests_on) = next_of(key)?;
            let begins = next == 0 && !is_main;
            let (next, sequence) = if begins {
                let (next, of_main) = next_of(main)?;
                rests_on = rests_on.max(of_main);
                (next, part.expected.diverges(next))
            } else {
                (next, part.expected.allows(next).then_some(next))
            };
            let sequence = sequence.ok_or(Refused::Conflict { part: n, next, rests_on })?;
            let Some(end) = sequence.checked_add(part.events as u64) else {
                return Err(Error::invalid("append", "the stream has no more sequences").into());
            };
            *first = First { sequence, begins };
            end_position += part.events as u64;
            if parts.len() > 1 && part.events > 0 {
                ends.get_or_insert_default().insert(key, end);
            }
        }
        for (part, first) in parts.iter().zip(&*firsts).filter(|(part, _)| part.events > 0) {
            let next_sequence = first.sequence + part.events as u64;
            let pending = accepted.streams.entry(part.stream.shared_key());
            let begins_at = || first.begins.then_some(first.sequence);
            let pending =
                pending.or_insert_with(|| PendingHeads { next_sequence, begins_at: begins_at(), end_position });
            (pending.next_sequence, pending.end_position) = (next_sequence, end_position);
        }
        Ok(())
    }

    /// Returns an error if a commit may not have this side effect, with the position after the
    /// commit in flight that the error depends on, 0 if it is visible. Called under the commit
    /// lock.
    pub(super) fn check_side_effect(&self, what: &SideEffect) -> Result<(), (Error, u64)> {
        let SideEffect::Tracking { upstream, position } = what else { return Ok(()) };
        match self.tracked(upstream).map_err(|error| (error, 0))? {
            Some((tracked, rests_on)) if tracked >= *position => {
                let (upstream, position) = (upstream.clone(), *position);
                Err((Error::AlreadyTracked { upstream, tracked, position }, rests_on))
            }
            _ => Ok(()),
        }
    }

    /// Registers a side effect of an accepted commit. Called under the commit lock.
    pub(super) fn accept_side_effect(&self, what: SideEffect, end_position: u64) {
        let accepted = &mut *self.accepted.lock();
        if let SideEffect::Deletion { edition, domain } = &what {
            let covered = |key: &[u8]| covers(edition, domain.as_deref(), key);
            accepted.streams.retain(|key, _| !covered(key));
            accepted.keys.retain(|term, _| !term.stream_of_key().is_some_and(covered));
        }
        accepted.side_effects.push(PendingSideEffect { what, end_position });
    }

    /// Returns whether a deletion in this edition is in flight.
    pub(super) fn is_edition_being_deleted(&self, name: &str) -> bool {
        let side_effects = &self.accepted.lock().side_effects;
        side_effects
            .iter()
            .any(|side_effect| matches!(&side_effect.what, SideEffect::Deletion { edition, .. } if edition == name))
    }

    /// Returns the tracked position of an upstream, and the position after the commit in flight
    /// that sets it, 0 if it is visible.
    fn tracked(&self, wanted: &str) -> Result<Option<(u64, u64)>> {
        let accepted = self.accepted.lock();
        let pending = accepted.side_effects.iter().rev().find_map(|side_effect| match &side_effect.what {
            SideEffect::Tracking { upstream, position } if upstream == wanted => {
                Some((*position, side_effect.end_position))
            }
            _ => None,
        });
        match pending {
            Some(pending) => Ok(Some(pending)),
            None => Ok(self.index.tracked(wanted)?.map(|position| (position, 0))),
        }
    }

    /// Returns the sequence from which commits in flight shadow a stream of the main edition in a
    /// named one: `Some(None)` if they delete the shadowing events, `None` if they do not concern
    /// it.
    pub(super) fn pending_divergence(&self, stream: &StreamId) -> Option<Option<u64>> {
        let accepted = self.accepted.lock();
        match accepted.streams.get(stream.key()) {
            Some(PendingHeads { begins_at: Some(sequence), .. }) => Some(Some(*sequence)),
            _ => accepted.deletion_of(stream.key()).map(|_| None),
        }
    }
}

impl Accepted {
    /// Returns the position after the last deletion in flight that hits the stream with this key,
    /// if there is one.
    fn deletion_of(&self, key: &[u8]) -> Option<u64> {
        let hits = |side_effect: &&PendingSideEffect| match &side_effect.what {
            SideEffect::Deletion { edition, domain } => covers(edition, domain.as_deref(), key),
            SideEffect::Tracking { .. } => false,
        };
        self.side_effects.iter().rev().find(hits).map(|side_effect| side_effect.end_position)
    }

    /// Forgets what is known of commits that end at this position or before: they are published.
    fn forget(&mut self, upto: u64) {
        self.side_effects.retain(|side_effect| side_effect.end_position > upto);
        self.streams.retain(|_, pending| pending.end_position > upto);
        self.keys.retain(|_, end_position| *end_position > upto);
    }
}

impl CommitObserver for Catalog {
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
        self.accepted.lock().forget(upto);
        self.waiters.published(events);
        wrong
    }

    fn wake(&self, caller: Caller) {
        self.waiters.wake(caller);
    }

    fn rolled_back(&self) {
        *self.accepted.lock() = Accepted::default();
    }
}

impl LogIndex for Index {
    fn add(&self, events: &mut dyn FnMut(Each<'_>), raise: &dyn Fn()) -> Option<u64> {
        Index::add(self, events, raise)
    }

    fn waypoint(&self, segment: u64, ordinal: u64) -> Result<Option<Waypoint>> {
        let (last, _) = self.waypoints(segment, |waypoint| u64::from(waypoint.ordinal) <= ordinal)?;
        Ok(last)
    }

    fn resume(&self, segment: &SegmentHeader, fits: &Fits<'_>) -> Result<Option<(u64, Chain)>> {
        Index::resume(self, segment, fits)
    }

    fn indexed_upto(&self, segment: u64) -> u64 {
        self.indexed_upto(segment)
    }

    fn is_full(&self, segment: u64) -> bool {
        Index::is_full(self, segment)
    }

    fn write(&self, extent: &SegmentExtent) -> Result<()> {
        self.write_file(&extent.segment, extent.end, extent.chain)
    }
}
