//! Projections: how fast one catches up, what a save costs, and what inline ones cost an append.
//!
//! `cargo bench --bench projections -- [--rounds N] [--events N]`. Each line has the median of the
//! comparison, that of the projection, and the ratio of the rounds: median, lowest and highest.

mod common;

use annals::projection::PerStream;
use annals::{Durability, Event, Expected, Projection, Query, Result, Store};
use common::{Workload, line};
use std::collections::HashMap;
use std::time::Instant;

struct Bench {
    rounds: usize,
    events: u64,
    appends: u64,
    workload: Workload,
}

fn main() {
    let mut bench = match common::is_test() {
        false => Bench { rounds: 5, events: 1_000_000, appends: 4000, workload: Workload::new() },
        true => Bench { rounds: 1, events: 10_000, appends: 50, workload: Workload::new() },
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|n| n.parse().ok()).expect("a number follows the option");
        match argument.as_str() {
            "--rounds" => bench.rounds = number() as usize,
            "--events" => bench.events = number(),
            _ => {}
        }
    }
    bench.catch_up();
    bench.save();
    bench.inline(Durability::Sync, "durable");
    bench.inline(Durability::Os, "not synced");
}

/// Counts, as cheaply as possible.
struct Count;

impl Projection for Count {
    type State = u64;

    fn name(&self) -> &str {
        "count"
    }
    fn version(&self) -> u32 {
        1
    }
    fn apply(&self, count: &mut u64, _: &Event) -> Result<()> {
        *count += 1;
        Ok(())
    }
}

/// A hash of all data of each stream: an `apply` that takes longer than reading does.
struct Digests;

impl Projection for Digests {
    type State = HashMap<Vec<u8>, u64>;

    fn name(&self) -> &str {
        "digests"
    }
    fn version(&self) -> u32 {
        1
    }
    fn apply(&self, digests: &mut Self::State, event: &Event) -> Result<()> {
        let digest = digests.entry(event.root().to_vec()).or_default();
        let fold = |digest: u64, &byte: &u8| (digest ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3);
        *digest = (0..4).fold(*digest, |digest, _| event.data().iter().fold(digest, fold));
        Ok(())
    }
}

impl PerStream for Digests {
    fn merge(&self, into: &mut Self::State, part: Self::State) {
        into.extend(part);
    }
}

/// A state of this many bytes.
struct Bulk(usize);

impl Projection for Bulk {
    type State = Vec<u64>;

    fn name(&self) -> &str {
        "bulk"
    }
    fn version(&self) -> u32 {
        1
    }
    fn query(&self) -> Query {
        Query::new().stream(&common::stream(1))
    }
    fn apply(&self, bulk: &mut Vec<u64>, event: &Event) -> Result<()> {
        bulk.resize(self.0 / 9, u64::MAX - event.position());
        Ok(())
    }
}

impl Bench {
    fn catch_up(&self) {
        let set = common::DataSet::build(&self.workload, self.events, (self.events / 100).max(1));
        let store = common::open(&set.store(), Durability::Sync);
        let rate = |read: &dyn Fn() -> u64| {
            let begun = Instant::now();
            assert_eq!(read(), self.events);
            self.events as f64 / begun.elapsed().as_secs_f64() / 1e6
        };
        let plain = || store.read_all().into_iter().map(|event: Result<Event>| u64::from(event.is_ok())).sum();
        let counted =
            || rebuilt(&store, "count", || store.projection(Count).catch_up().and_then(|model| model.state()));
        let rounds: Vec<_> = (0..self.rounds).map(|_| (rate(&plain), rate(&counted))).collect();
        line("catching up: plain read, projection that counts", "M/s", &rounds);

        let digests = |threads: usize| {
            rebuilt(&store, "digests", || {
                let model = store.projection(Digests).parallel(threads).catch_up()?;
                Ok(model.position().map_or(0, |position| position + 1))
            })
        };
        let rounds: Vec<_> = (0..self.rounds).map(|_| (rate(&|| digests(1)), rate(&|| digests(2)))).collect();
        line("catching up, 10,000 digests: one thread, two and a reader", "M/s", &rounds);
    }

    /// Compared with the same bytes, written and synced under a new name, and renamed.
    fn save(&self) {
        for (name, bytes) in [("1 KiB", 1 << 10), ("100 KiB", 100 << 10), ("16 MiB", 16 << 20)] {
            let dir = common::temp_dir();
            let store = common::open(dir.path(), Durability::Sync);
            let append = || {
                let events = [self.workload.event(1)];
                store.append(&common::stream(1), Expected::Any, events).expect("the append succeeds");
            };
            append();
            let model = store.projection(Bulk(bytes)).save_every(u64::MAX).catch_up().expect("it catches up");
            let size = store.projections().list().expect("it is listed")[0].state_bytes;
            let contents = vec![7; size as usize];
            let floor = |n: u64| {
                let (new, path) = (dir.path().join("floor.new"), dir.path().join(format!("floor-{}", n % 2)));
                let file = std::fs::File::create(&new).expect("a file");
                std::io::Write::write_all(&mut &file, &contents).expect("room on the disk");
                file.sync_data().expect("it is synced");
                std::fs::rename(&new, &path).expect("it is renamed");
                std::fs::File::open(dir.path()).and_then(|dir| dir.sync_all()).expect("it is synced");
            };
            let rounds: Vec<_> = (0..self.rounds.max(2) * 5)
                .map(|n| {
                    append();
                    model.catch_up().expect("it catches up");
                    (micros(|| floor(n as u64)), micros(|| model.save().expect("it is saved")))
                })
                .collect();
            line(&format!("save of {name}: floor, projection"), "us", &rounds);
        }
    }

    fn inline(&self, durability: Durability, name: &str) {
        let count = if durability == Durability::Sync { self.appends } else { self.appends * 20 };
        let rate = |projections: u32| {
            let dir = common::temp_dir();
            let store = common::open(dir.path(), durability);
            let model = (projections > 0).then(|| store.projection(Count).inline().expect("it is inline"));
            let begun = Instant::now();
            for n in 0..count {
                let stream = common::stream(n % 100);
                store.append(&stream, Expected::Any, [self.workload.event(n)]).expect("the append succeeds");
            }
            let rate = count as f64 / begun.elapsed().as_secs_f64();
            assert!(model.is_none_or(|model| model.state().is_ok_and(|state| state == count)));
            rate / 1000.0
        };
        let rounds: Vec<_> = (0..self.rounds).map(|_| (rate(0), rate(1))).collect();
        line(&format!("appends, {name}: without, with an inline projection"), "k/s", &rounds);
    }
}

/// Without the saved state.
fn rebuilt(store: &Store, name: &str, run: impl Fn() -> Result<u64>) -> u64 {
    store.projections().delete(name, 1).expect("it is deleted");
    run().expect("it catches up")
}

fn micros(f: impl FnOnce()) -> f64 {
    let begun = Instant::now();
    f();
    begun.elapsed().as_secs_f64() * 1e6
}
