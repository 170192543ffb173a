//! Snapshots: put, find and verify. They are a cache: without them every answer is the same, and
//! takes longer.

pub(crate) mod load;
pub(crate) mod report;

use super::Store;
use super::query::search::AsOf;
use crate::codec;
use crate::error::{Error, Result};
use crate::format::event::Event;
use crate::format::snapshot_file::{Codec, Retention, SnapshotHeader};
use crate::format::state_file::MAX_STATE;
use crate::snapshots::{Directory, OpenedSnapshot, SnapshotFile, Unusable};
use crate::stream::StreamId;
use crate::time::Timestamp;
use parking_lot::Mutex;
use report::{SkippedSnapshots, Snapshot, SnapshotCheck, SnapshotFault, SnapshotInfo, SnapshotReport};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;

/// The snapshot part of a store.
pub(crate) struct Cache {
    pub directory: Directory,
    /// Whether reads use snapshots.
    pub reads: bool,
    skipped: Mutex<SkippedSnapshots>,
}

impl Cache {
    pub(crate) fn new(directory: Directory, reads: bool) -> Self {
        Cache { directory, reads, skipped: Mutex::default() }
    }

    pub(crate) fn skip(&self, fault: SnapshotFault) {
        self.skipped.lock().add(fault);
    }
}

/// Which snapshots of a stream are wanted.
#[derive(Clone, Copy)]
pub(crate) struct Wanted {
    /// The highest sequence.
    pub until: u64,
    pub as_of: Option<AsOf>,
    pub fingerprint: u64,
}

impl Wanted {
    fn takes(&self, head: &SnapshotHeader) -> bool {
        let as_of = match self.as_of {
            None => true,
            Some(AsOf::Position(position)) => head.position <= position,
            Some(AsOf::Time(time)) => head.recorded_at <= time.as_nanos(),
        };
        as_of && head.sequence <= self.until
    }
}

impl Store {
    /// Returns the snapshots of the store: states of aggregates, so that a long stream need not be
    /// read from its beginning. [`Store::load`] uses them automatically.
    pub fn snapshots(&self) -> Snapshots {
        Snapshots { store: self.clone(), retention: Retention::Default, fingerprint: 0, codec: Codec::default() }
    }
}

/// The snapshots of a store, and the settings of those that are put through this handle. From
/// [`Store::snapshots`].
///
/// A snapshot is a cache and never the truth. Each is a file of its own, checksummed, and bound to
/// the event that it follows: a snapshot that is torn, was changed, has outlived its event, or is
/// from another store is skipped, and [counted](Snapshots::skipped). The directory `snapshots` may
/// be deleted at any time while the store is closed.
///
/// ```
/// use annals::snapshot::Retention;
/// use annals::{Expected, NewEvent, Store, StreamId};
/// let store = Store::in_memory();
/// let order = StreamId::new("order", "1")?;
/// store.append(&order, Expected::NoStream, [NewEvent::new("Placed", ""), NewEvent::new("Paid", "")])?;
///
/// store.snapshots().put(&order, 0, "placed")?;
/// store.snapshots().retention(Retention::Persist).put(&order, 1, "paid")?;
///
/// let latest = store.snapshots().latest(&order)?.expect("there are two");
/// assert_eq!((latest.sequence(), latest.decode::<String>()?.as_str()), (1, "paid"));
/// assert_eq!(store.snapshots().at(&order, 0)?.expect("the first one").decode::<String>()?, "placed");
/// assert_eq!(store.snapshots().delete(&order)?, 2);
/// # Ok::<(), annals::Error>(())
/// ```
///
/// # Limits
///
/// A state has up to 1 GiB; it is in memory twice while it is written.
#[derive(Clone)]
#[must_use = "a handle does nothing on its own"]
pub struct Snapshots {
    store: Store,
    retention: Retention,
    fingerprint: u64,
    codec: Codec,
}

impl Snapshots {
    /// How long snapshots that are put are kept. Default: [`Retention::Default`].
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// A number that identifies the schema of the state, and changes with it. Snapshots with
    /// another fingerprint are not used. Default: 0.
    ///
    /// bincode does not record types: without a fingerprint, a state of an older type may be
    /// decoded as one of a newer type, and be wrong.
    pub fn fingerprint(mut self, fingerprint: u64) -> Self {
        self.fingerprint = fingerprint;
        self
    }

