//! A file system that holds threads at chosen calls until a test releases them, and records the
//! order of calls.
//!
//! So a test decides what otherwise a scheduler, a page fault or a paused machine decides: where
//! each thread is while another one continues.
//!
//! ```text
//! let fs = HeldFs::over(SimFs::new());
//! let store = Options::new().file_system(fs.clone()).open("store")?;
//! let hold = fs.hold(Call::Write, "SPARE.");
//! let leader = std::thread::spawn(…);
//! hold.arrived(); // The leader stands before its write, and nothing of it is done.
//! …
//! hold.go();
//! ```

use annals::fs::{File, FileLayer, Fs, FsLayer, Held, Lock, LockMode, Mode};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The calls at which a thread can be held. All but the first two change something.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Call {
    /// [`Fs::open`] with [`Mode::Read`].
    Open,
    /// [`File::read_at`].
    Read,
    /// [`Fs::open`] with [`Mode::Write`].
    OpenToWrite,
    /// [`Fs::open`] with [`Mode::Create`].
    Create,
    CreateDir,
    Write,
    Sync,
    Truncate,
    /// Of either name.
    Rename,
    Remove,
    RemoveDir,
    SyncDir,
    /// A lock is taken.
    Lock,
    /// A lock is released. Threads are not held there.
    Unlock,
}

impl Call {
    pub fn changes(self) -> bool {
        !matches!(self, Call::Open | Call::Read)
    }
}

/// A call that was made: the thread that made it, and on what.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Made {
    pub call: Call,
    pub path: PathBuf,
    pub thread: Option<String>,
}

/// Another file system, with holds.
#[derive(Clone, Debug)]
pub struct HeldFs {
    under: Arc<dyn Fs>,
    shared: Arc<Shared>,
}

#[derive(Default, Debug)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default, Debug)]
struct State {
    holds: Vec<Point>,
    made: Vec<Made>,
}

#[derive(Debug)]
struct Point {
    /// Any, if it is empty.
    call: Option<Call>,
    name: String,
    thread: Option<String>,
    /// Number of calls that pass before.
    after: u64,
    arrived: bool,
    open: bool,
}

/// A point at which one thread is held, once. When it is dropped, the thread continues.
#[derive(Debug)]
pub struct Hold {
    number: usize,
    shared: Arc<Shared>,
}

/// No test waits longer for a thread to reach a call: it never will.
const PATIENCE: Duration = Duration::from_secs(20);

impl Hold {
    /// Waits until a thread is before the call.
    pub fn arrived(&self) {
        let missing = |state: &mut State| !state.holds[self.number].arrived;
        let waited = self.shared.changed.wait_timeout_while(self.shared.lock(), PATIENCE, missing);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let Point { call, name, arrived, .. } = &state.holds[self.number];
        let (arrived, last) = (*arrived, state.made.iter().rev().take(20).rev());
        let why = format!("no thread came to {call:?} of {name}; the last calls: {:#?}", last.collect::<Vec<_>>());
        drop(state);
        assert!(arrived, "{why}");
    }

    /// Returns whether a thread is before the call, or reaches it in this time.
    pub fn arrives_within(&self, time: Duration) -> bool {
        let missing = |state: &mut State| !state.holds[self.number].arrived;
        let waited = self.shared.changed.wait_timeout_while(self.shared.lock(), time, missing);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.holds[self.number].arrived
    }

    /// Lets the thread make the call.
    pub fn go(&self) {
        self.shared.lock().holds[self.number].open = true;
        self.shared.changed.notify_all();
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.go();
    }
}

impl HeldFs {
    pub fn over(fs: impl Fs + 'static) -> Self {
        HeldFs { under: Arc::new(fs), shared: Arc::default() }
    }

    /// Holds the next thread that is about to make this call on a file whose name contains `name`.
    pub fn hold(&self, call: Call, name: &str) -> Hold {
        self.hold_thread(call, name, None)
    }

    /// The same for the thread with this name; others pass.
    pub fn hold_thread(&self, call: Call, name: &str, thread: Option<&str>) -> Hold {
        let (call, thread) = (Some(call), thread.map(str::to_owned));
        self.add(Point { call, name: name.to_owned(), thread, after: 0, arrived: false, open: false })
    }

    /// Holds the thread with this name before any call, after this many others of its own.
    pub fn hold_after(&self, calls: u64, thread: &str) -> Hold {
        let thread = Some(thread.to_owned());
        self.add(Point { call: None, name: String::new(), thread, after: calls, arrived: false, open: false })
    }

