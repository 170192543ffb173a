//! Every form of reading a store that has lost events, compared with a model of the store before:
//! no intact event is missing, the order is the same, and nothing is added. In a salvaged store
//! gaps are skipped; in one that is read around damage they are reported.

use annals::offline::Salvage;
use annals::subscription::Delivery;
use annals::{AsOf, Error, Event, Expected, NewEvent, Options, Query, Store, StreamId, Timestamp, Uuid};
use annals_testkit::{Around, Dice, Image, SimFs, break_records};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

const STREAMS: [&str; 3] = ["a-1", "a-2", "b-1"];
const EDITIONS: [&str; 2] = ["x", "y"];
const TYPES: [&str; 3] = ["One", "Two", "Three"];

/// An event in the model.
#[derive(Clone, Debug)]
struct Known {
    position: u64,
    stream: StreamId,
    sequence: u64,
    event_type: String,
    tag: bool,
    correlated: bool,
    id: Uuid,
    recorded_at: Timestamp,
    data: Vec<u8>,
}

impl Known {
    fn main(&self) -> StreamId {
        self.stream.in_edition("").unwrap()
    }
}

/// The content of a store: events, and deletions of editions.
#[derive(Clone, Default)]
struct Model {
    events: Vec<Known>,
    /// Events that are known to be lost: a store that is read around damage knows them from its
    /// indexes.
    lost: BTreeSet<u64>,
    deletions: Vec<(u64, String, Option<String>)>,
    end: u64,
}

/// A read of a stream, or of all.
#[derive(Clone, Debug)]
struct Reading {
    stream: Option<StreamId>,
    from: u64,
    to: u64,
    limit: u64,
    backwards: bool,
    as_of: Option<AsOf>,
    latest: Option<String>,
    diverging_at: Option<u64>,
}

#[derive(Clone, Debug)]
struct Asking {
    domain: Option<String>,
    stream: Option<StreamId>,
    event_type: Option<String>,
    tag: bool,
    correlated: bool,
    edition: Option<String>,
    after: Option<u64>,
    until: Option<u64>,
    limit: u64,
    backwards: bool,
    as_of: Option<AsOf>,
}

#[derive(Clone, Debug)]
enum Question {
    Read(Reading),
    Query(Asking),
    WithHead(Asking),
    Subscribe(Asking),
    Load { stream: StreamId, at: Option<u64>, as_of: Option<AsOf> },
    Id(Uuid),
    Correlated,
}

impl Model {
    fn is_live(&self, event: &Known) -> bool {
        !self.deletions.iter().any(|(at, edition, domain)| {
            event.stream.edition() == Some(edition)
                && event.position < *at
                && domain.as_deref().is_none_or(|domain| domain == event.stream.domain())
        })
    }

    fn live(&self) -> impl Iterator<Item = &Known> {
        self.all_live().filter(|event| !self.lost.contains(&event.position))
    }

    fn all_live(&self) -> impl Iterator<Item = &Known> {
        self.events.iter().filter(|event| self.is_live(event))
    }

    fn without(&self, lost: &BTreeSet<u64>) -> Model {
        let events = self.events.iter().filter(|event| !lost.contains(&event.position)).cloned().collect();
        Model { events, ..self.clone() }
    }

    /// The same for a store that knows what it has lost before this position.
    fn knowing(&self, lost: &BTreeSet<u64>, end: u64) -> Model {
        let (known, unknown) = lost.iter().partition(|&&position| position < end);
        Model { lost: known, ..self.without(&unknown) }
    }

    /// The position after what had been recorded then.
    fn end_of(&self, point: Option<AsOf>) -> u64 {
        match point {
            None => self.end,
            Some(AsOf::Position(position)) => self.end.min(position + 1),
            Some(AsOf::Time(time)) => {
                let before = self.events.iter().rev().find(|event| event.recorded_at <= time);
                before.map_or(0, |event| event.position + 1)
            }
        }
    }

    /// Whether the answer goes up to a time, and the next event is one of these.
    fn ends_at_one_of(&self, question: &Question, lost: &BTreeSet<u64>) -> bool {
        let point = match question {
            Question::Read(Reading { as_of, .. }) | Question::Load { as_of, .. } => *as_of,
            Question::Query(Asking { as_of, .. }) | Question::WithHead(Asking { as_of, .. }) => *as_of,
            _ => None,
        };
        matches!(point, Some(AsOf::Time(_))) && lost.contains(&self.end_of(point))
    }

