//! `annals salvage`: copies every intact event of a damaged store into a new one.

use crate::failure::{Failure, Result};
use crate::losses::{self, Bad, Lost, Sequences};
use crate::output::Out;
use crate::progress::Progress;
use crate::replaced::NewFile;
use annals::offline::{Affected, Salvage, Salvaged};
use serde::Serialize;
use std::path::PathBuf;

/// Copy every intact event of a damaged store into a new one; the damaged one is only read
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the damaged store
    store: PathBuf,
    /// Directory of the new store: empty or missing
    out: PathBuf,
    /// Write a report of the losses into this file, as JSON, which `repair --accept-loss` reads. An
    /// existing file is replaced when the report is complete
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// Assign new positions and sequences, without gaps
    #[arg(long)]
    renumber: bool,
    /// Read at most this many megabytes per second
    #[arg(long, value_name = "MB/S")]
    rate: Option<u64>,
}

#[derive(Serialize)]
struct Report {
    store_id: String,
    events: u64,
    streams: u64,
    positions: u64,
    segments: u64,
    bytes: u64,
    lost: u64,
    losses: Vec<Lost>,
    missing: Vec<Sequences>,
    /// Positions that were copied although no evidence proves that they were acknowledged.
    unproven: Option<(u64, u64)>,
    torn: Option<Bad>,
    /// Damaged bytes of POSITIONS.
    lost_entries: Vec<Bad>,
    /// Bytes that the disk does not return.
    unreadable: Vec<Bad>,
    /// Handlers, checkpoints and snapshots that may include lost events.
    affected: Vec<String>,
    left_out: Vec<LeftOut>,
    copied: Vec<String>,
    notices: Vec<String>,
}

#[derive(Serialize)]
struct LeftOut {
    file: String,
    why: String,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        // Checked first: after the salvage, it would be too late to find that the report cannot be
        // written.
        let new = || self.report.as_ref().map(|path| NewFile::create(path, &[&self.store, &self.out])).transpose();
        drop(new()?);
        let (fs, _progress) = Progress::reading_store(&self.store, self.rate, 3);
        let done = Salvage::new().renumber(self.renumber).run_in(&fs, &self.store, &self.out)?;
        let report = Report::of(&done);
        if let Some(new) = new()? {
            write(new, &report)?;
        }
        let told = out.facts(&report, &parts(&done)).and_then(|()| out.flush());
        if done.losses.is_empty() && done.lost_entries.is_empty() { told } else { Err(Failure::loss_shown()) }
    }
}

/// The report may become the only record of the loss: it is durable before this returns.
fn write(new: NewFile, report: &Report) -> Result<()> {
    let failed = |e: std::io::Error| Failure::failed(e).at(new.name());
    let mut file = new.file().map_err(failed)?;
    serde_json::to_writer_pretty(&mut file, report).map_err(|e| failed(e.into()))?;
    new.finish()
}

impl Report {
    fn of(done: &Salvaged) -> Self {
        let text = |path: &PathBuf| path.to_string_lossy().into_owned();
        Report {
            store_id: done.store.to_string(),
            events: done.events,
            streams: done.streams,
            positions: done.positions,
            segments: done.segments,
            bytes: done.bytes,
            lost: done.lost(),
            losses: done.losses.iter().map(Lost::of).collect(),
            missing: done.missing.iter().map(Sequences::of).collect(),
            unproven: (!done.unproven.is_empty()).then_some((done.unproven.start, done.unproven.end)),
            torn: done.torn.as_ref().map(Bad::of),
            lost_entries: done.lost_entries.iter().map(Bad::of).collect(),
            unreadable: done.unreadable.iter().map(Bad::of).collect(),
            affected: done.affected.iter().map(Affected::to_string).collect(),
            left_out: done
                .left_out
                .iter()
                .map(|left| LeftOut { file: text(&left.path), why: left.why.clone() })
                .collect(),
            copied: done.copied.iter().map(text).collect(),
            notices: done.notices.clone(),
        }
    }
}

fn parts(done: &Salvaged) -> Vec<(&'static str, String)> {
    let mut parts = vec![
        ("events", done.events.to_string()),
        ("streams", done.streams.to_string()),
        ("segments", done.segments.to_string()),
        ("lost", done.lost().to_string()),
    ];
    parts.extend(done.losses.iter().map(|loss| ("loss", losses::line(loss))));
    parts.extend(done.missing.iter().map(|missing| ("missing", losses::sequences(missing))));
    if !done.unproven.is_empty() {
        let (first, last) = (done.unproven.start, done.unproven.end - 1);
        let kept = if first == last { format!("position {first}") } else { format!("positions {first} to {last}") };
        let proof = format!("{kept}: kept, although no evidence proves that it was acknowledged");
        parts.push(("unproven", proof));
    }
    parts.extend(done.torn.iter().map(|torn| ("torn tail", torn.to_string())));
    parts.extend(done.lost_entries.iter().map(|damage| ("lost entries", damage.to_string())));
    parts.extend(done.unreadable.iter().map(|hole| ("unreadable", hole.to_string())));
    parts.extend(done.affected.iter().map(|affected| ("affected", affected.to_string())));
    parts.extend(done.left_out.iter().map(|left| ("left out", format!("{}: {}", left.path.display(), left.why))));
    parts.extend(done.notices.iter().map(|notice| ("notice", notice.clone())));
    let verdict = match (done.losses.is_empty(), done.lost_entries.is_empty()) {
        (true, true) => "nothing is lost",
        (true, false) => "positions are lost",
        (false, _) => "events are lost",
    };
    parts.push(("verdict", verdict.to_owned()));
    parts
}
