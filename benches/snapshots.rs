//! Snapshots: putting and finding one, small and large, against its floor, a file that is written
//! or read as it is; and loading an aggregate of 10,000 events with and without one.

mod common;

use annals::{Durability, Event, Expected, Options, Store, StreamId};
use common::Workload;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::fs;
use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

fn build(dir: &Path, events: u64) -> StreamId {
    let store = common::open(dir, Durability::Os);
    let (stream, workload) = (common::stream(1), Workload::new());
    for first in (0..events).step_by(100) {
        let batch = (first..events.min(first + 100)).map(|n| workload.event(n));
        store.append(&stream, Expected::Any, batch).expect("room on the disk");
    }
    store.close().expect("a store that can be closed");
    stream
}

fn open(dir: &Path, sync: bool) -> Store {
    Options::new().sync_snapshots(sync).open(dir).expect("a store")
}

fn put_and_find(c: &mut Criterion, dir: &Path, stream: &StreamId) {
    for (name, bytes) in [("1 KiB", 1 << 10), ("100 KiB", 100 << 10), ("16 MiB", 16 << 20)] {
        let state: Vec<u8> = (0..bytes).map(|n| (n * 31 % 251) as u8).collect();
        let floor = |n: u64| dir.join(format!("floor-{n}"));
        let mut group = c.benchmark_group(format!("put of {name}"));
        group.throughput(Throughput::Bytes(bytes as u64));
        fs::write(floor(0), &state).expect("room on the disk");
        let (new, mut n) = (dir.join("floor.new"), 0);
        // As a put does: a new file, and the one before the last is removed. (Replacing a file is
        // slower: some file systems flush the new one then.)
        group.bench_function("floor", |bencher| {
            bencher.iter(|| {
                n += 1;
                fs::write(&new, &state).expect("room on the disk");
                fs::rename(&new, floor(n)).expect("a file");
                let removed = n > 2 && fs::remove_file(floor(n - 2)).is_ok();
                black_box(removed);
            });
        });
        for (name, sync) in [("annals", false), ("annals, synced", true)] {
            let store = open(dir, sync);
            let mut sequence = 0;
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    sequence = (sequence + 1) % 900;
                    store.snapshots().put_bytes(stream, sequence, &state).expect("room on the disk");
                });
            });
            store.snapshots().delete(stream).expect("they can be deleted");
        }
        group.finish();

        let store = open(dir, false);
        store.snapshots().put_bytes(stream, 900, &state).expect("room on the disk");
        let mut group = c.benchmark_group(format!("find of {name}"));
        group.throughput(Throughput::Bytes(bytes as u64));
        group.bench_function("floor", |bencher| bencher.iter(|| black_box(fs::read(floor(0)).expect("a file").len())));
        group.bench_function("annals", |bencher| {
            bencher.iter(|| {
                let found = store.snapshots().latest(stream).expect("intact");
                black_box(found.expect("it is there").bytes().len())
            });
        });
        group.finish();
        store.snapshots().delete(stream).expect("they can be deleted");
    }
}

/// A plausible state of an aggregate.
#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Order {
    events: u64,
    bytes: u64,
    kinds: std::collections::BTreeMap<String, u64>,
}

fn apply(order: &mut Order, event: &Event) -> annals::Result<()> {
    order.events += 1;
    order.bytes += event.data().len() as u64;
    match order.kinds.get_mut(event.event_type()) {
        Some(count) => *count += 1,
        None => drop(order.kinds.insert(event.event_type().to_owned(), 1)),
    }
    Ok(())
}

fn load(c: &mut Criterion, dir: &Path, stream: &StreamId, events: u64) {
    let store = open(dir, false);
    let run = || {
        let loaded = store.load(stream).fold(Order::default(), apply).expect("intact");
        assert_eq!(loaded.state.events, events);
        loaded.replayed
    };
    let mut group = c.benchmark_group(format!("load of {events} events"));
    group.bench_function("without a snapshot", |bencher| bencher.iter(run));
    for behind in [0, 100] {
        let at = events - 1 - behind;
        let loaded = store.load(stream).at(at).fold(Order::default(), apply).expect("intact");
        store.snapshots().put(stream, at, &loaded.state).expect("room on the disk");
        group.bench_function(format!("snapshot, {behind} events behind it"), |bencher| bencher.iter(run));
        store.snapshots().delete(stream).expect("they can be deleted");
    }
    group.finish();
}

fn snapshots(c: &mut Criterion) {
    let events = if common::is_test() { 1000 } else { 10_000 };
    let dir = common::temp_dir();
    let stream = build(dir.path(), events);
    put_and_find(c, dir.path(), &stream);
    load(c, dir.path(), &stream, events);
}

fn quick() -> Criterion {
    let (warm_up, measurement) = (Duration::from_millis(200), Duration::from_secs(1));
    Criterion::default().sample_size(10).warm_up_time(warm_up).measurement_time(measurement)
}

criterion_group! { name = benches; config = quick(); targets = snapshots }
criterion_main!(benches);
