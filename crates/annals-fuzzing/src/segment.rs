//! A whole segment: the scan, and the ways to read what it has found.

use super::build::{self, Ended, put_file};
use super::seal;
use annals::Error;
use annals::fs::MemFs;
use annals::internals::directory::segment_name;
use annals::internals::format::frame::{Chain, FrameHeader};
use annals::internals::format::index_file::Waypoint;
use annals::internals::format::segment_header::SegmentHeader;
use annals::internals::index::memory::Memory;
use annals::internals::segment::cursor::SegmentCursor;
use annals::internals::segment::scan::{ScanEnd, ScanSource, Scanned};
use annals::internals::segment::{START, Segment};
use annals_testkit::EventRecord;
use std::path::Path;
use std::sync::Arc;

/// A frame that a scan has shown.
struct Shown {
    offset: u64,
    end: u64,
    /// The chain before it.
    chain: Chain,
    /// Offsets of its records.
    records: Vec<u64>,
}

/// Uses the input, without its first byte, as a segment, sealed if the first byte is odd. A scan
/// ends; its frames are in the file, follow each other, and are found again by all other ways to
/// read: one by one, in blocks, from the middle, and by a scan that resumes.
pub fn segment_scan(input: &[u8]) {
    let Some((&mode, bytes)) = input.split_first() else { return };
    let mut bytes = bytes.to_vec();
    if mode & 1 == 1 {
        seal::segment(&mut bytes);
    }
    let path = Path::new("x.seg");
    let file = put_file(&MemFs::new(), path, &bytes);
    let source = ScanSource { path, file: &*file, size: bytes.len() as u64 };
    let Ok(Some(header)) = source.header() else { return };
    assert!(source.content_end(0).is_ok_and(|end| end <= source.size));

    let mut shown = Vec::new();
    let mut memory = Memory::default();
    let mut chain = Chain::start(&header);
    let scanned = source.scan(&header, None, |frame| {
        assert_eq!(frame.bytes, &bytes[frame.offset as usize..][..frame.bytes.len()]);
        assert!(chain.accepts(&frame.header));
        let mut records = Vec::new();
        frame.records(path, |event| {
            records.push(event.offset);
            memory.add(&event);
        })?;
        assert_eq!(records.len() as u64, u64::from(frame.header.events));
        shown.push(Shown { offset: frame.offset, end: frame.offset + frame.bytes.len() as u64, chain, records });
        chain = chain.then(&frame.header);
        Ok(())
    });
    let scanned = match scanned {
        Ok(scanned) => scanned,
        Err(Error::UnsupportedFormat { .. }) => return,
        Err(other) => panic!("a scan of bytes that can be read fails: {other}"),
    };
    hold(&scanned, &header, &shown, chain, bytes.len() as u64);
    let later = source.resync(&header, scanned.end).expect("bytes that can be read");
    for found in later {
        let at = found.offset as usize;
        let decoded = FrameHeader::decode(&bytes[at..], header.mask(), found.offset);
        assert_eq!(decoded, Some(found.header));
    }
    resumes(&source, &header, &scanned, &shown);
    reads(&header, file, &scanned, &shown, &memory);
}

/// The result of a scan matches the frames that it has visited.
fn hold(scanned: &Scanned, header: &SegmentHeader, shown: &[Shown], chain: Chain, size: u64) {
    assert_eq!(scanned.chain, chain);
    assert!(scanned.end <= size.max(START) && scanned.unproven <= scanned.end && scanned.events_end() <= scanned.end);
    let last = shown.last().map_or(START, |shown| shown.end);
    match scanned.stop {
        ScanEnd::Sealed { seal, .. } => {
            assert_eq!(seal, chain.seal(header));
            assert_eq!(scanned.events_end(), last);
        }
        ScanEnd::End => assert_eq!(scanned.end, last),
        // A frame that does not fit as a seal counts as read.
        ScanEnd::Bad { .. } => assert!(scanned.end >= last),
    }
    assert!(shown.windows(2).all(|pair| pair[0].end == pair[1].offset));
}

/// A scan from the middle on ends in the same way.
fn resumes(source: &ScanSource<'_>, header: &SegmentHeader, scanned: &Scanned, shown: &[Shown]) {
    let Some(middle) = shown.get(shown.len() / 2) else { return };
    let mut left = shown.len() - shown.len() / 2;
    let resumed = source.scan(header, Some((middle.offset, middle.chain)), |_| {
        left -= 1;
        Ok(())
    });
    let resumed = resumed.expect("the same bytes");
    assert_eq!(left, 0);
    assert_eq!((resumed.end, resumed.chain, resumed.stop), (scanned.end, scanned.chain, scanned.stop.clone()));
}