    fn add(&self, point: Point) -> Hold {
        let mut state = self.shared.lock();
        state.holds.push(point);
        Hold { number: state.holds.len() - 1, shared: self.shared.clone() }
    }

    /// Returns the calls so far, in order of their ends.
    pub fn made(&self) -> Vec<Made> {
        self.shared.lock().made.clone()
    }

    /// Returns the calls that changed something since the last release of a lock.
    pub fn changes_since_unlock(&self) -> Vec<Made> {
        let made = self.made();
        let unlocked = made.iter().rposition(|made| made.call == Call::Unlock).expect("a lock was released");
        made[unlocked + 1..].iter().filter(|made| made.call.changes()).cloned().collect()
    }
}

impl Shared {
    /// Also after a failed test: threads that it leaves continue.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn pass(&self, call: Call, paths: &[&Path]) {
        let thread = std::thread::current().name().map(str::to_owned);
        let is_meant = |point: &Point| {
            let named =
                paths.iter().filter_map(|path| path.file_name()?.to_str()).any(|name| name.contains(&point.name));
            let by = point.thread.is_none() || point.thread == thread;
            point.call.is_none_or(|of| of == call) && named && by && !point.arrived
        };
        let mut state = self.lock();
        let Some(number) = state.holds.iter().position(is_meant) else { return };
        if let Some(after) = state.holds[number].after.checked_sub(1) {
            state.holds[number].after = after;
            return;
        }
        state.holds[number].arrived = true;
        self.changed.notify_all();
        let held = self.changed.wait_while(state, |state| !state.holds[number].open);
        drop(held.unwrap_or_else(PoisonError::into_inner));
    }

    fn note(&self, call: Call, path: &Path) {
        let thread = std::thread::current().name().map(str::to_owned);
        let made = Made { call, path: path.to_owned(), thread };
        self.lock().made.push(made);
    }

    fn call<T>(&self, call: Call, path: &Path, make: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
        self.pass(call, &[path]);
        let made = make();
        self.note(call, path);
        made
    }
}

impl FsLayer for HeldFs {
    fn inner(&self) -> &dyn Fs {
        &*self.under
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.shared.call(Call::CreateDir, path, || self.under.create_dir(path))
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        let call = match mode {
            Mode::Read => Call::Open,
            Mode::Write => Call::OpenToWrite,
            Mode::Create => Call::Create,
        };
        let file = self.shared.call(call, path, || self.under.open(path, mode))?;
        Ok(Arc::new(HeldFile { file, path: path.to_owned(), shared: self.shared.clone() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.shared.pass(Call::Rename, &[from, to]);
        let renamed = self.under.rename(from, to);
        self.shared.note(Call::Rename, to);
        renamed
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.shared.call(Call::Remove, path, || self.under.remove(path))
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.shared.call(Call::RemoveDir, path, || self.under.remove_dir(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.shared.call(Call::SyncDir, dir, || self.under.sync_dir(dir))
    }

    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<Lock> {
        let lock = self.shared.call(Call::Lock, path, || self.under.lock(path, mode))?;
        Ok(match lock {
            Lock::Held(lock) => {
                let (path, shared) = (path.to_owned(), self.shared.clone());
                Lock::Held(Box::new(HeldLock { lock: Some(lock), path, shared }))
            }
            taken => taken,
        })
    }
}

#[derive(Debug)]
struct HeldLock {
    lock: Option<Box<dyn Held>>,
    path: PathBuf,
    shared: Arc<Shared>,
}

impl Held for HeldLock {}

impl Drop for HeldLock {
    fn drop(&mut self) {
        // Before it is released: the next owner's calls come after.
        self.shared.note(Call::Unlock, &self.path);
        self.lock = None;
    }
}

#[derive(Debug)]
struct HeldFile {
    file: Arc<dyn File>,
    path: PathBuf,
    shared: Arc<Shared>,
}

impl FileLayer for HeldFile {
    fn inner(&self) -> &dyn File {
        &*self.file
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.shared.call(Call::Read, &self.path, || self.file.read_at(offset, out))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.shared.call(Call::Write, &self.path, || self.file.write_at(offset, bytes))
    }

    fn sync(&self) -> io::Result<()> {
        self.shared.call(Call::Sync, &self.path, || self.file.sync())
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.shared.call(Call::Truncate, &self.path, || self.file.truncate(size))
    }
}
