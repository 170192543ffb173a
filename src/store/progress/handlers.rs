//! Handler positions: the sequence that each handler has reached in each stream.

use super::bindings::{Parting, time};
use crate::error::Result;
use crate::positions::{BindingFault, Sequence};
use crate::store::{Inner, Store};
use crate::stream::StreamId;
use crate::time::Timestamp;

/// Positions of handlers: a sequence for each handler and stream, beside the log. From
/// [`Store::positions`].
///
/// A handler processes the events of many streams, each stream separately, as a projector or a
/// process manager does. It looks up the sequence of the last event that it has handled in a
/// stream, handles what follows, and puts the new sequence. Without a put there is no position:
/// that is not the same as 0, which says that the first event is handled.
///
/// Changes are made in memory, and cost a lookup of the event, which takes a few microseconds. They
/// become durable by [`Positions::flush`] and when the store is closed; a crash loses at most the
/// changes since the last flush, so that a handler may see events again, but never misses any. With
/// [`Options::sync_positions`](crate::Options::sync_positions) each change is flushed before the
/// call returns; an error of the flush is then returned by the change, which is nevertheless made
/// in memory.
///
/// The first call reads the file `POSITIONS`; opening a store reads it only if it has at most 1
/// MiB, for its notices. Calls may come from any thread.
///
/// # Bound to events
///
/// A position is kept with the time at which its event was recorded. If a backup is restored over
/// the store, the stream ends earlier, and other events then get the sequences of the missing ones:
/// the position is refused with [`Error::PositionAhead`](crate::Error::PositionAhead) or
/// [`Error::Diverged`](crate::Error::Diverged), until it is [reset](Positions::reset) or
/// [deleted](Positions::delete). So is a position in a named edition whose stream has since
/// diverged below its event. [`Store::open_report`] has a notice of it, unless the file is long. A
/// sequence that the stream does not have can be put, but is not bound to anything.
///
/// ```
/// use annals::{Store, StreamId};
/// let dir = tempfile::tempdir()?;
/// let order = StreamId::new("order", "123")?;
/// let store = Store::open(dir.path())?;
/// let positions = store.positions();
/// assert_eq!(positions.get("billing", &order)?, None);
/// assert!(positions.put("billing", &order, 7)?);
/// assert!(!positions.put("billing", &order, 5)?, "it never goes back");
/// positions.flush()?;
/// assert_eq!(positions.get("billing", &order)?, Some(7));
/// assert!(positions.get("", &order).is_err());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
///
/// # Limits
///
/// The name of a handler has 1 to 255 bytes. A position takes less than 100 bytes of memory if the
/// root of its stream has up to 24, and all positions are in memory.
///
/// # Errors
///
/// Calls that use a position, [`Positions::get`] and [`Positions::put`]:
/// [`Error::PositionAhead`](crate::Error::PositionAhead),
/// [`Error::Diverged`](crate::Error::Diverged) if the log does not have its event, and those of
/// reading the event. All calls: [`Error::Damaged`](crate::Error::Damaged) if the file is not
/// intact (the store works without it: move it away to begin again, or restore it from a backup),
/// [`Error::UnsupportedFormat`](crate::Error::UnsupportedFormat), [`Error::Io`](crate::Error::Io)
/// if it cannot be read, [`Error::LimitExceeded`](crate::Error::LimitExceeded) and
/// [`Error::Invalid`](crate::Error::Invalid) for the name of the handler. Changes:
/// [`Error::Closed`](crate::Error::Closed), [`Error::ReadOnly`](crate::Error::ReadOnly).
#[derive(Clone, Debug)]
pub struct Positions {
    store: Store,
}

/// A handler, and the number of streams in which it has a position.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandlerInfo {
    /// Its name.
    pub name: String,
    /// Number of streams.
    pub streams: u64,
}

/// The position of a handler in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandlerPosition {
    /// The stream.
    pub stream: StreamId,
    /// The sequence that the handler has put.
    pub sequence: u64,
    /// When the event with this sequence was recorded; `None` if there was none when it was put.
    pub recorded_at: Option<Timestamp>,
    /// Why it is not about an event of this log. Only [`Positions::list`] returns such positions.
    pub fault: Option<BindingFault>,
}

impl Store {
    /// Returns the positions of handlers.
    pub fn positions(&self) -> Positions {
        Positions { store: self.clone() }
    }
}

impl Inner {
    /// Returns which of the successive editions of this name the stream is in: positions of a
    /// deleted edition are not those of its successor.
    pub(crate) fn epoch(&self, stream: &StreamId) -> u64 {
        match stream.edition() {
            None => 0,
            Some(_) => self.catalog.index.deletions().of_key(stream.key()).position,
        }
    }
}

impl Positions {
    fn inner(&self) -> &Inner {
        &self.store.inner
    }

    /// Returns the stored position of a stream, if the log has its event.
    fn checked(&self, handler: &str, stream: &StreamId, epoch: u64) -> Result<Option<Sequence>> {
        let positions = &self.inner().positions;
        let Some(of) = positions.get(handler, stream, epoch)? else { return Ok(None) };
        if let Some(parting) = self.store.sequence_parting(stream, of)? {
            let what = format!("the position of handler {handler} in {stream}");
            return Err(parting.error(what, of.sequence, of.recorded_at));
        }
        if !of.checked {
            positions.set_checked(handler, stream, epoch, of)?;
        }
        Ok(Some(of))
    }

