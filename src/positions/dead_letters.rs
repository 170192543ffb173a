//! Dead letters in memory: the events that consumers have given up, and which of them the file does
//! not have yet.

use crate::format::positions_file::{MAX_REASON, ProgressEntry};
use std::collections::BTreeMap;
use std::ops::Bound;

/// Approximate size of a dead letter in the file, besides its name and its reason.
const COST: u64 = 32;

/// Why and when a consumer has given up an event.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeadLetterEntry {
    pub attempts: u64,
    /// Nanoseconds since 1970.
    pub time: i64,
    /// When the event was recorded, or [`UNBOUND`](crate::format::positions_file::UNBOUND).
    pub recorded_at: i64,
    reason: Box<str>,
}

impl DeadLetterEntry {
    /// Cuts a reason that is too long, but not within a character.
    pub(crate) fn new(attempts: u64, time: i64, recorded_at: i64, reason: &str) -> Self {
        let end = (0..=reason.len().min(MAX_REASON)).rev().find(|&end| reason.is_char_boundary(end));
        DeadLetterEntry { attempts, time, recorded_at, reason: reason[..end.unwrap_or(0)].into() }
    }

    pub(crate) fn reason(&self) -> &str {
        &self.reason
    }
}

struct StoredDeadLetter {
    /// `None` if the dead letter is deleted. The entry stays until the file has the deletion.
    letter: Option<DeadLetterEntry>,
    dirty: bool,
}

/// All dead letters, by consumer and position.
#[derive(Default)]
pub(super) struct DeadLetters {
    held: BTreeMap<Box<str>, BTreeMap<u64, StoredDeadLetter>>,
    dirty: Vec<(Box<str>, u64)>,
    changes: u64,
    bytes: u64,
}

/// A dead letter as it was when a flush took it.
pub(super) struct Moved {
    name: Box<str>,
    position: u64,
    letter: Option<DeadLetterEntry>,
}

impl Moved {
    pub(super) fn entry(&self) -> ProgressEntry<'_> {
        let (name, position) = (&*self.name, self.position);
        self.letter.as_ref().map_or(ProgressEntry::NoLetter { name, position }, |letter| entry(name, position, letter))
    }
}

fn entry<'a>(name: &'a str, position: u64, letter: &'a DeadLetterEntry) -> ProgressEntry<'a> {
    let DeadLetterEntry { attempts, time, recorded_at, ref reason } = *letter;
    ProgressEntry::DeadLetter { name, position, attempts, time, recorded_at, reason }
}

fn cost(name: &str, letter: Option<&DeadLetterEntry>) -> u64 {
    letter.map_or(0, |letter| name.len() as u64 + letter.reason.len() as u64 + COST)
}

impl DeadLetters {
    pub(super) fn changes(&self) -> u64 {
        self.changes
    }