    fn own(&self, stream: &StreamId, end: u64) -> Vec<&Known> {
        self.all_live().filter(|event| event.stream == *stream && event.position < end).collect()
    }

    /// A stream, below a position.
    fn stream(&self, stream: &StreamId, end: u64, diverging_at: Option<u64>) -> Vec<&Known> {
        let mut own = self.own(stream, end);
        let is_there = |event: &&Known| !self.lost.contains(&event.position);
        if stream.edition().is_none() {
            own.retain(is_there);
            return own;
        }
        let mut shared = self.own(&stream.in_edition("").unwrap(), end);
        let first = own.first().map(|event| event.sequence);
        let next = shared.last().map_or(0, |event| event.sequence + 1).max(first.unwrap_or(0));
        let diverges = diverging_at.or(first).unwrap_or(u64::MAX);
        if first.is_none_or(|first| diverges < first) || diverges > next {
            own.clear();
        }
        shared.retain(|event| event.sequence < diverges);
        own.retain(|event| event.sequence >= diverges);
        shared.into_iter().chain(own).filter(is_there).collect()
    }

    fn read(&self, reading: &Reading) -> Vec<&Known> {
        let end = self.end_of(reading.as_of);
        let (mut found, number): (Vec<&Known>, fn(&Known) -> u64) = match &reading.stream {
            Some(stream) => (self.stream(stream, end, reading.diverging_at), |event| event.sequence),
            None => (self.live().filter(|event| event.position < end).collect(), |event| event.position),
        };
        let latest = reading.latest.as_ref().and_then(|latest| found.iter().rfind(|event| event.event_type == *latest));
        let from = latest.map_or(0, |latest| number(latest)).max(reading.from);
        found.retain(|event| (from..reading.to).contains(&number(event)));
        cut(found, reading.backwards, reading.limit)
    }

    fn query(&self, asking: &Asking) -> Vec<&Known> {
        let then = self.end_of(asking.as_of);
        let end = asking.until.map_or(then, |until| then.min(until + 1));
        let edition = asking.edition.as_deref();
        let mut found: Vec<&Known> = self.live().filter(|event| event.position < end).collect();
        found.retain(|event| {
            let shown = match event.stream.edition() {
                None => edition.is_none_or(|edition| {
                    let own = self.own(&event.stream.in_edition(edition).unwrap(), then);
                    own.first().is_none_or(|first| event.sequence < first.sequence)
                }),
                named => named == edition,
            };
            shown
                && asking.domain.as_deref().is_none_or(|domain| domain == event.stream.domain())
                && asking.stream.as_ref().is_none_or(|stream| *stream == event.main())
                && asking.event_type.as_ref().is_none_or(|wanted| *wanted == event.event_type)
                && (!asking.tag || event.tag)
                && (!asking.correlated || event.correlated)
                && asking.after.is_none_or(|after| event.position > after)
        });
        cut(found, asking.backwards, asking.limit)
    }

    fn answer(&self, question: &Question) -> Vec<&Known> {
        match question {
            Question::Read(reading) => self.read(reading),
            Question::Query(asking) | Question::WithHead(asking) | Question::Subscribe(asking) => self.query(asking),
            Question::Load { stream, at, as_of } => {
                let mut found = self.stream(stream, self.end_of(*as_of), None);
                found.retain(|event| at.is_none_or(|at| event.sequence <= at));
                found
            }
            Question::Id(id) => self.live().filter(|event| event.id == *id).last().into_iter().collect(),
            Question::Correlated => {
                let mut found: Vec<&Known> = self.live().filter(|event| event.correlated).collect();
                found.sort_by(|a, b| a.stream.cmp(&b.stream));
                found
            }
        }
    }
}

fn cut(mut found: Vec<&Known>, backwards: bool, limit: u64) -> Vec<&Known> {
    if backwards {
        found.reverse();
    }
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    found
}

