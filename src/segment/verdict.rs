//! What is made of how a segment ends: a torn write, or damage. Opening a store and looking at one
//! from outside both ask here, and nowhere else.
//!
//! | what the scan found | verdict |
//! |---|---|
//! | a sealed segment, all frames good | keep |
//! | a sealed segment, or one with a successor, or below HEAD's durable position: anything bad | damage |
//! | active segment: zeros or the end of the file after a good frame | keep |
//! | a bad frame at X, and a later good frame that vouches for X | damage |
//! | a bad frame at X, later good frames, none vouches for X | torn group: cut at X |
//! | a bad frame at X, nothing good after | torn tail: cut at X |
//! | newest segment without a whole header and with nothing after it, predecessor sealed | crash while rolling: create it again |
//! | newer format version | `UnsupportedFormat`, nothing touched |
//! | segments missing, doubled, not contiguous, or of another store | damage |
//! | a good frame with an unexpected position or predecessor | stale bytes: end of the log, as a bad frame |

use super::scan::{ScanEnd, Scanned, StrayFrame};

/// Which segment was scanned.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SegmentRole {
    /// It has a successor, or ends in a seal.
    Sealed,
    /// The newest one.
    Active,
}

/// How the good frames of it end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SegmentEnd {
    /// In a seal, in zeros, or with the file.
    Clean,
    /// At a bad frame, or at a good one that does not belong there.
    Bad {
        /// HEAD says that a position from here on is durable.
        below_head: bool,
        /// A later good frame, or the index, says so.
        vouched: bool,
        /// There are later good frames.
        later: bool,
    },
}

impl SegmentEnd {
    /// How a scan ended, with the good frames that stand after that, the position that HEAD knows
    /// to be durable, and whether the index covers more: what it covers was durable when it was
    /// written.
    pub(crate) fn of(scanned: &Scanned, later: &[StrayFrame], head_position: Option<u64>, indexed: bool) -> Self {
        let position = scanned.chain.next_position;
        match scanned.stop {
            ScanEnd::Bad { .. } => SegmentEnd::Bad {
                below_head: head_position.is_some_and(|head| head > position),
                vouched: indexed || later.iter().any(|found| found.header.durable_upto > position),
                later: !later.is_empty(),
            },
            ScanEnd::End | ScanEnd::Sealed { .. } => SegmentEnd::Clean,
        }
    }
}

/// What to do with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SegmentVerdict {
    Keep,
    /// Acknowledged bytes have changed.
    Damage(&'static str),
    /// Writes of the last group that were not synced when the machine stopped.
    CutTornGroup,
    /// The same, with nothing after. If the group was the last one of all, nothing but HEAD could
    /// tell it from damage.
    CutTornTail,
}

/// The table above, for what stands after a header.
pub(crate) fn judge(place: SegmentRole, ending: SegmentEnd) -> SegmentVerdict {
    match (place, ending) {
        (_, SegmentEnd::Clean) => SegmentVerdict::Keep,
        (SegmentRole::Sealed, SegmentEnd::Bad { .. }) => SegmentVerdict::Damage("it lies in a sealed segment"),
        (_, SegmentEnd::Bad { below_head: true, .. }) => SegmentVerdict::Damage("HEAD says that it was durable"),
        (_, SegmentEnd::Bad { vouched: true, .. }) => SegmentVerdict::Damage("a later commit says that it was durable"),
        (_, SegmentEnd::Bad { later: true, .. }) => SegmentVerdict::CutTornGroup,
        (_, SegmentEnd::Bad { later: false, .. }) => SegmentVerdict::CutTornTail,
    }
}

/// A segment that does not begin with a good header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NoHeader {
    pub newest: bool,
    /// All predecessors are there and sealed (there may be none).
    pub sealed_before: bool,
    /// There is something other than zeros after the header.
    pub content: bool,
    /// HEAD says that events in this segment are durable. That it only names the segment proves
    /// nothing: the attempt after one that failed creates it again.
    pub in_head: bool,
}

/// The table above, for headers: whether the segment was being created when the machine stopped. If
/// not, it is damaged.
///
/// A header is synced before the first frame is written, so where there is none there can be no
/// frames.
pub(crate) fn was_being_created(found: NoHeader) -> bool {
    found == NoHeader { newest: true, sealed_before: true, content: false, in_head: false }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every row that there is.
    #[test]
    fn the_table_is_complete() {
        let bit = |bits: u32, n: u32| bits >> n & 1 == 1;
        for place in [SegmentRole::Sealed, SegmentRole::Active] {
            assert_eq!(judge(place, SegmentEnd::Clean), SegmentVerdict::Keep);
            for bits in 0..8 {
                let (below_head, vouched, later) = (bit(bits, 0), bit(bits, 1), bit(bits, 2));
                let verdict = judge(place, SegmentEnd::Bad { below_head, vouched, later });
                let damaged = place == SegmentRole::Sealed || below_head || vouched;
                assert_eq!(matches!(verdict, SegmentVerdict::Damage(_)), damaged);
                if !damaged {
                    let cut = if later { SegmentVerdict::CutTornGroup } else { SegmentVerdict::CutTornTail };
                    assert_eq!(verdict, cut);
                }
            }
        }
        let all = (0..16).map(|bits| {
            let bit = |n| bit(bits, n);
            NoHeader { newest: bit(0), sealed_before: bit(1), content: bit(2), in_head: bit(3) }
        });
        assert_eq!(all.filter(|&found| was_being_created(found)).count(), 1);
    }
}
