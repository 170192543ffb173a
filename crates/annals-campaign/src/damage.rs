//! Changed bits, bytes and lengths of a closed store.
//!
//! Nothing is copied for a case: [`Patched`] is a directory that cannot be written to and shows one
//! file with the change. The store is opened for reading, which judges as any open does, and
//! verified as a whole. Then the events of the changed segment are read in order, and one stream of
//! them; other files have been read before, and are unchanged. One case in 64 is also opened for
//! writing, on a copy, and all of it is read in all ways, twice.

use crate::pool::{Case, Pool};
use crate::salvage;
use crate::schedules::Random;
use crate::settings::Settings;
use annals::fs::{Entry, File, Fs, Lock, LockMode, Map, MemFs, Mode};
use annals::offline::verify_in;
use annals::{Error, Event, Expected, NewEvent, Options, Store, StreamId, Timestamp};
use annals_testkit::{Image, SimFs};
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The kind of change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Damage {
    Bits,
    Bytes,
    Lengths,
}

/// One change of one file.
#[derive(Clone, Debug)]
pub struct Change {
    pub file: PathBuf,
    pub at: usize,
    what: What,
}

#[derive(Clone, Copy, Debug)]
enum What {
    /// The byte is this one.
    Set(u8),
    /// The file ends here.
    Cut,
    /// Followed by zeros, or noise, or the start of the file.
    Zeros,
    Noise(u64),
    Stale,
}

const FILLS: [What; 4] = [What::Cut, What::Zeros, What::Noise(0), What::Stale];

/// One in this many cases is checked in all ways.
const THOROUGH: u64 = 64;

impl Change {
    /// Applies the change to bytes that were read from `offset` on.
    fn apply(&self, good: &[u8], offset: usize, out: &mut [u8]) {
        let changed = |at: usize| match self.what {
            What::Set(value) => (at == self.at).then_some(value),
            What::Cut => None,
            What::Zeros => (at >= self.at).then_some(0),
            What::Noise(seed) => (at >= self.at).then(|| Random(seed ^ at as u64).next() as u8),
            What::Stale => (at >= self.at).then(|| good[at - self.at]),
        };
        let from = match self.what {
            What::Set(_) if !(offset..offset + out.len()).contains(&self.at) => return,
            What::Set(_) => self.at - offset..self.at - offset + 1,
            _ => self.at.saturating_sub(offset).min(out.len())..out.len(),
        };
        for n in from {
            out[n] = changed(offset + n).unwrap_or(out[n]);
        }
    }

    fn changes_nothing(&self, good: &[u8]) -> bool {
        match self.what {
            What::Set(value) => good[self.at] == value,
            What::Cut => self.at == good.len(),
            What::Zeros => good[self.at..].iter().all(|&byte| byte == 0),
            What::Noise(_) | What::Stale => self.at == 0 && matches!(self.what, What::Stale),
        }
    }

    fn len(&self, good: usize) -> usize {
        if let What::Cut = self.what { self.at } else { good }
    }
}

pub type Files = Arc<BTreeMap<PathBuf, Arc<Vec<u8>>>>;

/// Files that are only read, one of them changed; and a directory in memory that is written to.
#[derive(Clone, Debug)]
pub struct Patched {
    files: Files,
    change: Option<Change>,
    pub out: MemFs,
}

#[derive(Debug)]
struct PatchedFile {
    good: Arc<Vec<u8>>,
    change: Option<Change>,
}

impl Patched {
    pub fn new(files: Files, change: Option<Change>) -> Patched {
        Patched { files, change, out: MemFs::new() }
    }

    fn change_of(&self, path: &Path) -> Option<Change> {
        self.change.clone().filter(|change| change.file == path)
    }
}

fn refused<T>() -> io::Result<T> {
    Err(io::ErrorKind::PermissionDenied.into())
}

fn is_out(path: &Path) -> bool {
    path.starts_with("out")
}

impl Fs for Patched {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        if is_out(path) { self.out.create_dir(path) } else { refused() }
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        if is_out(path) {
            return self.out.open(path, mode);
        }
        if mode != Mode::Read {
            return refused();
        }
        let good = self.files.get(path).ok_or(io::ErrorKind::NotFound)?.clone();
        Ok(Arc::new(PatchedFile { good, change: self.change_of(path) }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        if is_out(dir) {
            return self.out.list(dir);
        }
        let files = self.files.iter().filter(|(path, _)| path.parent() == Some(dir));
        let entries = files.map(|(path, good)| Entry {
            name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
            size: self.change_of(path).map_or(good.len(), |change| change.len(good.len())) as u64,
            is_dir: false,
            is_file: true,
        });
        Ok(entries.collect())
    }

    fn rename(&self, _: &Path, _: &Path) -> io::Result<()> {
        refused()
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        if is_out(path) { self.out.remove(path) } else { refused() }
    }

    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        refused()
    }