fn query_of(asking: &Asking) -> Query {
    let mut query = Query::new();
    query = asking.domain.iter().fold(query, Query::domain);
    query = asking.stream.iter().fold(query, Query::stream);
    query = asking.event_type.iter().fold(query, Query::event_type);
    query = if asking.tag { query.tag("t:1") } else { query };
    query = if asking.correlated { query.correlation("c") } else { query };
    asking.edition.iter().fold(query, |query, edition| query.edition(edition))
}

fn ask(store: &Store, question: &Question) -> Around {
    let mut answer = Around::default();
    let search = |asking: &Asking| {
        let mut search = store.query(&query_of(asking)).after(asking.after).limit(asking.limit);
        search = asking.until.into_iter().fold(search, annals::Search::until);
        search = asking.as_of.into_iter().fold(search, annals::Search::as_of);
        if asking.backwards { search.backwards() } else { search }
    };
    match question {
        Question::Read(reading) => {
            let mut read = reading.stream.as_ref().map_or_else(|| store.read_all(), |stream| store.read(stream));
            read = read.from(reading.from).to(reading.to).limit(reading.limit);
            read = reading.as_of.into_iter().fold(read, annals::Read::as_of);
            read = reading.latest.iter().fold(read, annals::Read::from_latest);
            read = reading.diverging_at.into_iter().fold(read, annals::Read::diverging_at);
            let read = if reading.backwards { read.backwards() } else { read };
            read.into_iter().for_each(|item| answer.take(item));
        }
        Question::Query(asking) => search(asking).into_iter().for_each(|item| answer.take(item)),
        Question::WithHead(asking) => {
            let (events, head) = search(asking).collect_with_head().unwrap();
            // An incomplete answer names the first gap.
            let mut end = store.len();
            if let Some(AsOf::Position(position)) = asking.as_of {
                end = end.min(position + 1);
            }
            end = asking.until.map_or(end, |until| end.min(until + 1));
            if events.len() as u64 == asking.limit && !asking.backwards {
                end = events.last().map_or(0, |last| last.position() + 1);
            }
            let complete = head.map_or(0, |head| head + 1);
            if complete < end && !matches!(asking.as_of, Some(AsOf::Time(_))) {
                answer.gaps.push(complete..end);
            }
            answer.events = events;
        }
        Question::Subscribe(asking) => {
            let mut subscription = store.subscribe(query_of(asking)).after(asking.after);
            loop {
                match subscription.try_next() {
                    Ok(Some(Delivery::Event(event))) => answer.events.push(event),
                    Ok(Some(Delivery::CaughtUp(_))) => break,
                    Ok(other) => panic!("{other:?}"),
                    Err(error) => answer.take(Err(error)),
                }
            }
        }
        Question::Load { stream, at, as_of } => {
            let mut load = store.load(stream);
            load = at.iter().fold(load, |load, &at| load.at(at));
            load = as_of.iter().fold(load, |load, &point| load.as_of(point));
            let mut events = Vec::new();
            let apply = |_: &mut (), event: &Event| -> Result<(), Error> {
                events.push(event.clone());
                Ok(())
            };
            match load.fold((), apply) {
                Ok(_) => answer.events = events,
                // A state that lacks an event is not returned.
                Err(error) => answer.take(Err(error)),
            }
        }
        Question::Id(id) => match store.event(*id) {
            Ok(found) => answer.events.extend(found),
            Err(error) => answer.take(Err(error)),
        },
        Question::Correlated => {
            let found = store.correlated("c").unwrap();
            answer.gaps = found.gaps.iter().map(|gap| gap.positions.clone()).collect();
            answer.events = found.into_iter().flat_map(|(_, events)| events).collect();
        }
    }
    answer
}

/// A store with a random history on a simulated disk, closed.
struct World {
    disk: SimFs,
    model: Model,
}

fn options(disk: &SimFs) -> Options {
    let now = Arc::new(AtomicI64::new(1_700_000_000_000_000_000));
    let clock = move || Timestamp::from_nanos(now.fetch_add(1_000_003, Ordering::Relaxed));
    Options::new().file_system(disk.clone()).maintenance(false).segment_size(4096).reserve(0).clock(clock)
}

fn named(dice: &mut Dice, main: usize) -> StreamId {
    let stream: StreamId = dice.of(&STREAMS).parse().unwrap();
    if dice.below(main + 2) < 2 { stream.in_edition(dice.of(&EDITIONS)).unwrap() } else { stream }
}

