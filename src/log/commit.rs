//! The write path: accept under the commit lock, write as a group, publish.
//!
//! There is no writer thread. A thread that waits for a commit while no other thread writes becomes
//! the *leader*: it takes the oldest group, writes it with one call, syncs it with another,
//! publishes it and wakes its waiters. Meanwhile the next group gathers, and one of its waiters
//! leads next. So a single caller pays one write and one sync, and no hand-over. (The scheme is
//! that of LevelDB's writers queue, 2011.)

use super::queue::{CommitGroup, CommitState, InFlight, PendingCommits};
use super::ticket::{CommitSlot, CommitTicket};
use super::{Durability, LogTail, LogWriter};
use crate::error::{Error, Result};
use crate::format::commit::{Each, frames};
use crate::format::draft::{Draft, FramePlace};
use crate::format::frame::{Chain, Seal};
use crate::format::segment_header::{MAX_AGE, MAX_EVENTS, SegmentHeader};
use crate::segment::succession::SegmentExtent;
use crate::segment::{START, Segment};
use crate::time::Timestamp;
use parking_lot::MutexGuard;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::atomic::Ordering::{Release, SeqCst};
use std::task::Waker;
use std::time::Duration;

/// Number of accepted bytes that may wait to be written before a thread that adds more must help:
/// by default, as much as one commit may have.
const MAX_PENDING: usize = 64 << 20;

/// The same for groups: there is one for each segment that accepted commits reach into.
const MAX_GROUPS: usize = 8;

/// No thread holds the commit lock for this long.
const LONG: Duration = Duration::from_secs(1);

/// Minimum room that a group gets when another commit joins it.
const GATHERED: usize = 64 << 10;

/// The part of a commit that `prepare` may see and set.
pub(crate) struct Proposal<'a> {
    pub draft: &'a mut Draft,
    pub pending: PendingCommits<'a>,
    /// The position of its first event.
    pub first_position: u64,
    pub recorded_at: Timestamp,
    pub in_flight: InFlight,
}

/// Why a group was not written.
pub(super) enum Failure {
    /// Nothing of it is in the file.
    NotStored(Error),
    /// It is unknown whether it is in the file.
    Unknown(Error),
}

impl LogWriter {
    /// Accepts a commit. `prepare` decides on it under the commit lock, against everything that has
    /// been accepted before: it sets the sequences, or refuses. If it refuses, the draft is
    /// unchanged; otherwise it is empty. A draft without events is only decided on, and there is
    /// nothing to wait for.
    pub(crate) fn commit<T, E: From<Error>>(
        self: &Arc<Self>,
        draft: &mut Draft,
        prepare: impl FnOnce(Proposal<'_>) -> Result<T, E>,
    ) -> Result<(T, Option<CommitTicket>), E> {
        let now = (self.settings.clock)().as_nanos();
        let mut state = self.room()?;
        let recorded_at = now.max(state.tail.chain.recorded_at);
        let proposal = Proposal {
            first_position: state.tail.next_position(),
            recorded_at: Timestamp::from_nanos(recorded_at),
            in_flight: state.in_flight(),
            pending: PendingCommits(&state),
            draft: &mut *draft,
        };
        let prepared = prepare(proposal)?;
        if draft.len() == 0 {
            return Ok((prepared, None));
        }
        let draft = std::mem::replace(draft, Draft::new(self.settings.limits));
        let slot = self.accept(&mut state, draft, recorded_at);
        drop(state);
        Ok((prepared, Some(CommitTicket { writer: self.clone(), slot, waited: false })))
    }

    /// Takes the commit lock, once there is room for one more commit.
    fn room(&self) -> Result<MutexGuard<'_, CommitState>> {
        let mut state = loop {
            if let Some(state) = self.state.try_lock_for(LONG) {
                break state;
            }
            // After a fork, a thread that is not in this process may hold the lock.
            self.check_process()?;
        };
        loop {
            if let Some(refused) = &state.refused {
                return Err(refused.clone());
            }
            if state.pending_bytes < MAX_PENDING && state.groups.len() < MAX_GROUPS {
                return Ok(state);
            }
            self.check_process()?;
            state = self.help(state);
        }
    }

    /// Writes a group, or waits until another thread has.
    fn help<'a>(&'a self, mut state: MutexGuard<'a, CommitState>) -> MutexGuard<'a, CommitState> {
        if state.leading {
            self.progress.wait(&mut state);
            return state;
        }
        self.lead(state);
        self.state.lock()
    }

