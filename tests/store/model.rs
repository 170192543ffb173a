//! Random operations compared with a model, a vector of events.
//!
//! The model knows what was accepted, in order, and how much of it is known to be visible. Another
//! thread may have written a ticket that was not waited for, so what is visible lies between the
//! two, and ends with a commit. On the simulated disk the power is cut sometimes: acknowledged
//! events are there afterwards, and of those in flight whole commits from the front. Sometimes
//! events are lost to damage, and the store is salvaged or repaired: later answers lack these
//! events and nothing else.

use annals::{
    Appended, Committed, ContentType, Error, Events, Expected, NewEvent, Options, Result, Store, StreamId, Ticket,
    Timestamp, Uuid,
};
use annals_testkit::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Larger events are refused here.
const MAX_EVENT: usize = 220 << 10;
/// The time when a store is created.
const CREATED: i64 = -1_000_000_000_000;
const STREAMS: [&str; 4] = ["a-1", "a-2", "b-%FF", "c-1@what-if"];

/// An event, given by the length of its data and a number that everything else follows from.
#[derive(Clone, Copy, Debug)]
struct Spec {
    len: usize,
    seed: u64,
}

/// What is expected of a stream, relative to its content.
#[derive(Clone, Copy, Debug)]
enum Hope {
    Any,
    NoStream,
    Exists,
    Next,
    Off(i64),
}

type Part = (usize, Hope, Vec<Spec>);

#[derive(Clone, Copy, Debug)]
struct Query {
    stream: Option<usize>,
    from: u64,
    len: u64,
    open_end: bool,
    limit: Option<u64>,
    backwards: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Append(Part),
    Commit(Vec<Part>),
    Submit(Vec<Part>),
    /// One of the tickets that are kept.
    Wait(usize),
    Drop(usize),
    TooLarge(usize, Vec<Spec>),
    Read(Query),
    /// Begins a read, whose events are checked some steps later.
    Begin(Query),
    Finish(usize),
    Clock(i64),
    Sync,
    /// Before these steps, all reads are finished.
    Reopen {
        close: bool,
        way: usize,
    },
    PowerCut {
        image: usize,
        way: usize,
    },
    /// The index files are lost or broken while the store is closed.
    Spoil(Spoil),
    /// Appends after a close are refused.
    Closed,
    ReadOnly,
    /// Events are lost.
    Lose(Gap),
}

fn spec() -> impl Strategy<Value = Spec> {
    let block = |size: usize| size - 60..size + 10;
    let len = prop_oneof![
        30 => 0usize..200,
        10 => 200usize..3_000,
        3 => block(4 << 10),
        4 => block(8 << 10),
        3 => block(64 << 10),
        2 => 10_000usize..60_000,
        1 => 70_000usize..200 << 10,
    ];
    (len, any::<u64>()).prop_map(|(len, seed)| Spec { len, seed })
}

fn hope() -> impl Strategy<Value = Hope> {
    prop_oneof![
        4 => Just(Hope::Any),
        1 => Just(Hope::NoStream),
        2 => Just(Hope::Exists),
        6 => Just(Hope::Next),
        1 => prop_oneof![Just(-1i64), Just(1), Just(1000), Just(i64::MAX)].prop_map(Hope::Off),
    ]
}

fn part() -> impl Strategy<Value = Part> {
    let count = prop_oneof![1 => Just(0usize..1), 12 => Just(1..4), 1 => Just(20..400)];
    let events = count.prop_flat_map(|count| {
        if count.start >= 20 {
            let small = (0usize..60, any::<u64>()).prop_map(|(len, seed)| Spec { len, seed });
            prop::collection::vec(small, count).boxed()
        } else {
            prop::collection::vec(spec(), count).boxed()
        }
    });
    (0..STREAMS.len(), hope(), events)
}

fn query() -> impl Strategy<Value = Query> {
    let from = prop_oneof![2 => Just(0u64), 3 => 0..40u64, 1 => 0..2_000u64, 1 => Just(u64::MAX)];
    let len = prop_oneof![0..5u64, 0..600u64];
    let limit =
        prop_oneof![3 => Just(None), 1 => Just(Some(0)), 2 => (1..6u64).prop_map(Some), 1 => Just(Some(u64::MAX))];
    (prop::option::of(0..STREAMS.len()), from, len, any::<bool>(), limit, any::<bool>()).prop_map(
        |(stream, from, len, open_end, limit, backwards)| Query { stream, from, len, open_end, limit, backwards },
    )
}

