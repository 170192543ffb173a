//! The scan: reads a whole segment and verifies all of it. It never writes; recovery does.

use super::START;
use super::succession::{Discontinuity, SegmentExtent};
use crate::error::Result;
use crate::format::commit::{Frame, Recorded, unsupported};
use crate::format::frame::{ALIGN, Chain, EVENTS, FrameHeader, HEADER, MAGIC, SEAL, Seal, TRAILER};
use crate::format::segment_header::SegmentHeader;
use crate::format::{checksum::Mask, is_zero, u32_at};
use crate::fs::{self, File};
use std::collections::VecDeque;
use std::ops::Range;
use std::path::Path;

/// The highest offset at which a frame may end: offsets in a segment have 32 bits.
const MAX_END: u64 = u32::MAX as u64;

/// Number of bytes read at a time.
const CHUNK: usize = 1 << 20;

/// The file that is scanned.
pub struct ScanSource<'a> {
    pub path: &'a Path,
    pub file: &'a dyn File,
    pub size: u64,
}

/// Why a scan stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ScanEnd {
    /// Nothing but zeros, or nothing at all, follows the last frame.
    End,
    /// The last frame is a seal; `junk` says whether anything other than zeros follows it.
    Sealed { seal: Seal, junk: bool },
    /// The bytes that follow are not the next frame.
    Bad { why: &'static str },
}

/// The result of a scan.
#[derive(Clone, Debug)]
pub struct Scanned {
    /// The end of the last intact frame.
    pub end: u64,
    /// The start of the first frame that no later frame proves durable: as far as the log itself
    /// shows, it and what follows were written by the last group.
    pub unproven: u64,
    /// The position below which the frames themselves prove events durable.
    pub durable_upto: u64,
    /// The chain after the last intact frame with events.
    pub chain: Chain,
    pub stop: ScanEnd,
}

impl Scanned {
    /// Returns the result of a scan up to `end`, from what an index file remembers.
    pub fn known(segment: &SegmentHeader, end: u64, chain: Chain) -> Self {
        debug_assert!(chain.next_position >= segment.first_position);
        Scanned { end, unproven: end, durable_upto: chain.next_position, chain, stop: ScanEnd::End }
    }

    /// Returns the same with the seal that follows.
    pub fn with_seal(self, segment: &SegmentHeader) -> Self {
        let seal = self.chain.seal(segment);
        Scanned { end: self.end + Seal::FRAME, stop: ScanEnd::Sealed { seal, junk: false }, ..self }
    }

    /// Returns the end of the last frame with events: readers do not need the seal, which may be
    /// damaged when everything else is intact.
    pub fn events_end(&self) -> u64 {
        match self.stop {
            ScanEnd::Sealed { .. } => self.end - Seal::FRAME,
            _ => self.end,
        }
    }

    /// Returns the extent of the segment up to its last event.
    pub fn extent(&self, segment: &SegmentHeader) -> SegmentExtent {
        SegmentExtent { segment: *segment, end: self.events_end(), chain: self.chain }
    }

    /// Returns whether the header of the next segment proves that at most a seal followed what was
    /// scanned.
    pub fn is_vouched_for_by(&self, segment: &SegmentHeader, next: &SegmentHeader) -> bool {
        self.extent(segment).discontinuities(next).all(|what| what == Discontinuity::Time)
    }
}

/// An intact frame somewhere after a bad one.
#[derive(Clone, Copy, Debug)]
pub struct StrayFrame {
    pub offset: u64,
    pub header: FrameHeader,
}

