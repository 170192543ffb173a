//! A directory that is held open: names are resolved from it, wherever it is moved and whatever
//! gets its name.

use super::lock::{LockPath, RealLock, sign, take};
use super::real::{RealFile, RealFs};
use super::{Entry, File, Fs, Lock, LockMode, Mode, regular};
use crate::process::Process;
use rustix::fs::{AtFlags, FileType, Mode as Permissions, OFlags};
use rustix::io::{Errno, retry_on_intr};
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::Arc;

/// Number of attempts to lock a file whose name leads to another file than the one that was opened.
const TRIES: usize = 8;

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::CLOEXEC);

#[derive(Debug)]
pub(super) struct HeldDir {
    /// Its path when it was opened: the prefix of the paths that lead into it.
    path: Box<Path>,
    dir: fs::File,
    process: Process,
}

impl HeldDir {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        Ok(HeldDir { path: path.into(), dir: open_directory(rustix::fs::CWD, path)?, process: Process::this() })
    }

    /// Returns the path relative to the directory; `None` for one that does not lead into it.
    fn below<'p>(&self, path: &'p Path) -> Option<&'p Path> {
        let below = path.strip_prefix(&self.path).ok()?;
        Some(if below.as_os_str().is_empty() { Path::new(".") } else { below })
    }

    /// Returns the same, for a change.
    fn to_change<'p>(&self, path: &'p Path) -> io::Result<&'p Path> {
        self.process.check()?;
        self.below(path).ok_or_else(|| io::Error::other("this path does not lead into the directory of the store"))
    }
}

impl Fs for HeldDir {
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        let below = self.to_change(path)?;
        let parts: Vec<_> = below.ancestors().filter(|part| !part.as_os_str().is_empty()).collect();
        for part in parts.into_iter().rev() {
            let made = rustix::fs::mkdirat(&self.dir, part, Permissions::from_raw_mode(0o777));
            match made {
                Ok(()) => {}
                Err(Errno::EXIST) if open_directory(&self.dir, part).is_ok() => {}
                Err(e) => return Err(e.into()),
            }
        }
        Ok(())
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        let file = match (mode, self.below(path)) {
            (Mode::Read, Some(below)) => open_file(&self.dir, below, OFlags::RDONLY)?,
            (Mode::Read, None) => return RealFs.open(path, mode),
            (Mode::Write, _) => open_file(&self.dir, self.to_change(path)?, OFlags::RDWR)?,
            (Mode::Create, _) => {
                let flags = OFlags::RDWR | OFlags::CREATE | OFlags::TRUNC;
                open_file(&self.dir, self.to_change(path)?, flags)?
            }
        };
        Ok(Arc::new(RealFile(file)))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let Some(below) = self.below(dir) else { return RealFs.list(dir) };
        let dir = open_directory(&self.dir, below)?;
        let mut entries = Vec::new();
        for entry in rustix::fs::Dir::read_from(&dir)? {
            let entry = entry?;
            let name = OsStr::from_bytes(entry.file_name().to_bytes());
            if name == "." || name == ".." {
                continue;
            }
            // Removed since the directory was read.
            let Some((kind, size)) = kind_of(&dir, name) else { continue };
            let is_file = kind == FileType::RegularFile;
            entries.push(Entry {
                name: name.to_string_lossy().into_owned(),
                size: if is_file { size } else { 0 },
                is_dir: kind == FileType::Directory,
                is_file,
            });
        }
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(rustix::fs::renameat(&self.dir, self.to_change(from)?, &self.dir, self.to_change(to)?)?)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.dir, self.to_change(path)?, AtFlags::empty())?)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::unlinkat(&self.dir, self.to_change(path)?, AtFlags::REMOVEDIR)?)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match self.below(dir) {
            // It is already open: no sync fails for want of a descriptor.
            Some(below) if below == Path::new(".") => self.dir.sync_all(),
            Some(below) => open_directory(&self.dir, below)?.sync_all(),
            // The directories above it, which may have been created with it.
            None => RealFs.sync_dir(dir),
        }
    }

    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<Lock> {
        lock(&self.dir, self.to_change(path)?, mode)
    }

    fn available(&self, dir: &Path) -> io::Result<Option<u64>> {
        let Some(below) = self.below(dir) else { return RealFs.available(dir) };
        let stat = match below == Path::new(".") {
            true => rustix::fs::fstatvfs(&self.dir)?,
            false => rustix::fs::fstatvfs(open_directory(&self.dir, below)?)?,
        };
        Ok(Some(stat.f_bavail.saturating_mul(stat.f_frsize)))
    }

    fn gains_from_zeros(&self) -> bool {
        RealFs.gains_from_zeros()
    }
}

