//! The verbs, one per file.

mod append;
mod consumers;
mod domains;
mod dump;
mod editions;
mod export;
mod get;
mod import;
mod positions;
mod projections;
mod query;
mod read;
mod repair;
mod salvage;
mod snapshots;
mod stats;
mod streams;
mod tags;
mod tail;
mod types;
mod verify;

use crate::failure::Result;
use crate::output::Out;
use clap::Subcommand;

/// The verbs. The file of each says what it is for.
#[derive(Subcommand)]
pub enum Verb {
    Append(append::Args),
    Import(import::Args),
    Read(read::Args),
    Query(query::Args),
    Tail(tail::Args),
    Get(get::Args),
    Export(export::Args),
    Streams(streams::Args),
    Domains(domains::Args),
    Types(types::Args),
    Tags(tags::Args),
    #[command(subcommand)]
    Positions(positions::Verb),
    #[command(subcommand)]
    Consumers(consumers::Verb),
    #[command(subcommand)]
    Projections(projections::Verb),
    Stats(stats::Args),
    Snapshots(snapshots::Args),
    Editions(editions::Args),
    Verify(verify::Args),
    Dump(dump::Args),
    Salvage(salvage::Args),
    Repair(repair::Args),
}

impl Verb {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        match self {
            Verb::Append(args) => args.run(out),
            Verb::Import(args) => args.run(out),
            Verb::Read(args) => args.run(out),
            Verb::Query(args) => args.run(out),
            Verb::Tail(args) => args.run(out),
            Verb::Get(args) => args.run(out),
            Verb::Export(args) => args.run(out),
            Verb::Streams(args) => args.run(out),
            Verb::Domains(args) => args.run(out),
            Verb::Types(args) => args.run(out),
            Verb::Tags(args) => args.run(out),
            Verb::Positions(verb) => verb.run(out),
            Verb::Consumers(verb) => verb.run(out),
            Verb::Projections(verb) => verb.run(out),
            Verb::Stats(args) => args.run(out),
            Verb::Snapshots(args) => args.run(out),
            Verb::Editions(args) => args.run(out),
            Verb::Verify(args) => args.run(out),
            Verb::Dump(args) => args.run(out),
            Verb::Salvage(args) => args.run(out),
            Verb::Repair(args) => args.run(out),
        }
    }
}