impl ScanSource<'_> {
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<usize> {
        let end = offset.saturating_add(out.len() as u64);
        fs::read_full(self.file, offset, out).map_err(|e| fs::read_error(self.file, self.path, offset..end, e))
    }

    /// Returns the header of the segment, if it is intact.
    pub fn header(&self) -> Result<Option<SegmentHeader>> {
        let mut bytes = [0; START as usize];
        let read = self.read(0, &mut bytes)?;
        SegmentHeader::decode(&bytes[..read], self.path)
    }

    /// Returns whether a seal that fits the chain follows at `end`.
    pub fn is_sealed(&self, segment: &SegmentHeader, chain: &Chain, end: u64) -> Result<bool> {
        let mut window = ScanWindow { source: self, at: end, bytes: Vec::new() };
        let frame = window.frame(end, segment.mask())?;
        Ok(frame.is_ok_and(|frame| chain.accepts(&frame.header) && frame.seal() == Some(chain.seal(segment))))
    }

    /// Returns whether the frame that ends at `end` is the last one of `chain`, according to its
    /// trailer. `false` if the chain has no frame.
    pub fn ends_with(&self, chain: &Chain, end: u64) -> Result<bool> {
        let mut trailer = [0; TRAILER];
        let whole = match end.checked_sub(TRAILER as u64) {
            Some(at) if end <= self.size && chain.frames > 0 => self.read(at, &mut trailer)? == TRAILER,
            _ => false,
        };
        Ok(whole && u32_at(&trailer, 8) == chain.previous)
    }

    /// Returns the end of the last byte from `from` on that is not zero; `from` if all are zero.
    pub fn content_end(&self, from: u64) -> Result<u64> {
        let mut end = from;
        self.chunks(from..self.size, |at, chunk| {
            if !is_zero(chunk) {
                let last = chunk.iter().rposition(|&b| b != 0).map_or(0, |i| i as u64 + 1);
                end = at + last;
            }
            Ok(())
        })?;
        Ok(end)
    }

    /// Reads these bytes of the file in chunks, up to the end of the file.
    pub fn chunks(&self, bytes: Range<u64>, mut each: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        let mut chunk = vec![0; CHUNK.min(bytes.end.saturating_sub(bytes.start) as usize)];
        let mut at = bytes.start;
        while at < bytes.end {
            let wanted = chunk.len().min((bytes.end - at) as usize);
            let read = self.read(at, &mut chunk[..wanted])?;
            if read == 0 {
                break;
            }
            each(at, &chunk[..read])?;
            at += read as u64;
        }
        Ok(())
    }

    /// Scans the segment and calls `visit` with each intact frame with events. Begins at the first
    /// frame, or at `resume`: the end of an earlier scan, and the chain there.
    pub fn scan(
        &self,
        segment: &SegmentHeader,
        resume: Option<(u64, Chain)>,
        mut visit: impl FnMut(&Frame<'_>) -> Result<()>,
    ) -> Result<Scanned> {
        let mask = segment.mask();
        let (mut at, mut chain) = resume.unwrap_or_else(|| (START, Chain::start(segment)));
        let mut window = ScanWindow { source: self, at, bytes: Vec::new() };
        let mut starts: VecDeque<(u64, u64)> = VecDeque::new();
        // What an index covers was durable before the index was written.
        let mut durable_upto = resume.map_or(0, |(_, chain)| chain.next_position);
        let mut seal_at = None;
        let stop = loop {
            let frame = match window.frame(at, mask)? {
                Ok(frame) => frame,
                Err(why) if self.content_end(at)? > at => break ScanEnd::Bad { why },
                Err(_) => break ScanEnd::End,
            };
            if !chain.accepts(&frame.header) {
                break ScanEnd::Bad { why: "a commit that does not follow the one before it" };
            }
            if !frame.header.is_known() {
                return Err(unsupported(self.path, "a commit of a kind that this version does not know"));
            }
            let end = at + frame.bytes.len() as u64;
            if end > MAX_END {
                break ScanEnd::Bad { why: "a commit beyond the longest segment that there can be" };
            }
            durable_upto = durable_upto.max(frame.header.durable_upto);
            while starts.front().is_some_and(|&(_, position)| position < durable_upto) {
                starts.pop_front();
            }
            if frame.header.kind == SEAL {
                let (seal, expected) = (frame.seal(), chain.seal(segment));
                seal_at = Some(at);
                at = end;
                break match seal {
                    Some(seal) if seal == expected => ScanEnd::Sealed { seal, junk: self.content_end(end)? > end },
                    _ => ScanEnd::Bad { why: "a seal that does not fit its segment" },
                };
            }
            debug_assert_eq!(frame.header.kind, EVENTS);
            if !frame.records_are_intact(segment, mask, self.path)? {
                break ScanEnd::Bad { why: "an event fails its checksum" };
            }
            starts.push_back((at, frame.header.first_position));
            visit(&frame)?;
            chain = chain.then(&frame.header);
            at = end;
        };
        // No frame follows the last one to prove it durable, whether it has events or is a seal.
        let unproven = starts.front().map(|&(offset, _)| offset).or(seal_at).unwrap_or(at);
        Ok(Scanned { end: at, unproven, durable_upto, chain, stop })
    }

    /// Returns the intact frames anywhere from `from` on, where a scan has met a bad one.
    pub fn resync(&self, segment: &SegmentHeader, from: u64) -> Result<Vec<StrayFrame>> {
        let mask = segment.mask();
        let mut window = ScanWindow { source: self, at: from, bytes: Vec::new() };
        let mut found = Vec::new();
        let mut at = from.next_multiple_of(ALIGN);
        while at + HEADER as u64 <= self.size {
            let head = window.bytes_at(at, HEADER)?;
            if head.len() < HEADER {
                break;
            }
            at += if head[..4] == MAGIC
                && let Ok(frame) = window.frame(at, mask)?
            {
                found.push(StrayFrame { offset: at, header: frame.header });
                frame.bytes.len() as u64
            } else {
                ALIGN
            };
        }
        Ok(found)
    }
}

