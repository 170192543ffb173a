//! Snapshots: what is put comes back, what is kept, what is never used, and that an aggregate is
//! the same with them, without them, and with damaged ones.

use annals::fs::Fs;

use annals::snapshot::{Codec, Load, Loaded, Retention, SkippedSnapshots, SnapshotFault};
use annals::{AsOf, Durability, Error, Event, Expected, NewEvent, Options, Result, Store, StreamId, Timestamp};
use annals_testkit::{Bed, noise, on, on_all_beds, stream};
use annals_testkit::{Fault, Operation};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// The state of the streams of these tests: the content of all their events.
#[derive(Clone, PartialEq, Eq, Debug, Default, serde::Serialize, serde::Deserialize)]
struct Seen {
    count: u64,
    texts: Vec<String>,
}

fn apply(seen: &mut Seen, event: &Event) -> Result<()> {
    seen.count += 1;
    seen.texts.push(String::from_utf8_lossy(event.data()).into_owned());
    Ok(())
}

/// Appends `count` events, each a commit, whose data name stream and sequence.
fn grow(store: &Store, id: &StreamId, count: u64) {
    let next = store.stream(id).unwrap().map_or(0, |info| info.next_sequence);
    for n in next..next + count {
        store.append(id, Expected::Next(n), [NewEvent::new("T", &format!("{id} {n}"))]).unwrap();
    }
}

/// The sum of the events up to this sequence.
fn replay(store: &Store, id: &StreamId, sequence: u64) -> Seen {
    let mut seen = Seen::default();
    for event in store.read(id).to(sequence.saturating_add(1)) {
        apply(&mut seen, &event.unwrap()).unwrap();
    }
    seen
}

/// Puts the true state after each of these sequences.
fn put_true(store: &Store, id: &StreamId, sequences: impl IntoIterator<Item = u64>) {
    let snapshots = store.snapshots().retention(Retention::Persist);
    for sequence in sequences {
        snapshots.put(id, sequence, &replay(store, id, sequence)).unwrap();
    }
}

fn load(load: Load) -> Loaded<Seen> {
    load.fold(Seen::default(), apply).unwrap()
}

fn sequences(store: &Store, id: &StreamId) -> Vec<u64> {
    store.snapshots().list(id).unwrap().iter().map(|info| info.sequence).collect()
}

/// A store whose clock advances by one each time it is read.
fn ticking(bed: &Bed) -> Store {
    let now = Arc::new(AtomicI64::new(1_000));
    bed.open_with(|options| options.clock(move || Timestamp::from_nanos(now.fetch_add(1, Ordering::Relaxed))))
}

fn paths(store: &Store, id: &StreamId) -> Vec<PathBuf> {
    store.snapshots().list(id).unwrap().into_iter().map(|info| info.path).collect()
}

fn read_file(fs: &dyn Fs, path: &std::path::Path) -> Vec<u8> {
    let file = fs.open(path, annals::fs::Mode::Read).unwrap();
    let mut bytes = vec![0; file.size().unwrap() as usize];
    assert_eq!(file.read_at(0, &mut bytes).unwrap(), bytes.len());
    bytes
}

fn write_file(fs: &dyn Fs, path: &std::path::Path, bytes: &[u8]) {
    let file = fs.open(path, annals::fs::Mode::Create).unwrap();
    assert_eq!(file.write_at(0, bytes).unwrap(), bytes.len());
}

#[test]
fn what_is_put_comes_back() {
    on_all_beds(|bed| {
        let store = bed.open();
        let id = stream("order-1");
        grow(&store, &id, 5);
        let before = Timestamp::now();
        let snapshots = store.snapshots().fingerprint(7).retention(Retention::Persist);
        let state = replay(&store, &id, 3);
        snapshots.put(&id, 3, &state).unwrap();
        let check = |store: &Store| {
            let found = store.snapshots().fingerprint(7).latest(&id).unwrap().unwrap();
            let event = store.read(&id).from(3).limit(1).into_iter().next().unwrap().unwrap();
            assert_eq!((found.stream(), found.sequence(), found.position()), (&id, 3, event.position()));
            assert_eq!((found.recorded_at(), found.retention()), (event.recorded_at(), Retention::Persist));
            assert!(found.created_at() >= before && found.created_at() <= Timestamp::now());
            assert_eq!((found.fingerprint(), found.codec()), (7, Codec::default()));
            assert_eq!(found.decode::<Seen>().unwrap(), state);
        };
        check(&store);
        store.close().unwrap();
        check(&bed.open());
        check(&bed.read_only());
    });
}

