//! Consumers: each clause of their documentation. At random against a model: `model.rs`; crashes:
//! `crash.rs`; many threads: `stress.rs`.
//!
//! These tests have failed with each of these bugs in the library: the checkpoint is the last event
//! seen, not the end of what is done without a gap; an event counts as done when it is handed out;
//! dead letters are not stored, or in another batch than the checkpoint that steps over them, or
//! are forgotten when the file is rewritten; a retry releases its key; the reader begins one
//! position late; the checkpoint is flushed at the end only. The crash tests found a real one:
//! after a failed flush, the next run took the checkpoint in memory for a durable one, and reported
//! at its end that everything was stored.

mod crash;
mod letters;
mod model;
mod stress;

use annals::consumer::{Control, Partition, Poison, Reset, Retry};
use annals::progress::ExpectedVersion;
use annals::{Consumer, Error, Event, Expected, NewEvent, Outcome, Query, Store, Timestamp};
use annals_testkit::*;
use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

const SOON: Duration = Duration::from_millis(20);
const LATE: Duration = Duration::from_secs(20);

fn append(store: &Store, name: &str, event_type: &str) -> u64 {
    let appended = store.append(&stream(name), Expected::Any, [NewEvent::new(event_type, "")]).unwrap();
    appended.positions.start
}

/// A store with this many events in three streams.
fn filled(count: usize) -> Store {
    let store = Store::in_memory();
    fill(&store, count);
    store
}

fn fill(store: &Store, count: usize) {
    (0..count).for_each(|n| _ = append(store, ["a-1", "b-1", "c-1"][n % 3], "T"));
}

fn quick(attempts: u64) -> Retry {
    Retry::new().attempts(attempts).initial(Duration::from_micros(200)).longest(Duration::from_millis(2))
}

fn mailer(store: &Store) -> Consumer {
    store.consumer("mailer").retry(quick(3)).until_caught_up()
}

fn checkpoint(store: &Store) -> Option<u64> {
    store.checkpoints().get("mailer").unwrap().map(|of| of.position)
}

/// Waits until the condition holds.
#[track_caller]
fn wait(what: &str, mut is: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < LATE, "{what}");
        thread::sleep(Duration::from_micros(200));
    }
}

fn done(control: &Control, position: u64) -> bool {
    control.status().position == Some(position)
}

#[test]
fn each_run_goes_on_where_the_last_one_ended() {
    on_all_beds(|bed| {
        let store = bed.open();
        fill(&store, 10);
        let mut seen = Vec::new();
        let status = mailer(&store).run(|event: &Event| seen.push(event.position())).unwrap();
        assert_eq!((status.handled, status.position, status.running), (10, Some(9), false));
        assert_eq!(checkpoint(&store), Some(9));
        fill(&store, 2);
        store.close().unwrap();
        let store = bed.open();
        mailer(&store).run(|event: &Event| seen.push(event.position())).unwrap();
        assert_eq!(seen, (0..12).collect::<Vec<_>>());
        assert_eq!(mailer(&store).run(|_: &Event| -> () { panic!("there is nothing") }).unwrap().handled, 0);
        bed.close_and_check(store);
    });
}

#[test]
fn what_does_not_match_is_stepped_over() {
    let store = filled(9);
    let only = || mailer(&store).query(Query::new().domain("b"));
    let mut seen = Vec::new();
    only().run(|event: &Event| seen.push(event.position())).unwrap();
    assert_eq!((seen, checkpoint(&store)), (vec![1, 4, 7], Some(8)));
    fill(&store, 1);
    assert_eq!(only().control().lag().unwrap().positions, 0, "nothing of what has come is for it");
    only().run(|_: &Event| ()).unwrap();
    assert_eq!(checkpoint(&store), Some(9));
    let empty = Store::in_memory();
    let status = mailer(&empty).run(|_: &Event| ()).unwrap();
    assert_eq!((status.position, checkpoint(&empty)), (None, None));
}

