//! The next sequences of streams that were written to or looked up.

use super::Index;
use super::memory::TermHash;
use crate::error::Result;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

#[derive(Default)]
pub(super) struct Heads {
    /// The indexes of the heads in `next`, by the keys of the streams.
    known: HashMap<Box<[u8]>, u32, TermHash>,
    /// 0 for streams without events.
    next: Vec<u64>,
    /// The stream that was set last, and its index: events of one stream often follow one another,
    /// and need no lookup then. Empty if there is none.
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

    /// Sets a head, if it is known. Returns the one before.
    #[inline]
    pub(super) fn replace(&mut self, key: &[u8], next: u64) -> Option<u64> {
        if self.last != key {
            self.place = *self.known.get(key)?;
            self.last.clear();
            self.last.extend_from_slice(key);
        }
        Some(std::mem::replace(&mut self.next[self.place as usize], next))
    }

    /// Sets a head that was looked up, unless it has become known meanwhile. Returns the known one.
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

impl Index {
    /// Returns how often events have been added.
    #[inline]
    pub(crate) fn added(&self) -> u64 {
        self.added.load(SeqCst)
    }

    /// Returns the next sequence of a stream: the number of its events.
    pub(crate) fn next_sequence(&self, key: &[u8]) -> Result<u64> {
        self.head(key, false)
    }

    /// Returns the same for a stream that is about to be written to, and remembers it even if it is
    /// new, so that it need not be looked up under a lock.
    pub(crate) fn next_sequence_to_write(&self, key: &[u8]) -> Result<u64> {
        self.head(key, true)
    }

    fn head(&self, key: &[u8], keep: bool) -> Result<u64> {
        loop {
            let (found, deletions) = {
                let parts = self.parts.read();
                match parts.heads.get(key) {
                    Some(next) => return Ok(next),
                    None => (parts.next_sequence(key), parts.deletions.clone()),
                }
            };
            match found {
                Ok(0) if !keep => return Ok(0),
                Ok(next) => {
                    let mut parts = self.parts.write();
                    // The stream may have been deleted in between: a head that was kept then
                    // assigned sequences that the log refused on the next open.
                    if Arc::ptr_eq(&parts.deletions, &deletions) {
                        // Another thread may have added events in between.
                        return Ok(parts.heads.learn(key, next));
                    }
                }
                Err(segment) => self.rebuild(segment)?,
            }
        }
    }
}
