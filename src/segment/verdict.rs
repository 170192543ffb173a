//! The decisions of recovery, as tables: what the files of a log show, and what is done about it.
//! Opening and `verify` both ask here, and nowhere else.
//!
//! How a segment ends ([`judge`]); the first row that matches counts:
//!
//! | segment | after its intact frames | and | verdict |
//! |---|---|---|---|
//! | followed by another | a seal | | keep |
//! | followed by another | anything else | the next header proves that only a seal was there | keep; the seal is lost |
//! | followed by another | anything else | | damage |
//! | newest | anything | HEAD marks a later position as durable | damage |
//! | newest | a bad frame | an index covers later bytes, or a later intact frame proves these durable | damage |
//! | newest | a seal, zeros, the end of the file | | keep |
//! | newest | a bad frame | opening is strict | damage |
//! | newest | a bad frame | later intact frames, none of which proves it durable | torn group: cut |
//! | newest | a bad frame | no intact frame after it | torn tail: cut |
//!
//! An intact frame with an unexpected position or predecessor is stale, and counts as bad.
//!
//! A segment without an intact header ([`was_being_created`]): if it is the newest, its predecessor
//! is sealed, only zeros follow the header, and HEAD marks nothing in it, the crash came while it
//! was created, and it is created again. Anything else is damage.
//!
//! Which segments exist ([`first_missing`]): those from 1 to the newest file, and to the segment
//! that HEAD names. A missing one is damage.
//!
//! What is written back before the log continues ([`write_back`]): after a failed sync, the page
//! cache may show what the disk does not hold.
//!
//! | HEAD marks exactly this end | a tail was cut | a header like this was durable | written back |
//! |---|---|---|---|
//! | yes | no | yes | nothing |
//! | | | yes | the commits that no evidence proves durable |
//! | | | no | the header too |
//!
//! A segment of another store or another history, or one that does not follow the one before, is
//! damage: see [`Discontinuity`](super::succession::Discontinuity). A newer format version is
//! [`UnsupportedFormat`](crate::Error::UnsupportedFormat), and nothing is touched.

use super::scan::{ScanEnd, Scanned, StrayFrame};

/// The role of a segment in the log.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SegmentRole {
    Followed {
        /// The next header proves that only a seal followed the intact frames.
        vouches: bool,
    },
    Newest,
}

/// What follows the intact frames of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SegmentEnd {
    Sealed,
    /// Zeros, or the end of the file.
    Open,
    /// A bad frame, or an intact one that does not belong there.
    Bad {
        /// A later intact frame says that a position from here on is durable.
        vouched: bool,
        /// There are later intact frames.
        later: bool,
    },
}

impl SegmentEnd {
    /// The end of a scan, with the intact frames after it.
    pub(crate) fn of(scanned: &Scanned, later: &[StrayFrame]) -> Self {
        let position = scanned.chain.next_position;
        match scanned.stop {
            ScanEnd::Sealed { .. } => SegmentEnd::Sealed,
            ScanEnd::End => SegmentEnd::Open,
            ScanEnd::Bad { .. } => SegmentEnd::Bad {
                vouched: later.iter().any(|found| found.header.durable_upto > position),
                later: !later.is_empty(),
            },
        }
    }
}

/// What the files show of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct SegmentFinding {
    pub role: SegmentRole,
    pub end: SegmentEnd,
    /// HEAD marks a position after the end as durable.
    pub below_head: bool,
    /// An index covers bytes after the end. What it covers was durable when it was written.
    pub indexed: bool,
    /// Nothing may be cut: see [`Options::strict`](crate::Options::strict).
    pub strict: bool,
}

/// What to do with a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum SegmentVerdict {
    Keep,
    /// The seal is damaged; all events are intact.
    KeepWithoutSeal,
    /// Acknowledged bytes have changed, or may have.
    Damage(&'static str),
    /// Writes of the last group that were not synced when the machine stopped.
    CutTornGroup,
    /// The same, with nothing after them. If the group was the last one, only HEAD can tell it from
    /// damage.
    CutTornTail,
}

/// The first table.
pub(crate) fn judge(found: SegmentFinding) -> SegmentVerdict {
    use SegmentVerdict::{CutTornGroup, CutTornTail, Damage, Keep, KeepWithoutSeal};
    let SegmentFinding { role, end, below_head, indexed, strict } = found;
    match (role, end) {
        (SegmentRole::Followed { .. }, SegmentEnd::Sealed) => Keep,
        (SegmentRole::Followed { vouches: true }, _) => KeepWithoutSeal,
        (SegmentRole::Followed { .. }, SegmentEnd::Open) => Damage("the segment has no seal, but a successor"),
        (SegmentRole::Followed { .. }, SegmentEnd::Bad { .. }) => Damage("it is in a sealed segment"),
        (SegmentRole::Newest, SegmentEnd::Bad { .. }) if below_head => Damage("HEAD says that it was durable"),
        (SegmentRole::Newest, _) if below_head => Damage("the log ends before what HEAD says was durable"),
        (SegmentRole::Newest, SegmentEnd::Sealed | SegmentEnd::Open) => Keep,
        (SegmentRole::Newest, SegmentEnd::Bad { .. }) if indexed => Damage("an index says that it was durable"),
        (SegmentRole::Newest, SegmentEnd::Bad { vouched: true, .. }) => {
            Damage("a later commit says that it was durable")
        }
        (SegmentRole::Newest, SegmentEnd::Bad { .. }) if strict => {
            Damage("it may be a torn write, and strict opening refuses to cut it")
        }
        (SegmentRole::Newest, SegmentEnd::Bad { later: true, .. }) => CutTornGroup,
        (SegmentRole::Newest, SegmentEnd::Bad { later: false, .. }) => CutTornTail,
    }
}

