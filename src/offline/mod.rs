//! Tools for a store that is not opened. Except for [`Repair`], they take no lock and change
//! nothing, so they work where [`Store::open`](crate::Store::open) returns an error, and while a
//! process has the store open: what that process is writing may appear as a torn tail, but never as
//! damage.
//!
//! [`verify`] reads everything and reports what is wrong; [`dump`] lists each piece of each
//! segment; [`Salvage`] copies every intact event into a new store. Only [`Repair`] changes a
//! store; it takes the lock, and runs only on demand. `docs/RECOVERY.md` says which tool to use
//! when.
//!
//! Bytes that the disk does not return, such as those of a bad sector, are damage in any file: they
//! are reported, and everything else is read. Directory entries that are not regular files are
//! never opened.
//!
//! To read slowly while another process uses the disk, and to observe the progress, pass a
//! [`Paced`](crate::fs::Paced) file system.

mod affected;
mod bindings;
mod dump;
mod renumber;
mod repair;
mod salvage;
mod sidecars;
mod verify;
mod write;

pub use crate::reconstruct::{LeftOut, Loss, LostEvents};
pub use affected::Affected;
pub use dump::{Kind, Piece, dump, dump_in};
pub use repair::{Action, Plan, Repair};
pub use salvage::{Salvage, Salvaged};
pub use verify::{Report, verify, verify_in};

use crate::directory::{INCOMPLETE, segment_number};
use crate::error::{Damage, Error, Result};
use crate::fs::{File, Fs, Holes, Mode};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A file with the name of a segment.
struct SegmentFile {
    number: u64,
    path: PathBuf,
}

impl SegmentFile {
    /// Opens the file, and returns it with its length. Files are opened one by one: a store may
    /// have more segments than a process may have open files.
    fn open(&self, fs: &dyn Fs) -> Result<(Arc<dyn File>, u64)> {
        let opened = fs.open(&self.path, Mode::Read).and_then(|file| Ok((file.size()?, file)));
        opened.map(|(size, file)| (file, size)).map_err(|e| Error::io("open", &self.path, e))
    }
}

/// Returns the segments in a directory, by number.
fn segments(fs: &dyn Fs, dir: &Path) -> Result<Vec<SegmentFile>> {
    let entries = match fs.list(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Error::NotAStore { path: dir.to_owned() }),
        other => other.map_err(|e| Error::directory("list", dir, e)),
    }?;
    let mut found = Vec::new();
    for entry in entries.iter().filter(|entry| entry.is_file) {
        let Some(number) = segment_number(&entry.name) else { continue };
        found.push(SegmentFile { number, path: dir.join(&entry.name) });
    }
    found.sort_by_key(|named| named.number);
    if found.is_empty() {
        return Err(Error::NotAStore { path: dir.to_owned() });
    }
    Ok(found)
}

/// Returns whether a salvage into this directory was interrupted.
fn is_incomplete(fs: &dyn Fs, dir: &Path) -> bool {
    fs.list(dir).is_ok_and(|entries| entries.iter().any(|entry| entry.name == INCOMPLETE && entry.is_file))
}

/// Adds to each damage which of its bytes cannot be read at all, and adds the holes that touch no
/// damage. A `torn` tail with a hole in it is damage, not a torn write.
fn tell_holes(holes: &Holes<'_>, damage: &mut Vec<Damage>, torn: &mut Option<Damage>) {
    let met = holes.met();
    let touches = |damage: &Damage, hole: &Damage| {
        damage.path == hole.path && damage.bytes.start < hole.bytes.end && hole.bytes.start < damage.bytes.end
    };
    if torn.as_ref().is_some_and(|torn| met.iter().any(|hole| touches(torn, hole))) {
        damage.extend(torn.take());
    }
    for hole in met {
        match damage.iter_mut().find(|damage| touches(damage, &hole)) {
            Some(damage) => {
                let Damage { bytes, why, .. } = hole;
                damage.why = format!("{}; bytes {} to {}: {why}", damage.why, bytes.start, bytes.end);
            }
            None => damage.push(hole),
        }
    }
}
