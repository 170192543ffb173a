//! Beds: the file systems that a store can be on, and what must hold on each of them.
//!
//! A scenario is a function of a [`Bed`]. [`on_all_beds`] runs it on a directory, in memory and on
//! the simulated disk, with and without memory maps and maintenance, with tiny segments and with
//! the default ones. [`Bed::close_and_check`] ends it: it reads the whole store in every way,
//! closes it, opens it again, and finds the same.

use crate::records::{EventRecord, all_records_but, assert_same};
use crate::{Image, SimFs, noise};
use annals::fs::{Fs, MemFs, Mode, RealFs};
use annals::offline::verify_in;
use annals::{Options, Store};
use std::collections::BTreeSet;
use std::fmt;
use std::path::PathBuf;

/// Segments of this size begin all the time.
pub const TINY: u64 = 4096;

pub enum Disk {
    Directory(tempfile::TempDir),
    Memory(MemFs),
    Simulated(SimFs),
}

/// Damage to an index file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spoil {
    Delete,
    /// One bit is flipped.
    Flip(u64),
    /// This many eighths are left.
    Cut(u64),
    Zeros,
}

/// A place for a store, and how it is opened there.
pub struct Bed {
    pub disk: Disk,
    pub map: bool,
    pub segment_size: u64,
    pub maintenance: bool,
}

impl fmt::Debug for Bed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let disk = match &self.disk {
            Disk::Directory(_) => "directory",
            Disk::Memory(_) => "memory",
            Disk::Simulated(_) => "simulated disk",
        };
        let Bed { map, segment_size, maintenance, .. } = self;
        write!(f, "{disk}, map {map}, segments of {segment_size}, maintenance {maintenance}")
    }
}

impl Bed {
    pub fn directory() -> Bed {
        let dir = tempfile::tempdir().unwrap();
        Bed { disk: Disk::Directory(dir), map: true, segment_size: 64 << 20, maintenance: true }
    }

    pub fn memory() -> Bed {
        Bed { disk: Disk::Memory(MemFs::new()), map: true, segment_size: 64 << 20, maintenance: false }
    }

    pub fn simulated() -> Bed {
        Bed { disk: Disk::Simulated(SimFs::new()), map: true, segment_size: 64 << 20, maintenance: false }
    }

    /// The store on this disk.
    pub fn on_disk(disk: &SimFs) -> Bed {
        Bed { disk: Disk::Simulated(disk.clone()), ..Bed::simulated() }
    }

    pub fn tiny(self) -> Bed {
        Bed { segment_size: TINY, ..self }
    }

    pub fn without_map(self) -> Bed {
        Bed { map: false, ..self }
    }

    pub fn maintained(self, maintenance: bool) -> Bed {
        Bed { maintenance, ..self }
    }

    pub fn all() -> Vec<Bed> {
        vec![
            Bed::directory(),
            Bed::directory().without_map(),
            Bed::directory().tiny(),
            Bed::directory().tiny().without_map().maintained(false),
            Bed::memory(),
            Bed::memory().tiny().without_map(),
            Bed::simulated(),
            Bed::simulated().tiny(),
            Bed::simulated().tiny().maintained(true),
        ]
    }

    /// Those without a real disk: for many scenarios that need no files.
    pub fn quick() -> Vec<Bed> {
        vec![Bed::memory(), Bed::memory().tiny(), Bed::simulated().tiny(), Bed::directory().tiny()]
    }

    pub fn path(&self) -> PathBuf {
        match &self.disk {
            Disk::Directory(dir) => dir.path().join("store"),
            Disk::Memory(_) | Disk::Simulated(_) => PathBuf::from("store"),
        }
    }

    pub fn sim(&self) -> &SimFs {
        match &self.disk {
            Disk::Simulated(fs) => fs,
            _ => panic!("{self:?} is no simulated disk"),
        }
    }

    pub fn fs(&self) -> &dyn Fs {
        match &self.disk {
            Disk::Directory(_) => &RealFs,
            Disk::Memory(fs) => fs,
            Disk::Simulated(fs) => fs,
        }
    }