fn world(dice: &mut Dice) -> World {
    let disk = SimFs::new();
    let store = options(&disk).open("store").unwrap();
    let mut model = Model::default();
    for n in 0..50 {
        if let Some((edition, domain)) = dice.maybe(14, |dice| (dice.of(&EDITIONS), dice.maybe(2, |_| "a"))) {
            let before = store.len();
            if store.editions().delete(edition, domain).unwrap() > 0 {
                model.deletions.push((before, edition.into(), domain.map(Into::into)));
            }
            continue;
        }
        let mut transaction = store.transaction();
        let mut met = BTreeSet::new();
        for part in 0..1 + dice.below(3) {
            let stream = named(dice, 3);
            let main = stream.in_edition("").unwrap();
            if !met.insert(main.clone()) {
                continue;
            }
            let next = model.own(&main, u64::MAX).len();
            let begins = stream.edition().is_some() && model.own(&stream, u64::MAX).is_empty();
            let expected = if begins { Expected::Next(dice.below(next + 1) as u64) } else { Expected::Any };
            let data = format!("<<event {n} part {part}>>{}", "-".repeat(dice.below(80)));
            let mut event = NewEvent::with_data(dice.of(&TYPES), data.into_bytes());
            event = if dice.below(3) == 0 { event.tag("t:1") } else { event };
            event = if dice.below(4) == 0 { event.correlation_id("c") } else { event };
            event = if dice.below(3) == 0 { event.id(Uuid::from_u128(1 + dice.below(12) as u128)) } else { event };
            transaction = transaction.append(&stream, expected, [event]);
        }
        let committed = transaction.commit().unwrap();
        for event in store.read_all().from(committed.positions.start) {
            let event = event.unwrap();
            model.events.push(Known {
                position: event.position(),
                stream: event.stream(),
                sequence: event.sequence(),
                event_type: event.event_type().to_owned(),
                tag: event.tags().count() > 0,
                correlated: event.correlation_id().is_some(),
                id: event.id(),
                recorded_at: event.recorded_at(),
                data: event.data().to_vec(),
            });
        }
    }
    model.end = store.len();
    store.close().unwrap();
    World { disk, model }
}

/// Breaks the records of some events, in all their segments. If `keep_ends`, the first event of a
/// stream in a named edition and the last one in the main edition stay: without them nothing tells
/// where one begins or where the other had ended.
fn damage(world: &World, dice: &mut Dice, bounds: bool) -> (SimFs, BTreeSet<u64>) {
    let disk = world.disk.crash(Image::Killed);
    let mut kept = BTreeSet::new();
    if bounds {
        for stream in STREAMS {
            let main: StreamId = stream.parse().unwrap();
            kept.extend(world.model.own(&main, u64::MAX).last().map(|event| event.position));
            for edition in EDITIONS {
                let own = world.model.own(&main.in_edition(edition).unwrap(), u64::MAX);
                kept.extend(own.first().map(|event| event.position));
            }
        }
        // As of an earlier position, other events were the last ones.
        kept.extend(world.model.deletions.iter().map(|(at, ..)| *at));
    }
    let one_in = 3 + dice.below(12);
    let events = world.model.events.iter().map(|event| event.position);
    let lost = events.filter(|position| dice.below(one_in) == 0 && !kept.contains(position)).collect();
    break_records(&disk, Path::new("store"), &lost, dice);
    (disk, lost)
}

