//! Sidecar files: POSITIONS is rebuilt from its intact entries, and bad snapshots are moved to
//! quarantine.
//!
//! Snapshots are not in the list of moves: nothing depends on them, each is moved completely or not
//! at all, and the next repair finds those that a crash has left in place.

use super::super::{sidecars, write};
use super::moves::{free_name, names};
use super::{Action, Look};
use crate::directory::{POSITIONS, QUARANTINE};
use crate::error::{Error, Result};
use crate::fs::Fs;
use crate::snapshots::inspect::{self, SnapshotVerdict};
use std::collections::BTreeSet;
use std::path::Path;

impl Look<'_> {
    /// Examines POSITIONS and the snapshots.
    pub(super) fn sidecars(&mut self) -> Result<()> {
        let store = self.inventory.store;
        let found = sidecars::positions(self.fs, self.dir, Some(store))?;
        if let Some(first) = found.damage.first().filter(|_| !found.torn) {
            self.plan.actions.push(Action::RewritePositions { why: first.why.clone() });
            if let Some(moves) = &mut self.moves {
                moves.make(self.fs, self.dir, POSITIONS, &found.encode(store))?;
            }
            if found.entries_lost {
                self.plan.actions.extend(found.damage.iter().cloned().map(Action::AcceptLostEntries));
                self.plan.lost_entries.extend(found.damage);
            }
        }
        inspect::each(self.fs, self.dir, Some(store), |snapshot| {
            if let SnapshotVerdict::Bad(why) = snapshot.verdict {
                self.plan.actions.push(Action::SetAside { path: snapshot.path, why: why.into() });
            }
            Ok(())
        })
    }
}

/// Moves bad snapshots to quarantine.
pub(super) fn set_aside_snapshots(fs: &dyn Fs, dir: &Path, actions: &[Action]) -> Result<()> {
    let quarantine = dir.join(QUARANTINE);
    let mut sources = BTreeSet::new();
    for action in actions {
        // Files directly in the directory of the store are not snapshots.
        let Action::SetAside { path, .. } = action else { continue };
        let Some(stream) = path.parent().filter(|parent| *parent != dir) else { continue };
        if sources.is_empty() {
            fs.create_dir(&quarantine).map_err(|e| Error::io("create", &quarantine, e))?;
            write::sync_dir(fs, dir)?;
        }
        let name = |path: &Path| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let kept = free_name(&format!("{}-{}", name(stream), name(path)), &names(fs, &quarantine)?);
        fs.rename(path, &quarantine.join(kept)).map_err(|e| Error::io("rename", path, e))?;
        sources.insert(stream);
    }
    if !sources.is_empty() {
        write::sync_dir(fs, &quarantine)?;
    }
    sources.into_iter().try_for_each(|source| write::sync_dir(fs, source))
}
