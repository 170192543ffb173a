//! The files of snapshots, and which of them are kept. This module does not use the log.
//!
//! Each stream has a directory, named by a hash of the stream, so that no name from outside becomes
//! part of a path; each snapshot is a file in it, named by its sequence. A file is written under
//! another name and then renamed, so that after the death of the process every file is complete.
//! After a power cut it may hold anything: its checksums tell.

pub mod inspect;
mod retention;

use crate::directory::{NEW, SNAPSHOTS};
use crate::error::{Error, Result};
use crate::format::index_file::hash;
use crate::format::snapshot_file::{self, MAX_HEAD, SnapshotHeader};
use crate::format::state_file::Unfit;
use crate::fs::{self, File, Fs, Mode};
use crate::stream::split_key;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SUFFIX: &str = ".snap";

/// Seeds of the two halves of the hash that names the directory of a stream, and of that of an
/// edition.
const SEEDS: [u64; 3] = [0x736E_6170_7368_6F74, 0x7374_7265_616D_2031, 0x6564_6974_696F_6E73];

/// Locks of directories: writers to the same directory take turns; writers to different ones mostly
/// do not.
const TURNS: usize = 16;

/// How snapshots are kept.
#[derive(Clone, Copy, Debug)]
pub struct SnapshotSettings {
    /// Number of default ones that are kept besides the newest.
    pub kept: usize,
    /// Whether a put is made durable.
    pub sync: bool,
    /// Bytes of the disk that must stay free.
    pub reserve: u64,
}

pub struct Directory {
    fs: Arc<dyn Fs>,
    store: PathBuf,
    root: PathBuf,
    settings: SnapshotSettings,
    turns: [Mutex<()>; TURNS],
}

/// A name in the directory of a stream.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SnapshotFile {
    pub path: PathBuf,
    pub sequence: u64,
    /// Length of the file in bytes.
    pub size: u64,
}

/// Snapshots by their files, with their headers if they are intact.
pub type Known = HashMap<PathBuf, Option<SnapshotHeader>>;

/// Why a file is not used.
#[derive(Debug)]
pub enum Unusable {
    Unfit(Unfit),
    Unreadable,
    /// It has been removed since it was listed.
    Gone,
}

/// A file whose header has been read.
pub struct OpenedSnapshot {
    file: Arc<dyn File>,
    size: u64,
    /// The part of the file that was read.
    bytes: Vec<u8>,
    pub head: SnapshotHeader,
    pub key: Box<[u8]>,
}

/// Returns the name of the directory of a stream.
fn dir_name(key: &[u8]) -> String {
    let mut name = format!("{:016x}{:016x}", hash(key, SEEDS[0]), hash(key, SEEDS[1]));
    if let Some(edition) = split_key(key).and_then(|parts| parts.edition) {
        name.push_str(&edition_suffix(edition));
    }
    name
}

/// Returns the suffix of the directories of an edition's streams.
fn edition_suffix(edition: &str) -> String {
    format!("-{:08x}", hash(edition.as_bytes(), SEEDS[2]) as u32)
}

fn is_dir_name(name: &str) -> bool {
    let hex = |part: &str, len| part.len() == len && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    match name.split_once('-') {
        None => hex(name, 32),
        Some((stream, edition)) => hex(stream, 32) && hex(edition, 8),
    }
}

fn file_name(sequence: u64) -> String {
    format!("{sequence:020}{SUFFIX}")
}

fn sequence_of(name: &str) -> Option<u64> {
    let number: u64 = name.strip_suffix(SUFFIX)?.parse().ok()?;
    (file_name(number) == name).then_some(number)
}

/// Returns the directories in that of all snapshots.
fn dirs(fs: &dyn Fs, root: &Path, which: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let entries = fs::list_if_there(fs, root)?;
    let dirs = entries.into_iter().filter(|entry| entry.is_dir && which(&entry.name));
    let mut dirs: Vec<PathBuf> = dirs.map(|entry| root.join(entry.name)).collect();
    dirs.sort_unstable();
    Ok(dirs)
}

fn files(fs: &dyn Fs, dir: &Path) -> Result<Vec<SnapshotFile>> {
    let entries = fs::list_if_there(fs, dir)?;
    let mut files: Vec<SnapshotFile> = entries
        .into_iter()
        .filter_map(|entry| {
            let sequence = sequence_of(&entry.name)?;
            Some(SnapshotFile { path: dir.join(&entry.name), sequence, size: entry.size })
        })
        .collect();
    files.sort_unstable_by_key(|named| named.sequence);
    Ok(files)
}

