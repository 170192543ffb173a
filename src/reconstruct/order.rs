//! The order of segments: which files hold the same segment, its number and positions, and which
//! segments are missing.

use super::files::{LeftOut, SegmentCandidate};
use super::inventory::{Inventory, SegmentSlot};
use crate::format::segment_header::MAX_EVENTS;
use std::ops::Range;

/// Maximum number of consecutive missing segments. A number beyond that is not trusted.
const MAX_MISSING: u64 = 1 << 16;

/// The files of one segment.
pub(super) struct SegmentFiles {
    number: Option<u64>,
    members: Vec<usize>,
}

impl Inventory {
    fn candidate(&self, group: &SegmentFiles) -> &SegmentCandidate {
        &self.candidates[group.members[0]]
    }

    fn leave_out(&mut self, group: &SegmentFiles, why: &str) {
        for &member in &group.members {
            let path = self.candidates[member].path.clone();
            self.left_out.push(LeftOut { path, why: why.to_owned() });
        }
    }

    /// Groups the files that hold the same segment, which have the same mask. The best file comes
    /// first: with an intact header, not in contradiction to HEAD, undamaged, with the most events.
    /// If its header is known exactly, the others get it, too.
    pub(super) fn groups(&mut self) -> Vec<SegmentFiles> {
        let mut groups: Vec<SegmentFiles> = Vec::new();
        for n in 0..self.candidates.len() {
            let mask = self.candidates[n].known.mask;
            match groups.iter_mut().find(|group| self.candidates[group.members[0]].known.mask == mask) {
                Some(group) => group.members.push(n),
                None => groups.push(SegmentFiles { number: None, members: vec![n] }),
            }
        }
        for group in &mut groups {
            group.members.sort_by_key(|&n| {
                let candidate = &self.candidates[n];
                (
                    !candidate.has_header,
                    candidate.is_other,
                    candidate.scanned.is_none(),
                    std::cmp::Reverse(candidate.events),
                )
            });
            // Segments are numbered from 1, whatever a file is called.
            group.number = group.members.iter().find_map(|&n| self.candidates[n].number.filter(|&number| number > 0));
            let known = self.candidates[group.members[0]].known;
            for &n in group.members.iter().filter(|_| known.exact) {
                self.candidates[n].known = known;
            }
        }
        groups
    }

    /// Orders the segments, and leaves out those that contradict others.
    pub(super) fn order(&mut self, mut groups: Vec<SegmentFiles>) -> Vec<SegmentFiles> {
        // The number in a header takes precedence over the one in a name.
        groups.sort_by_key(|group| {
            let known = self.candidate(group).known;
            (known.header.first_position, known.header.number == 0, group.number)
        });
        let taken: Vec<u64> = groups
            .iter()
            .filter(|group| self.candidate(group).known.header.number > 0)
            .filter_map(|group| group.number)
            .collect();
        for group in &mut groups {
            let by_name = self.candidates[group.members[0]].known.header.number == 0;
            if by_name && group.number.is_some_and(|number| taken.contains(&number)) {
                group.number = None;
            }
        }
        let mut ordered: Vec<SegmentFiles> = Vec::new();
        for group in groups {
            let before = ordered.last().and_then(|group| group.number).unwrap_or(0);
            // A segment without a known number gets the one after the segment before it.
            let number = group.number.unwrap_or(before + 1);
            let group = SegmentFiles { number: Some(number), ..group };
            if number > before + MAX_MISSING {
                self.leave_out(&group, "its number is far beyond those of the others");
            } else if number > before {
                ordered.push(group);
            } else if number == before && self.rank(&group) > self.rank(&ordered[ordered.len() - 1]) {
                let worse = ordered.pop().expect("there is one with this number");
                self.leave_out(&worse, "another file holds this segment, and fits better");
                ordered.push(group);
            } else {
                self.leave_out(&group, "other files hold its number or its positions, and fit better");
            }
        }
        ordered
    }

