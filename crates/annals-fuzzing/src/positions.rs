//! The positions file: whatever its bytes are, opening ends, and the result was flushed, unless
//! checksums were crafted.

use super::bounded::Bounded;
use super::build::{self, Built, Ended, first_header, put_file};
use super::change::Change;
use super::{noise, seal};
use annals::Timestamp;
use annals::fs::MemFs;
use annals::internals::format::positions_file::{
    BATCH, BatchHeader, FileHeader, HEADER, HandlerGroup, ProgressEntry, UNBOUND,
};
use annals::internals::positions::salvage::salvage;
use annals::progress::BindingFault;
use annals::{Error, Options, Store, StreamId};
use arbitrary::{Arbitrary, Unstructured};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

const DIR: &str = "store";
const FILE: &str = "store/POSITIONS";

const HANDLERS: [&str; 3] = ["billing", "h", "%\u{1F980}"];
const EDITIONS: [&str; 3] = ["", "what-if", "x"];
const DOMAINS: [&str; 2] = ["a", "b"];
const ROOTS: [&[u8]; 4] = [b"1", b"", b"2", b"\xFF\0"];
const NAMES: [&str; 2] = ["mailer", "c"];

#[derive(Arbitrary, Debug)]
struct Input {
    /// The content of each flush.
    batches: Vec<Vec<Written>>,
    /// Number of them that were in the file when it got its name.
    durable: u8,
    /// Whether it was closed.
    mark: bool,
    /// Changes before the checksums are corrected; nothing is corrected if this is empty.
    tampered: Vec<Tampering>,
    damaged: Vec<Change>,
    read_only: bool,
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Tampering {
    Change(Change),
    /// A number in the header of a batch.
    Field {
        batch: u8,
        at: u8,
        value: u32,
    },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
enum Written {
    Put {
        of: Of,
        sequence: u64,
        bound: i8,
    },
    Delete {
        of: Of,
    },
    Checkpoint {
        name: u8,
        position: u64,
        version: u64,
        bound: i8,
    },
    NoCheckpoint {
        name: u8,
    },
    /// Positions with long roots, so that the body has several blocks.
    Long {
        handler: u8,
        count: u8,
    },
}

/// Handler, edition, domain and root, by two bits each, and the epoch of the edition.
#[derive(Arbitrary, Clone, Copy, Debug)]
struct Of {
    which: u8,
    epoch: u8,
}

impl Of {
    fn group(self) -> HandlerGroup<'static> {
        let edition = EDITIONS[usize::from(self.which >> 2 & 3) % 3];
        let edition = (!edition.is_empty()).then_some(edition);
        let epoch = if edition.is_some() { u64::from(self.epoch % 3) } else { 0 };
        let domain = DOMAINS[usize::from(self.which >> 4 & 1)];
        HandlerGroup { handler: HANDLERS[usize::from(self.which & 3) % 3], edition, epoch, domain }
    }

    fn root(self) -> &'static [u8] {
        ROOTS[usize::from(self.which >> 6)]
    }
}

/// What binds an entry to an event: 0 is nothing, and some are times of events that the store has.
fn time(bound: i8) -> i64 {
    if bound == 0 { UNBOUND } else { i64::from(bound) * 1_000 }
}

/// Whether entries about another event are refused, and the rest is returned.
fn given<T: PartialEq + std::fmt::Debug>(got: Result<Option<T>, Error>, listed: T, fault: Option<BindingFault>) {
    match (got, fault) {
        (Ok(got), None) => assert_eq!(got, Some(listed)),
        (Err(Error::PositionAhead { .. }), Some(BindingFault::Ahead)) => {}
        (Err(Error::Diverged { .. }), Some(BindingFault::Diverged)) => {}
        (got, fault) => panic!("{got:?}, and the list says {fault:?}"),
    }
}

/// The content of a file: positions by handler, stream and epoch, and checkpoints.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
struct State {
    positions: BTreeMap<(String, StreamId, u64), u64>,
    checkpoints: BTreeMap<String, (u64, u64)>,
}

impl State {
    /// The content that the store shows: its log has no deletion, and so only editions that never
    /// were deleted.
    fn shown(mut self) -> State {
        self.positions.retain(|(_, _, epoch), _| *epoch == 0);
        self
    }

    fn put(&mut self, group: HandlerGroup<'_>, root: &[u8], sequence: u64, bound: i8, out: &mut Vec<u8>) {
        self.positions.insert((group.handler.to_owned(), group.stream(root), group.epoch), sequence);
        ProgressEntry::Put { root, sequence, recorded_at: time(bound) }.encode(out);
    }