fn open(fs: &dyn Fs, named: &SnapshotFile) -> Result<OpenedSnapshot, Unusable> {
    let unreadable = |e: io::Error| match e.kind() {
        io::ErrorKind::NotFound => Unusable::Gone,
        _ => Unusable::Unreadable,
    };
    let file = fs.open(&named.path, Mode::Read).map_err(unreadable)?;
    let size = file.size().map_err(unreadable)?;
    let mut bytes = vec![0; size.min(MAX_HEAD as u64) as usize];
    let read = fs::read_full(&*file, 0, &mut bytes).map_err(unreadable)?;
    bytes.truncate(read);
    let (head, key) = SnapshotHeader::decode(&bytes).map_err(Unusable::Unfit)?;
    if head.file_len(key.len()) != size {
        return Err(Unusable::Unfit(Unfit::Damaged));
    }
    let key = key.into();
    Ok(OpenedSnapshot { file, size, bytes, head, key })
}

impl OpenedSnapshot {
    /// Returns the whole file, verified, and where the state is in it.
    pub fn read(self) -> Result<(SnapshotHeader, Vec<u8>, Range<usize>), Unusable> {
        let (mut bytes, read) = (self.bytes, self.size as usize);
        let had = bytes.len();
        // The header has said the same length.
        bytes.resize(read, 0);
        let more = fs::read_full(&*self.file, had as u64, &mut bytes[had..]).map_err(|_| Unusable::Unreadable)?;
        bytes.truncate(had + more);
        let (head, _, state) = snapshot_file::decode(&bytes).map_err(Unusable::Unfit)?;
        Ok((head, bytes, state))
    }
}

impl Directory {
    pub fn new(fs: Arc<dyn Fs>, store: PathBuf, settings: SnapshotSettings) -> Self {
        Directory { fs, root: store.join(SNAPSHOTS), store, settings, turns: Default::default() }
    }

    /// Returns the snapshots that a stream may have, in order of sequences, according to file
    /// names.
    pub fn list(&self, key: &[u8]) -> Result<Vec<SnapshotFile>> {
        self.files(&self.root.join(dir_name(key)))
    }

    /// Returns all snapshots that a store may have: those of each stream together, in order of
    /// sequences.
    pub fn list_all(&self) -> Result<Vec<SnapshotFile>> {
        let mut all = Vec::new();
        for dir in self.dirs(is_dir_name)? {
            all.extend(self.files(&dir)?);
        }
        Ok(all)
    }

    fn dirs(&self, which: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
        dirs(&*self.fs, &self.root, which)
    }

    fn files(&self, dir: &Path) -> Result<Vec<SnapshotFile>> {
        files(&*self.fs, dir)
    }

    /// Returns whether a file is where one of this stream belongs.
    pub fn is_in_place(named: &SnapshotFile, key: &[u8], head: &SnapshotHeader) -> bool {
        let dir = named.path.parent().and_then(Path::file_name);
        head.sequence == named.sequence && dir.is_some_and(|dir| *dir == *dir_name(key))
    }

    /// Reads header and key. The state is not read: skipping a snapshot costs the same, however
    /// large it is.
    pub fn open(&self, named: &SnapshotFile) -> Result<OpenedSnapshot, Unusable> {
        open(&*self.fs, named)
    }

    /// Writes a snapshot, and removes those that it supersedes. `is_stale` says whether a snapshot
    /// of the stream can never be used: such snapshots are removed, too, and do not count as newer.
    ///
    /// A file that cannot be removed is no error: the next put removes it.
    pub fn put(
        &self,
        head: &SnapshotHeader,
        key: &[u8],
        state: &[u8],
        is_stale: &dyn Fn(&SnapshotHeader) -> bool,
    ) -> Result<()> {
        let bytes = snapshot_file::encode(head, key, state);
        let name = dir_name(key);
        let dir = self.root.join(&name);
        let _turn = self.turn(&name);
        self.check_room(bytes.len() as u64)?;
        [&self.root, &dir].into_iter().try_for_each(|dir| fs::make_dir(&*self.fs, dir))?;
        let path = dir.join(file_name(head.sequence));
        let new = dir.join(format!("{}{NEW}", file_name(head.sequence)));
        if let Err((operation, e)) = self.write(&dir, &new, &path, &bytes) {
            // It may be missing; and the next put looks for it.
            let (Ok(()) | Err(_)) = self.fs.remove(&new);
            return Err(Error::io(operation, &path, e));
        }
        let (Ok(_) | Err(_)) = self.clean(&dir, key, head, is_stale);
        Ok(())
    }

