//! Encoding an index file from memory, piece by piece: the memory that it takes does not grow with
//! the postings.

use super::memory::Memory;
use crate::format::checksum::Mask;
use crate::format::frame::Chain;
use crate::format::index_file::{self, Buckets, IndexHeader, NewEntry, Waypoint};
use crate::format::segment_header::SegmentHeader;
use std::io;

/// Approximate size of the pieces in which entries are written.
const PIECE: usize = 1 << 20;

/// Minimum length of an entry, besides its term: prelude, counts, a chunk, an offset.
const ENTRY: u64 = 12 + 5 + 16 + 1;

/// Writes bytes of the file at an offset.
pub(super) type Put<'a> = &'a mut dyn FnMut(u64, &[u8]) -> io::Result<()>;

impl Memory {
    /// The index file of what is in memory, which must be all of the segment from its first event
    /// on.
    pub fn encode(&self, segment: &SegmentHeader, end: u64, chain: Chain) -> Vec<u8> {
        let mut out = Vec::new();
        let put = &mut |at: u64, bytes: &[u8]| {
            let (start, end) = (at as usize, at as usize + bytes.len());
            out.resize(out.len().max(end), 0);
            out[start..end].copy_from_slice(bytes);
            Ok(())
        };
        match self.write(segment, end, chain, put) {
            Ok(()) => out,
            // Too large for an index file: then there is none.
            Err(_) => Vec::new(),
        }
    }

    /// Writes that file. The header comes last.
    ///
    /// # Errors
    ///
    /// The errors of `put`, and `FileTooLarge` if the file would have 4 GiB or more: then there can
    /// be none.
    pub(crate) fn write(&self, segment: &SegmentHeader, end: u64, chain: Chain, put: Put<'_>) -> io::Result<()> {
        let generation = index_file::generation(end, &chain);
        let mask = index_file::mask(segment, generation);
        let terms = self.sorted();
        let mut buckets = Buckets::new(terms.len());
        let entries_at = (index_file::HEADER + buckets.len()) as u64;
        let least: u64 = terms.iter().map(|&number| self.term_len(number) as u64 + ENTRY).sum();
        if entries_at + least > u32::MAX.into() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let (mut piece, mut piece_at) = (Vec::with_capacity(PIECE), entries_at);
        let (mut samples, mut term) = (Vec::new(), Vec::new());
        for (n, &number) in terms.iter().enumerate() {
            let at = piece_at + piece.len() as u64;
            if n % index_file::SAMPLE_EVERY == 0 {
                samples.extend_from_slice(&(at as u32).to_le_bytes());
            }
            let (value, offsets) = self.put_term(number, &mut term);
            buckets.put(index_file::hash(&term, segment.salt), at as u32);
            index_file::encode_entry(&mut piece, &NewEntry { term: &term, value, offsets }, mask, at);
            if piece.len() >= PIECE {
                put(piece_at, &piece)?;
                piece_at += piece.len() as u64;
                piece.clear();
            }
        }
        put(piece_at, &piece)?;
        let samples_at = piece_at + piece.len() as u64;
        let samples = index_file::encode_pages(&samples, 4, mask, samples_at);
        put(samples_at, &samples)?;
        let waypoints_at = samples_at + samples.len() as u64;
        let len = waypoints_at + self.put_waypoints(mask, waypoints_at, put)?;
        if len > u32::MAX.into() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let count = buckets.count();
        put(index_file::HEADER as u64, &buckets.finish(mask))?;
        let header = IndexHeader {
            store: segment.store,
            segment: segment.number,
            salt: segment.salt,
            generation,
            events: self.events(),
            end,
            chain,
            buckets: count,
            entries: terms.len() as u32,
            entries_at,
            samples_at,
            waypoints: self.all_waypoints().len() as u32,
            waypoints_at,
            len,
        };
        put(0, &header.encode())
    }

    fn put_waypoints(&self, mask: Mask, at: u64, put: Put<'_>) -> io::Result<u64> {
        let mut waypoints = Vec::with_capacity(self.all_waypoints().len() * Waypoint::LEN);
        self.all_waypoints().iter().for_each(|waypoint| waypoint.encode(&mut waypoints));
        let pages = index_file::encode_pages(&waypoints, Waypoint::LEN, mask, at);
        put(at, &pages)?;
        Ok(pages.len() as u64)
    }
}
