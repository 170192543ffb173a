//! Finding the events of a query: the index gives candidates, segment by segment, and each is held against the query once more.

use super::Query;
use super::candidates::Candidates;
use super::visibility::Visible;
use crate::error::{Error, Result};
use crate::format::event::Event;
use crate::log::{Backwards, Forwards};
use crate::store::read::gaps::Untold;
use crate::store::{Inner, Store};
use crate::time::Timestamp;
use std::fmt;
use std::iter::FusedIterator;
use std::sync::Arc;

/// A point in the history: a position, or a time. What was recorded up to and including then counts.
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
    /// Finds the events of a query, in order of positions. Nothing is read before the iteration begins; [`Search`] can restrict it.
    ///
    /// The cost of an answer grows with the number of events that have the rarest of the things asked for, and a lookup of some hundred nanoseconds for each segment.
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
    /// Only events before this position: a search that goes on backwards.
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
    /// Finds the events of all editions that were not deleted, each once, whatever the query says of editions.
    pub(crate) fn in_any_edition(mut self) -> Self {
        self.any_edition = true;
        self
    }

    /// Passes over gaps that are known; damage that shows is an error, for whoever asks to go around it as a whole.
    pub(crate) fn over_gaps(mut self) -> Self {
        self.names_gaps = false;
        self
    }

    /// Only events behind this position, which is usually that of the last event that was seen. `None` is no restriction.
    pub fn after(mut self, position: impl Into<Option<u64>>) -> Self {
        self.after = position.into();
        self
    }

    /// Only events up to this position, it included.
    pub fn until(mut self, position: u64) -> Self {
        self.until = Some(position);
        self
    }

    /// Only what had been recorded at a position or a time, it included; in a named edition, what it showed then (with [`Search::until`], what it shows now of that).
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

    /// All of them, and the position up to which the answer is complete: the highest that could be read when the search began, or that of the last event if
    /// the limit cut the answer short (not backwards), or the bound set by [`Search::until`] or [`Search::as_of`]. `None` if there were no events. This is what
    /// [`Guard::unchanged`](crate::Guard::unchanged) takes.
    ///
    /// In a store that is [read around damage](crate::Options::open_read_only), the events are those that are intact, and the answer is complete up to the position before the first gap: there may be events
    /// behind the head, then. [`Store::losses`] lists the gaps, and the iterator names each.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] unless the store is read around damage, [`Error::Io`].
    pub fn collect_with_head(self) -> Result<(Vec<Event>, Option<u64>)> {
        let (limit, backwards) = (self.limit, self.backwards);
        let mut found = self.into_iter();
        found.begun()?;
        let mut events = Vec::new();
        let mut gap = found.untold.as_ref().filter(|_| limit == 0).map_or(u64::MAX, Untold::first);
        while let Some(item) = found.next() {
            match item {
                Ok(event) => events.push(event),
                Err(Error::Damaged(damage)) if found.goes_on() => gap = gap.min(damage.positions.start),
                Err(error) => return Err(error),
            }
        }
        // Damage that has shown meanwhile may have led to another view of the store: its end is asked for behind the last event.
        let mut head = found.end();
        if limit > 0 && events.len() as u64 == limit && !backwards {
            head = events.last().map(Event::position);
        }
        let complete = match head {
            Some(head) if head >= gap => gap.checked_sub(1),
            head => head,
        };
        Ok((events, complete))
    }

    fn begin(&self) -> Result<(Walk, Visible, u64)> {
        let store = &self.store;
        self.query.check()?;
        let mut visible = Visible::now(store, &self.query);
        let mut end = visible.watermark();
        if let Some(point) = self.as_of {
            end = store.position_behind(point, end)?;
            visible.before(end);
        }
        // Where a search goes on, its streams have diverged as they had when it began.
        end = end.min(self.before.unwrap_or(u64::MAX));
        for bound in [self.until.map(AsOf::Position), self.query.recorded().1.map(AsOf::Time)].into_iter().flatten() {
            end = end.min(store.position_behind(bound, end)?);
        }
        let mut start = self.after.map_or(0, |after| after.saturating_add(1));
        if let Some(since) = self.query.recorded().0 {
            let before = since.as_nanos().checked_sub(1).map(Timestamp::from_nanos);
            let before = before.map_or(Ok(0), |time| store.position_behind(AsOf::Time(time), end))?;
            start = start.max(before);
        }
        let positions = start..end;
        let groups = match self.any_edition {
            true => self.query.groups_in(store.view.index.editions()?.iter().map(String::as_str)),
            false => self.query.groups(),
        };
        let walk = match (groups, self.backwards) {
            _ if positions.is_empty() => Walk::Nothing,
            (Some(groups), backwards) => Walk::Index(Box::new(Candidates::new(store, groups, positions, backwards))),
            (None, false) => Walk::Forwards(Box::new(store.log.forwards(positions))),
            (None, true) => Walk::Backwards(store.log.backwards(positions)),
        };
        Ok((walk, visible, end))
    }
}

