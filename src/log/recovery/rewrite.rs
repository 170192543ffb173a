//! Writing unproven bytes back. After a failed sync the page cache may show what the disk does not
//! hold, and a sync does not write pages that it believes to be clean.

use super::Opening;
use crate::error::{Error, Result};
use crate::fs;
use crate::segment::scan::{ScanSource, Scanned};
use crate::segment::verdict::WriteBack;
use crate::segment::{START, Segment};

impl Opening<'_> {
    /// Writes the commits of the last group back, which no evidence proves durable, and syncs.
    pub(super) fn write_back(
        &self,
        source: &ScanSource<'_>,
        segment: &Segment,
        scanned: &Scanned,
        what: WriteBack,
    ) -> Result<()> {
        if what.header {
            rewrite(source, 0, START)?;
        }
        rewrite(source, scanned.unproven, scanned.end)?;
        self.sync(segment)
    }

    pub(super) fn sync(&self, segment: &Segment) -> Result<()> {
        let synced = segment.file.sync().and_then(|()| self.fs.sync_dir(self.dir));
        synced.map_err(|e| Error::io("sync", &segment.path, e))
    }
}

fn rewrite(source: &ScanSource<'_>, from: u64, to: u64) -> Result<()> {
    source.chunks(from..to, |at, chunk| {
        fs::write_full(source.file, at, chunk).map_err(|(_, e)| Error::io("write", source.path, e))
    })
}
