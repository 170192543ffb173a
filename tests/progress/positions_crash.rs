//! Crashes, failing calls and damage of the file that keeps positions, checkpoints and dead
//! letters, on the simulated disk.
//!
//! All workloads of one to three steps are run; at each changing call of the file system the
//! process dies, or the call fails; every image of the fault model is built (see
//! `annals_testkit::SimFs`), and compared with the oracle. The file changes by flushes only, so
//! what is found must be, as a whole, the content of the last acknowledged flush, or of one that
//! was tried after it: nothing that was flushed is lost or goes back, and nothing is mixed. Then a
//! second open finds the same, a flush keeps it through a power cut, and so it does a later change.
//!
//! The oracle has seen each of these bugs, planted in the library: no sync of the new file before
//! its rename, no sync of the directory after it, no sync of a batch, a failed sync tried again; a
//! batch added after the torn bytes of a failed one; the changes of a failed flush forgotten; after
//! an open, the last batch not written again, or not synced, or the directory not synced; a deleted
//! position written as an existing one (`what_was_flushed_survives`, `failed_calls_lose_nothing`);
//! the chain not checked (`a_stale_batch_is_not_taken_for_its_successor`); a bad batch with intact
//! ones after it taken for a torn tail (`no_changed_byte_gives_a_wrong_position`); one that was
//! there when the file got its name (`a_file_that_was_just_rewritten_has_no_torn_tail`). They found
//! a real one: a slot whose position the file had deleted stayed, and was written into the next
//! file.
//!
//! `ANNALS_CRASH_STEPS=3 ANNALS_CRASH_SEEDS=4 cargo test --release --test progress positions_crash::`
//! runs all of it.

use annals::progress::ExpectedVersion;
use annals::{Error, Event, Expected, NewEvent, Options, Outcome, Query, Result, Store, StreamId};
use annals_testkit::crash::oracle::{images, sequences, setting};
use annals_testkit::{Crash, Fault, Image, Operation, SimFs};
use std::collections::BTreeMap;
use std::io::ErrorKind;

const FILE: &str = "store/POSITIONS";

/// What is stored, by handler and stream, or by the name of the checkpoint.
type State = BTreeMap<String, (u64, u64)>;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// A position rises.
    Put,
    /// A lower one is put, which changes nothing, and another rises.
    Lower,
    /// A position goes back.
    Reset,
    /// A position is deleted.
    Delete,
    /// A checkpoint moves.
    Commit,
    /// The checkpoint is deleted.
    Forget,
    /// A consumer gives an event up.
    GiveUp,
    /// All dead letters are dropped.
    Drop,
    Flush,
    /// Flushes of so much that the file is rewritten.
    Compact,
    /// Close, and open again.
    Reopen,
    /// Dropped without closing, as by a killed process, and opened again.
    Abandon,
}

const STEPS: [Step; 12] = [
    Step::Put,
    Step::Lower,
    Step::Reset,
    Step::Delete,
    Step::Commit,
    Step::Forget,
    Step::GiveUp,
    Step::Drop,
    Step::Flush,
    Step::Compact,
    Step::Reopen,
    Step::Abandon,
];

/// All workloads of up to `most` steps, each after a start that leaves something to lose, and
/// before a flush.
fn workloads(most: u64) -> Vec<Vec<Step>> {
    let all = sequences(&[Step::Put, Step::Flush], &STEPS, most).split_off(1);
    all.into_iter().map(|steps| [&steps[..], &[Step::Flush]].concat()).collect()
}

fn most_steps() -> u64 {
    setting("ANNALS_CRASH_STEPS", 2)
}

fn options(disk: &SimFs) -> Options {
    Options::new().file_system(disk.clone()).maintenance(false).segment_size(4096).reserve(0)
}

fn stream(name: &str) -> StreamId {
    name.parse().unwrap()
}

/// Roots so long that a few flushes of these make the file long.
fn large(n: u64) -> StreamId {
    StreamId::new("large", [vec![n as u8], vec![b'x'; 4000]].concat()).unwrap()
}

fn gave_up(position: u64) -> String {
    format!("d gave up {position}")
}

