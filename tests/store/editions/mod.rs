//! Editions: where they diverge, what reads return of them, and what a deletion leaves.
//!
//! [`model`] runs random operations against plain maps. It has failed with each of these bugs in
//! the library: deleted events counted among the live ones of a stream; the head of a stream kept
//! after a deletion; deletions of sealed segments not read on open; the present divergence used in
//! an `as_of`; idempotency keys of deleted commits kept; a deletion in flight not seen by later
//! appends; one that is no longer in flight still seen.

mod crash;
mod model;
mod race;

use annals::{Error, Event, Expected, Guard, NewEvent, Query, Result, Store};
use annals_testkit::*;

fn append(store: &Store, name: &str, expected: Expected, data: &[&str]) -> Result<annals::Appended> {
    store.append(&stream(name), expected, texts(data.iter().copied()))
}

fn data(store: &Store, name: &str) -> Vec<String> {
    data_of(&records(store.read(&stream(name))))
}

fn found(store: &Store, query: &Query) -> Vec<String> {
    let text = |event: Result<Event>| String::from_utf8(event.unwrap().data().to_vec()).unwrap();
    let forwards: Vec<_> = store.query(query).into_iter().map(text).collect();
    let mut backwards: Vec<_> = store.query(query).backwards().into_iter().map(text).collect();
    backwards.reverse();
    assert_eq!(forwards, backwards);
    forwards
}

/// The main stream `order-1` with five events, `m0` to `m4`.
fn begin(store: &Store) {
    append(store, "order-1", Expected::NoStream, &["m0", "m1", "m2", "m3", "m4"]).unwrap();
}

#[test]
fn the_first_append_decides_where_an_edition_diverges() {
    on_all_beds(|bed| {
        let store = bed.open();
        begin(&store);
        for (edition, expected, first, shared) in [
            ("zero", Expected::NoStream, 0, 0),
            ("two", Expected::Next(2), 2, 2),
            ("all", Expected::Next(5), 5, 5),
            ("any", Expected::Any, 5, 5),
            ("exists", Expected::Exists, 5, 5),
        ] {
            let name = format!("order-1@{edition}");
            assert_eq!(data(&store, &name), ["m0", "m1", "m2", "m3", "m4"], "before it diverges");
            assert_eq!(store.stream(&stream(&name)).unwrap().unwrap().next_sequence, 5);
            let appended = append(&store, &name, expected, &["e0", "e1"]).unwrap();
            assert_eq!(appended.sequences, first..first + 2);
            let mut expected: Vec<String> = (0..shared).map(|n| format!("m{n}")).collect();
            expected.extend(["e0".into(), "e1".into()]);
            assert_eq!(data(&store, &name), expected);
            assert_eq!(store.stream(&stream(&name)).unwrap().unwrap().next_sequence, first + 2);
            let sequences: Vec<u64> =
                records(store.read(&stream(&name))).iter().map(|record| record.sequence).collect();
            assert_eq!(sequences, (0..first + 2).collect::<Vec<_>>(), "dense");
        }
        for sequence in [6, 7, u64::MAX] {
            let (_, _, actual) = conflict(append(&store, "order-1@beyond", Expected::Next(sequence), &["e"]));
            assert_eq!(actual, 5);
        }
        // Later appends to main do not show in it, once it has diverged.
        append(&store, "order-1", Expected::Next(5), &["m5"]).unwrap();
        assert_eq!(data(&store, "order-1@two"), ["m0", "m1", "e0", "e1"]);
        assert_eq!(data(&store, "order-1@all"), ["m0", "m1", "m2", "m3", "m4", "e0", "e1"]);
        assert_eq!(data(&store, "order-1@none").len(), 6, "and before, they do");
        // From then on, it is a stream like others.
        assert_eq!(conflict(append(&store, "order-1@two", Expected::Next(3), &["x"])).2, 4);
        assert_eq!(conflict(append(&store, "order-1@two", Expected::NoStream, &["x"])).2, 4);
        append(&store, "order-1@two", Expected::Next(4), &["e2"]).unwrap();
        assert_eq!(data(&store, "order-1"), ["m0", "m1", "m2", "m3", "m4", "m5"], "main knows nothing of it");
        store.close().unwrap();

        let store = bed.open();
        assert_eq!(data(&store, "order-1@two"), ["m0", "m1", "e0", "e1", "e2"]);
        assert_eq!(conflict(append(&store, "order-1@two", Expected::Next(4), &["x"])).2, 5);
    });
}

