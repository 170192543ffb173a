//! Stored states of projections and aggregates in stores that lose events and continue: a state
//! includes each intact event once and in order. Besides these it includes at most events that were
//! lost after it had applied them. A rebuilt one includes the intact ones.

use annals::projection::ReadModel;
use annals::{Error, Event, Expected, NewEvent, Options, Projection, Query, Result, Store};
use annals_testkit::{Bed, Gap, SimFs, stream};
use proptest::prelude::*;
use std::collections::BTreeSet;

const STREAMS: [&str; 3] = ["a-1", "a-1@x", "b-1"];

#[derive(Clone, Debug)]
enum Step {
    Append(usize, usize),
    /// The aggregate of this stream is loaded, and a snapshot is put after this many events.
    Load(usize, u64),
    /// A snapshot of this sequence of this stream is put.
    Put(usize, u64),
    CatchUp,
    Save,
    Rebuild,
    /// The read model ends and is opened again: inline, or not.
    Restart(bool),
    Reopen,
    Lose(Gap),
}

fn step() -> impl Strategy<Value = Step> {
    let streams = 0..STREAMS.len();
    prop_oneof![
        6 => (streams.clone(), 1usize..5).prop_map(|(stream, count)| Step::Append(stream, count)),
        4 => (streams.clone(), 1u64..6).prop_map(|(stream, every)| Step::Load(stream, every)),
        2 => (streams, 0u64..8).prop_map(|(stream, sequence)| Step::Put(stream, sequence)),
        2 => Just(Step::CatchUp),
        2 => Just(Step::Save),
        1 => Just(Step::Rebuild),
        2 => any::<bool>().prop_map(Step::Restart),
        1 => Just(Step::Reopen),
        3 => (any::<u64>(), any::<bool>()).prop_map(|(seed, repair)| Step::Lose(Gap { seed, repair })),
    ]
}

/// The positions of the events that it has applied.
struct Positions;

impl Projection for Positions {
    type State = Vec<u64>;

    fn name(&self) -> &str {
        "positions"
    }
    fn version(&self) -> u32 {
        1
    }
    fn apply(&self, seen: &mut Vec<u64>, event: &Event) -> Result<()> {
        seen.push(event.position());
        Ok(())
    }
}

struct World {
    bed: Bed,
    store: Option<Store>,
    model: Option<ReadModel<Positions>>,
    lost: BTreeSet<u64>,
}

fn positions(events: impl IntoIterator<Item = Result<Event>>) -> Vec<u64> {
    events.into_iter().map(|event| event.unwrap().position()).collect()
}

/// Whether a state with this checkpoint includes what it must.
#[track_caller]
fn check(state: &[u64], intact: &[u64], lost: &BTreeSet<u64>, until: Option<u64>) {
    assert!(state.is_sorted_by(|a, b| a < b), "twice, or out of order: {state:?}");
    let left: Vec<u64> = state.iter().copied().filter(|position| !lost.contains(position)).collect();
    let due: Vec<u64> =
        intact.iter().copied().filter(|position| until.is_some_and(|until| *position <= until)).collect();
    assert_eq!(left, due, "of {state:?}, with {lost:?} lost");
}

impl World {
    fn new() -> World {
        let bed = Bed::on_disk(&SimFs::new());
        let mut world = World { bed, store: None, model: None, lost: BTreeSet::new() };
        world.open(false);
        world
    }

    fn options(&self) -> Options {
        self.bed.options().segment_size(4096)
    }

    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn open(&mut self, inline: bool) {
        self.store = Some(self.options().open(self.bed.path()).unwrap());
        self.start(inline);
    }

    fn start(&mut self, inline: bool) {
        let project = self.store().projection(Positions).save_every(3);
        self.model = Some(if inline { project.inline() } else { project.catch_up() }.unwrap());
        self.check_model();
    }

