//! States of streams, after one of their events.

use super::events::odd_roots;
use super::verbs::{Must, append, append_events, begin, read, stream};
use super::{EventData, Reading, Retention, Snapshot, SnapshotStore};
use annals::{Expected, StreamId, Timestamp};

use Retention::{Default as Usual, Persist, Transient};

#[track_caller]
fn put<B: SnapshotStore>(store: &B, name: &str, sequence: u64, retention: Retention) {
    let state = format!("{name} {sequence}");
    store.put_snapshot(&stream(name), sequence, retention, state.as_bytes()).must("putting a snapshot");
}

/// The sequence of a snapshot that [`put`] has put.
#[track_caller]
fn sequence_of(found: Option<Snapshot>, name: &str) -> Option<u64> {
    found.map(|found| {
        let state = String::from_utf8_lossy(&found.state);
        assert_eq!(state, format!("{name} {}", found.sequence), "a snapshot has the state that was put for it");
        found.sequence
    })
}

#[track_caller]
fn latest<B: SnapshotStore>(store: &B, name: &str) -> Option<u64> {
    sequence_of(store.latest_snapshot(&stream(name)).must("asking for the latest snapshot"), name)
}

#[track_caller]
fn at<B: SnapshotStore>(store: &B, name: &str, sequence: u64) -> Option<u64> {
    sequence_of(store.snapshot_at(&stream(name), sequence).must("asking for a snapshot"), name)
}

#[track_caller]
fn list<B: SnapshotStore>(store: &B, name: &str) -> Vec<(u64, Retention)> {
    store.snapshots_of(&stream(name)).must("listing snapshots")
}

#[track_caller]
fn delete<B: SnapshotStore>(store: &B, name: &str) -> u64 {
    store.delete_snapshots(&stream(name)).must("deleting snapshots")
}

/// A state comes back identical, with its sequence and retention; an empty one, too.
pub fn a_state_comes_back<B: SnapshotStore>(store: &B) {
    begin(store, 3);
    let order = stream("order-1");
    for (sequence, retention, state) in
        [(0, Persist, &b""[..]), (1, Persist, b"\0\xFF\0"), (2, Usual, "Zürich".as_bytes())]
    {
        store.put_snapshot(&order, sequence, retention, state).must("putting a snapshot");
        let wanted = Snapshot { sequence, retention, state: state.to_vec() };
        assert_eq!(store.latest_snapshot(&order).must("asking for the latest snapshot"), Some(wanted.clone()));
        assert_eq!(store.snapshot_at(&order, sequence).must("asking for a snapshot"), Some(wanted));
    }
}

/// A state of 100 KiB comes back identical.
pub fn a_hundred_kibibytes_come_back<B: SnapshotStore>(store: &B) {
    begin(store, 1);
    let state: Vec<u8> = (0..100u32 << 10).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    store.put_snapshot(&stream("order-1"), 0, Usual, &state).must("putting 100 KiB");
    let found = store.latest_snapshot(&stream("order-1")).must("asking for a snapshot").expect("it was put");
    assert!(found.state == state, "100 KiB come back to the byte");
}

/// A missing snapshot is no error, in any call.
pub fn none_is_no_error<B: SnapshotStore>(store: &B) {
    for name in ["order-1", "order-9"] {
        assert_eq!(latest(store, name), None);
        assert_eq!(at(store, name, 7), None);
        assert_eq!(store.snapshot_at_time(&stream(name), Timestamp::MAX).must("asking for a snapshot"), None);
        assert_eq!(list(store, name), []);
        assert_eq!(delete(store, name), 0);
        if name == "order-1" {
            continue;
        }
        begin(store, 2);
        put(store, "order-1", 1, Usual);
        assert_eq!(latest(store, name), None, "of another stream there is none");
    }
}

/// The latest is that of the highest sequence, in whatever order they were put.
pub fn the_latest_has_the_highest_sequence<B: SnapshotStore>(store: &B) {
    begin(store, 6);
    for (sequence, wanted) in [(2, 2), (4, 4), (1, 4), (3, 4), (5, 5), (0, 5)] {
        put(store, "order-1", sequence, Persist);
        assert_eq!(latest(store, "order-1"), Some(wanted), "after {sequence} was put");
    }
}

