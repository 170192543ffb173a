//! Random operations on editions, against maps.

use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

const EDITIONS: [&str; 3] = ["main", "x", "y"];
const DOMAINS: [&str; 2] = ["order", "bill"];
const ROOTS: [&str; 2] = ["1", "2"];

/// Edition, domain, root.
type Name = (usize, usize, usize);

#[derive(Clone, Copy, Debug)]
enum Hope {
    Any,
    NoStream,
    Exists,
    /// The next sequence less so many.
    Back(u64),
    Beyond,
}

#[derive(Clone, Debug)]
enum Step {
    Append(Vec<(Name, Hope, usize)>),
    Submit(Name, usize),
    Delete(usize, Option<usize>),
    Keyed(Name, u8),
    Look(Name, u64, u64, u64),
    Reopen(Option<Spoil>),
    Abandon,
}

fn name() -> impl Strategy<Value = Name> {
    (0..EDITIONS.len(), 0..DOMAINS.len(), 0..ROOTS.len())
}

fn step() -> impl Strategy<Value = Step> {
    let hope = prop_oneof![
        4 => Just(Hope::Any),
        1 => Just(Hope::NoStream),
        1 => Just(Hope::Exists),
        3 => (0u64..4).prop_map(Hope::Back),
        1 => Just(Hope::Beyond),
    ];
    let spoil = prop_oneof![
        3 => Just(None),
        1 => Just(Some(Spoil::Delete)),
        1 => any::<u64>().prop_map(|seed| Some(Spoil::Flip(seed))),
        1 => (0u64..8).prop_map(|part| Some(Spoil::Cut(part))),
    ];
    prop_oneof![
        8 => prop::collection::vec((name(), hope, 0usize..4), 1..3).prop_map(Step::Append),
        3 => (name(), 1usize..3).prop_map(|(name, count)| Step::Submit(name, count)),
        2 => (1..EDITIONS.len(), prop::option::of(0..DOMAINS.len())).prop_map(|(edition, domain)| Step::Delete(edition, domain)),
        2 => (name(), 0u8..3).prop_map(|(name, key)| Step::Keyed(name, key)),
        4 => (name(), 0u64..12, 0u64..12, 0u64..40).prop_map(|(name, from, to, point)| Step::Look(name, from, to, point)),
        1 => spoil.prop_map(Step::Reopen),
        1 => Just(Step::Abandon),
    ]
}

/// What each position holds; what was deleted, and deletions, are `None`.
#[derive(Default, Debug)]
struct Model {
    log: Vec<Option<Entry>>,
    keys: BTreeMap<(Name, u8), u64>,
}

#[derive(Clone, Debug)]
struct Entry {
    name: Name,
    sequence: u64,
}

fn id(name: Name) -> annals::StreamId {
    annals::StreamId::new(DOMAINS[name.1], ROOTS[name.2]).unwrap().in_edition(EDITIONS[name.0]).unwrap()
}

impl Model {
    /// What a stream has of its own among the first `end` positions: positions and sequences.
    fn own(&self, name: Name, end: u64) -> Vec<(u64, u64)> {
        let entries = (0u64..end).zip(&self.log).filter_map(|(position, entry)| Some((position, entry.as_ref()?)));
        entries.filter(|(_, entry)| entry.name == name).map(|(position, entry)| (position, entry.sequence)).collect()
    }

    /// The positions of a stream, as it is to be read.
    fn composite(&self, name: Name, end: u64) -> Vec<u64> {
        let own = self.own(name, end);
        let first = own.first().map_or(u64::MAX, |(_, sequence)| *sequence);
        let main = if name.0 == 0 { Vec::new() } else { self.own((0, name.1, name.2), end) };
        let shared = main.into_iter().filter(|(_, sequence)| *sequence < first);
        shared.chain(own).map(|(position, _)| position).collect()
    }

    fn end(&self) -> u64 {
        self.log.len() as u64
    }

    fn next(&self, name: Name) -> u64 {
        self.composite(name, self.end()).len() as u64
    }

    /// Where an append goes, if it is as expected.
    fn place(&self, name: Name, expected: Expected) -> Option<u64> {
        let next = self.next(name);
        let diverges = name.0 != 0 && self.own(name, self.end()).is_empty();
        match expected {
            Expected::Any => Some(next),
            Expected::NoStream if diverges => Some(0),
            Expected::NoStream => (next == 0).then_some(0),
            Expected::Exists => (next > 0).then_some(next),
            Expected::Next(n) if diverges => (n <= next).then_some(n),
            Expected::Next(n) => (n == next).then_some(n),
        }
    }

