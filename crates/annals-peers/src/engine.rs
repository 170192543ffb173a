//! What an adapter does for the workloads: the contract between them, and nothing of either.
//!
//! An engine that cannot do a thing says so with [`not_offered`], in words that go into the table;
//! it is never left out silently. Everything else that fails is an error and ends the run.

use crate::events::{Event, Stream, Sum};
use anyhow::Result;
use std::fmt;
use std::ops::Range;
use std::path::PathBuf;

/// How an engine is opened.
#[derive(Clone, Debug)]
pub struct Options {
    pub dir: PathBuf,
    /// Whether a commit returns only when it would survive a power cut.
    pub durable: bool,
    /// How many threads are going to commit at the same time.
    pub threads: u64,
    /// How many events their commits are going to have.
    pub batch: u64,
    /// Whether what is written is going to be read. (The floor alone asks.)
    pub kept: bool,
    /// Whether somebody is going to subscribe.
    pub subscribed: bool,
}

/// An open store, shared by the threads of a workload.
pub trait Engine: Send + Sync {
    /// What one thread works with.
    fn session(&self) -> Result<Box<dyn Session>>;

    /// Starts a thread that waits for events without polling, and tells how many it sees as soon as
    /// it sees them.
    fn subscribe(&self, _seen: Seen) -> Result<()> {
        not_offered("no subscriptions")
    }

    /// Closes it as cleanly as it can be. Sessions are dropped before.
    fn close(self: Box<Self>) -> Result<()> {
        Ok(())
    }
}

pub type Seen = Box<dyn FnMut(u64) + Send>;

pub trait Session: Send {
    /// Appends these in one atomic commit, if each stream has come exactly to where its events say.
    /// Those of a stream stand together.
    fn commit(&mut self, events: &[Event<'_>]) -> Result<()>;

    /// Reads the events at these positions, in order.
    fn replay(&mut self, positions: Range<u64>, sum: &mut Sum) -> Result<()>;

    /// Reads a whole stream, in order.
    fn stream(&mut self, stream: &Stream, sum: &mut Sum) -> Result<()>;

    /// Reads the newest event of a stream.
    fn newest(&mut self, stream: &Stream, sum: &mut Sum) -> Result<()>;

    /// Reads the events that have a tag and a type, in order.
    fn find(&mut self, _wanted: &Wanted, _sum: &mut Sum) -> Result<()> {
        not_offered("no queries by tag")
    }

    /// Appends an event to the end of a stream, wherever that is, if no event at all has this tag
    /// and type.
    fn commit_if_absent(&mut self, _event: &Event<'_>, _absent: &Wanted) -> Result<()> {
        not_offered("no conditions on a query")
    }
}

/// A query by tag and type.
pub struct Wanted {
    pub tag: String,
    pub event_type: &'static str,
}

/// Why an engine cannot do a workload.
#[derive(Debug)]
pub struct NotOffered(pub &'static str);

impl fmt::Display for NotOffered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not offered: {}", self.0)
    }
}

impl std::error::Error for NotOffered {}

pub fn not_offered<T>(why: &'static str) -> Result<T> {
    Err(NotOffered(why).into())
}