fn spoil() -> impl Strategy<Value = Spoil> {
    prop_oneof![
        2 => Just(Spoil::Delete),
        3 => any::<u64>().prop_map(Spoil::Flip),
        2 => (0..8u64).prop_map(Spoil::Cut),
        1 => Just(Spoil::Zeros),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let parts = || prop::collection::vec(part(), 0..5);
    let ways = 0..8usize;
    prop_oneof![
        10 => part().prop_map(Step::Append),
        8 => parts().prop_map(Step::Commit),
        10 => parts().prop_map(Step::Submit),
        6 => any::<usize>().prop_map(Step::Wait),
        3 => any::<usize>().prop_map(Step::Drop),
        1 => (0..STREAMS.len(), prop::collection::vec(spec(), 0..3)).prop_map(|(n, specs)| Step::TooLarge(n, specs)),
        8 => query().prop_map(Step::Read),
        3 => query().prop_map(Step::Begin),
        3 => any::<usize>().prop_map(Step::Finish),
        2 => any::<i64>().prop_map(Step::Clock),
        2 => (0..50_000_000i64).prop_map(Step::Clock),
        1 => Just(Step::Sync),
        2 => (any::<bool>(), ways.clone()).prop_map(|(close, way)| Step::Reopen { close, way }),
        2 => (0..12usize, ways).prop_map(|(image, way)| Step::PowerCut { image, way }),
        2 => spoil().prop_map(Step::Spoil),
        1 => Just(Step::Closed),
        1 => Just(Step::ReadOnly),
        2 => (any::<u64>(), any::<bool>()).prop_map(|(seed, repair)| Step::Lose(Gap { seed, repair })),
    ]
}

/// The event of a spec, without what the store decides.
fn record_of(spec: Spec, stream: &StreamId) -> EventRecord {
    let has = |bit: u32| spec.seed >> bit & 1 == 1;
    let small = (spec.seed >> 8) as usize % 50;
    EventRecord {
        position: 0,
        sequence: 0,
        stream: stream.clone(),
        event_type: format!("Type{}", spec.seed % 7),
        id: if has(40) { Uuid::from_u128(spec.seed.into()) } else { Uuid::nil() },
        recorded_at: Timestamp::MIN,
        occurred_at: has(41).then(|| Timestamp::from_nanos(spec.seed as i64)),
        correlation_id: has(42).then(|| "c".repeat(1 + small)),
        causation_id: has(43).then(|| format!("cause {small}")),
        tags: if has(44) { (0..small % 4).map(|n| format!("tag:{n}")).collect() } else { Vec::new() },
        metadata: Bytes(if has(45) { noise(spec.seed + 1, small) } else { Vec::new() }),
        data: Bytes(noise(spec.seed, spec.len)),
        content_type: match spec.seed >> 46 & 7 {
            0 => ContentType::Json,
            1 => ContentType::Text,
            2 => ContentType::Named("x/y".into()),
            _ => ContentType::Bytes,
        },
        schema_version: if has(49) { small as u32 } else { 0 },
    }
}

fn new_event(record: &EventRecord) -> NewEvent<'_> {
    let mut event = NewEvent::new(&*record.event_type, &record.data.0)
        .content_type(record.content_type.clone())
        .schema_version(record.schema_version)
        .metadata(&record.metadata.0)
        .tags(record.tags.iter().map(|tag| tag.as_str()))
        .correlation_id(record.correlation_id.as_deref().unwrap_or(""))
        .causation_id(record.causation_id.as_deref().unwrap_or(""));
    if record.id != Uuid::nil() {
        event = event.id(record.id);
    }
    if let Some(time) = record.occurred_at {
        event = event.occurred_at(time);
    }
    event
}

/// A ticket that is kept, and its expected result.
struct Held {
    ticket: Ticket,
    committed: Expectation,
}

/// The expected result of a commit: the ranges of each append.
#[derive(Clone, Debug, PartialEq)]
struct Expectation {
    appends: Vec<(Range<u64>, Range<u64>)>,
    positions: Range<u64>,
    recorded_at: Option<i64>,
}

impl Expectation {
    fn check(&self, committed: &Committed) {
        let ranges = |appended: &Appended| (appended.sequences.clone(), appended.positions.clone());
        assert_eq!(committed.appends.iter().map(ranges).collect::<Vec<_>>(), self.appends);
        assert_eq!(committed.positions, self.positions);
        if let Some(nanos) = self.recorded_at {
            assert_eq!(committed.recorded_at.as_nanos(), nanos);
            assert!(committed.appends.iter().all(|appended| appended.recorded_at == committed.recorded_at));
        }
    }
}

