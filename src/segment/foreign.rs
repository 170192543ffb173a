//! Foreign directories: a name that a store uses may be that of another program's file.
//!
//! A store may share its directory with other files, which it never touches. It must not be created
//! where a file of another program has one of its names: `HEAD` is also a file of every Git
//! repository, and `LOCK` one of LevelDB.

use crate::directory::{HEAD, LOCK, NEW_POSITIONS, POSITIONS, segment_number};
use crate::error::{Error, Result};
use crate::format::{has_magic, is_zero};
use crate::fs::{self, Fs, Mode};
use std::path::Path;

/// Prefix of the text in LOCK.
const SIGNATURE: &[u8] = b"pid ";

/// Number of bytes of a file that are checked: both slots of HEAD.
const LOOKED_AT: usize = crate::format::head::LEN;

/// The files that a store overwrites or appends to.
const NAMES: [&str; 4] = [HEAD, LOCK, POSITIONS, NEW_POSITIONS];

enum Sign {
    Store,
    /// Empty, or what a crash leaves of a file.
    None,
    Foreign,
}

/// Returns an error for a directory in which a file of another program would be overwritten. Damage
/// is not judged here: one file of a store, or the name of one segment, is enough.
///
/// # Errors
///
/// [`Error::ForeignFile`], and [`Error::Io`] if one of the files cannot be read, or the directory
/// cannot be listed.
pub(crate) fn check(fs: &dyn Fs, dir: &Path) -> Result<()> {
    let mut found = None;
    for name in NAMES {
        match sign(fs, dir, name)? {
            Sign::Store => return Ok(()),
            Sign::None => {}
            Sign::Foreign => found = found.or(Some(name)),
        }
    }
    let Some(name) = found else { return Ok(()) };
    let entries = fs.list(dir).map_err(|e| Error::io("list", dir, e))?;
    let has_segments = entries.iter().any(|entry| segment_number(&entry.name).is_some());
    if has_segments { Ok(()) } else { Err(Error::ForeignFile { path: dir.join(name) }) }
}

fn sign(fs: &dyn Fs, dir: &Path, name: &str) -> Result<Sign> {
    let path = dir.join(name);
    let mut bytes = vec![0; LOOKED_AT];
    let read = match fs.open(&path, Mode::Read).and_then(|file| fs::read_full(&*file, 0, &mut bytes)) {
        // Opening the file later reports what is wrong with it. A bad sector in it is no reason to
        // refuse a store; and some systems do not let locked files be read.
        Err(e) if fs::is_no_file(&e) || fs::is_unreadable(&e) || name == LOCK => return Ok(Sign::None),
        read => read.map_err(|e| Error::io("read", &path, e))?,
    };
    bytes.truncate(read);
    // A crash may have kept some of its bytes and lost others, which are zero then.
    let signed = name == LOCK && bytes.iter().zip(SIGNATURE).all(|(&byte, &sign)| byte == 0 || byte == sign);
    Ok(match () {
        () if signed || is_zero(&bytes) => Sign::None,
        () if name != LOCK && bytes.chunks(crate::format::head::SLOT).any(has_magic) => Sign::Store,
        () => Sign::Foreign,
    })
}
