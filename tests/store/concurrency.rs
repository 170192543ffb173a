//! Threads: writers that race for a sequence, pipelines of tickets, readers beside writers, closing
//! while others append.

use annals::{Committed, Durability, Error, Event, Expected, NewEvent, Store, StreamId};
use annals_testkit::Image;
use annals_testkit::*;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier, Mutex, OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

const WRITERS: usize = 8;

/// Maximum time of a call that does not depend on other threads.
const PATIENCE: Duration = Duration::from_secs(5);

/// Beds on which threads meet: with and without a disk, a map, a maintenance thread.
fn beds() -> Vec<Bed> {
    vec![
        Bed::memory().tiny(),
        Bed::memory().maintained(true),
        Bed::simulated().tiny().maintained(true),
        Bed::directory().tiny(),
        Bed::directory().without_map().maintained(false),
    ]
}

/// Runs a scenario on each bed. A thread that waits forever fails the test and is left behind.
fn on_threads(scenario: impl Fn(&Bed) + Clone + Send + 'static) {
    for bed in beds() {
        let (name, scenario) = (format!("{bed:?}"), scenario.clone());
        let (done, is_done) = mpsc::channel();
        let run = thread::spawn(move || {
            let _done: mpsc::Sender<()> = done;
            scenario(&bed);
        });
        // Nothing is ever sent: the channel ends with the thread.
        let hangs = is_done.recv_timeout(12 * PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout);
        assert!(!hangs, "a thread waits forever; {name}");
        assert!(run.join().is_ok(), "{name}");
    }
}

/// Tells a thread to stop, even if the test fails.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

fn text_of(event: &Event) -> String {
    String::from_utf8(event.data().to_vec()).unwrap()
}

/// Seeded: a check that does not see the commits in flight; it gave two winners here.
#[test]
fn of_eight_writers_one_wins_each_sequence() {
    const ROUNDS: u64 = 150;
    on_threads(move |bed| {
        let store = bed.open();
        let id = stream("order-1");
        let start = Barrier::new(WRITERS);
        let wins = Mutex::new(BTreeMap::new());
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let (store, id, start, wins) = (&store, &id, &start, &wins);
                scope.spawn(move || {
                    for round in 0..ROUNDS {
                        start.wait();
                        let text = format!("writer {writer} in round {round}");
                        match store.append(id, Expected::Next(round), texts([text.as_str()])) {
                            Ok(appended) => {
                                assert_eq!(
                                    (appended.sequences, appended.positions),
                                    (round..round + 1, round..round + 1)
                                );
                                assert_eq!(
                                    text_of(&store.read(id).from(round).into_iter().next().unwrap().unwrap()),
                                    text
                                );
                                let other = wins.lock().unwrap().insert(round, text);
                                assert_eq!(other, None, "two have won round {round}");
                            }
                            Err(Error::Conflict { stream, expected, actual: next }) => {
                                assert_eq!((&stream, expected, next), (id, Expected::Next(round), round + 1));
                            }
                            Err(error) => panic!("{error}"),
                        }
                        // All threads finish this round before the next begins.
                        start.wait();
                    }
                });
            }
        });
        let wins: Vec<_> = wins.into_inner().unwrap().into_values().collect();
        assert_eq!(wins.len() as u64, ROUNDS, "each round has a winner");
        assert_eq!(data_of(&bed.close_and_check(store)), wins);
    });
}

