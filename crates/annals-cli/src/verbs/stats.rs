//! `annals stats`: the size of a store.

use crate::failure::Result;
use crate::opening;
use crate::output::{Form, List, Out, number, text};
use serde::Serialize;
use std::path::PathBuf;

/// Show the size of a store, its segments and their indexes
///
/// `events` counts the events that a reader sees. `deleted_events` were deleted with their edition,
/// and `system_records` are written by the store itself; both keep their positions.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
}

#[derive(Serialize)]
struct Stats {
    /// The events that a reader sees.
    events: u64,
    deleted_events: u64,
    system_records: u64,
    streams: u64,
    bytes: u64,
    file_bytes: u64,
    index_bytes: u64,
    segments: Vec<Segment>,
}

#[derive(Serialize)]
struct Segment {
    file: String,
    first_position: u64,
    bytes: u64,
    file_bytes: u64,
    /// 0 while the index is in memory.
    index_bytes: u64,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let stats = opening::to_read(&self.store)?.stats()?;
        let segments: Vec<Segment> = stats.segments.iter().map(Segment::of).collect();
        let stats = Stats {
            events: stats.events,
            deleted_events: stats.deleted_events,
            system_records: stats.system_records,
            streams: stats.streams,
            bytes: segments.iter().map(|segment| segment.bytes).sum(),
            file_bytes: segments.iter().map(|segment| segment.file_bytes).sum(),
            index_bytes: segments.iter().map(|segment| segment.index_bytes).sum(),
            segments,
        };
        let parts = [
            ("events", stats.events.to_string()),
            ("deleted_events", stats.deleted_events.to_string()),
            ("system_records", stats.system_records.to_string()),
            ("streams", stats.streams.to_string()),
            ("bytes", stats.bytes.to_string()),
            ("file_bytes", stats.file_bytes.to_string()),
            ("index_bytes", stats.index_bytes.to_string()),
            ("segments", stats.segments.len().to_string()),
        ];
        out.facts(&stats, &parts)?;
        if out.form() == Form::Json {
            return Ok(());
        }
        if out.form() == Form::Table {
            out.line("")?;
        }
        let columns =
            [text("segment"), number("first_position"), number("bytes"), number("file_bytes"), number("index_bytes")];
        let mut list = List::new(out, columns);
        for segment in &stats.segments {
            list.add(segment, |s| {
                let numbers = [s.first_position, s.bytes, s.file_bytes, s.index_bytes].map(|number| number.to_string());
                std::iter::once(s.file.clone()).chain(numbers).collect()
            })?;
        }
        list.end()
    }
}

impl Segment {
    fn of(stats: &annals::info::SegmentStats) -> Self {
        let file = stats.path.file_name().unwrap_or(stats.path.as_os_str());
        Segment {
            file: file.to_string_lossy().into_owned(),
            first_position: stats.first_position,
            bytes: stats.bytes,
            file_bytes: stats.file_bytes,
            index_bytes: stats.index_bytes,
        }
    }
}
