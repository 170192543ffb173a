//! Bugs that a review has found: each test fails with its bug. Races are forced by a file system
//! that calls back in the middle of an operation.

use annals::fs::{Entry, File, FileLayer, Fs, FsLayer, MemFs, Mode};
use annals::progress::ExpectedVersion;
use annals::snapshot::Retention;
use annals::*;
use annals_testkit::{Crash, Fault, Image, Operation, SimFs};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex};

type Hook = Box<dyn FnMut(&str, &Path) -> bool + Send>;
/// Calls the hook on each operation, until it returns true.
#[derive(Clone)]
struct HookFs<F> {
    inner: F,
    hook: Arc<Mutex<Option<Hook>>>,
}
impl<F> std::fmt::Debug for HookFs<F> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HookFs")
    }
}
impl<F: Fs + Clone> HookFs<F> {
    fn new(inner: F) -> Self {
        HookFs { inner, hook: Arc::default() }
    }
    fn set(&self, h: Hook) {
        *self.hook.lock().unwrap() = Some(h);
    }
}
fn call(hook: &Arc<Mutex<Option<Hook>>>, op: &str, path: &Path) {
    let Some(mut h) = hook.lock().unwrap().take() else { return };
    if !h(op, path) {
        hook.lock().unwrap().get_or_insert(h);
    }
}
struct HookFile {
    inner: Arc<dyn File>,
    path: std::path::PathBuf,
    hook: Arc<Mutex<Option<Hook>>>,
}
impl std::fmt::Debug for HookFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("HookFile")
    }
}
impl FileLayer for HookFile {
    fn inner(&self) -> &dyn File {
        &*self.inner
    }
    fn read_at(&self, o: u64, out: &mut [u8]) -> io::Result<usize> {
        call(&self.hook, "read", &self.path);
        self.inner.read_at(o, out)
    }
    fn write_at(&self, o: u64, b: &[u8]) -> io::Result<usize> {
        call(&self.hook, "write", &self.path);
        self.inner.write_at(o, b)
    }
}
impl<F: Fs + Clone> FsLayer for HookFs<F> {
    fn inner(&self) -> &dyn Fs {
        &self.inner
    }
    fn open(&self, p: &Path, m: Mode) -> io::Result<Arc<dyn File>> {
        call(&self.hook, if m == Mode::Create { "create" } else { "open" }, p);
        Ok(Arc::new(HookFile { inner: self.inner.open(p, m)?, path: p.into(), hook: self.hook.clone() }))
    }
    fn list(&self, d: &Path) -> io::Result<Vec<Entry>> {
        call(&self.hook, "list", d);
        self.inner.list(d)
    }
}

fn s(t: &str) -> StreamId {
    t.parse().unwrap()
}
fn ev(t: &str) -> NewEvent<'static> {
    NewEvent::new(t.to_owned(), "")
}
fn evs(p: &str, n: usize) -> Vec<NewEvent<'static>> {
    (0..n).map(|i| ev(&format!("{p}{i}"))).collect()
}
fn types(r: impl IntoIterator<Item = Result<Event>>) -> Vec<String> {
    r.into_iter().map(|e| e.unwrap().event_type().to_owned()).collect()
}

thread_local! { static ON_DECODE: RefCell<Option<Box<dyn FnOnce()>>> = RefCell::new(None); }
#[derive(Serialize, PartialEq, Debug, Clone, Default)]
struct St(Vec<String>);
impl<'de> Deserialize<'de> for St {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> std::result::Result<Self, D::Error> {
        if let Some(f) = ON_DECODE.with(|c| c.borrow_mut().take()) {
            f();
        }
        Ok(St(Vec::deserialize(d)?))
    }
}
fn apply(st: &mut St, e: &Event) -> Result<()> {
    st.0.push(e.event_type().to_owned());
    Ok(())
}