    /// How [`Snapshots::put`] encodes states. Default: [`Codec::default`]. Reading needs no such
    /// setting.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.codec = codec;
        self
    }

    /// Stores the state of a stream after the event with this sequence. Replaces the snapshot of
    /// this sequence, if there is one.
    ///
    /// Older snapshots are then removed according to their [`Retention`], but never the newest nor
    /// this one; that reads the headers of the stream's snapshots. Blocks for writing a file; it is
    /// synced only with [`Options::sync_snapshots`](crate::Options::sync_snapshots). After a crash
    /// it is complete, or is not used.
    ///
    /// # Errors
    ///
    /// * [`Error::Invalid`] if the stream has no readable event with this sequence;
    /// * [`Error::Codec`] if the state cannot be encoded, or has something that the codec never
    ///   returns unchanged: with bincode, a field that is left out; with JSON, a number that is not
    ///   finite, or `Some(None)`. Whether the type reads back what it writes is not checked here;
    ///   [`Store::load`] and projections check it;
    /// * [`Error::LimitExceeded`] if it has more than 1 GiB when encoded;
    /// * [`Error::Io`], [`Error::DiskFull`] if it could not be written: an earlier snapshot is then
    ///   unchanged;
    /// * [`Error::ReadOnly`], [`Error::Closed`].
    pub fn put<S: Serialize + ?Sized>(&self, stream: &StreamId, sequence: u64, state: &S) -> Result<()> {
        let event = self.event_for(stream, sequence)?;
        self.write(stream, &event, self.codec, &codec::encode_state(self.codec, state)?)
    }

    /// Stores a state that is already encoded, with [`Codec::Bytes`].
    ///
    /// # Errors
    ///
    /// As [`Snapshots::put`].
    pub fn put_bytes(&self, stream: &StreamId, sequence: u64, state: &[u8]) -> Result<()> {
        let event = self.event_for(stream, sequence)?;
        self.write(stream, &event, Codec::Bytes, state)
    }

    fn event_for(&self, stream: &StreamId, sequence: u64) -> Result<Event> {
        self.store.check_writable()?;
        let missing = || Error::invalid("snapshot", format!("{stream} has no event {sequence}"));
        self.store.event_of(stream, sequence)?.ok_or_else(missing)
    }

    /// Puts a state if the codec returns it unchanged.
    pub(crate) fn put_after<S: Serialize + DeserializeOwned>(
        &self,
        stream: &StreamId,
        event: &Event,
        state: &S,
    ) -> Result<()> {
        let bytes = codec::encode_faithfully(self.codec, state).inspect_err(|_| {
            self.store.inner.snapshots.skipped.lock().unfaithful += 1;
        })?;
        self.write(stream, event, self.codec, &bytes)
    }

    fn write(&self, stream: &StreamId, event: &Event, codec: Codec, state: &[u8]) -> Result<()> {
        let inner = &self.store.inner;
        let _work = inner.writer()?.work()?;
        if state.len() as u64 > MAX_STATE {
            return Err(Error::limit("bytes in a state", state.len(), MAX_STATE as usize));
        }
        // A snapshot must not outlive its event: after a power cut, another event may have its
        // sequence.
        inner.sync_visible()?;
        let head = SnapshotHeader {
            store: inner.log.store_id(),
            created_at: inner.now().as_nanos(),
            sequence: event.sequence(),
            position: event.position(),
            recorded_at: event.recorded_at().as_nanos(),
            fingerprint: self.fingerprint,
            codec,
            retention: self.retention,
            state_len: state.len() as u64,
        };
        // A snapshot that cannot be proven wrong stays.
        let is_stale = |head: &SnapshotHeader| matches!(self.store.has_event_of(stream, head), Ok(false));
        inner.snapshots.directory.put(&head, stream.key(), state, &is_stale)
    }

    /// Returns the newest usable snapshot of a stream.
    ///
    /// `None` if there is none, and always with
    /// [`Options::read_snapshots(false)`](crate::Options::read_snapshots). A snapshot is usable if
    /// it is intact, has the [fingerprint](Snapshots::fingerprint) of this handle, and the stream
    /// has the event that it follows.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Damaged`] if that event cannot be read. A broken snapshot is no
    /// error: it is skipped.
    pub fn latest(&self, stream: &StreamId) -> Result<Option<Snapshot>> {
        self.at(stream, u64::MAX)
    }

    /// Returns the usable snapshot with the highest sequence up to this one.
    ///
    /// # Errors
    ///
    /// As [`Snapshots::latest`].
    pub fn at(&self, stream: &StreamId, sequence: u64) -> Result<Option<Snapshot>> {
        self.find(stream, sequence, None)
    }

    /// Returns the newest usable snapshot whose last event was recorded at this time or before.
    ///
    /// # Errors
    ///
    /// As [`Snapshots::latest`].
    pub fn at_time(&self, stream: &StreamId, time: Timestamp) -> Result<Option<Snapshot>> {
        self.find(stream, u64::MAX, Some(AsOf::Time(time)))
    }

    fn find(&self, stream: &StreamId, until: u64, as_of: Option<AsOf>) -> Result<Option<Snapshot>> {
        let wanted = Wanted { until, as_of, fingerprint: self.fingerprint };
        self.store.newest_snapshot(stream, wanted, &mut None, Ok)
    }

    /// Returns the snapshots of a stream, in order of sequences, according to the headers of their
    /// files. States are not read, and whether a snapshot is usable is not checked.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the directory cannot be read. Files that are not intact are skipped.
    pub fn list(&self, stream: &StreamId) -> Result<Vec<SnapshotInfo>> {
        let named = self.directory().list(stream.key())?;
        let infos = named.into_iter().filter_map(|named| self.info(named));
        Ok(infos.filter(|info| info.stream == *stream).collect())
    }

    /// Returns the snapshots of all streams, in order of streams and sequences, as
    /// [`Snapshots::list`].
    ///
    /// # Errors
    ///
    /// As [`Snapshots::list`].
    pub fn list_all(&self) -> Result<Vec<SnapshotInfo>> {
        let named = self.directory().list_all()?;
        let mut infos: Vec<SnapshotInfo> = named.into_iter().filter_map(|named| self.info(named)).collect();
        infos.sort_by(|a, b| (&a.stream, a.sequence).cmp(&(&b.stream, b.sequence)));
        Ok(infos)
    }

    fn info(&self, named: SnapshotFile) -> Option<SnapshotInfo> {
        let inner = &self.store.inner;
        let OpenedSnapshot { head, key, .. } = match self.directory().open(&named) {
            Ok(opened) => opened,
            Err(unusable) => {
                SnapshotFault::of(&unusable).into_iter().for_each(|fault| inner.snapshots.skip(fault));
                return None;
            }
        };
        match StreamId::from_key(&key) {
            Some(stream) if head.store == inner.log.store_id() && Directory::is_in_place(&named, &key, &head) => {
                Some(SnapshotInfo::new(stream, &head, named.path))
            }
            _ => {
                inner.snapshots.skip(SnapshotFault::NotOfStream);
                None
            }
        }
    }

    /// Removes all snapshots of a stream, and returns their number; 0 if there are none.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if a file cannot be removed, [`Error::ReadOnly`], [`Error::Closed`].
    pub fn delete(&self, stream: &StreamId) -> Result<u64> {
        let _work = self.store.inner.writer()?.work()?;
        self.directory().delete(stream.key())
    }

    /// Removes all snapshots of the streams of a named edition, or of one of its domains, and
    /// returns their number.
    ///
    /// # Errors
    ///
    /// As [`Snapshots::delete`].
    pub fn delete_edition(&self, edition: &str, domain: Option<&str>) -> Result<u64> {
        let _work = self.store.inner.writer()?.work()?;
        self.directory().delete_edition(edition, domain, None)
    }

    /// Returns how many snapshots were not used since the store was opened, by reason.
    pub fn skipped(&self) -> SkippedSnapshots {
        *self.store.inner.snapshots.skipped.lock()
    }

    /// Reads every snapshot of the store completely, and reports which are usable. Changes nothing.
    /// Fingerprints and the meaning of states are not checked: [`Snapshots::check`] does that.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if a directory cannot be read, and as [`Snapshots::latest`].
    pub fn verify(&self) -> Result<SnapshotReport> {
        let mut report = SnapshotReport::default();
        for named in self.directory().list_all()? {
            let found = match self.directory().open(&named) {
                Ok(opened) => match StreamId::from_key(&opened.key) {
                    Some(stream) => self.store.usable(&stream, &named, opened, |_| Ok(true))?.map(drop),
                    None => Err(Some(SnapshotFault::NotOfStream)),
                },
                Err(unusable) => Err(SnapshotFault::of(&unusable)),
            };
            match found {
                Ok(()) => report.usable += 1,
                Err(Some(fault)) => report.unusable.push((named.path, fault)),
                Err(None) => continue,
            }
            report.files += 1;
            report.bytes += named.size;
        }
        Ok(report)
    }

    /// Checks the snapshots of a stream: replays it from the beginning, and compares each state
    /// with that of the fold at its sequence.
    ///
    /// If a snapshot differs, it was put with a wrong state, or the fold has changed since: change
    /// the [fingerprint](Snapshots::fingerprint), or delete the snapshots.
    ///
    /// ```
    /// use annals::{Event, Expected, NewEvent, Store, StreamId};
    /// let store = Store::in_memory();
    /// let order = StreamId::new("order", "1")?;
    /// store.append(&order, Expected::Any, ["A", "B", "C"].map(|event_type| NewEvent::new(event_type, "")))?;
    /// let count = |events: &mut u64, _: &Event| {
    ///     *events += 1;
    ///     Ok(())
    /// };
    /// store.snapshots().put(&order, 1, &2u64)?;
    /// store.snapshots().put(&order, 2, &4u64)?;
    /// let check = store.snapshots().check(&order, 0, count)?;
    /// assert_eq!((check.compared, check.mismatched), (2, vec![2]));
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// Those of reading the stream, and of the fold.
    pub fn check<S: DeserializeOwned + PartialEq>(
        &self,
        stream: &StreamId,
        initial: S,
        apply: impl FnMut(&mut S, &Event) -> Result<()>,
    ) -> Result<SnapshotCheck> {
        self.try_check(stream, initial, apply)
    }

    /// Does the same with a fold that has an error type of its own.
    ///
    /// # Errors
    ///
    /// As [`Snapshots::check`].
    pub fn try_check<S: DeserializeOwned + PartialEq, E: From<Error>>(
        &self,
        stream: &StreamId,
        initial: S,
        mut apply: impl FnMut(&mut S, &Event) -> Result<(), E>,
    ) -> Result<SnapshotCheck, E> {
        let (mut check, mut state) = (SnapshotCheck::default(), initial);
        let mut left = self.directory().list(stream.key())?.into_iter().peekable();
        for event in self.store.read(stream) {
            let event = event?;
            apply(&mut state, &event)?;
            while let Some(named) = left.next_if(|named| named.sequence <= event.sequence()) {
                self.compare(stream, &named, &state, &mut check)?;
            }
        }
        check.unusable.extend(left.map(|named| (named.sequence, SnapshotFault::NotOfStream)));
        Ok(check)
    }

    fn compare<S: DeserializeOwned + PartialEq>(
        &self,
        stream: &StreamId,
        named: &SnapshotFile,
        state: &S,
        check: &mut SnapshotCheck,
    ) -> Result<()> {
        let found = match self.directory().open(named) {
            Ok(opened) => self.store.usable(stream, named, opened, |head| self.fits(head))?,
            Err(unusable) => Err(SnapshotFault::of(&unusable)),
        };
        let decoded = found.and_then(|found| found.decode::<S>().map_err(|_| Some(SnapshotFault::Undecodable)));
        match decoded {
            Ok(found) => {
                check.compared += 1;
                if found != *state {
                    check.mismatched.push(named.sequence);
                }
            }
            Err(fault) => check.unusable.extend(fault.map(|fault| (named.sequence, fault))),
        }
        Ok(())
    }

    /// Returns whether, after this sequence, there is a snapshot that stays until it is deleted, or
    /// an unreadable one that may be such.
    pub(crate) fn may_be_persistent(&self, stream: &StreamId, sequence: u64) -> bool {
        let Ok(named) = self.directory().list(stream.key()) else { return true };
        let Some(named) = named.iter().find(|named| named.sequence == sequence) else { return false };
        match self.directory().open(named) {
            Ok(opened) => *opened.key == *stream.key() && opened.head.retention == Retention::Persist,
            Err(unusable) => matches!(unusable, Unusable::Unreadable),
        }
    }

    fn fits(&self, head: &SnapshotHeader) -> Result<bool, SnapshotFault> {
        if head.fingerprint == self.fingerprint { Ok(true) } else { Err(SnapshotFault::OtherFingerprint) }
    }

    fn directory(&self) -> &Directory {
        &self.store.inner.snapshots.directory
    }
}

