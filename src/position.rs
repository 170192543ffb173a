//! Positions are plain `u64`s, the numbers of events in the whole store. This module has the types
//! around them.

/// The location of an event: the number of its segment, and the offset of its record there.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Location {
    pub segment: u64,
    pub offset: u64,
}

impl Location {
    /// After everything.
    pub(crate) const END: Location = Location { segment: u64::MAX, offset: u64::MAX };
}

/// A lower bound "after this position"; `None` is the beginning.
///
/// Returns the first position of the bound, for comparisons with positions of the log. No event has
/// the highest number, so a bound after it is as empty as one at it; but errors name the number
/// that was given, and not the one before it.
pub(crate) fn after(position: impl Into<Option<u64>>) -> u64 {
    position.into().map_or(0, |position| position.saturating_add(1))
}
