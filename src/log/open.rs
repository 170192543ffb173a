//! Opening: the lock, what the files hold, and the log that goes on from there.

use super::head::HeadFile;
use super::recover::OpenReport;
use super::replay::Opening;
use super::spare;
use super::{Listener, Log, Settings, State, writer::Writer};
use crate::error::{Error, Result};
use crate::fs::{Fs, Lock, LockMode};
use crate::segment::{INCOMPLETE, REPAIRING, Segment, head, number_of};
use parking_lot::{Condvar, Mutex, RwLock};
use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

const LOCK: &str = "LOCK";

pub(crate) struct Opened {
    pub log: Arc<Log>,
    pub report: OpenReport,
}

impl Log {
    pub(crate) fn open(
        fs: Arc<dyn Fs>,
        dir: PathBuf,
        settings: Settings,
        listener: Arc<dyn Listener>,
    ) -> Result<Opened> {
        let started = Instant::now();
        let mut report = OpenReport::default();
        let lock = lock(&*fs, &dir, &settings)?;
        let entries = fs.list(&dir).map_err(|e| Error::io("list", &dir, e))?;
        for (name, what) in [(INCOMPLETE, "salvage"), (REPAIRING, "repair")] {
            if entries.iter().any(|entry| entry.name == name) {
                return Err(Error::Unfinished { path: dir, what });
            }
        }
        if !settings.read_only {
            spare::remove_left(&*fs, &dir, &entries);
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
            state: Mutex::new(State {
                written: recovered.tail.clone(),
                tail: recovered.tail,
                groups: VecDeque::new(),
                in_flight: None,
                waiters: VecDeque::new(),
                untold: None,
                failures: (0, None),
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
            spares: AtomicU64::new(0),
            closed: Mutex::default(),
            lock: Mutex::new(lock),
            dir,
            fs,
            settings,
            listener,
        });
        if !read_only {
            // From now on the store is not closed cleanly. HEAD is only a witness: what cannot be said is said the next time.
            if (!recovered.proven || slots.newest.is_some_and(|head| head.clean))
                && let Err(error) = log.mark(false)
            {
                report.notices.push(format!("HEAD: {error}"));
            }
            if maintained {
                log.start_maintenance().map_err(|e| Error::io("start the maintenance thread of", &log.dir, e))?;
            }
        }
        report.took = started.elapsed();
        Ok(Opened { log, report })
    }

    /// Adds a segment that has just been created.
    pub(super) fn register(&self, segment: Arc<Segment>) {
        let mut segments = self.segments.write();
        // A first attempt to create it may have failed after it was registered.
        segments.truncate(segment.header.number as usize - 1);
        segments.push(segment);
    }
}

fn lock(fs: &dyn Fs, dir: &Path, settings: &Settings) -> Result<Option<Lock>> {
    let path = dir.join(LOCK);
    let mode = if settings.read_only { LockMode::Shared } else { LockMode::Exclusive };
    let missing = || match fs.list(dir) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Error::directory("list", dir, e),
        _ => Error::NotAStore { path: dir.to_owned() },
    };
    if !settings.read_only && settings.create {
        fs.create_dir(dir).map_err(|e| Error::directory("create", dir, e))?;
    } else if !fs.list(dir).is_ok_and(|entries| entries.iter().any(|entry| is_ours(&entry.name))) {
        return Err(missing());
    }
    match fs.lock(&path, mode) {
        Ok(Lock::Taken(owner)) => {
            let owner = (!owner.is_empty()).then_some(owner);
            Err(Error::Locked { path: dir.to_owned(), owner })
        }
        Ok(held) => Ok(Some(held)),
        // A copy that was made without its lock file, on a medium that cannot be written to, can still be read.
        Err(e) if settings.read_only && e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(Error::io("lock", &path, e)),
    }
}

fn is_ours(name: &str) -> bool {
    name == head::NAME || name == LOCK || number_of(name).is_some()
}
