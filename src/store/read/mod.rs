//! Reads: one stream, or the whole store.

pub(crate) mod around_damage;
mod events;
pub(crate) mod gaps;
pub(crate) mod stream_cursor;

use super::query::Query;
use super::query::search::AsOf;
use super::{Inner, Store};
use crate::error::Result;
use crate::format::event::Event;
use crate::stream::StreamId;
use crate::time::Timestamp;
pub use events::Events;
pub(crate) use events::{Cursor, Filter, Parts, QueryFilter, Resume};

use gaps::Untold;
use std::fmt;
use std::ops::Range;
use std::sync::Arc;
use stream_cursor::{EditionCursor, GapCursor, StreamCursor};

impl Store {
    /// Reads the events of a stream: all of them, or those that [`Read`] is restricted to. Nothing
    /// is read before the iteration begins.
    ///
    /// A stream that does not exist, and a range without events, return no events and no error.
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
        self.read_from(ReadSource::Stream(stream.clone()))
    }

    /// Reads the events of the whole store, of all editions, in order of positions. `from` and `to`
    /// are positions then. The positions of deleted events are skipped.
    pub fn read_all(&self) -> Read {
        self.read_from(ReadSource::All)
    }

    fn read_from(&self, source: ReadSource) -> Read {
        Read {
            store: self.inner.clone(),
            source,
            range: 0..u64::MAX,
            limit: u64::MAX,
            backwards: false,
            as_of: None,
            occurred: (Timestamp::MIN, Timestamp::MAX),
            latest: None,
            diverging_at: None,
            names_gaps: true,
        }
    }
}

#[derive(Clone)]
enum ReadSource {
    All,
    Stream(StreamId),
}

/// A read that has not begun. Iterate over it: it is `IntoIterator<Item = Result<Event>>`.
#[must_use = "nothing is read before it is iterated over"]
#[derive(Clone)]
pub struct Read {
    store: Arc<Inner>,
    source: ReadSource,
    range: Range<u64>,
    limit: u64,
    backwards: bool,
    as_of: Option<AsOf>,
    occurred: (Timestamp, Timestamp),
    /// Begin with the newest event of this type.
    latest: Option<String>,
    /// Read as if the edition of the stream diverged at this sequence.
    diverging_at: Option<u64>,
    /// In a store that is read around damage, gaps are items of the read.
    names_gaps: bool,
}

impl Read {
    /// Skips gaps.
    pub(crate) fn over_gaps(mut self) -> Self {
        self.names_gaps = false;
        self
    }

    /// Reads only what had been recorded up to a position or a time, included.
    pub fn as_of(mut self, point: impl Into<AsOf>) -> Self {
        self.as_of = Some(point.into());
        self
    }

    /// Reads only events that occurred at this time or later. An event without an occurrence time
    /// counts with its recorded time.
    pub fn occurred_since(mut self, time: Timestamp) -> Self {
        self.occurred.0 = time;
        self
    }

    /// Reads only events that occurred at this time or earlier. An event without an occurrence time
    /// counts with its recorded time.
    pub fn occurred_until(mut self, time: Timestamp) -> Self {
        self.occurred.1 = time;
        self
    }

    /// Begins with the newest event of this type (backwards: ends with it), if there is one. Use it
    /// for a stream whose state is summed up from time to time, for example by a `BooksClosed`. The
    /// event is found without reading those before it. In a named edition it is found by reading:
    /// the events after it are read twice. A read of the whole store looks for it in all editions.
    pub fn from_latest(mut self, event_type: impl Into<String>) -> Self {
        self.latest = Some(event_type.into());
        self
    }

    /// Reads a stream in a named edition as if it diverged from the main one at this sequence: the
    /// events of the main edition below it, then the edition's own from there on. The edition's own
    /// events are read only if they follow without a gap; lost events of the main edition are a
    /// gap. No effect on other reads.
    pub fn diverging_at(mut self, sequence: u64) -> Self {
        self.diverging_at = Some(sequence);
        self
    }

    /// Begins with the event that has this sequence (or position, for a read of the whole store);
    /// backwards, ends with it. Default: 0.
    pub fn from(mut self, first: u64) -> Self {
        self.range.start = first;
        self
    }

    /// Ends before the event that has this sequence (or position); backwards, begins before it.
    /// Default: no end.
    pub fn to(mut self, end: u64) -> Self {
        self.range.end = end;
        self
    }

    /// Returns at most this many events.
    pub fn limit(mut self, limit: u64) -> Self {
        self.limit = limit;
        self
    }

    /// Returns the newest events first.
    pub fn backwards(mut self) -> Self {
        self.backwards = true;
        self
    }
}

impl IntoIterator for Read {
    type Item = Result<Event>;
    type IntoIter = Events;

    /// Begins the read. It returns what is visible now, and nothing that is committed later.
    fn into_iter(self) -> Events {
        let mut read = self;
        read.store = read.store.seen_around();
        read.events()
    }
}

impl Read {
    /// Begins the rest of a read, in a view of the store around damage.
    pub(crate) fn resume_in(self, store: Arc<Inner>, limit: u64) -> Events {
        Read { store, limit, ..self }.events()
    }

    /// Removes what has been returned from the rest of the read.
    pub(crate) fn passed(&mut self, event: &Event) {
        let number = match self.source {
            ReadSource::All => event.position(),
            ReadSource::Stream(_) => event.sequence(),
        };
        match self.backwards {
            false => self.range.start = number + 1,
            true => self.range.end = number,
        }
    }

