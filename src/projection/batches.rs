//! Batches: how a projection reads events.

use crate::Event;
use crate::error::Result;
use crate::store::{Events, Query, Store};

/// Number of events applied between two opportunities for readers, and bytes of their data.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 1 << 20;

/// The events of a query from a position on, up to the present end of the store, in batches. Each
/// comes with the position below which there are no others.
pub(super) struct Batches {
    found: Option<Events>,
    end: u64,
}

impl Batches {
    pub(super) fn new(store: &Store, query: &Query, next: u64) -> Self {
        let head = store.len();
        let found = store.query(query).after(next.checked_sub(1)).into_iter();
        // A search ends before the head if its query ends at a time: no later event can match.
        let end = found.head().map_or(0, |end| end + 1).max(head).max(next);
        Batches { found: Some(found), end }
    }

    pub(super) fn next(&mut self) -> Result<Option<(Vec<Event>, u64)>> {
        let Some(found) = &mut self.found else { return Ok(None) };
        let (mut events, mut bytes) = (Vec::new(), 0);
        while events.len() < BATCH && bytes < BATCH_BYTES {
            let Some(event) = found.next().transpose()? else {
                self.found = None;
                return Ok(Some((events, self.end)));
            };
            bytes += event.data().len() + event.metadata().len();
            events.push(event);
        }
        let after = events.last().map_or(self.end, |last| last.position() + 1);
        Ok(Some((events, after)))
    }
}
