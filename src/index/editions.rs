//! The events that named editions have of their own.

use super::deletions::Deletions;
use super::term::{self, Term, TermKind};
use super::{Index, SegmentIndexes};
use crate::error::Result;
use crate::position::Location;
use crate::stream::main_key;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// The events that a stream has of its own in a named edition.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// Their sequences: the first one is where the stream diverges. Empty if it does not.
    pub sequences: Range<u64>,
    /// The next sequence of the stream in the main edition.
    pub main: u64,
    /// Their locations, in order.
    segments: Vec<(u64, Vec<u32>)>,
}

impl Own {
    /// Returns all of their locations, in order.
    pub(crate) fn places(&self) -> impl Iterator<Item = Location> {
        let of = |(segment, offsets): &(u64, Vec<u32>)| {
            let segment = *segment;
            offsets.clone().into_iter().map(move |offset| Location { segment, offset: offset.into() })
        };
        self.segments.iter().flat_map(of)
    }

    /// Returns the location of the event with this sequence, which must be one of them.
    pub(crate) fn location(&self, sequence: u64) -> Option<Location> {
        let mut skip = usize::try_from(sequence.checked_sub(self.sequences.start)?).ok()?;
        for (segment, offsets) in &self.segments {
            match offsets.get(skip) {
                Some(&offset) => return Some(Location { segment: *segment, offset: offset.into() }),
                None => skip -= offsets.len(),
            }
        }
        None
    }
}

/// The segments in which a named edition has events of its own.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    pub segments: Vec<u64>,
    /// The number of its events there: at least that of the streams that diverge in it.
    pub events: u64,
}

/// The content of the positions of a store.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PositionContents {
    /// Number of events that a reader can see.
    pub events: u64,
    /// Number of events that were deleted with their edition.
    pub deleted: u64,
    /// Number of system records.
    pub system: u64,
}

impl SegmentIndexes {
    /// Returns the offsets of a term's events in a segment after `since`. An error is the segment
    /// whose index file is broken.
    pub(super) fn offsets_since(&self, segment: u64, term: &[u8], since: Location) -> Result<Vec<u32>, u64> {
        let mut found = Vec::new();
        let from = if segment == since.segment { since.offset + 1 } else { 0 };
        let range = from..u64::MAX;
        if let Some(file) = self.file(segment) {
            let broken = |_| segment;
            if let Some(entry) = file.find(term).map_err(broken)? {
                file.offsets(&entry, &range, &mut found).map_err(broken)?;
            }
        }
        if let Some(memory) = self.memory.get(&segment) {
            memory.offsets(term, &range, &mut found);
        }
        Ok(found)
    }

    fn own(&self, key: &[u8]) -> Result<Own, u64> {
        let since = self.deletions.of_key(key).at;
        let term = Term::stream(key);
        let main = main_key(key);
        let mut own =
            Own { main: self.heads.get(main).map_or_else(|| self.next_sequence(main), Ok)?, ..Own::default() };
        let mut count = 0;
        for segment in since.segment.max(1)..=self.segments() {
            let offsets = self.offsets_since(segment, term.bytes(), since)?;
            if !offsets.is_empty() {
                count += offsets.len() as u64;
                own.segments.push((segment, offsets));
            }
        }
        if count > 0 {
            own.sequences = super::memory::sequences(self.next_sequence(key)?, count);
        }
        Ok(own)
    }

    fn edition_events(
        &self,
        segments: Range<u64>,
        edition: Option<&str>,
        since: &Deletions,
        until: Location,
    ) -> Result<BTreeMap<(String, String), u64>, u64> {
        let prefix = edition.map_or_else(
            || vec![TermKind::Domain as u8],
            |name| Term::new(TermKind::Domain, Some(name), b"").bytes().to_vec(),
        );
        let mut events = BTreeMap::new();
        self.each_term(segments, &prefix, |segment, term, offsets| {
            let (edition, domain) =
                (String::from_utf8_lossy(term::edition(term)), String::from_utf8_lossy(term::text(term)));
            let since = since.of(&edition, &domain).at;
            if edition.is_empty() || segment < since.segment {
                return Ok(());
            }
            let before = |&&offset: &&u32| Location { segment, offset: offset.into() } < until;
            let count = offsets(since)?.iter().filter(before).count() as u64;
            if count > 0 {
                *events.entry((edition.into_owned(), domain.into_owned())).or_insert(0) += count;
            }
            Ok(())
        })?;
        Ok(events)
    }

