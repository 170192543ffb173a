//! Idempotency keys: a commit that is repeated is stored once.
//!
//! The key is in the frame of the commit, and in the index under each stream that the commit writes
//! to. So it is as durable as the commit, and needs no table of its own.

use super::{Appended, Committed};
use crate::error::{Error, Result};
use crate::format::draft::Draft;
use crate::format::{content_digest, frame};
use crate::index::term::{self, Term, TermKind};
use crate::position::Location;
use crate::store::Store;
use crate::store::catalog::AppendPart;
use crate::system::System;
use crate::time::Timestamp;
use std::cell::Cell;

/// The search for earlier commits with this key in these streams.
pub(crate) struct Repeats {
    store: Store,
    key: String,
    /// The content digest of the commit.
    digest: [u8; content_digest::LEN],
    /// The terms of the index: the key, once for each stream that is written to.
    terms: Vec<Term>,
    /// Segments before this one have been searched.
    searched: Cell<u64>,
}

impl Store {
    /// Returns the number of [idempotency keys](crate::Transaction::idempotency_key) that are
    /// remembered. A key counts once for each stream that its commit has written to; keys of
    /// deleted editions are forgotten.
    ///
    /// Blocks while it reads all of them.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io), [`Error::Damaged`](crate::Error::Damaged) if an index
    /// cannot be read.
    ///
    /// ```
    /// use annals::{Expected, NewEvent, Store, StreamId};
    /// let store = Store::in_memory();
    /// let paid = store.transaction().append(&StreamId::new("order", "1")?, Expected::Any, [NewEvent::new("Paid", "")]);
    /// paid.idempotency_key("r-42").commit()?;
    /// assert_eq!(store.idempotency_keys()?, 1);
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn idempotency_keys(&self) -> Result<u64> {
        let index = &self.inner.catalog.index;
        let deletions = index.deletions();
        index.count_terms(&[TermKind::Idempotency as u8], |term, last| {
            let deleted = term::stream_of_key(term).map_or_else(Location::default, |key| deletions.of_key(key).at);
            last > deleted
        })
    }
}

impl Repeats {
    /// Without a key, there are no terms.
    pub(crate) fn new(
        store: &Store,
        key: &str,
        draft: &Draft,
        parts: &[AppendPart],
        tracking: Option<(&str, u64)>,
    ) -> Option<Self> {
        if key.is_empty() {
            return None;
        }
        let upstream = tracking.map(|(upstream, _)| upstream);
        let written = parts.iter().filter(|part| part.events > 0);
        let terms = written.map(|part| Term::idempotency(part.stream.key(), upstream, key)).collect();
        let mut digest = draft.digest();
        tracking.iter().for_each(|(upstream, position)| digest.tracking(upstream, *position));
        let digest = digest.finish();
        Some(Repeats { store: store.clone(), key: key.to_owned(), digest, terms, searched: Cell::new(1) })
    }

    /// The attribute with the key.
    pub(crate) fn put_key(&self, attributes: &mut Vec<u8>) {
        frame::put_attribute(attributes, frame::IDEMPOTENCY_KEY, self.key.as_bytes());
    }

    /// The attribute with the digest.
    pub(crate) fn put_digest(&self, attributes: &mut Vec<u8>) {
        frame::put_attribute(attributes, frame::CONTENT_DIGEST, &self.digest);
    }

    /// Returns what an earlier visible commit with the key has stored. A second call checks only
    /// later commits.
    ///
    /// # Errors
    ///
    /// [`Error::IdempotencyMismatch`] if the earlier commit has other content.
    pub(crate) fn find(&self) -> Result<Option<Committed>> {
        let index = &self.store.inner.catalog.index;
        let segments = index.segments();
        for term in &self.terms {
            let deleted = term.stream_of_key().map_or_else(Location::default, |key| index.deletions().of_key(key).at);
            if let Some(frame) = index.newest(term, self.searched.get())?.filter(|&frame| frame > deleted) {
                return self.first(frame).map(Some);
            }
        }
        // The newest segment may still grow.
        self.searched.set(segments);
        Ok(None)
    }

    /// Returns whether a commit with the key is in flight.
    pub(crate) fn is_pending(&self) -> bool {
        self.store.inner.catalog.is_key_pending(&self.terms)
    }

    /// Registers the commit itself as in flight. Called under the commit lock.
    pub(crate) fn accepted(&self, end_position: u64) {
        self.store.inner.catalog.accept_keys(&self.terms, end_position);
    }

    /// Returns what the commit whose frame is at this location has stored.
    fn first(&self, frame: Location) -> Result<Committed> {
        let log = &self.store.inner.log;
        let positions = log.positions_at(frame)?;
        let stored = frame::content_digest(&log.attributes_at(frame)?);
        if stored.is_some_and(|stored| stored != self.digest) {
            return Err(Error::IdempotencyMismatch { key: self.key.clone(), positions });
        }
        let mut events = log.forwards(positions.clone());
        let mut appends: Vec<Appended> = Vec::new();
        let mut recorded_at = Timestamp::default();
        while let Some(event) = events.next()? {
            recorded_at = event.recorded_at();
            if System::of(event.key()).is_some() {
                continue;
            }
            let (sequence, position) = (event.sequence(), event.position());
            match appends.last_mut() {
                Some(last) if event.is_in(&last.stream) => {
                    last.sequences.end = sequence + 1;
                    last.positions.end = position + 1;
                }
                _ => appends.push(Appended {
                    stream: event.stream(),
                    sequences: sequence..sequence + 1,
                    positions: position..position + 1,
                    recorded_at: event.recorded_at(),
                    duplicate: true,
                }),
            }
        }
        Ok(Committed { appends, positions, recorded_at, duplicate: true })
    }
}
