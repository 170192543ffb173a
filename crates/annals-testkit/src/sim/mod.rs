//! A simulated disk that fails and crashes on demand, the same way each time.
//!
//! # Fault model
//!
//! The disk keeps, besides what a reader sees (the *cache*), what is *durable*, and the list of all
//! later changes that have not been synced. A sync of a file makes the changes of its bytes and
//! length durable; a sync of a directory makes the names in it durable; nothing else does. There is
//! no order between unsynced changes.
//!
//! **Crash.** From the chosen call on, every call fails: the process is dead. If that call is a
//! write, it may still have reached the disk in part. Then an [`Image`] is built of what is durable
//! and of the unsynced changes: none of them, all, the first n, each kept or lost by chance, each
//! sector of 512 or 4,096 bytes kept or lost, each byte kept or lost, lengths without data, data
//! without lengths, names without data, data without names. A created, renamed or removed name is
//! one change, kept or lost as a whole.
//!
//! **Killed process.** [`Image::Killed`]: the cache outlives the process, unsynced changes stay
//! unsynced, and a power cut may follow.
//!
//! **Failed sync.** The unsynced changes of that file leave the list without becoming durable: the
//! kernel has marked the pages clean. A reader still sees them, a later sync succeeds and proves
//! nothing about them, and a power cut takes them away for good. They become durable only if they
//! are written again.
//!
//! **Errors.** A call of a kind, the n-th from now on, once or forever, fails with an error, or is
//! short, or is interrupted; a disk of a certain size is full.
//!
//! **Unreadable bytes.** [`SimFs::make_unreadable`]: a read that begins among them fails as one of
//! a bad sector does, one that begins before them ends there. They stay unreadable, under whatever
//! name, until the disk is healed.
//!
//! **Damage.** Tests change the bytes of files as they like: [`SimFs::contents`],
//! [`SimFs::set_contents`].
//!
//! **Other owners.** A directory is renamed with all that is in it, and another one takes its name:
//! [`SimFs::rename_dir`]. The lock file is removed, and a second store opens: [`SimFs::delete`].
//! The lock is that of the file alone, as on systems that cannot lock a directory.
//!
//! Not modelled: a process that forks (tests do that with real ones), a disk that lies about a
//! sync, and bytes that go bad while the store is open (the tests of damage reopen).

mod disk;
mod owners;

pub use disk::Image;

use annals::fs::{Entry, File, Fs, Lock, LockMode, Map, Mode};
use annals::internals::fs::mem::{entries, read_vec};
use disk::{Change, Disk, Inode, bad_sector};
use owners::SimLock;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The calls that a [`Fault`] is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operation {
    /// [`File::write_at`].
    Write,
    /// [`File::read_at`].
    Read,
    /// [`File::sync`].
    Sync,
    /// [`File::truncate`].
    Truncate,
    /// [`Fs::open`] with [`Mode::Create`].
    Create,
    /// [`Fs::sync_dir`].
    SyncDir,
    /// [`Fs::rename`].
    Rename,
    /// [`Fs::remove`].
    Remove,
}

/// An error on demand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Calls of this kind fail.
    pub operation: Operation,
    /// This many of them succeed before.
    pub after: u64,
    /// Then this many fail.
    pub times: u64,
    /// How they fail. `Interrupted` has no effect; `WriteZero` stands for a write that is cut short
    /// and then succeeds; others fail, a write after it has stored half of its bytes.
    pub kind: io::ErrorKind,
}

/// When the process dies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crash {
    /// Never.
    Never,
    /// At the changing call (write, sync, truncate, create, rename, remove) with this number,
    /// counted from 0.
    AtCall(u64),
}

#[derive(Clone, Debug)]
struct State {
    cache: Disk,
    durable: Disk,
    unsynced: Vec<Change>,
    /// The numbers of the locks that are held, by the names of their files.
    locks: BTreeMap<PathBuf, u64>,
    locks_taken: u64,
    /// Where the directories that are held are now.
    held: Vec<PathBuf>,
    calls: u64,
    crash: Crash,
    dead: bool,
    faults: Vec<Fault>,
    /// A fault has struck.
    failed: bool,
    capacity: Option<u64>,
    unreadable: BTreeMap<Inode, Vec<Range<u64>>>,
}

