//! Handles, threads and time: what works on the files of a store, and until when.

use annals::fs::{Entry, Fs};
use annals::offline::verify_in;
use annals::{Durability, Error, Event, Expected, Guard, NewEvent, Options, Projection, Query, Result, Store};
use annals_testkit::held::{Call, HeldFs, Hold};
use annals_testkit::{Image, SimFs};
use annals_testkit::{all_records, assert_same, records, stream, texts};
use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake};
use std::thread;
use std::time::Duration;

const INDEX: &str = "store/00000000000000000001.idx";

fn named<T: Send + 'static>(name: &str, run: impl FnOnce() -> T + Send + 'static) -> thread::JoinHandle<T> {
    thread::Builder::new().name(name.into()).spawn(run).unwrap()
}

fn names(disk: &SimFs) -> Vec<String> {
    let listed = disk.list(Path::new("store")).unwrap();
    let mut names: Vec<String> = listed.into_iter().map(|Entry { name, .. }| name).collect();
    names.sort();
    names
}

/// Closes a store while another thread is held at a call, in the middle of some work. Closing does
/// not end before the other thread has continued, and nothing reaches the directory after it.
///
/// (A close that did not wait would end long before the pause does; one that waits never does,
/// however slow the machine is.)
#[track_caller]
fn closes_after(fs: &HeldFs, hold: &Hold, store: Store) {
    let (tell, told) = channel();
    let closer = named("closer", move || {
        let closed = store.close();
        tell.send(()).unwrap();
        closed
    });
    let early = told.recv_timeout(Duration::from_millis(300));
    assert_eq!(early, Err(RecvTimeoutError::Timeout), "closed beside work on the directory");
    hold.go();
    closer.join().unwrap().unwrap();
    let late = fs.changes_since_unlock();
    assert!(late.is_empty(), "after the lock was released: {late:#?}");
}

/// The next owner finds all events, writes, and leaves a sound store.
#[track_caller]
fn the_next_owner_is_alone(disk: &SimFs, before: u64) {
    let store = Options::new().file_system(disk.clone()).maintenance(false).open("store").unwrap();
    assert!(store.open_report().clean, "{:?}", store.open_report());
    assert_eq!(store.len(), before);
    store.append(&stream("next-1"), Expected::NoStream, texts(["x"])).unwrap();
    let found = all_records(&store);
    store.close().unwrap();
    let report = verify_in(disk, "store").unwrap();
    assert!(report.is_sound() && report.torn.is_none() && report.events == before + 1, "{report:?}");
    let store = Options::new().file_system(disk.clone()).open("store").unwrap();
    assert_same(&all_records(&store), &found, &"reopened");
}

/// The lock was released while the thread that had led the last group was still making a spare
/// file. The next owner gave its own spare file the same name, made a segment of it, and
/// acknowledged events in it; then the zeros of the first owner overwrote them: 10 of 13
/// acknowledged events were left. Now closing waits for the work of a leader after its commit, and
/// numbers of spare files are unique to an owner.
#[test]
fn closing_waits_for_the_spare_file_of_the_last_leader() {
    for call in [Call::Create, Call::Write, Call::Sync] {
        let disk = SimFs::new();
        let fs = HeldFs::over(disk.clone());
        let options = Options::new().file_system(fs.clone()).maintenance(false).segment_size(1 << 20).reserve(0);
        let store = options.open("store").unwrap();
        let hold = fs.hold(call, "SPARE.");
        let leader = {
            let store = store.clone();
            named("leader", move || {
                let events = (0..3).map(|_| NewEvent::with_data("T", vec![7; 100_000]));
                store.append(&stream("order-1"), Expected::NoStream, events).unwrap();
            })
        };
        hold.arrived();
        assert_eq!(store.len(), 3, "visible, as the spare file comes behind it");
        closes_after(&fs, &hold, store);
        leader.join().unwrap();
        assert!(names(&disk).iter().all(|name| !name.starts_with("SPARE")), "{:?}", names(&disk));
        the_next_owner_is_alone(&disk, 3);
    }
}

