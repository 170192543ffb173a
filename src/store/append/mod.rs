//! The write path of the store: encode outside any lock, decide under the commit lock, wait.

pub(crate) mod guard;
pub(crate) mod idempotency;
mod tracking;

use super::catalog::{AppendPart, First, NextSequence, Refused, SideEffect};
use super::{Inner, Store};
use crate::error::{Error, Result};
use crate::event::NewEvent;
use crate::expected::Expected;
use crate::format::draft::Draft;
use crate::format::frame;
use crate::log::{self, InFlight, Proposal};
use crate::stream::{StreamId, check_name};
use crate::system::System;
use crate::time::Timestamp;
use guard::{Guard, Guards};
use idempotency::Repeats;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Weak};
#[cfg(feature = "async")]
use std::{
    pin::Pin,
    task::{Context, Poll},
};

/// From this sequence on, records are encoded with 64 bits for it. It is far enough below the last
/// sequence of 32 bits that commits between encoding and committing cannot reach that.
const WIDE_FROM: u64 = 1 << 31;

const MAX_IDEMPOTENCY_KEY: usize = 1024;

/// What an append has stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Appended {
    /// The stream.
    pub stream: StreamId,
    /// The sequences of the events in their stream, in the order in which they were given.
    pub sequences: Range<u64>,
    /// Their positions in the store.
    pub positions: Range<u64>,
    /// When they were recorded.
    pub recorded_at: Timestamp,
    /// `true` if nothing was stored now: an earlier commit with the same
    /// [idempotency key](Transaction::idempotency_key) was found, and this is what it has stored.
    pub duplicate: bool,
}

/// What a transaction has stored.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Committed {
    /// One for each call of [`Transaction::append`], in order.
    pub appends: Vec<Appended>,
    /// The positions of all events.
    pub positions: Range<u64>,
    /// When they were recorded.
    pub recorded_at: Timestamp,
    /// `true` if nothing was stored now: an earlier commit with the same
    /// [idempotency key](Transaction::idempotency_key) was found, and this is what it has stored.
    /// Then `appends` has one entry for each run of its events in one stream.
    pub duplicate: bool,
}

impl Store {
    /// Appends events to a stream, as one commit. Returns once they are as durable as
    /// [`Durability`](crate::Durability) asks for.
    ///
    /// Blocks for a write and a sync, which threads that append at the same time share. An append
    /// without events stores nothing, and only checks the expectation.
    ///
    /// ```
    /// use annals::{Expected, NewEvent, Store, StreamId};
    /// let store = Store::in_memory();
    /// let order = StreamId::new("order", "1")?;
    /// let events = [NewEvent::new("Placed", ""), NewEvent::new("Paid", "")];
    /// let appended = store.append(&order, Expected::NoStream, events)?;
    /// assert_eq!(appended.sequences, 0..2);
    /// assert_eq!(appended.positions, 0..2);
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// If it returns an error, nothing is stored; except for [`Error::DurabilityUnknown`].
    ///
    /// * [`Error::Conflict`] if the stream is not as expected;
    /// * [`Error::GuardFailed`], [`Error::PositionAhead`] if a guard of the transaction does not
    ///   hold;
    /// * [`Error::AlreadyTracked`], [`Error::IdempotencyMismatch`] if the transaction tracks an
    ///   upstream or has an idempotency key;
    /// * [`Error::Invalid`], [`Error::LimitExceeded`] if an event breaks a
    ///   [limit](NewEvent#limits);
    /// * [`Error::Io`], [`Error::DiskFull`] if it could not be written; the store works again once
    ///   the cause is gone;
    /// * [`Error::DurabilityUnknown`] if the sync failed;
    /// * [`Error::Closed`], [`Error::ReadOnly`].
    ///
    /// A refusal is returned once the commits that caused it can be read: it waits for commits in
    /// flight. If they fail, the decision is made again without them. So a caller that reads again
    /// after a conflict finds what caused it.
    pub fn append<'e>(
        &self,
        stream: &StreamId,
        expected: Expected,
        events: impl IntoIterator<Item = NewEvent<'e>>,
    ) -> Result<Appended> {
        let committed = self.transaction().append(stream, expected, events).commit()?;
        Ok(committed.appends.into_iter().next().expect("one append gives one result"))
    }

    /// Begins a commit that may write to several streams: all of it is stored, or nothing.
    pub fn transaction(&self) -> Transaction {
        Transaction {
            draft: Draft::new(self.inner.limits),
            store: self.clone(),
            parts: Vec::new(),
            guards: Vec::new(),
            idempotency_key: String::new(),
            side_effects: Vec::new(),
            error: None,
        }
    }
}