#[test]
fn an_edition_of_an_empty_stream_begins_at_0() {
    let store = Store::in_memory();
    assert_eq!(data(&store, "order-9@x"), [""; 0]);
    assert_eq!(conflict(append(&store, "order-9@x", Expected::Exists, &["e"])).2, 0);
    assert_eq!(conflict(append(&store, "order-9@x", Expected::Next(1), &["e"])).2, 0);
    assert_eq!(append(&store, "order-9@x", Expected::Any, &["e"]).unwrap().sequences, 0..1);
    assert!(store.stream(&stream("order-9")).unwrap().is_none());
}

#[test]
fn both_names_of_the_main_edition_are_the_same() {
    let store = Store::in_memory();
    append(&store, "order-1@main", Expected::NoStream, &["a"]).unwrap();
    append(&store, "order-1", Expected::Next(1), &["b"]).unwrap();
    assert_eq!(data(&store, "order-1@main"), ["a", "b"]);
    assert_eq!(found(&store, &Query::new().edition("main")), ["a", "b"]);
    for name in ["main", ""] {
        assert!(matches!(store.editions().delete(name, None), Err(Error::Invalid { .. })));
    }
    let keyed = |name| {
        let transaction = store.transaction().append(&stream(name), Expected::Any, texts(["c"]));
        transaction.idempotency_key("k").commit().unwrap().duplicate
    };
    assert_eq!((keyed("order-1@main"), keyed("order-1")), (false, true));
}

#[test]
fn ranges_and_limits_of_composites() {
    let store = Store::in_memory();
    begin(&store);
    append(&store, "order-1@x", Expected::Next(2), &["e2", "e3"]).unwrap();
    let whole = ["m0", "m1", "e2", "e3"];
    let name = stream("order-1@x");
    for from in 0..6 {
        for to in 0..6 {
            for limit in 0..5 {
                let expected: Vec<&str> = whole.iter().copied().take(to).skip(from).take(limit).collect();
                let read = || store.read(&name).from(from as u64).to(to as u64).limit(limit as u64);
                assert_eq!(data_of(&records(read())), expected, "{from}..{to}, {limit}");
                let expected: Vec<&str> = whole.iter().copied().take(to).skip(from).rev().take(limit).collect();
                assert_eq!(data_of(&records(read().backwards())), expected, "backwards {from}..{to}, {limit}");
            }
        }
    }
}

#[test]
fn diverging_at_reads_as_if() {
    let store = Store::in_memory();
    begin(&store);
    let at = |name: &str, n| data_of(&records(store.read(&stream(name)).diverging_at(n)));
    assert_eq!(at("order-1@none", 0), [""; 0]);
    assert_eq!(at("order-1@none", 3), ["m0", "m1", "m2"]);
    assert_eq!(at("order-1@none", 99), ["m0", "m1", "m2", "m3", "m4"]);
    append(&store, "order-1@x", Expected::Next(2), &["e2", "e3"]).unwrap();
    assert_eq!(at("order-1@x", 2), ["m0", "m1", "e2", "e3"]);
    assert_eq!(at("order-1@x", 3), ["m0", "m1", "m2", "e3"]);
    assert_eq!(at("order-1@x", 5), ["m0", "m1", "m2", "m3", "m4"]);
    // Its own events begin at 2: there would be a gap.
    assert_eq!(at("order-1@x", 1), ["m0"]);
    assert_eq!(at("order-1", 1).len(), 5, "main does not diverge");
}

#[test]
fn as_of_sees_what_had_diverged_by_then() {
    let store = Store::in_memory();
    begin(&store);
    append(&store, "order-1@x", Expected::Next(2), &["e2"]).unwrap();
    append(&store, "order-1", Expected::Any, &["m5"]).unwrap();
    append(&store, "order-1@x", Expected::Any, &["e3"]).unwrap();
    let as_of = |name: &str, position: u64| data_of(&records(store.read(&stream(name)).as_of(position)));
    assert_eq!(as_of("order-1@x", 3), ["m0", "m1", "m2", "m3"], "it had not diverged");
    assert_eq!(as_of("order-1@x", 4).len(), 5);
    assert_eq!(as_of("order-1@x", 5), ["m0", "m1", "e2"]);
    assert_eq!(as_of("order-1@x", 6), ["m0", "m1", "e2"]);
    assert_eq!(as_of("order-1@x", 7), ["m0", "m1", "e2", "e3"]);
    let query = Query::new().edition("x");
    let found = |position: u64| -> Vec<u64> {
        store.query(&query).as_of(position).into_iter().map(|event| event.unwrap().position()).collect()
    };
    assert_eq!(found(4), [0, 1, 2, 3, 4]);
    assert_eq!(found(5), [0, 1, 5]);
    assert_eq!(found(7), [0, 1, 5, 7]);
}

