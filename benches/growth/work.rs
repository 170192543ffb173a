//! The content of the stores, and what one process does to one of them: it prints a line with a key
//! and a number for each measurement.
//!
//! Events are in streams of equal length, alternately of two kinds: half of the streams exist from
//! the first event to the last, so that their events are *spread* over all segments; of the other
//! half a thousand at a time are written to, until they are full, so that the events of each are
//! *near* one another. Each event has a tag that about 99 others have, anywhere.

use crate::common::{self, Random, Workload};
use annals::{Durability, Expected, Guard, Query, Store, StreamId};
use std::path::Path;
use std::time::{Duration, Instant};

/// Number of streams that are written to at a time, of those whose events are near one another.
const AT_A_TIME: u64 = 1000;
/// Events that have the same tag.
const EVENTS_A_TAG: u64 = 100;
const READS: u64 = 1000;
const APPENDS: u64 = 1000;
const DURABLE_APPENDS: u64 = 300;

#[derive(Clone, Copy)]
pub struct Shape {
    pub events: u64,
    /// Events of a stream.
    pub each: u64,
}

impl Shape {
    /// Streams of each of the two kinds.
    fn streams(self) -> u64 {
        self.events / self.each / 2
    }

    fn spread(self, n: u64) -> StreamId {
        common::stream(2 * n)
    }

    fn near(self, n: u64) -> StreamId {
        common::stream(2 * n + 1)
    }

    /// Stream and sequence of event `n`.
    fn place(self, n: u64) -> (StreamId, u64) {
        let (kind, n) = (n % 2, n / 2);
        if kind == 0 {
            return (self.spread(n % self.streams()), n / self.streams());
        }
        let at_a_time = AT_A_TIME.min(self.streams());
        let (stretch, n) = (n / (at_a_time * self.each), n % (at_a_time * self.each));
        (self.near(stretch * at_a_time + n % at_a_time), n / at_a_time)
    }

    fn tags(self) -> u64 {
        self.events / EVENTS_A_TAG
    }

