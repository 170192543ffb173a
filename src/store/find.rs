//! Finding the events of a query: the index gives candidates, segment by segment, and each is held against the query once more.

use super::losses::Untold;
use super::query::Query;
use super::visible::Visible;
use super::{Inner, Store};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::index::term::Term;
use crate::log::{Backwards, Forwards};
use crate::time::Timestamp;
use std::fmt;
use std::iter::FusedIterator;
use std::ops::Range;
use std::sync::Arc;

/// A term that is this many times as frequent as the rarest one of its item is not asked for: holding the candidates against the query is cheaper.
const FREQUENT: u64 = 16;

/// If more than one in so many events of a segment may fit, it is read in order: that costs a quarter of reading events one by one.
const DENSE: u64 = 4;

/// Bytes of a segment in which candidates are looked for at first. Doubled as long as there are few.
const WINDOW: u64 = 256 << 10;
const FEW: usize = 256;

/// Candidates that are read at once.
const MOST_AT_ONCE: usize = 64;

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
}

impl Search {
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
    /// # Errors
    ///
    /// [`Error::Damaged`], [`Error::Io`].
    pub fn collect_with_head(self) -> Result<(Vec<Event>, Option<u64>)> {
        let (limit, backwards) = (self.limit, self.backwards);
        if limit == 0 {
            return Ok((Vec::new(), self.begin()?.2.checked_sub(1)));
        }
        let found = self.into_iter();
        let mut head = found.end();
        let events = found.collect::<Result<Vec<_>>>()?;
        if events.len() as u64 == limit && !backwards {
            head = events.last().map(Event::position);
        }
        Ok((events, head))
    }

    fn begin(&self) -> Result<(Walk, Visible, u64)> {
        let store = &self.store;
        let mut visible = Visible::now(store, &self.query)?;
        let mut end = visible.watermark().min(self.before.unwrap_or(u64::MAX));
        if let Some(point) = self.as_of {
            end = store.position_behind(point, end)?;
            visible.before(end);
        }
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
        let walk = match (self.query.groups(), self.backwards) {
            _ if positions.is_empty() => Walk::Nothing,
            (Some(groups), backwards) => Walk::Postings(Box::new(Postings::new(store, groups, positions, backwards))),
            (None, false) => Walk::Forwards(store.log.forwards(positions)),
            (None, true) => Walk::Backwards(store.log.backwards(positions)),
        };
        Ok((walk, visible, end))
    }
}

impl Inner {
    /// The position behind the last event at or before a point; at most `end`.
    pub(super) fn position_behind(self: &Arc<Self>, point: AsOf, end: u64) -> Result<u64> {
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
        let again = self.store.around.is_possible().then(|| Box::new(self.clone()));
        let (walk, visible, end) = match self.begin() {
            Ok((walk, visible, end)) => (walk, Some(visible), end),
            Err(error) => (Walk::Failed(Some(error)), None, 0),
        };
        let gaps = &self.store.gaps;
        let start = self.after.map_or(0, |after| after.saturating_add(1));
        let untold = (!gaps.is_empty()).then(|| Untold::of_positions(gaps, start..end, self.backwards));
        let (store, query, left) = (self.store, self.query, self.limit);
        let everything = query == Query::default();
        Found { store, query, everything, walk, visible, untold, held: None, again, left, end }
    }
}

/// The events of a query. After an error it ends; but in a store that is [read around damage](crate::Options::open_read_only), a gap is an [`Error::Damaged`] that names it, whatever is looked for may have
/// stood there, and the events behind it follow. It holds the store open.
pub struct Found {
    store: Arc<Inner>,
    query: Query,
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
    Forwards(Forwards),
    Backwards(Backwards),
    Postings(Box<Postings>),
    Failed(Option<Error>),
}

impl Found {
    /// The position up to which is searched.
    pub(crate) fn end(&self) -> Option<u64> {
        self.end.checked_sub(1)
    }