/// `at` returns the one with the highest sequence up to the given one.
pub fn at_gives_the_highest_not_above<B: SnapshotStore>(store: &B) {
    begin(store, 8);
    for sequence in [2, 5, 6] {
        put(store, "order-1", sequence, Persist);
    }
    let wanted = [None, None, Some(2), Some(2), Some(2), Some(5), Some(6), Some(6), Some(6)];
    for (sequence, wanted) in (0..).zip(wanted) {
        assert_eq!(at(store, "order-1", sequence), wanted, "at {sequence}");
    }
    assert_eq!(at(store, "order-1", u64::MAX), Some(6));
}

/// `at_time` returns the newest of those whose event was recorded by then, included.
pub fn at_a_time_gives_what_was_recorded_by_then<B: SnapshotStore>(store: &B) {
    for n in 0..6 {
        append(store, "order-1", Expected::Next(n), &["x"]);
    }
    let events = read(store, "order-1", &Reading::default());
    for sequence in [1, 3, 4] {
        put(store, "order-1", sequence, Persist);
    }
    let at_time = |time| {
        let found = store.snapshot_at_time(&stream("order-1"), time).must("asking for a snapshot as of a time");
        sequence_of(found, "order-1")
    };
    let times =
        events.iter().flat_map(|event| [-1, 0].map(|by| Timestamp::from_nanos(event.recorded_at.as_nanos() + by)));
    for time in times.chain([Timestamp::MIN, Timestamp::MAX]) {
        let known = [1, 3, 4].into_iter().rev().find(|&n| events[n as usize].recorded_at <= time);
        assert_eq!(at_time(time), known, "as of {time:?}");
    }
}

/// A snapshot of the same sequence is replaced.
pub fn one_of_the_same_sequence_is_replaced<B: SnapshotStore>(store: &B) {
    begin(store, 2);
    let order = stream("order-1");
    for (state, retention) in [("first", Usual), ("second", Persist), ("third", Usual)] {
        store.put_snapshot(&order, 1, retention, state.as_bytes()).must("putting a snapshot");
        let wanted = Snapshot { sequence: 1, retention, state: state.as_bytes().to_vec() };
        assert_eq!(store.latest_snapshot(&order).must("asking for the latest snapshot"), Some(wanted));
        assert_eq!(list(store, "order-1"), [(1, retention)], "there is one of each sequence");
    }
}

/// A state is that after an event: if the stream has none of this sequence, the snapshot is
/// refused.
pub fn a_snapshot_needs_its_event<B: SnapshotStore>(store: &B) {
    begin(store, 2);
    for (name, sequence) in [("order-1", 2), ("order-1", u64::MAX), ("order-2", 0), ("order-2@x", 0)] {
        let refused = store.put_snapshot(&stream(name), sequence, Usual, b"state");
        assert!(refused.is_err(), "{name} has no event {sequence}");
        assert_eq!(list(store, name), [], "what is refused leaves nothing");
    }
    put(store, "order-1", 1, Usual);
}

/// Deleting removes all snapshots of a stream, of any retention, and returns their number; it
/// removes none of another stream.
pub fn delete_takes_all_of_a_stream<B: SnapshotStore>(store: &B) {
    begin(store, 4);
    append(store, "order-2", Expected::Any, &["x"]);
    put(store, "order-2", 0, Persist);
    put(store, "order-1", 0, Persist);
    put(store, "order-1", 2, Usual);
    put(store, "order-1", 3, Transient);
    assert_eq!(delete(store, "order-1"), 3);
    assert_eq!((latest(store, "order-1"), list(store, "order-1")), (None, vec![]));
    assert_eq!(delete(store, "order-1"), 0, "they are gone already");
    assert_eq!(latest(store, "order-2"), Some(0), "another stream keeps its own");
    assert_eq!(read(store, "order-1", &Reading::default()).len(), 4, "the events stay");
    put(store, "order-1", 1, Usual);
    assert_eq!(list(store, "order-1"), [(1, Usual)], "and others can be put");
}

