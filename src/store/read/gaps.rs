//! Gaps: positions whose events are lost, and how reads report them.

use crate::error::{Damage, Error, Result, numbers};
use crate::format::event::Event;
use crate::index::deletions::Deletions;
use crate::index::term::Term;
use crate::position::Location;
use crate::reconstruct::Loss;
use crate::store::{Inner, Store};
use crate::stream::{StreamId, main_key};
use crate::system::System;
use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::Arc;

impl Store {
    /// Returns the positions whose events are lost, in order: those that a salvage or a repair has
    /// filled with records of lost events, and, in a store that is opened read-only around damage,
    /// those that are damaged now. Readers skip the former, and report the latter: see
    /// [`Options::open_read_only`](crate::Options::open_read_only). Empty unless something was
    /// lost.
    ///
    /// Reads the record at each of these positions.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Damaged`].
    pub fn losses(&self) -> Result<Vec<Range<u64>>> {
        self.ask(|store| store.inner.losses())
    }
}

impl Inner {
    fn losses(&self) -> Result<Vec<Range<u64>>> {
        let index = &self.catalog.index;
        let mut losses: Vec<Range<u64>> = Vec::new();
        if !index.is_lossy() {
            return Ok(losses);
        }
        let term = Term::stream(&System::Lost.key());
        for segment in 1..=index.segments() {
            let mut offsets = Vec::new();
            index.offsets(segment, &term, &(0..u64::MAX), &mut offsets)?;
            for offset in offsets {
                let position = self.log.event_at(Location { segment, offset: offset.into() })?.position();
                match losses.last_mut() {
                    Some(last) if last.end == position => last.end += 1,
                    _ => losses.push(position..position + 1),
                }
            }
        }
        Ok(losses)
    }
}

impl Inner {
    /// Returns the range of sequences, from the first to the last, that a stream is known to have
    /// lost before a position and that were not deleted.
    pub(crate) fn known_lost(&self, stream: &StreamId, before: u64) -> Option<Range<u64>> {
        if self.gaps.is_empty() {
            return None;
        }
        let since = self.catalog.index.deletions().of_key(stream.key()).position;
        let gaps = self.gaps.iter().filter(|gap| (since..before).contains(&gap.damage.positions.start));
        let lost = gaps.flat_map(|gap| &gap.streams).filter(|lost| lost.stream == *stream);
        lost.map(|lost| lost.sequences.clone()).reduce(|a, b| a.start.min(b.start)..a.end.max(b.end))
    }

    /// Returns, for each stream in an edition, the first sequence that it is known to have lost,
    /// before a position and after these deletions; by its key in the main edition.
    pub(crate) fn lost_own(&self, edition: &str, since: &Deletions, before: u64) -> HashMap<Vec<u8>, u64> {
        let mut first: HashMap<Vec<u8>, u64> = HashMap::new();
        for gap in self.gaps.iter() {
            for lost in gap.streams.iter().filter(|lost| lost.stream.edition() == Some(edition)) {
                let key = lost.stream.key();
                if (since.of_key(key).position..before).contains(&gap.damage.positions.start) {
                    let first = first.entry(main_key(key).to_vec()).or_insert(u64::MAX);
                    *first = lost.sequences.start.min(*first);
                }
            }
        }
        first
    }
}

/// The gaps of a store that is read around damage, in order of positions.
pub(crate) type Gaps = Arc<[Loss]>;

/// The gaps that a read has not reported yet.
pub(crate) struct Untold {
    gaps: Gaps,
    /// The numbers of the gaps that have not been passed.
    left: Range<usize>,
    backwards: bool,
    of: Option<Asked>,
    /// Gaps that have been passed and not reported.
    ready: VecDeque<Error>,
    /// All gaps are reported, including those after the events that a limit lets through: one of
    /// them may have held the event that the read should have begun with, or one that hides an
    /// event from a named edition.
    pub all: bool,
}

/// The stream whose gaps are reported, and the state of the read in it.
struct Asked {
    stream: StreamId,
    main: Option<StreamId>,
    range: Range<u64>,
    /// The position of the stream's first known event of its own, in a named edition; 0 in the main
    /// one. A gap before it may have held an earlier one, from which on the stream does not share
    /// the events of the main edition, so that nothing seems to be missing: the gap is reported
    /// before the first shared event.
    first_own: u64,
    /// The numbers of the gaps that may be like that. Empty once they have been reported.
    hiding: Range<usize>,
    /// The last sequence that was returned.
    last: Option<u64>,
}

impl Untold {
    /// Returns the gaps of a read of these positions.
    pub(crate) fn of_positions(gaps: &Gaps, positions: Range<u64>, backwards: bool) -> Self {
        let first = gaps.partition_point(|gap| gap.damage.positions.end <= positions.start);
        // A loss without an end begins at the end of the log, and so do the positions of a read up
        // to there.
        let end = gaps.partition_point(|gap| match gap.damage.positions {
            Range { start, end: u64::MAX } => start <= positions.end,
            Range { start, .. } => start < positions.end,
        });
        Untold {
            gaps: gaps.clone(),
            left: first..end.max(first),
            backwards,
            of: None,
            ready: VecDeque::new(),
            all: false,
        }
    }

