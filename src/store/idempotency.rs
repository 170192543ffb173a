//! Idempotency keys: a commit that is repeated is stored once.
//!
//! The key stands in the frame of the commit, and in the index under each stream that the commit writes to. So it is as durable as the commit, and needs no table of its own.

use super::Store;
use super::append::{Appended, Committed};
use super::view::Part;
use crate::error::Result;
use crate::format::frame;
use crate::index::term::Term;
use crate::log::Pending;
use crate::position::Location;

/// What is looked for: earlier commits with this key, in these streams.
pub(super) struct Repeats {
    store: Store,
    key: String,
    /// Keys of streams.
    streams: Vec<Vec<u8>>,
}

impl Repeats {
    /// Without a key, there are none.
    pub(super) fn new(store: &Store, key: &str, parts: &[Part]) -> Self {
        let written = parts.iter().filter(|part| part.events > 0 && !key.is_empty());
        let streams = written.map(|part| part.stream.key().to_vec()).collect();
        Repeats { store: store.clone(), key: key.to_owned(), streams }
    }

    /// The attributes that the frame of the commit gets.
    pub(super) fn attributes(&self) -> Vec<u8> {
        let mut attributes = Vec::new();
        if !self.key.is_empty() {
            frame::put_attribute(&mut attributes, frame::IDEMPOTENCY_KEY, self.key.as_bytes());
        }
        attributes
    }

    /// What an earlier commit has stored, if one is visible.
    pub(super) fn find(&self) -> Result<Option<Committed>> {
        for stream in &self.streams {
            if let Some(frame) = self.store.inner.view.index.newest(&Term::idempotency(stream, &self.key))? {
                return self.first(frame).map(Some);
            }
        }
        Ok(None)
    }

    /// Whether one is on its way.
    pub(super) fn is_pending(&self, pending: &Pending<'_>) -> bool {
        let mut found = false;
        if !self.streams.is_empty() {
            pending.events(|event| {
                let same = event.idempotency_key == Some(&self.key);
                found = same && self.streams.iter().any(|stream| stream == event.key);
                !found
            });
        }
        found
    }

    /// Waits until what is on its way has arrived, or has failed.
    pub(super) fn wait(&self) {
        self.store.inner.log.arrive();
    }

    /// Reads what the commit whose frame stands there has stored.
    fn first(&self, frame: Location) -> Result<Committed> {
        let log = &self.store.inner.log;
        let positions = log.positions_at(frame)?;
        let mut events = log.forwards(positions.clone());
        let mut appends: Vec<Appended> = Vec::new();
        while let Some(event) = events.next()? {
            let (sequence, position) = (event.sequence(), event.position());
            match appends.last_mut() {
                Some(last) if event.is_in(&last.stream) => {
                    last.sequences.end = sequence + 1;
                    last.positions.end = position + 1;
                }
                _ => appends.push(Appended {
                    stream: event.stream(),
                    sequences: sequence..sequence + 1,
                    positions: position..position + 1,
                    recorded_at: event.recorded_at(),
                    duplicate: true,
                }),
            }
        }
        let recorded_at = appends.first().map(|first| first.recorded_at).unwrap_or_default();
        Ok(Committed { appends, positions, recorded_at, duplicate: true })
    }
}
