//! Reading HEAD: up to where the segments are known to be durable.

use crate::directory::HEAD;
use crate::error::{Error, Result};
use crate::format::head::{self, Slots};
use crate::fs::{self, Fs, Mode};
use std::io;
use std::path::Path;

/// Returns the content of HEAD. `None` if there is none, or another program's file has its name.
///
/// # Errors
///
/// [`Error::Io`], and [`Error::UnsupportedFormat`] if a newer version wrote it.
pub(crate) fn read(fs: &dyn Fs, dir: &Path) -> Result<Option<Slots>> {
    let path = dir.join(HEAD);
    bytes(fs, dir)?.map(|bytes| head::decode(&bytes, &path)).transpose()
}

/// Returns the bytes of HEAD that matter. `None` if there is none.
pub(crate) fn bytes(fs: &dyn Fs, dir: &Path) -> Result<Option<Vec<u8>>> {
    let path = dir.join(HEAD);
    let file = match fs.open(&path, Mode::Read) {
        Err(e) if fs::is_no_file(&e) => return Ok(None),
        Err(e) if e.kind() == io::ErrorKind::NotADirectory => return Err(Error::directory("open", dir, e)),
        other => other.map_err(|e| Error::io("open", &path, e))?,
    };
    let mut bytes = vec![0; head::LEN];
    let read = fs::read_full(&*file, 0, &mut bytes);
    let read = read.map_err(|e| fs::read_error(&*file, &path, 0..head::LEN as u64, e))?;
    bytes.truncate(read);
    Ok(Some(bytes))
}