    fn write(&self, dir: &Path, new: &Path, path: &Path, bytes: &[u8]) -> Result<(), (&'static str, io::Error)> {
        let file = self.fs.open(new, Mode::Create).map_err(|e| ("create", e))?;
        fs::write_full(&*file, 0, bytes).map_err(|(_, e)| ("write", e))?;
        if self.settings.sync {
            file.sync().map_err(|e| ("sync", e))?;
        }
        self.fs.rename(new, path).map_err(|e| ("rename", e))?;
        if self.settings.sync {
            // The directories may be new, too.
            let dirs = [dir, &self.root, &self.store];
            dirs.into_iter().try_for_each(|dir| self.fs.sync_dir(dir)).map_err(|e| ("sync", e))?;
        }
        Ok(())
    }

    fn check_room(&self, bytes: u64) -> Result<()> {
        let reserve = self.settings.reserve;
        if reserve == 0 {
            return Ok(());
        }
        // If the free space is unknown, the write fails when there is none.
        match self.fs.available(&self.store) {
            Ok(Some(available)) if available < reserve.saturating_add(bytes) => {
                Err(Error::DiskFull { path: self.store.clone(), available, reserve })
            }
            _ => Ok(()),
        }
    }

    /// Removes what `put` supersedes, and what attempts that a crash has ended have left.
    fn clean(
        &self,
        dir: &Path,
        key: &[u8],
        put: &SnapshotHeader,
        is_stale: &dyn Fn(&SnapshotHeader) -> bool,
    ) -> Result<()> {
        self.remove_leftovers(dir)?;
        let (mut current, mut going) = (Vec::new(), Vec::new());
        for named in self.files(dir)? {
            if named.sequence == put.sequence {
                current.push((put.sequence, put.retention));
                continue;
            }
            match self.open(&named) {
                // Of a stream with the same hash: not ours to judge.
                Ok(opened) if *opened.key != *key => {}
                Ok(OpenedSnapshot { head, .. }) if head.store != put.store || is_stale(&head) => {
                    going.push(named.sequence)
                }
                Ok(OpenedSnapshot { head, .. }) => current.push((named.sequence, head.retention)),
                // Nothing is lost with it.
                Err(Unusable::Unfit(Unfit::Damaged)) => going.push(named.sequence),
                Err(_) => {}
            }
        }
        going.extend(retention::superseded(&current, put.sequence, self.settings.kept));
        for sequence in going {
            self.remove(&dir.join(file_name(sequence)))?;
        }
        Ok(())
    }

    /// Removes all snapshots of a stream. Returns their number.
    pub fn delete(&self, key: &[u8]) -> Result<u64> {
        let name = dir_name(key);
        self.delete_in(&name, |_, opened| opened.is_none_or(|opened| *opened.key == *key))
    }

    fn dirs_of_edition(&self, edition: &str) -> Result<Vec<PathBuf>> {
        let suffix = edition_suffix(edition);
        self.dirs(|name| is_dir_name(name) && name.ends_with(&suffix))
    }

    /// Returns the present snapshots of an edition, and perhaps some of others.
    pub fn of_edition(&self, edition: &str) -> Result<Known> {
        let mut known = Known::new();
        for dir in self.dirs_of_edition(edition)? {
            for named in self.files(&dir)? {
                let head = self.open(&named).ok().map(|opened| opened.head);
                known.insert(named.path, head);
            }
        }
        Ok(known)
    }

    /// Removes all snapshots of the streams of an edition, or of one of its domains; if `known` is
    /// given, only those in it. Returns their number.
    pub fn delete_edition(&self, edition: &str, domain: Option<&str>, known: Option<&Known>) -> Result<u64> {
        let mut count = 0;
        for dir in self.dirs_of_edition(edition)? {
            let name = dir.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
            let goes = |path: &Path, opened: Option<&OpenedSnapshot>| {
                let parts = opened.map(|opened| split_key(&opened.key));
                let is_meant = parts.map_or(domain.is_none(), |parts| {
                    parts.is_some_and(|p| p.edition == Some(edition) && domain.is_none_or(|domain| domain == p.domain))
                });
                let head = opened.map(|opened| opened.head);
                // Another one may have replaced it since.
                is_meant && known.is_none_or(|known| known.get(path) == Some(&head))
            };
            count += self.delete_in(&name, goes)?;
        }
        Ok(count)
    }

