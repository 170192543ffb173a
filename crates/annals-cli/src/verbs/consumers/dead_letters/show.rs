//! `annals consumers dead-letters show`: one dead letter, with its event.

use crate::failure::{Failure, Result};
use crate::lines::{Line, shown_data};
use crate::opening::{self, note_fault};
use crate::output::{Out, cell};
use crate::times::Time;
use serde::Serialize;
use std::path::PathBuf;

/// Show an event that a consumer has given up, and why
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
    /// Name of the consumer
    consumer: String,
    /// Position of the event
    position: u64,
}

#[derive(Serialize)]
struct Shown<'a> {
    consumer: &'a str,
    position: u64,
    attempts: u64,
    time: Time,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
    event: Option<Line<'a>>,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let store = opening::to_read(&self.store)?;
        let letters = store.consumer(&self.consumer).dead_letters()?;
        let letter = letters.into_iter().find(|letter| letter.position == self.position);
        let missing = || Failure::failed(format_args!("{} has not given up {}", self.consumer, self.position));
        let letter = letter.ok_or_else(missing)?;
        let event = letter.event.as_ref();
        let facts = [
            ("position", letter.position.to_string()),
            ("attempts", letter.attempts.to_string()),
            ("time", Time(letter.time).to_string()),
            ("reason", letter.reason.clone()),
            ("stream", cell(event.map(|event| event.stream()))),
            ("sequence", cell(event.map(|event| event.sequence()))),
            ("type", cell(event.map(|event| event.event_type()))),
            ("recorded", cell(event.map(|event| Time(event.recorded_at())))),
            ("data", cell(event.map(shown_data))),
        ];
        let shown = Shown {
            consumer: &self.consumer,
            position: letter.position,
            attempts: letter.attempts,
            time: Time(letter.time),
            reason: &letter.reason,
            fault: letter.fault.map(|fault| fault.to_string()),
            event: event.map(Line),
        };
        note_fault(&format!("the event at position {}", shown.position), shown.fault.as_deref());
        out.facts(&shown, &facts)
    }
}
