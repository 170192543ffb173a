//! Queries and guards, compared with the same questions to a plain list of all events, before and
//! after some are lost.
//!
//! These tests have failed with each of these bugs in the library: a union of terms that is not
//! merged in order, candidates that are not sorted, an item that is left out, an inclusive bound
//! taken as exclusive, events of the same time cut at a time bound, candidates not checked against
//! the query (`every_query_form`); a guard that does not check commits in flight, or not again
//! under the lock (`racing_guards`).

use annals::{AsOf, Error, Event, Expected, Guard, NewEvent, Options, Query, Store, StreamId, Timestamp};
use annals_testkit::{Around, Bed, Gap, SimFs};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Barrier;
use std::sync::atomic::{AtomicI64, Ordering};

const DOMAINS: [&str; 3] = ["order", "user", "x-y"];
const TYPES: [&str; 4] = ["Placed", "Paid", "Shipped", "Rare"];
const TAGS: [&str; 5] = ["a:1", "a:2", "b", "c", "never"];

fn options(disk: &SimFs) -> Options {
    let now = AtomicI64::new(1_000);
    let clock = move || Timestamp::from_nanos(now.fetch_add(7, Ordering::Relaxed) / 20 * 20);
    Options::new().file_system(disk.clone()).maintenance(false).segment_size(4096).reserve(0).clock(clock)
}

/// The fields of an event: domain, root, type, tags (bits), correlation, occurred-at, bytes.
type Plan = (usize, u8, usize, u8, u8, Option<i64>, usize);

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let rare = prop_oneof![20 => 0..3usize, 1 => Just(3usize)];
    let plan = (0..3usize, 0..4u8, rare, 0..16u8, 0..4u8, prop::option::of(900..1400i64), 0..300usize);
    prop::collection::vec(plan, 1..150)
}

fn stream(plan: &Plan) -> StreamId {
    StreamId::new(DOMAINS[plan.0], plan.1.to_string()).unwrap()
}

fn event(plan: &Plan) -> NewEvent<'static> {
    let (_, _, event_type, tags, correlation, occurred, len) = *plan;
    let tags = (0..4).filter(|n| tags >> n & 1 == 1).map(|n| TAGS[n]);
    let event = NewEvent::with_data(TYPES[event_type], vec![1; len]).tags(tags);
    let event = if correlation > 0 { event.correlation_id(format!("c{correlation}")) } else { event };
    occurred.into_iter().fold(event, |event, time| event.occurred_at(Timestamp::from_nanos(time)))
}

/// Domains, streams (domain, root), types, tags, correlation.
type Item = (Vec<usize>, Vec<(usize, u8)>, Vec<usize>, Vec<usize>, Option<u8>);

/// A question, in a form for the store and for a list.
#[derive(Clone, Debug)]
struct Question {
    items: Vec<Item>,
    recorded: (Option<i64>, Option<i64>),
    occurred: (Option<i64>, Option<i64>),
    after: Option<u64>,
    until: Option<u64>,
    as_of: Option<Result<u64, i64>>,
    backwards: bool,
    limit: Option<u64>,
}

fn questions() -> impl Strategy<Value = Question> {
    let some = |max: usize| prop::collection::vec(0..max, 0..3);
    let streams = prop::collection::vec((0..3usize, 0..5u8), 0..2);
    let item = (some(3), streams, some(4), some(5), prop::option::weighted(0.3, 0..5u8));
    let times = || (prop::option::weighted(0.2, 900..1500i64), prop::option::weighted(0.2, 900..1500i64));
    let point = prop_oneof![(0..200u64).prop_map(Ok), (900..1500i64).prop_map(Err)];
    (
        prop::collection::vec(item, 0..3),
        times(),
        times(),
        prop::option::weighted(0.3, 0..160u64),
        prop::option::weighted(0.3, 0..160u64),
        prop::option::weighted(0.3, point),
        any::<bool>(),
        prop::option::weighted(0.3, 0..20u64),
    )
        .prop_map(|(items, recorded, occurred, after, until, as_of, backwards, limit)| Question {
            items,
            recorded,
            occurred,
            after,
            until,
            as_of,
            backwards,
            limit,
        })
}

