//! Random operations on editions, compared with maps. Sometimes events are lost to damage, and the
//! store is salvaged or repaired.

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
    /// The next sequence minus this.
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
    Lose(Gap),
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
        2 => (any::<u64>(), any::<bool>()).prop_map(|(seed, repair)| Step::Lose(Gap { seed, repair })),
    ]
}

/// The content of each position; deleted and lost events, and deletions, are `None`.
#[derive(Clone, Default, Debug)]
struct Model {
    log: Vec<Option<Entry>>,
    keys: BTreeMap<(Name, u8), u64>,
    lost: BTreeSet<u64>,
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
    /// A stream's own events among the first `end` positions: positions and sequences.
    fn own(&self, name: Name, end: u64) -> Vec<(u64, u64)> {
        let entries = (0u64..end).zip(&self.log).filter_map(|(position, entry)| Some((position, entry.as_ref()?)));
        entries.filter(|(_, entry)| entry.name == name).map(|(position, entry)| (position, entry.sequence)).collect()
    }

    /// A stream as it must be read: positions and sequences.
    fn composite(&self, name: Name, end: u64) -> Vec<(u64, u64)> {
        let first = self.own(name, end).first().map_or(u64::MAX, |(_, sequence)| *sequence);
        self.diverging_at(name, end, first)
    }

    /// The same as if it diverged after this sequence of the main one. Its own events are visible
    /// only where the main one has reached them, or where it has really diverged.
    fn diverging_at(&self, name: Name, end: u64, sequence: u64) -> Vec<(u64, u64)> {
        let mut own = self.own(name, end);
        if name.0 == 0 {
            return own;
        }
        let mut shared = self.own((0, name.1, name.2), end);
        let first = own.first().map(|(_, first)| *first);
        let next = shared.last().map_or(0, |(_, last)| last + 1).max(first.unwrap_or(0));
        if first.is_none_or(|first| sequence < first) || sequence > next {
            own.clear();
        }
        shared.retain(|(_, shared)| *shared < sequence);
        own.retain(|(_, own)| *own >= sequence);
        shared.extend(own);
        shared
    }

    fn positions(&self, name: Name, end: u64) -> Vec<u64> {
        self.composite(name, end).into_iter().map(|(position, _)| position).collect()
    }

    fn live(&self) -> BTreeSet<u64> {
        (0..).zip(&self.log).filter_map(|(position, entry)| entry.as_ref().map(|_| position)).collect()
    }

    fn lose(&mut self, lost: BTreeSet<u64>) {
        lost.iter().for_each(|&position| self.log[position as usize] = None);
        // A key is in its commit, which has no other event.
        self.keys.retain(|_, position| !lost.contains(position));
        self.lost.extend(lost);
    }

    fn end(&self) -> u64 {
        self.log.len() as u64
    }

    fn next(&self, name: Name) -> u64 {
        self.composite(name, self.end()).last().map_or(0, |(_, last)| last + 1)
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

/// Checks everything.
fn check(store: &Store, model: &Model) {
    let end = model.end();
    assert_eq!(store.len(), end);
    assert!(positions(store.read_all()).into_iter().eq(model.live()));
    assert!(store.losses().unwrap().into_iter().flatten().eq(model.lost.iter().copied()));
    let mut live = BTreeMap::new();
    for name in all_names() {
        let composite = model.positions(name, end);
        let stream = id(name);
        assert_eq!(positions(store.read(&stream)), composite, "{stream}");
        let next = store.stream(&stream).unwrap().map_or(0, |info| info.next_sequence);
        assert_eq!(next, model.next(name), "{stream}");
        if !model.own(name, end).is_empty() {
            live.insert(stream, model.next(name));
        }
    }
    let told = store.streams("").unwrap().into_iter().map(|info| (info.stream, info.next_sequence)).collect();
    assert_eq!(live, told);
    for (edition, name) in EDITIONS.iter().enumerate() {
        let mut seen = BTreeSet::new();
        let mut of_orders = BTreeSet::new();
        for of in all_names().filter(|of| of.0 == edition) {
            let composite = model.positions(of, end);
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

/// Checks parts of one stream.
fn look(store: &Store, model: &Model, name: Name, from: u64, to: u64, point: u64) {
    let stream = id(name);
    let range = |all: &[(u64, u64)]| {
        let within = all.iter().filter(|(_, sequence)| (from..to).contains(sequence));
        within.map(|(position, _)| *position).collect::<Vec<_>>()
    };
    let whole = range(&model.composite(name, model.end()));
    assert_eq!(positions(store.read(&stream).from(from).to(to)), whole);
    let mut backwards = positions(store.read(&stream).from(from).to(to).backwards());
    backwards.reverse();
    assert_eq!(backwards, whole);
    let until = (point + 1).min(model.end());
    let then = range(&model.composite(name, until));
    assert_eq!(positions(store.read(&stream).from(from).to(to).as_of(point)), then, "{stream} as of {point}");
    let query = Query::new().edition(EDITIONS[name.0]).stream(&stream);
    // A shared event may come after one of the edition's own, if those before that one are lost.
    let mut then = model.positions(name, until);
    then.sort_unstable();
    assert_eq!(positions(store.query(&query).as_of(point)), then, "query of {stream} as of {point}");
    let as_if: Vec<u64> = model.diverging_at(name, model.end(), from).into_iter().map(|(at, _)| at).collect();
    assert_eq!(positions(store.read(&stream).diverging_at(from)), as_if, "{stream} diverging at {from}");
}

fn run(bed: &Bed, steps: &[Step]) {
    let open = || bed.open_with(|options| options.durability(annals::Durability::Os));
    let mut store = open();
    let mut model = Model::default();
    let mut tickets = Vec::new();
    for step in steps {
        match step {
            Step::Append(parts) => {
                let mut planned = model.clone();
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
            Step::Lose(gap) => {
                store.close().unwrap();
                let live = model.live();
                model.lose(gap.open(bed, live.iter().copied(), &live));
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
