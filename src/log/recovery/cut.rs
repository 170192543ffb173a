//! Cutting a torn tail: first into quarantine, then off the file. Opening destroys nothing.

use super::Opening;
use super::report::Cut;
use crate::directory::QUARANTINE;
use crate::error::{Error, Result};
use crate::fs::{self, Fs, Mode};
use crate::segment::scan::{ScanEnd, ScanSource, Scanned};
use std::path::{Path, PathBuf};

impl Opening<'_> {
    /// Cuts a torn tail: first into quarantine, then off the file. Reading never does this. The
    /// caller syncs; until then a crash leaves the same tail to be cut again.
    pub(super) fn cut(&self, source: &ScanSource<'_>, scanned: &Scanned) -> Result<Cut> {
        let end = source.content_end(scanned.end)?;
        let why = match &scanned.stop {
            ScanEnd::Bad { why } => (*why).to_owned(),
            _ => String::new(),
        };
        let mut cut = Cut {
            path: source.path.to_owned(),
            bytes: scanned.end..end,
            position: scanned.chain.next_position,
            why,
            quarantine: None,
        };
        if !self.settings.read_only {
            cut.quarantine = Some(quarantine(self.fs, self.dir, source, scanned.end, end)?);
            let cutting = source.file.truncate(scanned.end);
            cutting.map_err(|e| Error::io("cut", source.path, e))?;
        }
        Ok(cut)
    }

    /// Keeps all of a file that holds no segment yet.
    pub(super) fn set_aside(&self, source: &ScanSource<'_>) -> Result<()> {
        let content = source.content_end(0)?;
        if content > 0 && !self.settings.read_only {
            quarantine(self.fs, self.dir, source, 0, content)?;
        }
        Ok(())
    }
}

/// Copies the bytes of a file from `from` to `to` into a new file in quarantine, and makes that
/// durable. Returns its path. If an earlier attempt, ended by a crash, has left a file with the
/// same name, that one is kept and another name is used.
fn quarantine(fs: &dyn Fs, dir: &Path, source: &ScanSource<'_>, from: u64, to: u64) -> Result<PathBuf> {
    let quarantine = dir.join(QUARANTINE);
    fs.create_dir(&quarantine).map_err(|e| Error::io("create", &quarantine, e))?;
    let taken = fs.list(&quarantine).map_err(|e| Error::io("list", &quarantine, e))?;
    let stem = source.path.file_stem().map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
    let mut names = (0..).map(|n| format!("{stem}-{from}-{n}.cut"));
    let name =
        names.find(|name| taken.iter().all(|entry| entry.name != *name)).expect("there is always another number");
    let path = quarantine.join(name);
    let io_error = |operation| {
        let path = &path;
        move |e| Error::io(operation, path, e)
    };
    let file = fs.open(&path, Mode::Create).map_err(io_error("create"))?;
    source.chunks(from..to, |at, chunk| {
        fs::write_full(&*file, at - from, chunk).map_err(|(_, e)| io_error("write")(e))
    })?;
    file.sync().map_err(io_error("sync"))?;
    fs.sync_dir(&quarantine).and_then(|()| fs.sync_dir(dir)).map_err(io_error("sync"))?;
    Ok(path)
}
