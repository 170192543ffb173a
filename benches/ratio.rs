//! How close Annals comes to the floor: both are measured in turn in one run, on one machine, and
//! the ratio is what counts.
//!
//! ```text
//! cargo bench --bench ratio -- [FILTER …] [--rounds N] [--seconds S] [--events N]
//! ```
//!
//! FILTER is a part of a workload's name, such as `W1` or `durable`. A line has the median of the
//! floor, that of Annals, and the ratio: median, lowest and highest of the rounds. More is better,
//! except for times. The floors are those of `common/floor.rs`.

mod common;

use annals::Durability;
use common::floor::{Alone, Records, Together, Zeroed};
use common::{DataSet, Random, Readers, Run, Sum, Workload, Writer};
use std::cell::OnceCell;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The argument with which this program calls itself to open a store in a process of its own.
const OPEN: &str = "--open-and-tell";
/// Bytes of an event of the workload: type, metadata, data, and a name of 10.
const CONTENT: f64 = 16.0 + 32.0 + 256.0 + 10.0;

struct Bench {
    rounds: usize,
    /// How long one side of a round of appends lasts.
    time: Duration,
    /// In the data set that is read.
    events: u64,
    streams: u64,
    /// Number of zeros that the floor overwrites.
    zeros: u64,
    workload: Workload,
    zeroed: OnceCell<Zeroed>,
    set: OnceCell<DataSet>,
}

struct Append {
    name: &'static str,
    durability: Durability,
    threads: u64,
    streams_each: u64,
    batch: u64,
}

#[rustfmt::skip]
const APPENDS: [Append; 7] = [
    Append { name: "W1 durable, 1 thread, 1 a commit",     durability: Durability::Sync, threads: 1,  streams_each: 1000, batch: 1 },
    Append { name: "W2 durable, 8 threads, 1 a commit",    durability: Durability::Sync, threads: 8,  streams_each: 1,    batch: 1 },
    Append { name: "W2 durable, 32 threads, 1 a commit",   durability: Durability::Sync, threads: 32, streams_each: 1,    batch: 1 },
    Append { name: "W2 durable, 64 threads, 1 a commit",   durability: Durability::Sync, threads: 64, streams_each: 1,    batch: 1 },
    Append { name: "W3 durable, 1 thread, 100 a commit",   durability: Durability::Sync, threads: 1,  streams_each: 1,    batch: 100 },
    Append { name: "W3 durable, 1 thread, 1,000 a commit", durability: Durability::Sync, threads: 1,  streams_each: 1,    batch: 1000 },
    Append { name: "W4 not synced, 1 thread, 1 a commit",  durability: Durability::Os,   threads: 1,  streams_each: 1000, batch: 1 },
];

type Measure = fn(&Bench);

const OTHERS: [(&str, Measure); 6] = [
    ("W5 replay", replay),
    ("W6 whole streams at random", whole_streams),
    ("W6 newest event of a stream, median", newest),
    ("W7 open, closed cleanly", open_clean),
    ("W7 open, after a crash", open_crashed),
    ("W8 disk", disk),
];

fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut filters = Vec::new();
    let mut bench = match common::is_test() {
        false => Bench::new(5, Duration::from_millis(2500), 1_000_000, 1 << 30),
        true => Bench::new(1, Duration::from_millis(20), 10_000, 4 << 20),
    };
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|n| n.parse::<f64>().ok()).expect("a number follows the option");
        match argument.as_str() {
            "--bench" => {}
            "--rounds" => bench.rounds = number().max(1.0) as usize,
            "--seconds" => bench.time = Duration::from_secs_f64(number()),
            "--events" => bench.events = number() as u64,
            OPEN => return open_and_tell(Path::new(&arguments.next().expect("a directory"))),
            _ => filters.push(argument),
        }
    }
    // Streams of 100 events each.
    bench.streams = (bench.events / 100).max(10);
    bench.events = bench.streams * 100;
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str()));

    println!("{:<37} {:>13} {:>13}   ratio", "workload", "floor", "annals");
    for append in APPENDS.iter().filter(|append| wanted(append.name)) {
        append.measure(&bench);
    }
    for (_, measure) in OTHERS.iter().filter(|(name, _)| wanted(name)) {
        measure(&bench);
    }
}

