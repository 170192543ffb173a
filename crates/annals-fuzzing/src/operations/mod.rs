//! Operations on the simulated disk compared with a model, a list of commits and a map of handler
//! positions.
//!
//! Snapshots have no model: a state is the list of the positions of its events, and whatever is
//! loaded must be what a replay of the model gives.

mod beside;
mod model;
mod steps;

pub(super) use steps::{seeds, show};

use super::records::drain;
use annals::NewEvent;
use annals::Timestamp;
use annals::offline::verify_in;
use annals::{Committed, Error, Guard, Options, Result, Store, Ticket};
use annals_testkit::EventRecord;
use annals_testkit::{Crash, Fault, Image, Operation, SimFs};
use model::{Accepted, Answer, Model, Places, Says, numbered, same};
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use steps::{Commit, Step, step_image, steps, stream};

const DIR: &str = "store";
/// Maximum number of commits in flight while calls fail.
const HELD: usize = 3;

struct World {
    disk: SimFs,
    store: Option<Store>,
    clock: Arc<AtomicI64>,
    large_segments: bool,
    model: Model,
    /// Tickets with the number of their commit and the expected ranges.
    held: Vec<(Ticket, usize, Vec<Range<u64>>)>,
    /// Calls may fail.
    trouble: bool,
}