    /// Applies what was written, and encodes it. Returns the number of entries.
    fn write(&mut self, written: Written, current: &mut Option<HandlerGroup<'static>>, out: &mut Vec<u8>) -> u32 {
        let mut entries = 1;
        let mut enter = |group: HandlerGroup<'static>, out: &mut Vec<u8>| {
            if current.replace(group) != Some(group) {
                ProgressEntry::Group(group).encode(out);
                entries += 1;
            }
        };
        match written {
            Written::Put { of, sequence, bound } => {
                enter(of.group(), out);
                self.put(of.group(), of.root(), sequence, bound, out);
            }
            Written::Delete { of } => {
                enter(of.group(), out);
                let group = of.group();
                self.positions.remove(&(group.handler.to_owned(), group.stream(of.root()), group.epoch));
                ProgressEntry::Delete { root: of.root() }.encode(out);
            }
            Written::Checkpoint { name, position, version, bound } => {
                let name = NAMES[usize::from(name % 2)];
                self.checkpoints.insert(name.to_owned(), (position, version));
                ProgressEntry::Checkpoint { name, position, version, recorded_at: time(bound) }.encode(out);
            }
            Written::NoCheckpoint { name } => {
                let name = NAMES[usize::from(name % 2)];
                self.checkpoints.remove(name);
                ProgressEntry::NoCheckpoint { name }.encode(out);
            }
            Written::Long { handler, count } => {
                let group = Of { which: handler & 3, epoch: 0 }.group();
                enter(group, out);
                let count = u32::from(count % 6);
                for n in 0..count {
                    self.put(group, &[&[n as u8][..], &[b'x'; 4000]].concat(), n.into(), 0, out);
                }
                entries += count;
                entries -= 1;
            }
        }
        entries
    }
}

/// A file, and its content up to each end of a batch.
struct File {
    bytes: Vec<u8>,
    states: Vec<(usize, State)>,
    /// Number of the batches that were there when the file got its name.
    durable: usize,
    mark: bool,
}

impl File {
    fn new(batches: &[Vec<Written>], durable: u8, mark: bool) -> File {
        let header = FileHeader { store: first_header().store, salt: 0x0123_4567_89AB_CDEF, durable_len: 0 };
        let (mask, mut previous, mut number) = (header.mask(), header.chain(), 1);
        let mut bytes = header.encode().to_vec();
        let mut states = vec![(HEADER, State::default())];
        for written in batches.iter().filter(|written| !written.is_empty()).take(6) {
            let mut state = states.last().expect("the first one").1.clone();
            let mut batch = vec![0; BATCH];
            let mut group = None;
            let entries = written.iter().take(12).map(|written| state.write(*written, &mut group, &mut batch)).sum();
            if entries == 0 {
                continue;
            }
            let finished = BatchHeader::finish(&mut batch, entries, number, previous, mask, bytes.len() as u64);
            bytes.extend_from_slice(&batch);
            (number, previous) = (number + 1, finished.crc);
            states.push((bytes.len(), state));
        }
        if mark {
            let mut batch = vec![0; BATCH];
            BatchHeader::finish(&mut batch, 0, number, previous, mask, bytes.len() as u64);
            bytes.extend_from_slice(&batch);
        }
        let durable = usize::from(durable) % states.len();
        let header = FileHeader { durable_len: states[durable].0 as u64, ..header };
        bytes[..HEADER].copy_from_slice(&header.encode());
        File { bytes, states, durable, mark }
    }

    /// The offsets of the headers of batches, the mark included.
    fn batch(&self, number: u8) -> usize {
        self.states[usize::from(number) % self.states.len()].0
    }
}

/// The first byte says what the rest is: the bytes of a file; sealed ones; the content of a file,
/// and changes to it.
pub fn positions_file(input: &[u8]) {
    let Some((&mode, bytes)) = input.split_first() else { return };
    match mode % 3 {
        0 => _ = anything(bytes, false),
        1 => {
            let mut bytes = bytes.to_vec();
            seal::positions(&mut bytes);
            _ = anything(&bytes, false);
        }
        _ => {
            if let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(bytes)) {
                changed(&input);
            }
        }
    }
}

fn base() -> &'static Built {
    static BASE: OnceLock<Built> = OnceLock::new();
    BASE.get_or_init(|| build::store(&[&[(1, 10)]], Ended::Closed))
}

