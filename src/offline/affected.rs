//! Handlers, checkpoints and snapshots that may include events that a salvage could not copy.

use super::salvage::Salvaged;
use super::sidecars::CopiedProgress;
use super::verify::Sequences;
use crate::stream::{StreamId, main_key};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::PathBuf;

/// A handler, checkpoint or snapshot that may include lost events: its position is at or after a
/// lost event, or after the end of the copy.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Affected {
    /// A handler, with the number of streams.
    Handler {
        /// Its name.
        name: String,
        /// Number of streams that have lost events up to its position.
        streams: u64,
    },
    /// A checkpoint.
    Checkpoint {
        /// Its name.
        name: String,
        /// Its position.
        position: u64,
    },
    /// A snapshot whose state includes lost events.
    Snapshot {
        /// Its file, relative to the directory of the store.
        path: PathBuf,
        /// The stream.
        stream: StreamId,
        /// The sequence of the last event that it includes.
        sequence: u64,
    },
}

impl fmt::Display for Affected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Affected::Handler { name, streams: 1 } => write!(f, "handler {name}, in 1 stream"),
            Affected::Handler { name, streams } => write!(f, "handler {name}, in {streams} streams"),
            Affected::Checkpoint { name, position } => write!(f, "checkpoint {name} at position {position}"),
            Affected::Snapshot { stream, sequence, .. } => write!(f, "the snapshot of {stream} at sequence {sequence}"),
        }
    }
}

/// Returns what the losses of a report affect. `sequences` has the next sequence of each stream in
/// the copy.
pub(super) fn affected(kept: &CopiedProgress, report: &Salvaged, sequences: &Sequences) -> Vec<Affected> {
    let mut first_lost: HashMap<&[u8], u64> = HashMap::new();
    for lost in report.losses.iter().flat_map(|loss| &loss.streams).chain(&report.missing) {
        let first = first_lost.entry(lost.stream.key()).or_insert(u64::MAX);
        *first = lost.sequences.start.min(*first);
    }
    // In a named edition, a stream has the events of the main one until it diverges.
    let is_touched = |key: &[u8], sequence: u64| {
        let main = main_key(key);
        let next = sequences.get(key).or(sequences.get(main)).copied().unwrap_or(0);
        let lost = [key, main].into_iter().filter_map(|key| first_lost.get(key)).min();
        sequence >= next || lost.is_some_and(|&first| sequence >= first)
    };
    let mut handlers: BTreeMap<&str, u64> = BTreeMap::new();
    for (handler, stream, _, of) in &kept.positions.positions {
        if is_touched(stream.key(), of.sequence) {
            *handlers.entry(handler).or_default() += 1;
        }
    }
    let handlers = handlers.into_iter().map(|(name, streams)| Affected::Handler { name: name.to_owned(), streams });
    let first = report.losses.iter().map(|loss| loss.damage.positions.start).min();
    let end = first.unwrap_or(u64::MAX).min(report.positions);
    let checkpoints = kept.positions.checkpoints.iter().filter(|(_, reached)| reached.position >= end);
    let checkpoints =
        checkpoints.map(|(name, reached)| Affected::Checkpoint { name: name.clone(), position: reached.position });
    let snapshots = kept.snapshots.iter().filter(|(_, head, key)| is_touched(key, head.sequence));
    let snapshots = snapshots.filter_map(|(path, head, key)| {
        let stream = StreamId::from_key(key)?;
        Some(Affected::Snapshot { path: path.clone(), stream, sequence: head.sequence })
    });
    handlers.chain(checkpoints).chain(snapshots).collect()
}
