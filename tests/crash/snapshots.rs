//! Crashes at every call of every small workload that puts and deletes snapshots.
//!
//! Every image of the disk is then opened and compared with the oracle:
//!
//! * the events are as they would be without snapshots;
//! * the latest snapshot is a state that was put for its sequence, identical in every byte, or
//!   there is none;
//! * loading returns what replaying returns, also after lost events were replaced by others;
//! * if snapshots are synced, and if only the process has died, an acknowledged one is there, and a
//!   deleted one is not;
//! * putting works, and leaves no partial file.
//!
//! The oracle has seen each of these bugs, planted in the library: a snapshot that is written under
//! its final name; its sync left out; the sync of its directory left out; older ones removed before
//! it is written (`acknowledged_snapshots_survive`, and others); the sync of a delete left out (the
//! same); the checksum of the state not checked (`snapshots_that_are_not_synced`); the event not
//! checked, or only whether there is one with that sequence (`snapshots_of_events_that_are_lost`);
//! partial files left (all tests).

use annals::snapshot::{Retention, SnapshotFault};
use annals::{Durability, Error, Event, Expected, NewEvent, Options, Result, Store, StreamId, Timestamp};
use annals_testkit::crash::oracle::{images, options, sequences, setting};
use annals_testkit::{Crash, Fault, Image, Operation, SimFs};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// One event.
    Append,
    /// A snapshot after the last event. Only the newest default one is kept, so this removes
    /// others.
    Put,
    Transient,
    Persist,
    /// Another one for the sequence of the last one.
    Replace,
    Delete,
}

const STEPS: [Step; 6] = [Step::Append, Step::Put, Step::Transient, Step::Persist, Step::Replace, Step::Delete];

/// All workloads of up to `most` steps, each after two events and a snapshot.
fn workloads(most: u64) -> Vec<Vec<Step>> {
    sequences(&[Step::Append, Step::Append, Step::Put], &STEPS, most)
}

/// It spans blocks of checksums and sectors, and differs from version to version.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
struct State {
    count: u64,
    /// Folded from the data of the events.
    digest: u64,
    /// The number of the put. Not part of the sum of events.
    version: u64,
    filler: Vec<u8>,
}

