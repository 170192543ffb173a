//! Consumer checkpoints: the position of each consumer in the whole store.

use super::bindings::time;
use crate::error::Result;
use crate::expected::ExpectedVersion;
use crate::format::positions_file::UNBOUND;
use crate::positions::{BindingFault, CheckpointEntry};
use crate::store::{Inner, Store};
use crate::time::Timestamp;
use std::sync::Arc;

/// Checkpoints of consumers: a position and a version for each name. From [`Store::checkpoints`].
///
/// A consumer reads events in order of positions, as a subscription does. It commits the position
/// up to which, included, it has handled everything, and expects the version that it has last seen:
/// if another consumer works under the same name by mistake, one of the two gets
/// [`Error::CheckpointConflict`](crate::Error::CheckpointConflict) before any harm is done.
///
/// Checkpoints are in the same file as [handler positions](Store::positions), and become durable in
/// the same way: by [`Checkpoints::flush`], when the store is closed, or, with
/// [`Options::sync_positions`](crate::Options::sync_positions), before a commit returns. A
/// checkpoint that was committed but not flushed is gone after a crash, and its version may then be
/// assigned again.
///
/// # Bound to events
///
/// A checkpoint is kept with the time at which the event at its position was recorded. If a backup
/// is restored over the store, the log ends earlier, and other events then get the positions of the
/// missing ones: the checkpoint is refused with
/// [`Error::PositionAhead`](crate::Error::PositionAhead) or
/// [`Error::Diverged`](crate::Error::Diverged), until it is [reset](Checkpoints::reset) or
/// [deleted](Checkpoints::delete). [`Store::open_report`] has a notice of it. Two events that were
/// recorded in the same nanosecond are not told apart. A position after the end of the log can be
/// committed, but is not bound: it is returned as it is, and a [`Consumer`](crate::Consumer)
/// refuses it.
///
/// ```
/// use annals::progress::ExpectedVersion;
/// use annals::{Error, Store};
/// let store = Store::in_memory();
/// let checkpoints = store.checkpoints();
/// assert_eq!(checkpoints.get("mailer")?, None);
/// let first = checkpoints.commit("mailer", 41, ExpectedVersion::Missing)?;
/// assert_eq!((first.position, first.version), (41, 1));
/// let second = checkpoints.commit("mailer", 97, ExpectedVersion::Is(first.version))?;
/// checkpoints.flush()?;
/// assert_eq!(checkpoints.get("mailer")?, Some(second));
///
/// let back = checkpoints.commit("mailer", 12, ExpectedVersion::Any);
/// assert!(matches!(back, Err(Error::Invalid { .. })), "only a reset goes back");
/// # Ok::<(), Error>(())
/// ```
///
/// # Limits
///
/// A name has 1 to 255 bytes.
///
/// # Errors
///
/// As for [`Positions`](crate::progress::Positions#errors).
#[derive(Clone, Debug)]
pub struct Checkpoints {
    store: Store,
}

/// The checkpoint of a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checkpoint {
    /// The name of the consumer.
    pub name: String,
    /// All events up to this position, included, are done.
    pub position: u64,
    /// 1 for the first commit, and one more for each commit or reset after it.
    pub version: u64,
    /// When the event at this position was recorded; `None` if there was none when it was
    /// committed.
    pub recorded_at: Option<Timestamp>,
    /// Why it is not about an event of this log. Only [`Checkpoints::list`] and
    /// [`Store::consumers`] return such checkpoints.
    pub fault: Option<BindingFault>,
}

impl Checkpoint {
    fn new(name: impl Into<String>, reached: CheckpointEntry) -> Self {
        let CheckpointEntry { position, version, recorded_at, .. } = reached;
        Checkpoint { name: name.into(), position, version, recorded_at: time(recorded_at), fault: None }
    }
}

/// The name that errors use.
pub(crate) fn checkpoint_of(name: &str) -> String {
    format!("the checkpoint of {name}")
}

impl Inner {
    /// Returns the checkpoint of this name. If it is bound to an event, the log must have that
    /// event.
    pub(crate) fn checked_checkpoint(self: &Arc<Self>, name: &str) -> Result<Option<CheckpointEntry>> {
        let Some(reached) = self.positions.checkpoint(name)? else { return Ok(None) };
        if reached.recorded_at != UNBOUND && !reached.checked {
            if let Some(parting) = self.parting(reached.position, reached.recorded_at)? {
                return Err(parting.error(checkpoint_of(name), reached.position, reached.recorded_at));
            }
            self.positions.set_checkpoint_checked(name, reached)?;
        }
        Ok(Some(reached))
    }
}

