//! Reading: one stream, or the whole store.

use super::{Inner, Store};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::index::term::Term;
use crate::log::{Backwards, Forwards};
use crate::position::Location;
use crate::stream::StreamId;
use std::fmt;
use std::iter::FusedIterator;
use std::ops::Range;
use std::sync::Arc;

/// Locations that are taken from the index at a time.
const BATCH: u64 = 256;

impl Store {
    /// Reads the events of a stream: `store.read(&stream)` all of them, and what [`Read`] can restrict. Nothing is read before the iteration begins.
    ///
    /// A stream that does not exist, and a range without events, give nothing and no error.
    ///
    /// ```
    /// use annals::{Expected, NewEvent, Store, StreamId};
    /// let store = Store::in_memory();
    /// let order = StreamId::new("order", "1")?;
    /// store.append(&order, Expected::Any, ["A", "B", "C"].map(|event_type| NewEvent::new(event_type, "")))?;
    /// let types = |read: annals::Read| -> Result<Vec<String>, annals::Error> {
    ///     read.into_iter().map(|event| Ok(event?.event_type().to_owned())).collect()
    /// };
    /// assert_eq!(types(store.read(&order))?, ["A", "B", "C"]);
    /// assert_eq!(types(store.read(&order).from(1).to(2))?, ["B"]);
    /// assert_eq!(types(store.read(&order).backwards().limit(2))?, ["C", "B"]);
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn read(&self, stream: &StreamId) -> Read {
        self.read_from(Source::Stream(stream.clone()))
    }

    /// Reads the events of the whole store in order of positions. `from` and `to` are positions then.
    pub fn read_all(&self) -> Read {
        self.read_from(Source::All)
    }

    fn read_from(&self, source: Source) -> Read {
        Read { store: self.inner.clone(), source, range: 0..u64::MAX, limit: u64::MAX, backwards: false }
    }
}

enum Source {
    All,
    Stream(StreamId),
}

/// A read that has not begun. Iterate over it: it is `IntoIterator<Item = Result<Event>>`.
#[must_use = "nothing is read before it is iterated over"]
pub struct Read {
    store: Arc<Inner>,
    source: Source,
    range: Range<u64>,
    limit: u64,
    backwards: bool,
}

impl Read {
    /// Begins with the event that has this sequence (or position, for a read of the whole store); backwards, ends with it. 0 unless said otherwise.
    pub fn from(mut self, first: u64) -> Self {
        self.range.start = first;
        self
    }

    /// Ends before the event that has this sequence (or position); backwards, begins before it. No end unless said otherwise.
    pub fn to(mut self, end: u64) -> Self {
        self.range.end = end;
        self
    }

    /// Gives at most this many events.
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }

    /// Gives the newest events first.
    pub fn backwards(mut self) -> Self {
        self.backwards = true;
        self
    }
}

impl IntoIterator for Read {
    type Item = Result<Event>;
    type IntoIter = Events;

    /// Begins the read. It sees what is visible now, and nothing that comes later.
    fn into_iter(self) -> Events {
        let log = &self.store.log;
        let walk = match self.source {
            Source::All => {
                let positions = self.range.start..self.range.end.min(log.watermark());
                match self.backwards {
                    false => Walk::Forwards(log.forwards(positions)),
                    true => Walk::Backwards(log.backwards(positions)),
                }
            }
            Source::Stream(stream) => match StreamWalk::new(&self.store, stream, self.range, self.backwards) {
                Ok(walk) => Walk::Stream(walk),
                Err(error) => Walk::Failed(Some(error)),
            },
        };
        Events { store: self.store, walk, left: self.limit }
    }
}

/// The events of a read, verified one by one or in blocks.
///
/// After an error it ends. It holds the store open.
pub struct Events {
    store: Arc<Inner>,
    walk: Walk,
    left: u64,
}

enum Walk {
    Forwards(Forwards),
    Backwards(Backwards),
    Stream(StreamWalk),
    Failed(Option<Error>),
}

