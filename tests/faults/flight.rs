//! Answers that depend on commits in flight, and combined limits.

use annals::offline::verify_in;
use annals::{ContentType, Error, Expected, Guard, NewEvent, Options, Query, Store, StreamId, Ticket};
use annals_testkit::held::{Call, HeldFs};
use annals_testkit::{Fault, Operation, SimFs};
use proptest::prelude::*;
use std::io::ErrorKind;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

/// The longest root of a stream.
const MAX_ROOT: usize = 4096;

fn options(disk: &SimFs) -> Options {
    Options::new().file_system(disk.clone()).maintenance(false).segment_size(64 << 10).reserve(0)
}

fn stream(root: &str) -> StreamId {
    StreamId::new("order", root).unwrap()
}

fn event(text: &str) -> NewEvent<'_> {
    NewEvent::new("Said", text)
}

/// A commit that is not written before a thread waits.
fn in_flight(store: &Store, root: &str) -> Ticket {
    store.transaction().append(&stream(root), Expected::Any, [event("first").tag("name:ann")]).submit().unwrap()
}

fn next_write_fails(disk: &SimFs) {
    disk.fail(Fault { operation: Operation::Write, after: 0, times: 1, kind: ErrorKind::StorageFull });
}

/// An append that lost a race got `Conflict { actual: 1 }` while a read still showed nothing, for
/// the time of the winner's sync: a retry as documented, read and decide again, spun thousands of
/// times. Now the answer comes when its cause can be read.
#[test]
fn what_a_refusal_rests_on_can_be_read() {
    type Attempt = fn(&Store) -> Result<annals::Committed, Error>;
    let attempts: [(&str, Attempt); 5] = [
        ("a conflict", |store| store.transaction().append(&stream("1"), Expected::NoStream, [event("late")]).commit()),
        ("a condition", |store| store.transaction().append(&stream("1"), Expected::NoStream, []).commit()),
        ("a guard", |store| {
            let guard = Guard::absent(Query::new().tag("name:ann"));
            store.transaction().append(&stream("2"), Expected::Any, [event("guarded")]).guard(guard).commit()
        }),
        ("a guard alone", |store| store.transaction().guard(Guard::absent(Query::new().tag("name:ann"))).commit()),
        ("a part of several", |store| {
            let both = store.transaction().append(&stream("2"), Expected::Any, [event("a")]);
            both.append(&stream("1"), Expected::NoStream, [event("b")]).commit()
        }),
    ];
    for (name, attempt) in attempts {
        let disk = SimFs::new();
        let store = options(&disk).open("store").unwrap();
        let first = in_flight(&store, "1");
        assert_eq!(store.len(), 0, "nobody has written it");
        let refused = attempt(&store);
        let told = matches!(refused, Err(Error::Conflict { actual: 1, .. } | Error::GuardFailed { position: 0, .. }));
        assert!(told, "{name}: {refused:?}");
        assert_eq!(store.read(&stream("1")).into_iter().count(), 1, "{name}: what caused it can be read");
        first.wait().unwrap();
        // The cause of a refusal has failed: it is no longer a cause.
        let disk = SimFs::new();
        let store = options(&disk).open("store").unwrap();
        let first = in_flight(&store, "1");
        next_write_fails(&disk);
        let gone = attempt(&store);
        assert!(first.wait().is_err());
        assert!(gone.is_ok(), "{name}: {gone:?}");
    }
}