/// Without rounds: a loser tries again from what was found, until each thread has succeeded equally
/// often.
#[test]
fn losers_retry_with_what_they_found() {
    const EACH: usize = 60;
    on_threads(move |bed| {
        let store = bed.open();
        let id = stream("counter-1");
        let written: Vec<Vec<(u64, String)>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let (store, id) = (store.clone(), id.clone());
                    scope.spawn(move || {
                        let (mut next, mut won) = (0, Vec::new());
                        while won.len() < EACH {
                            let text = format!("{writer}: {}", won.len());
                            let other = StreamId::new("own", writer.to_string()).unwrap();
                            let transaction =
                                store.transaction().append(&other, Expected::Next(won.len() as u64), texts(["own"]));
                            match transaction.append(&id, Expected::Next(next), texts([text.as_str()])).commit() {
                                Ok(committed) => {
                                    assert_eq!(committed.appends[1].sequences, next..next + 1);
                                    won.push((next, text));
                                    next += 1;
                                }
                                Err(Error::Conflict { stream, actual: found, .. }) => {
                                    assert!(stream == id && found > next, "{stream}: {found} after {next}");
                                    next = found;
                                }
                                Err(error) => panic!("{error}"),
                            }
                        }
                        won
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut written: Vec<_> = written.into_iter().flatten().collect();
        written.sort_unstable();
        let found: Vec<_> = records(store.read(&id))
            .iter()
            .map(|record| (record.sequence, data_of(std::slice::from_ref(record)).remove(0)))
            .collect();
        assert_eq!(found, written);
        assert_eq!(bed.close_and_check(store).len(), 2 * WRITERS * EACH);
    });
}

/// Each writer keeps several commits in flight. The tickets return what is in the store.
#[test]
fn pipelines_of_tickets() {
    on_threads(move |bed| {
        let store = bed.open();
        let shared = stream("shared-1");
        let all: Vec<(Committed, String)> = thread::scope(|scope| {
            let threads: Vec<_> = (0..WRITERS)
                .map(|writer| {
                    let (store, shared) = (&store, &shared);
                    scope.spawn(move || {
                        let own = StreamId::new("own", writer.to_string()).unwrap();
                        let mut on_their_way = std::collections::VecDeque::new();
                        let mut done = Vec::new();
                        for n in 0..100u64 {
                            let text = format!("{writer}: {n}");
                            let pad = NewEvent::with_data("Pad", noise(n, n as usize * 13));
                            let transaction = store.transaction().append(&own, Expected::Next(2 * n), [pad]);
                            let transaction = transaction.append(shared, Expected::Any, texts([text.as_str()]));
                            let transaction =
                                transaction.append(&own, Expected::Next(2 * n + 1), texts([text.as_str()]));
                            on_their_way.push_back((transaction.submit().unwrap(), text));
                            if on_their_way.len() > writer {
                                // From the front, and sometimes from the back.
                                let next = if n % 5 == 4 { on_their_way.pop_back() } else { on_their_way.pop_front() };
                                let (ticket, text) = next.unwrap();
                                let committed = ticket.wait().unwrap();
                                assert!(store.len() >= committed.positions.end, "acknowledged and not visible");
                                done.push((committed, text));
                            }
                        }
                        let rest = on_their_way.into_iter().map(|(ticket, text)| (ticket.wait().unwrap(), text));
                        done.extend(rest);
                        done
                    })
                })
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let records = bed.close_and_check(store);
        assert_eq!(records.len(), 3 * all.len());
        for (committed, text) in &all {
            let first = committed.positions.start as usize;
            let commit = &records[first..committed.positions.end as usize];
            assert_eq!(data_of(&commit[1..]), [text.clone(), text.clone()]);
            for (appended, record) in committed.appends.iter().zip(commit) {
                assert_eq!((appended.positions.start, appended.sequences.start), (record.position, record.sequence));
                assert_eq!(appended.recorded_at, record.recorded_at);
            }
        }
    });
}

/// Commits of the writers below: as many events to each of two streams, with data that name them.
fn pair(store: &Store, writer: usize, n: u64) {
    let streams = ["left", "right"].map(|domain| StreamId::new(domain, writer.to_string()).unwrap());
    let count = 1 + n % 4;
    let size = if n % 17 == 3 { 9_000 } else { n as usize % 50 };
    let text = format!("{writer}/{n}/{count}/{}", "x".repeat(size));
    let events = |side: &'static str| (0..count).map(|_| NewEvent::new(side, &text)).collect::<Vec<_>>();
    let transaction = store.transaction().append(&streams[0], Expected::Any, events("L"));
    transaction.append(&streams[1], Expected::Any, events("R")).commit().unwrap();
}

/// Checks events in ascending order from 0 on: dense, in order, and commits complete. Returns their
/// number.
fn check_whole(events: impl Iterator<Item = Event>) -> u64 {
    let mut sequences: BTreeMap<StreamId, u64> = BTreeMap::new();
    let (mut count, mut left, mut time) = (0, 0i64, i64::MIN);
    let mut commit = String::new();
    for event in events {
        assert_eq!(event.position(), count, "positions are dense");
        count += 1;
        let next = sequences.entry(event.stream()).or_default();
        assert_eq!(event.sequence(), *next, "sequences are dense");
        *next += 1;
        assert!(event.recorded_at().as_nanos() >= time);
        time = event.recorded_at().as_nanos();
        let text = text_of(&event);
        if left == 0 {
            left = 2 * text.split('/').nth(2).unwrap().parse::<i64>().unwrap();
            commit = text.clone();
        }
        assert_eq!(text, commit, "a commit stands together");
        left -= 1;
    }
    assert_eq!(left, 0, "a commit is seen in part");
    count
}

/// Runs writers, with readers beside them until they are done. Each reader is called again and
/// again.
fn beside_writers(bed: &Bed, commits: u64, readers: &[&(dyn Fn(&Store) + Sync)]) -> Store {
    let store = bed.open();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        for reader in readers {
            let (store, done) = (store.clone(), &done);
            scope.spawn(move || {
                while !done.load(Ordering::SeqCst) {
                    reader(&store);
                }
                reader(&store);
            });
        }
        let _stop = Stop(&done);
        let writers: Vec<_> = (0..4)
            .map(|writer| {
                let store = store.clone();
                scope.spawn(move || (0..commits).for_each(|n| pair(&store, writer, n)))
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
    });
    store
}

/// Seeded: a watermark that rises before the group is complete; a read that takes the watermark
/// again when it reaches a new segment. Both were seen here.
#[test]
fn readers_of_the_whole_store_beside_writers() {
    let forwards = |store: &Store| {
        let before = store.len();
        let mut events = store.read_all().into_iter().map(|event| event.unwrap());
        let after = store.len();
        // Half of it in one go, and time for others to write before the rest.
        let half: Vec<_> = events.by_ref().take(after as usize / 2).collect();
        thread::sleep(Duration::from_micros(300));
        let count = check_whole(half.into_iter().chain(events));
        assert!((before..=after).contains(&count), "{count} events, where {before} to {after} were there");
    };
    let backwards = |store: &Store| {
        let before = store.len();
        let events = store.read_all().backwards().into_iter();
        let after = store.len();
        let mut events: Vec<_> = events.map(|event| event.unwrap()).collect();
        events.reverse();
        let count = check_whole(events.into_iter());
        assert!((before..=after).contains(&count), "{count} events, where {before} to {after} were there");
    };
    let last = |store: &Store| {
        let before = store.len();
        let newest = store.read_all().backwards().limit(1).into_iter().next();
        let position = newest.map_or(0, |event| event.unwrap().position() + 1);
        assert!((before..=store.len()).contains(&position));
        let end = store.len();
        let tail = store.read_all().from(end.saturating_sub(5)).to(end).into_iter();
        assert_eq!(drain(tail).len() as u64, end.min(5));
    };
    on_threads(move |bed| {
        let store = beside_writers(bed, 150, &[&forwards, &backwards, &last]);
        check_whole(store.read_all().into_iter().map(|event| event.unwrap()));
        bed.close_and_check(store);
    });
}

#[test]
fn readers_of_streams_beside_writers() {
    let dense = |store: &Store, backwards: bool| {
        for writer in 0..4 {
            let id = StreamId::new("left", writer.to_string()).unwrap();
            let (head, known) = (store.len(), store.stream(&id).unwrap().map_or(0, |info| info.next_sequence));
            let read = store.read(&id);
            let events = if backwards { read.backwards() } else { read }.into_iter();
            let after = store.stream(&id).unwrap().map_or(0, |info| info.next_sequence);
            let mut events: Vec<_> = events.map(|event| event.unwrap()).collect();
            if backwards {
                events.reverse();
            }
            let (count, newest) = (events.len() as u64, events.last().map_or(0, |event| event.position()));
            for (n, event) in events.iter().enumerate() {
                assert_eq!((event.sequence(), event.is_in(&id)), (n as u64, true), "sequences are dense");
            }
            assert!(events.is_sorted_by(|a, b| a.position() < b.position()));
            // Events that the store has reported of the stream are visible to a later read, and no
            // others.
            assert!((known..=after).contains(&count), "{count} events, where {known} to {after} were reported");
            assert!(newest < store.len().max(1) && (count > 0 || head == store.len() || known == 0));
        }
    };
    let forwards = move |store: &Store| dense(store, false);
    let backwards = move |store: &Store| dense(store, true);
    on_threads(move |bed| {
        let store = beside_writers(bed, 150, &[&forwards, &backwards]);
        bed.close_and_check(store);
    });
}

/// Two streams grow by the same number in each commit, so their reads agree if they use one
/// watermark; what the store reports of its streams is never ahead of what is visible.
#[test]
fn what_the_store_tells_can_be_read() {
    let told = |store: &Store| {
        for info in store.streams("left").unwrap() {
            let end = info.next_sequence;
            let last = store.read(&info.stream).from(end - 1).to(end).into_iter().next();
            let last =
                last.unwrap_or_else(|| panic!("{} is told to have {end} events, and cannot be read", info.stream));
            assert!(last.unwrap().position() < store.len());
        }
        let stats = store.stats().unwrap();
        assert!(stats.events <= store.len());
        let sum: u64 = store.streams("").unwrap().iter().map(|info| info.next_sequence).sum();
        let head = store.len();
        assert!(sum <= head, "{sum} events are reported, but {head} are visible");
    };
    on_threads(move |bed| {
        let store = beside_writers(bed, 150, &[&told, &told]);
        bed.close_and_check(store);
    });
}

/// An acknowledged event is visible at once, to the thread that wrote it and to any other.
#[test]
fn acknowledged_means_readable() {
    on_threads(move |bed| {
        let store = bed.open();
        let acknowledged = AtomicU64::new(0);
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    let end = acknowledged.load(Ordering::SeqCst);
                    assert!(store.len() >= end);
                    if end > 0 {
                        let event = store.read_all().from(end - 1).limit(1).into_iter().next().unwrap().unwrap();
                        let (id, sequence) = (event.stream(), event.sequence());
                        let again = store.read(&id).from(sequence).limit(1).into_iter().next().unwrap().unwrap();
                        assert_eq!((again.position(), again.data()), (end - 1, event.data()));
                    }
                }
            });
            let _stop = Stop(&done);
            let writers: Vec<_> = (0..4)
                .map(|writer| {
                    let (store, acknowledged) = (&store, &acknowledged);
                    scope.spawn(move || {
                        let id = StreamId::new("s", writer.to_string()).unwrap();
                        for n in 0..150 {
                            let appended = store.append(&id, Expected::Next(n), texts(["some text"])).unwrap();
                            acknowledged.fetch_max(appended.positions.end, Ordering::SeqCst);
                            let own = store.read(&id).backwards().limit(1).into_iter().next().unwrap().unwrap();
                            assert_eq!((own.sequence(), own.position()), (n, appended.positions.start));
                        }
                    })
                })
                .collect();
            writers.into_iter().for_each(|writer| writer.join().unwrap());
        });
        bed.close_and_check(store);
    });
}