/// A commit that is being assembled. Nothing is stored before [`Transaction::commit`] or
/// [`Transaction::submit`].
///
/// ```
/// use annals::{Expected, NewEvent, Store, StreamId};
/// let store = Store::in_memory();
/// let (order, stock) = (StreamId::new("order", "1")?, StreamId::new("stock", "7")?);
/// let committed = store
///     .transaction()
///     .append(&order, Expected::NoStream, [NewEvent::new("Placed", "")])
///     .append(&stock, Expected::Any, [NewEvent::new("Reserved", "")])
///     .commit()?;
/// assert_eq!(committed.positions, 0..2);
/// # Ok::<(), annals::Error>(())
/// ```
#[must_use = "nothing is stored before `commit` or `submit`"]
pub struct Transaction {
    store: Store,
    draft: Draft,
    parts: Vec<AppendPart>,
    guards: Vec<Guard>,
    idempotency_key: String,
    /// What is stored besides events.
    side_effects: Vec<SideEffect>,
    /// The first error in what was given.
    error: Option<Error>,
}

impl Transaction {
    /// Adds events of a stream. The data are copied; [`Transaction::commit`] returns errors in
    /// them.
    ///
    /// A stream may be given several times: each append sees the events of those before it, so
    /// `NoStream` with two events followed by `Next(2)` is correct. In a transaction that has
    /// events, an append without events only checks its expectation.
    pub fn append<'e>(
        mut self,
        stream: &StreamId,
        expected: Expected,
        events: impl IntoIterator<Item = NewEvent<'e>>,
    ) -> Self {
        let before = self.draft.len();
        // Checked here, outside the commit lock, the result is still known under it.
        let added = self.store.inner.catalog.index.added();
        let known = match self.store.inner.next_sequence_to_write(stream) {
            Ok(next) => Some(NextSequence { added, next }),
            Err(error) => {
                self.error.get_or_insert(error);
                None
            }
        };
        let wide = known.is_some_and(|known| known.next >= WIDE_FROM);
        let mut events = events.into_iter();
        while self.error.is_none()
            && let Some(event) = events.next()
        {
            self.error = self.draft.push(stream.key(), &event, wide).err();
            if self.draft.len() == before + 1 {
                self.draft.reserve(events.size_hint().0);
            }
        }
        let events = self.draft.len() - before;
        self.parts.push(AppendPart { stream: stream.clone(), expected, events, known });
        self
    }

    /// Makes the commit depend on a condition on the whole store. All guards must hold.
    pub fn guard(mut self, guard: Guard) -> Self {
        self.guards.push(guard);
        self
    }

    /// Stores all of it, and returns once it is as durable as [`Durability`](crate::Durability)
    /// asks for.
    ///
    /// A transaction without events and side effects stores nothing, and only checks expectations
    /// and guards.
    ///
    /// # Errors
    ///
    /// As [`Store::append`].
    pub fn commit(self) -> Result<Committed> {
        self.submit()?.wait()
    }

    /// Makes repeats of this commit harmless: if one of the streams that it writes to already has a
    /// commit with the same key, nothing is stored, expectations and guards are not checked (they
    /// may be stale), and the result is that of the first commit, marked as a duplicate. This holds
    /// after a crash, and for repeats that race.
    ///
    /// A repeat must have the same content: the same streams, and for each event the same type,
    /// data, content type, schema version and tags, and the same
    /// [position of an upstream](Self::tracking). Other content under the same key is
    /// [`Error::IdempotencyMismatch`]. Ids, times, correlation, causation and metadata may differ,
    /// as they belong to the attempt. (JSON of a hash map has no fixed order; use a sorted map.) A
    /// commit that only tracks an upstream shares its keys with other such commits of this
    /// upstream. A transaction that stores nothing remembers no key.
    ///
    /// A key has up to 1,024 bytes; an empty key is no key. For a key that counts in the whole
    /// store, whatever stream a repeat writes to, use a tag and [`Guard::absent`].
    ///
    /// ```
    /// use annals::{Expected, NewEvent, Store, StreamId};
    /// let store = Store::in_memory();
    /// let order = StreamId::new("order", "1")?;
    /// let pay = || {
    ///     let transaction = store.transaction().append(&order, Expected::Next(0), [NewEvent::new("Paid", "")]);
    ///     transaction.idempotency_key("request-42").commit()
    /// };
    /// assert!(!pay()?.duplicate);
    /// let again = pay()?;
    /// assert!(again.duplicate && again.positions == (0..1));
    /// # Ok::<(), annals::Error>(())
    /// ```
    pub fn idempotency_key(mut self, key: impl Into<String>) -> Self {
        self.idempotency_key = key.into();
        if self.idempotency_key.len() > MAX_IDEMPOTENCY_KEY {
            let error = Error::limit("bytes in an idempotency key", self.idempotency_key.len(), MAX_IDEMPOTENCY_KEY);
            self.error.get_or_insert(error);
        }
        self
    }

    /// Stores with the commit the position up to which an upstream has been processed: exactly-once
    /// intake. The commit succeeds only if `position` is higher than all positions stored for the
    /// upstream before, so that a message that is delivered again is stored once. With it, a
    /// transaction without events is stored, too, and takes a position of the store.
    ///
    /// The name of an upstream has 1 to 255 bytes. If it is called twice, the last call counts.
    ///
    /// ```
    /// use annals::{Error, Expected, NewEvent, Store, StreamId};
    /// let store = Store::in_memory();
    /// let invoice = StreamId::new("invoice", "7")?;
    /// let intake = |message: u64| {
    ///     let transaction = store.transaction().append(&invoice, Expected::Any, [NewEvent::new("Billed", "")]);
    ///     transaction.tracking("billing-inbox", message).commit()
    /// };
    /// intake(991)?;
    /// assert!(matches!(intake(991), Err(Error::AlreadyTracked { tracked: 991, .. })));
    /// assert_eq!(store.tracked("billing-inbox")?, Some(991));
    /// # Ok::<(), Error>(())
    /// ```
    pub fn tracking(mut self, upstream: impl Into<String>, position: u64) -> Self {
        let upstream = upstream.into();
        if let Err(error) = check_name("upstream", &upstream) {
            self.error.get_or_insert(error);
        }
        self.side_effects.retain(|side_effect| !matches!(side_effect, SideEffect::Tracking { .. }));
        self.side_effects.push(SideEffect::Tracking { upstream, position });
        self
    }

    /// Decides on the commit and assigns its positions, without waiting until it is durable: a
    /// caller that submits the next one before it waits for this one shares its sync. Blocks while
    /// 64 MiB wait to be written, for an earlier commit with the same idempotency key, and, before
    /// it refuses, for the commits in flight that the refusal depends on.
    ///
    /// Positions and sequences are final once the ticket's [wait](Ticket::wait) succeeds. Until
    /// then the events cannot be read.
    ///
    /// # Errors
    ///
    /// As [`Store::append`]; the ticket returns those of writing.
    pub fn submit(mut self) -> Result<Ticket> {
        if let Some(error) = self.error {
            return Err(error);
        }
        self.add_system_records()?;
        let is_condition = self.parts.iter().any(|part| part.expected != Expected::Any) || !self.guards.is_empty();
        if self.draft.len() == 0 && !is_condition {
            return Ok(Ticket { committed: Some(nothing(&self.store, &self.parts)?), waiting: None, inline: None });
        }
        let tracking = self.side_effects.iter().find_map(|side_effect| match side_effect {
            SideEffect::Tracking { upstream, position } => Some((&**upstream, *position)),
            SideEffect::Deletion { .. } => None,
        });
        let repeats = Repeats::new(&self.store, &self.idempotency_key, &self.draft, &self.parts, tracking);
        // In ascending order of their keys.
        let mut attributes = Vec::new();
        repeats.iter().for_each(|repeats| repeats.put_key(&mut attributes));
        if let Some((upstream, position)) = tracking {
            frame::put_tracking(&mut attributes, upstream, position);
            // Checked here, outside the commit lock, the result is still known under it.
            self.store.tracked(upstream)?;
        }
        repeats.iter().for_each(|repeats| repeats.put_digest(&mut attributes));
        self.draft.put_attributes(&attributes)?;
        let repeats = repeats.as_ref();
        let find = || repeats.map_or(Ok(None), Repeats::find);
        loop {
            if let Some(first) = find()? {
                return Ok(Ticket { committed: Some(first), waiting: None, inline: self.inline() });
            }
            match self.attempt(repeats) {
                Ok(ticket) => return Ok(ticket),
                // The first commit with the key is in flight: once it is visible, it is found; if
                // it fails, this one may be stored.
                Err(Refusal::Repeat) => self.store.inner.writer()?.arrive(),
                // The event that broke the guard may be of the first commit with the key, and
                // guards of a repeat are not checked.
                Err(Refusal::Error(Error::GuardFailed { .. }, _)) if repeats.is_some_and(Repeats::is_pending) => {
                    self.store.inner.writer()?.arrive();
                }
                // What the decision depends on has failed: it is made again.
                Err(Refusal::Error(_, Some(in_flight))) if !self.store.inner.writer()?.arrives(in_flight) => {}
                Err(Refusal::Error(error @ Error::GuardFailed { .. }, _)) => {
                    let first = find()?.ok_or(error)?;
                    return Ok(Ticket { committed: Some(first), waiting: None, inline: self.inline() });
                }
                Err(Refusal::Error(error, _)) => return Err(error),
            }
        }
    }

    /// Returns a system commit that deletes an edition, or a domain of it.
    pub(crate) fn deletion(mut self, edition: &str, domain: Option<&str>) -> Self {
        self.side_effects.push(SideEffect::Deletion { edition: edition.to_owned(), domain: domain.map(str::to_owned) });
        self
    }

    /// Adds the system records that the side effects need.
    fn add_system_records(&mut self) -> Result<()> {
        for side_effect in &self.side_effects {
            let system = match side_effect {
                SideEffect::Deletion { edition, domain } => System::Deletion { edition, domain: domain.as_deref() },
                // Any event can carry it.
                SideEffect::Tracking { .. } if self.draft.len() > 0 => continue,
                SideEffect::Tracking { .. } => System::Tracking,
            };
            let stream = StreamId::of_system(system);
            self.draft.push(stream.key(), &NewEvent::new(system.event_type(), ""), false)?;
            self.parts.push(AppendPart { stream, expected: Expected::Any, events: 1, known: None });
        }
        Ok(())
    }

    fn attempt(&mut self, repeats: Option<&Repeats>) -> Result<Ticket, Refusal> {
        let Transaction { store, draft, parts, guards, side_effects, .. } = self;
        let guards = Guards::check(guards, store)?;
        // Most commits have one part, and need no allocation for it.
        let (mut one, mut many) = ([First::default()], Vec::new());
        let firsts = match parts.len() {
            1 => &mut one[..],
            more => {
                many.resize(more, First::default());
                &mut many[..]
            }
        };
        let ((in_flight, committed), waiting) = store.inner.writer()?.commit(draft, |proposal| {
            let in_flight = proposal.in_flight;
            if guards.meet_a_deletion(store) {
                return Err(Refusal::Repeat);
            }
            if let Some(repeats) = repeats
                && (repeats.is_pending() || repeats.find()?.is_some())
            {
                return Err(Refusal::Repeat);
            }
            let refuse = |(error, rests_on)| Refusal::Error(error, in_flight.upto(rests_on));
            guards.check_ahead(proposal.first_position)?;
            guards.check_again(store, &proposal.pending).map_err(refuse)?;
            side_effects
                .iter()
                .try_for_each(|side_effect| store.inner.catalog.check_side_effect(side_effect))
                .map_err(refuse)?;
            let accepted = store.inner.catalog.accept(parts, firsts, proposal.first_position);
            accepted.map_err(|refused| match refused {
                Refused::Failed(error) => Refusal::from(error),
                Refused::Conflict { part, next, rests_on } => {
                    let AppendPart { stream, expected, .. } = &parts[part];
                    refuse((Error::Conflict { stream: stream.clone(), expected: *expected, actual: next }, rests_on))
                }
            })?;
            let committed = place(proposal, parts, firsts);
            repeats.iter().for_each(|repeats| repeats.accepted(committed.positions.end));
            side_effects.iter().for_each(|side_effect| {
                store.inner.catalog.accept_side_effect(side_effect.clone(), committed.positions.end)
            });
            Ok::<_, Refusal>((in_flight, committed))
        })?;
        // Without events, the outcome is an answer like any other.
        if waiting.is_none() && !store.inner.writer()?.arrives(in_flight) {
            return Err(Refusal::Repeat);
        }
        let inline = self.inline();
        Ok(Ticket { committed: Some(committed), waiting, inline })
    }

    /// The store, if there are inline projections.
    fn inline(&self) -> Option<Weak<Inner>> {
        self.store.inner.hooks.has_inline().then(|| Arc::downgrade(&self.store.inner))
    }
}

