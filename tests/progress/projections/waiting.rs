//! Reading what one has written.

use super::*;
use std::thread;
use std::time::Instant;

#[test]
fn an_event_that_is_there_is_read_at_once() {
    for run in 0..4 {
        let store = filled(&Bed::memory(), 500);
        let project = store.projection(watch());
        let model = match run {
            0 => project.catch_up(),
            1 => project.live(),
            2 => project.continuous(),
            _ => project.inline(),
        };
        let model = model.unwrap();
        for n in 500..700 {
            let position = append(&store, n);
            assert!(model.wait_for(position, LATE).unwrap());
            assert!(model.position() >= Some(position));
        }
        holds(&store, &model, &Query::new());
    }
}

/// The query matches none of them: the position still advances.
#[test]
fn events_of_others_count() {
    let store = Store::in_memory();
    let model = store.projection(watch_domain("none")).live().unwrap();
    let position = append(&store, 0);
    assert!(model.wait_for(position, LATE).unwrap());
}

#[test]
fn an_event_that_is_not_there_is_waited_for() {
    let store = Store::in_memory();
    for version in 1..4 {
        let project = store.projection(Watch { version, ..watch() });
        let model = match version {
            1 => project.catch_up(),
            2 => project.live(),
            _ => project.inline(),
        };
        let model = model.unwrap();
        let next = store.len() + 1;
        let begun = Instant::now();
        assert!(!model.wait_for(next, SOON).unwrap());
        assert!(begun.elapsed() >= SOON);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| model.wait_for(next, LATE).unwrap());
            thread::sleep(SOON);
            append(&store, 0);
            append(&store, 1);
            assert!(waiting.join().unwrap());
        });
        holds(&store, &model, &Query::new());
    }
}

/// Many waiters while one applies a long history: each returns when its position is reached, or its
/// time is over.
#[test]
fn many_wait_for_one_that_catches_up() {
    let store = filled(&Bed::memory(), 20_000);
    let model = store.projection(watch()).continuous().unwrap();
    thread::scope(|scope| {
        for n in 0..8u64 {
            let (store, model) = (&store, &model);
            scope.spawn(move || {
                assert!(model.wait_for(n * 2500, LATE).unwrap());
                let reached = model.read_at(|seen, position| (seen.last, position)).unwrap();
                assert!(reached.1 >= Some(n * 2500) && reached.0 == reached.1);
                assert!(!model.wait_for(store.len() + 100, SOON).unwrap());
            });
        }
    });
    holds(&store, &model, &Query::new());
}

#[test]
fn paused_models_are_waited_for_until_they_go_on() {
    let store = filled(&Bed::memory(), 5);
    let model = store.projection(watch()).catch_up().unwrap();
    model.pause();
    let position = append(&store, 5);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| model.wait_for(position, LATE).unwrap());
        thread::sleep(SOON);
        model.resume();
        assert!(waiting.join().unwrap());
    });
}
