//! The inventory: which segments the log had, which files hold them, and which positions each must
//! hold.

use super::carve::finds;
use super::consistency::{self, Findings, Implied, SequenceCheck};
use super::evidence::{KnownBytes, name_lost_events};
use super::files::{Files, KnownSegment, LeftOut, SegmentCandidate, files, open, read};
use super::parts::take;
use super::select::Picked;
use super::{Loss, LostEvents, RebuiltSegment, SlotPart};
use crate::directory::{HEAD, segment_name};
use crate::error::{Damage, Result};
use crate::format::frame::{FrameHeader, SEAL, Seal};
use crate::format::head::{DurableMark, OTHER_LOG};
use crate::format::segment_header::{MAX_EVENTS, SegmentHeader};
use crate::format::{is_zero, record};
use crate::fs::{Fs, Holes};
use crate::segment::scan::{ScanEnd, ScanSource, Scanned};
use crate::segment::{START, random};
use crate::system::System;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// A segment that the log had.
#[derive(Clone, Debug)]
pub(crate) struct SegmentSlot {
    pub number: u64,
    /// The positions that it must hold.
    pub positions: Range<u64>,
    /// The files that hold it, the best one first; empty if the segment is missing.
    pub(super) candidates: Vec<usize>,
    pub(super) newest: bool,
}

/// The inventory of a directory.
pub(crate) struct Inventory {
    dir: PathBuf,
    pub store: [u8; 16],
    /// The content of HEAD, if it is intact and belongs to this store.
    pub head: Option<DurableMark>,
    pub places: Vec<SegmentSlot>,
    pub left_out: Vec<LeftOut>,
    pub notices: Vec<String>,
    /// Evidence proves that all positions below this one were durable.
    pub proven: u64,
    pub(super) candidates: Vec<SegmentCandidate>,
    pub(super) index_evidence: Vec<(PathBuf, SegmentHeader, u64)>,
    findings: Findings,
}

impl Inventory {
    /// Examines each file of a directory once. Changes nothing and takes no lock.
    ///
    /// # Errors
    ///
    /// [`Error::NotAStore`](crate::Error::NotAStore),
    /// [`Error::UnsupportedFormat`](crate::Error::UnsupportedFormat),
    /// [`Error::Io`](crate::Error::Io).
    pub(crate) fn new(fs: &Holes<'_>, dir: &Path) -> Result<Self> {
        let Files { store, head, candidates, indexes, left_out, notices } = files(fs, dir)?;
        let index_evidence = indexes.into_iter().filter(|(_, index)| index.store == store);
        let index_evidence = index_evidence.map(|(path, index)| {
            let first_position = index.chain.next_position.saturating_sub(index.events);
            let first = SegmentHeader::first(store, index.salt, 0);
            let header = SegmentHeader { number: index.segment, first_position, ..first };
            (path, header, index.chain.next_position)
        });
        let mut inventory = Inventory {
            dir: dir.to_owned(),
            store,
            proven: head.map_or(0, |head| head.position),
            head,
            places: Vec::new(),
            left_out,
            notices,
            index_evidence: index_evidence.collect(),
            candidates,
            findings: Findings::default(),
        };
        for candidate in &inventory.candidates {
            inventory.proven = inventory.proven.max(candidate.proven);
        }
        if inventory.store == [0; 16] {
            inventory
                .notices
                .push("the id of the store is lost: ids that it had assigned to events have changed".into());
            inventory.store = uuid::Uuid::new_v4().into_bytes();
        }
        let groups = inventory.groups();
        let groups = inventory.order(groups);
        inventory.lay_out(groups);
        inventory.end(fs)?;
        inventory.check_sequences(fs)?;
        Ok(inventory)
    }

