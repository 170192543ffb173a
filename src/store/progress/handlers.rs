//! Handler positions: how far each handler has come in each stream.

use super::bindings::{Parting, time};
use crate::error::Result;
use crate::positions::{BindingFault, Sequence};
use crate::store::{Inner, Store};
use crate::stream::StreamId;
use crate::time::Timestamp;

/// How far handlers have come: a sequence for each handler and stream, beside the log. From
/// [`Store::positions`].
///
/// A handler does something with the events of many streams, each on its own, as a projector or a
/// process manager does. It looks up the sequence of the last event that it has handled in
/// a stream, handles what follows, and puts the new one. There is none until it has put one: that
/// is not the same as 0, which says that the first event is handled.
///
/// Changes are made in memory, and cost a lookup of the event, which takes a microsecond or a few.
/// They become durable by [`Positions::flush`] and when the store is closed; a crash takes at most
/// what came after the last flush, so that a handler may see events again, and never too few. With
/// [`Options::sync_positions`](crate::Options::sync_positions) each change is flushed before the
/// call returns, and the errors of a flush are then those of the change, which stands in memory all
/// the same.
///
/// The first call reads the file that keeps them, `POSITIONS`; opening a store only looks at one of
/// up to 1 MiB, for its notices. Calls may come from any thread.
///
/// # Bound to events
///
/// A position is kept with the time at which its event was recorded. If a backup is put back over
/// the store, the stream ends earlier, and then other events take the sequences of those that are
/// gone: the position is then refused, with [`Error::PositionAhead`](crate::Error::PositionAhead)
/// or [`Error::Diverged`](crate::Error::Diverged), until it is [reset](Positions::reset) or
/// [deleted](Positions::delete). So is one in a named edition whose stream has diverged since below
/// its event. [`Store::open_report`] has a notice of it, unless the file is long. A sequence that
/// the stream does not have can be put, and is only a number that nothing is compared with.
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
/// The name of a handler has 1 to 255 bytes. A position takes less than 100 bytes of memory if its
/// root has up to 24, and all of them are in memory.
///
/// # Errors
///
/// Those that use a position, [`Positions::get`] and [`Positions::put`]:
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

/// A handler, and in how many streams it has a position.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandlerInfo {
    /// Its name.
    pub name: String,
    /// Number of streams.
    pub streams: u64,
}

/// How far a handler has come in a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct HandlerPosition {
    /// The stream.
    pub stream: StreamId,
    /// The sequence that the handler has put.
    pub sequence: u64,
    /// When the event with this sequence was recorded; `None` if there was none when it was put.
    pub recorded_at: Option<Timestamp>,
    /// Why it is not about an event of this log. Only [`Positions::list`] gives such ones.
    pub fault: Option<BindingFault>,
}

impl Store {
    /// How far handlers have come in each stream.
    pub fn positions(&self) -> Positions {
        Positions { store: self.clone() }
    }
}

impl Inner {
    /// Which of the editions that had the name of this stream's, one after the other, is the
    /// present one: positions of one that was deleted are not those of its successor.
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

    /// What is stored for a stream, if the log has its event.
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

    /// The sequence that the handler has put for this stream, or `None` if it has put none.
    ///
    /// # Errors
    ///
    /// See [`Positions`](Positions#errors).
    pub fn get(&self, handler: &str, stream: &StreamId) -> Result<Option<u64>> {
        Ok(self.checked(handler, stream, self.inner().epoch(stream))?.map(|of| of.sequence))
    }

    /// Says that the handler has come to this sequence. One that is not higher than what was put
    /// before is ignored. Returns whether it was higher, or the first.
    ///
    /// # Errors
    ///
    /// See [`Positions`](Positions#errors).
    pub fn put(&self, handler: &str, stream: &StreamId, sequence: u64) -> Result<bool> {
        let (positions, epoch) = (&self.inner().positions, self.inner().epoch(stream));
        positions.check_writable()?;
        // One that is about another log is not compared with.
        if self.checked(handler, stream, epoch)?.is_some_and(|of| of.sequence >= sequence) {
            return Ok(false);
        }
        positions.put(handler, stream, epoch, (sequence, self.store.bind_sequence(stream, sequence)?))
    }

    /// The same, but may go back: for a handler that is to see events again. To begin with the very
    /// first one, [delete](Positions::delete) the position.
    ///
    /// # Errors
    ///
    /// See [`Positions`](Positions#errors).
    pub fn reset(&self, handler: &str, stream: &StreamId, sequence: u64) -> Result<()> {
        let bound = (sequence, self.store.bind_sequence(stream, sequence)?);
        self.inner().positions.reset(handler, stream, self.inner().epoch(stream), bound)
    }

    /// Forgets what the handler has put for this stream. Returns whether there was something.
    ///
    /// # Errors
    ///
    /// See [`Positions`](Positions#errors).
    pub fn delete(&self, handler: &str, stream: &StreamId) -> Result<bool> {
        self.inner().positions.delete(handler, stream, self.inner().epoch(stream))
    }

    /// Forgets all that the handler has put, in all editions. Returns for how many streams. Looks
    /// at all positions.
    ///
    /// # Errors
    ///
    /// See [`Positions`](Positions#errors).
    pub fn delete_handler(&self, handler: &str) -> Result<u64> {
        self.inner().positions.delete_handler(handler)
    }

    /// All that the handler has put, sorted by stream; also what is not about events of this log,
    /// which has a [fault](HandlerPosition::fault). Looks at all positions, and looks up the events
    /// of those that have not been used since the store was opened.
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

    /// All handlers that have put something, sorted by name. Looks at all positions.
    ///
    /// # Errors
    ///
    /// See [`Positions`](Positions#errors).
    pub fn handlers(&self) -> Result<Vec<HandlerInfo>> {
        let inner = self.inner();
        let handlers = inner.positions.handlers(|stream, epoch| inner.epoch(stream) == epoch)?;
        Ok(handlers.into_iter().map(|(name, streams)| HandlerInfo { name, streams }).collect())
    }

    /// Makes all changes before the call durable, those of [checkpoints](Store::checkpoints) with
    /// them. Blocks for a write and a sync, which threads that flush at the same time share; others
    /// go on meanwhile, and what they change is for the next flush. Now and then the file is
    /// rewritten, so that it does not grow for ever.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io) if it could not be written or synced. Nothing is lost in
    /// memory, and what was durable before still is: flush again when the cause is gone.
    /// [`Error::Closed`](crate::Error::Closed) if something was changed and the store has been
    /// closed meanwhile.
    pub fn flush(&self) -> Result<()> {
        self.inner().positions.flush()
    }
}
