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
    /// Loads an aggregate: the state that its events add up to. [`Load`] can restrict and mark it;
    /// [`Load::fold`] does it.
    ///
    /// The newest usable [snapshot](crate::snapshot::Snapshots) is the start, the events after it
    /// are applied to it. With no snapshot, a damaged one, or one with another fingerprint, an
    /// older one is the start, or the beginning of the stream: the state is the same.
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
    /// // Decide, and store what was decided, unless somebody else was faster.
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

/// An aggregate that was loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Loaded<S> {
    /// The state.
    pub state: S,
    /// The number of events that the state knows: what [`Expected::Next`](crate::Expected::Next)
    /// takes, if the load was not restricted.
    pub next_sequence: u64,
    /// The sequence of the snapshot that was the start.
    pub snapshot: Option<u64>,
    /// How many events were applied to it.
    pub replayed: u64,
    /// Whether a snapshot was put: see [`Load::snapshot_every`].
    pub put: bool,
    /// Why none was put, if one was to be: what the codec said of a state that it does not give
    /// back as it is, or what the system said of the file.
    pub put_error: Option<String>,
    /// Why the newest snapshot that was looked at was not used, if it was not; an older one may
    /// have been the start.
    pub skipped: Option<SnapshotFault>,
}

impl Load {
    /// The state as of a position or a time, it included: newer events and snapshots are left
    /// aside.
    pub fn as_of(mut self, point: impl Into<AsOf>) -> Self {
        self.as_of = Some(point.into());
        self
    }

    /// The state after the event with this sequence, or after the last one, if there are fewer.
    pub fn at(mut self, sequence: u64) -> Self {
        self.until = sequence;
        self
    }

    /// The number that stands for the schema of the state: see
    /// [`Snapshots::fingerprint`](crate::snapshot::Snapshots::fingerprint).
    pub fn fingerprint(mut self, fingerprint: u64) -> Self {
        self.fingerprint = fingerprint;
        self
    }

    /// How the snapshot is encoded that this load may put. [`Codec::default`] unless said
    /// otherwise.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Puts a snapshot if so many events, or more, had to be replayed; 0 is none. Not for a load
    /// that is restricted to the past, and not if [snapshots are not
    /// read](crate::Options::read_snapshots). If it cannot be put, the load succeeds all the same,
    /// and [`Loaded::put_error`] says why.
    ///
    /// A state is only put if it comes back as it is: it is decoded once more, and compared. That
    /// costs about as much as loading it, and holds it in memory a second time meanwhile.
    pub fn snapshot_every(mut self, events: u64) -> Self {
        self.snapshot_every = if events == 0 { u64::MAX } else { events };
        self
    }

    /// Reads what there is, and applies each event to the state. `initial` is the state before the
    /// first event.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Damaged`] if an event cannot be read, and those of `apply`.
    /// Snapshots make no errors.
    pub fn fold<S: Serialize + DeserializeOwned>(
        self,
        initial: S,
        apply: impl FnMut(&mut S, &Event) -> Result<()>,
    ) -> Result<Loaded<S>> {
        self.try_fold(initial, apply)
    }

    /// The same with an `apply` that has errors of its own.
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

    /// The state to begin with, the sequence of the snapshot that it is from, and the events after
    /// it.
    fn begin<S: DeserializeOwned>(
        &self,
        initial: S,
        skipped: &mut Option<SnapshotFault>,
    ) -> Result<(S, Option<u64>, Events)> {
        if let Some((state, sequence, position)) = self.start(skipped)? {
            // One read shows the event of the snapshot and those after it: in between two of them,
            // the edition could be deleted and begun again.
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

    /// The newest snapshot that is such a state and not too new, its sequence and position.
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
        // One that is kept on purpose is not replaced on the way.
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
