//! The common workload of all benches, and the floors in [`floor`].
//!
//! The events: 256 bytes of data that look like JSON, 32 of metadata, a type of 16, in streams
//! `order-<n>`.

#![allow(dead_code, reason = "every bench uses a part of this")]

pub mod floor;

use annals::{Durability, Event, Expected, NewEvent, Options, Read, Store, StreamId};
use floor::Records;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const TYPES: [&str; 4] = ["OrderLineAdded__", "OrderLineRemoved", "OrderConfirmed__", "OrderShipped____"];
pub const METADATA: &[u8; 32] = b"{\"cid\":\"0123456789abcdef\",\"u\":7}";
const DATA_BYTES: usize = 256;

/// Whether this only tests that the benches still run (`cargo test --benches`), without figures.
pub fn is_test() -> bool {
    !std::env::args().any(|argument| argument == "--bench")
}

/// A directory beside the build's output: on a disk, as the system's temporary directory may be in
/// memory.
pub fn temp_dir() -> TempDir {
    tempfile::Builder::new().prefix("annals-bench-").tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

pub fn open(dir: &Path, durability: Durability) -> Store {
    Options::new().durability(durability).open(dir).expect("the store opens")
}

pub fn stream(n: u64) -> StreamId {
    StreamId::new("order", n.to_string()).expect("a short name")
}

/// Pseudorandom numbers, the same in every run (xorshift64*).
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) % n
    }
}

/// The events, made in advance, so that making them is not measured.
pub struct Workload {
    data: Vec<Vec<u8>>,
}

impl Workload {
    pub fn new() -> Self {
        let mut random = Random::new(42);
        let data = (0..1024).map(|_| data(&mut random)).collect();
        Workload { data }
    }

    /// Type and data of event `n`.
    pub fn parts(&self, n: u64) -> (&'static str, &[u8]) {
        let spread = n.wrapping_mul(2_654_435_761) as usize % self.data.len();
        (TYPES[n as usize % TYPES.len()], &self.data[spread])
    }

    pub fn event(&self, n: u64) -> NewEvent<'_> {
        let (event_type, data) = self.parts(n);
        NewEvent::new(event_type, data).metadata(&METADATA[..])
    }
}

fn data(random: &mut Random) -> Vec<u8> {
    let mut text =
        format!("{{\"sku\":\"{:08x}\",\"quantity\":{},\"note\":\"", random.below(1 << 32), random.below(100));
    while text.len() < DATA_BYTES - 2 {
        text.push(char::from_digit(random.below(16) as u32, 16).expect("a digit"));
    }
    text.push_str("\"}");
    text.into_bytes()
}

/// A digest of the events that were read. Adding up the words ensures that each byte was read.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Sum {
    pub events: u64,
    pub words: u64,
}

impl Sum {
    #[inline]
    pub fn add(&mut self, event_type: &[u8], metadata: &[u8], data: &[u8]) {
        self.events += 1;
        for bytes in [event_type, metadata, data] {
            self.words = self.words.wrapping_add(sum_of_words(bytes));
        }
    }

    #[inline]
    pub fn add_event(&mut self, event: &Event) {
        self.add(event.event_type().as_bytes(), event.metadata(), event.data());
    }
}

#[inline]
fn sum_of_words(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    let sum = words.iter().fold(0u64, |sum, &word| sum.wrapping_add(u64::from_le_bytes(word)));
    rest.iter().fold(sum, |sum, &byte| sum.wrapping_add(u64::from(byte)))
}

/// A thread's appends: commits of `batch` events each, to its own streams in turn, each expecting
/// exactly what the thread has stored there.
pub struct Writer<'a> {
    store: &'a Store,
    workload: &'a Workload,
    streams: Vec<StreamId>,
    batch: u64,
    commits: u64,
}

impl<'a> Writer<'a> {
    /// Thread number `thread`, of those that have as many streams each.
    pub fn new(store: &'a Store, workload: &'a Workload, thread: u64, streams: u64, batch: u64) -> Self {
        let streams = (thread * streams..(thread + 1) * streams).map(stream).collect();
        Writer { store, workload, streams, batch, commits: 0 }
    }

