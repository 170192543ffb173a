//! What is intact in a positions file that may be damaged.

use super::journal::NAME;
use super::replay::Window;
use super::table::Table;
use super::{Letter, Reached};
use crate::error::{Damage, Error, Result};
use crate::format::checksum::Mask;
use crate::format::positions_file::{self, BATCH, BatchHeader, FileHeader, HEADER};
use crate::fs::{Fs, Mode};
use crate::stream::StreamId;
use std::io;
use std::ops::Range;
use std::path::Path;

/// What looks like a batch is read to its end to see whether it tells the mask; not more often than this, as a file may be made to look like many.
const MAX_TRIES: u32 = 64;

/// A position: handler, stream, epoch of its edition, sequence.
pub(crate) type Position = (String, StreamId, u64, u64);

/// What was found.
#[derive(Default, Debug)]
pub(crate) struct Salvaged {
    pub positions: Vec<Position>,
    pub checkpoints: Vec<(String, Reached)>,
    /// Consumer, position of the event, and what is known of it.
    pub letters: Vec<(String, u64, Letter)>,
    /// Where it is not intact. What stood there may have been newer than what is found elsewhere, or have deleted it; a torn tail shows as damage.
    pub damage: Vec<Damage>,
}

/// Reads the positions file in a directory, and gives what is in its intact batches, the newest of each. Nothing is changed, and no lock is taken. A missing file holds nothing.
///
/// # Errors
///
/// [`Error::UnsupportedFormat`], [`Error::Io`].
pub(crate) fn salvage(fs: &dyn Fs, dir: &Path) -> Result<Salvaged> {
    let path = dir.join(NAME);
    let io_error = |e| Error::io("read", &path, e);
    let file = match fs.open(&path, Mode::Read) {
        Ok(file) => file,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Salvaged::default()),
        Err(e) => return Err(io_error(e)),
    };
    let mut window = Window::new(&*file).map_err(io_error)?;
    let mut damage = Vec::new();
    let mut note = |bytes: Range<u64>, why: &str| {
        damage.push(Damage { path: path.clone(), bytes, positions: 0..0, why: why.into() });
    };
    let header = FileHeader::decode(window.get(0, HEADER).map_err(io_error)?, &path)?;
    let mask = match header {
        Some(header) => Some(header.mask()),
        None => {
            note(0..HEADER as u64, "the header is not intact");
            implied_mask(&mut window).map_err(io_error)?
        }
    };
    let mut table = Table::default();
    if let Some(mask) = mask {
        read_batches(&mut window, mask, &mut table, &mut note).map_err(io_error)?;
    }
    let settled = header.map_or(0, |header| header.settled);
    if window.size < settled {
        note(window.size..settled, "the end of the file is missing");
    }
    let mut found = Salvaged { damage, ..Salvaged::default() };
    table.each(
        |_| true,
        |group, root, sequence| {
            found.positions.push((group.handler.to_owned(), group.stream(root), group.epoch, sequence));
        },
    );
    let checkpoints = table.checkpoints();
    found.checkpoints =
        checkpoints.map(|(name, position, version)| (name.to_owned(), Reached { position, version })).collect();
    let letters = table.letters.all();
    found.letters = letters.map(|(name, position, letter)| (name.to_owned(), position, letter.clone())).collect();
    Ok(found)
}

fn read_batches(
    window: &mut Window<'_>,
    mask: Mask,
    table: &mut Table,
    note: &mut impl FnMut(Range<u64>, &str),
) -> io::Result<()> {
    let mut at = HEADER as u64;
    while at < window.size {
        if let Some((batch, body)) = window.batch(at, mask)? {
            table.load(positions_file::entries(body));
            at += BATCH as u64 + batch.rest_len();
            continue;
        }
        let good = window.search(at + 1, |window, at| Ok(window.batch(at, mask)?.is_some()))?;
        let end = good.unwrap_or(window.size);
        note(at..end, "no intact batch");
        at = end;
    }
    Ok(())
}

/// Without its header the salt of a file is lost, but a batch whose header and body agree on a mask tells it.
fn implied_mask(window: &mut Window<'_>) -> io::Result<Option<Mask>> {
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
