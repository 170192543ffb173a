//! Consumer checkpoints: how far each consumer has come in the whole store.

use super::{Inner, Store};
use crate::error::Result;
use crate::expected::ExpectedVersion;
use crate::positions::Reached;

/// How far consumers have come in the store: a position and a version for each name. From [`Store::checkpoints`].
///
/// A consumer is whoever reads events in order of positions, such as a subscription. It commits the position up to and including which it has handled everything, and expects the version that it has seen
/// last: should another one work under the same name by mistake, one of the two finds out, by [`Error::CheckpointConflict`](crate::Error::CheckpointConflict), before anything is mixed up.
///
/// They stand in the same file as [handler positions](Store::positions), and become durable as those do: by [`Checkpoints::flush`], when the store is closed, or, with
/// [`Options::sync_positions`](crate::Options::sync_positions), before a commit returns. What was committed and not flushed is gone after a crash, and its version may then be given to another
/// commit.
///
/// ```
/// use annals::{Error, ExpectedVersion, Store};
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
/// As for [`Positions`](crate::Positions#errors).
#[derive(Clone, Debug)]
pub struct Checkpoints {
    store: Store,
}

/// How far a consumer has come.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checkpoint {
    /// The name of the consumer.
    pub name: String,
    /// All events up to and including the one at this position are done.
    pub position: u64,
    /// 1 for the first commit, and one more for each commit or reset after it.
    pub version: u64,
}

impl Checkpoint {
    fn new(name: impl Into<String>, reached: Reached) -> Self {
        Checkpoint { name: name.into(), position: reached.position, version: reached.version }
    }
}

impl Store {
    /// How far consumers have come in the store.
    pub fn checkpoints(&self) -> Checkpoints {
        Checkpoints { store: self.clone() }
    }
}

impl Checkpoints {
    fn inner(&self) -> &Inner {
        &self.store.inner
    }

    /// The checkpoint of this name, or `None` if nothing was committed yet.
    ///
    /// # Errors
    ///
    /// As for [`Positions`](crate::Positions#errors).
    pub fn get(&self, name: &str) -> Result<Option<Checkpoint>> {
        Ok(self.inner().positions.checkpoint(name)?.map(|reached| Checkpoint::new(name, reached)))
    }

    /// Says that the consumer is done with all events up to and including the one at this position. The position may be the one it has, so that the version alone rises.
    ///
    /// # Errors
    ///
    /// * [`Error::CheckpointConflict`](crate::Error::CheckpointConflict) if the version is not as expected;
    /// * [`Error::Invalid`](crate::Error::Invalid) if the position is before the one it has: a consumer that goes back without meaning to has gone wrong, and one that means to calls
    ///   [`Checkpoints::reset`];
    /// * as for [`Positions`](crate::Positions#errors).
    pub fn commit(&self, name: &str, position: u64, expected: ExpectedVersion) -> Result<Checkpoint> {
        let reached = self.inner().positions.commit(name, position, expected, false)?;
        Ok(Checkpoint::new(name, reached))
    }

    /// Moves the checkpoint to any position, whatever its version: for a consumer that is to see events again. The version rises, so that a consumer that is at work finds out. To begin with the
    /// very first event, [delete](Checkpoints::delete) it.
    ///
    /// # Errors
    ///
    /// As for [`Positions`](crate::Positions#errors).
    pub fn reset(&self, name: &str, position: u64) -> Result<Checkpoint> {
        let reached = self.inner().positions.commit(name, position, ExpectedVersion::Any, true)?;
        Ok(Checkpoint::new(name, reached))
    }

    /// All checkpoints, sorted by name.
    ///
    /// # Errors
    ///
    /// As for [`Positions`](crate::Positions#errors).
    pub fn list(&self) -> Result<Vec<Checkpoint>> {
        let all = self.inner().positions.checkpoints()?;
        Ok(all.into_iter().map(|(name, reached)| Checkpoint::new(name, reached)).collect())
    }

    /// Forgets the checkpoint. Gives whether there was one. Versions begin with 1 again.
    ///
    /// # Errors
    ///
    /// As for [`Positions`](crate::Positions#errors).
    pub fn delete(&self, name: &str) -> Result<bool> {
        self.inner().positions.delete_checkpoint(name)
    }

    /// Makes all changes before the call durable, as [`Positions::flush`](crate::Positions::flush) does.
    ///
    /// # Errors
    ///
    /// As for [`Positions::flush`](crate::Positions::flush).
    pub fn flush(&self) -> Result<()> {
        self.inner().positions.flush()
    }
}
