//! The operating system's files.

use super::map::FileMap;
use super::regular;
use super::{Entry, File, Fs, Held, Lock, LockMode, Map, Mode};
use std::fs::{self, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::path::Path;
use std::sync::Arc;

/// The operating system's file system.
#[derive(Clone, Copy, Default, Debug)]
pub struct RealFs;

#[derive(Debug)]
struct RealFile(fs::File);

/// The lock goes with the open file, so the system drops it when the process dies.
#[derive(Debug)]
struct RealLock {
    file: fs::File,
    mode: LockMode,
}

impl Held for RealLock {}

impl Drop for RealLock {
    fn drop(&mut self) {
        if self.mode == LockMode::Exclusive {
            // Nobody is to be told of an owner that has gone. The text is for people; the lock is what counts.
            let _ = self.file.set_len(0);
        }
        // Closing would do, but for a child that another thread is just starting: until it runs its program it has the same open file, and with it the lock.
        let _ = self.file.unlock();
    }
}

impl Fs for RealFs {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        let mut options = OpenOptions::new();
        options.read(true);
        regular::without_waiting(&mut options);
        match mode {
            Mode::Read => {}
            Mode::Write => {
                options.write(true);
            }
            Mode::Create => {
                options.write(true).create(true).truncate(true);
            }
        }
        Ok(Arc::new(RealFile(regular::check(options.open(path), path)?)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in regular::read_dir(dir)? {
            let entry = entry?;
            // Removed since the directory was read.
            let Some(meta) = regular::leads_to(&entry.path()) else { continue };
            entries.push(Entry {
                name: entry.file_name().to_string_lossy().into_owned(),
                size: if meta.is_file() { meta.len() } else { 0 },
                is_dir: meta.is_dir(),
                is_file: meta.is_file(),
            });
        }
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    #[cfg(unix)]
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    /// Elsewhere a directory cannot be opened as a file, and names are journaled by the file system.
    #[cfg(not(unix))]
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<Lock> {
        let mut options = OpenOptions::new();
        options.read(true);
        if mode == LockMode::Exclusive {
            options.write(true).create(true).truncate(false);
        }
        let mut file = options.open(path)?;
        let locked = match mode {
            LockMode::Exclusive => file.try_lock(),
            LockMode::Shared => file.try_lock_shared(),
        };
        match locked {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut owner = Vec::new();
                // Whoever cannot read the text is told less.
                let _ = file.take(512).read_to_end(&mut owner);
                return Ok(Lock::Taken(String::from_utf8_lossy(&owner).trim().to_owned()));
            }
            Err(TryLockError::Error(e)) => return Err(e),
        }
        if mode == LockMode::Exclusive {
            // The text is for people; the lock is what counts.
            let text = format!("pid {} on {}\n", std::process::id(), host());
            file.set_len(0)?;
            file.rewind()?;
            file.write_all(text.as_bytes())?;
        }
        Ok(Lock::Held(Box::new(RealLock { file, mode })))
    }

    #[cfg(unix)]
    fn available(&self, dir: &Path) -> io::Result<Option<u64>> {
        let stat = rustix::fs::statvfs(dir)?;
        Ok(Some(stat.f_bavail.saturating_mul(stat.f_frsize)))
    }

    #[cfg(not(unix))]
    fn available(&self, _: &Path) -> io::Result<Option<u64>> {
        Ok(None)
    }

    fn gains_from_zeros(&self) -> bool {
        true
    }
}

#[cfg(unix)]
fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

#[cfg(not(unix))]
fn host() -> String {
    std::env::var("COMPUTERNAME").unwrap_or_else(|_| "this host".into())
}

impl File for RealFile {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    #[cfg(unix)]
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::read_at(&self.0, out, offset)
    }

    #[cfg(unix)]
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        std::os::unix::fs::FileExt::write_at(&self.0, bytes, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_read(&self.0, out, offset)
    }

    #[cfg(windows)]
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        std::os::windows::fs::FileExt::seek_write(&self.0, bytes, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        self.0.set_len(size)
    }

    fn map(&self, len: u64) -> io::Result<Option<Arc<dyn Map>>> {
        Ok(Some(Arc::new(FileMap::new(&self.0, len)?)))
    }
}
