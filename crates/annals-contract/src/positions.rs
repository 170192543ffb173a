//! Positions of handlers in streams.

use super::PositionStore;
use super::events::odd_roots;
use super::verbs::{Must, stream};
use annals::StreamId;
use std::collections::BTreeMap;
use std::thread;

#[track_caller]
fn get<B: PositionStore>(store: &B, handler: &str, name: &str) -> Option<u64> {
    store.position(handler, &stream(name)).must("asking for a position")
}

#[track_caller]
fn put<B: PositionStore>(store: &B, handler: &str, name: &str, sequence: u64) {
    store.put_position(handler, &stream(name), sequence).must("putting a position");
}

#[track_caller]
fn reset<B: PositionStore>(store: &B, handler: &str, name: &str, sequence: u64) {
    store.reset_position(handler, &stream(name), sequence).must("resetting a position");
}

#[track_caller]
fn delete<B: PositionStore>(store: &B, handler: &str, name: &str) {
    store.delete_position(handler, &stream(name)).must("deleting a position");
}

#[track_caller]
fn list<B: PositionStore>(store: &B, handler: &str) -> Vec<(String, u64)> {
    let positions = store.positions_of(handler).must("listing positions");
    positions.into_iter().map(|(stream, sequence)| (stream.to_string(), sequence)).collect()
}

/// Without a put there is no position, and that is not the same as 0.
pub fn nothing_put_is_not_0<B: PositionStore>(store: &B) {
    assert_eq!(get(store, "billing", "order-1"), None);
    put(store, "billing", "order-1", 0);
    assert_eq!(get(store, "billing", "order-1"), Some(0), "0 is not nothing");
}

/// A put never goes back: a lower sequence is ignored, without an error.
pub fn put_never_goes_back<B: PositionStore>(store: &B) {
    for (sequence, wanted) in [(5, 5), (3, 5), (5, 5), (0, 5), (6, 6), (5, 6), (1 << 40, 1 << 40), (7, 1 << 40)] {
        put(store, "billing", "order-1", sequence);
        assert_eq!(get(store, "billing", "order-1"), Some(wanted), "after {sequence} was put");
    }
}

/// A reset goes back and forth, and needs no earlier position.
pub fn reset_goes_back<B: PositionStore>(store: &B) {
    put(store, "billing", "order-1", 9);
    for sequence in [4, 0, 7, 7, 1] {
        reset(store, "billing", "order-1", sequence);
        assert_eq!(get(store, "billing", "order-1"), Some(sequence));
    }
    put(store, "billing", "order-1", 2);
    assert_eq!(get(store, "billing", "order-1"), Some(2), "a put goes on from what was reset");
    reset(store, "billing", "order-2", 3);
    assert_eq!(get(store, "billing", "order-2"), Some(3), "where nothing was put, too");
}

/// Any sequence can be put, including the largest.
pub fn any_sequence_can_be_put<B: PositionStore>(store: &B) {
    for (n, sequence) in
        [0, 1, u64::from(u32::MAX), i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX].into_iter().enumerate()
    {
        let name = format!("order-{n}");
        put(store, "billing", &name, sequence);
        assert_eq!(get(store, "billing", &name), Some(sequence));
    }
    put(store, "billing", "order-5", i64::MAX as u64);
    assert_eq!(get(store, "billing", "order-5"), Some(u64::MAX), "it never goes back");
}

/// Changes one of several keys, and finds the others unchanged.
#[track_caller]
fn apart<B: PositionStore>(store: &B, keys: &[(&str, StreamId)]) {
    let get = |(handler, stream): &(&str, StreamId)| store.position(handler, stream).must("asking for a position");
    for (n, (handler, stream)) in keys.iter().enumerate() {
        assert_eq!(get(&keys[n]), None, "{handler}, {stream} has a key of its own");
        store.put_position(handler, stream, n as u64 + 10).must("putting a position");
    }
    let all = || keys.iter().map(get).collect::<Vec<_>>();
    let wanted: Vec<_> = (0..keys.len() as u64).map(|n| Some(n + 10)).collect();
    assert_eq!(all(), wanted, "each has its own");
    let (handler, stream) = &keys[0];
    store.reset_position(handler, stream, 3).must("resetting a position");
    assert_eq!(all()[1..], wanted[1..], "a reset of one leaves the others");
    store.delete_position(handler, stream).must("deleting a position");
    assert_eq!(all()[0], None);
    assert_eq!(all()[1..], wanted[1..], "deleting one leaves the others");
}

