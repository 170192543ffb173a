//! Selection: which of the intact items belong in a slot, each position once, in ascending order.

use super::carve::Find;
use crate::format::frame::FrameHeader;
use std::collections::BTreeMap;
use std::ops::Range;

/// An intact commit or event, which may be selected.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub positions: Range<u64>,
    pub file: usize,
    pub bytes: Range<usize>,
    pub kind: FragmentKind,
}

#[derive(Clone, Debug)]
pub(super) enum FragmentKind {
    Commit(FrameHeader),
    Event { recorded_at: i64 },
}

/// A damaged commit whose header is intact.
#[derive(Clone, Debug)]
pub(super) struct BrokenCommit {
    pub positions: Range<u64>,
    pub attributes: Range<usize>,
    pub file: usize,
}

/// The selection of one slot.
#[derive(Debug, Default)]
pub(super) struct Picked {
    pub items: BTreeMap<u64, Item>,
    /// Damaged commits by first position; of several files that have one, the first file counts.
    pub broken: BTreeMap<u64, BrokenCommit>,
    /// Items that have not been selected yet.
    commits: Vec<Item>,
    events: Vec<Item>,
}

/// What the next item of a file must follow.
struct LastKept {
    position: u64,
    /// The offset of the next commit, and the CRC of its predecessor, if they are known.
    next: Option<(usize, u32)>,
}

impl Picked {
    /// Adds the items of one file. If two files disagree, the first one counts.
    ///
    /// An item at a lower position than the one before it, or right after a commit that it does not
    /// follow, is left over from an earlier use of the file. Such bytes end the log when a store is
    /// opened; here, they are skipped. Single events are selected only below `proven`: from there
    /// on, they may be part of a commit that was never acknowledged.
    pub(super) fn add(
        &mut self,
        file: usize,
        finds: &[Find],
        place: &Range<u64>,
        proven: u64,
        first: (usize, Option<u32>),
    ) {
        let mut last = LastKept { position: place.start, next: first.1.map(|crc| (first.0, crc)) };
        let (mut commits, mut events) = (Vec::new(), Vec::new());
        for find in finds {
            match find {
                Find::Commit { at, header } | Find::Broken { at, header, .. } => {
                    let follows = last.next.is_none_or(|(next, crc)| next != *at || header.previous == crc);
                    if header.first_position < last.position || !follows || header.end_position() > place.end {
                        continue;
                    }
                    let end = at + header.frame_len() as usize;
                    let positions = header.first_position..header.end_position();
                    if let Find::Broken { attributes, .. } = find {
                        // Its events come next, one by one.
                        last = LastKept { position: positions.start, next: Some((end, header.crc)) };
                        let attributes = attributes.clone();
                        let broken = BrokenCommit { attributes, file, positions };
                        self.broken.entry(broken.positions.start).or_insert(broken);
                    } else {
                        last = LastKept { position: positions.end, next: Some((end, header.crc)) };
                        commits.push(Item { positions, file, bytes: *at..end, kind: FragmentKind::Commit(*header) });
                    }
                }
                Find::Event { bytes, position, recorded_at } => {
                    if *position < last.position || *position >= place.end.min(proven) {
                        continue;
                    }
                    last.position = position + 1;
                    let positions = *position..position + 1;
                    events.push(Item {
                        positions,
                        file,
                        bytes: bytes.clone(),
                        kind: FragmentKind::Event { recorded_at: *recorded_at },
                    });
                }
                Find::Seal(_) => {}
            }
        }
        self.commits.append(&mut commits);
        self.events.append(&mut events);
    }

    /// Selects from all files: whole commits first, then single events at the remaining positions.
    pub(super) fn choose(mut self) -> Self {
        for item in std::mem::take(&mut self.commits).into_iter().chain(std::mem::take(&mut self.events)) {
            if self.is_free(&item.positions) {
                self.items.insert(item.positions.start, item);
            }
        }
        self
    }

    fn is_free(&self, positions: &Range<u64>) -> bool {
        let before = self.items.range(..positions.end).next_back();
        before.is_none_or(|(_, item)| item.positions.end <= positions.start)
    }

    /// Returns the position after the last selected item.
    pub(super) fn end(&self) -> Option<u64> {
        self.items.last_key_value().map(|(_, item)| item.positions.end)
    }

    /// Returns the damaged commit that has this position.
    pub(super) fn broken_at(&self, position: u64) -> Option<&BrokenCommit> {
        let (_, broken) = self.broken.range(..=position).next_back()?;
        broken.positions.contains(&position).then_some(broken)
    }
}
