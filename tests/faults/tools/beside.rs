//! Tools beside a process that writes.
//!
//! The story: `verify` beside a writer of single commits called damage in 29 of 40 runs. What it had read of the end of a segment was older than what it read behind that, so that a commit which was
//! on its way looked like one that later commits vouch for. And `salvage` copied POSITIONS after the log: checkpoints in the copy were ahead of its events, and consumers waited there for ever. Now
//! what a tool reads later never makes it doubt what it has read before, and POSITIONS and HEAD are read before the log.

use annals::fs::{Entry, File, Fs, Lock, LockMode, Map, Mode, SimFs};
use annals::salvage::{Salvage, verify_in};
use annals::{Expected, ExpectedVersion, NewEvent, Options, Store, StreamId};
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

/// A disk on which something happens before each call. Reads are short, so that something happens within long ones, too.
#[derive(Clone)]
struct Busy {
    disk: SimFs,
    each: Arc<dyn Fn() + Send + Sync>,
}

impl fmt::Debug for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Busy")
    }
}

#[derive(Debug)]
struct BusyFile {
    under: Arc<dyn File>,
    fs: Busy,
}

impl Fs for Busy {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.create_dir(path)
    }
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        (self.each)();
        Ok(Arc::new(BusyFile { under: self.disk.open(path, mode)?, fs: self.clone() }))
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        (self.each)();
        self.disk.list(dir)
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.disk.remove_dir(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.disk.sync_dir(dir)
    }
    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<Lock> {
        self.disk.lock(path, mode)
    }
    fn available(&self, dir: &Path) -> io::Result<Option<u64>> {
        self.disk.available(dir)
    }
    fn gains_from_zeros(&self) -> bool {
        true
    }
}

impl File for BusyFile {
    fn size(&self) -> io::Result<u64> {
        (self.fs.each)();
        self.under.size()
    }
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        (self.fs.each)();
        let len = out.len().min(1024);
        self.under.read_at(offset, &mut out[..len])
    }
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.under.write_at(offset, bytes)
    }
    fn sync(&self) -> io::Result<()> {
        self.under.sync()
    }
    fn truncate(&self, size: u64) -> io::Result<()> {
        self.under.truncate(size)
    }
    fn map(&self, len: u64) -> io::Result<Option<Arc<dyn Map>>> {
        self.under.map(len)
    }
}

/// A commit, and a checkpoint behind it.
fn work(store: &Store, n: u64) {
    let stream = StreamId::new("order", (n % 3).to_string()).unwrap();
    let data = vec![1; 100 + n as usize % 5 * 50];
    store.append(&stream, Expected::Any, [NewEvent::new("Placed", &data)]).unwrap();
    store.checkpoints().commit("billing", store.len() - 1, ExpectedVersion::Any).unwrap();
    store.checkpoints().flush().unwrap();
}

/// Calls a tool beside a writer that begins to work before the n-th call of the tool, for each n, and works before each of those that follow.
fn beside_a_writer(tool: impl Fn(&Busy) -> bool) {
    for first in 0.. {
        let disk = SimFs::new();
        let options = Options::new().file_system(disk.clone()).maintenance(false).segment_size(8 << 10).reserve(0);
        let store = options.open("store").unwrap();
        (0..20).for_each(|n| work(&store, n));
        let (calls, writer) = (AtomicU64::new(0), Mutex::new(store));
        let each = move || {
            let call = calls.fetch_add(1, SeqCst);
            if (first..first + 40).contains(&call) {
                work(&writer.lock().unwrap(), call);
            }
        };
        let each: Arc<dyn Fn() + Send + Sync> = Arc::new(each);
        let busy = Busy { disk, each };
        if !tool(&busy) || first > 200 {
            return;
        }
    }
}

#[test]
fn verify_calls_nothing_damage_that_is_being_written() {
    beside_a_writer(|busy| {
        let found = verify_in(busy, "store").unwrap();
        assert!(found.is_sound(), "{found:?}");
        found.events < 200
    });
}

#[test]
fn a_salvaged_copy_has_no_checkpoint_ahead_of_its_events() {
    beside_a_writer(|busy| {
        let report = Salvage::new().run_in(busy, "store", "out").unwrap();
        assert!(report.losses.is_empty() && report.torn.is_none() && report.affected.is_empty(), "{report:?}");
        let out = Options::new().file_system(busy.disk.clone()).open_read_only("out").unwrap();
        let reached = out.checkpoints().list().unwrap()[0].position;
        assert!(reached < out.len(), "{reached} of {}", out.len());
        true
    });
}
