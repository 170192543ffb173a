//! Finding events by type and by tag, guards, discovery, and opening with indexes. The floor of a
//! query is one read of an event at a known location: `Read` of one event of a stream.

mod common;

use annals::{Durability, Expected, Guard, NewEvent, Options, Query, Store, StreamId};
use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::time::Duration;

const TYPES: u64 = 50;
const TAGS: u64 = 10_000;

/// Events distributed over streams, types and tags by multiplication, so that none of them comes at
/// regular distances.
fn build(dir: &std::path::Path, events: u64) {
    let store = Options::new().durability(Durability::Os).open(dir).expect("a new store");
    let (data, metadata) = ([b'd'; 256], [b'm'; 32]);
    let types: Vec<String> = (0..TYPES).map(type_name).collect();
    for first in (0..events).step_by(1000) {
        let transaction = (first..events.min(first + 1000)).fold(store.transaction(), |transaction, n| {
            let stream = StreamId::new("order", (n % 10_000).to_string()).expect("a good name");
            let event = NewEvent::new(&*types[(n.wrapping_mul(2_654_435_761) % TYPES) as usize], &data);
            let event = event.metadata(&metadata[..]).tag(tag_name(n.wrapping_mul(0x9E37_79B9_7F4A_7C15)));
            transaction.append(&stream, Expected::Any, [event])
        });
        transaction.commit().expect("room on the disk");
    }
    store.close().expect("a store that can be closed");
}

fn type_name(n: u64) -> String {
    format!("OrderLineAdded{n:02}")
}

fn tag_name(n: u64) -> String {
    format!("customer:{}", n % TAGS)
}

fn query(c: &mut Criterion) {
    let events = if common::is_test() { 2000 } else { 1_000_000 };
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a folder beside the build");
    build(dir.path(), events);
    let mut group = c.benchmark_group("open");
    group.bench_function("and close again", |bencher| {
        bencher.iter(|| Store::open(dir.path()).expect("a store").len());
    });
    group.finish();

    let store = Store::open(dir.path()).expect("a store");
    let mut n = 0u64;
    let mut next = move || {
        n = n.wrapping_add(7919);
        n
    };
    let first =
        |query: &Query| store.query(query).limit(1).into_iter().next().map(|event| event.expect("intact").position());
    let newest = |query: &Query| {
        store.query(query).backwards().limit(1).into_iter().next().map(|event| event.expect("intact").position())
    };
    let one = StreamId::new("order", "5").expect("a good name");

    let mut group = c.benchmark_group("find");
    group.bench_function("floor: one event of a stream", |bencher| {
        bencher.iter(|| store.read(&one).limit(1).into_iter().next().map(|event| event.expect("intact").position()));
    });
    group.bench_function("first of a type", |bencher| {
        bencher.iter(|| first(&Query::new().event_type(type_name(next() % TYPES))))
    });
    group.bench_function("newest of a type", |bencher| {
        bencher.iter(|| newest(&Query::new().event_type(type_name(next() % TYPES))))
    });
    group.bench_function("first of a tag", |bencher| bencher.iter(|| first(&Query::new().tag(tag_name(next())))));
    group.bench_function("newest of a tag", |bencher| bencher.iter(|| newest(&Query::new().tag(tag_name(next())))));
    group.bench_function("no event of a tag", |bencher| bencher.iter(|| first(&Query::new().tag("nobody"))));
    group.bench_function("all of a tag", |bencher| {
        bencher.iter(|| store.query(&Query::new().tag(tag_name(next()))).into_iter().count());
    });
    group.bench_function("all of a type and a tag", |bencher| {
        bencher.iter(|| {
            let n = next();
            store.query(&Query::new().event_type(type_name(n % TYPES)).tag(tag_name(n))).into_iter().count()
        });
    });
    group.bench_function("event types", |bencher| bencher.iter(|| store.event_types().expect("intact").len()));
    group.finish();

    let guarded = StreamId::new("guarded", "1").expect("a good name");
    let append = |guards: &[Guard]| {
        let transaction = store.transaction().append(&guarded, Expected::Any, [NewEvent::new("Guarded", "")]);
        guards
            .iter()
            .fold(transaction, |transaction, guard| transaction.guard(guard.clone()))
            .commit()
            .expect("it holds")
    };
    let mut group = c.benchmark_group("append, durable");
    group.bench_function("floor: no guard", |bencher| bencher.iter(|| append(&[])));
    group.bench_function("a tag is absent", |bencher| {
        bencher.iter(|| append(&[Guard::absent(Query::new().tag("nobody"))]))
    });
    group.bench_function("a tag is unchanged", |bencher| {
        bencher.iter(|| append(&[Guard::unchanged(Query::new().tag(tag_name(next())), store.head())]));
    });
    group.finish();
    black_box(store.len());
}

fn quick() -> Criterion {
    let (warm_up, measurement) = (Duration::from_millis(200), Duration::from_secs(1));
    Criterion::default().sample_size(10).warm_up_time(warm_up).measurement_time(measurement)
}

criterion_group! { name = benches; config = quick(); targets = query }
criterion_main!(benches);