    /// Checks whether events contradict each other, which they may even if no byte is damaged:
    /// crafted bytes have valid checksums.
    fn check_sequences(&mut self, fs: &Holes<'_>) -> Result<()> {
        let mut check = SequenceCheck::default();
        for n in 0..self.places.len() {
            if let (Some((header, _)), Some((path, _))) = (self.sound(n), self.file_of(n)) {
                let (file, size) = open(fs, path)?;
                let source = ScanSource { path, file: &*file, size };
                source.scan(&header, None, |frame| {
                    frame.records(path, |event| check.note(event.position, event.key, event.sequence))
                })?;
                continue;
            }
            let rebuilt = self.rebuild(fs, n)?;
            for part in &rebuilt.parts {
                if let SlotPart::Lost { positions } = part {
                    check.lose(positions.clone());
                }
                for (position, bytes) in consistency::records(&rebuilt.files, part) {
                    let record = &rebuilt.files[part.file()][bytes];
                    let Some(parts) = record::decode(record, 0, record.len()) else { continue };
                    let key = parts.layout.key(record);
                    // A tracked position is in the attributes of its commit, not in the events.
                    let is_bare = matches!(part, SlotPart::Events { attributes, .. } if attributes.is_empty());
                    if is_bare && System::of(key) == Some(System::Tracking) {
                        check.refuse(position);
                    } else {
                        check.note(position, key, parts.sequence);
                    }
                }
            }
        }
        self.findings = check.findings;
        for (position, Implied { edition, domain, .. }) in &self.findings.implied {
            let of = domain.as_ref().map_or(String::new(), |domain| format!(" in the domain {domain}"));
            self.notices.push(match self.findings.bad.contains(position) {
                true => format!(
                    "the deletion of the edition {edition}{of} at position {position} now has another \
                    sequence"
                ),
                false => format!(
                    "the edition {edition} was deleted{of} at a lost position; the deletion is repeated at position \
                        {position}"
                ),
            });
        }
        Ok(())
    }

    /// Returns the sequences that streams are missing, according to the neighbouring events.
    pub(crate) fn missing(&self) -> &[LostEvents] {
        &self.findings.missing
    }

    /// Finds the end of the log, and adjusts the slots to it.
    fn end(&mut self, fs: &dyn Fs) -> Result<()> {
        for n in 0..self.places.len() {
            let next = self.places.get(n + 1).map(|next| next.positions.start);
            let place = &mut self.places[n];
            place.newest = next.is_none();
            if let Some(next) = next {
                place.positions.end = next;
            }
        }
        let Some(last) = self.places.len().checked_sub(1) else { return Ok(()) };
        let place = self.places[last].clone();
        let end = match place.candidates.first() {
            // If there are several files, another one may have more events.
            Some(&first) if self.candidates[first].scanned.is_none() || place.candidates.len() > 1 => {
                let open = SegmentSlot { positions: place.positions.start..u64::MAX, ..place };
                self.pick(fs, &open)?.0.end().unwrap_or(0)
            }
            Some(&first) => self.candidates[first].end,
            None => 0,
        };
        let start = self.places[last].positions.start;
        self.believe_up_to(start.saturating_add(MAX_EVENTS), end.max(start));
        self.places[last].positions.end = end.max(self.proven).max(start);
        let complete: Vec<usize> = (0..self.places.len()).filter(|&n| !self.places[n].candidates.is_empty()).collect();
        for n in complete {
            self.complete(fs, n)?;
        }
        Ok(())
    }

    /// Tries to complete a lost header.
    fn complete(&mut self, fs: &dyn Fs, n: usize) -> Result<()> {
        let first = self.places[n].candidates[0];
        if self.candidates[first].known.exact {
            return Ok(());
        }
        let before = match n {
            0 => None,
            _ => match self.sound(n - 1) {
                Some((_, scanned)) => Some((scanned.chain.digest, scanned.end)),
                None => return Ok(()),
            },
        };
        if self.candidates[first].known.header.number == self.places[n].number {
            self.candidates[first].complete(fs, before)?;
        }
        Ok(())
    }

    /// Returns the loss if HEAD marks a log other than this one. The extent of that loss is
    /// unknown.
    pub(crate) fn other_log(&self) -> Option<Loss> {
        let at = self.head?.position.checked_sub(1)?;
        let place = self.places.iter().find(|place| place.positions.contains(&at))?;
        let first = &self.candidates[*place.candidates.first()?];
        first.is_other.then(|| {
            let path = self.dir.join(HEAD);
            let (bytes, positions) = (0..crate::format::head::LEN as u64, self.len()..u64::MAX);
            Loss::new(Damage { path, bytes, positions, why: OTHER_LOG.into() })
        })
    }