/// While a message was submitted and not yet durable, a second delivery of it got `AlreadyTracked`,
/// which means "was processed before, continue"; then the disk was full, and the message was lost.
#[test]
fn a_message_is_tracked_when_it_is_durable() {
    for with_event in [true, false] {
        let disk = SimFs::new();
        let store = options(&disk).open("store").unwrap();
        let intake = |message| {
            let transaction = store.transaction().tracking("inbox", message);
            match with_event {
                true => transaction.append(&stream("1"), Expected::Any, [event("billed")]).submit(),
                false => transaction.submit(),
            }
        };
        let first = intake(991).unwrap();
        next_write_fails(&disk);
        let second = intake(991).unwrap();
        assert!(first.wait().is_err());
        second.wait().unwrap();
        assert_eq!(store.tracked("inbox").unwrap(), Some(991));
        // If the first one succeeds, it is visible when the second gets its answer.
        let third = intake(992).unwrap();
        assert!(matches!(intake(992).map(drop), Err(Error::AlreadyTracked { tracked: 992, .. })));
        assert_eq!(store.tracked("inbox").unwrap(), Some(992));
        third.wait().unwrap();
    }
}

/// An edition is being deleted, and the deletion fails: an append that found no stream there
/// follows the present state.
#[test]
fn a_deletion_in_flight_is_no_fact_yet() {
    let disk = SimFs::new();
    let store = options(&disk).open("store").unwrap();
    let dream: StreamId = "order-1@dream".parse().unwrap();
    store.append(&stream("1"), Expected::Any, [event("a")]).unwrap();
    store.append(&dream, Expected::Any, [event("b")]).unwrap();
    disk.fail(Fault { operation: Operation::Sync, after: 0, times: 1, kind: ErrorKind::Other });
    // Its sync fails; the store accepts no more commits, and returns that error instead of a
    // conflict.
    assert!(store.editions().delete("dream", None).is_err());
    let refused = store.append(&dream, Expected::Next(9), [event("c")]);
    assert!(matches!(refused, Err(Error::DurabilityUnknown { .. })), "{refused:?}");
    assert_eq!(store.read(&dream).into_iter().count(), 2);
}

/// What a reader can find out about a store.
fn shown(store: &Store) -> String {
    let positions = |events: annals::Events| events.map(|event| event.unwrap().position()).collect::<Vec<_>>();
    let streams = ["order-1@dream", "order-9@dream", "bill-1@dream", "order-1"].map(|name| name.parse().unwrap());
    let of_stream = |id: &StreamId| {
        let read = positions(store.read(id).into_iter());
        let backwards = positions(store.read(id).backwards().into_iter());
        let snapshot = store.snapshots().latest(id).unwrap().map(|snapshot| snapshot.sequence());
        let position = store.positions().get("handler", id).unwrap();
        format!("{id}: {read:?} {backwards:?} {:?} {snapshot:?} {position:?}", store.stream(id).unwrap())
    };
    let dream = || Query::new().edition("dream");
    let of_query = |query: Query| {
        let (found, head) = store.query(&query).collect_with_head().unwrap();
        format!("{:?} {head:?}", found.iter().map(annals::Event::position).collect::<Vec<_>>())
    };
    let found = [dream(), dream().event_type("Own"), dream().event_type("Late"), dream().domain("order"), Query::new()];
    let stats = store.stats().unwrap();
    let by_id: Vec<bool> = store
        .read_all()
        .into_iter()
        .map(|event| {
            let id = event.unwrap().id();
            store.event(id).unwrap().is_some()
        })
        .collect();
    format!(
        "{:#?} {:#?} {:?} {:?} {:?} {:?} {:?} {by_id:?} {:?}",
        streams.each_ref().map(of_stream),
        found.map(of_query),
        positions(store.read_all().into_iter()),
        ["", "order-1@dream", "order-9@dream"].map(|prefix| store.streams(prefix).unwrap()),
        store.editions().list().unwrap(),
        (store.domains().unwrap(), store.event_types().unwrap()),
        (stats.events, stats.deleted_events, stats.system_records, stats.streams),
        (store.len(), store.positions().list("handler").unwrap()),
    )
}