/// The content of a store.
fn state(store: &Store) -> Result<State> {
    let positions = store.positions();
    let mut found = State::new();
    for handler in positions.handlers()? {
        let listed = positions.list(&handler.name)?;
        assert_eq!(listed.len() as u64, handler.streams);
        for of in listed {
            // No entry outlives its event.
            assert_eq!((positions.get(&handler.name, &of.stream)?, of.fault), (Some(of.sequence), None));
            found.insert(format!("{} {}", handler.name, of.stream), (of.sequence, 0));
        }
    }
    for checkpoint in store.checkpoints().list()? {
        assert_eq!(checkpoint.fault, None);
        found.insert(checkpoint.name, (checkpoint.position, checkpoint.version));
    }
    for letter in store.consumer("d").dead_letters()? {
        assert_eq!((letter.reason.as_str(), letter.fault), ("no", None));
        found.insert(gave_up(letter.position), (letter.attempts, 0));
    }
    Ok(found)
}

/// What may be found after a crash: the content of the last acknowledged flush, and of those that
/// were tried since.
#[derive(Clone)]
struct Model {
    now: State,
    allowed: Vec<State>,
    next: u64,
}

/// A store in use.
struct Run {
    disk: SimFs,
    model: Model,
    store: Option<Store>,
}

impl Run {
    fn new() -> Run {
        let disk = SimFs::new();
        let store = options(&disk).open("store").unwrap();
        // Resets are bound to one of these.
        store.append(&stream("a-1"), Expected::Any, (0..97).map(|_| NewEvent::new("T", ""))).unwrap();
        store.close().unwrap();
        let model = Model { now: State::new(), allowed: vec![State::new()], next: 100 };
        let store = options(&disk).open("store").ok();
        Run { disk, model, store }
    }

    /// Another process, after a crash.
    fn resume(disk: SimFs, model: &Model, context: &str) -> Run {
        let mut run = Run { disk, model: model.clone(), store: None };
        run.open(context);
        run
    }

    fn all(mut self, steps: &[Step]) -> Run {
        for &step in steps {
            self.step(step, &format!("{steps:?}"));
        }
        self
    }

    fn abandon(&mut self) {
        let store = self.store.take();
        self.disk.while_dead(|| drop(store));
    }

    fn open(&mut self, context: &str) {
        self.store = options(&self.disk).open("store").ok();
        let Some(store) = &self.store else { return };
        match state(store) {
            Ok(found) => {
                let allowed = &self.model.allowed;
                assert!(allowed.contains(&found), "{context}: found {found:?}\nallowed {allowed:?}");
                self.model.now = found;
            }
            Err(error) => assert!(self.disk.is_dead(), "{context}: {error}"),
        }
    }

    /// A call that flushes: what it would make durable may be there from now on, and is the least
    /// if it succeeds.
    fn flushes(&mut self, flush: impl FnOnce(&mut Self) -> Result<()>) -> Result<()> {
        if !self.disk.is_dead() && !self.model.allowed.contains(&self.model.now) {
            self.model.allowed.push(self.model.now.clone());
        }
        let done = flush(self);
        if done.is_ok() {
            self.model.allowed = vec![self.model.now.clone()];
        }
        done
    }

    fn flush(&mut self) -> Result<()> {
        let Some(store) = self.store.clone() else { return Err(Error::Closed) };
        self.flushes(|_| store.positions().flush())
    }

    fn put(&mut self, handler: &str, stream: &StreamId, sequence: u64) {
        let Some(store) = &self.store else { return };
        let Ok(rose) = store.positions().put(handler, stream, sequence) else {
            assert!(self.disk.is_dead(), "the event could not be looked up");
            return;
        };
        let now = self.model.now.entry(format!("{handler} {stream}")).or_default();
        assert_eq!(rose, *now < (sequence, 0));
        *now = (*now).max((sequence, 0));
    }

    fn give_up(&mut self) {
        let Some(store) = self.store.clone() else { return };
        let Ok(appended) = store.append(&stream("d-1"), Expected::Any, [NewEvent::new("T", "")]) else { return };
        let last = appended.positions.start;
        let (first, version) = self.model.now.get("d").map_or((0, 0), |&(position, version)| (position + 1, version));
        self.model.now.insert("d".into(), (last, version + 1));
        let given_up = |position: &u64| *position >= 97;
        (first..=last).filter(given_up).for_each(|position| _ = self.model.now.insert(gave_up(position), (1, 0)));
        let consumer = store.consumer("d").query(Query::new().domain("d")).until_caught_up();
        let run = || consumer.run(|_: &Event| Outcome::Park("no".into()));
        if self.flushes(|_| run().map(drop)).is_err() {
            // It may have ended before it changed anything.
            self.model.now = state(&store).expect("it was read before");
        }
    }

