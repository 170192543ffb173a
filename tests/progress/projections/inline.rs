//! Inline projections: an appended event is in the state when `append` returns, whoever appends,
//! each event once and in order.

use super::*;
use annals::{Durability, Options, Ticket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

#[test]
fn an_append_returns_when_the_state_has_it() {
    on_all_beds(|bed| {
        let store = filled(bed, 5);
        let all = store.projection(watch()).inline().unwrap();
        let orders = store.projection(Watch { version: 2, ..watch_domain("order") }).inline().unwrap();
        for n in 5..30 {
            let position = append(&store, n);
            assert_eq!((all.position(), orders.position()), (Some(position), Some(position)));
        }
        holds(&store, &all, &Query::new());
        holds(&store, &orders, &Query::new().domain("order"));
    });
}

/// Also if a commit has several streams, is waited for by its ticket, or is a repeat of another
/// one.
#[test]
fn every_way_to_commit() {
    let store = Store::in_memory();
    let model = store.projection(watch()).inline().unwrap();
    let commit = |key: &str| {
        let transaction = store.transaction().append(&stream("a-1"), Expected::Any, texts(["1", "2"]));
        transaction.append(&stream("b-1"), Expected::Any, texts(["3"])).idempotency_key(key)
    };
    let committed = commit("k").commit().unwrap();
    assert_eq!(model.position(), Some(committed.positions.end - 1));
    assert!(commit("k").commit().unwrap().duplicate);
    let tickets: Vec<Ticket> = (0..5).map(|n| commit(&n.to_string()).submit().unwrap()).collect();
    for ticket in tickets {
        let committed = ticket.wait().unwrap();
        assert!(model.position() >= Some(committed.positions.end - 1));
    }
    let tracked = store.transaction().tracking("upstream", 7).commit().unwrap();
    assert_eq!(model.position(), Some(tracked.positions.end - 1), "it steps over what is no event");
    holds(&store, &model, &Query::new());
}

/// Each of many threads finds its own event, and the reader a prefix each time.
#[test]
fn many_threads_append() {
    for durability in [Durability::Sync, Durability::Os] {
        on(vec![Bed::memory(), Bed::directory().tiny()], |bed| {
            let store = bed.open_with(|options: Options| options.durability(durability));
            let model = Arc::new(store.projection(watch()).save_every(50).inline().unwrap());
            let orders = store.projection(Watch { version: 2, ..watch_domain("order") }).inline().unwrap();
            let done = AtomicBool::new(false);
            thread::scope(|scope| {
                let reader = scope.spawn(|| {
                    let mut before = None;
                    while !done.load(Ordering::SeqCst) {
                        let (seen, position) = model.read_at(|seen, position| (seen.clone(), position)).unwrap();
                        assert!(position >= before);
                        assert_eq!(seen, expected(&store, &Query::new(), position));
                        before = position;
                    }
                });
                let writers: Vec<_> = (0..8u64)
                    .map(|writer| {
                        let (store, model, orders) = (&store, &model, &orders);
                        scope.spawn(move || {
                            for n in 0..100 {
                                let data = format!("{writer} {n}");
                                let name = stream(&format!("order-{writer}"));
                                let event = NewEvent::new("T", &data);
                                let position = store.append(&name, Expected::Next(n), [event]).unwrap().positions.start;
                                assert!(model.position() >= Some(position) && orders.position() >= Some(position));
                                let mine = model.read(|seen| seen.streams[&format!("order-{:?}", name.root())].0);
                                assert_eq!(mine.unwrap(), n + 1);
                            }
                        })
                    })
                    .collect();
                writers.into_iter().for_each(|writer| writer.join().unwrap());
                done.store(true, Ordering::SeqCst);
                reader.join().unwrap();
            });
            assert_eq!(model.state().unwrap().count, 800);
            holds(&store, &model, &Query::new());
            holds(&store, &orders, &Query::new().domain("order"));
        });
    }
}

/// A projection that becomes inline while others append misses nothing of theirs.
#[test]
fn registered_while_others_append() {
    let store = Store::in_memory();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let (store, done) = (&store, &done);
        let writers: Vec<_> = (0..4u64)
            .map(|writer| {
                scope.spawn(move || {
                    let mut n = 0;
                    // Bounded: on a slow machine, each added model makes the next one slower.
                    while !done.load(Ordering::SeqCst) && n < 3000 {
                        append(store, writer + n);
                        n += 1;
                        // The store stays small, however slow the others are.
                        thread::sleep(Duration::from_micros(200));
                    }
                })
            })
            .collect();
        for version in 1..12 {
            let model = store.projection(Watch { version, ..watch() }).inline().unwrap();
            let position = append(store, 0);
            assert!(model.position() >= Some(position));
            holds(store, &model, &Query::new());
        }
        done.store(true, Ordering::SeqCst);
        writers.into_iter().for_each(|writer| writer.join().unwrap());
    });
}

/// An `apply` that appends breaks a rule; with one thread, nothing hangs, and nothing is lost.
#[test]
fn an_apply_that_appends() {
    struct Echo(Store);
    impl Projection for Echo {
        type State = Vec<u64>;
        fn name(&self) -> &str {
            "echo"
        }
        fn version(&self) -> u32 {
            1
        }
        fn apply(&self, seen: &mut Vec<u64>, event: &Event) -> Result<()> {
            if event.event_type() == "T" && event.position() < 10 {
                self.0.append(&stream("echo-1"), Expected::Any, [NewEvent::new("Echo", "")])?;
            }
            seen.push(event.position());
            Ok(())
        }
    }
    let store = Store::in_memory();
    let model = store.projection(Echo(store.clone())).inline().unwrap();
    append(&store, 0);
    append(&store, 1);
    model.catch_up().unwrap();
    assert_eq!(model.state().unwrap(), [0, 1, 2, 3]);
}

#[test]
fn a_stopped_one_is_told_nothing() {
    let store = Store::in_memory();
    let model = store.projection(watch()).inline().unwrap();
    append(&store, 0);
    model.stop().unwrap();
    append(&store, 1);
    assert_eq!(store.projections().list().unwrap()[0].position, Some(0));
}

#[cfg(feature = "async")]
#[test]
fn awaited_commits() {
    let store = Store::in_memory();
    let model = store.projection(watch()).inline().unwrap();
    let ticket = store.transaction().append(&stream("a-1"), Expected::Any, texts(["1"])).submit().unwrap();
    let committed = futures_executor::block_on(ticket).unwrap();
    assert_eq!(model.position(), Some(committed.positions.start));
}
