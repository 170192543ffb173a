//! What is counted, and on which stores.

use annals::{Durability, Error, Event, Expected, Guard, NewEvent, Options, Query, Store, StreamId, Timestamp};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use tempfile::TempDir;

pub struct Operation {
    pub name: &'static str,
    pub store: Kind,
    /// A few times, and many times.
    pub times: [u64; 2],
    /// How many operations one time stands for.
    pub each: u64,
    pub run: fn(&Path, u64),
}

/// The content of an operation's directory.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Nothing,
    /// [`EVENTS`] in [`STREAMS`], closed cleanly.
    Closed,
    /// As many stores as there are times, each as a crash leaves it, with [`UNINDEXED`] events.
    Crashed,
}

const EVENTS: u64 = 20_000;
const STREAMS: u64 = 200;
/// Events of a stream, and of a tag.
const EACH: u64 = EVENTS / STREAMS;
/// So small that the store has three of them. The last one is filled so far that closing writes its
/// index.
const SEGMENT: u64 = 5 << 19;
/// So small that filling and sealing segments is a part of appending.
const SMALL: u64 = 1 << 20;
const UNINDEXED: u64 = 2_000;

#[rustfmt::skip]
pub const OPERATIONS: &[Operation] = &[
    Operation { name: "append, 1 event a commit",            store: Kind::Nothing, times: [500, 4500], each: 1,         run: |dir, times| append(dir, times, 1, BIG) },
    Operation { name: "append, 100 a commit, an event",      store: Kind::Nothing, times: [10, 90],    each: 100,       run: |dir, times| append(dir, times, 100, BIG) },
    Operation { name: "append and seal, an event",           store: Kind::Nothing, times: [40, 200],   each: 100,       run: |dir, times| append(dir, times, 100, SMALL) },
    Operation { name: "append, Guard::absent of a tag",      store: Kind::Closed,  times: [200, 2200], each: 1,         run: |dir, times| guarded(dir, times, false) },
    Operation { name: "append, Guard::unchanged of a tag",   store: Kind::Closed,  times: [200, 2200], each: 1,         run: |dir, times| guarded(dir, times, true) },
    Operation { name: "read a stream, an event",             store: Kind::Closed,  times: [20, 120],   each: EACH,      run: read_streams },
    Operation { name: "newest event of a stream",            store: Kind::Closed,  times: [200, 2200], each: 1,         run: newest },
    Operation { name: "first event of a tag",                store: Kind::Closed,  times: [200, 2200], each: 1,         run: |dir, times| by_tag(dir, times, 1) },
    Operation { name: "all events of a tag, an event",       store: Kind::Closed,  times: [20, 120],   each: EACH,      run: |dir, times| by_tag(dir, times, EACH) },
    Operation { name: "a tag that no event has",             store: Kind::Closed,  times: [200, 2200], each: 1,         run: no_tag },
    Operation { name: "replay, an event",                    store: Kind::Closed,  times: [1, 4],      each: EVENTS,    run: replay },
    Operation { name: "open and close, closed cleanly",      store: Kind::Closed,  times: [2, 12],     each: 1,         run: open_and_close },
    Operation { name: "open after a crash, an event",        store: Kind::Crashed, times: [1, 4],      each: UNINDEXED, run: open_crashed },
];

/// A segment that is not filled.
const BIG: u64 = 64 << 20;

/// The stores that operations begin with, built outside of valgrind.
pub struct Stores {
    dir: TempDir,
}

impl Stores {
    pub fn build() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        fill(&dir.path().join("closed"), EVENTS).close().expect("the store closes");
        let store = fill(&dir.path().join("open"), UNINDEXED);
        copy(store.path(), &dir.path().join("crashed"));
        store.close().expect("the store closes");
        Stores { dir }
    }

    /// A directory for one process, which may change what is in it.
    pub fn copy(&self, kind: Kind, times: u64) -> PathBuf {
        let scratch = self.dir.path().join("scratch");
        if scratch.exists() {
            std::fs::remove_dir_all(&scratch).expect("the last copy can be removed");
        }
        match kind {
            Kind::Nothing => {}
            Kind::Closed => copy(&self.dir.path().join("closed"), &scratch),
            Kind::Crashed => {
                (0..times).for_each(|n| copy(&self.dir.path().join("crashed"), &scratch.join(n.to_string())));
            }
        }
        scratch
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("the directory can be listed") {
        let entry = entry.expect("the directory can be listed");
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("the file can be copied");
        }
    }
}