    /// Deletes the index files of a store that is closed, or damages them, as they can be rebuilt.
    /// Returns their number.
    pub fn spoil_indexes(&self, how: Spoil) -> usize {
        let entries = self.fs().list(&self.path()).unwrap().into_iter().filter(|entry| entry.name.ends_with(".idx"));
        let mut count = 0;
        for entry in entries {
            let path = self.path().join(&entry.name);
            count += 1;
            if how == Spoil::Delete {
                self.fs().remove(&path).unwrap();
                continue;
            }
            let file = self.fs().open(&path, Mode::Write).unwrap();
            match how {
                Spoil::Delete => {}
                Spoil::Flip(seed) => {
                    let at = noise(seed, 8).iter().fold(0, |n, &byte| n << 8 | u64::from(byte)) % entry.size.max(1);
                    // Not in the versions of the format: a newer file is refused before its
                    // checksums are verified.
                    let at = if (8..12).contains(&at) { at + 4 } else { at };
                    let mut byte = [0];
                    file.read_at(at, &mut byte).unwrap();
                    file.write_at(at, &[byte[0] ^ 1 << (seed % 8)]).unwrap();
                }
                Spoil::Cut(part) => file.truncate(entry.size * part / 8).unwrap(),
                Spoil::Zeros => {
                    file.write_at(0, &vec![0; entry.size as usize]).unwrap();
                }
            }
        }
        count
    }

    pub fn options(&self) -> Options {
        let options = Options::new().segment_size(self.segment_size).memory_map(self.map).maintenance(self.maintenance);
        match &self.disk {
            Disk::Directory(_) => options,
            Disk::Memory(fs) => options.file_system(fs.clone()),
            Disk::Simulated(fs) => options.file_system(fs.clone()),
        }
    }

    pub fn open(&self) -> Store {
        self.open_with(|options| options)
    }

    pub fn open_with(&self, set: impl FnOnce(Options) -> Options) -> Store {
        set(self.options()).open(self.path()).unwrap()
    }

    pub fn read_only(&self) -> Store {
        self.options().open_read_only(self.path()).unwrap()
    }

    /// Checks the whole store in all ways, closes it, opens it again and finds the same: the end of
    /// a scenario. Returns its content.
    ///
    /// On the simulated disk, power cuts at the end leave the same: what was acknowledged is
    /// durable.
    pub fn close_and_check(&self, store: Store) -> Vec<EventRecord> {
        self.close_and_check_but(store, &BTreeSet::new())
    }

    /// Does the same for a store that has lost the events at these positions.
    pub fn close_and_check_but(&self, store: Store, lost: &BTreeSet<u64>) -> Vec<EventRecord> {
        let records = all_records_but(&store, lost);
        self.survives_power_cuts_but(&records, lost);
        store.close().unwrap();
        self.holds_but(&records, lost);
        records
    }

    /// The store was closed and holds these events, according to a check from outside, a read-only
    /// open and an open.
    pub fn holds(&self, records: &[EventRecord]) {
        self.holds_but(records, &BTreeSet::new());
    }

    fn holds_but(&self, records: &[EventRecord], lost: &BTreeSet<u64>) {
        let report = verify_in(self.fs(), self.path()).unwrap();
        assert!(report.is_sound() && report.torn.is_none(), "{self:?}: {report:?}");
        assert_eq!(report.events, records.len() as u64, "{self:?}");

        let store = self.read_only();
        assert_same(&all_records_but(&store, lost), records, self);
        store.close().unwrap();
        let store = self.open();
        let opened = store.open_report();
        assert!(opened.clean && !opened.created && opened.cut.is_none(), "{self:?}: {opened:?}");
        assert_eq!(opened.events, (records.len() + lost.len()) as u64, "{self:?}");
        assert_same(&all_records_but(&store, lost), records, self);
        store.close().unwrap();
    }

    /// Whatever a power cut, or the death of the process, leaves of the unsynced changes, these
    /// events are there.
    pub fn survives_power_cuts(&self, records: &[EventRecord]) {
        self.survives_power_cuts_but(records, &BTreeSet::new());
    }

    fn survives_power_cuts_but(&self, records: &[EventRecord], lost: &BTreeSet<u64>) {
        let Disk::Simulated(fs) = &self.disk else { return };
        for image in [Image::Durable, Image::All, Image::Killed, Image::SizeWithoutData, Image::Subset(7)] {
            let after = Bed { disk: Disk::Simulated(fs.crash(image)), maintenance: false, ..*self };
            let store = after.options().open(after.path()).unwrap_or_else(|e| panic!("{self:?}, {image:?}: {e}"));
            assert_same(&all_records_but(&store, lost), records, &image);
        }
    }
}

/// Runs a scenario on all beds; on a failure, says on which one it happened.
pub fn on_all_beds(scenario: impl Fn(&Bed)) {
    on(Bed::all(), scenario);
}

pub fn on(beds: Vec<Bed>, scenario: impl Fn(&Bed)) {
    for bed in &beds {
        let _told = TellBed(bed);
        scenario(bed);
    }
}

struct TellBed<'a>(&'a Bed);

impl Drop for TellBed<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("on this bed: {:?}", self.0);
        }
    }
}