struct StreamWalk {
    stream: StreamId,
    term: Term,
    sequences: Range<u64>,
    backwards: bool,
    /// The segment that the next event is looked for in first.
    segment: u64,
    segments: u64,
    /// The locations that come next, in reverse order.
    batch: Vec<Location>,
}

impl StreamWalk {
    fn new(store: &Inner, stream: StreamId, range: Range<u64>, backwards: bool) -> Result<Self> {
        let index = &store.view.index;
        let next = index.next_sequence(stream.key())?;
        let sequences = range.start..range.end.min(next);
        let segments = index.segments();
        let near_the_end = backwards || sequences.start > next / 2;
        let segment = if near_the_end { segments } else { 1 };
        let term = Term::stream(stream.key());
        Ok(StreamWalk { stream, term, sequences, backwards, segment, segments, batch: Vec::new() })
    }

    fn next(&mut self, store: &Inner) -> Result<Option<Event>> {
        let next = if self.backwards { self.sequences.next_back() } else { self.sequences.next() };
        let Some(sequence) = next else { return Ok(None) };
        if self.batch.is_empty() {
            self.fill(store, sequence)?;
        }
        let location = self.batch.pop().ok_or_else(|| lost(&self.stream, sequence))?;
        let event = store.log.event_at(location)?;
        if !event.is_in(&self.stream) || event.sequence() != sequence {
            return Err(lost(&self.stream, sequence));
        }
        Ok(Some(event))
    }

    /// Takes locations from the index, from that of `sequence` on in the direction of the read, all in one segment.
    fn fill(&mut self, store: &Inner, sequence: u64) -> Result<()> {
        let held = self.find(store, sequence)?;
        let (first, count) = match self.backwards {
            false => (sequence, (held.end.min(self.sequences.end.max(sequence + 1)) - sequence).min(BATCH)),
            true => {
                let lowest = held.start.max(self.sequences.start).max((sequence + 1).saturating_sub(BATCH));
                (lowest, sequence + 1 - lowest)
            }
        };
        let mut offsets = Vec::with_capacity(count as usize);
        store.view.index.stream(self.segment, &self.term, first, count as usize, &mut offsets)?;
        if !self.backwards {
            offsets.reverse();
        }
        let segment = self.segment;
        self.batch.extend(offsets.into_iter().map(|offset| Location { segment, offset: offset.into() }));
        Ok(())
    }

    /// Goes to the segment that holds this sequence, and gives all that it holds.
    fn find(&mut self, store: &Inner, sequence: u64) -> Result<Range<u64>> {
        let mut upwards = None;
        loop {
            let held = store.view.index.sequences(self.segment, &self.term)?;
            if held.contains(&sequence) {
                return Ok(held);
            }
            // Segments that do not hold the stream say nothing: go on as before, at first with the read.
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
    }
}

/// The index does not lead to an event that must be there: it is wrong, and nothing that it says can be believed.
fn lost(stream: &StreamId, sequence: u64) -> Error {
    Error::invalid(
        "index",
        format!("it does not lead to event {sequence} of {stream}; delete the .idx files and reopen the store"),
    )
}

impl Iterator for Events {
    type Item = Result<Event>;

    #[inline]
    fn next(&mut self) -> Option<Result<Event>> {
        if self.left == 0 {
            return None;
        }
        let next = match &mut self.walk {
            Walk::Forwards(walk) => walk.next(),
            Walk::Backwards(walk) => walk.next(),
            Walk::Stream(walk) => walk.next(&self.store),
            Walk::Failed(error) => error.take().map_or(Ok(None), Err),
        };
        match next {
            Ok(Some(event)) => {
                self.left -= 1;
                Some(Ok(event))
            }
            Ok(None) => {
                self.left = 0;
                None
            }
            Err(error) => {
                self.left = 0;
                Some(Err(error))
            }
        }
    }
}

impl FusedIterator for Events {}

impl fmt::Debug for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Read").field("range", &self.range).field("limit", &self.limit).finish_non_exhaustive()
    }
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("left", &self.left).finish_non_exhaustive()
    }
}
