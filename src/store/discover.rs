//! Discovery: domains, streams, event types, tags, and events by their ids.

use super::{Inner, Query, Store};
use crate::Uuid;
use crate::error::{Damage, Error, Result};
use crate::format::event::{Event, derived_position};
use crate::index::TermInfo;
use crate::index::deletions::Deletions;
use crate::index::term::{self, Term, TermKind};
use crate::position::Location;
use crate::reconstruct::Loss;
use crate::stream::{MAIN, StreamId};
use crate::time::Timestamp;
use std::collections::BTreeMap;
use std::ops::Deref;

/// What a store knows of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamInfo {
    /// Its name.
    pub stream: StreamId,
    /// The sequence of its next event: the number of its events, including those that a named
    /// edition shares with the main one.
    pub next_sequence: u64,
    /// The position of its last event.
    pub last_position: u64,
    /// The time when its last event was recorded.
    pub last_recorded_at: Timestamp,
}

/// A domain, an event type or a tag, and how many events have it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NameInfo {
    /// Its name.
    pub name: String,
    /// Number of events in the main edition. 0 for a domain that only named editions have.
    pub events: u64,
    /// Number of events that named editions have of their own, without deleted ones.
    pub in_editions: u64,
}

/// Events with a correlation id, by stream, and gaps that may have held more. From
/// [`Store::correlated`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Correlated {
    /// The events of each stream, in order.
    pub streams: BTreeMap<StreamId, Vec<Event>>,
    /// The gaps of a store that is [read around damage](crate::Options::open_read_only): each may
    /// have held events with the id. Empty otherwise.
    pub gaps: Vec<Damage>,
}

impl Deref for Correlated {
    type Target = BTreeMap<StreamId, Vec<Event>>;

    fn deref(&self) -> &Self::Target {
        &self.streams
    }
}

impl IntoIterator for Correlated {
    type Item = (StreamId, Vec<Event>);
    type IntoIter = std::collections::btree_map::IntoIter<StreamId, Vec<Event>>;

    /// Returns the events of each stream, without the gaps.
    fn into_iter(self) -> Self::IntoIter {
        self.streams.into_iter()
    }
}

impl Store {
    /// Returns what is known of a stream, or `None` if it has no events.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io), [`Error::Damaged`](crate::Error::Damaged) if an index or
    /// the last event cannot be read.
    pub fn stream(&self, stream: &StreamId) -> Result<Option<StreamInfo>> {
        // A read goes around damage on its own.
        let last = self.read(stream).backwards().limit(1).over_gaps().into_iter().next().transpose()?;
        Ok(last.map(|event| info(stream.clone(), event.sequence().saturating_add(1), &event)))
    }

    /// Returns all streams whose names begin with `prefix`, sorted by name. The empty prefix
    /// matches all, `order-` those of a domain, `order-12` those whose roots begin with `12`. With
    /// an `@`, only streams of named editions match whose names begin with what follows it:
    /// `order-@what-if`, `@what-if`, `@`; the whole name `main`, as in `order-@main`, also matches
    /// streams of the main edition.
    ///
    /// Examines the names of all streams, and reads the last event of those that it returns.
    ///
    /// # Errors
    ///
    /// As [`Store::stream`].
    pub fn streams(&self, prefix: &str) -> Result<Vec<StreamInfo>> {
        self.ask(|store| store.find_streams(prefix))
    }

    fn find_streams(&self, prefix: &str) -> Result<Vec<StreamInfo>> {
        let mut streams = Vec::new();
        for (stream, found) in self.live_streams()? {
            if has_prefix(&stream, prefix) {
                let last = self.inner.log.event_at(found.last)?;
                streams.push(info(stream, last.sequence().saturating_add(1), &last));
            }
        }
        streams.sort_by(|a, b| a.stream.cmp(&b.stream));
        Ok(streams)
    }

