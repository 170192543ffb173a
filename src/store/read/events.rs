//! The one iterator behind every read and every query: a cursor returns events in order, a filter
//! decides which of them the caller sees, and gaps are reported where they are.

use super::Read;
use super::gaps::Untold;
use super::stream_cursor::{EditionCursor, GapCursor, StreamCursor};
use crate::error::{Error, Result};
use crate::format::event::Event;
use crate::index::deletions::Deletions;
use crate::log::{Backwards, Forwards};
use crate::segment::verified::{Next, Verified};
use crate::store::Inner;
use crate::store::query::Query;
use crate::store::query::candidates::Candidates;
use crate::store::query::search::Search;
use crate::store::query::visibility::Visible;
use crate::time::Timestamp;
use std::fmt;
use std::iter::FusedIterator;
use std::sync::Arc;

/// The events of a read or a query, verified one by one or in blocks.
///
/// The iterator returns events that can be kept; [`Events::advance`] lends them instead, which
/// costs less when the caller looks at many events in turn.
///
/// The iterator ends after an error, with one exception: in a store that is
/// [read around damage](crate::Options::open_read_only), a gap is an [`Error::Damaged`] that names
/// it, and the events after it follow. A gap may have held events of any query. An `Events` value
/// keeps the store open.
pub struct Events {
    store: Arc<Inner>,
    cursor: Cursor,
    filter: Filter,
    /// The gaps that have not been reported.
    gaps: Option<Untold>,
    /// The item after the gaps that are being reported.
    lookahead: Option<Result<Option<Event>>>,
    /// The rest of the read, to begin again around damage.
    resume: Option<Box<Resume>>,
    left: u64,
    /// The position before which the read ends.
    end: u64,
    /// The next record of the cursor is an event of the read, unless the stream was deleted.
    plain: bool,
    /// The event that [`Events::advance`] has lent.
    lent: Option<Event>,
}

/// The source of events, in the order of the read.
pub(crate) enum Cursor {
    Nothing,
    Forwards(Box<Forwards>),
    Backwards(Box<Backwards>),
    Stream(StreamCursor),
    Edition(EditionCursor),
    Gaps(GapCursor),
    Index(Box<Candidates>),
    Failed(Option<Error>),
}

impl Cursor {
    /// Returns the next event if its record has been read and nothing can hide it.
    #[inline(always)]
    fn at_hand(&mut self) -> Option<(Next, &Verified)> {
        match self {
            Cursor::Forwards(cursor) => cursor.at_hand(false),
            Cursor::Stream(cursor) => cursor.at_hand(false),
            _ => None,
        }
    }

    pub(crate) fn next(&mut self, store: &Arc<Inner>) -> Result<Option<Event>> {
        match self {
            Cursor::Nothing => Ok(None),
            Cursor::Forwards(cursor) => cursor.next(),
            Cursor::Backwards(cursor) => cursor.next(),
            Cursor::Stream(cursor) => cursor.next(store),
            Cursor::Edition(cursor) => cursor.next(store),
            Cursor::Gaps(cursor) => cursor.next(store),
            Cursor::Index(cursor) => cursor.next(store),
            Cursor::Failed(error) => error.take().map_or(Ok(None), Err),
        }
    }
}

/// Which events of the cursor belong to the read.
pub(crate) enum Filter {
    /// Events that were not deleted and occurred within these times, both included.
    Read { deletions: Arc<Deletions>, occurred: (Timestamp, Timestamp) },
    /// Events that match a query and are visible in its edition.
    Query(Box<QueryFilter>),
}

/// The filter of a query.
pub(crate) struct QueryFilter {
    pub query: Query,
    /// The events of all editions match, each once.
    pub any_edition: bool,
    /// The query has no condition.
    pub everything: bool,
    /// `None` if the search could not begin.
    pub visible: Option<Visible>,
}

/// The decision of a filter.
enum Verdict {
    Shown,
    /// Not part of the read.
    Hidden,
    /// Excluded by its time; the gaps before it are reported as before any event of the read.
    OutOfTime,
}

impl Filter {
    /// Returns whether every event of the cursor passes that no deletion hides.
    fn is_plain(&self) -> bool {
        matches!(self, Filter::Read { occurred: (Timestamp::MIN, Timestamp::MAX), .. })
    }

    fn judge(&mut self, store: &Arc<Inner>, event: &Event) -> Result<Verdict> {
        match self {
            Filter::Read { deletions, .. } if deletions.hide(event.key(), event.position()) => Ok(Verdict::Hidden),
            Filter::Read { occurred: (since, until), .. } => {
                let occurred = event.occurred_at().unwrap_or(event.recorded_at());
                Ok(if *since <= occurred && occurred <= *until { Verdict::Shown } else { Verdict::OutOfTime })
            }
            Filter::Query(filter) => Ok(if filter.shows(store, event)? { Verdict::Shown } else { Verdict::Hidden }),
        }
    }
}

impl QueryFilter {
    fn shows(&mut self, store: &Arc<Inner>, event: &Event) -> Result<bool> {
        // All of the main edition: a key that begins with 0 is not one of its streams.
        if self.everything && event.key().first() != Some(&0) {
            return Ok(true);
        }
        let Some(visible) = &mut self.visible else { return Ok(false) };
        let matches = match self.any_edition {
            true => self.query.matches_in_any_edition(event),
            false => self.query.matches(event),
        };
        Ok(matches && visible.shows(store, event)?)
    }
}

/// What is needed to continue a read around damage: its builder, minus what was returned.
pub(crate) enum Resume {
    Read(Read),
    Search(Search),
}

