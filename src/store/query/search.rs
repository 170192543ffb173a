//! Searches: the index returns candidates, segment by segment, and each is checked against the
//! query again.

use super::Query;
use super::candidates::Candidates;
use super::visibility::Visible;
use crate::error::{Error, Result};
use crate::format::event::Event;
use crate::position::after;
use crate::store::read::gaps::Untold;
use crate::store::read::{Cursor, Events, Filter, Parts, QueryFilter, Resume};
use crate::store::{Inner, Store};
use crate::time::Timestamp;
use std::fmt;
use std::sync::Arc;

/// A point in history: a position or a time, included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AsOf {
    /// The event at this position, and all before it.
    Position(u64),
    /// All events that were recorded at this time or before.
    Time(Timestamp),
}

impl From<u64> for AsOf {
    fn from(position: u64) -> Self {
        AsOf::Position(position)
    }
}

impl From<Timestamp> for AsOf {
    fn from(time: Timestamp) -> Self {
        AsOf::Time(time)
    }
}

impl From<std::time::SystemTime> for AsOf {
    fn from(time: std::time::SystemTime) -> Self {
        AsOf::Time(time.into())
    }
}

impl Store {
    /// Finds the events of a query, in order of positions. Nothing is read before the iteration
    /// begins; [`Search`] can restrict it.
    ///
    /// The cost grows with the number of events that have the rarest of the requested terms, plus a
    /// lookup of some hundred nanoseconds per segment.
    pub fn query(&self, query: &Query) -> Search {
        Search {
            store: self.inner.clone(),
            query: query.clone(),
            after: None,
            until: None,
            before: None,
            as_of: None,
            limit: u64::MAX,
            backwards: false,
            any_edition: false,
            names_gaps: true,
        }
    }
}

/// A query that has not begun. Iterate over it: it is `IntoIterator<Item = Result<Event>>`.
#[must_use = "nothing is read before it is iterated over"]
#[derive(Clone)]
pub struct Search {
    store: Arc<Inner>,
    query: Query,
    after: Option<u64>,
    until: Option<u64>,
    /// Only events below this position: for a search that continues backwards.
    before: Option<u64>,
    as_of: Option<AsOf>,
    limit: u64,
    backwards: bool,
    /// The events of all editions, each once.
    any_edition: bool,
    /// In a store that is read around damage, gaps are items of the search.
    names_gaps: bool,
}

impl Search {
    /// Finds the events of all editions that were not deleted, each once, whatever edition the
    /// query names.
    pub(crate) fn in_any_edition(mut self) -> Self {
        self.any_edition = true;
        self
    }

    /// Skips known gaps; damage that is found is an error, for a caller that goes around damage as
    /// a whole.
    pub(crate) fn over_gaps(mut self) -> Self {
        self.names_gaps = false;
        self
    }

    /// Only events after this position, usually that of the last event seen. `None` is no
    /// restriction.
    pub fn after(mut self, position: impl Into<Option<u64>>) -> Self {
        self.after = position.into();
        self
    }

    /// Only events up to this position, included.
    pub fn until(mut self, position: u64) -> Self {
        self.until = Some(position);
        self
    }

    /// Only what had been recorded up to a position or a time, included; in a named edition, what
    /// it showed then. ([`Search::until`] returns what it shows now, up to a position.)
    pub fn as_of(mut self, point: impl Into<AsOf>) -> Self {
        self.as_of = Some(point.into());
        self
    }