#[test]
fn load_race_with_divergence() {
    let store = Store::in_memory();
    let (m, x) = (s("order-1"), s("order-1@x"));
    store.append(&m, Expected::Any, evs("m", 6)).unwrap();
    store.load(&x).snapshot_every(1).fold(St::default(), apply).unwrap();
    let (st2, x2) = (store.clone(), x.clone());
    ON_DECODE.with(|c| {
        *c.borrow_mut() = Some(Box::new(move || {
            st2.append(&x2, Expected::Next(2), evs("x", 10)).unwrap();
        }))
    });
    store.load(&x).snapshot_every(1).fold(St::default(), apply).unwrap();
    let again = store.load(&x).fold(St::default(), apply).unwrap();
    let truth = types(store.read(&x));
    assert_eq!(again.state.0, truth);
}

#[test]
fn load_race_with_delete() {
    let store = Store::in_memory();
    let (m, x) = (s("order-1"), s("order-1@x"));
    store.append(&m, Expected::Any, evs("m", 6)).unwrap();
    store.append(&x, Expected::Next(1), evs("x", 3)).unwrap();
    store.load(&x).snapshot_every(1).fold(St::default(), apply).unwrap();
    let st2 = store.clone();
    ON_DECODE.with(|c| {
        *c.borrow_mut() = Some(Box::new(move || {
            st2.editions().delete("x", None).unwrap();
        }))
    });
    store.load(&x).snapshot_every(1).fold(St::default(), apply).unwrap();
    let again = store.load(&x).fold(St::default(), apply).unwrap();
    assert_eq!(again.state.0, types(store.read(&x)));
}

#[test]
fn diverging_at_gap() {
    let store = Store::in_memory();
    let (m, x) = (s("order-1"), s("order-1@x"));
    store.append(&m, Expected::Any, evs("m", 3)).unwrap();
    store.append(&x, Expected::Next(2), evs("x", 8)).unwrap();
    let seqs: Vec<u64> = store.read(&x).diverging_at(5).into_iter().map(|e| e.unwrap().sequence()).collect();
    assert!(seqs.windows(2).all(|w| w[1] == w[0] + 1), "{seqs:?}");
}

#[test]
fn recorded_until_widens() {
    let t = Arc::new(std::sync::atomic::AtomicI64::new(1));
    let t2 = t.clone();
    let store = Options::new()
        .file_system(MemFs::new())
        .maintenance(false)
        .clock(move || Timestamp::from_nanos(t2.fetch_add(1_000, std::sync::atomic::Ordering::SeqCst)))
        .open("m")
        .unwrap();
    let (m, x) = (s("order-1"), s("order-1@x"));
    store.append(&m, Expected::Any, evs("m", 3)).unwrap();
    let at = store.read(&m).into_iter().last().unwrap().unwrap().recorded_at();
    store.append(&x, Expected::Next(1), evs("x", 1)).unwrap();
    let q = Query::new().edition("x");
    let all = types(store.query(&q));
    let some = types(store.query(&q.clone().recorded_until(at)));
    assert!(some.iter().all(|e| all.contains(e)));
}

#[test]
fn guard_pending_divergence() {
    let store = Store::in_memory();
    let (m, x) = (s("order-1"), s("order-1@x"));
    let a = store.transaction().append(&m, Expected::Any, [ev("T")]).submit().unwrap();
    let b = store.transaction().append(&x, Expected::Any, [ev("U")]).submit().unwrap();
    let q = Query::new().event_type("T").edition("x");
    let c =
        store.transaction().append(&s("other-1"), Expected::Any, [ev("V")]).guard(Guard::absent(q.clone())).submit();
    let won = c.is_ok();
    if let Ok(c) = c {
        c.wait().unwrap();
    }
    a.wait().unwrap();
    b.wait().unwrap();
    let seen = types(store.query(&q));
    assert!(!won || seen.is_empty(), "the guard held although {seen:?} is visible before it");
}

