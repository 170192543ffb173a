//! Concurrent writers.

use super::verbs::{Must, append, dense, everything, part, read, texts, texts_of, try_append};
use super::{BackendError, EventStore, Reading};
use annals::Expected;
use std::sync::Barrier;
use std::thread;

const WRITERS: usize = 4;
const ROUNDS: u64 = 20;

/// Runs it in several threads, with their numbers, and returns their results.
fn together<T: Send>(work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let barrier = Barrier::new(WRITERS);
    thread::scope(|scope| {
        let begin = |n| {
            let (barrier, work) = (&barrier, &work);
            scope.spawn(move || {
                barrier.wait();
                work(n)
            })
        };
        let threads: Vec<_> = (0..WRITERS).map(begin).collect();
        threads.into_iter().map(|thread| thread.join().expect("a writer must not panic")).collect()
    })
}

/// Of several writers that expect the same sequence exactly one succeeds, and the others get a
/// conflict.
pub fn of_those_who_expect_the_same_one_wins<B: EventStore>(store: &B) {
    for round in 0..ROUNDS {
        let won = together(|n| match try_append(store, "order-1", Expected::Next(round), &[&format!("{round} {n}")]) {
            Ok(stored) => {
                assert_eq!(stored.sequences.first(), Some(&(round..round + 1)));
                Some(format!("{round} {n}"))
            }
            Err(error) => {
                assert!(error.is_conflict(), "who loses gets a conflict, not {error:?}");
                None
            }
        });
        let won: Vec<String> = won.into_iter().flatten().collect();
        assert_eq!(won.len(), 1, "of those who expect sequence {round}, exactly one wins");
        assert_eq!(texts_of(store, "order-1").last(), won.first(), "it is the winner's event that is stored");
    }
}

/// Writers without an expectation all succeed, and their events are in the stream one after the
/// other, each writer's in its order.
pub fn of_those_who_expect_nothing_all_win<B: EventStore>(store: &B) {
    together(|n| {
        for round in 0..ROUNDS {
            append(store, "order-1", Expected::Any, &[&format!("{n} {round:02} a"), &format!("{n} {round:02} b")]);
        }
    });
    let events = read(store, "order-1", &Reading::default());
    dense(&events);
    assert!(events.is_sorted_by(|a, b| a.position < b.position), "sequences and positions rise together");
    let texts = texts(&events);
    assert_eq!(texts.len() as u64, WRITERS as u64 * ROUNDS * 2, "nothing is lost or doubled");
    assert!(texts.chunks(2).all(|two| two[0][..4] == two[1][..4]), "the events of one append stand together");
    for n in 0..WRITERS {
        let of_one: Vec<&String> = texts.iter().filter(|text| text.starts_with(&format!("{n} "))).collect();
        assert!(of_one.is_sorted(), "who appends one after the other finds them in this order");
    }
}

/// Of repeats that race exactly one is stored, and all get its result.
pub fn of_racing_repeats_one_is_stored<B: EventStore>(store: &B) {
    for round in 0..ROUNDS {
        let key = format!("request-{round}");
        let stored = together(|_| store.commit(&[part("order-1", Expected::Any, &["x"])], &key).must("a repeat"));
        assert_eq!(stored.iter().filter(|one| !one.duplicate).count(), 1, "of repeats that race, one is the first");
        assert!(stored.iter().all(|one| one.positions == stored[0].positions), "and all get its result");
        assert_eq!(texts_of(store, "order-1").len() as u64, round + 1, "and nothing else is stored");
    }
}

/// Of commits that race for two streams, named in either order, exactly one succeeds in both.
pub fn racing_commits_of_several_streams_are_whole<B: EventStore>(store: &B) {
    for round in 0..ROUNDS {
        let won = together(|n| {
            let text = format!("{round} {n}");
            let mut parts = ["order-1", "bill-1"].map(|name| part(name, Expected::Next(round), &[&text]));
            if n % 2 == 1 {
                parts.reverse();
            }
            store.commit(&parts, "").is_ok()
        });
        assert_eq!(won.iter().filter(|won| **won).count(), 1, "of those who race for two streams, one gets both");
    }
    assert_eq!(texts_of(store, "order-1"), texts_of(store, "bill-1"), "the winner of one stream won the other");
    assert_eq!(everything(store).len() as u64, 2 * ROUNDS);
}
