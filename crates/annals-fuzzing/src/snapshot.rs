//! Snapshot files: whatever their bytes are, a snapshot that is used was put, or follows an event
//! that the stream has.

use super::bounded::Bounded;
use super::build::{self, Built, Ended, put_file, stream};
use super::change::Change;
use super::{noise, seal};
use annals::Timestamp;
use annals::fs::MemFs;
use annals::internals::format::snapshot_file::{self, Codec, Retention, SnapshotHeader};
use annals::snapshot::Snapshot;
use annals::{Error, Event, Options, Store, StreamId};
use arbitrary::{Arbitrary, Unstructured};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const DIR: &str = "store";
const OLDER: &[u8] = b"older";

#[derive(Arbitrary, Debug)]
struct Input {
    stream: u8,
    state: u16,
    retention: u8,
    codec: u8,
    /// Changes before the checksums are corrected; nothing is corrected if this is empty.
    tampered: Vec<Change>,
    /// Whether the length in the header is set to that of the file, too.
    fit: bool,
    damaged: Vec<Change>,
    /// Where the file gets another name besides.
    copied_to: Option<Copied>,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Copied {
    Sequence(u64),
    Stream(u8),
}

/// A head and what goes with it, to be written and read.
#[derive(Arbitrary, Debug)]
struct Whole {
    store: [u8; 16],
    numbers: [u64; 5],
    codec: u8,
    retention: u8,
    key: u16,
    state: u16,
    bit: u32,
}

fn retention(n: u8) -> Retention {
    [Retention::Default, Retention::Transient, Retention::Persist][usize::from(n) % 3]
}

fn codec(n: u8) -> Codec {
    [Codec::Bytes, Codec::Json, Codec::Bincode][usize::from(n) % 3]
}

fn base() -> &'static Built {
    static BASE: OnceLock<Built> = OnceLock::new();
    BASE.get_or_init(|| build::small(Ended::Closed))
}

/// The first byte says what the rest is: the bytes of a file; sealed ones; one that is written and
/// read again; changes to a file in a store.
pub fn snapshot_file(input: &[u8]) {
    let Some((&mode, bytes)) = input.split_first() else { return };
    match mode % 4 {
        0 => in_a_store(bytes),
        1 => {
            let mut bytes = bytes.to_vec();
            seal::snapshot(&mut bytes, false);
            in_a_store(&bytes);
        }
        2 => {
            if let Ok(whole) = Whole::arbitrary(&mut Unstructured::new(bytes)) {
                round_trip(&whole);
            }
        }
        _ => {
            if let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(bytes)) {
                changed(&input);
            }
        }
    }
}

/// A written snapshot comes back, and does not with one bit flipped, nor with another length.
fn round_trip(whole: &Whole) {
    let state = noise(whole.numbers[0], whole.state.into());
    let key = noise(whole.numbers[1], usize::from(whole.key) % 4610);
    let [created_at, sequence, position, recorded_at, fingerprint] = whole.numbers;
    let head = SnapshotHeader {
        store: whole.store,
        created_at: created_at as i64,
        sequence,
        position,
        recorded_at: recorded_at as i64,
        fingerprint,
        codec: codec(whole.codec),
        retention: retention(whole.retention),
        state_len: state.len() as u64,
    };
    let mut file = snapshot_file::encode(&head, &key, &state);
    {
        let (found, of, at) = snapshot_file::decode(&file).expect("what was just encoded");
        assert_eq!((found, of, &file[at]), (head, &key[..], &state[..]));
    }
    let mut sealed = file.clone();
    seal::snapshot(&mut sealed, true);
    assert_eq!(sealed, file, "sealing a good file changes it");
    let bit = whole.bit as usize % (file.len() * 8);
    file[bit / 8] ^= 1 << (bit % 8);
    assert!(snapshot_file::decode(&file).is_err(), "bit {bit} is another one, and nobody sees it");
    file[bit / 8] ^= 1 << (bit % 8);
    assert!(snapshot_file::decode(&file[..bit / 8]).is_err());
}