impl Store {
    /// Returns the checkpoints of consumers.
    pub fn checkpoints(&self) -> Checkpoints {
        Checkpoints { store: self.clone() }
    }
}

impl Checkpoints {
    fn inner(&self) -> &Arc<Inner> {
        &self.store.inner
    }

    /// Returns the checkpoint of this name, or `None` if none has been committed.
    ///
    /// # Errors
    ///
    /// * [`Error::PositionAhead`](crate::Error::PositionAhead),
    ///   [`Error::Diverged`](crate::Error::Diverged) if the log does not have its event;
    /// * as for [`Positions`](crate::progress::Positions#errors).
    pub fn get(&self, name: &str) -> Result<Option<Checkpoint>> {
        Ok(self.inner().checked_checkpoint(name)?.map(|reached| Checkpoint::new(name, reached)))
    }

    /// Commits that the consumer is done with all events up to this position, included. The
    /// position may be the current one, so that only the version rises.
    ///
    /// # Errors
    ///
    /// * [`Error::CheckpointConflict`](crate::Error::CheckpointConflict) if the version is not as
    ///   expected;
    /// * [`Error::Invalid`](crate::Error::Invalid) if the position is before the current one: a
    ///   consumer that goes back by mistake is faulty, and one that goes back on purpose calls
    ///   [`Checkpoints::reset`];
    /// * [`Error::PositionAhead`](crate::Error::PositionAhead),
    ///   [`Error::Diverged`](crate::Error::Diverged) if the log does not have the event of the
    ///   current checkpoint; those of reading the event at the position;
    /// * as for [`Positions`](crate::progress::Positions#errors).
    pub fn commit(&self, name: &str, position: u64, expected: ExpectedVersion) -> Result<Checkpoint> {
        let inner = self.inner();
        inner.positions.check_writable()?;
        inner.checked_checkpoint(name)?;
        let reached = inner.positions.commit(name, (position, inner.bind(position)?), expected, false)?;
        Ok(Checkpoint::new(name, reached))
    }

    /// Moves the checkpoint to any position, whatever its version, so that a consumer sees events
    /// again. The version rises, so that a running consumer notices. To begin with the very first
    /// event, [delete](Checkpoints::delete) the checkpoint.
    ///
    /// # Errors
    ///
    /// As for [`Positions`](crate::progress::Positions#errors), and those of reading the event at
    /// the position.
    pub fn reset(&self, name: &str, position: u64) -> Result<Checkpoint> {
        let inner = self.inner();
        let to = (position, inner.bind(position)?);
        let reached = inner.positions.commit(name, to, ExpectedVersion::Any, true)?;
        Ok(Checkpoint::new(name, reached))
    }

    /// Returns all checkpoints, sorted by name, including those that are not about events of this
    /// log, which have a [fault](Checkpoint::fault).
    ///
    /// # Errors
    ///
    /// As for [`Positions`](crate::progress::Positions#errors).
    pub fn list(&self) -> Result<Vec<Checkpoint>> {
        let shown = |(name, reached): (String, CheckpointEntry)| {
            let known = if reached.checked { None } else { Some((reached.position, reached.recorded_at)) };
            let fault = known.and_then(|(position, recorded_at)| self.inner().known_fault(position, recorded_at));
            Checkpoint { fault, ..Checkpoint::new(name, reached) }
        };
        Ok(self.inner().positions.checkpoints()?.into_iter().map(shown).collect())
    }

    /// Deletes the checkpoint. Returns whether there was one. Versions begin with 1 again.
    ///
    /// # Errors
    ///
    /// As for [`Positions`](crate::progress::Positions#errors).
    pub fn delete(&self, name: &str) -> Result<bool> {
        self.inner().positions.delete_checkpoint(name)
    }

    /// Makes all changes before the call durable, as
    /// [`Positions::flush`](crate::progress::Positions::flush) does.
    ///
    /// # Errors
    ///
    /// As for [`Positions::flush`](crate::progress::Positions::flush).
    pub fn flush(&self) -> Result<()> {
        self.inner().positions.flush()
    }
}