#[test]
fn flush_newer_than_synced_events() {
    let disk = SimFs::new();
    let fs = HookFs::new(disk.clone());
    let store = Options::new().file_system(fs.clone()).maintenance(false).durability(Durability::Os).open("s").unwrap();
    let m = s("order-1");
    store.append(&m, Expected::Any, [ev("a")]).unwrap();
    store.positions().put("h", &m, 0).unwrap();
    let st2 = store.clone();
    fs.set(Box::new(move |op, p| {
        if op == "create" && p.ends_with("POSITIONS.new") {
            st2.append(&s("order-1"), Expected::Any, evs("b", 5)).unwrap();
            st2.positions().put("h", &s("order-1"), 5).unwrap();
            return true;
        }
        false
    }));
    store.positions().flush().unwrap();
    let after = disk.crash(Image::Durable);
    let store2 = Options::new().file_system(after).maintenance(false).open("s").unwrap();
    assert!(store2.positions().get("h", &m).unwrap().unwrap() < store2.len(), "a position outlived its event");
}

#[test]
fn close_with_untold_failure() {
    let disk = SimFs::new();
    let store = Options::new().file_system(disk.clone()).maintenance(false).open("s").unwrap();
    let m = s("order-1");
    store.append(&m, Expected::Any, [ev("a")]).unwrap();
    store.positions().put("h", &m, 0).unwrap();
    disk.fail(Fault { operation: Operation::Write, after: 0, times: 1, kind: io::ErrorKind::StorageFull });
    drop(store.transaction().append(&m, Expected::Any, [ev("b")]).submit().unwrap());
    let other = store.clone();
    assert!(store.close().is_err(), "a failed commit was not reported");
    // The lock is free: another process opens the store.
    let second = Options::new().file_system(disk.clone()).maintenance(false).open("s").unwrap();
    second.positions().put("h", &m, 3).unwrap();
    second.positions().flush().unwrap();
    let put = other.positions().put("h", &m, 1);
    let flushed = other.positions().flush();
    drop(other);
    second.positions().put("h", &m, 4).unwrap();
    second.close().unwrap();
    let third = Options::new().file_system(disk.clone()).maintenance(false).open("s").unwrap();
    assert!(put.is_err(), "the store is closed");
    assert!(flushed.is_ok(), "and there is nothing to flush");
    assert_eq!(third.positions().get("h", &m).unwrap(), Some(4));
}

#[test]
fn delete_durable_under_os() {
    let disk = SimFs::new();
    let store =
        Options::new().file_system(disk.clone()).maintenance(false).durability(Durability::Os).open("s").unwrap();
    store.append(&s("order-1@x"), Expected::Any, evs("x", 3)).unwrap();
    store.sync().unwrap();
    assert_eq!(store.editions().delete("x", None).unwrap(), 3);
    let after = disk.crash(Image::Durable);
    let again = Options::new().file_system(after).open("s").unwrap();
    assert!(again.editions().list().unwrap().is_empty(), "the deletion is gone");
}

#[test]
fn delete_with_damaged_positions() {
    let disk = SimFs::new();
    let store = Options::new().file_system(disk.clone()).maintenance(false).open("s").unwrap();
    store.append(&s("order-1@x"), Expected::Any, evs("x", 3)).unwrap();
    store.positions().put("h", &s("order-1"), 1).unwrap();
    store.close().unwrap();
    let mut bytes = disk.contents("s/POSITIONS").unwrap();
    bytes[20] ^= 1;
    disk.set_contents("s/POSITIONS", bytes);
    let store = Options::new().file_system(disk.clone()).maintenance(false).open("s").unwrap();
    let d = store.editions().delete("x", None);
    assert!(d.is_ok() || !store.editions().list().unwrap().is_empty());
}

