//! What is in a store: domains, streams, event types, tags, and events by their ids.

use super::Store;
use crate::Uuid;
use crate::error::Result;
use crate::event::{Event, derived_position};
use crate::index::term::{self, Kind, Term};
use crate::stream::StreamId;
use crate::time::Timestamp;

/// What a store knows of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StreamInfo {
    /// Its name.
    pub stream: StreamId,
    /// The sequence that its next event will have: the number of its events.
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
        let last = self.read(stream).backwards().limit(1).into_iter().next().transpose()?;
        Ok(last.map(|event| info(stream.clone(), event.sequence() + 1, &event)))
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
        let terms = self.inner.view.index.terms(&[Kind::Stream as u8])?;
        let mut streams = Vec::new();
        for (term, found) in &terms {
            let Some(stream) = StreamId::from_key(&term::stream_key(term)) else { continue };
            if has_prefix(&stream, prefix) {
                let last = self.inner.log.event_at(found.last)?;
                streams.push(info(stream, found.count, &last));
            }
        }
        streams.sort_by(|a, b| a.stream.cmp(&b.stream));
        Ok(streams)
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
        let inner = &self.inner;
        if let Some(location) = inner.view.index.newest(&Term::new(Kind::Id, None, id.as_bytes()), 1)? {
            return inner.log.event_at(location).map(Some);
        }
        let position = derived_position(inner.log.id_seed(), id).filter(|&position| position < self.len());
        let Some(position) = position else { return Ok(None) };
        let event = inner.log.forwards(position..position + 1).next()?;
        Ok(event.filter(|event| event.id() == id))
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
