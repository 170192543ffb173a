//! The index, in memory, of the part of a segment that has no index file yet.

use super::term::{Term, TermKind};
use super::terms::Terms;
use crate::format::commit::Recorded;
use crate::format::index_file::{self, Waypoint};
use crate::stream::names;
use crate::system::System;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::ops::Range;

/// Distance of waypoints in bytes.
const WAYPOINT_EVERY: u64 = 16 << 10;

/// Hashes terms as index files do, with a seed of the process.
#[derive(Clone)]
pub struct TermHash(u64);

impl Default for TermHash {
    fn default() -> Self {
        TermHash(RandomState::new().hash_one(0))
    }
}

pub struct TermHasher(u64);

impl BuildHasher for TermHash {
    type Hasher = TermHasher;

    fn build_hasher(&self) -> TermHasher {
        TermHasher(self.0)
    }
}

impl Hasher for TermHasher {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.0 = index_file::hash(bytes, self.0);
    }

    /// The length that `[u8]` hashes first adds nothing: the hash covers it.
    #[inline]
    fn write_usize(&mut self, _: usize) {}

    fn finish(&self) -> u64 {
        self.0
    }
}

/// The events of a term. Most terms have one.
#[derive(Clone, Copy, Default)]
struct Postings {
    /// The value of the newest posting: of a stream, the sequence after it; of a deletion, its
    /// position; of an upstream, its tracked position.
    value: u64,
    state: TermState,
}

#[derive(Clone, Copy, Default)]
enum TermState {
    #[default]
    None,
    /// Its offset.
    One([u32; 1]),
    /// An index into `many`.
    Many(u32),
}

/// The postings of a term, summed up.
#[derive(Clone, Copy)]
pub struct Posted {
    pub count: u64,
    /// The last offset.
    pub last: u32,
    pub value: u64,
}

/// Returns the sequences of this many events of a stream that end before `next`.
pub fn sequences(next: u64, count: u64) -> Range<u64> {
    next.saturating_sub(count)..next
}

/// The part of a segment's index that is in memory.
#[derive(Clone, Default)]
pub struct Memory {
    terms: Terms,
    /// By number of the term.
    postings: Vec<Postings>,
    /// The offsets of terms with several events.
    many: Vec<Vec<u32>>,
    /// Number of offsets in them.
    more: usize,
    waypoints: Vec<Waypoint>,
    /// The first event of the newest frame: a follower of the log reads from there, and the last
    /// other waypoint may be 16 KiB before.
    newest: Option<Waypoint>,
    events: u64,
    /// The term that is being looked up, so that a lookup allocates nothing.
    scratch: Term,
    last: LastTerms,
}

/// The terms of the last event: the next one often has the same, and need not look them up.
#[derive(Clone, Default)]
struct LastTerms {
    key: Vec<u8>,
    /// The numbers of its postings, and of those of its domain.
    stream: u32,
    domain: u32,
    /// Types that were met in its edition, each in the slot of its bytes, and the numbers of their
    /// postings.
    types: [(Vec<u8>, u32); TYPES],
}

/// Number of types that are remembered: commits often have a few of them in turn.
const TYPES: usize = 8;

/// Returns the slot of a type.
#[inline]
fn place_of(event_type: &[u8]) -> usize {
    let last = event_type.last().copied().unwrap_or_default();
    let middle = event_type.get(event_type.len() / 2).copied().unwrap_or_default();
    (event_type.len() + usize::from(last) + usize::from(middle) * 3) % TYPES
}

fn waypoint(event: &Recorded<'_>) -> Waypoint {
    let (frame, record) = (event.frame as u32, event.offset as u32);
    Waypoint { ordinal: event.ordinal, frame, record, recorded_at: event.recorded_at }
}

impl Memory {
    fn get(&self, term: &[u8]) -> Option<&Postings> {
        self.terms.find(term).and_then(|number| self.postings.get(number as usize))
    }

    fn offsets_of<'a>(&'a self, postings: &'a Postings) -> &'a [u32] {
        match &postings.state {
            TermState::None => &[],
            TermState::One(offset) => offset,
            TermState::Many(number) => &self.many[*number as usize],
        }
    }

    /// Returns the offsets of a term.
    fn found(&self, term: &[u8]) -> &[u32] {
        self.get(term).map_or(&[], |postings| self.offsets_of(postings))
    }

    fn summed_up(&self, postings: &Postings) -> Option<Posted> {
        let offsets = self.offsets_of(postings);
        Some(Posted { count: offsets.len() as u64, last: *offsets.last()?, value: postings.value })
    }

    /// Returns the number of the postings of the term that is being looked up.
    fn number(&mut self) -> u32 {
        let number = self.terms.number(self.scratch.bytes());
        // Also for texts that terms share.
        self.postings.resize(self.terms.len(), Postings::default());
        number
    }

