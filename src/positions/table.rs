//! All positions, checkpoints and dead letters in memory, and which of them the file does not have
//! yet.
//!
//! A position takes its root, a slot of 40 bytes, and eight bytes in the map from hashes to slots;
//! slots and map have room to grow. That is at most 100 bytes for a root of 24.

use super::CheckpointEntry;
use super::dead_letters::{DeadLetters, Moved};
use super::slots::SlotIndex;
use crate::error::{Error, Result};
use crate::expected::ExpectedVersion;
use crate::format::positions_file::{HandlerGroup, ProgressEntry, UNBOUND};
use std::collections::{BTreeMap, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::ops::Bound;

/// Approximate size of an entry in the file, besides its root or name.
const ENTRY_COST: u64 = 16;
/// In a rewrite of the file, a batch is full when it has this many bytes, or covers this many
/// slots.
const CHUNK_BYTES: usize = 128 << 10;
const CHUNK_SLOTS: usize = 4096;

struct PositionSlot {
    root: Box<[u8]>,
    sequence: u64,
    /// The recorded time of the event with this sequence, or [`UNBOUND`].
    recorded_at: i64,
    group: u32,
    /// Whether there is a position. A deleted one keeps its slot until the file has the deletion.
    live: bool,
    /// Whether the file lacks the latest change. The number of the slot is then in `Table::dirty`.
    dirty: bool,
    /// Whether the log is known to have the event: this process has put the position, or looked the
    /// event up since the file was read.
    checked: bool,
}

/// The part that the positions of a group share, encoded, and the number of slots of the group.
struct SharedPrefix {
    key: Box<[u8]>,
    slots: usize,
}

/// A sequence in the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sequence {
    pub sequence: u64,
    /// The recorded time of the event with this sequence, or [`UNBOUND`].
    pub recorded_at: i64,
    /// Whether the log is known to have that event.
    pub checked: bool,
}

impl Sequence {
    fn of(slot: &PositionSlot) -> Self {
        Sequence { sequence: slot.sequence, recorded_at: slot.recorded_at, checked: slot.checked }
    }
}

#[derive(Clone, Copy)]
struct Mark {
    reached: CheckpointEntry,
    live: bool,
    dirty: bool,
}

#[derive(Default)]
pub(super) struct Table {
    hasher: RandomState,
    groups: Vec<SharedPrefix>,
    free_groups: Vec<u32>,
    group_numbers: HashMap<Box<[u8]>, u32>,
    slots: Vec<PositionSlot>,
    free_slots: Vec<u32>,
    index: SlotIndex,
    dirty: Vec<u32>,
    checkpoints: BTreeMap<Box<str>, Mark>,
    dirty_names: Vec<Box<str>>,
    pub letters: DeadLetters,
    /// Number of changes so far.
    changes: u64,
    /// Approximate size of all entries in the file.
    bytes: u64,
    /// A buffer for the key of the group that is looked up.
    wanted: Vec<u8>,
}

/// The changes that a flush has taken.
pub(super) struct FlushBatch {
    slots: Vec<u32>,
    /// Checkpoints as they were when the flush took them, all at one moment: a checkpoint is never
    /// in a batch without the dead letters that it steps over.
    names: Vec<(Box<str>, Mark)>,
    letters: Vec<Moved>,
    /// Number of changes before the batch was taken.
    pub changes: u64,
}

impl FlushBatch {
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.names.is_empty() && self.letters.is_empty()
    }
}

/// How far a rewrite has written the table.
#[derive(Default)]
pub(super) struct RewriteProgress {
    slot: usize,
    name: Option<Box<str>>,
    letter: Option<(Box<str>, u64)>,
}

impl Table {
    pub(super) fn changes(&self) -> u64 {
        self.changes + self.letters.changes()
    }

