//! Inspection of every snapshot file of a store, without its log and without a lock.

use super::{Directory, Unusable, dirs, files, is_dir_name, open};
use crate::directory::SNAPSHOTS;
use crate::error::Result;
use crate::format::snapshot_file::SnapshotHeader;
use crate::format::state_file::Unfit;
use crate::fs::Fs;
use std::path::{Path, PathBuf};

/// The state of a file.
pub(crate) enum SnapshotVerdict {
    /// A complete snapshot in the right place. Only the log tells whether its event exists.
    Intact { head: SnapshotHeader, key: Box<[u8]>, bytes: Vec<u8> },
    /// Of no use, and why.
    Bad(&'static str),
    /// Not judged: another version may understand it.
    Unclear(&'static str),
}

/// A file with the name of a snapshot.
pub(crate) struct Inspected {
    pub path: PathBuf,
    pub size: u64,
    pub verdict: SnapshotVerdict,
}

/// Reads each snapshot file of a store, in order of paths. A file that is removed meanwhile is left
/// out. Without the id of the store, snapshots of any store count.
///
/// # Errors
///
/// [`Error::Io`](crate::Error::Io) if a directory cannot be listed; a file that cannot be read is
/// not judged.
pub(crate) fn each(
    fs: &dyn Fs,
    store: &Path,
    id: Option<[u8; 16]>,
    mut show: impl FnMut(Inspected) -> Result<()>,
) -> Result<()> {
    for dir in dirs(fs, &store.join(SNAPSHOTS), is_dir_name)? {
        for named in files(fs, &dir)? {
            let read = open(fs, &named).and_then(|opened| {
                let (key, size) = (opened.key.clone(), opened.size);
                opened.read().map(|(head, bytes, _)| (head, key, bytes, size))
            });
            let (verdict, size) = match read {
                Err(Unusable::Gone) => continue,
                Err(Unusable::Unreadable) => (SnapshotVerdict::Unclear("it cannot be read"), 0),
                Err(Unusable::Unfit(Unfit::Newer)) => (SnapshotVerdict::Unclear("a newer version wrote it"), 0),
                Err(Unusable::Unfit(Unfit::Damaged)) => (SnapshotVerdict::Bad("it is not intact"), named.size),
                Ok((head, .., size)) if id.is_some_and(|id| id != head.store) => {
                    (SnapshotVerdict::Bad("it belongs to another store"), size)
                }
                Ok((head, key, _, size)) if !Directory::is_in_place(&named, &key, &head) => {
                    (SnapshotVerdict::Bad("it is in the wrong place"), size)
                }
                Ok((head, key, bytes, size)) => (SnapshotVerdict::Intact { head, key, bytes }, size),
            };
            show(Inspected { path: named.path, size, verdict })?;
        }
    }
    Ok(())
}
