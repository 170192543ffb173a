//! Layers: file systems over other file systems. A layer implements the calls that it changes, and
//! all others are passed on.

use super::{Entry, File, Fs, Lock, LockMode, Map, Mode};
use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A file system over another one. Every call goes to [`inner`](FsLayer::inner) unless the layer
/// implements it itself.
///
/// [`hold`](FsLayer::hold) is the exception: it returns `None` by default, because what the inner
/// file system returns would bypass the layer.
///
/// ```
/// use annals::fs::{Entry, Fs, FsLayer, MemFs};
/// use std::{io, path::Path};
///
/// /// Shows no files that begin with a dot.
/// #[derive(Debug)]
/// struct WithoutDotFiles(MemFs);
///
/// impl FsLayer for WithoutDotFiles {
///     fn inner(&self) -> &dyn Fs {
///         &self.0
///     }
///
///     fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
///         let entries = self.0.list(dir)?;
///         Ok(entries.into_iter().filter(|entry| !entry.name.starts_with('.')).collect())
///     }
/// }
/// let store = annals::Options::new().file_system(WithoutDotFiles(MemFs::new())).open("store")?;
/// # store.close()?;
/// # Ok::<(), annals::Error>(())
/// ```
pub trait FsLayer: Debug + Send + Sync {
    /// The file system below.
    fn inner(&self) -> &dyn Fs;

    /// See [`Fs::create_dir`].
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        self.inner().create_dir(path)
    }

    /// See [`Fs::open`].
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        self.inner().open(path, mode)
    }

    /// See [`Fs::list`].
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.inner().list(dir)
    }

    /// See [`Fs::rename`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.inner().rename(from, to)
    }

    /// See [`Fs::remove`].
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.inner().remove(path)
    }

    /// See [`Fs::remove_dir`].
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        self.inner().remove_dir(path)
    }

    /// See [`Fs::sync_dir`].
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.inner().sync_dir(dir)
    }

    /// See [`Fs::lock`].
    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<Lock> {
        self.inner().lock(path, mode)
    }

    /// See [`Fs::available`].
    fn available(&self, dir: &Path) -> io::Result<Option<u64>> {
        self.inner().available(dir)
    }

    /// See [`Fs::gains_from_zeros`].
    fn gains_from_zeros(&self) -> bool {
        self.inner().gains_from_zeros()
    }

    /// See [`Fs::hold`].
    fn hold(&self, _dir: &Path) -> io::Result<Option<Arc<dyn Fs>>> {
        Ok(None)
    }
}

impl<L: FsLayer> Fs for L {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        FsLayer::create_dir(self, path)
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        FsLayer::open(self, path, mode)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        FsLayer::list(self, dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        FsLayer::rename(self, from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        FsLayer::remove(self, path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        FsLayer::remove_dir(self, path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        FsLayer::sync_dir(self, dir)
    }

    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<Lock> {
        FsLayer::lock(self, path, mode)
    }

    fn available(&self, dir: &Path) -> io::Result<Option<u64>> {
        FsLayer::available(self, dir)
    }

    fn gains_from_zeros(&self) -> bool {
        FsLayer::gains_from_zeros(self)
    }

    fn hold(&self, dir: &Path) -> io::Result<Option<Arc<dyn Fs>>> {
        FsLayer::hold(self, dir)
    }
}

/// A file over another one. Every call goes to [`inner`](FileLayer::inner) unless the layer
/// implements it itself.
pub trait FileLayer: Debug + Send + Sync + 'static {
    /// The file below.
    fn inner(&self) -> &dyn File;

    /// See [`File::size`].
    fn size(&self) -> io::Result<u64> {
        self.inner().size()
    }

    /// See [`File::read_at`].
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        self.inner().read_at(offset, out)
    }

    /// See [`File::write_at`].
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        self.inner().write_at(offset, bytes)
    }

    /// See [`File::sync`].
    fn sync(&self) -> io::Result<()> {
        self.inner().sync()
    }

    /// See [`File::truncate`].
    fn truncate(&self, size: u64) -> io::Result<()> {
        self.inner().truncate(size)
    }

    /// See [`File::map`].
    fn map(&self, len: u64) -> io::Result<Option<Arc<dyn Map>>> {
        self.inner().map(len)
    }
}

impl<L: FileLayer> File for L {
    fn size(&self) -> io::Result<u64> {
        FileLayer::size(self)
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize> {
        FileLayer::read_at(self, offset, out)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize> {
        FileLayer::write_at(self, offset, bytes)
    }

    fn sync(&self) -> io::Result<()> {
        FileLayer::sync(self)
    }

    fn truncate(&self, size: u64) -> io::Result<()> {
        FileLayer::truncate(self, size)
    }

    fn map(&self, len: u64) -> io::Result<Option<Arc<dyn Map>>> {
        FileLayer::map(self, len)
    }
}
