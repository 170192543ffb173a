//! `annals verify`: reads the whole store and reports what is wrong with it.

use crate::failure::{Failure, Result};
use crate::losses::Bad;
use crate::output::Out;
use crate::progress::Progress;
use annals::offline;
use serde::Serialize;
use std::path::PathBuf;

/// Read the whole store and report what is wrong with it; changes nothing
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
    /// Read at most this many megabytes per second
    #[arg(long, value_name = "MB/S")]
    rate: Option<u64>,
}

#[derive(Serialize)]
struct Report {
    sound: bool,
    segments: u64,
    events: u64,
    lost: u64,
    streams: u64,
    positions: u64,
    checkpoints: u64,
    snapshots: u64,
    bytes: u64,
    damage: Vec<Bad>,
    torn: Option<Bad>,
    notices: Vec<String>,
    not_covered: Vec<String>,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let (fs, progress) = Progress::reading_store(&self.store, self.rate, 1);
        let found = offline::verify_in(&fs, &self.store)?;
        drop(progress);
        let mut parts = vec![
            ("segments", found.segments.to_string()),
            ("events", found.events.to_string()),
            ("streams", found.streams.to_string()),
            ("bytes", found.bytes.to_string()),
        ];
        // What a store does not have needs no line.
        let others = [
            ("positions", found.positions),
            ("checkpoints", found.checkpoints),
            ("snapshots", found.snapshots),
            ("lost earlier", found.lost),
        ];
        parts.extend(others.into_iter().filter(|(_, count)| *count > 0).map(|(name, count)| (name, count.to_string())));
        parts.extend(found.damage.iter().map(|damage| ("damage", damage.to_string())));
        parts.extend(found.torn.iter().map(|torn| ("torn tail", torn.to_string())));
        parts.extend(found.notices.iter().map(|notice| ("notice", notice.clone())));
        parts.extend(found.not_covered.iter().map(|name| ("not covered", name.clone())));
        let sound = found.is_sound();
        let verdict = if sound {
            "sound"
        } else {
            "damaged: keep a copy of the directory; `annals salvage` copies what is intact"
        };
        parts.push(("verdict", verdict.to_owned()));

        let report = Report {
            sound,
            segments: found.segments,
            events: found.events,
            lost: found.lost,
            streams: found.streams,
            positions: found.positions,
            checkpoints: found.checkpoints,
            snapshots: found.snapshots,
            bytes: found.bytes,
            damage: found.damage.iter().map(Bad::of).collect(),
            torn: found.torn.as_ref().map(Bad::of),
            notices: found.notices.clone(),
            not_covered: found.not_covered.clone(),
        };
        let told = out.facts(&report, &parts).and_then(|()| out.flush());
        // The exit code reports damage even if the output was closed.
        if sound { told } else { Err(Failure::damage_shown()) }
    }
}