#[test]
fn it_begins_where_it_is_told() {
    let clock = Arc::new(AtomicI64::new(0));
    let time = clock.clone();
    let bed = Bed::memory();
    let store = bed.open_with(|options| options.clock(move || Timestamp::from_nanos(time.load(SeqCst))));
    let base = Timestamp::now().as_nanos() + 1_000_000_000_000;
    for n in 0..6 {
        clock.store(base + n * 1000, SeqCst);
        append(&store, "a-1", "T");
    }
    let first = |consumer: Consumer| {
        let mut first = None;
        consumer.run(|event: &Event| _ = first.get_or_insert(event.position())).unwrap();
        first
    };
    let at = |nanos: i64| Timestamp::from_nanos(base + nanos);
    assert_eq!(first(mailer(&store).begin_at(at(2000))), Some(2));
    assert_eq!(first(mailer(&store).begin_at(at(1000))), None, "it has a checkpoint");
    for (reset, checkpoint, expected) in [
        (Reset::Start, None, Some(0)),
        (Reset::After(3), Some(3), Some(4)),
        (Reset::At(at(2001)), Some(2), Some(3)),
        (Reset::At(at(-1)), None, Some(0)),
        (Reset::At(at(9000)), Some(5), None),
        (Reset::Now, Some(5), None),
    ] {
        assert_eq!(mailer(&store).reset_to(reset).unwrap(), checkpoint, "{reset:?}");
        assert_eq!(first(mailer(&store)), expected, "{reset:?}");
    }
    assert!(matches!(mailer(&store).reset_to(Reset::After(6)), Err(Error::Invalid { .. })));
    clock.store(base + 65_000, SeqCst);
    mailer(&store).reset_to(Reset::After(1)).unwrap();
    let lag = mailer(&store).control().lag().unwrap();
    assert_eq!((lag.positions, lag.time), (4, Duration::from_nanos(63_000)));
}

#[test]
fn a_failing_event_is_tried_again_and_holds_back_its_key_only() {
    let store = filled(9);
    let mut seen = Vec::new();
    let mut left = 2;
    let status = mailer(&store).run(|event: &Event| {
        if event.position() == 1 && left > 0 {
            left -= 1;
            return Err(format!("{left} more"));
        }
        seen.push(event.position());
        Ok(())
    });
    let status = status.unwrap();
    assert_eq!((status.handled, status.retried, status.parked), (9, 2, 0));
    let at = |position: u64| seen.iter().position(|&of| of == position).unwrap();
    assert!(at(1) < at(4) && at(4) < at(7), "{seen:?}");
    assert!(at(2) < at(1), "others go on: {seen:?}");
    assert!(mailer(&store).dead_letters().unwrap().is_empty());
}

#[test]
fn one_order_for_all_where_it_is_wanted() {
    let store = filled(9);
    let (mut seen, mut failed) = (Vec::new(), false);
    let consumer = mailer(&store).partition_by(Partition::Store);
    consumer
        .run(|event: &Event| {
            if event.position() == 4 && !std::mem::replace(&mut failed, true) {
                return Err("once");
            }
            seen.push(event.position());
            Ok(())
        })
        .unwrap();
    assert!(failed);
    assert_eq!(seen, (0..9).collect::<Vec<_>>());
}

#[test]
fn pauses_grow_between_attempts() {
    let store = filled(1);
    let mut times = Vec::new();
    let retry = Retry::new().attempts(5).initial(Duration::from_millis(5)).factor(2).longest(Duration::from_millis(12));
    let consumer = mailer(&store).retry(retry);
    consumer
        .run(|_: &Event| {
            times.push(Instant::now());
            Outcome::Retry("no".into())
        })
        .unwrap();
    let pauses: Vec<_> = times.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
    assert_eq!(pauses.len(), 4);
    assert!(pauses.iter().zip([5, 10, 12, 12]).all(|(&is, least)| is >= least), "{pauses:?}");
}

