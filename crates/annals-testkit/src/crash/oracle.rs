//! Workloads, the outcome of their commits, and what may be on the disk after that.

use crate::{Fault, Image, Operation, SimFs};
use annals::internals;
use annals::{Durability, Error, Event, Expected, NewEvent, Options, Store, StreamId, Timestamp};
use std::fmt::Display;
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Returns a whole number from the environment.
pub fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |value| value.parse().expect(name))
}

/// A step of a workload.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// One event.
    One,
    /// A transaction over two streams.
    Batch,
    /// Two commits in one group.
    Group,
    /// A commit that is too large for the rest of the segment, so that a new one begins.
    Roll,
    /// Close, and open again.
    Reopen,
    /// Dropped without closing (as by a killed process), and opened again.
    Abandon,
    /// A commit of several blocks of checksums, which needs a segment of its own.
    Large,
    /// A commit with an idempotency key, sent twice.
    Repeat,
    /// One call fails: of this kind, after this many others of it.
    Fail(Operation, u64, ErrorKind),
    /// The disk has room for this many bytes more.
    Full(u64),
    /// Calls no longer fail, and the disk has room.
    Heal,
    /// Another owner opens the store while this one has it.
    Second,
    /// The handle that was closed last is used again, as by a thread that does not know that it was
    /// closed.
    Late,
    /// Time passes: all that the threads of the store do until they sleep.
    Idle,
    /// Time passes while two commits are accepted and not written.
    IdleBetween,
    /// A commit without a waiter.
    Orphan,
    /// The user puts files of their own beside those of the store.
    Foreign,
}

/// Files of the user, with names that look like those of the store.
const FOREIGN: [&str; 5] = ["notes.txt", "SPARE.txt", "SPARE.7.bak", "00000000000000000001.seg.bak", "LOCK.orig"];

/// The behaviour of a store's clock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Clock {
    Ticks,
    Stands,
    /// Forth and back, by hours.
    Jumps,
}

/// How a store is opened. Options are combined, as a fault may need two of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Setup {
    pub durability: Durability,
    pub segment_size: u64,
    pub memory_map: bool,
    pub max_commit: usize,
    pub clock: Clock,
    /// The threads of the store exist, and run in the steps that let time pass: without them,
    /// callers do their work inline.
    pub by_hand: bool,
}

impl Default for Setup {
    fn default() -> Self {
        let (durability, clock) = (Durability::Sync, Clock::Ticks);
        Setup { durability, segment_size: 4096, memory_map: true, max_commit: 64 << 20, clock, by_hand: false }
    }
}

impl Setup {
    fn options(&self, disk: &SimFs) -> Options {
        let Setup { durability, segment_size, memory_map, max_commit, clock, by_hand } = *self;
        let readings = Arc::new(AtomicI64::new(0));
        let now = move || {
            let n = readings.fetch_add(1, Ordering::Relaxed);
            Timestamp::from_nanos(match clock {
                Clock::Ticks => 1_000 + n,
                Clock::Stands => 1_000,
                Clock::Jumps => n * 7_919 % 23 * 3_600_000_000_000,
            })
        };
        let options = options(disk).maintenance(by_hand).durability(durability).segment_size(segment_size);
        let options = options.memory_map(memory_map).max_commit_bytes(max_commit).clock(now);
        if by_hand { internals::by_hand(options) } else { options }
    }
}

/// Those that workloads are made of exhaustively.
const STEPS: [Step; 6] = [Step::One, Step::Batch, Step::Group, Step::Roll, Step::Reopen, Step::Abandon];

/// All workloads of up to `most` steps.
pub fn workloads(most: u64) -> Vec<Vec<Step>> {
    sequences(&[], &STEPS, most).split_off(1)
}