fn open(fs: &MemFs, read_only: bool) -> Store {
    let options = Options::new().file_system(Bounded(fs.clone())).maintenance(false).reserve(0);
    let options = options.clock(|| Timestamp::from_nanos(5_000));
    let opened = if read_only { options.open_read_only(DIR) } else { options.open(DIR) };
    opened.expect("nothing has happened to the log")
}

/// What the store shows.
fn state(store: &Store) -> Result<State, Error> {
    let positions = store.positions();
    let mut state = State::default();
    for handler in positions.handlers()? {
        let listed = positions.list(&handler.name)?;
        assert_eq!(listed.len() as u64, handler.streams);
        for of in listed {
            given(positions.get(&handler.name, &of.stream), of.sequence, of.fault);
            state.positions.insert((handler.name.clone(), of.stream, 0), of.sequence);
        }
    }
    for of in store.checkpoints().list()? {
        given(store.checkpoints().get(&of.name), of.clone(), of.fault);
        state.checkpoints.insert(of.name, (of.position, of.version));
    }
    Ok(state)
}

/// What is salvaged of the file.
fn salvaged(fs: &MemFs) -> Option<State> {
    let found = match salvage(&Bounded(fs.clone()), Path::new(DIR)) {
        Ok(found) => found,
        Err(Error::UnsupportedFormat { .. }) => return None,
        Err(error) => panic!("{error}"),
    };
    assert!(found.damage.iter().all(|damage| damage.bytes.start <= damage.bytes.end), "{:?}", found.damage);
    let positions =
        found.positions.into_iter().map(|(handler, stream, epoch, at)| ((handler, stream, epoch), at.sequence));
    let checkpoints = found.checkpoints.into_iter().map(|(name, at)| (name, (at.position, at.version)));
    Some(State { positions: positions.collect(), checkpoints: checkpoints.collect() })
}

/// Opens a store with this file. Returns its content, if the file is not refused. It equals what is
/// salvaged, and stays: through a flush, a change, closing, and opening again.
fn anything(bytes: &[u8], read_only: bool) -> Option<State> {
    let fs = MemFs::new();
    for (name, bytes) in &base().files {
        put_file(&fs, &Path::new(DIR).join(name), bytes);
    }
    put_file(&fs, Path::new(FILE), bytes);
    let salvaged = salvaged(&fs);
    let store = open(&fs, read_only);
    let found = match state(&store) {
        Ok(found) => found,
        Err(Error::Damaged(damage)) => {
            assert!(damage.bytes.start <= damage.bytes.end);
            // It stays refused, and so are changes.
            let stream = StreamId::new("a", "1").expect("a good name");
            assert!(store.positions().put("h", &stream, 1).is_err());
            assert!(store.positions().flush().is_ok() && store.close().is_ok());
            return None;
        }
        Err(Error::UnsupportedFormat { .. }) => return None,
        Err(error) => panic!("{error}"),
    };
    let salvaged = salvaged.expect("what opens can be read");
    assert_eq!(salvaged.shown(), found, "the salvage has found something else");
    let entries = found.positions.len() + found.checkpoints.len();
    assert!(entries * 3 <= bytes.len(), "{entries} entries in {} bytes", bytes.len());
    if !read_only {
        go_on(&fs, store, found.clone());
    }
    Some(found)
}

/// What was found stays, with what is changed now.
fn go_on(fs: &MemFs, store: Store, mut right: State) {
    store.positions().flush().expect("memory");
    let stream = StreamId::new("a", "1").expect("a good name");
    let before = right.positions.get(&("h".into(), stream.clone(), 0)).copied();
    let after = match store.positions().put("h", &stream, 77) {
        Ok(rose) => {
            assert_eq!(rose, before.is_none_or(|before| before < 77));
            before.unwrap_or(0).max(77)
        }
        Err(Error::PositionAhead { .. } | Error::Diverged { .. }) => {
            store.positions().reset("h", &stream, 77).expect("memory");
            77
        }
        Err(error) => panic!("{error}"),
    };
    right.positions.insert(("h".into(), stream, 0), after);
    store.positions().flush().expect("memory");
    let name = NAMES[0];
    if let Ok(reached) = store.checkpoints().reset(name, 5) {
        right.checkpoints.insert(name.into(), (5, reached.version));
    }
    assert_eq!(state(&store).ok().as_ref(), Some(&right));
    store.close().expect("memory");
    for read_only in [true, false] {
        let again = state(&open(fs, read_only)).expect("it was closed");
        assert_eq!(again, right);
    }
}