#[test]
fn a_panic_is_a_failed_attempt() {
    let store = filled(2);
    let mut calls = 0;
    let status = mailer(&store).run(|event: &Event| {
        calls += 1;
        assert!(event.position() != 0, "it is number {}", event.position());
    });
    assert_eq!((calls, status.unwrap().parked), (4, 1));
    let letter = &mailer(&store).dead_letters().unwrap()[0];
    assert_eq!((letter.position, letter.attempts), (0, 3));
    assert_eq!(letter.reason, "the handler panicked: it is number 0");
    for workers in [1, 3] {
        mailer(&store).reset_to(Reset::Start).unwrap();
        let silent = |event: &Event| {
            if event.position() < 2 {
                std::panic::panic_any(7);
            }
        };
        mailer(&store).workers(workers).run(silent).unwrap();
        assert_eq!(mailer(&store).dead_letters().unwrap()[1].reason, "the handler panicked: no message");
    }
}

#[test]
fn the_handler_can_stop() {
    for workers in [0, 1, 4] {
        let store = filled(30);
        let seen = Mutex::new(Vec::new());
        let handle = |event: &Event| {
            if event.position() == 10 {
                return Outcome::Stop;
            }
            seen.lock().unwrap().push(event.position());
            Outcome::Ack
        };
        let status = match workers {
            0 => mailer(&store).run(handle),
            n => mailer(&store).workers(n).run(handle),
        };
        let position = status.unwrap().position;
        assert_eq!(checkpoint(&store), position, "{workers} workers");
        // With several workers, one may reach the event while others have not finished earlier
        // ones: those wait for the next run, and none of them was handled.
        let next = position.map_or(0, |position| position + 1);
        assert!(next == 10 || workers > 1 && next < 10, "{workers} workers: {position:?}");
        assert!(next == 10 || !seen.lock().unwrap().contains(&next), "{workers} workers: {position:?}");
        let first: Mutex<Option<u64>> = Mutex::default();
        mailer(&store).run(|event: &Event| _ = first.lock().unwrap().get_or_insert(event.position())).unwrap();
        assert_eq!(*first.lock().unwrap(), Some(next));
    }
}

#[test]
fn poison_can_stop_it() {
    for workers in [0, 3] {
        let store = filled(30);
        let handle = |event: &Event| if event.position() == 10 { Err("bad") } else { Ok(()) };
        let consumer = mailer(&store).on_poison(Poison::Stop);
        let failed = match workers {
            0 => consumer.run(handle),
            n => consumer.workers(n).run(handle),
        };
        let Err(Error::HandlerFailed { consumer, position, attempts, reason }) = failed else { panic!("{failed:?}") };
        assert_eq!((consumer.as_str(), position, attempts, reason.as_str()), ("mailer", 10, 3, "bad"));
        assert_eq!(checkpoint(&store), Some(9));
        assert!(mailer(&store).dead_letters().unwrap().is_empty());
    }
}

#[test]
fn one_name_runs_once() {
    let store = filled(3);
    let running = store.consumer("mailer").spawn(|_: &Event| ()).unwrap();
    let refused =
        |result: annals::Result<()>| matches!(result, Err(Error::ConsumerRunning { name }) if name == "mailer");
    assert!(refused(mailer(&store).run(|_: &Event| ()).map(drop)));
    assert!(refused(mailer(&store).workers(2).run(|_: &Event| ()).map(drop)));
    assert!(refused(mailer(&store).spawn(|_: &Event| ()).map(drop)));
    assert!(refused(mailer(&store).reset_to(Reset::Start).map(drop)));
    assert!(store.consumer("other").until_caught_up().run(|_: &Event| ()).is_ok());
    wait("it is done", || done(running.control(), 2));
    let [info, other] = &store.consumers().unwrap()[..] else {
        // The checkpoint of the running one may not have been stored yet.
        drop(running);
        return assert_eq!(store.consumers().unwrap().len(), 2);
    };
    assert_eq!((info.name.as_str(), info.running, other.running), ("mailer", true, false));
    drop(running);
    assert_eq!(checkpoint(&store), Some(2), "dropping the handle stops, and keeps");
    assert!(!store.consumers().unwrap()[0].running);
    mailer(&store).reset_to(Reset::Start).unwrap();
    for bad in ["", &"x".repeat(256)] {
        assert!(store.consumer(bad).run(|_: &Event| ()).is_err());
        assert!(store.consumer(bad).dead_letters().is_err());
    }
}

