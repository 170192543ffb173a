//! Calls that fail once, and would not the next time: what is told is right, or is the error of
//! the call. It is never taken for what a file that is missing, or not intact, would tell.

use annals::fs::{Entry, File, FileLayer, Fs, FsLayer, Mode};
use annals::{Error, Event, Expected, NewEvent, Options, Query, Result, Store, Timestamp};
use annals_testkit::{Image, SimFs, noise, stream};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::SeqCst};

/// A disk on which one call fails, of those that change nothing: the one before which so many have
/// been made.
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

/// Shows `run` a disk like this one on which the first call fails, then one on which the second one
/// does, and so on, up to one whose calls all succeed. Returns the number of calls.
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
/// failed behind the first of them, what it had copied, zeros most often, stayed behind the whole
/// records and counted as verified: a stream ended in `Invalid`, as if the index led nowhere, a
/// query in damage at byte 0 of an intact segment; and where a large record failed half-way, its
/// start and zeros were handed out as the event. What was copied of it is thrown away, and it is
/// read again when its turn comes.
#[test]
fn a_failed_read_behind_whole_records_leaves_nothing_of_itself() {
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
            // A read that fails is made again, or ends the iterator.
            assert!(right.starts_with(&found), "{what}, call {n}: not what was appended");
            assert!(found.len() == right.len() || fs.has_failed(), "{what}, call {n}: {} events", found.len());
        });
    }
}