#[test]
fn every_codec() {
    on(Bed::quick(), |bed| {
        let store = bed.open();
        let id = stream("order-1");
        grow(&store, &id, 3);
        let state = replay(&store, &id, 1);
        #[cfg(feature = "json")]
        {
            store.snapshots().put(&id, 1, &state).unwrap();
            let found = store.snapshots().latest(&id).unwrap().unwrap();
            assert_eq!((found.codec(), found.decode::<Seen>().unwrap()), (Codec::Json, state.clone()));
            assert_eq!(found.bytes(), serde_json_like(&state).as_bytes());
        }
        store.snapshots().codec(Codec::Bincode).put(&id, 1, &state).unwrap();
        let found = store.snapshots().latest(&id).unwrap().unwrap();
        assert_eq!((found.codec(), found.decode::<Seen>().unwrap()), (Codec::Bincode, state.clone()));

        store.snapshots().put_bytes(&id, 1, b"\x00raw\xFF").unwrap();
        let found = store.snapshots().latest(&id).unwrap().unwrap();
        assert_eq!((found.codec(), found.bytes()), (Codec::Bytes, &b"\x00raw\xFF"[..]));
        assert!(matches!(found.decode::<Seen>(), Err(Error::Codec { .. })));
        assert!(matches!(store.snapshots().codec(Codec::Bytes).put(&id, 1, &state), Err(Error::Codec { .. })));
        assert_eq!(sequences(&store, &id), [1], "replaced each time");
    });
}

fn serde_json_like(state: &Seen) -> String {
    let texts: Vec<String> = state.texts.iter().map(|text| format!("{text:?}")).collect();
    format!("{{\"count\":{},\"texts\":[{}]}}", state.count, texts.join(","))
}

#[test]
fn small_and_large_states_come_back_exactly() {
    on(vec![Bed::directory(), Bed::memory()], |bed| {
        let store = bed.open();
        let id = stream("order-1");
        grow(&store, &id, 1);
        for len in [0, 1, 8191, 8192, 8193, 100 << 10, 64 << 20] {
            let state = noise(len as u64, len);
            store.snapshots().put_bytes(&id, 0, &state).unwrap();
            assert!(store.snapshots().latest(&id).unwrap().unwrap().bytes() == state, "{len} raw bytes");
        }
        // As a value: bytes after their length, and numbers that take more room than their bytes.
        let text = "x".repeat(64 << 20);
        store.snapshots().put(&id, 0, &text).unwrap();
        assert!(store.snapshots().latest(&id).unwrap().unwrap().decode::<String>().unwrap() == text);
        let numbers: Vec<u64> = (0..20 << 20).map(|n| n % 200).collect();
        store.snapshots().put(&id, 0, &numbers).unwrap();
        assert!(store.snapshots().latest(&id).unwrap().unwrap().decode::<Vec<u64>>().unwrap() == numbers);
        assert_eq!(store.snapshots().skipped(), SkippedSnapshots::default());
    });
}

#[test]
fn at_a_sequence_and_a_time() {
    on(Bed::quick(), |bed| {
        let store = ticking(bed);
        let id = stream("order-1");
        grow(&store, &id, 10);
        put_true(&store, &id, [2, 5, 7]);
        let at = |sequence| store.snapshots().at(&id, sequence).unwrap().map(|found| found.sequence());
        let found: Vec<_> = (0..10).map(at).collect();
        let expected = [None, None, Some(2), Some(2), Some(2), Some(5), Some(5), Some(7), Some(7), Some(7)];
        assert_eq!(found, expected);
        assert_eq!(at(u64::MAX), Some(7));

        for event in store.read(&id) {
            let event = event.unwrap();
            let at_time = |nanos| {
                let time = Timestamp::from_nanos(event.recorded_at().as_nanos() + nanos);
                store.snapshots().at_time(&id, time).unwrap().map(|found| found.sequence())
            };
            assert_eq!(at_time(0), at(event.sequence()));
            assert_eq!(at_time(-1), event.sequence().checked_sub(1).and_then(at));
        }
        assert_eq!(store.snapshots().skipped(), SkippedSnapshots::default());
    });
}