impl Bench {
    fn new(rounds: usize, time: Duration, events: u64, zeros: u64) -> Self {
        let (workload, zeroed, set) = (Workload::new(), OnceCell::new(), OnceCell::new());
        Bench { rounds, time, events, streams: 0, zeros, workload, zeroed, set }
    }

    fn zeroed(&self) -> &Zeroed {
        self.zeroed.get_or_init(|| Zeroed::new(self.zeros))
    }

    fn set(&self) -> &DataSet {
        self.set.get_or_init(|| DataSet::build(&self.workload, self.events, self.streams))
    }

    /// Measures the floor and Annals in turn, so that other load on the machine affects both.
    fn rounds<T>(&self, mut floor: impl FnMut() -> T, mut annals: impl FnMut() -> T) -> Vec<(T, T)> {
        (0..self.rounds).map(|_| (floor(), annals())).collect()
    }
}

// ---- appending ----

/// One side of a round.
struct Side {
    per_second: f64,
    p50: f64,
    p99: f64,
    /// Microseconds of processor time an event, in user mode and in the kernel.
    processor: f64,
}

impl Append {
    fn measure(&self, bench: &Bench) {
        let frame = common::frame(&bench.workload, self.batch);
        let rounds = bench.rounds(|| self.floor(bench, &frame), || self.annals(bench));
        tell(self.name, &rounds, |side| side.per_second, "/s");
        let median_of = |value: fn(&Side) -> f64| medians(&rounds, value);
        let ((p50, annals_p50), (p99, annals_p99)) = (median_of(|side| side.p50), median_of(|side| side.p99));
        let (processor, annals_processor) = median_of(|side| side.processor);
        println!("    p50 of a commit                   {p50:>10.1} µs {annals_p50:>10.1} µs");
        println!("    p99 of a commit                   {p99:>10.1} µs {annals_p99:>10.1} µs");
        println!("    processor time an event           {processor:>10.2} µs {annals_processor:>10.2} µs");
    }

    fn floor(&self, bench: &Bench, frame: &[u8]) -> Side {
        let durable = self.durability == Durability::Sync;
        let zeroed = bench.zeroed();
        let (mut alone, together) = (Alone::new(zeroed, frame, durable), Together::new(zeroed, frame, durable));
        let side = match self.threads {
            1 => self.side(bench, vec![|| alone.commit()]),
            _ => self.side(bench, (0..self.threads).map(|_| || together.commit()).collect()),
        };
        // Unwritten pages must not slow down the other side.
        zeroed.sync();
        side
    }

    fn annals(&self, bench: &Bench) -> Side {
        let dir = common::temp_dir();
        let store = common::open(dir.path(), self.durability);
        let writer = |thread| Writer::new(&store, &bench.workload, thread, self.streams_each, self.batch);
        let mut writers: Vec<Writer<'_>> = (0..self.threads).map(writer).collect();
        // The first commit creates the file.
        writers[0].commit();
        let side = self.side(bench, writers.iter_mut().map(|writer| || writer.commit()).collect());
        store.close().expect("the store closes");
        side
    }

    fn side<C: FnMut() + Send>(&self, bench: &Bench, threads: Vec<C>) -> Side {
        let before = processor_time();
        let run: Run = common::run(threads, bench.time, u64::MAX);
        let processor = processor_time() - before;
        let events = (run.commits * self.batch) as f64;
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        Side {
            per_second: events / run.took.as_secs_f64(),
            p50: micros(run.quantile(0.5)),
            p99: micros(run.quantile(0.99)),
            processor: processor * 1e6 / events,
        }
    }
}

// ---- reading ----

