//! `annals consumers dead-letters drop`: removes dead letters.

use crate::failure::{Failure, Result};
use crate::opening;
use crate::output::Out;
use annals::Options;
use serde::Serialize;
use std::path::PathBuf;

/// Remove dead letters of a consumer: their events count as done
///
/// The events themselves stay in the store.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
    /// Name of the consumer
    consumer: String,
    /// Positions of the events
    #[arg(required_unless_present = "all")]
    positions: Vec<u64>,
    /// Remove all of them
    #[arg(long, conflicts_with = "positions")]
    all: bool,
    /// Confirm
    #[arg(long)]
    yes: bool,
}

#[derive(Serialize)]
struct Dropped<'a> {
    consumer: &'a str,
    dropped: u64,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        if !self.yes {
            return Err(Failure::usage("this removes events that were not handled; add --yes to do it"));
        }
        let store = opening::to_write(&self.store, Options::new().create(false))?;
        let consumer = store.consumer(&self.consumer);
        let mut dropped = 0;
        if self.all {
            dropped = consumer.drop_dead_letters()?;
        }
        for &position in &self.positions {
            dropped += u64::from(consumer.drop_dead_letter(position)?);
        }
        drop(consumer);
        store.close()?;
        let dropped = Dropped { consumer: &self.consumer, dropped };
        out.facts(&dropped, &[("dropped", dropped.dropped.to_string())])
    }
}