/// Why an attempt to commit was refused.
enum Refusal {
    /// Another commit must finish first: one with the same idempotency key, or a deletion that a
    /// guard asks about.
    Repeat,
    /// The error, with the position after the commits in flight that it depends on.
    Error(Error, Option<InFlight>),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Refusal::Error(error, None)
    }
}

/// Assigns the sequences of the events of a commit.
fn place(proposal: Proposal<'_>, parts: &[AppendPart], firsts: &[First]) -> Committed {
    let recorded_at = proposal.recorded_at;
    let (mut at, mut position) = (0, proposal.first_position);
    let mut appends = Vec::with_capacity(parts.len());
    for (part, &First { sequence: first, .. }) in parts.iter().zip(firsts) {
        let events = part.events as u64;
        let fits = proposal.draft.set_sequences(at..at + part.events, first);
        assert!(fits, "a stream grew by 2^31 events while one commit was encoded");
        if System::of(part.stream.key()).is_none() {
            appends.push(Appended {
                stream: part.stream.clone(),
                sequences: first..first + events,
                positions: position..position + events,
                recorded_at,
                duplicate: false,
            });
        }
        at += part.events;
        position += events;
    }
    Committed { appends, positions: proposal.first_position..position, recorded_at, duplicate: false }
}

/// Returns the result of a commit without events.
fn nothing(store: &Store, parts: &[AppendPart]) -> Result<Committed> {
    let (head, recorded_at) = (store.len(), store.inner.now());
    let appends = parts.iter().map(|part| {
        let next = store.inner.next_sequence(&part.stream)?;
        let stream = part.stream.clone();
        Ok(Appended { stream, sequences: next..next, positions: head..head, recorded_at, duplicate: false })
    });
    let appends = appends.collect::<Result<_>>()?;
    Ok(Committed { appends, positions: head..head, recorded_at, duplicate: false })
}

