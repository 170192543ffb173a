//! Crashes and failing calls while consumers run, on the simulated disk.
//!
//! All workloads of two to three steps are run; at each changing call of the file system the
//! process dies, or the call fails; every image of the disk is then opened again. What is found
//! must be true: each event up to the checkpoint was acknowledged by the handler, or is a dead
//! letter, or its dead letter was dropped or handled; a consumer that ended without an error has
//! lost nothing of that. Then the consumer continues, and at the end each event was acknowledged at
//! least once or is a dead letter.
//!
//! `ANNALS_CRASH_STEPS=4 ANNALS_CRASH_SEEDS=4 cargo test --release --test progress consumers::crash -- --nocapture`
//! runs more of it.

use super::*;
use annals::Options;
use annals_testkit::crash::oracle::{sequences, setting};
use annals_testkit::{Crash, Fault, Image, Operation, SimFs};
use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    /// Events are appended, and the consumer runs until it has caught up: some are acknowledged,
    /// some after a second attempt, some are given up, some panic.
    Run,
    /// The same with three threads.
    Workers,
    /// The handler stops it in the middle.
    Stop,
    /// It is poisoned.
    Poison,
    /// Goes back, to see some events again, and handles those that it had given up.
    Reset,
    /// Dead letters are tried again: some are done.
    Retry,
    Drop,
    Reopen,
}

const STEPS: [Step; 8] =
    [Step::Run, Step::Workers, Step::Stop, Step::Poison, Step::Reset, Step::Retry, Step::Drop, Step::Reopen];

fn workloads(most: u64) -> Vec<Vec<Step>> {
    sequences(&[Step::Run], &STEPS, most).split_off(1)
}

fn images(disk: &SimFs) -> Vec<Image> {
    let mut all = vec![Image::Killed, Image::Durable, Image::All, Image::SizeWithoutData, Image::DataOnly];
    all.extend((1..disk.unsynced()).map(Image::Prefix));
    for seed in 0..setting("ANNALS_CRASH_SEEDS", 1) {
        all.extend([Image::Subset(seed), Image::Sectors(512, seed), Image::Bytes(seed)]);
    }
    all
}

/// What is known of the events.
#[derive(Clone, Default, Debug)]
struct Model {
    appended: u64,
    /// Recorded by the handler before it returns.
    acknowledged: BTreeSet<u64>,
    /// Reasons that were returned.
    given_up: BTreeMap<u64, BTreeSet<String>>,
    /// Dead letters that were to be dropped.
    dropped: BTreeSet<u64>,
    /// The lowest checkpoint that must be there.
    kept: Option<u64>,
    rounds: u64,
}

struct Run {
    disk: SimFs,
    store: Option<Store>,
    model: Arc<Mutex<Model>>,
}

fn options(disk: &SimFs) -> Options {
    Options::new().file_system(disk.clone()).maintenance(false).segment_size(4096).reserve(0)
}

fn consumer(store: &Store) -> Consumer {
    mailer(store).checkpoint_every(2, LATE).retry(Retry::new().attempts(2).initial(Duration::ZERO))
}

impl Run {
    fn new() -> Run {
        let disk = SimFs::new();
        options(&disk).open("store").unwrap().close().unwrap();
        let store = options(&disk).open("store").ok();
        Run { disk, store, model: Arc::default() }
    }

    fn all(mut self, steps: &[Step]) -> Run {
        steps.iter().for_each(|&step| self.step(step));
        self
    }

    fn abandon(&mut self) {
        let store = self.store.take();
        self.disk.while_dead(|| drop(store));
    }

    fn append(&self, store: &Store) {
        for n in 0..5 {
            if store.append(&stream(&format!("a-{}", n % 2)), Expected::Any, texts(["T"])).is_err() {
                return;
            }
            self.model.lock().unwrap().appended = store.len();
        }
    }

    /// The handler's outcome. In every other round, what was given up is acknowledged.
    fn handler(&self, stop: Option<u64>) -> impl Fn(&Event) -> Outcome + Send + Sync + use<> {
        let (model, tried) = (self.model.clone(), Mutex::new(BTreeSet::new()));
        let round = {
            let mut model = model.lock().unwrap();
            model.rounds += 1;
            model.rounds
        };
        let give_up = move |model: &mut Model, position: u64, reason: &str| {
            model.given_up.entry(position).or_default().insert(reason.into());
        };
        move |event: &Event| {
            let position = event.position();
            let mut model = model.lock().unwrap();
            if Some(position % 5) == stop {
                return Outcome::Stop;
            }
            match (position + round) % 6 {
                1 => {
                    let reason = format!("parked in round {round}");
                    give_up(&mut model, position, &reason);
                    Outcome::Park(reason)
                }
                2 if tried.lock().unwrap().insert(position) => {
                    // For a dead letter, it becomes the reason.
                    give_up(&mut model, position, "once");
                    Outcome::Retry("once".into())
                }
                4 => {
                    give_up(&mut model, position, "the handler panicked: always");
                    drop(model);
                    std::panic::resume_unwind(Box::new("always"))
                }
                _ => {
                    model.acknowledged.insert(position);
                    Outcome::Ack
                }
            }
        }
    }

