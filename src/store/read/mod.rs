//! Reading: one stream, or the whole store.

pub(crate) mod around_damage;
pub(crate) mod gaps;
pub(crate) mod stream_cursor;

use super::query::Query;
use super::query::search::AsOf;
use super::{Inner, Store};
use crate::error::{Error, Result};
use crate::format::event::Event;
use crate::index::deletions::Deletions;
use crate::log::{Backwards, Forwards};
use crate::segment::verified::{Next, Verified};
use crate::stream::StreamId;
use crate::time::Timestamp;
use gaps::Untold;
use std::fmt;
use std::iter::FusedIterator;
use std::ops::Range;
use std::sync::Arc;
use stream_cursor::{EditionWalk, GapWalk, StreamWalk};

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
        self.read_from(ReadSource::Stream(stream.clone()))
    }

    /// Reads the events of the whole store, of all editions, in order of positions. `from` and `to` are positions then. The positions of deleted events are passed over.
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
    /// Read as if the edition of the stream diverged there.
    diverging_at: Option<u64>,
    /// In a store that is read around damage, gaps are items of the read.
    names_gaps: bool,
}

impl Read {
    /// Passes over gaps.
    pub(crate) fn over_gaps(mut self) -> Self {
        self.names_gaps = false;
        self
    }

    /// Only what had been recorded at a position of the store or a time, it included.
    pub fn as_of(mut self, point: impl Into<AsOf>) -> Self {
        self.as_of = Some(point.into());
        self
    }

    /// Only events that occurred at this time or later. The time of recording counts for those that do not say when they occurred.
    pub fn occurred_since(mut self, time: Timestamp) -> Self {
        self.occurred.0 = time;
        self
    }

    /// Only events that occurred at this time or earlier. The time of recording counts for those that do not say when they occurred.
    pub fn occurred_until(mut self, time: Timestamp) -> Self {
        self.occurred.1 = time;
        self
    }

    /// Begins with the newest event of this type (backwards, ends with it), if there is one: what a stream needs whose state is summed up now and then, as by a `BooksClosed`. It is found
    /// without reading what stands before it, and in a named edition without a search: there, what follows it is read twice. A read of the whole store looks for it in all editions.
    pub fn from_latest(mut self, event_type: impl Into<String>) -> Self {
        self.latest = Some(event_type.into());
        self
    }

    /// Reads a stream in a named edition as if it diverged from the main one at this sequence: the events of the main edition below it, then those of the edition's own from there on. What the edition has of its own is
    /// only read if it goes on there without a gap; events of the main one that are lost are a gap. Of no effect on other reads.
    pub fn diverging_at(mut self, sequence: u64) -> Self {
        self.diverging_at = Some(sequence);
        self
    }

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
        let mut read = self;
        read.store = read.store.seen_around();
        read.events()
    }
}

impl Read {
    fn events(self) -> Events {
        let again = self.store.around.is_possible().then(|| Box::new(self.clone()));
        let (deletions, end) = self.store.view.index.deletions_at(|| self.store.log.watermark());
        let (walk, start) = self.begin(end).unwrap_or_else(|error| (Walk::Failed(Some(error)), self.range.start));
        let untold = self.untold(&walk, start, end);
        let all_times = self.occurred == (Timestamp::MIN, Timestamp::MAX);
        Events {
            plain: all_times && untold.is_none() && again.is_none(),
            store: self.store,
            occurred: self.occurred,
            deletions,
            walk,
            untold,
            held: None,
            again,
            left: self.limit,
            lent: None,
        }
    }
}

impl Read {
    /// The gaps that the read has to name, from where it begins.
    fn untold(&self, walk: &Walk, start: u64, mut end: u64) -> Option<Untold> {
        let gaps = &self.store.gaps;
        if gaps.is_empty() || !self.names_gaps {
            return None;
        }
        if let Some(point) = self.as_of {
            // An error here is met by the read itself.
            end = self.store.position_behind(point, end).unwrap_or(end);
        }
        let mut untold = match &self.source {
            ReadSource::All => Untold::of_positions(gaps, start..self.range.end.min(end), self.backwards),
            ReadSource::Stream(stream) => {
                let first_own = if let Walk::Gaps(walk) = walk { walk.first_own } else { 0 };
                Untold::of_stream(gaps, stream, start..self.range.end, first_own, end, self.backwards)
            }
        };
        untold.all = self.latest.is_some() && self.limit > 0;
        Some(untold)
    }

