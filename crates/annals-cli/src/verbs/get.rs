//! `annals get`: one event, by its id or its position.

use crate::failure::{Failure, Result};
use crate::lines::{Line, content_type_name, shown_bytes, shown_data};
use crate::opening;
use crate::output::Out;
use crate::times::Time;
use annals::{Event, Store, Uuid};
use std::path::PathBuf;

/// Show one event, by its id or its position
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
    /// The id, or the position in the store. Of several events with the same id, the newest is
    /// shown
    #[arg(value_name = "ID|POSITION", value_parser = which)]
    event: Which,
}

#[derive(Clone, Copy)]
enum Which {
    Id(Uuid),
    Position(u64),
}

/// An id has 32 digits, a position at most 20.
fn which(text: &str) -> Result<Which, String> {
    match (Uuid::parse_str(text), text.parse()) {
        (Ok(id), _) => Ok(Which::Id(id)),
        (_, Ok(position)) if text.chars().all(|c| c.is_ascii_digit()) => Ok(Which::Position(position)),
        (Err(error), _) => Err(format!("neither an id ({error}) nor a position")),
    }
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let store = opening::to_read(&self.store)?;
        let event = match self.event {
            Which::Id(id) => {
                store.event(id)?.ok_or_else(|| Failure::failed(format_args!("no event has the id {id}")))?
            }
            Which::Position(position) => at(&store, position)?,
        };
        out.facts(&Line(&event), &parts(&event))
    }
}

fn at(store: &Store, position: u64) -> Result<Event> {
    let found = store.read_all().from(position).limit(1).into_iter().next().transpose()?;
    let missing = || match store.len() {
        0 => Failure::failed("the store has no events"),
        count if position >= count => {
            Failure::failed(format_args!("no event has the position {position}: the store has {count}, from 0 on"))
        }
        _ => Failure::failed(format_args!(
            "no event has the position {position}: it is lost, was deleted with its edition, or is a system record"
        )),
    };
    found.filter(|event| event.position() == position).ok_or_else(missing)
}

/// The fields of the event, under the names that [`Line`] gives them.
fn parts(event: &Event) -> Vec<(&'static str, String)> {
    let tags: Vec<&str> = event.tags().collect();
    let optional = |name, value: Option<String>| value.map(|value| (name, value));
    let unless_empty = |bytes: &[u8], shown: String| (!bytes.is_empty()).then_some(shown);
    [
        Some(("position", event.position().to_string())),
        Some(("stream", event.stream().to_string())),
        Some(("sequence", event.sequence().to_string())),
        Some(("type", event.event_type().to_owned())),
        Some(("id", event.id().to_string())),
        Some(("recorded_at", Time(event.recorded_at()).to_string())),
        optional("occurred_at", event.occurred_at().map(|time| Time(time).to_string())),
        optional("correlation_id", event.correlation_id().map(str::to_owned)),
        optional("causation_id", event.causation_id().map(str::to_owned)),
        optional("tags", (!tags.is_empty()).then(|| tags.join(", "))),
        optional("metadata", unless_empty(event.metadata(), shown_bytes(event.metadata()).into_owned())),
        optional("schema_version", (event.schema_version() != 0).then(|| event.schema_version().to_string())),
        Some(("content_type", content_type_name(&event.content_type()))),
        optional("data", unless_empty(event.data(), shown_data(event).into_owned())),
    ]
    .into_iter()
    .flatten()
    .collect()
}