/// A file of batches that was changed. If no checksum was corrected, it is refused, or shows all
/// batches before the first changed one.
fn changed(input: &Input) {
    let file = File::new(&input.batches, input.durable, input.mark);
    let mut bytes = file.bytes.clone();
    for tampering in input.tampered.iter().take(6) {
        match *tampering {
            Tampering::Change(change) => change.apply(&mut bytes),
            Tampering::Field { batch, at, value } => {
                let at = file.batch(batch) + usize::from(at % 8) * 4;
                if let Some(field) = bytes.get_mut(at..at + 4) {
                    field.copy_from_slice(&value.to_le_bytes());
                }
            }
        }
    }
    let tampered = !input.tampered.is_empty();
    if tampered {
        seal::positions(&mut bytes);
    }
    input.damaged.iter().take(6).for_each(|change| change.apply(&mut bytes));
    let found = anything(&bytes, input.read_only);
    if tampered {
        return;
    }
    let is_same = |end: usize| bytes.get(..end) == Some(&file.bytes[..end]);
    let good = file.states.iter().take_while(|(end, _)| is_same(*end)).count();
    let Some(found) = found else {
        assert!(good < file.states.len(), "all is as it was, and the file is refused");
        return;
    };
    assert!(good > file.durable, "what was durable when the file got its name is missing, and nobody says so");
    assert_eq!(found, file.states[good - 1].1.clone().shown(), "not what stood there after any flush");
    let end = file.states[file.states.len() - 1].0;
    let has_mark = file.mark && bytes.get(end..end + BATCH) == Some(&file.bytes[end..]);
    assert!(good == file.states.len() || !has_mark, "a batch below a mark is missing, and nobody says so");
}

/// What flushes may have written.
fn samples() -> [Vec<Written>; 4] {
    let of = |which, epoch| Of { which, epoch };
    let put = |which, epoch, sequence| Written::Put { of: of(which, epoch), sequence, bound: 0 };
    [
        vec![put(0, 0, 3), put(1, 0, 300), Written::Checkpoint { name: 0, position: 9, version: 1, bound: 0 }],
        vec![put(5, 0, 7), put(5, 1, 8), put(0x95, 0, u64::MAX), Written::Delete { of: of(1, 0) }],
        vec![Written::Long { handler: 2, count: 5 }, Written::NoCheckpoint { name: 0 }],
        vec![put(0, 0, 4)],
    ]
}

/// A file as it may be in a store.
pub(super) fn sample() -> Vec<u8> {
    File::new(&samples(), 2, true).bytes
}

/// Whether the store shows the content of that file after some flush.
pub(super) fn is_of_sample(store: &Store) -> Result<bool, Error> {
    let found = state(store)?;
    let states = File::new(&samples(), 2, true).states;
    // Nothing is shown of an edition that was deleted, nor of a later one of its name.
    Ok(states.iter().any(|(_, known)| {
        let in_main = |((_, stream, _), _): &(&(String, StreamId, u64), &u64)| stream.edition().is_none();
        let positions = found.positions.iter();
        found.checkpoints == known.checkpoints
            && positions.clone().filter(in_main).eq(known.positions.iter().filter(in_main))
            && positions.filter(|of| !in_main(of)).all(|((handler, stream, _), at)| {
                let epochs = 0..=2;
                epochs.into_iter().any(|n| known.positions.get(&(handler.clone(), stream.clone(), n)) == Some(at))
            })
    }))
}

pub(super) fn show(input: &[u8]) -> String {
    match input.split_first() {
        Some((mode, rest)) if mode % 3 == 2 => format!("{:#?}", Input::arbitrary_take_rest(Unstructured::new(rest))),
        _ => super::bytes(input),
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let batches = samples();
    let mut seeds = vec![Vec::new()];
    for (count, durable, mark) in [(0, 0, false), (2, 0, false), (2, 2, true), (4, 1, true), (4, 4, false)] {
        let file = File::new(&batches[..count], durable, mark);
        seeds.extend([0, 1].map(|mode| [&[mode][..], &file.bytes].concat()));
    }
    let lens = [20, 40, 70, 110, 160, 240];
    seeds.extend((0..18).map(|seed| [&[2][..], &noise(seed + 700, lens[seed as usize % lens.len()])].concat()));
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sealing_a_good_file_changes_nothing_and_it_opens() {
        for seed in seeds().iter().filter(|seed| seed.first() == Some(&0)) {
            let mut sealed = seed[1..].to_vec();
            seal::positions(&mut sealed);
            assert_eq!(sealed, seed[1..]);
            assert!(anything(&sealed, false).is_some());
        }
    }
}