    /// Returns the gaps of a read of these sequences of a stream, among the events below a
    /// position.
    pub(crate) fn of_stream(
        gaps: &Gaps,
        stream: &StreamId,
        range: Range<u64>,
        first_own: u64,
        end: u64,
        backwards: bool,
    ) -> Self {
        let main = stream.in_main();
        let untold = Self::of_positions(gaps, 0..end, backwards);
        let hiding = gaps[untold.left.clone()].partition_point(|gap| gap.damage.positions.start < first_own);
        let hiding = untold.left.start..untold.left.start + hiding;
        Untold { of: Some(Asked { stream: stream.clone(), main, range, first_own, hiding, last: None }), ..untold }
    }

    /// Passes the gaps before an event, or all of them at the end of the read. [`Untold::tell`]
    /// then reports them.
    pub(crate) fn pass(&mut self, event: Option<&Event>) {
        if event.is_none_or(|event| event.edition().is_none())
            && let Some(of) = &mut self.of
        {
            let hiding = std::mem::take(&mut of.hiding);
            let told = self.gaps[hiding].iter().filter(|gap| !gap.all_known).map(|gap| of.may_diverge_in(gap));
            self.ready.extend(told);
        }
        loop {
            let next = if self.backwards { self.left.clone().next_back() } else { self.left.clone().next() };
            let Some(n) = next else { break };
            let positions = &self.gaps[n].damage.positions;
            let before = event.is_none_or(|event| match self.backwards {
                false => positions.start < event.position(),
                true => positions.start > event.position(),
            });
            if !before {
                break;
            }
            if self.backwards {
                self.left.end -= 1
            } else {
                self.left.start += 1
            }
            let told = self.gap(&self.gaps[n], event);
            self.ready.extend(told);
        }
        if let Some(of) = &mut self.of {
            of.last = event.map(Event::sequence).or(of.last);
        }
    }

    /// Passes the remaining gaps of unknown content: an event there may be the one from which on a
    /// named edition does not share those of the main one.
    pub(crate) fn pass_unknown(&mut self) {
        let left = std::mem::replace(&mut self.left, 0..0);
        let unknown = self.gaps[left].iter().filter(|gap| !gap.all_known);
        self.ready.extend(unknown.map(|gap| Error::Damaged(Box::new(gap.damage.clone()))));
    }

    /// Returns the first position of those gaps that have not been passed; `u64::MAX` if there are
    /// none.
    pub(crate) fn first(&self) -> u64 {
        self.gaps[self.left.clone()].first().map_or(u64::MAX, |gap| gap.damage.positions.start)
    }

    /// Returns the next gap that has been passed.
    pub(crate) fn tell(&mut self) -> Option<Error> {
        self.ready.pop_front()
    }

    fn gap(&self, loss: &Loss, event: Option<&Event>) -> Option<Error> {
        let Damage { path, bytes, positions, why } = &loss.damage;
        let Some(of) = &self.of else { return Some(Error::Damaged(Box::new(loss.damage.clone()))) };
        // Reported before the first shared event.
        if !loss.all_known && positions.start < of.first_own {
            return None;
        }
        let lacks = of.lacks(event, self.backwards)?;
        let mut sequences = lacks.clone();
        if loss.all_known {
            let is_asked = |stream: &StreamId| *stream == of.stream || of.main.as_ref() == Some(stream);
            let here = loss.streams.iter().filter(|lost| is_asked(&lost.stream));
            let overlap = |range: &Range<u64>| range.start.max(lacks.start)..range.end.min(lacks.end);
            sequences = here.map(|lost| overlap(&lost.sequences)).find(|range| !range.is_empty())?;
        }
        let told = match sequences.end {
            u64::MAX => format!("{why}; {} may have had events from sequence {} on there", of.stream, sequences.start),
            _ => format!("{why}; {} lacks {}", of.stream, numbers("sequence", &sequences)),
        };
        Some(Error::damaged(path, bytes.clone(), positions.clone(), told))
    }
}

impl Asked {
    fn may_diverge_in(&self, loss: &Loss) -> Error {
        let Damage { path, bytes, positions, why } = &loss.damage;
        let told = format!("{why}; {} may have diverged from the main edition there", self.stream);
        Error::damaged(path, bytes.clone(), positions.clone(), told)
    }

    /// The requested sequences that a gap before this event may have held.
    fn lacks(&self, event: Option<&Event>, backwards: bool) -> Option<Range<u64>> {
        let (start, end) = match (backwards, event) {
            (false, event) => {
                (self.last.map_or(self.range.start, |last| last + 1), event.map_or(self.range.end, Event::sequence))
            }
            (true, event) => {
                (event.map_or(self.range.start, |event| event.sequence() + 1), self.last.unwrap_or(self.range.end))
            }
        };
        (start < end).then_some(start..end)
    }
}
