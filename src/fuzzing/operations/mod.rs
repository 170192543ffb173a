//! Operations on the simulated disk against a model that is a list of commits.

mod model;
mod steps;

pub(super) use steps::{seeds, show};

use super::build::{self, stream};
use super::facts::{Fact, drain};
use crate::event::NewEvent;
use crate::fs::{Crash, Fault, Image, Operation, SimFs};
use crate::salvage::verify_in;
use crate::time::Timestamp;
use crate::{Committed, Error, Guard, Options, Result, Store, Ticket};
use model::{Accepted, Answer, Model, same};
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use steps::{Asked, Part, Step, expected, step_image, steps};

const DIR: &str = "store";
/// So many commits may be on their way while calls fail.
const HELD: usize = 3;

struct World {
    disk: SimFs,
    store: Option<Store>,
    clock: Arc<AtomicI64>,
    large_segments: bool,
    model: Model,
    /// Tickets with the number of their commit and the ranges that it should get.
    held: Vec<(Ticket, usize, Vec<Range<u64>>)>,
    /// Calls may fail.
    trouble: bool,
}

/// Runs the input as a list of steps. Whatever was acknowledged is there, in order and equal; whatever was refused never is; all answers are those of the model, or errors where calls fail.
pub fn operations(input: &[u8]) {
    let mut world = World::new();
    for step in steps(input) {
        world.step(&step);
        if world.disk.is_dead() {
            world.power_cut(step_image(world.model.written as u8, world.model.written as u8));
        }
    }
    world.end();
}

impl World {
    fn new() -> World {
        let mut world = World {
            disk: SimFs::new(),
            store: None,
            clock: Arc::new(AtomicI64::new(1_000)),
            large_segments: false,
            model: Model::default(),
            held: Vec::new(),
            trouble: false,
        };
        world.open();
        world
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("it is open between steps")
    }

    fn options(&self) -> Options {
        let clock = self.clock.clone();
        let options = Options::new().file_system(self.disk.clone()).maintenance(false).reserve(0);
        let options = options.segment_size(if self.large_segments { 64 << 10 } else { 4 << 10 });
        options.clock(move || Timestamp::from_nanos(clock.load(Ordering::Relaxed)))
    }

    /// Calls do not fail any more. What has failed before is told first.
    fn heal(&mut self) {
        self.disk.heal();
        self.wait_for_all();
        self.trouble = false;
    }

    /// Opens the store. What is there is what was acknowledged, and of what was on its way whole commits from the front; it stays.
    fn open(&mut self) {
        let mut opened = self.options().open(DIR);
        if opened.is_err() && self.trouble && !self.disk.is_dead() {
            self.heal();
            opened = self.options().open(DIR);
        }
        if self.disk.is_dead() {
            drop(opened);
            return self.power_cut(step_image(self.model.written as u8, 3));
        }
        let store = opened.unwrap_or_else(|error| panic!("the store does not open: {error}"));
        let (mut found, mut error) = drain(store.read_all().into_iter());
        if error.is_some() && self.trouble {
            self.heal();
            (found, error) = drain(store.read_all().into_iter());
        }
        if self.disk.is_dead() {
            self.disk.while_dead(|| drop(store));
            return self.power_cut(step_image(self.model.written as u8, 4));
        }
        assert!(error.is_none(), "{error:?}");
        let mut left = &found[..];
        let mut kept = Vec::new();
        for commit in std::mem::take(&mut self.model.commits) {
            let there = left.len() >= commit.facts.len() && left.iter().zip(&commit.facts).all(|(f, c)| same(f, c));
            if there {
                let (facts, rest) = left.split_at(commit.facts.len());
                kept.push(Accepted { facts: facts.to_vec(), acknowledged: true, ..commit });
                left = rest;
                continue;
            }
            assert!(!commit.acknowledged, "an acknowledged commit is gone: {:?}", store.open_report());
            assert!(left.is_empty(), "something else is there: {:?}", &left[0]);
        }
        assert!(left.is_empty(), "more is there than was written: {:?}", &left[0]);
        self.model.commits = kept;
        self.store = Some(store);
    }

    /// Lets go as a process does that dies, and opens again.
    fn abandon(&mut self) {
        let (store, held) = (self.store.take(), std::mem::take(&mut self.held));
        self.disk.while_dead(|| drop((held, store)));
        self.open();
    }