/// Transient ones are removed as soon as there is a newer one, of any kind.
pub fn a_newer_one_removes_transient_ones<B: SnapshotStore>(store: &B) {
    begin(store, 6);
    put(store, "order-1", 0, Transient);
    assert_eq!(list(store, "order-1"), [(0, Transient)]);
    put(store, "order-1", 1, Transient);
    assert_eq!(list(store, "order-1"), [(1, Transient)], "a transient one goes for a transient one");
    put(store, "order-1", 2, Usual);
    assert_eq!(list(store, "order-1"), [(2, Usual)], "and for a usual one");
    put(store, "order-1", 3, Transient);
    put(store, "order-1", 4, Persist);
    assert_eq!(
        list(store, "order-1"),
        [(2, Usual), (4, Persist)],
        "and for a persistent one, and takes no other along"
    );
}

/// Persistent ones always stay, and keep their retention.
pub fn persistent_ones_stay_and_keep_their_tag<B: SnapshotStore>(store: &B) {
    begin(store, 12);
    put(store, "order-1", 0, Persist);
    put(store, "order-1", 3, Persist);
    for sequence in 4..12 {
        put(store, "order-1", sequence, if sequence % 2 == 0 { Usual } else { Transient });
        assert_eq!(list(store, "order-1")[..2], [(0, Persist), (3, Persist)]);
    }
    assert_eq!((at(store, "order-1", 2), at(store, "order-1", 3)), (Some(0), Some(3)));
    let found = store.snapshot_at(&stream("order-1"), 1).must("asking for a snapshot");
    assert_eq!(found.map(|found| found.retention), Some(Persist), "they keep their tag");
}

/// Of default ones the newest stays besides the latest of all; older ones are removed.
pub fn the_newest_default_ones_stay<B: SnapshotStore>(store: &B) {
    begin(store, 8);
    for (sequence, wanted) in [(0, vec![0]), (1, vec![0, 1]), (2, vec![1, 2]), (5, vec![2, 5])] {
        put(store, "order-1", sequence, Usual);
        let wanted: Vec<_> = wanted.into_iter().map(|sequence| (sequence, Usual)).collect();
        assert_eq!(list(store, "order-1"), wanted, "after {sequence} was put");
    }
    put(store, "order-1", 6, Persist);
    assert_eq!(list(store, "order-1"), [(5, Usual), (6, Persist)], "beside the latest, of whatever kind it is");
    put(store, "order-1", 7, Usual);
    assert_eq!(list(store, "order-1"), [(5, Usual), (6, Persist), (7, Usual)]);
}

/// The newest is never removed, whatever its kind and the kinds of older ones put later.
pub fn the_newest_is_never_removed<B: SnapshotStore>(store: &B) {
    for (n, newest) in [Usual, Transient, Persist].into_iter().enumerate() {
        let name = format!("order-{n}");
        append(store, &name, Expected::Any, &["x"; 9]);
        put(store, &name, 8, newest);
        for (sequence, retention) in [(1, Usual), (2, Transient), (3, Persist), (4, Usual), (5, Usual), (6, Usual)] {
            put(store, &name, sequence, retention);
            assert_eq!(latest(store, &name), Some(8), "the newest stays, whatever is put below it");
        }
        let kept = list(store, &name);
        assert_eq!(kept.last(), Some(&(8, newest)), "and keeps its tag");
    }
}

/// Streams with an event each have snapshots of their own.
#[track_caller]
fn apart<B: SnapshotStore>(store: &B, streams: &[StreamId]) {
    for stream in streams {
        append_events(store, stream, &[EventData::new("T", "x")]);
    }
    let sequence = |stream: &StreamId| store.next_sequence(stream).must("asking for the next sequence") - 1;
    let state = |stream: &StreamId| {
        store.latest_snapshot(stream).must("asking for the latest snapshot").map(|found| found.state)
    };
    for (n, stream) in streams.iter().enumerate() {
        assert_eq!(state(stream), None, "{stream} has snapshots of its own");
        store.put_snapshot(stream, sequence(stream), Usual, &[n as u8]).must("putting a snapshot");
    }
    for (n, stream) in streams.iter().enumerate() {
        assert_eq!(state(stream), Some(vec![n as u8]), "{stream} has its own");
    }
    assert_eq!(store.delete_snapshots(&streams[0]).must("deleting snapshots"), 1);
    for (n, stream) in streams.iter().enumerate() {
        assert_eq!(state(stream), (n > 0).then_some(vec![n as u8]), "deleting those of one stream leaves the others");
    }
}

