//! Its streams.

use crate::{Append, BackendError, Criteria, EventData, EventStore, Reading, RecordedEvent, Stored};
use annals::{Error, Event, NewEvent, Query, Read, Search, Store, StreamId};
use std::collections::BTreeMap;

impl BackendError for Error {
    fn is_conflict(&self) -> bool {
        matches!(self, Error::Conflict { .. })
    }
}

impl<'a> From<&'a EventData> for NewEvent<'a> {
    fn from(fact: &'a EventData) -> Self {
        let event = NewEvent::with_data(&*fact.event_type, &*fact.data).metadata(&*fact.metadata);
        let event = event.tags(fact.tags.iter().map(String::as_str));
        let event = event.correlation_id(fact.correlation_id.as_deref().unwrap_or_default());
        let event = event.causation_id(fact.causation_id.as_deref().unwrap_or_default());
        fact.occurred_at.into_iter().fold(event, NewEvent::occurred_at)
    }
}

impl From<&Event> for RecordedEvent {
    fn from(event: &Event) -> Self {
        let fact = EventData {
            event_type: event.event_type().to_owned(),
            data: event.data().to_vec(),
            metadata: event.metadata().to_vec(),
            tags: event.tags().map(str::to_owned).collect(),
            correlation_id: event.correlation_id().map(str::to_owned),
            causation_id: event.causation_id().map(str::to_owned),
            occurred_at: event.occurred_at(),
        };
        RecordedEvent {
            stream: event.stream(),
            sequence: event.sequence(),
            position: event.position(),
            recorded_at: event.recorded_at(),
            fact,
        }
    }
}

fn recorded(events: impl IntoIterator<Item = Result<Event, Error>>) -> Result<Vec<RecordedEvent>, Error> {
    events.into_iter().map(|event| Ok(RecordedEvent::from(&event?))).collect()
}

fn restricted(read: Read, reading: &Reading) -> Read {
    let read = read.from(reading.from).to(reading.to).limit(reading.limit);
    let read = reading.as_of.into_iter().fold(read, Read::as_of);
    let read = reading.diverging_at.into_iter().fold(read, Read::diverging_at);
    if reading.backwards { read.backwards() } else { read }
}

impl EventStore for Store {
    type Error = Error;

    fn commit(&self, appends: &[Append], key: &str) -> Result<Stored, Error> {
        let transaction = appends.iter().fold(self.transaction(), |transaction, append| {
            transaction.append(&append.stream, append.expected, append.facts.iter().map(NewEvent::from))
        });
        let committed = transaction.idempotency_key(key).commit()?;
        Ok(Stored {
            sequences: committed.appends.into_iter().map(|append| append.sequences).collect(),
            positions: committed.positions,
            duplicate: committed.duplicate,
        })
    }

    fn read(&self, stream: &StreamId, reading: &Reading) -> Result<Vec<RecordedEvent>, Error> {
        recorded(restricted(Store::read(self, stream), reading))
    }

    fn read_all(&self, reading: &Reading) -> Result<Vec<RecordedEvent>, Error> {
        recorded(restricted(Store::read_all(self), reading))
    }

    fn query(&self, criteria: &Criteria) -> Result<Vec<RecordedEvent>, Error> {
        let query = Query::new().edition(&criteria.edition).types(&criteria.event_type).tags(&criteria.tag);
        let query = criteria.domain.iter().fold(query, Query::domain);
        let search = criteria.as_of.into_iter().fold(Store::query(self, &query), Search::as_of);
        recorded(if criteria.backwards { search.backwards() } else { search })
    }

    fn correlated(&self, id: &str) -> Result<BTreeMap<StreamId, Vec<RecordedEvent>>, Error> {
        let found = Store::correlated(self, id)?;
        Ok(found
            .into_iter()
            .map(|(stream, events)| (stream, events.iter().map(RecordedEvent::from).collect()))
            .collect())
    }

    fn next_sequence(&self, stream: &StreamId) -> Result<u64, Error> {
        Ok(self.stream(stream)?.map_or(0, |info| info.next_sequence))
    }

    fn editions(&self) -> Result<BTreeMap<String, u64>, Error> {
        Ok(Store::editions(self).list()?.into_iter().map(|info| (info.name, info.events)).collect())
    }

    fn delete_edition(&self, edition: &str, domain: Option<&str>) -> Result<u64, Error> {
        Store::editions(self).delete(edition, domain)
    }
}
