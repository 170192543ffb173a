//! Every form of reading, in editions and around gaps.

#[path = "reads/gaps.rs"]
mod gaps;

use annals::fs::{MemFs, Paced};
use annals::info::NameInfo;
use annals::{Error, Event, Expected, Guard, NewEvent, Options, Query, Store, StreamId, Uuid};
use annals_testkit::{records, stream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

fn put(store: &Store, name: &str, event_type: &str) -> u64 {
    store.append(&stream(name), Expected::Any, [NewEvent::new(event_type, "")]).unwrap().positions.start
}

fn positions(read: impl IntoIterator<Item = annals::Result<Event>>) -> Vec<u64> {
    read.into_iter().map(|event| event.unwrap().position()).collect()
}

/// `read_all` returns the events of all editions, but `from_latest` looked for the newest event of
/// its type in the main edition only: a read began before the newest `BooksClosed`, which was in a
/// named edition, or with the first event of all. Now it is looked for in all editions; deleted
/// events do not count.
#[test]
fn the_latest_event_of_all_is_looked_for_in_all_editions() {
    let store = Store::in_memory();
    put(&store, "book-1", "Booked");
    put(&store, "book-1", "Closed");
    put(&store, "book-1@draft", "Booked");
    put(&store, "book-1@draft", "Closed");
    put(&store, "book-1", "Booked");
    assert_eq!(positions(store.read_all().from_latest("Closed")), [3, 4]);
    assert_eq!(positions(store.read_all().from_latest("Closed").backwards()), [4, 3]);
    assert_eq!(positions(store.read_all().from_latest("Closed").as_of(2)), [1, 2]);
    assert_eq!(positions(store.read_all().from_latest("Closed").from(4)), [4]);
    assert_eq!(positions(store.read_all().from_latest("Nothing").limit(2)), [0, 1]);
    store.editions().delete("draft", None).unwrap();
    assert_eq!(positions(store.read_all().from_latest("Closed")), [1, 4]);
    assert_eq!(positions(store.read(&stream("book-1")).from_latest("Closed")), [1, 4]);
}

/// The main edition is also called `main`, and names are parsed that way, but
/// `streams("order-1@main")` found nothing: the part after the `@` was compared with named editions
/// only.
#[test]
fn streams_of_the_main_edition_are_found_by_its_name() {
    let store = Store::in_memory();
    for name in ["order-1", "order-2", "order-1@main-2", "order-1@what-if"] {
        put(&store, name, "T");
    }
    let found = |prefix: &str| -> Vec<String> {
        store.streams(prefix).unwrap().into_iter().map(|info| info.stream.to_string()).collect()
    };
    assert_eq!(found("order-1@main"), ["order-1", "order-1@main-2"]);
    assert_eq!(found("@main"), ["order-1", "order-1@main-2", "order-2"]);
    assert_eq!(found("order-1@w"), ["order-1@what-if"]);
    assert_eq!(found("order-1@"), ["order-1@main-2", "order-1@what-if"]);
    assert_eq!(found("order-1"), ["order-1", "order-1@main-2", "order-1@what-if"]);
    assert_eq!(found("order-3@main"), [""; 0]);
}

/// A query accepted any name of an edition, and its length went into one byte of the terms of the
/// index: a name of 256 bytes asked for terms of the main edition that begin with these bytes, and
/// hid or found the wrong events. No edition has such a name; now a search, guard or subscription
/// with the query returns an error.
#[test]
fn a_query_of_an_edition_whose_name_is_too_long_is_refused() {
    let store = Store::in_memory();
    put(&store, "order-1", "T");
    let is_refusal = |error: &Error| matches!(error, Error::LimitExceeded { size: 256, limit: 255, .. });
    for name in ["e".repeat(256), "ä".repeat(128)] {
        let query = Query::new().edition(&name).event_type("T");
        let mut found = store.query(&query).into_iter();
        assert!(found.next().unwrap().is_err_and(|error| is_refusal(&error)));
        assert!(found.next().is_none());
        assert!(store.query(&query).collect_with_head().is_err_and(|error| is_refusal(&error)));
        assert!(store.query(&query).limit(0).collect_with_head().is_err_and(|error| is_refusal(&error)));
        let guarded = |guard| {
            let event = NewEvent::new("U", "");
            store.transaction().append(&stream("order-2"), Expected::Any, [event]).guard(guard).commit()
        };
        assert!(guarded(Guard::absent(query.clone())).is_err_and(|error| is_refusal(&error)));
        assert!(guarded(Guard::unchanged(query.clone(), 0)).is_err_and(|error| is_refusal(&error)));
        let empty = Store::in_memory();
        for store in [&store, &empty] {
            let mut subscription = store.subscribe(&query);
            assert!(subscription.next().unwrap().is_err_and(|error| is_refusal(&error)));
            assert!(subscription.next().is_none());
        }
        assert!(stream("order-1").in_edition(&name).is_err_and(|error| is_refusal(&error)));
        assert!(store.editions().delete(&name, None).is_err_and(|error| is_refusal(&error)));
    }
    // The longest possible name.
    let name = "e".repeat(255);
    store.append(&stream("order-1").in_edition(&name).unwrap(), Expected::Any, [NewEvent::new("T", "")]).unwrap();
    assert_eq!(positions(store.query(&Query::new().edition(&name).event_type("T"))), [0, 1]);
    assert_eq!(positions(store.query(&Query::new().event_type("T"))), [0]);
    assert_eq!(positions(store.query(&Query::new().edition("e").event_type("T"))), [0]);
}

/// `Stats::events` was the number of positions: it included events that were deleted with their
/// edition, and system records that no reader sees. Now each kind has its own number, and together
/// they are the positions.
#[test]
fn stats_count_events_that_a_reader_sees() {
    let fs = MemFs::new();
    let options = || Options::new().file_system(fs.clone()).maintenance(false).segment_size(4096);
    let store = options().open("store").unwrap();
    let check = |store: &Store, expected: (u64, u64, u64)| {
        let stats = store.stats().unwrap();
        assert_eq!((stats.events, stats.deleted_events, stats.system_records), expected);
        assert_eq!(stats.events, records(store.read_all()).len() as u64);
        assert_eq!(stats.events + stats.deleted_events + stats.system_records, store.len());
    };
    check(&store, (0, 0, 0));
    for n in 0..40 {
        put(&store, "order-1", "T");
        put(&store, if n % 2 == 0 { "order-1@x" } else { "bill-1@x" }, "T");
    }
    check(&store, (80, 0, 0));
    assert_eq!(store.editions().delete("x", Some("order")).unwrap(), 20);
    check(&store, (60, 20, 1));
    put(&store, "order-1@x", "T");
    assert_eq!(store.editions().delete("x", None).unwrap(), 21);
    store.transaction().tracking("inbox", 7).commit().unwrap();
    check(&store, (40, 41, 3));
    put(&store, "order-1@x", "T");
    store.close().unwrap();
    let store = options().open("store").unwrap();
    assert!(store.stats().unwrap().segments.len() > 1);
    check(&store, (41, 41, 3));
}

/// `domains()` left out domains that only a named edition has, so that an operator who looked for
/// one did not find it. Now it returns all that a reader can see; types and tags are those of the
/// main edition. All say how many events are in the main edition and how many in named ones.
#[test]
fn names_that_only_a_named_edition_has_are_listed() {
    let store = Store::in_memory();
    let tagged = |name: &str, event_type: &str| {
        let event = NewEvent::new(event_type.to_owned(), "").tag(format!("t:{event_type}"));
        store.append(&stream(name), Expected::Any, [event]).unwrap();
    };
    tagged("order-1", "Placed");
    tagged("order-1@x", "Placed");
    tagged("sketch-1", "Drafted");
    tagged("draft-1@x", "Drafted");
    tagged("draft-2@y", "Drafted");
    tagged("note-1@y", "Noted");
    let told = |names: Vec<NameInfo>| -> Vec<(String, u64, u64)> {
        names.into_iter().map(|info| (info.name, info.events, info.in_editions)).collect()
    };
    let owned = |names: &[(&str, u64, u64)]| -> Vec<(String, u64, u64)> {
        names.iter().map(|&(name, events, in_editions)| (name.to_owned(), events, in_editions)).collect()
    };
    let check = |domains: &[(&str, u64, u64)], types: &[(&str, u64, u64)]| {
        assert_eq!(told(store.domains().unwrap()), owned(domains));
        assert_eq!(told(store.event_types().unwrap()), owned(types));
        let tags: Vec<_> = owned(types).into_iter().map(|(name, a, b)| (format!("t:{name}"), a, b)).collect();
        assert_eq!(told(store.tags("").unwrap()), tags);
        assert_eq!(told(store.tags("t:").unwrap()), tags);
        assert_eq!(told(store.tags("u").unwrap()), []);
    };
    let (order, sketch) = (("order", 1, 1), ("sketch", 1, 0));
    check(&[("draft", 0, 2), ("note", 0, 1), order, sketch], &[("Drafted", 1, 2), ("Placed", 1, 1)]);
    // For a type, it depends on the domain whether the deletion has hit an event.
    store.editions().delete("y", Some("draft")).unwrap();
    check(&[("draft", 0, 1), ("note", 0, 1), order, sketch], &[("Drafted", 1, 1), ("Placed", 1, 1)]);
    store.editions().delete("y", None).unwrap();
    store.editions().delete("x", None).unwrap();
    let order = ("order", 1, 0);
    check(&[order, sketch], &[("Drafted", 1, 0), ("Placed", 1, 0)]);
    tagged("note-1@y", "Noted");
    check(&[("note", 0, 1), order, sketch], &[("Drafted", 1, 0), ("Placed", 1, 0)]);
}

/// A copy keeps the id of its event, and is found by it. When the edition with the copy was
/// deleted, the id led to the deleted copy, and not back to the event, whose id is in no index as
/// the store assigned it. Now the newest visible event with an id is found.
#[test]
fn an_event_is_found_by_its_id_when_a_copy_of_it_is_gone() {
    let store = Store::in_memory();
    put(&store, "order-1", "First");
    let position = put(&store, "order-1", "Second");
    let original = store.read_all().from(position).into_iter().next().unwrap().unwrap();
    let copy_to = |name: &str| {
        let copy = original.to_new();
        store.append(&stream(name), Expected::Any, [copy]).unwrap().positions.start
    };
    let found = || store.event(original.id()).unwrap().map(|event| event.position());
    assert_eq!(found(), Some(position));
    let first = copy_to("order-1@x");
    assert_eq!(found(), Some(first));
    let second = copy_to("order-1@y");
    assert_eq!(found(), Some(second));
    store.editions().delete("y", None).unwrap();
    assert_eq!(found(), Some(first));
    store.editions().delete("x", None).unwrap();
    assert_eq!(found(), Some(position));
    let third = copy_to("order-2");
    assert_eq!(found(), Some(third));
    // The same for an id that a writer gave.
    let given = Uuid::from_u128(7);
    let give = |name: &str| {
        let event = NewEvent::new("T", "").id(given);
        store.append(&stream(name), Expected::Any, [event]).unwrap().positions.start
    };
    let older = give("order-3");
    let newer = give("order-3@x");
    assert_eq!(store.event(given).unwrap().unwrap().position(), newer);
    store.editions().delete("x", None).unwrap();
    assert_eq!(store.event(given).unwrap().unwrap().position(), older);
}

/// A query or a guard in an edition built a table of all streams that diverge in it, 14 ms for
/// 10,000 of them, and a guard built it once more under the commit lock. Now the divergence of a
/// stream is looked up when an event of it is met. The test counts reads of files, as all events of
/// the edition are in sealed segments: they do not grow with the number of streams that diverge.
#[test]
fn a_guard_in_an_edition_does_not_pay_for_the_streams_that_diverge_in_it() {
    let reads_with = |diverged: usize| {
        let reads = Arc::new(AtomicU64::new(0));
        let counter = reads.clone();
        let fs = Paced::new(MemFs::new()).progress(move |_| _ = counter.fetch_add(1, Ordering::Relaxed));
        let options = Options::new().file_system(fs).maintenance(false);
        let store = options.segment_size(1 << 20).open("store").unwrap();
        let name = |n: usize| StreamId::new("order", n.to_string()).unwrap();
        let all = |event_type: &'static str, edition: &str, tag: bool| {
            let transaction = (0..diverged).fold(store.transaction(), |transaction, n| {
                let event = NewEvent::new(event_type, "");
                let event = if tag && n % 100 == 7 { event.tag(format!("n:{n}")) } else { event };
                transaction.append(&name(n).in_edition(edition).unwrap(), Expected::Any, [event])
            });
            transaction.commit().unwrap();
        };
        all("Placed", "main", true);
        all("Changed", "what-if", false);
        // Seals the segment: what follows is small, and in memory.
        for _ in 0..2 {
            let event = NewEvent::with_data("Filler", vec![0; 700 << 10]);
            store.append(&stream("filler-1"), Expected::Any, [event]).unwrap();
        }
        assert!(store.stats().unwrap().segments.len() > 1);
        let counted = |work: &dyn Fn()| {
            let before = reads.load(Ordering::Relaxed);
            work();
            reads.load(Ordering::Relaxed) - before
        };
        let tagged = Query::new().edition("what-if").tag("n:7");
        let guarded = counted(&|| {
            let absent = Guard::absent(Query::new().edition("what-if").tag("n:8"));
            // Events before the divergence are visible in the edition; the position of the first
            // event is 7.
            let unchanged = Guard::unchanged(tagged.clone(), 7);
            let transaction = store.transaction().append(&stream("bill-1"), Expected::Any, [NewEvent::new("T", "")]);
            transaction.guard(absent).guard(unchanged).commit().unwrap();
        });
        let asked = counted(&|| assert_eq!(positions(store.query(&tagged)), [7]));
        // One that the edition does not show.
        let late = put(&store, "order-9", "Late");
        let query = Query::new().edition("what-if").event_type("Late");
        let shadowed = counted(&|| assert_eq!(positions(store.query(&query)), [0; 0]));
        assert_eq!(positions(store.query(&Query::new().event_type("Late"))), [late]);
        [guarded, asked, shadowed]
    };
    let (few, many) = (reads_with(100), reads_with(3000));
    for (few, many) in few.into_iter().zip(many) {
        assert!(few > 0 && many <= few + 8, "{few} reads with 100 streams, {many} with 3,000");
    }
}

