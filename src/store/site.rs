//! The directory of a store, for rooms that keep files of their own beside the log and must not
//! keep the store open.

use super::{Inner, Store};
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::fs::owned::WorkToken;
use crate::log::{Clock, LogReader, LogWriter};
use crate::time::Timestamp;
use std::path::Path;
use std::sync::Arc;

/// The directory of a store, and what its log can answer and do.
#[derive(Clone)]
pub(crate) struct Site {
    log: Arc<LogReader>,
    /// `None` if the store is read-only.
    writer: Option<Arc<LogWriter>>,
    clock: Clock,
    reserve: u64,
}

impl Store {
    pub(crate) fn site(&self) -> Site {
        let Inner { log, writer, clock, reserve, .. } = &*self.inner;
        Site { log: log.clone(), writer: writer.clone(), clock: clock.clone(), reserve: *reserve }
    }

    pub(crate) fn hooks(&self) -> &super::notify::hooks::Hooks {
        &self.inner.hooks
    }
}

impl Site {
    pub(crate) fn fs(&self) -> Arc<dyn Fs> {
        self.log.held().fs()
    }

    pub(crate) fn dir(&self) -> &Path {
        self.log.dir()
    }

    pub(crate) fn store_id(&self) -> [u8; 16] {
        self.log.store_id()
    }

    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Returns the end of what is visible.
    pub(crate) fn len(&self) -> u64 {
        self.log.watermark()
    }

    fn writer(&self) -> Result<&Arc<LogWriter>> {
        self.writer.as_ref().ok_or(Error::ReadOnly)
    }

    /// Returns [`Error::ReadOnly`] or [`Error::Closed`] if files must not be written.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.writer()?.check_writable()
    }

    /// Begins work on sidecar files: closing waits for it. [`Error::ReadOnly`] or [`Error::Closed`]
    /// if none may begin.
    pub(crate) fn work(&self) -> Result<WorkToken<'_>> {
        self.writer()?.work()
    }

    /// Refuses to write this many bytes if that leaves less free on the disk than must stay free.
    pub(crate) fn check_room(&self, bytes: u64) -> Result<()> {
        let (dir, reserve) = (self.dir(), self.reserve);
        if reserve == 0 {
            return Ok(());
        }
        // If the free space is unknown, the write fails when there is none.
        match self.fs().available(dir) {
            Ok(Some(available)) if available < reserve.saturating_add(bytes) => {
                Err(Error::DiskFull { path: dir.to_owned(), available, reserve })
            }
            _ => Ok(()),
        }
    }

    /// Makes all visible events below this position durable. No sync if they already are.
    ///
    /// # Errors
    ///
    /// [`Error::DurabilityUnknown`] if the sync fails, or one has failed before.
    pub(crate) fn make_durable(&self, upto: u64) -> Result<()> {
        self.writer.as_ref().map_or(Ok(()), |writer| writer.make_durable(upto))
    }

    /// Returns when the record at this position was recorded, of any kind. `None` if there is none
    /// that can be read.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`], [`Error::Io`].
    pub(crate) fn recorded_at(&self, position: u64) -> Result<Option<Timestamp>> {
        if position >= self.len() {
            return Ok(None);
        }
        let event = self.log.forwards(position..position + 1).next()?;
        Ok(event.map(|event| event.recorded_at()))
    }
}