    fn step(&mut self, step: Step, context: &str) {
        if self.store.is_none() && !self.disk.is_dead() {
            self.open(context);
        }
        let Some(store) = self.store.clone() else { return };
        if state(&store).is_err() {
            // It died before the file was read.
            assert!(self.disk.is_dead(), "{context}");
            return;
        }
        let (positions, checkpoints) = (store.positions(), store.checkpoints());
        drop(store);
        self.model.next += 100;
        let next = self.model.next;
        match step {
            Step::Put => self.put("h", &stream("a-1"), next),
            Step::Lower => {
                self.put("h", &stream("a-1"), 7);
                self.put("other", &stream("a-1@x"), next + 1);
            }
            Step::Reset => {
                if positions.reset("h", &stream("a-1"), next % 97).is_err() {
                    // The event could not be looked up.
                    assert!(self.disk.is_dead(), "{context}");
                    return;
                }
                self.model.now.insert("h a-1".into(), (next % 97, 0));
            }
            Step::Delete => {
                let there = self.model.now.remove("h a-1").is_some();
                assert_eq!(positions.delete("h", &stream("a-1")).unwrap(), there);
            }
            Step::Commit => {
                let version = self.model.now.get("c").map_or(0, |now| now.1);
                let moved = checkpoints.commit("c", next + 2, ExpectedVersion::Is(version)).unwrap();
                self.model.now.insert("c".into(), (next + 2, moved.version));
                assert!(moved.version == version + 1);
            }
            Step::Forget => {
                let there = self.model.now.remove("c").is_some();
                assert_eq!(checkpoints.delete("c").unwrap(), there);
            }
            Step::GiveUp => self.give_up(),
            Step::Drop => {
                let letters = positions_of(&self.model.now);
                letters.iter().for_each(|&position| _ = self.model.now.remove(&gave_up(position)));
                let store = self.store.clone().expect("it is open");
                let (Ok(()) | Err(_)) = self.flushes(|_| store.consumer("d").drop_dead_letters().map(drop));
            }
            Step::Flush => _ = self.flush(),
            Step::Compact => {
                for round in 0..5 {
                    for n in 0..4 {
                        self.put("large", &large(n), next + round);
                    }
                    let (Ok(()) | Err(_)) = self.flush();
                }
            }
            Step::Reopen => {
                drop((positions, checkpoints));
                let closed = self.flushes(|run| run.store.take().expect("it is open").close());
                drop(closed);
                self.open(context);
            }
            Step::Abandon => {
                // Handles keep the store open.
                self.disk.while_dead(|| drop((positions, checkpoints)));
                self.abandon();
                self.open(context);
            }
        }
    }
}

/// The events that were given up.
fn positions_of(state: &State) -> Vec<u64> {
    let prefix = gave_up(0).trim_end_matches('0').to_owned();
    state.keys().filter_map(|name| name.strip_prefix(&prefix)?.parse().ok()).collect()
}

/// Compares a disk with what may be on it.
fn check(disk: &SimFs, model: &Model, context: &str) {
    let mut run = Run::resume(disk.clone(), model, context);
    let found = run.model.now.clone();
    assert!(run.store.is_some(), "{context}: the store does not open");
    run.abandon();
    run.model.allowed = vec![found.clone()];
    run.open(context);

    // A flush proves what was found, with nothing to write.
    run.flush().unwrap_or_else(|e| panic!("{context}: {e}"));
    Run::resume(disk.crash(Image::Durable), &run.model, context).abandon();

    // It continues, and what is flushed now survives the next power cut.
    for image in [Image::Durable, Image::All] {
        run.model.next += 1000;
        let next = run.model.next;
        run.put("h", &stream("a-1"), next);
        run.flush().unwrap_or_else(|e| panic!("{context}: {e}"));
        Run::resume(disk.crash(image), &run.model, context).abandon();
    }
    run.abandon();
}

#[test]
fn what_was_flushed_survives() {
    let mut built = 0u64;
    for steps in workloads(most_steps()) {
        let start = Run::new().disk.calls();
        let calls = Run::new().all(&steps).disk.calls();
        for call in start..=calls {
            let run = Run::new();
            run.disk.crash_when(Crash::AtCall(call));
            let mut run = run.all(&steps);
            run.abandon();
            for image in images(&run.disk) {
                check(
                    &run.disk.crash(image),
                    &run.model,
                    &format!("{steps:?}, death at call {call} of {calls}, {image:?}"),
                );
                built += 1;
            }
        }
    }
    println!("{built} images, no violation");
}