    /// Returns the header and the scan result of a slot whose first file holds exactly what belongs
    /// there. Does not check whether the header follows the slot before.
    pub(crate) fn sound(&self, n: usize) -> Option<(SegmentHeader, &Scanned)> {
        let place = &self.places[n];
        let candidate = &self.candidates[*place.candidates.first()?];
        let whole = candidate.scanned.as_ref().filter(|_| candidate.has_header)?;
        let header = candidate.known.header;
        let fits = header.number == place.number
            && self.findings.bad.range(place.positions.clone()).next().is_none()
            && (header.first_position..whole.chain.next_position) == place.positions
            && (place.newest || candidate.is_sealed())
            && !matches!(whole.stop, ScanEnd::Sealed { junk: true, .. });
        fits.then_some((header, whole))
    }

    /// Returns the file of a sound slot, and whether it has the right name.
    pub(crate) fn file_of(&self, n: usize) -> Option<(&Path, bool)> {
        let place = &self.places[n];
        let candidate = &self.candidates[*place.candidates.first()?];
        Some((&candidate.path, candidate.is_named(place.number)))
    }

    /// Returns the original header of a slot, if it is known exactly.
    pub(crate) fn header(&self, n: usize) -> Option<SegmentHeader> {
        let known = self.known(n)?;
        known.exact.then_some(known.header)
    }

    /// Returns the base time of a slot, if it is known.
    pub(crate) fn base_time(&self, n: usize) -> Option<i64> {
        Some(self.known(n)?.header.base_time)
    }

    /// Returns the header for the rebuilt segment of a slot. `next` is the header that the segment
    /// before it implies. The salt is new, so that an index of the damaged segment is not taken for
    /// one of the rebuilt segment.
    pub(crate) fn rebuilt_header(&self, n: usize, next: Option<SegmentHeader>) -> SegmentHeader {
        // If the first segment is missing, the time of the next one is the best approximation.
        let later = || (n..self.places.len()).find_map(|n| self.base_time(n));
        let time = self.base_time(n).or(next.map(|next| next.base_time)).or_else(later).unwrap_or_default();
        match next {
            Some(next) => SegmentHeader { salt: random(), base_time: next.base_time.max(time), ..next },
            None => SegmentHeader::first(self.store, random(), time),
        }
    }

    fn known(&self, n: usize) -> Option<KnownSegment> {
        let place = &self.places[n];
        Some(self.candidates[*place.candidates.first()?].known)
    }