/// A search that meets more streams than the edition has events looks up all divergences at once:
/// it returns the same, and does not look each stream up.
#[test]
fn a_search_over_many_streams_sees_each_divergence() {
    let store = Store::in_memory();
    let name = |n: u64| StreamId::new("order", n.to_string()).unwrap();
    for round in 0..2 {
        for n in 0..50 {
            store.append(&name(n), Expected::Any, [NewEvent::new(format!("Round{round}"), "")]).unwrap();
        }
    }
    let what_if = |n: u64| name(n).in_edition("what-if").unwrap();
    store.append(&what_if(3), Expected::Next(1), [NewEvent::new("If", "")]).unwrap();
    store.append(&what_if(40), Expected::NoStream, [NewEvent::new("If", "")]).unwrap();
    let diverged = store.len() - 1;
    let expected = |hidden: &[u64]| (0..102).filter(|n| !hidden.contains(n)).collect::<Vec<u64>>();
    let query = Query::new().edition("what-if");
    assert_eq!(positions(store.query(&query)), expected(&[40, 53, 90]));
    assert_eq!(
        positions(store.query(&query).backwards()).into_iter().rev().collect::<Vec<_>>(),
        expected(&[40, 53, 90])
    );
    // As it was before the second one.
    assert_eq!(positions(store.query(&query).as_of(diverged - 1)), expected(&[53, 101]));
    // A search that has begun sees neither later events nor later deletions: it begins with one
    // event, and the others follow after everything has changed.
    let mut found = store.query(&query).into_iter();
    let first = found.next().unwrap().unwrap().position();
    store.append(&what_if(20), Expected::NoStream, [NewEvent::new("If", "")]).unwrap();
    store.editions().delete("what-if", None).unwrap();
    store.append(&what_if(21), Expected::NoStream, [NewEvent::new("If", "")]).unwrap();
    let rest: Vec<u64> = found.map(|event| event.unwrap().position()).collect();
    assert_eq!([vec![first], rest].concat(), expected(&[40, 53, 90]));
    let now = positions(store.query(&query));
    assert!(!now.contains(&21) && !now.contains(&71) && now.contains(&40) && now.contains(&20), "{now:?}");
}

