//! `annals positions`: positions of handlers in streams, and checkpoints of consumers.

mod get;
mod list;
mod reset;

use crate::failure::Result;
use crate::output::Out;
use clap::Subcommand;

/// Show and reset the positions of handlers in streams, and list the checkpoints of consumers
#[derive(Subcommand)]
pub enum Verb {
    List(list::Args),
    Get(get::Args),
    Reset(reset::Args),
}

impl Verb {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        match self {
            Verb::List(args) => args.run(out),
            Verb::Get(args) => args.run(out),
            Verb::Reset(args) => args.run(out),
        }
    }
}
