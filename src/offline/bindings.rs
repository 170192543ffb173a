//! Checks that entries of POSITIONS refer to events of this log. The file is read before the log,
//! and the bound events are collected while the log is read.

use super::sidecars;
use crate::error::Result;
use crate::format::commit::Recorded;
use crate::format::positions_file::UNBOUND;
use crate::fs::{Fs, Holes};
use crate::index::deletions::covers;
use crate::positions::salvage::{SalvagedProgress, salvage};
use crate::positions::{BindingFault, Bound};
use crate::stream::{StreamId, main_key};
use crate::system::System;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

/// What the log has at a binding.
#[derive(Clone, Copy, Default)]
enum Place {
    /// Nothing that could be read.
    #[default]
    Unseen,
    /// The event is lost: no other one has its number.
    Lost,
    /// An event with this recorded time.
    Recorded(i64),
}

/// A stream in which handlers have positions, or whose events such a stream shares.
#[derive(Default)]
struct Stream {
    /// The position of the newest deletion that covers the stream.
    epoch: u64,
    /// Its first sequence since that deletion, and the sequence after its last event.
    first: Option<u64>,
    next: u64,
    /// The events at the bound sequences, in order.
    places: Vec<(u64, Place)>,
}

/// The content of POSITIONS before the log was read, and the bound events of the log.
#[derive(Default)]
pub(super) struct Bindings {
    found: SalvagedProgress,
    positions: HashMap<u64, Place>,
    streams: HashMap<Arc<[u8]>, Stream>,
}

impl Bindings {
    /// Reads POSITIONS. While a process writes, it must be read before the log: entries are stored
    /// after their events, so that none is then ahead of the log.
    pub(super) fn read(fs: &dyn Fs, dir: &Path) -> Result<Self> {
        let found = salvage(fs, dir)?;
        let checkpoints = found.checkpoints.iter().map(|(_, reached)| (reached.position, reached.recorded_at));
        let letters = found.letters.iter().map(|(_, position, letter)| (*position, letter.recorded_at));
        let bound = checkpoints.chain(letters).filter(|&(_, recorded_at)| recorded_at != UNBOUND);
        let positions = bound.map(|(position, _)| (position, Place::Unseen)).collect();
        let mut streams: HashMap<Arc<[u8]>, Stream> = HashMap::new();
        for (_, stream, _, of) in found.positions.iter().filter(|(.., of)| of.recorded_at != UNBOUND) {
            // The events that an edition shares are in the main edition.
            for stream in [Some(stream.clone()), stream.in_main()].into_iter().flatten() {
                let asked = streams.entry(stream.shared_key()).or_default();
                asked.places.push((of.sequence, Place::Unseen));
            }
        }
        for stream in streams.values_mut() {
            stream.places.sort_unstable_by_key(|&(sequence, _)| sequence);
            stream.places.dedup_by_key(|&mut (sequence, _)| sequence);
        }
        Ok(Bindings { found, positions, streams })
    }

    /// Adds an event of the log, in order of positions.
    pub(super) fn event(&mut self, event: &Recorded<'_>) {
        let system = System::of(event.key);
        if let Some(place) = self.positions.get_mut(&event.position) {
            *place = match system {
                Some(System::Lost) => Place::Lost,
                _ => Place::Recorded(event.recorded_at),
            };
        }
        if self.streams.is_empty() {
            return;
        }
        if let Some(System::Deletion { edition, domain }) = system {
            for (_, stream) in self.streams.iter_mut().filter(|(key, _)| covers(edition, domain, key)) {
                (stream.epoch, stream.first, stream.next) = (event.position, None, 0);
                stream.places.iter_mut().for_each(|(_, place)| *place = Place::Unseen);
            }
        } else if let Some(stream) = self.streams.get_mut(event.key) {
            stream.first.get_or_insert(event.sequence);
            stream.next = event.sequence.saturating_add(1);
            if let Ok(n) = stream.places.binary_search_by_key(&event.sequence, |&(sequence, _)| sequence) {
                stream.places[n].1 = Place::Recorded(event.recorded_at);
            }
        }
    }

    /// Returns the entries of POSITIONS, and notices about those that do not refer to events of the
    /// log. `end` is the end of the log; `None` if the log is damaged, so that its end is unknown.
    pub(super) fn finish(
        self,
        fs: &Holes<'_>,
        dir: &Path,
        store: Option<[u8; 16]>,
        end: Option<u64>,
    ) -> (SalvagedProgress, Vec<String>) {
        let Bindings { found, positions, streams } = self;
        let found = sidecars::of_store(fs, dir, store, found);
        let fault = |place: Place, recorded_at: i64, is_ahead: bool| match place {
            Place::Recorded(found) => (found != recorded_at).then_some(BindingFault::Diverged),
            Place::Unseen => (is_ahead && end.is_some()).then_some(BindingFault::Ahead),
            Place::Lost => None,
        };
        let at = |position: u64, recorded_at: i64| {
            // Events of unbound entries were not collected.
            let place = *positions.get(&position).filter(|_| recorded_at != UNBOUND)?;
            fault(place, recorded_at, end.is_some_and(|end| position >= end))
        };
        let of_handler = |stream: &StreamId, epoch: u64, sequence: u64, recorded_at: i64| {
            let own = streams.get(stream.key()).filter(|_| recorded_at != UNBOUND)?;
            // The damage may have hit the deletion of the edition, or the event at which the stream
            // diverges.
            if own.epoch != epoch || end.is_none() && stream.edition().is_some() {
                return None;
            }
            let shares = own.first.is_none_or(|first| sequence < first);
            let there = if shares { streams.get(main_key(stream.key()))? } else { own };
            let n = there.places.binary_search_by_key(&sequence, |&(sequence, _)| sequence).ok()?;
            fault(there.places[n].1, recorded_at, sequence >= there.next)
        };
        let mut told = Told::default();
        for (name, reached) in &found.checkpoints {
            let bound = Bound::Checkpoint { name, position: reached.position };
            told.note(name, bound, at(reached.position, reached.recorded_at));
        }
        for (name, position, letter) in &found.letters {
            told.note(name, Bound::DeadLetter { name, position: *position }, at(*position, letter.recorded_at));
        }
        for (handler, stream, epoch, of) in &found.positions {
            let bound = Bound::Position { handler, stream, sequence: of.sequence };
            told.note(handler, bound, of_handler(stream, *epoch, of.sequence, of.recorded_at));
        }
        let notices = told.0.into_values().map(|(bound, fault, more)| bound.notice(fault, more)).collect();
        (found, notices)
    }
}

/// The first faulty entry of each kind, name and fault, and the number of the others.
#[derive(Default)]
struct Told<'a>(BTreeMap<(u8, &'a str, bool), (Bound<'a>, BindingFault, u64)>);

impl<'a> Told<'a> {
    fn note(&mut self, name: &'a str, bound: Bound<'a>, fault: Option<BindingFault>) {
        let Some(fault) = fault else { return };
        let kind = match bound {
            Bound::Checkpoint { .. } => 0,
            Bound::DeadLetter { .. } => 1,
            Bound::Position { .. } => 2,
        };
        let same = self.0.entry((kind, name, fault == BindingFault::Ahead));
        same.and_modify(|(.., more)| *more += 1).or_insert((bound, fault, 0));
    }
}
