//! The next sequences of streams that were written to or asked about.

use super::memory::TermHash;
use std::collections::HashMap;

#[derive(Default)]
pub(super) struct Heads {
    /// By the keys of the streams; 0 for those that have no events.
    known: HashMap<Box<[u8]>, u64, TermHash>,
    /// The stream that was set last, and its head: events of one stream often follow one another, and are not looked up each. Empty if there is none.
    last: Vec<u8>,
    next: u64,
}

impl Heads {
    #[inline]
    pub(super) fn get(&self, key: &[u8]) -> Option<u64> {
        match self.last == key {
            true => Some(self.next),
            false => self.known.get(key).copied(),
        }
    }

    #[inline]
    pub(super) fn set(&mut self, key: &[u8], next: u64) {
        if self.last != key {
            self.put_back();
            self.last.extend_from_slice(key);
        }
        self.next = next;
    }

    /// Sets a head that was looked up, if it is not known meanwhile. Gives the one that is.
    pub(super) fn learn(&mut self, key: &[u8], next: u64) -> u64 {
        match self.get(key) {
            Some(known) => known,
            None => *self.known.entry(key.into()).or_insert(next),
        }
    }

    /// Forgets the heads of these streams.
    pub(super) fn forget(&mut self, is_gone: impl Fn(&[u8]) -> bool) {
        self.put_back();
        self.known.retain(|key, _| !is_gone(key));
    }

    fn put_back(&mut self) {
        if self.last.is_empty() {
            return;
        }
        match self.known.get_mut(self.last.as_slice()) {
            Some(known) => *known = self.next,
            None => drop(self.known.insert(self.last.as_slice().into(), self.next)),
        }
        self.last.clear();
    }
}
