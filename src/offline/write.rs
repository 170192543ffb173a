//! Writes a rebuilt store: segments with their indexes, and HEAD.

use crate::directory::{HEAD, index_name, segment_name};
use crate::error::{Error, Result};
use crate::format::commit::frames;
use crate::format::head::DurableMark;
use crate::fs::{self, Fs, Mode};
use crate::index::memory::Memory;
use crate::reconstruct::Builder;
use crate::segment::START;
use std::path::Path;

/// Writes a whole file, and makes its bytes durable; the caller makes its name durable by syncing
/// the directory.
pub(super) fn file(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> Result<()> {
    let file = fs.open(path, Mode::Create).map_err(|e| Error::io("create", path, e))?;
    fs::write_full(&*file, 0, bytes).map_err(|(_, e)| Error::io("write", path, e))?;
    file.sync().map_err(|e| Error::io("sync", path, e))
}

pub(super) fn sync_dir(fs: &dyn Fs, dir: &Path) -> Result<()> {
    fs.sync_dir(dir).map_err(|e| Error::io("sync", dir, e))
}

/// Returns the index file of a segment that is about to be sealed.
pub(super) fn index(builder: &Builder) -> Result<Vec<u8>> {
    let mut memory = Memory::default();
    let path = Path::new("");
    for frame in frames(&builder.bytes[START as usize..], START, builder.header.mask()) {
        frame.records(path, |event| memory.add(&event))?;
    }
    Ok(memory.encode(&builder.header, builder.bytes.len() as u64, builder.chain))
}

/// Writes a segment into a directory, sealed or as the active one. A sealed segment gets its index.
pub(super) fn segment(fs: &dyn Fs, dir: &Path, builder: &mut Builder, sealed: bool) -> Result<()> {
    let number = builder.header.number;
    if sealed {
        let index = index(builder)?;
        file(fs, &dir.join(index_name(number)), &index)?;
        builder.seal();
    }
    file(fs, &dir.join(segment_name(number)), &builder.bytes)
}

/// Returns the bytes of a HEAD file with one slot.
pub(super) fn head_bytes(newest: DurableMark) -> Vec<u8> {
    let mut bytes = vec![0; crate::format::head::LEN];
    crate::format::put(&mut bytes, newest.slot_at() as usize, &newest.encode());
    bytes
}

/// Writes HEAD.
pub(super) fn head(fs: &dyn Fs, dir: &Path, newest: DurableMark) -> Result<()> {
    file(fs, &dir.join(HEAD), &head_bytes(newest))
}