impl ScanSource<'_> {
    /// Calls `each` with the events of a stray frame, as far as its records follow the grammar.
    pub fn records(&self, found: &StrayFrame, each: impl FnMut(Recorded<'_>)) -> Result<()> {
        let mut bytes = vec![0; found.header.frame_len() as usize];
        let read = self.read(found.offset, &mut bytes)?;
        if read == bytes.len() && found.header.kind == EVENTS {
            let frame = Frame { offset: found.offset, header: found.header, bytes: &bytes };
            let (Ok(()) | Err(_)) = frame.records(self.path, each);
        }
        Ok(())
    }
}

/// The part of the file that is in memory: at least a chunk, and all of the current frame.
struct ScanWindow<'a> {
    source: &'a ScanSource<'a>,
    at: u64,
    bytes: Vec<u8>,
}

impl ScanWindow<'_> {
    /// Returns `len` bytes from `offset` on, or as many as the file has.
    fn bytes_at(&mut self, offset: u64, len: usize) -> Result<&[u8]> {
        let end = self.at + self.bytes.len() as u64;
        if offset < self.at || offset + len as u64 > end {
            let left = self.source.size.saturating_sub(offset);
            self.bytes.resize((len.max(CHUNK) as u64).min(left) as usize, 0);
            let read = self.source.read(offset, &mut self.bytes)?;
            self.bytes.truncate(read);
            self.at = offset;
        }
        let start = (offset - self.at) as usize;
        let end = self.bytes.len().min(start + len);
        Ok(&self.bytes[start..end])
    }

    /// Returns the verified frame at `offset`, or what is wrong with the bytes there.
    fn frame(&mut self, offset: u64, mask: Mask) -> Result<Result<Frame<'_>, &'static str>> {
        let left = self.source.size.saturating_sub(offset);
        let Some(header) = FrameHeader::decode(self.bytes_at(offset, HEADER)?, mask, offset) else {
            return Ok(Err("there is no header of a commit here"));
        };
        let len = header.frame_len();
        if len > left {
            return Ok(Err("the commit reaches beyond the end of the file"));
        }
        let bytes = self.bytes_at(offset, len as usize)?;
        if bytes.len() as u64 != len {
            return Ok(Err("the commit reaches beyond the end of the file"));
        }
        Ok(header.verify(bytes, mask, offset).map(|()| Frame { offset, header, bytes }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::event::NewEvent;
    use crate::format::draft::{Draft, FramePlace, Limits};
    use crate::format::frame;
    use crate::fs::{Fs, MemFs, Mode};

    const SEGMENT: SegmentHeader = SegmentHeader::SAMPLE;

    /// Scans a segment with one commit, followed by the bytes that `craft` returns for the chain.
    fn scan(craft: impl FnOnce(&Chain, u64) -> Vec<u8>) -> Result<Scanned> {
        let mut draft = Draft::new(Limits { event: 1000, commit: 1000 });
        draft.push(b"\x01a", &NewEvent::new("T", "data"), false).unwrap();
        let chain = Chain::start(&SEGMENT);
        let mask = SEGMENT.mask();
        let place =
            FramePlace { segment: &SEGMENT, mask, offset: START, chain: &chain, recorded_at: 0, durable_upto: 0 };
        let (frame, chain) = draft.finish(&place);
        let end = START + frame.len() as u64;
        let bytes = [&SEGMENT.encode()[..], &frame, &craft(&chain, end)].concat();
        let path = Path::new("x.seg");
        let file = MemFs::new().open(path, Mode::Create).unwrap();
        file.write_at(0, &bytes).unwrap();
        let source = ScanSource { path, file: &*file, size: bytes.len() as u64 };
        source.scan(&SEGMENT, None, |_| Ok(()))
    }

    /// A frame with valid checksums that this version would not write.
    fn crafted(chain: &Chain, offset: u64, change: impl FnOnce(&mut FrameHeader, &mut Vec<u8>)) -> Vec<u8> {
        let mut frame = vec![0; HEADER];
        frame.extend_from_slice(b"no record");
        let mut header = FrameHeader {
            kind: EVENTS,
            reserved: 0,
            events: 1,
            body_len: 9,
            attributes_len: 0,
            first_position: chain.next_position,
            durable_upto: 0,
            recorded_at: 0,
            previous: chain.previous,
            body_crc: 0,
            crc: 0,
        };
        change(&mut header, &mut frame);
        header.body_len = (frame.len() - HEADER) as u32;
        frame::finish(&mut frame, header, None, SEGMENT.mask(), offset);
        frame
    }

    /// A frame with valid checksums in the right place is never a torn write. It was once cut off
    /// as one, together with acknowledged commits of a newer version.
    #[test]
    fn what_is_not_known_is_a_newer_format() {
        let unsupported = |found: Result<Scanned>| matches!(found, Err(Error::UnsupportedFormat { .. }));
        assert!(unsupported(scan(|chain, at| crafted(chain, at, |header, _| header.kind = 3))));
        assert!(unsupported(scan(|chain, at| crafted(chain, at, |header, _| header.events = 0))));
        let long = |header: &mut FrameHeader, frame: &mut Vec<u8>| {
            frame.resize(HEADER + 100_000, 7);
            header.attributes_len = 99_000;
        };
        assert!(unsupported(scan(|chain, at| crafted(chain, at, long))));
        let critical = |header: &mut FrameHeader, frame: &mut Vec<u8>| {
            frame[HEADER..HEADER + 2].copy_from_slice(&[9, 0]);
            header.attributes_len = 2;
        };
        assert!(unsupported(scan(|chain, at| crafted(chain, at, critical))));
        // Bytes that do not follow the grammar of records are damage, whatever version wrote them.
        let found = scan(|chain, at| crafted(chain, at, |_, _| {})).unwrap();
        assert!(matches!(found.stop, ScanEnd::Bad { .. }));
    }

    #[test]
    fn positions_at_the_end_of_all_numbers_do_not_overflow() {
        let found = scan(|chain, at| crafted(chain, at, |header, _| header.first_position = u64::MAX)).unwrap();
        assert!(matches!(found.stop, ScanEnd::Bad { .. }));
    }
}