#[test]
fn list_tells_what_is_there_and_delete_removes_it() {
    on_all_beds(|bed| {
        let store = bed.open();
        let (one, other) = (stream("order-1"), stream("order-2"));
        assert_eq!(store.snapshots().list_all().unwrap(), []);
        assert_eq!(store.snapshots().delete(&one).unwrap(), 0, "no error when there is none");
        grow(&store, &one, 9);
        grow(&store, &other, 2);
        put_true(&store, &one, [7, 3]);
        put_true(&store, &other, [1]);
        store.snapshots().fingerprint(9).put_bytes(&one, 8, b"12345").unwrap();

        let list = store.snapshots().list(&one).unwrap();
        assert_eq!(list.iter().map(|info| info.sequence).collect::<Vec<_>>(), [3, 7, 8]);
        let info = &list[2];
        assert_eq!((&info.stream, info.bytes, info.fingerprint), (&one, 5, 9));
        assert_eq!((info.codec, info.retention), (Codec::Bytes, Retention::Default));
        assert!(info.path.starts_with(bed.path().join("snapshots")));
        assert_eq!(info.path.file_name().unwrap(), "00000000000000000008.snap");
        let all = store.snapshots().list_all().unwrap();
        let names: Vec<_> = all.iter().map(|info| (info.stream.to_string(), info.sequence)).collect();
        let expected = [("order-1", 3), ("order-1", 7), ("order-1", 8), ("order-2", 1)];
        assert_eq!(names, expected.map(|(name, sequence)| (name.to_owned(), sequence)));

        assert_eq!(store.snapshots().delete(&one).unwrap(), 3);
        assert_eq!(store.snapshots().delete(&one).unwrap(), 0);
        assert_eq!((sequences(&store, &one), sequences(&store, &other)), (vec![], vec![1]));
        assert!(store.snapshots().latest(&one).unwrap().is_none());
        bed.close_and_check(store);
    });
}

#[test]
fn a_directory_without_snapshots_goes() {
    let bed = Bed::directory();
    let store = bed.open();
    let id = stream("order-1");
    grow(&store, &id, 1);
    put_true(&store, &id, [0]);
    let dir = bed.path().join("snapshots");
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 1);
    store.snapshots().delete(&id).unwrap();
    assert_eq!(std::fs::read_dir(&dir).unwrap().count(), 0);
}

#[test]
fn a_snapshot_needs_its_event() {
    let store = Store::in_memory();
    let id = stream("order-1");
    assert!(matches!(store.snapshots().put(&id, 0, &1), Err(Error::Invalid { .. })));
    grow(&store, &id, 2);
    for sequence in [2, 3, u64::MAX] {
        let refused = store.snapshots().put(&id, sequence, &1);
        assert!(matches!(&refused, Err(Error::Invalid { why, .. }) if why.contains("order-1")), "{refused:?}");
    }
    assert!(sequences(&store, &id).is_empty());
}

#[test]
fn who_may_not_write_puts_nothing() {
    let bed = Bed::directory();
    let store = bed.open();
    let id = stream("order-1");
    grow(&store, &id, 3);
    put_true(&store, &id, [1]);
    let other = store.clone();
    store.close().unwrap();
    assert!(matches!(other.snapshots().put(&id, 2, &1), Err(Error::Closed)));
    assert!(matches!(other.snapshots().delete(&id), Err(Error::Closed)));
    assert_eq!(load(other.load(&id)).snapshot, Some(1), "reads go on");
    drop(other);

    let before = annals_testkit::snapshot(&bed.path());
    let store = bed.read_only();
    assert!(matches!(store.snapshots().put(&id, 2, &1), Err(Error::ReadOnly)));
    assert!(matches!(store.snapshots().put_bytes(&id, 2, b""), Err(Error::ReadOnly)));
    assert!(matches!(store.snapshots().delete(&id), Err(Error::ReadOnly)));
    assert!(matches!(store.snapshots().delete_edition("x", None), Err(Error::ReadOnly)));
    let loaded = load(store.load(&id).snapshot_every(1));
    assert_eq!((loaded.snapshot, loaded.replayed, loaded.put), (Some(1), 1, false));
    assert_eq!(store.snapshots().verify().unwrap().usable, 1);
    drop(store);
    assert_eq!(annals_testkit::snapshot(&bed.path()), before);
}

#[test]
fn what_stays_of_older_ones() {
    on(Bed::quick(), |bed| {
        let id = stream("order-1");
        let (transient, persist) = (Retention::Transient, Retention::Persist);
        let run = |kept: Option<usize>, puts: &[(u64, Retention)]| {
            let store = bed.open_with(|options| kept.into_iter().fold(options, Options::snapshots_kept));
            let missing = 20 - store.stream(&id).unwrap().map_or(0, |info| info.next_sequence);
            grow(&store, &id, missing);
            store.snapshots().delete(&id).unwrap();
            for &(sequence, retention) in puts {
                store.snapshots().retention(retention).put(&id, sequence, &sequence).unwrap();
                assert!(sequences(&store, &id).contains(&sequence), "what was just put is there");
            }
            let left = sequences(&store, &id);
            store.close().unwrap();
            left
        };
        let default = |sequence| (sequence, Retention::Default);
        assert_eq!(run(None, &[1, 2, 3, 4].map(default)), [3, 4], "one beside the newest");
        assert_eq!(run(Some(3), &[1, 2, 3, 4, 5].map(default)), [2, 3, 4, 5]);
        assert_eq!(run(Some(0), &[1, 2, 3].map(default)), [3]);
        assert_eq!(run(None, &[(1, transient), (2, transient), default(3)]), [3]);
        assert_eq!(run(None, &[default(1), (2, transient), (3, persist), (4, transient), default(5)]), [1, 3, 5]);
        assert_eq!(run(Some(0), &[(1, persist), (2, persist), default(3), default(4)]), [1, 2, 4]);
        // One in the past: it stays until the next one is put.
        assert_eq!(run(None, &[default(5), default(9), default(3)]), [3, 5, 9]);
        assert_eq!(run(None, &[default(5), default(9), default(3), default(12)]), [9, 12]);
    });
}