#[test]
fn stale_head_after_delete() {
    let disk = MemFs::new();
    let fs = HookFs::new(disk.clone());
    let open = |fs: HookFs<MemFs>| {
        Options::new().file_system(fs).maintenance(false).memory_map(false).segment_size(4096).open("s")
    };
    let store = open(fs.clone()).unwrap();
    let x = s("order-1@x");
    store.append(&x, Expected::NoStream, evs("x", 5)).unwrap();
    for n in 0..200 {
        store.append(&s(&format!("fill-{n}")), Expected::Any, [NewEvent::new("f", &[b'x'; 200])]).unwrap();
    }
    store.close().unwrap();
    let store = open(fs.clone()).unwrap();
    let st2 = store.clone();
    // While the head of the stream is looked up in index files (read lock held), a deletion is in
    // flight.
    let handle = Arc::new(Mutex::new(None));
    let h2 = handle.clone();
    fs.set(Box::new(move |op, p| {
        if op == "read" && p.extension().is_some_and(|e| e == "idx") {
            let st3 = st2.clone();
            *h2.lock().unwrap() = Some(std::thread::spawn(move || st3.editions().delete("x", None).unwrap()));
            std::thread::sleep(std::time::Duration::from_millis(300));
            return true;
        }
        false
    }));
    let appended = store.append(&x, Expected::Any, [ev("n")]).unwrap();
    assert_eq!(handle.lock().unwrap().take().unwrap().join().unwrap(), 5);
    assert_eq!(appended.sequences, 0..1, "the stream was deleted before");
    store.close().unwrap();
    let reopened = open(fs).unwrap();
    let sequences: Vec<u64> = reopened.read(&x).into_iter().map(|e| e.unwrap().sequence()).collect();
    assert_eq!(sequences, [0]);
}

#[test]
fn persist_overwritten_by_load() {
    let store = Store::in_memory();
    let m = s("order-1");
    store.append(&m, Expected::Any, evs("m", 3)).unwrap();
    store.snapshots().fingerprint(1).retention(Retention::Persist).put(&m, 2, &St::default()).unwrap();
    store.load(&m).fingerprint(2).snapshot_every(1).fold(St::default(), apply).unwrap();
    let l = store.snapshots().list(&m).unwrap();
    assert!(l.iter().any(|i| i.retention == Retention::Persist));
}

#[test]
fn from_latest_diverging_at() {
    let store = Store::in_memory();
    let (m, x) = (s("order-1"), s("order-1@x"));
    store.append(&m, Expected::Any, ["A", "Closed", "B", "Closed", "C"].map(ev)).unwrap();
    store.append(&x, Expected::Next(2), ["X"].map(ev)).unwrap();
    let latest = types(store.read(&x).diverging_at(5).from_latest("Closed"));
    assert_eq!(latest, ["Closed", "C"]);
}

#[test]
fn delete_takes_positions_of_the_successor() {
    let disk = SimFs::new();
    let fs = HookFs::new(disk.clone());
    let store = Options::new().file_system(fs.clone()).maintenance(false).open("s").unwrap();
    let x = s("order-1@x");
    store.append(&x, Expected::Any, evs("x", 3)).unwrap();
    let st2 = store.clone();
    fs.set(Box::new(move |op, p| {
        // Also listed before anything is deleted: then there is a stream.
        let begins = op == "list" && p.ends_with("snapshots");
        if begins && st2.append(&s("order-1@x"), Expected::NoStream, evs("n", 5)).is_ok() {
            st2.positions().put("h", &s("order-1@x"), 4).unwrap();
            st2.positions().flush().unwrap();
            return true;
        }
        false
    }));
    store.editions().delete("x", None).unwrap();
    assert_eq!(store.positions().get("h", &x).unwrap(), Some(4));
}

