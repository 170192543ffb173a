//! Bindings: reports of entries whose events the log does not have.

use crate::directory::POSITIONS;
use crate::stream::StreamId;
use std::fmt;

/// Why an entry does not refer to an event of this log.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum BindingFault {
    /// The log has not reached its event: see
    /// [`Error::PositionAhead`](crate::Error::PositionAhead).
    Ahead,
    /// The log has another event with its number: see [`Error::Diverged`](crate::Error::Diverged).
    Diverged,
}

impl fmt::Display for BindingFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            BindingFault::Ahead => "the log has not reached this event",
            BindingFault::Diverged => "the log has another event with its number",
        })
    }
}

/// An entry that is bound to an event.
#[derive(Clone, Copy)]
pub(crate) enum Bound<'a> {
    Checkpoint { name: &'a str, position: u64 },
    DeadLetter { name: &'a str, position: u64 },
    Position { handler: &'a str, stream: &'a StreamId, sequence: u64 },
}

impl Bound<'_> {
    /// Returns the notice that this entry, and `more` others of the same name, do not refer to
    /// events of the log.
    pub(crate) fn notice(&self, fault: BindingFault, more: u64) -> String {
        match more {
            0 => format!("{POSITIONS}: {self}: {fault}; it is refused until it is reset"),
            _ => format!("{POSITIONS}: {self}, and {more} more: {fault}; they are refused until they are reset"),
        }
    }
}

impl fmt::Display for Bound<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Bound::Checkpoint { name, position } => write!(f, "the checkpoint of {name} at position {position}"),
            Bound::DeadLetter { name, position } => write!(f, "a dead letter of {name} at position {position}"),
            Bound::Position { handler, stream, sequence } => {
                write!(f, "the position of handler {handler} at sequence {sequence} of {stream}")
            }
        }
    }
}