struct Begun {
    events: Events,
    query: Query,
    /// What may have been visible when it began.
    heads: Range<u64>,
}

/// The events of a commit and its expected result, or the conflict.
type Decision = Result<(Vec<EventRecord>, Expectation), (StreamId, Expected, u64)>;

struct World {
    bed: Bed,
    store: Option<Store>,
    clock: Arc<AtomicI64>,
    /// Everything accepted, in order; ids that the store assigns are nil.
    accepted: Vec<EventRecord>,
    /// The ends of commits.
    borders: Vec<u64>,
    /// Number of events known to be visible and durable.
    acknowledged: u64,
    held: Vec<Held>,
    begun: Vec<Begun>,
    /// Ids that the store has assigned, once they were seen.
    ids: BTreeMap<u64, Uuid>,
    /// The positions of lost events.
    lost: BTreeSet<u64>,
}

impl World {
    fn new(bed: Bed, way: usize) -> World {
        let clock = Arc::new(AtomicI64::new(CREATED));
        let mut world = World {
            bed,
            store: None,
            clock,
            accepted: Vec::new(),
            borders: vec![0],
            acknowledged: 0,
            held: Vec::new(),
            begun: Vec::new(),
            ids: BTreeMap::new(),
            lost: BTreeSet::new(),
        };
        world.open(way);
        world
    }

    fn options(&self, way: usize) -> Options {
        let clock = self.clock.clone();
        self.bed
            .options()
            .segment_size(if way & 1 == 0 { TINY } else { 1 << 20 })
            .memory_map(way & 2 == 0)
            .maintenance(way & 4 == 0)
            .max_event_bytes(MAX_EVENT)
            .clock(move || Timestamp::from_nanos(clock.load(Ordering::SeqCst)))
    }

