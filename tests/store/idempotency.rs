//! Repeated commits, and what a store can be asked about.
//!
//! These tests have failed with each of these bugs in the library: commits in flight not checked,
//! or the index not asked again under the commit lock (`five_threads_at_once`); the key not written
//! into the frame (`repeats_of_all_kinds`).

use annals::{AsOf, Committed, Error, Expected, Guard, NewEvent, Options, Query, Store, StreamId, Timestamp, Uuid};
use annals_testkit::{Image, SimFs};
use std::sync::Barrier;
use std::sync::atomic::{AtomicI64, Ordering};

fn options(disk: &SimFs) -> Options {
    let now = AtomicI64::new(1_000);
    let clock = move || Timestamp::from_nanos(now.fetch_add(10, Ordering::Relaxed));
    Options::new().file_system(disk.clone()).maintenance(false).segment_size(4096).reserve(0).clock(clock)
}

fn stream(root: &str) -> StreamId {
    StreamId::new("order", root).unwrap()
}

fn pay(store: &Store, key: &str, expected: Expected, data: &str) -> Result<Committed, Error> {
    let event = NewEvent::new("Paid", data);
    store.transaction().append(&stream("1"), expected, [event]).idempotency_key(key).commit()
}

#[test]
fn repeats_of_all_kinds() {
    let disk = SimFs::new();
    let store = options(&disk).open("store").unwrap();
    let first = pay(&store, "k", Expected::NoStream, "1").unwrap();
    assert!(!first.duplicate && !first.appends[0].duplicate);
    let check = |store: &Store, expected: Expected, data: &str| {
        let other = pay(store, "k", expected, &format!("not {data}"));
        assert!(matches!(other, Err(Error::IdempotencyMismatch { .. })), "{other:?}");
        let again = pay(store, "k", expected, data).unwrap();
        assert!(again.duplicate && again.appends[0].duplicate);
        assert_eq!((again.positions, again.recorded_at), (first.positions.clone(), first.recorded_at));
        assert_eq!((&again.appends[0].stream, &again.appends[0].sequences), (&stream("1"), &(0..1)));
    };
    check(&store, Expected::NoStream, "1");
    check(&store, Expected::Next(77), "1");
    // Many segments later, after a close, and after a power cut.
    for n in 0..30 {
        pay(&store, &format!("k{n}"), Expected::Any, &"x".repeat(500)).unwrap();
    }
    check(&store, Expected::Any, "1");
    store.close().unwrap();
    let store = options(&disk).open("store").unwrap();
    check(&store, Expected::NoStream, "1");
    let store = options(&disk.crash(Image::Durable)).open("store").unwrap();
    check(&store, Expected::NoStream, "1");
    assert_eq!(store.len(), 31);
}

#[test]
fn keys_belong_to_streams() {
    let store = Store::in_memory();
    let commit = |roots: &[&str], key: &str| {
        let transaction = roots.iter().fold(store.transaction(), |transaction, root| {
            transaction.append(&stream(root), Expected::Any, [NewEvent::new("A", ""), NewEvent::new("B", "")])
        });
        transaction.idempotency_key(key).commit().unwrap()
    };
    let first = commit(&["1", "2"], "k");
    assert!(!commit(&["3"], "k").duplicate, "another stream");
    let event = || [NewEvent::new("A", ""), NewEvent::new("B", "")];
    let part = store.transaction().append(&stream("2"), Expected::Any, event()).idempotency_key("k").commit();
    let found = matches!(&part, Err(Error::IdempotencyMismatch { positions, .. }) if *positions == first.positions);
    assert!(found, "one of its streams is enough: {part:?}");
    let repeat = commit(&["1", "2"], "k");
    assert!(repeat.duplicate && repeat.positions == first.positions);
    assert_eq!(repeat.appends.iter().map(|a| a.sequences.clone()).collect::<Vec<_>>(), [0..2, 0..2]);
    assert!(!commit(&["1"], "").duplicate && !commit(&["1"], "").duplicate, "the empty key is none");
    let long = pay(&store, &"x".repeat(1025), Expected::Any, "");
    assert!(matches!(long, Err(Error::LimitExceeded { .. })));
    pay(&store, &"x".repeat(1024), Expected::Any, "").unwrap();
}