    /// Returns the approximate size of all entries in the file.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes + self.letters.bytes()
    }

    fn hash(&self, group: u32, root: &[u8]) -> u32 {
        self.hasher.hash_one((group, root)) as u32
    }

    fn group_number(&mut self, group: HandlerGroup<'_>) -> Option<u32> {
        self.wanted.clear();
        group.encode(&mut self.wanted);
        self.group_numbers.get(self.wanted.as_slice()).copied()
    }

    fn add_group(&mut self, group: HandlerGroup<'_>) -> u32 {
        if let Some(number) = self.group_number(group) {
            return number;
        }
        let key: Box<[u8]> = self.wanted.as_slice().into();
        self.bytes += key.len() as u64 + ENTRY_COST;
        let shared = SharedPrefix { key: key.clone(), slots: 0 };
        let number = match self.free_groups.pop() {
            Some(number) => {
                self.groups[number as usize] = shared;
                number
            }
            None => {
                self.groups.push(shared);
                self.groups.len() as u32 - 1
            }
        };
        self.group_numbers.insert(key, number);
        number
    }

    fn group(&self, number: u32) -> HandlerGroup<'_> {
        HandlerGroup::decode(&self.groups[number as usize].key).expect("a group was encoded here").0
    }

    fn find(&self, group: u32, root: &[u8]) -> Option<u32> {
        self.index.find(self.hash(group, root), |number| {
            let slot = &self.slots[number as usize];
            slot.group == group && *slot.root == *root
        })
    }

    /// Returns the slot of a position, and adds one if there is none.
    fn slot(&mut self, group: u32, root: &[u8]) -> u32 {
        if let Some(number) = self.find(group, root) {
            return number;
        }
        let slot = PositionSlot {
            root: root.into(),
            sequence: 0,
            recorded_at: UNBOUND,
            group,
            live: false,
            dirty: false,
            checked: false,
        };
        let number = match self.free_slots.pop() {
            Some(number) => {
                self.slots[number as usize] = slot;
                number
            }
            None => {
                if self.slots.len() == self.slots.capacity() {
                    // Not by doubling: a million positions could take the space of two million.
                    self.slots.reserve_exact(self.slots.len() / 8 + 16);
                }
                self.slots.push(slot);
                u32::try_from(self.slots.len() - 1).expect("fewer than 2^32 positions")
            }
        };
        let hash = self.hash(group, root);
        self.index.insert(hash, number);
        self.groups[group as usize].slots += 1;
        self.bytes += root.len() as u64 + ENTRY_COST;
        number
    }

    /// Frees a slot whose position is deleted.
    fn release(&mut self, number: u32) {
        let slot = &mut self.slots[number as usize];
        slot.live = false;
        let (root, group) = (std::mem::take(&mut slot.root), slot.group);
        let hash = self.hash(group, &root);
        self.index.remove(hash, number);
        self.free_slots.push(number);
        self.bytes -= root.len() as u64 + ENTRY_COST;
        let shared = &mut self.groups[group as usize];
        shared.slots -= 1;
        if shared.slots == 0 {
            let key = std::mem::take(&mut shared.key);
            self.bytes -= key.len() as u64 + ENTRY_COST;
            self.group_numbers.remove(&key);
            self.free_groups.push(group);
        }
    }

    fn change(&mut self, number: u32, sequence: u64, recorded_at: i64, live: bool) {
        let slot = &mut self.slots[number as usize];
        (slot.sequence, slot.recorded_at, slot.live, slot.checked) = (sequence, recorded_at, live, true);
        if !slot.dirty {
            slot.dirty = true;
            self.dirty.push(number);
        }
        self.changes += 1;
    }

    pub(super) fn get(&mut self, group: HandlerGroup<'_>, root: &[u8]) -> Option<Sequence> {
        let group = self.group_number(group)?;
        let slot = &self.slots[self.find(group, root)? as usize];
        slot.live.then(|| Sequence::of(slot))
    }

    /// Records that the log has the event of this position.
    pub(super) fn set_checked(&mut self, group: HandlerGroup<'_>, root: &[u8], of: Sequence) {
        let found = self.group_number(group).and_then(|group| self.find(group, root));
        let Some(slot) = found.map(|number| &mut self.slots[number as usize]) else { return };
        slot.checked |= (slot.sequence, slot.recorded_at) == (of.sequence, of.recorded_at);
    }

    /// Stores a sequence, unless the present one is at least as high. Returns whether it did.
    pub(super) fn put(&mut self, group: HandlerGroup<'_>, root: &[u8], sequence: u64, recorded_at: i64) -> bool {
        let group = self.add_group(group);
        let number = self.slot(group, root);
        let slot = &self.slots[number as usize];
        let rises = !slot.live || slot.sequence < sequence;
        if rises {
            self.change(number, sequence, recorded_at, true);
        }
        rises
    }

    pub(super) fn reset(&mut self, group: HandlerGroup<'_>, root: &[u8], sequence: u64, recorded_at: i64) {
        let group = self.add_group(group);
        let number = self.slot(group, root);
        self.change(number, sequence, recorded_at, true);
    }

    /// Returns whether there was one.
    pub(super) fn delete(&mut self, group: HandlerGroup<'_>, root: &[u8]) -> bool {
        let found = self.group_number(group).and_then(|group| self.find(group, root));
        let Some(number) = found.filter(|&number| self.slots[number as usize].live) else { return false };
        self.change(number, 0, UNBOUND, false);
        true
    }

    /// Deletes the positions of all groups that satisfy `which`. Returns their number.
    pub(super) fn delete_groups(&mut self, which: impl Fn(HandlerGroup<'_>) -> bool) -> u64 {
        let picked: Vec<bool> = self.groups.iter().map(|shared| picks(shared, &which)).collect();
        let mut deleted = 0;
        for number in 0..self.slots.len() {
            let slot = &self.slots[number];
            if slot.live && picked[slot.group as usize] {
                self.change(number as u32, 0, UNBOUND, false);
                deleted += 1;
            }
        }
        deleted
    }

    /// Calls `show` with the positions of all groups that satisfy `which`, in any order.
    pub(super) fn each(
        &self,
        which: impl Fn(HandlerGroup<'_>) -> bool,
        mut show: impl FnMut(HandlerGroup<'_>, &[u8], Sequence),
    ) {
        let picked: Vec<bool> = self.groups.iter().map(|shared| picks(shared, &which)).collect();
        for slot in self.slots.iter().filter(|slot| slot.live && picked[slot.group as usize]) {
            show(self.group(slot.group), &slot.root, Sequence::of(slot));
        }
    }

    pub(super) fn checkpoint(&self, name: &str) -> Option<CheckpointEntry> {
        let mark = self.checkpoints.get(name).filter(|mark| mark.live)?;
        Some(mark.reached)
    }

    /// Returns all checkpoints, sorted by name.
    pub(super) fn checkpoints(&self) -> impl Iterator<Item = (&str, CheckpointEntry)> {
        let live = self.checkpoints.iter().filter(|(_, mark)| mark.live);
        live.map(|(name, mark)| (&**name, mark.reached))
    }

    /// Records that the log has the event of this checkpoint.
    pub(super) fn set_checkpoint_checked(&mut self, name: &str, of: CheckpointEntry) {
        let mark = self.checkpoints.get_mut(name).filter(|mark| mark.reached == of);
        mark.into_iter().for_each(|mark| mark.reached.checked = true);
    }

    /// Moves a checkpoint if its version is as expected, backwards only if `may_go_back`. Returns
    /// the new checkpoint.
    pub(super) fn commit(
        &mut self,
        name: &str,
        (position, recorded_at): (u64, i64),
        expected: ExpectedVersion,
        may_go_back: bool,
    ) -> Result<CheckpointEntry> {
        let (before, version) = self.checkpoint(name).map_or((0, 0), |reached| (reached.position, reached.version));
        if !expected.allows(version) {
            return Err(Error::CheckpointConflict { name: name.to_owned(), expected, actual: version });
        }
        if position < before && !may_go_back {
            let why = format!("{position} is before {before}, the checkpoint of {name}; use reset to go back");
            return Err(Error::invalid("checkpoint", why));
        }
        // A file with the highest version was not written by this library.
        let version = version
            .checked_add(1)
            .ok_or_else(|| Error::invalid("checkpoint", "there are no more versions; delete it"))?;
        let reached = CheckpointEntry { position, version, recorded_at, checked: true };
        self.set_checkpoint(name, Mark { reached, live: true, dirty: true });
        Ok(reached)
    }

    /// Returns whether there was one.
    pub(super) fn delete_checkpoint(&mut self, name: &str) -> bool {
        let there = self.checkpoint(name).is_some();
        if there {
            self.set_checkpoint(name, Mark { reached: CheckpointEntry::default(), live: false, dirty: true });
        }
        there
    }

    fn set_checkpoint(&mut self, name: &str, mark: Mark) {
        let before = self.checkpoints.insert(name.into(), mark);
        if before.is_none() {
            self.bytes += name.len() as u64 + 2 * ENTRY_COST;
        }
        if mark.dirty && before.is_none_or(|before| !before.dirty) {
            self.dirty_names.push(name.into());
        }
        self.changes += 1;
    }

    fn release_checkpoint(&mut self, name: &str) {
        if self.checkpoints.remove(name).is_some() {
            self.bytes -= name.len() as u64 + 2 * ENTRY_COST;
        }
    }

    /// Applies the entries of the file, in order.
    pub(super) fn load<'a>(&mut self, entries: impl Iterator<Item = ProgressEntry<'a>>) {
        let mut group = None;
        for entry in entries {
            match (entry, group) {
                (ProgressEntry::Group(next), _) => group = Some(next),
                (ProgressEntry::Put { root, sequence, recorded_at }, Some(group)) => {
                    let group = self.add_group(group);
                    let number = self.slot(group, root) as usize;
                    let slot = &mut self.slots[number];
                    (slot.sequence, slot.recorded_at, slot.live) = (sequence, recorded_at, true);
                }
                (ProgressEntry::Delete { root }, Some(group)) => {
                    let found = self.group_number(group).and_then(|group| self.find(group, root));
                    found.into_iter().for_each(|number| self.release(number));
                }
                (ProgressEntry::Checkpoint { name, position, version, recorded_at }, _) => {
                    let reached = CheckpointEntry { position, version, recorded_at, checked: false };
                    self.set_checkpoint(name, Mark { reached, live: true, dirty: false });
                }
                (ProgressEntry::NoCheckpoint { name }, _) => self.release_checkpoint(name),
                (ProgressEntry::DeadLetter { .. } | ProgressEntry::NoLetter { .. }, _) => self.letters.load(entry),
                // The format has checked that every position has a group.
                (ProgressEntry::Put { .. } | ProgressEntry::Delete { .. }, None) => {}
            }
        }
    }

    /// Takes all changes that the file does not have, for a flush. Later changes wait for the next
    /// one.
    pub(super) fn take(&mut self) -> FlushBatch {
        let (slots, names) = (std::mem::take(&mut self.dirty), std::mem::take(&mut self.dirty_names));
        slots.iter().for_each(|&number| self.slots[number as usize].dirty = false);
        let names = names.into_iter().map(|name| {
            let mark = self.checkpoints.get_mut(&name).expect("it is kept until the file knows");
            mark.dirty = false;
            (name, *mark)
        });
        let (names, letters) = (names.collect(), self.letters.take());
        FlushBatch { slots, names, letters, changes: self.changes() }
    }

    /// Records whether the file now has the changes that were taken.
    pub(super) fn flushed(&mut self, taken: FlushBatch, written: bool) {
        for number in taken.slots {
            let slot = &mut self.slots[number as usize];
            match (slot.dirty, written) {
                (true, _) => {}
                (false, false) => {
                    slot.dirty = true;
                    self.dirty.push(number);
                }
                (false, true) if !slot.live => self.release(number),
                (false, true) => {}
            }
        }
        self.letters.flushed(taken.letters, written);
        for (name, _) in taken.names {
            let mark = self.checkpoints.get_mut(&name).expect("it is kept until the file knows");
            match (mark.dirty, written) {
                (true, _) => {}
                (false, false) => {
                    mark.dirty = true;
                    self.dirty_names.push(name);
                }
                (false, true) if !mark.live => self.release_checkpoint(&name),
                (false, true) => {}
            }
        }
    }

    /// Appends the taken changes to `out`: positions with their present values, checkpoints and
    /// dead letters as they were taken. Returns the number of entries, or `None` if `out` exceeds
    /// `most` bytes.
    pub(super) fn encode(&self, taken: &mut FlushBatch, out: &mut Vec<u8>, most: usize) -> Option<u32> {
        taken.slots.sort_unstable_by_key(|&number| self.slots[number as usize].group);
        let mut entries = 0;
        let mut group = None;
        for &number in &taken.slots {
            entries += self.encode_slot(number, &mut group, out);
            if out.len() > most {
                return None;
            }
        }
        for (name, mark) in &taken.names {
            match mark.live {
                true => mark.reached.entry(name).encode(out),
                false => ProgressEntry::NoCheckpoint { name }.encode(out),
            }
            entries += 1;
        }
        for letter in &taken.letters {
            letter.entry().encode(out);
            entries += 1;
            if out.len() > most {
                return None;
            }
        }
        (out.len() <= most).then_some(entries)
    }

    fn encode_slot(&self, number: u32, group: &mut Option<u32>, out: &mut Vec<u8>) -> u32 {
        let PositionSlot { ref root, sequence, recorded_at, live, .. } = self.slots[number as usize];
        let own = self.slots[number as usize].group;
        let new = group.replace(own) != Some(own);
        if new {
            ProgressEntry::Group(self.group(own)).encode(out);
        }
        match live {
            true => ProgressEntry::Put { root, sequence, recorded_at }.encode(out),
            false => ProgressEntry::Delete { root }.encode(out),
        }
        1 + u32::from(new)
    }

    /// Appends the next piece of the whole table to `out`, and returns the number of entries; 0 at
    /// the end. Between two pieces the table may change, but no slot may be freed.
    pub(super) fn encode_next(&self, progress: &mut RewriteProgress, out: &mut Vec<u8>) -> u32 {
        let start = progress.slot;
        let mut bytes = 0;
        let mut numbers = Vec::new();
        while progress.slot < self.slots.len()
            && (numbers.is_empty() || progress.slot - start < CHUNK_SLOTS)
            && bytes < CHUNK_BYTES
        {
            let slot = &self.slots[progress.slot];
            if slot.live {
                bytes += slot.root.len();
                numbers.push(progress.slot as u32);
            }
            progress.slot += 1;
        }
        numbers.sort_unstable_by_key(|&number| self.slots[number as usize].group);
        let mut group = None;
        let mut entries = numbers.iter().map(|&number| self.encode_slot(number, &mut group, out)).sum();
        if entries == 0 {
            entries = self.encode_next_checkpoints(progress, out);
        }
        if entries == 0 {
            // Dead letters come last, so that all those that the checkpoints step over are
            // included.
            entries = self.letters.encode_next(&mut progress.letter, CHUNK_BYTES, out);
        }
        entries
    }

    fn encode_next_checkpoints(&self, progress: &mut RewriteProgress, out: &mut Vec<u8>) -> u32 {
        let from = progress.name.as_deref().map_or(Bound::Unbounded, Bound::Excluded);
        let rest = self.checkpoints.range::<str, _>((from, Bound::Unbounded)).filter(|(_, mark)| mark.live);
        let mut entries = 0;
        let mut last = None;
        for (name, mark) in rest.take(CHUNK_SLOTS) {
            mark.reached.entry(name).encode(out);
            entries += 1;
            last = Some(name.clone());
        }
        if last.is_some() {
            progress.name = last;
        }
        entries
    }
}

/// Returns whether a group satisfies `which`. A freed group has no key, and does not.
fn picks(shared: &SharedPrefix, which: impl Fn(HandlerGroup<'_>) -> bool) -> bool {
    HandlerGroup::decode(&shared.key).is_some_and(|(group, _)| which(group))
}