fn replay(bench: &Bench) {
    let readers = Readers::open(bench.set());
    let per_second = |read: &dyn Fn() -> Sum| {
        let started = Instant::now();
        let sum = read();
        let took = started.elapsed().as_secs_f64();
        assert_eq!(sum, bench.set().sum);
        sum.events as f64 / took
    };
    let rounds = bench.rounds(|| per_second(&|| readers.records.scan()), || per_second(&|| readers.replay()));
    tell("W5 replay", &rounds, |&rate| rate, "/s");
}

fn whole_streams(bench: &Bench) {
    let set = bench.set();
    let readers = Readers::open(set);
    let per_second = |read: &dyn Fn(u64, &mut Sum)| {
        let (mut random, mut sum) = (Random::new(1), Sum::default());
        let started = Instant::now();
        (0..set.streams).for_each(|_| read(random.below(set.streams), &mut sum));
        let took = started.elapsed().as_secs_f64();
        assert_eq!(sum.events, set.events);
        sum.events as f64 / took
    };
    let floor = || per_second(&|n, sum| readers.stream_floor(n, sum));
    let rounds = bench.rounds(floor, || per_second(&|n, sum| readers.stream(n, sum)));
    tell("W6 whole streams at random", &rounds, |&rate| rate, "/s");
}

fn newest(bench: &Bench) {
    const READS: u64 = 20_000;
    let streams = bench.set().streams;
    let readers = Readers::open(bench.set());
    let median_micros = |read: &dyn Fn(u64, &mut Sum)| {
        let (mut random, mut sum) = (Random::new(3), Sum::default());
        let reads = (0..READS).map(|_| {
            let n = random.below(streams);
            let started = Instant::now();
            read(n, &mut sum);
            started.elapsed().as_secs_f64() * 1e6
        });
        let median = median(reads.collect());
        assert_eq!(sum.events, READS);
        median
    };
    let floor = || median_micros(&|n, sum| readers.newest_floor(n, sum));
    let rounds = bench.rounds(floor, || median_micros(&|n, sum| readers.newest(n, sum)));
    tell("W6 newest event of a stream, median", &rounds, |&micros| micros, "µs");
}

// ---- opening ----

fn open_clean(bench: &Bench) {
    let store = bench.set().store();
    open("W7 open, closed cleanly", bench, || store.clone());
}

fn open_crashed(bench: &Bench) {
    let set = bench.set();
    // Opening recovers, so each time needs a copy of its own.
    open("W7 open, after a crash", bench, || {
        if set.scratch().exists() {
            std::fs::remove_dir_all(set.scratch()).expect("the last copy can be removed");
        }
        common::copy(&set.crashed(), &set.scratch());
        set.scratch()
    });
}

/// The floor maps everything that was stored again and scans it, in this process.
fn open(name: &str, bench: &Bench, store: impl Fn() -> PathBuf) {
    let scan = || {
        let started = Instant::now();
        assert_eq!(Records::map(&bench.set().records()).scan(), bench.set().sum);
        Opened { open: started.elapsed().as_secs_f64() * 1e3, ready: 0.0, memory: 0.0 }
    };
    let rounds = bench.rounds(scan, || opened(&store(), bench.events));
    tell(name, &rounds, |opened| opened.open, "ms");
    let (_, ready) = medians(&rounds, |opened| opened.ready);
    let (_, memory) = medians(&rounds, |opened| opened.memory);
    println!("    until the newest event of a stream is read   {ready:>10.2} ms");
    println!("    anonymous memory that it added               {memory:>10.2} MiB");
}

/// The output of a process that has opened a store: milliseconds, and MiB.
struct Opened {
    open: f64,
    ready: f64,
    memory: f64,
}

/// Opens a store in a process of its own, which has no memory left from before.
fn opened(store: &Path, events: u64) -> Opened {
    let program = std::env::current_exe().expect("this program's path");
    let output = Command::new(program).arg(OPEN).arg(store).output().expect("this program can be started");
    let told = String::from_utf8_lossy(&output.stdout);
    let numbers: Vec<f64> = told.split_whitespace().filter_map(|number| number.parse().ok()).collect();
    let [open, ready, memory, found] = numbers[..] else {
        panic!("{told}{}", String::from_utf8_lossy(&output.stderr));
    };
    assert_eq!(found as u64, events);
    Opened { open, ready, memory }
}