fn open(fs: &MemFs) -> Store {
    let options = Options::new().file_system(Bounded(fs.clone())).maintenance(false).reserve(0);
    let store = options.clock(|| Timestamp::from_nanos(5_000)).open(DIR);
    store.expect("nothing has happened to the log")
}

/// A store with two snapshots of a stream: `older` of its first event, and this one of its last,
/// with its location.
fn prepared(of: &StreamId, state: &[u8], keep: Retention) -> (MemFs, PathBuf, u64) {
    let fs = MemFs::new();
    for (name, bytes) in &base().files {
        put_file(&fs, &Path::new(DIR).join(name), bytes);
    }
    let store = open(&fs);
    let last = store.stream(of).expect("a good index").expect("it has events").next_sequence - 1;
    assert!(last > 0);
    let snapshots = store.snapshots();
    snapshots.clone().retention(Retention::Persist).put_bytes(of, 0, OLDER).expect("there is room");
    snapshots.retention(keep).put_bytes(of, last, state).expect("there is room");
    let listed = store.snapshots().list(of).expect("memory");
    assert_eq!(listed.len(), 2);
    (fs, listed[1].path.clone(), last)
}

/// Puts the bytes in the place of a snapshot, and checks everything.
fn in_a_store(bytes: &[u8]) {
    let of = stream(0);
    let (fs, path, _) = prepared(&of, b"newer", Retention::Default);
    put_file(&fs, &path, b"").truncate(0).expect("memory");
    put_file(&fs, &path, bytes);
    look(&open(&fs), &of);
}

fn changed(input: &Input) {
    let of = stream(input.stream.into());
    let state = noise(input.state.into(), input.state.into());
    let (fs, path, last) = prepared(&of, &state, retention(input.retention));
    let whole = contents(&fs, &path);
    let mut bytes = whole.clone();
    if codec(input.codec) != Codec::Bytes {
        bytes[82] = if codec(input.codec) == Codec::Json { 1 } else { 3 };
        seal::snapshot(&mut bytes, false);
    }
    let unchanged = bytes.clone();
    input.tampered.iter().take(6).for_each(|change| change.apply(&mut bytes));
    let tampered = !input.tampered.is_empty();
    if tampered {
        seal::snapshot(&mut bytes, input.fit);
    }
    input.damaged.iter().take(6).for_each(|change| change.apply(&mut bytes));
    put_file(&fs, &path, b"").truncate(0).expect("memory");
    put_file(&fs, &path, &bytes);
    match input.copied_to {
        Some(Copied::Sequence(n)) if n != 0 && n != last => {
            put_file(&fs, &path.with_file_name(format!("{n:020}.snap")), &bytes);
        }
        Some(Copied::Stream(n)) if stream(n.into()) != of => {
            let other = stream(n.into());
            let (_, place, _) = prepared(&other, b"", Retention::Default);
            put_file(&fs, &place, &bytes);
            let found = open(&fs).snapshots().latest(&other).expect("the events are good");
            assert!(tampered || found.is_none(), "a snapshot of another stream is used");
        }
        _ => {}
    }
    let store = open(&fs);
    let found = store.snapshots().latest(&of).expect("the events are good");
    let skipped = store.snapshots().skipped();
    if !tampered {
        let found = found.expect("the older one is unchanged");
        let right: (u64, &[u8]) = if bytes == unchanged { (last, &state) } else { (0, OLDER) };
        assert!((found.sequence(), found.bytes()) == right, "{found:?} is not what was put");
        let told = skipped != annals::snapshot::SkippedSnapshots::default();
        assert!(told || bytes == unchanged, "a snapshot is passed over without a word");
    }
    look(&store, &of);
    go_on(&store, &of, last);
}