#[test]
fn streams_of_other_domains_roots_and_editions_are_others() {
    on(Bed::quick(), |bed| {
        let store = bed.open_with(|options| options.snapshots_kept(0));
        let names = ["order-1", "order-2", "stock-1", "order", "order-1@a", "order-1@b", "order-11", "%2F..-%2E%00"];
        for (n, name) in names.iter().enumerate() {
            grow(&store, &stream(name), 4);
            store.snapshots().put(&stream(name), 1, &(n as u64)).unwrap();
        }
        let latest = |name: &str| {
            let found = store.snapshots().latest(&stream(name)).unwrap();
            found.map(|found| (found.sequence(), found.decode::<u64>().unwrap()))
        };
        for (n, name) in names.iter().enumerate() {
            assert_eq!(latest(name), Some((1, n as u64)), "{name}");
        }
        // Putting a newer one, and deleting, touches that stream only.
        store.snapshots().put(&stream("order-1"), 3, &100u64).unwrap();
        assert_eq!(store.snapshots().delete(&stream("order-2")).unwrap(), 1);
        assert_eq!((latest("order-1"), latest("order-2")), (Some((3, 100)), None));
        for (n, name) in names.iter().enumerate().skip(2) {
            assert_eq!(latest(name), Some((1, n as u64)), "{name}");
        }
        assert_eq!(latest("order-1@main"), latest("order-1"));
        assert_eq!(store.snapshots().delete_edition("a", Some("stock")).unwrap(), 0);
        assert_eq!(store.snapshots().delete_edition("a", Some("order")).unwrap(), 1);
        assert_eq!(store.snapshots().delete_edition("main", None).unwrap(), 0);
        assert_eq!((latest("order-1@a"), latest("order-1@b")), (None, Some((1, 5))));
    });
}

#[test]
fn an_aggregate_is_the_same_with_and_without() {
    on_all_beds(|bed| {
        let store = ticking(bed);
        let id = stream("order-1");
        grow(&store, &id, 30);
        grow(&store, &stream("noise-1"), 3);
        grow(&store, &id, 10);
        let expected = replay(&store, &id, u64::MAX);
        assert_eq!(load(store.load(&id)).snapshot, None);
        put_true(&store, &id, [4, 17, 33]);
        let loaded = load(store.load(&id));
        assert_eq!((&loaded.state, loaded.next_sequence), (&expected, 40));
        assert_eq!((loaded.snapshot, loaded.replayed, loaded.put), (Some(33), 6, false));

        // Not newer than the requested point.
        for sequence in (0..42).chain([u64::MAX]) {
            let loaded = load(store.load(&id).at(sequence));
            let used = [4, 17, 33].into_iter().rfind(|&put| put <= sequence);
            assert_eq!((loaded.state, loaded.snapshot), (replay(&store, &id, sequence), used));
            assert_eq!(loaded.next_sequence, sequence.saturating_add(1).min(40));
        }
        for position in 0..45 {
            let mut expected = Seen::default();
            for event in store.read(&id).as_of(position) {
                apply(&mut expected, &event.unwrap()).unwrap();
            }
            let loaded = load(store.load(&id).as_of(position));
            assert_eq!(loaded.next_sequence, expected.count, "as of {position}");
            assert_eq!(loaded.snapshot, [4, 17, 33].into_iter().rfind(|&put| put < expected.count));
            assert_eq!(loaded.state, expected);
            let time = store.read_all().from(position).limit(1).into_iter().next();
            let Some(time) = time.map(|event| event.unwrap().recorded_at()) else { continue };
            assert_eq!(load(store.load(&id).as_of(time)).state, load(store.load(&id).as_of(position)).state);
            assert_eq!(load(store.load(&id).as_of(AsOf::Time(time)).at(5)).state.count, expected.count.min(6));
        }
        store.close().unwrap();

        let store = bed.open_with(|options| options.read_snapshots(false));
        let without = load(store.load(&id).snapshot_every(1));
        assert_eq!((without.state, without.snapshot, without.put), (expected.clone(), None, false));
        assert!(store.snapshots().latest(&id).unwrap().is_none());
        assert_eq!(sequences(&store, &id), [4, 17, 33], "they are there");
        assert_eq!(store.snapshots().check(&id, Seen::default(), apply).unwrap().compared, 3);
        store.close().unwrap();
        assert_eq!(load(bed.read_only().load(&id)).state, expected);
    });
}