impl Store {
    /// Returns whether the stream has the event that a snapshot says it follows. Position and time
    /// tell it from a lost event whose sequence and position were assigned again.
    fn has_event_of(&self, stream: &StreamId, head: &SnapshotHeader) -> Result<bool> {
        let event = self.event_of(stream, head.sequence)?;
        Ok(event.is_some_and(|e| (e.position(), e.recorded_at().as_nanos()) == (head.position, head.recorded_at)))
    }

    /// Returns what `accept` makes of the first usable snapshot, from the newest one down; and what
    /// is wrong with the first one that is not usable.
    pub(crate) fn newest_snapshot<T>(
        &self,
        stream: &StreamId,
        wanted: Wanted,
        skipped: &mut Option<SnapshotFault>,
        mut accept: impl FnMut(Snapshot) -> Result<T, SnapshotFault>,
    ) -> Result<Option<T>> {
        let cache = &self.inner.snapshots;
        if !cache.reads {
            return Ok(None);
        }
        let mut skip = |fault| {
            cache.skip(fault);
            skipped.get_or_insert(fault);
        };
        // A directory that cannot be listed has no usable snapshot.
        let Ok(named) = cache.directory.list(stream.key()) else {
            skip(SnapshotFault::Unreadable);
            return Ok(None);
        };
        let takes = |head: &SnapshotHeader| match wanted.takes(head) {
            true if head.fingerprint != wanted.fingerprint => Err(SnapshotFault::OtherFingerprint),
            takes => Ok(takes),
        };
        for named in named.iter().rev().filter(|named| named.sequence <= wanted.until) {
            let found = match cache.directory.open(named) {
                Ok(opened) => self.usable(stream, named, opened, takes)?,
                Err(unusable) => Err(SnapshotFault::of(&unusable)),
            };
            match found.and_then(|snapshot| accept(snapshot).map_err(Some)) {
                Ok(accepted) => return Ok(Some(accepted)),
                Err(fault) => fault.into_iter().for_each(&mut skip),
            }
        }
        Ok(None)
    }