    /// Assigns position and offset to a commit.
    fn accept(&self, state: &mut CommitState, draft: Draft, recorded_at: i64) -> Arc<CommitSlot> {
        if !state.tail.created && state.tail.chain.frames == 0 {
            // The header is not written yet: its base time may begin now.
            state.tail = LogTail::new(SegmentHeader { base_time: recorded_at, ..state.tail.header }, false);
        }
        if self.must_roll(&state.tail, &draft, recorded_at) {
            self.roll(state, recorded_at);
        }
        let tail = &state.tail;
        let (frame, chain) = draft.finish(&FramePlace {
            segment: &tail.header,
            mask: tail.mask,
            offset: tail.offset,
            chain: &tail.chain,
            recorded_at,
            durable_upto: self.durable.load(Ordering::Acquire),
        });
        let slot = Arc::new(CommitSlot::default());
        let len = frame.len();
        let group = self.open_group(state);
        if group.bytes.is_empty() {
            group.bytes = frame;
        } else {
            // A second commit in a group is often followed by many.
            if group.bytes.capacity() - group.bytes.len() < len {
                group.bytes.reserve(len.max(GATHERED));
            }
            group.bytes.extend_from_slice(&frame);
        }
        group.end.created = true;
        group.end.offset += len as u64;
        group.end.chain = chain;
        group.slots.push(slot.clone());
        state.tail = group.end.clone();
        state.pending_bytes += len;
        slot
    }

    fn must_roll(&self, tail: &LogTail, draft: &Draft, recorded_at: i64) -> bool {
        let end = tail.offset + draft.frame_len() + Seal::FRAME;
        let full = end > self.settings.segment_size || self.log.indexes.is_full(tail.header.number);
        let full = full && tail.chain.frames > 0;
        let events = tail.next_position() - tail.header.first_position + draft.len() as u64;
        let age = recorded_at.wrapping_sub(tail.header.base_time) as u64;
        full || events > MAX_EVENTS || age > MAX_AGE
    }

    /// Seals the segment at the tail, and plans the next. Its file is created when its first group
    /// is written.
    fn roll(&self, state: &mut CommitState, recorded_at: i64) {
        let tail = state.tail.clone();
        let seal = tail.chain.seal(&tail.header).frame(
            tail.chain.previous,
            tail.chain.recorded_at,
            self.durable.load(Ordering::Acquire),
            tail.mask,
            tail.offset,
        );
        let group = self.open_group(state);
        group.bytes.extend_from_slice(&seal);
        let extent = SegmentExtent { segment: tail.header, end: tail.offset, chain: tail.chain };
        group.seals = Some(extent);
        group.end = LogTail::new(SegmentHeader { base_time: recorded_at, ..extent.successor() }, false);
        state.tail = group.end.clone();
        state.pending_bytes += seal.len();
    }

