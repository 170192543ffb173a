//! Dead letters: the events that a consumer has given up.

use super::{Consumer, Outcome};
use crate::Event;
use crate::error::{Error, Result, told_by};
use crate::store::BindingFault;
use crate::store::progress::consumers::DeadLetterEntry;
use crate::time::Timestamp;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// An event that a consumer has given up.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The position of the event.
    pub position: u64,
    /// Number of attempts.
    pub attempts: u64,
    /// The reason of the last failure; at most 1,024 bytes of it.
    pub reason: String,
    /// When it was given up, by the clock of the store.
    pub time: Timestamp,
    /// The event; `None` if it can no longer be read, because its edition was deleted, its bytes
    /// are damaged, or the log does not have it.
    pub event: Option<Event>,
    /// Why the dead letter is not about an event of this log, for example because a backup was
    /// restored over the store. Such a dead letter can only be
    /// [dropped](Consumer::drop_dead_letter).
    pub fault: Option<BindingFault>,
}

/// The result of trying dead letters again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Retried {
    /// Number of events that are done, and no longer dead letters.
    pub handled: u64,
    /// Number of events on which the handler has failed again.
    pub failed: u64,
    /// Number of deleted events, whose dead letters were removed.
    pub gone: u64,
}

impl Consumer {
    /// Returns the dead letters of this consumer, in order of positions. It may be running; dead
    /// letters that are not [stored](Consumer::checkpoint_every) yet are not included.
    ///
    /// ```
    /// use annals::{Event, Expected, NewEvent, Outcome, Store, StreamId};
    /// let store = Store::in_memory();
    /// store.append(&StreamId::new("order", "1")?, Expected::Any, [NewEvent::new("Placed", "")])?;
    /// store.consumer("mailer").until_caught_up().run(|_: &Event| Outcome::Park("no address".into()))?;
    ///
    /// let mailer = store.consumer("mailer");
    /// let letter = &mailer.dead_letters()?[0];
    /// assert_eq!((letter.position, letter.attempts, letter.reason.as_str()), (0, 1, "no address"));
    /// assert_eq!(mailer.retry_dead_letters(|_: &Event| ())?.handled, 1);
    /// assert!(mailer.dead_letters()?.is_empty());
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// As for [`Positions`](crate::progress::Positions#errors).
    pub fn dead_letters(&self) -> Result<Vec<DeadLetter>> {
        let letters = self.store.dead_letters(&self.name)?.into_iter();
        let shown = letters.map(|(position, letter)| {
            let fault = self.store.letter_fault(position, &letter);
            let event = if fault.is_none() { self.store.event_at(position).ok().flatten() } else { None };
            let (attempts, reason, time) = (letter.attempts, letter.reason().to_owned(), letter.time);
            DeadLetter { position, attempts, reason, time: Timestamp::from_nanos(time), event, fault }
        });
        Ok(shown.collect())
    }

    /// Hands each dead letter to a handler again, in order of positions, in this thread;
    /// [`Outcome::Stop`] ends it. When this returns, events that are done are no longer dead
    /// letters; the others stay, with the new reason. Later events of their keys were handled
    /// before them. The consumer may be running.
    ///
    /// # Errors
    ///
    /// As for [`Positions`](crate::progress::Positions#errors) and
    /// [their flush](crate::progress::Positions::flush), and those of reading an event.
    /// [`Error::PositionAhead`], [`Error::Diverged`] for a dead letter whose event the log does not
    /// have: it stays, and the others are tried before the error is returned. What was done before
    /// the error is done, and counts again if it was not flushed.
    pub fn retry_dead_letters<O: Into<Outcome>>(&self, mut handler: impl FnMut(&Event) -> O) -> Result<Retried> {
        self.retry_all(self.store.dead_letters(&self.name)?, &mut |event| handler(event).into())
    }

    /// Does the same for one dead letter. Does nothing if there is none at this position.
    ///
    /// # Errors
    ///
    /// As [`Consumer::retry_dead_letters`].
    pub fn retry_dead_letter<O: Into<Outcome>>(
        &self,
        position: u64,
        mut handler: impl FnMut(&Event) -> O,
    ) -> Result<Retried> {
        let mut letters = self.store.dead_letters(&self.name)?;
        letters.retain(|(of, _)| *of == position);
        self.retry_all(letters, &mut |event| handler(event).into())
    }

    fn retry_all(
        &self,
        letters: Vec<(u64, DeadLetterEntry)>,
        handler: &mut dyn FnMut(&Event) -> Outcome,
    ) -> Result<Retried> {
        // Checked before the handler does something that could not be recorded.
        self.store.check_writable()?;
        let mut retried = Retried::default();
        let (mut tried, mut foreign) = (Ok(true), Ok(()));
        for (position, letter) in letters {
            match self.store.check_dead_letter(&self.name, position, &letter) {
                Err(parted @ (Error::PositionAhead { .. } | Error::Diverged { .. })) => {
                    foreign = foreign.and(Err(parted));
                    continue;
                }
                checked => tried = checked.map(|()| true),
            }
            if tried.is_err() {
                break;
            }
            tried = self.retry_one(position, &letter, handler, &mut retried);
            if !matches!(tried, Ok(true)) {
                break;
            }
        }
        self.store.checkpoints().flush().and(tried).and(foreign)?;
        Ok(retried)
    }

    fn retry_one(
        &self,
        position: u64,
        letter: &DeadLetterEntry,
        handler: &mut dyn FnMut(&Event) -> Outcome,
        retried: &mut Retried,
    ) -> Result<bool> {
        let Some(event) = self.store.event_at(position)? else {
            self.store.delete_dead_letter(&self.name, position)?;
            retried.gone += 1;
            return Ok(true);
        };
        let outcome = catch_unwind(AssertUnwindSafe(|| handler(&event)));
        match outcome.unwrap_or_else(|panic| Outcome::Retry(format!("the handler {}", told_by(&*panic)))) {
            Outcome::Ack => {
                self.store.delete_dead_letter(&self.name, position)?;
                retried.handled += 1;
            }
            Outcome::Retry(reason) | Outcome::Park(reason) => {
                let (now, recorded_at) = (self.store.now().as_nanos(), event.recorded_at().as_nanos());
                let again = DeadLetterEntry::new(letter.attempts + 1, now, recorded_at, &reason);
                self.store.put_dead_letter(&self.name, position, again)?;
                retried.failed += 1;
            }
            Outcome::Stop => return Ok(false),
        }
        Ok(true)
    }

    /// Removes a dead letter: the event counts as done. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// As for [`Positions`](crate::progress::Positions#errors) and [their
    /// flush](crate::progress::Positions::flush).
    pub fn drop_dead_letter(&self, position: u64) -> Result<bool> {
        let there = self.store.delete_dead_letter(&self.name, position)?;
        self.store.checkpoints().flush()?;
        Ok(there)
    }

    /// Removes all of them. Returns their number.
    ///
    /// # Errors
    ///
    /// As [`Consumer::drop_dead_letter`].
    pub fn drop_dead_letters(&self) -> Result<u64> {
        let mut dropped = 0;
        for (position, _) in self.store.dead_letters(&self.name)? {
            dropped += u64::from(self.store.delete_dead_letter(&self.name, position)?);
        }
        self.store.checkpoints().flush()?;
        Ok(dropped)
    }
}
