//! Reads that are slowed down, and counted.

use super::{File, FileLayer, Fs, FsLayer, Map, Mode};
use parking_lot::Mutex;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A file system that reads at most so many bytes a second, and reports how many it has read: for
/// tools that read a whole store beside one that serves.
///
/// ```
/// use annals::fs::{Paced, RealFs};
/// let dir = tempfile::tempdir()?;
/// annals::Store::open(dir.path())?.close()?;
/// let fs = Paced::new(RealFs).rate(50_000_000).progress(|bytes| assert!(bytes > 0));
/// assert!(annals::offline::verify_in(&fs, dir.path())?.is_sound());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
pub struct Paced {
    under: Arc<dyn Fs>,
    pace: Arc<Pace>,
}

struct Pace {
    /// Bytes a second; 0 is no limit.
    rate: u64,
    progress: Box<dyn Fn(u64) + Send + Sync>,
    began: Mutex<Option<(Instant, u64)>>,
}

impl fmt::Debug for Pace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pace").field("rate", &self.rate).finish_non_exhaustive()
    }
}

impl Pace {
    /// Counts bytes that have been read, and waits until that is not too fast.
    fn read(&self, bytes: usize) {
        (self.progress)(bytes as u64);
        if self.rate == 0 {
            return;
        }
        let mut began = self.began.lock();
        let (since, read) = began.get_or_insert_with(|| (Instant::now(), 0));
        *read += bytes as u64;
        let due = Duration::from_secs_f64(*read as f64 / self.rate as f64);
        let early = due.saturating_sub(since.elapsed());
        drop(began);
        std::thread::sleep(early);
    }
}

impl Paced {
    /// Returns the same files, without a limit.
    pub fn new(under: impl Fs + 'static) -> Self {
        let pace = Pace { rate: 0, progress: Box::new(|_| {}), began: Mutex::default() };
        Paced { under: Arc::new(under), pace: Arc::new(pace) }
    }

    /// Reads at most this many bytes a second; 0 is no limit.
    pub fn rate(self, bytes: u64) -> Self {
        let progress = Arc::clone(&self.pace);
        let progress = move |bytes| (progress.progress)(bytes);
        let pace = Pace { rate: bytes, progress: Box::new(progress), began: Mutex::default() };
        Paced { pace: Arc::new(pace), ..self }
    }

    /// Calls `on_read` with the number of bytes of each read.
    pub fn progress(self, progress: impl Fn(u64) + Send + Sync + 'static) -> Self {
        let pace = Pace { rate: self.pace.rate, progress: Box::new(progress), began: Mutex::default() };
        Paced { pace: Arc::new(pace), ..self }
    }
}

#[derive(Debug)]
struct PacedFile {
    under: Arc<dyn File>,
    pace: Arc<Pace>,
}

impl FsLayer for Paced {
    fn inner(&self) -> &dyn Fs {
        &*self.under
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        let under = self.under.open(path, mode)?;
        Ok(Arc::new(PacedFile { under, pace: self.pace.clone() }))
    }

    fn hold(&self, dir: &Path) -> io::Result<Option<Arc<dyn Fs>>> {
        let held = self.under.hold(dir)?;
        Ok(held.map(|under| Arc::new(Paced { under, pace: self.pace.clone() }) as Arc<dyn Fs>))
    }
}

impl FileLayer for PacedFile {
    fn inner(&self) -> &dyn File {
        &*self.under
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        let read = self.under.read_at(offset, out)?;
        self.pace.read(read);
        Ok(read)
    }

    /// Reads through a map cannot be counted.
    fn map(&self, _: u64) -> io::Result<Option<Arc<dyn Map>>> {
        Ok(None)
    }
}
