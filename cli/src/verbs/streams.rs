//! `annals streams`: names and sizes of the streams.

use crate::failure::Result;
use crate::opening;
use crate::output::{List, Out, number, text};
use serde::Serialize;
use std::path::PathBuf;

/// List the streams
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
    /// Only streams whose names begin with this
    #[arg(default_value = "", hide_default_value = true)]
    prefix: String,
}

#[derive(Serialize)]
struct Stream {
    stream: String,
    events: u64,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let store = opening::to_read(&self.store)?;
        let mut list = List::new(out, [text("stream"), number("events")]);
        for info in store.streams(&self.prefix)? {
            let stream = Stream { stream: info.stream.to_string(), events: info.next_sequence };
            list.add(&stream, |stream| vec![stream.stream.clone(), stream.events.to_string()])?;
        }
        list.end()
    }
}