/// `NewEvent::tags` compared each tag with all before it: 40,000 took 2.4 s, before the append
/// refused the event for having so many. With a set it takes almost no time; with the fault
/// planted, this test does not end.
#[test]
fn many_tags_are_no_work() {
    let names = || (0..400_000).map(|n| format!("n:{}", n % 300_000));
    let store = Store::in_memory();
    let refused = store.append(&stream("order-1"), Expected::Any, [NewEvent::new("T", "").tags(names())]);
    assert!(matches!(refused, Err(Error::LimitExceeded { size: 300_000, limit: 1024, .. })), "{refused:?}");
    let one_by_one = names().fold(NewEvent::new("T", ""), NewEvent::tag);
    let refused = store.append(&stream("order-1"), Expected::Any, [one_by_one]);
    assert!(matches!(refused, Err(Error::LimitExceeded { limit: 1024, .. })), "{refused:?}");
    // Each once, in the order in which they came.
    for count in [1, 15, 16, 17, 100, 1024] {
        let twice = (0..count).chain((0..count).rev()).map(|n| format!("n:{n}"));
        let event = NewEvent::new("T", "").tag("first").tags(twice.take(2 * count - 1)).tags(["first", "n:0"]);
        let name = StreamId::new("order", count.to_string()).unwrap();
        let stored = store.append(&name, Expected::Any, [event]);
        if count == 1024 {
            assert!(matches!(stored, Err(Error::LimitExceeded { size: 1025, .. })));
            continue;
        }
        let event = store.read(&name).into_iter().next().unwrap().unwrap();
        let expected = std::iter::once("first".to_owned()).chain((0..count).map(|n| format!("n:{n}")));
        assert!(event.tags().eq(expected), "{count}");
    }
}