/// `start`, followed by each sequence of up to `most` of these steps, the shorter ones first.
pub fn sequences<S: Copy>(start: &[S], steps: &[S], most: u64) -> Vec<Vec<S>> {
    let mut all = vec![start.to_vec()];
    let mut longest = 0;
    for _ in 0..most {
        let longer = |at: usize| steps.iter().map(move |&step| (at, step));
        let next: Vec<Vec<S>> =
            (longest..all.len()).flat_map(longer).map(|(at, step)| [&all[at][..], &[step]].concat()).collect();
        longest = all.len();
        all.extend(next);
    }
    all
}

/// Everything that a crash can leave of the disk.
pub fn images(disk: &SimFs) -> Vec<Image> {
    let mut all = vec![
        Image::Killed,
        Image::Durable,
        Image::All,
        Image::SizeWithoutData,
        Image::DataWithoutSize,
        Image::NamesOnly,
        Image::DataOnly,
    ];
    all.extend((1..disk.unsynced()).map(Image::Prefix));
    for seed in 0..setting("ANNALS_CRASH_SEEDS", 2) {
        all.extend([Image::Subset(seed), Image::Sectors(512, seed), Image::Sectors(4096, seed), Image::Bytes(seed)]);
    }
    all
}

pub fn options(disk: &SimFs) -> Options {
    let options = Options::new().file_system(disk.clone()).maintenance(false).segment_size(4096).reserve(0);
    let now = Arc::new(AtomicI64::new(1_000));
    options.clock(move || Timestamp::from_nanos(now.fetch_add(1, Ordering::Relaxed)))
}

/// A written event, as far as it can be told apart: stream, sequence, data.
type Written = (String, Vec<u8>);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Fate {
    Acknowledged,
    /// Refused with the promise that nothing is stored.
    Refused,
    /// The process died, or a sync failed: it may be there or not.
    Unknown,
}

/// All commits that were tried, in order.
#[derive(Default)]
pub struct History {
    commits: Vec<(Vec<Written>, Fate)>,
    /// This many of them are decided for good: a power cut takes none that was acknowledged.
    durable: usize,
    /// Whether the user has put files of their own beside those of the store.
    foreign: bool,
}

impl History {
    pub fn acknowledged(&self) -> usize {
        self.commits.iter().filter(|(_, fate)| *fate == Fate::Acknowledged).count()
    }

    /// The same, but commits that were acknowledged and not synced since may be lost from some
    /// commit on.
    pub fn any_prefix(&self) -> impl Iterator<Item = History> {
        (self.durable..=self.commits.len()).map(|kept| History { commits: self.commits[..kept].to_vec(), ..*self })
    }

    /// Returns whether `found` is what may be there: the acknowledged commits and, at any of their
    /// places, those of unknown outcome, as a whole.
    fn allows(&self, found: &[Written]) -> bool {
        fn fits(commits: &[(Vec<Written>, Fate)], found: &[Written]) -> bool {
            let Some(((commit, fate), rest)) = commits.split_first() else { return found.is_empty() };
            let there = |rest| found.strip_prefix(&commit[..]).is_some_and(|found| fits(rest, found));
            match fate {
                Fate::Acknowledged => there(rest),
                Fate::Refused => fits(rest, found),
                Fate::Unknown => there(rest) || fits(rest, found),
            }
        }
        fits(&self.commits, found)
    }
}

/// A store in use.
pub struct Run {
    pub disk: SimFs,
    pub history: History,
    setup: Setup,
    store: Option<Store>,
    /// The handle that was closed last.
    closed: Option<Store>,
    written: u32,
    /// Calls will fail, or the disk is full, or was.
    troubled: bool,
    /// Commits without a waiter, by their number, in this handle.
    orphans: Vec<usize>,
}

impl Run {
    pub fn new(disk: SimFs) -> Run {
        Self::with(disk, Durability::Sync)
    }

    pub fn with(disk: SimFs, durability: Durability) -> Run {
        Self::set_up(disk, Setup { durability, ..Setup::default() })
    }

