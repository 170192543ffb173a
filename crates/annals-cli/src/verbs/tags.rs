//! `annals tags`: the tags, and how many events each has.

use crate::failure::Result;
use crate::names;
use crate::opening;
use crate::output::Out;
use std::path::PathBuf;

/// List the tags, with the number of their events
///
/// `events` counts the events of the main edition, `in_editions` the events that named editions
/// have of their own.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
    /// Only tags that begin with this, such as customer:
    #[arg(default_value = "", hide_default_value = true)]
    prefix: String,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        names::list(out, "tag", opening::to_read(&self.store)?.tags(&self.prefix)?)
    }
}
