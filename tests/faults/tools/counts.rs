//! Counts, and values that are unknown.

use super::busy::Busy;
use annals::offline::{Kind, dump_in, verify_in};
use annals::{Event, Expected, NewEvent, Options, Projection, Result, StreamId};
use annals_testkit::SimFs;
use std::sync::Arc;

fn stream(n: u64) -> StreamId {
    StreamId::new("order", n.to_string()).unwrap()
}

/// `verify` counted the events after a damaged commit by their headers, but not their streams: a
/// store of 500 streams with one bad byte had a few. Now it reads those commits.
#[test]
fn streams_after_damage_are_counted() {
    let disk = SimFs::new();
    let store =
        Options::new().file_system(disk.clone()).maintenance(false).segment_size(16 << 10).open("store").unwrap();
    for n in 0..200 {
        store.append(&stream(n), Expected::NoStream, [NewEvent::new("Placed", &[7; 100])]).unwrap();
    }
    store.close().unwrap();
    let mut commits = Vec::new();
    dump_in(&disk, "store", |piece| {
        if piece.kind == Kind::Commit {
            commits.push((piece.path, piece.offset));
        }
    })
    .unwrap();
    for at in [0, 3, 199] {
        let (path, offset) = &commits[at];
        let good = disk.contents(path).unwrap();
        let mut bad = good.clone();
        bad[*offset as usize + 100] ^= 1;
        disk.set_contents(path, bad);
        let found = verify_in(&disk, "store").unwrap();
        assert_eq!((found.events, found.streams, found.damage.len()), (199, 199, 1), "{at}");
        disk.set_contents(path, good);
    }
}

struct Count;

impl Projection for Count {
    type State = u64;
    fn name(&self) -> &str {
        "count"
    }
    fn version(&self) -> u32 {
        1
    }
    fn apply(&self, count: &mut u64, _: &Event) -> Result<()> {
        *count += 1;
        Ok(())
    }
}

/// If the system does not report the free space of the disk, appends worked, but snapshots and
/// states of projections were refused. Now an unknown value refuses nothing.
#[test]
fn unknown_free_space_refuses_nothing() {
    let disk = Busy { disk: SimFs::new(), each: Arc::new(|| {}) };
    let store = Options::new().file_system(disk).maintenance(false).reserve(1 << 20).open("store").unwrap();
    store.append(&stream(1), Expected::Any, [NewEvent::new("Placed", "")]).unwrap();
    store.snapshots().put(&stream(1), 0, &1u8).unwrap();
    let count = store.projection(Count).catch_up().unwrap();
    count.save().unwrap();
}
