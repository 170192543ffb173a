//! `annals dump`: each piece of each segment, with its offset and a verdict.

use crate::failure::{Failure, Result};
use crate::output::{List, Out, cell, number, text};
use crate::times::Time;
use annals::offline::{self, Kind, Piece};
use serde::Serialize;
use std::path::PathBuf;

/// Show each piece of each segment, intact or not; changes nothing
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
}

#[derive(Serialize)]
struct Row {
    segment: String,
    offset: u64,
    length: u64,
    kind: &'static str,
    verdict: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    position: Option<u64>,
    events: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    recorded_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    durable_upto: Option<u64>,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let columns = [
            text("segment"),
            number("offset"),
            number("length"),
            text("kind"),
            text("verdict"),
            number("position"),
            number("events"),
            text("recorded_at"),
            number("durable_upto"),
        ];
        let mut list = List::new(out, columns);
        let (mut told, mut sound) = (Ok(()), true);
        offline::dump(&self.store, |piece| {
            let row = Row::of(piece);
            sound &= row.verdict == "ok";
            if told.is_ok() {
                told = list.add(&row, Row::cells);
            }
        })?;
        let told = told.and_then(|()| list.end()).and_then(|()| out.flush());
        if sound { told } else { Err(Failure::damage_shown()) }
    }
}

impl Row {
    fn of(piece: Piece) -> Self {
        let name = piece.path.file_name().unwrap_or(piece.path.as_os_str());
        Row {
            segment: name.to_string_lossy().into_owned(),
            offset: piece.offset,
            length: piece.len,
            kind: match piece.kind {
                Kind::Header => "header",
                Kind::Commit => "commit",
                Kind::Seal => "seal",
                Kind::Zeros => "zeros",
                Kind::Unreadable => "unreadable",
                _ => "other",
            },
            verdict: piece.verdict,
            position: piece.first_position,
            events: piece.events,
            recorded_at: piece.recorded_at.map(Time),
            durable_upto: piece.durable_upto,
        }
    }

    fn cells(&self) -> Vec<String> {
        vec![
            self.segment.clone(),
            self.offset.to_string(),
            self.length.to_string(),
            self.kind.to_owned(),
            self.verdict.clone(),
            cell(self.position),
            self.events.to_string(),
            cell(self.recorded_at),
            cell(self.durable_upto),
        ]
    }
}