    pub fn set_up(disk: SimFs, setup: Setup) -> Run {
        let store = setup.options(&disk).open("store").ok();
        let history = History::default();
        Run { disk, history, setup, store, closed: None, written: 0, troubled: false, orphans: Vec::new() }
    }

    pub fn all(mut self, steps: &[Step]) -> Run {
        for &step in steps {
            self.step(step);
        }
        self.abandon();
        self
    }

    /// Drops the store as a dying process does: without closing.
    fn abandon(&mut self) {
        self.orphans.clear();
        let gone = (self.store.take(), self.closed.take());
        self.disk.while_dead(|| drop(gone));
    }

    fn reopen(&mut self) {
        self.store = self.setup.options(&self.disk).open("store").ok();
        if self.store.is_some() {
            self.is_durable();
        }
    }

    /// Everything is durable: a store was opened, or an interval of syncs is over.
    fn is_durable(&mut self) {
        if !self.disk.is_dead() {
            self.history.durable = self.history.commits.len();
        }
    }

    /// The threads of the store had time to write, or it was closed.
    fn orphans_are_written(&mut self) {
        let orphans = std::mem::take(&mut self.orphans);
        if !self.disk.is_dead() && !self.troubled {
            orphans.into_iter().for_each(|at| self.history.commits[at].1 = Fate::Acknowledged);
        }
    }

    fn idle(&mut self) {
        let Some(store) = &self.store else { return };
        internals::pass_time(store);
        if self.setup.by_hand {
            self.orphans_are_written();
            if matches!(self.setup.durability, Durability::Interval(_)) {
                self.is_durable();
            }
        }
    }

    /// Without a waiter, the store writes it in its own time.
    fn orphan(&mut self) {
        match self.submit(&[("a", 1, 50), ("d", 1, 500)]) {
            (written, Ok(ticket)) => {
                drop(ticket);
                self.orphans.push(self.history.commits.len());
                self.history.commits.push((written, Fate::Unknown));
            }
            (written, Err(error)) => self.note(written, Err(error)),
        }
    }

    /// A store has one owner.
    fn second_owner(&self) {
        let second = self.setup.options(&self.disk).open("store");
        if self.store.is_some() && !self.disk.is_dead() {
            assert!(matches!(second, Err(Error::Locked { .. })), "{second:?}");
        }
    }

    /// A closed handle writes nothing, whatever is asked of it, whoever owns the store now.
    fn late_calls(&self) {
        let Some(closed) = &self.closed else { return };
        let stream = StreamId::new("s", "late").expect("a good name");
        let appended = closed.append(&stream, Expected::Any, [NewEvent::new("T", "late")]);
        assert!(appended.is_err(), "a closed handle stores {appended:?}");
        let _ = closed.read_all().into_iter().count();
        let _ = closed.query(&annals::Query::new().event_type("T")).into_iter().count();
        let _ = closed.positions().put("late", &stream, 1);
        let _ = closed.positions().flush();
        let _ = closed.snapshots().put(&StreamId::new("s", "a").expect("a good name"), 0, &1u8);
        let _ = closed.sync();
        let _ = closed.clone().close();
    }

    fn put_files_of_the_user(&mut self) {
        if !self.disk.is_dead() && self.disk.files().iter().any(|path| path.starts_with("store")) {
            FOREIGN.iter().for_each(|name| self.disk.set_contents(format!("store/{name}"), name.as_bytes().to_vec()));
            self.history.foreign = true;
        }
    }

