//! Calls that fail once, and would not the next time: the answer is right, or is the error of the
//! call. A failure is never taken for a missing or damaged file.

use annals::fs::{Entry, File, FileLayer, Fs, FsLayer, Mode};
use annals::offline::verify_in;
use annals::snapshot::Retention;
use annals::{Error, Event, Expected, NewEvent, Options, Query, Result, Store, Timestamp};
use annals_testkit::{Image, SimFs, noise, records, stream};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};

const SECOND: &str = "store/00000000000000000002.seg";

/// A disk on which one call that changes nothing fails: the one after this many others.
#[derive(Clone)]
struct Failing {
    disk: SimFs,
    left: Arc<AtomicI64>,
    failed: Arc<AtomicBool>,
}

impl fmt::Debug for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Failing")
    }
}

impl Failing {
    fn over(disk: &SimFs) -> Failing {
        Failing { disk: disk.clone(), left: Arc::new(AtomicI64::new(i64::MAX)), failed: Arc::default() }
    }

    fn fail_after(&self, calls: i64) {
        self.left.store(calls, SeqCst);
    }

    fn heal(&self) {
        self.left.store(i64::MAX, SeqCst);
    }

    fn has_failed(&self) -> bool {
        self.failed.load(SeqCst)
    }

    fn call(&self) -> io::Result<()> {
        if self.left.fetch_sub(1, SeqCst) != 0 {
            return Ok(());
        }
        self.failed.store(true, SeqCst);
        Err(io::Error::other("this call fails"))
    }

    fn options(&self) -> Options {
        let now = Arc::new(AtomicI64::new(1_700_000_000_000_000_000));
        let clock = move || Timestamp::from_nanos(now.fetch_add(1_000, SeqCst));
        Options::new().file_system(self.clone()).maintenance(false).reserve(0).clock(clock)
    }
}

