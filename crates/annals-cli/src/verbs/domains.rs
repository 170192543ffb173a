//! `annals domains`: the domains, with the number of their events.

use crate::failure::Result;
use crate::names;
use crate::opening;
use crate::output::Out;
use std::path::PathBuf;

/// List the domains, with the number of their events
///
/// `events` counts the events of the main edition, `in_editions` the events that named editions
/// have of their own.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        names::list(out, "domain", opening::to_read(&self.store)?.domains()?)
    }
}
