//! The adapters, one peer a file. Each is as durable as the options say and otherwise has the
//! peer's own defaults, but for what its file gives a reason for.

mod annals;
mod fjall;
mod floor;
mod key_value;
mod lmdb;
mod okaywal;
mod queue;
mod raft_engine;
mod redb;
mod sqlite;
mod tephra;
mod umadb;

use crate::engine::{Engine, Options};
use anyhow::{Result, bail};
use std::io::ErrorKind;
use std::path::Path;

/// Opens a store by the name of its engine; `gc:` in front of the name puts a group-commit queue in
/// front of the engine.
pub fn open(engine: &str, options: &Options) -> Result<Box<dyn Engine>> {
    if let Some(engine) = engine.strip_prefix("gc:") {
        return Ok(Box::new(queue::Queue::new(open(engine, options)?)?));
    }
    std::fs::create_dir_all(&options.dir)?;
    Ok(match engine {
        "floor" => Box::new(floor::Floor::open(options)?),
        "annals" => Box::new(annals::Annals::open(options)?),
        "tephra" => Box::new(tephra::Tephra::open(options)?),
        "umadb" => Box::new(umadb::Umadb::open(options)?),
        "sqlite" => Box::new(sqlite::Sqlite::open(options)?),
        "redb" => Box::new(redb::Redb::open(options)?),
        "fjall" => Box::new(fjall::Fjall::open(options)?),
        "lmdb" => Box::new(lmdb::Lmdb::open(options)?),
        "okaywal" => Box::new(okaywal::Okaywal::open(options)?),
        "raft-engine" => Box::new(raft_engine::RaftEngine::open(options)?),
        _ => bail!("no engine is called {engine}"),
    })
}

/// Removes a store.
pub fn clear(dir: &Path) -> Result<()> {
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error.into()),
        _ => Ok(()),
    }
}