    /// The new directory stands beside the store.
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        if is_out(dir) || dir == Path::new(".") { Ok(()) } else { refused() }
    }

    /// As on read-only media, in a copy without its lock file.
    fn lock(&self, _: &Path, _: LockMode) -> io::Result<Lock> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn available(&self, _: &Path) -> io::Result<Option<u64>> {
        Ok(None)
    }

    fn gains_from_zeros(&self) -> bool {
        false
    }
}

impl File for PatchedFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.change.as_ref().map_or(self.good.len(), |change| change.len(self.good.len())) as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let len = self.size()? as usize;
        let start = (offset as usize).min(len);
        let count = out.len().min(len - start);
        let out = &mut out[..count];
        out.copy_from_slice(&self.good[start..start + count]);
        if let Some(change) = &self.change {
            change.apply(&self.good, start, out);
        }
        Ok(count)
    }

    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<usize> {
        refused()
    }

    fn sync(&self) -> io::Result<()> {
        refused()
    }

    fn truncate(&self, _: u64) -> io::Result<()> {
        refused()
    }

    fn map(&self, _: u64) -> io::Result<Option<Arc<dyn Map>>> {
        Ok(None)
    }
}

/// An event, as far as it can be told apart.
type Written = (String, u64, Vec<u8>);

fn written(event: &Event) -> Written {
    (event.stream().to_string(), event.sequence(), event.data().to_vec())
}

/// A closed store.
pub struct Base {
    disk: SimFs,
    pub files: Files,
    written: Vec<Written>,
    /// The positions in each segment.
    segments: BTreeMap<PathBuf, Range<u64>>,
}

pub fn options(segment_size: u64) -> Options {
    // The clock stands still: wrong order must be detected by other marks.
    let clock = || Timestamp::from_nanos(1_000);
    Options::new().maintenance(false).segment_size(segment_size).reserve(0).clock(clock)
}

impl Base {
    /// A store of about this many bytes in four segments and a rest, with events of about this many
    /// bytes.
    fn new(bytes: u64, event: u64) -> Base {
        let disk = SimFs::new();
        let options = || options(bytes / 4).file_system(disk.clone());
        let store = options().open("store").expect("a new store");
        let mut random = Random(bytes);
        let used = |disk: &SimFs| -> u64 {
            let segments = disk.files().into_iter().filter(|path| path.extension().is_some_and(|end| end == "seg"));
            segments.filter_map(|path| disk.contents(path)).map(|file| file.len() as u64).sum()
        };
        while used(&disk) < bytes {
            let stream = StreamId::new("s", format!("{}", random.below(7))).expect("a good name");
            let events = (0..1 + random.below(3)).map(|_| {
                let data: Vec<u8> = (0..random.below(2 * event)).map(|_| random.next() as u8).collect();
                NewEvent::with_data(["Placed", "Paid"][random.below(2) as usize], data).tag("t").correlation_id("c")
            });
            let events: Vec<_> = events.collect();
            store.append(&stream, Expected::Any, events).expect("a simulated disk without faults");
        }
        let contents = store.read_all().into_iter().map(|event| written(&event.expect("a good store")));
        let written = contents.collect::<Vec<_>>();
        let stats = store.stats().expect("a good store");
        let ends = stats.segments.iter().skip(1).map(|segment| segment.first_position).chain([stats.events]);
        let segments = stats.segments.iter().zip(ends).map(|(s, end)| (s.path.clone(), s.first_position..end));
        let segments = segments.collect();
        store.close().expect("a good store");
        let files = disk.files().into_iter().filter_map(|path| Some((path.clone(), Arc::new(disk.contents(&path)?))));
        Base { files: Arc::new(files.collect()), disk, written, segments }
    }

    /// The positions that a file concerns: all for HEAD, those of the segment for its index.
    fn positions(&self, file: &Path) -> Range<u64> {
        let segment = file.with_extension("seg");
        self.segments.get(&segment).cloned().unwrap_or(0..self.written.len() as u64)
    }