#[test]
fn hostile_sequences() {
    let store = Store::in_memory();
    let m = s("order-1");
    store.append(&m, Expected::Any, evs("m", 3)).unwrap();
    let x = m.in_edition("x").unwrap();
    for n in [4, u64::MAX, u64::MAX - 1] {
        assert!(matches!(store.append(&x, Expected::Next(n), [ev("x")]), Err(Error::Conflict { actual: 3, .. })));
        assert_eq!(types(store.read(&x).from(n).to(u64::MAX).backwards()), Vec::<String>::new());
        assert_eq!(types(store.read(&x).diverging_at(n)).len(), 3);
        assert!(store.snapshots().put(&m, n, &1u8).is_err());
        assert!(store.snapshots().at(&m, n).unwrap().is_none());
        assert_eq!(store.load(&m).at(n).fold(St::default(), apply).unwrap().next_sequence, 3);
        assert_eq!(types(store.read(&m).as_of(n)).len(), 3);
        store.positions().put("h", &x, n).unwrap();
        store.transaction().tracking("u", n.min(u64::MAX - 2)).commit().ok();
    }
    assert_eq!(types(store.read(&m).from(5).to(2)), Vec::<String>::new());
    store.transaction().tracking("u", u64::MAX).commit().unwrap();
    assert!(store.transaction().tracking("u", u64::MAX).commit().is_err());
    assert_eq!(store.checkpoints().commit("c", u64::MAX, ExpectedVersion::Any).unwrap().version, 1);
    assert_eq!(types(store.read(&x)).len(), 3);
}

/// A backup of segments and HEAD is restored, and later index files stay.
#[test]
fn deletion_of_an_index_that_was_not_believed() {
    let disk = SimFs::new();
    let open = || Options::new().file_system(disk.clone()).maintenance(false).segment_size(8 << 20).open("s");
    let x = s("order-1@x");
    let store = open().unwrap();
    store.append(&x, Expected::Any, evs("x", 3)).unwrap();
    store.close().unwrap();
    let kept: Vec<_> = disk
        .files()
        .into_iter()
        .filter(|p| p.is_file_of_log())
        .map(|p| (p.clone(), disk.contents(&p).unwrap()))
        .collect();
    let store = open().unwrap();
    // Over a mebibyte, so that closing writes the index.
    for _ in 0..6 {
        store.append(&s("big-1"), Expected::Any, [NewEvent::new("f", &[b'x'; 300_000])]).unwrap();
    }
    store.editions().delete("x", None).unwrap();
    store.close().unwrap();
    for (p, c) in kept {
        disk.set_contents(p, c);
    }
    // The index covers events that were durable, which the log does not have: no log is begun over
    // that.
    assert!(matches!(open(), Err(annals::Error::Damaged(_))));
    for p in disk.files() {
        // An operator who knows that it was a backup removes the newer files; otherwise the index
        // is damaged.
        if p.extension().is_some_and(|e| e == "idx") {
            let mut bytes = disk.contents(&p).unwrap();
            bytes[100] ^= 1;
            disk.set_contents(&p, bytes);
        }
    }
    let store = open().unwrap();
    store.append(&x, Expected::Any, [ev("n")]).unwrap();
    let with = types(store.read(&x));
    store.close().unwrap();
    for p in disk.files() {
        if p.extension().is_some_and(|e| e == "idx") {
            disk.delete(p);
        }
    }
    let store = open();
    let without = types(store.unwrap().read(&x));
    assert_eq!(with, without);
}
trait Logs {
    fn is_file_of_log(&self) -> bool;
}
impl Logs for std::path::PathBuf {
    fn is_file_of_log(&self) -> bool {
        self.extension().is_some_and(|e| e == "seg") || self.ends_with("HEAD")
    }
}

/// The clock is after the last event, so that all events get its time; the disk loses the last
/// ones, and the snapshot stays.
#[test]
fn snapshot_of_another_event_at_the_same_position_and_time() {
    let disk = SimFs::new();
    let open = |disk: &SimFs| {
        Options::new()
            .file_system(disk.clone())
            .maintenance(false)
            .durability(Durability::Os)
            .sync_snapshots(true)
            .clock(|| Timestamp::from_nanos(1_000))
            .open("s")
            .unwrap()
    };
    let m = s("order-1");
    let store = open(&disk);
    store.append(&m, Expected::Any, evs("a", 2)).unwrap();
    store.sync().unwrap();
    store.append(&m, Expected::Any, evs("lost", 2)).unwrap();
    store.load(&m).snapshot_every(1).fold(St::default(), apply).unwrap();
    let after = disk.crash(Image::Durable);
    let store = open(&after);
    store.append(&m, Expected::Any, evs("new", 2)).unwrap();
    let l = store.load(&m).fold(St::default(), apply).unwrap();
    assert_eq!(l.state.0, types(store.read(&m)));
}

