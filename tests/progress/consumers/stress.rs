//! Consumers with many threads while others append, stopped and started again at random.

use super::*;
use std::collections::BTreeMap;
use std::sync::atomic::AtomicBool;

const WRITERS: u64 = 3;

/// For each stream, the sequences in the order in which they were done.
type Done = Mutex<BTreeMap<String, Vec<u64>>>;

fn write(store: &Store, writer: u64, count: u64) {
    for n in 0..count {
        let name = format!("{}-{}", ["a", "b"][(n % 2) as usize], (n * 7 + writer) % 13);
        store.append(&stream(&name), Expected::Any, texts(["one", "two"])).unwrap();
        if n % 16 == 0 {
            thread::sleep(Duration::from_micros(writer * 100));
        }
    }
}

/// All events of the domain, however often it takes. Within a life they come in order and without a
/// gap.
fn consume(store: &Store, name: &str, workers: usize, domain: &str, finished: &AtomicBool) -> Done {
    let all = Done::default();
    let mut lives = 0u64;
    loop {
        let last = finished.load(SeqCst);
        lives += 1;
        let (done, failed) = (Done::default(), Mutex::new(std::collections::BTreeSet::new()));
        let consumer = store.consumer(name).query(Query::new().domain(domain)).retry(quick(9)).window(16);
        let consumer = consumer.checkpoint_every(50, Duration::from_millis(3));
        let consumer = if last { consumer.until_caught_up() } else { consumer };
        let control = consumer.control();
        let handler = |event: &Event| {
            // One in eight fails once, half of these by a panic.
            if event.position() % 8 == lives % 8 && failed.lock().unwrap().insert(event.position()) {
                match event.position() % 16 < 8 {
                    true => return Err("once"),
                    false => std::panic::resume_unwind(Box::new("once")),
                }
            }
            done.lock().unwrap().entry(event.stream().to_string()).or_default().push(event.sequence());
            Ok(())
        };
        thread::scope(|scope| {
            if !last {
                let control = control.clone();
                scope.spawn(move || {
                    thread::sleep(Duration::from_millis(3 + lives * 7 % 20));
                    control.pause();
                    thread::sleep(Duration::from_micros(lives * 131 % 900));
                    control.resume();
                    thread::sleep(Duration::from_millis(lives * 5 % 11));
                    control.stop();
                });
            }
            match workers {
                0 => consumer.run(handler),
                n => consumer.workers(n).run(handler),
            }
            .unwrap();
        });
        for (stream, sequences) in done.into_inner().unwrap() {
            let dense = sequences.windows(2).all(|pair| pair[1] == pair[0] + 1);
            assert!(dense, "{name}, {stream}: {sequences:?}");
            all.lock().unwrap().entry(stream).or_default().extend(sequences);
        }
        if last {
            return all;
        }
    }
}

fn everything_is_handled_in_order(bed: &Bed, count: u64) {
    let store = bed.open();
    let finished = AtomicBool::new(false);
    let plans = [("none", 0, "a"), ("two", 2, "a"), ("four", 4, "b"), ("eight", 8, "b")];
    let results: Vec<Done> = thread::scope(|scope| {
        let (store, finished) = (&store, &finished);
        let consumers: Vec<_> = plans
            .map(|(name, workers, domain)| scope.spawn(move || consume(store, name, workers, domain, finished)))
            .into();
        let writers: Vec<_> = (0..WRITERS).map(|n| scope.spawn(move || write(store, n, count))).collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        finished.store(true, SeqCst);
        consumers.into_iter().map(|consumer| consumer.join().unwrap()).collect()
    });
    for ((name, _, domain), done) in plans.into_iter().zip(results) {
        let mut expected: BTreeMap<String, Vec<u64>> = BTreeMap::new();
        for event in store.query(&Query::new().domain(domain)) {
            let event = event.unwrap();
            expected.entry(event.stream().to_string()).or_default().push(event.sequence());
        }
        for (stream, mut sequences) in done.into_inner().unwrap() {
            sequences.sort_unstable();
            sequences.dedup();
            assert_eq!(expected.remove(&stream), Some(sequences), "{name}, {stream}");
        }
        assert!(expected.is_empty(), "{name}");
        assert!(store.consumer(name).dead_letters().unwrap().is_empty());
    }
}

/// `ANNALS_STRESS_ROUNDS` for more.
#[test]
fn under_stress() {
    let rounds = std::env::var("ANNALS_STRESS_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap());
    for _ in 0..rounds {
        everything_is_handled_in_order(&Bed::memory(), 1000);
        everything_is_handled_in_order(&Bed::memory().tiny(), 500);
        everything_is_handled_in_order(&Bed::directory().maintained(true), 150);
    }
}
