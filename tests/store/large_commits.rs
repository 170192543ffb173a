//! Commits that are read in pieces of 64 KiB. A piece that ended exactly between two events once
//! ended the commit: the later events were skipped silently.

use annals::{Expected, NewEvent, Store, StreamId};

/// Bytes of a record with no data: length (2), flags, key, type, metadata length, tail.
const RECORD: usize = 2 + 2 + 3 + 2 + 1 + 18;

#[test]
fn pieces_that_end_between_two_events() {
    for record in [256, 512, 1024, 4096, 8192, 65_536] {
        let store = Store::in_memory();
        let stream = StreamId::new("a", "").unwrap();
        let data = vec![7; record - RECORD - usize::from(record > 8192) * (1 + 4 * (record.div_ceil(8196)))];
        let events = 3 * 65_536 / record + 5;
        for _ in 0..2 {
            store.append(&stream, Expected::Any, (0..events).map(|_| NewEvent::new("T", &data))).unwrap();
        }
        // The sizes are what the test is about: two frames of as many records.
        let bytes = store.stats().unwrap().segments[0].bytes as usize;
        assert!((2 * record * events..2 * (record * events + 1024)).contains(&bytes), "{record}: {bytes}");
        for read in [store.read_all(), store.read_all().from(7), store.read_all().from(events as u64 + 3)] {
            let mut positions = read.into_iter().map(|event| event.unwrap().position());
            let first = positions.next().unwrap();
            assert!((first + 1..2 * events as u64).eq(positions), "records of {record} bytes from {first}");
        }
        let backwards = store.read_all().backwards().into_iter().map(|event| event.unwrap().position());
        assert!((0..2 * events as u64).rev().eq(backwards), "records of {record} bytes, backwards");
    }
}
