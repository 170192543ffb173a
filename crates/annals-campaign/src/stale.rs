//! Commits of another history of the same store: complete, at their offsets, with the next
//! positions, and yet not what followed. Only the chain of checksums reveals them.

use crate::pool::{Case, Pool};
use crate::settings::Settings;
use annals::{Error, Expected, NewEvent, Options, Store, StreamId, Timestamp};
use annals_testkit::{Image, SimFs};

const SEGMENT: &str = "store/00000000000000000001.seg";
const INDEX: &str = "store/00000000000000000001.idx";

/// Histories that have this many commits in common, and then this many of their own.
const COMMON: u64 = 12;
const OWN: u64 = 5;

fn options(disk: &SimFs) -> Options {
    // The clock stands still: the times of both histories are the same.
    Options::new().file_system(disk.clone()).maintenance(false).reserve(0).clock(|| Timestamp::from_nanos(1_000))
}

/// Another history: the commits have the same lengths in all of them.
fn go_on(disk: &SimFs, count: u64, with: u8) -> SimFs {
    let disk = disk.crash(Image::Killed);
    let store = options(&disk).open("store").expect("a good store");
    let stream = StreamId::new("s", "1").expect("a good name");
    for _ in 0..count {
        let data = vec![with; (store.len() * 61 % 300) as usize + 1];
        store.append(&stream, Expected::Any, [NewEvent::new("T", &data)]).expect("a simulated disk without faults");
    }
    store.close().expect("a simulated disk without faults");
    disk
}

fn contents(store: &Store) -> Result<Vec<Vec<u8>>, Error> {
    store.read_all().into_iter().map(|event| Ok(event?.data().to_vec())).collect()
}

/// One history followed by the bytes of another one at that offset.
fn check(common: u64, own: u64, head: bool, index: bool) -> &'static str {
    let disk = go_on(&SimFs::new(), common, 1);
    let (now, stale) = (go_on(&disk, own, 2), go_on(&disk, OWN + 1, 3));
    let (mut bytes, other) =
        (now.contents(SEGMENT).expect("it is there"), stale.contents(SEGMENT).expect("it is there"));
    let right =
        contents(&options(&now.crash(Image::Killed)).open("store").expect("a good store")).expect("a good store");
    bytes.extend_from_slice(&other[bytes.len()..]);
    now.set_contents(SEGMENT, bytes);
    if !head {
        now.delete("store/HEAD");
    }
    if !index {
        now.delete(INDEX);
    }
    let store = match options(&now).open("store") {
        Ok(store) => store,
        Err(Error::Damaged(_)) => return "refused: what stands there claims to be durable",
        Err(error) => panic!("{error}"),
    };
    assert!(contents(&store).is_ok_and(|found| found == right), "commits of another history are handed out");
    assert!(store.open_report().cut.is_some() || index, "something is behind the end, and nobody says so");
    "cut, or passed over"
}

pub fn run(_: &Settings, pool: &Pool) {
    pool.run(COMMON * OWN * 4, |n| {
        let (common, own, head, index) = (n / 4 % COMMON, n / 4 / COMMON + 1, n & 1 == 0, n & 2 == 0);
        let name = format!("{common} commits in common, {own} of its own, HEAD {head}, index {index}");
        Case { name, run: Box::new(move || (1, check(common, own, head, index))) }
    });
}
