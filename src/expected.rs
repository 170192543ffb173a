//! Expectations of a writer about a stream, or of a consumer about its checkpoint.

use std::fmt;

/// The state of a stream that an append requires: optimistic concurrency.
///
/// Of several writers that expect the same, exactly one succeeds; the others get
/// [`Error::Conflict`](crate::Error::Conflict).
///
/// | here | means | KurrentDB | Marten |
/// |---|---|---|---|
/// | `Any` | no check | `Any` | no expected version |
/// | `NoStream` | the stream holds no event | `NoStream` | `StartStream` |
/// | `Exists` | it holds at least one | `StreamExists` | |
/// | `Next(n)` | it holds exactly *n*; the next sequence is *n* | revision *n* - 1 | version *n* |
///
/// `Next(0)` is the same as `NoStream`, so "the first event" and "after the first event" cannot be
/// confused.
///
/// A stream in a named [edition](crate::edition::Editions) that has no events of its own yet reads
/// as that of the main edition, and the first append decides where it diverges: `Next(n)` at *n*,
/// which is at most the next sequence of the main one; `NoStream` at 0, so that it shadows the main
/// one completely; `Any` and `Exists` after all events of the main one.
///
/// ```
/// use annals::{Error, Expected, NewEvent, Store, StreamId};
/// let store = Store::in_memory();
/// let order = StreamId::new("order", "1")?;
/// store.append(&order, Expected::NoStream, [NewEvent::new("Placed", "")])?;
/// let late = store.append(&order, Expected::NoStream, [NewEvent::new("Placed", "")]);
/// assert!(matches!(late, Err(Error::Conflict { actual: 1, .. })));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Expected {
    /// Any state.
    Any,
    /// The stream has no event.
    NoStream,
    /// The stream has at least one event.
    Exists,
    /// The stream has exactly this many events, so that this is the next sequence.
    Next(u64),
}

impl Expected {
    /// Returns where a stream that has no events of its own in a named edition diverges from the
    /// main one, whose next sequence is `next`; `None` if it is not as expected.
    pub(crate) fn diverges(self, next: u64) -> Option<u64> {
        match self {
            Expected::Any => Some(next),
            Expected::NoStream => Some(0),
            Expected::Exists => (next > 0).then_some(next),
            Expected::Next(n) => (n <= next).then_some(n),
        }
    }

    /// Returns whether a stream whose next sequence is `next` is as expected.
    pub fn allows(self, next: u64) -> bool {
        match self {
            Expected::Any => true,
            Expected::NoStream => next == 0,
            Expected::Exists => next > 0,
            Expected::Next(n) => next == n,
        }
    }
}

/// The version of a checkpoint that a commit requires. Of several consumers that expect the same,
/// exactly one succeeds; the others get
/// [`Error::CheckpointConflict`](crate::Error::CheckpointConflict).
///
/// ```
/// use annals::progress::ExpectedVersion;
/// use annals::{Error, Store};
/// let store = Store::in_memory();
/// let first = store.checkpoints().commit("mailer", 41, ExpectedVersion::Missing)?;
/// store.checkpoints().commit("mailer", 97, ExpectedVersion::Is(first.version))?;
/// let late = store.checkpoints().commit("mailer", 55, ExpectedVersion::Is(first.version));
/// assert!(matches!(late, Err(Error::CheckpointConflict { actual: 2, .. })));
/// # Ok::<(), Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ExpectedVersion {
    /// Any version, or none.
    Any,
    /// There is no checkpoint of this name.
    Missing,
    /// It has this version. 0 is the same as `Missing`.
    Is(u64),
}

impl ExpectedVersion {
    /// Returns whether a checkpoint of this version, 0 if there is none, is as expected.
    pub fn allows(self, version: u64) -> bool {
        match self {
            ExpectedVersion::Any => true,
            ExpectedVersion::Missing => version == 0,
            ExpectedVersion::Is(expected) => version == expected,
        }
    }
}

impl fmt::Display for ExpectedVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ExpectedVersion::Any => f.write_str("any version"),
            ExpectedVersion::Missing => f.write_str("no checkpoint"),
            ExpectedVersion::Is(version) => write!(f, "version {version}"),
        }
    }
}

impl fmt::Display for Expected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expected::Any => f.write_str("any state"),
            Expected::NoStream => f.write_str("no events"),
            Expected::Exists => f.write_str("at least one event"),
            Expected::Next(n) => write!(f, "next sequence {n}"),
        }
    }
}