fn apply(state: &mut State, event: &Event) -> Result<()> {
    state.count += 1;
    let fold = |digest: u64, &byte: &u8| (digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
    state.digest = event.data().iter().fold(state.digest, fold);
    Ok(())
}

fn filler(version: u64) -> Vec<u8> {
    (0..9000u64).map(|n| (n.wrapping_mul(31 + version) >> 3) as u8).collect()
}

fn id() -> StreamId {
    StreamId::new("s", "1").unwrap()
}

/// A store whose clock continues from there.
fn open(disk: &SimFs, from: i64, set: impl Fn(Options) -> Options) -> Result<Store> {
    let now = Arc::new(AtomicI64::new(from));
    let options = options(disk).segment_size(1 << 20).snapshots_kept(0);
    set(options).clock(move || Timestamp::from_nanos(now.fetch_add(1, Ordering::Relaxed))).open("store")
}

fn replay(store: &Store, until: u64) -> State {
    let mut state = State::default();
    for event in store.read(&id()).to(until.saturating_add(1)) {
        apply(&mut state, &event.unwrap()).unwrap();
    }
    state
}

/// A snapshot that was attempted.
#[derive(Clone, Debug)]
struct Tried {
    sequence: u64,
    state: State,
    acknowledged: bool,
}

#[derive(Clone, Copy)]
struct How {
    sync: bool,
    durability: Durability,
}

/// A workload that has been run, up to the death of the process.
struct Run {
    disk: SimFs,
    /// Data of the events, and whether they were acknowledged.
    events: Vec<(Vec<u8>, bool)>,
    /// Since a delete began.
    tried: Vec<Tried>,
    /// Before.
    forgotten: Vec<Tried>,
    /// Nothing was put since an acknowledged delete.
    deleted: bool,
}

impl Run {
    fn new(disk: SimFs, steps: &[Step], how: How) -> Run {
        let mut run = Run { disk, events: Vec::new(), tried: Vec::new(), forgotten: Vec::new(), deleted: false };
        let options = |options: Options| options.sync_snapshots(how.sync).durability(how.durability);
        if let Ok(store) = open(&run.disk, 1_000, options) {
            for (n, step) in steps.iter().enumerate() {
                run.step(&store, *step, n as u64);
            }
            let disk = run.disk.clone();
            disk.while_dead(|| drop(store));
        }
        run
    }

    fn step(&mut self, store: &Store, step: Step, n: u64) {
        let (retention, replace) = match step {
            Step::Append => {
                let data = format!("event {n}").into_bytes();
                let appended = store.append(&id(), Expected::Any, [NewEvent::new("T", &data)]);
                self.events.push((data, appended.is_ok()));
                return;
            }
            Step::Delete => {
                self.forgotten.append(&mut self.tried);
                self.deleted = store.snapshots().delete(&id()).is_ok();
                return;
            }
            Step::Put => (Retention::Default, false),
            Step::Transient => (Retention::Transient, false),
            Step::Persist => (Retention::Persist, false),
            Step::Replace => (Retention::Default, true),
        };
        // Not asked of the store: a dead process cannot say what was attempted.
        let last = self.tried.last().or(self.forgotten.last()).filter(|_| replace).map(|tried| tried.sequence);
        let next = store.read(&id()).into_iter().filter(|event| event.is_ok()).count() as u64;
        let Some(sequence) = last.or(next.checked_sub(1)) else { return };
        let Ok(mut state) = store.load(&id()).at(sequence).fold(State::default(), apply).map(|loaded| loaded.state)
        else {
            return;
        };
        (state.version, state.filler) = (n, filler(n));
        let put = store.snapshots().retention(retention).put(&id(), sequence, &state);
        if matches!(put, Err(Error::Invalid { .. })) {
            return;
        }
        self.tried.push(Tried { sequence, state, acknowledged: put.is_ok() });
        self.deleted = false;
    }

    /// Compares what a crash has left with what may be there.
    fn check(&self, disk: &SimFs, how: How, image: Image, context: &str) {
        let set = |options: Options| options.sync_snapshots(how.sync);
        let store = open(disk, 1_000_000, set).unwrap_or_else(|e| panic!("{context}: {e}"));
        self.check_events(&store, how, image, context);

        let latest = store.snapshots().latest(&id()).expect(context);
        let state = latest.as_ref().map(|latest| latest.decode::<State>().expect(context));
        let all = || self.forgotten.iter().chain(&self.tried);
        if let (Some(latest), Some(state)) = (&latest, &state) {
            let known = all().any(|tried| tried.sequence == latest.sequence() && tried.state == *state);
            assert!(known, "{context}: never put: {latest:?}");
        }
        if how.sync || matches!(image, Image::Killed | Image::All) {
            self.check_kept(latest.as_ref().map(|latest| latest.sequence()), state.as_ref(), &store, context);
        }
        same_as_replay(&store, context);

        // Other events replace those that were lost, and the next put finds order.
        let next = store.stream(&id()).unwrap().map_or(0, |info| info.next_sequence);
        for n in 0..3 {
            store.append(&id(), Expected::Next(next + n), [NewEvent::new("T", "after")]).expect(context);
            same_as_replay(&store, context);
        }
        let state = State { version: 99, ..replay(&store, next + 2) };
        store.snapshots().put(&id(), next + 2, &state).expect(context);
        let latest = store.snapshots().latest(&id()).expect(context).expect(context);
        assert_eq!((latest.sequence(), latest.decode::<State>().unwrap()), (next + 2, state), "{context}");
        let half = disk.files().into_iter().find(|path| path.extension().is_some_and(|e| e == "new"));
        assert_eq!(half, None, "{context}");
        // A put reads headers only: a torn state stays, and does no harm.
        let report = store.snapshots().verify().expect(context);
        let torn = report.unusable.iter().all(|(_, fault)| *fault == SnapshotFault::Damaged);
        assert!(torn && report.usable > 0, "{context}: {report:?}");
    }

    fn check_events(&self, store: &Store, how: How, image: Image, context: &str) {
        let found: Vec<Vec<u8>> = store.read_all().into_iter().map(|event| event.unwrap().data().to_vec()).collect();
        let acknowledged = self.events.iter().filter(|(_, acknowledged)| *acknowledged).count();
        let all: Vec<Vec<u8>> = self.events.iter().map(|(data, _)| data.clone()).collect();
        // The last one may be in flight.
        assert!(all.starts_with(&found), "{context}: {} events", found.len());
        let durable = how.durability == Durability::Sync || image == Image::Killed;
        assert!(found.len() >= acknowledged || !durable, "{context}: {} of {acknowledged} events", found.len());
    }

    /// An acknowledged snapshot is there, or a later one.
    fn check_kept(&self, latest: Option<u64>, state: Option<&State>, store: &Store, context: &str) {
        if self.deleted {
            assert_eq!(latest, None, "{context}: it was deleted");
        }
        let next = store.stream(&id()).unwrap().map_or(0, |info| info.next_sequence);
        // One whose event is lost has replaced others before.
        let lost = self.tried.iter().any(|tried| tried.sequence >= next);
        let kept = self.tried.iter().filter(|tried| tried.acknowledged && !lost);
        let Some(kept) = kept.max_by_key(|tried| (tried.sequence, tried.state.version)) else { return };
        let (Some(latest), Some(state)) = (latest, state) else { panic!("{context}: {} is lost", kept.sequence) };
        let newer = (latest, state.version) >= (kept.sequence, kept.state.version);
        assert!(newer, "{context}: {} has come back", state.version);
    }
}

/// Loading equals replaying, up to each sequence.
fn same_as_replay(store: &Store, context: &str) {
    let next = store.stream(&id()).unwrap().map_or(0, |info| info.next_sequence);
    for at in (0..next).rev().take(2).chain([0, u64::MAX]) {
        let loaded = store.load(&id()).at(at).fold(State::default(), apply).expect(context);
        let expected = replay(store, at);
        let (found, expected) = ((loaded.state.count, loaded.state.digest), (expected.count, expected.digest));
        assert_eq!(found, expected, "{context}, at {at}: {:?}", loaded.snapshot);
    }
}

fn die_everywhere(how: How) {
    let mut built = 0u64;
    for steps in workloads(setting("ANNALS_CRASH_STEPS", 2).min(3)) {
        let calls = Run::new(SimFs::new(), &steps, how).disk.calls();
        for call in 0..=calls {
            let disk = SimFs::new();
            disk.crash_when(Crash::AtCall(call));
            let run = Run::new(disk, &steps, how);
            for image in images(&run.disk) {
                let context = format!("{steps:?}, death at call {call} of {calls}, {image:?}");
                run.check(&run.disk.crash(image), how, image, &context);
                built += 1;
            }
        }
    }
    println!("{built} images, no violation");
}

#[test]
fn snapshots_that_are_not_synced() {
    die_everywhere(How { sync: false, durability: Durability::Sync });
}

#[test]
fn acknowledged_snapshots_survive() {
    die_everywhere(How { sync: true, durability: Durability::Sync });
}

/// The events may be lost, and the snapshots of them survive.
#[test]
fn snapshots_of_events_that_are_lost() {
    die_everywhere(How { sync: true, durability: Durability::Os });
    die_everywhere(How { sync: false, durability: Durability::Os });
}

/// Every call fails once. What was there stays, and what is missing was refused.
#[test]
fn failed_calls_of_puts_and_deletes() {
    let mut built = 0u64;
    let operations = [
        Operation::Create,
        Operation::Write,
        Operation::Sync,
        Operation::Rename,
        Operation::SyncDir,
        Operation::Remove,
    ];
    for steps in workloads(setting("ANNALS_CRASH_STEPS", 2).min(2)) {
        for (operation, sync) in operations.into_iter().flat_map(|operation| [(operation, false), (operation, true)]) {
            let how = How { sync, durability: Durability::Sync };
            for after in 0.. {
                let fault = Fault { operation, after, times: 1, kind: ErrorKind::StorageFull };
                let disk = SimFs::new();
                disk.fail(fault);
                let run = Run::new(disk, &steps, how);
                // The tests of commits check those that were refused.
                let stored = run.events.iter().all(|(_, acknowledged)| *acknowledged);
                let all = [Image::Killed, Image::Durable, Image::All, Image::Subset(after), Image::Bytes(after)];
                for image in all.into_iter().filter(|_| stored) {
                    let context = format!("{steps:?}, {fault:?}, {image:?}");
                    run.check(&run.disk.crash(image), how, image, &context);
                    built += 1;
                }
                if !run.disk.has_failed() {
                    break;
                }
            }
        }
    }
    println!("{built} images after failed calls, no violation");
}
