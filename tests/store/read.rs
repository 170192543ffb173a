//! Reading: ranges, limits and directions, of a stream and of the whole store; the fixed watermark;
//! what a read keeps.

use annals::{Durability, Error, Expected, NewEvent, Read, Result, Store, StreamId};
use annals_testkit::*;
use annals_testkit::{Fault, Operation};
use std::io::ErrorKind;

/// Several streams with events of all sizes, in commits of all sizes: some larger than a block,
/// some larger than a segment.
fn fill(store: &Store) -> Vec<EventRecord> {
    let names = ["a-1", "b-1", "a-2", "c-1@what-if"].map(stream);
    let mut n = 0u64;
    for round in 0..24usize {
        let mut transaction = store.transaction();
        for part in 0..1 + round % 3 {
            let count = [1, 3, 40, 0, 7][(round + part) % 5];
            let events: Vec<_> = (0..count).map(|k| NewEvent::with_data("T", noise(n + k, size(n + k)))).collect();
            transaction = transaction.append(&names[(round * 5 + part) % 4], Expected::Any, events);
            n += count;
        }
        transaction.commit().unwrap();
    }
    records(store.read_all())
}

fn size(n: u64) -> usize {
    [0, 10, 300, 41, 5_000, 90, 1, 20, 120, 64, 0, 33, 9_000][n as usize % 13]
}

/// The expected result of a read, in terms of slices.
fn expected(all: &[EventRecord], from: u64, to: u64, limit: u64, backwards: bool) -> Vec<u64> {
    let len = all.len() as u64;
    let (from, to) = (from.min(len), to.min(len));
    let mut found: Vec<u64> = if from < to {
        all[from as usize..to as usize].iter().map(|record| record.position).collect()
    } else {
        Vec::new()
    };
    if backwards {
        found.reverse();
    }
    found.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    found
}

/// What a read returns, and lends.
fn positions(read: Read) -> Vec<u64> {
    let mut lent = Vec::new();
    let mut events = read.clone().into_iter();
    while let Some(event) = events.advance().unwrap() {
        lent.push(event.position());
    }
    let given: Vec<u64> = read.into_iter().map(|event| event.unwrap().position()).collect();
    assert!(given == lent, "{} given, {} lent", given.len(), lent.len());
    given
}

/// The read returns these positions.
#[track_caller]
fn dense(expected: impl Iterator<Item = u64>, read: Read) {
    let found = positions(read);
    let mut count = 0;
    for (n, position) in expected.enumerate() {
        assert_eq!(found.get(n), Some(&position), "event {n} of the read");
        count += 1;
    }
    assert_eq!(found.len(), count);
}

/// Seeded: an inclusive `to`, a limit that is taken before the direction; both were seen here.
#[test]
fn every_range_limit_and_direction() {
    on_all_beds(|bed| {
        let store = bed.open();
        let all = fill(&store);
        let len = all.len() as u64;
        let read = |from, to, limit, backwards, read: Read| {
            let read = read.from(from).to(to).limit(limit);
            positions(if backwards { read.backwards() } else { read })
        };
        // Every bound of the whole store would be tens of thousands of reads: each position once at
        // each end, and the corners.
        let ends = (0..len + 3).flat_map(|n| [(n, u64::MAX), (0, n), (n, n + 1), (n, n + 45), (n, n), (n + 1, n)]);
        let corners = [(u64::MAX, u64::MAX), (u64::MAX, 0), (len, len), (u64::MAX - 1, u64::MAX), (0, u64::MAX)];
        for (from, to) in ends.chain(corners) {
            for limit in [u64::MAX, 0, 1, 5, 300] {
                for backwards in [false, true] {
                    // Long reads are checked without a limit at one position of ten.
                    if limit > 5 && from % 10 != 3 && to % 10 != 3 {
                        continue;
                    }
                    let found = read(from, to, limit, backwards, store.read_all());
                    assert_eq!(found, expected(&all, from, to, limit, backwards), "{from}..{to} {limit} {backwards}");
                }
            }
        }
        let name = stream("a-1");
        let of_stream: Vec<_> = all.iter().filter(|record| record.stream == name).cloned().collect();
        let len = of_stream.len() as u64;
        let borders = |n: u64| [0, 1, n / 2, n - 1, n, n + 1, n + 300, u64::MAX];
        for (from, to) in borders(len).into_iter().flat_map(|from| borders(len).map(|to| (from, to))) {
            for limit in [0, 1, 2, len - 1, len, len + 1, u64::MAX] {
                for backwards in [false, true] {
                    let found = read(from, to, limit, backwards, store.read(&name));
                    let expected = expected(&of_stream, from, to, limit, backwards);
                    assert_eq!(found, expected, "{name} {from}..{to} {limit} {backwards}");
                }
            }
        }
        bed.close_and_check(store);
    });
}

