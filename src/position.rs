//! Positions are plain `u64`s: the number of an event in the whole store. Here is what they lead
//! to.

/// Where an event stands: the number of its segment, and the offset of its record there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Location {
    pub segment: u64,
    pub offset: u64,
}

impl Location {
    /// After all that there is.
    pub(crate) const END: Location = Location { segment: u64::MAX, offset: u64::MAX };
}

/// The first position that a place "after this position" asks for; `None` is the beginning.
///
/// For comparisons with positions that the log has. The last number is the position of no event, so
/// that after it stands as little as at it; but what is told of a place is the number that was
/// given, and not the one before this.
pub(crate) fn behind(position: impl Into<Option<u64>>) -> u64 {
    position.into().map_or(0, |position| position.saturating_add(1))
}
