//! Annals beside other embedded stores: one engine and one workload a run, and one line of JSON
//! about it.
//!
//! ```text
//! annals-peers annals append --dir /tmp/run --threads 8
//! annals-peers annals load --dir /tmp/set && annals-peers annals replay --dir /tmp/set
//! ```
//!
//! `run.py` runs them all in turn, each beside its floor, and `report.py` makes tables of the
//! lines.

mod engine;
mod engines;
mod events;
mod measure;
mod workload;

use anyhow::Result;
use clap::{Parser, Subcommand};
use engine::NotOffered;
use serde_json::{Map, Value};
use workload::{append, load, open, query, replay, streams, subscribe};

#[derive(Parser)]
#[command(about)]
struct Arguments {
    /// floor, annals, tephra, umadb, sqlite, redb, fjall, lmdb, okaywal or raft-engine; or one of
    /// them after `gc:`, a queue that commits for all that wait.
    engine: String,
    #[command(subcommand)]
    workload: Workload,
}

#[derive(Subcommand)]
enum Workload {
    /// W1 to W4: commit over and over
    Append(append::Append),
    /// W8, and what the following read
    Load(load::Load),
    /// W5: all events in order
    Replay(replay::Replay),
    /// W6: whole streams at random, and the newest event of one
    Streams(streams::Streams),
    /// W7: open, and read one event
    Open(open::Open),
    /// W9: from an append to a subscriber
    Subscribe(subscribe::Subscribe),
    /// W10: queries by tag and type, and appends on condition of one
    Query(query::Query),
}

fn main() {
    let Arguments { engine, workload } = Arguments::parse();
    let figures = match &workload {
        Workload::Append(arguments) => append::run(&engine, arguments),
        Workload::Load(arguments) => load::run(&engine, arguments),
        Workload::Replay(arguments) => replay::run(&engine, arguments),
        Workload::Streams(arguments) => streams::run(&engine, arguments),
        Workload::Open(arguments) => open::run(&engine, arguments),
        Workload::Subscribe(arguments) => subscribe::run(&engine, arguments),
        Workload::Query(arguments) => query::run(&engine, arguments),
    };
    let (line, failed) = tell(figures);
    println!("{line}");
    // Some engines have threads that do not end; what they hold is written by now.
    std::process::exit(failed.into());
}

fn tell(figures: Result<measure::Figures>) -> (Value, bool) {
    let one = |name: &str, value: Value| Value::Object(Map::from_iter([(name.to_owned(), value)]));
    match figures {
        Ok(figures) => {
            (figures.into_iter().map(|(name, value)| (name.to_owned(), Value::from(value))).collect(), false)
        }
        Err(error) => match error.downcast_ref::<NotOffered>() {
            Some(NotOffered(why)) => (one("not_offered", Value::from(*why)), false),
            None => (one("error", Value::from(format!("{error:#}"))), true),
        },
    }
}
