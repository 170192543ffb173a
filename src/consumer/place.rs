//! Where a consumer continues.

use super::Consumer;
use crate::error::Result;
use crate::position;
use crate::store::{Checkpoint, Store};
use crate::time::Timestamp;
use std::collections::BTreeMap;

/// Where a consumer continues: see [`Consumer::reset_to`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reset {
    /// As if it had never run.
    Start,
    /// After this position: the event there and all before it count as done.
    After(u64),
    /// With the first event that was recorded at this time or later.
    At(Timestamp),
    /// After all existing events.
    Now,
}

/// What the store knows of a consumer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerInfo {
    /// Its name.
    pub name: String,
    /// Its checkpoint; `None` if it has stored none.
    pub checkpoint: Option<Checkpoint>,
    /// Number of events after its checkpoint that a reader sees, in all editions. The store does
    /// not know which of them match its query; a consumer that ends caught up has advanced over all
    /// of them, so that this is 0. While it runs, its checkpoint moves only with matching events:
    /// [`Control::lag`](crate::consumer::Control::lag) returns its lag.
    pub behind: u64,
    /// Number of its dead letters.
    pub dead_letters: u64,
    /// Whether it is running in this process, with this store.
    pub running: bool,
}

impl Store {
    /// Returns all consumers that have a checkpoint or dead letters, sorted by name. A checkpoint
    /// that was not made by a [`Consumer`] counts.
    ///
    /// # Errors
    ///
    /// As for [`Positions`](crate::progress::Positions#errors), and those of reading events.
    pub fn consumers(&self) -> Result<Vec<ConsumerInfo>> {
        let mut found: BTreeMap<String, (Option<Checkpoint>, u64)> = BTreeMap::new();
        for checkpoint in self.checkpoints().list()? {
            found.insert(checkpoint.name.clone(), (Some(checkpoint), 0));
        }
        for (name, count) in self.count_dead_letters()? {
            found.entry(name).or_default().1 = count;
        }
        let info = |(name, (checkpoint, dead_letters)): (String, (Option<Checkpoint>, _))| {
            let next = position::after(checkpoint.as_ref().map(|checkpoint| checkpoint.position));
            let (running, behind) = (self.is_consuming(&name), self.events_from(next)?);
            Ok(ConsumerInfo { name, checkpoint, behind, dead_letters, running })
        };
        found.into_iter().map(info).collect()
    }
}

impl Consumer {
    /// Moves the checkpoint, forwards or backwards, and makes that durable. Dead letters stay,
    /// until their events are handled. Returns the position up to which everything now counts as
    /// done.
    ///
    /// ```
    /// use annals::consumer::Reset;
    /// use annals::{Event, Expected, NewEvent, Store, StreamId};
    /// let store = Store::in_memory();
    /// let order = StreamId::new("order", "1")?;
    /// store.append(&order, Expected::Any, ["Placed", "Paid"].map(|of| NewEvent::new(of, "")))?;
    /// let run = || store.consumer("mailer").until_caught_up().run(|_: &Event| ());
    /// assert_eq!((run()?.handled, run()?.handled), (2, 0));
    /// assert_eq!(store.consumer("mailer").reset_to(Reset::After(0))?, Some(0));
    /// assert_eq!(run()?.handled, 1);
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::ConsumerRunning`](crate::Error::ConsumerRunning) while it runs,
    /// [`Error::Invalid`](crate::Error::Invalid) for a position after the end of the store, and
    /// those of [`Checkpoints`](crate::progress::Checkpoints) and of
    /// [their flush](crate::progress::Checkpoints::flush).
    pub fn reset_to(&self, reset: Reset) -> Result<Option<u64>> {
        let _claim = self.store.claim_consumer(&self.name)?;
        let len = self.store.len();
        let next = match reset {
            Reset::Start => 0,
            Reset::Now => len,
            Reset::At(time) => self.store.recorded_before(time)?,
            Reset::After(position) if position < len => position + 1,
            Reset::After(position) => {
                let why = format!("there is no position {position}: the store has {len} events, from 0 on");
                return Err(crate::Error::invalid("position", why));
            }
        };
        self.store.replace_checkpoint(&self.name, next)?;
        Ok(next.checked_sub(1))
    }
}
