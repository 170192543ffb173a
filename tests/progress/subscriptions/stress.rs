//! Many writers, many readers that come, go and come back.

use super::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const WRITERS: u64 = 8;
const READERS: u64 = 20;

/// Numbers that look like nothing.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % end
    }
}

fn query(n: u64) -> Query {
    match n % 5 {
        0 => Query::new(),
        1 => Query::new().domain("b"),
        2 => Query::new().event_type("T1").or().tag("w:3"),
        3 => Query::new().stream(&stream("a-1")),
        _ => Query::new().tag("rare"),
    }
}

fn write(store: &Store, writer: u64, count: u64) {
    let mut random = Random(writer);
    for n in 0..count {
        let name = format!("{}-{}", ["a", "b", "c"][random.below(3) as usize], random.below(3));
        let (event_type, tag) = (format!("T{}", random.below(3)), format!("w:{writer}"));
        let events = (0..1 + random.below(3)).map(|_| {
            let event = NewEvent::new(event_type.clone(), "data").tag(tag.clone());
            if n % 100 == 7 { event.tag("rare") } else { event }
        });
        store.append(&stream(&name), Expected::Any, events).unwrap();
        // Pauses, so that readers catch up and sleep, again and again.
        if random.below(8) == 0 {
            thread::sleep(Duration::from_micros(random.below(400)));
        }
    }
}

/// Reads until `end` says that there is nothing more, in subscriptions that are stopped at random
/// and started again after what was seen. Returns the positions, and how often it caught up and how
/// often it slept and was woken.
fn read(store: &Store, reader: u64, done: &AtomicBool, caught_up: &AtomicU64) -> (u64, Vec<u64>) {
    let mut random = Random(reader ^ 0xABCD);
    thread::sleep(Duration::from_micros(random.below(20_000)));
    let start = random.below(store.len() + 1);
    let mut after = start.checked_sub(1);
    let mut seen = Vec::new();
    loop {
        let mut subscription = store.subscribe(query(reader)).after(after).lag_limit(3);
        let budget = 1 + random.below(40);
        let stop = subscription.stopper();
        for _ in 0..budget {
            let finished = done.load(Ordering::SeqCst);
            match subscription.next_timeout(Duration::from_millis(5)).unwrap() {
                Some(Delivery::Event(event)) => seen.push(event.position()),
                Some(Delivery::CaughtUp(_)) => {
                    caught_up.fetch_add(1, Ordering::Relaxed);
                }
                Some(_) => {}
                None if finished => return (start, seen),
                None => {}
            }
        }
        stop.stop();
        assert!(subscription.next().is_none());
        after = subscription.checkpoint();
    }
}

fn everybody_sees_exactly_its_events(bed: &Bed, commits: u64) -> u64 {
    let store = bed.open();
    let done = AtomicBool::new(false);
    let caught_up = AtomicU64::new(0);
    let results: Vec<_> = thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|reader| {
                let (store, done, caught_up) = (&store, &done, &caught_up);
                scope.spawn(move || read(store, reader, done, caught_up))
            })
            .collect();
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let store = &store;
                scope.spawn(move || write(store, writer, commits))
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::SeqCst);
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    for (reader, (start, seen)) in results.iter().enumerate() {
        let found = store.query(&query(reader as u64)).after(start.checked_sub(1));
        let expected: Vec<u64> = found.into_iter().map(|event| event.unwrap().position()).collect();
        assert_eq!(*seen, expected, "reader {reader} from {start}");
    }
    caught_up.into_inner()
}

/// `ANNALS_STRESS_ROUNDS` for more.
#[test]
fn under_stress() {
    let rounds = std::env::var("ANNALS_STRESS_ROUNDS").map_or(1, |rounds| rounds.parse().unwrap());
    let mut caught_up = 0;
    for _ in 0..rounds {
        caught_up += everybody_sees_exactly_its_events(&Bed::memory(), 1500);
        caught_up += everybody_sees_exactly_its_events(&Bed::memory().tiny(), 1000);
        caught_up += everybody_sees_exactly_its_events(&Bed::directory().maintained(true), 400);
    }
    println!("caught up {caught_up} times");
    assert!(caught_up > 2000 * rounds, "the switch to live was hit {caught_up} times only");
}
