//! Reading: the whole store in order, whole streams, and the newest event of a stream; each beside
//! its floor.

mod common;

use common::{DataSet, Random, Readers, Sum, Workload};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::time::Duration;

fn read(c: &mut Criterion) {
    let (events, streams) = if common::is_test() { (1000, 10) } else { (200_000, 2000) };
    let set = DataSet::build(&Workload::new(), events, streams);
    let readers = Readers::open(&set);

    let mut group = c.benchmark_group("replay");
    group.throughput(Throughput::Elements(events));
    group.bench_function("floor", |bencher| bencher.iter(|| readers.records.scan()));
    group.bench_function("annals", |bencher| bencher.iter(|| readers.replay()));
    group.finish();

    let (mut random, mut sum) = (Random::new(1), Sum::default());
    let mut any = || random.below(streams);
    let mut group = c.benchmark_group("stream of 100");
    group.throughput(Throughput::Elements(events / streams));
    group.bench_function("floor", |bencher| bencher.iter(|| readers.stream_floor(any(), &mut sum)));
    group.bench_function("annals", |bencher| bencher.iter(|| readers.stream(any(), &mut sum)));
    group.finish();

    let mut group = c.benchmark_group("newest event of a stream");
    group.throughput(Throughput::Elements(1));
    group.bench_function("floor", |bencher| bencher.iter(|| readers.newest_floor(any(), &mut sum)));
    group.bench_function("annals", |bencher| bencher.iter(|| readers.newest(any(), &mut sum)));
    group.finish();
    // So that the compiler can leave nothing of it out.
    std::hint::black_box(sum);
}

fn quick() -> Criterion {
    let (warm_up, measurement) = (Duration::from_millis(200), Duration::from_secs(1));
    Criterion::default().sample_size(10).warm_up_time(warm_up).measurement_time(measurement)
}

criterion_group! { name = benches; config = quick(); targets = read }
criterion_main!(benches);
