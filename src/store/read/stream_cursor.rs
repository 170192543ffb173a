//! Cursors over one stream, in the main edition or in a named one.

use crate::error::{Error, Result};
use crate::format::event::Event;
use crate::index::editions::Own;
use crate::index::term::Term;
use crate::position::Location;
use crate::segment::verified::{Next, Verified};
use crate::store::Inner;
use crate::stream::StreamId;
use std::ops::Range;
use std::sync::Arc;

/// Number of events read at a time: at first, and at most.
const FIRST_BATCH: usize = 16;
const BATCH: usize = 128;

/// Number of locations requested from the index at a time. The index stores them in pieces of 512.
const FIRST_PLACES: u64 = 512;
const PLACES: u64 = 1024;

/// The events of a stream in its own edition only, one by one.
pub(crate) struct StreamCursor {
    stream: StreamId,
    term: Term,
    sequences: Range<u64>,
    backwards: bool,
    /// The segment that is searched first for the next event.
    segment: u64,
    segments: u64,
    /// The next records.
    batch: Verified,
    /// Locations of records, and how many of them have been read.
    offsets: Vec<u32>,
    taken: usize,
    /// Number of locations requested next.
    places: u64,
    /// Number of records read next: it grows, as a caller that reads few may not want more.
    ahead: usize,
}

impl StreamCursor {
    pub(crate) fn new(store: &Inner, stream: StreamId, range: Range<u64>, backwards: bool) -> Result<Self> {
        let index = &store.catalog.index;
        let next = index.next_sequence(stream.key())?;
        let sequences = range.start..range.end.min(next);
        let segments = index.segments();
        let near_the_end = backwards || sequences.start > next / 2;
        let segment = if near_the_end { segments } else { 1 };
        let term = Term::stream(stream.key());
        Ok(StreamCursor {
            stream,
            term,
            sequences,
            backwards,
            segment,
            segments,
            batch: Verified::none(),
            offsets: Vec::new(),
            taken: 0,
            places: FIRST_PLACES,
            ahead: FIRST_BATCH,
        })
    }

    /// Maximum number of events that will be requested.
    pub(crate) fn limit(mut self, limit: u64) -> Self {
        if limit < u64::MAX {
            self.ahead = limit.clamp(1, BATCH as u64) as usize;
            self.places = self.places.min(limit).max(1);
        }
        self
    }

    /// The next sequence.
    #[inline]
    fn ahead_of(&self) -> Option<u64> {
        let Range { start, end } = self.sequences;
        (start < end).then(|| if self.backwards { end - 1 } else { start })
    }

    /// Returns the next event if its record has been read. Events whose keys begin with a zero are
    /// returned only with `all`.
    #[inline(always)]
    pub(crate) fn at_hand(&mut self, all: bool) -> Option<(Next, &Verified)> {
        let sequence = self.ahead_of()?;
        let batch = &mut self.batch;
        let next = batch.peek()?;
        let key = batch.key(&next);
        if next.parts.sequence != sequence || key != self.stream.key() || (!all && key.first() == Some(&0)) {
            return None;
        }
        batch.pass(&next);
        match self.backwards {
            false => self.sequences.start += 1,
            true => self.sequences.end -= 1,
        }
        Some((next, batch))
    }

    pub(crate) fn next(&mut self, store: &Inner) -> Result<Option<Event>> {
        let Some(sequence) = self.ahead_of() else { return Ok(None) };
        if self.batch.is_empty() {
            self.fill(store, sequence)?;
        }
        match self.at_hand(true) {
            Some((next, batch)) => Ok(Some(batch.event(&next))),
            None => Err(self.astray(store, sequence)),
        }
    }