impl Inner {
    /// The position behind the last event at or before a point; at most `end`.
    pub(crate) fn position_behind(self: &Arc<Self>, point: AsOf, end: u64) -> Result<u64> {
        let time = match point {
            AsOf::Position(position) => return Ok(position.saturating_add(1).min(end)),
            AsOf::Time(time) => time,
        };
        if end == 0 {
            return Ok(0);
        }
        // Recorded time never decreases: segment, waypoint, event.
        let (segment, first) = self.log.segment_at_time(time.as_nanos());
        let (last, _) = self.view.index.waypoints(segment, |waypoint| waypoint.recorded_at <= time.as_nanos())?;
        let start = first + last.map_or(0, |waypoint| u64::from(waypoint.ordinal));
        let mut events = self.log.forwards(start.min(end)..end);
        let mut behind = start.min(end);
        while let Some(event) = events.next()? {
            if event.recorded_at() > time {
                break;
            }
            behind = event.position() + 1;
        }
        Ok(behind)
    }
}

impl IntoIterator for Search {
    type Item = Result<Event>;
    type IntoIter = Found;

    /// Begins the search. It sees what is visible now, and nothing that comes later.
    fn into_iter(self) -> Found {
        let mut search = self;
        search.store = search.store.seen_around();
        search.found()
    }
}

impl Search {
    fn found(self) -> Found {
        let again = (self.names_gaps && self.store.around.is_possible()).then(|| Box::new(self.clone()));
        let (walk, visible, end) = match self.begin() {
            Ok((walk, visible, end)) => (walk, Some(visible), end),
            Err(error) => (Walk::Failed(Some(error)), None, 0),
        };
        let gaps = &self.store.gaps;
        let start = self.after.map_or(0, |after| after.saturating_add(1));
        let mut untold =
            (!gaps.is_empty() && self.names_gaps).then(|| Untold::of_positions(gaps, start..end, self.backwards));
        if let Some(untold) = &mut untold {
            untold.all = self.query.named_edition().is_some() && self.limit > 0;
        }
        let (store, query, left) = (self.store, self.query, self.limit);
        let (any_edition, everything) = (self.any_edition, !self.any_edition && query == Query::default());
        Found { store, query, any_edition, everything, walk, visible, untold, held: None, again, left, end }
    }
}

/// The events of a query. After an error it ends; but in a store that is [read around damage](crate::Options::open_read_only), a gap is an [`Error::Damaged`] that names it, whatever is looked for may have
/// stood there, and the events behind it follow. It holds the store open.
pub struct Found {
    store: Arc<Inner>,
    query: Query,
    any_edition: bool,
    /// The query has no condition.
    everything: bool,
    walk: Walk,
    /// `None` if the search could not begin.
    visible: Option<Visible>,
    /// The gaps that are to be named.
    untold: Option<Untold>,
    /// What comes behind the gaps that are being named.
    held: Option<Result<Option<Event>>>,
    /// The rest of the search, to be begun anew if damage shows that can be read around.
    again: Option<Box<Search>>,
    left: u64,
    /// The position up to which is searched.
    end: u64,
}