#[test]
fn queries_see_main_or_the_composite() {
    on_all_beds(|bed| {
        let store = bed.open();
        begin(&store);
        append(&store, "order-2", Expected::Any, &["other"]).unwrap();
        append(&store, "order-1@x", Expected::Next(1), &["e1"]).unwrap();
        append(&store, "bill-1@x", Expected::Any, &["b0"]).unwrap();
        append(&store, "order-1", Expected::Any, &["m5"]).unwrap();
        let main = ["m0", "m1", "m2", "m3", "m4", "other", "m5"];
        assert_eq!(found(&store, &Query::new()), main);
        assert_eq!(found(&store, &Query::new().edition("x")), ["m0", "other", "e1", "b0"]);
        assert_eq!(found(&store, &Query::new().edition("y")), main, "nothing diverges there");
        assert_eq!(found(&store, &Query::new().edition("x").domain("order")), ["m0", "other", "e1"]);
        assert_eq!(found(&store, &Query::new().edition("x").stream(&stream("order-1"))), ["m0", "e1"]);
        assert_eq!(found(&store, &Query::new().edition("x").event_type("T")), ["m0", "other", "e1", "b0"]);
        assert_eq!(data_of(&records(store.read_all())).len(), 9, "the log holds all");
    });
}

#[test]
fn guards_of_an_edition() {
    let store = Store::in_memory();
    begin(&store);
    let guarded = |edition: &str, after: u64| {
        let guard = Guard::unchanged(Query::new().domain("order").edition(edition), after);
        store.transaction().append(&stream("log-1"), Expected::Any, texts(["done"])).guard(guard).commit()
    };
    append(&store, "order-1@x", Expected::Next(2), &["e2"]).unwrap();
    append(&store, "order-1", Expected::Any, &["m5"]).unwrap();
    guarded("x", 5).unwrap();
    assert!(matches!(guarded("x", 4), Err(Error::GuardFailed { position: 5, .. })));
    assert!(matches!(guarded("main", 5), Err(Error::GuardFailed { position: 6, .. })));

    // The same for events in flight: the main stream is shadowed, so its event breaks nothing in
    // the edition.
    let ticket = store.transaction().append(&stream("order-1"), Expected::Any, texts(["m6"])).submit().unwrap();
    guarded("x", 7).unwrap();
    assert!(matches!(guarded("main", 7), Err(Error::GuardFailed { position: 8, .. })));
    ticket.wait().unwrap();
}

#[test]
fn deleting_leaves_holes() {
    on_all_beds(|bed| {
        let store = bed.open();
        begin(&store);
        append(&store, "order-1@x", Expected::Next(2), &["e2", "e3"]).unwrap();
        append(&store, "bill-1@x", Expected::Any, &["b0"]).unwrap();
        append(&store, "order-1@y", Expected::Any, &["y5"]).unwrap();
        let names = |store: &Store| -> Vec<(String, u64)> {
            store.editions().list().unwrap().into_iter().map(|info| (info.name, info.events)).collect()
        };
        assert_eq!(names(&store), [("x".into(), 3), ("y".into(), 1)]);
        assert_eq!(store.editions().delete("nobody", None).unwrap(), 0);
        assert_eq!(store.len(), 9, "deleting nothing writes nothing");
        assert_eq!(store.editions().delete("x", Some("order")).unwrap(), 2);
        assert_eq!(store.editions().delete("x", Some("order")).unwrap(), 0);
        let check = |store: &Store| {
            assert_eq!(data(store, "order-1@x"), ["m0", "m1", "m2", "m3", "m4"], "it reads as main again");
            assert_eq!(data(store, "bill-1@x"), ["b0"]);
            assert_eq!(names(store), [("x".into(), 1), ("y".into(), 1)]);
            let positions: Vec<u64> = records(store.read_all()).iter().map(|record| record.position).collect();
            assert_eq!(positions, [0, 1, 2, 3, 4, 7, 8]);
            let mut backwards: Vec<u64> =
                records(store.read_all().backwards()).iter().map(|record| record.position).collect();
            backwards.reverse();
            assert_eq!(backwards, positions);
            assert_eq!(store.head(), Some(9), "the deletion has a position, and nothing to read there");
            assert_eq!(found(store, &Query::new().edition("x")), ["m0", "m1", "m2", "m3", "m4", "b0"]);
            let streams: Vec<String> = store.streams("").unwrap().iter().map(|info| info.stream.to_string()).collect();
            assert_eq!(streams, ["bill-1@x", "order-1", "order-1@y"]);
            assert_eq!(store.stats().unwrap().streams, 3);
        };
        check(&store);
        store.close().unwrap();
        let report = annals::offline::verify_in(bed.fs(), bed.path()).unwrap();
        assert!(report.is_sound() && report.notices.is_empty(), "{report:?}");
        check(&bed.read_only());
        bed.spoil_indexes(Spoil::Delete);
        let store = bed.open();
        check(&store);
        // Begun again, at another sequence, and deleted with all that is left.
        append(&store, "order-1@x", Expected::Next(4), &["n4", "n5"]).unwrap();
        assert_eq!(data(&store, "order-1@x"), ["m0", "m1", "m2", "m3", "n4", "n5"]);
        store.close().unwrap();
        let store = bed.open();
        assert_eq!(data(&store, "order-1@x"), ["m0", "m1", "m2", "m3", "n4", "n5"]);
        assert_eq!(store.editions().delete("x", None).unwrap(), 3);
        assert_eq!(names(&store), [("y".into(), 1)]);
        assert_eq!(data(&store, "bill-1@x"), [""; 0]);
        store.close().unwrap();
        let report = annals::offline::verify_in(bed.fs(), bed.path()).unwrap();
        assert!(report.is_sound() && report.notices.is_empty(), "{report:?}");
    });
}