#[test]
fn five_threads_at_once() {
    for round in 0..400 {
        let disk = SimFs::new();
        let store = options(&disk).open("store").unwrap();
        let barrier = Barrier::new(5);
        let results: Vec<Committed> = std::thread::scope(|scope| {
            let attempt = || {
                barrier.wait();
                let transaction = store.transaction().idempotency_key("k");
                let transaction = match round % 2 {
                    // A guard and an expectation that the first one breaks for the others: they are
                    // repeats all the same.
                    0 => {
                        let guard = Guard::absent(Query::new().event_type("Paid"));
                        let events = [NewEvent::new("Paid", "")];
                        transaction.append(&stream("1"), Expected::NoStream, events).guard(guard)
                    }
                    // Nothing else that would keep the others away.
                    _ => transaction.append(&stream("1"), Expected::Any, [NewEvent::new("Paid", "")]),
                };
                transaction.commit().unwrap()
            };
            let handles: Vec<_> = (0..5).map(|_| scope.spawn(attempt)).collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).collect()
        });
        assert_eq!(results.iter().filter(|result| !result.duplicate).count(), 1, "round {round}");
        assert!(results.iter().all(|result| result.positions == (0..1)));
        assert_eq!(store.len(), 1);
    }
}

/// A repeat after a commit that fails is not a repeat: it is stored.
#[test]
fn a_first_commit_that_fails() {
    let disk = SimFs::new();
    let store = options(&disk).open("store").unwrap();
    let ticket = |data| {
        let event = NewEvent::new("Paid", data);
        store.transaction().append(&stream("1"), Expected::NoStream, [event]).idempotency_key("k").submit().unwrap()
    };
    let first = ticket("1");
    disk.fail(annals_testkit::Fault {
        operation: annals_testkit::Operation::Write,
        after: 0,
        times: 1,
        kind: std::io::ErrorKind::StorageFull,
    });
    let second = ticket("2").wait().unwrap();
    assert!(first.wait().is_err() && !second.duplicate);
    let data: Vec<_> = store.read(&stream("1")).into_iter().map(|event| event.unwrap().data().to_vec()).collect();
    assert_eq!(data, [b"2"]);
}

#[test]
fn what_is_in_a_store() {
    let disk = SimFs::new();
    let store = options(&disk).open("store").unwrap();
    let given = Uuid::from_u128(99);
    for n in 0..40u32 {
        let data = n.to_string().repeat(100);
        let event =
            NewEvent::new(if n % 4 == 0 { "Placed" } else { "Paid" }, &data).tag(format!("n:{}", n % 3)).tag("all");
        let event = if n % 20 == 3 { event.id(given) } else { event };
        let id = StreamId::new(if n % 2 == 0 { "order" } else { "user" }, (n % 5).to_string()).unwrap();
        store.append(&id, Expected::Any, [event]).unwrap();
    }
    store
        .append(&"order-1@what-if".parse().unwrap(), Expected::Any, [NewEvent::new("Dreamt", "").tag("dream")])
        .unwrap();
    store.close().unwrap();
    let store = options(&disk).open("store").unwrap();
    let names = |found: Vec<annals::info::NameInfo>| found.into_iter().map(|i| (i.name, i.events)).collect::<Vec<_>>();
    assert_eq!(names(store.domains().unwrap()), [("order".into(), 20), ("user".into(), 20)]);
    assert_eq!(names(store.event_types().unwrap()), [("Paid".into(), 30), ("Placed".into(), 10)]);
    assert_eq!(names(store.tags("n:").unwrap()), [("n:0".into(), 14), ("n:1".into(), 13), ("n:2".into(), 13)]);
    assert_eq!(names(store.tags("").unwrap()).len(), 4);
    assert_eq!(store.streams("").unwrap().len(), 11);
    for (prefix, count) in
        [("order-", 6), ("user-1", 1), ("order-1@", 1), ("order-@what", 1), ("@", 1), ("@x", 0), ("user@", 0)]
    {
        assert_eq!(store.streams(prefix).unwrap().len(), count, "{prefix}");
    }
    let info = store.stream(&"order-0".parse().unwrap()).unwrap().unwrap();
    assert_eq!((info.next_sequence, info.last_position), (4, 30));
    assert_eq!(store.streams("order-0").unwrap(), [info]);

    // By id: the newest of those with the same one, and those whose id the store assigned.
    assert_eq!(store.event(given).unwrap().unwrap().position(), 23);
    for event in store.read_all() {
        let event = event.unwrap();
        let found = store.event(event.id()).unwrap().unwrap();
        assert!(found.position() == event.position() || event.id() == given);
    }
    assert!(store.event(Uuid::from_u128(1)).unwrap().is_none());
    assert!(store.event(Uuid::from_u128(7 << 76 | 2 << 62)).unwrap().is_none());
}