/// Two successive owners never give two spare files the same name, even if the first one never
/// removed its own.
#[test]
fn spare_files_of_two_owners_have_different_names() {
    let spare = |disk: &SimFs| names(disk).into_iter().find(|name| name.starts_with("SPARE."));
    let disk = SimFs::new();
    let mut seen = Vec::new();
    for _ in 0..3 {
        let options = Options::new().file_system(disk.clone()).maintenance(false).segment_size(4096).reserve(0);
        let store = options.open("store").unwrap();
        let found = (0..40).find_map(|_| {
            store.append(&stream("s-1"), Expected::Any, [NewEvent::with_data("T", vec![7; 300])]).unwrap();
            spare(&disk)
        });
        seen.push(found.expect("a spare file"));
        store.close().unwrap();
    }
    assert!(seen[0] != seen[1] && seen[1] != seen[2] && seen[0] != seen[2], "{seen:?}");
}

/// What a waker drops when it wakes.
struct DropsOnWake(Mutex<Option<Store>>);

impl Wake for DropsOnWake {
    fn wake(self: Arc<Self>) {
        drop(self.0.lock().unwrap().take());
    }
}

/// The thread that writes a commit wakes its waiters, and a waker may drop the last handle: closing
/// then runs in the middle of the work of the leader that it would wait for, or in the maintenance
/// thread whose end it would wait for.
#[test]
fn a_waker_may_drop_the_last_handle() {
    for maintenance in [false, true] {
        let disk = SimFs::new();
        let fs = HeldFs::over(disk.clone());
        let options = Options::new().file_system(fs.clone()).maintenance(maintenance).segment_size(4096).reserve(0);
        let store = options.open("store").unwrap();
        let event = || NewEvent::with_data("T", vec![7; 1000]);
        // So that the leader has a spare file to make after the next one, and an index to write.
        let events = (0..3).map(|_| event()).collect::<Vec<_>>();
        store.append(&stream("order-1"), Expected::NoStream, events).unwrap();
        let ticket = store.transaction().append(&stream("order-1"), Expected::Next(3), [event(), event()]);
        let mut ticket = Box::pin(ticket.submit().unwrap().into_future());
        let waker = Arc::new(DropsOnWake(Mutex::new(Some(store)))).into();
        let mut context = Context::from_waker(&waker);
        while ticket.as_mut().poll(&mut context).is_pending() {
            thread::yield_now();
        }
        // The maintenance thread may still be closing.
        while fs.made().last().is_none_or(|made| made.call != Call::Unlock) {
            thread::yield_now();
        }
        the_next_owner_is_alone(&disk, 5);
    }
}

#[derive(Default, serde::Serialize, serde::Deserialize)]
struct Counted(u64);

struct Count;

impl Projection for Count {
    type State = Counted;

    fn name(&self) -> &str {
        "count"
    }

    fn version(&self) -> u32 {
        1
    }

    fn query(&self) -> Query {
        Query::new()
    }

    fn apply(&self, state: &mut Counted, _: &Event) -> Result<()> {
        state.0 += 1;
        Ok(())
    }
}

