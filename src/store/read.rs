//! Reading: one stream, or the whole store.

use super::{Inner, Store};
use crate::error::{Error, Result};
use crate::event::Event;
use crate::log::{Backwards, Forwards};
use crate::position::Location;
use crate::stream::StreamId;
use std::fmt;
use std::iter::FusedIterator;
use std::ops::Range;
use std::sync::Arc;

/// Locations that are taken from the index at a time.
const BATCH: usize = 256;

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
            Source::Stream(stream) => {
                let next = self.store.view.next_sequence(stream.key());
                let sequences = self.range.start..self.range.end.min(next);
                let backwards = self.backwards;
                Walk::Stream(StreamWalk { stream, sequences, backwards, batch: Vec::new() })
            }
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
}

struct StreamWalk {
    stream: StreamId,
    sequences: Range<u64>,
    backwards: bool,
    /// The locations that come next, in reverse order.
    batch: Vec<Location>,
}

impl StreamWalk {
    fn next(&mut self, store: &Inner) -> Result<Option<Event>> {
        let next = if self.backwards { self.sequences.next_back() } else { self.sequences.next() };
        let Some(sequence) = next else { return Ok(None) };
        if self.batch.is_empty() {
            self.fill(store, sequence);
        }
        let location = self.batch.pop().expect("the index has all sequences below the next");
        let event = store.log.event_at(location)?;
        if !event.is_in(&self.stream) || event.sequence() != sequence {
            return Err(misplaced(&self.stream, sequence, &event));
        }
        Ok(Some(event))
    }

    /// Takes locations from the index, from that of `sequence` on in the direction of the read.
    fn fill(&mut self, store: &Inner, sequence: u64) {
        let left = self.sequences.end.saturating_sub(self.sequences.start) + 1;
        let count = left.min(BATCH as u64);
        let first = if self.backwards { sequence + 1 - count } else { sequence };
        let count = count as usize;
        store.view.locations(self.stream.key(), first, count, &mut self.batch);
        if !self.backwards {
            self.batch.reverse();
        }
    }
}

/// The index led to an event of another stream: it is wrong, and nothing that it says can be believed.
fn misplaced(stream: &StreamId, sequence: u64, event: &Event) -> Error {
    Error::invalid(
        "index",
        format!("{stream} {sequence} led to {} {}; reopen the store", event.stream(), event.sequence()),
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
