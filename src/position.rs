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
