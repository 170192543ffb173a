//! `annals append`: one event.

use crate::failure::{Failure, Result};
use crate::input;
use crate::lines::{self, Incoming};
use crate::opening::{self, MAX_EVENT};
use crate::output::Out;
use crate::times::{self, Time};
use annals::{ContentType, Expected, Options, Store, StreamId, Timestamp, Uuid};
use serde::Serialize;
use serde_json::value::RawValue;
use std::io::Read;
use std::path::PathBuf;

/// Append one event to a stream
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store; created if it is missing and the event is accepted
    store: PathBuf,
    /// The stream, such as order-123
    stream: StreamId,
    /// The event type
    #[arg(long = "type", value_name = "T")]
    event_type: String,
    /// The expected state of the stream: none, exists, any, or N, the next sequence, which is the
    /// number of events
    #[arg(long, value_name = "none|exists|any|N", default_value = "any", value_parser = expected)]
    expect: Expected,
    /// The data: a text, @FILE for the bytes of a file, or - for stdin. JSON is recognised, and
    /// white space around it is removed
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    data: Option<String>,
    /// The metadata, in the same forms; stored unchanged
    #[arg(long, value_name = "JSON|@FILE|-", allow_hyphen_values = true)]
    metadata: Option<String>,
    /// json, bytes, text, bincode or another name; the data are then stored unchanged. Default:
    /// json if they are JSON, otherwise bytes
    #[arg(long, value_name = "NAME")]
    content_type: Option<String>,
    /// Version of the type's schema
    #[arg(long, value_name = "N", default_value_t = 0)]
    schema_version: u32,
    /// A tag, key:value or any text; may be repeated
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// The id of the event; by default the store assigns one
    #[arg(long, value_name = "UUID")]
    id: Option<Uuid>,
    /// The correlation id: what the event belongs to
    #[arg(long, value_name = "ID")]
    correlation: Option<String>,
    /// The causation id: what caused the event
    #[arg(long, value_name = "ID")]
    causation: Option<String>,
    /// When the event occurred: RFC 3339, 2024-05-01 10:00 (UTC), now, today, yesterday, 2h ago
    #[arg(long, value_name = "TIME", value_parser = times::parse_friendly)]
    occurred_at: Option<Timestamp>,
}

fn expected(text: &str) -> Result<Expected, String> {
    Ok(match text {
        "none" => Expected::NoStream,
        "exists" => Expected::Exists,
        "any" => Expected::Any,
        number => Expected::Next(number.parse().map_err(|_| "expected none, exists, any, or a number".to_owned())?),
    })
}

#[derive(Serialize)]
struct Appended {
    stream: String,
    sequence: u64,
    position: u64,
    recorded_at: Time,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let incoming = self.incoming()?;
        let append = |store: &Store| store.append(&self.stream, self.expect, [incoming.event()]);
        let store = match opening::existing_to_write(&self.store, Options::new())? {
            Some(store) => store,
            None => {
                // A refused event leaves no new store: the name may have been mistyped.
                append(&opening::rehearsal()?)?;
                opening::to_write(&self.store, Options::new())?
            }
        };
        let done = append(&store)?;
        store.close()?;
        opening::warn_ahead(done.recorded_at);
        let appended = Appended {
            stream: self.stream.to_string(),
            sequence: done.sequences.start,
            position: done.positions.start,
            recorded_at: Time(done.recorded_at),
        };
        let shown = [("position", appended.position.to_string()), ("sequence", appended.sequence.to_string())];
        out.facts(&appended, &shown)
    }

    fn incoming(&self) -> Result<Incoming> {
        if self.data.as_deref() == Some("-") && self.metadata.as_deref() == Some("-") {
            return Err(Failure::usage("stdin can be data or metadata, not both"));
        }
        let mut incoming = Incoming::new(self.stream.clone(), self.event_type.clone());
        incoming.data = bytes(self.data.as_deref())?;
        incoming.metadata = bytes(self.metadata.as_deref())?;
        incoming.content_type = match &self.content_type {
            Some(name) => lines::content_type(name),
            None => recognised(&mut incoming.data),
        };
        incoming.schema_version = self.schema_version;
        incoming.tags.clone_from(&self.tag);
        incoming.id = self.id;
        incoming.correlation_id = self.correlation.clone().unwrap_or_default();
        incoming.causation_id = self.causation.clone().unwrap_or_default();
        incoming.occurred_at = self.occurred_at;
        Ok(incoming)
    }
}

fn bytes(given: Option<&str>) -> Result<Vec<u8>> {
    match given {
        None => Ok(Vec::new()),
        Some("-") => {
            let mut bytes = Vec::new();
            let read = std::io::stdin().lock().take(MAX_EVENT as u64 + 1).read_to_end(&mut bytes);
            read.map_err(|e| Failure::failed(e).at("stdin"))?;
            Ok(bytes)
        }
        Some(given) => match given.strip_prefix('@') {
            Some(path) => input::whole(path.as_ref(), MAX_EVENT as u64),
            None => Ok(given.as_bytes().to_vec()),
        },
    }
}

/// Returns whether the data are JSON or bytes, and removes white space around JSON: an editor or
/// `echo` ends a text with a line break that is not part of the value.
fn recognised(data: &mut Vec<u8>) -> ContentType {
    match serde_json::from_slice::<&RawValue>(data) {
        Ok(json) => {
            *data = json.get().as_bytes().to_vec();
            ContentType::Json
        }
        Err(_) => ContentType::Bytes,
    }
}