/// The process that finds what a crash has left dies, too, at each of its calls; and so does the
/// next one.
#[test]
fn recovery_survives_its_own_crashes() {
    let mut built = 0u64;
    for steps in workloads((most_steps() - 1).max(1)) {
        // Two levels make sixteen times as many images: a minute and more.
        let depth = if most_steps() > 2 { 2 } else { 1 };
        let start = Run::new().disk.calls();
        let calls = Run::new().all(&steps).disk.calls();
        for call in start..=calls {
            let run = Run::new();
            run.disk.crash_when(Crash::AtCall(call));
            let mut run = run.all(&steps);
            run.abandon();
            for image in [Image::Killed, Image::Sectors(512, call), Image::Bytes(call)] {
                let context = format!("{steps:?}, call {call}, {image:?}");
                built += recover_to_depth(&run.disk.crash(image), &run.model, depth, &context);
            }
        }
    }
    println!("{built} images of crashed recoveries, no violation");
}

fn recover_to_depth(disk: &SimFs, model: &Model, depth: u32, context: &str) -> u64 {
    let mut built = 0;
    for call in 0.. {
        let attempt = disk.crash(Image::Killed);
        attempt.crash_when(Crash::AtCall(call));
        let mut run = Run { disk: attempt, model: model.clone(), store: None };
        run.open(context);
        run = run.all(&[Step::Flush, Step::Put, Step::Flush, Step::Reopen]);
        run.abandon();
        for image in [Image::Durable, Image::Subset(call), Image::Bytes(call ^ 5)] {
            let context = format!("{context}, recovery dies at call {call}, {image:?}");
            let crashed = run.disk.crash(image);
            check(&crashed.crash(Image::Killed), &run.model, &context);
            built += 1;
            if depth > 1 {
                built += recover_to_depth(&crashed, &run.model, depth - 1, &context);
            }
        }
        if run.disk.calls() <= call {
            return built;
        }
    }
    built
}

/// Fewer, for tests that have many more disks to check.
fn some_images(disk: &SimFs) -> Vec<Image> {
    let mut all = images(disk);
    if most_steps() <= 2 {
        all.retain(|image| matches!(image, Image::Killed | Image::Durable | Image::Subset(0) | Image::Bytes(1)));
    }
    all
}

/// Every call fails, once or until the disk is healed, in every way. Nothing is lost in memory:
/// once the cause is gone, a flush makes it durable.
#[test]
fn failed_calls_lose_nothing() {
    let mut built = 0u64;
    let operations = [
        Operation::Write,
        Operation::Create,
        Operation::Sync,
        Operation::SyncDir,
        Operation::Rename,
        Operation::Remove,
    ];
    let kinds = [ErrorKind::Other, ErrorKind::StorageFull, ErrorKind::WriteZero, ErrorKind::Interrupted];
    for steps in workloads(most_steps()) {
        for (operation, times) in operations.into_iter().flat_map(|operation| [(operation, 1), (operation, u64::MAX)]) {
            let kinds = if operation == Operation::Write { &kinds[..] } else { &kinds[..1] };
            for &kind in kinds {
                // A write that is cut short or interrupted forever makes no progress.
                if times > 1 && matches!(kind, ErrorKind::WriteZero | ErrorKind::Interrupted) {
                    continue;
                }
                for after in 0.. {
                    let run = Run::new();
                    run.disk.fail(Fault { operation, after, times, kind });
                    let mut run = run.all(&steps);
                    let context = format!("{steps:?}, {operation:?} {after} fails {times} times: {kind:?}");
                    for image in some_images(&run.disk) {
                        let crashed = run.disk.crash(image);
                        crashed.while_dead(|| ());
                        check(&crashed, &run.model, &format!("{context}, {image:?}"));
                        built += 1;
                    }
                    let struck = run.disk.has_failed();
                    run.disk.heal();
                    if run.store.is_none() {
                        run.open(&context);
                    }
                    run.flush().unwrap_or_else(|e| panic!("{context}: the disk is healed: {e}"));
                    check(&run.disk.crash(Image::Durable), &run.model, &format!("{context}, healed"));
                    run.abandon();
                    if !struck {
                        break;
                    }
                }
            }
        }
    }
    println!("{built} images after failed calls, no violation");
}