/// A store with an edition that shares a stream with the main one up to where it diverges, and has
/// two of its own.
fn with_an_edition(options: &Options) -> Store {
    let store = options.clone().open("store").unwrap();
    let append = |name: &str, expected, event_types: &[&'static str]| {
        let events = event_types.iter().map(|event_type| NewEvent::new(*event_type, ""));
        store.append(&name.parse().unwrap(), expected, events).unwrap();
    };
    append("order-1", Expected::Any, &["Shared", "Shared"]);
    append("order-1@dream", Expected::Next(2), &["Own", "Own"]);
    append("order-1", Expected::Any, &["Late"]);
    append("order-9@dream", Expected::NoStream, &["Own"]);
    append("bill-1@dream", Expected::NoStream, &["Own"]);
    let dream = "order-1@dream".parse().unwrap();
    store.snapshots().put(&dream, 3, "state").unwrap();
    store.positions().put("handler", &dream, 3).unwrap();
    store
}

/// The outcome of a commit that a thread holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Ends {
    Arrives,
    /// It cannot be written, and is withdrawn.
    Withdrawn,
    /// Its sync fails: the outcome is unknown.
    Unknown,
}

/// While a deletion waits for the disk, readers see everything that it will delete, and a decision
/// waits until it is durable: then the answer is that of a store in which it was done, or of one in
/// which it never was.
#[test]
fn nothing_rests_on_a_deletion_that_waits_for_its_disk() {
    type Attempt = fn(&Store) -> Result<(), Error>;
    fn append(store: &Store, name: &str, expected: Expected, events: &[&'static str]) -> Result<(), Error> {
        let events = events.iter().map(|event_type| NewEvent::new(*event_type, ""));
        store.append(&name.parse().unwrap(), expected, events).map(drop)
    }
    fn no_late_event(store: &Store) -> annals::Transaction {
        store.transaction().guard(Guard::absent(Query::new().edition("dream").event_type("Late")))
    }
    // What is attempted, and whether it succeeds with the deletion, and without it.
    let attempts: [(&str, Attempt, bool, bool); 9] = [
        ("after its own events", |store| append(store, "order-1@dream", Expected::Next(4), &["New"]), false, true),
        ("a condition on them", |store| append(store, "order-1@dream", Expected::Next(4), &[]), false, true),
        ("a stream that exists", |store| append(store, "order-9@dream", Expected::Exists, &["New"]), false, true),
        (
            "after those of the main one",
            |store| append(store, "order-1@dream", Expected::Next(3), &["New"]),
            true,
            false,
        ),
        ("a stream begun again", |store| append(store, "order-9@dream", Expected::NoStream, &["New"]), true, false),
        (
            "a condition that there is none",
            |store| append(store, "order-9@dream", Expected::NoStream, &[]),
            true,
            false,
        ),
        (
            "a guard",
            |store| {
                let new = [NewEvent::new("New", "")];
                no_late_event(store).append(&stream("2"), Expected::Any, new).commit().map(drop)
            },
            false,
            true,
        ),
        ("a guard alone", |store| no_late_event(store).commit().map(drop), false, true),
        (
            "another deletion",
            |store| store.editions().delete("dream", Some("order")).map(|count| assert!(count == 0 || count == 3)),
            true,
            true,
        ),
    ];
    for (name, attempt, done_after, done_without) in attempts {
        for (domain, ends) in [None, Some("order")]
            .into_iter()
            .flat_map(|domain| [Ends::Arrives, Ends::Withdrawn, Ends::Unknown].map(|ends| (domain, ends)))
        {
            let context = format!("{name}, {domain:?}, {ends:?}");
            let disk = SimFs::new();
            let fs = HeldFs::over(disk.clone());
            let options = options(&disk).file_system(fs.clone());
            let store = with_an_edition(&options);
            let before = shown(&store);
            std::thread::scope(|scope| {
                // In here, so that a test that fails releases the thread.
                let hold = fs.hold(if ends == Ends::Withdrawn { Call::Write } else { Call::Sync }, ".seg");
                let deletes = scope.spawn(|| store.editions().delete("dream", domain));
                hold.arrived();
                assert_eq!(shown(&store), before, "{context}");
                let guarded = store.transaction().guard(Guard::absent(Query::new().edition("dream").event_type("Own")));
                assert!(matches!(guarded.commit(), Err(Error::GuardFailed { position: 2, .. })), "{context}");
                let (tell, told) = mpsc::channel();
                let at = &store;
                let attempts = scope.spawn(move || tell.send(attempt(at)).unwrap());
                let early = told.recv_timeout(Duration::from_millis(30));
                assert!(early.is_err(), "{context}: told {early:?} before it is a record");
                assert_eq!(shown(&store), before, "{context}");
                let fails = |operation, kind| disk.fail(Fault { operation, after: 0, times: 1, kind });
                match ends {
                    Ends::Arrives => {}
                    Ends::Withdrawn => fails(Operation::Write, ErrorKind::StorageFull),
                    Ends::Unknown => fails(Operation::Sync, ErrorKind::Other),
                }
                hold.go();
                let deleted = deletes.join().unwrap();
                let outcome = told.recv_timeout(Duration::from_secs(20)).expect("it comes to an end");
                attempts.join().unwrap();
                match ends {
                    Ends::Arrives => assert_eq!(deleted.unwrap(), if domain.is_some() { 3 } else { 4 }, "{context}"),
                    Ends::Withdrawn | Ends::Unknown => assert!(deleted.is_err(), "{context}"),
                }
                match (&outcome, ends) {
                    (Err(Error::DurabilityUnknown { .. }), Ends::Unknown) => {}
                    (Ok(()), Ends::Arrives) => assert!(done_after, "{context}"),
                    (Ok(()), Ends::Withdrawn) => assert!(done_without, "{context}"),
                    (Err(Error::Conflict { .. } | Error::GuardFailed { .. }), Ends::Arrives) => {
                        assert!(!done_after, "{context}: {outcome:?}");
                    }
                    // Commits accepted after the deletion fail with it.
                    (Err(Error::Conflict { .. } | Error::Io { .. }), Ends::Withdrawn) => {
                        assert!(!done_without, "{context}: {outcome:?}");
                    }
                    _ => panic!("{context}: {outcome:?}"),
                }
                let refused_or_nothing = outcome.is_err() || name.starts_with("a condition");
                match ends {
                    Ends::Arrives => assert_ne!(shown(&store), before, "{context}"),
                    _ if refused_or_nothing => assert_eq!(shown(&store), before, "{context}"),
                    _ => {}
                }
            });
            if ends != Ends::Unknown {
                let now = shown(&store);
                store.close().unwrap();
                assert_eq!(
                    shown(&options.clone().open("store").unwrap()),
                    now,
                    "{context}: what is shown is what is there"
                );
            }
        }
    }
}

/// Two writers that retry as documented: each conflict stands for a readable commit of the other,
/// so there are at most as many conflicts as commits. Once, 200 appends took 7,496 tries.
#[test]
fn a_retry_always_has_something_new_to_read() {
    const EACH: u64 = 100;
    let disk = SimFs::new();
    let store = options(&disk).open("store").unwrap();
    let conflicts = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..EACH {
                    loop {
                        let next = store.stream(&stream("1")).unwrap().map_or(0, |info| info.next_sequence);
                        match store.append(&stream("1"), Expected::Next(next), [event("x")]) {
                            Ok(_) => break,
                            Err(Error::Conflict { actual, .. }) => {
                                let seen = store.stream(&stream("1")).unwrap().unwrap().next_sequence;
                                assert!(seen >= actual && actual > next, "{seen} {actual} {next}");
                                conflicts.fetch_add(1, Ordering::Relaxed);
                            }
                            Err(error) => panic!("{error}"),
                        }
                    }
                }
            });
        }
    });
    assert_eq!(store.len(), 2 * EACH);
    assert!(conflicts.into_inner() <= 2 * EACH);
}