    /// Why the index leads to no event with this sequence.
    #[cold]
    fn astray(&self, store: &Inner, sequence: u64) -> Error {
        let mut offsets = Vec::new();
        let wanted = |held: &Range<u64>| held.contains(&sequence).then_some((sequence, 1));
        let place = store.catalog.index.stream(self.segment, &self.term, wanted, &mut offsets);
        let read = place.and_then(|_| match offsets.first() {
            Some(&offset) => store.log.event_at(Location { segment: self.segment, offset: offset.into() }).map(|_| ()),
            None => Ok(()),
        });
        read.err().unwrap_or_else(|| lost(&self.stream, sequence))
    }

    /// Reads the next events, from `sequence` on in the direction of the read, all in one segment.
    fn fill(&mut self, store: &Inner, sequence: u64) -> Result<()> {
        if self.taken == self.offsets.len() {
            self.look(store, sequence)?;
        }
        let most = self.ahead;
        self.ahead = (most * 8).min(BATCH);
        self.taken += store.log.records_at(self.segment, &self.offsets[self.taken..], most, &mut self.batch)?;
        Ok(())
    }

    /// Asks the index for the locations of the next events, from `sequence` on in the direction of
    /// the read: those in the segment that holds it.
    fn look(&mut self, store: &Inner, sequence: u64) -> Result<()> {
        let (most, backwards, Range { start, end }) = (self.places, self.backwards, self.sequences.clone());
        let wanted = |held: &Range<u64>| {
            let first = match backwards {
                false => sequence,
                true => held.start.max(start).max((sequence + 1).saturating_sub(most)),
            };
            let after = if backwards { sequence + 1 } else { held.end.min(end) };
            held.contains(&sequence).then(|| (first, (after - first).min(most) as usize))
        };
        self.places = PLACES;
        self.offsets.clear();
        self.taken = 0;
        let mut upwards = None;
        loop {
            let held = store.catalog.index.stream(self.segment, &self.term, wanted, &mut self.offsets)?;
            if held.contains(&sequence) {
                break;
            }
            // Segments without the stream give no answer: continue in the direction of the read.
            let up = match held.is_empty() {
                true => upwards.unwrap_or(!self.backwards && self.segment < self.segments),
                false => sequence >= held.end,
            };
            if upwards.is_some_and(|before| before != up) {
                return Err(lost(&self.stream, sequence));
            }
            upwards = Some(up);
            self.segment = if up { self.segment + 1 } else { self.segment - 1 };
            if !(1..=self.segments).contains(&self.segment) {
                return Err(lost(&self.stream, sequence));
            }
        }
        if backwards {
            self.offsets.reverse();
        }
        if self.offsets.is_empty() { Err(lost(&self.stream, sequence)) } else { Ok(()) }
    }
}

/// The index does not lead to an event that must exist: the index is wrong, and no part of it can
/// be trusted.
fn lost(stream: &StreamId, sequence: u64) -> Error {
    misled(stream, &format!("event {sequence}"))
}

fn misled(stream: &StreamId, what: &str) -> Error {
    Error::invalid(
        "index",
        format!("it does not lead to {what} of {stream}; delete the .idx files and reopen the store"),
    )
}

/// The events of a stream in a named edition: those of the main edition below the divergence, then
/// its own.
pub(crate) struct EditionCursor {
    stream: StreamId,
    main: StreamCursor,
    own: Arc<Own>,
    /// The sequences of its own that are left to read.
    left: Range<u64>,
    backwards: bool,
}

