//! Two threads on one store, one of which is held before any of its calls of the file system while
//! the other continues. The acts of the threads, and where the one is held, follow from one number;
//! how far the other gets meanwhile does not, so a case that has found something may have to be run
//! again.
//!
//! * Commits acknowledged to either are there, once; refused ones are not.
//! * The cause of a refusal can be read when the caller gets it.
//! * A tag that was acknowledged before a query began is found by it.
//! * After one of them has closed the store, the other changes nothing in the directory, and the
//!   next owner finds a store that was closed cleanly.

use super::oracle;
use super::schedules::Random;
use crate::SimFs;
use crate::held::HeldFs;
use annals::internals;
use annals::offline::verify_in;
use annals::{Durability, Error, Expected, Guard, NewEvent, Query, Store, StreamId};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

#[derive(Clone, Copy, Debug)]
enum Act {
    /// An append to a stream of its own.
    Own,
    /// An append of this many bytes to the stream that both write to, with the expectation that a
    /// read has given.
    Shared(usize),
    /// A commit under a guard that the other one's commits break.
    Guarded,
    /// A message that the other one processes as well.
    Track(u64),
    /// A commit with a key that both use, and one content.
    Keyed(u8),
    /// A query for a tag that was acknowledged.
    Find,
    Positions,
    /// What the threads of the store do when it is idle, in this thread.
    Idle,
    Close,
}

/// Which thread does what can be done off the commit path.
#[derive(Clone, Copy, Debug)]
enum Upkeep {
    Callers,
    Thread,
    /// A thread that reaches [`Act::Idle`]: it may be held at any call of it.
    Acts,
}

#[derive(Debug)]
struct Plan {
    held: Vec<Act>,
    other: Vec<Act>,
    /// The held thread stops before its call with this number.
    call: u64,
    segment_size: u64,
    upkeep: Upkeep,
    durability: Durability,
}

fn plan(random: &mut Random) -> Plan {
    let mut acts = |most: u64| -> Vec<Act> {
        let act = |random: &mut Random| match random.below(21) {
            0..3 => Act::Own,
            3..6 => Act::Shared([20, 300, 2_000][random.below(3) as usize]),
            6 | 7 => Act::Guarded,
            8 | 9 => Act::Track(random.below(4)),
            10 | 11 => Act::Keyed(random.below(3) as u8),
            12..15 => Act::Find,
            15 => Act::Positions,
            16..20 => Act::Idle,
            _ => Act::Close,
        };
        (0..1 + random.below(most)).map(|_| act(random)).collect()
    };
    let (held, other) = (acts(6), acts(6));
    let segment_size = [4096, 4096, 64 << 10][random.below(3) as usize];
    let upkeep = [Upkeep::Callers, Upkeep::Thread, Upkeep::Acts, Upkeep::Acts][random.below(4) as usize];
    let durability = match upkeep {
        Upkeep::Acts if random.below(2) == 0 => Durability::Interval(Duration::from_secs(1)),
        _ => Durability::Sync,
    };
    Plan { held, other, call: random.below(24), segment_size, upkeep, durability }
}

/// The results of one thread.
#[derive(Default)]
struct Told {
    /// How often events with these data must be there: once, or never.
    fates: BTreeMap<String, bool>,
    tracked: Option<u64>,
}

struct Actor<'a> {
    name: &'static str,
    store: Store,
    /// Tags of events that were acknowledged, to either.
    tags: &'a AtomicU64,
    told: Told,
    written: u64,
}

fn stream(root: &str) -> StreamId {
    StreamId::new("s", root).expect("a good name")
}

