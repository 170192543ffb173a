//! Gaps: events that a store loses to damage, and how it continues without them.
//!
//! A model test calls [`Gap::open`] on a store that is closed. One byte of the record of some
//! events is changed; the damaged store is read around the damage, and salvaged or repaired. The
//! model gets the lost positions, and compares each later answer with what is left.

use crate::Bed;
use annals::fs::{Fs, Mode, read_full};
use annals::offline::{Kind, Repair, Salvage, dump_in, verify_in};
use annals::{Error, Event, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Pseudorandom numbers, the same for each seed.
pub struct Dice(u64);

impl Dice {
    pub fn new(seed: u64) -> Self {
        Dice(seed)
    }

    /// SplitMix64 (Steele, Lea, Flood 2014).
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, limit: usize) -> usize {
        (self.next() % limit as u64) as usize
    }

    pub fn of<T: Clone>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())].clone()
    }

    pub fn maybe<T>(&mut self, one_in: usize, value: impl FnOnce(&mut Self) -> T) -> Option<T> {
        (self.below(one_in) == 0).then(|| value(self))
    }
}

/// A loss of events, and how the store is repaired.
#[derive(Clone, Copy, Debug)]
pub struct Gap {
    /// Which events are lost, and which of their bytes change.
    pub seed: u64,
    /// The store is repaired in place; otherwise a salvaged copy takes its place.
    pub repair: bool,
}

impl Gap {
    /// Loses some of the positions that satisfy `can_go`, in a store that is closed, and repairs or
    /// salvages it. `live` are the positions of all events that a read of the whole store returns.
    /// Returns the lost ones.
    pub fn open(self, bed: &Bed, can_go: impl IntoIterator<Item = u64>, live: &BTreeSet<u64>) -> BTreeSet<u64> {
        let lost = self.lose(bed, can_go, live);
        self.apply(bed, &lost);
        lost
    }

    /// Loses some of them, and leaves the store damaged.
    pub fn lose(self, bed: &Bed, can_go: impl IntoIterator<Item = u64>, live: &BTreeSet<u64>) -> BTreeSet<u64> {
        let mut dice = Dice::new(self.seed);
        let one_in = 1 + dice.below(12);
        let lost = can_go.into_iter().filter(|_| dice.below(one_in) == 0).collect();
        break_records(bed.fs(), &bed.path(), &lost, &mut dice);
        look_around(bed, &lost, live);
        lost
    }

    /// Salvages or repairs a store that has lost these positions.
    pub fn apply(self, bed: &Bed, lost: &BTreeSet<u64>) {
        let (fs, dir) = (bed.fs(), bed.path());
        if self.repair {
            // It refuses a loss that is not exactly the present one.
            Repair::new().accept_loss(lost.iter().map(|&at| at..at + 1)).run_in(fs, &dir).unwrap();
        } else {
            let out = dir.with_file_name("salvaged");
            let report = Salvage::new().run_in(fs, &dir, &out).unwrap();
            let told = report.losses.iter().flat_map(|loss| loss.damage.positions.clone());
            assert_eq!(told.collect::<BTreeSet<_>>(), *lost, "{report:?}");
            replace(fs, &dir, &out);
        }
        let report = verify_in(fs, &dir).unwrap();
        assert!(report.is_sound() && report.torn.is_none(), "{self:?}, {lost:?} lost: {report:?}");
    }
}

/// A damaged store is read around the damage: what is intact is there, and what is lost is
/// reported.
fn look_around(bed: &Bed, lost: &BTreeSet<u64>, live: &BTreeSet<u64>) {
    let intact: BTreeSet<u64> = live.difference(lost).copied().collect();
    let store = bed.read_only();
    for backwards in [false, true] {
        let read = if backwards { store.read_all().backwards() } else { store.read_all() };
        let around = Around::of(read);
        let mut found: Vec<u64> = around.events.iter().map(Event::position).collect();
        if backwards {
            found.reverse();
        }
        assert!(found.iter().eq(&intact), "of {intact:?}, {found:?} are found with {lost:?} lost");
        assert_eq!(around.named(), *lost, "backwards: {backwards}");
    }
    store.close().unwrap();
}

