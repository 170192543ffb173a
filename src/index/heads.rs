//! The next sequences of streams that were written to or asked about.

use super::memory::TermHash;
use std::collections::HashMap;

#[derive(Default)]
pub(super) struct Heads {
    /// The places of the heads in `next`, by the keys of the streams.
    known: HashMap<Box<[u8]>, u32, TermHash>,
    /// 0 for streams that have no events.
    next: Vec<u64>,
    /// The stream that was set last, and its place: events of one stream often follow one another, and are not looked up each. Empty if there is none.
    last: Vec<u8>,
    place: u32,
}

impl Heads {
    #[inline]
    pub(super) fn get(&self, key: &[u8]) -> Option<u64> {
        let place = match self.last == key {
            true => self.place,
            false => *self.known.get(key)?,
        };
        Some(self.next[place as usize])
    }

    /// Sets a head, if it is known. Gives the one before.
    #[inline]
    pub(super) fn replace(&mut self, key: &[u8], next: u64) -> Option<u64> {
        if self.last != key {
            self.place = *self.known.get(key)?;
            self.last.clear();
            self.last.extend_from_slice(key);
        }
        Some(std::mem::replace(&mut self.next[self.place as usize], next))
    }

    /// Sets a head that was looked up, if it is not known meanwhile. Gives the one that is.
    pub(super) fn learn(&mut self, key: &[u8], next: u64) -> u64 {
        self.get(key).unwrap_or_else(|| {
            self.known.insert(key.into(), self.next.len() as u32);
            self.next.push(next);
            next
        })
    }

    /// Forgets the heads of these streams.
    pub(super) fn forget(&mut self, is_gone: impl Fn(&[u8]) -> bool) {
        let before = std::mem::take(self);
        let kept = before.known.into_iter().filter(|(key, _)| !is_gone(key));
        for (key, place) in kept {
            self.known.insert(key, self.next.len() as u32);
            self.next.push(before.next[place as usize]);
        }
    }
}
