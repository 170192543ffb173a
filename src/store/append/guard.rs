//! Guards: a commit succeeds only if nothing relevant has happened that its author has not seen.

use crate::error::{Error, Result};
use crate::index::deletions::Deletions;
use crate::log::PendingCommits;
use crate::store::Store;
use crate::store::query::Query;
use std::sync::Arc;

/// A condition on the whole store that a commit depends on: the *dynamic consistency boundary* of a
/// decision (dcb.events).
///
/// It is checked under the commit lock, against all commits that were accepted before, including
/// those that are not yet visible: of two racing commits that exclude each other, exactly one
/// succeeds, and the other returns [`Error::GuardFailed`].
///
/// The cost of [`Guard::unchanged`] does not grow with the store: only events after the position
/// are checked. [`Guard::absent`] asks the index of each segment once (some hundred nanoseconds
/// each) before the lock is taken; under the lock only later events are checked. In a named
/// edition, each stream of the main edition that has a candidate event is looked up there once,
/// however many streams have diverged.
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
    /// No event after this position matches the query. Use the position that
    /// [`Search::collect_with_head`](crate::Search::collect_with_head) returned with the events;
    /// with `None`, no event matches at all.
    ///
    /// A position after the end of the store is [`Error::PositionAhead`]: it was read in another
    /// store, or in this one before a backup was restored, and the decision depends on events that
    /// do not exist.
    pub fn unchanged(query: Query, after: impl Into<Option<u64>>) -> Self {
        Guard { query, after: after.into(), name: None }
    }

    /// No event matches the query.
    pub fn absent(query: Query) -> Self {
        Guard::unchanged(query, None)
    }

    /// Names the guard, for the error.
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Checks what is visible. Returns the position up to which it has checked.
    pub(crate) fn check_visible(&self, number: usize, store: &Store, after: Option<u64>) -> Result<Option<u64>> {
        let search = store.query(&self.query).after(after.max(self.after)).limit(1).into_iter();
        let looked_at = search.head();
        match search.into_iter().next().transpose()? {
            Some(event) => Err(self.failed(number, event.position())),
            None => Ok(looked_at),
        }
    }

    /// Checks what has been accepted and may not be visible yet, after `looked_at`. An error comes
    /// with the position after the event in flight that breaks the guard.
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

/// The guards of a commit, and up to where each has been checked outside the commit lock.
pub(crate) struct Guards {
    guards: Vec<(Guard, Option<u64>)>,
    /// The deletions that were known before; `None` if there are no guards.
    deletions: Option<Arc<Deletions>>,
}

impl Guards {
    /// Checks everything that is visible now, outside the commit lock.
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

    /// Returns whether an edition that a guard asks about is being deleted: then events of the main
    /// edition will become visible in it. Runs under the commit lock.
    pub(crate) fn meet_a_deletion(&self, store: &Store) -> bool {
        let mut editions = self.guards.iter().filter_map(|(guard, _)| guard.query.named_edition());
        editions.any(|edition| store.inner.catalog.is_edition_being_deleted(edition))
    }

    /// Refuses guards with positions after `end`, the end of the last commit that was accepted.
    /// Runs under the commit lock.
    pub(crate) fn check_ahead(&self, end: u64) -> Result<()> {
        for (number, (guard, _)) in self.guards.iter().enumerate() {
            if let Some(position) = guard.after.filter(|&after| after >= end) {
                return Err(Error::PositionAhead { what: guard.called(number), position, end });
            }
        }
        Ok(())
    }

    /// Checks what has been committed since, and what is in flight. Runs under the commit lock. An
    /// error comes with the position after the event in flight that it depends on, 0 if that event
    /// is visible.
    pub(crate) fn check_again(&self, store: &Store, pending: &PendingCommits<'_>) -> Result<(), (Error, u64)> {
        let Some(before) = &self.deletions else { return Ok(()) };
        let same = Arc::ptr_eq(&store.inner.catalog.index.deletions(), before);
        for (number, (guard, looked_at)) in self.guards.iter().enumerate() {
            // A deletion makes older events visible again.
            let seen = looked_at.filter(|_| same || guard.query.named_edition().is_none());
            let looked_at = guard.check_visible(number, store, seen).map_err(|error| (error, 0))?;
            guard.check_pending(number, store, pending, looked_at)?;
        }
        Ok(())
    }
}
