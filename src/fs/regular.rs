//! Only regular files are opened: reading a pipe waits for a writer, and a directory cannot be
//! read.

use std::fmt;
use std::fs;
use std::io;
use std::path::Path;

/// The name is not that of a regular file.
#[derive(Debug)]
struct NotAFile;

impl fmt::Display for NotAFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("it is not a regular file")
    }
}

impl std::error::Error for NotAFile {}

/// Opening must not wait: that of a pipe would, for its other end.
#[cfg(unix)]
pub(super) fn without_waiting(options: &mut fs::OpenOptions) {
    use std::os::unix::fs::OpenOptionsExt;
    options.custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32);
}

#[cfg(not(unix))]
pub(super) fn without_waiting(_: &mut fs::OpenOptions) {}

/// Returns what was opened under a name, if it is a regular file. Links are followed.
pub(super) fn check(opened: io::Result<fs::File>, path: &Path) -> io::Result<fs::File> {
    match opened {
        Ok(file) if file.metadata()?.is_file() => Ok(file),
        Ok(_) => Err(not_a_file()),
        // A socket, a directory opened for writing, a link that leads nowhere.
        Err(e) if e.kind() != io::ErrorKind::NotFound && leads_to(path).is_some_and(|meta| !meta.is_file()) => {
            Err(not_a_file())
        }
        Err(e) => Err(e),
    }
}

/// Returns the error of opening anything but a regular file.
pub(super) fn not_a_file() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, NotAFile)
}

/// Returns the kind of a name; of a link, that of its target, if it has one.
pub(super) fn leads_to(path: &Path) -> Option<fs::Metadata> {
    let link = fs::symlink_metadata(path).ok()?;
    Some(if link.is_symlink() { fs::metadata(path).unwrap_or(link) } else { link })
}

/// Returns the entries of a directory; anything else has the same error.
pub(super) fn read_dir(path: &Path) -> io::Result<fs::ReadDir> {
    fs::read_dir(path).map_err(|e| match leads_to(path) {
        Some(meta) if !meta.is_dir() => io::ErrorKind::NotADirectory.into(),
        _ => e,
    })
}

/// Returns whether a file was not opened because it is not a regular one.
pub(crate) fn is_not_a_file(error: &io::Error) -> bool {
    error.get_ref().is_some_and(|e| e.is::<NotAFile>())
}

/// Returns whether a file was not opened because there is none: nothing has the name, or something
/// other than a file.
pub(crate) fn is_no_file(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || is_not_a_file(error)
}