    /// Calls `each` with each term that begins with `prefix`, segment by segment, with the offsets
    /// of its events.
    fn each_term(
        &self,
        segments: Range<u64>,
        prefix: &[u8],
        mut each: impl FnMut(u64, &[u8], &dyn Fn(Location) -> Result<Vec<u32>, u64>) -> Result<(), u64>,
    ) -> Result<(), u64> {
        for segment in segments {
            let mut terms = self.terms_in(segment, prefix).map_err(|_| segment)?;
            terms.dedup_by(|a, b| a.0 == b.0);
            for (term, _) in &terms {
                each(segment, term, &|since| self.offsets_since(segment, term, since))?;
            }
        }
        Ok(())
    }
}

impl Index {
    /// Returns what a stream has of its own in its edition, at one moment: nothing is published
    /// while it is looked up.
    pub(crate) fn own(&self, key: &[u8]) -> Result<Own> {
        self.at_once(|parts| parts.own(key))
    }

    /// Returns the names of the editions that have, or had, events of their own.
    pub(crate) fn editions(&self) -> Result<Vec<String>> {
        let terms = self.terms(&[TermKind::Edition as u8])?;
        Ok(terms.keys().map(|term| String::from_utf8_lossy(term::edition(term)).into_owned()).collect())
    }

    /// Returns the segments in which an edition has events, from that of its last deletion on.
    pub(crate) fn spread(&self, edition: &str, deletions: &Deletions) -> Result<Spread> {
        let term = Term::new(TermKind::Edition, Some(edition), b"");
        let first = deletions.exactly(edition, None).at.segment.max(1);
        let mut spread = Spread::default();
        for segment in first..=self.segments() {
            let events = self.count(segment, &term)?;
            if events > 0 {
                spread.segments.push(segment);
                spread.events += events;
            }
        }
        Ok(spread)
    }

    /// Returns the location of the first event that the stream with this key has in one of these
    /// segments, after the deletions in `since`.
    pub(crate) fn first_own(&self, key: &[u8], since: &Deletions, segments: &[u64]) -> Result<Option<Location>> {
        let (since, term) = (since.of_key(key).at, Term::stream(key));
        for &segment in segments.iter().filter(|&&segment| segment >= since.segment) {
            let from = if segment == since.segment { since.offset + 1 } else { 0 };
            if let Some(offset) = self.first(segment, &term, from)? {
                return Ok(Some(Location { segment, offset: offset.into() }));
            }
        }
        Ok(None)
    }

    /// Returns the same for all streams of an edition, by their keys in the main one. Locks one
    /// segment at a time, so that no writer waits for all of them.
    pub(crate) fn all_first_own(
        &self,
        edition: &str,
        since: &Deletions,
        segments: &[u64],
    ) -> Result<HashMap<Vec<u8>, Location>> {
        let prefix = Term::new(TermKind::Stream, Some(edition), b"");
        let mut all = HashMap::new();
        for &segment in segments {
            let found = self.at_once(|parts| {
                let mut found = Vec::new();
                for (term, _) in parts.terms_in(segment, prefix.bytes()).map_err(|_| segment)? {
                    let key = term::stream_key(&term);
                    let main = main_key(&key);
                    let since = since.of_key(&key).at;
                    if segment < since.segment || all.contains_key(main) {
                        continue;
                    }
                    if let Some(&first) = parts.offsets_since(segment, &term, since)?.first() {
                        found.push((main.to_vec(), Location { segment, offset: first.into() }));
                    }
                }
                Ok(found)
            })?;
            // A term that is in the file and in memory is found twice, with the same location.
            all.extend(found);
        }
        Ok(all)
    }

    /// Returns the number of events in each domain of each named edition (or of one), after the
    /// deletions in `since` and before `until`.
    pub(crate) fn edition_events(
        &self,
        edition: Option<&str>,
        since: &Deletions,
        until: Location,
    ) -> Result<BTreeMap<(String, String), u64>> {
        self.at_once(|parts| parts.edition_events(1..parts.segments() + 1, edition, since, until))
    }

    /// Returns the content of the visible positions, from those of this segment on.
    pub(crate) fn held_from(&self, first: u64) -> Result<PositionContents> {
        self.at_once(|parts| {
            let (mut held, mut named) = (PositionContents::default(), 0);
            let segments = first..parts.segments() + 1;
            for segment in segments.clone() {
                let terms = |prefix: &[u8]| parts.terms_in(segment, prefix).map_err(|_| segment);
                for (term, posted) in terms(&[TermKind::Domain as u8])? {
                    match term::edition(&term) {
                        [] => held.events += posted.count,
                        _ => named += posted.count,
                    }
                }
                // No name of a caller's stream begins as those of system streams do.
                let system = Term::new(TermKind::Stream, None, &[0, 0]);
                held.system += terms(system.bytes())?.iter().map(|(_, posted)| posted.count).sum::<u64>();
            }
            let live = parts.edition_events(segments, None, &parts.deletions, Location::END)?.values().sum::<u64>();
            held.events += live;
            held.deleted = named.saturating_sub(live);
            Ok(held)
        })
    }
}
