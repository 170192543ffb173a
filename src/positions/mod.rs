//! Handler positions, checkpoints and dead letters: a table in memory, and the file that stores it.
//!
//! Changes are made in memory, under one short lock. A flush takes the changes that the file does
//! not have, writes them outside of that lock, and syncs; threads that arrive meanwhile wait for
//! the next flush, which serves all of them. The table is loaded at the first use; an open checks
//! the newest entries of a short file, and keeps nothing.

mod bindings;
mod dead_letters;
mod journal;

mod replay;
pub(crate) mod salvage;
mod slots;
mod table;

use crate::directory::POSITIONS;
use crate::error::{Error, Result};
use crate::expected::ExpectedVersion;
use crate::format::positions_file::{HandlerGroup, ProgressEntry, UNBOUND};
use crate::fs::{Fs, Mode};
use crate::stream::{StreamId, check_name};
use crate::waker;
pub use bindings::BindingFault;
pub(crate) use bindings::Bound;
pub(crate) use dead_letters::DeadLetterEntry;
use journal::Journal;
use parking_lot::{Mutex, MutexGuard};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
pub use table::Sequence;
use table::Table;

/// Makes all visible events durable.
pub(crate) type SyncEvents = Arc<dyn Fn() -> Result<()> + Send + Sync>;
/// Returns an error if the store may no longer change positions.
pub(crate) type CheckOwner = Arc<dyn Fn() -> Result<()> + Send + Sync>;

/// The handler positions, checkpoints and dead letters of one store.
pub(crate) struct Register {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    store: [u8; 16],
    read_only: bool,
    /// Whether each change is flushed before the call returns.
    sync: bool,
    /// Makes the events durable that positions may refer to: a position must not outlive its event.
    /// Only called within [`waker::afterwards`], because it wakes threads and tasks that wait for
    /// those events.
    sync_events: SyncEvents,
    check_owner: CheckOwner,
    loaded: OnceLock<LoadedTable>,
    loading: Mutex<()>,
    /// Whether changes are refused.
    shut: AtomicBool,
    /// The result of closing, once that is done.
    closed: Mutex<Option<Result<()>>>,
}

struct LoadedTable {
    table: Mutex<Table>,
    /// Locked before the table, if both are.
    journal: Mutex<Journal>,
}

/// A checkpoint in the table.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CheckpointEntry {
    pub position: u64,
    pub version: u64,
    /// When the event at this position was recorded, or [`UNBOUND`].
    pub recorded_at: i64,
    /// Whether the log is known to have that event: this process has committed the checkpoint, or
    /// looked the event up since the file was read.
    pub checked: bool,
}

impl CheckpointEntry {
    fn entry<'a>(&self, name: &'a str) -> ProgressEntry<'a> {
        let CheckpointEntry { position, version, recorded_at, .. } = *self;
        ProgressEntry::Checkpoint { name, position, version, recorded_at }
    }
}

/// The newest entries of a file, which show whether its entries refer to events of this log.
#[derive(Default)]
pub(crate) struct Newest {
    pub checkpoints: Vec<(String, CheckpointEntry)>,
    /// The last dead letter of each consumer: name, position, recorded time of the event.
    pub letters: Vec<(String, u64, i64)>,
    /// The position with the latest recorded time: handler, stream, epoch of its edition.
    pub position: Option<(String, StreamId, u64, Sequence)>,
}

/// Maximum length in bytes of a file that is read on opening; a longer one is read when it is first
/// used.
const READ_ON_OPEN: u64 = 1 << 20;
/// Maximum number of checkpoints and dead letters whose events are looked up on opening.
const LOOKED_UP: usize = 32;

/// The progress of a consumer since its last update.
pub(crate) struct Step {
    /// A position, and the recorded time of its event.
    pub to: Option<(u64, i64)>,
    /// The expected version of its checkpoint, if that moves.
    pub expected: ExpectedVersion,
    pub parked: Vec<(u64, DeadLetterEntry)>,
    pub gone: Vec<u64>,
}