#[test]
fn what_was_deleted_is_not_found_by_id_or_key() {
    let store = Store::in_memory();
    let id = annals::Uuid::from_u128(7);
    store.append(&stream("order-1@x"), Expected::Any, [NewEvent::new("T", "").id(id), NewEvent::new("T", "")]).unwrap();
    let derived = store.read(&stream("order-1@x")).backwards().into_iter().next().unwrap().unwrap().id();
    let keyed = || {
        let transaction = store.transaction().append(&stream("order-2@x"), Expected::Any, texts(["a"]));
        transaction.idempotency_key("k").commit().unwrap()
    };
    assert!(!keyed().duplicate && keyed().duplicate);
    store.editions().delete("x", None).unwrap();
    assert!(store.event(id).unwrap().is_none());
    assert!(store.event(derived).unwrap().is_none());
    assert!(!keyed().duplicate, "the first one is gone");
    assert!(keyed().duplicate);
    // The id is of an older event that still exists.
    store.append(&stream("order-3"), Expected::Any, [NewEvent::new("Older", "").id(id)]).unwrap();
    store.append(&stream("order-3@x"), Expected::Any, [NewEvent::new("Newer", "").id(id)]).unwrap();
    assert_eq!(store.event(id).unwrap().unwrap().event_type(), "Newer");
    store.editions().delete("x", None).unwrap();
    assert_eq!(store.event(id).unwrap().unwrap().event_type(), "Older");
}

#[test]
fn correlated_events_by_stream() {
    let store = Store::in_memory();
    let event = |id: &'static str| [NewEvent::new("T", "").correlation_id(id)];
    store.append(&stream("order-1"), Expected::Any, event("w")).unwrap();
    store.append(&stream("bill-1"), Expected::Any, event("w")).unwrap();
    store.append(&stream("order-1@x"), Expected::Any, event("w")).unwrap();
    store.append(&stream("order-1"), Expected::Any, event("w")).unwrap();
    store.append(&stream("order-1"), Expected::Any, event("")).unwrap();
    store.append(&stream("order-1"), Expected::Any, event("v")).unwrap();
    let correlated = |id| -> Vec<(String, Vec<u64>)> {
        let found = store.correlated(id).unwrap();
        found.iter().map(|(name, events)| (name.to_string(), events.iter().map(Event::position).collect())).collect()
    };
    assert_eq!(
        correlated("w"),
        [("bill-1".into(), vec![1]), ("order-1".into(), vec![0, 3]), ("order-1@x".into(), vec![2])]
    );
    assert_eq!(correlated("").len() + correlated("nobody").len(), 0);
}

