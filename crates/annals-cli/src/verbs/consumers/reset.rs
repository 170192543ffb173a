//! `annals consumers reset`: moves a consumer, forwards or backwards.

use crate::failure::{Failure, Result};
use crate::opening;
use crate::output::{Out, cell};
use crate::times;
use annals::consumer::Reset;
use annals::{Options, Timestamp};
use serde::Serialize;
use std::path::PathBuf;

/// Move a consumer, forwards or backwards: to --start, --after, --at or --now
///
/// It will see the events after that place again, or never see those before it. Its dead letters
/// stay. `annals query --help` describes the forms of a TIME.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
    /// Name of the consumer
    consumer: String,
    #[command(flatten)]
    to: To,
    /// Confirm
    #[arg(long)]
    yes: bool,
}

#[derive(clap::Args)]
#[group(required = true, multiple = false)]
struct To {
    /// To the start, as if it had never run
    #[arg(long)]
    start: bool,
    /// After the event at this position
    #[arg(long, value_name = "POSITION")]
    after: Option<u64>,
    /// To the first event that was recorded at this time or later
    #[arg(long, value_name = "TIME", value_parser = times::parse_friendly)]
    at: Option<Timestamp>,
    /// After all existing events
    #[arg(long)]
    now: bool,
}

impl To {
    fn reset(&self) -> Reset {
        match (self.after, self.at) {
            (Some(position), _) => Reset::After(position),
            (_, Some(time)) => Reset::At(time),
            _ if self.now => Reset::Now,
            _ => Reset::Start,
        }
    }
}

#[derive(Serialize)]
struct Moved<'a> {
    consumer: &'a str,
    before: Option<u64>,
    position: Option<u64>,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        if !self.yes {
            return Err(Failure::usage("this changes what the consumer will see; add --yes to do it"));
        }
        let store = opening::to_write(&self.store, Options::new().create(false))?;
        let consumer = store.consumer(&self.consumer);
        // Not read through the consumer, which refuses a checkpoint that is not of this log: a
        // reset is the way out of that.
        let known = store.consumers()?.into_iter().find(|info| info.name == self.consumer);
        let before = known.and_then(|info| info.checkpoint).map(|checkpoint| checkpoint.position);
        let position = consumer.reset_to(self.to.reset())?;
        drop(consumer);
        store.close()?;
        let moved = Moved { consumer: &self.consumer, before, position };
        out.facts(&moved, &[("before", cell(before)), ("position", cell(position))])
    }
}
