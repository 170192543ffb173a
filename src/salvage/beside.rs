//! What stands beside the log: POSITIONS and the snapshots. The first holds acknowledged bytes; the others are a cache.

use super::Report;
use crate::error::{Damage, Result};
use crate::format::positions_file::HEADER;
use crate::fs::Fs;
use crate::positions::salvage::{NAME, Salvaged, salvage};
use crate::snapshot::inspect::{self, Verdict};
use std::path::Path;

/// Reads POSITIONS. One of another store is damaged from its header on: nothing in it is of use here.
pub(super) fn positions(fs: &dyn Fs, dir: &Path, store: Option<[u8; 16]>) -> Result<Salvaged> {
    let mut found = salvage(fs, dir)?;
    if let (Some(theirs), Some(ours)) = (found.store, store)
        && theirs != ours
    {
        let why = "it belongs to another store".into();
        let damage = Damage { path: dir.join(NAME), bytes: 0..HEADER as u64, positions: 0..0, why };
        let size = found.size;
        found = Salvaged::default();
        (found.size, found.store, found.entries_lost) = (size, Some(theirs), true);
        found.damage.push(damage);
    }
    Ok(found)
}

/// Reads POSITIONS and each snapshot for a report.
pub(super) fn verify(fs: &dyn Fs, dir: &Path, store: Option<[u8; 16]>, report: &mut Report) -> Result<()> {
    let found = positions(fs, dir, store)?;
    report.bytes += found.size.unwrap_or(0);
    report.positions = found.positions.len() as u64;
    report.checkpoints = found.checkpoints.len() as u64;
    match found.torn {
        true => {
            let torn = found.damage.iter().map(|torn| {
                format!(
                    "{NAME}: bytes {} to {} are no whole batch; they are written over",
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
            Verdict::Intact { .. } => {
                report.snapshots += 1;
                return Ok(());
            }
            Verdict::Bad(why) | Verdict::Unclear(why) => why,
        };
        let name = snapshot.path.strip_prefix(dir).unwrap_or(&snapshot.path);
        report.notices.push(format!("{}: {why}; it is not used", name.display()));
        Ok(())
    })
}