/// `tracking("a", 1)` with a key, then `tracking("b", 1)` with the same key: the second was called
/// a duplicate, and not stored. Both are in the one stream that the store keeps for such commits,
/// so the key counted there for all upstreams.
#[test]
fn keys_of_commits_that_only_track_belong_to_their_upstream() {
    let disk = SimFs::new();
    let store = options(&disk).open("store").unwrap();
    let track = |store: &Store, upstream: &str, position| {
        store.transaction().tracking(upstream, position).idempotency_key("k").commit()
    };
    assert!(!track(&store, "a", 1).unwrap().duplicate);
    assert!(!track(&store, "b", 1).unwrap().duplicate);
    let check = |store: &Store| {
        assert!(track(store, "a", 1).unwrap().duplicate && track(store, "b", 1).unwrap().duplicate);
        assert_eq!((store.tracked("a").unwrap(), store.tracked("b").unwrap()), (Some(1), Some(1)));
        assert!(matches!(track(store, "a", 2), Err(Error::IdempotencyMismatch { .. })), "another message");
    };
    check(&store);
    store.close().unwrap();
    check(&options(&disk).open("store").unwrap());
    // Also if the two are in flight together.
    let tickets = ["c", "d"].map(|of| store_track(&options(&SimFs::new()).open("store").unwrap(), of));
    assert!(tickets.into_iter().all(|committed| !committed.duplicate));
}

