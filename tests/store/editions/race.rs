//! Appends, deletes and reads of editions at the same time.

use super::*;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Readers see a composite without a gap, and the edition's own events of one life of it. At the
/// end, exactly what was appended and not deleted is left.
#[test]
fn appends_deletes_and_reads() {
    on(vec![Bed::memory(), Bed::memory().tiny(), Bed::directory().tiny()], |bed| {
        let store = bed.open_with(|options| options.durability(annals::Durability::Os));
        begin(&store);
        let (done, deletions) = (AtomicBool::new(false), AtomicU64::new(0));
        let (appended, deleted) = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..3)
                .map(|writer| {
                    let (store, deletions) = (&store, &deletions);
                    scope.spawn(move || {
                        let mut appended = 0u64;
                        // On a busy machine, the deleter may come late.
                        for n in (0..).take_while(|n| *n < 600 || deletions.load(Ordering::Relaxed) < 10) {
                            if n % 20 == 0 {
                                std::thread::sleep(std::time::Duration::from_micros(300));
                            }
                            let expected = if n % 3 == 0 { Expected::Next(n % 6) } else { Expected::Any };
                            let text = format!("{writer} {n}");
                            let name = ["order-1@x", "order-1@y", "bill-2@x"][n as usize % 3];
                            match append(store, name, expected, &[&text]) {
                                Ok(_) => appended += 1,
                                Err(Error::Conflict { .. }) => {}
                                Err(error) => panic!("{error}"),
                            }
                        }
                        appended
                    })
                })
                .collect();
            let deleter = scope.spawn(|| {
                let mut deleted = 0;
                while !done.load(Ordering::Relaxed) {
                    let count = store.editions().delete("x", None).unwrap();
                    let more = store.editions().delete("y", Some("order")).unwrap();
                    deletions.fetch_add(u64::from(count + more > 0), Ordering::Relaxed);
                    deleted += count + more;
                }
                deleted
            });
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        for name in ["order-1@x", "order-1@y", "bill-2@x"] {
                            let events = records(store.read(&stream(name)));
                            assert!(
                                events.iter().enumerate().all(|(n, record)| record.sequence == n as u64),
                                "{name}: a gap"
                            );
                            assert!(events.is_sorted_by(|a, b| a.position < b.position), "{name}: {events:?}");
                            let own = events.iter().position(|record| record.stream.edition().is_some());
                            let own = &events[own.unwrap_or(events.len())..];
                            assert!(
                                own.iter().all(|record| record.stream == stream(name)),
                                "{name}: main behind its own"
                            );
                            let mut backwards = records(store.read(&stream(name)).backwards().limit(3));
                            backwards.reverse();
                            assert!(backwards.is_sorted_by(|a, b| a.sequence + 1 == b.sequence));
                        }
                        found_in_order(&store);
                    }
                });
            }
            let appended: u64 = writers.into_iter().map(|writer| writer.join().unwrap()).sum();
            done.store(true, Ordering::Relaxed);
            (appended, deleter.join().unwrap())
        });
        let left: u64 = store.editions().list().unwrap().iter().map(|info| info.events).sum();
        assert_eq!(deleted + left, appended);
        assert!(deleted > 0, "the deleter never met an event");
        let own = records(store.read_all()).len() as u64 - 5;
        assert_eq!(own, left);
        store.close().unwrap();
        let report = annals::offline::verify_in(bed.fs(), bed.path()).unwrap();
        assert!(report.is_sound(), "{report:?}");
        let store = bed.open();
        assert_eq!(records(store.read_all()).len() as u64 - 5, left);
    });
}

fn found_in_order(store: &Store) {
    let events: Vec<Event> = store.query(&Query::new().edition("x")).into_iter().map(Result::unwrap).collect();
    assert!(events.is_sorted_by(|a, b| a.position() < b.position()));
}
