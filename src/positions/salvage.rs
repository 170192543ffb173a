//! Salvage of a positions file: the intact entries of one that may be damaged.

use super::journal::write_whole;
use super::replay::{FileWindow, replay};
use super::table::{RewriteProgress, Table};
use super::{CheckpointEntry, DeadLetterEntry, Sequence};
use crate::directory::POSITIONS;
use crate::error::{Damage, Error, Result};
use crate::format::checksum::Mask;
use crate::format::positions_file::{self, BATCH, BatchHeader, FileHeader, HEADER};
use crate::fs::{self, File, Fs, Mode};
use crate::stream::StreamId;
use std::io;
use std::ops::Range;
use std::path::Path;

/// Maximum number of possible batches that are read to their ends to find the mask: a crafted file
/// may look like many.
const MAX_TRIES: u32 = 64;

/// A position: handler, stream, epoch of its edition, sequence.
pub type Position = (String, StreamId, u64, Sequence);

/// The intact content of a positions file.
#[derive(Default)]
pub struct SalvagedProgress {
    /// Length of the file in bytes; `None` if there is none.
    pub size: Option<u64>,
    /// The id of its store, if its header is intact.
    pub store: Option<[u8; 16]>,
    pub positions: Vec<Position>,
    pub checkpoints: Vec<(String, CheckpointEntry)>,
    /// Consumer, position of the event, and the rest of the entry.
    pub letters: Vec<(String, u64, DeadLetterEntry)>,
    /// Damaged bytes, including a torn tail. Their entries may have been newer than those found
    /// elsewhere, or have deleted them.
    pub damage: Vec<Damage>,
    /// Whether the damage is only a torn tail, and no evidence proves that it was acknowledged: the
    /// store opens, and the next flush overwrites the tail.
    pub torn: bool,
    /// Whether the damaged bytes held entries, or may have held some.
    pub entries_lost: bool,
    table: Table,
}

impl SalvagedProgress {
    /// Returns the bytes of a file of this store with exactly these entries.
    pub fn encode(&self, store: [u8; 16]) -> Vec<u8> {
        let (mut bytes, mut progress) = (Vec::new(), RewriteProgress::default());
        let written = write_whole(
            store,
            |batch| self.table.encode_next(&mut progress, batch),
            |at, piece| -> Result<(), std::convert::Infallible> {
                let end = at as usize + piece.len();
                bytes.resize(bytes.len().max(end), 0);
                bytes[at as usize..end].copy_from_slice(piece);
                Ok(())
            },
        );
        let Ok(_) = written;
        bytes
    }
}

/// Reads the positions file in a directory, and returns the newest entry of each position,
/// checkpoint and dead letter in its intact batches. Changes nothing and takes no lock. A missing
/// file has no entries.
///
/// # Errors
///
/// [`Error::UnsupportedFormat`], [`Error::Io`].
pub fn salvage(fs: &dyn Fs, dir: &Path) -> Result<SalvagedProgress> {
    let path = dir.join(POSITIONS);
    match fs.open(&path, Mode::Read) {
        Ok(file) => salvage_file(&*file, &path),
        Err(e) if e.kind() == io::ErrorKind::NotFound || fs::is_not_a_file(&e) => Ok(SalvagedProgress::default()),
        Err(e) => Err(Error::io("read", &path, e)),
    }
}

/// Does the same with an open file.
pub fn salvage_file(file: &dyn File, path: &Path) -> Result<SalvagedProgress> {
    let io_error = |e| Error::io("read", path, e);
    let mut window = FileWindow::new(file).map_err(io_error)?;
    let mut damage = Vec::new();
    let mut note = |bytes: Range<u64>, why: &str| {
        damage.push(Damage { path: path.to_owned(), bytes, positions: 0..0, why: why.into() });
    };
    let header = FileHeader::decode_damaged(window.get(0, HEADER).map_err(io_error)?, path)?;
    let mask = match header {
        Some(header) => Some(header.mask()),
        None => {
            note(0..HEADER as u64, "the header is not intact");
            implied_mask(&mut window).map_err(io_error)?
        }
    };
    let mut table = Table::default();
    let whole = match mask {
        Some(mask) => read_batches(&mut window, mask, &mut table, &mut note).map_err(io_error)?,
        None => {
            if window.size > HEADER as u64 {
                note(HEADER as u64..window.size, "no intact batch");
            }
            false
        }
    };
    let durable_len = header.map_or(0, |header| header.durable_len);
    if window.size < durable_len {
        note(window.size..durable_len, "the end of the file is missing");
    }
    let mut found = SalvagedProgress {
        size: Some(window.size),
        store: header.map(|header| header.store),
        ..SalvagedProgress::default()
    };
    let only_header = whole && damage.iter().all(|damage| damage.bytes.end <= HEADER as u64);
    if let Some(header) = header {
        // An open reads the file in this way.
        match replay(file, path, &header.store, |_| {}) {
            Ok(_) => found.torn = !damage.is_empty(),
            Err(Error::Damaged(first)) if damage.is_empty() => damage.push(*first),
            Err(Error::Damaged(_)) => {}
            Err(other) => return Err(other),
        }
    }
    found.entries_lost = !damage.is_empty() && !found.torn && (header.is_some() || !only_header);
    found.damage = damage;
    table.each(
        |_| true,
        |group, root, sequence| {
            found.positions.push((group.handler.to_owned(), group.stream(root), group.epoch, sequence));
        },
    );
    let checkpoints = table.checkpoints();
    found.checkpoints = checkpoints.map(|(name, reached)| (name.to_owned(), reached)).collect();
    let letters = table.letters.all();
    found.letters = letters.map(|(name, position, letter)| (name.to_owned(), position, letter.clone())).collect();
    found.table = table;
    Ok(found)
}

/// Reads the intact batches into the table, and notes the bytes between them. Returns whether all
/// batches from the first one on are intact, according to their numbers.
fn read_batches(
    window: &mut FileWindow<'_>,
    mask: Mask,
    table: &mut Table,
    note: &mut impl FnMut(Range<u64>, &str),
) -> io::Result<bool> {
    let (mut at, mut next, mut whole) = (HEADER as u64, 1, true);
    while at < window.size {
        if let Some((batch, body)) = window.batch(at, mask)? {
            table.load(positions_file::entries(body));
            at += BATCH as u64 + batch.rest_len();
            whole &= batch.number == next;
            next = batch.number + 1;
            continue;
        }
        let good = window.search(at + 1, |window, at| Ok(window.batch(at, mask)?.is_some()))?;
        let end = good.unwrap_or(window.size);
        note(at..end, "no intact batch");
        (at, whole) = (end, false);
    }
    Ok(whole && next > 1)
}

/// Returns the mask of a file whose header, and with it the salt, is lost: a batch whose header and
/// body agree on a mask reveals it.
fn implied_mask(window: &mut FileWindow<'_>) -> io::Result<Option<Mask>> {
    let (mut mask, mut tries) = (None, 0);
    window.search(HEADER as u64, |window, at| {
        tries += 1;
        if let Some((header, implied)) = BatchHeader::implied(window.get(at, BATCH)?, at) {
            let rest = window.get(at + BATCH as u64, header.rest_len() as usize)?;
            mask = header.body(rest, implied, at).map(|_| implied);
        }
        Ok(mask.is_some() || tries == MAX_TRIES)
    })?;
    Ok(mask)
}
