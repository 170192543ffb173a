//! `annals consumers show`: one consumer.

use super::{fault, find, position};
use crate::failure::Result;
use crate::opening;
use crate::output::{Out, cell};
use crate::times::Time;
use serde::Serialize;
use std::path::PathBuf;

/// Show the progress of a consumer
///
/// `next` is when the first event after its checkpoint was recorded, whether it matches the
/// consumer's query or not.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
    /// Name of the consumer
    consumer: String,
}

#[derive(Serialize)]
struct Shown<'a> {
    consumer: &'a str,
    position: Option<u64>,
    version: Option<u64>,
    behind: u64,
    next: Option<Time>,
    dead_letters: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let store = opening::to_read(&self.store)?;
        let info = find(&store, &self.consumer)?;
        let position = position(&info);
        let from = position.map_or(0, |position| position.saturating_add(1));
        let next = store.read_all().from(from).limit(1).into_iter().next().transpose()?;
        let shown = Shown {
            consumer: &self.consumer,
            position,
            version: info.checkpoint.as_ref().map(|checkpoint| checkpoint.version),
            behind: info.behind,
            next: next.map(|event| Time(event.recorded_at())),
            dead_letters: info.dead_letters,
            fault: fault(&info),
        };
        let facts = [
            ("position", cell(shown.position)),
            ("version", cell(shown.version)),
            ("behind", shown.behind.to_string()),
            ("next", cell(shown.next)),
            ("dead letters", shown.dead_letters.to_string()),
        ];
        out.facts(&shown, &facts)
    }
}
