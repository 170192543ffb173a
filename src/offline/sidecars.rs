//! Sidecar files: POSITIONS and the snapshots. POSITIONS holds acknowledged entries; the snapshots
//! are a cache.

use super::salvage::Salvaged as Copied;
use super::{Report, write};
use crate::directory::{POSITIONS, SNAPSHOTS};
use crate::error::{Damage, Error, Result};
use crate::format::positions_file::HEADER;
use crate::format::snapshot_file::SnapshotHeader;
use crate::fs::mem::MemFile;
use crate::fs::{Fs, Holes, Mode, is_not_a_file};
use crate::positions::salvage::{SalvagedProgress, salvage, salvage_file};
use crate::reconstruct::{LeftOut, read};
use crate::snapshots::inspect::{self, SnapshotVerdict};
use std::path::{Path, PathBuf};

/// POSITIONS as it was at one moment: its intact entries, and its bytes.
#[derive(Default)]
pub(super) struct Early {
    found: SalvagedProgress,
    /// `None` if there is no file, or if it is too large to be held in memory.
    bytes: Option<Vec<u8>>,
}

impl Early {
    /// Reads the file, once. While a process writes, it must be read before the log: entries are
    /// stored after their events, so that none is then ahead of the log.
    pub(super) fn read(fs: &Holes<'_>, dir: &Path) -> Result<Self> {
        let path = dir.join(POSITIONS);
        let size = match fs.open(&path, Mode::Read) {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound || is_not_a_file(&e) => return Ok(Early::default()),
            opened => opened.and_then(|file| file.size()).map_err(|e| Error::io("open", &path, e))?,
        };
        if size > u32::MAX.into() {
            return Ok(Early { found: salvage(fs, dir)?, bytes: None });
        }
        let file = MemFile::new(read(fs, &path)?);
        Ok(Early { found: salvage_file(&file, &path)?, bytes: Some(file.into_bytes()) })
    }
}

/// Reads POSITIONS as part of this store.
pub(super) fn positions(fs: &Holes<'_>, dir: &Path, store: Option<[u8; 16]>) -> Result<SalvagedProgress> {
    Ok(of_store(fs, dir, store, salvage(fs, dir)?))
}

/// Returns what was found if POSITIONS belongs to this store. A file of another store counts as
/// damaged from its header on, and its entries are dropped.
pub(super) fn of_store(
    fs: &Holes<'_>,
    dir: &Path,
    store: Option<[u8; 16]>,
    mut found: SalvagedProgress,
) -> SalvagedProgress {
    if let (Some(theirs), Some(ours)) = (found.store, store)
        && theirs != ours
    {
        let why = "it belongs to another store".into();
        let damage = Damage { path: dir.join(POSITIONS), bytes: 0..HEADER as u64, positions: 0..0, why };
        let size = found.size;
        found = SalvagedProgress::default();
        (found.size, found.store, found.entries_lost) = (size, Some(theirs), true);
        found.damage.push(damage);
    }
    if found.torn && found.damage.iter().any(|torn| fs.is_met(&torn.path, &torn.bytes)) {
        // The content of the tail is unknown: it need not be a torn write.
        (found.torn, found.entries_lost) = (false, true);
    }
    found
}

/// Reads each snapshot, and adds the result and the content of POSITIONS to a report.
pub(super) fn verify(
    fs: &Holes<'_>,
    dir: &Path,
    store: Option<[u8; 16]>,
    found: SalvagedProgress,
    report: &mut Report,
) -> Result<()> {
    report.bytes += found.size.unwrap_or(0);
    report.positions = found.positions.len() as u64;
    report.checkpoints = found.checkpoints.len() as u64;
    match found.torn {
        true => {
            let torn = found.damage.iter().map(|torn| {
                format!(
                    "{POSITIONS}: bytes {} to {} are not a complete batch; they will be overwritten",
                    torn.bytes.start, torn.bytes.end
                )
            });
            report.notices.extend(torn);
        }
        false => report.damage.extend(found.damage),
    }
    inspect::each(fs, dir, store, |snapshot| {
        report.bytes += snapshot.size;
        let why = match snapshot.verdict {
            SnapshotVerdict::Intact { .. } => {
                report.snapshots += 1;
                return Ok(());
            }
            SnapshotVerdict::Bad(why) | SnapshotVerdict::Unclear(why) => why,
        };
        let name = snapshot.path.strip_prefix(dir).unwrap_or(&snapshot.path);
        report.notices.push(format!("{}: {why}; it is not used", name.display()));
        Ok(())
    })
}

