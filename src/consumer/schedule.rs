//! Which event is to be handled next, and up to where all of them are done. No threads, no clock of
//! its own.

use super::partition::{Keys, Partition};
use crate::Event;
use crate::store::progress::consumers::{CheckpointUpdate, DeadLetterEntry};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::time::Instant;

/// An event that is to be handled, and nothing else of its key until it is done.
pub(super) struct Job {
    pub event: Event,
    key: u64,
    /// Attempts that have failed.
    pub failed: u64,
}

pub(super) struct Schedule {
    keys: Keys,
    /// All before this position was taken in.
    next: u64,
    /// Positions of events that were taken in and are not done.
    open: BTreeSet<u64>,
    /// Keys of which one event is ready, at work, or waits for its next attempt; and the events
    /// after it.
    busy: HashMap<u64, VecDeque<Event>>,
    ready: VecDeque<Job>,
    /// By the time and the position of the next attempt.
    delayed: BTreeMap<(Instant, u64), Job>,
    /// Letters that the store does not know yet.
    parked: BTreeMap<u64, DeadLetterEntry>,
    /// Letters of the store on events that may be seen again.
    known: BTreeSet<u64>,
    /// Of these, those whose events are done by now.
    gone: BTreeSet<u64>,
}

impl Schedule {
    /// All before `next` is done. `known` are the letters of the store.
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

    /// Takes in an event, after all that were before.
    pub(super) fn admit(&mut self, event: Event) {
        self.open.insert(event.position());
        self.pass(event.position() + 1);
        let key = self.keys.of(&event);
        match self.busy.get_mut(&key) {
            Some(behind) => behind.push_back(event),
            None => {
                self.busy.insert(key, VecDeque::new());
                self.ready.push_back(Job { event, key, failed: 0 });
            }
        }
    }

    /// All before this position was taken in, or is not for this consumer.
    pub(super) fn pass(&mut self, next: u64) {
        self.next = self.next.max(next);
    }

    /// What can be done now: first what has waited for its next attempt.
    pub(super) fn begin(&mut self, now: Instant) -> Option<Job> {
        match self.delayed.first_entry() {
            Some(first) if first.key().0 <= now => Some(first.remove()),
            _ => self.ready.pop_front(),
        }
    }

    /// What is ready, and has not failed before.
    pub(super) fn begin_ready(&mut self) -> Option<Job> {
        self.ready.pop_front()
    }

    /// When the next attempt is due.
    pub(super) fn due(&self) -> Option<Instant> {
        self.delayed.first_key_value().map(|((due, _), _)| *due)
    }

    /// The event is done. Returns whether something is ready that was not.
    pub(super) fn done(&mut self, job: Job) -> bool {
        let position = job.event.position();
        if self.known.remove(&position) {
            self.gone.insert(position);
        }
        self.release(job)
    }

    /// The event is given up.
    pub(super) fn park(&mut self, job: Job, letter: DeadLetterEntry) -> bool {
        self.parked.insert(job.event.position(), letter);
        self.release(job)
    }

    fn release(&mut self, job: Job) -> bool {
        self.open.remove(&job.event.position());
        let Some(behind) = self.busy.get_mut(&job.key) else { return false };
        match behind.pop_front() {
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

    /// The event is to be tried again at a time. Those of its key wait.
    pub(super) fn delay(&mut self, job: Job, until: Instant) {
        self.delayed.insert((until, job.event.position()), job);
    }

    /// What takes memory: events that are not done, and what is done or given up after them and
    /// cannot be kept yet.
    pub(super) fn held(&self) -> usize {
        self.open.len() + self.parked.len() + self.gone.len()
    }

    /// Events that were taken in and are not done.
    pub(super) fn open(&self) -> usize {
        self.open.len()
    }

    /// Whether all that was taken in is done.
    pub(super) fn is_idle(&self) -> bool {
        self.open.is_empty()
    }

    /// Letters that are not in the store.
    pub(super) fn parked(&self) -> usize {
        self.parked.len()
    }

    /// All before this position is done.
    pub(super) fn reached(&self) -> u64 {
        self.open.first().copied().unwrap_or(self.next)
    }

    /// What can be kept now.
    pub(super) fn progress(&mut self) -> CheckpointUpdate {
        let next = self.reached();
        let later = self.parked.split_off(&next);
        let parked = std::mem::replace(&mut self.parked, later).into_iter().collect();
        let later = self.gone.split_off(&next);
        let gone = std::mem::replace(&mut self.gone, later).into_iter().collect();
        CheckpointUpdate { next, parked, gone }
    }
}