    /// Returns how well a group of files fits the segments before and after it.
    fn rank(&self, group: &SegmentFiles) -> (usize, u64) {
        let candidate = self.candidate(group);
        let header = candidate.known.header;
        let digest = |candidate: &SegmentCandidate| candidate.scanned.as_ref().map(|scanned| scanned.chain.digest);
        let others = self.candidates.iter().filter(|other| other.known.exact);
        let fits = others.filter(|other| {
            let after = other.known.header.number == header.number + 1;
            let before = other.known.header.number + 1 == header.number;
            (after && digest(candidate) == Some(other.known.header.previous_digest))
                || (before && digest(other) == Some(header.previous_digest))
        });
        (fits.count(), candidate.events)
    }

    /// Assigns positions to each segment, including missing ones.
    pub(super) fn lay_out(&mut self, groups: Vec<SegmentFiles>) {
        for group in groups {
            let candidate = self.candidate(&group);
            let (number, first, end) =
                (group.number.unwrap_or(1), candidate.known.header.first_position, candidate.end);
            let (next, position) = self.reached();
            let begins = self.places.last().map_or(0, |before| before.positions.start);
            // Positions in between belong to missing segments, or else to the one before.
            let room = (number - next + u64::from(next > 1)).saturating_mul(MAX_EVENTS);
            // No missing segment was empty.
            let too_few = first.saturating_sub(begins) < number - next;
            if first < begins || first.saturating_sub(position) > room || too_few {
                self.leave_out(&group, "its positions contradict those of the others");
                continue;
            }
            self.add_missing(next..number, position.min(first)..first);
            if let Some(before) = self.places.last_mut() {
                before.positions.end = first;
            }
            let positions = first..end.max(first);
            self.places.push(SegmentSlot { number, positions, candidates: group.members, newest: false });
        }
        let (mut end, position) = self.reached();
        let in_head = self.head.map_or(0, |head| head.segment);
        let is_indexed = |number| self.index_evidence.iter().any(|(_, header, _)| header.number == number);
        let next = end;
        while end <= in_head.min(next + MAX_MISSING) || is_indexed(end) {
            end += 1;
        }
        for (_, header, after) in &self.index_evidence {
            let place = self.places.iter().find(|place| place.number == header.number);
            let own =
                |place: &SegmentSlot| place.candidates.iter().all(|&n| self.candidates[n].known.mask == header.mask());
            // An index may be left over from an earlier use of the number.
            if header.number < end && place.is_none_or(own) {
                self.proven = self.proven.max(*after);
            }
        }
        if end > next {
            self.believe_up_to(position.saturating_add((end - next).saturating_mul(MAX_EVENTS)), position);
            // No missing segment was empty, except perhaps the last one.
            let end = end.min((next + 1).saturating_add(self.proven.saturating_sub(position)));
            self.add_missing(next..end, position..self.proven.max(position));
        }
    }

    /// Rejects a claim that more positions were durable than the segments can have held. Only the
    /// positions below `end` are proven then.
    pub(super) fn believe_up_to(&mut self, most: u64, end: u64) {
        if self.proven > most {
            let claimed = self.proven;
            self.notices.push(format!(
                "a claim that positions below {claimed} were durable is ignored: no segment has so many"
            ));
            self.proven = end;
            self.head = self.head.filter(|head| head.position <= most);
        }
    }

    /// Returns the number and the first position that the next segment would have, as far as the
    /// end of the last one is known.
    fn reached(&self) -> (u64, u64) {
        self.places.last().map_or((1, 0), |last| (last.number + 1, last.positions.end))
    }

    /// Adds slots for missing segments.
    fn add_missing(&mut self, numbers: Range<u64>, positions: Range<u64>) {
        let (mut first, mut left) = (positions.start, numbers.end - numbers.start);
        for number in numbers {
            let known = self.index_evidence.iter().find(|(_, header, _)| header.number == number);
            let known = known.filter(|(_, header, end)| header.first_position == first && *end <= positions.end);
            let share = (positions.end - first).div_ceil(left);
            let end = match known {
                _ if left == 1 => positions.end,
                Some((.., end)) => *end,
                None => first + share,
            };
            self.places.push(SegmentSlot { number, positions: first..end, candidates: Vec::new(), newest: false });
            (first, left) = (end, left - 1);
        }
    }
}