/// The items of a read of a damaged store: events, and the positions of reported gaps.
#[derive(Debug, Default)]
pub struct Around {
    pub events: Vec<Event>,
    pub gaps: Vec<Range<u64>>,
}

impl Around {
    #[track_caller]
    pub fn of(read: impl IntoIterator<Item = Result<Event>>) -> Self {
        let mut around = Around::default();
        read.into_iter().for_each(|item| around.take(item));
        around
    }

    #[track_caller]
    pub fn take(&mut self, item: Result<Event>) {
        match item {
            Ok(event) => self.events.push(event),
            Err(Error::Damaged(damage)) => self.gaps.push(damage.positions),
            Err(other) => panic!("{other}"),
        }
    }

    pub fn named(&self) -> BTreeSet<u64> {
        self.gaps.iter().cloned().flatten().collect()
    }
}

/// Changes one byte of the record at each of these positions.
pub fn break_records(fs: &dyn Fs, dir: &Path, positions: &BTreeSet<u64>, dice: &mut Dice) {
    let records = records(fs, dir);
    for position in positions {
        let (path, bytes) = &records[position];
        let at = bytes.start + dice.below((bytes.end - bytes.start) as usize) as u64;
        let file = fs.open(path, Mode::Write).unwrap();
        let mut byte = [0];
        assert_eq!(read_full(&*file, at, &mut byte).unwrap(), 1);
        assert_eq!(file.write_at(at, &[byte[0] ^ 1 << dice.below(8)]).unwrap(), 1);
        file.sync().unwrap();
    }
}

/// The location of each record of a store, found as docs/FORMAT.md defines and not by the code of
/// the store.
pub fn records(fs: &dyn Fs, dir: &Path) -> BTreeMap<u64, (PathBuf, Range<u64>)> {
    const HEADER: usize = 56;
    let mut commits = Vec::new();
    dump_in(fs, dir, |piece| commits.extend((piece.kind == Kind::Commit).then_some(piece))).unwrap();
    let mut found = BTreeMap::new();
    for commit in commits {
        let mut frame = vec![0; commit.len as usize];
        let file = fs.open(&commit.path, Mode::Read).unwrap();
        assert_eq!(read_full(&*file, commit.offset, &mut frame).unwrap(), frame.len());
        let mut at = HEADER + u32::from_le_bytes(frame[20..24].try_into().unwrap()) as usize;
        let first = commit.first_position.unwrap();
        for position in first..first + u64::from(commit.events) {
            let field = frame[at..].iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
            let behind = frame[at..at + field].iter().rev().fold(0, |n, byte| n << 7 | u64::from(byte & 0x7F));
            let end = at + field + behind as usize;
            let bytes = commit.offset + at as u64..commit.offset + end as u64;
            found.insert(position, (commit.path.clone(), bytes));
            at = end;
        }
    }
    found
}

/// Replaces all files of a directory by those of another one.
fn replace(fs: &dyn Fs, dir: &Path, by: &Path) {
    for entry in fs.list(dir).unwrap() {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            remove_all(fs, &path);
        } else {
            fs.remove(&path).unwrap();
        }
    }
    move_all(fs, by, dir);
    fs.remove_dir(by).unwrap();
}

fn remove_all(fs: &dyn Fs, dir: &Path) {
    for entry in fs.list(dir).unwrap() {
        let path = dir.join(&entry.name);
        if entry.is_dir { remove_all(fs, &path) } else { fs.remove(&path).unwrap() }
    }
    fs.sync_dir(dir).unwrap();
    fs.remove_dir(dir).unwrap();
}

fn move_all(fs: &dyn Fs, from: &Path, to: &Path) {
    fs.create_dir(to).unwrap();
    for entry in fs.list(from).unwrap() {
        let (from, to) = (from.join(&entry.name), to.join(&entry.name));
        if entry.is_dir {
            move_all(fs, &from, &to);
            fs.remove_dir(&from).unwrap();
        } else {
            fs.rename(&from, &to).unwrap();
        }
    }
    fs.sync_dir(to).unwrap();
    fs.sync_dir(from).unwrap();
}