fn question(dice: &mut Dice, model: &Model) -> Question {
    let point = |dice: &mut Dice| match dice.below(2) {
        0 => AsOf::Position(dice.below(model.end as usize) as u64),
        _ => AsOf::Time(dice.of(&model.events).recorded_at),
    };
    let limit = |dice: &mut Dice| dice.maybe(3, |dice| dice.below(6) as u64).unwrap_or(u64::MAX);
    match dice.below(10) {
        0..4 => {
            let stream = dice.maybe(4, |_| ()).map_or_else(|| Some(named(dice, 1)), |()| None);
            let most = if stream.is_some() { 20 } else { model.end as usize };
            let to = dice.maybe(4, |dice| dice.below(most + 2) as u64).unwrap_or(u64::MAX);
            Question::Read(Reading {
                stream,
                from: dice.maybe(4, |dice| dice.below(most) as u64).unwrap_or(0),
                to,
                limit: limit(dice),
                backwards: dice.below(2) == 0,
                as_of: dice.maybe(3, point),
                latest: dice.maybe(3, |dice| dice.of(&TYPES).to_owned()),
                diverging_at: dice.maybe(3, |dice| dice.below(20) as u64),
            })
        }
        kind @ 4..8 => {
            let asking = Asking {
                domain: dice.maybe(4, |dice| dice.of(&["a", "b"]).to_owned()),
                stream: dice.maybe(4, |dice| dice.of(&STREAMS).parse().unwrap()),
                event_type: dice.maybe(3, |dice| dice.of(&TYPES).to_owned()),
                tag: dice.below(5) == 0,
                correlated: dice.below(5) == 0,
                edition: dice.maybe(2, |dice| dice.of(&EDITIONS).to_owned()),
                after: dice.maybe(4, |dice| dice.below(model.end as usize) as u64),
                until: dice.maybe(4, |dice| dice.below(model.end as usize) as u64),
                limit: limit(dice),
                backwards: dice.below(2) == 0,
                as_of: dice.maybe(3, point),
            };
            // An item that names domains and streams matches either.
            let asking = Asking { stream: asking.stream.filter(|_| asking.domain.is_none()), ..asking };
            match kind {
                4 | 5 => Question::Query(asking),
                6 => Question::WithHead(asking),
                _ => Question::Subscribe(Asking {
                    until: None,
                    as_of: None,
                    limit: u64::MAX,
                    backwards: false,
                    ..asking
                }),
            }
        }
        8 => Question::Load {
            stream: named(dice, 1),
            at: dice.maybe(3, |dice| dice.below(12) as u64),
            as_of: dice.maybe(3, point),
        },
        _ => match dice.below(4) {
            0 => Question::Correlated,
            _ => Question::Id(dice.of(&model.events).id),
        },
    }
}

fn positions(events: &[&Known]) -> Vec<u64> {
    events.iter().map(|event| event.position).collect()
}

/// Compares an answer with the model of what is intact, and returns whether it named a gap.
#[track_caller]
fn check(answer: &Around, model: &Model, question: &Question, context: &str) {
    let expected = model.answer(question);
    let found: Vec<u64> = answer.events.iter().map(Event::position).collect();
    assert_eq!(found, positions(&expected), "{context}: {question:?}");
    for (event, known) in answer.events.iter().zip(expected) {
        let Known { stream, sequence, event_type, id, data, .. } = known;
        let same = event.is_in(stream) && event.sequence() == *sequence && event.event_type() == event_type;
        assert!(same && event.id() == *id && event.data() == data, "{context}: {event:?} is not {known:?}");
    }
}