#[test]
fn a_store_without_events_and_unknown_streams_give_nothing() {
    on_all_beds(|bed| {
        let store = bed.open();
        let unknown = stream("nobody-0");
        let nothing = |store: &Store| {
            for read in [store.read(&unknown), store.read(&unknown).backwards(), store.read(&unknown).from(7).to(9)] {
                assert!(positions(read).is_empty());
            }
            assert_eq!(store.stream(&unknown).unwrap(), None);
        };
        nothing(&store);
        assert!(positions(store.read_all()).is_empty());
        assert!(positions(store.read_all().backwards().from(3)).is_empty());
        assert_eq!((store.len(), store.streams("").unwrap().len()), (0, 0));
        store.append(&stream("nobody-1"), Expected::Any, texts(["x"])).unwrap();
        nothing(&store);
        bed.close_and_check(store);
    });
}

/// More events in a stream than are looked up at a time, with others between them.
#[test]
fn long_streams_read_whole_in_both_directions() {
    on_all_beds(|bed| {
        let store = bed.open();
        let names = ["a-1", "b-1"].map(stream);
        for n in 0..12u64 {
            let events = |data: &'static str| (0..100 + n).map(move |_| NewEvent::new("T", data));
            let transaction = store.transaction().append(&names[0], Expected::Any, events("first"));
            transaction.append(&names[1], Expected::Any, events("second")).commit().unwrap();
        }
        for len in [255, 256, 257, 511, 512, 513, 1000] {
            let sequences = |read: Read| read.into_iter().map(|event| event.unwrap().sequence()).collect::<Vec<_>>();
            assert_eq!(sequences(store.read(&names[1]).to(len)), (0..len).collect::<Vec<_>>());
            assert_eq!(sequences(store.read(&names[0]).to(len).backwards()), (0..len).rev().collect::<Vec<_>>());
            assert_eq!(sequences(store.read(&names[0]).from(7).limit(len)), (7..7 + len).collect::<Vec<_>>());
        }
        bed.close_and_check(store);
    });
}

/// A commit is larger than what is read at a time, and one of its records ends exactly at the end
/// of a piece of 64 KiB. A reader once took the end of the piece for the end of the commit, and
/// silently skipped the rest.
#[test]
fn records_that_end_with_a_piece_of_a_large_commit() {
    on(vec![Bed::memory(), Bed::directory()], |bed| {
        let id = stream("s-1");
        for len in (0..64).chain([200, 988, 4_068, 8_156, 16_348, 32_700, 65_480]) {
            let bed = Bed { disk: if len % 16 == 0 { Bed::directory().disk } else { Bed::memory().disk }, ..*bed };
            // Records differ in their overhead by the length of a number or two, so every length
            // around is tried.
            for len in if len < 64 { len..len + 1 } else { len - 20..len + 20 } {
                let store = bed.open_with(|options| options.durability(Durability::Os));
                let data = noise(len as u64, len);
                let count = (200_000 / (len + 30)).max(4);
                let before = store.len();
                store.append(&id, Expected::Any, (0..count).map(|_| NewEvent::new("T", &data))).unwrap();
                store.append(&id, Expected::Any, texts(["behind it"])).unwrap();
                let end = before + count as u64 + 1;
                dense(before..end, store.read_all().from(before));
                dense((0..end).rev(), store.read_all().backwards());
                dense(end - 3..end, store.read_all().from(end - 3));
            }
        }
    });
}

/// A caller that kept the events of a small commit while the read continued into a large one once
/// got `Damaged` from a sound store.
#[test]
fn events_can_be_kept_while_the_read_goes_on() {
    on_all_beds(|bed| {
        let store = bed.open();
        let id = stream("s-1");
        for count in [1, 300, 2, 1_000, 40] {
            store.append(&id, Expected::Any, (0..count).map(|_| NewEvent::with_data("T", noise(count, 300)))).unwrap();
        }
        store.append(&id, Expected::Any, [NewEvent::with_data("T", noise(7, 200 << 10))]).unwrap();
        let once = records(store.read_all());
        for read in [store.read_all(), store.read(&id)] {
            let kept: Result<Vec<_>> = read.into_iter().collect();
            let kept: Vec<_> = kept.unwrap().iter().map(EventRecord::of).collect();
            assert_same(&kept, &once, bed);
        }
        let kept: Result<Vec<_>> = store.read_all().backwards().into_iter().collect();
        assert_eq!(kept.unwrap().len(), once.len());
        // One event of each block, and two reads that alternate.
        let mut kept = Vec::new();
        let (one, mut two) = (store.read_all().into_iter(), store.read_all().from(1).into_iter());
        for event in one {
            let event = event.unwrap();
            if let Some(next) = two.next() {
                assert_eq!(next.unwrap().position(), event.position() + 1);
            }
            if event.position() % 200 == 0 {
                kept.push(event);
            }
        }
        // They outlive the store.
        bed.close_and_check(store);
        for event in kept {
            assert_eq!(EventRecord::of(&event), once[event.position() as usize]);
        }
    });
}