/// The shared part is cut by the point in time, and with it the edition's own part: there would be
/// a gap.
#[test]
fn diverging_at_with_as_of() {
    let store = Store::in_memory();
    store.append(&s("o-1"), Expected::Any, evs("m", 2)).unwrap();
    store.append(&s("o-1@x"), Expected::Next(1), evs("x", 6)).unwrap();
    let then = store.head().unwrap();
    store.append(&s("o-1"), Expected::Any, evs("m", 9)).unwrap();
    assert_eq!(types(store.read(&s("o-1@x")).diverging_at(4).as_of(then)), ["m0", "m1"]);
}

/// Of a commit that only tracks, and has a key.
#[test]
fn a_repeat_that_only_tracks() {
    let store = Store::in_memory();
    let commit = || store.transaction().idempotency_key("k").tracking("u", 1).commit().unwrap();
    let (first, again) = (commit(), commit());
    assert!(!first.duplicate && again.duplicate);
    assert_eq!((first.positions, first.recorded_at), (again.positions, again.recorded_at));
}

/// A name is only a label of a thread, which cannot hold a NUL.
#[test]
fn a_consumer_with_a_nul_in_its_name() {
    let store = Store::in_memory();
    store.append(&s("order-1"), Expected::Any, [ev("a")]).unwrap();
    let consumer = || store.consumer("a\0b").until_caught_up();
    assert_eq!(consumer().spawn(|_: &Event| ()).unwrap().join().unwrap().handled, 1);
    store.append(&s("order-1"), Expected::Any, [ev("a")]).unwrap();
    assert_eq!(consumer().window(1 << 63).workers(2).run(|_: &Event| ()).unwrap().handled, 1);
}

/// The handler was called before the store reported that nothing can be stored.
#[test]
fn dead_letters_in_a_store_that_is_only_read() {
    let disk = annals::fs::MemFs::new();
    let options = || Options::new().file_system(disk.clone()).maintenance(false);
    let store = options().open("s").unwrap();
    store.append(&s("order-1"), Expected::Any, [ev("a")]).unwrap();
    let consumer = store.consumer("mailer").until_caught_up();
    consumer.run(|_: &Event| Outcome::Park("no".into())).unwrap();
    store.close().unwrap();
    let store = options().open_read_only("s").unwrap();
    let tried = store.consumer("mailer").retry_dead_letters(|_: &Event| -> Outcome { panic!("it was handed out") });
    assert!(matches!(tried, Err(Error::ReadOnly)), "{tried:?}");
}

/// The process dies while it creates a segment; the next one opens, closes, and everything is in
/// order. `verify` reported that HEAD knew of more than there was.
#[test]
fn a_segment_that_was_being_created() {
    let filler = [b'x'; 1500];
    let mut seen = 0;
    for call in 0.. {
        let disk = SimFs::new();
        disk.crash_when(Crash::AtCall(call));
        let options =
            |disk: &SimFs| Options::new().file_system(disk.clone()).maintenance(false).segment_size(4096).reserve(0);
        let written = options(&disk).open("s").and_then(|store| {
            (0..6).try_for_each(|_| store.append(&s("a-1"), Expected::Any, [NewEvent::new("T", &filler)]).map(drop))
        });
        for image in [Image::Killed, Image::Durable, Image::All, Image::NamesOnly, Image::SizeWithoutData] {
            let after = disk.crash(image);
            options(&after).open("s").unwrap().close().unwrap();
            let report = annals::offline::verify_in(&after, "s").unwrap();
            assert!(report.is_sound(), "death at call {call}, {image:?}: {report:?}");
            seen += 1;
        }
        if written.is_ok() {
            break;
        }
    }
    assert!(seen > 50);
}
