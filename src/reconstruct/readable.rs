//! Shows a damaged store as one that can be opened for reading.

use super::{Builder, Inventory, Loss, Overlay, SlotPart};
use crate::directory::{HEAD, segment_name};
use crate::error::{Damage, Error, Result};
use crate::format::head::DurableMark;
use crate::format::segment_header::SegmentHeader;
use crate::fs::{Fs, Holes};
use std::path::Path;
use std::sync::Arc;

/// Maximum number of lost positions that are filled in memory, at about 250 bytes each: a damaged
/// file can claim any number.
const MOST_LOST: u64 = 1 << 20;

/// The store that is opened instead of a damaged one.
pub(crate) struct ReadableStore {
    pub fs: Arc<dyn Fs>,
    /// What is lost, in order of positions.
    pub gaps: Vec<Loss>,
    /// The torn write at the end that is left out.
    pub torn: Option<Damage>,
    pub notices: Vec<String>,
    /// Whether there are bytes that the disk does not return.
    pub unreadable: bool,
}

/// Shows the intact content of a damaged store. Sound segments are read from their files, rebuilt
/// ones from memory.
///
/// With `open_to`, the store is already open, holds its lock, and has shown the positions below
/// `open_to`. Bytes after these, which it took for a torn write, are not shown now.
pub(crate) fn overlay(fs: &Arc<dyn Fs>, dir: &Path, open_to: Option<u64>) -> Result<ReadableStore> {
    let holes = Holes::new(&**fs);
    let inventory = Inventory::new(&holes, dir)?;
    let mut overlay = Overlay::new(fs.clone(), open_to.is_none());
    let (mut gaps, mut torn, mut notices) = (Vec::new(), None, inventory.notices.clone());
    notices.extend(
        inventory.left_out.iter().map(|left_out| format!("{}: {}; left out", left_out.path.display(), left_out.why)),
    );
    inventory.files().for_each(|path| overlay.hide(path.to_owned()));
    // The header that the last segment implies for the next one.
    let mut before: Option<SegmentHeader> = None;
    let (mut head, mut lost) = (None, 0u64);
    let end = open_to.unwrap_or(u64::MAX);
    let shown = inventory.places.iter().take_while(|place| place.positions.start < end || place.number == 1).count();
    for (n, place) in inventory.places[..shown].iter().enumerate() {
        let path = dir.join(segment_name(place.number));
        if let (Some((header, scanned)), Some((_, true))) = (inventory.sound(n), inventory.file_of(n)) {
            overlay.reveal(&path);
            before = Some(scanned.extent(&header).successor());
            head = Some((place.number, scanned.chain.next_position, scanned.end, scanned.chain.mark(&header)));
            continue;
        }
        let mut rebuilt = inventory.rebuild(&holes, n)?;
        rebuilt.end_at(end);
        let header = inventory.rebuilt_header(n, before);
        let (number, first_position) = (place.number, place.positions.start);
        let mut builder = Builder::new(SegmentHeader { number, first_position, ..header });
        lost += rebuilt
            .parts
            .iter()
            .map(|part| if let SlotPart::Lost { positions } = part { positions.end - positions.start } else { 0 })
            .sum::<u64>();
        if lost > MOST_LOST {
            let why = "too many positions are lost for the store to be read around them; salvage it";
            return Err(Error::damaged(&path, 0..0, place.positions.clone(), why));
        }
        rebuilt.parts.iter().for_each(|part| builder.add(&rebuilt, part));
        gaps.extend(rebuilt.losses);
        torn = rebuilt.torn.or(torn);
        notices.extend(rebuilt.notices);
        before = Some(builder.extent().successor());
        if n + 1 < shown {
            builder.seal();
        }
        let end = builder.bytes.len() as u64;
        head = Some((place.number, builder.chain.next_position, end, builder.chain.mark(&builder.header)));
        overlay.show(path, builder.bytes);
    }
    match head {
        None => overlay.hide(dir.join(HEAD)),
        Some((segment, position, len, digest)) => {
            let newest =
                DurableMark { clean: true, store: inventory.store, generation: 0, segment, position, len, digest };
            let mut bytes = vec![0; crate::format::head::LEN];
            crate::format::put(&mut bytes, newest.slot_at() as usize, &newest.encode());
            overlay.show(dir.join(HEAD), bytes);
        }
    }
    gaps.extend(inventory.other_log());
    let met = holes.met();
    let unreadable = !met.is_empty();
    notices.extend(met.iter().map(ToString::to_string));
    Ok(ReadableStore { fs: Arc::new(overlay), gaps, torn, notices, unreadable })
}
