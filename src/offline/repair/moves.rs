//! Moves: a list, which survives a crash, of the files that a repair moves. See `docs/FORMAT.md`,
//! REPAIR.

use super::super::write;
use crate::directory::{QUARANTINE, REBUILT, REPAIRING};
use crate::error::{Error, Result};
use crate::format::{checksum, u32_at};
use crate::fs::Fs;
use crate::reconstruct::read;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// The files that are to be moved.
#[derive(Default, Debug, PartialEq, Eq)]
pub(super) struct Moves {
    /// Names of files that move to quarantine, and their names there.
    aside: Vec<(String, String)>,
    /// Names of files that move in from `rebuilt/`.
    place: Vec<String>,
    /// Names that are taken in quarantine.
    taken: BTreeSet<String>,
    there: BTreeSet<String>,
}

/// Returns the names of the files in a directory.
pub(super) fn names(fs: &dyn Fs, dir: &Path) -> Result<BTreeSet<String>> {
    match fs.list(dir) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(BTreeSet::new()),
        listed => {
            let entries = listed.map_err(|e| Error::io("list", dir, e))?;
            Ok(entries.into_iter().filter(|entry| entry.is_file).map(|entry| entry.name).collect())
        }
    }
}

/// Returns all names in a directory, of any kind.
fn all_names(fs: &dyn Fs, dir: &Path) -> Result<BTreeSet<String>> {
    let entries = fs.list(dir).map_err(|e| Error::io("list", dir, e))?;
    Ok(entries.into_iter().map(|entry| entry.name).collect())
}

/// Returns a name for a file in quarantine that is not taken.
pub(super) fn free_name(name: &str, taken: &BTreeSet<String>) -> String {
    let kept = (0..).map(|n| format!("{name}-{n}.repair")).find(|kept| !taken.contains(kept));
    kept.expect("there is always another number")
}

/// Returns the list of an interrupted repair, if there is one.
pub(super) fn pending(fs: &dyn Fs, dir: &Path) -> Result<Option<Moves>> {
    if !super::is_unfinished(fs, dir) {
        return Ok(None);
    }
    let path = dir.join(REPAIRING);
    let bytes = read(fs, &path)?;
    let damaged = || Error::damaged(&path, 0..bytes.len() as u64, 0..0, "the list of a repair is not intact");
    Moves::decode(&bytes).ok_or_else(damaged).map(Some)
}

impl Moves {
    /// Begins a repair, and removes the files of an earlier attempt that ended before its list was
    /// durable.
    pub(super) fn begin(fs: &dyn Fs, dir: &Path) -> Result<Self> {
        let workshop = dir.join(REBUILT);
        for path in [&workshop, &dir.join(QUARANTINE)] {
            fs.create_dir(path).map_err(|e| Error::io("create", path, e))?;
        }
        for name in names(fs, &workshop)? {
            let path = workshop.join(name);
            fs.remove(&path).map_err(|e| Error::io("remove", &path, e))?;
        }
        let taken = all_names(fs, &dir.join(QUARANTINE))?;
        Ok(Moves { taken, there: all_names(fs, dir)?, ..Moves::default() })
    }

    /// Writes a file that replaces the one with this name, if there is one.
    pub(super) fn make(&mut self, fs: &dyn Fs, dir: &Path, name: &str, bytes: &[u8]) -> Result<()> {
        write::file(fs, &dir.join(REBUILT).join(name), bytes)?;
        self.place.push(name.to_owned());
        self.set_aside(name);
        Ok(())
    }

    /// Moves a file to quarantine.
    pub(super) fn set_aside(&mut self, name: &str) {
        if !self.there.remove(name) {
            return;
        }
        let kept = free_name(name, &self.taken);
        self.taken.insert(kept.clone());
        self.aside.push((name.to_owned(), kept));
    }