    /// Returns all events with this correlation id, of all domains and all editions, by stream. The
    /// empty id matches nothing.
    ///
    /// In a store that is [read around damage](crate::Options::open_read_only), it returns the
    /// intact events and the [gaps](Correlated::gaps).
    ///
    /// # Errors
    ///
    /// As [`Store::stream`].
    pub fn correlated(&self, id: &str) -> Result<Correlated> {
        let mut found = Correlated::default();
        let mut events = self.query(&Query::new().correlation(id)).in_any_edition().into_iter();
        while let Some(event) = events.next() {
            match event {
                Ok(event) => found.streams.entry(event.stream()).or_default().push(event),
                Err(Error::Damaged(gap)) if events.goes_on() => found.gaps.push(*gap),
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }

    /// Returns the streams that have events of their own, with their index entries.
    fn live_streams(&self) -> Result<Vec<(StreamId, TermInfo)>> {
        let index = &self.inner.catalog.index;
        let (terms, deletions) = (index.terms(&[TermKind::Stream as u8])?, index.deletions());
        let live = terms.into_iter().filter_map(|(term, found)| {
            // System streams have no name.
            let stream = StreamId::from_key(&term::stream_key(&term))?;
            (found.last > deletions.of_key(stream.key()).at).then_some((stream, found))
        });
        Ok(live.collect())
    }

    pub(super) fn count_streams(&self) -> Result<u64> {
        Ok(self.live_streams()?.len() as u64)
    }

    /// Returns all domains that have events in any edition, sorted by name.
    ///
    /// # Errors
    ///
    /// As [`Store::stream`].
    pub fn domains(&self) -> Result<Vec<NameInfo>> {
        self.ask(|store| store.names(TermKind::Domain, ""))
    }

    /// Returns all event types of the main edition, sorted by name, with the number of events there
    /// and in named editions.
    ///
    /// # Errors
    ///
    /// As [`Store::stream`].
    pub fn event_types(&self) -> Result<Vec<NameInfo>> {
        self.ask(|store| store.names(TermKind::Type, ""))
    }

    /// Returns all tags of the main edition that begin with `prefix`, sorted by name, with the
    /// number of events there and in named editions.
    ///
    /// # Errors
    ///
    /// As [`Store::stream`].
    pub fn tags(&self, prefix: &str) -> Result<Vec<NameInfo>> {
        self.ask(|store| store.names(TermKind::Tag, prefix))
    }

    fn names(&self, kind: TermKind, prefix: &str) -> Result<Vec<NameInfo>> {
        let index = &self.inner.catalog.index;
        let deletions = index.deletions();
        let terms = |edition: Option<&str>| index.terms(Term::new(kind, edition, prefix.as_bytes()).bytes());
        let text = |term: &[u8]| String::from_utf8_lossy(term::text(term)).into_owned();
        let in_main = terms(None)?.into_iter().map(|(term, found)| (text(&term), (found.count, 0)));
        let mut names: BTreeMap<String, (u64, u64)> = in_main.collect();
        for edition in index.editions()? {
            for (term, found) in terms(Some(&edition))? {
                // Types and tags of an edition concern only callers that ask for it; a domain is
                // where a caller begins to look.
                if kind != TermKind::Domain && !names.contains_key(&text(&term)) {
                    continue;
                }
                let live = self.count_live(&edition, &Term::of_bytes(term.clone()), found.count, &deletions)?;
                if live > 0 {
                    names.entry(text(&term)).or_default().1 += live;
                }
            }
        }
        let info = |(name, (events, in_editions))| NameInfo { name, events, in_editions };
        Ok(names.into_iter().map(info).collect())
    }

    /// Returns how many of the `all` events of a term of a named edition are not deleted.
    fn count_live(&self, edition: &str, term: &Term, all: u64, deletions: &Deletions) -> Result<u64> {
        let (whole, newest) = deletions.hits(edition);
        if newest == Location::default() {
            return Ok(all);
        }
        let index = &self.inner.catalog.index;
        let mut live = 0;
        for segment in whole.segment.max(1)..=index.segments() {
            let mut offsets = Vec::new();
            index.offsets(segment, term, &(0..u64::MAX), &mut offsets)?;
            let places = offsets.into_iter().map(|offset| Location { segment, offset: offset.into() });
            for place in places.filter(|&place| place > whole) {
                // Before the deletion of a domain, it depends on the domain of the event.
                let is_live = place > newest || {
                    let event = self.inner.log.event_at(place)?;
                    !deletions.hide(event.key(), event.position())
                };
                live += u64::from(is_live);
            }
        }
        Ok(live)
    }

    /// Returns the event with this id, or `None`. If several have it, the newest visible one: if an
    /// event was copied with its id, for example into a named edition, that is the copy; once the
    /// edition is deleted, it is the event itself again.
    ///
    /// Looks up the id in the index of each segment, the newest first. An id that the store
    /// assigned leads to its event directly, but a copy must still be looked for.
    ///
    /// # Errors
    ///
    /// As [`Store::stream`]; also [`Error::Damaged`](crate::Error::Damaged) if, in a store that is
    /// [read around damage](crate::Options::open_read_only), a gap may have held the event.
    pub fn event(&self, id: Uuid) -> Result<Option<Event>> {
        self.ask(|store| store.find_event(id))
    }

    fn find_event(&self, id: Uuid) -> Result<Option<Event>> {
        let inner = &self.inner;
        let (deletions, end) = inner.catalog.index.deletions_at(|| inner.log.watermark());
        let is_hidden = |event: &Event| deletions.hide(event.key(), event.position());
        let given = self.newest_of(&Term::new(TermKind::Id, None, id.as_bytes()), is_hidden)?;
        let derived = derived_position(inner.log.id_seed(), id).filter(|&position| position < end);
        let newer = derived.filter(|&position| given.as_ref().is_none_or(|given| given.position() < position));
        let derived = newer.map(|position| inner.log.forwards(position..position + 1).next()).transpose()?.flatten();
        let found = derived.filter(|event| event.id() == id && !is_hidden(event)).or(given);
        if found.is_none()
            && let Some(gap) = inner.gap_of(newer)
        {
            return Err(Error::Damaged(Box::new(gap)));
        }
        Ok(found)
    }

    /// Returns the newest event of a term that is not hidden.
    fn newest_of(&self, term: &Term, is_hidden: impl Fn(&Event) -> bool) -> Result<Option<Event>> {
        let (log, index) = (&self.inner.log, &self.inner.catalog.index);
        let Some(location) = index.newest(term, 1)? else { return Ok(None) };
        let newest = log.event_at(location)?;
        if !is_hidden(&newest) {
            return Ok(Some(newest));
        }
        for segment in (1..=location.segment).rev() {
            let mut offsets = Vec::new();
            index.offsets(segment, term, &(0..u64::MAX), &mut offsets)?;
            for offset in offsets.into_iter().rev() {
                let event = log.event_at(Location { segment, offset: offset.into() })?;
                if !is_hidden(&event) {
                    return Ok(Some(event));
                }
            }
        }
        Ok(None)
    }
}

impl Inner {
    /// Returns the gap that may have held an event that is not found: that of its position if it is
    /// known, otherwise any.
    fn gap_of(&self, position: Option<u64>) -> Option<Damage> {
        let may_hold = |gap: &&Loss| position.is_none_or(|position| gap.damage.positions.contains(&position));
        self.gaps.iter().find(may_hold).map(|gap| gap.damage.clone())
    }
}

/// An `@` in a name is percent-encoded: in a prefix, it begins the edition.
fn has_prefix(stream: &StreamId, prefix: &str) -> bool {
    let text = stream.to_string();
    let Some((name, edition)) = prefix.rsplit_once('@') else { return text.starts_with(prefix) };
    match text.rsplit_once('@') {
        Some((own, of)) => own.starts_with(name) && of.starts_with(edition),
        None => edition == MAIN && text.starts_with(name),
    }
}

fn info(stream: StreamId, next_sequence: u64, last: &Event) -> StreamInfo {
    StreamInfo { stream, next_sequence, last_position: last.position(), last_recorded_at: last.recorded_at() }
}
