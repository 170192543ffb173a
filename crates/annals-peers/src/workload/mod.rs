//! The work, the same for all engines. Each workload opens a store, does its work and tells
//! figures.

pub mod append;
pub mod load;
pub mod open;
pub mod query;
pub mod replay;
pub mod streams;
pub mod subscribe;

use crate::engine::Options;
use anyhow::{Context, Result};
use clap::Args;
use std::path::PathBuf;

/// Where a workload reads: what `load` has made.
#[derive(Args)]
pub struct Set {
    /// A directory that `load` has filled for the same engine.
    #[arg(long)]
    pub dir: PathBuf,
}

impl Set {
    pub fn options(&self) -> Options {
        let dir = self.dir.clone();
        Options { dir, durable: true, threads: 1, batch: 1, kept: true, subscribed: false }
    }

    /// What `load` has kept for it.
    pub fn facts(&self) -> Result<load::Facts> {
        load::Facts::read(&self.dir).with_context(|| format!("no data set in {}", self.dir.display()))
    }
}
