//! `annals consumers dead-letters`: events that consumers have given up, one verb per file.

mod drop;
mod list;
mod show;

use crate::failure::Result;
use crate::output::Out;
use clap::Subcommand;

/// List, show and drop the events that a consumer has given up; only the program with the handler
/// can try them again
#[derive(Subcommand)]
pub enum Verb {
    List(list::Args),
    Show(show::Args),
    Drop(drop::Args),
}

impl Verb {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        match self {
            Verb::List(args) => args.run(out),
            Verb::Show(args) => args.run(out),
            Verb::Drop(args) => args.run(out),
        }
    }
}