fn store_track(store: &Store, upstream: &str) -> annals::Committed {
    let other = store.transaction().tracking("other", 1).idempotency_key("k").submit().unwrap();
    let committed = store.transaction().tracking(upstream, 1).idempotency_key("k").commit().unwrap();
    other.wait().unwrap();
    committed
}

/// A key that was used again for another payment was a duplicate, silently.
#[test]
fn a_key_stands_for_one_content() {
    let disk = SimFs::new();
    let store = options(&disk).open("store").unwrap();
    let pay = |event: NewEvent<'_>| {
        store.transaction().append(&stream("1"), Expected::Any, [event]).idempotency_key("k").commit()
    };
    let paid = || NewEvent::new("Paid", "9 EUR").tag("customer:7").content_type(ContentType::Text).schema_version(2);
    let first = pay(paid()).unwrap();
    let same = [
        paid(),
        paid().metadata(&b"attempt 2"[..]).correlation_id("c").causation_id("d"),
        paid().id(annals::Uuid::from_u128(5)).occurred_at(annals::Timestamp::from_nanos(5)),
    ];
    for event in same {
        let again = pay(event).unwrap();
        assert!(again.duplicate && again.positions == first.positions);
    }
    let others = [
        NewEvent::new("Paid", "90 EUR").tag("customer:7").content_type(ContentType::Text).schema_version(2),
        NewEvent::new("PAID", "9 EUR").tag("customer:7").content_type(ContentType::Text).schema_version(2),
        paid().tag("customer:8"),
        paid().content_type(ContentType::Json),
        paid().schema_version(3),
    ];
    for event in others {
        let refused = pay(event);
        let told = matches!(&refused, Err(Error::IdempotencyMismatch { key, positions }) if key == "k" && *positions == (0..1));
        assert!(told, "{refused:?}");
    }
    let two = store.transaction().append(&stream("1"), Expected::Any, [paid()]);
    let two = two.append(&stream("2"), Expected::Any, [paid()]).idempotency_key("k").commit();
    assert!(matches!(two, Err(Error::IdempotencyMismatch { .. })), "{two:?}");
    let tracked = store.transaction().append(&stream("1"), Expected::Any, [paid()]).tracking("inbox", 1);
    assert!(matches!(tracked.idempotency_key("k").commit(), Err(Error::IdempotencyMismatch { .. })));
    assert_eq!(store.len(), 1);
    // A large commit, whose attributes are verified without the rest of it, after a reopen.
    let large = |fill: u8| {
        let events = (0..40).map(|_| NewEvent::with_data("Big", vec![fill; 3_000]));
        store.transaction().append(&stream("3"), Expected::Any, events).idempotency_key("large").commit()
    };
    large(1).unwrap();
    assert!(large(1).unwrap().duplicate);
    assert!(matches!(large(2), Err(Error::IdempotencyMismatch { .. })));
    store.close().unwrap();
    let store = options(&disk).open("store").unwrap();
    let again = store.transaction().append(&stream("1"), Expected::Any, [paid()]).idempotency_key("k").commit();
    assert!(again.unwrap().duplicate);
}

