//! W7: opens a store, and reads the newest event of a stream, without which lazy ones would have
//! done nothing.

use super::Set;
use crate::engines;
use crate::events::{Stream, Sum};
use crate::measure::{Figures, anonymous_memory};
use anyhow::{Result, ensure};
use clap::Args;
use std::time::Instant;

#[derive(Args)]
pub struct Open {
    #[command(flatten)]
    set: Set,
}

pub fn run(engine: &str, arguments: &Open) -> Result<Figures> {
    // Any stream that is there in the smallest set.
    let (stream, mut sum) = (Stream::new(5), Sum::default());
    let memory = anonymous_memory();
    let started = Instant::now();
    let store = engines::open(engine, &arguments.set.options())?;
    let mut session = store.session()?;
    let open = started.elapsed().as_secs_f64();
    session.newest(&stream, &mut sum)?;
    let ready = started.elapsed().as_secs_f64();
    let memory = anonymous_memory() - memory;
    ensure!(sum.events == 1, "the stream has an event");
    drop(session);
    store.close()?;
    Ok(vec![("ready_ms", ready * 1e3), ("open_ms", open * 1e3), ("memory_mib", memory)])
}
