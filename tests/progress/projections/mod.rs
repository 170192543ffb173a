//! Projections: every clause of their documentation, on a directory, in memory and on the simulated
//! disk.
//!
//! These tests have failed with each of these bugs in the library: an inline projection that
//! applies what it is notified of, and not what comes next (`many_threads_append`,
//! `every_way_to_commit`); a state read after a failed `apply` (`an_error_or_a_panic_in_apply`);
//! streams distributed to threads by their keys, editions included (`in_a_named_edition`); the
//! binding in a saved state not checked (`states_that_are_ahead_of_the_log`); events handed to a
//! database before they are durable (`only_what_is_durable_is_handed_out`). The old version once
//! continued for a moment after a switch, and `under_writes` saw answers go back.

mod caught_up;
mod crash;
mod external;
mod failures;
mod files;
mod inline;
mod parallel;
mod versions;
mod waiting;

use annals::projection::{PerStream, ReadModel};
use annals::{Event, Expected, NewEvent, Projection, Query, Result, Store};
use annals_testkit::*;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

pub const SOON: Duration = Duration::from_millis(20);
pub const LATE: Duration = Duration::from_secs(20);

/// A state that reveals any event that is missing, comes twice, or out of order.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct Seen {
    pub count: u64,
    pub last: Option<u64>,
    pub digest: u64,
    /// By stream, the number and a digest.
    pub streams: BTreeMap<String, (u64, u64)>,
}

fn fold(digest: u64, bytes: &[u8]) -> u64 {
    bytes.iter().fold(digest ^ 0xCBF2_9CE4, |digest, &byte| (digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
}

impl Seen {
    pub fn take(&mut self, event: &Event) {
        assert!(self.last.is_none_or(|last| last < event.position()), "out of order: {}", event.position());
        self.count += 1;
        self.last = Some(event.position());
        self.digest = fold(fold(self.digest, &event.position().to_le_bytes()), event.data());
        let stream = self.streams.entry(format!("{}-{:?}", event.domain(), event.root())).or_default();
        *stream = (stream.0 + 1, fold(stream.1, event.data()));
    }
}

/// The fold of all events of a query up to a position.
pub fn expected(store: &Store, query: &Query, until: Option<u64>) -> Seen {
    let mut seen = Seen::default();
    let Some(until) = until else { return seen };
    for event in store.query(query).until(until) {
        seen.take(&event.unwrap());
    }
    seen
}

#[derive(Clone)]
pub struct Watch {
    pub name: &'static str,
    pub version: u32,
    pub query: Query,
}

pub fn watch() -> Watch {
    Watch { name: "watch", version: 1, query: Query::new() }
}

pub fn watch_domain(domain: &str) -> Watch {
    Watch { query: Query::new().domain(domain), ..watch() }
}

impl Projection for Watch {
    type State = Seen;

    fn name(&self) -> &str {
        self.name
    }
    fn version(&self) -> u32 {
        self.version
    }
    fn query(&self) -> Query {
        self.query.clone()
    }
    fn apply(&self, seen: &mut Seen, event: &Event) -> Result<()> {
        seen.take(event);
        Ok(())
    }
}

/// The fold of each stream alone.
pub struct ByStream;

impl Projection for ByStream {
    type State = BTreeMap<String, (u64, u64)>;

    fn name(&self) -> &str {
        "by-stream"
    }
    fn version(&self) -> u32 {
        1
    }
    fn apply(&self, streams: &mut Self::State, event: &Event) -> Result<()> {
        let mut seen = Seen { streams: std::mem::take(streams), ..Seen::default() };
        seen.take(event);
        *streams = seen.streams;
        Ok(())
    }
}

impl PerStream for ByStream {
    fn merge(&self, into: &mut Self::State, part: Self::State) {
        for (stream, seen) in part {
            assert_eq!(into.insert(stream, seen), None, "parts are of different streams");
        }
    }
}

/// The state is the fold of the store up to the position that the model reports.
#[track_caller]
pub fn holds(store: &Store, model: &ReadModel<Watch>, query: &Query) {
    let (seen, position) = model.read_at(|seen, position| (seen.clone(), position)).unwrap();
    assert_eq!(seen, expected(store, query, position), "up to {position:?}");
}

/// Appends to one of three streams in two domains. Returns the position.
pub fn append(store: &Store, n: u64) -> u64 {
    let name = ["order-1", "stock-1", "order-2"][n as usize % 3];
    let data = format!("{n}");
    let appended = store.append(&stream(name), Expected::Any, [NewEvent::new("T", &data)]).unwrap();
    appended.positions.start
}

/// The same for many. Returns the last position.
pub fn append_all(store: &Store, range: Range<u64>) -> u64 {
    range.fold(0, |_, n| append(store, n))
}

pub fn filled(bed: &Bed, count: u64) -> Store {
    let store = bed.open();
    (0..count).for_each(|n| {
        append(&store, n);
    });
    store
}