/// Runs the input as a list of steps. Acknowledged commits are there, in order and equal; refused
/// ones never are; all answers are those of the model, or errors if calls fail.
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
            model: Model { flushed: vec![Places::new()], ..Model::default() },
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

    /// Calls no longer fail. Earlier failures are reported first.
    fn heal(&mut self) {
        self.disk.heal();
        self.wait_for_all();
        self.trouble = false;
    }

    /// Opens the store. Its content is what was acknowledged, and of commits in flight whole ones
    /// from the front; it stays.
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
        self.keep(&store, &found);
        let mut places = self.places(&store);
        if places.is_err() && self.trouble && !self.disk.is_dead() {
            self.heal();
            places = self.places(&store);
        }
        if self.disk.is_dead() {
            self.disk.while_dead(|| drop(store));
            return self.power_cut(step_image(self.model.written as u8, 5));
        }
        let found = places.unwrap_or_else(|error| panic!("handler positions cannot be read: {error}"));
        let allowed = self.model.flushed.iter().any(|flushed| self.model.shown(flushed) == found);
        assert!(allowed, "{found:?} was not there after any flush: {:?}", self.model.flushed);
        self.model.places = found;
        self.store = Some(store);
    }

    /// Compares an open store with the commits, and forgets those that are missing.
    fn keep(&mut self, store: &Store, found: &[EventRecord]) {
        let end = store.len();
        let (mut kept, mut upto) = (Vec::new(), 0);
        for commit in std::mem::take(&mut self.model.commits) {
            if upto + commit.len > end || upto == end {
                assert!(!commit.acknowledged, "an acknowledged commit is gone: {:?}", store.open_report());
                continue;
            }
            assert_eq!(commit.first, upto, "a commit is not where it was accepted");
            upto += commit.len;
            kept.push(Accepted { acknowledged: true, ..commit });
        }
        assert_eq!(upto, end, "a part of a commit is there, or more than was written");
        self.model.commits = kept;
        let right = self.model.live(end);
        assert_eq!(found.len(), right.len(), "{found:?} instead of {right:?}");
        assert!(found.iter().zip(&right).all(|(found, right)| same(found, right)), "{found:?}, not {right:?}");
        let mut known = found.iter().peekable();
        for record in self.model.commits.iter_mut().flat_map(|commit| &mut commit.records) {
            if let Some(found) = known.next_if(|found| found.position == record.position) {
                *record = found.clone();
            }
        }
    }

    /// Drops the store as a dying process does, and opens it again.
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
            self.flushes();
            let closed = store.close();
            self.flushed(closed.is_ok());
            assert!(closed.as_ref().err().is_none_or(|error| self.trouble_allows(error)), "{closed:?}");
        }
        if self.disk.is_dead() {
            return self.held.clear();
        }
        self.wait_for_all();
    }

    /// Whether failing calls may lead to this error.
    fn trouble_allows(&self, error: &Error) -> bool {
        let failing = self.trouble || self.disk.is_dead();
        match error {
            Error::Io { .. } | Error::DiskFull { .. } => failing,
            // Only opening again ends that.
            Error::DurabilityUnknown { .. } => failing || self.disk.has_failed(),
            _ => false,
        }
    }

    fn commit(&mut self, Commit { parts, guard, key, tracking, wait }: &Commit) {
        let (asked, key, says) = (guard.as_ref(), *key, tracking.map(Says::tracked));
        // A repeat waits for the first commit, and takes its place if that fails; and if many
        // groups wait, submitting writes them, and what is accepted then does not depend on those
        // that fail.
        if self.trouble && (key != 0 || self.held.len() >= HELD) {
            self.wait_for_all();
            if self.disk.is_dead() {
                return;
            }
        }
        let mut number = self.model.written;
        let visible = self.store().len();
        let (mut hopes, mut answer) = self.model.decide(parts, asked, key, says.as_ref(), visible);
        // A refusal waits for the commits that it depends on, and is decided again if they fail.
        if self.trouble && !matches!(answer, Answer::Accepted(..)) && !self.held.is_empty() {
            self.wait_for_all();
            if self.disk.is_dead() || self.store.is_none() {
                return;
            }
            self.model.written = number;
            let visible = self.store().len();
            (hopes, answer) = self.model.decide(parts, asked, key, says.as_ref(), visible);
        }
        let mut transaction = self.store().transaction();
        let mut n = 0;
        for (part, hope) in parts.iter().zip(hopes) {
            let events: Vec<NewEvent<'_>> = part
                .events
                .iter()
                .map(|&(bits, len)| {
                    number += 1;
                    n += 1;
                    numbered(key, number - 1, n - 1, bits, len)
                })
                .collect();
            transaction = transaction.append(&stream(part.stream), hope, events);
        }
        if let Some((asked, after)) = asked {
            transaction = transaction.guard(Guard::unchanged(asked.query(), after.map(u64::from)));
        }
        if key != 0 {
            transaction = transaction.idempotency_key(format!("key {key}"));
        }
        if let Some(Says::Tracked { upstream, position }) = says {
            transaction = transaction.tracking(upstream, position);
        }
        let submitted = transaction.submit();
        self.compare(submitted, answer);
        if *wait {
            self.wait_for_all();
        }
    }

    /// Compares the store's result of a commit with the expected one.
    fn compare(&mut self, submitted: Result<Ticket>, answer: Answer) {
        let ticket = match submitted {
            Err(error) if self.trouble_allows(&error) => return self.after_failure(&error),
            other => other,
        };
        match (ticket, answer) {
            (Err(Error::GuardFailed { position, .. }), Answer::GuardFailed(at)) if !self.disk.is_dead() => {
                assert_eq!(position, at)
            }
            (Err(Error::Conflict { actual, .. }), Answer::Conflict(next)) if !self.disk.is_dead() => {
                assert_eq!(actual, next)
            }
            (Ok(ticket), Answer::Nothing) => {
                let nothing = ticket.wait().expect("there is nothing to write");
                assert!(nothing.positions.is_empty() && !nothing.duplicate);
            }
            (Err(Error::IdempotencyMismatch { positions, .. }), Answer::Repeat { others, .. }) => {
                let is_first = |n: &usize| self.model.commits[*n].first == positions.start;
                assert!(others.iter().any(is_first), "{positions:?}");
            }
            (Ok(ticket), Answer::Repeat { same, .. }) => {
                // The first commit may still be in flight, and the process dies during it.
                let first = match ticket.wait() {
                    Err(_) if self.disk.is_dead() => return,
                    other => other.expect("it was stored before"),
                };
                let is_first = |n: &usize| {
                    let commit = &self.model.commits[*n];
                    first.positions == (commit.first..commit.first + commit.len)
                };
                assert!(first.duplicate && same.iter().any(is_first), "{first:?}");
            }
            (Err(Error::PositionAhead { end, .. }), Answer::Ahead) if !self.disk.is_dead() => {
                assert_eq!(end, self.model.end());
            }
            (Err(Error::AlreadyTracked { tracked, .. }), Answer::AlreadyTracked(at)) => assert_eq!(tracked, at),
            (Ok(ticket), Answer::Accepted(accepted, ranges)) => {
                self.model.commits.push(accepted);
                self.held.push((ticket, self.model.commits.len() - 1, ranges));
            }
            // It died during earlier commits, which then were judged as if they had never been.
            // This one gets no result.
            _ if self.disk.is_dead() => {}
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
        // A dead process reports no refusal.
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
        assert_eq!(committed.positions, commit.first..commit.first + commit.len);
        assert!(committed.appends.iter().map(|appended| &appended.sequences).eq(ranges) && !committed.duplicate);
        commit.records.iter_mut().for_each(|record| record.recorded_at = committed.recorded_at);
    }

    /// The position after all that is visible now: whole commits, all acknowledged ones among them.
    fn visible(&self) -> u64 {
        let visible = self.store().len();
        assert!(visible >= self.model.acknowledged());
        let mut ends = self.model.commits.iter().map(|commit| commit.first + commit.len);
        assert!(visible == 0 || ends.any(|end| end == visible), "a part of a commit is visible, or more than there is");
        visible
    }

    fn held_against(&self, found: (Vec<EventRecord>, Option<Error>), right: &[EventRecord]) {
        match found.1 {
            Some(error) => assert!(self.trouble_allows(&error), "{error}"),
            None => assert_eq!(found.0.len(), right.len(), "{:?} instead of {right:?}", found.0),
        }
        assert!(found.0.iter().zip(right).all(|(found, right)| same(found, right)), "{:?}, not {right:?}", found.0);
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Commit(commit) => self.commit(commit),
            Step::Delete { edition, domain } => self.delete(*edition, *domain),
            Step::List => self.list(),
            Step::Load { of, every, as_of } => self.load(*of, *every, *as_of),
            Step::Snapshot { of, sequence, retention } => self.snapshot(*of, *sequence, *retention),
            Step::Position { handler, of, sequence, change } => self.position(*handler, *of, *sequence, *change),
            Step::Flush => self.flush(),
            Step::WaitForAll => self.wait_for_all(),
            Step::DropTicket => {
                // Without a maintenance thread, a ticket that is dropped writes its commit; its
                // outcome is seen later.
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
                let (end, until) = (self.visible(), as_of.map_or(u64::MAX, u64::from));
                let (mut read, mut right) = match of {
                    Some(n) => (self.store().read(&stream(*n)), self.model.stream(&stream(*n), end, until)),
                    None => (self.store().read_all(), self.model.live(end)),
                };
                if let Some(position) = as_of {
                    read = read.as_of(u64::from(*position));
                    right.retain(|record| record.position <= until);
                }
                let range = u64::from(*from % 16)..u64::from(*from % 16) + u64::from(*len);
                right.retain(|record| range.contains(if of.is_some() { &record.sequence } else { &record.position }));
                read = read.from(range.start).to(range.end).limit((*limit).into());
                if *backwards {
                    read = read.backwards();
                    right.reverse();
                }
                right.truncate((*limit).into());
                self.held_against(drain(read.into_iter()), &right);
            }
            Step::Query { asked, after, limit, backwards } => {
                let mut right = self.model.seen(asked.edition(), self.visible());
                right.retain(|record| asked.finds(record) && after.is_none_or(|after| record.position > after.into()));
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
        // Only a write can be cut short; and a call that is interrupted forever never ends.
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
        files.retain(|path| path.extension().is_some_and(|extension| extension == "idx" || extension == "snap"));
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
        assert_eq!(report.events, self.model.end());
        self.power_cut(Image::Durable);
        assert_eq!(self.store().len(), self.model.end());
    }
}
