//! Appending: from 1, 2, 8 and 32 threads, with 1, 100 and 1,000 events a commit, durable and not;
//! each beside its floor.

mod common;

use annals::Durability;
use common::floor::{Alone, Together, Zeroed};
use common::{Workload, Writer};
use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main};
use std::time::Duration;

const THREADS: [u64; 4] = [1, 2, 8, 32];
const BATCHES: [u64; 3] = [1, 100, 1000];

fn append(c: &mut Criterion) {
    let workload = Workload::new();
    let zeroed = Zeroed::new(if common::is_test() { 1 << 20 } else { 512 << 20 });
    for (durability, name) in [(Durability::Sync, "append durable"), (Durability::Os, "append not synced")] {
        let mut group = c.benchmark_group(name);
        group.sampling_mode(SamplingMode::Flat);
        for batch in BATCHES {
            group.throughput(Throughput::Elements(batch));
            for threads in THREADS {
                bench(&mut group, &workload, &zeroed, durability, batch, threads);
            }
        }
    }
}

fn bench(
    group: &mut BenchmarkGroup<'_, WallTime>,
    workload: &Workload,
    zeroed: &Zeroed,
    durability: Durability,
    batch: u64,
    threads: u64,
) {
    let plural = if threads == 1 { "" } else { "s" };
    let case = format!("{threads} thread{plural}, {batch} a commit");
    let durable = durability == Durability::Sync;

    let frame = common::frame(workload, batch);
    let (mut alone, together) = (Alone::new(zeroed, &frame, durable), Together::new(zeroed, &frame, durable));
    group.bench_function(BenchmarkId::new("floor", &case), |bencher| {
        bencher.iter_custom(|iterations| match threads {
            1 => took(vec![|| alone.commit()], iterations),
            _ => took((0..threads).map(|_| || together.commit()).collect(), iterations),
        });
    });
    // The floor's unwritten pages must not slow down the next measurement.
    zeroed.sync();

    let dir = common::temp_dir();
    let store = common::open(dir.path(), durability);
    let streams = if threads == 1 { 1000 } else { 1 };
    let mut writers: Vec<_> = (0..threads).map(|n| Writer::new(&store, workload, n, streams, batch)).collect();
    group.bench_function(BenchmarkId::new("annals", &case), |bencher| {
        bencher
            .iter_custom(|iterations| took(writers.iter_mut().map(|writer| || writer.commit()).collect(), iterations));
    });
}

/// The time of this many commits, shared among threads.
fn took<C: FnMut() + Send>(threads: Vec<C>, commits: u64) -> Duration {
    common::run(threads, Duration::MAX, commits).took
}

fn quick() -> Criterion {
    let (warm_up, measurement) = (Duration::from_millis(200), Duration::from_millis(800));
    Criterion::default().sample_size(10).warm_up_time(warm_up).measurement_time(measurement)
}

criterion_group! { name = benches; config = quick(); targets = append }
criterion_main!(benches);