    fn push(&mut self, name: Name, first: u64, count: usize) {
        for n in 0..count as u64 {
            self.log.push(Some(Entry { name, sequence: first + n }));
        }
    }

    fn delete(&mut self, edition: usize, domain: Option<usize>) -> u64 {
        let hit = |name: Name| name.0 == edition && domain.is_none_or(|domain| domain == name.1);
        let mut count = 0;
        for entry in &mut self.log {
            if entry.as_ref().is_some_and(|entry| hit(entry.name)) {
                *entry = None;
                count += 1;
            }
        }
        if count > 0 {
            self.log.push(None);
        }
        self.keys.retain(|(name, _), _| !hit(*name));
        count
    }
}

fn expected(hope: Hope, next: u64) -> Expected {
    match hope {
        Hope::Any => Expected::Any,
        Hope::NoStream => Expected::NoStream,
        Hope::Exists => Expected::Exists,
        Hope::Back(n) => Expected::Next(next.saturating_sub(n)),
        Hope::Beyond => Expected::Next(next + 1),
    }
}

fn positions(events: impl IntoIterator<Item = Result<Event>>) -> Vec<u64> {
    events.into_iter().map(|event| event.unwrap().position()).collect()
}

fn all_names() -> impl Iterator<Item = Name> {
    (0..3).flat_map(|edition| (0..2).flat_map(move |domain| (0..2).map(move |root| (edition, domain, root))))
}

/// Looks at everything.
fn check(store: &Store, model: &Model) {
    let end = model.end();
    assert_eq!(store.len(), end);
    let all: Vec<u64> = (0..end).filter(|&position| model.log[position as usize].is_some()).collect();
    assert_eq!(positions(store.read_all()), all);
    let mut live = BTreeMap::new();
    for name in all_names() {
        let composite = model.composite(name, end);
        let stream = id(name);
        assert_eq!(positions(store.read(&stream)), composite, "{stream}");
        let next = store.stream(&stream).unwrap().map_or(0, |info| info.next_sequence);
        assert_eq!(next, composite.len() as u64, "{stream}");
        if !model.own(name, end).is_empty() {
            live.insert(stream, composite.len() as u64);
        }
    }
    let told = store.streams("").unwrap().into_iter().map(|info| (info.stream, info.next_sequence)).collect();
    assert_eq!(live, told);
    for (edition, name) in EDITIONS.iter().enumerate() {
        let mut seen = BTreeSet::new();
        let mut of_orders = BTreeSet::new();
        for of in all_names().filter(|of| of.0 == edition) {
            let composite = model.composite(of, end);
            if of.1 == 0 {
                of_orders.extend(composite.clone());
            }
            seen.extend(composite);
        }
        let query = Query::new().edition(*name);
        assert_eq!(positions(store.query(&query)), seen.iter().copied().collect::<Vec<_>>(), "{name}");
        let orders = query.domain("order");
        assert_eq!(positions(store.query(&orders)), of_orders.iter().copied().collect::<Vec<_>>(), "{name}");
        assert_eq!(positions(store.query(&orders).backwards()), of_orders.iter().rev().copied().collect::<Vec<_>>());
    }
    let counts: u64 = store.editions().list().unwrap().iter().map(|info| info.events).sum();
    let own = model.log.iter().flatten().filter(|entry| entry.name.0 != 0).count() as u64;
    assert_eq!(counts, own);
}

/// Looks at parts of one stream.
fn look(store: &Store, model: &Model, name: Name, from: u64, to: u64, point: u64) {
    let stream = id(name);
    let whole = model.composite(name, model.end());
    let range = |all: &[u64]| all.iter().copied().take(to as usize).skip(from as usize).collect::<Vec<_>>();
    assert_eq!(positions(store.read(&stream).from(from).to(to)), range(&whole));
    let mut backwards = positions(store.read(&stream).from(from).to(to).backwards());
    backwards.reverse();
    assert_eq!(backwards, range(&whole));
    let then = model.composite(name, (point + 1).min(model.end()));
    assert_eq!(positions(store.read(&stream).from(from).to(to).as_of(point)), range(&then), "{stream} as of {point}");
    let query = Query::new().edition(EDITIONS[name.0]).stream(&stream);
    assert_eq!(positions(store.query(&query).as_of(point)), then, "query of {stream} as of {point}");

    let shared = model.own((0, name.1, name.2), model.end());
    let mut as_if: Vec<u64> = shared.iter().filter(|(_, s)| *s < from).map(|(p, _)| *p).collect();
    let own = if name.0 == 0 { Vec::new() } else { model.own(name, model.end()) };
    // Only without a gap.
    if own.first().is_some_and(|(_, first)| *first <= from) && from <= shared.len() as u64 {
        as_if.extend(own.iter().filter(|(_, s)| *s >= from).map(|(p, _)| *p));
    }
    let found = positions(store.read(&stream).diverging_at(from));
    assert_eq!(found, if name.0 == 0 { whole } else { as_if }, "{stream} diverging at {from}");
}

