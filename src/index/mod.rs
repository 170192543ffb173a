//! Where the events of a stream stand. Kept in memory, and rebuilt from the log when a store is opened.

use crate::position::Location;
use std::collections::HashMap;

/// Streams by key. An entry holds a packed location for each event, in order of sequences.
#[derive(Default)]
pub(crate) struct Index {
    streams: HashMap<Box<[u8]>, Vec<Packed>>,
}

/// A location in eight bytes: segments are shorter than 4 GiB and fewer than 2^32.
#[derive(Clone, Copy)]
struct Packed(u64);

impl Packed {
    fn new(location: Location) -> Self {
        Packed(location.segment << 32 | location.offset)
    }

    fn location(self) -> Location {
        Location { segment: self.0 >> 32, offset: self.0 & 0xFFFF_FFFF }
    }
}

impl Index {
    /// Adds an event. `false`, and nothing is added, if it is not the next one of its stream.
    #[must_use]
    pub(crate) fn add(&mut self, key: &[u8], sequence: u64, location: Location) -> bool {
        if let Some(events) = self.streams.get_mut(key) {
            let next = events.len() as u64 == sequence;
            if next {
                events.push(Packed::new(location));
            }
            return next;
        }
        if sequence == 0 {
            self.streams.insert(key.into(), vec![Packed::new(location)]);
        }
        sequence == 0
    }

    /// The next sequence of a stream: the number of its events.
    pub(crate) fn next_sequence(&self, key: &[u8]) -> u64 {
        self.streams.get(key).map_or(0, |events| events.len() as u64)
    }

    /// Appends the locations of the events from `first` on to `out`, at most `count`.
    pub(crate) fn locations(&self, key: &[u8], first: u64, count: usize, out: &mut Vec<Location>) {
        let Some(events) = self.streams.get(key) else { return };
        let start = usize::try_from(first).map_or(events.len(), |first| first.min(events.len()));
        let end = events.len().min(start.saturating_add(count));
        out.extend(events[start..end].iter().map(|packed| packed.location()));
    }

    /// Number of streams.
    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }

    /// All streams, in no order, with their next sequences.
    pub(crate) fn streams(&self) -> impl Iterator<Item = (&[u8], u64)> {
        self.streams.iter().map(|(key, events)| (&**key, events.len() as u64))
    }
}
