//! Few files and few threads.

use annals::offline::{Repair, Salvage, dump, verify};
use annals::projection::PerStream;
use annals::{Error, Event, Expected, NewEvent, Options, Projection, Result, Store, StreamId};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs a test of this file once more, in a process of its own, with this limit of the shell.
/// Returns the directory in which it finds a store, if this is that process.
fn limited(test: &str, limit: &str, fill: impl FnOnce(&Path)) -> Option<PathBuf> {
    if let Some(dir) = std::env::var_os("ANNALS_LIMITED") {
        return Some(dir.into());
    }
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    let run = Command::new("sh")
        .arg("-c")
        .arg(format!("ulimit {limit} && exec \"$0\" --exact tools::limits::{test} --test-threads 1"))
        .arg(std::env::current_exe().unwrap())
        .env("ANNALS_LIMITED", dir.path())
        .env("RUST_MIN_STACK", (256 << 20).to_string())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success() && told.contains("1 passed"), "{told} {}", String::from_utf8_lossy(&run.stderr));
    None
}

fn fill(dir: &Path) {
    let store = Options::new().segment_size(4096).open(dir).unwrap();
    for n in 0..100 {
        let stream = StreamId::new("order", n.to_string()).unwrap();
        store.append(&stream, Expected::Any, [NewEvent::new("Placed", &[7; 2000])]).unwrap();
    }
    store.close().unwrap();
}

/// A store of more segments than a process may have open files could not be verified or salvaged:
/// `verify` opened all of them at once. Now tools open one file after the other, and if there are
/// still too many, the error says what to do.
#[test]
fn tools_need_few_files() {
    let Some(dir) = limited("tools_need_few_files", "-n 20", fill) else { return };
    let store = dir.join("store-of-another-test");
    assert!(matches!(verify(&store), Err(Error::NotAStore { .. })));
    assert!(verify(&dir).unwrap().segments > 40);
    let mut pieces = 0;
    dump(&dir, |_| pieces += 1).unwrap();
    assert!(pieces > 100);
    let out = tempfile::tempdir().unwrap();
    assert_eq!(Salvage::new().run(&dir, out.path()).unwrap().events, 100);
    assert!(Repair::new().plan(&dir).unwrap().actions.is_empty());
    let error = Store::open(&dir).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("ulimit -n"), "{error}");
}

struct Count;

impl Projection for Count {
    type State = u64;
    fn name(&self) -> &str {
        "count"
    }
    fn version(&self) -> u32 {
        1
    }
    fn apply(&self, count: &mut u64, _: &Event) -> Result<()> {
        *count += 1;
        Ok(())
    }
}

impl PerStream for Count {
    fn merge(&self, into: &mut u64, part: u64) {
        *into += part;
    }
}

/// `parallel(2000)` panicked if the system did not start so many threads. Now the existing ones do
/// the work.
#[test]
fn a_rebuild_makes_do_with_fewer_threads() {
    let Some(dir) = limited("a_rebuild_makes_do_with_fewer_threads", "-v 3000000", fill) else { return };
    let store = Options::new().maintenance(false).open(&dir).unwrap();
    let count = store.projection(Count).parallel(2000).catch_up().unwrap();
    assert_eq!(count.read(|count| *count).unwrap(), 100);
}