/// A segment that does not begin with an intact header.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct NoHeader {
    pub newest: bool,
    /// All predecessors exist and are sealed (there may be none).
    pub sealed_before: bool,
    /// Something other than zeros follows the header.
    pub content: bool,
    /// HEAD says that events in this segment are durable. That it only names the segment proves
    /// nothing: the attempt after one that failed creates it again.
    pub in_head: bool,
}

/// Returns whether a segment without an intact header was being created when the machine stopped.
/// If not, it is damaged.
///
/// A header is synced before the first frame is written, so without one there can be no frames.
pub(crate) fn was_being_created(found: NoHeader) -> bool {
    found == NoHeader { newest: true, sealed_before: true, content: false, in_head: false }
}

/// Returns the first segment that is missing among these, which are sorted, if HEAD names `marked`.
pub(crate) fn first_missing(numbers: &[u64], marked: Option<u64>) -> Option<u64> {
    let missing = (1..).zip(numbers).find(|&(expected, &number)| number != expected).map(|(expected, _)| expected);
    let next = numbers.len() as u64 + 1;
    missing.or(marked.filter(|&marked| marked >= next).map(|_| next))
}

/// What is written back to a segment before the log continues.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct WriteBack {
    /// The header; in any case the commits that no evidence proves durable.
    pub header: bool,
}

/// The last table. `None` if nothing must be written.
pub(crate) fn write_back(at_head: bool, cut: bool, header_durable: bool) -> Option<WriteBack> {
    (cut || !at_head || !header_durable).then_some(WriteBack { header: !header_durable })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bit(bits: u32, n: u32) -> bool {
        bits >> n & 1 == 1
    }

    /// Each possible finding, and the rows of the table one after the other.
    #[test]
    fn the_table_is_complete() {
        let mut seen = std::collections::HashMap::<_, usize>::new();
        for bits in 0..128 {
            let bit = |n| bit(bits, n);
            let (below_head, indexed, strict, vouched, later) = (bit(0), bit(1), bit(2), bit(3), bit(4));
            for end in [SegmentEnd::Sealed, SegmentEnd::Open, SegmentEnd::Bad { vouched, later }] {
                let role = if bit(5) { SegmentRole::Newest } else { SegmentRole::Followed { vouches: bit(6) } };
                let verdict = judge(SegmentFinding { role, end, below_head, indexed, strict });
                let is_bad = matches!(end, SegmentEnd::Bad { .. });
                let row = match role {
                    SegmentRole::Followed { .. } if end == SegmentEnd::Sealed => (1, verdict == SegmentVerdict::Keep),
                    SegmentRole::Followed { vouches: true } => (2, verdict == SegmentVerdict::KeepWithoutSeal),
                    SegmentRole::Followed { .. } => (3, matches!(verdict, SegmentVerdict::Damage(_))),
                    SegmentRole::Newest if below_head => (4, matches!(verdict, SegmentVerdict::Damage(_))),
                    SegmentRole::Newest if is_bad && (indexed || vouched) => {
                        (5, matches!(verdict, SegmentVerdict::Damage(_)))
                    }
                    SegmentRole::Newest if !is_bad => (6, verdict == SegmentVerdict::Keep),
                    SegmentRole::Newest if strict => (7, matches!(verdict, SegmentVerdict::Damage(_))),
                    SegmentRole::Newest if later => (8, verdict == SegmentVerdict::CutTornGroup),
                    SegmentRole::Newest => (9, verdict == SegmentVerdict::CutTornTail),
                };
                assert!(row.1, "row {}: {role:?} {end:?} is {verdict:?}", row.0);
                *seen.entry(row.0).or_default() += 1;
            }
        }
        assert_eq!(seen.len(), 9);
    }

    #[test]
    fn one_file_without_a_header_is_created_again() {
        let all = (0..16).map(|bits| {
            let bit = |n| bit(bits, n);
            NoHeader { newest: bit(0), sealed_before: bit(1), content: bit(2), in_head: bit(3) }
        });
        assert_eq!(all.filter(|&found| was_being_created(found)).count(), 1);
    }

    #[test]
    fn segments_are_missed() {
        assert_eq!(first_missing(&[], None), None);
        assert_eq!(first_missing(&[1, 2, 3], Some(3)), None);
        assert_eq!(first_missing(&[1, 3], Some(1)), Some(2));
        assert_eq!(first_missing(&[2], None), Some(1));
        assert_eq!(first_missing(&[0, 1], None), Some(1));
        assert_eq!(first_missing(&[1, 2], Some(4)), Some(3));
        assert_eq!(first_missing(&[], Some(u64::MAX)), Some(1));
    }

    #[test]
    fn what_is_written_back() {
        for bits in 0..8 {
            let (at_head, cut, header_durable) = (bit(bits, 0), bit(bits, 1), bit(bits, 2));
            let expected = match (at_head, cut, header_durable) {
                (true, false, true) => None,
                (_, _, header_durable) => Some(WriteBack { header: !header_durable }),
            };
            assert_eq!(write_back(at_head, cut, header_durable), expected);
        }
    }
}
