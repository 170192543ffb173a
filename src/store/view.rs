//! What the store knows of its streams: those that can be read, and those that commits on their way will make.

use super::StreamInfo;
use crate::expected::Expected;
use crate::index::Index;
use crate::log::{Each, Listener};
use crate::position::Location;
use crate::stream::StreamId;
use parking_lot::{Mutex, RwLock};
use std::collections::HashMap;
use std::sync::Arc;

#[derive(Default)]
pub(super) struct View {
    index: RwLock<Index>,
    /// Streams with commits that have been accepted and not yet published. Locked under the commit lock, and when a group is published.
    pending: Mutex<HashMap<Arc<[u8]>, Pending>>,
    /// The first position whose event is not the next one of its stream.
    inconsistent: Mutex<Option<u64>>,
}

#[derive(Clone, Copy)]
struct Pending {
    next_sequence: u64,
    /// The position behind the commit.
    end_position: u64,
}

/// One append of a commit.
pub(super) struct Part {
    pub stream: StreamId,
    pub expected: Expected,
    /// Number of events.
    pub events: usize,
}

/// A part whose expectation does not hold: its number, and the next sequence of its stream.
pub(super) struct Refused {
    pub part: usize,
    pub next: u64,
}

impl View {
    pub(super) fn next_sequence(&self, key: &[u8]) -> u64 {
        self.index.read().next_sequence(key)
    }

    pub(super) fn stream_count(&self) -> usize {
        self.index.read().len()
    }

    pub(super) fn streams(&self) -> Vec<StreamInfo> {
        let index = self.index.read();
        let streams = index
            .streams()
            .filter_map(|(key, next_sequence)| Some(StreamInfo { stream: StreamId::from_key(key)?, next_sequence }));
        streams.collect()
    }

    pub(super) fn locations(&self, key: &[u8], first: u64, count: usize, out: &mut Vec<Location>) {
        self.index.read().locations(key, first, count, out);
    }

    pub(super) fn inconsistent(&self) -> Option<u64> {
        *self.inconsistent.lock()
    }

    /// Checks the parts of a commit against all that was accepted before, and gives the first sequence of each. Runs under the commit lock. The commit
    /// counts as accepted if all parts are as expected.
    pub(super) fn accept(&self, parts: &[Part], first_position: u64) -> Result<Vec<u64>, Refused> {
        let mut pending = self.pending.lock();
        let index = self.index.read();
        let mut firsts = Vec::with_capacity(parts.len());
        let mut ends: HashMap<&[u8], u64> = HashMap::new();
        for (n, part) in parts.iter().enumerate() {
            let key = part.stream.key();
            // A part sees what the parts before it have added.
            let next = ends.get(key).copied().unwrap_or_else(|| {
                pending.get(key).map_or_else(|| index.next_sequence(key), |pending| pending.next_sequence)
            });
            if !part.expected.allows(next) {
                return Err(Refused { part: n, next });
            }
            firsts.push(next);
            if parts.len() > 1 {
                ends.insert(key, next + part.events as u64);
            }
        }
        let events: usize = parts.iter().map(|part| part.events).sum();
        let end_position = first_position + events as u64;
        for (part, first) in parts.iter().zip(&firsts).filter(|(part, _)| part.events > 0) {
            let next_sequence = first + part.events as u64;
            pending.insert(part.stream.shared_key(), Pending { next_sequence, end_position });
        }
        Ok(firsts)
    }
}

impl Listener for View {
    fn publish(&self, events: &mut dyn FnMut(Each<'_>), raise: &dyn Fn()) {
        let mut upto = 0;
        {
            let mut index = self.index.write();
            events(&mut |segment, event| {
                let location = Location { segment, offset: event.offset };
                if !index.add(event.key, event.sequence, location) {
                    self.inconsistent.lock().get_or_insert(event.position);
                }
                upto = event.position + 1;
            });
            // Under the lock: nobody learns from the index of an event that cannot be read yet.
            raise();
        }
        self.pending.lock().retain(|_, pending| pending.end_position > upto);
    }

    fn rolled_back(&self) {
        self.pending.lock().clear();
    }
}
