//! Durability: what is there after a reopen. Each scenario opens the same place several times.

use super::verbs::{Must, append, begin, everything, next_sequence, part, refused, texts_of};
use super::{EventData, EventStore};
use crate::verbs::{append_events, stream};
use annals::{Expected, Timestamp};

/// Everything acknowledged is there after a reopen, unchanged, and positions and sequences
/// continue.
pub fn events_are_there_after_a_reopen<B: EventStore>(open: impl Fn() -> B) {
    let store = open();
    begin(&store, 3);
    let fact = EventData {
        metadata: vec![0, 0xFF],
        tags: vec!["a".to_owned()],
        correlation_id: Some("w".to_owned()),
        occurred_at: Some(Timestamp::from_nanos(-1)),
        ..EventData::new("Zürich", vec![0, 1, 0xFF])
    };
    append_events(&store, &stream("bill-1"), &[fact]);
    let before = everything(&store);
    drop(store);
    for _ in 0..2 {
        assert!(everything(&open()) == before, "what was acknowledged is there after a reopen");
    }
    let store = open();
    refused(&store, &[part("order-1", Expected::Next(2), &["late"])], "a stale sequence, after a reopen");
    assert_eq!(append(&store, "order-1", Expected::Next(3), &["m3"]), 3..4);
    assert_eq!(everything(&store).last().map(|event| event.position), Some(4), "positions go on");
}

/// A repeat is known by its key after a reopen.
pub fn keys_are_known_after_a_reopen<B: EventStore>(open: impl Fn() -> B) {
    let commit =
        |store: &B| store.commit(&[part("order-1", Expected::NoStream, &["x"])], "k").must("a commit with a key");
    let first = commit(&open());
    let again = commit(&open());
    assert!(!first.duplicate && again.duplicate, "a repeat is known after a reopen");
    assert_eq!((again.sequences, again.positions), (first.sequences, first.positions));
}

/// An edition diverges where it did, after a reopen.
pub fn editions_diverge_where_they_did_after_a_reopen<B: EventStore>(open: impl Fn() -> B) {
    let store = open();
    begin(&store, 5);
    append(&store, "order-1@x", Expected::Next(2), &["e2"]);
    append(&store, "order-1@zero", Expected::NoStream, &["e0"]);
    append(&store, "order-1", Expected::Any, &["m5"]);
    drop(store);
    let store = open();
    assert_eq!(texts_of(&store, "order-1@x"), ["m0", "m1", "e2"]);
    assert_eq!(texts_of(&store, "order-1@zero"), ["e0"]);
    assert_eq!(next_sequence(&store, "order-1@x"), 3);
    refused(
        &store,
        &[part("order-1@x", Expected::Next(2), &["late"])],
        "a stale sequence of an edition, after a reopen",
    );
    assert_eq!(append(&store, "order-1@x", Expected::Next(3), &["e3"]), 3..4);
}

/// What was deleted stays deleted, and its keys stay free.
pub fn what_was_deleted_stays_deleted<B: EventStore>(open: impl Fn() -> B) {
    let store = open();
    begin(&store, 5);
    let keyed = |store: &B| store.commit(&[part("order-1@x", Expected::Any, &["e"])], "k").must("a commit with a key");
    keyed(&store);
    append(&store, "bill-1@x", Expected::Any, &["b0"]);
    append(&store, "order-1@y", Expected::Next(1), &["y1"]);
    assert_eq!(store.delete_edition("x", Some("order")).must("deleting an edition"), 1);
    drop(store);
    let store = open();
    assert_eq!(texts_of(&store, "order-1@x"), ["m0", "m1", "m2", "m3", "m4"], "what was deleted stays deleted");
    assert_eq!(texts_of(&store, "bill-1@x"), ["b0"], "other domains stay");
    assert_eq!(texts_of(&store, "order-1@y"), ["m0", "y1"], "other editions stay");
    assert!(!keyed(&store).duplicate, "keys of deleted commits stay free");
    drop(store);
    let store = open();
    assert_eq!(texts_of(&store, "order-1@x"), ["m0", "m1", "m2", "m3", "m4", "e"], "what was begun again is there");
    assert_eq!(store.delete_edition("x", None).must("deleting an edition"), 2, "and only that counts");
}