/// All work on the directory besides commits: closing waits for it, and it ends as if the store had
/// not been closed.
#[test]
fn closing_waits_for_all_work_on_the_directory() {
    type Job = fn(&Store) -> Result<()>;
    let put: Job = |store| store.snapshots().put_bytes(&stream("order-1"), 1, b"state");
    let delete: Job = |store| store.snapshots().delete(&stream("order-1")).map(drop);
    let save: Job = |store| store.projection(Count).catch_up()?.save();
    let flush: Job = |store| store.positions().flush();
    let roll: Job = |store| {
        let event = NewEvent::with_data("T", vec![7; 4000]);
        store.append(&stream("order-2"), Expected::Any, [event]).map(drop)
    };
    let jobs: [(&str, Call, &str, Job, u64); 9] = [
        ("a snapshot is put", Call::Create, ".snap", put, 2),
        ("a snapshot is put", Call::Rename, ".snap", put, 2),
        ("snapshots are deleted", Call::Remove, ".snap", delete, 2),
        ("a state is saved", Call::Write, ".state", save, 2),
        ("a state is saved", Call::Rename, ".state", save, 2),
        ("positions are flushed", Call::Write, "POSITIONS", flush, 2),
        ("positions are flushed", Call::Rename, "POSITIONS", flush, 2),
        ("a full segment gets its index", Call::Write, ".idx.", roll, 3),
        ("a full segment gets its index", Call::Rename, ".idx", roll, 3),
    ];
    for (what, call, file, job, events) in jobs {
        let disk = SimFs::new();
        let fs = HeldFs::over(disk.clone());
        let options = Options::new().file_system(fs.clone()).maintenance(false).segment_size(4096).reserve(0);
        let store = options.open("store").unwrap();
        store.append(&stream("order-1"), Expected::NoStream, texts(["x", "y"])).unwrap();
        if what.contains("deleted") {
            store.snapshots().put_bytes(&stream("order-1"), 0, b"state").unwrap();
        }
        if what.contains("positions") {
            store.positions().put("handler", &stream("order-1"), 1).unwrap();
        }
        let hold = fs.hold(call, file);
        let worker = {
            let store = store.clone();
            named("worker", move || job(&store))
        };
        hold.arrived();
        closes_after(&fs, &hold, store);
        worker.join().unwrap().unwrap_or_else(|e| panic!("{what}: {e}"));
        the_next_owner_is_alone(&disk, events);
    }
}

/// Returns a store with an index that covers only a part of its segment, and is damaged at the tag
/// `a-wanted`: the tag of all events of `order-1`, whose number is returned.
fn with_a_bad_index(disk: &SimFs) -> u64 {
    let options = Options::new().file_system(disk.clone()).maintenance(false).segment_size(2 << 20);
    let store = options.open("store").unwrap();
    let mut count = 0;
    // Enough to make closing write an index of a part of a segment.
    while store.stats().unwrap().segments[0].bytes < (1 << 20) + 100_000 {
        append(&store, count);
        count += 1;
    }
    store.close().unwrap();
    let mut bytes = disk.contents(INDEX).expect("an index of a part of the segment");
    let at = bytes.windows(8).rposition(|window| window == b"a-wanted").unwrap();
    bytes[at] ^= 1;
    disk.set_contents(INDEX, bytes);
    count
}

fn append(store: &Store, n: u64) {
    let event = NewEvent::with_data("T", vec![n as u8; 20_000]).tag("a-wanted").tag(format!("only-{n}"));
    // Opening reads the last terms of an index: the damaged one must be another.
    let event = event.tag(format!("p-{n}")).tag(format!("q-{n}"));
    store.append(&stream("order-1"), Expected::Next(n), [event]).unwrap();
}

fn by_tag(store: &Store, tag: &str) -> usize {
    store.query(&Query::new().tag(tag)).into_iter().inspect(|event| assert!(event.is_ok(), "{event:?}")).count()
}