/// The disk is full after each number of bytes, and then has room again.
#[test]
fn full_disks() {
    for steps in workloads(most_steps()) {
        let used = |run: &Run| -> usize {
            let files = run.disk.files();
            files.iter().filter_map(|path| run.disk.contents(path)).map(|bytes| bytes.len()).sum()
        };
        let (least, most) = (used(&Run::new()), used(&Run::new().all(&steps)));
        for capacity in (least..most + 200).step_by(if most - least > 4096 { 997 } else { 17 }) {
            let run = Run::new();
            run.disk.set_capacity(capacity as u64);
            let mut run = run.all(&steps);
            let context = format!("{steps:?}, full at {capacity}");
            run.disk.heal();
            for image in [Image::Durable, Image::All, Image::Killed, Image::Subset(capacity as u64)] {
                check(&run.disk.crash(image), &run.model, &format!("{context}, {image:?}"));
            }
            if run.store.is_none() {
                run.open(&context);
            }
            run.flush().unwrap_or_else(|e| panic!("{context}: there is room again: {e}"));
            check(&run.disk.crash(Image::Durable), &run.model, &context);
            run.abandon();
        }
    }
}

/// A file of some flushes, closed or not; what each of them made durable, and where its batch ends.
fn written(closed: bool) -> (SimFs, Vec<(usize, State)>) {
    let mut run = Run::new();
    let mut ends = Vec::new();
    for steps in [
        &[Step::Put, Step::Lower][..],
        &[Step::Commit, Step::Put],
        &[Step::Reset, Step::GiveUp],
        &[Step::Delete, Step::Commit],
    ] {
        run = run.all(steps).all(&[Step::Flush]);
        ends.push((run.disk.contents(FILE).unwrap().len(), run.model.now.clone()));
    }
    if closed {
        run.store.take().unwrap().close().unwrap();
    } else {
        run.abandon();
    }
    (run.disk, ends)
}

/// The content of a file with changed bytes: `None` if it is refused. A file that is not refused
/// can be continued.
fn reading(disk: &SimFs, bytes: Vec<u8>, context: &str) -> Option<State> {
    let disk = disk.crash(Image::Killed);
    disk.set_contents(FILE, bytes);
    let store = options(&disk).open("store").expect("the store opens all the same");
    let found = match state(&store) {
        Ok(found) => found,
        Err(Error::Damaged(damage)) => {
            assert_eq!(damage.path.to_str(), Some(FILE), "{context}");
            assert!(!damage.bytes.is_empty(), "{context}: {damage}");
            let refused = store.positions().put("h", &stream("a-1"), 1);
            assert!(matches!(refused, Err(Error::Damaged(_))), "{context}");
            return None;
        }
        Err(Error::UnsupportedFormat { .. }) => return None,
        Err(error) => panic!("{context}: {error}"),
    };
    store.positions().put("after", &stream("a-1"), 1).unwrap();
    store.close().unwrap();
    let store = options(&disk).open("store").unwrap();
    let mut expected = found.clone();
    expected.insert("after a-1".into(), (1, 0));
    assert_eq!(state(&store).unwrap(), expected, "{context}");
    Some(found)
}

#[test]
fn no_changed_byte_gives_a_wrong_position() {
    for closed in [false, true] {
        let (disk, ends) = written(closed);
        let bytes = disk.contents(FILE).unwrap();
        let [.., (last_begins, before), (_, now)] = &ends[..] else { unreachable!() };
        let (mut refused, mut cut) = (0, 0);
        for at in 0..bytes.len() {
            let changes = (0..8).map(|bit| bytes[at] ^ 1 << bit).chain([0, 255, bytes[at].wrapping_add(77)]);
            for byte in changes.filter(|&byte| byte != bytes[at]) {
                let context = format!("closed: {closed}, byte {at} is {byte}");
                let mut changed = bytes.clone();
                changed[at] = byte;
                match reading(&disk, changed, &context) {
                    None => refused += 1,
                    Some(found) if found == *now => {
                        assert!(closed && at >= ends[3].0, "{context}: only a mark is of no effect")
                    }
                    Some(found) => {
                        assert_eq!(found, *before, "{context}");
                        // With a mark after it, the last batch is no torn tail.
                        assert!(!closed && at >= *last_begins, "{context}");
                        cut += 1;
                    }
                }
            }
        }
        assert!(refused > 500 && (cut > 0) != closed, "{refused} refused, {cut} cut");
    }
}

