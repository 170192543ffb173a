//! A file that is written completely or not at all: an existing file with its name stays until the
//! new one is complete.
//!
//! The bytes go into a temporary file in the same directory, which is synced and then renamed. A
//! failure or an interruption leaves the old file unchanged; a process that is killed leaves the
//! temporary file, `.NAME.….partial`, too. Devices, pipes and sockets cannot be replaced; they are
//! written to directly.

use crate::failure::{Failure, Result};
use std::fs::{self, File, OpenOptions, Permissions};
use std::io;
use std::path::{Path, PathBuf};
use tempfile::{Builder, NamedTempFile};

/// Maximum number of links that are followed; more are a cycle.
const MAX_LINKS: usize = 40;

/// A file under construction.
pub struct NewFile {
    name: String,
    target: PathBuf,
    written: Written,
}

enum Written {
    /// A temporary file, which is removed when it is dropped.
    Beside(NamedTempFile),
    InPlace(File),
}

impl NewFile {
    /// Begins to write a file. Returns an error for a file that may not be written to, and for one
    /// in the directory of a store.
    pub fn create(path: &Path, stores: &[&Path]) -> Result<Self> {
        let name = path.display().to_string();
        let failed = |e: io::Error| Failure::failed(e).at(&name);
        let old = match OpenOptions::new().write(true).open(path) {
            Ok(old) => Some((old.metadata().map_err(failed)?, old)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(failed(error)),
        };
        let old = match old {
            Some((metadata, device)) if !metadata.is_file() => {
                return Ok(NewFile { name, target: path.to_owned(), written: Written::InPlace(device) });
            }
            old => old.map(|(metadata, _)| metadata),
        };
        let target = resolved(path).map_err(failed)?;
        if stores.iter().any(|store| is_within(&target, store)) {
            return Err(Failure::usage("the file would be in the directory of a store").at(&name));
        }
        let beside = beside(&target).map_err(failed)?;
        if let Some(old) = old {
            keep_access(beside.as_file(), &old).map_err(failed)?;
        }
        let written = Written::Beside(beside);
        Ok(NewFile { name, target, written })
    }

    /// Returns the name of the file for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Returns the file to write to.
    pub fn file(&self) -> io::Result<File> {
        match &self.written {
            Written::Beside(file) => file.as_file().try_clone(),
            Written::InPlace(file) => file.try_clone(),
        }
    }

    /// Returns whether there is a file that will be replaced.
    pub fn replaces(&self) -> bool {
        matches!(self.written, Written::Beside(_)) && self.target.exists()
    }

    /// Gives the file its name. It is durable when this returns.
    pub fn finish(self) -> Result<()> {
        let NewFile { name, target, written } = self;
        let finished = match written {
            Written::InPlace(_) => Ok(()),
            Written::Beside(file) => (|| {
                file.as_file().sync_all()?;
                file.persist(&target).map_err(|e| e.error)?;
                sync_directory(directory_of(&target))
            })(),
        };
        finished.map_err(|e| Failure::failed(e).at(name))
    }
}

/// Returns the path to which links at its end lead: the target of a link is replaced, not the link.
fn resolved(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::read_link(&path) {
            Ok(to) => path = directory_of(&path).join(to),
            Err(_) => return Ok(path),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn is_within(file: &Path, store: &Path) -> bool {
    let directory = directory_of(file).canonicalize();
    matches!((directory, store.canonicalize()), (Ok(directory), Ok(store)) if directory.starts_with(&store))
}

/// Creates a temporary file with the permissions of a new file.
fn beside(target: &Path) -> io::Result<NamedTempFile> {
    // Only a part of the name, so that there is room for the prefix and the suffix.
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let prefix = format!(".{}.", name.chars().take(40).collect::<String>());
    let mut builder = Builder::new();
    builder.prefix(&prefix).suffix(".partial");
    #[cfg(unix)]
    let permissions: Permissions = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    #[cfg(unix)]
    builder.permissions(permissions);
    builder.tempfile_in(directory_of(target))
}

/// Gives the new file the permissions of the old one and, as far as that is allowed, its owner and
/// group.
fn keep_access(new: &File, old: &fs::Metadata) -> io::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::{MetadataExt, fchown};
        let now = new.metadata()?;
        if (now.uid(), now.gid()) != (old.uid(), old.gid()) {
            let owned = fchown(new, Some(old.uid()), Some(old.gid()));
            let (Ok(()) | Err(_)) = owned.or_else(|_| fchown(new, None, Some(old.gid())));
        }
    }
    new.set_permissions(old.permissions())
}

#[cfg(unix)]
fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

#[cfg(not(unix))]
fn sync_directory(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::{PermissionsExt, symlink};

    fn names(dir: &Path) -> Vec<String> {
        let mut names: Vec<String> =
            fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn write(path: &Path, text: &str, finish: bool) {
        let new = NewFile::create(path, &[]).unwrap();
        new.file().unwrap().write_all(text.as_bytes()).unwrap();
        if finish {
            new.finish().unwrap();
        }
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn the_old_file_stays_until_the_new_one_is_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("out");
        write(&path, "given up", false);
        assert_eq!(names(dir.path()), [""; 0]);
        write(&path, "old", true);
        write(&path, "given up", false);
        assert_eq!((fs::read_to_string(&path).unwrap(), names(dir.path())), ("old".into(), vec!["out".into()]));
        write(&path, "new", true);
        assert_eq!((fs::read_to_string(&path).unwrap(), names(dir.path())), ("new".into(), vec!["out".into()]));
    }

    #[test]
    fn access_and_links_stay() {
        let dir = tempfile::tempdir().unwrap();
        let (path, link, plain) = (dir.path().join("out"), dir.path().join("link"), dir.path().join("plain"));
        // The permissions are those of any new file.
        write(&path, "x", true);
        fs::write(&plain, "x").unwrap();
        assert_eq!(mode(&path), mode(&plain));
        for bits in [0o600, 0o640, 0o644] {
            fs::set_permissions(&path, Permissions::from_mode(bits)).unwrap();
            write(&path, "y", true);
            assert_eq!(mode(&path), bits);
        }
        symlink("out", &link).unwrap();
        write(&link, "through", true);
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&path).unwrap(), "through");
        let long = dir.path().join("x".repeat(255));
        write(&long, "long", true);
        assert_eq!(fs::read_to_string(&long).unwrap(), "long");
        let (dangling, ring) = (dir.path().join("dangling"), dir.path().join("ring"));
        symlink("not-yet", &dangling).unwrap();
        write(&dangling, "z", true);
        assert_eq!(fs::read_to_string(dir.path().join("not-yet")).unwrap(), "z");
        symlink("ring", &ring).unwrap();
        assert!(NewFile::create(&ring, &[]).is_err());
    }

    #[test]
    fn what_is_no_plain_file_is_not_replaced() {
        let dir = tempfile::tempdir().unwrap();
        write(Path::new("/dev/null"), "x", true);
        assert!(!fs::metadata("/dev/null").unwrap().is_file());
        assert!(NewFile::create(dir.path(), &[]).is_err());
        assert!(NewFile::create(&dir.path().join("no/such"), &[]).is_err());
        assert!(NewFile::create(&dir.path().join("HEAD"), &[dir.path()]).is_err());
        assert_eq!(names(dir.path()), [""; 0]);
    }
}