/// Answers about the store and not about events.
fn check_lists(store: &Store, model: &Model, lost: u64, context: &str) {
    let mut streams: BTreeMap<StreamId, (u64, u64)> = BTreeMap::new();
    let mut names = [const { BTreeMap::<String, (u64, u64)>::new() }; 3];
    for event in model.live() {
        streams.insert(event.stream.clone(), (event.sequence + 1, event.position));
        let tag = event.tag.then(|| "t:1".to_owned());
        let of = [Some(event.stream.domain().to_owned()), Some(event.event_type.clone()), tag];
        for (names, name) in names.iter_mut().zip(of) {
            let Some(name) = name else { continue };
            let count = names.entry(name).or_default();
            if event.stream.edition().is_none() { count.0 += 1 } else { count.1 += 1 }
        }
    }
    let told = store.streams("").unwrap();
    let told: Vec<_> = told.into_iter().map(|info| (info.stream, (info.next_sequence, info.last_position))).collect();
    assert_eq!(told, streams.into_iter().collect::<Vec<_>>(), "{context}: streams");
    for name in STREAMS {
        for edition in EDITIONS.into_iter().chain([""]) {
            let stream = name.parse::<StreamId>().unwrap().in_edition(edition).unwrap();
            let last = model.stream(&stream, u64::MAX, None).last().map(|event| (event.sequence + 1, event.position));
            let told = store.stream(&stream).unwrap().map(|info| (info.next_sequence, info.last_position));
            assert_eq!(told, last, "{context}: {stream}");
        }
    }
    let told = [store.domains().unwrap(), store.event_types().unwrap(), store.tags("").unwrap()];
    // Types and tags are those of the main edition.
    names[1..].iter_mut().for_each(|names| names.retain(|_, (in_main, _)| *in_main > 0));
    for (told, names) in told.into_iter().zip(names) {
        let told: Vec<_> = told.into_iter().map(|info| (info.name, (info.events, info.in_editions))).collect();
        assert_eq!(told, names.into_iter().collect::<Vec<_>>(), "{context}");
    }
    let mut editions: BTreeMap<&str, u64> = BTreeMap::new();
    for event in model.live() {
        event.stream.edition().into_iter().for_each(|edition| *editions.entry(edition).or_default() += 1);
    }
    let told = store.editions().list().unwrap();
    assert!(told.iter().map(|info| (&*info.name, info.events)).eq(editions), "{context}: editions");
    let stats = store.stats().unwrap();
    let live = model.live().count() as u64;
    let counted = (stats.events, stats.deleted_events, stats.system_records);
    let system = model.deletions.len() as u64 + lost;
    assert_eq!(counted, (live, model.end - live - system, system), "{context}");
    assert_eq!(store.len(), model.end, "{context}");
    let told: u64 = store.losses().unwrap().iter().map(|range| range.end - range.start).sum();
    assert_eq!(told, lost, "{context}");
}

fn seeds() -> Range<u64> {
    let number = |name| std::env::var(name).ok().map(|number| number.parse().unwrap());
    let first = number("ANNALS_GAPS_FIRST").unwrap_or(0);
    first..first + number("ANNALS_GAPS_SEEDS").unwrap_or(25)
}

/// A salvaged store has gaps, and reads of streams take another path there: it ignored
/// `from_latest` for streams of named editions, and `diverging_at` showed events across a gap. Now
/// an undamaged store, a salvaged one, and one that is read around damage give the same answers to
/// all questions, except for lost events.
#[test]
fn a_store_with_gaps_answers_as_before_but_for_what_is_lost() {
    let mut seen = [0usize; 3];
    for seed in seeds() {
        let mut dice = Dice::new(seed);
        let world = world(&mut dice);
        let bounds = seed % 2 == 0;
        let (damaged, lost) = damage(&world, &mut dice, bounds);
        let intact = world.model.without(&lost);
        let whole = options(&world.disk.crash(Image::Killed)).open("store").unwrap();
        let copy = damaged.crash(Image::Killed);
        let report = Salvage::new().run_in(&copy, "store", "out").unwrap();
        assert_eq!(report.lost(), lost.len() as u64, "seed {seed}");
        let salvaged = options(&copy).open("out").unwrap();
        check_lists(&whole, &world.model, 0, &format!("seed {seed}, whole"));
        check_lists(&salvaged, &intact, lost.len() as u64, &format!("seed {seed}, salvaged"));
        let around = || options(&damaged.crash(Image::Killed)).open_read_only("store").unwrap();
        // The newest segment has no index yet, which would know its content.
        let known = world.model.knowing(&lost, whole.stats().unwrap().segments.last().unwrap().first_position);
        let opened = around();
        // Before a read has met the damage, lists show what the indexes know.
        let met = opened.read_all().into_iter().filter(Result::is_err).count();
        assert_eq!(met > 0, !lost.is_empty(), "seed {seed}");
        check_lists(&opened, &known, lost.len() as u64, &format!("seed {seed}, around"));
        for n in 0..60 {
            let question = question(&mut dice, &world.model);
            let context = format!("seed {seed}, question {n}");
            check(&ask(&whole, &question), &world.model, &question, &format!("{context}, whole"));
            let answer = ask(&salvaged, &question);
            assert_eq!(answer.gaps, [], "{context}: {question:?}");
            check(&answer, &intact, &question, &format!("{context}, salvaged"));
            // The recorded time of a lost event is unknown: it may be the requested one.
            if world.model.ends_at_one_of(&question, &lost) {
                continue;
            }
            // The first question that meets the damage, and one when it is known.
            let fresh = (n % 10 == 0).then(around);
            let answer = ask(fresh.as_ref().unwrap_or(&opened), &question);
            check_around(&answer, &question, &world.model, &known, &lost, &format!("{context}, around"));
            seen[usize::from(!answer.gaps.is_empty())] += 1;
            if bounds && is_simple(&question) {
                let before: Vec<u64> = positions(&world.model.answer(&question));
                let left: Vec<u64> = before.into_iter().filter(|position| !lost.contains(position)).collect();
                assert_eq!(positions(&intact.answer(&question)), left, "{context}: {question:?}");
                seen[2] += 1;
            }
        }
    }
    assert!(seen.iter().all(|&count| count > 50), "{seen:?}");
}

