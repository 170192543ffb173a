//! Handler positions: put, put and flush, get, and reading the file on first use.

mod common;

use annals::{Durability, Store, StreamId};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;

fn streams(count: u64) -> Vec<StreamId> {
    (0..count).map(common::stream).collect()
}

fn put_all(store: &Store, streams: &[StreamId]) {
    let positions = store.positions();
    for stream in streams {
        positions.put("projector", stream, 1).expect("memory");
    }
    positions.flush().expect("the disk has room");
}

fn positions(c: &mut Criterion) {
    let streams = streams(if common::is_test() { 1000 } else { 100_000 });
    let dir = common::temp_dir();
    let store = common::open(dir.path(), Durability::Sync);
    put_all(&store, &streams);
    let positions = store.positions();
    let mut group = c.benchmark_group("positions");
    let mut n = 1;
    let mut next = || {
        n += 1;
        (&streams[n % streams.len()], n as u64)
    };
    group.bench_function("put", |bencher| {
        bencher.iter(|| {
            let (stream, sequence) = next();
            positions.put("projector", stream, sequence).expect("memory")
        });
    });
    group.bench_function("get", |bencher| {
        bencher.iter(|| positions.get("projector", black_box(next().0)).expect("memory"));
    });
    positions.flush().expect("the disk has room");
    group.bench_function("put and flush", |bencher| {
        bencher.iter(|| {
            let (stream, sequence) = next();
            positions.put("projector", stream, sequence).expect("memory");
            positions.flush().expect("the disk has room");
        });
    });
    group.bench_function("put and flush 1,000", |bencher| {
        bencher.iter(|| {
            for _ in 0..1000 {
                let (stream, sequence) = next();
                positions.put("projector", stream, sequence).expect("memory");
            }
            positions.flush().expect("the disk has room");
        });
    });
    drop(positions);
    store.close().expect("the disk has room");
    group.bench_function("load 100,000", |bencher| {
        let open = || common::open(dir.path(), Durability::Sync);
        let first_get = |store: Store| {
            store.positions().get("projector", &streams[0]).expect("it can be read");
            store
        };
        bencher.iter_batched(open, first_get, BatchSize::PerIteration);
    });
    group.finish();
}

fn quick() -> Criterion {
    let (warm_up, measurement) = (Duration::from_millis(200), Duration::from_secs(1));
    Criterion::default().sample_size(10).warm_up_time(warm_up).measurement_time(measurement)
}

criterion_group! { name = benches; config = quick(); targets = positions }
criterion_main!(benches);
