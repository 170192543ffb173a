//! `annals`: the command line of the event store. A thin layer over the public API of the library:
//! one verb, one file.

mod failure;
mod filter;
mod gaps;
mod input;
mod interruption;
mod left_behind;
mod lines;
mod losses;
mod mistakes;
mod names;
mod opening;
mod output;
mod progress;
mod records;
mod replaced;
mod rows;
mod times;
mod verbs;

use clap::Parser;
use output::Out;
use std::process::ExitCode;
use verbs::Verb;

/// Annals keeps an ordered, immutable history of events in a directory of files.
///
/// On a terminal, output is a table; in a pipe, plain text, one item per line, fields separated by
/// tabs; with --json, JSON. Times are in UTC.
#[derive(Parser)]
#[command(name = "annals", version, after_help = EXIT_CODES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// Print JSON
    #[arg(long, global = true, display_order = 900)]
    json: bool,
}

const EXIT_CODES: &str = "Exit codes:
  0  ok
  1  failed
  2  usage
  3  damage found
  4  damage with loss (salvage)
  5  locked: the store is open elsewhere
  6  conflict: a stream is not as expected
  7  a newer version of the format";

fn main() -> ExitCode {
    let cli = Cli::parse();
    let mut out = Out::stdout(cli.json);
    let done = cli.verb.run(&mut out);
    // The output before the failure comes before the message.
    let flushed = out.flush();
    match done.and(flushed) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => failure.tell(),
    }
}
