//! The positions file: one batch per flush. The file is rewritten when it has grown too long or a
//! sync has failed.
//!
//! | what happens | what is done |
//! |---|---|
//! | a write fails | nothing: the next batch goes to the same offset |
//! | the sync of a batch fails | the content of the disk is unknown: the file is rewritten, from memory, under another name, and nothing more is added to this one |
//! | rewriting fails before the rename | the file is unchanged |
//! | the rename or the sync of the directory fails | it is unknown which file the name will lead to: the next flush rewrites it |
//! | the process before this one ended without closing | the last batch is written again and synced, and so is the directory, before anything is added |

use super::SyncEvents;
use super::replay::{self, End};
use super::table::{FlushBatch, RewriteProgress, Table};
use crate::directory::{NEW_POSITIONS, POSITIONS};
use crate::error::{Error, Result};
use crate::format::checksum::Mask;
use crate::format::positions_file::{BATCH, BatchHeader, FileHeader, HEADER};
use crate::fs::{self, File, Fs, Mode};
use parking_lot::Mutex;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

/// A file of at most this many bytes is not rewritten for its length.
const SMALL: u64 = 64 << 10;
/// Maximum ratio of the length of a file to the length that it needs.
const SLACK: u64 = 4;
/// Maximum number of bytes in a batch; with more to write, the file is rewritten.
const MAX_APPEND: usize = 8 << 20;

pub(super) struct Journal {
    fs: Arc<dyn Fs>,
    dir: PathBuf,
    store: [u8; 16],
    /// Called once the batch is complete, and before it is written: an entry must not outlive its
    /// event.
    sync_events: SyncEvents,
    state: JournalState,
    /// Number of changes that are durable.
    pub flushed: u64,
    /// The length to which the file may grow after it could not be rewritten.
    tolerated: u64,
}