    /// Returns the snapshot, or what is wrong with it; `Err(None)` if it is fine but `takes`
    /// rejects it. The errors of the call are those of reading events.
    fn usable(
        &self,
        stream: &StreamId,
        named: &SnapshotFile,
        opened: OpenedSnapshot,
        takes: impl Fn(&SnapshotHeader) -> Result<bool, SnapshotFault>,
    ) -> Result<Result<Snapshot, Option<SnapshotFault>>> {
        let head = &opened.head;
        let in_place = *opened.key == *stream.key() && Directory::is_in_place(named, &opened.key, head);
        if !in_place || head.store != self.inner.log.store_id() {
            return Ok(Err(Some(SnapshotFault::NotOfStream)));
        }
        match takes(head) {
            Ok(true) => {}
            Ok(false) => return Ok(Err(None)),
            Err(fault) => return Ok(Err(Some(fault))),
        }
        if !self.has_event_of(stream, head)? {
            return Ok(Err(Some(SnapshotFault::NotOfStream)));
        }
        Ok(match opened.read() {
            Ok((head, file, state)) => Ok(Snapshot { stream: stream.clone(), head, file, state }),
            Err(unusable) => Err(SnapshotFault::of(&unusable)),
        })
    }
}

impl fmt::Debug for Snapshots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Snapshots { retention, fingerprint, codec, .. } = self;
        f.debug_struct("Snapshots")
            .field("retention", retention)
            .field("fingerprint", fingerprint)
            .field("codec", codec)
            .finish_non_exhaustive()
    }
}