    fn next_match(&mut self) -> Result<Option<Event>> {
        loop {
            let event = match &mut self.walk {
                Walk::Nothing => None,
                Walk::Forwards(walk) => walk.next()?,
                Walk::Backwards(walk) => walk.next()?,
                Walk::Postings(walk) => walk.next(&self.store)?,
                Walk::Failed(error) => return error.take().map_or(Ok(None), Err),
            };
            let Some(event) = event else { return Ok(None) };
            // All of the main edition: whatever begins with 0 is none of its streams.
            if self.everything && event.key().first() != Some(&0) {
                return Ok(Some(event));
            }
            let Some(visible) = &mut self.visible else { return Ok(None) };
            if self.query.matches(&event) && visible.shows(&self.store, &event)? {
                return Ok(Some(event));
            }
        }
    }
}

impl Iterator for Found {
    type Item = Result<Event>;

    fn next(&mut self) -> Option<Result<Event>> {
        if self.left == 0 {
            return None;
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
                Ok(false) => self.left = 0,
                Err(error) => {
                    self.left = 0;
                    return Some(Err(error));
                }
            },
            _ => self.left = 0,
        }
        next.transpose()
    }
}

impl Found {
    /// Goes on around damage that has shown. `false` if there is no way.
    fn around(&mut self) -> Result<bool> {
        let Some(again) = self.again.take() else { return Ok(false) };
        let Some(store) = self.store.around()? else { return Ok(false) };
        *self = Search { store, limit: self.left, ..*again }.found();
        Ok(true)
    }
}

impl FusedIterator for Found {}

/// A group of terms, and how many events of the segment at hand have one of them.
type Group = (Vec<Term>, u64);

/// Candidates from the index, in order.
struct Postings {
    /// What each item asks for.
    items: Vec<Vec<Vec<Term>>>,
    positions: Range<u64>,
    backwards: bool,
    /// Segments that have not been begun, and the one at hand.
    segments: Range<u64>,
    segment: u64,
    /// The groups of each item that the segment at hand has events for, the rarest first.
    plan: Vec<Vec<Group>>,
    scan: Option<Forwards>,
    scan_back: Option<Backwards>,
    /// The part of the segment at hand that has not been looked at.
    offsets: Range<u64>,
    window: u64,
    /// Candidates that come next, in reverse order.
    batch: Vec<u32>,
    /// Those of them that have been read, in reverse order, and how many are read the next time.
    read: Vec<Event>,
    at_once: usize,
}

impl Postings {
    fn new(store: &Inner, items: Vec<Vec<Vec<Term>>>, positions: Range<u64>, backwards: bool) -> Self {
        let (first, last) = (store.log.segment_at(positions.start), store.log.segment_at(positions.end - 1));
        Postings {
            items,
            positions,
            backwards,
            segments: first..last + 1,
            segment: 0,
            plan: Vec::new(),
            scan: None,
            scan_back: None,
            offsets: 0..0,
            window: WINDOW,
            batch: Vec::new(),
            read: Vec::new(),
            at_once: 1,
        }
    }

    fn next(&mut self, store: &Arc<Inner>) -> Result<Option<Event>> {
        loop {
            let scanned = match (&mut self.scan, &mut self.scan_back) {
                (Some(scan), _) => scan.next()?,
                (_, Some(scan)) => scan.next()?,
                (None, None) => None,
            };
            if scanned.is_some() {
                return Ok(scanned);
            }
            (self.scan, self.scan_back) = (None, None);
            if let Some(event) = self.read.pop() {
                if self.positions.contains(&event.position()) {
                    return Ok(Some(event));
                }
            } else if !self.batch.is_empty() {
                self.read_some(store)?;
            } else if !self.offsets.is_empty() {
                self.look(store)?;
            } else if !self.next_segment(store)? {
                return Ok(None);
            }
        }
    }

    /// Reads the next candidates: one at first, as many want no more, then several at once, which costs half.
    fn read_some(&mut self, store: &Inner) -> Result<()> {
        let count = self.at_once.min(self.batch.len());
        self.at_once = (self.at_once * 4).min(MOST_AT_ONCE);
        let mut offsets = self.batch.split_off(self.batch.len() - count);
        offsets.reverse();
        store.log.events_at(self.segment, &offsets, &mut self.read)?;
        self.batch.extend(offsets[self.read.len()..].iter().rev());
        self.read.reverse();
        Ok(())
    }