    /// The walk, and the sequence or position that it begins with (backwards, ends with).
    fn begin(&self, mut end: u64) -> Result<(Walk, u64)> {
        let (store, log) = (&self.store, &self.store.log);
        if let Some(point) = self.as_of {
            end = store.position_behind(point, end)?;
        }
        let mut range = self.range.clone();
        let before = self.as_of.map(|_| end);
        let walk = match &self.source {
            ReadSource::Stream(stream) if stream.edition().is_some() => {
                let own = Arc::new(store.view.index.own(stream.key())?);
                let walk = |range, backwards| -> Result<Walk> {
                    Ok(match store.view.index.is_lossy() {
                        true => {
                            Walk::Gaps(GapWalk::new(store, stream, &own, range, backwards, before, self.diverging_at)?)
                        }
                        false => {
                            let own = own.clone();
                            Walk::Edition(EditionWalk::new(
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
                    // What is seen here no query sees: from the end, then, and at the same moment.
                    let mut newest = walk(0..u64::MAX, true)?;
                    while let Some(event) = newest.next(store)? {
                        if event.event_type() == event_type {
                            range.start = range.start.max(event.sequence());
                            break;
                        }
                    }
                }
                walk(range.clone(), self.backwards)?
            }
            source => {
                if let Some(event_type) = &self.latest {
                    range.start = range.start.max(self.latest(event_type, end)?);
                }
                match (source, self.backwards) {
                    (ReadSource::All, false) => Walk::Forwards(log.forwards(range.start..range.end.min(end))),
                    (ReadSource::All, true) => Walk::Backwards(log.backwards(range.start..range.end.min(end))),
                    (ReadSource::Stream(stream), backwards) if store.view.index.is_lossy() => {
                        let own = store.view.index.own(stream.key())?;
                        Walk::Gaps(GapWalk::new(store, stream, &own, range.clone(), backwards, before, None)?)
                    }
                    (ReadSource::Stream(stream), backwards) => {
                        let mut held = range.clone();
                        if self.as_of.is_some() {
                            held.end = held.end.min(store.sequence_behind(stream, end)?);
                        }
                        Walk::Stream(StreamWalk::new(store, stream.clone(), held, backwards)?.limit(self.limit))
                    }
                }
            }
        };
        Ok((walk, range.start))
    }

    /// Where the newest event of a type stands, among those below a position: its sequence, or its position in a read of the whole store. 0 if there is none, or none that is intact.
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

/// Whether an event occurred within these times, both included.
fn occurred_within(event: &Event, (since, until): (Timestamp, Timestamp)) -> bool {
    if since == Timestamp::MIN && until == Timestamp::MAX {
        return true;
    }
    let occurred = event.occurred_at().unwrap_or(event.recorded_at());
    since <= occurred && occurred <= until
}

/// The events of a read, verified one by one or in blocks.
///
/// It is an iterator, whose events can be kept; [`Events::advance`] lends them instead, which costs less where many are looked at once.
///
/// After an error it ends; but in a store that is [read around damage](crate::Options::open_read_only), a gap is an [`Error::Damaged`] that names it, and the events behind it follow.
/// It holds the store open.
pub struct Events {
    store: Arc<Inner>,
    occurred: (Timestamp, Timestamp),
    deletions: Arc<Deletions>,
    walk: Walk,
    /// The gaps that are to be named.
    untold: Option<Untold>,
    /// What comes behind the gaps that are being named.
    held: Option<Result<Option<Event>>>,
    /// The rest of the read, to be begun anew if damage shows that can be read around.
    again: Option<Box<Read>>,
    left: u64,
    /// What the walk finds is given as it is, but for events that a deletion may hide.
    plain: bool,
    /// What [`Events::advance`] has lent.
    lent: Option<Event>,
}

enum Walk {
    Forwards(Forwards),
    Backwards(Backwards),
    Stream(StreamWalk),
    Edition(EditionWalk),
    Gaps(GapWalk),
    Failed(Option<Error>),
}

impl Walk {
    /// The next event, if its record is at hand and nothing can hide it.
    #[inline(always)]
    fn at_hand(&mut self) -> Option<(Next, &Verified)> {
        match self {
            Walk::Forwards(walk) => walk.at_hand(false),
            Walk::Stream(walk) => walk.at_hand(false),
            _ => None,
        }
    }

    fn next(&mut self, store: &Inner) -> Result<Option<Event>> {
        match self {
            Walk::Forwards(walk) => walk.next(),
            Walk::Backwards(walk) => walk.next(),
            Walk::Stream(walk) => walk.next(store),
            Walk::Edition(walk) => walk.next(store),
            Walk::Gaps(walk) => walk.next(store),
            Walk::Failed(error) => error.take().map_or(Ok(None), Err),
        }
    }
}

impl Iterator for Events {
    type Item = Result<Event>;

    #[inline]
    fn next(&mut self) -> Option<Result<Event>> {
        if self.plain
            && self.left > 0
            && let Some((next, verified)) = self.walk.at_hand()
        {
            self.left -= 1;
            return Some(Ok(verified.event(&next)));
        }
        self.seek()
    }
}

impl Events {
    /// The next event, lent until the one after it is asked for: `None` at the end. The events are the same as those of the iterator, and both can be used in turn.
    ///
    /// An event that is kept needs a count of who shares its memory, and memory for the events behind it. A lent one needs neither: a replay of small events takes two thirds of the time.
    ///
    /// ```
    /// use annals::{Expected, NewEvent, Store, StreamId};
    /// let store = Store::in_memory();
    /// let order = StreamId::new("order", "1")?;
    /// store.append(&order, Expected::Any, ["A", "B"].map(|event_type| NewEvent::new(event_type, b"12")))?;
    /// let (mut bytes, mut events) = (0, store.read_all().into_iter());
    /// while let Some(event) = events.advance()? {
    ///     bytes += event.data().len();
    /// }
    /// assert_eq!(bytes, 4);
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those that the iterator gives as items; what follows is the same, too.
    #[inline]
    pub fn advance(&mut self) -> Result<Option<&Event>> {
        if self.plain
            && self.left > 0
            && let Some((next, verified)) = self.walk.at_hand()
        {
            self.left -= 1;
            verified.replace(&mut self.lent, &next);
            return Ok(self.lent.as_ref());
        }
        // What is no longer lent need not be kept by who reads on.
        self.lent = None;
        self.lent = self.seek().transpose()?;
        Ok(self.lent.as_ref())
    }

    /// The next event, wherever it stands.
    #[inline(never)]
    fn seek(&mut self) -> Option<Result<Event>> {
        if self.left == 0 {
            let untold = self.untold.as_mut().filter(|untold| untold.all)?;
            untold.pass(None);
            return untold.tell().map(Err);
        }
        if let Some(untold) = &mut self.untold {
            if let Some(told) = untold.tell() {
                return Some(Err(told));
            }
            if let Some(next) = self.held.take() {
                return self.give(next);
            }
        }
        let next = loop {
            match self.walk.next(&self.store) {
                Ok(Some(event)) if self.deletions.hide(event.key(), event.position()) => {}
                Ok(Some(event)) if !occurred_within(&event, self.occurred) => {
                    if let Some(untold) = &mut self.untold {
                        untold.pass(Some(&event));
                    }
                }
                next => break next,
            }
        };
        if let (Some(untold), Ok(found)) = (&mut self.untold, &next) {
            untold.pass(found.as_ref());
            if let Some(told) = untold.tell() {
                self.held = Some(next);
                return Some(Err(told));
            }
        }
        self.give(next)
    }
}

impl Read {
    /// Leaves out what has been given.
    fn passed(&mut self, event: &Event) {
        let number = match self.source {
            ReadSource::All => event.position(),
            ReadSource::Stream(_) => event.sequence(),
        };
        match self.backwards {
            false => self.range.start = number + 1,
            true => self.range.end = number,
        }
    }
}

impl Events {
    /// Goes on around damage that has shown. `false` if there is no way.
    fn around(&mut self) -> Result<bool> {
        let Some(again) = self.again.take() else { return Ok(false) };
        let Some(store) = self.store.around()? else { return Ok(false) };
        *self = Read { store, limit: self.left, ..*again }.events();
        Ok(true)
    }

    #[inline]
    fn give(&mut self, next: Result<Option<Event>>) -> Option<Result<Event>> {
        match next {
            Ok(Some(event)) => {
                self.left -= 1;
                if let Some(again) = &mut self.again {
                    again.passed(&event);
                }
                Some(Ok(event))
            }
            Ok(None) => {
                self.left = 0;
                None
            }
            Err(Error::Damaged(damage)) if self.again.is_some() => match self.around() {
                Ok(true) => self.next(),
                Ok(false) => self.give(Err(Error::Damaged(damage))),
                Err(error) => self.give(Err(error)),
            },
            Err(error) => {
                (self.left, self.untold) = (0, None);
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