impl Register {
    pub(crate) fn new(
        fs: Arc<dyn Fs>,
        dir: PathBuf,
        store: [u8; 16],
        read_only: bool,
        sync: bool,
        sync_events: SyncEvents,
        check_owner: CheckOwner,
    ) -> Self {
        Register {
            fs,
            dir,
            store,
            read_only,
            sync,
            sync_events,
            check_owner,
            loaded: OnceLock::new(),
            loading: Mutex::default(),
            shut: AtomicBool::new(false),
            closed: Mutex::default(),
        }
    }

    /// Returns the table, and reads the file if that has not been done. If reading fails, the next
    /// call tries again.
    fn loaded(&self) -> Result<&LoadedTable> {
        if let Some(loaded) = self.loaded.get() {
            return Ok(loaded);
        }
        let _loading = self.loading.lock();
        if let Some(loaded) = self.loaded.get() {
            return Ok(loaded);
        }
        let mut table = Table::default();
        let sync_events = self.sync_events.clone();
        let (fs, dir) = (self.fs.clone(), self.dir.clone());
        // After closing, the file may belong to another owner: it is only read.
        let read_only = self.read_only || self.shut.load(Ordering::Acquire);
        let journal = Journal::open(fs, dir, self.store, read_only, sync_events, &mut table)?;
        Ok(self.loaded.get_or_init(|| LoadedTable { table: Mutex::new(table), journal: Mutex::new(journal) }))
    }