#[test]
fn an_empty_stream_is_the_initial_state() {
    let store = Store::in_memory();
    let loaded = load(store.load(&stream("order-1")).snapshot_every(1));
    assert_eq!((loaded.state, loaded.next_sequence, loaded.snapshot, loaded.put), (Seen::default(), 0, None, false));
}

#[test]
fn a_load_puts_a_snapshot_when_it_was_long() {
    on(Bed::quick(), |bed| {
        let store = bed.open();
        let id = stream("order-1");
        grow(&store, &id, 9);
        let every = || load(store.load(&id).fingerprint(3).snapshot_every(10));
        assert!(!every().put);
        grow(&store, &id, 1);
        assert!(!load(store.load(&id).snapshot_every(5).at(9)).put, "it may not be the latest");
        assert!(!load(store.load(&id).snapshot_every(5).as_of(100)).put);
        assert!(!load(store.load(&id).snapshot_every(0)).put);
        let first = every();
        assert_eq!((first.put, first.replayed), (true, 10));
        let second = every();
        assert_eq!((second.snapshot, second.replayed, second.put), (Some(9), 0, false));
        assert_eq!(second.state, first.state);
        grow(&store, &id, 12);
        assert_eq!((every().snapshot, every().snapshot), (Some(9), Some(21)));
        assert_eq!(every().state, replay(&store, &id, u64::MAX));
    });
}

/// An error of the application's fold is returned unchanged.
#[test]
fn errors_of_the_fold_come_through() {
    #[derive(Debug)]
    enum Mine {
        Store(Error),
        Negative,
    }
    impl From<Error> for Mine {
        fn from(error: Error) -> Self {
            Mine::Store(error)
        }
    }
    let store = Store::in_memory();
    let id = stream("order-1");
    grow(&store, &id, 3);
    let refuse = |_: &mut u64, event: &Event| if event.sequence() == 1 { Err(Mine::Negative) } else { Ok(()) };
    assert!(matches!(store.load(&id).try_fold(0, refuse), Err(Mine::Negative)));
    assert!(matches!(store.snapshots().try_check(&id, 0, refuse), Err(Mine::Negative)));
    let wrong = |_: &mut u64, event: &Event| event.decode::<u64>().map(drop).map_err(Mine::from);
    assert!(matches!(store.load(&id).try_fold(0, wrong), Err(Mine::Store(Error::Codec { .. }))));
}

#[test]
fn another_fingerprint_is_not_used() {
    on(Bed::quick(), |bed| {
        let store = bed.open();
        let id = stream("order-1");
        grow(&store, &id, 6);
        let truth = replay(&store, &id, 2);
        store.snapshots().retention(Retention::Persist).fingerprint(1).put(&id, 2, &truth).unwrap();
        // A state of another schema, which must not be taken for one of this schema.
        store.snapshots().fingerprint(2).put(&id, 4, &Seen::default()).unwrap();
        let loaded = load(store.load(&id).fingerprint(1));
        assert_eq!((loaded.snapshot, loaded.replayed), (Some(2), 3));
        assert_eq!(loaded.state, replay(&store, &id, u64::MAX));
        assert_eq!(store.snapshots().skipped().other_fingerprint, 1);
        let loaded = load(store.load(&id));
        assert_eq!((loaded.snapshot, loaded.state), (None, replay(&store, &id, u64::MAX)));
        assert_eq!(store.snapshots().skipped().other_fingerprint, 3);
        assert_eq!(store.snapshots().fingerprint(2).latest(&id).unwrap().unwrap().sequence(), 4);
        let check = store.snapshots().fingerprint(1).check(&id, Seen::default(), apply).unwrap();
        assert_eq!((check.compared, check.mismatched), (1, vec![]));
        assert_eq!(check.unusable, [(4, SnapshotFault::OtherFingerprint)]);
    });
}

#[test]
fn a_state_of_another_type_is_passed_over() {
    let store = Store::in_memory();
    let id = stream("order-1");
    grow(&store, &id, 5);
    put_true(&store, &id, [1]);
    store.snapshots().put_bytes(&id, 2, b"raw").unwrap();
    store.snapshots().put(&id, 3, &"not such a state").unwrap();
    let loaded = load(store.load(&id));
    assert_eq!((loaded.snapshot, loaded.state), (Some(1), replay(&store, &id, u64::MAX)));
    assert_eq!(store.snapshots().skipped(), {
        let mut skipped = SkippedSnapshots::default();
        skipped.undecodable = 2;
        skipped
    });
}

