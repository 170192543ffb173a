//! `annals snapshots delete`: removes the snapshots of a stream.

use crate::failure::{Failure, Result};
use crate::opening;
use crate::output::Out;
use annals::{Options, StreamId};
use serde::Serialize;
use std::path::PathBuf;

/// Delete all snapshots of a stream; no event is touched
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
    /// The stream, such as order-123
    stream: StreamId,
    /// Confirm
    #[arg(long)]
    yes: bool,
}

#[derive(Serialize)]
struct Deleted {
    stream: String,
    deleted: u64,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        if !self.yes {
            return Err(Failure::usage("snapshots are deleted only with --yes"));
        }
        let store = opening::to_write(&self.store, Options::new().create(false))?;
        let deleted = Deleted { stream: self.stream.to_string(), deleted: store.snapshots().delete(&self.stream)? };
        store.close()?;
        let parts = [("stream", deleted.stream.clone()), ("deleted", deleted.deleted.to_string())];
        out.facts(&deleted, &parts)
    }
}