    pub fn commit(&mut self) {
        let streams = self.streams.len() as u64;
        let stream = &self.streams[(self.commits % streams) as usize];
        let stored = self.commits / streams * self.batch;
        let first = self.commits * self.batch;
        let events = (first..first + self.batch).map(|n| self.workload.event(n));
        self.store.append(stream, Expected::Next(stored), events).expect("the append succeeds");
        self.commits += 1;
    }
}

/// Returns the bytes that one commit of `batch` events takes in the log, read from a log.
pub fn frame(workload: &Workload, batch: u64) -> Vec<u8> {
    let dir = temp_dir();
    let store = open(dir.path(), Durability::Os);
    let end = || store.stats().expect("the length of a file").segments[0].bytes as usize;
    let mut writer = Writer::new(&store, workload, 0, 1, batch);
    // The sequences of a longer stream would need no more bytes.
    (0..20).for_each(|_| writer.commit());
    let start = end();
    writer.commit();
    let frame = start..end();
    let path = store.stats().expect("the length of a file").segments[0].path.clone();
    std::fs::read(path).expect("the segment can be read")[frame].to_vec()
}

/// The result of some threads.
pub struct Run {
    pub commits: u64,
    pub took: Duration,
    /// The time of each commit, sorted.
    pub latencies: Vec<Duration>,
}

impl Run {
    pub fn quantile(&self, quantile: f64) -> Duration {
        let last = self.latencies.len().saturating_sub(1) as f64;
        self.latencies.get((last * quantile).round() as usize).copied().unwrap_or_default()
    }
}

/// Runs each of these over and over on a thread of its own: until the time is over, or `most`
/// times, all together.
pub fn run<C: FnMut() + Send>(threads: Vec<C>, time: Duration, most: u64) -> Run {
    let count = threads.len() as u64;
    let barrier = &Barrier::new(threads.len());
    let done: Vec<_> = std::thread::scope(|scope| {
        let started = (0..count).zip(threads).map(|(n, commit)| {
            let share = most / count + u64::from(n < most % count);
            scope.spawn(move || repeat(commit, barrier, time, share))
        });
        let handles: Vec<_> = started.collect();
        handles.into_iter().map(|handle| handle.join().expect("no thread panics")).collect()
    });
    let took = done.iter().map(|&(took, _)| took).max().unwrap_or_default();
    let mut latencies: Vec<Duration> = done.into_iter().flat_map(|(_, latencies)| latencies).collect();
    latencies.sort_unstable();
    Run { commits: latencies.len() as u64, took, latencies }
}

/// One thread of a run: its total time, and each time.
fn repeat(mut commit: impl FnMut(), barrier: &Barrier, time: Duration, most: u64) -> (Duration, Vec<Duration>) {
    let mut latencies = Vec::new();
    barrier.wait();
    let started = Instant::now();
    let mut before = started;
    while (latencies.len() as u64) < most && before - started < time {
        commit();
        let now = Instant::now();
        latencies.push(now - before);
        before = now;
    }
    (before - started, latencies)
}

/// Events to read, as a store and as the floor's file.
pub struct DataSet {
    dir: TempDir,
    pub events: u64,
    pub streams: u64,
    /// Of all events.
    pub sum: Sum,
    /// Bytes of the log an event.
    pub bytes_each: u64,
}

impl DataSet {
    /// `events` in turn to this many streams, 1,000 a commit. The store is copied before it is
    /// closed: that is what a crash leaves.
    pub fn build(workload: &Workload, events: u64, streams: u64) -> Self {
        let dir = temp_dir();
        let store = open(&dir.path().join("store"), Durability::Os);
        let names: Vec<StreamId> = (0..streams).map(stream).collect();
        let mut sum = Sum::default();
        let mut first = 0;
        while first < events {
            let end = events.min(first + 1000);
            let mut transaction = store.transaction();
            for n in first..end {
                let (event_type, data) = workload.parts(n);
                sum.add(event_type.as_bytes(), METADATA, data);
                transaction = transaction.append(
                    &names[(n % streams) as usize],
                    Expected::Next(n / streams),
                    [workload.event(n)],
                );
            }
            transaction.commit().expect("the commit succeeds");
            first = end;
        }
        let bytes: u64 =
            store.stats().expect("the lengths of files").segments.iter().map(|segment| segment.bytes).sum();
        copy(store.path(), &dir.path().join("crashed"));
        store.close().expect("the store closes");
        let set = DataSet { dir, events, streams, sum, bytes_each: bytes / events };
        floor::write_records(&set, workload);
        set
    }