/// Only the loss itself can make a difference: the questions do not depend on how many events there
/// are, or which is the last.
fn is_simple(question: &Question) -> bool {
    match question {
        Question::Read(Reading { limit, as_of, latest, .. }) => {
            *limit == u64::MAX && as_of.is_none() && latest.is_none()
        }
        Question::Query(Asking { limit, as_of, .. }) | Question::WithHead(Asking { limit, as_of, .. }) => {
            *limit == u64::MAX && as_of.is_none()
        }
        Question::Subscribe(_) | Question::Correlated => true,
        Question::Load { as_of, .. } => as_of.is_none(),
        Question::Id(_) => false,
    }
}

fn check_around(
    answer: &Around,
    question: &Question,
    whole: &Model,
    known: &Model,
    lost: &BTreeSet<u64>,
    context: &str,
) {
    let named: BTreeSet<u64> = answer.gaps.iter().cloned().flatten().collect();
    let lacks = |model: &Model| positions(&model.answer(question)).into_iter().any(|position| lost.contains(&position));
    match question {
        // A state, or an event by its id, is not returned across a gap.
        Question::Load { .. } | Question::Id(_) if !answer.gaps.is_empty() => {
            assert!(named.iter().all(|position| lost.contains(position)), "{context}: {question:?}");
            return;
        }
        Question::WithHead(_) => {
            assert!(
                named.is_empty() || named.iter().any(|position| lost.contains(position)),
                "{context}: {question:?}"
            );
        }
        _ => assert!(named.iter().all(|position| lost.contains(position)), "{context}: {question:?} names {named:?}"),
    }
    check(answer, known, question, context);
    // Of several events with one id, an older one may be intact; and only the store knows the end
    // of an answer as of a time.
    let of_time = matches!(question, Question::WithHead(Asking { as_of: Some(AsOf::Time(_)), .. }));
    let may_lack = of_time || matches!(question, Question::Id(_));
    assert!(may_lack || !lacks(whole) || !named.is_empty(), "{context}: {question:?} is shorter without a word");
}

/// A store whose sealed segment has lost these events, which have their numbers as data; the newest
/// segment is another one.
fn broken(fill: impl Fn(&Store), lost: &[u64]) -> SimFs {
    let disk = SimFs::new();
    let store = options(&disk).open("store").unwrap();
    fill(&store);
    let filler: StreamId = "filler-1".parse().unwrap();
    for _ in 0..3 {
        store.append(&filler, Expected::Any, [NewEvent::with_data("Filler", vec![0; 2000])]).unwrap();
    }
    let segments = store.stats().unwrap().segments;
    assert!(segments.len() > 1 && lost.iter().all(|&position| position < segments[1].first_position));
    store.close().unwrap();
    break_records(&disk, Path::new("store"), &lost.iter().copied().collect(), &mut Dice::new(0));
    disk
}

/// Puts an event that has its position as data.
fn put(store: &Store, name: &str, expected: Expected) -> u64 {
    let position = store.len();
    let event = NewEvent::with_data("T", format!("<{position}>").into_bytes());
    store.append(&name.parse().unwrap(), expected, [event]).unwrap().positions.start
}

fn intact(read: impl IntoIterator<Item = annals::Result<Event>>) -> (Vec<u64>, usize) {
    let answer = Around::of(read);
    (answer.events.iter().map(Event::position).collect(), answer.gaps.len())
}