    fn power_cut(&mut self, image: Image) {
        let after = self.disk.crash(image);
        let (store, held) = (self.store.take(), std::mem::take(&mut self.held));
        self.disk.while_dead(|| drop((held, store)));
        self.disk = after;
        self.trouble = false;
        self.open();
    }

    fn close(&mut self) {
        if let Some(store) = self.store.take() {
            let closed = store.close();
            assert!(closed.as_ref().err().is_none_or(|error| self.trouble_allows(error)), "{closed:?}");
        }
        if self.disk.is_dead() {
            return self.held.clear();
        }
        self.wait_for_all();
    }

    /// Whether calls that fail may lead to this error.
    fn trouble_allows(&self, error: &Error) -> bool {
        let failing = self.trouble || self.disk.is_dead();
        match error {
            Error::Io { .. } | Error::DiskFull { .. } => failing,
            // Only opening again ends that.
            Error::DurabilityUnknown { .. } => failing || self.disk.has_failed(),
            _ => false,
        }
    }

    fn commit(&mut self, parts: &[Part], asked: Option<&(Asked, Option<u8>)>, key: u8, wait: bool) {
        let parts = &parts[..parts.len().min(3)];
        let key = key % 4;
        // A repeat waits for the first commit, and takes its place if that fails; and if many groups wait, submitting writes them, and what is accepted then does not stand on those that fail.
        if self.trouble && (key != 0 || self.held.len() >= HELD) {
            self.wait_for_all();
            if self.disk.is_dead() {
                return;
            }
        }
        let (written, accepted) = (self.model.written, self.model.accepted().count());
        let conflicts = parts.iter().map(|part| {
            let stream = stream(part.stream.into());
            self.model.accepted().filter(|fact| fact.stream == stream).count() as u64
        });
        let before: Vec<u64> = conflicts.collect();
        let answer = self.model.decide(parts, asked, key);
        let mut transaction = self.store().transaction();
        let (mut number, mut earlier) = (written, Vec::new());
        for (part, before) in parts.iter().zip(before) {
            let stream = stream(part.stream.into());
            let next = before + earlier.iter().filter(|other| **other == stream).count() as u64;
            let events: Vec<NewEvent<'_>> = part
                .events
                .iter()
                .map(|&(bits, len)| {
                    number += 1;
                    build::event((number - 1) << 4 | u64::from(bits % 16), usize::from(len % 3000))
                })
                .collect();
            earlier.extend(events.iter().map(|_| stream.clone()));
            transaction = transaction.append(&stream, expected(part.hope, next), events);
        }
        if let Some((asked, after)) = asked {
            transaction = transaction.guard(Guard::unchanged(asked.query(), after.map(u64::from)));
        }
        if key != 0 {
            transaction = transaction.idempotency_key(format!("key {key}"));
        }
        let submitted = transaction.submit();
        // Numbers are used once, whatever came of them.
        self.model.written = self.model.written.max(number);
        self.compare(submitted, answer, accepted as u64, key);
        if wait {
            self.wait_for_all();
        }
    }

    /// Holds what the store says to a commit against what it should say.
    fn compare(&mut self, submitted: Result<Ticket>, answer: Answer, accepted: u64, key: u8) {
        let ticket = match submitted {
            Err(error) if self.trouble_allows(&error) => return self.after_failure(&error),
            other => other,
        };
        match (ticket, answer) {
            (Err(Error::GuardFailed { position, .. }), Answer::GuardFailed(at)) => assert_eq!(position, at),
            (Err(Error::Conflict { actual, .. }), Answer::Conflict(next)) => assert_eq!(actual, next),
            (Ok(ticket), Answer::Nothing) => {
                let nothing = ticket.wait().expect("there is nothing to write");
                assert!(nothing.positions.is_empty() && !nothing.duplicate);
            }
            (Ok(ticket), Answer::Duplicate(firsts)) => {
                // The first commit may still be on its way, and the process dies over it.
                let first = match ticket.wait() {
                    Err(_) if self.disk.is_dead() => return,
                    other => other.expect("it was stored before"),
                };
                let is_first = |n: &usize| {
                    let facts = &self.model.commits[*n].facts;
                    first.positions == (facts[0].position..facts[0].position + facts.len() as u64)
                };
                assert!(first.duplicate && firsts.iter().any(is_first), "{first:?}");
            }
            (Ok(ticket), Answer::Accepted(facts, ranges)) => {
                assert_eq!(facts[0].position, accepted);
                self.model.commits.push(Accepted { facts, key, acknowledged: false });
                self.held.push((ticket, self.model.commits.len() - 1, ranges));
            }
            (Ok(_), _) => panic!("the store accepts what it should refuse"),
            (Err(error), _) => panic!("{error}"),
        }
    }