/// Streams as of each position and each time, from the newest event of a type, and by when things
/// happened.
#[test]
fn streams_at_other_times() {
    let disk = SimFs::new();
    let store = options(&disk).open("store").unwrap();
    for n in 0..60i64 {
        let event_type = if n % 11 == 5 { "BooksClosed" } else { "Booked" };
        let data = vec![1; 150];
        let event = NewEvent::with_data(event_type, data);
        let event = if n % 2 == 0 { event.occurred_at(Timestamp::from_nanos(5_000 - n)) } else { event };
        store.append(&stream(&(n % 3).to_string()), Expected::Any, [event]).unwrap();
    }
    for root in ["0", "1", "2", "none"] {
        let id = stream(root);
        let all: Vec<_> = store.read(&id).into_iter().map(|event| event.unwrap()).collect();
        let positions =
            |read: annals::Read| read.into_iter().map(|event| event.unwrap().position()).collect::<Vec<_>>();
        let which = |fits: &dyn Fn(&annals::Event) -> bool| {
            all.iter().filter(|e| fits(e)).map(|e| e.position()).collect::<Vec<_>>()
        };
        for p in [0, 1, 2, 30, 58, 59, 60, u64::MAX] {
            assert_eq!(positions(store.read(&id).as_of(p)), which(&|e| e.position() <= p), "{root} as of {p}");
        }
        for event in store.read_all() {
            let time = event.unwrap().recorded_at();
            for time in [time.as_nanos() - 1, time.as_nanos()].map(Timestamp::from_nanos) {
                let mut found = positions(store.read(&id).as_of(AsOf::Time(time)).backwards());
                found.reverse();
                assert_eq!(found, which(&|e| e.recorded_at() <= time));
            }
        }
        let closed = all.iter().rev().find(|e| e.event_type() == "BooksClosed").map_or(0, |e| e.sequence());
        assert_eq!(positions(store.read(&id).from_latest("BooksClosed")), which(&|e| e.sequence() >= closed));
        assert_eq!(positions(store.read(&id).from_latest("Never")), which(&|_| true));
        let time = Timestamp::from_nanos(4_960);
        let occurred = |e: &annals::Event| e.occurred_at().unwrap_or(e.recorded_at());
        assert_eq!(positions(store.read(&id).occurred_since(time)), which(&|e| occurred(e) >= time));
        assert_eq!(positions(store.read(&id).occurred_until(time)), which(&|e| occurred(e) <= time));
    }
}

/// A repeat is not checked, even while the first commit is in flight and what would break the guard
/// of the repeat is not visible yet.
#[test]
fn a_repeat_with_a_stale_guard_while_the_first_is_pending() {
    let store = Store::in_memory();
    store.append(&stream("0"), Expected::Any, [NewEvent::new("Taken", "")]).unwrap();
    let pay = |guarded: bool| {
        let transaction = store.transaction().append(&stream("1"), Expected::Any, [NewEvent::new("Paid", "")]);
        let guard = Guard::absent(Query::new().event_type("Taken"));
        let transaction = if guarded { transaction.guard(guard) } else { transaction };
        transaction.idempotency_key("k").submit()
    };
    let first = pay(false).unwrap();
    let repeat = pay(true).unwrap().wait().unwrap();
    assert!(repeat.duplicate && repeat.positions == (1..2));
    assert_eq!(first.wait().unwrap().positions, 1..2);
    assert!(matches!(pay(true).unwrap().wait(), Ok(Committed { duplicate: true, .. })));
}