impl EditionCursor {
    /// `before` is the position below which all events are; `diverging_at` the sequence at which
    /// the stream is taken to diverge, wherever it does.
    pub(crate) fn new(
        store: &Inner,
        stream: &StreamId,
        own: Arc<Own>,
        range: Range<u64>,
        backwards: bool,
        before: Option<u64>,
        diverging_at: Option<u64>,
    ) -> Result<Self> {
        let mut held = own.sequences.clone();
        if let Some(position) = before {
            held.end =
                bisect(held.clone(), |sequence| Ok(own_event(store, stream, &own, sequence)?.position() < position))?;
        }
        let diverges = diverging_at.or((!held.is_empty()).then_some(held.start)).unwrap_or(u64::MAX);
        let main = stream.in_main().unwrap_or_else(|| stream.clone());
        let mut shareable = own.main;
        if let Some(position) = before {
            shareable = shareable.min(store.sequence_after(&main, position)?);
        }
        // There would be a gap.
        if diverges < held.start || diverges > shareable {
            held = 0..0;
        }
        let main = StreamCursor::new(store, main, range.start..range.end.min(diverges).min(shareable), backwards)?;
        let left = range.start.max(diverges).max(held.start)..range.end.min(held.end);
        Ok(EditionCursor { stream: stream.clone(), main, own, left, backwards })
    }

    pub(crate) fn next(&mut self, store: &Inner) -> Result<Option<Event>> {
        if !self.backwards
            && let Some(event) = self.main.next(store)?
        {
            return Ok(Some(event));
        }
        let next = if self.backwards { self.left.next_back() } else { self.left.next() };
        match next {
            Some(sequence) => own_event(store, &self.stream, &self.own, sequence).map(Some),
            None if self.backwards => self.main.next(store),
            None => Ok(None),
        }
    }
}

fn own_event(store: &Inner, stream: &StreamId, own: &Own, sequence: u64) -> Result<Event> {
    let location = own.location(sequence).ok_or_else(|| lost(stream, sequence))?;
    let event = event_of(store, stream, location)?;
    if event.sequence() == sequence { Ok(event) } else { Err(lost(stream, sequence)) }
}

/// The events of a stream in a store that has lost some: its sequences may have gaps, so all its
/// locations are taken at once and read.
pub(crate) struct GapCursor {
    stream: StreamId,
    /// Locations of the events, and whether each is in the edition's own part of the stream.
    places: Vec<(Location, bool)>,
    left: Range<usize>,
    backwards: bool,
    /// The position of its own first intact event, in a named edition; 0 in the main one,
    /// `u64::MAX` if there is none.
    pub first_own: u64,
}

impl GapCursor {
    /// `before` is the position below which all events are; `diverging_at` the sequence at which
    /// the stream is taken to diverge, wherever it does.
    pub(crate) fn new(
        store: &Inner,
        stream: &StreamId,
        own: &Own,
        range: Range<u64>,
        backwards: bool,
        before: Option<u64>,
        diverging_at: Option<u64>,
    ) -> Result<Self> {
        // Returns those of these locations whose events have these sequences.
        let within = |stream: &StreamId, places: &[Location], sequences: Range<u64>| -> Result<Range<usize>> {
            let event = |n: u64| event_of(store, stream, places[n as usize]);
            let count = places.len() as u64;
            let first = bisect(0..count, |n| Ok(event(n)?.sequence() < sequences.start))?;
            let end = bisect(first..count, |n| {
                let event = event(n)?;
                Ok(event.sequence() < sequences.end && before.is_none_or(|position| event.position() < position))
            })?;
            Ok(first as usize..end as usize)
        };
        let own: Vec<Location> = own.places().collect();
        let Some(main) = stream.in_main() else {
            let places = own[within(stream, &own, range)?].iter().map(|&place| (place, false)).collect::<Vec<_>>();
            return Ok(GapCursor { stream: stream.clone(), left: 0..places.len(), places, backwards, first_own: 0 });
        };
        let mains: Vec<Location> = store.catalog.index.own(main.key())?.places().collect();
        let mut own = &own[within(stream, &own, 0..u64::MAX)?];
        let first = own.first().map(|&place| event_of(store, stream, place)).transpose()?;
        let first_own = first.as_ref().map_or(u64::MAX, Event::position);
        // Lost events have sequences too, where they are known.
        let lost = |stream: &StreamId| store.known_lost(stream, before.unwrap_or(u64::MAX));
        let (lost_own, lost_main) = (lost(stream), lost(&main));
        let first = first.map(|event| event.sequence()).into_iter().chain(lost_own.map(|lost| lost.start)).min();
        let diverges = diverging_at.or(first).unwrap_or(u64::MAX);
        // The end of the main edition's part that is known: the edition diverged there, or later.
        let shared = &mains[within(&main, &mains, 0..u64::MAX)?];
        let last = shared.last().map(|&place| event_of(store, &main, place)).transpose()?;
        let next = last.map_or(0, |last| last.sequence().saturating_add(1));
        let shareable = next.max(first.unwrap_or(0)).max(lost_main.map_or(0, |lost| lost.end));
        // There would be a gap.
        if first.is_none_or(|first| diverges < first) || diverges > shareable {
            own = &[];
        }
        let shared = &mains[within(&main, &mains, range.start..range.end.min(diverges))?];
        let own = &own[within(stream, own, range.start.max(diverges)..range.end)?];
        let shared = shared.iter().map(|&place| (place, false));
        let all: Vec<_> = shared.chain(own.iter().map(|&place| (place, true))).collect();
        Ok(GapCursor { stream: stream.clone(), left: 0..all.len(), places: all, backwards, first_own })
    }