/// Every byte of a file, changed in three ways, and every length: never used, always counted, and
/// the aggregate is the same.
#[test]
fn a_damaged_snapshot_is_skipped_and_counted() {
    let bed = Bed::memory();
    let store = bed.open();
    let id = stream("order-1");
    grow(&store, &id, 8);
    put_true(&store, &id, [2, 6]);
    let expected = replay(&store, &id, u64::MAX);
    let path = paths(&store, &id).remove(1);
    let good = read_file(bed.fs(), &path);
    let mut skipped = 0;
    let mut check = |bytes: &[u8], what: &dyn std::fmt::Debug| {
        write_file(bed.fs(), &path, bytes);
        let loaded = load(store.load(&id));
        assert_eq!((&loaded.state, loaded.snapshot), (&expected, Some(2)), "{what:?}");
        let count = store.snapshots().skipped();
        skipped += 1;
        assert_eq!(count.damaged + count.newer_format, skipped, "{what:?}: {count:?}");
    };
    for at in 0..good.len() {
        for change in [|byte| byte ^ 1, |byte: u8| byte ^ 0x80, |byte: u8| !byte] {
            let mut bytes = good.clone();
            bytes[at] = change(bytes[at]);
            check(&bytes, &at);
        }
    }
    for len in 0..good.len() {
        check(&good[..len], &len);
    }
    check(&[&good[..], b"\0"].concat(), &"longer");
    check(&vec![0; good.len()], &"zeros");
    check(&noise(7, good.len()), &"noise");
    write_file(bed.fs(), &path, &good);
    assert_eq!(load(store.load(&id)).snapshot, Some(6));

    // The report for the operator.
    write_file(bed.fs(), &path, &good[..good.len() - 1]);
    let report = store.snapshots().verify().unwrap();
    assert_eq!((report.files, report.usable), (2, 1));
    assert_eq!(report.unusable, [(path.clone(), SnapshotFault::Damaged)]);
    let check = store.snapshots().check(&id, Seen::default(), apply).unwrap();
    assert_eq!((check.compared, check.unusable), (1, vec![(6, SnapshotFault::Damaged)]));
    // The next put removes it.
    grow(&store, &id, 1);
    store.snapshots().put(&id, 8, &replay(&store, &id, 8)).unwrap();
    assert_eq!(store.snapshots().verify().unwrap().unusable, []);
    assert_eq!(sequences(&store, &id), [2, 8]);
}

#[test]
fn a_newer_format_is_counted_apart_and_left_alone() {
    let bed = Bed::memory();
    let store = bed.open();
    let id = stream("order-1");
    grow(&store, &id, 8);
    put_true(&store, &id, [2, 6]);
    let path = paths(&store, &id).remove(1);
    let mut bytes = read_file(bed.fs(), &path);
    bytes[10] = 9;
    write_file(bed.fs(), &path, &bytes);
    assert_eq!(load(store.load(&id)).snapshot, Some(2));
    let skipped = store.snapshots().skipped();
    assert_eq!((skipped.newer_format, skipped.damaged), (1, 0));
    put_true(&store, &id, [7]);
    assert_eq!(store.snapshots().verify().unwrap().unusable, [(path, SnapshotFault::NewerFormat)]);
}

/// A snapshot where another one belongs: another sequence, another stream, another store.
#[test]
fn a_snapshot_in_the_wrong_place_is_not_used() {
    let bed = Bed::memory();
    let store = ticking(&bed);
    let (one, other) = (stream("order-1"), stream("order-2"));
    grow(&store, &one, 8);
    grow(&store, &other, 8);
    put_true(&store, &one, [2, 6]);
    put_true(&store, &other, [6]);
    let (ours, theirs) = (paths(&store, &one), paths(&store, &other));
    let good = read_file(bed.fs(), &ours[1]);
    let foreign = {
        // The same names, events and times, in another store.
        let bed = Bed::memory();
        let twin = ticking(&bed);
        grow(&twin, &one, 8);
        twin.snapshots().put(&one, 6, &Seen::default()).unwrap();
        read_file(bed.fs(), &paths(&twin, &one)[0])
    };
    let wrong = [read_file(bed.fs(), &ours[0]), read_file(bed.fs(), &theirs[0]), foreign];
    for (n, bytes) in wrong.iter().enumerate() {
        write_file(bed.fs(), &ours[1], bytes);
        let loaded = load(store.load(&one));
        assert_eq!((loaded.snapshot, loaded.state), (Some(2), replay(&store, &one, u64::MAX)), "{n}");
        assert_eq!(store.snapshots().skipped().not_of_stream, n as u64 + 1);
        assert_eq!(store.snapshots().verify().unwrap().unusable, [(ours[1].clone(), SnapshotFault::NotOfStream)]);
    }
    write_file(bed.fs(), &ours[1], &good);
    assert_eq!(load(store.load(&one)).snapshot, Some(6));
    // Foreign names do no harm.
    let dir = ours[0].parent().unwrap();
    for name in ["6.snap", "x.snap", "00000000000000000006.snap.bak", "99999999999999999999.snap"] {
        write_file(bed.fs(), &dir.join(name), b"junk");
    }
    write_file(bed.fs(), &bed.path().join("snapshots/elsewhere/00000000000000000001.snap"), b"junk");
    assert_eq!(store.snapshots().verify().unwrap().files, 3);
    assert_eq!(load(store.load(&one)).snapshot, Some(6));
}