    fn step(&mut self, step: Step) {
        if self.store.is_none() {
            self.reopen();
        }
        match step {
            Step::One => self.commit(&[("a", 1, 20)]),
            Step::Batch => self.commit(&[("a", 2, 10), ("b", 1, 30)]),
            Step::Roll => self.commit(&[("b", 1, 2500)]),
            Step::Group => self.group(false),
            Step::IdleBetween => self.group(true),
            Step::Idle => self.idle(),
            Step::Orphan => self.orphan(),
            Step::Reopen => {
                if let Some(store) = self.store.take() {
                    let _ = store.clone().close();
                    self.orphans_are_written();
                    self.closed = Some(store);
                }
                self.reopen();
            }
            Step::Abandon => {
                self.abandon();
                self.reopen();
            }
            Step::Large => self.commit(&[("c", 1, 9_000), ("a", 1, 30)]),
            Step::Repeat => self.repeat(),
            Step::Fail(operation, after, kind) => {
                self.troubled = true;
                self.disk.fail(Fault { operation, after, times: 1, kind });
            }
            Step::Full(room) => {
                self.troubled = true;
                let files = self.disk.files();
                let used: usize = files.iter().filter_map(|path| self.disk.contents(path)).map(|file| file.len()).sum();
                self.disk.set_capacity(used as u64 + room);
            }
            Step::Heal => self.disk.heal(),
            Step::Second => self.second_owner(),
            Step::Late => self.late_calls(),
            Step::Foreign => self.put_files_of_the_user(),
        }
    }

    /// Data that occur once: a number, and bytes that depend on it.
    fn events(&mut self, parts: &[(&str, u32, usize)]) -> Vec<(StreamId, Vec<Vec<u8>>)> {
        let parts = parts.iter().map(|&(root, events, len)| {
            let data = (0..events).map(|_| {
                self.written += 1;
                let number = self.written;
                let mut data = number.to_le_bytes().to_vec();
                data.extend((0..len).map(|i| (i as u32).wrapping_mul(number | 1) as u8));
                data
            });
            (StreamId::new("s", root).expect("a good name"), data.collect())
        });
        parts.collect()
    }

    fn submit(&mut self, parts: &[(&str, u32, usize)]) -> (Vec<Written>, Result<annals::Ticket, Error>) {
        let events = self.events(parts);
        self.submit_with_key(&events, "")
    }

    fn submit_with_key(
        &self,
        events: &[(StreamId, Vec<Vec<u8>>)],
        key: &str,
    ) -> (Vec<Written>, Result<annals::Ticket, Error>) {
        let written =
            events.iter().flat_map(|(stream, data)| data.iter().map(|data| (stream.to_string(), data.clone())));
        let written = written.collect();
        let Some(store) = &self.store else { return (written, Err(Error::Closed)) };
        let transaction = events.iter().fold(store.transaction(), |transaction, (stream, data)| {
            transaction.append(stream, Expected::Any, data.iter().map(|data| NewEvent::new("T", data)))
        });
        (written, transaction.idempotency_key(key).submit())
    }

    fn note(&mut self, written: Vec<Written>, result: Result<(), Error>) {
        let fate = match result {
            Ok(()) => Fate::Acknowledged,
            Err(Error::DurabilityUnknown { .. }) => Fate::Unknown,
            // A dead process reports no refusal.
            Err(_) if self.disk.is_dead() => Fate::Unknown,
            Err(_) => Fate::Refused,
        };
        self.history.commits.push((written, fate));
        if matches!(fate, Fate::Unknown) {
            self.abandon();
        }
    }

    fn commit(&mut self, parts: &[(&str, u32, usize)]) {
        let (written, ticket) = self.submit(parts);
        let result = ticket.and_then(annals::Ticket::wait).map(drop);
        self.note(written, result);
    }

    /// If the first one is there, the second one is a duplicate; if not, the second one may be
    /// stored. A dead process reports nothing.
    fn repeat(&mut self) {
        let key = format!("key {}", self.written);
        let events = self.events(&[("a", 1, 40)]);
        let (first, ticket) = self.submit_with_key(&events, &key);
        let result = ticket.and_then(annals::Ticket::wait).map(drop);
        let stored = result.is_ok();
        self.note(first, result);
        let (second, ticket) = self.submit_with_key(&events, &key);
        match ticket.and_then(annals::Ticket::wait) {
            Ok(committed) if stored => assert!(committed.duplicate, "a repeat is stored again"),
            result => self.note(second, result.map(drop)),
        }
    }