    /// Compares the changed store with what was written. Returns the outcome.
    fn check(&self, change: &Change, thorough: bool) -> &'static str {
        let fs = Patched::new(self.files.clone(), Some(change.clone()));
        let report = verify_in(&fs, "store");
        let sound = report.as_ref().is_ok_and(|report| report.is_sound() && report.torn.is_none());
        let silent = sound && report.as_ref().is_ok_and(|report| report.notices.is_empty());
        let zeros = || self.files[&change.file][change.at..].iter().all(|&byte| byte == 0);
        let harmless = change.file.ends_with("LOCK") || change.len(usize::MAX) < usize::MAX && zeros();
        assert!(!silent || harmless, "verify does not see it");
        let outcome = match options(1 << 20).file_system(fs).open_read_only("store") {
            Ok(store) => self.read(&store, &self.positions(&change.file)),
            Err(error) => {
                assert!(is_refusal(&error), "{error}");
                "refused by opening"
            }
        };
        let intact = outcome == "without effect on any event";
        assert!(intact || !sound, "verify passes over what an open or a read meets: {outcome}");
        if thorough {
            self.check_thoroughly(change);
        }
        outcome
    }

    /// Reads these positions in order, and the stream of the first of them.
    fn read(&self, store: &Store, positions: &Range<u64>) -> &'static str {
        let mut next = positions.start;
        for event in store.read_all().from(positions.start).to(positions.end) {
            match event {
                Ok(event) => {
                    assert_eq!(event.position(), next, "an event is passed over");
                    self.compare(&event);
                    next += 1;
                }
                Err(error) => {
                    assert!(is_refusal(&error), "{error}");
                    return "refused by reading";
                }
            }
        }
        if next < positions.end {
            let report = store.open_report();
            assert!(report.cut.is_some() || !report.notices.is_empty(), "events are gone without a word");
            return "cut, and told";
        }
        let (name, sequence, _) = &self.written[positions.start.min(self.written.len() as u64 - 1) as usize];
        let stream: StreamId = name.parse().expect("a good name");
        let mut found = store.read(&stream).from(*sequence).limit(3).into_iter();
        let right = self.written.iter().filter(|(other, ..)| other == name).skip(*sequence as usize).take(3);
        for right in right {
            match found.next() {
                Some(Ok(event)) => assert_eq!(&written(&event), right),
                other => panic!("{other:?} where reading in order finds the event"),
            }
        }
        "without effect on any event"
    }

    fn compare(&self, event: &Event) {
        assert_eq!(&written(event), &self.written[event.position() as usize], "a wrong event");
    }

    /// Opens a copy to be written, reads all in both directions and stream by stream, lets it go,
    /// and does it again.
    fn check_thoroughly(&self, change: &Change) {
        let disk = self.disk.crash(Image::Killed);
        let good = &self.files[&change.file];
        let mut bytes = good[..change.len(good.len())].to_vec();
        change.apply(good, 0, &mut bytes);
        disk.set_contents(&change.file, bytes);
        let mut shown = None;
        for _ in 0..2 {
            let store = match options(1 << 20).file_system(disk.clone()).open("store") {
                Ok(store) => store,
                Err(error) => {
                    assert!(is_refusal(&error) && shown.is_none(), "{error}");
                    return;
                }
            };
            let streams = store.streams("").unwrap_or_default();
            let by_stream = streams.iter().map(|info| store.read(&info.stream));
            let reads = [store.read_all(), store.read_all().backwards()].into_iter().chain(by_stream);
            let counts: Vec<usize> = reads
                .map(|read| {
                    let events = read.into_iter().map_while(Result::ok);
                    events.inspect(|event| self.compare(event)).count()
                })
                .collect();
            assert!(shown.is_none_or(|shown: Vec<usize>| shown == counts), "the second open shows something else");
            shown = Some(counts);
            disk.while_dead(|| drop(store));
        }
    }
}

fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::Damaged(_) | Error::UnsupportedFormat { .. } | Error::NotAStore { .. })
}

/// What is done with a store that has a change.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Done {
    Opened,
    Salvaged,
}

/// All cases of one kind of damage, or one in so many.
pub fn run(settings: &Settings, pool: &Pool, damage: Damage, done: Done) {
    let base = match damage {
        Damage::Bits | Damage::Lengths => Base::new(64 << 10, 200),
        Damage::Bytes => Base::new(1 << 20, 3_000),
    };
    let salvaged = (done == Done::Salvaged).then(|| salvage::Expected::of(&base));
    let ways = match damage {
        Damage::Bits => 8,
        Damage::Bytes => 3,
        Damage::Lengths => FILLS.len() as u64,
    };
    let hurt = |path: &Path| damage != Damage::Lengths || path.extension().is_some_and(|end| end == "seg");
    let files: Vec<_> = base.files.iter().filter(|(path, _)| hurt(path)).collect();
    let total: u64 = files.iter().map(|(_, bytes)| bytes.len() as u64 * ways).sum();
    pool.run(total / settings.sample, |n| {
        let number = n * settings.sample + Random(settings.seed ^ n).below(settings.sample);
        let (mut place, way) = (number / ways, number % ways);
        let mut files = files.iter();
        let (path, bytes) = loop {
            let (path, bytes) = files.next().expect("the number is below the sum of all lengths");
            if place < bytes.len() as u64 {
                break (path, bytes);
            }
            place -= bytes.len() as u64;
        };
        let (at, good) = (place as usize, bytes[place as usize]);
        let what = match damage {
            Damage::Bits => What::Set(good ^ 1 << way),
            Damage::Bytes => What::Set([0, 255, Random(number).next() as u8][way as usize]),
            Damage::Lengths => match FILLS[way as usize] {
                What::Noise(_) => What::Noise(number),
                other => other,
            },
        };
        let change = Change { file: path.to_path_buf(), at, what };
        let (base, salvaged) = (&base, salvaged.as_ref());
        Case {
            name: format!("{change:?}"),
            run: Box::new(move || {
                if change.changes_nothing(bytes) {
                    return (1, "no change");
                }
                (
                    1,
                    salvaged.map_or_else(
                        || base.check(&change, n.is_multiple_of(THOROUGH)),
                        |all| all.check(base, &change),
                    ),
                )
            }),
        }
    });
}
