//! `annals snapshots list`: the snapshots, according to their files.

use super::{codec_name, retention_name};
use crate::failure::Result;
use crate::opening;
use crate::output::{List, Out, note, number, text};
use crate::times::Time;
use annals::StreamId;
use annals::snapshot::{SkippedSnapshots, SnapshotInfo};
use serde::Serialize;
use std::path::PathBuf;

/// List the snapshots of a stream, or of all streams
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
    /// The stream, such as order-123
    stream: Option<StreamId>,
}

/// The header of a snapshot.
#[derive(Serialize)]
pub struct Info {
    pub stream: String,
    pub sequence: u64,
    pub position: u64,
    pub recorded_at: Time,
    pub created_at: Time,
    pub retention: String,
    pub fingerprint: u64,
    pub codec: String,
    pub bytes: u64,
    pub file: String,
}

impl Info {
    pub fn of(info: &SnapshotInfo) -> Self {
        Info {
            stream: info.stream.to_string(),
            sequence: info.sequence,
            position: info.position,
            recorded_at: Time(info.recorded_at),
            created_at: Time(info.created_at),
            retention: retention_name(info.retention),
            fingerprint: info.fingerprint,
            codec: codec_name(info.codec),
            bytes: info.bytes,
            file: info.path.to_string_lossy().into_owned(),
        }
    }
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let store = opening::to_read(&self.store)?;
        let infos = match &self.stream {
            Some(stream) => store.snapshots().list(stream)?,
            None => store.snapshots().list_all()?,
        };
        let columns = [
            text("stream"),
            number("sequence"),
            number("bytes"),
            text("codec"),
            text("retention"),
            text("created_at"),
            text("file"),
        ];
        let mut list = List::new(out, columns);
        for info in &infos {
            list.add(&Info::of(info), |info| {
                let numbers = [info.sequence, info.bytes].map(|number| number.to_string());
                let rest = [&info.codec, &info.retention, &info.created_at.to_string(), &info.file].map(String::clone);
                std::iter::once(info.stream.clone()).chain(numbers).chain(rest).collect()
            })?;
        }
        list.end()?;
        if store.snapshots().skipped() != SkippedSnapshots::default() {
            note("annals: note: ", "some files are left out; `annals snapshots verify` says why");
        }
        Ok(())
    }
}
