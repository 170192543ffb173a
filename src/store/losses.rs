//! What a store has lost: positions whose events are gone, and how reads tell of them.

use super::{Inner, Store};
use crate::error::{Damage, Error, Result};
use crate::format::event::Event;
use crate::index::term::Term;
use crate::mend::Loss;
use crate::position::Location;
use crate::stream::StreamId;
use crate::system::System;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

impl Store {
    /// The positions whose events are lost, in order: those that a salvage or a repair has filled, and, in a store that is opened read-only around damage, those that are damaged now. Readers step over the former, and
    /// name the latter: see [`Options::open_read_only`](crate::Options::open_read_only). Empty unless something was lost.
    ///
    /// Reads what stands at each of these positions.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Damaged`].
    pub fn losses(&self) -> Result<Vec<Range<u64>>> {
        self.ask(|store| store.inner.seen_around().losses())
    }
}

impl Inner {
    fn losses(&self) -> Result<Vec<Range<u64>>> {
        let index = &self.view.index;
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

/// What a store that is read around damage lacks, in order of positions.
pub(super) type Gaps = Arc<[Loss]>;

/// What a read has still to tell of gaps.
pub(super) struct Untold {
    gaps: Gaps,
    /// The numbers of those that have not been passed.
    left: Range<usize>,
    backwards: bool,
    of: Option<Asked>,
    /// Gaps that were passed and have not been told of.
    ready: VecDeque<Error>,
}

/// Of which stream a gap is to be told, and where in it the read is.
struct Asked {
    stream: StreamId,
    main: Option<StreamId>,
    range: Range<u64>,
    /// The last sequence that was given.
    last: Option<u64>,
}

impl Untold {
    /// For a read of these positions.
    pub(super) fn of_positions(gaps: &Gaps, positions: Range<u64>, backwards: bool) -> Self {
        let first = gaps.partition_point(|gap| gap.damage.positions.end <= positions.start);
        // One without an end begins where the log now ends, and so do the positions of a read up to there.
        let end = gaps.partition_point(|gap| match gap.damage.positions {
            Range { start, end: u64::MAX } => start <= positions.end,
            Range { start, .. } => start < positions.end,
        });
        Untold { gaps: gaps.clone(), left: first..end.max(first), backwards, of: None, ready: VecDeque::new() }
    }

    /// For a read of these sequences of a stream, among the events below a position.
    pub(super) fn of_stream(gaps: &Gaps, stream: &StreamId, range: Range<u64>, end: u64, backwards: bool) -> Self {
        let main = stream.in_main();
        let of = Some(Asked { stream: stream.clone(), main, range, last: None });
        Untold { of, ..Self::of_positions(gaps, 0..end, backwards) }
    }

    /// Passes by the gaps before an event, or, without one, at the end of the read. Then [`Untold::tell`] tells of them.
    pub(super) fn pass(&mut self, event: Option<&Event>) {
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

    /// The next gap that was passed.
    pub(super) fn tell(&mut self) -> Option<Error> {
        self.ready.pop_front()
    }

    fn gap(&self, loss: &Loss, event: Option<&Event>) -> Option<Error> {
        let Damage { path, bytes, positions, why } = &loss.damage;
        let Some(of) = &self.of else { return Some(Error::Damaged(Box::new(loss.damage.clone()))) };
        let lacks = of.lacks(event, self.backwards)?;
        let mut sequences = lacks.clone();
        if loss.all_known {
            let is_asked = |stream: &StreamId| *stream == of.stream || of.main.as_ref() == Some(stream);
            let here = loss.streams.iter().filter(|lost| is_asked(&lost.stream));
            let overlap = |range: &Range<u64>| range.start.max(lacks.start)..range.end.min(lacks.end);
            sequences = here.map(|lost| overlap(&lost.sequences)).find(|range| !range.is_empty())?;
        }
        let told = match sequences.end {
            u64::MAX => format!("{why}; {} may have had sequences from {} on there", of.stream, sequences.start),
            end => format!("{why}; {} lacks sequences {} to {}", of.stream, sequences.start, end - 1),
        };
        Some(Error::damaged(path, bytes.clone(), positions.clone(), told))
    }
}

impl Asked {
    /// The sequences that are asked for and that a gap before this event may have held.
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