/// A closed handle continued to rebuild index files, under the name and beside the work of the next
/// owner. Now it keeps them in memory, and its answers are as correct as before.
#[test]
fn a_closed_handle_rebuilds_indexes_in_memory() {
    let disk = SimFs::new();
    let count = with_a_bad_index(&disk);
    let fs = HeldFs::over(disk.clone());
    let options = Options::new().file_system(fs.clone()).maintenance(false).segment_size(2 << 20);
    let (store, closed) = {
        let store = options.open("store").unwrap();
        (store.clone(), store)
    };
    closed.close().unwrap();
    assert_eq!(by_tag(&store, "a-wanted") as u64, count);
    assert_eq!(by_tag(&store, "only-3"), 1);
    assert!(matches!(store.append(&stream("s-1"), Expected::Any, texts(["x"])), Err(Error::Closed)));
    assert!(matches!(store.snapshots().put_bytes(&stream("order-1"), 0, b""), Err(Error::Closed)));
    assert!(matches!(store.projection(Count).catch_up().and_then(|model| model.save()), Err(Error::Closed)));
    assert_eq!(store.positions().get("handler", &stream("order-1")).unwrap(), None);
    assert_eq!(records(store.read_all()).len() as u64, count);
    drop(store);
    assert_eq!(fs.changes_since_unlock(), []);
}

/// A reader is about to rebuild an index when the store is closed: closing waits for it.
#[test]
fn closing_waits_for_a_reader_that_rebuilds_an_index() {
    for call in [Call::Create, Call::Sync, Call::Rename] {
        let disk = SimFs::new();
        let count = with_a_bad_index(&disk);
        let fs = HeldFs::over(disk.clone());
        let options = Options::new().file_system(fs.clone()).maintenance(false).segment_size(2 << 20);
        let store = options.open("store").unwrap();
        let hold = fs.hold(call, ".idx");
        let reader = {
            let store = store.clone();
            named("reader", move || by_tag(&store, "a-wanted"))
        };
        hold.arrived();
        closes_after(&fs, &hold, store);
        assert_eq!(reader.join().unwrap() as u64, count);
        the_next_owner_is_alone(&disk, count);
    }
}

/// A reader rebuilt the broken index of the active segment while the segment was filled and sealed;
/// both wrote to `….idx.new`, and the last one wrote into the file that had just been published,
/// under maps in use: pieces of the wrong index, with valid checksums. A reader found 0 of 508
/// events, and a guard "no event has this tag" passed although one had. Now each writes a file of
/// its own, and one thread at a time decides what is published under the name: the index that
/// covers less is discarded.
#[test]
fn a_rebuilt_index_never_replaces_one_that_covers_more() {
    for (maintenance, call) in
        [Call::Create, Call::Write, Call::Sync].map(|call| [(false, call), (true, call)]).concat()
    {
        let disk = SimFs::new();
        let before = with_a_bad_index(&disk);
        let fs = HeldFs::over(disk.clone());
        let options =
            || Options::new().file_system(fs.clone()).maintenance(maintenance).segment_size(2 << 20).reserve(0);
        let store = options().open("store").unwrap();
        let hold = fs.hold_thread(call, ".idx", Some("reader"));
        let reader = {
            let store = store.clone();
            named("reader", move || by_tag(&store, "a-wanted"))
        };
        hold.arrived();
        let mut count = before;
        while store.stats().unwrap().segments.len() == 1 {
            append(&store, count);
            count += 1;
        }
        // With maintenance, the thread writes the index of the sealed segment soon.
        while store.stats().unwrap().segments[0].index_bytes == 0 {
            thread::yield_now();
        }
        let published = disk.contents(INDEX).unwrap();
        hold.go();
        assert!(reader.join().unwrap() as u64 >= before);

        let holds = |store: &Store| {
            assert_eq!(by_tag(store, "a-wanted") as u64, count);
            assert_eq!(records(store.read(&stream("order-1"))).len() as u64, count);
            assert!((0..count).all(|n| by_tag(store, &format!("only-{n}")) == 1));
            assert_eq!(store.stream(&stream("order-1")).unwrap().unwrap().next_sequence, count);
            let guarded = |guard| {
                let twice = [NewEvent::new("Registered twice", "")];
                store.transaction().append(&stream("other-1"), Expected::Any, twice).guard(guard).commit()
            };
            let absent = Guard::absent(Query::new().tag(format!("only-{}", before + 1)));
            assert!(matches!(guarded(absent), Err(Error::GuardFailed { .. })));
            let unchanged = Guard::unchanged(Query::new().tag("a-wanted"), before);
            assert!(matches!(guarded(unchanged), Err(Error::GuardFailed { .. })));
        };
        holds(&store);
        store.close().unwrap();
        let now = disk.contents(INDEX).unwrap();
        assert!(maintenance || now == published, "the index of all of the segment stays");
        assert!(names(&disk).iter().all(|name| !name.ends_with(".new")), "{:?}", names(&disk));
        let store = options().open("store").unwrap();
        assert!(store.open_report().notices.is_empty(), "{:?}", store.open_report());
        holds(&store);
    }
}

