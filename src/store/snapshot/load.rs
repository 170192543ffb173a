//! Loading an aggregate: the newest snapshot that can be used, and the events after it.

use super::Wanted;
use super::report::{Snapshot, SnapshotFault};
use crate::error::{Error, Result};
use crate::format::event::Event;
use crate::format::snapshot_file::Codec;
use crate::store::query::search::AsOf;
use crate::store::{Events, Store};
use crate::stream::StreamId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

impl Store {
    /// Loads an aggregate: the state that its events add up to. [`Load`] can restrict the load;
    /// [`Load::fold`] runs it.
    ///
    /// The newest usable [snapshot](crate::snapshot::Snapshots) is the start, and the events after
    /// it are applied to it. If there is no snapshot, or it is damaged or has another fingerprint,
    /// an older one is the start, or the beginning of the stream: the state is the same.
    ///
    /// ```
    /// use annals::{Error, Event, Expected, NewEvent, Store, StreamId};
    /// #[derive(Default, serde::Serialize, serde::Deserialize)]
    /// struct Account { balance: i64 }
    ///
    /// fn apply(account: &mut Account, event: &Event) -> Result<(), Error> {
    ///     account.balance += event.decode::<i64>()?;
    ///     Ok(())
    /// }
    ///
    /// let store = Store::in_memory();
    /// let id = StreamId::new("account", "1")?;
    /// let deposit = |amount: i64| NewEvent::bincode("Deposited", &amount);
    /// store.append(&id, Expected::NoStream, [deposit(5)?, deposit(7)?])?;
    ///
    /// let account = store.load(&id).snapshot_every(100).fold(Account::default(), apply)?;
    /// assert_eq!(account.state.balance, 12);
    /// // Decide, and store what was decided, unless another writer was faster.
    /// store.append(&id, Expected::Next(account.next_sequence), [deposit(-12)?])?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn load(&self, stream: &StreamId) -> Load {
        Load {
            store: self.clone(),
            stream: stream.clone(),
            as_of: None,
            until: u64::MAX,
            fingerprint: 0,
            codec: Codec::default(),
            snapshot_every: u64::MAX,
        }
    }
}

/// A load that has not begun. From [`Store::load`].
#[must_use = "nothing is read before `fold`"]
#[derive(Clone)]
pub struct Load {
    store: Store,
    stream: StreamId,
    as_of: Option<AsOf>,
    /// The highest sequence.
    until: u64,
    fingerprint: u64,
    codec: Codec,
    snapshot_every: u64,
}

/// A loaded aggregate.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loaded<S> {
    /// The state.
    pub state: S,
    /// Number of events that the state includes: the argument of
    /// [`Expected::Next`](crate::Expected::Next), if the load was not restricted.
    pub next_sequence: u64,
    /// The sequence of the snapshot that was the start.
    pub snapshot: Option<u64>,
    /// Number of events that were applied to it.
    pub replayed: u64,
    /// Whether a snapshot was put: see [`Load::snapshot_every`].
    pub put: bool,
    /// Why no snapshot was put although one was due: the codec does not return the state unchanged,
    /// or the file could not be written.
    pub put_error: Option<String>,
    /// Why the newest snapshot that was tried was not used; an older one may have been the start.
    pub skipped: Option<SnapshotFault>,
}

impl Load {
    /// Loads the state as of a position or a time, included: newer events and snapshots are
    /// ignored.
    pub fn as_of(mut self, point: impl Into<AsOf>) -> Self {
        self.as_of = Some(point.into());
        self
    }

    /// Loads the state after the event with this sequence, or after the last one if there are
    /// fewer.
    pub fn at(mut self, sequence: u64) -> Self {
        self.until = sequence;
        self
    }

    /// The number that identifies the schema of the state: see
    /// [`Snapshots::fingerprint`](crate::snapshot::Snapshots::fingerprint).
    pub fn fingerprint(mut self, fingerprint: u64) -> Self {
        self.fingerprint = fingerprint;
        self
    }

    /// The codec of the snapshot that this load may put. Default: [`Codec::default`].
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Puts a snapshot if at least this many events had to be replayed; 0 puts none. No effect on a
    /// load that is restricted to the past, or if
    /// [snapshots are not read](crate::Options::read_snapshots). If the snapshot cannot be put, the
    /// load still succeeds, and [`Loaded::put_error`] says why.
    ///
    /// A state is put only if the codec returns it unchanged: it is decoded again and compared.
    /// That costs about as much as loading it, and holds it in memory twice meanwhile.
    pub fn snapshot_every(mut self, events: u64) -> Self {
        self.snapshot_every = if events == 0 { u64::MAX } else { events };
        self
    }