/// Events in turn to all streams, 100 a commit, each with one tag that [`EACH`] events have.
fn fill(dir: &Path, events: u64) -> Store {
    let store = open(dir, SEGMENT);
    for first in (0..events).step_by(100) {
        let transaction = (first..first + 100).fold(store.transaction(), |transaction, n| {
            let event = event().tag(tag(n.wrapping_mul(2_654_435_761)));
            transaction.append(&stream(n), Expected::Next(n / STREAMS), [event])
        });
        transaction.commit().expect("the commit succeeds");
    }
    store
}

/// Nothing is synced: that is the kernel's work. The clock advances a millisecond each time it is
/// read.
fn open(dir: &Path, segment: u64) -> Store {
    let clock = AtomicI64::new(1_750_000_000_000_000_000);
    let options = Options::new().durability(Durability::Os).maintenance(false).segment_size(segment);
    let options = options.clock(move || Timestamp::from_nanos(clock.fetch_add(1_000_000, Ordering::Relaxed)));
    options.open(dir).expect("the store opens")
}

fn event() -> NewEvent<'static> {
    NewEvent::new("OrderLineAdded__", &[b'd'; 256]).metadata(&[b'm'; 32])
}

/// Names of one length.
fn stream(n: u64) -> StreamId {
    StreamId::new("order", format!("{:04}", n % STREAMS)).expect("a short name")
}

fn tag(n: u64) -> String {
    format!("customer:{:04}", n % STREAMS)
}

/// Visits streams and tags out of order.
fn scattered(times: u64) -> impl Iterator<Item = u64> {
    (0..times).map(|n| n.wrapping_mul(7919))
}

/// Number of events, each of which could be read.
fn intact(events: impl IntoIterator<Item = Result<Event, Error>>) -> u64 {
    events.into_iter().fold(0, |count, event| {
        event.expect("intact");
        count + 1
    })
}

fn append(dir: &Path, times: u64, batch: u64, segment: u64) {
    let store = open(dir, segment);
    let streams: Vec<StreamId> = (0..STREAMS).map(stream).collect();
    for n in 0..times {
        let events = (0..batch).map(|_| event());
        let expected = Expected::Next(n / STREAMS * batch);
        store.append(&streams[(n % STREAMS) as usize], expected, events).expect("the append succeeds");
    }
}

fn guarded(dir: &Path, times: u64, unchanged: bool) {
    let store = open(dir, SEGMENT);
    let stream = StreamId::new("guarded", "1").expect("a short name");
    for n in scattered(times) {
        let guard = match unchanged {
            true => Guard::unchanged(Query::new().tag(tag(n)), store.head()),
            false => Guard::absent(Query::new().tag(format!("nobody:{:06}", n % 1_000_000))),
        };
        store.transaction().append(&stream, Expected::Any, [event()]).guard(guard).commit().expect("the guard holds");
    }
}

fn read_streams(dir: &Path, times: u64) {
    let store = open(dir, SEGMENT);
    for n in scattered(times) {
        assert_eq!(intact(store.read(&stream(n))), EACH);
    }
}

fn newest(dir: &Path, times: u64) {
    let store = open(dir, SEGMENT);
    for n in scattered(times) {
        let newest = store.read(&stream(n)).backwards().limit(1).into_iter().next();
        assert_eq!(newest.expect("an event").expect("intact").sequence(), EACH - 1);
    }
}

fn by_tag(dir: &Path, times: u64, limit: u64) {
    let store = open(dir, SEGMENT);
    for n in scattered(times) {
        assert_eq!(intact(store.query(&Query::new().tag(tag(n))).limit(limit)), limit);
    }
}

fn no_tag(dir: &Path, times: u64) {
    let store = open(dir, SEGMENT);
    for n in scattered(times) {
        let query = Query::new().tag(format!("nobody:{:06}", n % 1_000_000));
        assert!(store.query(&query).into_iter().next().is_none());
    }
}

fn replay(dir: &Path, times: u64) {
    let store = open(dir, SEGMENT);
    for _ in 0..times {
        let bytes: usize = store.read_all().into_iter().map(|event| event.expect("intact").data().len()).sum();
        assert_eq!(bytes as u64, store.len() * 256);
    }
}

fn open_and_close(dir: &Path, times: u64) {
    for _ in 0..times {
        let store = open(dir, SEGMENT);
        assert_eq!(store.len(), EVENTS);
        store.close().expect("the store closes");
    }
}

fn open_crashed(dir: &Path, times: u64) {
    for n in 0..times {
        assert_eq!(open(&dir.join(n.to_string()), SEGMENT).len(), UNINDEXED);
    }
}

/// Checks that each does what it says, without counting.
#[test]
fn every_operation_runs() {
    let stores = Stores::build();
    for operation in OPERATIONS {
        (operation.run)(&stores.copy(operation.store, operation.times[0]), operation.times[0]);
    }
}