/// Events that were never synced are lost in a power cut; a snapshot that had been put may outlive
/// them. Others replace them, with the same sequences and positions.
#[test]
fn a_snapshot_that_outlived_its_events_is_not_used() {
    let bed = Bed::simulated();
    let store = bed.options().durability(Durability::Os).open(bed.path()).unwrap();
    let id = stream("order-1");
    grow(&store, &id, 3);
    store.sync().unwrap();
    grow(&store, &id, 4);
    // Putting makes the events durable first. So it takes a directory of snapshots that was kept
    // and a store that was restored from before.
    let durable = bed.sim().crash(annals_testkit::Image::Durable);
    let snapshots = store.snapshots().retention(Retention::Persist);
    snapshots.put(&id, 1, &replay(&store, &id, 1)).unwrap();
    snapshots.put(&id, 6, &replay(&store, &id, 6)).unwrap();
    let kept = paths(&store, &id).into_iter().map(|path| (read_file(bed.fs(), &path), path)).collect::<Vec<_>>();
    drop(store);
    let cut = Bed { disk: annals_testkit::Disk::Simulated(durable), ..bed };
    for (bytes, path) in kept {
        cut.sim().set_contents(path, bytes);
    }
    let store = cut.open();
    assert_eq!(store.stream(&id).unwrap().unwrap().next_sequence, 3);
    let loaded = load(store.load(&id));
    assert_eq!((loaded.snapshot, loaded.next_sequence), (Some(1), 3), "beyond the end of the stream");
    // Other events with the same sequences and positions, and another time.
    for n in 3..8 {
        store.append(&id, Expected::Next(n), [NewEvent::new("T", "other")]).unwrap();
    }
    let loaded = load(store.load(&id));
    assert_eq!((loaded.snapshot, loaded.state), (Some(1), replay(&store, &id, u64::MAX)));
    assert_eq!(store.snapshots().skipped().not_of_stream, 2);
    // It does not count as newer, and the next put removes it.
    store.snapshots().retention(Retention::Transient).put(&id, 4, &replay(&store, &id, 4)).unwrap();
    assert_eq!(sequences(&store, &id), [1, 4]);
    assert_eq!(load(store.load(&id)).snapshot, Some(4));
}

#[test]
fn a_check_finds_what_was_put_wrong() {
    on(Bed::quick(), |bed| {
        let store = bed.open();
        let id = stream("order-1");
        grow(&store, &id, 10);
        put_true(&store, &id, [0, 3, 9]);
        let wrong = Seen { count: 1, ..replay(&store, &id, 5) };
        store.snapshots().retention(Retention::Persist).put(&id, 5, &wrong).unwrap();
        let check = store.snapshots().check(&id, Seen::default(), apply).unwrap();
        assert_eq!((check.compared, check.mismatched, check.unusable), (4, vec![5], vec![]));
        assert_eq!(store.snapshots().verify().unwrap().usable, 4, "as such it is a good snapshot");
    });
}