/// Messages did not say what they are about: `domain: 256 is over the limit of 255`,
/// `positions 3 to 3`. A name that is too long was documented as `Invalid` and refused as
/// `LimitExceeded`: now everything that is only too long or too large is the latter.
#[test]
fn messages_say_what_they_speak_of() {
    let long = "n".repeat(256);
    let store = Store::in_memory();
    let order = stream("order-1");
    let new = |event_type: &'static str| NewEvent::new(event_type, "");
    let append = |event: NewEvent<'_>| store.append(&order, Expected::Any, [event]).map(drop);
    let tags = (0..1025).map(|n| n.to_string());
    let refused = [
        (StreamId::new(&long, "").map(drop), "256 bytes in the name of a domain are over the limit of 255"),
        (order.in_edition(&long).map(drop), "256 bytes in the name of an edition are over the limit of 255"),
        (
            StreamId::new("a", "r".repeat(4097)).map(drop),
            "4097 bytes in the root of a stream are over the limit of 4096",
        ),
        (append(NewEvent::new(long.clone(), "")), "256 bytes in an event type are over the limit of 255"),
        (append(new("T").tag("t".repeat(1025))), "1025 bytes in a tag are over the limit of 1024"),
        (
            append(new("T").correlation_id("c".repeat(1025))),
            "1025 bytes in a correlation id are over the limit of 1024",
        ),
        (append(new("T").tags(tags)), "1025 tags of an event are over the limit of 1024"),
        (store.checkpoints().get(&long).map(drop), "256 bytes in the name of a checkpoint are over the limit of 255"),
        (
            store.positions().get(&long, &order).map(drop),
            "256 bytes in the name of a handler are over the limit of 255",
        ),
        (
            store.consumer(&long).until_caught_up().run(|_: &Event| ()).map(drop),
            "256 bytes in the name of a consumer are over the limit of 255",
        ),
        (
            store.transaction().tracking(&long, 1).commit().map(drop),
            "256 bytes in the name of an upstream are over the limit of 255",
        ),
    ];
    for (refused, message) in refused {
        let error = refused.unwrap_err();
        assert!(matches!(error, Error::LimitExceeded { .. }), "{error:?}");
        assert_eq!(error.to_string(), message);
    }
    assert!(matches!(StreamId::new("", "1"), Err(Error::Invalid { .. })));
    assert!(matches!(format!("order-1@{long}").parse::<StreamId>(), Err(Error::LimitExceeded { .. })));
}

