//! `annals positions list`: all positions, and all checkpoints.

use crate::failure::Result;
use crate::opening::{self, note_fault};
use crate::output::{List, Out, number, text};
use serde::Serialize;
use std::path::PathBuf;

/// List the positions of handlers in streams, and the checkpoints of consumers
///
/// A checkpoint has no stream: its number is a position in the store, and everything up to and
/// including that position is done.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
    /// Only the positions of this handler
    #[arg(long, value_name = "NAME")]
    handler: Option<String>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Row<'a> {
    Handler {
        handler: &'a str,
        stream: String,
        sequence: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        fault: Option<String>,
    },
    Checkpoint {
        checkpoint: &'a str,
        position: u64,
        version: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        fault: Option<String>,
    },
}

impl Row<'_> {
    fn cells(&self) -> Vec<String> {
        match self {
            Row::Handler { handler, stream, sequence, .. } => {
                vec!["handler".into(), (*handler).to_owned(), sequence.to_string(), stream.clone()]
            }
            Row::Checkpoint { checkpoint, position, .. } => {
                vec!["checkpoint".into(), (*checkpoint).to_owned(), position.to_string(), "-".into()]
            }
        }
    }
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let store = opening::to_read(&self.store)?;
        let (positions, checkpoints) = (store.positions(), store.checkpoints());
        let handlers = match &self.handler {
            Some(handler) => vec![handler.clone()],
            None => positions.handlers()?.into_iter().map(|of| of.name).collect(),
        };
        let mut list = List::new(out, [text("kind"), text("name"), number("at"), text("stream")]);
        for handler in &handlers {
            for of in positions.list(handler)? {
                let (stream, fault) = (of.stream.to_string(), of.fault.map(|fault| fault.to_string()));
                note_fault(&format!("handler {handler}, {stream}, sequence {}", of.sequence), fault.as_deref());
                let row = Row::Handler { handler, stream, sequence: of.sequence, fault };
                list.add(&row, Row::cells)?;
            }
        }
        if self.handler.is_none() {
            for of in checkpoints.list()? {
                let fault = of.fault.map(|fault| fault.to_string());
                note_fault(&format!("checkpoint {}, position {}", of.name, of.position), fault.as_deref());
                let (checkpoint, position, version) = (&*of.name, of.position, of.version);
                let row = Row::Checkpoint { checkpoint, position, version, fault };
                list.add(&row, Row::cells)?;
            }
        }
        list.end()
    }
}