    /// Reads the events and applies each to the state. `initial` is the state before the first
    /// event.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Damaged`] if an event cannot be read, and those of `apply`. A
    /// snapshot never causes an error.
    pub fn fold<S: Serialize + DeserializeOwned>(
        self,
        initial: S,
        apply: impl FnMut(&mut S, &Event) -> Result<()>,
    ) -> Result<Loaded<S>> {
        self.try_fold(initial, apply)
    }

    /// Does the same with an `apply` that has an error type of its own.
    ///
    /// # Errors
    ///
    /// As [`Load::fold`].
    pub fn try_fold<S: Serialize + DeserializeOwned, E: From<Error>>(
        self,
        initial: S,
        mut apply: impl FnMut(&mut S, &Event) -> Result<(), E>,
    ) -> Result<Loaded<S>, E> {
        let mut skipped = None;
        let (state, snapshot, events) = self.begin(initial, &mut skipped)?;
        let next_sequence = snapshot.map_or(0, |sequence| sequence.saturating_add(1));
        let mut loaded = Loaded { state, next_sequence, snapshot, replayed: 0, put: false, put_error: None, skipped };
        let mut last = None;
        for event in events {
            let event = event?;
            apply(&mut loaded.state, &event)?;
            loaded.next_sequence = event.sequence().saturating_add(1);
            loaded.replayed += 1;
            last = Some(event);
        }
        match last.map_or(Ok(false), |last| self.put(&loaded, &last)) {
            Ok(put) => loaded.put = put,
            Err(error) => loaded.put_error = Some(error.to_string()),
        }
        Ok(loaded)
    }

    fn events_from(&self, sequence: u64) -> Events {
        let mut read = self.store.read(&self.stream).from(sequence).to(self.until.saturating_add(1));
        if let Some(point) = self.as_of {
            read = read.as_of(point);
        }
        read.into_iter()
    }

    /// Returns the state to begin with, the sequence of the snapshot that it is from, and the
    /// events after it.
    fn begin<S: DeserializeOwned>(
        &self,
        initial: S,
        skipped: &mut Option<SnapshotFault>,
    ) -> Result<(S, Option<u64>, Events)> {
        if let Some((state, sequence, position)) = self.start(skipped)? {
            // One read returns the event of the snapshot and those after it: between two reads, the
            // edition could be deleted and begun again.
            let mut events = self.events_from(sequence);
            let first = events.next().transpose()?;
            if first.is_some_and(|event| (event.sequence(), event.position()) == (sequence, position)) {
                return Ok((state, Some(sequence), events));
            }
            self.store.inner.snapshots.skip(SnapshotFault::NotOfStream);
            skipped.get_or_insert(SnapshotFault::NotOfStream);
        }
        Ok((initial, None, self.events_from(0)))
    }

    /// Returns the newest usable snapshot that is not too new, with its sequence and position.
    fn start<S: DeserializeOwned>(&self, skipped: &mut Option<SnapshotFault>) -> Result<Option<(S, u64, u64)>> {
        let wanted = Wanted { until: self.until, as_of: self.as_of, fingerprint: self.fingerprint };
        let take = |snapshot: Snapshot| match snapshot.decode() {
            Ok(state) => Ok((state, snapshot.sequence(), snapshot.position())),
            Err(_) => Err(SnapshotFault::Undecodable),
        };
        self.store.newest_snapshot(&self.stream, wanted, skipped, take)
    }

    fn put<S: Serialize + DeserializeOwned>(&self, loaded: &Loaded<S>, last: &Event) -> Result<bool> {
        let is_latest = self.as_of.is_none() && self.until == u64::MAX;
        if !is_latest || loaded.replayed < self.snapshot_every || !self.store.inner.snapshots.reads {
            return Ok(false);
        }
        let snapshots = self.store.snapshots().fingerprint(self.fingerprint).codec(self.codec);
        // A snapshot that is kept on purpose is not replaced.
        if snapshots.may_be_persistent(&self.stream, last.sequence()) {
            return Ok(false);
        }
        snapshots.put_after(&self.stream, last, &loaded.state).map(|()| true)
    }
}

impl fmt::Debug for Load {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Load").field("stream", &self.stream).field("as_of", &self.as_of).finish_non_exhaustive()
    }
}