fn contents(fs: &MemFs, path: &Path) -> Vec<u8> {
    use annals::fs::{File, Fs, Mode};
    let file = fs.open(path, Mode::Read).expect("it is there");
    let mut bytes = vec![0; file.size().expect("memory") as usize];
    let read = File::read_at(&*file, 0, &mut bytes).expect("memory");
    assert_eq!(read, bytes.len());
    bytes
}

/// Everything that can be asked of the snapshots of a stream. A returned one follows an event that
/// the stream has.
fn look(store: &Store, of: &StreamId) {
    let snapshots = store.snapshots();
    let events: Vec<Event> = store.read(of).into_iter().map(|event| event.expect("a good log")).collect();
    let follows = |found: Option<Snapshot>, until: u64| {
        let Some(found) = found else { return };
        let event = &events[found.sequence() as usize];
        assert!(found.sequence() <= until && found.stream() == of && found.fingerprint() == 0);
        assert_eq!((found.position(), found.recorded_at()), (event.position(), event.recorded_at()));
        let decoded: [Option<Error>; 4] = [
            found.decode::<u64>().err(),
            found.decode::<String>().err(),
            found.decode::<Vec<String>>().err(),
            found.decode::<BTreeMap<String, Vec<u8>>>().err(),
        ];
        assert!(decoded.iter().flatten().all(|error| matches!(error, Error::Codec { .. })), "{decoded:?}");
    };
    follows(snapshots.latest(of).expect("a good log"), u64::MAX);
    for sequence in 0..events.len() as u64 {
        follows(snapshots.at(of, sequence).expect("a good log"), sequence);
    }
    follows(snapshots.at_time(of, Timestamp::from_nanos(1_040)).expect("a good log"), u64::MAX);
    let listed = snapshots.list(of).expect("memory");
    let all = snapshots.list_all().expect("memory");
    assert!(listed.iter().all(|info| all.contains(info)));
    let report = snapshots.verify().expect("a good log");
    assert_eq!(report.files, report.usable + report.unusable.len() as u64);
    let count = |count: &mut u64, _: &Event| {
        *count = count.wrapping_add(1);
        Ok(())
    };
    snapshots.check(of, 0u64, count).expect("a good log");
    store.load(of).fold(0u64, count).expect("a good log");
}

/// What is put is there, whatever there was, and what is deleted is not.
fn go_on(store: &Store, of: &StreamId, last: u64) {
    let snapshots = store.snapshots();
    snapshots.put(of, last, "again").expect("there is room");
    let found = snapshots.at(of, last).expect("a good log").expect("it was just put");
    assert_eq!((found.sequence(), found.decode::<String>().ok().as_deref()), (last, Some("again")));
    assert!(snapshots.delete(of).expect("memory") >= 2);
    assert!(snapshots.latest(of).expect("a good log").is_none());
}

pub(super) fn show(input: &[u8]) -> String {
    match input.split_first() {
        Some((mode, rest)) if mode % 4 == 3 => format!("{:#?}", Input::arbitrary_take_rest(Unstructured::new(rest))),
        Some((mode, rest)) if mode % 4 == 2 => format!("{:#?}", Whole::arbitrary(&mut Unstructured::new(rest))),
        _ => super::bytes(input),
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![Vec::new()];
    for state in [0, 5, 8192, 8193] {
        let (fs, path, _) = prepared(&stream(0), &noise(state, state as usize), Retention::Default);
        let whole = contents(&fs, &path);
        seeds.extend([0, 1].map(|mode| [&[mode][..], &whole].concat()));
    }
    seeds.extend((0..4).map(|seed| [&[2][..], &noise(seed, 80)].concat()));
    let lens = [10, 20, 33, 47, 64, 90];
    seeds.extend((0..12).map(|seed| [&[3][..], &noise(seed + 300, lens[seed as usize % lens.len()])].concat()));
    seeds
}
