//! Reading a whole segment and verifying all of it. Scanning only reads; cutting is recovery's.

use super::START;
use crate::error::{Error, Result};
use crate::format::frame::{self, ALIGN, Chain, EVENTS, FrameHeader, HEADER, MAGIC, SEAL, Seal};
use crate::format::record::{self, Parts};
use crate::format::segment_header::SegmentHeader;
use crate::format::{checksum::Mask, is_zero};
use crate::fs::{self, File};
use std::collections::VecDeque;
use std::path::Path;

/// Bytes that are read at a time.
const CHUNK: usize = 1 << 20;

/// A file under a scan.
pub(crate) struct Source<'a> {
    pub path: &'a Path,
    pub file: &'a dyn File,
    pub size: u64,
}

/// A verified frame.
pub(crate) struct Frame<'a> {
    pub offset: u64,
    pub header: FrameHeader,
    pub bytes: &'a [u8],
}

/// One event of a verified frame, without a copy of it.
pub(crate) struct Recorded<'a> {
    /// Offset of the frame and of the record in the file.
    pub frame: u64,
    pub offset: u64,
    pub position: u64,
    pub sequence: u64,
    pub key: &'a [u8],
}

/// Why a scan stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// Nothing but zeros, or nothing at all, follows the last frame.
    End,
    /// The last frame is a seal; whether something other than zeros follows it.
    Sealed { seal: Seal, junk: bool },
    /// What follows is not the next frame.
    Bad { why: &'static str },
}

/// What a scan found.
#[derive(Clone, Debug)]
pub(crate) struct Scanned {
    /// Where the last good frame ends.
    pub end: u64,
    /// Where the first frame begins whose events the last good frame does not vouch for: what follows was in the last group, as far as the log itself tells.
    pub unproven: u64,
    /// The highest position that a good frame vouches for.
    pub durable_upto: u64,
    /// The chain behind the last good frame with events.
    pub chain: Chain,
    pub stop: Stop,
}

impl Scanned {
    /// Whether the header of the next segment says that nothing but a seal stood behind what was scanned.
    pub(crate) fn is_vouched_for_by(&self, segment: &SegmentHeader, next: &SegmentHeader) -> bool {
        next.store == segment.store
            && next.previous_digest == self.chain.digest
            && next.previous_len == self.end + Seal::FRAME
            && next.first_position == self.chain.next_position
    }
}

/// A good frame somewhere behind a bad one.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub offset: u64,
    pub header: FrameHeader,
}

impl Source<'_> {
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<usize> {
        fs::read_full(self.file, offset, out).map_err(|e| Error::io("read", self.path, e))
    }

    /// The header of the segment, if it has a good one.
    pub(crate) fn header(&self) -> Result<Option<SegmentHeader>> {
        let mut bytes = [0; START as usize];
        let read = self.read(0, &mut bytes)?;
        SegmentHeader::decode(&bytes[..read], self.path)
    }

    /// Where the last byte that is not zero ends, from `from` on; `from` if all are.
    pub(crate) fn content_end(&self, from: u64) -> Result<u64> {
        let mut end = from;
        self.chunks(from, |at, chunk| {
            if !is_zero(chunk) {
                let last = chunk.iter().rposition(|&b| b != 0).map_or(0, |i| i as u64 + 1);
                end = at + last;
            }
            Ok(())
        })?;
        Ok(end)
    }

    /// Reads all from `from` on.
    pub(crate) fn chunks(&self, from: u64, mut each: impl FnMut(u64, &[u8]) -> Result<()>) -> Result<()> {
        let mut chunk = vec![0; CHUNK.min(self.size.saturating_sub(from) as usize)];
        let mut at = from;
        while at < self.size {
            let read = self.read(at, &mut chunk)?;
            if read == 0 {
                break;
            }
            each(at, &chunk[..read])?;
            at += read as u64;
        }
        Ok(())
    }

    /// Scans the segment from its first frame on and shows each good frame with events to `visit`.
    pub(crate) fn scan(
        &self,
        segment: &SegmentHeader,
        mut visit: impl FnMut(&Frame<'_>) -> Result<()>,
    ) -> Result<Scanned> {
        let mask = segment.mask();
        let mut window = Window { source: self, at: START, bytes: Vec::new() };
        let mut starts: VecDeque<(u64, u64)> = VecDeque::new();
        let mut durable_upto = 0;
        let mut chain = Chain::start(segment);
        let mut at = START;
        let mut seal_at = None;
        let stop = loop {
            let frame = match window.frame(at, mask)? {
                Ok(frame) => frame,
                Err(why) if self.content_end(at)? > at => break Stop::Bad { why },
                Err(_) => break Stop::End,
            };
            if !chain.accepts(&frame.header) {
                break Stop::Bad { why: "a commit that does not follow the one before it" };
            }
            let end = at + frame.bytes.len() as u64;
            durable_upto = durable_upto.max(frame.header.durable_upto);
            while starts.front().is_some_and(|&(_, position)| position < durable_upto) {
                starts.pop_front();
            }
            if frame.header.kind == SEAL {
                let seal = Seal::decode(&frame.bytes[HEADER..][..frame.header.body_len as usize]);
                let expected = chain.seal(segment);
                seal_at = Some(at);
                at = end;
                break match seal {
                    Some(seal) if seal == expected => Stop::Sealed { seal, junk: self.content_end(end)? > end },
                    _ => Stop::Bad { why: "a seal that does not fit its segment" },
                };
            }
            debug_assert_eq!(frame.header.kind, EVENTS);
            if !frame.records_hold(segment, mask, self.path)? {
                break Stop::Bad { why: "an event fails its checksum" };
            }
            starts.push_back((at, frame.header.first_position));
            visit(&frame)?;
            chain = chain.then(&frame.header);
            at = end;
        };
        // Nothing vouches for the last frame, whether it has events or is a seal.
        let unproven = starts.front().map(|&(offset, _)| offset).or(seal_at).unwrap_or(at);
        Ok(Scanned { end: at, unproven, durable_upto, chain, stop })
    }

    /// Looks for good frames anywhere from `from` on, where a scan has met a bad one.
    pub(crate) fn resync(&self, segment: &SegmentHeader, from: u64) -> Result<Vec<Found>> {
        let mask = segment.mask();
        let mut window = Window { source: self, at: from, bytes: Vec::new() };
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
                found.push(Found { offset: at, header: frame.header });
                frame.bytes.len() as u64
            } else {
                ALIGN
            };
        }
        Ok(found)
    }
}

