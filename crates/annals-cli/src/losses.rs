//! Losses as JSON and as text: the report that `salvage` writes and `repair` reads.

use crate::failure::{Failure, Result};
use crate::input;
use annals::Damage;
use annals::offline::{Loss, LostEvents, Repair};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::Path;

/// Bytes of a file, the positions that they held, and why they cannot be read.
#[derive(Serialize)]
pub struct Bad {
    file: String,
    /// From the first bad byte up to the first intact one, which is excluded.
    from_byte: u64,
    to_byte: u64,
    /// The end is `None` if it is unknown.
    from_position: u64,
    to_position: Option<u64>,
    why: String,
}

impl Bad {
    pub fn of(damage: &Damage) -> Self {
        Bad {
            file: damage.path.to_string_lossy().into_owned(),
            from_byte: damage.bytes.start,
            to_byte: damage.bytes.end,
            from_position: damage.positions.start,
            to_position: (damage.positions.end != u64::MAX).then_some(damage.positions.end),
            why: damage.why.clone(),
        }
    }
}

/// Events of a stream.
#[derive(Serialize)]
pub struct Sequences {
    stream: String,
    from_sequence: u64,
    to_sequence: u64,
}

impl Sequences {
    pub fn of(lost: &LostEvents) -> Self {
        let Range { start, end } = lost.sequences;
        Sequences { stream: lost.stream.to_string(), from_sequence: start, to_sequence: end }
    }
}

/// Lost positions.
#[derive(Serialize)]
pub struct Lost {
    #[serde(flatten)]
    bad: Bad,
    /// The lost events according to the index of the segment.
    streams: Vec<Sequences>,
    /// Whether `streams` names all lost events.
    all_streams_known: bool,
}

impl Lost {
    pub fn of(loss: &Loss) -> Self {
        let streams = loss.streams.iter().map(Sequences::of).collect();
        Lost { bad: Bad::of(&loss.damage), streams, all_streams_known: loss.all_known }
    }
}

/// Returns one line about a loss.
pub fn line(loss: &Loss) -> String {
    let mut text = loss.damage.to_string();
    for lost in loss.streams.iter().take(5) {
        text.push_str(&format!("; {}", sequences(lost)));
    }
    match loss.streams.len() {
        0..=5 if loss.all_known => {}
        0..=5 => text.push_str("; perhaps other streams"),
        more => text.push_str(&format!("; and {} more", more - 5)),
    }
    text
}

/// Returns a stream and its missing sequences as text.
pub fn sequences(lost: &LostEvents) -> String {
    match lost.sequences.end - lost.sequences.start {
        1 => format!("{} sequence {}", lost.stream, lost.sequences.start),
        _ => format!("{} sequences {} to {}", lost.stream, lost.sequences.start, lost.sequences.end - 1),
    }
}

#[derive(Deserialize)]
struct Report {
    losses: Vec<Positions>,
    /// Reports of stores without handler positions may not have it.
    #[serde(default)]
    lost_entries: Vec<Bytes>,
}

#[derive(Deserialize)]
struct Positions {
    from_position: u64,
    /// `None` if the end of the loss is unknown.
    to_position: Option<u64>,
}

#[derive(Deserialize)]
struct Bytes {
    from_byte: u64,
    to_byte: u64,
}

/// Maximum length of a report in bytes.
const MAX_REPORT: u64 = 1 << 30;

/// Accepts the losses that a report names.
pub fn accept(repair: Repair, report: &Path) -> Result<Repair> {
    let name = report.display().to_string();
    let text = input::whole(report, MAX_REPORT)?;
    let report: Report = serde_json::from_slice(&text).map_err(|e| Failure::failed(e).at(&name))?;
    let positions = report.losses.into_iter().map(|lost| lost.from_position..lost.to_position.unwrap_or(u64::MAX));
    let bytes = report.lost_entries.into_iter().map(|lost| lost.from_byte..lost.to_byte);
    Ok(repair.accept_loss(positions).accept_lost_entries(bytes))
}
