//! Positions of handlers when an edition is deleted.

use super::verbs::{Must, append, begin, stream};
use super::{EventStore, PositionStore};
use annals::Expected;

fn prepared<B: EventStore + PositionStore>(store: &B) {
    begin(store, 3);
    for (n, name) in ["order-1", "order-1@x", "bill-1@x", "order-1@y"].into_iter().enumerate() {
        append(store, name, Expected::Any, &["e"]);
        store.put_position("billing", &stream(name), n as u64).must("putting a position");
    }
}

#[track_caller]
fn positions<B: PositionStore>(store: &B) -> [Option<u64>; 4] {
    let names = ["order-1", "order-1@x", "bill-1@x", "order-1@y"];
    let found = names.map(|name| store.position("billing", &stream(name)).must("asking for a position"));
    let listed = store.positions_of("billing").must("listing positions");
    assert_eq!(names.map(|name| listed.get(&stream(name)).copied()), found, "the list agrees");
    found
}

/// The positions of an edition's streams are deleted with it, and those of others stay.
pub fn positions_go_with_their_edition<B: EventStore + PositionStore>(store: &B) {
    prepared(store);
    store.delete_edition("x", None).must("deleting an edition");
    assert_eq!(positions(store), [Some(0), None, None, Some(3)]);
    // Begun again, it is another one.
    append(store, "order-1@x", Expected::Any, &["n"]);
    assert_eq!(positions(store), [Some(0), None, None, Some(3)], "they do not come back");
    store.put_position("billing", &stream("order-1@x"), 0).must("putting a position");
    assert_eq!(positions(store), [Some(0), Some(0), None, Some(3)], "and can be put again");
}

/// If one domain of an edition is deleted, the positions of the others stay.
pub fn positions_go_with_their_domain<B: EventStore + PositionStore>(store: &B) {
    prepared(store);
    store.delete_edition("x", Some("order")).must("deleting a domain of an edition");
    assert_eq!(positions(store), [Some(0), None, Some(2), Some(3)]);
}
