//! What the integration tests share: the beds that a store can lie in, and verbs to fill a store, look at all of it, and compare.
//!
//! A scenario is a function of a [`Bed`]. [`on_all_beds`] runs it on a directory, in memory and on the simulated disk, with and without memory maps and
//! maintenance, with segments so small that nearly every commit rolls, and with those of the defaults. [`Bed::settle`] ends it: it looks at the whole
//! store from all sides, closes it, opens it again, and finds the same.

#![allow(dead_code, reason = "each test file uses its own part of this")]

pub mod held;

use annals::fs::{Fs, Image, MemFs, Mode, RealFs, SimFs};
use annals::salvage::verify_in;
use annals::{
    ContentType, Error, Event, Events, Expected, NewEvent, Options, Read, Result, Store, StreamId, Timestamp, Uuid,
};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

/// Segments of this size are begun all the time.
pub const TINY: u64 = 4096;

pub enum Disk {
    Directory(tempfile::TempDir),
    Memory(MemFs),
    Simulated(SimFs),
}

/// What happens to an index file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Spoil {
    Delete,
    /// One bit is another.
    Flip(u64),
    /// So many eighths are left.
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

    /// Those without a real disk: for scenarios that are many and need no files.
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

    /// What can be made anew can be lost: deletes the index files of a store that is closed, or spoils them. Gives their number.
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
                    // Not in the versions of the format: a newer file is refused before its checksums are looked at.
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

    /// Looks at the whole store from all sides, closes it, opens it again and finds the same: the end of a scenario. Gives what is there.
    ///
    /// On the simulated disk, power cuts at the end leave the same behind: what was acknowledged is durable.
    pub fn settle(&self, store: Store) -> Vec<Fact> {
        let facts = all_facts(&store);
        self.survives_power_cuts(&facts);
        store.close().unwrap();
        self.holds(&facts);
        facts
    }

    /// The store was closed and holds these events: as a check from outside, a read-only open and an open tell.
    pub fn holds(&self, facts: &[Fact]) {
        let report = verify_in(self.fs(), self.path()).unwrap();
        assert!(report.is_sound() && report.torn.is_none(), "{self:?}: {report:?}");
        assert_eq!(report.events, facts.len() as u64, "{self:?}");

        let store = self.read_only();
        assert_same(&all_facts(&store), facts, self);
        store.close().unwrap();
        let store = self.open();
        let opened = store.open_report();
        assert!(opened.clean && !opened.created && opened.cut.is_none(), "{self:?}: {opened:?}");
        assert_eq!(opened.events, facts.len() as u64, "{self:?}");
        assert_same(&all_facts(&store), facts, self);
        store.close().unwrap();
    }

    /// Whatever a power cut, or the death of the process, leaves of the unsynced changes, these events are there.
    pub fn survives_power_cuts(&self, facts: &[Fact]) {
        let Disk::Simulated(fs) = &self.disk else { return };
        for image in [Image::Durable, Image::All, Image::Killed, Image::SizeWithoutData, Image::Subset(7)] {
            let after = Bed { disk: Disk::Simulated(fs.crash(image)), maintenance: false, ..*self };
            let store = after.options().open(after.path()).unwrap_or_else(|e| panic!("{self:?}, {image:?}: {e}"));
            assert_same(&all_facts(&store), facts, &image);
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

/// Bytes that print as their length and how they begin.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Bytes(pub Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = &self.0[..self.0.len().min(12)];
        write!(f, "{} bytes {head:02X?}", self.0.len())
    }
}

/// All that an event says, taken out of the store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fact {
    pub position: u64,
    pub stream: StreamId,
    pub sequence: u64,
    pub event_type: String,
    pub id: Uuid,
    pub recorded_at: Timestamp,
    pub occurred_at: Option<Timestamp>,
    pub correlation_id: Option<String>,
    pub causation_id: Option<String>,
    pub tags: Vec<String>,
    pub metadata: Bytes,
    pub data: Bytes,
    pub content_type: ContentType,
    pub schema_version: u32,
}

impl Fact {
    pub fn of(event: &Event) -> Fact {
        let stream = event.stream();
        assert!(event.is_in(&stream));
        assert_eq!((event.domain(), event.root(), event.edition()), (stream.domain(), stream.root(), stream.edition()));
        Fact {
            position: event.position(),
            stream,
            sequence: event.sequence(),
            event_type: event.event_type().to_owned(),
            id: event.id(),
            recorded_at: event.recorded_at(),
            occurred_at: event.occurred_at(),
            correlation_id: event.correlation_id().map(str::to_owned),
            causation_id: event.causation_id().map(str::to_owned),
            tags: event.tags().map(str::to_owned).collect(),
            metadata: Bytes(event.metadata().to_vec()),
            data: Bytes(event.data().to_vec()),
            content_type: event.content_type().clone(),
            schema_version: event.schema_version(),
        }
    }
}

