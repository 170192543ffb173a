//! The files of projections: one for each name and version, with the state and its checkpoint.
//!
//! A file is written under another name, synced, renamed, and its directory synced; before the
//! rename, all events in the state are made durable. So after any crash a file is complete, and
//! never ahead of the log.

use crate::directory::{NEW, PROJECTIONS};
use crate::error::{Error, Result};
use crate::format::index_file::hash;
use crate::format::projection_file::{self, MAX_HEAD, ProjectionHeader};
use crate::format::snapshot_file::Codec;
use crate::format::state_file::Unfit;
use crate::fs::{self, Mode};
use crate::store::site::Site;
use crate::time::Timestamp;
use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

const SUFFIX: &str = ".state";

/// Seeds of the two halves of the hash that names a file.
const SEEDS: [u64; 2] = [0x7072_6F6A_6563_7469, 0x6F6E_2066_696C_6531];

/// Why a saved state is not used.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum SavedFault {
    /// The file is not complete and intact.
    Damaged,
    /// A newer version of Annals wrote it.
    Newer,
    /// It is of another store, name or version than its file name says.
    NotInPlace,
    /// The log does not have the last event in the state: part of the store was restored from a
    /// backup.
    NotOfLog,
    /// It is not a state of this type: the type has changed, and the version has not.
    Undecodable,
    /// The file or the log could not be read.
    Unreadable,
}

impl fmt::Display for SavedFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SavedFault::Damaged => "torn or changed",
            SavedFault::Newer => "written by a newer version",
            SavedFault::NotInPlace => "of another store, name or version",
            SavedFault::NotOfLog => "the log does not have its last event",
            SavedFault::Undecodable => "not a state of this type",
            SavedFault::Unreadable => "cannot be read",
        })
    }
}

impl From<Unfit> for SavedFault {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Damaged => SavedFault::Damaged,
            Unfit::Newer => SavedFault::Newer,
        }
    }
}

/// The header of the file of a projection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SavedProjection {
    /// The name of the projection.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// The position up to which all events of its query have been applied; `None` if that is none.
    pub position: Option<u64>,
    /// Number of events after it that a reader sees, in all editions, whether they match its query
    /// or not: 0 if it has reached the end.
    pub lag: u64,
    /// Whether it had ever caught up: it answers, or has answered, for its name.
    pub complete: bool,
    /// When it was saved.
    pub saved_at: Timestamp,
    /// How the state is encoded.
    pub codec: Codec,
    /// Length of the encoded state in bytes.
    pub state_bytes: u64,
    /// The path of the file.
    pub path: PathBuf,
}

/// A file that was read.
pub(super) struct LoadedState {
    pub head: ProjectionHeader,
    bytes: Vec<u8>,
    state: Range<usize>,
}

impl LoadedState {
    pub(super) fn state(&self) -> &[u8] {
        &self.bytes[self.state.clone()]
    }
}

fn file_name(name: &str, version: u32) -> String {
    let [high, low] = SEEDS.map(|seed| hash(name.as_bytes(), seed));
    format!("{high:016x}{low:016x}-{version:010}{SUFFIX}")
}

fn directory(site: &Site) -> PathBuf {
    site.dir().join(PROJECTIONS)
}

/// Writes the file; the previous one stays until it is replaced as a whole.
///
/// The caller has made the events in the state durable.
pub(super) fn put(site: &Site, head: &ProjectionHeader, name: &str, state: &[u8]) -> Result<()> {
    let bytes = projection_file::encode(head, name, state);
    let _work = site.work()?;
    site.check_room(bytes.len() as u64)?;
    let (dir, fs) = (directory(site), site.fs());
    fs::make_dir(&*fs, &dir)?;
    let path = dir.join(file_name(name, head.version));
    let new = dir.join(format!("{}{NEW}", file_name(name, head.version)));
    let written = || -> Result<(), (&'static str, io::Error)> {
        let file = fs.open(&new, Mode::Create).map_err(|e| ("create", e))?;
        fs::write_full(&*file, 0, &bytes).map_err(|(_, e)| ("write", e))?;
        file.sync().map_err(|e| ("sync", e))?;
        fs.rename(&new, &path).map_err(|e| ("rename", e))
    };
    if let Err((operation, e)) = written() {
        // It may be missing; and the next attempt replaces it.
        let (Ok(()) | Err(_)) = fs.remove(&new);
        return Err(Error::io(operation, &path, e));
    }
    // The directory may be new, too. If this fails, either file may come back, and both are
    // complete.
    [&*dir, site.dir()].into_iter().try_for_each(|dir| fs.sync_dir(dir)).map_err(|e| Error::io("sync", &dir, e))
}