/// An append without events and with a wrong expectation succeeded.
#[test]
fn a_transaction_without_events_checks_its_conditions() {
    let store = Store::in_memory();
    store.append(&stream("1"), Expected::Any, [event("a")]).unwrap();
    assert!(matches!(store.append(&stream("1"), Expected::Next(7), []), Err(Error::Conflict { actual: 1, .. })));
    assert!(matches!(store.append(&stream("2"), Expected::Exists, []), Err(Error::Conflict { actual: 0, .. })));
    assert_eq!(store.append(&stream("1"), Expected::Next(1), []).unwrap().sequences, 1..1);
    let said = Guard::absent(Query::new().event_type("Said"));
    assert!(matches!(store.transaction().guard(said).commit(), Err(Error::GuardFailed { position: 0, .. })));
    assert!(store.transaction().guard(Guard::absent(Query::new().event_type("Never"))).commit().is_ok());
    assert_eq!(store.len(), 1);
}

/// The attributes of a commit were not counted in its limit: one within a few bytes of the longest
/// body, with an idempotency key, was acknowledged and could not be read again.
#[test]
fn attributes_count_towards_the_limit_of_a_commit() {
    const MOST: usize = 4096;
    let disk = SimFs::new();
    let store = options(&disk).max_commit_bytes(MOST).open("store").unwrap();
    let commit = |len: usize, key: &str| {
        let event = NewEvent::with_data("T", vec![7; len]);
        store.transaction().append(&stream("1"), Expected::Any, [event]).idempotency_key(key).commit()
    };
    // The largest that fits without a key.
    let most = (1..MOST).rev().find(|&len| commit(len, "").is_ok()).unwrap();
    let refused = commit(most, "key");
    assert!(matches!(refused, Err(Error::LimitExceeded { limit: MOST, .. })), "{refused:?}");
    let tracked = store.transaction().append(&stream("1"), Expected::Any, [NewEvent::with_data("T", vec![7; most])]);
    assert!(matches!(tracked.tracking("inbox", 1).commit(), Err(Error::LimitExceeded { .. })));
    assert!(commit(most - 64, "key").is_ok());
}

/// Nine million small numbers as bincode were stored, and `decode` refused them forever: the memory
/// that decoding may allocate did not depend on their number. And JSON that nests deeper than the
/// parser goes was stored, too.
#[test]
fn what_is_encoded_can_be_decoded() {
    let store = Store::in_memory();
    let numbers = vec![1u64; 9_000_000];
    store.append(&stream("1"), Expected::Any, [NewEvent::bincode("Numbers", &numbers).unwrap()]).unwrap();
    let wide = vec![1u128; 5_000_000];
    store.append(&stream("1"), Expected::Any, [NewEvent::bincode("Wide", &wide).unwrap()]).unwrap();
    let events: Vec<_> = store.read(&stream("1")).into_iter().map(Result::unwrap).collect();
    assert!(events[0].decode::<Vec<u64>>().unwrap() == numbers);
    assert!(events[1].decode::<Vec<u128>>().unwrap() == wide);

    let nested = |depth| (0..depth).fold(serde_json::Value::Null, |inner, _| serde_json::json!([inner]));
    let most = nested(127);
    store.append(&stream("2"), Expected::Any, [NewEvent::json("Nested", &most).unwrap()]).unwrap();
    let event = store.read(&stream("2")).into_iter().next().unwrap().unwrap();
    assert_eq!(event.decode::<serde_json::Value>().unwrap(), most);
    let refused = NewEvent::json("Nested", &nested(128)).map(drop);
    assert!(matches!(refused, Err(Error::Codec { codec: "json", .. })), "{refused:?}");
    // A length beyond the data is not trusted.
    let lie = NewEvent::with_data("Lie", vec![253, 255, 255, 255, 255, 255, 255, 255, 127]);
    store.append(&stream("3"), Expected::Any, [lie.content_type(ContentType::Bincode)]).unwrap();
    let event = store.read(&stream("3")).into_iter().next().unwrap().unwrap();
    assert!(matches!(event.decode::<Vec<u8>>(), Err(Error::Codec { .. })));
}

