//! `annals consumers`: checkpoints of consumers, and their dead letters, one verb per file.

mod dead_letters;
mod list;
mod reset;
mod show;

use crate::failure::{Failure, Result};
use crate::opening::note_fault;
use crate::output::Out;
use annals::Store;
use annals::consumer::ConsumerInfo;
use clap::Subcommand;

/// Show and reset consumers, and manage their dead letters
#[derive(Subcommand)]
pub enum Verb {
    List(list::Args),
    Show(show::Args),
    Reset(reset::Args),
    #[command(subcommand)]
    DeadLetters(dead_letters::Verb),
}

impl Verb {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        match self {
            Verb::List(args) => args.run(out),
            Verb::Show(args) => args.run(out),
            Verb::Reset(args) => args.run(out),
            Verb::DeadLetters(verb) => verb.run(out),
        }
    }
}

fn find(store: &Store, name: &str) -> Result<ConsumerInfo> {
    let found = store.consumers()?.into_iter().find(|info| info.name == name);
    found.ok_or_else(|| Failure::failed(format_args!("no consumer {name} has stored anything")))
}

fn position(info: &ConsumerInfo) -> Option<u64> {
    info.checkpoint.as_ref().map(|checkpoint| checkpoint.position)
}

/// Returns why the checkpoint of a consumer does not refer to an event of this log, and prints that
/// on stderr.
fn fault(info: &ConsumerInfo) -> Option<String> {
    let fault = info.checkpoint.as_ref().and_then(|checkpoint| checkpoint.fault).map(|fault| fault.to_string());
    note_fault(&format!("the checkpoint of {}", info.name), fault.as_deref());
    fault
}