/// Seeded: a read of the whole store that asks for the watermark again at each segment; seen here.
#[test]
fn a_read_sees_what_was_there_when_it_began() {
    on_all_beds(|bed| {
        let store = bed.open();
        let (id, other) = (stream("s-1"), stream("s-2"));
        let append = |n: u64| {
            let transaction = store.transaction().append(&id, Expected::Any, texts(["x"; 20]));
            transaction.append(&other, Expected::Next(n), texts(["y"])).commit().unwrap();
        };
        (0..10).for_each(append);
        // A read that has not begun sees what comes before it begins.
        let later = store.read_all();
        let begun = [
            store.read_all().into_iter(),
            store.read_all().backwards().into_iter(),
            store.read(&id).into_iter(),
            store.read(&id).backwards().into_iter(),
            store.read_all().from(200).into_iter(),
            store.read(&other).from(3).to(u64::MAX).into_iter(),
            store.read(&other).from(11).into_iter(),
            store.read(&stream("s-3")).into_iter(),
        ];
        let mut half = store.read_all().into_iter();
        assert_eq!(half.by_ref().take(100).filter(|event| event.is_ok()).count(), 100);
        (10..20).for_each(append);
        store.append(&stream("s-3"), Expected::NoStream, texts(["z"])).unwrap();
        let counts: Vec<_> = begun.into_iter().map(|events| drain(events).len()).collect();
        assert_eq!(counts, [210, 210, 200, 200, 10, 7, 0, 0]);
        assert_eq!(drain(half).len(), 110);
        assert_eq!(drain(later.into_iter()).len(), 421);
        bed.close_and_check(store);
    });
}

/// Submitted and not yet durable: not visible. Seeded: a stream's read that asks the pending heads;
/// seen here.
#[test]
fn what_is_not_durable_cannot_be_read() {
    on(vec![Bed::memory(), Bed::memory().tiny(), Bed::simulated().tiny(), Bed::directory().maintained(false)], |bed| {
        let store = bed.open();
        let (id, new) = (stream("s-1"), stream("s-2"));
        store.append(&id, Expected::Any, texts(["durable"])).unwrap();
        let before = all_records(&store);
        let transaction = store.transaction().append(&id, Expected::Next(1), texts(["pending"; 50]));
        let ticket = transaction.append(&new, Expected::NoStream, texts(["pending"])).submit().unwrap();
        assert!(!ticket.is_done());
        assert_same(&all_records(&store), &before, bed);
        assert_eq!(store.stream(&new).unwrap(), None);
        assert_eq!(store.append(&new, Expected::Any, []).unwrap().positions, 1..1);
        ticket.wait().unwrap();
        assert_eq!(bed.close_and_check(store).len(), 52);
    });
}

/// One process may have the store open, and a read keeps it open; when the last handle is gone, the
/// lock is released.
#[test]
fn a_read_outlives_its_store_and_holds_it_open() {
    on_all_beds(|bed| {
        if bed.maintenance {
            return;
        }
        let store = bed.open();
        let all = fill(&store);
        let (mut forwards, backwards) = (store.read_all().into_iter(), store.read(&stream("a-1")).backwards());
        forwards.next().unwrap().unwrap();
        drop(store);
        let second = bed.options().open(bed.path());
        assert!(matches!(second, Err(Error::Locked { .. })), "{second:?}");
        // To another thread and back.
        let rest = std::thread::spawn(move || drain(forwards)).join().unwrap();
        assert_same(&rest, &all[1..], bed);
        assert!(bed.options().open(bed.path()).is_err());
        assert!(!drain(backwards.into_iter()).is_empty());
        bed.close_and_check(bed.open());
    });
}

#[test]
fn reads_go_on_after_close() {
    on_all_beds(|bed| {
        let store = bed.open();
        let all = fill(&store);
        let (handle, mut begun) = (store.clone(), store.read_all().into_iter());
        begun.next().unwrap().unwrap();
        store.close().unwrap();
        assert_same(&drain(begun), &all[1..], bed);
        assert_same(&all_records(&handle), &all, bed);
        let late = handle.append(&stream("a-1"), Expected::Any, texts(["late"]));
        assert!(matches!(late, Err(Error::Closed)), "{late:?}");
        // Beside a new owner that keeps writing.
        let owner = bed.open();
        owner.append(&stream("a-1"), Expected::Any, (0..500).map(|_| NewEvent::new("T", "new"))).unwrap();
        assert_same(&records(handle.read_all()), &all, bed);
        assert_same(&records(handle.read_all().backwards()).into_iter().rev().collect::<Vec<_>>(), &all, bed);
        bed.close_and_check(owner);
    });
}