    fn post(&mut self, offset: u64, value: u64) {
        let number = self.number();
        self.post_to(number, offset, value);
    }

    #[inline]
    fn post_to(&mut self, number: u32, offset: u64, value: u64) {
        let (postings, offset) = (&mut self.postings[number as usize], offset as u32);
        postings.value = value;
        // Terms of a commit are posted once for all events of it. And the format allows an event to
        // have a tag twice, which this code does not write: offsets rise.
        match postings.state {
            TermState::None => postings.state = TermState::One([offset]),
            TermState::One([first]) if first != offset => {
                postings.state = TermState::Many(self.many.len() as u32);
                self.many.push(vec![first, offset]);
                self.more += 2;
            }
            TermState::One(_) => {}
            TermState::Many(many) => {
                let offsets = &mut self.many[many as usize];
                if offsets.last() != Some(&offset) {
                    offsets.push(offset);
                    self.more += 1;
                }
            }
        }
    }

    /// Adds an event. They come in ascending order of positions.
    pub fn add(&mut self, event: &Recorded<'_>) {
        if self.newest.is_none_or(|newest| u64::from(newest.frame) != event.frame) {
            self.newest = Some(waypoint(event));
        }
        let last = self.waypoints.last().map(|waypoint| u64::from(waypoint.record));
        if last.is_none_or(|last| event.offset - last >= WAYPOINT_EVERY) {
            self.waypoints.push(waypoint(event));
        }
        self.events += 1;
        let typed = self.find(event);
        self.post_to(self.last.stream, event.offset, event.sequence.saturating_add(1));
        if let Some((upstream, position)) = event.tracking {
            self.scratch.set(TermKind::Tracking, b"", upstream.as_bytes());
            self.post(event.frame, position);
        }
        if let Some(key) = event.idempotency_key {
            // Once for each stream in the commit.
            let upstream = event.tracking.map(|(upstream, _)| upstream);
            self.scratch = Term::idempotency(event.key, upstream, key);
            self.post(event.frame, 0);
        }
        if let Some(system) = System::of(event.key) {
            if let System::Deletion { edition, domain } = system {
                self.scratch.set(TermKind::Deletion, edition.as_bytes(), domain.unwrap_or("").as_bytes());
                self.post(event.offset, event.position);
            }
            return;
        }
        let edition = event.edition;
        self.post_to(self.last.domain, event.offset, 0);
        self.post_to(typed, event.offset, 0);
        if !edition.is_empty() {
            self.scratch.set(TermKind::Edition, edition, b"");
            self.post(event.offset, 0);
        }
        for tag in event.extras.tags() {
            self.scratch.set(TermKind::Tag, edition, tag);
            self.post(event.offset, 0);
        }
        if let Some(correlation) = event.extras.correlation_id() {
            self.scratch.set(TermKind::Correlation, edition, correlation);
            self.post(event.offset, 0);
        }
        if let Some(id) = event.extras.id() {
            self.scratch.set(TermKind::Id, b"", id.as_bytes());
            self.post(event.offset, 0);
        }
    }

    /// Finds the terms that each event has: stream, domain, and type, whose number it returns.
    fn find(&mut self, event: &Recorded<'_>) -> u32 {
        if self.last.key != event.key {
            self.find_stream(event);
        }
        // System records are not indexed by type.
        if event.domain.is_empty() {
            return 0;
        }
        let place = place_of(event.event_type);
        let (known, number) = &self.last.types[place];
        if known == event.event_type {
            return *number;
        }
        self.scratch.set(TermKind::Type, event.edition, event.event_type);
        let number = self.number();
        let remembered = &mut self.last.types[place];
        remembered.0.clear();
        remembered.0.extend_from_slice(event.event_type);
        remembered.1 = number;
        number
    }

    fn find_stream(&mut self, event: &Recorded<'_>) {
        let before = names(&self.last.key).map_or((&[][..], &[][..]), |before| (before.edition, before.domain));
        let same_edition = before.0 == event.edition;
        let same_domain = same_edition && before.1 == event.domain;
        if !same_edition {
            self.last.types.iter_mut().for_each(|(known, _)| known.clear());
        }
        self.scratch.set_stream(event.key);
        self.last.stream = self.number();
        self.last.key.clear();
        self.last.key.extend_from_slice(event.key);
        // System records have no domain.
        if !same_domain && !event.domain.is_empty() {
            self.scratch.set(TermKind::Domain, event.edition, event.domain);
            self.last.domain = self.number();
        }
    }

    /// Returns this, continued by `later`.
    pub fn followed_by(mut self, after: Option<Memory>) -> Memory {
        let Some(after) = after else { return self };
        let mut term = Vec::new();
        for number in after.sorted() {
            let (value, offsets) = after.put_term(number, &mut term);
            self.scratch.set_bytes(&term);
            let ours = self.number();
            offsets.iter().for_each(|&offset| self.post_to(ours, offset.into(), value));
        }
        self.waypoints.extend(after.waypoints);
        self.newest = after.newest.or(self.newest);
        self.events += after.events;
        self
    }

