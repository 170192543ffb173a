//! `annals projections list`: the saved states of projections, according to their files.

use crate::failure::Result;
use crate::opening;
use crate::output::{List, Out, note, number, text};
use crate::times::Time;
use annals::projection::SavedProjection;
use annals::snapshot::Codec;
use serde::Serialize;
use std::path::PathBuf;

/// List the saved states of projections, with the number of events after their checkpoints
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
}

#[derive(Serialize)]
struct Info {
    name: String,
    version: u32,
    /// `None` if the state includes no event yet.
    position: Option<u64>,
    lag: u64,
    /// Whether it had caught up at some time.
    complete: bool,
    codec: String,
    state_bytes: u64,
    saved_at: Time,
    file: String,
}

impl Info {
    fn of(saved: &SavedProjection) -> Self {
        Info {
            name: saved.name.clone(),
            version: saved.version,
            position: saved.position,
            lag: saved.lag,
            complete: saved.complete,
            codec: if saved.codec == Codec::Json { "json".into() } else { "bincode".into() },
            state_bytes: saved.state_bytes,
            saved_at: Time(saved.saved_at),
            file: saved.path.to_string_lossy().into_owned(),
        }
    }

    fn cells(&self) -> Vec<String> {
        let position = self.position.map_or("-".into(), |position| position.to_string());
        let complete = if self.complete { "yes" } else { "no" };
        vec![
            self.name.clone(),
            self.version.to_string(),
            position,
            self.lag.to_string(),
            complete.into(),
            self.state_bytes.to_string(),
            self.saved_at.to_string(),
        ]
    }
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let store = opening::to_read(&self.store)?;
        let columns = [
            text("name"),
            number("version"),
            number("position"),
            number("lag"),
            text("complete"),
            number("state_bytes"),
            text("saved_at"),
        ];
        let mut list = List::new(out, columns);
        for saved in &store.projections().list()? {
            list.add(&Info::of(saved), Info::cells)?;
        }
        list.end()?;
        for (path, fault) in store.projections().unusable()? {
            note("annals: note: ", &format!("{}: {fault}; the projection will be rebuilt", path.display()));
        }
        Ok(())
    }
}
