//! `annals consumers dead-letters list`: all dead letters of a consumer.

use crate::failure::Result;
use crate::opening::{self, note_fault};
use crate::output::{List, Out, cell, number, text};
use crate::times::Time;
use annals::consumer::DeadLetter;
use serde::Serialize;
use std::path::PathBuf;

/// List the events that a consumer has given up, and why
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
    /// Name of the consumer
    consumer: String,
}

#[derive(Serialize)]
struct Row<'a> {
    position: u64,
    stream: Option<String>,
    #[serde(rename = "type")]
    event_type: Option<&'a str>,
    attempts: u64,
    time: Time,
    reason: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    fault: Option<String>,
}

impl<'a> Row<'a> {
    fn new(letter: &'a DeadLetter) -> Self {
        Row {
            position: letter.position,
            stream: letter.event.as_ref().map(|event| event.stream().to_string()),
            event_type: letter.event.as_ref().map(|event| event.event_type()),
            attempts: letter.attempts,
            time: Time(letter.time),
            reason: &letter.reason,
            fault: letter.fault.map(|fault| fault.to_string()),
        }
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.position.to_string(),
            cell(self.stream.as_deref()),
            cell(self.event_type),
            self.attempts.to_string(),
            self.time.to_string(),
            self.reason.to_owned(),
        ]
    }
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let store = opening::to_read(&self.store)?;
        let columns =
            [number("position"), text("stream"), text("type"), number("attempts"), text("time"), text("reason")];
        let mut list = List::new(out, columns).wrapping();
        for letter in store.consumer(&self.consumer).dead_letters()? {
            let row = Row::new(&letter);
            note_fault(&format!("the event at position {}", row.position), row.fault.as_deref());
            list.add(&row, Row::cells)?;
        }
        list.end()
    }
}