/// In a store with a gap anywhere, a stream read as if it diverged after the end of the main one
/// showed its own events there, across sequences that neither has.
#[test]
fn a_stream_goes_on_only_where_the_main_one_has_come() {
    let fill = |store: &Store| {
        put(store, "other-1", Expected::Any);
        (0..3).for_each(|_| _ = put(store, "a-1", Expected::Any));
        (1..6).for_each(|next| _ = put(store, "a-1@x", Expected::Next(next)));
    };
    let disk = broken(fill, &[0]);
    Salvage::new().run_in(&disk, "store", "out").unwrap();
    let salvaged = options(&disk).open("out").unwrap();
    let around = options(&disk).open_read_only("store").unwrap();
    let whole = options(&broken(fill, &[])).open("store").unwrap();
    let stream: StreamId = "a-1@x".parse().unwrap();
    for (diverging_at, expected) in [
        (0, &[][..]),
        (1, &[1, 4, 5, 6, 7, 8]),
        (2, &[1, 2, 5, 6, 7, 8]),
        (3, &[1, 2, 3, 6, 7, 8]),
        (4, &[1, 2, 3]),
        (5, &[1, 2, 3]),
    ] {
        for store in [&whole, &salvaged, &around] {
            assert_eq!(intact(store.read(&stream).diverging_at(diverging_at)).0, expected, "{diverging_at}");
        }
    }
    // The end of the main edition is also known from a lost event.
    let last_is_lost = options(&broken(fill, &[3])).open_read_only("store").unwrap();
    assert_eq!(intact(last_is_lost.read(&stream).diverging_at(3)), (vec![1, 2, 6, 7, 8], 1));
    assert_eq!(intact(last_is_lost.read(&stream).diverging_at(4)).0, [1, 2]);
}

/// A search backwards as of a position that met damage in the middle continued around it as of the
/// position that it had reached: streams that had diverged after that were seen as if they had not.
#[test]
fn a_search_that_goes_on_around_damage_sees_what_it_saw() {
    let fill = |store: &Store| {
        (0..4).for_each(|_| _ = put(store, "a-1", Expected::Any));
        put(store, "a-1@x", Expected::Next(1));
        put(store, "b-1", Expected::Any);
    };
    let disk = broken(fill, &[0]);
    let store = options(&disk).open_read_only("store").unwrap();
    let query = Query::new().edition("x").event_type("T");
    assert_eq!(intact(store.query(&query).as_of(4).backwards()), (vec![4], 1));
    assert_eq!(intact(store.query(&query).as_of(4).backwards()), (vec![4], 1), "and when the damage is known");
    assert_eq!(intact(store.query(&query).as_of(3).backwards()), (vec![3, 2, 1], 1));
}

/// The report of a loss assumed that the n-th event of a stream in an index has the n-th sequence
/// up to the last one. If an edition was deleted and begun again in one segment, that does not
/// hold, and the report named sequences that were not lost, or fewer than it could.
#[test]
fn a_loss_in_an_edition_that_was_begun_again_is_named() {
    let fill = |store: &Store| {
        (0..4).for_each(|_| _ = put(store, "a-1", Expected::Any));
        (3..5).for_each(|next| _ = put(store, "a-1@x", Expected::Next(next)));
        (0..2).for_each(|next| _ = put(store, "b-1@x", Expected::Next(next)));
        store.editions().delete("x", None).unwrap();
        (3..5).for_each(|next| _ = put(store, "a-1@x", Expected::Next(next)));
        put(store, "b-1@x", Expected::Any);
    };
    let losses = |lost: u64| {
        let disk = broken(fill, &[lost]);
        let report = Salvage::new().run_in(&disk, "store", "out").unwrap();
        let [loss] = &report.losses[..] else { panic!("{report:?}") };
        assert!(loss.all_known && loss.damage.positions == (lost..lost + 1), "{loss:?}");
        loss.streams.iter().map(|lost| (lost.stream.to_string(), lost.sequences.clone())).collect::<Vec<_>>()
    };
    assert_eq!(losses(2), [("a-1".into(), 2..3)]);
    assert_eq!(losses(4), [], "deleted, and not lost");
    assert_eq!(losses(5), [], "deleted, and not lost");
    assert_eq!(losses(9), [("a-1@x".into(), 3..4)]);
    assert_eq!(losses(10), [("a-1@x".into(), 4..5)]);
    assert_eq!(losses(11), [("b-1@x".into(), 0..1)]);
}
