//! What is in a store: domains, streams, event types, tags, and events by their ids.

use super::{Query, Store};
use crate::Uuid;
use crate::error::{Error, Result};
use crate::format::event::{Event, derived_position};
use crate::index::TermInfo;
use crate::index::term::{self, Kind, Term};
use crate::position::Location;
use crate::stream::StreamId;
use crate::time::Timestamp;
use std::collections::BTreeMap;

/// What a store knows of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamInfo {
    /// Its name.
    pub stream: StreamId,
    /// The sequence that its next event will have: the number of its events, with those that a named edition shares with the main one.
    pub next_sequence: u64,
    /// The position of its last event.
    pub last_position: u64,
    /// When its last event was recorded.
    pub last_recorded_at: Timestamp,
}

/// A domain, an event type or a tag, and how many events have it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NameInfo {
    /// Its name.
    pub name: String,
    /// Number of events in the main edition.
    pub events: u64,
}

impl Store {
    /// What is known of a stream, or `None` if it has no events.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io), [`Error::Damaged`](crate::Error::Damaged) if an index or the last event cannot be read.
    pub fn stream(&self, stream: &StreamId) -> Result<Option<StreamInfo>> {
        // A read goes around damage by itself.
        let last = self.read(stream).backwards().limit(1).over_gaps().into_iter().next().transpose()?;
        Ok(last.map(|event| info(stream.clone(), event.sequence().saturating_add(1), &event)))
    }

    /// All streams whose names begin with `prefix`, sorted by name. The empty prefix gives all, `order-` those of a domain, `order-12` those whose roots begin with `12`. With an `@`, only those of
    /// named editions whose names begin with what follows it: `order-@what-if`, `@what-if`, `@`.
    ///
    /// Looks at the names of all streams, and reads the last event of those that it gives.
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

    /// All events with this correlation id, of all domains and all editions, by stream. The empty id finds nothing.
    ///
    /// # Errors
    ///
    /// As [`Store::stream`].
    pub fn correlated(&self, id: &str) -> Result<BTreeMap<StreamId, Vec<Event>>> {
        let mut streams: BTreeMap<StreamId, Vec<Event>> = BTreeMap::new();
        let query = Query::new().correlation(id);
        for event in self.query(&query) {
            let event = event?;
            streams.entry(event.stream()).or_default().push(event);
        }
        for edition in self.editions().list()? {
            for event in self.query(&query.clone().edition(edition.name)) {
                let event = event?;
                // What the edition shares with the main one was found there.
                if event.edition().is_some() {
                    streams.entry(event.stream()).or_default().push(event);
                }
            }
        }
        Ok(streams)
    }

    /// The streams that have events of their own, and what the index says of each.
    fn live_streams(&self) -> Result<Vec<(StreamId, TermInfo)>> {
        let index = &self.inner.view.index;
        let (terms, deletions) = (index.terms(&[Kind::Stream as u8])?, index.deletions());
        let live = terms.into_iter().filter_map(|(term, found)| {
            // The store's own streams have no name.
            let stream = StreamId::from_key(&term::stream_key(&term))?;
            (found.last > deletions.of_key(stream.key()).at).then_some((stream, found))
        });
        Ok(live.collect())
    }

    pub(super) fn count_streams(&self) -> Result<u64> {
        Ok(self.live_streams()?.len() as u64)
    }

    /// All domains of the main edition, sorted by name.
    ///
    /// # Errors
    ///
    /// As [`Store::stream`].
    pub fn domains(&self) -> Result<Vec<NameInfo>> {
        self.names(Kind::Domain, "")
    }

    /// All event types of the main edition, sorted by name.
    ///
    /// # Errors
    ///
    /// As [`Store::stream`].
    pub fn event_types(&self) -> Result<Vec<NameInfo>> {
        self.names(Kind::Type, "")
    }

    /// All tags of the main edition that begin with `prefix`, sorted by name.
    ///
    /// # Errors
    ///
    /// As [`Store::stream`].
    pub fn tags(&self, prefix: &str) -> Result<Vec<NameInfo>> {
        self.names(Kind::Tag, prefix)
    }

    fn names(&self, kind: Kind, prefix: &str) -> Result<Vec<NameInfo>> {
        let terms = self.inner.view.index.terms(Term::new(kind, None, prefix.as_bytes()).bytes())?;
        let names = terms.iter().map(|(term, found)| {
            let name = String::from_utf8_lossy(term::text(term)).into_owned();
            NameInfo { name, events: found.count }
        });
        Ok(names.collect())
    }

    /// The event with this id, or `None`. If several were given the same id by their writers, the newest of them.
    ///
    /// An id that the store gave leads to its event without a search.
    ///
    /// # Errors
    ///
    /// As [`Store::stream`].
    pub fn event(&self, id: Uuid) -> Result<Option<Event>> {
        self.ask(|store| store.find_event(id))
    }

    fn find_event(&self, id: Uuid) -> Result<Option<Event>> {
        let inner = &self.inner;
        let index = &inner.view.index;
        let term = Term::new(Kind::Id, None, id.as_bytes());
        let deletions = index.deletions();
        let is_hidden = |event: &Event| deletions.hide(event.key(), event.position());
        if let Some(location) = index.newest(&term, 1)? {
            let newest = inner.log.event_at(location)?;
            return if is_hidden(&newest) { self.newest_but(&term, is_hidden) } else { Ok(Some(newest)) };
        }
        let position = derived_position(inner.log.id_seed(), id).filter(|&position| position < self.len());
        let Some(position) = position else { return Ok(None) };
        let event = inner.log.forwards(position..position + 1).next()?;
        if let Some(gap) = inner.gaps.iter().find(|gap| gap.damage.positions.contains(&position)) {
            return Err(Error::Damaged(Box::new(gap.damage.clone())));
        }
        Ok(event.filter(|event| event.id() == id && !is_hidden(event)))
    }

    /// The newest event of a term that is not one of those.
    fn newest_but(&self, term: &Term, is_hidden: impl Fn(&Event) -> bool) -> Result<Option<Event>> {
        let index = &self.inner.view.index;
        for segment in (1..=index.segments()).rev() {
            let mut offsets = Vec::new();
            index.offsets(segment, term, &(0..u64::MAX), &mut offsets)?;
            for offset in offsets.into_iter().rev() {
                let event = self.inner.log.event_at(Location { segment, offset: offset.into() })?;
                if !is_hidden(&event) {
                    return Ok(Some(event));
                }
            }
        }
        Ok(None)
    }
}

/// An `@` in a name is percent-encoded: in a prefix, it begins the edition.
fn has_prefix(stream: &StreamId, prefix: &str) -> bool {
    let text = stream.to_string();
    match prefix.rsplit_once('@') {
        None => text.starts_with(prefix),
        Some((name, edition)) => {
            text.rsplit_once('@').is_some_and(|(own, of)| own.starts_with(name) && of.starts_with(edition))
        }
    }
}

fn info(stream: StreamId, next_sequence: u64, last: &Event) -> StreamInfo {
    StreamInfo { stream, next_sequence, last_position: last.position(), last_recorded_at: last.recorded_at() }
}