    /// After a failed sync nothing is accepted before the store is opened again.
    fn after_failure(&mut self, error: &Error) {
        if self.disk.is_dead() || !matches!(error, Error::DurabilityUnknown { .. }) {
            return;
        }
        self.wait_for_all();
        if self.store.is_some() {
            self.abandon();
        }
    }

    fn wait_for_all(&mut self) {
        let mut failed: Option<Error> = None;
        let mut refused = Vec::new();
        for (ticket, number, ranges) in std::mem::take(&mut self.held) {
            match ticket.wait() {
                Ok(committed) => {
                    assert!(failed.is_none(), "a commit is stored that stands on one that is not");
                    self.acknowledge(number, &committed, &ranges);
                }
                Err(error) => {
                    assert!(self.trouble_allows(&error), "{error}");
                    if !matches!(error, Error::DurabilityUnknown { .. }) {
                        refused.push(number);
                    }
                    failed.get_or_insert(error);
                }
            }
        }
        let Some(error) = failed else { return };
        // A process that is dead tells nobody that it refused.
        if !self.disk.is_dead() {
            let mut number = 0;
            self.model.commits.retain(|_| {
                number += 1;
                !refused.contains(&(number - 1))
            });
            self.after_failure(&error);
        }
    }

    fn acknowledge(&mut self, number: usize, committed: &Committed, ranges: &[Range<u64>]) {
        let commit = &mut self.model.commits[number];
        commit.acknowledged = true;
        let first = commit.facts[0].position;
        assert_eq!(committed.positions, first..first + commit.facts.len() as u64);
        assert!(committed.appends.iter().map(|appended| &appended.sequences).eq(ranges) && !committed.duplicate);
        commit.facts.iter_mut().for_each(|fact| fact.recorded_at = committed.recorded_at);
    }

    /// What can be seen now: whole commits, all acknowledged ones among them.
    fn visible(&self) -> Vec<Fact> {
        let visible = self.store().len();
        assert!(visible >= self.model.acknowledged());
        let mut all = Vec::new();
        for commit in &self.model.commits {
            if all.len() as u64 == visible {
                return all;
            }
            all.extend(commit.facts.iter().cloned());
        }
        assert_eq!(all.len() as u64, visible, "a part of a commit is visible, or more than there is");
        all
    }

