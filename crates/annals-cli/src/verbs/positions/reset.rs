//! `annals positions reset`: moves a handler in a stream, forwards or backwards.

use crate::failure::{Failure, Result};
use crate::opening;
use crate::output::Out;
use annals::{Error, Options, StreamId};
use serde::Serialize;
use std::path::PathBuf;

/// Set the position of a handler in a stream, forwards or backwards
///
/// The handler will see the events after it again, or never see those before it. It must not be
/// running.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
    /// Name of the handler
    handler: String,
    /// Name of the stream
    stream: StreamId,
    /// The sequence of the last event that counts as handled
    sequence: u64,
    /// Confirm
    #[arg(long)]
    yes: bool,
}

#[derive(Serialize)]
struct Moved<'a> {
    handler: &'a str,
    stream: String,
    before: Option<u64>,
    sequence: u64,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        if !self.yes {
            return Err(Failure::usage("this changes what the handler will see; add --yes to do it"));
        }
        let store = opening::to_write(&self.store, Options::new().create(false))?;
        let positions = store.positions();
        let before = match positions.get(&self.handler, &self.stream) {
            // A reset is the way out of these errors.
            Err(Error::PositionAhead { position, .. } | Error::Diverged { position, .. }) => Some(position),
            found => found?,
        };
        positions.reset(&self.handler, &self.stream, self.sequence)?;
        positions.flush()?;
        drop(positions);
        store.close()?;
        let moved = Moved { handler: &self.handler, stream: self.stream.to_string(), before, sequence: self.sequence };
        let shown = [("before", crate::output::cell(before)), ("sequence", self.sequence.to_string())];
        out.facts(&moved, &shown)
    }
}