    /// At most this many events.
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }

    /// The newest events first.
    pub fn backwards(mut self) -> Self {
        self.backwards = true;
        self
    }

    /// Returns all of the events, and the position up to which the answer is complete: the highest
    /// visible one when the search began, that of the last event if the limit cut the answer short
    /// (not backwards), or the bound of [`Search::until`] or [`Search::as_of`]. `None` if the store
    /// has no events. [`Guard::unchanged`](crate::Guard::unchanged) takes this position.
    ///
    /// In a store that is [read around damage](crate::Options::open_read_only), the events are the
    /// intact ones, and the answer is complete up to the position before the first gap: events may
    /// have later positions. [`Store::losses`] lists the gaps, and the iterator reports each.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] unless the store is read around damage, [`Error::Io`].
    pub fn collect_with_head(self) -> Result<(Vec<Event>, Option<u64>)> {
        let (limit, backwards) = (self.limit, self.backwards);
        let mut found = self.into_iter();
        found.begun()?;
        let mut events = Vec::new();
        let mut gap = if limit == 0 { found.first_gap() } else { u64::MAX };
        while let Some(item) = found.next() {
            match item {
                Ok(event) => events.push(event),
                Err(Error::Damaged(damage)) if found.goes_on() => gap = gap.min(damage.positions.start),
                Err(error) => return Err(error),
            }
        }
        // Damage found in the meantime may have led to another view of the store: its end is read
        // after the last event.
        let mut head = found.head();
        if limit > 0 && events.len() as u64 == limit && !backwards {
            head = events.last().map(Event::position);
        }
        let complete = match head {
            Some(head) if head >= gap => gap.checked_sub(1),
            head => head,
        };
        Ok((events, complete))
    }

    fn begin(&self) -> Result<(Cursor, Visible, u64)> {
        let store = &self.store;
        self.query.check()?;
        let mut visible = Visible::now(store, &self.query);
        let mut end = visible.watermark();
        if let Some(point) = self.as_of {
            end = store.position_after(point, end)?;
            visible.before(end);
        }
        // When a search continues, its streams diverge as they did when it began.
        end = end.min(self.before.unwrap_or(u64::MAX));
        for bound in [self.until.map(AsOf::Position), self.query.recorded().1.map(AsOf::Time)].into_iter().flatten() {
            end = end.min(store.position_after(bound, end)?);
        }
        let mut start = after(self.after);
        if let Some(since) = self.query.recorded().0 {
            let before = since.as_nanos().checked_sub(1).map(Timestamp::from_nanos);
            let before = before.map_or(Ok(0), |time| store.position_after(AsOf::Time(time), end))?;
            start = start.max(before);
        }
        let positions = start..end;
        let groups = match self.any_edition {
            true => self.query.groups_in(store.catalog.index.editions()?.iter().map(String::as_str)),
            false => self.query.groups(),
        };
        let cursor = match (groups, self.backwards) {
            _ if positions.is_empty() => Cursor::Nothing,
            (Some(groups), backwards) => Cursor::Index(Box::new(Candidates::new(store, groups, positions, backwards))),
            (None, false) => Cursor::Forwards(Box::new(store.log.forwards(positions))),
            (None, true) => Cursor::Backwards(Box::new(store.log.backwards(positions))),
        };
        Ok((cursor, visible, end))
    }
}

impl Inner {
    /// Returns the position after the last event at or before a point; at most `end`.
    pub(crate) fn position_after(self: &Arc<Self>, point: AsOf, end: u64) -> Result<u64> {
        let time = match point {
            AsOf::Position(position) => return Ok(after(position).min(end)),
            AsOf::Time(time) => time,
        };
        if end == 0 {
            return Ok(0);
        }
        // Recorded time never decreases: find the segment, then the waypoint, then the event.
        let (segment, first) = self.log.segment_at_time(time.as_nanos());
        let (last, _) = self.catalog.index.waypoints(segment, |waypoint| waypoint.recorded_at <= time.as_nanos())?;
        let start = first + last.map_or(0, |waypoint| u64::from(waypoint.ordinal));
        let mut events = self.log.forwards(start.min(end)..end);
        let mut after = start.min(end);
        while let Some(event) = events.next()? {
            if event.recorded_at() > time {
                break;
            }
            after = event.position() + 1;
        }
        Ok(after)
    }
}

impl IntoIterator for Search {
    type Item = Result<Event>;
    type IntoIter = Events;

    /// Begins the search. It returns what is visible now, and nothing that is committed later.
    fn into_iter(self) -> Events {
        let mut search = self;
        search.store = search.store.seen_around();
        search.events()
    }
}

impl Search {
    /// Begins the rest of a search, in a view of the store around damage.
    pub(crate) fn resume_in(self, store: Arc<Inner>, limit: u64) -> Events {
        Search { store, limit, ..self }.events()
    }

    /// Removes what has been returned from the rest of the search.
    pub(crate) fn passed(&mut self, event: &Event) {
        match self.backwards {
            false => self.after = Some(event.position()),
            true => self.before = Some(event.position()),
        }
    }

    fn events(self) -> Events {
        let resumes = self.names_gaps && self.store.around.is_possible();
        let resume = resumes.then(|| Box::new(Resume::Search(self.clone())));
        let (cursor, visible, end) = match self.begin() {
            Ok((cursor, visible, end)) => (cursor, Some(visible), end),
            Err(error) => (Cursor::Failed(Some(error)), None, 0),
        };
        let gaps = &self.store.gaps;
        let positions = after(self.after)..end;
        let mut gaps =
            (!gaps.is_empty() && self.names_gaps).then(|| Untold::of_positions(gaps, positions, self.backwards));
        if let Some(gaps) = &mut gaps {
            gaps.all = self.query.named_edition().is_some() && self.limit > 0;
        }
        let everything = !self.any_edition && self.query == Query::default();
        let filter = QueryFilter { query: self.query, any_edition: self.any_edition, everything, visible };
        let (store, limit, filter) = (self.store, self.limit, Filter::Query(Box::new(filter)));
        Events::new(Parts { store, cursor, filter, gaps, resume, limit, end })
    }
}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search").field("query", &self.query).field("limit", &self.limit).finish_non_exhaustive()
    }
}