    /// Returns the group at the tail, if it takes one more frame of the same segment.
    fn open_group<'a>(&self, state: &'a mut CommitState) -> &'a mut CommitGroup {
        let open = state.groups.back().is_some_and(|group| group.seals.is_none());
        if !open {
            let tail = &state.tail;
            state.groups.push_back(CommitGroup {
                segment: tail.header,
                create: !tail.created,
                seals: None,
                at: tail.offset,
                bytes: Vec::new(),
                slots: Vec::new(),
                end: tail.clone(),
            });
        }
        state.groups.back_mut().expect("a group was pushed if there was none")
    }

    /// Blocks until the outcome of this slot is known.
    pub(super) fn wait(&self, slot: &Arc<CommitSlot>) -> Result<()> {
        loop {
            if let Some(outcome) = slot.outcome() {
                return outcome;
            }
            let mut state = self.state.lock();
            if let Some(outcome) = slot.outcome() {
                return outcome;
            }
            if state.leading {
                self.check_process()?;
                slot.register();
                state.waiters.push_back(slot.clone());
                drop(state);
                slot.park();
            } else {
                self.lead(state);
            }
        }
    }

    /// Writes the oldest group.
    fn lead(&self, mut state: MutexGuard<'_, CommitState>) {
        let Some(group) = state.groups.pop_front().map(Arc::new) else { return };
        state.in_flight = Some(group.clone());
        state.leading = true;
        drop(state);
        // A spare file may be due, which `close` waits for anyway.
        let work = self.held.files.work().ok();
        let mut guard = Leader { writer: self, slots: &group.slots, done: false };
        let result = self.write(&group);
        guard.done = true;
        drop(guard);
        let (written, wants_spare) = (result.is_ok(), *result.as_ref().unwrap_or(&false));
        self.complete(&group, result.map(drop));
        if written {
            if let Durability::Interval(_) = self.settings.durability {
                self.syncing.written();
            }
            // After the waiters of these commits.
            self.observer.wake(self.log.caller);
        }
        // The waiters have been notified.
        if work.is_none() {
            return;
        }
        if let Some(extent) = group.seals.filter(|_| written)
            && !self.maintenance.write_index(extent)
        {
            self.write_index(&extent);
        }
        if wants_spare && !self.maintenance.make_spare() {
            self.make_spare();
        }
    }

    /// Writes and syncs a group, and makes it visible. Returns whether a spare file must be made.
    fn write(&self, group: &CommitGroup) -> Result<bool, Failure> {
        self.check_process().map_err(Failure::NotStored)?;
        let mut active = self.active.lock();
        if (group.create || group.seals.is_some())
            && let Err(error) = self.held.check_lock()
        {
            self.held.files.shut();
            return Err(active.refuse(error));
        }
        if group.create {
            let segment = active.create(group.segment)?;
            self.log.register(segment);
            // Later frames would not reveal it if the file should get lost.
            self.mark_at(&group.segment, &Chain::start(&group.segment), START);
        }
        active.write(group.at, &group.bytes)?;
        let upto = group.end.next_position();
        if self.settings.durability == Durability::Sync || group.seals.is_some() {
            active.sync()?;
            self.durable.store(upto, Release);
        }
        if let Some(SegmentExtent { segment, chain, .. }) = &group.seals {
            self.mark_at(segment, chain, group.at + group.bytes.len() as u64);
        }
        let (segment, wants_spare) = (active.segment(), active.wants_spare());
        drop(active);
        self.publish(group, &segment, upto);
        Ok(wants_spare)
    }

    fn publish(&self, group: &CommitGroup, segment: &Segment, upto: u64) {
        let mut events = |each: Each<'_>| {
            for frame in frames(&group.bytes, group.at, segment.mask) {
                let read = frame.records(&segment.path, |event| each(segment.header.number, &event));
                read.expect("a frame that was just encoded can be decoded");
            }
        };
        let wrong = self.observer.publish(&mut events, &|| {
            segment.set_readable(group.at + group.bytes.len() as u64);
            self.log.watermark.store(upto, SeqCst);
        });
        assert_eq!(wrong, None, "sequences are given under the commit lock, one after the other");
        self.maintenance.committed();
    }

    /// Notifies the waiters of a group of its outcome, and the next leader.
    fn complete(&self, group: &CommitGroup, result: Result<(), Failure>) {
        let mut state = self.state.lock();
        state.leading = false;
        state.in_flight = None;
        let mut outcome = Ok(());
        let mut dropped = Vec::new();
        match result {
            Ok(()) => {
                state.pending_bytes -= group.bytes.len();
                state.written = group.end.clone();
            }
            Err(failure) => {
                let error = match failure {
                    Failure::NotStored(error) => error,
                    Failure::Unknown(error) => state.refused.insert(error).clone(),
                };
                // Everything accepted after the group builds on positions and sequences that do not
                // exist now.
                dropped = self.roll_back(&mut state);
                outcome = Err(error);
            }
        }
        if let Err(error) = &outcome {
            state.failures = (state.failures.0 + 1, Some(error.clone()));
        }
        let woken = self.tell(&mut state, group.slots.iter().chain(&dropped), &outcome);
        // A waiter of a later group leads next. Waiters that have been notified are skipped.
        while state.waiters.pop_front().is_some_and(|slot| !slot.promote(self.log.caller)) {}
        self.progress.notify_all();
        drop(state);
        self.wake(woken);
    }

    /// Sets the outcome of commits. Returns their waiters, to be woken outside the commit lock.
    fn tell<'s>(
        &self,
        state: &mut CommitState,
        slots: impl Iterator<Item = &'s Arc<CommitSlot>>,
        outcome: &Result<()>,
    ) -> Vec<Waker> {
        let told = slots.filter_map(|slot| {
            // An error without a waiter is returned by the next sync or close.
            if let Err(error) = outcome
                && slot.is_abandoned()
            {
                state.untold.get_or_insert(error.clone());
            }
            slot.complete(outcome.clone())
        });
        told.collect()
    }

    /// Forgets all commits that are accepted and not written. Returns their slots.
    fn roll_back(&self, state: &mut CommitState) -> Vec<Arc<CommitSlot>> {
        state.tail = state.written.clone();
        state.pending_bytes = 0;
        state.rollbacks += 1;
        self.observer.rolled_back();
        state.groups.drain(..).flat_map(|group| group.slots).collect()
    }

    /// Writes everything that was accepted before the call, or waits until other threads have. The
    /// ticket of each commit returns its outcome.
    pub(crate) fn arrive(&self) {
        drop(self.arrived(self.state.lock()));
    }

    /// Returns once the commits in flight that a decision depends on are visible (`true`) or have
    /// failed. If they have failed, the decision is void, as no reader will ever see what it
    /// depends on.
    ///
    /// A caller that gets a conflict reads again and decides again. Notified earlier, it would find
    /// nothing new, and get the same conflict until the group is written; or it would take for done
    /// what a full disk or a power cut undoes.
    pub(crate) fn arrives(&self, in_flight: InFlight) -> bool {
        let mut state = self.state.lock();
        while state.rollbacks == in_flight.rollbacks
            && state.written.next_position() < in_flight.end
            && (state.leading || !state.groups.is_empty())
        {
            state = self.help(state);
        }
        state.rollbacks == in_flight.rollbacks && state.written.next_position() >= in_flight.end
    }

    fn arrived<'a>(&'a self, mut state: MutexGuard<'a, CommitState>) -> MutexGuard<'a, CommitState> {
        let end = state.tail.next_position();
        while state.written.next_position() < end && (state.leading || !state.groups.is_empty()) {
            state = self.help(state);
        }
        state
    }

    /// Does the same, and returns failures.
    ///
    /// # Errors
    ///
    /// The error of a commit in the meantime, or earlier if its ticket was dropped and no caller
    /// has got it.
    pub(super) fn drain(&self) -> Result<()> {
        let state = self.state.lock();
        let failures = state.failures.0;
        let mut state = self.arrived(state);
        let untold = state.untold.take();
        let meanwhile = (state.failures.0 > failures).then(|| state.failures.1.clone()).flatten();
        untold.or(meanwhile).map_or(Ok(()), Err)
    }

    /// Makes what has been written so far durable.
    pub(super) fn sync_written(&self) -> Result<()> {
        let mut active = self.active.lock();
        let upto = self.state.lock().written.next_position();
        if self.durable.load(Ordering::Acquire) >= upto {
            return Ok(());
        }
        let Err(Failure::Unknown(error) | Failure::NotStored(error)) = active.sync() else {
            self.durable.fetch_max(upto, Ordering::AcqRel);
            return Ok(());
        };
        drop(active);
        self.refuse(&error);
        Err(error)
    }

    /// Accepts no more commits. Accepted commits that are not being written fail.
    pub(super) fn refuse(&self, error: &Error) {
        let mut state = self.state.lock();
        state.refused.get_or_insert(error.clone());
        // A group that is being written meets the error in the writer, and its leader notifies all
        // later ones.
        let dropped = if state.leading { Vec::new() } else { self.roll_back(&mut state) };
        let woken = self.tell(&mut state, dropped.iter(), &Err(error.clone()));
        drop(state);
        self.wake(woken);
    }

    /// Wakes the waiters whose outcome has been set.
    fn wake(&self, woken: Vec<Waker>) {
        woken.into_iter().for_each(|waker| self.log.caller.wake(waker));
    }
}

/// If dropped before `done` is called, refuses all further commits, and wakes all waiters: the
/// leader has panicked.
struct Leader<'a> {
    writer: &'a LogWriter,
    slots: &'a [Arc<CommitSlot>],
    done: bool,
}

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        if self.done {
            return;
        }
        let error = Error::DurabilityUnknown { why: "the thread that wrote the commit panicked".into() };
        let mut state = self.writer.state.lock();
        state.leading = false;
        state.in_flight = None;
        let refused = state.refused.insert(error).clone();
        let dropped = self.writer.roll_back(&mut state);
        let woken = self.writer.tell(&mut state, self.slots.iter().chain(&dropped), &Err(refused));
        self.writer.progress.notify_all();
        drop(state);
        self.writer.wake(woken);
    }
}
