//! `annals editions`: timelines that diverge from the main one, one verb per file.

mod delete;
mod list;

use crate::failure::Result;
use crate::output::Out;
use clap::Subcommand;

/// List and delete named editions: timelines that diverge from the main one
///
/// `annals read STORE order-1@NAME` shows a stream as an edition has it, and
/// `annals query STORE --edition NAME` finds its events.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    List(list::Args),
    Delete(delete::Args),
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        match &self.verb {
            Verb::List(args) => args.run(out),
            Verb::Delete(args) => args.run(out),
        }
    }
}

/// Returns the number of events in each domain: `bill 1, order 2`.
fn by_domain<'a>(domains: impl IntoIterator<Item = (&'a String, &'a u64)>) -> String {
    let each: Vec<String> = domains.into_iter().map(|(domain, events)| format!("{domain} {events}")).collect();
    each.join(", ")
}