    /// The tag of event `n`: those of one tag are anywhere in the log.
    fn tag(self, n: u64) -> String {
        format!("customer:{}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % self.tags())
    }
}

/// What to do, where, and the shape.
pub fn run(arguments: &[String]) {
    let [what, store, events, each] = arguments else { panic!("{arguments:?}") };
    let number = |text: &str| text.parse().expect("a number");
    let (store, shape) = (Path::new(store), Shape { events: number(events), each: number(each) });
    match what.as_str() {
        "build" => build(store, shape),
        "read" => read(store, shape),
        "append" => append(store, shape),
        "append durably" => append_durably(store, shape),
        "recover" => recover(store, shape),
        _ => panic!("{what} is no work"),
    }
}

fn tell(key: &str, value: f64) {
    println!("{key} {value}");
}

// ---- building ----

fn build(dir: &Path, shape: Shape) {
    assert!(shape.events.is_multiple_of(2 * AT_A_TIME.min(shape.streams()) * shape.each), "stretches are whole");
    let workload = Workload::new();
    let store = common::open(dir, Durability::Os);
    let mut memory = 0f64;
    for (commit, first) in (0..shape.events).step_by(1000).enumerate() {
        let end = shape.events.min(first + 1000);
        let transaction = (first..end).fold(store.transaction(), |transaction, n| {
            let (stream, sequence) = shape.place(n);
            transaction.append(&stream, Expected::Next(sequence), [workload.event(n).tag(shape.tag(n))])
        });
        transaction.commit().expect("the commit succeeds");
        if commit % 16 == 0 {
            memory = memory.max(mebibytes("RssAnon:"));
        }
    }
    let segments = indexed(&store);
    let newest = segments.last().expect("a segment");
    tell("writer", memory);
    tell("segments", segments.len() as f64);
    tell("MiB on the disk", segments.iter().map(|s| s.bytes + s.index_bytes).sum::<u64>() as f64 / 1024.0 / 1024.0);
    tell("MiB in the newest segment", newest.bytes as f64 / 1024.0 / 1024.0);
    copy(dir, &dir.with_file_name("crashed"));
    store.close().expect("the store closes");
}

/// Waits until all segments but the newest have their index, as they have except for moments after
/// they were filled.
fn indexed(store: &Store) -> Vec<annals::info::SegmentStats> {
    loop {
        let segments = store.stats().expect("the lengths of files").segments;
        let (_, sealed) = segments.split_last().expect("a segment");
        if sealed.iter().all(|segment| segment.index_bytes > 0) {
            return segments;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Another directory with the same store. The files of sealed segments never change, so both have
/// the same. The others are synced, so that no later sync has to.
pub fn copy(from: &Path, to: &Path) {
    if to.exists() {
        std::fs::remove_dir_all(to).expect("the last copy can be removed");
    }
    std::fs::create_dir_all(to).expect("a directory");
    let entries = std::fs::read_dir(from).expect("the directory can be listed");
    let files: Vec<_> = entries.map(|entry| entry.expect("the directory can be listed").path()).collect();
    let newest = files.iter().filter(|path| path.extension().is_some_and(|e| e == "seg")).max().expect("a segment");
    for path in files.iter().filter(|path| path.is_file()) {
        let to = to.join(path.file_name().expect("a name"));
        let sealed =
            path.extension().is_some_and(|e| e == "seg" || e == "idx") && path.file_stem() != newest.file_stem();
        match sealed {
            true => std::fs::hard_link(path, to).expect("the file can be linked"),
            false => {
                std::fs::copy(path, &to).expect("the file can be copied");
                std::fs::File::open(&to).and_then(|file| file.sync_all()).expect("the copy can be synced");
            }
        }
    }
}

// ---- measuring ----

fn read(dir: &Path, shape: Shape) {
    let before = mebibytes("RssAnon:");
    let store = open(dir, "open", Durability::Os, shape);
    tell("opened", mebibytes("RssAnon:") - before);
    // The first read of a page costs the process a fault, so first and second reads are separate.
    if shape.each > 1 {
        for (key, near) in [("near", true), ("near again", true), ("spread", false), ("spread again", false)] {
            let mut random = Random::new(1);
            median(key, READS, || {
                let n = random.below(shape.streams());
                let stream = if near { shape.near(n) } else { shape.spread(n) };
                count(store.read(&stream), shape.each);
            });
        }
    }
    let mut random = Random::new(3);
    for (key, near) in [("newest", false), ("ended", true)] {
        median(key, READS, || {
            let n = random.below(shape.streams());
            let stream = if near { shape.near(n) } else { shape.spread(n) };
            count(store.read(&stream).backwards().limit(1), 1);
        });
    }
    median("tag", READS, || {
        let tag = shape.tag(random.below(shape.events));
        count(store.query(&Query::new().tag(tag)).limit(1), 1);
    });
    // The highest memory of this process, including pages of files, which go when others need them.
    tell("peak", mebibytes("VmHWM:"));
}

fn append(dir: &Path, shape: Shape) {
    let before = mebibytes("RssAnon:");
    let store = common::open(dir, Durability::Os);
    // Reads first, so that what they leave counts.
    let mut random = Random::new(2);
    for _ in 0..READS {
        count(store.read(&common::stream(random.below(2 * shape.streams()))), shape.each);
    }
    appends(&store, shape, ["unchanged", "append", "absent", "idle"], APPENDS);
    tell("used", mebibytes("RssAnon:") - before);
}

fn append_durably(dir: &Path, shape: Shape) {
    let store = common::open(dir, Durability::Sync);
    appends(&store, shape, ["durable unchanged", "durable append", "durable absent", "durable idle"], DURABLE_APPENDS);
}

/// Appends of four kinds in turn, so that other load on the machine affects all of them.
fn appends(store: &Store, shape: Shape, keys: [&str; 4], times: u64) {
    let workload = Workload::new();
    let in_use: Vec<StreamId> = (0..100).map(|n| StreamId::new("busy", n.to_string()).expect("a short name")).collect();
    for stream in &in_use {
        store.append(stream, Expected::Any, [workload.event(0)]).expect("the append succeeds");
    }
    let mut random = Random::new(3);
    let mut took = [const { Vec::new() }; 4];
    for n in 0..times {
        let (busy, idle) = (&in_use[(n % 100) as usize], shape.near(random.below(shape.streams())));
        // The first guard names the present head.
        let unchanged = Guard::unchanged(Query::new().tag(shape.tag(n)), store.head());
        let absent = Guard::absent(Query::new().tag(format!("nobody:{n}")));
        let kinds = [(busy, Some(unchanged)), (busy, None), (busy, Some(absent)), (&idle, None)];
        for (took, (stream, guard)) in took.iter_mut().zip(kinds) {
            let started = Instant::now();
            let transaction = store.transaction().append(stream, Expected::Any, [workload.event(n).tag("customer:7")]);
            let transaction = match guard {
                Some(guard) => transaction.guard(guard),
                None => transaction,
            };
            transaction.commit().expect("the guard holds");
            took.push(started.elapsed().as_secs_f64() * 1e6);
        }
    }
    for (key, took) in keys.iter().zip(took) {
        tell(key, common::median(took).0);
    }
}

fn recover(dir: &Path, shape: Shape) {
    let before = mebibytes("RssAnon:");
    let store = open(dir, "crash open", Durability::Os, shape);
    tell("crash memory", mebibytes("RssAnon:") - before);
    store.close().expect("the store closes");
}

fn open(dir: &Path, key: &str, durability: Durability, shape: Shape) -> Store {
    let started = Instant::now();
    let store = common::open(dir, durability);
    tell(key, started.elapsed().as_secs_f64() * 1e3);
    assert_eq!(store.len(), shape.events);
    store
}

fn count(events: impl IntoIterator<Item = annals::Result<annals::Event>>, expected: u64) {
    let found = events.into_iter().fold(0, |found, event| found + event.map(|_| 1).expect("intact"));
    assert_eq!(found, expected);
}

/// Prints the median in microseconds.
fn median(key: &str, times: u64, mut once: impl FnMut()) {
    let took = (0..times).map(|_| {
        let started = Instant::now();
        once();
        started.elapsed().as_secs_f64() * 1e6
    });
    tell(key, common::median(took.collect()).0);
}

/// A line of what Linux reports of this process's memory, in MiB; 0 elsewhere.
fn mebibytes(name: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|line| line.split_whitespace().next()?.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}