fn open_and_tell(store: &Path) {
    let memory = anonymous_memory();
    let started = Instant::now();
    let store = common::open(store, Durability::Os);
    let open = started.elapsed();
    let newest = store.read(&common::stream(5)).backwards().limit(1).into_iter().next();
    assert!(newest.is_some_and(|event| event.is_ok()));
    let ready = started.elapsed();
    let memory = anonymous_memory() - memory;
    let millis = |time: Duration| time.as_secs_f64() * 1e3;
    println!("{} {} {} {}", millis(open), millis(ready), memory / 1024.0, store.len());
    store.close().expect("the store closes");
}

// ---- disk ----

fn disk(bench: &Bench) {
    let set = bench.set();
    let each = allocated(&set.store()) / set.events as f64;
    println!("{:<37} {CONTENT:>11.1} B {each:>11.1} B   {:.3}", "W8 disk an event, 1,000 a commit", CONTENT / each);

    let dir = common::temp_dir();
    let store = common::open(dir.path(), Durability::Os);
    let mut writer = Writer::new(&store, &bench.workload, 0, 1000, 1);
    let events = set.events / 10;
    (0..events).for_each(|_| writer.commit());
    store.close().expect("the store closes");
    let each = allocated(dir.path()) / events as f64;
    println!("{:<37} {CONTENT:>11.1} B {each:>11.1} B   {:.3}", "W8 disk an event, 1 a commit", CONTENT / each);
}

/// Returns the bytes that the files of a directory take on the disk.
fn allocated(dir: &Path) -> f64 {
    let entries = std::fs::read_dir(dir).expect("the directory can be listed");
    let sizes = entries.map(|entry| {
        let meta = entry.and_then(|entry| entry.metadata()).expect("the file can be looked at");
        #[cfg(unix)]
        return (std::os::unix::fs::MetadataExt::blocks(&meta) * 512) as f64;
        #[cfg(not(unix))]
        return meta.len() as f64;
    });
    sizes.sum()
}

// ---- figures ----

/// A line with the medians of both sides and the ratio. A shorter time is better, so its ratio is
/// inverted.
fn tell<T>(name: &str, rounds: &[(T, T)], value: impl Fn(&T) -> f64, unit: &str) {
    let time = unit != "/s";
    let mut ratios: Vec<f64> = rounds
        .iter()
        .map(|(floor, annals)| match time {
            true => value(floor) / value(annals),
            false => value(annals) / value(floor),
        })
        .collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let (lowest, highest) = (ratios[0], ratios[ratios.len() - 1]);
    let (floor, annals) = medians(rounds, value);
    let ratio = median(ratios);
    let (floor, annals) = (in_unit(floor, unit), in_unit(annals, unit));
    println!("{name:<37} {floor:>13} {annals:>13}   {ratio:.2} [{lowest:.2} .. {highest:.2}]");
}

fn in_unit(value: f64, unit: &str) -> String {
    match unit {
        "/s" if value >= 1e6 => format!("{:.2} M/s", value / 1e6),
        "/s" => format!("{:.1} k/s", value / 1e3),
        _ => format!("{value:.2} {unit}"),
    }
}

fn medians<T>(rounds: &[(T, T)], value: impl Fn(&T) -> f64) -> (f64, f64) {
    let floor = rounds.iter().map(|(floor, _)| value(floor)).collect();
    let annals = rounds.iter().map(|(_, annals)| value(annals)).collect();
    (median(floor), median(annals))
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Returns the seconds of processor time that this process has used, as Linux reports in
/// hundredths; 0 elsewhere.
fn processor_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The name of the program, in parentheses, may hold spaces.
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    // User and system time are the 14th and 15th field: the 12th and 13th after the name.
    fields.skip(11).take(2).filter_map(|ticks| ticks.parse::<f64>().ok()).sum::<f64>() / 100.0
}

/// KiB of anonymous memory, as Linux reports; 0 elsewhere.
fn anonymous_memory() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(0.0)
}