/// A name of a length at the edge of the limit, or over it.
fn name(most: usize) -> impl Strategy<Value = String> {
    prop_oneof![Just(1), Just(most / 2), Just(most - 1), Just(most), Just(most + 1)].prop_map(|len| "n".repeat(len))
}

#[derive(Clone, Debug)]
struct Commit {
    domain: String,
    root: usize,
    edition: Option<String>,
    event_type: String,
    tags: Vec<String>,
    correlation: String,
    causation: String,
    content: Option<String>,
    data: usize,
    metadata: usize,
    events: usize,
    key: String,
    upstream: Option<String>,
}

fn commit() -> impl Strategy<Value = Commit> {
    let names =
        (name(255), prop_oneof![Just(0), Just(1), Just(MAX_ROOT), Just(MAX_ROOT + 1)], prop::option::of(name(255)));
    let labels =
        (name(255), prop::collection::vec(name(1024), 0..4), name(1024), name(1024), prop::option::of(name(255)));
    let sizes =
        (prop_oneof![Just(0usize), 0..200usize, 7_900..8_300usize, 15_000..17_000usize], 0..100usize, 1..4usize);
    let attributes = (prop_oneof![Just(String::new()), name(1024)], prop::option::of(name(255)));
    (names, labels, sizes, attributes).prop_map(|(names, labels, sizes, attributes)| Commit {
        domain: names.0,
        root: names.1,
        edition: names.2,
        event_type: labels.0,
        // Tags that differ from each other.
        tags: labels.1.into_iter().enumerate().map(|(n, tag)| format!("{}{n}", &tag[1..])).collect(),
        correlation: labels.2,
        causation: labels.3,
        content: labels.4,
        data: sizes.0,
        metadata: sizes.1,
        events: sizes.2,
        key: attributes.0,
        upstream: attributes.1,
    })
}

impl Commit {
    fn stream(&self) -> Result<StreamId, Error> {
        let id = StreamId::new(&*self.domain, "r".repeat(self.root))?;
        self.edition.as_ref().map_or(Ok(id.clone()), |edition| id.in_edition(edition))
    }