impl Resume {
    fn passed(&mut self, event: &Event) {
        match self {
            Resume::Read(read) => read.passed(event),
            Resume::Search(search) => search.passed(event),
        }
    }
}

/// The parts of an [`Events`].
pub(crate) struct Parts {
    pub store: Arc<Inner>,
    pub cursor: Cursor,
    pub filter: Filter,
    pub gaps: Option<Untold>,
    pub resume: Option<Box<Resume>>,
    pub limit: u64,
    pub end: u64,
}

impl Events {
    pub(crate) fn new(parts: Parts) -> Events {
        let Parts { store, cursor, filter, gaps, resume, limit, end } = parts;
        Events {
            plain: filter.is_plain() && gaps.is_none() && resume.is_none(),
            store,
            cursor,
            filter,
            gaps,
            lookahead: None,
            resume,
            left: limit,
            end,
            lent: None,
        }
    }

    /// Returns the next event, lent until the next call; `None` at the end. The events are those of
    /// the iterator, and both can be used in turn.
    ///
    /// An event that is kept needs a reference count on its block, and new memory for the events
    /// after it. A lent one needs neither: a replay of small events takes two thirds of the time.
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
    /// As the iterator; what follows an error is the same, too.
    #[inline]
    pub fn advance(&mut self) -> Result<Option<&Event>> {
        if self.plain
            && self.left > 0
            && let Some((next, verified)) = self.cursor.at_hand()
        {
            self.left -= 1;
            verified.replace(&mut self.lent, &next);
            return Ok(self.lent.as_ref());
        }
        // An event that is no longer lent need not be kept.
        self.lent = None;
        self.lent = self.seek().transpose()?;
        Ok(self.lent.as_ref())
    }

    /// The last position that belongs to the read.
    pub(crate) fn head(&self) -> Option<u64> {
        self.end.checked_sub(1)
    }

    /// Returns whether items may follow: after a gap they may, after an error none do.
    pub(crate) fn goes_on(&self) -> bool {
        self.left > 0 || self.gaps.is_some()
    }

    /// Returns the first position of the gaps that have not been reported; `u64::MAX` if there are
    /// none.
    pub(crate) fn first_gap(&self) -> u64 {
        self.gaps.as_ref().map_or(u64::MAX, Untold::first)
    }

    /// Returns the error that kept the read from beginning, unless it can begin around damage.
    pub(crate) fn begun(&mut self) -> Result<()> {
        while let Cursor::Failed(error) = &mut self.cursor {
            match error.take() {
                Some(Error::Damaged(_)) if self.go_around()? => {}
                Some(error) => return Err(error),
                None => break,
            }
        }
        Ok(())
    }

    /// Returns the next event, on the slow path.
    #[inline(never)]
    fn seek(&mut self) -> Option<Result<Event>> {
        if self.left == 0 {
            let gaps = self.gaps.as_mut().filter(|gaps| gaps.all)?;
            match self.filter {
                Filter::Read { .. } => gaps.pass(None),
                Filter::Query(_) => gaps.pass_unknown(),
            }
            return gaps.tell().map(Err);
        }
        if let Some(gaps) = &mut self.gaps {
            if let Some(told) = gaps.tell() {
                return Some(Err(told));
            }
            if let Some(next) = self.lookahead.take() {
                return self.give(next);
            }
        }
        let next = self.next_shown();
        if let (Some(gaps), Ok(found)) = (&mut self.gaps, &next) {
            gaps.pass(found.as_ref());
            if let Some(told) = gaps.tell() {
                self.lookahead = Some(next);
                return Some(Err(told));
            }
        }
        self.give(next)
    }

    fn next_shown(&mut self) -> Result<Option<Event>> {
        while let Some(event) = self.cursor.next(&self.store)? {
            match self.filter.judge(&self.store, &event)? {
                Verdict::Shown => return Ok(Some(event)),
                Verdict::Hidden => {}
                Verdict::OutOfTime => {
                    if let Some(gaps) = &mut self.gaps {
                        gaps.pass(Some(&event));
                    }
                }
            }
        }
        Ok(None)
    }

    #[inline]
    fn give(&mut self, next: Result<Option<Event>>) -> Option<Result<Event>> {
        match next {
            Ok(Some(event)) => {
                self.left -= 1;
                if let Some(resume) = &mut self.resume {
                    resume.passed(&event);
                }
                Some(Ok(event))
            }
            Ok(None) => {
                self.left = 0;
                None
            }
            Err(Error::Damaged(damage)) if self.resume.is_some() => match self.go_around() {
                Ok(true) => self.next(),
                Ok(false) => self.give(Err(Error::Damaged(damage))),
                Err(error) => self.give(Err(error)),
            },
            Err(error) => {
                (self.left, self.gaps) = (0, None);
                Some(Err(error))
            }
        }
    }

    /// Begins the rest of the read again, around damage that was met. Returns `false` if that is
    /// not possible.
    fn go_around(&mut self) -> Result<bool> {
        let Some(resume) = self.resume.take() else { return Ok(false) };
        let Some(store) = self.store.around()? else { return Ok(false) };
        *self = match *resume {
            Resume::Read(read) => read.resume_in(store, self.left),
            Resume::Search(search) => search.resume_in(store, self.left),
        };
        Ok(true)
    }
}

impl Iterator for Events {
    type Item = Result<Event>;

    #[inline]
    fn next(&mut self) -> Option<Result<Event>> {
        if self.plain
            && self.left > 0
            && let Some((next, verified)) = self.cursor.at_hand()
        {
            self.left -= 1;
            return Some(Ok(verified.event(&next)));
        }
        self.seek()
    }
}

impl FusedIterator for Events {}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").field("left", &self.left).finish_non_exhaustive()
    }
}