/// Domains have snapshots of their own, even if the parts of a name run together to the same text.
pub fn domains_are_apart<B: SnapshotStore>(store: &B) {
    let of = |domain: &str, root: &str| StreamId::new(domain, root).expect("a sound name");
    apart(
        store,
        &[of("order", "1"), of("orders", "1"), of("Order", "1"), of("a", "b-c"), of("a-b", "c"), of("order-1", "")],
    );
}

/// Roots have snapshots of their own: they are opaque, text or any bytes.
pub fn roots_are_apart<B: SnapshotStore>(store: &B) {
    let of = |root: &Vec<u8>| StreamId::new("order", root).expect("any bytes are a root");
    apart(store, &odd_roots().iter().map(of).collect::<Vec<_>>());
}

/// Editions have snapshots of their own: even those that read as main do not have main's.
pub fn editions_are_apart<B: SnapshotStore>(store: &B) {
    apart(store, &["order-1", "order-1@x", "order-1@X", "order-1@y", "order-1%40x"].map(stream));
    begin_more(store);
    put(store, "order-2", 1, Usual);
    assert_eq!(latest(store, "order-2@x"), None, "what reads as main has no snapshot of main's");
    put(store, "order-2@x", 0, Usual);
    assert_eq!((latest(store, "order-2"), latest(store, "order-2@x")), (Some(1), Some(0)));
    assert_eq!((list(store, "order-2").len(), list(store, "order-2@x").len()), (1, 1));
}

fn begin_more<B: SnapshotStore>(store: &B) {
    append(store, "order-2", Expected::Any, &["m0", "m1", "m2", "m3", "m4"]);
}

/// Both names of the main edition are the same stream.
pub fn main_has_two_names<B: SnapshotStore>(store: &B) {
    begin(store, 3);
    store.put_snapshot(&stream("order-1@main"), 1, Usual, b"order-1 1").must("putting a snapshot");
    assert_eq!(latest(store, "order-1"), Some(1));
    put(store, "order-1", 2, Usual);
    assert_eq!(list(store, "order-1@main"), [(1, Usual), (2, Usual)]);
    assert_eq!(delete(store, "order-1@main"), 2);
}

/// A snapshot of an edition is one of what the edition shows: if its event is shadowed later, it is
/// no longer used.
pub fn what_an_edition_shadows_is_not_used<B: SnapshotStore>(store: &B) {
    begin(store, 5);
    put(store, "order-1@x", 1, Persist);
    put(store, "order-1@x", 3, Persist);
    assert_eq!(latest(store, "order-1@x"), Some(3), "as long as it reads as main");
    append(store, "order-1@x", Expected::Next(2), &["e2"]);
    assert_eq!(latest(store, "order-1@x"), Some(1), "the event that it followed is gone from view");
    append(store, "order-1@x", Expected::Next(3), &["e3", "e4"]);
    assert_eq!(latest(store, "order-1@x"), Some(1), "another event has its sequence now");
    assert_eq!(at(store, "order-1@x", 4), Some(1));
    put(store, "order-1@x", 4, Usual);
    assert_eq!(latest(store, "order-1@x"), Some(4));
}

/// The snapshots of an edition are deleted with it, and those of others stay.
pub fn snapshots_go_with_their_edition<B: SnapshotStore>(store: &B) {
    begin(store, 5);
    for name in ["order-1@x", "bill-1@x", "order-1@y"] {
        append(store, name, Expected::Any, &["e"]);
    }
    put(store, "order-1", 2, Persist);
    put(store, "order-1@x", 1, Persist);
    put(store, "order-1@x", 5, Persist);
    put(store, "bill-1@x", 0, Persist);
    put(store, "order-1@y", 5, Persist);
    let all =
        || ["order-1", "order-1@x", "bill-1@x", "order-1@y"].map(|name| (latest(store, name), list(store, name).len()));
    assert_eq!(all(), [(Some(2), 1), (Some(5), 2), (Some(0), 1), (Some(5), 1)]);
    store.delete_edition("x", Some("order")).must("deleting a domain of an edition");
    assert_eq!(all(), [(Some(2), 1), (None, 0), (Some(0), 1), (Some(5), 1)]);
    store.delete_edition("x", None).must("deleting an edition");
    assert_eq!(all(), [(Some(2), 1), (None, 0), (None, 0), (Some(5), 1)]);
    // Begun again, it is another one.
    append(store, "order-1@x", Expected::Any, &["n"]);
    assert_eq!(latest(store, "order-1@x"), None, "they do not come back");
}