/// The entries and snapshots that were copied, kept to find out which of them a loss concerns.
#[derive(Default)]
pub(super) struct CopiedProgress {
    pub positions: SalvagedProgress,
    /// Name, header, and key of the stream.
    pub snapshots: Vec<(PathBuf, SnapshotHeader, Box<[u8]>)>,
}

/// Copies snapshots unchanged, and POSITIONS as it was read or, if it is not intact, all of its
/// intact entries. Copies nothing without `early`: the new store is then renumbered, so that both
/// would be wrong.
pub(super) fn copy(
    fs: &Holes<'_>,
    dir: &Path,
    out: &Path,
    early: Option<Early>,
    report: &mut Copied,
) -> Result<CopiedProgress> {
    let store = *report.store.as_bytes();
    let leave_out = |path: PathBuf, why: &str| LeftOut { path, why: why.to_owned() };
    let mut kept = CopiedProgress::default();
    let Some(early) = early else {
        let why = "it has the old positions and sequences";
        let entries = fs.list(dir).map_err(|e| Error::io("list", dir, e))?;
        let names = entries.into_iter().map(|entry| entry.name);
        let names = names.filter(|name| [POSITIONS, SNAPSHOTS].contains(&&**name));
        report.left_out.extend(names.map(|name| leave_out(dir.join(name), why)));
        return Ok(kept);
    };
    kept.positions = of_store(fs, dir, Some(store), early.found);
    let found = &kept.positions;
    if found.size.is_some() {
        let as_it_is = early.bytes.filter(|_| found.damage.is_empty());
        let bytes = as_it_is.unwrap_or_else(|| found.encode(store));
        write::file(fs, &out.join(POSITIONS), &bytes)?;
        report.copied.push(POSITIONS.into());
    }
    if found.torn {
        report.notices.extend(found.damage.iter().map(|torn| format!("a torn batch was not copied: {torn}")));
    } else if found.entries_lost {
        report.lost_entries.extend(found.damage.iter().cloned());
    } else {
        report.notices.extend(found.damage.iter().map(|damage| format!("no entry is lost with it: {damage}")));
    }
    let mut made: Option<PathBuf> = None;
    inspect::each(fs, dir, Some(store), |snapshot| {
        let (head, key, bytes) = match snapshot.verdict {
            SnapshotVerdict::Intact { head, key, bytes } => (head, key, bytes),
            SnapshotVerdict::Bad(why) | SnapshotVerdict::Unclear(why) => {
                report.left_out.push(leave_out(snapshot.path, why));
                return Ok(());
            }
        };
        let name = snapshot.path.strip_prefix(dir).unwrap_or(&snapshot.path).to_owned();
        let stream = out.join(name.parent().unwrap_or(Path::new("")));
        if made.as_ref() != Some(&stream) {
            fs.create_dir(&stream).map_err(|e| Error::io("create", &stream, e))?;
            made.iter().try_for_each(|before| write::sync_dir(fs, before))?;
            made = Some(stream);
        }
        write::file(fs, &out.join(&name), &bytes)?;
        report.copied.push(name.clone());
        kept.snapshots.push((name, head, key));
        Ok(())
    })?;
    if let Some(last) = made {
        write::sync_dir(fs, &last)?;
        write::sync_dir(fs, &out.join(SNAPSHOTS))?;
    }
    Ok(kept)
}
