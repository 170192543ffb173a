//! Candidates of a query from the index, segment by segment, in order of positions.

use crate::error::Result;
use crate::format::event::Event;
use crate::index::term::Term;
use crate::log::{Backwards, Forwards};
use crate::position::Location;
use crate::segment::verified::Verified;
use crate::store::Inner;
use std::ops::Range;
use std::sync::Arc;

/// A term that is this many times as frequent as the rarest one of its item is not looked up:
/// checking the candidates against the query is cheaper.
const FREQUENT: u64 = 16;

/// If more than one in this many events of a segment is a candidate, the segment is read in order:
/// that costs a quarter as much per event.
const DENSE: u64 = 4;

/// Bytes of a segment in which candidates are looked up at first. Doubled while there are few.
const WINDOW: u64 = 256 << 10;
const FEW: usize = 256;

/// Number of candidates read at once.
const MOST_AT_ONCE: usize = 64;

/// A group of terms, and how many events of the current segment have one of them.
type Group = (Vec<Term>, u64);

/// Candidates from the index, in order.
pub(crate) struct Candidates {
    /// The term groups of each item.
    items: Vec<Vec<Vec<Term>>>,
    positions: Range<u64>,
    backwards: bool,
    /// The segments that have not been begun, and the current one.
    segments: Range<u64>,
    segment: u64,
    /// The groups of each item that have events in the current segment, the rarest first.
    plan: Vec<Vec<Group>>,
    scan: Option<Forwards>,
    scan_back: Option<Backwards>,
    /// The part of the current segment that has not been looked up.
    offsets: Range<u64>,
    window: u64,
    /// The next candidates, in reverse order.
    batch: Vec<u32>,
    /// Candidates that have been read, by location, in reverse order; and how many are read the
    /// next time.
    read: Verified,
    reading: Vec<u32>,
    at_once: usize,
}

impl Candidates {
    pub(crate) fn new(store: &Inner, items: Vec<Vec<Vec<Term>>>, positions: Range<u64>, backwards: bool) -> Self {
        let (first, last) = (store.log.segment_at(positions.start), store.log.segment_at(positions.end - 1));
        Candidates {
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
            read: Verified::none(),
            reading: Vec::new(),
            at_once: 1,
        }
    }

    pub(crate) fn next(&mut self, store: &Arc<Inner>) -> Result<Option<Event>> {
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
            if !self.read.is_empty() {
                let offset = self.reading.pop().unwrap_or_default();
                let Some(next) = self.read.peek() else {
                    // A record that breaks the grammar is an error of its own.
                    let location = Location { segment: self.segment, offset: offset.into() };
                    return store.log.event_at(location).map(Some);
                };
                self.read.pass(&next);
                if self.positions.contains(&next.position) {
                    return Ok(Some(self.read.event(&next)));
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

    /// Reads the next candidates: one at first, as many callers want no more, then several at once,
    /// which costs half.
    fn read_some(&mut self, store: &Inner) -> Result<()> {
        let count = self.at_once.min(self.batch.len());
        self.at_once = (self.at_once * 4).min(MOST_AT_ONCE);
        let from = self.batch.len() - count;
        self.batch[from..].reverse();
        let count = store.log.records_at(self.segment, &self.batch[from..], count, &mut self.read)?;
        self.batch[from..].reverse();
        self.reading = self.batch.split_off(self.batch.len() - count);
        Ok(())
    }

    /// Goes to the next segment, and determines what its index can be asked for.
    fn next_segment(&mut self, store: &Arc<Inner>) -> Result<bool> {
        let next = if self.backwards { self.segments.next_back() } else { self.segments.next() };
        let Some(segment) = next else { return Ok(false) };
        self.segment = segment;
        let index = &store.catalog.index;
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

    /// Returns the requested positions that are in a segment.
    fn held(&self, store: &Inner, segment: u64) -> Range<u64> {
        let held = store.log.positions_of(segment);
        self.positions.start.max(held.start)..self.positions.end.min(held.end)
    }

    /// Returns the part of a segment that holds the requested positions, as closely as waypoints
    /// tell.
    fn bounds(&self, store: &Inner, segment: u64) -> Result<Range<u64>> {
        let whole = store.log.positions_of(segment);
        let mut bounds = 0..store.log.readable(segment);
        let around = |position: u64| {
            let ordinal = position - whole.start;
            store.catalog.index.waypoints(segment, move |waypoint| u64::from(waypoint.ordinal) <= ordinal)
        };
        if self.positions.start > whole.start {
            let (before, _) = around(self.positions.start)?;
            bounds.start = before.map_or(0, |waypoint| waypoint.record.into());
        }
        if self.positions.end < whole.end.min(store.log.watermark()) {
            let (_, after) = around(self.positions.end - 1)?;
            bounds.end = after.map_or(bounds.end, |waypoint| waypoint.record.into());
        }
        Ok(bounds)
    }

    /// So many events of the segment are candidates that it is read in order.
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

    /// Returns the offsets of events that have one of these terms.
    fn union(&self, store: &Inner, terms: &[Term], part: &Range<u64>) -> Result<Vec<u32>> {
        let mut found = Vec::new();
        for term in terms {
            store.catalog.index.offsets(self.segment, term, part, &mut found)?;
        }
        if terms.len() > 1 {
            found.sort_unstable();
            found.dedup();
        }
        Ok(found)
    }
}
