//! Bindings: whether a position, checkpoint or dead letter is about an event of this log. A
//! position is only a number: when a backup is restored over a store, or unsynced events are lost,
//! other events get the numbers of the missing ones. The recorded time of an event tells the two
//! apart.

use crate::error::{Error, Result};
use crate::format::event::Event;
use crate::format::positions_file::UNBOUND;
use crate::positions::{BindingFault, Bound, Sequence};
use crate::store::{Inner, Store};
use crate::stream::StreamId;
use crate::system::System;
use crate::time::Timestamp;
use std::sync::Arc;

/// How a binding differs from the log.
#[derive(Clone, Copy)]
pub(crate) enum Parting {
    /// No event has this number yet: the next one is this.
    Ahead(u64),
    /// The event with this number was recorded at this other time.
    Diverged(i64),
}

impl Parting {
    pub(crate) fn fault(self) -> BindingFault {
        match self {
            Parting::Ahead(_) => BindingFault::Ahead,
            Parting::Diverged(_) => BindingFault::Diverged,
        }
    }

    pub(crate) fn error(self, what: String, position: u64, recorded_at: i64) -> Error {
        match self {
            Parting::Ahead(end) => Error::PositionAhead { what, position, end },
            Parting::Diverged(found) => {
                let (recorded_at, found) = (time(recorded_at), Timestamp::from_nanos(found));
                Error::Diverged { what, position, recorded_at, found }
            }
        }
    }
}

/// `None` if it is not bound.
pub(crate) fn time(recorded_at: i64) -> Option<Timestamp> {
    (recorded_at != UNBOUND).then(|| Timestamp::from_nanos(recorded_at))
}

impl Inner {
    /// Returns the record at a position, of any kind; `None` after the end.
    fn record_at(self: &Arc<Self>, position: u64) -> Result<Option<Event>> {
        if position >= self.log.watermark() {
            return Ok(None);
        }
        self.log.forwards(position..position + 1).next()
    }

    /// Returns the binding of a position to its event. A position after the end of the log is not
    /// bound.
    pub(crate) fn bind(self: &Arc<Self>, position: u64) -> Result<i64> {
        Ok(self.record_at(position)?.map_or(UNBOUND, |event| event.recorded_at().as_nanos()))
    }

    /// Returns how a position differs from the log, if it does. If its event is lost, it does not:
    /// no other event has its number.
    pub(crate) fn parting(self: &Arc<Self>, position: u64, recorded_at: i64) -> Result<Option<Parting>> {
        let Some(event) = self.record_at(position)? else { return Ok(Some(Parting::Ahead(self.log.watermark()))) };
        let found = event.recorded_at().as_nanos();
        let holds = found == recorded_at || System::of(event.key()) == Some(System::Lost);
        Ok((!holds).then_some(Parting::Diverged(found)))
    }

    /// Returns the same for a notice or a list: an entry that is not bound, or cannot be read, does
    /// not count as different.
    pub(crate) fn known_fault(self: &Arc<Self>, position: u64, recorded_at: i64) -> Option<BindingFault> {
        let bound = recorded_at != UNBOUND;
        let parting = bound.then(|| self.parting(position, recorded_at)).and_then(Result::ok);
        parting.flatten().map(Parting::fault)
    }
}

impl Store {
    /// Returns the event of a stream with exactly this sequence: if it is lost, a read would return
    /// the next one.
    pub(crate) fn event_of(&self, stream: &StreamId, sequence: u64) -> Result<Option<Event>> {
        Ok(self.event_from(stream, sequence)?.filter(|event| event.sequence() == sequence))
    }

    fn event_from(&self, stream: &StreamId, sequence: u64) -> Result<Option<Event>> {
        self.read(stream).from(sequence).limit(1).over_gaps().into_iter().next().transpose()
    }

    /// Returns the binding of a sequence of a stream to its event.
    pub(crate) fn bind_sequence(&self, stream: &StreamId, sequence: u64) -> Result<i64> {
        Ok(self.event_of(stream, sequence)?.map_or(UNBOUND, |event| event.recorded_at().as_nanos()))
    }

    /// Returns how a sequence of a stream differs from the log: in a named edition, also because
    /// the stream has since diverged below it.
    pub(crate) fn sequence_parting(&self, stream: &StreamId, of: Sequence) -> Result<Option<Parting>> {
        if of.recorded_at == UNBOUND || (of.checked && stream.edition().is_none()) {
            return Ok(None);
        }
        Ok(match self.event_from(stream, of.sequence)? {
            None => Some(Parting::Ahead(self.inner.next_sequence(stream)?)),
            Some(event) => {
                let found = event.recorded_at().as_nanos();
                let holds = match event.sequence() == of.sequence {
                    true => found == of.recorded_at,
                    // A lost event has left a gap, and no other event has its sequence.
                    false => !self.is_of_main(stream, of)?,
                };
                (!holds).then_some(Parting::Diverged(found))
            }
        })
    }

    /// Returns whether the event that an entry of a named edition is bound to is an event of the
    /// main edition that still exists. If the stream has a gap at its sequence, it has diverged
    /// below, and lost another event.
    fn is_of_main(&self, stream: &StreamId, of: Sequence) -> Result<bool> {
        let Some(main) = stream.in_main() else { return Ok(false) };
        let event = self.event_of(&main, of.sequence)?;
        Ok(event.is_some_and(|event| event.recorded_at().as_nanos() == of.recorded_at))
    }

    /// Returns whether the log reaches a position, and, if the time is known, whether its event was
    /// recorded then.
    pub(crate) fn check_place(&self, what: &str, position: u64, recorded_at: Option<Timestamp>) -> Result<()> {
        let recorded_at = recorded_at.map_or(UNBOUND, Timestamp::as_nanos);
        match self.inner.parting(position, recorded_at)? {
            Some(Parting::Diverged(_)) if recorded_at == UNBOUND => Ok(()),
            Some(parting) => Err(parting.error(what.to_owned(), position, recorded_at)),
            None => Ok(()),
        }
    }

    /// Returns the notices of an open about checkpoints, positions and dead letters that are not
    /// about events of this log. Checks the newest entries: histories that agree there agree below.
    pub(crate) fn binding_notices(&self) -> Vec<String> {
        let newest = self.inner.positions.newest();
        let mut notices = Vec::new();
        let mut note = |bound: Bound<'_>, fault: Option<BindingFault>| {
            notices.extend(fault.map(|fault| bound.notice(fault, 0)));
        };
        for (name, of) in newest.checkpoints {
            let fault = self.inner.known_fault(of.position, of.recorded_at);
            note(Bound::Checkpoint { name: &name, position: of.position }, fault);
        }
        for (name, position, recorded_at) in newest.letters {
            let fault = self.inner.known_fault(position, recorded_at);
            note(Bound::DeadLetter { name: &name, position }, fault);
        }
        if let Some((handler, stream, epoch, of)) = newest.position
            && self.inner.epoch(&stream) == epoch
        {
            let fault = self.sequence_parting(&stream, of).ok().flatten().map(Parting::fault);
            note(Bound::Position { handler: &handler, stream: &stream, sequence: of.sequence }, fault);
        }
        notices
    }
}