/// The part of a file that is in memory: at least a chunk, and as much as the frame at hand needs.
struct Window<'a> {
    source: &'a Source<'a>,
    at: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// The bytes from `offset` on, `len` of them or as many as the file has.
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

    /// The verified frame at `offset`, or what is wrong with the bytes there.
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

/// What makes an event of a frame unreadable although the frame is intact.
const BROKEN: &str = "the records of a commit break the grammar";

impl Frame<'_> {
    /// Walks the records: `each` gets the start and the end of one in `bytes`. `false` if the body is not made of whole records, as many as
    /// the header says.
    fn walk(&self, mut each: impl FnMut(usize, usize, u64) -> bool) -> bool {
        let end = self.header.table_at() as usize;
        let mut at = HEADER + self.header.attributes_len as usize;
        for n in 0..self.header.events {
            let Some(len) = record::len(&self.bytes[at..end]).filter(|&len| len <= end - at) else { return false };
            if !each(at, at + len, self.header.first_position + u64::from(n)) {
                return false;
            }
            at += len;
        }
        at == end
    }

    /// Whether all records are intact and say what the frame says.
    fn records_hold(&self, segment: &SegmentHeader, mask: Mask, path: &Path) -> Result<bool> {
        let attributes = &self.bytes[HEADER..][..self.header.attributes_len as usize];
        frame::check_attributes(attributes, path)?;
        let time = self.header.recorded_at.wrapping_sub(segment.base_time) as u64;
        Ok(self.walk(|start, end, position| {
            record::verify(&self.bytes[start..end], mask, self.offset + start as u64)
                && record::decode(self.bytes, start, end)
                    .is_some_and(|parts| parts.ordinal == position - segment.first_position && parts.time == time)
        }))
    }

    /// Shows each event to `each`.
    pub(crate) fn records(&self, path: &Path, mut each: impl FnMut(Recorded<'_>)) -> Result<()> {
        let sound = self.walk(|start, end, position| {
            let parts: Option<Parts> = record::decode(self.bytes, start, end);
            parts.is_some_and(|parts| {
                each(Recorded {
                    frame: self.offset,
                    offset: self.offset + start as u64,
                    position,
                    sequence: parts.sequence,
                    key: parts.key(self.bytes),
                });
                true
            })
        });
        if sound {
            return Ok(());
        }
        let bytes = self.offset..self.offset + self.bytes.len() as u64;
        Err(Error::damaged(path, bytes, self.header.first_position..self.header.end_position(), BROKEN))
    }
}

/// The frames with events of a group that has just been written: known to be good.
pub(crate) fn frames(group: &[u8], mut offset: u64, mask: Mask) -> impl Iterator<Item = Frame<'_>> {
    let mut rest = group;
    let all = std::iter::from_fn(move || {
        let header = FrameHeader::decode(rest, mask, offset)?;
        let (bytes, behind) = rest.split_at_checked(header.frame_len() as usize)?;
        let frame = Frame { offset, header, bytes };
        rest = behind;
        offset += bytes.len() as u64;
        Some(frame)
    });
    all.filter(|frame| frame.header.kind == EVENTS)
}
