//! The memory of a position: everything that the process has allocated, counted by the allocator,
//! minus what it had before.
//!
//! On demand: `cargo test --release --test memory positions -- --ignored --nocapture`.

use annals::fs::MemFs;
use annals::{Options, Store, StreamId};
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

struct Counting;

// SAFETY: all calls are passed on to the system's allocator; only sizes are added up.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        ALLOCATED.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promises are passed on.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

fn open(disk: &MemFs) -> Store {
    Options::new().file_system(disk.clone()).maintenance(false).open("store").unwrap()
}

fn root(n: u64) -> StreamId {
    StreamId::new(["order", "stock"][n as usize % 2], format!("{n:024}")).unwrap()
}

#[test]
#[ignore = "puts some millions of positions"]
fn a_million_positions_take_less_than_100_bytes_each() {
    // Just after the points where something grows, and far from them.
    for count in [100_000u64, 500_000, 790_000, 1_000_000, 1_600_000, 2_100_000] {
        let disk = MemFs::new();
        let before = ALLOCATED.load(Ordering::Relaxed);
        let store = open(&disk);
        for n in 0..count {
            store.positions().put(["billing", "shipping"][n as usize / 2 % 2], &root(n), n).unwrap();
        }
        let dirty = ALLOCATED.load(Ordering::Relaxed) - before;
        store.positions().flush().unwrap();
        drop(store);
        let before = ALLOCATED.load(Ordering::Relaxed);
        let store = open(&disk);
        assert_eq!(store.positions().get("billing", &root(0)).unwrap(), Some(0));
        let loaded = ALLOCATED.load(Ordering::Relaxed) - before;
        println!(
            "{count} positions: {} bytes each when new, {} when loaded",
            dirty as u64 / count,
            loaded as u64 / count
        );
        assert!(dirty as u64 <= 100 * count && loaded as u64 <= 100 * count);
    }
}
