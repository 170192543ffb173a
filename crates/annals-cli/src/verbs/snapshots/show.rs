//! `annals snapshots show`: one snapshot and its state.

use super::list::Info;
use crate::failure::{Failure, Result};
use crate::lines::{inline_json, shown_bytes};
use crate::opening;
use crate::output::Out;
use annals::snapshot::{Codec, Snapshot, SnapshotInfo};
use annals::{Store, StreamId};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Serialize;
use serde_json::value::RawValue;
use std::path::PathBuf;

/// Show the newest usable snapshot of a stream
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
    /// The stream, such as order-123
    stream: StreamId,
    /// Show the newest one that includes no event after this sequence
    #[arg(long, value_name = "SEQUENCE", default_value_t = u64::MAX, hide_default_value = true)]
    sequence: u64,
    /// Print only the bytes of the state
    #[arg(long, conflicts_with = "json")]
    raw: bool,
}

#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    info: Info,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    state_base64: Option<String>,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let store = opening::to_read(&self.store)?;
        let missing = || Failure::failed(format_args!("{} has no snapshot that can be used", self.stream));
        let (info, snapshot) = self.find(&store)?.ok_or_else(missing)?;
        if self.raw {
            return out.bytes(snapshot.bytes());
        }
        let info = Info::of(&info);
        let parts = [
            ("stream", info.stream.clone()),
            ("sequence", info.sequence.to_string()),
            ("position", info.position.to_string()),
            ("recorded_at", info.recorded_at.to_string()),
            ("created_at", info.created_at.to_string()),
            ("retention", info.retention.clone()),
            ("fingerprint", info.fingerprint.to_string()),
            ("codec", info.codec.clone()),
            ("bytes", info.bytes.to_string()),
            ("file", info.file.clone()),
            ("state", shown(&snapshot)),
        ];
        let state = if snapshot.codec() == Codec::Json { inline_json(snapshot.bytes()) } else { None };
        let state_base64 = state.is_none().then(|| BASE64_STANDARD.encode(snapshot.bytes()));
        out.facts(&Shown { info, state, state_base64 }, &parts)
    }

    /// Returns the newest usable snapshot, with any fingerprint: these concern only the
    /// application.
    fn find(&self, store: &Store) -> Result<Option<(SnapshotInfo, Snapshot)>> {
        let infos = store.snapshots().list(&self.stream)?;
        for info in infos.into_iter().rev().filter(|info| info.sequence <= self.sequence) {
            let found = store.snapshots().fingerprint(info.fingerprint).at(&self.stream, info.sequence)?;
            if let Some(snapshot) = found.filter(|snapshot| snapshot.sequence() == info.sequence) {
                return Ok(Some((info, snapshot)));
            }
        }
        Ok(None)
    }
}

fn shown(snapshot: &Snapshot) -> String {
    match snapshot.codec() {
        Codec::Bincode => format!("base64:{}", BASE64_STANDARD.encode(snapshot.bytes())),
        _ => shown_bytes(snapshot.bytes()).into_owned(),
    }
}