impl Question {
    fn query(&self) -> Query {
        let mut query = Query::new();
        for (n, (domains, streams, types, tags, correlation)) in self.items.iter().enumerate() {
            query = if n > 0 { query.or() } else { query };
            query = domains.iter().fold(query, |query, &n| query.domain(DOMAINS[n]));
            for (domain, root) in streams {
                query = query.stream(&StreamId::new(DOMAINS[*domain], root.to_string()).unwrap());
            }
            query = query.types(types.iter().map(|&n| TYPES[n])).tags(tags.iter().map(|&n| TAGS[n]));
            query = correlation.iter().fold(query, |query, n| query.correlation(correlation_name(*n)));
        }
        let time = Timestamp::from_nanos;
        query = self.recorded.0.into_iter().fold(query, |query, t| query.recorded_since(time(t)));
        query = self.recorded.1.into_iter().fold(query, |query, t| query.recorded_until(time(t)));
        query = self.occurred.0.into_iter().fold(query, |query, t| query.occurred_since(time(t)));
        self.occurred.1.into_iter().fold(query, |query, t| query.occurred_until(time(t)))
    }

    /// The positions that a plain filter over all events finds.
    fn answer(&self, all: &[Event]) -> Vec<u64> {
        let within = |(since, until): (Option<i64>, Option<i64>), time: Timestamp| {
            since.is_none_or(|s| s <= time.as_nanos()) && until.is_none_or(|u| time.as_nanos() <= u)
        };
        // An item without a condition is ignored beside others.
        let says_something = |item: &&Item| **item != Item::default();
        let items: Vec<&Item> = self.items.iter().filter(says_something).collect();
        let fits = |event: &&Event| {
            let of_item = |(domains, streams, types, tags, correlation): &Item| {
                let place = domains.is_empty() && streams.is_empty()
                    || domains.iter().any(|&n| DOMAINS[n] == event.domain())
                    || streams
                        .iter()
                        .any(|(d, r)| event.stream() == StreamId::new(DOMAINS[*d], r.to_string()).unwrap());
                place
                    && (types.is_empty() || types.iter().any(|&n| TYPES[n] == event.event_type()))
                    && tags.iter().all(|&n| event.tags().any(|tag| tag == TAGS[n]))
                    && correlation.is_none_or(|n| n > 0 && event.correlation_id() == Some(&correlation_name(n)))
            };
            let as_of = match self.as_of {
                None => true,
                Some(Ok(position)) => event.position() <= position,
                Some(Err(time)) => event.recorded_at().as_nanos() <= time,
            };
            (items.is_empty() || items.iter().any(|item| of_item(item)))
                && within(self.recorded, event.recorded_at())
                && within(self.occurred, event.occurred_at().unwrap_or(event.recorded_at()))
                && self.after.is_none_or(|after| event.position() > after)
                && self.until.is_none_or(|until| event.position() <= until)
                && as_of
        };
        let mut found: Vec<u64> = all.iter().filter(fits).map(Event::position).collect();
        if self.backwards {
            found.reverse();
        }
        found.truncate(self.limit.unwrap_or(u64::MAX) as usize);
        found
    }

    fn search(&self, store: &Store) -> annals::Search {
        let mut search = store.query(&self.query()).after(self.after);
        search = self.until.into_iter().fold(search, |search, until| search.until(until));
        search = match self.as_of {
            None => search,
            Some(Ok(position)) => search.as_of(position),
            Some(Err(time)) => search.as_of(AsOf::Time(Timestamp::from_nanos(time))),
        };
        search = if self.backwards { search.backwards() } else { search };
        self.limit.into_iter().fold(search, |search, limit| search.limit(limit))
    }

    fn ask(&self, store: &Store) -> Vec<u64> {
        self.search(store).into_iter().map(|event| event.unwrap().position()).collect()
    }

