//! `annals projections`: the saved states of read models.

mod list;

use crate::failure::Result;
use crate::output::Out;
use clap::Subcommand;

/// Show the saved states of projections: names, versions, checkpoints
#[derive(Subcommand)]
pub enum Verb {
    List(list::Args),
}

impl Verb {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        match self {
            Verb::List(args) => args.run(out),
        }
    }
}
