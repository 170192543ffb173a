//! `annals snapshots verify`: reads every snapshot and reports which are usable.

use crate::failure::{Failure, Result};
use crate::opening;
use crate::output::Out;
use annals::snapshot::SnapshotFault;
use serde::Serialize;
use std::path::PathBuf;

/// Read every snapshot and report which are usable: intact, and of a stream that has the event that
/// the snapshot follows; changes nothing
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
}

#[derive(Serialize)]
struct Report {
    sound: bool,
    files: u64,
    bytes: u64,
    usable: u64,
    unusable: Vec<Unusable>,
}

#[derive(Serialize)]
struct Unusable {
    file: String,
    why: String,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let store = opening::to_read(&self.store)?;
        let found = store.snapshots().verify()?;
        let is_damage = |fault: &SnapshotFault| matches!(fault, SnapshotFault::Damaged | SnapshotFault::Unreadable);
        let sound = !found.unusable.iter().any(|(_, fault)| is_damage(fault));
        let unusable = found
            .unusable
            .iter()
            .map(|(path, fault)| Unusable { file: path.to_string_lossy().into_owned(), why: fault.to_string() });
        let report = Report {
            sound,
            files: found.files,
            bytes: found.bytes,
            usable: found.usable,
            unusable: unusable.collect(),
        };
        let mut parts = vec![
            ("files", report.files.to_string()),
            ("bytes", report.bytes.to_string()),
            ("usable", report.usable.to_string()),
        ];
        parts.extend(report.unusable.iter().map(|one| ("unusable", format!("{}: {}", one.file, one.why))));
        let verdict = if sound { "sound" } else { "damaged: no event is lost; delete the snapshots of the stream" };
        parts.push(("verdict", verdict.to_owned()));
        let told = out.facts(&report, &parts).and_then(|()| out.flush());
        // The exit code reports damage even if the output was closed.
        if sound { told } else { Err(Failure::damage_shown()) }
    }
}