    /// Removes some snapshots from a directory, and then the directory if it is empty. `goes` gets
    /// `None` for a file whose stream is unknown.
    fn delete_in(&self, name: &str, goes: impl Fn(&Path, Option<&OpenedSnapshot>) -> bool) -> Result<u64> {
        let dir = self.root.join(name);
        let _turn = self.turn(name);
        let mut count = 0;
        for named in self.files(&dir)? {
            let goes = match self.open(&named) {
                Ok(opened) => goes(&named.path, Some(&opened)),
                Err(Unusable::Gone) => false,
                Err(_) => goes(&named.path, None),
            };
            if goes {
                self.remove(&named.path)?;
                count += 1;
            }
        }
        self.remove_leftovers(&dir)?;
        if self.settings.sync {
            // Also if there was nothing to remove: the sync of an earlier attempt may have failed.
            match self.fs.sync_dir(&dir) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(Error::io("sync", &dir, e)),
                _ => {}
            }
        }
        // It may still hold snapshots of others, or be missing.
        let (Ok(()) | Err(_)) = self.fs.remove_dir(&dir);
        Ok(count)
    }

    fn remove_leftovers(&self, dir: &Path) -> Result<()> {
        let entries = fs::list_if_there(&*self.fs, dir)?;
        let is_leftover = |name: &str| name.strip_suffix(NEW).and_then(sequence_of).is_some();
        for entry in entries.into_iter().filter(|entry| is_leftover(&entry.name)) {
            self.remove(&dir.join(entry.name))?;
        }
        Ok(())
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.fs.remove(path).map_err(|e| Error::io("remove", path, e))
    }

    fn turn(&self, name: &str) -> impl Drop + '_ {
        self.turns[hash(name.as_bytes(), 0) as usize % TURNS].lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::snapshot_file::{Codec, Retention};
    use crate::fs::MemFs;
    use crate::stream::StreamId;

    fn directory() -> Directory {
        Directory::new(
            Arc::new(MemFs::new()),
            PathBuf::from("store"),
            SnapshotSettings { kept: 1, sync: true, reserve: 0 },
        )
    }

    fn put(directory: &Directory, stream: &str, sequence: u64) {
        let stream: StreamId = stream.parse().unwrap();
        let head = SnapshotHeader {
            store: [1; 16],
            created_at: 0,
            sequence,
            position: sequence,
            recorded_at: 0,
            fingerprint: 0,
            codec: Codec::Bytes,
            retention: Retention::Persist,
            state_len: 1,
        };
        directory.put(&head, stream.key(), b"s", &|_| false).unwrap();
    }

    fn count(directory: &Directory, stream: &str) -> usize {
        let stream: StreamId = stream.parse().unwrap();
        directory.list(stream.key()).unwrap().len()
    }

    #[test]
    fn names_from_outside_stay_out_of_paths() {
        for name in ["order-1", "order-../../etc", "%2F-%00", "order-1@..%2F.."] {
            let stream: StreamId = name.parse().unwrap();
            assert!(is_dir_name(&dir_name(stream.key())), "{name}");
        }
        assert!(!is_dir_name("..") && !is_dir_name("0123"));
        assert_eq!(sequence_of("00000000000000000041.snap"), Some(41));
        for name in ["41.snap", "+0000000000000000041.snap", "00000000000000000041.snap.new", "00000000000000000041"] {
            assert_eq!(sequence_of(name), None, "{name}");
        }
    }

    /// The names are part of the format.
    #[test]
    fn names_of_directories_stay() {
        let name = |stream: &str| dir_name(stream.parse::<StreamId>().unwrap().key());
        assert_eq!(name("order-1"), "e079dcf148dab033319043258486d056");
        assert_eq!(name("order-1@what-if"), "b8067f22804dee295cf986bb8ee87800-bad69730");
    }

    #[test]
    fn an_edition_goes_by_domain_or_as_a_whole() {
        let directory = directory();
        let streams = ["order-1", "order-1@a", "order-2@a", "stock-1@a", "order-1@b"];
        for stream in streams {
            put(&directory, stream, 1);
            put(&directory, stream, 2);
        }
        assert_eq!(directory.delete_edition("a", Some("order"), None).unwrap(), 4);
        assert_eq!(streams.map(|stream| count(&directory, stream)), [2, 0, 0, 2, 2]);
        assert_eq!(directory.delete_edition("a", None, None).unwrap(), 2);
        assert_eq!(directory.delete_edition("a", None, None).unwrap(), 0);
        assert_eq!(streams.map(|stream| count(&directory, stream)), [2, 0, 0, 0, 2]);
        assert_eq!(directory.list_all().unwrap().len(), 4);
    }

    /// Two streams with the same hash share a directory and nothing else.
    #[test]
    fn streams_in_one_directory_do_not_touch_each_other() {
        let directory = directory();
        put(&directory, "order-1", 1);
        let (one, other): (StreamId, StreamId) = ("order-1".parse().unwrap(), "order-2".parse().unwrap());
        let named = directory.list(one.key()).unwrap().remove(0);
        let moved = directory.root.join(dir_name(other.key())).join(file_name(1));
        directory.fs.rename(&named.path, &moved).unwrap();
        put(&directory, "order-2", 2);
        assert_eq!(count(&directory, "order-2"), 2);
        assert_eq!(directory.delete(other.key()).unwrap(), 1);
        assert_eq!(count(&directory, "order-2"), 1, "that of the other stream");
    }
}