    fn table(&self) -> Result<MutexGuard<'_, Table>> {
        Ok(self.loaded()?.table.lock())
    }

    pub(crate) fn check_writable(&self) -> Result<()> {
        match self.read_only {
            true => Err(Error::ReadOnly),
            false if self.shut.load(Ordering::Acquire) => Err(Error::Closed),
            false => (self.check_owner)(),
        }
    }

    /// Changes the table, and flushes if each change must be flushed.
    fn change<T>(&self, change: impl FnOnce(&mut Table) -> Result<T>) -> Result<T> {
        self.check_writable()?;
        let changed = {
            let mut table = self.table()?;
            // Checked again under the lock: closing takes what is in the table, and cannot come in
            // between.
            self.check_writable()?;
            change(&mut table)?
        };
        if self.sync {
            self.flush()?;
        }
        Ok(changed)
    }

    /// Returns the newest entries of the file, and keeps nothing in memory. Returns none if the
    /// file is missing, long, or damaged: its first use reports the error.
    pub(crate) fn newest(&self) -> Newest {
        let mut table = Table::default();
        let path = self.dir.join(POSITIONS);
        let Ok(file) = self.fs.open(&path, Mode::Read) else { return Newest::default() };
        let short = file.size().is_ok_and(|size| size <= READ_ON_OPEN);
        if !short || replay::replay(&*file, &path, &self.store, |entries| table.load(entries)).is_err() {
            return Newest::default();
        }
        let checkpoints = table.checkpoints().map(|(name, reached)| (name.to_owned(), reached)).collect();
        let mut newest = Newest { checkpoints, ..Newest::default() };
        newest.checkpoints.sort_by_key(|(_, reached)| std::cmp::Reverse(reached.position));
        newest.checkpoints.truncate(LOOKED_UP);
        for (name, position, letter) in table.letters.all() {
            newest.letters.pop_if(|(last, _, _)| last == name);
            newest.letters.push((name.to_owned(), position, letter.recorded_at));
        }
        newest.letters.sort_by_key(|&(_, position, _)| std::cmp::Reverse(position));
        newest.letters.truncate(LOOKED_UP);
        table.each(
            |_| true,
            |group, root, sequence| {
                let time = newest.position.as_ref().map_or(UNBOUND, |(.., newest)| newest.recorded_at);
                if sequence.recorded_at > time {
                    newest.position = Some((group.handler.to_owned(), group.stream(root), group.epoch, sequence));
                }
            },
        );
        newest
    }

    pub(crate) fn get(&self, handler: &str, stream: &StreamId, epoch: u64) -> Result<Option<Sequence>> {
        check_name("handler", handler)?;
        let (group, root) = HandlerGroup::of(handler, stream.key(), epoch);
        Ok(self.table()?.get(group, root))
    }

    /// Records that the log has the event of this position.
    pub(crate) fn set_checked(&self, handler: &str, stream: &StreamId, epoch: u64, of: Sequence) -> Result<()> {
        let (group, root) = HandlerGroup::of(handler, stream.key(), epoch);
        self.table()?.set_checked(group, root, of);
        Ok(())
    }

    /// Stores a sequence, with the recorded time of its event, unless the present one is at least
    /// as high. Returns whether it did.
    pub(crate) fn put(
        &self,
        handler: &str,
        stream: &StreamId,
        epoch: u64,
        (sequence, recorded_at): (u64, i64),
    ) -> Result<bool> {
        check_name("handler", handler)?;
        let (group, root) = HandlerGroup::of(handler, stream.key(), epoch);
        self.change(|table| Ok(table.put(group, root, sequence, recorded_at)))
    }

    pub(crate) fn reset(
        &self,
        handler: &str,
        stream: &StreamId,
        epoch: u64,
        (sequence, recorded_at): (u64, i64),
    ) -> Result<()> {
        check_name("handler", handler)?;
        let (group, root) = HandlerGroup::of(handler, stream.key(), epoch);
        self.change(|table| {
            table.reset(group, root, sequence, recorded_at);
            Ok(())
        })
    }

    pub(crate) fn delete(&self, handler: &str, stream: &StreamId, epoch: u64) -> Result<bool> {
        check_name("handler", handler)?;
        let (group, root) = HandlerGroup::of(handler, stream.key(), epoch);
        self.change(|table| Ok(table.delete(group, root)))
    }

    /// Deletes the positions of a handler, in all editions.
    pub(crate) fn delete_handler(&self, handler: &str) -> Result<u64> {
        check_name("handler", handler)?;
        self.change(|table| Ok(table.delete_groups(|group| group.handler == handler)))
    }

    /// Deletes the positions of all handlers in an edition, or in one of its domains, from epochs
    /// before `epoch`, and makes that durable. `may` is called under the lock, so that no position
    /// can be put in between; if it returns `false`, nothing is deleted, and `None` is returned.
    pub(crate) fn delete_edition(
        &self,
        edition: &str,
        domain: Option<&str>,
        epoch: u64,
        may: impl FnOnce() -> Result<bool>,
    ) -> Result<Option<u64>> {
        let is_of = |group: HandlerGroup<'_>| {
            group.edition == Some(edition) && group.epoch < epoch && domain.is_none_or(|of| group.domain == of)
        };
        let deleted = self.change(|table| Ok(if may()? { Some(table.delete_groups(is_of)) } else { None }))?;
        self.flush()?;
        Ok(deleted)
    }

    /// Returns the positions of a handler: stream, epoch, sequence, in any order.
    pub(crate) fn list(&self, handler: &str) -> Result<Vec<(StreamId, u64, Sequence)>> {
        check_name("handler", handler)?;
        let mut found = Vec::new();
        self.table()?.each(
            |group| group.handler == handler,
            |group, root, sequence| found.push((group.stream(root), group.epoch, sequence)),
        );
        Ok(found)
    }

    /// Returns the handlers, sorted, with the number of their positions in current editions;
    /// `is_current` decides that for a stream with an empty root and an epoch.
    pub(crate) fn handlers(&self, is_current: impl Fn(&StreamId, u64) -> bool) -> Result<Vec<(String, u64)>> {
        let mut found: BTreeMap<String, u64> = BTreeMap::new();
        let current = |group: HandlerGroup<'_>| group.edition.is_none() || is_current(&group.stream(b""), group.epoch);
        self.table()?.each(current, |group, _, _| match found.get_mut(group.handler) {
            Some(count) => *count += 1,
            None => _ = found.insert(group.handler.to_owned(), 1),
        });
        Ok(found.into_iter().collect())
    }

    pub(crate) fn checkpoint(&self, name: &str) -> Result<Option<CheckpointEntry>> {
        check_name("checkpoint", name)?;
        Ok(self.table()?.checkpoint(name))
    }

    /// Records that the log has the event of this checkpoint.
    pub(crate) fn set_checkpoint_checked(&self, name: &str, of: CheckpointEntry) -> Result<()> {
        self.table()?.set_checkpoint_checked(name, of);
        Ok(())
    }

    pub(crate) fn checkpoints(&self) -> Result<Vec<(String, CheckpointEntry)>> {
        let table = self.table()?;
        let all = table.checkpoints();
        Ok(all.map(|(name, reached)| (name.to_owned(), reached)).collect())
    }

    /// Moves a checkpoint to a position with this recorded time; backwards only if `may_go_back`.
    pub(crate) fn commit(
        &self,
        name: &str,
        to: (u64, i64),
        expected: ExpectedVersion,
        may_go_back: bool,
    ) -> Result<CheckpointEntry> {
        check_name("checkpoint", name)?;
        self.change(|table| table.commit(name, to, expected, may_go_back))
    }

    pub(crate) fn delete_checkpoint(&self, name: &str) -> Result<bool> {
        check_name("checkpoint", name)?;
        self.change(|table| Ok(table.delete_checkpoint(name)))
    }

    /// Moves the checkpoint of a consumer, if the step has a position, and changes its dead
    /// letters. All of that becomes durable at once.
    pub(crate) fn advance(&self, name: &str, step: Step) -> Result<Option<CheckpointEntry>> {
        check_name("consumer", name)?;
        self.change(|table| {
            let Step { to, expected, parked, gone } = step;
            let moved = to.map(|to| table.commit(name, to, expected, false)).transpose()?;
            parked.into_iter().for_each(|(position, letter)| table.letters.put(name, position, letter));
            gone.into_iter().for_each(|position| _ = table.letters.delete(name, position));
            Ok(moved)
        })
    }

    /// Deletes a dead letter. Returns whether there was one.
    pub(crate) fn delete_dead_letter(&self, name: &str, position: u64) -> Result<bool> {
        check_name("consumer", name)?;
        self.change(|table| Ok(table.letters.delete(name, position)))
    }

    /// Returns the dead letters of a consumer, by position.
    pub(crate) fn dead_letters(&self, name: &str) -> Result<Vec<(u64, DeadLetterEntry)>> {
        check_name("consumer", name)?;
        Ok(self.table()?.letters.of(name).map(|(position, letter)| (position, letter.clone())).collect())
    }

    pub(crate) fn count_dead_letters_of(&self, name: &str) -> Result<usize> {
        Ok(self.table()?.letters.count(name))
    }

    /// Returns the consumers that have dead letters, with the number of each.
    pub(crate) fn count_dead_letters(&self) -> Result<BTreeMap<String, u64>> {
        Ok(self.table()?.letters.counts().map(|(name, count)| (name.to_owned(), count)).collect())
    }

    /// Makes all changes that were made before the call durable.
    pub(crate) fn flush(&self) -> Result<()> {
        let Some(loaded) = self.loaded.get().filter(|_| !self.read_only) else { return Ok(()) };
        let wanted = loaded.table.lock().changes();
        // The events are made durable under the lock of the journal, and tasks must be woken after
        // it.
        waker::afterwards(|| {
            let mut journal = loaded.journal.lock();
            if journal.flushed >= wanted && journal.is_durable() {
                return Ok(());
            }
            // After closing, the file may belong to another owner.
            self.check_writable()?;
            self.write(loaded, &mut journal)
        })
    }

    fn write(&self, loaded: &LoadedTable, journal: &mut Journal) -> Result<()> {
        // This also returns an error if the store no longer owns the file.
        (self.sync_events)()?;
        let mut taken = loaded.table.lock().take();
        let written = journal.write(&loaded.table, &mut taken);
        if written.is_ok() {
            journal.flushed = taken.changes;
        }
        loaded.table.lock().flushed(taken, written.is_ok());
        written
    }

    /// Refuses changes from now on, and flushes. Reads still work.
    pub(crate) fn close(&self) -> Result<()> {
        // As in `flush`; here, also under the lock of `closed`.
        waker::afterwards(|| self.close_file())
    }

    fn close_file(&self) -> Result<()> {
        let mut closed = self.closed.lock();
        if let Some(result) = &*closed {
            return result.clone();
        }
        let result = match self.loaded.get() {
            Some(loaded) if !self.read_only => {
                let mut journal = loaded.journal.lock();
                self.shut.store(true, Ordering::Release);
                let flushed = self.write(loaded, &mut journal);
                if flushed.is_ok() {
                    journal.mark();
                }
                flushed
            }
            _ => Ok(()),
        };
        self.shut.store(true, Ordering::Release);
        closed.insert(result).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fs::MemFs;
    use std::path::Path;

    fn sequence(positions: &Register, stream: &StreamId, epoch: u64) -> Option<u64> {
        positions.get("h", stream, epoch).unwrap().map(|of| of.sequence)
    }

    fn reached(position: u64, version: u64) -> Option<CheckpointEntry> {
        Some(CheckpointEntry { position, version, recorded_at: -9, checked: false })
    }

    fn register(fs: &MemFs) -> Register {
        Register::new(
            Arc::new(fs.clone()),
            "store".into(),
            [3; 16],
            false,
            false,
            Arc::new(|| Ok(())),
            Arc::new(|| Ok(())),
        )
    }

    fn stream(text: &str) -> StreamId {
        text.parse().unwrap()
    }

    #[test]
    fn an_edition_that_was_deleted_leaves_nothing() {
        let fs = MemFs::new();
        let positions = register(&fs);
        for (name, epoch) in [("order-1", 0), ("order-1@x", 0), ("order-1@x", 7), ("stock-1@x", 7), ("order-1@y", 0)] {
            assert!(positions.put("h", &stream(name), epoch, (5, UNBOUND)).unwrap(), "{name}");
        }
        assert_eq!(sequence(&positions, &stream("order-1@x"), 8), None);
        assert_eq!(sequence(&positions, &stream("order-1"), 99), Some(5), "the main edition has no epochs");
        assert_eq!(positions.handlers(|_, epoch| epoch == 7).unwrap(), [("h".into(), 3)]);
        assert_eq!(positions.delete_edition("x", Some("order"), u64::MAX, || Ok(true)).unwrap(), Some(2));
        let left = |positions: &Register| {
            let mut left: Vec<_> =
                positions.list("h").unwrap().iter().map(|(stream, epoch, _)| format!("{stream} {epoch}")).collect();
            left.sort();
            left
        };
        assert_eq!(left(&register(&fs)), ["order-1 0", "order-1@y 0", "stock-1@x 7"]);
        assert_eq!(positions.delete_edition("x", None, u64::MAX, || Ok(true)).unwrap(), Some(1));
        assert_eq!(left(&register(&fs)), ["order-1 0", "order-1@y 0"]);
    }

    /// A consumer continues during a flush: what the flush has taken is written as it was then, so
    /// that the checkpoint is never in the file without the dead letters that came with it.
    #[test]
    fn a_checkpoint_stands_with_its_dead_letters() {
        let fs = MemFs::new();
        let positions = register(&fs);
        let step = |to, version, parked: Option<u64>| {
            let parked =
                parked.map(|position| (position, DeadLetterEntry::new(1, 2, -9, "three"))).into_iter().collect();
            let step = Step { to: Some((to, -9)), expected: ExpectedVersion::Is(version), parked, gone: Vec::new() };
            positions.advance("c", step).unwrap();
        };
        step(5, 0, None);
        positions.flush().unwrap();
        step(6, 1, None);
        let loaded = positions.loaded().unwrap();
        let mut taken = loaded.table.lock().take();
        step(7, 2, Some(7));
        loaded.journal.lock().write(&loaded.table, &mut taken).unwrap();
        let left = register(&fs);
        assert_eq!(left.checkpoint("c").unwrap(), reached(6, 2));
        assert!(left.dead_letters("c").unwrap().is_empty());
        loaded.table.lock().flushed(taken, true);
        positions.close().unwrap();
        let left = register(&fs);
        assert_eq!(left.checkpoint("c").unwrap(), reached(7, 3));
        assert_eq!(left.dead_letters("c").unwrap(), [(7, DeadLetterEntry::new(1, 2, -9, "three"))]);
        assert_eq!(left.count_dead_letters().unwrap(), BTreeMap::from([("c".into(), 1)]));
        let found = salvage::salvage(&fs, Path::new("store")).unwrap();
        assert_eq!(found.letters, [("c".into(), 7, DeadLetterEntry::new(1, 2, -9, "three"))]);
    }

    #[test]
    fn a_file_of_another_store_is_refused() {
        let fs = MemFs::new();
        register(&fs).put("h", &stream("order-1"), 0, (5, 1)).unwrap();
        let positions = register(&fs);
        positions.put("h", &stream("order-1"), 0, (5, 1)).unwrap();
        positions.close().unwrap();
        let other = Register::new(
            Arc::new(fs.clone()),
            "store".into(),
            [4; 16],
            false,
            false,
            Arc::new(|| Ok(())),
            Arc::new(|| Ok(())),
        );
        assert!(matches!(other.get("h", &stream("order-1"), 0), Err(Error::Damaged(_))));
        assert!(matches!(positions.put("h", &stream("order-1"), 0, (6, 1)), Err(Error::Closed)));
        assert_eq!(sequence(&positions, &stream("order-1"), 0), Some(5));
    }

    /// Each byte of the file is damaged in turn, its header included: everything in other batches
    /// is found, and nothing else.
    #[test]
    fn all_that_is_intact_is_salvaged() {
        let fs = MemFs::new();
        let positions = register(&fs);
        for n in 0..4u64 {
            positions.put(&format!("h{n}"), &stream("order-1"), 0, (n, 1)).unwrap();
            positions.flush().unwrap();
        }
        positions.commit("c", (9, 1), ExpectedVersion::Missing, false).unwrap();
        positions.close().unwrap();
        let path = Path::new("store/POSITIONS");
        let file = fs.open(path, Mode::Write).unwrap();
        let whole = salvage::salvage(&fs, Path::new("store")).unwrap();
        assert_eq!((whole.positions.len(), whole.checkpoints.len(), whole.damage.len()), (4, 1, 0));
        for at in (0..file.size().unwrap()).filter(|at| !(8..12).contains(at)) {
            let mut byte = [0];
            file.read_at(at, &mut byte).unwrap();
            file.write_at(at, &[byte[0] ^ 0x20]).unwrap();
            let left = salvage::salvage(&fs, Path::new("store")).unwrap();
            assert_eq!(left.damage.len(), 1, "byte {at}: {:?}", left.damage);
            assert!(left.damage[0].bytes.contains(&at), "byte {at}: {:?}", left.damage);
            let lost = whole.positions.iter().filter(|known| !left.positions.contains(known)).count();
            let lost = lost + whole.checkpoints.len() - left.checkpoints.len();
            assert!(lost <= usize::from(at >= 64), "byte {at}");
            assert!(left.positions.iter().all(|found| whole.positions.contains(found)), "byte {at}");
            file.write_at(at, &byte).unwrap();
        }
    }
}
