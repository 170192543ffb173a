//! Files behind one small trait, so that the same engine runs on a disk, in memory, and on a
//! simulated disk that fails and crashes.
//!
//! [`RealFs`] is the operating system, [`MemFs`] a directory in memory; a layer over another file
//! system implements [`FsLayer`]. [`Options::file_system`](crate::Options::file_system) sets the
//! one that a store uses.

#[cfg(unix)]
mod gate;
mod held;
mod holes;
mod layer;
#[cfg(not(unix))]
mod led;
mod lock;
mod map;
pub(crate) mod mem;
pub(crate) mod owned;
mod paced;
mod real;
mod regular;

pub(crate) use holes::{Holes, is_unreadable, read_error};
pub use layer::{FileLayer, FsLayer};
pub use mem::MemFs;
pub use paced::Paced;
pub use real::RealFs;
pub(crate) use regular::{is_no_file, is_not_a_file};

use crate::error::Error;
pub(crate) use crate::error::is_out_of_files;
use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// A file system, as far as a store needs one.
///
/// Implementations must be safe to use from several threads. Calls block. A name that was created,
/// renamed or removed is durable only after [`Fs::sync_dir`], the bytes and the length of a file
/// only after [`File::sync`].
pub trait Fs: Debug + Send + Sync {
    /// Creates a directory and missing ones above it. No error if it exists.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Opens a regular file. Anything else of this name is an error, at once.
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>>;
    /// Returns the entries of a directory, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;
    /// Renames a file; replaces a file of the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Takes the lock of a file without waiting. An exclusive lock creates the file if it is
    /// missing. The lock is held until the value is dropped, or its process dies.
    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<Lock>;
    /// Returns the free space in bytes, if it is known.
    fn available(&self, dir: &Path) -> io::Result<Option<u64>>;
    /// Returns whether zeros written ahead of the data make syncs cheaper here.
    fn gains_from_zeros(&self) -> bool;
    /// Holds an existing directory. In the file system that is returned, `dir` and all paths below
    /// it lead to the directory that `dir` names now, even if that directory is renamed, another
    /// one takes its name, or the working directory changes. A store works through what this
    /// returns, so that it never writes into a directory that it has not opened.
    ///
    /// The default returns `None`, for file systems without such changes; a store then uses its
    /// path as it is. A file system that passes calls on to another one should pass this one on,
    /// too.
    fn hold(&self, _dir: &Path) -> io::Result<Option<Arc<dyn Fs>>> {
        Ok(None)
    }
}

/// An open file. All reads and writes name their offset: there is no shared cursor that one call
/// could move under another.
pub trait File: Debug + Send + Sync + 'static {
    /// Returns the length in bytes. Not named `len`, as it can fail.
    fn size(&self) -> io::Result<u64>;
    /// Reads at most `out.len()` bytes; 0 at the end of the file. May be interrupted or short.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<usize>;
    /// Writes at most `bytes.len()` bytes, and extends the file if necessary. May be interrupted or
    /// short.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<usize>;
    /// Makes everything that was written durable, and the length with it (`fdatasync`).
    fn sync(&self) -> io::Result<()>;
    /// Cuts the file, or extends it with zeros.
    fn truncate(&self, size: u64) -> io::Result<()>;
    /// Maps the first `len` bytes, none of which will change any more. `None` if maps are not
    /// available.
    fn map(&self, len: u64) -> io::Result<Option<Arc<dyn Map>>>;
}

/// A read-only view of the start of a file. Bytes are copied out, never lent.
pub trait Map: Debug + Send + Sync + 'static {
    /// Returns the number of mapped bytes.
    fn mapped(&self) -> u64;
    /// Appends `len` bytes from `offset` on to `out`.
    ///
    /// # Panics
    ///
    /// If they are not mapped.
    fn copy(&self, offset: u64, len: usize, out: &mut Vec<u8>);
    /// Hints that these bytes will be copied soon. They need not be mapped.
    fn prefetch(&self, _offset: u64, _len: usize) {}
}

/// How to open a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// To read; it must exist.
    Read,
    /// To read and write; it must exist.
    Write,
    /// To read and write; created if missing, emptied if it exists.
    Create,
}

/// How to lock.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum LockMode {
    /// No other lock may be held.
    Exclusive,
    /// Others may hold it too, but not exclusively.
    Shared,
}

/// The result of an attempt to lock.
#[derive(Debug)]
pub enum Lock {
    /// It is held until this value is dropped.
    Held(Box<dyn Held>),
    /// Another owner holds it, who has left this text in the file.
    Taken(String),
}

/// A lock that is held. Dropping it releases it.
pub trait Held: Debug + Send + Sync {
    /// Returns whether the name that was locked still leads to the locked file. If not, the file
    /// was removed or replaced, and others may hold a lock of the same name.
    ///
    /// The default returns `true`, for file systems that cannot tell.
    fn is_named(&self) -> bool {
        true
    }
}

/// A name in a directory.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The name, without the directory.
    pub name: String,
    /// The length in bytes; 0 if it is not a regular file.
    pub size: u64,
    /// Whether it is a directory.
    pub is_dir: bool,
    /// Whether it is a regular file. Anything else is never opened: a pipe, a socket, a device, a
    /// link that leads nowhere. Other links count as their targets.
    pub is_file: bool,
}

/// Fills `out` from `offset` on, with as many calls as needed. Returns the number of bytes, fewer
/// only at the end of the file.
pub fn read_full(file: &dyn File, offset: u64, out: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < out.len() {
        match file.read_at(offset + done as u64, &mut out[done..]) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Returns whether a name does not exist: it is missing, or its directory is not one.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

/// Returns the entries of a directory: none if it is missing, or something else has its name.
///
/// # Errors
///
/// [`Error::Io`].
pub(crate) fn list_if_there(fs: &dyn Fs, dir: &Path) -> crate::error::Result<Vec<Entry>> {
    match fs.list(dir) {
        Err(e) if is_absent(&e) => Ok(Vec::new()),
        listed => listed.map_err(|e| Error::io("list", dir, e)),
    }
}

/// Creates a directory within a store, and those above it.
///
/// # Errors
///
/// [`Error::Io`], which says so if something else has its name.
pub(crate) fn make_dir(fs: &dyn Fs, dir: &Path) -> crate::error::Result<()> {
    let why = "there is something else in place of a directory of the store; move it away";
    fs.create_dir(dir).map_err(|e| Error::no_directory("create", dir, e, why))
}

/// Writes all of `bytes` at `offset`. An error comes with the number of bytes that were written
/// before.
pub(crate) fn write_full(file: &dyn File, offset: u64, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
    let mut done = 0;
    while done < bytes.len() {
        match file.write_at(offset + done as u64, &bytes[done..]) {
            Ok(0) => return Err((done, io::ErrorKind::WriteZero.into())),
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err((done, e)),
        }
    }
    Ok(())
}