/// A caller that gets `Closed` has stored nothing; all others find their events after a reopen.
///
/// Seeded: a close that does not write what was accepted; seen here. Constant appends once kept
/// `close` from ever ending.
#[test]
fn closing_while_others_append() {
    for round in 0..4 {
        on_threads(move |bed| {
            let store = bed.open();
            let go = Barrier::new(WRITERS + 1);
            let closing = OnceLock::new();
            let acknowledged: Vec<BTreeMap<u64, String>> = thread::scope(|scope| {
                let threads: Vec<_> = (0..WRITERS)
                    .map(|writer| {
                        let (store, go, closing) = (store.clone(), &go, &closing);
                        scope.spawn(move || {
                            go.wait();
                            append_until_closed(&store, writer, closing)
                        })
                    })
                    .collect();
                go.wait();
                thread::sleep(Duration::from_millis(1 + 2 * round));
                closing.set(Instant::now()).unwrap();
                store.clone().close().unwrap();
                // Another close is no error.
                store.clone().close().unwrap();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let late = store.append(&stream("late-1"), Expected::Any, texts(["late"]));
            assert!(matches!(late, Err(Error::Closed)), "{late:?}");
            let told: BTreeMap<u64, String> = acknowledged.into_iter().flatten().collect();
            let records = all_records(&store);
            assert_eq!(data_of(&records), told.into_values().collect::<Vec<_>>());
            bed.holds(&records);
        });
    }
}

/// Appends to a stream of its own until the store is closed, and returns the position of each text.
/// Half of the writers wait for each commit, the others for all at the end, when the close has
/// written them.
fn append_until_closed(store: &Store, writer: usize, closing: &OnceLock<Instant>) -> BTreeMap<u64, String> {
    let id = StreamId::new("s", writer.to_string()).unwrap();
    let (mut told, mut tickets) = (BTreeMap::new(), Vec::new());
    for n in 0.. {
        let text = format!("{writer}: {n}");
        let transaction = store.transaction().append(&id, Expected::Next(n), texts([text.as_str()]));
        match transaction.submit() {
            Ok(ticket) if writer.is_multiple_of(2) => {
                told.insert(ticket.wait().unwrap().positions.start, text);
            }
            Ok(ticket) => tickets.push((ticket, text)),
            Err(Error::Closed) => break,
            Err(error) => panic!("{error}"),
        }
        let held_up = closing.get().is_some_and(|since| since.elapsed() > PATIENCE);
        assert!(!held_up, "close is held up by those who append");
        if tickets.len() > 20 {
            // No more than a disk can take.
            thread::sleep(Duration::from_micros(100));
        }
    }
    told.extend(tickets.into_iter().map(|(ticket, text)| (ticket.wait().unwrap().positions.start, text)));
    told
}

/// `sync` makes durable what was accepted before the call, and does not wait for what others append
/// meanwhile. A waiter for the same commit as a sync does not wait forever.
#[test]
fn syncing_while_others_append() {
    on_threads(move |bed| {
        let store = bed.open_with(|options| options.durability(Durability::Os));
        let done = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::SeqCst) {
                        let before = store.len();
                        let since = Instant::now();
                        store.sync().unwrap();
                        assert!(since.elapsed() < PATIENCE, "sync is held up by those who append");
                        if let Disk::Simulated(fs) = &bed.disk {
                            let after = annals::Options::new().file_system(fs.crash(Image::Durable));
                            assert!(after.open(bed.path()).unwrap().len() >= before);
                        }
                        thread::sleep(Duration::from_millis(1));
                    }
                });
            }
            let _stop = Stop(&done);
            let writers: Vec<_> = (0..4)
                .map(|writer| {
                    let store = &store;
                    scope.spawn(move || {
                        let id = StreamId::new("s", writer.to_string()).unwrap();
                        for n in 0..500 {
                            store.append(&id, Expected::Next(n), texts(["x"])).unwrap();
                        }
                    })
                })
                .collect();
            writers.into_iter().for_each(|writer| writer.join().unwrap());
        });
        store.sync().unwrap();
        bed.close_and_check(store);
    });
}

