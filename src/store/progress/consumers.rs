//! The store's part of consumers: each name runs once, and checkpoint and dead letters change
//! together.

use super::checkpoints::checkpoint_of;
use crate::error::{Error, Result};
use crate::expected::ExpectedVersion;
use crate::format::event::Event;
use crate::format::positions_file::UNBOUND;
use crate::position::after;
use crate::store::{AsOf, BindingFault, Store};
use crate::stream::check_name;
use crate::time::Timestamp;
use std::collections::BTreeMap;

pub(crate) use crate::positions::DeadLetterEntry;

/// The right to run under a name, until it is dropped.
pub(crate) struct Claim {
    store: Store,
    name: String,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.store.inner.consuming.lock().remove(&self.name);
    }
}

/// The progress of a consumer since its last update.
pub(crate) struct CheckpointUpdate {
    /// All before this position is done, or a dead letter.
    pub next: u64,
    pub parked: Vec<(u64, DeadLetterEntry)>,
    /// Dead letters of events that are done.
    pub gone: Vec<u64>,
}

/// The stored checkpoint of a consumer.
#[derive(Clone, Copy, Default)]
pub(crate) struct StoredCheckpoint {
    /// All before this position is done.
    pub next: u64,
    /// 0 if there is no checkpoint.
    pub version: u64,
}

impl Store {
    /// # Errors
    ///
    /// [`Error::ConsumerRunning`], [`Error::ReadOnly`], [`Error::Closed`], and those of a name.
    pub(crate) fn claim_consumer(&self, name: &str) -> Result<Claim> {
        check_name("consumer", name)?;
        self.inner.positions.check_writable()?;
        if !self.inner.consuming.lock().insert(name.to_owned()) {
            return Err(Error::ConsumerRunning { name: name.to_owned() });
        }
        Ok(Claim { store: self.clone(), name: name.to_owned() })
    }

    pub(crate) fn is_consuming(&self, name: &str) -> bool {
        self.inner.consuming.lock().contains(name)
    }

    /// # Errors
    ///
    /// [`Error::PositionAhead`], [`Error::Diverged`] if the log does not have the event up to which
    /// all is done: then it is unknown what is done.
    pub(crate) fn kept(&self, name: &str) -> Result<Option<StoredCheckpoint>> {
        let Some(reached) = self.inner.checked_checkpoint(name)? else { return Ok(None) };
        // A number that was not a position when it was committed says nothing about later events.
        if reached.recorded_at == UNBOUND
            && let Some(parting) = self.inner.parting(reached.position, UNBOUND)?
        {
            return Err(parting.error(checkpoint_of(name), reached.position, UNBOUND));
        }
        // The log has the event there, so there is a next position.
        Ok(Some(StoredCheckpoint { next: after(reached.position), version: reached.version }))
    }

    /// Moves checkpoint and dead letters, and makes them durable, together, after the events that
    /// they are about.
    pub(crate) fn keep(
        &self,
        name: &str,
        kept: StoredCheckpoint,
        progress: CheckpointUpdate,
    ) -> Result<StoredCheckpoint> {
        let CheckpointUpdate { next, parked, gone } = progress;
        let to = next.checked_sub(1).filter(|_| next != kept.next);
        let to = to.map(|position| Ok((position, self.inner.bind(position)?))).transpose()?;
        let step = crate::positions::Step { to, expected: ExpectedVersion::Is(kept.version), parked, gone };
        let moved = self.inner.positions.advance(name, step)?;
        self.inner.positions.flush()?;
        Ok(StoredCheckpoint { next, version: moved.map_or(kept.version, |moved| moved.version) })
    }

    /// Moves the checkpoint anywhere, and makes that durable. Removes it if nothing is done.
    pub(crate) fn replace_checkpoint(&self, name: &str, next: u64) -> Result<()> {
        let positions = &self.inner.positions;
        match next.checked_sub(1) {
            Some(position) => {
                let to = (position, self.inner.bind(position)?);
                positions.commit(name, to, ExpectedVersion::Any, true)?;
            }
            None => _ = positions.delete_checkpoint(name)?,
        }
        positions.flush()
    }

    pub(crate) fn dead_letters(&self, name: &str) -> Result<Vec<(u64, DeadLetterEntry)>> {
        self.inner.positions.dead_letters(name)
    }

    pub(crate) fn count_dead_letters_of(&self, name: &str) -> Result<usize> {
        self.inner.positions.count_dead_letters_of(name)
    }

    pub(crate) fn count_dead_letters(&self) -> Result<BTreeMap<String, u64>> {
        self.inner.positions.count_dead_letters()
    }

    /// Returns why a dead letter is not about an event of this log, if it is not.
    pub(crate) fn letter_fault(&self, position: u64, letter: &DeadLetterEntry) -> Option<BindingFault> {
        self.inner.known_fault(position, letter.recorded_at)
    }

    /// Returns the same as an error.
    pub(crate) fn check_dead_letter(&self, name: &str, position: u64, letter: &DeadLetterEntry) -> Result<()> {
        if letter.recorded_at == UNBOUND {
            return Ok(());
        }
        let parting = self.inner.parting(position, letter.recorded_at)?;
        let what = || format!("a dead letter of {name}");
        parting.map_or(Ok(()), |parting| Err(parting.error(what(), position, letter.recorded_at)))
    }

    /// Writes dead letters that have changed, and deletes others. Durable after
    /// [`Checkpoints::flush`](crate::store::Checkpoints::flush).
    pub(crate) fn put_dead_letter(&self, name: &str, position: u64, letter: DeadLetterEntry) -> Result<()> {
        let (to, expected) = (None, ExpectedVersion::Any);
        let step = crate::positions::Step { to, expected, parked: vec![(position, letter)], gone: Vec::new() };
        self.inner.positions.advance(name, step).map(drop)
    }

    /// Returns whether there was one.
    pub(crate) fn delete_dead_letter(&self, name: &str, position: u64) -> Result<bool> {
        self.inner.positions.delete_dead_letter(name, position)
    }

    /// Returns the number of events that were recorded before a time.
    pub(crate) fn recorded_before(&self, time: Timestamp) -> Result<u64> {
        match time.as_nanos().checked_sub(1) {
            Some(before) => self.inner.position_after(AsOf::Time(Timestamp::from_nanos(before)), self.len()),
            None => Ok(0),
        }
    }

    /// Returns the number of events from this position on that a reader sees, in all editions.
    /// Reads one segment, and asks the index for the others.
    pub(crate) fn events_from(&self, next: u64) -> Result<u64> {
        self.ask(|store| {
            let (log, len) = (&store.inner.log, store.len());
            if next >= len {
                return Ok(0);
            }
            let segment = log.segment_at(next);
            let end = log.positions_of(segment).end.min(len);
            let mut count = 0;
            for event in store.read_all().from(next).to(end).over_gaps() {
                event?;
                count += 1;
            }
            Ok(count + store.inner.catalog.index.held_from(segment + 1)?.events)
        })
    }

    /// Returns the event at a position, of any edition. `None` if it is no longer visible.
    pub(crate) fn event_at(&self, position: u64) -> Result<Option<Event>> {
        let events = self.read_all().from(position).to(after(position));
        events.into_iter().next().transpose()
    }

    /// Returns the current time of the clock that events are recorded with.
    pub(crate) fn now(&self) -> Timestamp {
        self.inner.now()
    }
}