#[test]
fn somebody_else_moving_the_checkpoint_is_seen() {
    let store = filled(3);
    let running = store.consumer("mailer").checkpoint_every(1, LATE).spawn(|_: &Event| ()).unwrap();
    wait("it is done", || checkpoint(&store) == Some(2));
    store.checkpoints().commit("mailer", 2, ExpectedVersion::Any).unwrap();
    fill(&store, 1);
    assert!(matches!(running.join(), Err(Error::CheckpointConflict { .. })));
}

#[test]
fn checkpoints_are_kept_after_events_and_after_a_time_and_at_the_end() {
    let store = filled(10);
    let mut kept = Vec::new();
    let consumer = mailer(&store).checkpoint_every(4, LATE);
    consumer.run(|_: &Event| kept.push(checkpoint(&store))).unwrap();
    assert_eq!(kept, [[None; 4], [Some(3); 4], [Some(7); 4]].concat()[..10]);
    assert_eq!(checkpoint(&store), Some(9));

    let running = store.consumer("mailer").checkpoint_every(1000, SOON).spawn(|_: &Event| ()).unwrap();
    fill(&store, 1);
    wait("time has gone by", || checkpoint(&store) == Some(10));
    running.pause();
    fill(&store, 5);
    thread::sleep(SOON * 2);
    assert_eq!(checkpoint(&store), Some(10));
    running.resume();
    wait("it has gone on", || checkpoint(&store) == Some(15));
}

/// Not only at the end: a power cut in the middle takes what came after the last checkpoint, and no
/// more.
#[test]
fn checkpoints_are_durable_while_it_runs() {
    for workers in [0, 2] {
        let bed = Bed::simulated();
        let store = bed.open();
        fill(&store, 9);
        let left = Mutex::new(Vec::new());
        let consumer = mailer(&store).checkpoint_every(2, LATE).window(1).partition_by(Partition::Store);
        let handler = |event: &Event| {
            left.lock().unwrap().push((event.position(), bed.sim().crash(annals_testkit::Image::Durable)));
        };
        match workers {
            0 => consumer.run(handler),
            n => consumer.workers(n).run(handler),
        }
        .unwrap();
        // Those that make a checkpoint due, and what may be handed out while it is written: a
        // window of each worker. (With two workers, 3 was too few one time in 300.)
        let most = 2 + workers.max(1) as u64;
        for (at, disk) in left.into_inner().unwrap() {
            let store = bed.options().file_system(disk).open("store").unwrap();
            let next = checkpoint(&store).map_or(0, |position| position + 1);
            assert!(next <= at && at - next <= most, "{workers} workers: checkpoint {next} at {at}");
        }
    }
}