/// Many readers meet a broken index at once. One complete index is published, and all find the
/// same.
#[test]
fn readers_that_rebuild_one_index_do_not_meet() {
    let disk = SimFs::new();
    let count = with_a_bad_index(&disk);
    let fs = HeldFs::over(disk.clone());
    let store = Options::new().file_system(fs.clone()).maintenance(false).segment_size(2 << 20).open("store").unwrap();
    let hold = fs.hold(Call::Write, ".idx");
    let read = |store: &Store| {
        let store = store.clone();
        named("reader", move || by_tag(&store, "a-wanted") as u64)
    };
    let first = read(&store);
    hold.arrived();
    let others: Vec<_> = (0..3).map(|_| read(&store)).collect();
    for other in others {
        assert_eq!(other.join().unwrap(), count, "nobody waits for the one that is held");
    }
    hold.go();
    assert_eq!(first.join().unwrap(), count);
    store.close().unwrap();
    assert!(names(&disk).iter().all(|name| !name.ends_with(".new")), "{:?}", names(&disk));
    the_next_owner_is_alone(&disk, count);
}

/// Pieces of one index of a segment passed for pieces of another one of the same segment, as both
/// had the same masks: an index mixed of two, by a torn write or a copy, answered with the older
/// content. Now each file has its own masks.
#[test]
fn two_indexes_of_one_segment_have_different_masks() {
    let disk = SimFs::new();
    let options = || Options::new().file_system(disk.clone()).maintenance(false).segment_size(8 << 20);
    let store = options().open("store").unwrap();
    let mut count = 0;
    let mut fill = |store: &Store, bytes: u64| {
        while store.stats().unwrap().segments[0].bytes < bytes {
            append(store, count);
            count += 1;
        }
    };
    fill(&store, (1 << 20) + 100_000);
    store.close().unwrap();
    let older = disk.contents(INDEX).unwrap();
    let store = options().open("store").unwrap();
    fill(&store, (2 << 20) + 300_000);
    store.close().unwrap();
    // The newer one, with the buckets of the older one, 256 bytes each, up to its end.
    let mut mixed = disk.contents(INDEX).unwrap();
    let buckets = u32::from_le_bytes(older[100..104].try_into().unwrap()) as usize;
    mixed[512..][..buckets * 256].copy_from_slice(&older[512..][..buckets * 256]);
    disk.set_contents(INDEX, mixed);
    let store = options().open("store").unwrap();
    assert!((0..count).all(|n| by_tag(&store, &format!("only-{n}")) == 1));
    assert_eq!(by_tag(&store, "a-wanted") as u64, count);
}