/// Returns the saved state of a projection, if there is one and the log has all events in it.
pub(super) fn load(site: &Site, name: &str, version: u32) -> Result<Option<LoadedState>, SavedFault> {
    let path = directory(site).join(file_name(name, version));
    let Some(bytes) = read(site, &path, u64::MAX)? else { return Ok(None) };
    let (head, found, state) = projection_file::decode(&bytes)?;
    check(site, &head, found == name && head.version == version)?;
    Ok(Some(LoadedState { head, state, bytes }))
}

fn check(site: &Site, head: &ProjectionHeader, in_place: bool) -> Result<(), SavedFault> {
    if !in_place || head.store != site.store_id() {
        return Err(SavedFault::NotInPlace);
    }
    let Some(last) = head.next.checked_sub(1) else { return Ok(()) };
    match site.recorded_at(last) {
        Ok(Some(time)) if time.as_nanos() == head.recorded_at => Ok(()),
        Ok(_) => Err(SavedFault::NotOfLog),
        Err(_) => Err(SavedFault::Unreadable),
    }
}

/// Returns at most this many bytes of a file; `None` if there is none.
fn read(site: &Site, path: &Path, most: u64) -> Result<Option<Vec<u8>>, SavedFault> {
    let file = match site.fs().open(path, Mode::Read) {
        Ok(file) => file,
        Err(e) if fs::is_absent(&e) => return Ok(None),
        Err(_) => return Err(SavedFault::Unreadable),
    };
    let size = file.size().map_err(|_| SavedFault::Unreadable)?;
    let mut bytes = vec![0; size.min(MAX_HEAD as u64) as usize];
    let fill =
        |from: usize, bytes: &mut [u8]| fs::read_full(&*file, from as u64, bytes).map_err(|_| SavedFault::Unreadable);
    let mut had = fill(0, &mut bytes)?;
    bytes.truncate(had);
    if most > had as u64 {
        // A length is not trusted before the header says the same.
        let (head, name) = ProjectionHeader::decode(&bytes)?;
        if head.file_len(name.len()) != size {
            return Err(SavedFault::Damaged);
        }
        bytes.resize(size as usize, 0);
        had += fill(had, &mut bytes[had..])?;
        bytes.truncate(had);
    }
    Ok(Some(bytes))
}

/// The files in the directory, in order of names and versions.
#[derive(Default)]
pub(super) struct Listed {
    pub saved: Vec<SavedProjection>,
    /// Files that are not intact, and why.
    pub unusable: Vec<(PathBuf, SavedFault)>,
}

/// Returns the headers of the files. States are not read.
pub(super) fn list(site: &Site) -> Result<Listed> {
    let dir = directory(site);
    let entries = fs::list_if_there(&*site.fs(), &dir)?;
    let Listed { mut saved, mut unusable } = Listed::default();
    for entry in entries.into_iter().filter(|entry| entry.name.ends_with(SUFFIX)) {
        let path = dir.join(&entry.name);
        match info(site, &path, &entry.name, entry.size) {
            Ok(Some(info)) => saved.push(info),
            Ok(None) => {}
            Err(fault) => unusable.push((path, fault)),
        }
    }
    saved.sort_by(|a, b| (&a.name, a.version).cmp(&(&b.name, b.version)));
    unusable.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(Listed { saved, unusable })
}

fn info(site: &Site, path: &Path, file: &str, size: u64) -> Result<Option<SavedProjection>, SavedFault> {
    let Some(bytes) = read(site, path, 0)? else { return Ok(None) };
    let (head, name) = ProjectionHeader::decode(&bytes)?;
    if head.file_len(name.len()) != size {
        return Err(SavedFault::Damaged);
    }
    check(site, &head, file == file_name(name, head.version))?;
    Ok(Some(SavedProjection {
        name: name.to_owned(),
        version: head.version,
        position: head.next.checked_sub(1),
        lag: site.len().saturating_sub(head.next),
        complete: head.complete,
        saved_at: Timestamp::from_nanos(head.saved_at),
        codec: head.codec,
        state_bytes: head.state_len,
        path: path.to_owned(),
    }))
}

/// Removes the file, durably, and what an attempt to write it has left. Returns whether it existed.
pub(super) fn delete(site: &Site, name: &str, version: u32) -> Result<bool> {
    let _work = site.work()?;
    let dir = directory(site);
    let mut found = false;
    for (suffix, counts) in [("", true), (NEW, false)] {
        let path = dir.join(format!("{}{suffix}", file_name(name, version)));
        match site.fs().remove(&path) {
            Ok(()) => found |= counts,
            Err(e) if fs::is_absent(&e) => {}
            Err(e) => return Err(Error::io("remove", &path, e)),
        }
    }
    // Also if there was nothing to remove: the sync of an earlier attempt may have failed.
    match site.fs().sync_dir(&dir) {
        Err(e) if !fs::is_absent(&e) => Err(Error::io("sync", &dir, e)),
        _ => Ok(found),
    }
}