    /// Goes to the next segment, and sees what it can be asked for.
    fn next_segment(&mut self, store: &Arc<Inner>) -> Result<bool> {
        let next = if self.backwards { self.segments.next_back() } else { self.segments.next() };
        let Some(segment) = next else { return Ok(false) };
        self.segment = segment;
        let index = &store.view.index;
        let mut plan = Vec::new();
        for item in &self.items {
            let mut groups: Vec<Group> = Vec::with_capacity(item.len());
            for terms in item {
                let counts = terms.iter().map(|term| index.count(segment, term));
                groups.push((terms.clone(), counts.sum::<Result<u64>>()?));
            }
            groups.sort_by_key(|(_, count)| *count);
            if groups[0].1 > 0 {
                plan.push(groups);
            }
        }
        let candidates: u64 = plan.iter().map(|groups| groups[0].1).sum();
        let held = self.held(store, segment);
        if candidates > FEW as u64 && candidates.saturating_mul(DENSE) > held.end - held.start {
            return self.scan_segment(store, held);
        }
        self.window = if candidates <= 16 * FEW as u64 { u64::MAX } else { WINDOW };
        self.offsets = if plan.is_empty() { 0..0 } else { self.bounds(store, segment)? };
        self.plan = plan;
        Ok(true)
    }

    /// The positions that are asked for and stand in a segment.
    fn held(&self, store: &Inner, segment: u64) -> Range<u64> {
        let held = store.log.positions_of(segment);
        self.positions.start.max(held.start)..self.positions.end.min(held.end)
    }

    /// The part of a segment in which the positions that are asked for stand, as far as waypoints tell.
    fn bounds(&self, store: &Inner, segment: u64) -> Result<Range<u64>> {
        let whole = store.log.positions_of(segment);
        let mut bounds = 0..store.log.readable(segment);
        let around = |position: u64| {
            let ordinal = position - whole.start;
            store.view.index.waypoints(segment, move |waypoint| u64::from(waypoint.ordinal) <= ordinal)
        };
        if self.positions.start > whole.start {
            let (before, _) = around(self.positions.start)?;
            bounds.start = before.map_or(0, |waypoint| waypoint.record.into());
        }
        if self.positions.end < whole.end.min(store.log.watermark()) {
            let (_, behind) = around(self.positions.end - 1)?;
            bounds.end = behind.map_or(bounds.end, |waypoint| waypoint.record.into());
        }
        Ok(bounds)
    }

    /// So many events of the segment may fit that it is read in order.
    fn scan_segment(&mut self, store: &Arc<Inner>, positions: Range<u64>) -> Result<bool> {
        match self.backwards {
            false => self.scan = Some(store.log.forwards(positions)),
            true => self.scan_back = Some(store.log.backwards(positions)),
        }
        self.offsets = 0..0;
        Ok(true)
    }

    /// Takes candidates from the next part of the segment.
    fn look(&mut self, store: &Inner) -> Result<()> {
        let part = match self.backwards {
            false => self.offsets.start..self.offsets.end.min(self.offsets.start.saturating_add(self.window)),
            true => self.offsets.start.max(self.offsets.end.saturating_sub(self.window))..self.offsets.end,
        };
        match self.backwards {
            false => self.offsets.start = part.end,
            true => self.offsets.end = part.start,
        }
        let mut all = Vec::new();
        for groups in &self.plan {
            let rarest = groups[0].1;
            let mut found = self.union(store, &groups[0].0, &part)?;
            for (terms, count) in &groups[1..] {
                if !found.is_empty() && *count <= rarest.saturating_mul(FREQUENT) {
                    let other = self.union(store, terms, &part)?;
                    found.retain(|offset| other.binary_search(offset).is_ok());
                }
            }
            all.append(&mut found);
        }
        all.sort_unstable();
        all.dedup();
        if all.len() < FEW {
            self.window = self.window.saturating_mul(2);
        }
        if !self.backwards {
            all.reverse();
        }
        self.batch = all;
        Ok(())
    }

    /// The offsets of events that have one of these terms.
    fn union(&self, store: &Inner, terms: &[Term], part: &Range<u64>) -> Result<Vec<u32>> {
        let mut found = Vec::new();
        for term in terms {
            store.view.index.offsets(self.segment, term, part, &mut found)?;
        }
        if terms.len() > 1 {
            found.sort_unstable();
            found.dedup();
        }
        Ok(found)
    }
}

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
