//! Opening: the lock, recovery, and the log that continues from there.

use super::active::ActiveSegment;
use super::head_file::HeadFile;
use super::queue::CommitState;
use super::recovery::Opening;
use super::recovery::report::OpenReport;
use super::{CommitObserver, HeldDirectory, LogIndex, LogReader, LogSettings, LogWriter, spare};
use crate::directory::{HEAD, INCOMPLETE, REPAIRING};
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::fs::owned::Owned;
use crate::segment::random;
use crate::segment::remains::misplaced;
use crate::waker::Caller;
use parking_lot::{Condvar, Mutex, RwLock};
use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::time::Instant;

pub(crate) struct OpenedLog {
    pub log: Arc<LogReader>,
    /// `None` if it was opened read-only.
    pub writer: Option<Arc<LogWriter>>,
    pub report: OpenReport,
}

impl OpenedLog {
    pub(crate) fn open(
        files: Arc<Owned>,
        dir: PathBuf,
        settings: LogSettings,
        indexes: Arc<dyn LogIndex>,
        observer: Arc<dyn CommitObserver>,
    ) -> Result<OpenedLog> {
        let started = Instant::now();
        let mut report = OpenReport::default();
        let held = Arc::new(HeldDirectory::lock(files, dir, &settings)?);
        let (fs, dir) = (&*held.files as &dyn Fs, &*held.path);
        let entries = fs.list(dir).map_err(|e| Error::io("list", dir, e))?;
        for (name, what) in [(INCOMPLETE, "salvage"), (REPAIRING, "repair")] {
            if entries.iter().any(|entry| entry.name == name && entry.is_file) {
                return Err(Error::Unfinished { path: dir.to_owned(), what });
            }
        }
        let (head, slots) = HeadFile::read(fs, dir)?;
        if !settings.read_only {
            spare::remove_unnamed(fs, dir, &entries);
            // Recovery may need the room. It judges what HEAD says of the store.
            if let Some(head) = &slots.newest {
                spare::remove_left(fs, dir, &entries, &head.store);
            }
        }
        let unindexed = RefCell::default();
        let opening = Opening { fs, dir, settings: &settings, slots, indexes: &*indexes, unindexed };
        let numbers = opening.segment_numbers(&entries, &mut report)?;
        let recovered = match numbers.is_empty() {
            true => opening.create(&mut report)?,
            false => opening.recover(&numbers, &mut report)?,
        };
        let unindexed = opening.unindexed.take();
        if !settings.read_only {
            let others = spare::remove_left(fs, dir, &entries, &recovered.active.header.store);
            let notice = |name| format!("{name}: not a spare file of the store; left alone");
            report.notices.extend(others.into_iter().map(notice));
            for extent in &unindexed {
                // An index that cannot be written stays in memory.
                let (Ok(()) | Err(_)) = indexes.write(extent);
            }
        }
        for (name, why) in misplaced(&entries) {
            let cost = if name == HEAD { ", so that the durable part of the log is unknown" } else { "" };
            report.notices.push(format!("{name}: {why}{cost}; move it away"));
        }
        if slots.bad > 0 {
            report.notices.push(format!("HEAD: {} of 2 slots not intact", slots.bad));
        }
        if slots.newest.is_none() && !report.created {
            report.notices.push("HEAD is empty; it will be rewritten".into());
        }

        let position = recovered.tail.next_position();
        report.segments = recovered.segments.len() as u64;
        report.events = position;
        let log = Arc::new(LogReader {
            held: held.clone(),
            segments: RwLock::new(recovered.segments),
            watermark: AtomicU64::new(position),
            indexes,
            caller: Caller::new(),
        });
        let mut writer = None;
        if !settings.read_only {
            let active = ActiveSegment::new(&held, &settings, recovered.active, recovered.end);
            let writer = writer.insert(Arc::new(LogWriter {
                log: log.clone(),
                held,
                observer,
                state: Mutex::new(CommitState::new(recovered.tail)),
                progress: Condvar::new(),
                active: Mutex::new(active),
                durable: AtomicU64::new(position),
                head: Mutex::new(head),
                maintenance: Default::default(),
                syncing: Default::default(),
                // Unique for each owner: a spare file must not get the name of one that another
                // owner makes.
                spares: AtomicU32::new(random() as u32),
                closed: Mutex::default(),
                settings,
            }));
            // From now on the store is not closed cleanly. HEAD is only evidence: a mark that
            // cannot be written is written the next time.
            if (!recovered.proven || slots.newest.is_some_and(|head| head.clean))
                && let Err(error) = writer.mark(false)
            {
                report.notices.push(format!("HEAD: {error}"));
            }
            writer.start_threads()?;
        }
        report.took = started.elapsed();
        Ok(OpenedLog { log, writer, report })
    }
}

impl LogWriter {
    /// Starts the threads that the settings ask for.
    fn start_threads(self: &Arc<Self>) -> Result<()> {
        #[cfg(annals_internals)]
        if self.settings.by_hand {
            self.attend_by_hand();
            return Ok(());
        }
        let failed = |what, e| Error::io(what, self.log.dir(), e);
        if self.settings.maintenance {
            self.start_maintenance().map_err(|e| failed("start the maintenance thread of", e))?;
        }
        self.start_syncing().map_err(|e| {
            self.maintenance.stop();
            failed("start the syncing thread of", e)
        })
    }
}
