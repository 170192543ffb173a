//! Lookup of a term in one segment: part of its index may be in a file, and part in memory.

use super::Index;
use super::file::{IndexBroken, IndexFile};
use super::memory::Memory;
use super::term::Term;
use crate::error::Result;
use crate::format::index_file::EntryHead;
use crate::position::Location;
use std::ops::Range;

impl Index {
    /// Returns the sequences of a stream in a segment. `wanted` chooses, given them, the first one
    /// whose offset is appended to `out`, and how many.
    pub(crate) fn stream(
        &self,
        segment: u64,
        term: &Term,
        wanted: impl Fn(&Range<u64>) -> Option<(u64, usize)>,
        out: &mut Vec<u32>,
    ) -> Result<Range<u64>> {
        let bytes = term.bytes();
        let memory = |memory: &Memory| {
            let (held, mut found) = (memory.sequences(bytes), Vec::new());
            if let Some((first, count)) = wanted(&held) {
                memory.stream(bytes, first, count, &mut found);
            }
            (held, found)
        };
        let (held, found) = self.look(segment, memory, |file, memory| {
            let (in_memory, mut found) = memory.unwrap_or_default();
            let Some((file, entry)) = entry_of(file, bytes)? else { return Ok((in_memory, Some(found))) };
            let held = entry.sequences();
            if !in_memory.is_empty() {
                return Ok((held.start..in_memory.end, None));
            }
            if let Some((first, count)) = wanted(&held) {
                file.nth(&entry, first - held.start, count, &mut found)?;
            }
            Ok((held, Some(found)))
        })?;
        match (found, wanted(&held)) {
            (Some(found), _) => out.extend(found),
            (None, Some((first, count))) => self.stream_in_both(segment, bytes, first, count, out)?,
            (None, None) => {}
        }
        Ok(held)
    }

    /// Appends at most `count` offsets of the events of a stream to `out`, in a segment of which
    /// part is in a file and part in memory, from this sequence on, which must be there.
    fn stream_in_both(&self, segment: u64, term: &[u8], first: u64, count: usize, out: &mut Vec<u32>) -> Result<()> {
        let memory = |memory: &Memory| {
            let mut found = Vec::new();
            memory.stream(term, first, count, &mut found);
            found
        };
        let found = self.look(segment, memory, |file, memory| {
            let mut found = Vec::new();
            if let Some((file, entry)) = entry_of(file, term)?
                && let held = entry.sequences()
                && held.contains(&first)
            {
                file.nth(&entry, first - held.start, count, &mut found)?;
            }
            let left = count - found.len();
            found.extend(memory.unwrap_or_default().into_iter().take(left));
            Ok(found)
        })?;
        out.extend(found);
        Ok(())
    }

    /// Returns the number of events of a segment that have a term.
    pub(crate) fn count(&self, segment: u64, term: &Term) -> Result<u64> {
        let term = term.bytes();
        let memory = |memory: &Memory| memory.count(term);
        self.look(segment, memory, |file, memory| {
            let in_file = entry_of(file, term)?.map_or(0, |(_, entry)| u64::from(entry.count));
            Ok(in_file + memory.unwrap_or_default())
        })
    }

    /// Appends the offsets of the events of a term in a segment, within `range`, to `out`.
    pub(crate) fn offsets(&self, segment: u64, term: &Term, range: &Range<u64>, out: &mut Vec<u32>) -> Result<()> {
        let term = term.bytes();
        let memory = |memory: &Memory| {
            let mut found = Vec::new();
            memory.offsets(term, range, &mut found);
            found
        };
        let found = self.look(segment, memory, |file, memory| {
            let mut found = Vec::new();
            if let Some((file, entry)) = entry_of(file, term)? {
                file.offsets(&entry, range, &mut found)?;
            }
            found.extend(memory.unwrap_or_default());
            Ok(found)
        })?;
        out.extend(found);
        Ok(())
    }

    /// Returns the first offset of a term in a segment from `from` on.
    pub(crate) fn first(&self, segment: u64, term: &Term, from: u64) -> Result<Option<u32>> {
        let term = term.bytes();
        let memory = |memory: &Memory| memory.first(term, from);
        self.look(segment, memory, |file, memory| {
            let mut found = Vec::new();
            match entry_of(file, term)? {
                Some((file, entry)) if from == 0 => file.nth(&entry, 0, 1, &mut found)?,
                Some((file, entry)) => file.offsets(&entry, &(from..u64::MAX), &mut found)?,
                None => {}
            }
            Ok(found.first().copied().or(memory.flatten()))
        })
    }

    /// Returns the location of the last posting of a term in the segments from this one on, if it
    /// has any.
    pub(crate) fn newest(&self, term: &Term, from: u64) -> Result<Option<Location>> {
        let bytes = term.bytes();
        for segment in (from.max(1)..=self.segments()).rev() {
            let memory = |memory: &Memory| memory.last(bytes);
            let found =
                self.look(segment, memory, |file, memory| match (memory.flatten(), entry_of(file, bytes)?) {
                    (Some(last), _) => Ok(Some(last)),
                    (None, Some((file, entry))) => file.last(&entry),
                    (None, None) => Ok(None),
                })?;
            if let Some(offset) = found {
                return Ok(Some(Location { segment, offset: offset.into() }));
            }
        }
        Ok(None)
    }
}

/// Returns the file and its entry of a term, if both exist.
fn entry_of<'f>(
    file: Option<&'f IndexFile>,
    term: &[u8],
) -> std::result::Result<Option<(&'f IndexFile, EntryHead)>, IndexBroken> {
    let Some(file) = file else { return Ok(None) };
    Ok(file.find(term)?.map(|entry| (file, entry)))
}