#[test]
fn pause_resume_and_stop() {
    for workers in [0, 3] {
        let store = filled(3);
        let seen = Arc::new(AtomicU64::new(0));
        let count = seen.clone();
        let handler = move |_: &Event| _ = count.fetch_add(1, SeqCst);
        let consumer = store.consumer("mailer");
        let running = match workers {
            0 => consumer.spawn(handler),
            n => consumer.workers(n).spawn(handler),
        };
        let running = running.unwrap();
        wait("it has caught up", || done(running.control(), 2));
        running.pause();
        fill(&store, 6);
        thread::sleep(SOON);
        assert_eq!(seen.load(SeqCst), 3);
        assert!(running.status().paused);
        assert_eq!(running.lag().unwrap().positions, 6);
        running.resume();
        wait("it goes on", || done(running.control(), 8));
        assert_eq!(running.lag().unwrap(), Default::default());
        running.pause();
        fill(&store, 3);
        running.stop();
        let status = running.join().unwrap();
        assert_eq!((status.handled, checkpoint(&store)), (9, Some(8)), "{workers} workers, stopped in a pause");
    }
    let store = filled(3);
    let consumer = store.consumer("mailer");
    consumer.control().stop();
    assert_eq!(consumer.run(|_: &Event| ()).unwrap().handled, 0, "stopped before it ran");
}

#[test]
fn stopping_drains() {
    let store = filled(200);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (into, open) = (seen.clone(), Arc::new(AtomicU64::new(0)));
    let gate = open.clone();
    let handler = move |event: &Event| {
        wait("it may go on", || gate.load(SeqCst) == 1);
        into.lock().unwrap().push(event.position());
    };
    let running = store.consumer("mailer").window(10).workers(3).spawn(handler).unwrap();
    wait("the window is full", || running.status().open == 30);
    thread::sleep(SOON);
    assert_eq!(running.status().open, 30, "no more is taken in than fits");
    running.stop();
    open.store(1, SeqCst);
    let status = running.join().unwrap();
    assert_eq!((status.handled, status.open, checkpoint(&store)), (30, 0, Some(29)));
    let mut seen = seen.lock().unwrap().clone();
    seen.sort_unstable();
    assert_eq!(seen, (0..30).collect::<Vec<_>>());
}

#[test]
fn what_waits_for_its_next_attempt_is_not_waited_for() {
    for workers in [0, 2] {
        let store = filled(9);
        let handler = |event: &Event| if event.position() == 1 { Err("later") } else { Ok(()) };
        let consumer = store.consumer("mailer").retry(Retry::new().initial(LATE * 10).longest(LATE * 10));
        let running = match workers {
            0 => consumer.spawn(handler),
            n => consumer.workers(n).spawn(handler),
        };
        let running = running.unwrap();
        wait("the others are done", || running.status().handled == 6);
        assert_eq!((running.status().open, running.position().unwrap()), (3, Some(0)));
        running.stop();
        running.join().unwrap();
        assert_eq!(checkpoint(&store), Some(0));
    }
}

#[test]
fn keys_are_in_order_over_workers() {
    let store = Store::in_memory();
    for n in 0..600 {
        let event = NewEvent::new("T", "").tag(format!("other:{n}"));
        let event = if n % 7 == 0 { event } else { event.tag(format!("customer:{}", n % 5)) };
        store.append(&stream(&format!("a-{}", n % 11)), Expected::Any, [event]).unwrap();
    }
    for partition in [Partition::Stream, Partition::Tag("customer".into()), Partition::Store] {
        let key = |event: &Event| match &partition {
            Partition::Tag(_) => event.tags().find(|tag| tag.starts_with("customer:")).map(str::to_owned),
            Partition::Store => Some(String::new()),
            _ => None,
        };
        let (seen, at_work) = (Mutex::new(HashMap::<String, u64>::new()), Mutex::new(HashMap::<String, ()>::new()));
        let status = mailer(&store).partition_by(partition.clone()).workers(4).run(|event: &Event| {
            let key = key(event).unwrap_or_else(|| event.stream().to_string());
            assert!(at_work.lock().unwrap().insert(key.clone(), ()).is_none(), "two of one key");
            thread::sleep(Duration::from_micros(event.position() % 3 * 50));
            at_work.lock().unwrap().remove(&key);
            let before = seen.lock().unwrap().insert(key, event.position());
            assert!(before < Some(event.position()), "out of order");
        });
        let status = status.unwrap();
        assert_eq!((status.handled, status.retried), (600, 0), "{partition:?}");
        mailer(&store).reset_to(Reset::Start).unwrap();
    }
}