/// A simulated file system. Its fault model: simulated power cuts, killed processes, failing calls,
/// a full disk.
///
/// Clones share the disk. For tests of crash behaviour, also of applications: run against it,
/// [crash](SimFs::crash) it, open the image.
///
/// ```
/// use annals_testkit::{Crash, Image, SimFs};
/// use annals::{Expected, NewEvent, Options, StreamId};
/// let disk = SimFs::new();
/// let store = Options::new().file_system(disk.clone()).open("shop")?;
/// store.append(&StreamId::new("order", "1")?, Expected::Any, [NewEvent::new("Placed", "")])?;
///
/// let after_power_cut = disk.crash(Image::Durable);
/// let store = Options::new().file_system(after_power_cut).open("shop")?;
/// assert_eq!(store.len(), 1);
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct SimFs {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct SimFile {
    fs: SimFs,
    inode: Inode,
    writable: bool,
}

impl Default for SimFs {
    fn default() -> Self {
        Self::new()
    }
}

impl SimFs {
    /// An empty disk without faults.
    pub fn new() -> Self {
        Self::with_state(State::new(Disk::default()))
    }

    fn with_state(state: State) -> Self {
        SimFs { state: Arc::new(Mutex::new(state)) }
    }

    /// Sets when the process dies.
    pub fn crash_when(&self, crash: Crash) {
        self.state.lock().crash = crash;
    }

    /// Adds a fault. Several may wait at once.
    pub fn fail(&self, fault: Fault) {
        self.state.lock().faults.push(fault);
    }

    /// Removes all faults.
    pub fn heal(&self) {
        let mut state = self.state.lock();
        state.faults.clear();
        state.unreadable.clear();
        state.capacity = None;
    }

    /// Makes reads of these bytes of a file fail, as those of a bad sector do: with an error on the
    /// first of them, and short before.
    ///
    /// # Panics
    ///
    /// If there is no such file.
    pub fn make_unreadable(&self, path: impl AsRef<Path>, bytes: Range<u64>) {
        let mut state = self.state.lock();
        let inode = *state.cache.names.get(path.as_ref()).expect("the file must be there");
        state.unreadable.entry(inode).or_default().push(bytes);
    }

    /// Limits the bytes of all files together.
    pub fn set_capacity(&self, bytes: u64) {
        self.state.lock().capacity = Some(bytes);
    }

    /// Returns the number of changing calls so far: the crash points.
    pub fn calls(&self) -> u64 {
        self.state.lock().calls
    }

    /// Whether a fault has struck.
    pub fn has_failed(&self) -> bool {
        self.state.lock().failed
    }

    /// Whether the process has died.
    pub fn is_dead(&self) -> bool {
        self.state.lock().dead
    }

    /// Runs `f`, which drops what a process holds, as if that process were dead: whatever it still
    /// tries fails and changes nothing. Then its locks are released, and the disk is available to
    /// the next process (unless it was dead before).
    pub fn while_dead(&self, f: impl FnOnce()) {
        let before = std::mem::replace(&mut self.state.lock().dead, true);
        f();
        let mut state = self.state.lock();
        state.dead = before;
        state.locks.clear();
    }

    /// Returns the number of changes that are not durable: how many prefixes there are.
    pub fn unsynced(&self) -> usize {
        self.state.lock().unsynced.len()
    }

    /// Returns the names of all files that a reader sees.
    pub fn files(&self) -> Vec<PathBuf> {
        self.state.lock().cache.names.keys().cloned().collect()
    }

    /// Returns the bytes of a file, as a reader sees them.
    pub fn contents(&self, path: impl AsRef<Path>) -> Option<Vec<u8>> {
        let state = self.state.lock();
        let inode = *state.cache.names.get(path.as_ref())?;
        Some(state.cache.contents[inode].to_vec())
    }

    /// Gives a file other bytes, durably; creates it if necessary.
    pub fn set_contents(&self, path: impl AsRef<Path>, bytes: Vec<u8>) {
        let mut state = self.state.lock();
        let path = path.as_ref().to_owned();
        let inode = match state.cache.names.get(&path) {
            Some(&inode) => inode,
            None => state.new_inode(),
        };
        let state = &mut *state;
        for disk in [&mut state.cache, &mut state.durable] {
            disk.names.insert(path.clone(), inode);
            *disk.content(inode) = bytes.clone();
        }
    }

    /// Removes a file, durably. The lock of a file that is removed is still held, but no longer in
    /// the way of others.
    pub fn delete(&self, path: impl AsRef<Path>) {
        let mut state = self.state.lock();
        state.locks.remove(path.as_ref());
        state.cache.names.remove(path.as_ref());
        state.durable.names.remove(path.as_ref());
    }

    /// Returns the disk as it is after a crash now. It has no faults (except that unreadable bytes
    /// stay so), no locks, and (except for [`Image::Killed`]) nothing unsynced.
    pub fn crash(&self, image: Image) -> SimFs {
        let state = self.state.lock();
        let mut next = State::new(state.durable.clone());
        next.unreadable = state.unreadable.clone();
        if image == Image::Killed {
            next.cache = state.cache.clone();
            next.durable = state.durable.clone();
            next.unsynced = state.unsynced.clone();
            return Self::with_state(next);
        }
        next.cache.keep(&state.unsynced, image);
        next.durable = next.cache.clone();
        Self::with_state(next)
    }
}

impl State {
    /// Returns a disk that shows this and holds nothing durable yet, without faults.
    fn new(cache: Disk) -> Self {
        State {
            cache,
            durable: Disk::default(),
            unsynced: Vec::new(),
            locks: BTreeMap::new(),
            locks_taken: 0,
            held: Vec::new(),
            calls: 0,
            crash: Crash::Never,
            dead: false,
            faults: Vec::new(),
            failed: false,
            capacity: None,
            unreadable: BTreeMap::new(),
        }
    }

    fn new_inode(&mut self) -> Inode {
        self.cache.contents.push(Arc::default());
        self.durable.contents.push(Arc::default());
        self.cache.contents.len() - 1
    }

    /// Applies a change to what readers see, and records that it is not durable.
    fn change(&mut self, change: Change) {
        self.cache.apply(&change);
        self.unsynced.push(change);
    }

    /// Removes the changes that satisfy `which` from the list; makes them durable if `kept`.
    fn decide(&mut self, kept: bool, which: impl Fn(&Change) -> bool) {
        let (decided, rest) = std::mem::take(&mut self.unsynced).into_iter().partition(which);
        self.unsynced = rest;
        for change in decided {
            if kept {
                self.durable.apply(&change);
            }
        }
    }

    /// Returns the error that waits for this call, if any.
    fn fault(&mut self, operation: Operation) -> Option<io::ErrorKind> {
        let mut found = None;
        for fault in self.faults.iter_mut().filter(|fault| fault.operation == operation) {
            if fault.after > 0 {
                fault.after -= 1;
            } else if fault.times > 0 && found.is_none() {
                fault.times -= 1;
                found = Some(fault.kind);
            }
        }
        self.failed |= found.is_some();
        found
    }

    /// Counts a changing call. Returns `true` if the process dies at this one.
    fn step(&mut self) -> io::Result<bool> {
        if self.dead {
            return Err(dead());
        }
        let dies = self.crash == Crash::AtCall(self.calls);
        self.calls += 1;
        self.dead |= dies;
        Ok(dies)
    }

    /// A changing call other than a write: no effect if the process dies at it or a fault waits for
    /// it.
    fn enter(&mut self, operation: Operation) -> io::Result<()> {
        if self.step()? {
            return Err(dead());
        }
        self.fault(operation).map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn alive(&self) -> io::Result<()> {
        if self.dead { Err(dead()) } else { Ok(()) }
    }

    fn used(&self) -> u64 {
        let live = self.cache.names.values();
        live.map(|&inode| self.cache.contents[inode].len() as u64).sum()
    }
}

fn dead() -> io::Error {
    io::Error::other("the simulated process is dead")
}

fn missing(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("no file {}", path.display()))
}

impl Fs for SimFs {
    /// Directories always exist: the crash tests are about files.
    fn create_dir(&self, _: &Path) -> io::Result<()> {
        self.state.lock().alive()
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        let mut state = self.state.lock();
        state.alive()?;
        let there = state.cache.names.get(path).copied();
        let inode = match (there, mode) {
            (Some(inode), Mode::Read | Mode::Write) => inode,
            (None, Mode::Read | Mode::Write) => return Err(missing(path)),
            (Some(inode), Mode::Create) => {
                state.enter(Operation::Create)?;
                state.change(Change::Truncate { inode, size: 0 });
                inode
            }
            (None, Mode::Create) => {
                state.enter(Operation::Create)?;
                let inode = state.new_inode();
                state.change(Change::Link { path: path.to_owned(), inode });
                inode
            }
        };
        Ok(Arc::new(SimFile { fs: self.clone(), inode, writable: mode != Mode::Read }))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let state = self.state.lock();
        state.alive()?;
        let names = state.cache.names.iter();
        Ok(entries(names.map(|(path, &inode)| (path, state.cache.contents[inode].len() as u64)), dir))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.enter(Operation::Rename)?;
        let inode = *state.cache.names.get(from).ok_or_else(|| missing(from))?;
        state.change(Change::Rename { from: from.to_owned(), to: to.to_owned(), inode });
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        state.enter(Operation::Remove)?;
        if !state.cache.names.contains_key(path) {
            return Err(missing(path));
        }
        state.change(Change::Unlink { path: path.to_owned() });
        Ok(())
    }

    /// As for their creation.
    fn remove_dir(&self, _: &Path) -> io::Result<()> {
        self.state.lock().alive()
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.state.lock();
        if state.step()? {
            return Err(dead());
        }
        let fault = state.fault(Operation::SyncDir);
        if fault.is_none() {
            state.decide(true, |change| change.is_in(dir));
        }
        fault.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn lock(&self, path: &Path, _: LockMode) -> io::Result<Lock> {
        let mut state = self.state.lock();
        state.alive()?;
        if state.locks.contains_key(path) {
            return Ok(Lock::Taken(format!("pid {} (simulated)", std::process::id())));
        }
        state.locks_taken += 1;
        let number = state.locks_taken;
        state.locks.insert(path.to_owned(), number);
        Ok(Lock::Held(Box::new(SimLock { fs: self.clone(), number })))
    }

    fn available(&self, _: &Path) -> io::Result<Option<u64>> {
        let state = self.state.lock();
        Ok(state.capacity.map(|capacity| capacity.saturating_sub(state.used())))
    }

    fn gains_from_zeros(&self) -> bool {
        true
    }

    fn hold(&self, dir: &Path) -> io::Result<Option<Arc<dyn Fs>>> {
        Ok(Some(self.held(dir)))
    }
}

impl File for SimFile {
    fn size(&self) -> io::Result<u64> {
        let state = self.fs.state.lock();
        state.alive()?;
        Ok(state.cache.contents[self.inode].len() as u64)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let mut state = self.fs.state.lock();
        state.alive()?;
        if let Some(kind) = state.fault(Operation::Read) {
            return Err(kind.into());
        }
        let mut len = out.len();
        for bad in state.unreadable.get(&self.inode).into_iter().flatten() {
            if bad.contains(&offset) {
                return Err(bad_sector());
            }
            if offset < bad.start {
                len = len.min((bad.start - offset) as usize);
            }
        }
        Ok(read_vec(&state.cache.contents[self.inode], offset, &mut out[..len]))
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        if !self.writable {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let mut state = self.fs.state.lock();
        let dies = state.step()?;
        let mut kind = state.fault(Operation::Write);
        let mut stored = match kind {
            None => bytes.len(),
            Some(io::ErrorKind::Interrupted) => 0,
            Some(_) => bytes.len() / 2,
        };
        if let Some(capacity) = state.capacity {
            let size = state.cache.contents[self.inode].len() as u64;
            let room = capacity.saturating_sub(state.used()) + size.saturating_sub(offset);
            if (stored as u64) > room {
                stored = room as usize;
                kind = if stored == 0 { Some(io::ErrorKind::StorageFull) } else { Some(io::ErrorKind::WriteZero) };
            }
        }
        if stored > 0 {
            let bytes = bytes[..stored].into();
            state.change(Change::Write { inode: self.inode, at: offset, bytes });
        }
        match kind {
            _ if dies => Err(dead()),
            None | Some(io::ErrorKind::WriteZero) => Ok(stored),
            Some(kind) => Err(kind.into()),
        }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.fs.state.lock();
        if state.step()? {
            return Err(dead());
        }
        let fault = state.fault(Operation::Sync);
        if fault == Some(io::ErrorKind::Interrupted) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        state.decide(fault.is_none(), |change| change.inode() == Some(self.inode));
        fault.map_or(Ok(()), |kind| Err(kind.into()))
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        let mut state = self.fs.state.lock();
        state.enter(Operation::Truncate)?;
        state.change(Change::Truncate { inode: self.inode, size });
        Ok(())
    }

    fn map(&self, _: u64) -> io::Result<Option<Arc<dyn Map>>> {
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(fs: &SimFs, path: &str) -> Arc<dyn File> {
        fs.open(Path::new(path), Mode::Create).unwrap()
    }

    #[test]
    fn unsynced_bytes_and_names_are_lost() {
        let fs = SimFs::new();
        let a = file(&fs, "d/a");
        a.write_at(0, b"one").unwrap();
        a.sync().unwrap();
        assert!(fs.crash(Image::Durable).files().is_empty(), "the name was not synced");
        fs.sync_dir(Path::new("d")).unwrap();
        a.write_at(3, b"two").unwrap();
        assert_eq!(fs.crash(Image::Durable).contents("d/a").unwrap(), b"one");
        assert_eq!(fs.crash(Image::All).contents("d/a").unwrap(), b"onetwo");
        assert_eq!(fs.crash(Image::SizeWithoutData).contents("d/a").unwrap(), b"one\0\0\0");
        assert_eq!(fs.crash(Image::DataWithoutSize).contents("d/a").unwrap(), b"one");
    }

    #[test]
    fn a_failed_sync_leaves_bytes_in_the_cache_only() {
        let fs = SimFs::new();
        let a = file(&fs, "a");
        fs.sync_dir(Path::new("")).unwrap();
        a.write_at(0, b"x").unwrap();
        fs.fail(Fault { operation: Operation::Sync, after: 0, times: 1, kind: io::ErrorKind::Other });
        a.sync().unwrap_err();
        a.sync().unwrap();
        assert_eq!(fs.contents("a").unwrap(), b"x");
        assert_eq!(fs.crash(Image::All).contents("a").unwrap(), b"");
        assert_eq!(fs.crash(Image::Killed).contents("a").unwrap(), b"x");
    }

    #[test]
    fn a_full_disk_takes_what_fits() {
        let fs = SimFs::new();
        fs.set_capacity(4);
        let a = file(&fs, "a");
        assert_eq!(a.write_at(0, b"abcdef").unwrap(), 4);
        assert_eq!(a.write_at(4, b"ef").unwrap_err().kind(), io::ErrorKind::StorageFull);
        assert_eq!(a.write_at(0, b"ABCD").unwrap(), 4);
    }

    #[test]
    fn nothing_works_after_the_crash() {
        let fs = SimFs::new();
        let a = file(&fs, "a");
        fs.crash_when(Crash::AtCall(1));
        a.write_at(0, b"x").unwrap_err();
        a.sync().unwrap_err();
        fs.sync_dir(Path::new("")).unwrap_err();
        assert_eq!(fs.crash(Image::DataOnly).files().len(), 0);
        assert_eq!(fs.crash(Image::All).contents("a").unwrap(), b"x");
    }
}
