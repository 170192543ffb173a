//! The report of an open.
//!
//! Recovery decides before it writes: first everything is read and judged (the tables are in
//! `src/segment/verdict.rs`), and only then, if nothing is damaged, is a torn tail cut.

use crate::error::Damage;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

/// What opening a store has found and done.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct OpenReport {
    /// The store was created by this call.
    pub created: bool,
    /// The store was closed cleanly, and nothing was written since.
    pub clean: bool,
    /// Number of segments.
    pub segments: u64,
    /// Number of events.
    pub events: u64,
    /// The torn tail that was cut, if there was one.
    pub cut: Option<Cut>,
    /// Positions that no evidence proves to have been durable before this open: the last group, if
    /// the store was neither closed nor idle for long enough. They are in the log, and durable now.
    pub unproven: Range<u64>,
    /// Damage, in order of positions, in a store that is read around it:
    /// [`Options::open_read_only`](crate::Options::open_read_only).
    pub damage: Vec<Damage>,
    /// Irregularities that did no harm.
    pub notices: Vec<String>,
    /// How long opening took.
    pub took: Duration,
}

/// A torn tail: bytes after the last intact commit, which, as far as the log can tell, were never
/// acknowledged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Cut {
    /// The segment.
    pub path: PathBuf,
    /// The bytes that were cut; in a store that is opened read-only they are still there.
    pub bytes: Range<u64>,
    /// The position that the first of them would have had.
    pub position: u64,
    /// Why they are not a commit.
    pub why: String,
    /// The file in quarantine that has them.
    pub quarantine: Option<PathBuf>,
}