    fn events(self) -> Events {
        let resume = self.store.around.is_possible().then(|| Box::new(Resume::Read(self.clone())));
        let (deletions, end) = self.store.catalog.index.deletions_at(|| self.store.log.watermark());
        let failed = |error| (Cursor::Failed(Some(error)), self.range.start, end);
        let (cursor, start, seen_upto) = self.begin(end).unwrap_or_else(failed);
        let gaps = self.gaps_to_name(&cursor, start, seen_upto);
        Events::new(Parts {
            store: self.store,
            cursor,
            filter: Filter::Read { deletions, occurred: self.occurred },
            gaps,
            resume,
            limit: self.limit,
            end,
        })
    }
}

impl Read {
    /// Returns the gaps that the read must report, from its beginning up to the position below
    /// which it reads.
    fn gaps_to_name(&self, cursor: &Cursor, start: u64, end: u64) -> Option<Untold> {
        let gaps = &self.store.gaps;
        if gaps.is_empty() || !self.names_gaps {
            return None;
        }
        let mut untold = match &self.source {
            ReadSource::All => Untold::of_positions(gaps, start..self.range.end.min(end), self.backwards),
            ReadSource::Stream(stream) => {
                let first_own = if let Cursor::Gaps(cursor) = cursor { cursor.first_own } else { 0 };
                Untold::of_stream(gaps, stream, start..self.range.end, first_own, end, self.backwards)
            }
        };
        untold.all = self.latest.is_some() && self.limit > 0;
        Some(untold)
    }

    /// Returns the cursor, the sequence or position that it begins with (backwards, ends with), and
    /// the position after the last visible event below `end`.
    fn begin(&self, mut end: u64) -> Result<(Cursor, u64, u64)> {
        let (store, log) = (&self.store, &self.store.log);
        if let Some(point) = self.as_of {
            end = store.position_after(point, end)?;
        }
        let mut range = self.range.clone();
        let before = self.as_of.map(|_| end);
        let cursor = match &self.source {
            ReadSource::Stream(stream) if stream.edition().is_some() => {
                let own = Arc::new(store.catalog.index.own(stream.key())?);
                let cursor = |range, backwards| -> Result<Cursor> {
                    Ok(match store.catalog.index.is_lossy() {
                        true => Cursor::Gaps(GapCursor::new(
                            store,
                            stream,
                            &own,
                            range,
                            backwards,
                            before,
                            self.diverging_at,
                        )?),
                        false => {
                            let own = own.clone();
                            Cursor::Edition(EditionCursor::new(
                                store,
                                stream,
                                own,
                                range,
                                backwards,
                                before,
                                self.diverging_at,
                            )?)
                        }
                    })
                };
                if let Some(event_type) = &self.latest {
                    // Queries do not see what this read sees: so from the end, and at the same
                    // moment.
                    let mut newest = cursor(0..u64::MAX, true)?;
                    while let Some(event) = newest.next(store)? {
                        if event.event_type() == event_type {
                            range.start = range.start.max(event.sequence());
                            break;
                        }
                    }
                }
                cursor(range.clone(), self.backwards)?
            }
            source => {
                if let Some(event_type) = &self.latest {
                    range.start = range.start.max(self.latest(event_type, end)?);
                }
                match (source, self.backwards) {
                    (ReadSource::All, false) => {
                        Cursor::Forwards(Box::new(log.forwards(range.start..range.end.min(end))))
                    }
                    (ReadSource::All, true) => {
                        Cursor::Backwards(Box::new(log.backwards(range.start..range.end.min(end))))
                    }
                    (ReadSource::Stream(stream), backwards) if store.catalog.index.is_lossy() => {
                        let own = store.catalog.index.own(stream.key())?;
                        Cursor::Gaps(GapCursor::new(store, stream, &own, range.clone(), backwards, before, None)?)
                    }
                    (ReadSource::Stream(stream), backwards) => {
                        let mut held = range.clone();
                        if self.as_of.is_some() {
                            held.end = held.end.min(store.sequence_after(stream, end)?);
                        }
                        Cursor::Stream(StreamCursor::new(store, stream.clone(), held, backwards)?.limit(self.limit))
                    }
                }
            }
        };
        Ok((cursor, range.start, end))
    }

    /// Returns the sequence of the newest event of a type below a position, or its position in a
    /// read of the whole store. 0 if there is none, or none that is intact.
    fn latest(&self, event_type: &str, end: u64) -> Result<u64> {
        let Some(last) = end.checked_sub(1) else { return Ok(0) };
        let store = Store { inner: self.store.clone() };
        let query = Query::new().event_type(event_type);
        let (query, place): (_, fn(&Event) -> u64) = match &self.source {
            ReadSource::All => (query, Event::position),
            ReadSource::Stream(stream) => (query.stream(stream), Event::sequence),
        };
        let mut newest = store.query(&query).until(last).backwards().limit(1).over_gaps();
        if matches!(self.source, ReadSource::All) {
            newest = newest.in_any_edition();
        }
        let newest = newest.into_iter().next().transpose()?;
        Ok(newest.as_ref().map_or(0, place))
    }
}

impl fmt::Debug for Read {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Read").field("range", &self.range).field("limit", &self.limit).finish_non_exhaustive()
    }
}
