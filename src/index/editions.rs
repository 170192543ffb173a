//! What named editions have of their own, as it is at one moment: nothing is published while it is looked up.

use super::deletions::Deletions;
use super::term::{self, Kind, Term};
use super::{Index, Parts};
use crate::error::Result;
use crate::position::Location;
use crate::stream::main_key;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::sync::Arc;

/// The events that a stream has of its own in a named edition.
#[derive(Debug, Default)]
pub(crate) struct Own {
    /// Their sequences: the first one is where the stream diverges. Empty if it does not.
    pub sequences: Range<u64>,
    /// The next sequence of the stream in the main edition.
    pub main: u64,
    /// Where they stand, in order.
    segments: Vec<(u64, Vec<u32>)>,
}

impl Own {
    /// Where all of them stand, in order.
    pub(crate) fn places(&self) -> impl Iterator<Item = Location> {
        let of = |(segment, offsets): &(u64, Vec<u32>)| {
            let segment = *segment;
            offsets.clone().into_iter().map(move |offset| Location { segment, offset: offset.into() })
        };
        self.segments.iter().flat_map(of)
    }

    /// Where the event with this sequence, which must be one of them, stands.
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

/// Where a stream of the main edition is shadowed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Divergence {
    /// From this sequence on.
    pub sequence: u64,
    /// The first event of the edition's own.
    pub first: Location,
}

/// The streams that diverge in an edition, by their keys in the main one.
pub(crate) type Diverged = HashMap<Vec<u8>, Divergence>;

impl Parts {
    /// The offsets of a term's events in a segment that stand behind `since`. On an error, the segment whose file is not intact.
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

    /// Shows each term that begins with `prefix`, segment by segment, with the offsets of its events.
    fn each_term(
        &self,
        prefix: &[u8],
        mut each: impl FnMut(u64, &[u8], &dyn Fn(Location) -> Result<Vec<u32>, u64>) -> Result<(), u64>,
    ) -> Result<(), u64> {
        for segment in 1..=self.segments() {
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
    /// What a stream has of its own in its edition.
    pub(crate) fn own(&self, key: &[u8]) -> Result<Own> {
        self.at_once(|parts| parts.own(key))
    }

    /// The streams that diverge in an edition, the deletions, and what `watermark` says at the same moment.
    pub(crate) fn diverged(
        &self,
        edition: &str,
        watermark: impl Fn() -> u64,
    ) -> Result<(Diverged, (Arc<Deletions>, u64))> {
        let prefix = Term::new(Kind::Stream, Some(edition), b"");
        self.at_once(|parts| {
            let mut diverged = Diverged::new();
            parts.each_term(prefix.bytes(), |segment, term, offsets| {
                let key = term::stream_key(term);
                let since = parts.deletions.of_key(&key).at;
                let main = main_key(&key);
                if segment < since.segment || diverged.contains_key(main) {
                    return Ok(());
                }
                if let Some(&first) = offsets(since)?.first() {
                    let first = Location { segment, offset: first.into() };
                    let sequence = parts.own(&key)?.sequences.start;
                    diverged.insert(main.to_vec(), Divergence { sequence, first });
                }
                Ok(())
            })?;
            Ok((diverged, (parts.deletions.clone(), watermark())))
        })
    }

    /// How many events stand in each domain of each named edition (or of one), behind the deletions that `since` knows and before `until`.
    pub(crate) fn edition_events(
        &self,
        edition: Option<&str>,
        since: &Deletions,
        until: Location,
    ) -> Result<BTreeMap<(String, String), u64>> {
        let prefix = edition
            .map_or_else(|| vec![Kind::Domain as u8], |name| Term::new(Kind::Domain, Some(name), b"").bytes().to_vec());
        self.at_once(|parts| {
            let mut events = BTreeMap::new();
            parts.each_term(&prefix, |segment, term, offsets| {
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
        })
    }
}