/// `Store::open("")` opened a store in the working directory, and a path that is a file returned
/// `create …: File exists`.
#[test]
fn a_path_that_cannot_be_a_store_is_refused_by_name() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("notes.txt");
    std::fs::write(&file, "mine").unwrap();
    let below = file.join("store");
    let empty = |error: Error| {
        assert!(matches!(error, Error::Invalid { what: "path", .. }), "{error:?}");
        assert_eq!(error.to_string(), "invalid path: it is empty");
    };
    empty(Store::open("").unwrap_err());
    empty(Options::new().open_read_only("").unwrap_err());
    empty(Options::new().create(false).open("").unwrap_err());
    assert!(!std::path::Path::new("LOCK").exists());
    for path in [&file, &below] {
        let told = |error: Error| {
            let expected = format!("{}: a store is a directory, and this is not one", path.display());
            assert!(matches!(error, Error::Io { .. }) && error.to_string().ends_with(&expected), "{error}");
        };
        told(Store::open(path).unwrap_err());
        told(Options::new().open_read_only(path).unwrap_err());
        told(Options::new().create(false).open(path).unwrap_err());
        told(annals::offline::verify(path).unwrap_err());
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");
    assert!(
        matches!(annals::offline::verify("").map(drop), Err(error) if error.to_string() == "an empty path is not a \
            store")
    );
}