/// The next owner removes indexes under temporary names that a crash leaves; files of the user with
/// similar names stay.
#[test]
fn indexes_without_a_name_are_removed_by_the_next_owner() {
    let disk = SimFs::new();
    let count = with_a_bad_index(&disk);
    let fs = HeldFs::over(disk.clone());
    let options = |fs: &HeldFs| Options::new().file_system(fs.clone()).maintenance(false).segment_size(2 << 20);
    let store = options(&fs).open("store").unwrap();
    let hold = fs.hold(Call::Rename, ".idx");
    let reader = {
        let store = store.clone();
        named("reader", move || by_tag(&store, "a-wanted"))
    };
    hold.arrived();
    let left = disk.crash(Image::Killed);
    hold.go();
    assert_eq!(reader.join().unwrap() as u64, count);
    assert_eq!(names(&left).iter().filter(|name| name.ends_with(".new")).count(), 1, "{:?}", names(&left));
    let report = verify_in(&left, "store").unwrap();
    assert!(report.is_sound() && report.not_covered.is_empty(), "{report:?}");
    let foreign = ["notes.new", "00000000000000000001.idx.new", "a.0123456789abcdef-0.new"];
    foreign.iter().for_each(|name| left.set_contents(format!("store/{name}"), b"the user's".to_vec()));
    let store = Options::new().file_system(left.clone()).open("store").unwrap();
    assert_eq!(by_tag(&store, "a-wanted") as u64, count);
    store.close().unwrap();
    let mut new: Vec<_> = names(&left).into_iter().filter(|name| name.ends_with(".new")).collect();
    new.sort();
    assert_eq!(new, ["00000000000000000001.idx.new", "a.0123456789abcdef-0.new", "notes.new"]);
}

/// Waits until a power cut would leave this many events: syncs take their time, and a test that
/// waited forever would say so.
#[track_caller]
fn until_durable(disk: &SimFs, events: u64) {
    for _ in 0..12_000 {
        let options = Options::new().file_system(disk.crash(Image::Durable)).maintenance(false);
        if options.open("store").unwrap().len() == events {
            return;
        }
        thread::sleep(Duration::from_millis(5));
    }
    panic!("not all of {events} events are synced");
}

/// `Durability::Interval` with `maintenance(false)` synced only when another commit came: of five
/// commits in a row, four were lost in a power cut at any later time, if nothing followed. Now a
/// thread syncs in every store that is opened with it.
#[test]
fn an_interval_is_kept_without_maintenance() {
    for maintenance in [false, true] {
        let disk = SimFs::new();
        let options = Options::new().durability(Durability::Interval(Duration::from_millis(20)));
        let store = options.maintenance(maintenance).file_system(disk.clone()).open("store").unwrap();
        for _ in 0..5 {
            store.append(&stream("a-1"), Expected::Any, texts(["x"])).unwrap();
        }
        until_durable(&disk, 5);
        // Again, after an idle time.
        for _ in 0..3 {
            store.append(&stream("a-1"), Expected::Any, texts(["x"])).unwrap();
        }
        until_durable(&disk, 8);
        store.close().unwrap();
    }
}

/// The thread that synced also wrote the index files of full segments, and made spare files:
/// meanwhile nothing was synced, whatever the interval. Now syncing has its own thread.
#[test]
fn an_interval_is_kept_while_an_index_is_written() {
    let disk = SimFs::new();
    let fs = HeldFs::over(disk.clone());
    let options = Options::new().durability(Durability::Interval(Duration::from_millis(20))).segment_size(4096);
    let store = options.maintenance(true).reserve(0).file_system(fs.clone()).open("store").unwrap();
    let hold = fs.hold_thread(Call::Write, ".idx", Some("annals-maintenance"));
    let mut count = 0;
    while store.stats().unwrap().segments.len() == 1 {
        store.append(&stream("a-1"), Expected::Any, texts(["some text that fills it"])).unwrap();
        count += 1;
    }
    hold.arrived();
    for _ in 0..5 {
        store.append(&stream("a-1"), Expected::Any, texts(["x"])).unwrap();
        count += 1;
    }
    until_durable(&disk, count);
    hold.go();
    store.close().unwrap();
}

/// Returns the bytes of memory that the indexes of a store take, and its number of segments.
fn index_memory(store: &Store) -> (u64, usize) {
    let stats = store.stats().unwrap();
    (stats.segments.iter().map(|segment| segment.index_memory).sum(), stats.segments.len())
}

