//! `annals streams`: names and sizes of the streams, and when each was last written to.

use crate::failure::Result;
use crate::opening;
use crate::output::{List, Out, number, text};
use crate::times::Time;
use serde::Serialize;
use std::path::PathBuf;

/// List the streams, with the number of their events and when the last one was recorded
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
    /// Only streams whose names begin with this; with an @, streams of named editions, and with
    /// @main, those of the main edition
    #[arg(default_value = "", hide_default_value = true)]
    prefix: String,
}

#[derive(Serialize)]
struct Stream {
    stream: String,
    events: u64,
    last_position: u64,
    last_recorded_at: Time,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let store = opening::to_read(&self.store)?;
        let mut list = List::new(out, [text("stream"), number("events"), text("last_recorded_at")]);
        for info in store.streams(&self.prefix)? {
            let stream = Stream {
                stream: info.stream.to_string(),
                events: info.next_sequence,
                last_position: info.last_position,
                last_recorded_at: Time(info.last_recorded_at),
            };
            list.add(&stream, |s| vec![s.stream.clone(), s.events.to_string(), s.last_recorded_at.to_string()])?;
        }
        list.end()
    }
}