    pub fn count(&self, term: &[u8]) -> u64 {
        self.found(term).len() as u64
    }

    /// Returns the postings of a term.
    pub fn posted(&self, term: &[u8]) -> Option<Posted> {
        self.summed_up(self.get(term)?)
    }

    /// Returns the sequences of the events of a stream. If there is a deletion among them, only the
    /// last of those after it are right.
    pub fn sequences(&self, term: &[u8]) -> Range<u64> {
        self.posted(term).map_or(0..0, |posted| sequences(posted.value, posted.count))
    }

    /// Appends the offsets of a term within `range` to `out`.
    pub fn offsets(&self, term: &[u8], range: &Range<u64>, out: &mut Vec<u32>) {
        let offsets = self.found(term);
        let start = offsets.partition_point(|&offset| u64::from(offset) < range.start);
        let end = offsets.partition_point(|&offset| u64::from(offset) < range.end);
        out.extend_from_slice(&offsets[start..end.max(start)]);
    }

    /// Appends at most `count` offsets of the events of a stream to `out`, from this sequence on.
    pub fn stream(&self, term: &[u8], first: u64, count: usize, out: &mut Vec<u32>) {
        let Some(postings) = self.get(term) else { return };
        let offsets = self.offsets_of(postings);
        let held = sequences(postings.value, offsets.len() as u64);
        let skip = first.saturating_sub(held.start) as usize;
        out.extend(offsets.iter().skip(skip).take(count));
    }

    /// Returns the first offset of a term from `from` on.
    pub fn first(&self, term: &[u8], from: u64) -> Option<u32> {
        let offsets = self.found(term);
        offsets.get(offsets.partition_point(|&offset| u64::from(offset) < from)).copied()
    }

    /// Returns the last offset of a term.
    pub fn last(&self, term: &[u8]) -> Option<u32> {
        self.found(term).last().copied()
    }

    /// Returns the last waypoint that satisfies `before`, and the first one that does not. Those
    /// that do come first.
    pub fn waypoints(&self, before: impl Fn(&Waypoint) -> bool) -> (Option<Waypoint>, Option<Waypoint>) {
        let n = self.waypoints.partition_point(&before);
        let (last, next) = (n.checked_sub(1).map(|n| self.waypoints[n]), self.waypoints.get(n).copied());
        match self.newest {
            Some(newest) if before(&newest) => {
                (last.filter(|last| last.ordinal > newest.ordinal).or(Some(newest)), next)
            }
            _ => (last, next),
        }
    }

    /// Returns the terms that begin with `prefix`, in no order.
    pub fn terms(&self, prefix: &[u8]) -> impl Iterator<Item = (Vec<u8>, Posted)> {
        let numbers = (0..self.terms.len() as u32).filter(move |&number| self.terms.begins(number, prefix));
        numbers.filter_map(|number| {
            let posted = self.summed_up(&self.postings[number as usize])?;
            let mut term = Vec::new();
            self.terms.pieces(number).put(&mut term);
            Some((term, posted))
        })
    }

    /// Returns the numbers of all terms, in order of the terms.
    pub(super) fn sorted(&self) -> Vec<u32> {
        let posted = |number: &u32| !self.offsets_of(&self.postings[*number as usize]).is_empty();
        let mut numbers: Vec<u32> = (0..self.terms.len() as u32).filter(posted).collect();
        numbers.sort_unstable_by(|&a, &b| self.terms.pieces(a).cmp(&self.terms.pieces(b)));
        numbers
    }

    /// Returns the length of the term with this number.
    pub(super) fn term_len(&self, number: u32) -> usize {
        self.terms.pieces(number).len()
    }

    /// Replaces `out` with the term with this number. Returns the value of its newest posting, and
    /// its offsets.
    pub(super) fn put_term(&self, number: u32, out: &mut Vec<u8>) -> (u64, &[u32]) {
        self.terms.pieces(number).put(out);
        let postings = &self.postings[number as usize];
        (postings.value, self.offsets_of(postings))
    }

    pub(super) fn all_waypoints(&self) -> &[Waypoint] {
        &self.waypoints
    }

    pub(super) fn events(&self) -> u64 {
        self.events
    }

    /// Returns the number of bytes of memory that it takes.
    pub fn weight(&self) -> u64 {
        // Several offsets have an allocation of their own, which is rarely full.
        let postings = self.postings.len() * size_of::<Postings>() + self.many.len() * (size_of::<Vec<u32>>() + 16);
        (self.terms.weight() + postings + self.more * 6 + self.waypoints.len() * size_of::<Waypoint>()) as u64
    }
}