/// The content of the file when it got its name was durable then: a bad batch is damage, even with
/// nothing after it.
#[test]
fn a_file_that_was_just_rewritten_has_no_torn_tail() {
    let mut run = Run::new().all(&[Step::Put, Step::Flush]);
    run.abandon();
    let bytes = run.disk.contents(FILE).unwrap();
    for at in 0..bytes.len() {
        let mut changed = bytes.clone();
        changed[at] ^= 0x40;
        assert_eq!(reading(&run.disk, changed, &format!("byte {at}")), None, "byte {at}");
        assert_eq!(reading(&run.disk, bytes[..at].to_vec(), &format!("{at} bytes")), None, "{at} bytes");
    }
}

#[test]
fn every_truncation_is_refused_or_ends_with_a_flush() {
    for closed in [false, true] {
        let (disk, ends) = written(closed);
        let bytes = disk.contents(FILE).unwrap();
        for len in 0..bytes.len() {
            let rest = bytes.len() - len;
            let junk: Vec<u8> = (0..rest as u32).map(|i| (i.wrapping_mul(0x9E37_79B1) >> 13) as u8 | 1).collect();
            let stale = bytes[bytes.len() - rest.min(bytes.len())..].iter().rev().copied().collect();
            for (name, fill) in [("nothing", vec![]), ("zeros", vec![0; rest]), ("junk", junk), ("stale", stale)] {
                let context = format!("closed: {closed}, {len} of {} bytes, then {name}", bytes.len());
                let changed = [&bytes[..len], &fill].concat();
                // The filler may equal what was there.
                let same = changed.iter().zip(&bytes).take_while(|(a, b)| a == b).count();
                let Some(found) = reading(&disk, changed, &context) else { continue };
                let (_, kept) = ends.iter().rev().find(|(end, _)| *end <= same).expect(&context);
                assert_eq!(found, *kept, "{context}");
            }
        }
    }
}

/// Batches that were moved, duplicated or left out, and those of another file.
#[test]
fn batches_stay_in_their_place() {
    let (disk, ends) = written(true);
    let bytes = disk.contents(FILE).unwrap();
    let (a, b, c) = (ends[0].0, ends[1].0, ends[2].0);
    let another = written(true).0.contents(FILE).unwrap();
    let cases = [
        ("left out", [&bytes[..a], &bytes[b..]].concat()),
        ("doubled", [&bytes[..b], &bytes[a..]].concat()),
        ("swapped", [&bytes[..a], &bytes[b..c], &bytes[a..b], &bytes[c..]].concat()),
        ("foreign", [&another[..a], &bytes[a..]].concat()),
        ("foreign end", [&bytes[..a], &another[a..]].concat()),
        ("foreign file", another.clone()),
    ];
    for (name, changed) in cases {
        if let Some(found) = reading(&disk, changed, name) {
            assert_eq!(found, ends[if name == "doubled" { 1 } else { 0 }].1, "{name}");
        }
    }
}

/// Two processes had the same file before them, one after the other, and wrote different batches to
/// the same place: the older one verifies there, but what follows does not follow it.
#[test]
fn a_stale_batch_is_not_taken_for_its_successor() {
    let mut run = Run::new().all(&[Step::Put, Step::Flush]);
    run.abandon();
    let start = run.disk;
    let flushed = |values: &[u64]| {
        let disk = start.crash(Image::All);
        let store = options(&disk).open("store").unwrap();
        for &value in values {
            store.positions().put("h", &stream("a-1"), value).unwrap();
            store.positions().flush().unwrap();
        }
        disk.while_dead(|| drop(store));
        disk.contents(FILE).unwrap()
    };
    let (begins, older, newer) = (start.contents(FILE).unwrap().len(), flushed(&[1001]), flushed(&[1002, 1003]));
    let mixed = [&older[..], &newer[older.len()..]].concat();
    assert_eq!(mixed[..begins], newer[..begins]);
    assert_ne!(mixed, newer);
    assert_eq!(reading(&start, mixed, "stale"), None);
    let alone = reading(&start, older, "older").unwrap();
    assert_eq!(alone["h a-1"], (1001, 0));
}
