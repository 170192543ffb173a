//! Guards: a commit goes through only if nothing happened that it does not know of.

use crate::error::{Error, Result};
use crate::index::deletions::Deletions;
use crate::log::PendingCommits;
use crate::store::Store;
use crate::store::query::Query;
use std::sync::Arc;

/// A condition on the whole store that a commit is bound to: the *dynamic consistency boundary* of
/// a decision (dcb.events).
///
/// It is decided under the commit lock, against all commits that have been accepted before, also
/// those that are not visible yet: of two racing commits that exclude one another exactly one wins,
/// and the other gets [`Error::GuardFailed`].
///
/// The cost does not grow with the store for [`Guard::unchanged`]: only what came after the
/// position is looked at. [`Guard::absent`] asks the index of each segment once (some hundred
/// nanoseconds each), before the lock is taken; under the lock only what has come since is looked
/// at. In a named edition, each stream of the main one of which an event is met is looked up there
/// once, however many streams have diverged.
///
/// ```
/// use annals::{Error, Expected, Guard, NewEvent, Query, Store, StreamId};
/// let store = Store::in_memory();
/// let register = |user: &str| {
///     let taken = Query::new().event_type("Registered").tag("name:ann");
///     let stream = StreamId::new("user", user)?;
///     let event = NewEvent::new("Registered", "").tag("name:ann");
///     store.transaction().append(&stream, Expected::NoStream, [event]).guard(Guard::absent(taken)).commit()
/// };
/// assert!(register("1").is_ok());
/// assert!(matches!(register("2"), Err(Error::GuardFailed { position: 0, .. })));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    query: Query,
    after: Option<u64>,
    name: Option<String>,
}

impl Guard {
    /// Nothing after this position matches the query: what was read up to there is still all there
    /// is. The position is what [`Search::collect_with_head`](crate::Search::collect_with_head)
    /// gave with the events; `None` stands before the first event.
    ///
    /// A position that the store has not come to is [`Error::PositionAhead`]: it was read in
    /// another store, or in this one before a backup was put back over it, and the decision rests
    /// on events that are not there.
    pub fn unchanged(query: Query, after: impl Into<Option<u64>>) -> Self {
        Guard { query, after: after.into(), name: None }
    }

    /// Nothing ever matched the query.
    pub fn absent(query: Query) -> Self {
        Guard::unchanged(query, None)
    }

    /// Gives the guard a name, for the error.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Looks at what is visible. Returns the position up to which it has looked.
    pub(crate) fn check_visible(&self, number: usize, store: &Store, after: Option<u64>) -> Result<Option<u64>> {
        let search = store.query(&self.query).after(after.max(self.after)).limit(1).into_iter();
        let looked_at = search.head();
        match search.into_iter().next().transpose()? {
            Some(event) => Err(self.failed(number, event.position())),
            None => Ok(looked_at),
        }
    }

    /// Looks at what has been accepted and may not be visible; what stands up to `looked_at` has
    /// been seen. Beside an error stands the position after the event in flight that breaks the
    /// guard.
    pub(crate) fn check_pending(
        &self,
        number: usize,
        store: &Store,
        pending: &PendingCommits<'_>,
        looked_at: Option<u64>,
    ) -> Result<(), (Error, u64)> {
        let mut broken_by = None;
        pending.events(looked_at.map_or(0, |position| position + 1), |event| {
            let new = self.after.is_none_or(|after| event.position > after);
            if new && self.query.matches_recorded(event) {
                broken_by = match store.inner.shares(&self.query, event) {
                    Ok(true) => Some(Err((self.failed(number, event.position), event.position + 1))),
                    Ok(false) => None,
                    Err(error) => Some(Err((error, 0))),
                };
            }
            broken_by.is_none()
        });
        broken_by.unwrap_or(Ok(()))
    }

    fn called(&self, number: usize) -> String {
        self.name.clone().unwrap_or_else(|| format!("guard {number}"))
    }

    fn failed(&self, number: usize, position: u64) -> Error {
        Error::GuardFailed { guard: self.called(number), position }
    }
}

/// The guards of a commit, and how far each has been looked at outside the commit lock.
pub(crate) struct Guards {
    guards: Vec<(Guard, Option<u64>)>,
    /// The deletions that were known before. `None` if there are no guards.
    deletions: Option<Arc<Deletions>>,
}

impl Guards {
    /// Looks at all that is visible now, outside the commit lock.
    pub(crate) fn check(guards: &[Guard], store: &Store) -> Result<Self> {
        if guards.is_empty() {
            return Ok(Guards { guards: Vec::new(), deletions: None });
        }
        let deletions = Some(store.inner.catalog.index.deletions());
        let checked = guards.iter().enumerate().map(|(number, guard)| {
            let looked_at = guard.check_visible(number, store, None)?;
            Ok((guard.clone(), looked_at))
        });
        Ok(Guards { guards: checked.collect::<Result<_>>()?, deletions })
    }

    /// Whether an edition that is asked about is just being deleted: then events of the main one
    /// will be seen in it that are not seen now. Runs under the commit lock.
    pub(crate) fn meet_a_deletion(&self, store: &Store) -> bool {
        let mut editions = self.guards.iter().filter_map(|(guard, _)| guard.query.named_edition());
        editions.any(|edition| store.inner.catalog.is_edition_being_deleted(edition))
    }

    /// Refuses guards of positions that no commit has come to that was accepted before, the last of
    /// which ends at `end`. Runs under the commit lock.
    pub(crate) fn check_ahead(&self, end: u64) -> Result<()> {
        for (number, (guard, _)) in self.guards.iter().enumerate() {
            if let Some(position) = guard.after.filter(|&after| after >= end) {
                return Err(Error::PositionAhead { what: guard.called(number), position, end });
            }
        }
        Ok(())
    }

    /// Looks at what has come since, and at what is in flight. Runs under the commit lock. Beside
    /// an error stands the position after the event in flight that it rests on, 0 if that can be
    /// read.
    pub(crate) fn check_again(&self, store: &Store, pending: &PendingCommits<'_>) -> Result<(), (Error, u64)> {
        let Some(before) = &self.deletions else { return Ok(()) };
        let same = Arc::ptr_eq(&store.inner.catalog.index.deletions(), before);
        for (number, (guard, looked_at)) in self.guards.iter().enumerate() {
            // A deletion lets older events be seen again.
            let seen = looked_at.filter(|_| same || guard.query.named_edition().is_none());
            let looked_at = guard.check_visible(number, store, seen).map_err(|error| (error, 0))?;
            guard.check_pending(number, store, pending, looked_at)?;
        }
        Ok(())
    }
}
