//! Opening: the lock, what the files hold, and the log that goes on from there.

use super::head_file::HeadFile;
use super::recovery::Opening;
use super::recovery::report::OpenReport;
use super::{CommitState, Listener, Log, LogSettings, writer::Writer};
use super::{owner, spare};
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::fs::owned::Owned;
use crate::process::Process;
use crate::segment::vestiges::misplaced;
use crate::segment::{INCOMPLETE, REPAIRING, Segment, head, random};
use crate::waker::Caller;
use parking_lot::{Condvar, Mutex, RwLock};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

pub(crate) struct OpenedLog {
    pub log: Arc<Log>,
    pub report: OpenReport,
}

impl Log {
    pub(crate) fn open(
        owner: Arc<Owned>,
        dir: PathBuf,
        settings: LogSettings,
        listener: Arc<dyn Listener>,
    ) -> Result<OpenedLog> {
        let started = Instant::now();
        let fs: Arc<dyn Fs> = owner.clone();
        let mut report = OpenReport::default();
        let lock = owner::lock(&*fs, &dir, &settings)?;
        let entries = fs.list(&dir).map_err(|e| Error::io("list", &dir, e))?;
        for (name, what) in [(INCOMPLETE, "salvage"), (REPAIRING, "repair")] {
            if entries.iter().any(|entry| entry.name == name && entry.is_file) {
                return Err(Error::Unfinished { path: dir, what });
            }
        }
        if !settings.read_only {
            spare::remove_left(&*fs, &dir, &entries, &mut report);
        }
        let (head, slots) = HeadFile::read(&*fs, &dir)?;
        let opening = Opening {
            fs: &*fs,
            dir: &dir,
            settings: &settings,
            slots,
            listener: &*listener,
            unsettled: RefCell::default(),
        };

        let numbers = opening.segment_numbers(&entries, &mut report)?;
        let recovered = match numbers.is_empty() {
            true => opening.create(&mut report)?,
            false => opening.recover(&numbers, &mut report)?,
        };
        let unsettled = opening.unsettled.take();
        if !settings.read_only {
            for settled in &unsettled {
                // An index that cannot be written stays in memory.
                let (Ok(()) | Err(_)) = listener.settle(settled);
            }
        }
        for (name, why) in misplaced(&entries) {
            let cost = if name == head::NAME { ", so that nothing says how far the log is durable" } else { "" };
            report.notices.push(format!("{name}: {why}{cost}; move it away"));
        }
        if slots.bad > 0 {
            report.notices.push(format!("HEAD: {} of 2 slots not intact", slots.bad));
        }
        if slots.newest.is_none() && !report.created {
            report.notices.push("HEAD says nothing; it will be written anew".into());
        }

        let position = recovered.tail.next_position();
        report.segments = recovered.segments.len() as u64;
        report.events = position;
        let writer = Writer::new(fs.clone(), dir.clone(), &settings, recovered.active.clone(), recovered.end);
        let (maintained, read_only) = (settings.maintenance && !settings.read_only, settings.read_only);
        let log = Arc::new(Log {
            state: Mutex::new(CommitState {
                written: recovered.tail.clone(),
                tail: recovered.tail,
                groups: VecDeque::new(),
                in_flight: None,
                waiters: VecDeque::new(),
                untold: None,
                failures: (0, None),
                rollbacks: 0,
                pending_bytes: 0,
                leading: false,
                refused: settings.read_only.then_some(Error::ReadOnly),
            }),
            progress: Condvar::new(),
            writer: Mutex::new(writer),
            segments: RwLock::new(recovered.segments),
            watermark: AtomicU64::new(position),
            durable: AtomicU64::new(position),
            head: Mutex::new(head),
            maintenance: Default::default(),
            syncing: Default::default(),
            // Of no other owner: a spare file must not get the name of one that another makes.
            spares: AtomicU64::new(random()),
            closed: Mutex::default(),
            lock: Mutex::new(lock),
            process: Process::this(),
            dir,
            fs,
            owner,
            caller: Caller::new(),
            settings,
            listener,
        });
        if !read_only {
            // From now on the store is not closed cleanly. HEAD is only a witness: what cannot be
            // said is said the next time.
            if (!recovered.proven || slots.newest.is_some_and(|head| head.clean))
                && let Err(error) = log.mark(false)
            {
                report.notices.push(format!("HEAD: {error}"));
            }
            if maintained {
                log.start_maintenance().map_err(|e| Error::io("start the maintenance thread of", &log.dir, e))?;
            }
            if let Err(e) = log.start_syncing() {
                log.maintenance.stop();
                return Err(Error::io("start the syncing thread of", &log.dir, e));
            }
        }
        report.took = started.elapsed();
        Ok(OpenedLog { log, report })
    }

    /// Adds a segment that has just been created.
    pub(super) fn register(&self, segment: Arc<Segment>) {
        let mut segments = self.segments.write();
        // A first attempt to create it may have failed after it was registered.
        segments.truncate(segment.header.number as usize - 1);
        segments.push(segment);
    }
}