    /// A store that was closed cleanly.
    pub fn store(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    /// The same store, as a crash would have left it.
    pub fn crashed(&self) -> PathBuf {
        self.dir.path().join("crashed")
    }

    /// The floor's file with the same events.
    pub fn records(&self) -> PathBuf {
        self.dir.path().join("records")
    }

    /// Returns a directory for another copy.
    pub fn scratch(&self) -> PathBuf {
        self.dir.path().join("scratch")
    }
}

/// Copies the files of a directory.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("the directory can be listed") {
        let entry = entry.expect("the directory can be listed");
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            let copy = to.join(entry.file_name());
            std::fs::copy(entry.path(), &copy).expect("the file can be copied");
            // Opening syncs what it writes again, and must not pay for the copy.
            std::fs::File::open(copy).and_then(|file| file.sync_all()).expect("the copy can be synced");
        }
    }
}

/// Both sides of a data set, open, and the names of its streams.
pub struct Readers {
    pub records: Records,
    pub store: Store,
    names: Vec<String>,
    ids: Vec<StreamId>,
}

impl Readers {
    pub fn open(set: &DataSet) -> Self {
        let ids: Vec<StreamId> = (0..set.streams).map(stream).collect();
        let names = ids.iter().map(StreamId::to_string).collect();
        let readers =
            Readers { records: Records::open(&set.records()), store: open(&set.store(), Durability::Os), names, ids };
        // Once before measuring: so both sides are checked, and their maps exist.
        assert_eq!((readers.records.scan(), readers.replay()), (set.sum, set.sum));
        readers
    }

    /// Reads the whole store.
    pub fn replay(&self) -> Sum {
        let mut sum = Sum::default();
        add_all(self.store.read_all(), &mut sum);
        sum
    }

    /// Reads a stream, on both sides.
    pub fn stream_floor(&self, n: u64, sum: &mut Sum) {
        self.records.stream(&self.names[n as usize], sum);
    }

    pub fn stream(&self, n: u64, sum: &mut Sum) {
        add_all(self.store.read(&self.ids[n as usize]), sum);
    }

    /// Reads the newest event of a stream, on both sides.
    pub fn newest_floor(&self, n: u64, sum: &mut Sum) {
        self.records.newest(&self.names[n as usize], sum);
    }

    pub fn newest(&self, n: u64, sum: &mut Sum) {
        for event in self.store.read(&self.ids[n as usize]).backwards().limit(1) {
            sum.add_event(&event.expect("the event can be read"));
        }
    }
}

fn add_all(read: Read, sum: &mut Sum) {
    let mut events = read.into_iter();
    while let Some(event) = events.advance().expect("the event can be read") {
        sum.add_event(event);
    }
}

/// Returns the median, the lowest and the highest.
pub fn median(mut values: Vec<f64>) -> (f64, f64, f64) {
    values.sort_by(f64::total_cmp);
    (values[values.len() / 2], values[0], values[values.len() - 1])
}

/// Prints what was compared: the medians of both sides, and the ratio of the rounds.
pub fn line(name: &str, unit: &str, rounds: &[(f64, f64)]) {
    let of = |n: fn(&(f64, f64)) -> f64| median(rounds.iter().map(n).collect());
    let (ratio, low, high) = of(|(base, annals)| annals / base);
    let (base, annals) = (of(|round| round.0).0, of(|round| round.1).0);
    let ratio = if base > 0.0 { format!("{ratio:.2} [{low:.2}..{high:.2}]") } else { "-".to_owned() };
    println!("{name:<62} {base:>11.2} {annals:>11.2} {unit:<9} {ratio}");
}
