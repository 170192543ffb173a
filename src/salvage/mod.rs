//! Looking at a store from outside: no lock is taken and nothing is changed, so it works where [`Store::open`](crate::Store::open) refuses, and beside a process that has
//! the store open (what that process is just writing may then show as a torn tail).
//!
//! [`verify`] reads everything and says what is wrong; [`dump`] shows each piece of each segment; [`Salvage`] copies every intact event into a new store. [`Repair`] is the one that changes a store, and only on
//! demand; it takes the lock. `docs/RECOVERY.md` says what to use when.
//!
//! To read slowly beside a process that serves, and to see how far it has come, give them a [`Paced`](crate::fs::Paced) file system.

mod affected;
mod beside;
mod copy;
mod dump;
mod renumber;
mod repair;
mod verify;
mod write;

pub use crate::mend::{LeftOut, Loss, LostEvents};
pub use affected::Affected;
pub use copy::{Salvage, Salvaged};
pub use dump::{Kind, Piece, dump, dump_in};
pub use repair::{Action, Plan, Repair};
pub use verify::{Report, verify, verify_in};

use crate::error::{Error, Result};
use crate::fs::{File, Fs, Mode};
use crate::segment::number_of;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file that has the name of a segment.
struct Named {
    number: u64,
    path: PathBuf,
    file: Arc<dyn File>,
    size: u64,
}

/// The segments in a directory, by number.
fn segments(fs: &dyn Fs, dir: &Path) -> Result<Vec<Named>> {
    let entries = match fs.list(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::NotAStore { path: dir.to_owned() }),
        other => other.map_err(|e| Error::directory("list", dir, e)),
    }?;
    let mut found = Vec::new();
    for entry in entries.iter().filter(|entry| !entry.is_dir) {
        let Some(number) = number_of(&entry.name) else { continue };
        let path = dir.join(&entry.name);
        let opened = fs.open(&path, Mode::Read).and_then(|file| Ok((file.size()?, file)));
        let (size, file) = opened.map_err(|e| Error::io("open", &path, e))?;
        found.push(Named { number, path, file, size });
    }
    found.sort_by_key(|named| named.number);
    if found.is_empty() {
        return Err(Error::NotAStore { path: dir.to_owned() });
    }
    Ok(found)
}