/// All ways to read the events give the same ones.
fn reads(header: &SegmentHeader, file: Arc<dyn annals::fs::File>, scanned: &Scanned, shown: &[Shown], memory: &Memory) {
    let segment = Arc::new(Segment::new(Path::new("x.seg").to_owned(), *header, file, false));
    let last = shown.last().map_or(START, |shown| shown.end);
    segment.set_readable(last);
    let one_by_one: Result<Vec<EventRecord>, Error> = shown
        .iter()
        .flat_map(|shown| &shown.records)
        .map(|&offset| segment.event_at(offset).map(|event| EventRecord::of(&event)))
        .collect();
    let in_order = |mut cursor: SegmentCursor| {
        let mut found = Vec::new();
        while let Some(event) = cursor.next()? {
            found.push(EventRecord::of(&event));
        }
        Ok::<_, Error>(found)
    };
    let cursor = |from, waypoint| SegmentCursor::new(segment.clone(), from, waypoint);
    let in_blocks = cursor(header.first_position, None).and_then(in_order);
    let one_by_one = one_by_one.expect("a scan has verified each of them");
    let in_blocks = in_blocks.expect("a scan has verified all of them");
    assert_eq!(one_by_one, in_blocks);
    let positions = one_by_one.iter().map(|record| record.position);
    assert!(positions.eq(header.first_position..scanned.chain.next_position));
    let behind = |waypoint: &Waypoint| memory.waypoints(|other| other.ordinal <= waypoint.ordinal).1;
    let kept = std::iter::successors(memory.waypoints(|_| false).1, behind);
    for waypoint in kept.chain(memory.waypoints(|_| true).0) {
        let from = header.first_position + u64::from(waypoint.ordinal);
        let rest = cursor(from, Some(waypoint)).and_then(in_order).expect("a waypoint of this segment");
        assert_eq!(rest, one_by_one[waypoint.ordinal as usize..]);
    }
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = vec![Vec::new()];
    for ended in [Ended::Closed, Ended::Killed] {
        let built = build::small(ended);
        for number in 1..=3 {
            let bytes = &built.files[&segment_name(number)];
            seeds.push([&[0][..], bytes].concat());
            seeds.push([&[1][..], bytes].concat());
        }
    }
    // A commit that is read in pieces, between small ones.
    let large = build::store(&[&[(1, 10), (4, 30_000), (1, 10)]], Ended::Killed);
    seeds.push([&[1][..], &large.files[&segment_name(1)]].concat());
    seeds
}

#[cfg(test)]
mod tests {
    use super::*;
    use annals::internals::format::index_file::Waypoint;

    /// A waypoint before its own frame, or after its end, took the reader out of its buffer:
    /// checksums of an index file can be crafted.
    #[test]
    fn waypoints_that_cannot_be_lead_nowhere() {
        let built = build::store(&[&[(1, 10), (4, 30_000), (1, 10)]], Ended::Killed);
        let bytes = &built.files[&segment_name(1)];
        let path = Path::new("x.seg");
        let header = build::first_header();
        let segment = Segment::new(path.to_owned(), header, put_file(&MemFs::new(), path, bytes), false);
        segment.set_readable(bytes.iter().rposition(|&byte| byte != 0).unwrap() as u64 + 1);
        let segment = Arc::new(segment);
        let large = bytes.windows(4).enumerate().filter(|(_, window)| *window == b"\xA7FR\n").nth(1).unwrap().0 as u32;
        for (frame, record) in [(large, 128), (large, large), (large, u32::MAX), (u32::MAX, 0), (0, u32::MAX)] {
            let waypoint = Waypoint { ordinal: 0, frame, record, recorded_at: 0 };
            let mut found = 0;
            // A place without a frame is damage; otherwise all events are there.
            let Ok(mut cursor) = SegmentCursor::new(segment.clone(), 0, Some(waypoint)) else { continue };
            while cursor.next().unwrap().is_some() {
                found += 1;
            }
            assert!(found == 6 || found == 0, "{waypoint:?}: {found}");
        }
    }
}
