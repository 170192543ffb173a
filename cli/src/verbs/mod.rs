//! The verbs, a file each.

mod append;
mod dump;
mod export;
mod import;
mod read;
mod stats;
mod streams;
mod verify;

use crate::failure::Result;
use crate::output::Out;
use clap::Subcommand;

/// What each is for stands in its file.
#[derive(Subcommand)]
pub enum Verb {
    Append(append::Args),
    Import(import::Args),
    Read(read::Args),
    Export(export::Args),
    Streams(streams::Args),
    Stats(stats::Args),
    Verify(verify::Args),
    Dump(dump::Args),
}

impl Verb {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        match self {
            Verb::Append(args) => args.run(out),
            Verb::Import(args) => args.run(out),
            Verb::Read(args) => args.run(out),
            Verb::Export(args) => args.run(out),
            Verb::Streams(args) => args.run(out),
            Verb::Stats(args) => args.run(out),
            Verb::Verify(args) => args.run(out),
            Verb::Dump(args) => args.run(out),
        }
    }
}