    fn check_model(&self) {
        let model = self.model.as_ref().unwrap();
        let (seen, until) = model.read_at(|seen, position| (seen.clone(), position)).unwrap();
        check(&seen, &positions(self.store().query(&Query::new())), &self.lost, until);
    }

    fn close(&mut self) {
        self.model = None;
        self.store.take().unwrap().close().unwrap();
    }

    fn load(&self, name: &str, every: u64) {
        let apply = |seen: &mut Vec<u64>, event: &Event| -> Result<()> {
            seen.push(event.position());
            Ok(())
        };
        let id = stream(name);
        let loaded = self.store().load(&id).snapshot_every(every).fold(Vec::new(), apply).unwrap();
        check(&loaded.state, &positions(self.store().read(&id)), &self.lost, Some(u64::MAX));
        let next = self.store().stream(&id).unwrap().map_or(0, |info| info.next_sequence);
        assert_eq!(loaded.next_sequence, next, "{name}");
        assert_eq!(loaded.put_error, None, "{name}");
    }

    /// A snapshot is put for exactly the named event, and for none that is missing.
    fn put(&self, name: &str, sequence: u64) {
        let id = stream(name);
        let until: Vec<Event> = self.store().read(&id).to(sequence + 1).into_iter().map(Result::unwrap).collect();
        let is_there = until.last().is_some_and(|last| last.sequence() == sequence);
        let state: Vec<u64> = until.iter().map(Event::position).collect();
        let put = self.store().snapshots().put(&id, sequence, &state);
        match put {
            Ok(_) => assert!(is_there, "{name} has no event {sequence}"),
            Err(Error::Invalid { .. }) => assert!(!is_there, "{name} has an event {sequence}"),
            Err(error) => panic!("{error}"),
        }
    }

    /// The first event of a stream in a named edition, and the one that it diverges from, stay:
    /// without them nothing tells where it diverged, and new ones come before what was there.
    fn lose(&mut self, gap: Gap) {
        let live: BTreeSet<u64> = positions(self.store().read_all()).into_iter().collect();
        let events = || self.store().read_all().into_iter().map(Result::unwrap);
        let first = events().find(|event| event.edition().is_some());
        let last = events().filter(|event| event.stream() == stream(STREAMS[0])).last();
        let kept: Vec<u64> = first.into_iter().chain(last).map(|event| event.position()).collect();
        self.close();
        let lost = gap.open(&self.bed, live.iter().copied().filter(|position| !kept.contains(position)), &live);
        self.lost.extend(lost);
        self.open(gap.seed.is_multiple_of(2));
    }

    fn take_step(&mut self, step: &Step) {
        match *step {
            Step::Append(name, count) => {
                let events = (0..count).map(|_| NewEvent::with_data("T", vec![7; 200]));
                self.store().append(&stream(STREAMS[name]), Expected::Any, events).unwrap();
            }
            Step::Load(name, every) => self.load(STREAMS[name], every),
            Step::Put(name, sequence) => self.put(STREAMS[name], sequence),
            Step::CatchUp => {
                self.model.as_ref().unwrap().catch_up().unwrap();
                let until = self.model.as_ref().unwrap().position();
                assert_eq!(until, positions(self.store().query(&Query::new())).last().copied().max(until));
                self.check_model();
            }
            Step::Save => self.model.as_ref().unwrap().save().unwrap(),
            Step::Rebuild => {
                let model = self.model.as_ref().unwrap();
                model.rebuild().unwrap();
                assert_eq!(model.state().unwrap(), positions(self.store().query(&Query::new())));
            }
            Step::Restart(inline) => {
                self.model = None;
                self.start(inline);
            }
            Step::Reopen => {
                self.close();
                self.open(false);
            }
            Step::Lose(gap) => self.lose(gap),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn states_hold_what_is_intact(steps in prop::collection::vec(step(), 1..40)) {
        let mut world = World::new();
        steps.iter().for_each(|step| world.take_step(step));
        STREAMS.iter().for_each(|name| world.load(name, u64::MAX));
        world.check_model();
        world.close();
    }
}