fn open_directory(at: impl rustix::fd::AsFd, path: &Path) -> io::Result<fs::File> {
    let opened = retry_on_intr(|| rustix::fs::openat(&at, path, DIRECTORY, Permissions::empty()));
    opened.map(fs::File::from).map_err(|e| match kind_of(at, path) {
        // For example a link that leads to itself: everything that is not a directory has the same
        // error.
        Some((kind, _)) if kind != FileType::Directory => io::ErrorKind::NotADirectory.into(),
        _ => e.into(),
    })
}

fn open_any(at: impl rustix::fd::AsFd, path: &Path, flags: OFlags) -> Result<fs::File, Errno> {
    // Opening a pipe would wait for its other end.
    let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK;
    retry_on_intr(|| rustix::fs::openat(&at, path, flags, Permissions::from_raw_mode(0o666))).map(fs::File::from)
}

fn open_file(at: impl rustix::fd::AsFd, path: &Path, flags: OFlags) -> io::Result<fs::File> {
    match open_any(&at, path, flags) {
        Ok(file) if file.metadata()?.is_file() => Ok(file),
        Ok(_) => Err(regular::not_a_file()),
        Err(Errno::NOENT) => Err(Errno::NOENT.into()),
        Err(e) => match kind_of(at, path) {
            Some((kind, _)) if kind != FileType::RegularFile => Err(regular::not_a_file()),
            _ => Err(e.into()),
        },
    }
}

/// Returns the kind and the size of a name; of a link, those of its target, if it has one.
fn kind_of(at: impl rustix::fd::AsFd, name: impl rustix::path::Arg + Copy) -> Option<(FileType, u64)> {
    let stat = rustix::fs::statat(&at, name, AtFlags::empty());
    let stat = stat.or_else(|_| rustix::fs::statat(&at, name, AtFlags::SYMLINK_NOFOLLOW)).ok()?;
    Some((FileType::from_raw_mode(stat.st_mode), u64::try_from(stat.st_size).unwrap_or_default()))
}

/// Returns whether a name leads to this file, according to inode numbers. Those of an open file are
/// not reused.
pub(super) fn leads_to(dir: &fs::File, name: &Path, file: &fs::File) -> io::Result<bool> {
    let named = rustix::fs::statat(dir, name, AtFlags::empty())?;
    let file = rustix::fs::fstat(file)?;
    Ok((named.st_dev, named.st_ino) == (file.st_dev, file.st_ino))
}

/// Takes the lock of a file, and of its directory.
pub(super) fn lock(at: impl rustix::fd::AsFd, path: &Path, mode: LockMode) -> io::Result<Lock> {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let Some(Component::Normal(name)) = path.components().next_back() else {
        return Err(io::ErrorKind::InvalidInput.into());
    };
    // A file description of its own, as a lock belongs to one, and the store keeps the directory
    // open for longer.
    let dir = open_directory(at, parent)?;
    let place = |tells_apart, dir| LockPath { dir, name: name.into(), tells_apart };
    let mut held = RealLock { file: None, mode, process: Process::this(), place: None };
    for tries in 1.. {
        let file = match open_lock(&dir, Path::new(name), mode) {
            // A reader needs no lock if the file is missing and cannot be created.
            Err(e) if e.kind() == io::ErrorKind::NotFound && mode == LockMode::Shared => break,
            opened => opened?,
        };
        if let Some(holder) = take(&file, mode)? {
            return Ok(Lock::Taken(holder));
        }
        let named = leads_to(&dir, Path::new(name), &file).unwrap_or(false);
        held.file = Some(file);
        if named || tries == TRIES {
            held.place = Some(place(named, dir.try_clone()?));
            break;
        }
    }
    let taken = match mode {
        LockMode::Exclusive => dir.try_lock(),
        LockMode::Shared => dir.try_lock_shared(),
    };
    if matches!(taken, Err(fs::TryLockError::WouldBlock)) {
        // Another owner's lock must not be released.
        held.place = None;
        let why = "a process that has locked the directory; its LOCK may have been removed or replaced, or a program \
                   such as flock(1) holds the directory";
        return Ok(Lock::Taken(why.into()));
    }
    held.place.get_or_insert(place(false, dir));
    if let (LockMode::Exclusive, Some(file)) = (mode, &held.file) {
        sign(file);
    }
    Ok(Lock::Held(Box::new(held)))
}

fn open_lock(dir: &fs::File, name: &Path, mode: LockMode) -> io::Result<fs::File> {
    let opened = match mode {
        LockMode::Shared => open_any(dir, name, OFlags::RDONLY),
        LockMode::Exclusive => open_any(dir, name, OFlags::RDWR | OFlags::CREATE).or_else(|e| match e {
            // Without write permission it gets no text. The lock does not need it.
            Errno::ACCESS | Errno::PERM | Errno::ROFS => open_any(dir, name, OFlags::RDONLY).map_err(|_| e),
            _ => Err(e),
        }),
    };
    Ok(opened?)
}
