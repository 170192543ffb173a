//! The operating system's files.

use super::map::FileMap;
use super::regular;
use super::{Entry, File, Fs, Lock, LockMode, Map, Mode};
use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::sync::Arc;

/// The operating system's file system.
#[derive(Clone, Copy, Default, Debug)]
pub struct RealFs;

#[derive(Debug)]
pub(super) struct RealFile(pub(super) fs::File);

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

    /// Elsewhere a directory cannot be opened as a file, and names are journaled by the file
    /// system.
    #[cfg(not(unix))]
    fn sync_dir(&self, _: &Path) -> io::Result<()> {
        Ok(())
    }

    #[cfg(unix)]
    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<Lock> {
        super::held::lock(rustix::fs::CWD, path, mode)
    }

    #[cfg(not(unix))]
    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<Lock> {
        super::lock::lock(path, mode)
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

    #[cfg(unix)]
    fn hold(&self, dir: &Path) -> io::Result<Option<Arc<dyn Fs>>> {
        Ok(Some(Arc::new(super::held::HeldDir::open(dir)?)))
    }

    /// Elsewhere only names are available. They do not depend on the working directory.
    #[cfg(not(unix))]
    fn hold(&self, dir: &Path) -> io::Result<Option<Arc<dyn Fs>>> {
        fs::metadata(dir)?;
        let (path, now) = (dir.to_owned(), std::path::absolute(dir)?);
        Ok(Some(Arc::new(super::led::Led { under: RealFs, path, now: Box::new(move |_| now.clone()) })))
    }
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