    pub(crate) fn next(&mut self, store: &Inner) -> Result<Option<Event>> {
        let next = if self.backwards { self.left.next_back() } else { self.left.next() };
        let Some(n) = next else { return Ok(None) };
        let (place, own) = self.places[n];
        let main = if own { None } else { self.stream.in_main() };
        event_of(store, main.as_ref().unwrap_or(&self.stream), place).map(Some)
    }
}

/// Returns the event of a stream at a location.
fn event_of(store: &Inner, stream: &StreamId, place: Location) -> Result<Event> {
    let event = store.log.event_at(place)?;
    if event.is_in(stream) { Ok(event) } else { Err(misled(stream, "an event")) }
}

/// Returns the first number of a range that does not satisfy `below`, which must be monotonic.
fn bisect(range: Range<u64>, mut below: impl FnMut(u64) -> Result<bool>) -> Result<u64> {
    let (mut low, mut high) = (range.start, range.end);
    while low < high {
        let middle = low + (high - low) / 2;
        if below(middle)? {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(low)
}

impl Inner {
    /// Returns the event at a location, which the index says is of this stream.
    pub(crate) fn event_in(&self, stream: &StreamId, place: Location) -> Result<Event> {
        event_of(self, stream, place)
    }

    /// Returns the next sequence of a stream, as reads see it: that of the main edition if the
    /// stream has not diverged in its edition.
    pub(crate) fn next_sequence(&self, stream: &StreamId) -> Result<u64> {
        let next = self.catalog.index.next_sequence(stream.key())?;
        let main = if next == 0 { stream.in_main() } else { None };
        main.map_or(Ok(next), |main| self.catalog.index.next_sequence(main.key()))
    }

    /// Returns the next sequence of a stream that is about to be written to, and remembers it, so
    /// that it need not be looked up under a lock.
    pub(crate) fn next_sequence_to_write(&self, stream: &StreamId) -> Result<u64> {
        let next = self.catalog.index.next_sequence_to_write(stream.key())?;
        let main = if next == 0 { stream.in_main() } else { None };
        main.map_or(Ok(next), |main| self.catalog.index.next_sequence_to_write(main.key()))
    }

    /// Returns the sequence after the last event of a stream of the main edition below a position:
    /// positions rise with sequences.
    pub(crate) fn sequence_after(&self, stream: &StreamId, position: u64) -> Result<u64> {
        bisect(0..self.catalog.index.next_sequence(stream.key())?, |sequence| {
            let mut one = StreamCursor::new(self, stream.clone(), sequence..sequence + 1, false)?.limit(1);
            Ok(one.next(self)?.is_some_and(|event| event.position() < position))
        })
    }
}