    fn event(&self) -> NewEvent<'static> {
        let event = NewEvent::with_data(self.event_type.clone(), vec![7; self.data])
            .metadata(vec![8; self.metadata])
            .tags(self.tags.clone())
            .correlation_id(self.correlation.clone())
            .causation_id(self.causation.clone());
        match &self.content {
            Some(name) => event.content_type(ContentType::Named(name.clone())),
            None => event,
        }
    }

    fn store(&self, store: &Store, n: u64) -> Result<annals::Committed, Error> {
        let events = (0..self.events).map(|_| self.event());
        let transaction = store.transaction().append(&self.stream()?, Expected::Any, events);
        let transaction = transaction.idempotency_key(self.key.clone());
        match &self.upstream {
            Some(upstream) => transaction.tracking(upstream.clone(), n),
            None => transaction,
        }
        .commit()
    }

    /// Finds the commit by everything that it can be found by.
    fn is_found(&self, store: &Store, committed: &annals::Committed, n: u64) {
        let id = self.stream().unwrap();
        let sequences = committed.appends[0].sequences.clone();
        let read: Vec<_> = store.read(&id).from(sequences.start).to(sequences.end).into_iter().collect();
        assert_eq!(read.len(), self.events);
        for event in read {
            let event = event.unwrap();
            assert_eq!((event.data().len(), event.metadata().len()), (self.data, self.metadata));
            assert_eq!(event.tags().collect::<Vec<_>>(), self.tags);
            assert_eq!(store.event(event.id()).unwrap().unwrap().position(), event.position());
            let edition = |query: Query| match &self.edition {
                Some(edition) => query.edition(edition),
                None => query,
            };
            let queries = [
                Query::new().event_type(&*self.event_type),
                Query::new().domain(&*self.domain),
                Query::new().correlation(&*self.correlation),
            ];
            let tags = self.tags.iter().map(|tag| Query::new().tag(&**tag));
            for query in queries.into_iter().chain(tags).map(edition) {
                let found = store.query(&query).into_iter().any(|found| found.unwrap().position() == event.position());
                assert!(found, "{query:?}");
            }
        }
        if let Some(upstream) = &self.upstream {
            assert!(store.tracked(upstream).unwrap() >= Some(n));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    /// Everything that is accepted can be read, found and opened again: all limits combined, each
    /// at its edge, inside and outside.
    #[test]
    fn whatever_is_accepted_can_be_read(
        commits in prop::collection::vec(commit(), 1..6),
        most in prop_oneof![Just(1_024usize), Just(8_192), Just(16_384), Just(1 << 20)],
        event in prop_oneof![Just(1_024usize), Just(9_000), Just(1 << 20)],
        segment in prop_oneof![Just(4_096u64), Just(1 << 16)],
    ) {
        let disk = SimFs::new();
        let options = || options(&disk).max_commit_bytes(most).max_event_bytes(event).segment_size(segment);
        let Ok(store) = options().open("store") else { return Ok(()) };
        let mut accepted = Vec::new();
        for (n, commit) in (1..).zip(&commits) {
            match commit.store(&store, n) {
                Ok(committed) if !committed.duplicate => accepted.push((commit, committed, n)),
                Ok(_) => {}
                Err(Error::LimitExceeded { .. } | Error::Invalid { .. } | Error::IdempotencyMismatch { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        accepted.iter().for_each(|(commit, committed, n)| commit.is_found(&store, committed, *n));
        store.close().unwrap();
        let store = options().open("store").unwrap();
        accepted.iter().for_each(|(commit, committed, n)| commit.is_found(&store, committed, *n));
        for (commit, committed, n) in &accepted {
            if !commit.key.is_empty() && commit.upstream.is_none() {
                let again = commit.store(&store, *n).unwrap();
                prop_assert!(again.duplicate && again.positions == committed.positions);
            }
        }
        store.close().unwrap();
        prop_assert!(verify_in(&disk, "store").unwrap().is_sound());
    }
}

/// A guard of a position that the store had not reached held silently: the decision was made in a
/// store that had grown further, before a backup was restored over it.
#[test]
fn a_guard_that_is_ahead_is_refused() {
    let store = Store::in_memory();
    let guarded = |after| {
        let guard = Guard::unchanged(Query::new().event_type("Other"), after).named("seats");
        store.transaction().append(&stream("1"), Expected::Any, [event("x")]).guard(guard).commit()
    };
    assert!(guarded(None).is_ok() && guarded(Some(0)).is_ok());
    for after in [2, 1000, u64::MAX] {
        let refused = guarded(Some(after));
        let told = matches!(&refused, Err(Error::PositionAhead { what, position, end: 2 }) if what == "seats" && *position == after);
        assert!(told, "{refused:?}");
    }
    // Positions in flight count as reached.
    let ticket = in_flight(&store, "2");
    assert!(guarded(Some(2)).is_ok());
    ticket.wait().unwrap();
    assert_eq!(store.len(), 4);
}