/// The operation that failed, and the system's error.
type FlushFailed = (&'static str, io::Error);

enum JournalState {
    /// There is no file.
    Missing,
    /// There may be a file, but what the disk holds of it is unknown.
    Unknown,
    Open(JournalTail),
}

/// The end of an open file.
struct JournalTail {
    file: Arc<dyn File>,
    end: End,
    /// Whether all of the file, and its name, is proven durable.
    proven: bool,
}

/// Writes a whole file. `next` adds entries to a batch and returns their number, 0 at the end;
/// `write` writes bytes at an offset. The header is written last.
pub(super) fn write_whole<E>(
    store: [u8; 16],
    mut next: impl FnMut(&mut Vec<u8>) -> u32,
    mut write: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<End, E> {
    let salt = uuid::Uuid::new_v4().as_u64_pair().0;
    let mut header = FileHeader { store, salt, durable_len: 0 };
    let mask: Mask = header.mask();
    let (mut at, mut number, mut previous) = (HEADER as u64, 1, header.chain());
    let mut batch = Vec::new();
    loop {
        batch.clear();
        batch.resize(BATCH, 0);
        let entries = next(&mut batch);
        if entries == 0 {
            break;
        }
        let finished = BatchHeader::finish(&mut batch, entries, number, previous, mask, at);
        write(at, &batch)?;
        at += batch.len() as u64;
        (number, previous) = (number + 1, finished.crc);
    }
    header.durable_len = at;
    write(0, &header.encode())?;
    Ok(End { mask, at, number, previous, marked: false, last: at..at })
}

impl Journal {
    /// Reads the file, if there is one, into the table.
    pub(super) fn open(
        fs: Arc<dyn Fs>,
        dir: PathBuf,
        store: [u8; 16],
        read_only: bool,
        sync_events: SyncEvents,
        table: &mut Table,
    ) -> Result<Self> {
        let path = dir.join(POSITIONS);
        let mode = if read_only { Mode::Read } else { Mode::Write };
        let state = match fs.open(&path, mode) {
            Ok(file) => {
                let end = replay::replay(&*file, &path, &store, |entries| table.load(entries))?;
                JournalState::Open(JournalTail { file, proven: end.marked, end })
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => JournalState::Missing,
            Err(e) => return Err(Error::io("open", &path, e)),
        };
        Ok(Journal { fs, dir, store, sync_events, state, flushed: table.changes(), tolerated: 0 })
    }

    /// Returns whether the whole file is durable, so that only new changes must be flushed.
    pub(super) fn is_durable(&self) -> bool {
        match &self.state {
            JournalState::Missing => true,
            JournalState::Unknown => false,
            JournalState::Open(tail) => tail.proven,
        }
    }

    fn io_error(&self, operation: &'static str, error: io::Error) -> Error {
        Error::io(operation, &self.dir.join(POSITIONS), error)
    }

    /// Makes the taken changes, and all earlier ones, durable.
    pub(super) fn write(&mut self, table: &Mutex<Table>, taken: &mut FlushBatch) -> Result<()> {
        match self.state {
            JournalState::Missing if taken.is_empty() => return Ok(()),
            JournalState::Missing | JournalState::Unknown => return self.rewrite(table),
            JournalState::Open(_) => {}
        }
        if taken.is_empty() {
            return self.make_durable(table);
        }
        let mut batch = vec![0; BATCH];
        let (entries, needed) = {
            let table = table.lock();
            (table.encode(taken, &mut batch, MAX_APPEND), HEADER as u64 + table.bytes())
        };
        let JournalState::Open(JournalTail { end, .. }) = &self.state else { return self.rewrite(table) };
        let len = end.at + batch.len() as u64;
        let Some(entries) = entries else { return self.rewrite(table) };
        if len > (needed * SLACK).max(SMALL).max(self.tolerated) {
            match self.rewrite(table) {
                Err(_) if matches!(self.state, JournalState::Open(_)) => self.tolerated = len * 2,
                done => return done,
            }
        }
        self.make_durable(table)?;
        self.append(table, batch, entries)
    }

    fn append(&mut self, table: &Mutex<Table>, mut batch: Vec<u8>, entries: u32) -> Result<()> {
        let JournalState::Open(JournalTail { file, end, .. }) = &mut self.state else { return self.rewrite(table) };
        let header = BatchHeader::finish(&mut batch, entries, end.number, end.previous, end.mask, end.at);
        end.marked = false;
        (self.sync_events)()?;
        let written = fs::write_full(&**file, end.at, &batch);
        if let Err((_, e)) = written {
            return Err(self.io_error("write", e));
        }
        if file.sync().is_err() {
            self.state = JournalState::Unknown;
            return self.rewrite(table);
        }
        end.at += batch.len() as u64;
        (end.number, end.previous) = (header.number + 1, header.crc);
        Ok(())
    }

    /// Makes the existing file durable, unless it is proven to be: after a failed sync, reads may
    /// return bytes that are only in the cache.
    fn make_durable(&mut self, table: &Mutex<Table>) -> Result<()> {
        let JournalState::Open(tail) = &mut self.state else { return Ok(()) };
        if tail.proven {
            return Ok(());
        }
        let last = tail.end.last.clone();
        if !last.is_empty() {
            let Ok(Some(bytes)) = replay::read_again(&*tail.file, &tail.end) else { return self.rewrite(table) };
            let written = fs::write_full(&*tail.file, last.start, &bytes);
            if let Err((_, e)) = written {
                return Err(self.io_error("write", e));
            }
        }
        if tail.file.sync().and_then(|()| self.fs.sync_dir(&self.dir)).is_err() {
            self.state = JournalState::Unknown;
            return self.rewrite(table);
        }
        tail.proven = true;
        Ok(())
    }

    /// Writes the whole table into a new file, makes it durable, and then renames it.
    fn rewrite(&mut self, table: &Mutex<Table>) -> Result<()> {
        let (new, path) = (self.dir.join(NEW_POSITIONS), self.dir.join(POSITIONS));
        let written = self.write_new(table);
        let (file, end) = written.map_err(|(operation, e)| {
            // The new file only takes space; the next attempt would truncate it.
            let (Ok(()) | Err(_)) = self.fs.remove(&new);
            Error::io(operation, &new, e)
        })?;
        (self.sync_events)()?;
        let named = self.fs.rename(&new, &path).and_then(|()| self.fs.sync_dir(&self.dir));
        if let Err(e) = named {
            self.state = JournalState::Unknown;
            return Err(self.io_error("rename", e));
        }
        self.state = JournalState::Open(JournalTail { file, end, proven: true });
        self.tolerated = 0;
        Ok(())
    }

    fn write_new(&self, table: &Mutex<Table>) -> Result<(Arc<dyn File>, End), FlushFailed> {
        let file = self.fs.open(&self.dir.join(NEW_POSITIONS), Mode::Create).map_err(|e| ("create", e))?;
        let mut progress = RewriteProgress::default();
        let next = |batch: &mut Vec<u8>| table.lock().encode_next(&mut progress, batch);
        let end = write_whole(self.store, next, |at, bytes| fs::write_full(&*file, at, bytes).map_err(|(_, e)| e));
        let end = end.map_err(|e| ("write", e))?;
        file.sync().map_err(|e| ("sync", e))?;
        Ok((file, end))
    }

    /// Writes the mark that all of the file is durable, so that the last batch is not taken for a
    /// torn write if it is damaged later. The mark is only evidence: an error is ignored.
    pub(super) fn mark(&mut self) {
        let JournalState::Open(JournalTail { file, end, proven: true }) = &mut self.state else { return };
        if end.marked {
            return;
        }
        let mut mark = vec![0; BATCH];
        BatchHeader::finish(&mut mark, 0, end.number, end.previous, end.mask, end.at);
        let (Ok(()) | Err(_)) = fs::write_full(&**file, end.at, &mark).and_then(|()| file.sync().map_err(|e| (0, e)));
        end.marked = true;
    }
}