    fn step(&mut self, step: Step) {
        let Some(store) = self.store.clone() else { return };
        let ended = match step {
            Step::Run | Step::Workers | Step::Stop | Step::Poison => {
                self.append(&store);
                let handler = self.handler((step == Step::Stop).then_some(3));
                let consumer = consumer(&store);
                let ended = match step {
                    Step::Workers => consumer.workers(3).run(handler),
                    Step::Poison => consumer.on_poison(Poison::Stop).run(handler),
                    _ => consumer.run(handler),
                };
                ended.map(|status| status.position)
            }
            Step::Reset => {
                self.model.lock().unwrap().kept = None;
                // Not forwards.
                let there = store.checkpoints().get("mailer").ok().flatten().is_some_and(|of| of.position > 1);
                let back = consumer(&store).reset_to(if there { Reset::After(1) } else { Reset::Start });
                back.and_then(|_| consumer(&store).run(self.handler(None))).map(|status| status.position)
            }
            Step::Retry => {
                let handler = self.handler(None);
                consumer(&store).retry_dead_letters(handler).and(Err(Error::Closed))
            }
            Step::Drop => {
                let letters = consumer(&store).dead_letters().unwrap_or_default();
                let first = letters.first().map(|letter| letter.position);
                self.model.lock().unwrap().dropped.extend(first);
                first
                    .map(|position| consumer(&store).drop_dead_letter(position))
                    .map_or(Ok(true), |of| of)
                    .and(Err(Error::Closed))
            }
            Step::Reopen => {
                drop(store);
                let closed = self.store.take().expect("it is open").close();
                self.store = options(&self.disk).open("store").ok();
                closed.and(Err(Error::Closed))
            }
        };
        if let Ok(position) = ended {
            let mut model = self.model.lock().unwrap();
            model.kept = model.kept.max(position);
        }
    }
}

/// Compares a disk with what is known.
fn look(store: &Store, model: &Model, context: &str) {
    let at = store.checkpoints().get("mailer").unwrap().map(|of| of.position);
    assert!(at >= model.kept, "{context}: checkpoint {at:?}, it was {:?}", model.kept);
    let letters = consumer(store).dead_letters().unwrap();
    for letter in &letters {
        let reasons = model.given_up.get(&letter.position);
        assert!(reasons.is_some_and(|reasons| reasons.contains(&letter.reason)), "{context}: {letter:?}");
    }
    for position in 0..at.map_or(0, |at| at + 1) {
        let known = model.acknowledged.contains(&position)
            || model.dropped.contains(&position)
            || letters.iter().any(|letter| letter.position == position);
        assert!(known, "{context}: the checkpoint is {at:?}, and nobody has handled {position}\n{model:?}");
    }
}

fn check(disk: &SimFs, model: &Model, context: &str) {
    let store = options(disk).open("store").unwrap_or_else(|e| panic!("{context}: {e}"));
    let mut model = model.clone();
    model.appended = store.len();
    look(&store, &model, context);
    // It continues, and misses nothing.
    let status = consumer(&store).run(|event: &Event| _ = model.acknowledged.insert(event.position()));
    status.unwrap_or_else(|e| panic!("{context}: {e}"));
    let letters: BTreeSet<u64> = consumer(&store).dead_letters().unwrap().iter().map(|of| of.position).collect();
    for position in 0..model.appended {
        let known = [&model.acknowledged, &letters, &model.dropped].iter().any(|set| set.contains(&position));
        assert!(known, "{context}: {position} was missed");
    }
    // What it has stored survives the next power cut.
    model.kept = model.appended.checked_sub(1);
    let after = disk.crash(Image::Durable);
    disk.while_dead(|| drop(store));
    let store = options(&after).open("store").unwrap();
    look(&store, &model, context);
    after.while_dead(|| drop(store));
}

#[test]
fn crashes_at_every_call() {
    let mut built = 0u64;
    for steps in workloads(setting("ANNALS_CRASH_STEPS", 3) - 1) {
        let start = Run::new().disk.calls();
        let calls = Run::new().all(&steps).disk.calls();
        for call in start..=calls {
            let run = Run::new();
            run.disk.crash_when(Crash::AtCall(call));
            let mut run = run.all(&steps);
            run.abandon();
            let model = run.model.lock().unwrap().clone();
            for image in images(&run.disk) {
                check(
                    &run.disk.crash(image),
                    &model,
                    &format!("{steps:?}, death at call {call} of {calls}, {image:?}"),
                );
                built += 1;
            }
        }
    }
    println!("{built} images, no violation");
}

#[test]
fn failing_calls() {
    let mut built = 0u64;
    for steps in workloads(setting("ANNALS_CRASH_STEPS", 3) - 1) {
        for operation in [Operation::Write, Operation::Sync, Operation::SyncDir, Operation::Rename, Operation::Create] {
            for times in [1, u64::MAX] {
                for after in 0.. {
                    let run = Run::new();
                    run.disk.fail(Fault { operation, after, times, kind: ErrorKind::Other });
                    let mut run = run.all(&steps);
                    let model = run.model.lock().unwrap().clone();
                    let context = format!("{steps:?}, {operation:?} {after} fails {times} times");
                    for image in [Image::Killed, Image::Durable, Image::Subset(after)] {
                        let crashed = run.disk.crash(image);
                        check(&crashed, &model, &format!("{context}, {image:?}"));
                        built += 1;
                    }
                    let struck = run.disk.has_failed();
                    run.disk.heal();
                    // In the same process, once the cause is gone.
                    if let Some(store) = &run.store {
                        look(store, &model, &context);
                        let acknowledged = run.model.clone();
                        let ended = consumer(store).run(move |event: &Event| {
                            _ = acknowledged.lock().unwrap().acknowledged.insert(event.position());
                        });
                        assert!(ended.is_ok() || matches!(ended, Err(Error::DurabilityUnknown { .. })), "{context}");
                    }
                    let model = run.model.lock().unwrap().clone();
                    run.abandon();
                    check(&run.disk.crash(Image::Durable), &model, &format!("{context}, healed"));
                    if !struck {
                        break;
                    }
                }
            }
        }
    }
    println!("{built} images after failed calls, no violation");
}