    fn group(&mut self, idle: bool) {
        let (first, first_ticket) = self.submit(&[("a", 1, 600)]);
        let (second, second_ticket) = self.submit(&[("c", 1, 700)]);
        if idle {
            self.idle();
        }
        let results = [first_ticket, second_ticket].map(|ticket| ticket.and_then(annals::Ticket::wait).map(drop));
        let [first_result, second_result] = results;
        self.note(first, first_result);
        self.note(second, second_result);
    }
}

fn written(event: &Event) -> Written {
    (event.stream().to_string(), event.data().to_vec())
}

fn contents(store: &Store, context: &dyn Display) -> Vec<Written> {
    let mut all: Vec<Written> = Vec::new();
    for (position, event) in store.read_all().into_iter().enumerate() {
        let event = event.unwrap_or_else(|e| panic!("{context}: {e}"));
        assert_eq!(event.position(), position as u64, "{context}");
        all.push(written(&event));
    }
    assert_eq!(all.len() as u64, store.len(), "{context}");
    for info in store.streams("").unwrap() {
        let events =
            store.read(&info.stream).into_iter().map(|event| event.unwrap_or_else(|e| panic!("{context}: {e}")));
        let events: Vec<_> = events.collect();
        let name = info.stream.to_string();
        assert!(events.iter().zip(0..).all(|(event, n)| event.sequence() == n), "{context}: {name}");
        let in_order = all.iter().filter(|(stream, _)| *stream == name);
        assert!(in_order.eq(events.iter().map(written).collect::<Vec<_>>().iter()), "{context}: {name}");
    }
    all
}

/// Holds a disk against the history of what was written to it.
pub fn check(disk: &SimFs, history: &History, context: &dyn Display) {
    check_with(disk, |found| history.allows(found), history, context);
}

/// The same, where acknowledged means written and not durable: whole commits, in order, from the
/// first on.
pub fn check_prefix(disk: &SimFs, history: &History, context: &dyn Display) {
    check_with(disk, |found| history.any_prefix().any(|prefix| prefix.allows(found)), history, context);
}

fn check_with(disk: &SimFs, allows: impl Fn(&[Written]) -> bool, history: &History, context: &dyn Display) {
    let open = |disk: &SimFs| options(disk).open("store").unwrap_or_else(|e| panic!("{context}: {e}"));
    let foreign = || FOREIGN.iter().filter(|_| history.foreign);
    let store = open(disk);
    let found = contents(&store, context);
    if !allows(&found) {
        let fates: Vec<_> = history.commits.iter().map(|(commit, fate)| (commit.len(), fate)).collect();
        panic!("{context}: {} events found; commits {fates:?}; {:?}", found.len(), store.open_report());
    }

    // A second recovery, after a process that did nothing, finds the same and cuts nothing.
    disk.while_dead(|| drop(store));
    let store = open(disk);
    assert!(store.open_report().cut.is_none(), "{context}: {:?}", store.open_report());
    assert_eq!(contents(&store, context), found, "{context}");

    // The store goes on, and what it acknowledges now survives the next power cut.
    let stream = StreamId::new("s", "after").expect("a good name");
    for n in 0..2u8 {
        let appended = store.append(&stream, Expected::Next(n.into()), [NewEvent::with_data("T", vec![n; 1500])]);
        appended.unwrap_or_else(|e| panic!("{context}: append after recovery: {e}"));
    }
    for name in foreign() {
        let there = disk.contents(format!("store/{name}"));
        assert_eq!(there.as_deref(), Some(name.as_bytes()), "{context}: {name} is the user's");
    }
    let store = open(&disk.crash(Image::Durable));
    let all = contents(&store, context);
    assert_eq!(all[..found.len()], found, "{context}");
    assert_eq!(all.len(), found.len() + 2, "{context}");
}