    /// A guard holds if no event after its position matches, and names the first one that does.
    /// Without anything else to commit, only the guard decides.
    fn guards(&self, store: &Store, all: &[Event]) {
        let bare = Question { until: None, as_of: None, backwards: false, limit: Some(1), ..self.clone() };
        let guard = match self.after {
            None => Guard::absent(self.query()),
            seen => Guard::unchanged(self.query(), seen),
        };
        let committed = store.transaction().guard(guard).commit();
        match (bare.answer(all).first(), self.after.is_some_and(|seen| seen >= store.len())) {
            // A position that the store has not reached is refused.
            (_, true) => assert!(matches!(committed, Err(Error::PositionAhead { .. })), "{committed:?}"),
            (None, false) => assert!(committed.is_ok(), "{self:?}: {committed:?}"),
            (Some(first), false) => {
                let named = matches!(&committed, Err(Error::GuardFailed { position, .. }) if position == first);
                assert!(named, "{self:?}: {committed:?} where {first} is the first");
            }
        }
    }
}

/// `c0` is the empty one.
fn correlation_name(n: u8) -> String {
    if n == 0 { String::new() } else { format!("c{n}") }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_query_form(
        plans in plans(),
        questions in prop::collection::vec(questions(), 12),
        spoil in any::<u64>(),
        gap in (any::<u64>(), any::<bool>()),
        grows in any::<bool>(),
    ) {
        let disk = SimFs::new();
        let mut store = options(&disk).open("store").unwrap();
        let grow = |store: &Store| {
            for commit in plans.chunks(3) {
                let transaction = commit.iter().fold(store.transaction(), |transaction, plan| {
                    transaction.append(&stream(plan), Expected::Any, [event(plan)])
                });
                transaction.commit().unwrap();
            }
        };
        grow(&store);
        let mut lost = BTreeSet::new();
        for round in 0..5 {
            let all: Vec<Event> = store.read_all().into_iter().map(|event| event.unwrap()).collect();
            let left = (0..store.len()).filter(|position| !lost.contains(position));
            prop_assert!(all.iter().map(Event::position).eq(left));
            for question in &questions {
                prop_assert_eq!(question.ask(&store), question.answer(&all), "round {}: {:?}", round, question);
                question.guards(&store, &all);
            }
            store.close().unwrap();
            // Some indexes are lost, some are those of other segments.
            for (n, path) in disk.files().into_iter().filter(|path| path.extension().is_some_and(|e| e == "idx")).enumerate() {
                match spoil >> (n % 30 * 2) & 3 {
                    0 => disk.delete(&path),
                    1 if round == 1 || round == 3 => disk.set_contents(&path, vec![0x55; 3000]),
                    _ => {}
                }
            }
            if round == 2 {
                let gap = Gap { seed: gap.0, repair: gap.1 };
                let live: BTreeSet<u64> = (0..plans.len() as u64).collect();
                let bed = Bed::on_disk(&disk);
                lost = gap.lose(&bed, live.iter().copied(), &live);
                // Around the damage, a gap is reported if it held a matching event. It may be
                // reported if it is within the search.
                let left: Vec<Event> = all.iter().filter(|&event| !lost.contains(&event.position())).cloned().collect();
                let store = bed.read_only();
                for question in questions.iter().filter(|of| of.limit.is_none() && !matches!(of.as_of, Some(Err(_)))) {
                    let around = Around::of(question.search(&store));
                    let found: Vec<u64> = around.events.iter().map(Event::position).collect();
                    prop_assert_eq!(found, question.answer(&left), "around {:?}: {:?}", &lost, question);
                    let start = question.after.map_or(0, |after| after + 1);
                    let ends = question.until.into_iter().chain(question.as_of.into_iter().flatten());
                    let end = ends.fold(u64::MAX, |end, last| end.min(last + 1));
                    let within = |gap: &Range<u64>| {
                        gap.clone().all(|at| lost.contains(&at)) && gap.end > start && gap.start < end
                    };
                    prop_assert!(around.gaps.iter().all(within), "{:?} of {:?}: {:?}", around.gaps, &lost, question);
                    let must: BTreeSet<u64> = question.answer(&all).into_iter().filter(|at| lost.contains(at)).collect();
                    let named = around.named();
                    prop_assert!(must.is_subset(&named), "{:?} of {:?}: {:?}", named, must, question);
                }
                store.close().unwrap();
                gap.apply(&bed, &lost);
            }
            store = options(&disk).open("store").unwrap();
            if round == 3 && grows {
                grow(&store);
            }
        }
    }
}