/// With four workers, four events of different keys are handled at the same time.
#[test]
fn workers_work_at_the_same_time() {
    let store = Store::in_memory();
    (0..4).for_each(|n| _ = append(&store, &format!("a-{n}"), "T"));
    let meeting = std::sync::Barrier::new(4);
    mailer(&store).workers(4).run(|_: &Event| _ = meeting.wait()).unwrap();
}

#[test]
fn closing_the_store_ends_it() {
    let store = filled(3);
    let running = store.consumer("mailer").checkpoint_every(1, LATE).spawn(|_: &Event| ()).unwrap();
    wait("all is kept", || checkpoint(&store) == Some(2));
    store.clone().close().unwrap();
    assert_eq!(running.join().unwrap().handled, 3);
    assert!(matches!(store.consumer("mailer").run(|_: &Event| ()), Err(Error::Closed)));

    let store = filled(3);
    let running = store.consumer("mailer").checkpoint_every(1000, LATE).spawn(|_: &Event| ()).unwrap();
    wait("all is done", || done(running.control(), 2));
    store.close().unwrap();
    assert!(matches!(running.join(), Err(Error::Closed)), "it could not keep what was done");
}

#[test]
fn a_store_that_is_only_read_has_none() {
    let bed = Bed::directory();
    let store = bed.open();
    fill(&store, 1);
    mailer(&store).run(|_: &Event| Outcome::Park("no".into())).unwrap();
    store.close().unwrap();
    let store = bed.read_only();
    assert!(matches!(mailer(&store).run(|_: &Event| ()), Err(Error::ReadOnly)));
    assert!(matches!(mailer(&store).reset_to(Reset::Start), Err(Error::ReadOnly)));
    assert!(matches!(mailer(&store).drop_dead_letter(0), Err(Error::ReadOnly)));
    assert_eq!(mailer(&store).dead_letters().unwrap().len(), 1);
    assert_eq!(mailer(&store).control().position().unwrap(), Some(0));
}

/// Positions after the end come, with events that no consumer has seen.
#[test]
fn a_checkpoint_beyond_the_end_is_refused_until_it_is_reset() {
    let store = filled(3);
    store.checkpoints().commit("mailer", 40, ExpectedVersion::Missing).unwrap();
    for end in [3, 4] {
        let ran = mailer(&store).run(|_: &Event| -> () { panic!("nothing is handed out") });
        assert!(matches!(ran, Err(Error::PositionAhead { position: 40, end: at, .. }) if at == end), "{ran:?}");
        assert!(matches!(mailer(&store).control().lag(), Err(Error::PositionAhead { .. })));
        fill(&store, 1);
    }
    assert_eq!(mailer(&store).reset_to(Reset::After(2)).unwrap(), Some(2));
    assert_eq!(mailer(&store).run(|_: &Event| ()).unwrap().handled, 2);
}

#[test]
fn status_counts() {
    let store = filled(6);
    let mut failed = false;
    let control = store.consumer("none").control();
    assert_eq!((control.status().running, control.position().unwrap()), (false, None));
    assert_eq!(control.lag().unwrap().positions, 6);
    let consumer = mailer(&store);
    let control = consumer.control();
    consumer
        .run(|event: &Event| {
            assert!(control.status().running);
            match event.position() {
                2 if !std::mem::replace(&mut failed, true) => Outcome::Retry("once".into()),
                4 => Outcome::Park("never".into()),
                _ => Outcome::Ack,
            }
        })
        .unwrap();
    let status = control.status();
    assert_eq!((status.handled, status.retried, status.parked, status.open), (5, 1, 1, 0));
    assert_eq!((status.position, status.running, control.lag().unwrap().positions), (Some(5), false, 0));
    assert!(status.rate > 0.0 || status.handled > 0);
}