/// A sleeping consumer is not woken by events that are not for it, so its checkpoint stayed at its
/// last event: one that had caught up was shown as behind by everything that came since, including
/// events of other domains and editions and records that no reader sees. Now it advances over what
/// is not for it when it ends, and only events that a reader sees are counted.
#[test]
fn a_consumer_that_has_caught_up_is_not_behind() {
    let fs = MemFs::new();
    let store = Options::new().file_system(fs).maintenance(false).segment_size(4096).open("store").unwrap();
    put(&store, "order-1", "T");
    let running = store.consumer("mailer").query(Query::new().domain("order"));
    let control = running.control();
    let behind = || store.consumers().unwrap()[0].behind;
    let handle = running.spawn(|_: &Event| ()).unwrap();
    while control.position().unwrap().is_none() {
        std::thread::yield_now();
    }
    for n in 0..200 {
        put(&store, ["bill-1", "order-1@x"][n % 2], "T");
    }
    assert_eq!(control.lag().unwrap().positions, 0);
    store.editions().delete("x", None).unwrap();
    control.stop();
    let status = handle.join().unwrap();
    assert_eq!((status.handled, status.position), (1, store.head()));
    assert_eq!((behind(), control.lag().unwrap().positions), (0, 0));
    // It has not reached later events that are visible.
    for n in 0..100 {
        put(&store, ["bill-1", "order-1@x"][n % 2], "T");
        assert_eq!(behind(), n as u64 + 1);
    }
    store.editions().delete("x", None).unwrap();
    assert_eq!(behind(), 50);
    store.transaction().tracking("inbox", 7).commit().unwrap();
    assert_eq!((behind(), control.lag().unwrap().positions), (50, 0));
    // An event that is for it stops the advance.
    let position = put(&store, "order-1", "T");
    put(&store, "bill-1", "T");
    let refusing =
        store.consumer("mailer").query(Query::new().domain("order")).on_poison(annals::consumer::Poison::Stop);
    refusing.retry(annals::consumer::Retry::new().attempts(1)).run(|_: &Event| Err::<(), _>("no")).unwrap_err();
    assert_eq!(control.position().unwrap(), Some(position - 1));
    assert_eq!(behind(), 2);
}