    /// Returns all files that hold segments, of this store or not.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        let left_out = self.left_out.iter().map(|left_out| &*left_out.path);
        self.candidates.iter().map(|candidate| &*candidate.path).chain(left_out)
    }

    /// Returns the size in bytes of the files that hold segments of this store.
    pub(crate) fn bytes(&self) -> u64 {
        self.candidates.iter().map(|candidate| candidate.size).sum()
    }

    /// Returns the position after the last one that the log had.
    pub(crate) fn len(&self) -> u64 {
        self.places.last().map_or(0, |place| place.positions.end)
    }

    fn pick(&self, fs: &dyn Fs, place: &SegmentSlot) -> Result<(Picked, Vec<Vec<u8>>)> {
        let mut picked = Picked::default();
        let mut all = Vec::new();
        for (file, &n) in place.candidates.iter().enumerate() {
            let candidate = &self.candidates[n];
            let bytes = read(fs, &candidate.path)?;
            let found = finds(&bytes, &candidate.known, &candidate.path)?;
            let first = candidate.known.exact.then(|| candidate.known.header.crc());
            let proven = if place.newest { self.proven } else { u64::MAX };
            picked.add(file, &found, &place.positions, proven, (START as usize, first));
            all.push(bytes);
        }
        Ok((picked.choose(), all))
    }

    /// Returns the intact parts of a slot, and its losses.
    pub(crate) fn rebuild(&self, fs: &Holes<'_>, n: usize) -> Result<RebuiltSegment> {
        let place = &self.places[n];
        let (picked, files) = self.pick(fs, place)?;
        let candidates = || place.candidates.iter().map(|&n| &self.candidates[n]);
        let mut rebuilt = RebuiltSegment {
            files,
            sources: candidates()
                .map(|candidate| SegmentHeader { store: self.store, ..candidate.known.header })
                .collect(),
            ..RebuiltSegment::default()
        };
        let mut parts = Vec::new();
        for item in picked.items.values() {
            take(&mut parts, item, &picked);
        }
        let bad = &self.findings.bad;
        parts = parts.into_iter().flat_map(|part| consistency::without(&rebuilt.files, part, bad)).collect();
        // The position after the last part, and the end of the last part of the first file.
        let (mut position, mut at) = (place.positions.start, START as usize);
        for part in parts {
            let (positions, bytes) = (part.positions(), part.bytes(&rebuilt.files));
            let bytes = bytes.filter(|_| part.file() == 0);
            if positions.start > position {
                let until = bytes.as_ref().map_or(at, |bytes| bytes.start.max(at));
                self.lose(place, &mut rebuilt, position..positions.start, at..until, &picked);
            }
            rebuilt.parts.push(part);
            position = positions.end;
            at = bytes.map_or(at, |bytes| bytes.end);
        }
        let size = rebuilt.files.first().map_or(0, Vec::len);
        if position < place.positions.end {
            self.lose(place, &mut rebuilt, position..place.positions.end, at.min(size)..size, &picked);
        }
        let closed = self.head.is_some_and(|head| head.clean);
        let rest = at as u64..size as u64;
        let unread =
            place.newest && place.candidates.first().is_some_and(|&n| fs.is_met(&self.candidates[n].path, &rest));
        if unread {
            // If the store was closed, HEAD has the end of the log. Otherwise, unreadable commits
            // may follow.
            if !closed {
                let path = self.candidates[place.candidates[0]].path.clone();
                let why = "the end of the log cannot be read, and the number of its events is unknown".into();
                let positions = position.max(place.positions.end)..u64::MAX;
                rebuilt.losses.push(Loss::new(Damage { path, bytes: rest, positions, why }));
            }
        } else if place.newest && place.candidates.is_empty() && !closed {
            // A killed process leaves HEAD as it was when the segment began.
            let path = self.dir.join(segment_name(place.number));
            let why = "the newest segment is missing, and the number of its events is unknown".into();
            let end = place.positions.end;
            rebuilt.losses.push(Loss::new(Damage { path, bytes: 0..0, positions: end..u64::MAX, why }));
        } else if position >= place.positions.end
            && let Some(bytes) = rebuilt.files.first().filter(|_| place.newest)
            && let Some(torn) = bytes.get(at..).filter(|torn| !is_zero(torn) && !is_seal(torn, &rebuilt.sources[0], at))
            // Excludes what a process has written since the inventory found the end of the log.
            && !self.candidates[place.candidates[0]].ends_in_zeros()
            && !follows(torn, &rebuilt, at)
        {
            let content = at + torn.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
            let path = self.candidates[place.candidates[0]].path.clone();
            let why = "no complete commit, and no evidence proves that it was acknowledged".into();
            let bytes = at as u64..content as u64;
            rebuilt.torn = Some(Damage { path, bytes, positions: position..position, why });
        }
        self.ask_index(fs, n, &picked, &mut rebuilt);
        rebuilt.notices = bare(&rebuilt.parts, &picked);
        Ok(rebuilt)
    }

    /// Adds lost positions, and the implied deletions among them.
    fn lose(
        &self,
        place: &SegmentSlot,
        rebuilt: &mut RebuiltSegment,
        positions: Range<u64>,
        bytes: Range<usize>,
        picked: &Picked,
    ) {
        let mut first = positions.start;
        for (&at, deletion) in self.findings.implied.range(positions.clone()) {
            self.lose_all(place, rebuilt, first..at, &bytes, picked);
            if !deletion.certain {
                let why =
                    "the event there is lost, unless it was the deletion of an edition that is now repeated there";
                rebuilt.losses.push(self.loss(place, at..at + 1, &bytes, why));
            }
            rebuilt.parts.push(SlotPart::Implied { position: at, deletion: deletion.clone() });
            first = at + 1;
        }
        self.lose_all(place, rebuilt, first..positions.end, &bytes, picked);
    }

    fn lose_all(
        &self,
        place: &SegmentSlot,
        rebuilt: &mut RebuiltSegment,
        positions: Range<u64>,
        bytes: &Range<usize>,
        picked: &Picked,
    ) {
        if positions.is_empty() {
            return;
        }
        let size = rebuilt.files.first().map_or(0, Vec::len);
        let why = if place.candidates.is_empty() {
            "the segment is missing"
        } else if self.findings.bad.range(positions.clone()).next().is_some() {
            "the bytes there contradict the events before them, or mean nothing without the header of their commit"
        } else if bytes.start >= size {
            "the file ends before them"
        } else if picked.broken_at(positions.start).is_some() {
            "the body of the commit is not intact"
        } else {
            "there is no intact commit or event there"
        };
        rebuilt.losses.push(self.loss(place, positions.clone(), bytes, why));
        rebuilt.parts.push(SlotPart::Lost { positions });
    }

    fn loss(&self, place: &SegmentSlot, positions: Range<u64>, bytes: &Range<usize>, why: &str) -> Loss {
        let path = match place.candidates.first() {
            Some(&first) => self.candidates[first].path.clone(),
            None => self.dir.join(segment_name(place.number)),
        };
        let bytes = bytes.start as u64..bytes.end as u64;
        Loss::new(Damage { path, bytes, positions, why: why.into() })
    }

    /// Names the lost events, as far as the index of the segment has them.
    fn ask_index(&self, fs: &dyn Fs, n: usize, picked: &Picked, rebuilt: &mut RebuiltSegment) {
        if rebuilt.losses.is_empty() {
            return;
        }
        let place = &self.places[n];
        let header = match self.known(n) {
            Some(known) => Some(known.header).filter(|header| header.mask() == known.mask),
            None => self
                .index_evidence
                .iter()
                .find(|(_, header, _)| header.number == place.number)
                .map(|(_, header, _)| *header),
        };
        if let Some(header) = header {
            let mut intact: Vec<Range<usize>> = picked.items.values().map(|item| item.bytes.clone()).collect();
            intact.sort_by_key(|bytes| bytes.start);
            let size = rebuilt.files.first().map_or(0, Vec::len) as u64;
            let known = KnownBytes { intact, whole: place.candidates.is_empty(), size };
            name_lost_events(fs, &self.dir, &header, &known, &mut rebuilt.losses);
        }
    }
}