/// Threads race for a name under a guard: exactly one wins each round, and the others get its
/// event.
#[test]
fn racing_guards() {
    for durable_disk in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let store = if durable_disk { Store::open(dir.path()).unwrap() } else { Store::in_memory() };
        let threads = 8;
        let barrier = Barrier::new(threads);
        let rounds = if durable_disk { 40 } else { 200 };
        let won: Vec<Vec<Option<u64>>> = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..threads)
                .map(|thread| {
                    let (store, barrier) = (store.clone(), &barrier);
                    scope.spawn(move || {
                        let attempt = |round: usize| {
                            let tag = format!("name:{round}");
                            let stream = StreamId::new("user", format!("{thread}-{round}")).unwrap();
                            let query = Query::new().event_type("Registered").tag(&tag);
                            let (seen, head) = store.query(&query).collect_with_head().unwrap();
                            barrier.wait();
                            let guard = match thread % 2 {
                                0 => Guard::absent(query.clone()),
                                _ if seen.is_empty() => Guard::unchanged(query.clone(), head),
                                _ => return None,
                            };
                            let event = NewEvent::new("Registered", "").tag(&tag);
                            let transaction = store.transaction().append(&stream, Expected::NoStream, [event]);
                            match transaction.guard(guard.named("name is free")).commit() {
                                Ok(committed) => Some(committed.positions.start),
                                Err(Error::GuardFailed { guard, position }) => {
                                    assert_eq!(guard, "name is free");
                                    let winner =
                                        store.query(&query).into_iter().next().map(|event| event.unwrap().position());
                                    assert!(winner.is_none_or(|winner| winner == position));
                                    None
                                }
                                Err(other) => panic!("{other}"),
                            }
                        };
                        (0..rounds).map(attempt).collect()
                    })
                })
                .collect();
            handles.into_iter().map(|handle| handle.join().unwrap()).collect()
        });
        for round in 0..rounds {
            let winners = won.iter().filter_map(|rounds| rounds[round]).count();
            assert_eq!(winners, 1, "round {round}");
        }
        assert_eq!(store.len(), rounds as u64);
    }
}

#[test]
fn heads_of_answers() {
    let store = Store::in_memory();
    let query = Query::new().event_type("A");
    assert_eq!(store.query(&query).collect_with_head().unwrap().1, None);
    let stream = StreamId::new("s", "1").unwrap();
    store.append(&stream, Expected::Any, ["A", "B", "A", "B"].map(|t| NewEvent::new(t, ""))).unwrap();
    let head = |search: annals::Search| search.collect_with_head().map(|(events, head)| (events.len(), head)).unwrap();
    assert_eq!(head(store.query(&query)), (2, Some(3)));
    assert_eq!(head(store.query(&query).limit(1)), (1, Some(0)));
    assert_eq!(head(store.query(&query).until(1)), (1, Some(1)));
    assert_eq!(head(store.query(&query).as_of(2)), (2, Some(2)));
    // A guard from an answer: later events break it, existing ones do not.
    let (_, seen) = store.query(&query).collect_with_head().unwrap();
    let commit = |event_type: &'static str| {
        let transaction = store.transaction().append(&stream, Expected::Any, [NewEvent::new(event_type, "")]);
        transaction.guard(Guard::unchanged(query.clone(), seen)).commit()
    };
    commit("B").unwrap();
    commit("A").unwrap();
    assert!(matches!(commit("A"), Err(Error::GuardFailed { position: 5, .. })));
    assert_eq!(store.len(), 6);
}

/// Many events of one domain, with every fifth of a rare type.
fn many(store: &Store, events: u64) {
    for first in (0..events).step_by(500) {
        let transaction = (first..events.min(first + 500)).fold(store.transaction(), |transaction, n| {
            let event_type = if n % 5 == 0 { "Fifth" } else { "Other" };
            let stream = StreamId::new("order", (n % 7).to_string()).unwrap();
            transaction.append(
                &stream,
                Expected::Any,
                [NewEvent::with_data(event_type, vec![1; 60]).tag(format!("n:{}", n % 3))],
            )
        });
        transaction.commit().unwrap();
    }
}