impl Actor<'_> {
    fn data(&mut self, len: usize) -> String {
        self.written += 1;
        format!("{}-{}-{}", self.name, self.written, "x".repeat(len))
    }

    /// Records the outcome of a commit. A refused caller may read the cause.
    fn note(&mut self, data: String, outcome: Result<annals::Committed, Error>) {
        match outcome {
            Ok(_) => {
                self.told.fates.insert(data, true);
            }
            Err(Error::DurabilityUnknown { why }) => panic!("nothing fails here: {why}"),
            Err(error) => {
                self.told.fates.insert(data, false);
                match error {
                    Error::Conflict { stream, actual, .. } => {
                        let seen = self.store.read(&stream).into_iter().count() as u64;
                        assert!(seen >= actual, "a conflict with {actual} events, of which {seen} can be read");
                    }
                    Error::GuardFailed { position, .. } => assert!(self.store.len() > position, "an unseen event"),
                    Error::AlreadyTracked { tracked, .. } => {
                        assert!(self.store.tracked("inbox").expect("a good store") >= Some(tracked), "not tracked yet");
                    }
                    Error::Closed => {}
                    error => panic!("{error}"),
                }
            }
        }
    }

    fn act(&mut self, act: Act) {
        let store = self.store.clone();
        match act {
            Act::Own => {
                let data = self.data(40);
                let tag = format!("of:{}", self.name);
                let outcome = store.transaction().append(
                    &stream(self.name),
                    Expected::Any,
                    [NewEvent::new("T", &data).tag(&*tag).tag("any")],
                );
                let outcome = outcome.commit();
                if outcome.is_ok() {
                    self.tags.fetch_add(1, Ordering::SeqCst);
                }
                self.note(data, outcome);
            }
            Act::Shared(len) => {
                let data = self.data(len);
                let next = store.stream(&stream("shared")).expect("a good store").map_or(0, |info| info.next_sequence);
                let transaction =
                    store.transaction().append(&stream("shared"), Expected::Next(next), [NewEvent::new("T", &data)]);
                self.note(data, transaction.commit());
            }
            Act::Guarded => {
                let data = self.data(30);
                let head = store.len().checked_sub(1);
                let transaction =
                    store.transaction().append(&stream("guarded"), Expected::Any, [NewEvent::new("Guarded", &data)]);
                let guard = Guard::unchanged(Query::new().event_type("Guarded"), head);
                self.note(data, transaction.guard(guard).commit());
            }
            Act::Track(message) => {
                let data = self.data(10);
                let transaction =
                    store.transaction().append(&stream("inbox"), Expected::Any, [NewEvent::new("In", &data)]);
                let outcome = transaction.tracking("inbox", message).commit();
                if outcome.is_ok() {
                    self.told.tracked = self.told.tracked.max(Some(message));
                }
                self.note(data, outcome);
            }
            Act::Keyed(key) => {
                let data = format!("keyed-{key}");
                let transaction =
                    store.transaction().append(&stream("keyed"), Expected::Any, [NewEvent::new("K", &data)]);
                match transaction.idempotency_key(format!("key {key}")).commit() {
                    Ok(committed) => {
                        assert!(store.len() > committed.positions.start, "a duplicate that is not visible");
                        self.told.fates.insert(data, true);
                    }
                    Err(Error::Closed) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            Act::Find => {
                let known = self.tags.load(Ordering::SeqCst);
                let found = store.query(&Query::new().tag("any")).into_iter().map(|event| event.expect("a good store"));
                assert!(found.count() as u64 >= known, "an acknowledged event is not found");
                let absent = store.query(&Query::new().tag("never")).into_iter().count();
                assert_eq!(absent, 0);
            }
            Act::Positions => {
                let _ = store.positions().put(self.name, &stream("shared"), self.written);
                let _ = store.positions().flush();
            }
            Act::Idle => internals::pass_time(&store),
            Act::Close => {
                store.close().expect("nothing fails here");
            }
        }
    }
}

/// Runs the case that follows from a number. Panics at a violation.
pub fn run(seed: u64) -> u64 {
    let mut random = Random(seed);
    let plan = plan(&mut random);
    let context = format!("case {seed}: {plan:?}");
    let disk = SimFs::new();
    let fs = HeldFs::over(disk.clone());
    let options = || oracle::options(&disk).segment_size(plan.segment_size).durability(plan.durability);
    let attended = match plan.upkeep {
        Upkeep::Callers => options(),
        Upkeep::Thread => options().maintenance(true),
        Upkeep::Acts => internals::by_hand(options().maintenance(true)),
    };
    let store = attended.file_system(fs.clone()).open("store").expect("a new store");
    let tags = AtomicU64::new(0);
    let hold = fs.hold_after(plan.call, "held");
    let outcomes = std::thread::scope(|scope| {
        let run = |name: &'static str, acts: &[Act]| {
            let (store, acts, tags) = (store.clone(), acts.to_vec(), &tags);
            let run = move || {
                let mut actor = Actor { name, store, tags, told: Told::default(), written: 0 };
                acts.into_iter().for_each(|act| actor.act(act));
                actor.told
            };
            std::thread::Builder::new().name(name.into()).spawn_scoped(scope, run).expect("a thread")
        };
        let held = run("held", &plan.held);
        hold.arrives_within(Duration::from_micros(200));
        let other = run("other", &plan.other);
        // While the other one can continue; it may have to wait for the one that is held.
        for _ in 0..50 {
            if other.is_finished() {
                break;
            }
            std::thread::sleep(Duration::from_micros(4));
        }
        hold.go();
        [held.join(), other.join()]
    });
    let outcomes = outcomes.map(|told| told.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
    store.close().unwrap_or_else(|e| panic!("{context}: {e}"));
    assert_eq!(fs.changes_since_unlock(), [], "{context}: after the lock was released");

    let report = verify_in(&disk, "store").expect("a good store");
    assert!(report.is_sound() && report.torn.is_none(), "{context}: {report:?}");
    let store = options().durability(Durability::Sync).open("store").unwrap_or_else(|e| panic!("{context}: {e}"));
    assert!(
        store.open_report().clean && store.open_report().notices.is_empty(),
        "{context}: {:?}",
        store.open_report()
    );
    let mut there: BTreeMap<String, u64> = BTreeMap::new();
    for event in store.read_all() {
        let event = event.unwrap_or_else(|e| panic!("{context}: {e}"));
        *there.entry(String::from_utf8_lossy(event.data()).into_owned()).or_default() += 1;
    }
    let mut stored = 0;
    for told in &outcomes {
        for (data, &is_stored) in &told.fates {
            let times = there.get(data).copied().unwrap_or(0);
            assert_eq!(times, u64::from(is_stored), "{context}: {data:.40}");
            stored += times;
        }
        assert!(store.tracked("inbox").expect("a good store") >= told.tracked, "{context}: a message is forgotten");
    }
    let found = store.query(&Query::new().tag("any")).into_iter().count() as u64;
    assert_eq!(found, tags.load(Ordering::SeqCst), "{context}: by tag");
    assert!(there.len() as u64 <= stored, "{context}: no commit has stored that");
    1
}