enum Walk {
    Nothing,
    Forwards(Box<Forwards>),
    Backwards(Backwards),
    Index(Box<Candidates>),
    Failed(Option<Error>),
}

impl Found {
    /// The position up to which is searched.
    pub(crate) fn end(&self) -> Option<u64> {
        self.end.checked_sub(1)
    }

    /// Whether there may be more behind what was given last: behind a gap that was named there may, and behind an error there is nothing.
    pub(crate) fn goes_on(&self) -> bool {
        self.left > 0 || self.untold.is_some()
    }

    fn next_match(&mut self) -> Result<Option<Event>> {
        loop {
            let event = match &mut self.walk {
                Walk::Nothing => None,
                Walk::Forwards(walk) => walk.next()?,
                Walk::Backwards(walk) => walk.next()?,
                Walk::Index(walk) => walk.next(&self.store)?,
                Walk::Failed(error) => return error.take().map_or(Ok(None), Err),
            };
            let Some(event) = event else { return Ok(None) };
            // All of the main edition: whatever begins with 0 is none of its streams.
            if self.everything && event.key().first() != Some(&0) {
                return Ok(Some(event));
            }
            let Some(visible) = &mut self.visible else { return Ok(None) };
            let matches = match self.any_edition {
                true => self.query.matches_in_any_edition(&event),
                false => self.query.matches(&event),
            };
            if matches && visible.shows(&self.store, &event)? {
                return Ok(Some(event));
            }
        }
    }
}

impl Iterator for Found {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Result<Event>> {
        if self.left == 0 {
            let untold = self.untold.as_mut().filter(|untold| untold.all)?;
            untold.pass_unknown();
            return untold.tell().map(Err);
        }
        if let Some(told) = self.untold.as_mut().and_then(Untold::tell) {
            return Some(Err(told));
        }
        let next = match self.held.take() {
            Some(held) => held,
            None => {
                let next = self.next_match();
                if let (Some(untold), Ok(found)) = (&mut self.untold, &next) {
                    untold.pass(found.as_ref());
                    if let Some(told) = untold.tell() {
                        self.held = Some(next);
                        return Some(Err(told));
                    }
                }
                next
            }
        };
        match &next {
            Ok(Some(event)) => {
                self.left -= 1;
                match &mut self.again {
                    Some(again) if again.backwards => again.before = Some(event.position()),
                    Some(again) => again.after = Some(event.position()),
                    None => {}
                }
            }
            Err(Error::Damaged(_)) if self.again.is_some() => match self.around() {
                Ok(true) => return self.next(),
                Ok(false) => (self.left, self.untold) = (0, None),
                Err(error) => {
                    (self.left, self.untold) = (0, None);
                    return Some(Err(error));
                }
            },
            Err(_) => (self.left, self.untold) = (0, None),
            Ok(None) => self.left = 0,
        }
        next.transpose()
    }
}

impl Found {
    /// Whether it could begin, if need be around damage.
    fn begun(&mut self) -> Result<()> {
        while let Walk::Failed(error) = &mut self.walk {
            match error.take() {
                Some(Error::Damaged(_)) if self.around()? => {}
                Some(error) => return Err(error),
                None => break,
            }
        }
        Ok(())
    }

    /// Goes on around damage that has shown. `false` if there is no way.
    fn around(&mut self) -> Result<bool> {
        let Some(again) = self.again.take() else { return Ok(false) };
        let Some(store) = self.store.around()? else { return Ok(false) };
        *self = Search { store, limit: self.left, ..*again }.found();
        Ok(true)
    }
}

impl FusedIterator for Found {}

impl fmt::Debug for Search {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Search").field("query", &self.query).field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Found").field("query", &self.query).field("left", &self.left).finish_non_exhaustive()
    }
}
