//! Events as values that can be compared.

use crate::error::{Error, Result};
use crate::event::ContentType;
use crate::format::event::Event;
use crate::stream::StreamId;
use crate::time::Timestamp;
use uuid::Uuid;

/// All that an event says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Fact {
    pub position: u64,
    pub stream: StreamId,
    pub sequence: u64,
    pub event_type: String,
    pub id: Uuid,
    pub recorded_at: Timestamp,
    pub occurred_at: Option<Timestamp>,
    pub correlation_id: Option<String>,
    pub causation_id: Option<String>,
    pub tags: Vec<String>,
    pub metadata: Vec<u8>,
    pub data: Vec<u8>,
    pub content_type: ContentType,
    pub schema_version: u32,
}

impl Fact {
    pub(super) fn of(event: &Event) -> Fact {
        let stream = event.stream();
        assert!(event.is_in(&stream));
        assert_eq!((event.domain(), event.root(), event.edition()), (stream.domain(), stream.root(), stream.edition()));
        Fact {
            position: event.position(),
            stream,
            sequence: event.sequence(),
            event_type: event.event_type().to_owned(),
            id: event.id(),
            recorded_at: event.recorded_at(),
            occurred_at: event.occurred_at(),
            correlation_id: event.correlation_id().map(str::to_owned),
            causation_id: event.causation_id().map(str::to_owned),
            tags: event.tags().map(str::to_owned).collect(),
            metadata: event.metadata().to_vec(),
            data: event.data().to_vec(),
            content_type: event.content_type(),
            schema_version: event.schema_version(),
        }
    }
}

/// The events of a read up to its end or its first error.
pub(super) fn drain(events: impl Iterator<Item = Result<Event>>) -> (Vec<Fact>, Option<Error>) {
    let mut found = Vec::new();
    for event in events {
        match event {
            Ok(event) => found.push(Fact::of(&event)),
            Err(error) => return (found, Some(error)),
        }
    }
    (found, None)
}