#[test]
fn a_read_that_ended_stays_ended() {
    for kind in 0..4 {
        let store = Store::in_memory();
        let id = stream("s-1");
        store.append(&id, Expected::Any, texts(["a", "b"])).unwrap();
        let read = if kind < 2 { store.read(&id) } else { store.read_all() };
        let mut events = if kind % 2 == 0 { read } else { read.backwards() }.into_iter();
        assert_eq!(events.by_ref().count(), 2);
        store.append(&id, Expected::Any, texts(["later"])).unwrap();
        assert!(events.next().is_none() && events.next().is_none());
        assert!(events.advance().unwrap().is_none() && events.next().is_none());
    }
}

/// One error, then nothing more; the next read works again.
#[test]
fn an_error_ends_the_read_and_not_the_store() {
    on(vec![Bed::simulated(), Bed::simulated().tiny()], |bed| {
        let store = bed.open();
        let all = fill(&store);
        let id = stream("a-1");
        for after in [0, 1, 2, 5] {
            for (n, read) in
                [store.read_all(), store.read_all().backwards(), store.read(&id), store.read(&id).backwards()]
                    .into_iter()
                    .enumerate()
            {
                bed.sim().fail(Fault { operation: Operation::Read, after, times: u64::MAX, kind: ErrorKind::Other });
                let mut events = read.into_iter();
                let error = events.by_ref().find_map(|event| event.err());
                bed.sim().heal();
                match error {
                    Some(Error::Io { path, .. }) => assert!(path.starts_with(bed.path()), "{path:?}"),
                    // Few and large reads can be done before the fault comes.
                    None => assert!(after > 0, "read {n} did not read"),
                    Some(other) => panic!("{other}"),
                }
                assert!(events.next().is_none(), "it goes on after an error");
                assert_same(&all_records(&store), &all, bed);
            }
        }
        // Interrupted reads are tried again.
        bed.sim().fail(Fault { operation: Operation::Read, after: 0, times: 3, kind: ErrorKind::Interrupted });
        assert_same(&all_records(&store), &all, bed);
        store.append(&id, Expected::Any, texts(["on"])).unwrap();
        bed.close_and_check(store);
    });
}

#[test]
fn streams_are_found_by_how_their_names_begin() {
    on_all_beds(|bed| {
        let store = bed.open();
        let names = ["order-2", "order-10", "order-1", "order-1@what-if", "orders-1", "lobby", "a%2Db-1", "order"];
        for (n, name) in names.into_iter().enumerate() {
            store.append(&stream(name), Expected::NoStream, texts(vec!["x"; n + 1])).unwrap();
        }
        let found = |prefix: &str| {
            let streams = store.streams(prefix).unwrap().into_iter();
            streams.map(|info| (info.stream.to_string(), info.next_sequence)).collect::<Vec<_>>()
        };
        let counted = |names: &[(&str, u64)]| names.iter().map(|(s, n)| (s.to_string(), *n)).collect::<Vec<_>>();
        let orders = [("order", 8), ("order-1", 3), ("order-1@what-if", 4), ("order-10", 2), ("order-2", 1)];
        assert_eq!(found("order-"), counted(&orders[1..]));
        assert_eq!(found("order-1"), counted(&orders[1..4]));
        assert_eq!(found("order"), counted(&[&orders[..], &[("orders-1", 5)]].concat()));
        assert_eq!(found("a%2Db"), counted(&[("a%2Db-1", 7)]));
        assert_eq!(found("a-b"), counted(&[]));
        assert_eq!(found("order-1@what-if"), counted(&orders[2..3]));
        assert_eq!(found("").len(), names.len());
        bed.close_and_check(store);
    });
}

/// A batch for each order, read back by any caller that has the root in another form.
#[test]
fn stream_ids_are_the_same_however_they_were_made() {
    let store = Store::in_memory();
    store.append(&stream("order-1"), Expected::NoStream, texts(["x"])).unwrap();
    let same = [
        StreamId::new("order", "1").unwrap(),
        stream("order-1@main"),
        stream("%6Frder-%31"),
        stream("order-1@what-if").in_edition("main").unwrap(),
        stream("order-1@what-if").in_edition("").unwrap(),
    ];
    assert!(same.iter().all(|id| records(store.read(id)).len() == 1));
    // An edition without events of its own reads as the main one.
    assert_eq!(records(store.read(&stream("order-1@what-if"))).len(), 1);
}
