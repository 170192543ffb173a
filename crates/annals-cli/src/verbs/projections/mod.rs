//! `annals projections`: the saved states of read models.

mod list;

use crate::failure::Result;
use crate::output::Out;
use clap::Subcommand;

/// Show what is saved of projections: names, versions, how far they have come
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