    /// Returns the approximate size of all dead letters in the file.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Returns the dead letters of a consumer, by position.
    pub(super) fn of(&self, name: &str) -> impl Iterator<Item = (u64, &DeadLetterEntry)> {
        let held = self.held.get(name).into_iter().flatten();
        held.filter_map(|(&position, held)| Some((position, held.letter.as_ref()?)))
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (&str, u64, &DeadLetterEntry)> {
        self.held.keys().flat_map(|name| self.of(name).map(move |(position, letter)| (&**name, position, letter)))
    }

    /// Returns the number of dead letters of a consumer, including deleted ones that the file still
    /// has.
    pub(super) fn count(&self, name: &str) -> usize {
        self.held.get(name).map_or(0, BTreeMap::len)
    }

    /// Returns the consumers that have dead letters, sorted, with the number of each.
    pub(super) fn counts(&self) -> impl Iterator<Item = (&str, u64)> {
        let counts = self.held.keys().map(|name| (&**name, self.of(name).count() as u64));
        counts.filter(|&(_, count)| count > 0)
    }

    /// Adds a dead letter, or replaces the one of this event.
    pub(super) fn put(&mut self, name: &str, position: u64, letter: DeadLetterEntry) {
        self.set(name, position, Some(letter), true);
    }

    /// Deletes a dead letter. Returns whether there was one.
    pub(super) fn delete(&mut self, name: &str, position: u64) -> bool {
        let held = self.held.get(name).and_then(|held| held.get(&position));
        let there = held.is_some_and(|held| held.letter.is_some());
        if there {
            self.set(name, position, None, true);
        }
        there
    }

    fn set(&mut self, name: &str, position: u64, letter: Option<DeadLetterEntry>, dirty: bool) {
        if !self.held.contains_key(name) {
            self.held.insert(name.into(), BTreeMap::new());
        }
        let of = self.held.get_mut(name).expect("it was put there if it was not");
        self.bytes += cost(name, letter.as_ref());
        let before = of.insert(position, StoredDeadLetter { letter, dirty });
        self.bytes -= before.as_ref().map_or(0, |before| cost(name, before.letter.as_ref()));
        if dirty && before.is_none_or(|before| !before.dirty) {
            self.dirty.push((name.into(), position));
        }
        self.changes += 1;
    }

    fn release(&mut self, name: &str, position: u64) {
        let Some(of) = self.held.get_mut(name) else { return };
        let held = of.remove(&position);
        self.bytes -= held.map_or(0, |held| cost(name, held.letter.as_ref()));
        if of.is_empty() {
            self.held.remove(name);
        }
    }

    /// Applies an entry of the file.
    pub(super) fn load(&mut self, entry: ProgressEntry<'_>) {
        match entry {
            ProgressEntry::DeadLetter { name, position, attempts, time, recorded_at, reason } => {
                self.set(name, position, Some(DeadLetterEntry::new(attempts, time, recorded_at, reason)), false);
            }
            ProgressEntry::NoLetter { name, position } => self.release(name, position),
            _ => {}
        }
    }

    /// Takes all changes that the file does not have, as they are now.
    pub(super) fn take(&mut self) -> Vec<Moved> {
        let taken = std::mem::take(&mut self.dirty).into_iter().map(|(name, position)| {
            let held = self.held.get_mut(&name).and_then(|of| of.get_mut(&position));
            let held = held.expect("it is kept until the file knows");
            held.dirty = false;
            let letter = held.letter.clone();
            Moved { name, position, letter }
        });
        taken.collect()
    }

    /// Records whether the file now has the changes that were taken.
    pub(super) fn flushed(&mut self, taken: Vec<Moved>, written: bool) {
        for Moved { name, position, .. } in taken {
            let held = self.held.get_mut(&name).and_then(|of| of.get_mut(&position));
            let held = held.expect("it is kept until the file knows");
            match (held.dirty, written) {
                (true, _) => {}
                (false, false) => {
                    held.dirty = true;
                    self.dirty.push((name, position));
                }
                (false, true) if held.letter.is_none() => self.release(&name, position),
                (false, true) => {}
            }
        }
    }

    /// Appends the dead letters after `last`, until there are `most` bytes, and sets `last`.
    /// Returns their number; 0 at the end.
    pub(super) fn encode_next(&self, last: &mut Option<(Box<str>, u64)>, most: usize, out: &mut Vec<u8>) -> u32 {
        let start = out.len();
        let (name, position) = last.clone().unwrap_or_default();
        let first = last.is_none();
        let mut entries = 0;
        for (own, of) in self.held.range::<str, _>((Bound::Included(&*name), Bound::Unbounded)) {
            let from = if first || *own != name { Some(0) } else { position.checked_add(1) };
            let Some(from) = from else { continue };
            for (&position, held) in of.range(from..) {
                let Some(letter) = &held.letter else { continue };
                if out.len() - start >= most {
                    return entries;
                }
                entry(own, position, letter).encode(out);
                *last = Some((own.clone(), position));
                entries += 1;
            }
        }
        entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn letter(n: u64) -> DeadLetterEntry {
        DeadLetterEntry::new(n, n as i64, -5, &"ü".repeat(n as usize))
    }

    #[test]
    fn reasons_are_cut_between_characters() {
        assert_eq!(letter(512).reason().len(), 1024);
        assert_eq!(DeadLetterEntry::new(0, 0, 0, &format!("x{}", "ü".repeat(600))).reason().len(), 1023);
    }

    /// In pieces of any size, each dead letter is written once, including the one at the highest
    /// position.
    #[test]
    fn all_are_written_in_pieces() {
        let mut letters = DeadLetters::default();
        for (name, position) in [("a", 0), ("a", 7), ("a", u64::MAX), ("b", 0), ("b", 1), ("c", 3)] {
            letters.put(name, position, letter(position % 100));
        }
        letters.delete("b", 0);
        assert_eq!(letters.counts().collect::<Vec<_>>(), [("a", 3), ("b", 1), ("c", 1)]);
        for most in [1, 40, 100, 10_000] {
            let (mut last, mut count) = (None, 0);
            loop {
                let mut out = Vec::new();
                match letters.encode_next(&mut last, most, &mut out) {
                    0 => break,
                    more => count += more,
                }
            }
            assert_eq!((count, last), (5, Some(("c".into(), 3))), "{most}");
        }
        let taken = letters.take();
        assert_eq!(taken.len(), 6);
        letters.put("b", 0, letter(2));
        letters.flushed(taken, true);
        assert_eq!(letters.take().len(), 1, "it changed while the others were written");
        for (name, position) in [("a", 0), ("a", 7), ("a", u64::MAX), ("b", 0), ("b", 1), ("c", 3)] {
            assert!(letters.delete(name, position));
        }
        let taken = letters.take();
        letters.flushed(taken, true);
        assert_eq!((letters.bytes(), letters.held.len()), (0, 0));
    }
}