/// A commit that has its positions and may not be durable yet.
///
/// The next thread that waits, on this ticket or another, writes the commit. Dropping a ticket does
/// not withdraw its commit: the next waiting thread or the maintenance thread writes it; without a
/// maintenance thread the drop itself does, and blocks.
#[must_use = "only `wait` tells whether the commit was stored"]
pub struct Ticket {
    committed: Option<Committed>,
    waiting: Option<log::CommitTicket>,
    /// The store of the inline projections, if there are any. A ticket does not keep the store
    /// open.
    inline: Option<Weak<Inner>>,
}

impl Ticket {
    /// Blocks until the commit is as durable as [`Durability`](crate::Durability) asks for.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::DiskFull`], [`Error::DurabilityUnknown`]: as [`Store::append`]. A
    /// commit also fails if an earlier one that it was decided against could not be written.
    pub fn wait(self) -> Result<Committed> {
        self.waiting.map_or(Ok(()), log::CommitTicket::wait)?;
        let committed = self.committed.expect("a ticket that was polled to its end is not waited for");
        tell_inline(self.inline, &committed);
        Ok(committed)
    }

    /// Returns whether [`Ticket::wait`] would return at once.
    pub fn is_done(&self) -> bool {
        self.waiting.as_ref().is_none_or(log::CommitTicket::is_done)
    }
}

/// Lets inline projections apply everything up to this commit, in the thread of the caller.
fn tell_inline(inline: Option<Weak<Inner>>, committed: &Committed) {
    // If the store is gone, so are its projections.
    if let Some(inner) = inline.and_then(|inline| inline.upgrade()) {
        let store = Store { inner };
        store.inner.hooks.committed(&store, committed.positions.end);
    }
}

/// With the feature `async`: waits without blocking. The maintenance thread writes the commit, or a
/// thread that waits for another one. Without a maintenance thread, polling blocks for the write
/// and the sync.
#[cfg(feature = "async")]
impl Future for Ticket {
    type Output = Result<Committed>;

    /// # Panics
    ///
    /// If it is polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let outcome = self.waiting.as_mut().map_or(Some(Ok(())), |waiting| waiting.poll(context.waker()));
        let Some(outcome) = outcome else { return Poll::Pending };
        let committed = self.committed.take().expect("a future is not polled after it was ready");
        if outcome.is_ok() {
            tell_inline(self.inline.take(), &committed);
        }
        Poll::Ready(outcome.map(|()| committed))
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("events", &self.draft.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket").field("done", &self.is_done()).finish_non_exhaustive()
    }
}