    fn held_against(&self, found: (Vec<Fact>, Option<Error>), right: &[Fact]) {
        match found.1 {
            Some(error) => assert!(self.trouble_allows(&error), "{error}"),
            None => assert_eq!(found.0.len(), right.len(), "{:?} instead of {right:?}", found.0),
        }
        assert!(found.0.iter().zip(right).all(|(found, right)| same(found, right)), "{:?}, not {right:?}", found.0);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Commit { parts, guard, key, wait } => self.commit(parts, guard.as_ref(), *key, *wait),
            Step::WaitForAll => self.wait_for_all(),
            Step::DropTicket => {
                // Without a thread of maintenance, a ticket that is dropped writes its commit; its fate is seen later.
                if !self.trouble && !self.held.is_empty() {
                    drop(self.held.remove(0));
                }
            }
            Step::Sync => {
                let synced = self.store().sync();
                assert!(synced.as_ref().err().is_none_or(|error| self.trouble_allows(error)), "{synced:?}");
                self.wait_for_all();
            }
            Step::Read { of, from, len, limit, backwards, as_of } => {
                let mut right = self.visible();
                let mut read = match of {
                    Some(n) => self.store().read(&stream((*n).into())),
                    None => self.store().read_all(),
                };
                right.retain(|fact| of.is_none_or(|n| fact.stream == stream(n.into())));
                if let Some(position) = as_of {
                    read = read.as_of(u64::from(*position));
                    right.retain(|fact| fact.position <= (*position).into());
                }
                let range = u64::from(*from % 16)..u64::from(*from % 16) + u64::from(*len);
                right.retain(|fact| range.contains(if of.is_some() { &fact.sequence } else { &fact.position }));
                read = read.from(range.start).to(range.end).limit((*limit).into());
                if *backwards {
                    read = read.backwards();
                    right.reverse();
                }
                right.truncate((*limit).into());
                self.held_against(drain(read.into_iter()), &right);
            }
            Step::Query { asked, after, limit, backwards } => {
                let mut right = self.visible();
                right.retain(|fact| asked.finds(fact) && after.is_none_or(|after| fact.position > after.into()));
                let query = asked.query();
                let mut search = self.store().query(&query).after(after.map(u64::from)).limit((*limit).into());
                if *backwards {
                    search = search.backwards();
                    right.reverse();
                }
                right.truncate((*limit).into());
                self.held_against(drain(search.into_iter()), &right);
            }
            Step::Clock { nanos } => self.clock.store((*nanos).into(), Ordering::Relaxed),
            Step::Reopen { large_segments } => {
                self.close();
                self.large_segments = *large_segments;
                if self.store.is_none() && !self.disk.is_dead() {
                    self.open();
                }
            }
            Step::Abandon => self.abandon(),
            Step::PowerCut { image, seed } => self.power_cut(step_image(*image, *seed)),
            Step::Die { after } => {
                self.disk.crash_when(Crash::AtCall(self.disk.calls() + u64::from(after % 32)));
                self.trouble = true;
            }
            Step::Fault { operation, after, times, kind } => self.fault(*operation, *after, *times, *kind),
            Step::Full { room } => {
                let files = self.disk.files();
                let used: usize = files.iter().filter_map(|path| self.disk.contents(path)).map(|file| file.len()).sum();
                self.disk.set_capacity(used as u64 + u64::from(*room));
                self.trouble = true;
            }
            Step::Heal => self.heal(),
            Step::Spoil { file, at, delete } => self.spoil(*file, *at, *delete),
        }
    }

    fn fault(&mut self, operation: u8, after: u8, times: u8, kind: u8) {
        use Operation::{Create, Read, Remove, Rename, Sync, SyncDir, Truncate, Write};
        let operations = [Write, Read, Sync, Truncate, Create, SyncDir, Rename, Remove];
        let kinds = [ErrorKind::Other, ErrorKind::StorageFull, ErrorKind::WriteZero, ErrorKind::Interrupted];
        let operation = operations[usize::from(operation) % operations.len()];
        let mut kind = kinds[usize::from(kind) % kinds.len()];
        // Only a write can be cut short; and what is interrupted for ever never ends.
        if operation != Write && kind == ErrorKind::WriteZero {
            kind = ErrorKind::Other;
        }
        let times = if kind == ErrorKind::Interrupted { times % 3 } else { times % 5 };
        self.disk.fail(Fault { operation, after: (after % 16).into(), times: times.into(), kind });
        self.trouble = true;
    }

    fn spoil(&mut self, file: u8, at: u16, delete: bool) {
        self.close();
        if self.disk.is_dead() || self.store.is_some() {
            return;
        }
        let mut files = self.disk.files();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "idx"));
        if let Some(path) = files.get(usize::from(file) % files.len().max(1)) {
            let mut bytes = self.disk.contents(path).unwrap_or_default();
            match (usize::from(at)).checked_rem(bytes.len()) {
                Some(at) if !delete => {
                    bytes[at] ^= 1 << (at % 8);
                    self.disk.set_contents(path, bytes);
                }
                _ => self.disk.delete(path),
            }
        }
        self.open();
    }

    /// Closes, and finds the same from outside, after opening again, and after a power cut.
    fn end(&mut self) {
        self.disk.crash_when(Crash::Never);
        self.heal();
        self.close();
        if self.store.is_none() {
            self.open();
        }
        let store = self.store.take().expect("it was just opened");
        store.close().expect("nothing fails any more");
        let report = verify_in(&self.disk, DIR).expect("a store");
        assert!(report.is_sound() && report.torn.is_none(), "{report:?}");
        assert_eq!(report.events, self.model.accepted().count() as u64);
        self.power_cut(Image::Durable);
        let (again, right) = (self.store().len(), self.model.accepted().count() as u64);
        assert_eq!(again, right);
    }
}