/// Compares, and on a difference shows the first one, not all events.
#[track_caller]
pub fn assert_same(found: &[Fact], expected: &[Fact], context: &dyn fmt::Debug) {
    for (n, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert_eq!(found, expected, "event {n}; {context:?}");
    }
    assert_eq!(found.len(), expected.len(), "number of events; {context:?}");
}

pub fn facts(read: Read) -> Vec<Fact> {
    drain(read.into_iter())
}

/// What is left of a read: some events given, some lent.
pub fn drain(mut events: Events) -> Vec<Fact> {
    let mut found = Vec::new();
    loop {
        let event = match found.len() % 5 {
            0 | 3 => events.next().map(|event| Fact::of(&event.unwrap())),
            _ => events.advance().unwrap().map(Fact::of),
        };
        match event {
            Some(fact) => found.push(fact),
            None => return found,
        }
    }
}

/// All events of a store that nobody writes to, read forwards and backwards, as a whole and stream by stream, and found the same each time. What the store
/// says of itself agrees.
pub fn all_facts(store: &Store) -> Vec<Fact> {
    let all = facts(store.read_all());
    check_order(&all);
    assert_eq!((store.len(), store.is_empty()), (all.len() as u64, all.is_empty()));
    assert_eq!(store.head(), all.last().map(|last| last.position));
    let mut backwards = facts(store.read_all().backwards());
    backwards.reverse();
    assert_same(&backwards, &all, &"the whole store backwards");

    let mut streams: BTreeMap<StreamId, Vec<Fact>> = BTreeMap::new();
    for fact in &all {
        streams.entry(fact.stream.clone()).or_default().push(fact.clone());
    }
    for (stream, expected) in &streams {
        assert_same(&facts(store.read(stream)), expected, stream);
        let mut backwards = facts(store.read(stream).backwards());
        backwards.reverse();
        assert_same(&backwards, expected, stream);
        let info = store.stream(stream).unwrap().unwrap();
        assert_eq!((&info.stream, info.next_sequence), (stream, expected.len() as u64));
    }
    let told: Vec<_> = store.streams("").unwrap().into_iter().map(|info| (info.stream, info.next_sequence)).collect();
    let found: Vec<_> = streams.iter().map(|(stream, facts)| (stream.clone(), facts.len() as u64)).collect();
    assert_eq!(told, found, "streams");
    let stats = store.stats().unwrap();
    assert_eq!((stats.events, stats.streams), (all.len() as u64, streams.len() as u64));
    assert_eq!(stats.segments[0].first_position, 0);
    assert!(stats.segments.is_sorted_by(|a, b| a.first_position <= b.first_position && a.path < b.path), "{stats:?}");
    assert!(stats.segments.iter().all(|segment| segment.bytes <= segment.file_bytes), "{stats:?}");
    all
}

/// Positions and sequences are dense from 0 on, and times never decrease.
#[track_caller]
pub fn check_order(all: &[Fact]) {
    let mut next: BTreeMap<&StreamId, u64> = BTreeMap::new();
    for (n, fact) in all.iter().enumerate() {
        assert_eq!(fact.position, n as u64, "positions are dense");
        let next = next.entry(&fact.stream).or_default();
        assert_eq!(fact.sequence, *next, "sequences of {} are dense", fact.stream);
        *next += 1;
    }
    assert!(all.is_sorted_by_key(|fact| fact.recorded_at), "times decrease");
}

pub fn stream(name: &str) -> StreamId {
    name.parse().unwrap()
}

/// Events of type `T` with these texts as data.
pub fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<NewEvent<'a>> {
    texts.into_iter().map(|text| NewEvent::new("T", text)).collect()
}

/// The data of events, as text.
pub fn data_of(facts: &[Fact]) -> Vec<String> {
    facts.iter().map(|fact| String::from_utf8_lossy(&fact.data.0).into_owned()).collect()
}

/// Bytes that look like nothing and differ from seed to seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        // xorshift64 (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The conflict that an append met: stream, expected, found.
#[track_caller]
pub fn conflict<T: fmt::Debug>(result: Result<T>) -> (StreamId, Expected, u64) {
    match result {
        Err(Error::Conflict { stream, expected, actual }) => (stream, expected, actual),
        other => panic!("no conflict: {other:?}"),
    }
}

/// Every file below a directory with its bytes.
pub fn snapshot(dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(snapshot(&path));
            found.insert(path, None);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.insert(path, Some(bytes));
        }
    }
    found
}
