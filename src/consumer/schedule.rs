//! The schedule: which event is handled next, and up to where all of them are done. It has no
//! threads and no clock.

use super::partition::{Keys, Partition};
use crate::Event;
use crate::store::progress::consumers::{CheckpointUpdate, DeadLetterEntry};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Instant;

/// An event that will be handled, and no other of its key until it is done.
pub(super) struct Job {
    pub event: Event,
    key: u64,
    /// Number of failed attempts.
    pub failed: u64,
}

pub(super) struct Schedule {
    keys: Keys,
    /// All events before this position have been added.
    next: u64,
    /// Positions of events that have been added and are not done.
    open: BTreeSet<u64>,
    /// Keys of which one event is ready, being handled, or waiting for a retry; with the events
    /// that wait for it.
    busy: HashMap<u64, VecDeque<Event>>,
    ready: VecDeque<Job>,
    /// Retries by time and position.
    delayed: BTreeMap<(Instant, u64), Job>,
    /// Dead letters that are not stored yet.
    parked: BTreeMap<u64, DeadLetterEntry>,
    /// Stored dead letters of events that may be seen again.
    known: BTreeSet<u64>,
    /// Those of them whose events are done by now.
    gone: BTreeSet<u64>,
}

impl Schedule {
    /// Returns a schedule in which all before `next` is done. `known` are the stored dead letters.
    pub(super) fn new(partition: Partition, next: u64, known: impl Iterator<Item = u64>) -> Self {
        Schedule {
            keys: Keys::new(partition),
            next,
            open: BTreeSet::new(),
            busy: HashMap::new(),
            ready: VecDeque::new(),
            delayed: BTreeMap::new(),
            parked: BTreeMap::new(),
            known: known.filter(|&position| position >= next).collect(),
            gone: BTreeSet::new(),
        }
    }

    /// Adds an event, after all earlier ones.
    pub(super) fn admit(&mut self, event: Event) {
        self.open.insert(event.position());
        self.pass(event.position() + 1);
        let key = self.keys.of(&event);
        match self.busy.get_mut(&key) {
            Some(after) => after.push_back(event),
            None => {
                self.busy.insert(key, VecDeque::new());
                self.ready.push_back(Job { event, key, failed: 0 });
            }
        }
    }

    /// Records that all events before this position have been added, or are not for this consumer.
    pub(super) fn pass(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    /// Returns the next event to handle: retries that are due first.
    pub(super) fn begin(&mut self, now: Instant) -> Option<Job> {
        match self.delayed.first_entry() {
            Some(first) if first.key().0 <= now => Some(first.remove()),
            _ => self.ready.pop_front(),
        }
    }

    /// Returns the next ready event that has not failed before.
    pub(super) fn begin_ready(&mut self) -> Option<Job> {
        self.ready.pop_front()
    }

    /// Returns when the next retry is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.delayed.first_key_value().map(|((due, _), _)| *due)
    }

    /// Records that the event is done. Returns whether another one became ready.
    pub(super) fn done(&mut self, job: Job) -> bool {
        let position = job.event.position();
        if self.known.remove(&position) {
            self.gone.insert(position);
        }
        self.release(job)
    }

    /// Records that the event is given up.
    pub(super) fn park(&mut self, job: Job, letter: DeadLetterEntry) -> bool {
        self.parked.insert(job.event.position(), letter);
        self.release(job)
    }

    fn release(&mut self, job: Job) -> bool {
        self.open.remove(&job.event.position());
        let Some(after) = self.busy.get_mut(&job.key) else { return false };
        match after.pop_front() {
            Some(event) => {
                self.ready.push_back(Job { event, key: job.key, failed: 0 });
                true
            }
            None => {
                self.busy.remove(&job.key);
                false
            }
        }
    }

    /// Schedules a retry at a time. Later events of its key wait.
    pub(super) fn delay(&mut self, job: Job, until: Instant) {
        self.delayed.insert((until, job.event.position()), job);
    }

    /// Returns the number of events in memory: those that are not done, and those that were done or
    /// given up after them and cannot be stored yet.
    pub(super) fn held(&self) -> usize {
        self.open.len() + self.parked.len() + self.gone.len()
    }

    /// Returns the number of events that have been added and are not done.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// Returns whether all added events are done.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// Returns the number of dead letters that are not stored.
    pub(super) fn parked(&self) -> usize {
        self.parked.len()
    }

    /// Returns the position before which everything is done.
    pub(super) fn reached(&self) -> u64 {
        self.open.first().copied().unwrap_or(self.next)
    }

    /// Returns what can be stored now.
    pub(super) fn progress(&mut self) -> CheckpointUpdate {
        let next = self.reached();
        let later = self.parked.split_off(&next);
        let parked = std::mem::replace(&mut self.parked, later).into_iter().collect();
        let later = self.gone.split_off(&next);
        let gone = std::mem::replace(&mut self.gone, later).into_iter().collect();
        CheckpointUpdate { next, parked, gone }
    }
}
