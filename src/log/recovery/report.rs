//! What opening a store tells of what it found and did.
//!
//! Recovery decides before it writes: first everything is read and judged (`src/segment/verdict.rs`
//! has the table), and only then, if nothing is damaged, is a torn tail cut.

use crate::error::Damage;
use std::ops::Range;
use std::path::PathBuf;
use std::time::Duration;

/// What opening a store found and did.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct OpenReport {
    /// The store was created by this call.
    pub created: bool,
    /// The store had been closed, and nothing was written since.
    pub clean: bool,
    /// Number of segments.
    pub segments: u64,
    /// Number of events.
    pub events: u64,
    /// What was cut from the end of the log, if anything was.
    pub cut: Option<Cut>,
    /// Positions that no evidence proves to have been durable before this open: the last group, if
    /// the store was not closed and did not come to rest. They are there, and durable now.
    pub unproven: Range<u64>,
    /// What is damaged, in order of positions, in a store that is read around it:
    /// [`Options::open_read_only`](crate::Options::open_read_only).
    pub damage: Vec<Damage>,
    /// Things that were not as they should be and did no harm.
    pub notices: Vec<String>,
    /// How long it took.
    pub took: Duration,
}

/// A torn tail: bytes after the last good commit, which were never acknowledged, as far as the log
/// can tell.
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
    /// Where they were put.
    pub quarantine: Option<PathBuf>,
}