impl FsLayer for Failing {
    fn inner(&self) -> &dyn Fs {
        &self.disk
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        if mode == Mode::Read {
            self.call()?;
        }
        Ok(Arc::new(FailingFile { under: self.disk.open(path, mode)?, fs: self.clone() }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.call()?;
        self.disk.list(dir)
    }
}

#[derive(Debug)]
struct FailingFile {
    under: Arc<dyn File>,
    fs: Failing,
}

impl FileLayer for FailingFile {
    fn inner(&self) -> &dyn File {
        &*self.under
    }

    fn size(&self) -> io::Result<u64> {
        self.fs.call()?;
        self.under.size()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.fs.call()?;
        self.under.read_at(offset, out)
    }
}

/// Calls `run` with a disk like this one on which the first call fails, then one on which the
/// second one does, and so on, up to one whose calls all succeed. Returns the number of calls.
fn each_call_fails(disk: &SimFs, run: impl Fn(&Failing, i64)) -> i64 {
    for n in 0..10_000 {
        let fs = Failing::over(&disk.crash(Image::All));
        run(&fs, n);
        if !fs.has_failed() {
            return n;
        }
    }
    panic!("it does not come to an end");
}

fn is_of_the_call<T>(result: &Result<T>) -> bool {
    matches!(result, Err(Error::Io { .. }))
}

fn append(store: &Store, name: &str, bytes: usize, count: usize) {
    for n in 0..count {
        let data = noise(store.len() + n as u64 + 1, bytes);
        store.append(&stream(name), Expected::Any, [NewEvent::new("T", &data)]).unwrap();
    }
}

/// Records of one stream, and the candidates of a query, are read several at a time. When a read
/// failed after the first of them, what it had copied, mostly zeros, stayed after the whole records
/// and counted as verified: a stream ended in `Invalid`, as if the index led nowhere, a query in
/// damage at byte 0 of an intact segment; and if a large record failed half-way, its start and
/// zeros were returned as the event. Now the copied part is discarded, and the record is read again
/// when its turn comes.
#[test]
fn a_failed_read_after_whole_records_leaves_nothing_of_itself() {
    let disk = SimFs::new();
    let store = Failing::over(&disk).options().open("store").unwrap();
    for bytes in [3000, 10, 700, 100, 2000, 511, 512, 513, 40_000, 5, 3000] {
        append(&store, "a-1", bytes, 1);
        append(&store, "a-1@x", bytes, 1);
        append(&store, "a-2", 1, 1);
    }
    store.close().unwrap();
    let (one, x) = (stream("a-1"), stream("a-1@x"));
    type Reads<'a> = Box<dyn Fn(&Store) -> Box<dyn Iterator<Item = Result<Event>>> + 'a>;
    let reads: [(&str, Reads<'_>); 9] = [
        ("stream", Box::new(|store| Box::new(store.read(&one).into_iter()))),
        ("stream, backwards", Box::new(|store| Box::new(store.read(&one).backwards().into_iter()))),
        ("edition", Box::new(|store| Box::new(store.read(&x).into_iter()))),
        ("edition, backwards", Box::new(|store| Box::new(store.read(&x).backwards().into_iter()))),
        ("all", Box::new(|store| Box::new(store.read_all().into_iter()))),
        ("all, backwards", Box::new(|store| Box::new(store.read_all().backwards().into_iter()))),
        ("query", Box::new(|store| Box::new(store.query(&Query::new().stream(&one)).into_iter()))),
        (
            "query, backwards",
            Box::new(|store| Box::new(store.query(&Query::new().stream(&one)).backwards().into_iter())),
        ),
        ("query of a type", Box::new(|store| Box::new(store.query(&Query::new().event_type("T")).into_iter()))),
    ];
    let seen = |event: &Event| (event.position(), event.stream(), event.sequence(), event.data().to_vec());
    for (what, read) in &reads {
        let store = Failing::over(&disk.crash(Image::All)).options().open("store").unwrap();
        let right: Vec<_> = read(&store).map(|event| seen(&event.unwrap())).collect();
        assert!(right.len() >= 11, "{what}");
        each_call_fails(&disk, |fs, n| {
            let store = fs.options().open("store").unwrap();
            fs.fail_after(n);
            let mut found = Vec::new();
            for event in read(&store) {
                assert!(event.is_ok() || is_of_the_call(&event), "{what}, call {n}: {event:?}");
                let Ok(event) = event else { break };
                found.push(seen(&event));
            }
            // A read that fails is repeated, or ends the iterator.
            assert!(right.starts_with(&found), "{what}, call {n}: not what was appended");
            assert!(found.len() == right.len() || fs.has_failed(), "{what}, call {n}: {} events", found.len());
        });
    }
}

/// When an open did not trust the index of one segment, because HEAD marked a commit in its middle,
/// it asked the indexes of the others again which editions were deleted. A failed read of them
/// meant none: deleted events were visible again, while the store was open. Now the deletions of an
/// index are used when it is trusted, and stay.
#[test]
fn deletions_stay_when_the_index_of_another_segment_is_not_believed() {
    let disk = SimFs::new();
    let options = |fs: &Failing| fs.options().segment_size(2 << 20).memory_map(false);
    let store = options(&Failing::over(&disk)).open("store").unwrap();
    append(&store, "a-1", 10, 2);
    append(&store, "a-1@x", 10, 3);
    assert_eq!(store.editions().delete("x", None).unwrap(), 3);
    append(&store, "a-2", 60_000, 40);
    store.close().unwrap();
    let head = disk.contents("store/HEAD").unwrap();
    assert!(disk.contents(SECOND).is_some(), "the deletion stands in a sealed segment");
    let store = options(&Failing::over(&disk)).open("store").unwrap();
    append(&store, "a-2", 60_000, 20);
    let right = records(store.read_all());
    store.close().unwrap();
    assert!(disk.contents(Path::new(SECOND).with_extension("idx")).is_some());
    disk.set_contents("store/HEAD", head);
    let opened = AtomicI64::new(0);
    each_call_fails(&disk, |fs, n| {
        fs.fail_after(n);
        let found = options(fs).open("store");
        fs.heal();
        assert!(found.is_ok() || is_of_the_call(&found), "call {n}: {found:?}");
        let Ok(store) = found else { return };
        opened.fetch_add(1, SeqCst);
        assert_eq!(records(store.read_all()), right, "call {n}");
        assert!(store.editions().list().unwrap().is_empty(), "call {n}");
        let event = [NewEvent::new("T", "")];
        let begun = store.append(&stream("a-1@x"), Expected::Any, event).unwrap();
        assert_eq!(begun.sequences, 2..3, "call {n}");
    });
    assert!(opened.load(SeqCst) > 5, "{opened:?} opens");
}

/// An index that could not be read was taken for a missing one, even if it is the evidence that a
/// log had events: an open accepted a log that had lost its end, or began a new one over the
/// remains of the old one, as soon as the read of the index failed. Now the open fails.
#[test]
fn a_witness_that_cannot_be_read_is_not_missing() {
    let disk = SimFs::new();
    let options = |fs: &Failing| fs.options().segment_size(4 << 20);
    let store = options(&Failing::over(&disk)).open("store").unwrap();
    append(&store, "a-1", 60_000, 2);
    store.close().unwrap();
    let first = "store/00000000000000000001.seg";
    let before = disk.contents(first).unwrap();
    let store = options(&Failing::over(&disk)).open("store").unwrap();
    append(&store, "a-1", 60_000, 24);
    store.snapshots().put(&stream("a-1"), 3, &7u8).unwrap();
    store.close().unwrap();
    assert!(disk.contents(Path::new(first).with_extension("idx")).is_some());
    disk.delete("store/HEAD");
    // The log is an older copy, or gone; then the index is left, or the snapshot.
    for which in 0..3 {
        let disk = disk.crash(Image::All);
        let left = if which < 2 { "idx" } else { "snap" };
        match which {
            0 => disk.set_contents(first, before.clone()),
            _ => disk.delete(first),
        }
        for path in disk.files() {
            if path.extension().is_none_or(|ending| ending != left && ending != "seg") {
                disk.delete(path);
            }
        }
        let calls = each_call_fails(&disk, |fs, n| {
            fs.fail_after(n);
            let opened = options(fs).open("store");
            let told = is_of_the_call(&opened) || matches!(opened, Err(Error::Damaged(_)));
            assert!(told, "{which}, call {n}: {opened:?}");
            fs.heal();
            assert!(options(fs).open("store").is_err(), "{which}, call {n}: it was begun again");
        });
        assert!(calls > 4, "{which}");
        each_call_fails(&disk, |fs, n| {
            fs.fail_after(n);
            let report = verify_in(fs, "store");
            assert!(is_of_the_call(&report) || !report.as_ref().unwrap().is_sound(), "{which}, call {n}: {report:?}");
        });
    }
}

/// A foreign file with the name of one of the store's counted as missing if it could not be read:
/// the store was created, and overwrote it.
#[test]
fn a_foreign_file_that_cannot_be_read_is_left_alone() {
    for name in ["HEAD", "POSITIONS"] {
        let (disk, path) = (SimFs::new(), format!("store/{name}"));
        disk.set_contents(&path, b"ref: refs/heads/main\n".to_vec());
        each_call_fails(&disk, |fs, n| {
            fs.fail_after(n);
            let opened = fs.options().open("store");
            let refused = matches!(opened, Err(Error::ForeignFile { .. })) || is_of_the_call(&opened);
            assert!(refused, "{name}, call {n}: {opened:?}");
            assert_eq!(fs.disk.contents(&path), disk.contents(&path), "{name}, call {n}");
        });
    }
}

/// A directory was listed twice to find out that it is no store: when the first listing failed and
/// the second did not, an existing store was denied.
#[test]
fn a_store_whose_directory_cannot_be_listed_is_one() {
    let disk = SimFs::new();
    let store = Failing::over(&disk).options().segment_size(4096).open("store").unwrap();
    append(&store, "a-1", 300, 30);
    store.close().unwrap();
    each_call_fails(&disk, |fs, n| {
        for read_only in [true, false] {
            fs.fail_after(n);
            let options = fs.options().create(false);
            let opened = if read_only { options.open_read_only("store") } else { options.open("store") };
            fs.heal();
            assert!(opened.is_ok() || is_of_the_call(&opened), "call {n}: {opened:?}");
            assert!(opened.is_err() || records(opened.unwrap().read_all()).len() == 30, "call {n}");
        }
    });
    each_call_fails(&disk, |fs, n| {
        fs.fail_after(n);
        let report = verify_in(fs, "store");
        assert!(is_of_the_call(&report) || report.as_ref().unwrap().is_sound(), "call {n}: {report:?}");
    });
}

/// A load puts a snapshot, but never replaces one that is kept on purpose. One whose file could not
/// be read counted as missing, and was replaced by one that the next put removes.
#[test]
fn a_snapshot_that_is_kept_on_purpose_is_not_replaced_when_it_cannot_be_read() {
    let disk = SimFs::new();
    let store = Failing::over(&disk).options().open("store").unwrap();
    append(&store, "a-1", 10, 6);
    store.snapshots().fingerprint(1).retention(Retention::Persist).put(&stream("a-1"), 5, &6u64).unwrap();
    store.close().unwrap();
    each_call_fails(&disk, |fs, n| {
        let store = fs.options().open("store").unwrap();
        fs.fail_after(n);
        let load = store.load(&stream("a-1")).fingerprint(2).snapshot_every(1);
        let loaded = load.fold(0u64, |count: &mut u64, _: &Event| {
            *count += 1;
            Ok(())
        });
        fs.heal();
        assert!(is_of_the_call(&loaded) || loaded.as_ref().unwrap().state == 6, "call {n}: {loaded:?}");
        let kept = store.snapshots().list(&stream("a-1")).unwrap();
        let kept: Vec<_> = kept.iter().map(|info| (info.sequence, info.retention)).collect();
        assert_eq!(kept, [(5, Retention::Persist)], "call {n}");
    });
}

/// A read that ends at a time looked up its end twice, once for the gaps that it must report; when
/// that failed, it reported gaps after its end.
#[test]
fn a_read_up_to_a_time_names_no_gap_after_it() {
    let disk = SimFs::new();
    let store = Failing::over(&disk).options().segment_size(4096).open("store").unwrap();
    append(&store, "a-1", 300, 60);
    let time = records(store.read_all())[5].recorded_at;
    store.close().unwrap();
    let mut bytes = disk.contents(SECOND).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle..middle + 600].fill(0x55);
    disk.set_contents(SECOND, bytes);
    each_call_fails(&disk, |fs, n| {
        let store = fs.options().open_read_only("store").unwrap();
        // The view around the damage is made when it is met.
        assert!(store.read_all().into_iter().any(|event| event.is_err()));
        for backwards in [false, true] {
            fs.fail_after(n);
            let read = store.read_all().as_of(time);
            let read = if backwards { read.backwards() } else { read };
            let found: Vec<_> = read.into_iter().collect();
            fs.heal();
            let right = found.len() == 6 && found.iter().all(Result::is_ok);
            assert!(right || found.last().is_some_and(is_of_the_call), "call {n}: {found:?}");
            assert!(found.iter().all(|event| event.is_ok() || is_of_the_call(event)), "call {n}: {found:?}");
        }
    });
}