    /// Makes the list durable. From then on, the repair will be finished, even after a crash.
    pub(super) fn commit(self, fs: &dyn Fs, dir: &Path) -> Result<Self> {
        write::sync_dir(fs, &dir.join(REBUILT))?;
        let (path, new) = (dir.join(REPAIRING), dir.join(format!("{REPAIRING}.new")));
        write::file(fs, &new, &self.encode())?;
        write::sync_dir(fs, dir)?;
        fs.rename(&new, &path).map_err(|e| Error::io("rename", &new, e))?;
        write::sync_dir(fs, dir)?;
        Ok(self)
    }

    /// Makes the moves that have not been made yet, and removes the list.
    pub(super) fn carry_out(&self, fs: &dyn Fs, dir: &Path) -> Result<()> {
        let (quarantine, workshop) = (dir.join(QUARANTINE), dir.join(REBUILT));
        let rename = |from: &PathBuf, to: &PathBuf| fs.rename(from, to).map_err(|e| Error::io("rename", from, e));
        let (kept, there) = (all_names(fs, &quarantine)?, all_names(fs, dir)?);
        for (name, to) in self.aside.iter().filter(|(name, to)| !kept.contains(to) && there.contains(name)) {
            rename(&dir.join(name), &quarantine.join(to))?;
        }
        // A replacement must not take a name before the old file is safe.
        write::sync_dir(fs, &quarantine)?;
        write::sync_dir(fs, dir)?;
        let made = names(fs, &workshop)?;
        for name in self.place.iter().filter(|name| made.contains(*name)) {
            rename(&workshop.join(name), &dir.join(name))?;
        }
        write::sync_dir(fs, dir)?;
        write::sync_dir(fs, &workshop)?;
        let path = dir.join(REPAIRING);
        fs.remove(&path).map_err(|e| Error::io("remove", &path, e))?;
        write::sync_dir(fs, dir)
    }

    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; checksum::CRC];
        let mut put = |text: &str| {
            bytes.extend_from_slice(text.as_bytes());
            bytes.push(0);
        };
        for (name, to) in &self.aside {
            ["aside", name, to].into_iter().for_each(&mut put);
        }
        for name in &self.place {
            ["place", name].into_iter().for_each(&mut put);
        }
        put("end");
        let crc = checksum::crc(&bytes[checksum::CRC..]);
        bytes[..checksum::CRC].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let listed = bytes.get(checksum::CRC..)?;
        if checksum::crc(listed) != u32_at(bytes, 0) {
            return None;
        }
        let mut texts = str::from_utf8(listed).ok()?.split('\0');
        let mut moves = Moves::default();
        // Returns the next text, if it is the name of a file and does not lead out of the
        // directory.
        let name = |texts: &mut std::str::Split<'_, char>| {
            texts.next().filter(|name| !name.is_empty() && !name.contains(['/', '\\'])).map(str::to_owned)
        };
        loop {
            match texts.next()? {
                "aside" => moves.aside.push((name(&mut texts)?, name(&mut texts)?)),
                "place" => moves.place.push(name(&mut texts)?),
                "end" => return Some(moves),
                _ => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::directory::{INCOMPLETE, LOCK};

    /// The list of an interrupted repair is called `REPAIR`, and its directory was called `repair`:
    /// the same name on a file system that ignores case.
    #[test]
    fn names_differ_where_case_does_not_count() {
        let names = [REPAIRING, REBUILT, QUARANTINE, INCOMPLETE, LOCK];
        for (n, name) in names.iter().enumerate() {
            assert!(names[..n].iter().all(|other| !other.eq_ignore_ascii_case(name)), "{name}");
        }
    }

    #[test]
    fn lists_come_back() {
        let moves = Moves {
            aside: vec![("a b\n".into(), "a b\n-0.repair".into())],
            place: vec!["HEAD".into(), "x.seg".into()],
            ..Moves::default()
        };
        let bytes = moves.encode();
        assert_eq!(Moves::decode(&bytes), Some(moves));
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Moves::decode(&bad), None);
        }
        assert_eq!(Moves::decode(&bytes[..3]), None);
    }
}