/// What the system cannot read or write: reads continue without it, puts report it, and leave what
/// was there.
#[test]
fn failing_calls() {
    let bed = Bed::simulated();
    let store = bed.open_with(|options| options.memory_map(true).sync_snapshots(true).reserve(0));
    let id = stream("order-1");
    grow(&store, &id, 8);
    put_true(&store, &id, [2, 6]);
    let kinds = [Operation::Create, Operation::Write, Operation::Sync, Operation::Rename, Operation::SyncDir];
    for operation in kinds {
        bed.sim().fail(Fault { operation, after: 0, times: 1, kind: io::ErrorKind::StorageFull });
        let refused = store.snapshots().retention(Retention::Persist).put(&id, 7, &Seen::default());
        assert!(matches!(refused, Err(Error::Io { .. })), "{operation:?}: {refused:?}");
        let left = sequences(&store, &id);
        // The name exists when the sync of the directory fails: as good as any other snapshot.
        assert!(left == [2, 6] || operation == Operation::SyncDir, "{operation:?}: {left:?}");
        let leftovers = bed.sim().files().into_iter().filter(|path| path.extension().is_some_and(|e| e == "new"));
        assert_eq!(leftovers.count(), 0, "{operation:?}");
        store.snapshots().delete(&id).unwrap();
        put_true(&store, &id, [2, 6]);
    }
    // An older one cannot be removed: no error of the put, and the next one removes it.
    store.snapshots().retention(Retention::Transient).put(&id, 3, &1).unwrap();
    bed.sim().fail(Fault { operation: Operation::Remove, after: 0, times: 1, kind: io::ErrorKind::Other });
    store.snapshots().retention(Retention::Transient).put(&id, 7, &1).unwrap();
    assert_eq!(sequences(&store, &id), [2, 3, 6, 7]);
    store.snapshots().retention(Retention::Transient).put(&id, 7, &1).unwrap();
    assert_eq!(sequences(&store, &id), [2, 6, 7]);
    bed.sim().fail(Fault { operation: Operation::Remove, after: 0, times: 1, kind: io::ErrorKind::Other });
    assert!(matches!(store.snapshots().delete(&id), Err(Error::Io { .. })));
    store.snapshots().delete(&id).unwrap();

    put_true(&store, &id, [2, 6]);
    let expected = replay(&store, &id, u64::MAX);
    for after in 0..4 {
        bed.sim().fail(Fault { operation: Operation::Read, after, times: 1, kind: io::ErrorKind::Other });
        // The reads of the events fail, too: those are errors.
        if let Ok(loaded) = store.load(&id).fold(Seen::default(), apply) {
            assert_eq!(loaded.state, expected);
        }
        bed.sim().heal();
    }
    assert!(store.snapshots().skipped().unreadable > 0);
    assert_eq!(load(store.load(&id)).snapshot, Some(6));
}

#[test]
fn a_full_disk_is_told_before_it_is_full() {
    let bed = Bed::simulated();
    let store = bed.open_with(|options| options.reserve(100_000));
    let id = stream("order-1");
    grow(&store, &id, 2);
    bed.sim().set_capacity(65 << 20);
    let put = store.snapshots().put_bytes(&id, 1, &vec![1; 65 << 20]);
    assert!(matches!(put, Err(Error::DiskFull { reserve: 100_000, .. })), "{put:?}");
    assert!(sequences(&store, &id).is_empty());
}

#[test]
fn what_a_crash_has_left_is_removed() {
    let bed = Bed::memory();
    let store = bed.open();
    let id = stream("order-1");
    grow(&store, &id, 4);
    put_true(&store, &id, [1]);
    let leftover = paths(&store, &id)[0].with_file_name("00000000000000000000.snap.new");
    for clean in [&(|| put_true(&store, &id, [2])) as &dyn Fn(), &|| {
        store.snapshots().delete(&id).unwrap();
    }] {
        write_file(bed.fs(), &leftover, b"half");
        clean();
        assert!(bed.fs().open(&leftover, annals::fs::Mode::Read).is_err());
    }
}

/// Several threads put, load and delete at once: each sees a true state.
#[test]
fn threads_do_not_disturb_each_other() {
    on(vec![Bed::directory(), Bed::memory()], |bed| {
        let store = bed.open();
        let ids = ["order-1", "order-2"].map(stream);
        ids.iter().for_each(|id| grow(&store, id, 50));
        std::thread::scope(|scope| {
            for (thread, id) in (0..4u64).flat_map(|thread| ids.iter().map(move |id| (thread, id))) {
                let store = &store;
                scope.spawn(move || {
                    for n in 0..100u64 {
                        let sequence = (n * 7 + thread * 13) % 50;
                        match n % 20 {
                            19 if thread == 0 => drop(store.snapshots().delete(id).unwrap()),
                            n if n % 2 == thread % 2 => {
                                store.snapshots().put(id, sequence, &replay(store, id, sequence)).unwrap();
                            }
                            _ => assert_eq!(load(store.load(id).at(sequence)).state, replay(store, id, sequence)),
                        }
                    }
                });
            }
        });
        let skipped = store.snapshots().skipped();
        assert_eq!((skipped.damaged, skipped.not_of_stream), (0, 0), "{skipped:?}");
        assert!(store.snapshots().verify().unwrap().unusable.is_empty());
    });
}

/// `annals::offline::verify` reads the directory.
#[test]
fn the_check_of_the_store_knows_snapshots() {
    let bed = Bed::directory();
    let store = bed.open();
    let id = stream("order-1");
    grow(&store, &id, 4);
    put_true(&store, &id, [1]);
    store.close().unwrap();
    let report = annals::offline::verify(bed.path()).unwrap();
    assert!(report.is_sound() && report.not_covered.is_empty(), "{report:?}");
    std::fs::remove_dir_all(bed.path().join("snapshots")).unwrap();
    assert_eq!(load(bed.open().load(&id)).state.count, 4);
}
