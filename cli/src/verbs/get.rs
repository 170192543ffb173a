//! `annals get`: one event, by its id.

use crate::failure::{Failure, Result};
use crate::lines::{Line, content_type_name, shown_bytes, shown_data};
use crate::opening;
use crate::output::Out;
use crate::times::Time;
use annals::{Event, Uuid};
use std::path::PathBuf;

/// Show the event that has an id
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
    /// The id. If several events were given the same one, the newest is shown
    id: Uuid,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let store = opening::to_read(&self.store)?;
        let missing = || Failure::failed(format_args!("no event has the id {}", self.id));
        let event = store.event(self.id)?.ok_or_else(missing)?;
        out.facts(&Line(&event), &parts(&event))
    }
}

/// What the event has, under the names that [`Line`] gives it.
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