/// A segment is sealed, and its index moves from memory into a file, in the middle of a query.
/// Once, the plan was made for one and used with the other: events were silently missing.
#[test]
fn a_seal_in_the_middle_of_a_query() {
    let disk = SimFs::new();
    let store = options(&disk).segment_size(1 << 20).open("store").unwrap();
    many(&store, 6000);
    for query in
        [Query::new().domain("order"), Query::new().domain("order").tag("n:1"), Query::new().event_type("Fifth")]
    {
        for backwards in [false, true] {
            let search = store.query(&query);
            let search = if backwards { search.backwards() } else { search };
            let expected = search.clone().into_iter().count();
            let mut found = search.into_iter();
            let begun = found.by_ref().take(10).filter(|event| event.is_ok()).count();
            store
                .append(
                    &StreamId::new("big", "1").unwrap(),
                    Expected::Any,
                    [NewEvent::with_data("Big", vec![0; 900_000])],
                )
                .unwrap();
            assert_eq!(
                begun + found.map(|event| event.unwrap()).fold(0, |n, _| n + 1),
                expected,
                "{query:?}, {backwards}"
            );
        }
    }
}

/// So many candidates that they are taken window by window, and so many that the segment is read in
/// order; with bounds anywhere.
#[test]
fn large_segments() {
    let store = Store::in_memory();
    many(&store, 40_000);
    let all: Vec<Event> = store.read_all().into_iter().map(|event| event.unwrap()).collect();
    let queries = [
        Query::new().event_type("Fifth"),
        Query::new().event_type("Fifth").tag("n:2"),
        Query::new().domain("order"),
        Query::new().tag("n:0").or().event_type("Fifth").tag("n:1"),
        Query::new().stream(&StreamId::new("order", "3").unwrap()),
    ];
    for query in queries {
        let expected: Vec<u64> = all.iter().filter(|event| query.matches(event)).map(Event::position).collect();
        for (after, until) in
            [(None, 40_000), (Some(0), 39_999), (Some(17_321), 17_400), (Some(39_990), u64::MAX), (Some(u64::MAX), 5)]
        {
            let within = |position: &&u64| after.is_none_or(|after| **position > after) && **position <= until;
            let mut expected: Vec<u64> = expected.iter().filter(within).copied().collect();
            let search = store.query(&query).after(after).until(until);
            let ask =
                |search: annals::Search| search.into_iter().map(|event| event.unwrap().position()).collect::<Vec<_>>();
            assert_eq!(ask(search.clone()), expected, "{query:?} {after:?} {until}");
            expected.reverse();
            assert_eq!(ask(search.clone().backwards()), expected, "{query:?} {after:?} {until}, backwards");
            expected.truncate(3);
            assert_eq!(ask(search.backwards().limit(3)), expected);
        }
    }
}

/// Any byte of an index file, changed on a closed store: the answers are the same, and the file is
/// intact again afterwards.
#[test]
fn broken_indexes_are_rebuilt() {
    let disk = SimFs::new();
    let store = options(&disk).segment_size(64 << 10).open("store").unwrap();
    many(&store, 1000);
    store.close().unwrap();
    let path = "store/00000000000000000001.idx";
    let good = disk.contents(path).unwrap();
    let queries = [Query::new().event_type("Fifth"), Query::new().tag("n:1"), Query::new().tag("never")];
    let ask = |store: &Store| {
        let found =
            queries.iter().map(|query| store.query(query).into_iter().map(|event| event.unwrap().position()).collect());
        let streams = store.streams("").unwrap().len();
        (found.collect::<Vec<Vec<u64>>>(), streams, store.event_types().unwrap())
    };
    let expected = ask(&options(&disk).open("store").unwrap());
    for at in (0..good.len()).step_by(7) {
        let mut bad = good.clone();
        bad[at] ^= 0x21;
        disk.set_contents(path, bad);
        let store = options(&disk).open("store").unwrap();
        assert_eq!(ask(&store), expected, "byte {at}");
        assert_eq!(
            store.read(&StreamId::new("order", "3").unwrap()).into_iter().filter(|event| event.is_ok()).count(),
            143
        );
        store.close().unwrap();
        // What was used has been rebuilt; the rest may still be broken, and verify finds it.
        let now = disk.contents(path).unwrap();
        let sound = annals::offline::verify_in(&disk, "store").unwrap().notices.is_empty();
        assert_eq!(sound, now == good, "byte {at}");
    }
}