/// 60 MiB of commits with default options took 4.2 GiB of memory: each short tag that only one
/// event has took 170 bytes, in an edition with a long name 400; a segment was sealed when its
/// events had 64 MiB, however large its index was. Now a term takes about 45 bytes besides its
/// text, shared names and keys are stored once, and a segment is sealed, and its index written,
/// when the index has grown too large in memory.
#[test]
fn a_segment_is_sealed_when_its_index_takes_too_much_memory() {
    for maintenance in [false, true] {
        let disk = SimFs::new();
        let options = || {
            let options = Options::new().file_system(disk.clone()).maintenance(maintenance).reserve(0);
            options.durability(Durability::Os).segment_size(2 << 20)
        };
        let store = options().open("store").unwrap();
        let id = stream("order-1").in_edition("e".repeat(255)).unwrap();
        let (most, commit, event) = (4 << 20, 1000, 100);
        let mut most_at_once = 0;
        for n in 0..200 {
            let events = (n * commit..(n + 1) * commit).step_by(event as usize).map(|first| {
                let tags = (first..first + event).map(|tag| format!("{tag:x}"));
                tags.fold(NewEvent::new("T", ""), |event, tag| event.tag(tag))
            });
            store.append(&id, Expected::Any, events).unwrap();
            if n % 4 == 0 {
                most_at_once = most_at_once.max(index_memory(&store).0);
            }
        }
        // Indexes that the thread has still to write are in memory, too: two segments that wait,
        // and the active one.
        let waiting = if maintenance { 3 } else { 0 };
        assert!(most_at_once < (1 + waiting) * most + 100 * commit, "{most_at_once} bytes");
        let (_, segments) = index_memory(&store);
        assert!((3..10).contains(&segments), "{segments} segments");
        let found = |store: &Store| {
            for n in (0..200 * commit).step_by(9973) {
                let query = Query::new().tag(format!("{n:x}")).edition("e".repeat(255));
                let found: Vec<_> = store.query(&query).into_iter().map(|event| event.unwrap().sequence()).collect();
                assert_eq!(found, [n / event]);
            }
        };
        found(&store);
        store.close().unwrap();
        let store = options().open("store").unwrap();
        assert!(store.open_report().notices.is_empty(), "{:?}", store.open_report().notices);
        assert!(index_memory(&store).0 < most);
        found(&store);
        assert!(verify_in(&disk, "store").unwrap().is_sound());
    }
}

/// A long idempotency key over many streams was stored once for each of them.
#[test]
fn an_idempotency_key_is_held_once() {
    let disk = SimFs::new();
    let store = Options::new().file_system(disk.clone()).maintenance(false).open("store").unwrap();
    let key = "k".repeat(1024);
    let streams: Vec<_> = (0..2000).map(|n| stream(&format!("order-{n}"))).collect();
    let commit = || {
        let begun = store.transaction().idempotency_key(&key);
        let transaction = streams
            .iter()
            .fold(begun, |transaction, stream| transaction.append(stream, Expected::Any, [NewEvent::new("T", "")]));
        transaction.commit().unwrap()
    };
    assert!(!commit().duplicate && commit().duplicate);
    let (memory, _) = index_memory(&store);
    assert!(memory < 2000 * 250, "{memory} bytes for 2000 streams");
    let other = store.transaction().idempotency_key(&key[1..]);
    assert!(!other.append(&streams[7], Expected::Any, [NewEvent::new("T", "")]).commit().unwrap().duplicate);
    store.close().unwrap();
    let store = Options::new().file_system(disk).maintenance(false).open("store").unwrap();
    // It is found by any of them; a part of the commit is not the commit.
    let again = store.transaction().idempotency_key(&key);
    let again = again.append(&streams[1999], Expected::Any, [NewEvent::new("T", "")]).commit();
    assert!(matches!(again, Err(Error::IdempotencyMismatch { positions, .. }) if positions == (0..2000)));
}
