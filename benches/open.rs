//! Opening: after a clean close and after a crash, beside a scan of all that was stored.

mod common;

use annals::Durability;
use common::floor::Records;
use common::{DataSet, Workload};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use std::time::Duration;

fn open(c: &mut Criterion) {
    let (events, streams) = if common::is_test() { (1000, 10) } else { (200_000, 2000) };
    let set = DataSet::build(&Workload::new(), events, streams);
    let mut group = c.benchmark_group("open");
    group.bench_function("floor", |bencher| bencher.iter(|| Records::map(&set.records()).scan()));
    // A store that is returned is dropped, and so closed, outside of the measured time.
    group.bench_function("annals, closed cleanly", |bencher| {
        bencher.iter_batched(|| (), |()| common::open(&set.store(), Durability::Os), BatchSize::PerIteration);
    });
    group.bench_function("annals, after a crash", |bencher| {
        let another = || {
            let copy = common::temp_dir();
            common::copy(&set.crashed(), copy.path());
            copy
        };
        // The directory is removed after the store.
        let open = |copy: tempfile::TempDir| (common::open(copy.path(), Durability::Os), copy);
        bencher.iter_batched(another, open, BatchSize::PerIteration);
    });
    group.finish();
}

fn quick() -> Criterion {
    let (warm_up, measurement) = (Duration::from_millis(200), Duration::from_secs(1));
    Criterion::default().sample_size(10).warm_up_time(warm_up).measurement_time(measurement)
}

criterion_group! { name = benches; config = quick(); targets = open }
criterion_main!(benches);