fn run(bed: &Bed, steps: &[Step]) {
    let open = || bed.open_with(|options| options.durability(annals::Durability::Os));
    let mut store = open();
    let mut model = Model::default();
    let mut tickets = Vec::new();
    for step in steps {
        match step {
            Step::Append(parts) => {
                let mut planned = Model { log: model.log.clone(), keys: BTreeMap::new() };
                let mut transaction = store.transaction();
                let mut refused = false;
                for &(name, hope, count) in parts {
                    let expected = expected(hope, planned.next(name));
                    transaction = transaction.append(&id(name), expected, texts(vec!["e"; count]));
                    match planned.place(name, expected) {
                        Some(first) => planned.push(name, first, count),
                        None => refused = true,
                    }
                }
                // Without any event nothing is stored.
                let nothing = parts.iter().all(|part| part.2 == 0);
                match transaction.commit() {
                    Ok(committed) => {
                        assert!(!refused);
                        model.log = if nothing { model.log } else { planned.log };
                        assert!(nothing || committed.positions.end == model.end());
                    }
                    Err(Error::Conflict { .. }) => assert!(refused),
                    Err(error) => panic!("{error}"),
                }
            }
            &Step::Submit(name, count) => {
                let first = model.next(name);
                model.push(name, first, count);
                let transaction = store.transaction().append(&id(name), Expected::Any, texts(vec!["e"; count]));
                tickets.push(transaction.submit().unwrap());
                continue;
            }
            &Step::Delete(edition, domain) => {
                let count = store.editions().delete(EDITIONS[edition], domain.map(|domain| DOMAINS[domain])).unwrap();
                assert_eq!(count, model.delete(edition, domain));
            }
            &Step::Keyed(name, key) => {
                let transaction = store.transaction().append(&id(name), Expected::Any, texts(["k"]));
                let committed = transaction.idempotency_key(key.to_string()).commit().unwrap();
                match model.keys.get(&(name, key)) {
                    Some(&position) => assert_eq!((committed.duplicate, committed.positions.start), (true, position)),
                    None => {
                        assert!(!committed.duplicate);
                        model.keys.insert((name, key), model.end());
                        let first = model.next(name);
                        model.push(name, first, 1);
                    }
                }
            }
            &Step::Look(name, from, to, point) => {
                tickets.drain(..).for_each(|ticket: annals::Ticket| drop(ticket.wait().unwrap()));
                look(&store, &model, name, from, to, point);
            }
            Step::Reopen(spoil) => {
                tickets.drain(..).for_each(|ticket| drop(ticket.wait().unwrap()));
                store.close().unwrap();
                if let Some(spoil) = spoil {
                    bed.spoil_indexes(*spoil);
                }
                store = open();
            }
            Step::Abandon => {
                tickets.drain(..).for_each(|ticket| drop(ticket.wait().unwrap()));
                drop(store);
                store = open();
            }
        }
        tickets.drain(..).for_each(|ticket| drop(ticket.wait().unwrap()));
        check(&store, &model);
    }
    tickets.drain(..).for_each(|ticket| drop(ticket.wait().unwrap()));
    check(&store, &model);
    store.close().unwrap();
    let report = annals::offline::verify_in(bed.fs(), bed.path()).unwrap();
    assert!(report.is_sound(), "{report:?}");
    assert!(report.notices.is_empty(), "{report:?}");
    check(&bed.read_only(), &model);
}

proptest! {
    #![proptest_config(ProptestConfig::default())]

    #[test]
    fn editions_are_as_the_model_says(steps in prop::collection::vec(step(), 1..60)) {
        for bed in [Bed::memory(), Bed::simulated().tiny()] {
            run(&bed, &steps);
        }
    }
}
