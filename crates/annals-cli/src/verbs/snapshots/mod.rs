//! `annals snapshots`: cached states of aggregates, one verb per file.

mod delete;
mod list;
mod show;
mod verify;

use crate::failure::Result;
use crate::output::Out;
use annals::snapshot::{Codec, Retention};
use clap::Subcommand;

/// List, show, delete and verify snapshots: cached states of aggregates
///
/// A snapshot is only a cache: without it, no event is lost; at worst, loading takes longer.
#[derive(clap::Args)]
pub struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    List(list::Args),
    Show(show::Args),
    Delete(delete::Args),
    Verify(verify::Args),
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        match &self.verb {
            Verb::List(args) => args.run(out),
            Verb::Show(args) => args.run(out),
            Verb::Delete(args) => args.run(out),
            Verb::Verify(args) => args.run(out),
        }
    }
}

fn retention_name(retention: Retention) -> String {
    match retention {
        Retention::Default => "default".into(),
        Retention::Transient => "transient".into(),
        Retention::Persist => "persist".into(),
        other => format!("{other:?}"),
    }
}

/// Returns the name of a codec, which is that of the content type of events.
fn codec_name(codec: Codec) -> String {
    match codec {
        Codec::Bincode => "bincode".into(),
        Codec::Json => "json".into(),
        Codec::Bytes => "bytes".into(),
        other => format!("{other:?}"),
    }
}
