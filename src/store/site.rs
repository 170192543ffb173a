//! Where a store lies, for those who keep files of their own beside the log and must not hold the
//! store open.

use super::{Inner, Store};
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::fs::owned::WorkToken;
use crate::log::{Clock, LogReader, LogWriter};
use crate::time::Timestamp;
use std::path::Path;
use std::sync::Arc;

/// The directory of a store, and what its log can say and do.
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

    /// The number of events that can be read.
    pub(crate) fn len(&self) -> u64 {
        self.log.watermark()
    }

    fn writer(&self) -> Result<&Arc<LogWriter>> {
        self.writer.as_ref().ok_or(Error::ReadOnly)
    }

    /// Whether files may be written: [`Error::ReadOnly`] or [`Error::Closed`] if not.
    pub(crate) fn check_writable(&self) -> Result<()> {
        self.writer()?.check_writable()
    }

    /// Begins work on files beside the log: closing waits for it. [`Error::ReadOnly`] or
    /// [`Error::Closed`] if there is to be none.
    pub(crate) fn work(&self) -> Result<WorkToken<'_>> {
        self.writer()?.work()
    }

    /// Refuses to write so many bytes if that leaves less on the disk than is to stay free.
    pub(crate) fn check_room(&self, bytes: u64) -> Result<()> {
        let (dir, reserve) = (self.dir(), self.reserve);
        if reserve == 0 {
            return Ok(());
        }
        // Where nobody can say how much is free, the write says when nothing is.
        match self.fs().available(dir) {
            Ok(Some(available)) if available < reserve.saturating_add(bytes) => {
                Err(Error::DiskFull { path: dir.to_owned(), available, reserve })
            }
            _ => Ok(()),
        }
    }

    /// Makes all events below this position durable, which are visible. No sync if they are.
    ///
    /// # Errors
    ///
    /// [`Error::DurabilityUnknown`] if the sync fails, or one has failed.
    pub(crate) fn make_durable(&self, upto: u64) -> Result<()> {
        self.writer.as_ref().map_or(Ok(()), |writer| writer.make_durable(upto))
    }

    /// When the record at this position was recorded, whatever it is. `None` if there is none that
    /// can be read.
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
