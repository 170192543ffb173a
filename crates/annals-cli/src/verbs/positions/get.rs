//! `annals positions get`: the position of a handler in a stream.

use crate::failure::{Failure, Result};
use crate::opening;
use crate::output::Out;
use annals::StreamId;
use serde::Serialize;
use std::path::PathBuf;

/// Show the position of a handler in a stream
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
    /// Name of the handler
    handler: String,
    /// Name of the stream
    stream: StreamId,
}

#[derive(Serialize)]
struct Position<'a> {
    handler: &'a str,
    stream: String,
    sequence: u64,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let store = opening::to_read(&self.store)?;
        let found = store.positions().get(&self.handler, &self.stream)?;
        let missing = || Failure::failed(format_args!("{} has no position in {}", self.handler, self.stream));
        let sequence = found.ok_or_else(missing)?;
        let position = Position { handler: &self.handler, stream: self.stream.to_string(), sequence };
        out.facts(&position, &[("sequence", sequence.to_string())])
    }
}