#[test]
fn tracking_takes_each_position_once() {
    on_all_beds(|bed| {
        let store = bed.open();
        let intake = |store: &Store, upstream: &str, position, events: usize| {
            let transaction = store.transaction().tracking(upstream, position);
            transaction.append(&stream("a-1"), Expected::Any, texts(["x", "y"].into_iter().take(events))).commit()
        };
        assert_eq!(store.tracked("inbox").unwrap(), None);
        intake(&store, "inbox", 0, 1).unwrap();
        assert_eq!(store.tracked("inbox").unwrap(), Some(0), "0 is not nothing");
        intake(&store, "inbox", 991, 2).unwrap();
        intake(&store, "other", 5, 1).unwrap();
        for position in [991, 990, 0] {
            let refused = intake(&store, "inbox", position, 1);
            assert!(matches!(refused, Err(Error::AlreadyTracked { tracked: 991, .. })), "{refused:?}");
        }
        let empty = intake(&store, "inbox", 992, 0).unwrap();
        assert_eq!((empty.positions, empty.appends.len()), (4..5, 1));
        assert_eq!(records(store.read_all()).len(), 4, "what only tracks is no event");
        assert!(store.transaction().tracking("", 1).commit().is_err());
        store.close().unwrap();
        let store = bed.open();
        assert_eq!(store.tracked("inbox").unwrap(), Some(992));
        assert!(matches!(intake(&store, "inbox", 992, 1), Err(Error::AlreadyTracked { .. })));
        // Refused together with the commit that it came with.
        let conflicting =
            store.transaction().tracking("inbox", 1000).append(&stream("a-1"), Expected::NoStream, texts(["x"]));
        conflict(conflicting.commit());
        assert_eq!(store.tracked("inbox").unwrap(), Some(992));
        let all: Vec<(String, u64)> = store.all_tracked().unwrap().into_iter().collect();
        assert_eq!(all, [("inbox".into(), 992), ("other".into(), 5)]);
        store.close().unwrap();
        bed.spoil_indexes(Spoil::Delete);
        assert_eq!(bed.open().tracked("inbox").unwrap(), Some(992));
    });
}

#[test]
fn tracking_sees_what_is_on_its_way() {
    let store = Store::in_memory();
    let submit = |position| {
        store.transaction().append(&stream("a-1"), Expected::Any, texts(["x"])).tracking("inbox", position).submit()
    };
    let first = submit(7).unwrap();
    assert!(matches!(submit(7), Err(Error::AlreadyTracked { tracked: 7, .. })));
    let second = submit(8).unwrap();
    first.wait().unwrap();
    second.wait().unwrap();
    assert_eq!((store.tracked("inbox").unwrap(), store.len()), (Some(8), 2));
    // A repeat that is known by its key is one, whatever it tracks.
    let keyed = || {
        store
            .transaction()
            .append(&stream("a-1"), Expected::Any, texts(["z"]))
            .tracking("inbox", 9)
            .idempotency_key("k")
            .commit()
    };
    assert!(!keyed().unwrap().duplicate && keyed().unwrap().duplicate);
    let empty = || store.transaction().tracking("inbox", 10).idempotency_key("e").commit();
    assert!(!empty().unwrap().duplicate);
    assert!(empty().unwrap().duplicate);
}

/// Handler positions and snapshots of an edition are deleted with it, even if the edition had no
/// events in a stream; and do not come back when it is begun again.
#[test]
fn deleting_takes_snapshots_and_positions_along() {
    on_all_beds(|bed| {
        let store = bed.open();
        begin(&store);
        append(&store, "order-1@x", Expected::Next(2), &["e2", "e3"]).unwrap();
        append(&store, "bill-1@x", Expected::Any, &["b0"]).unwrap();
        let names = ["order-1", "order-1@x", "bill-1@x", "order-1@y"].map(stream);
        for name in &names {
            store.snapshots().put(name, 0, "state").unwrap();
            store.positions().put("handler", name, 3).unwrap();
        }
        let known = |store: &Store| -> Vec<(bool, Option<u64>)> {
            let of = |name| {
                let snapshot = store.snapshots().latest(name).unwrap().is_some();
                (snapshot, store.positions().get("handler", name).unwrap())
            };
            names.iter().map(of).collect()
        };
        let (all, gone) = ((true, Some(3)), (false, None));
        assert_eq!(known(&store), [all, all, all, all]);
        assert_eq!(store.editions().delete("x", Some("order")).unwrap(), 2);
        assert_eq!(known(&store), [all, gone, all, all]);
        append(&store, "order-1@x", Expected::Next(2), &["n2"]).unwrap();
        assert_eq!(store.positions().get("handler", &names[1]).unwrap(), None);
        assert_eq!(store.editions().delete("x", None).unwrap(), 2);
        assert_eq!(store.editions().delete("y", None).unwrap(), 0, "it has no events, and a snapshot");
        assert_eq!(known(&store), [all, gone, gone, gone]);
        store.close().unwrap();
        assert_eq!(known(&bed.open()), [all, gone, gone, gone]);
    });
}