/// Eight threads take tickets and drop them, in the end all handles: everything accepted is there.
#[test]
fn dropped_tickets_of_many_threads() {
    on_threads(move |bed| {
        let store = bed.open();
        thread::scope(|scope| {
            for writer in 0..WRITERS {
                let store = store.clone();
                scope.spawn(move || {
                    let id = StreamId::new("s", writer.to_string()).unwrap();
                    let mut kept = Vec::new();
                    for n in 0..80 {
                        let text = n.to_string();
                        let transaction = store.transaction().append(&id, Expected::Next(n), texts([text.as_str()]));
                        let ticket = transaction.submit().unwrap();
                        match n % 3 {
                            0 => drop(ticket),
                            1 => kept.push(ticket),
                            _ => drop(kept.pop()),
                        }
                    }
                });
            }
        });
        store.close().unwrap();
        let store = bed.open();
        let records = bed.close_and_check(store);
        assert_eq!(records.len(), WRITERS * 80);
        for record in &records {
            assert_eq!(record.data.0, record.sequence.to_string().as_bytes());
        }
    });
}

/// When the last handle is dropped, the store is closed and its lock released: the caller can open
/// it again, even if the maintenance thread is working.
#[test]
fn the_lock_is_gone_with_the_last_handle() {
    for disk in 0..3 {
        let bed = [Bed::memory, Bed::simulated, Bed::directory][disk]().maintained(true);
        let rounds = if disk == 2 { 40 } else { 300 };
        for round in 0..rounds {
            let durability = match round % 3 {
                0 => Durability::Interval(Duration::from_millis(1)),
                1 => Durability::Sync,
                _ => Durability::Os,
            };
            let opened = bed.options().durability(durability).open(bed.path());
            let store = opened.unwrap_or_else(|e| panic!("{bed:?}, round {round}: {e}"));
            assert_eq!(store.len(), 2 * round);
            let submit = || {
                let transaction = store.transaction().append(&stream("s-1"), Expected::Any, texts(["x"]));
                transaction.submit().unwrap()
            };
            let tickets = [submit(), submit()];
            if round % 4 < 2 {
                thread::sleep(Duration::from_micros(100 * (round % 23)));
            }
            // In either order: a ticket that is dropped asks the maintenance thread to write.
            if round % 2 == 0 {
                drop(tickets);
                drop(store);
                continue;
            }
            drop(store);
            drop(tickets);
        }
    }
}

/// Many handles, dropped by many threads at about the same time.
#[test]
fn handles_are_dropped_by_many_threads() {
    let bed = Bed::memory();
    for round in 0..100u64 {
        let store = bed.open();
        assert_eq!(store.len(), round * WRITERS as u64);
        let go = Arc::new(Barrier::new(WRITERS));
        let threads: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let (store, go) = (store.clone(), go.clone());
                thread::spawn(move || {
                    let id = StreamId::new("s", writer.to_string()).unwrap();
                    go.wait();
                    store.append(&id, Expected::Next(round), texts(["x"])).unwrap();
                })
            })
            .collect();
        drop(store);
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    }
    bed.close_and_check(bed.open());
}