/// Handlers have positions of their own.
pub fn handlers_are_apart<B: PositionStore>(store: &B) {
    apart(store, &["billing", "Billing", "billing ", "bill", "shipping", "é"].map(|name| (name, stream("order-1"))));
}

/// Domains have positions of their own, even if the parts of a key run together to the same text.
pub fn domains_are_apart<B: PositionStore>(store: &B) {
    let of = |domain: &str, root: &str| ("billing", StreamId::new(domain, root).expect("a sound name"));
    apart(
        store,
        &[of("order", "1"), of("orders", "1"), of("Order", "1"), of("a", "b-c"), of("a-b", "c"), of("order-1", "")],
    );
}

/// Roots have positions of their own: they are opaque, text or any bytes.
pub fn roots_are_apart<B: PositionStore>(store: &B) {
    let of = |root: &Vec<u8>| ("billing", StreamId::new("order", root).expect("any bytes are a root"));
    apart(store, &odd_roots().iter().map(of).collect::<Vec<_>>());
}

/// Editions have positions of their own.
pub fn editions_are_apart<B: PositionStore>(store: &B) {
    apart(
        store,
        &["order-1", "order-1@x", "order-1@X", "order-1@y", "order-1%40x"].map(|name| ("billing", stream(name))),
    );
}

/// Both names of the main edition are the same key.
pub fn main_has_two_names<B: PositionStore>(store: &B) {
    put(store, "billing", "order-1@main", 4);
    assert_eq!(get(store, "billing", "order-1"), Some(4));
    put(store, "billing", "order-1", 6);
    assert_eq!(get(store, "billing", "order-1@main"), Some(6));
    assert_eq!(list(store, "billing"), [("order-1".to_owned(), 6)]);
}

/// A list returns all positions of a handler, and none of others.
pub fn list_gives_all_of_a_handler<B: PositionStore>(store: &B) {
    assert_eq!(list(store, "billing"), []);
    let mut wanted = BTreeMap::new();
    for (n, root) in odd_roots().iter().enumerate() {
        for edition in ["", "x"] {
            let stream =
                StreamId::new("order", root).and_then(|stream| stream.in_edition(edition)).expect("a sound name");
            store.put_position("billing", &stream, n as u64).must("putting a position");
            wanted.insert(stream, n as u64);
        }
    }
    put(store, "shipping", "order-1", 99);
    assert_eq!(store.positions_of("billing").must("listing positions"), wanted);
    assert_eq!(list(store, "shipping"), [("order-1".to_owned(), 99)]);
    assert_eq!(list(store, "bill"), [], "handlers are not found by the beginnings of their names");
}

/// A deleted position is `None` again, and a lower one can be put. Deleting a missing one is no
/// error.
pub fn delete_forgets<B: PositionStore>(store: &B) {
    delete(store, "billing", "order-1");
    put(store, "billing", "order-1", 9);
    put(store, "billing", "order-2", 2);
    delete(store, "billing", "order-1");
    assert_eq!(get(store, "billing", "order-1"), None, "none, and not 0");
    assert_eq!(list(store, "billing"), [("order-2".to_owned(), 2)]);
    delete(store, "billing", "order-1");
    put(store, "billing", "order-1", 4);
    assert_eq!(get(store, "billing", "order-1"), Some(4), "what was before is forgotten");
}

/// Of several concurrent puts the highest stays.
pub fn racing_puts_leave_the_highest<B: PositionStore>(store: &B) {
    thread::scope(|scope| {
        for n in 0..4 {
            scope.spawn(move || {
                for round in 0..200 {
                    put(store, "billing", "order-1", round * 4 + n);
                    let seen = get(store, "billing", "order-1");
                    assert!(seen >= Some(round * 4 + n), "a position went back to {seen:?}");
                }
            });
        }
    });
    assert_eq!(get(store, "billing", "order-1"), Some(199 * 4 + 3));
}