    /// Returns the sequence that the handler has put for this stream, or `None` if it has put none.
    ///
    /// # Errors
    ///
    /// See [`Positions`](Positions#errors).
    pub fn get(&self, handler: &str, stream: &StreamId) -> Result<Option<u64>> {
        Ok(self.checked(handler, stream, self.inner().epoch(stream))?.map(|of| of.sequence))
    }

    /// Puts the sequence that the handler has reached. A sequence that is not higher than the
    /// stored one is ignored. Returns whether it was higher, or the first.
    ///
    /// # Errors
    ///
    /// See [`Positions`](Positions#errors).
    pub fn put(&self, handler: &str, stream: &StreamId, sequence: u64) -> Result<bool> {
        let (positions, epoch) = (&self.inner().positions, self.inner().epoch(stream));
        positions.check_writable()?;
        // A position of another log is not compared with.
        if self.checked(handler, stream, epoch)?.is_some_and(|of| of.sequence >= sequence) {
            return Ok(false);
        }
        positions.put(handler, stream, epoch, (sequence, self.store.bind_sequence(stream, sequence)?))
    }

    /// Puts a sequence that may be lower than the stored one, so that a handler sees events again.
    /// To begin with the very first event, [delete](Positions::delete) the position.
    ///
    /// # Errors
    ///
    /// See [`Positions`](Positions#errors).
    pub fn reset(&self, handler: &str, stream: &StreamId, sequence: u64) -> Result<()> {
        let bound = (sequence, self.store.bind_sequence(stream, sequence)?);
        self.inner().positions.reset(handler, stream, self.inner().epoch(stream), bound)
    }

    /// Deletes the position of the handler in this stream. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// See [`Positions`](Positions#errors).
    pub fn delete(&self, handler: &str, stream: &StreamId) -> Result<bool> {
        self.inner().positions.delete(handler, stream, self.inner().epoch(stream))
    }

    /// Deletes all positions of the handler, in all editions. Returns their number. Examines all
    /// positions.
    ///
    /// # Errors
    ///
    /// See [`Positions`](Positions#errors).
    pub fn delete_handler(&self, handler: &str) -> Result<u64> {
        self.inner().positions.delete_handler(handler)
    }

    /// Returns all positions of the handler, sorted by stream, including those that are not about
    /// events of this log, which have a [fault](HandlerPosition::fault). Examines all positions,
    /// and looks up the events of those that have not been used since the store was opened.
    ///
    /// ```
    /// use annals::{Store, StreamId};
    /// let store = Store::in_memory();
    /// for root in ["2", "1"] {
    ///     store.positions().put("billing", &StreamId::new("order", root)?, 3)?;
    /// }
    /// let listed = store.positions().list("billing")?;
    /// let listed: Vec<_> = listed.iter().map(|of| (of.stream.to_string(), of.sequence)).collect();
    /// assert_eq!(listed, [("order-1".into(), 3), ("order-2".into(), 3)]);
    /// assert_eq!(store.positions().handlers()?[0].streams, 2);
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// See [`Positions`](Positions#errors).
    pub fn list(&self, handler: &str) -> Result<Vec<HandlerPosition>> {
        let inner = self.inner();
        let all = inner.positions.list(handler)?.into_iter();
        let current = all.filter(|(stream, epoch, _)| stream.edition().is_none() || inner.epoch(stream) == *epoch);
        let shown = |(stream, _, of): (StreamId, u64, Sequence)| {
            let fault = self.store.sequence_parting(&stream, of).ok().flatten().map(Parting::fault);
            HandlerPosition { stream, sequence: of.sequence, recorded_at: time(of.recorded_at), fault }
        };
        let mut listed: Vec<_> = current.map(shown).collect();
        listed.sort_unstable_by(|a, b| a.stream.cmp(&b.stream));
        Ok(listed)
    }

    /// Returns all handlers that have positions, sorted by name. Examines all positions.
    ///
    /// # Errors
    ///
    /// See [`Positions`](Positions#errors).
    pub fn handlers(&self) -> Result<Vec<HandlerInfo>> {
        let inner = self.inner();
        let handlers = inner.positions.handlers(|stream, epoch| inner.epoch(stream) == epoch)?;
        Ok(handlers.into_iter().map(|(name, streams)| HandlerInfo { name, streams }).collect())
    }

    /// Makes all changes before the call durable, including those of
    /// [checkpoints](Store::checkpoints). Blocks for a write and a sync, which threads that flush
    /// at the same time share; later changes are made meanwhile, and wait for the next flush. From
    /// time to time the file is rewritten, so that it does not grow without end.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if it could not be written or synced. Nothing is lost in
    /// memory, and what was durable before still is: flush again once the cause is gone.
    /// [`Error::Closed`](crate::Error::Closed) if something was changed and the store has been
    /// closed in the meantime.
    pub fn flush(&self) -> Result<()> {
        self.inner().positions.flush()
    }
}
