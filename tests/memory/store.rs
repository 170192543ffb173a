//! Anonymous memory of an open store: it grows with the streams that are looked up, and not with
//! the events.
//!
//! Needs Linux (`/proc/self/status`) and half a GiB of disk, so only on demand:
//! `cargo test --release --test memory store -- --ignored --nocapture`. The measurement runs in a
//! process of its own, as the allocator keeps what building the store has used.

use annals::{Durability, Expected, NewEvent, Options, Store, StreamId};
use std::path::Path;
use std::process::Command;

const STORE: &str = "ANNALS_MEMORY_STORE";
const STREAMS: &str = "ANNALS_MEMORY_STREAMS";

fn stream(n: u64) -> StreamId {
    StreamId::new("order", n.to_string()).unwrap()
}

fn anonymous_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
    line.split_whitespace().next().unwrap().parse::<u64>().unwrap() * 1024
}

/// 1 M events in this many streams, closed.
fn build(dir: &Path, streams: u64) {
    let store = Options::new().durability(Durability::Os).open(dir).unwrap();
    let data = [b'd'; 256];
    for first in (0..1_000_000u64).step_by(1000) {
        let transaction = (first..first + 1000).fold(store.transaction(), |transaction, n| {
            transaction.append(&stream(n % streams), Expected::Any, [NewEvent::new("OrderLineAdded__", &data)])
        });
        transaction.commit().unwrap();
    }
    store.close().unwrap();
}

/// In the other process: opens the store, asks for all streams, and prints what each step has
/// added.
fn measure(dir: &str) {
    let streams: u64 = std::env::var(STREAMS).unwrap().parse().unwrap();
    let before = anonymous_bytes();
    let store = Store::open(dir).unwrap();
    assert!(store.read(&stream(5)).backwards().limit(1).into_iter().next().unwrap().is_ok());
    let opened = anonymous_bytes().saturating_sub(before);
    for n in 0..streams {
        assert!(store.stream(&stream(n)).unwrap().is_some());
    }
    let asked = anonymous_bytes().saturating_sub(before);
    println!("{streams} streams: {opened} bytes after open, {} a stream when all have been asked for", asked / streams);
    assert!(opened < 16 << 20);
    assert!(asked < 96 * streams + (1 << 20));
}

#[test]
#[ignore = "builds two stores of 1 M events"]
fn memory_of_an_open_store() {
    if let Ok(dir) = std::env::var(STORE) {
        return measure(&dir);
    }
    for streams in [10_000, 1_000_000] {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        build(dir.path(), streams);
        let mut child = Command::new(std::env::current_exe().unwrap());
        child.args(["store::memory_of_an_open_store", "--ignored", "--nocapture", "--exact"]);
        let done = child.env(STORE, dir.path()).env(STREAMS, streams.to_string()).output().unwrap();
        let output = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(done.status.success(), "{output}{}", String::from_utf8_lossy(&done.stderr));
        output.lines().filter(|line| line.contains("streams:")).for_each(|line| println!("{line}"));
    }
}