/// Returns notices about events whose commits have lost their headers, and with them their
/// attributes.
fn bare(parts: &[SlotPart], picked: &Picked) -> Vec<String> {
    let bare = parts.iter().filter_map(|part| match part {
        SlotPart::Events { first, records, .. } if picked.broken_at(*first).is_none() => {
            Some(format!("{first} to {}", first + records.len() as u64 - 1))
        }
        _ => None,
    });
    let tell = |positions| {
        format!(
            "positions {positions}: the header of the commit is lost, with the idempotency key and the position of an \
                upstream that it may have had"
        )
    };
    bare.map(tell).collect()
}

/// Returns whether the bytes at offset `at` begin with an intact commit that follows the one
/// before.
fn follows(bytes: &[u8], rebuilt: &RebuiltSegment, at: usize) -> bool {
    let (mask, offset) = (rebuilt.sources[0].mask(), at as u64);
    let previous = match rebuilt.parts.last() {
        Some(SlotPart::Commit { file: 0, header, .. }) => header.crc,
        Some(_) => return false,
        None => rebuilt.sources[0].crc(),
    };
    let header = FrameHeader::decode(bytes, mask, offset).filter(|header| header.previous == previous);
    header.is_some_and(|header| {
        let len = usize::try_from(header.frame_len()).unwrap_or(usize::MAX);
        bytes.get(..len).is_some_and(|frame| header.verify(frame, mask, offset).is_ok())
    })
}

/// Returns whether the bytes at offset `at` are a seal, with only zeros after it.
fn is_seal(bytes: &[u8], segment: &SegmentHeader, at: usize) -> bool {
    let (seal, after) = bytes.split_at(bytes.len().min(Seal::FRAME as usize));
    let header = FrameHeader::decode(seal, segment.mask(), at as u64);
    header.is_some_and(|header| header.kind == SEAL) && is_zero(after)
}