    fn open(&mut self, way: usize) {
        self.store = Some(self.options(way).open(self.bed.path()).unwrap());
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn stream(&self, n: usize) -> StreamId {
        stream(STREAMS[n])
    }

    /// What is left of the events at these positions.
    fn left(&self, positions: Range<u64>) -> impl DoubleEndedIterator<Item = &EventRecord> {
        let records = &self.accepted[positions.start as usize..positions.end as usize];
        records.iter().filter(|record| !self.lost.contains(&record.position))
    }

    /// The sequence after the last event of a stream.
    fn next(&self, stream: &StreamId) -> u64 {
        let mut of_it = self.left(0..self.accepted.len() as u64).filter(|record| record.stream == *stream);
        of_it.next_back().map_or(0, |last| last.sequence + 1)
    }

    /// Decides on a commit as the store should: its events, its result, or the conflict.
    fn decide(&self, parts: &[Part]) -> (Vec<Expected>, Decision) {
        let mut records: Vec<EventRecord> = Vec::new();
        let mut appends = Vec::new();
        let mut expectations = Vec::new();
        let mut conflict = None;
        let first = self.accepted.len() as u64;
        let clock = self.clock.load(Ordering::SeqCst);
        // Before the first event, the store knows when it was created.
        let now = self.accepted.last().map_or(CREATED, |last| last.recorded_at.as_nanos()).max(clock);
        for (n, hope, specs) in parts {
            let id = self.stream(*n);
            let within = records.iter().filter(|record| record.stream == id).count() as u64;
            let next = self.next(&id) + within;
            let expected = match hope {
                Hope::Any => Expected::Any,
                Hope::NoStream => Expected::NoStream,
                Hope::Exists => Expected::Exists,
                Hope::Next => Expected::Next(next),
                Hope::Off(by) => Expected::Next(next.wrapping_add_signed(*by)),
            };
            expectations.push(expected);
            let holds = match expected {
                Expected::Any => true,
                Expected::NoStream => next == 0,
                Expected::Exists => next > 0,
                Expected::Next(n) => n == next,
            };
            if !holds {
                conflict.get_or_insert((id.clone(), expected, next));
            }
            let position = first + records.len() as u64;
            let len = specs.len() as u64;
            appends.push((next..next + len, position..position + len));
            for (k, &spec) in specs.iter().enumerate() {
                let k = k as u64;
                let recorded_at = Timestamp::from_nanos(now);
                records.push(EventRecord {
                    position: position + k,
                    sequence: next + k,
                    recorded_at,
                    ..record_of(spec, &id)
                });
            }
        }
        let recorded_at = Some(now);
        if records.is_empty() && conflict.is_none() {
            // Nothing is stored; the result depends on what is visible.
            return (
                expectations,
                Ok((records, Expectation { appends: Vec::new(), positions: 0..0, recorded_at: None })),
            );
        }
        match conflict {
            Some(conflict) => (expectations, Err(conflict)),
            None => {
                let positions = first..first + records.len() as u64;
                (expectations, Ok((records, Expectation { appends, positions, recorded_at })))
            }
        }
    }

    fn submit(&mut self, parts: &[Part]) -> Option<Held> {
        let (expectations, decided) = self.decide(parts);
        let mut transaction = self.store().transaction();
        for ((n, _, specs), expected) in parts.iter().zip(expectations) {
            let id = self.stream(*n);
            let records: Vec<_> = specs.iter().map(|&spec| record_of(spec, &id)).collect();
            transaction = transaction.append(&id, expected, records.iter().map(new_event));
        }
        let submitted = transaction.submit();
        match decided {
            Err(expected) => {
                assert_eq!(conflict(submitted), expected);
                None
            }
            Ok((records, committed)) => {
                let ticket = submitted.unwrap();
                if records.is_empty() {
                    assert!(ticket.is_done());
                    let nothing = ticket.wait().unwrap();
                    assert!(nothing.positions.is_empty() && nothing.appends.len() == parts.len());
                    assert!(self.visible().contains(&nothing.positions.start));
                    return None;
                }
                self.accepted.extend(records);
                self.borders.push(self.accepted.len() as u64);
                Some(Held { ticket, committed })
            }
        }
    }

    fn wait(&mut self, held: Held) {
        let committed = held.ticket.wait().unwrap();
        held.committed.check(&committed);
        self.acknowledged = self.acknowledged.max(committed.positions.end);
        assert!(self.store().len() >= self.acknowledged);
    }

    /// What may be visible now.
    fn visible(&self) -> Range<u64> {
        self.acknowledged..self.accepted.len() as u64 + 1
    }

    fn begin(&self, query: Query) -> Begun {
        let store = self.store();
        let read = match query.stream {
            None => store.read_all(),
            Some(n) => store.read(&self.stream(n)),
        };
        let mut read = read.from(query.from);
        if !query.open_end {
            read = read.to(query.from.saturating_add(query.len));
        }
        if let Some(limit) = query.limit {
            read = read.limit(limit);
        }
        if query.backwards {
            read = read.backwards();
        }
        let before = store.len();
        let events = read.into_iter();
        assert!(self.visible().contains(&before), "{before} visible, where {:?} may be", self.visible());
        Begun { events, query, heads: before..store.len() + 1 }
    }

    /// What a read should return if this many events were visible: their positions.
    fn answer(&self, query: Query, head: u64) -> Vec<u64> {
        let to = if query.open_end { u64::MAX } else { query.from.saturating_add(query.len) };
        let id = query.stream.map(|n| self.stream(n));
        let of_it = self.left(0..head).filter(|record| id.as_ref().is_none_or(|id| record.stream == *id));
        let number = |record: &EventRecord| if id.is_some() { record.sequence } else { record.position };
        let mut found: Vec<_> =
            of_it.filter(|record| (query.from..to).contains(&number(record))).map(|f| f.position).collect();
        if query.backwards {
            found.reverse();
        }
        found.truncate(query.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX)));
        found
    }

    fn finish(&mut self, begun: Begun) {
        let Begun { events, query, heads } = begun;
        let found = drain(events);
        let positions: Vec<_> = found.iter().map(|record| record.position).collect();
        let borders = self.borders.iter().filter(|border| heads.contains(border));
        let fits = borders.into_iter().any(|&head| self.answer(query, head) == positions);
        assert!(fits, "{query:?} gave {positions:?}, with {heads:?} visible; commits end at {:?}", self.borders);
        for record in &found {
            self.compare(record);
        }
    }

    /// An event is as it was appended, and keeps the id that it was seen with.
    fn compare(&mut self, found: &EventRecord) {
        let expected = &self.accepted[found.position as usize];
        let id = if expected.id == Uuid::nil() {
            assert_eq!(found.id.get_version_num(), 7);
            *self.ids.entry(found.position).or_insert(found.id)
        } else {
            expected.id
        };
        assert_eq!(*found, EventRecord { id, ..expected.clone() });
    }

    fn finish_all(&mut self) {
        for begun in std::mem::take(&mut self.begun) {
            self.finish(begun);
        }
    }

    /// Nothing is in flight: everything accepted is there.
    fn check_all(&mut self) {
        assert_eq!(self.store().len(), self.accepted.len() as u64);
        for record in all_records_but(self.store(), &self.lost) {
            self.compare(&record);
        }
        assert!(self.ids.values().is_sorted(), "ids rise");
        self.acknowledged = self.accepted.len() as u64;
    }

    /// Waits for all tickets, after the store was closed.
    fn wait_for_all(&mut self) {
        for held in std::mem::take(&mut self.held) {
            let committed = held.ticket.wait().unwrap();
            held.committed.check(&committed);
        }
    }

    fn reopen(&mut self, close: bool, way: usize) {
        self.finish_all();
        let store = self.store.take().unwrap();
        if close {
            store.close().unwrap();
            self.wait_for_all();
        } else {
            // The last handle closes.
            drop(store);
            self.held.clear();
        }
        self.open(way);
        assert!(self.store().open_report().clean, "{:?}", self.store().open_report());
        self.check_all();
    }

    /// Continues with what a power cut leaves of the disk.
    fn power_cut(&mut self, image: usize, way: usize) {
        use annals_testkit::Image;
        let Disk::Simulated(disk) = &self.bed.disk else { return };
        let seed = self.accepted.len() as u64 * 31 + image as u64;
        let images = [
            Image::Killed,
            Image::Durable,
            Image::All,
            Image::Subset(seed),
            Image::Sectors(512, seed),
            Image::Sectors(4096, seed),
            Image::Bytes(seed),
            Image::SizeWithoutData,
            Image::DataWithoutSize,
            Image::NamesOnly,
            Image::DataOnly,
            Image::Prefix(seed as usize % 5),
        ];
        let acknowledged = self.acknowledged.max(self.store().len());
        let after = disk.crash(images[image]);
        self.finish_all();
        self.held.clear();
        self.store = None;
        self.bed.disk = Disk::Simulated(after);
        self.open(way);
        let head = self.store().len();
        assert!(head >= acknowledged, "{head} of {acknowledged} acknowledged events are there");
        assert!(self.borders.contains(&head), "{head} is in the middle of a commit; they end at {:?}", self.borders);
        self.accepted.truncate(head as usize);
        self.borders.retain(|&border| border <= head);
        // A lost position can be used again, with another event and another id.
        self.ids.retain(|&position, _| position < head);
        self.lost.retain(|&position| position < head);
        self.check_all();
    }

    fn lose(&mut self, gap: Gap) {
        self.finish_all();
        self.store.take().unwrap().close().unwrap();
        self.wait_for_all();
        let live: BTreeSet<u64> = self.left(0..self.accepted.len() as u64).map(|record| record.position).collect();
        self.lost.extend(gap.open(&self.bed, live.iter().copied(), &live));
        self.ids.retain(|position, _| !self.lost.contains(position));
        self.open(gap.seed as usize);
        self.check_all();
        self.tell_the_time();
    }

    /// The recorded times of lost events are unknown: if the newest ones are lost, the next commit
    /// is no older than what is left of the log. That commit is made here.
    fn tell_the_time(&mut self) {
        let head = self.accepted.len() as u64;
        if !head.checked_sub(1).is_some_and(|last| self.lost.contains(&last)) {
            return;
        }
        let left = self.left(0..head).next_back().map_or(i64::MIN, |record| record.recorded_at.as_nanos());
        let before = self.accepted.last().unwrap().recorded_at.as_nanos();
        let clock = self.clock.load(Ordering::SeqCst);
        let id = self.stream(0);
        let record = record_of(Spec { len: 5, seed: head }, &id);
        let appended = self.store().append(&id, Expected::Any, [new_event(&record)]).unwrap();
        let recorded_at = appended.recorded_at;
        assert!((left.max(clock)..=before.max(clock)).contains(&recorded_at.as_nanos()));
        let sequence = self.next(&id);
        assert_eq!((appended.sequences, appended.positions), (sequence..sequence + 1, head..head + 1));
        self.accepted.push(EventRecord { position: head, sequence, recorded_at, ..record });
        self.borders.push(head + 1);
        self.acknowledged = head + 1;
    }

    fn take_step(&mut self, step: &Step) {
        match step {
            Step::Append((n, hope, specs)) => {
                let parts = [(*n, *hope, specs.clone())];
                if let Some(held) = self.submit(&parts) {
                    self.wait(held);
                }
            }
            Step::Commit(parts) => {
                if let Some(held) = self.submit(parts) {
                    self.wait(held);
                }
            }
            Step::Submit(parts) => {
                let held = self.submit(parts);
                self.held.extend(held);
            }
            Step::Wait(n) if !self.held.is_empty() => {
                let held = self.held.swap_remove(n % self.held.len());
                self.wait(held);
            }
            Step::Drop(n) if !self.held.is_empty() => drop(self.held.swap_remove(n % self.held.len())),
            Step::TooLarge(n, specs) => {
                let id = self.stream(*n);
                let records: Vec<_> = specs.iter().map(|&spec| record_of(spec, &id)).collect();
                let large = noise(1, MAX_EVENT);
                let events = records.iter().map(new_event).chain([NewEvent::new("T", &large)]);
                let error = self.store().append(&id, Expected::Any, events).unwrap_err();
                assert!(matches!(error, Error::LimitExceeded { limit: MAX_EVENT, .. }), "{error:?}");
            }
            Step::Read(query) => {
                let begun = self.begin(*query);
                self.finish(begun);
            }
            Step::Begin(query) => {
                let begun = self.begin(*query);
                self.begun.push(begun);
            }
            Step::Finish(n) if !self.begun.is_empty() => {
                let begun = self.begun.swap_remove(n % self.begun.len());
                self.finish(begun);
            }
            Step::Clock(nanos) => self.clock.store(*nanos, Ordering::SeqCst),
            Step::Sync => {
                self.store().sync().unwrap();
                self.acknowledged = self.accepted.len() as u64;
                assert_eq!(self.store().len(), self.acknowledged);
            }
            Step::Reopen { close, way } => self.reopen(*close, *way),
            Step::PowerCut { image, way } => self.power_cut(*image, *way),
            Step::Spoil(how) => {
                self.finish_all();
                self.store.take().unwrap().close().unwrap();
                self.wait_for_all();
                self.bed.spoil_indexes(*how);
                self.open(0);
                self.check_all();
            }
            Step::Closed => {
                let handle = self.store().clone();
                handle.close().unwrap();
                let late = self.store().append(&stream("late-1"), Expected::Any, texts(["late"]));
                assert!(matches!(late, Err(Error::Closed)), "{late:?}");
                self.wait_for_all();
                self.check_all();
                self.reopen(true, 0);
            }
            Step::ReadOnly => {
                self.finish_all();
                self.store.take().unwrap().close().unwrap();
                self.wait_for_all();
                self.store = Some(self.options(3).open_read_only(self.bed.path()).unwrap());
                let refused = self.store().append(&stream("late-1"), Expected::Any, texts(["late"]));
                assert!(matches!(refused, Err(Error::ReadOnly)), "{refused:?}");
                self.check_all();
                self.store.take().unwrap().close().unwrap();
                self.open(5);
            }
            Step::Lose(gap) => self.lose(*gap),
            Step::Wait(_) | Step::Drop(_) | Step::Finish(_) => {}
        }
    }
}

fn run(bed: Bed, way: usize, steps: &[Step]) {
    let mut world = World::new(bed, way);
    for step in steps {
        world.take_step(step);
    }
    world.reopen(true, 0);
    let store = world.store.take().unwrap();
    world.bed.close_and_check_but(store, &world.lost);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, max_shrink_iters: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    /// Seeded, each found here: parts of a transaction that do not see each other, a clock that is
    /// trusted when it runs backwards, an inclusive `to`, a limit taken before the direction, a
    /// close that does not write what was accepted, an append without a sync, a segment whose name
    /// is not synced.
    #[test]
    fn the_simulated_disk_does_what_the_model_does(way in 0..8usize, steps in prop::collection::vec(step(), 1..40)) {
        run(Bed::simulated(), way, &steps);
    }

    #[test]
    fn memory_does_what_the_model_does(way in 0..8usize, steps in prop::collection::vec(step(), 1..40)) {
        run(Bed::memory(), way, &steps);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_directory_does_what_the_model_does(way in 0..8usize, steps in prop::collection::vec(step(), 1..40)) {
        run(Bed::directory(), way, &steps);
    }
}
