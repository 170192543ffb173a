//! What damage has left of a small store: found by comparing bytes with those that were written,
//! and not by the checksums that a salvage uses.
//!
//! An event must come back if its record is at its offset in a file that may be a segment and still
//! has the header of that segment. One in a damaged commit must come back only below what is left
//! to prove that it was acknowledged; above, it may be half of a commit that never was. Of a commit
//! that only tracks an upstream, nothing must come back: without its header, its record has no
//! content.

use super::build::Built;
use annals::internals::format::commit::frames;
use annals::internals::format::frame::{FrameHeader, HEADER, SEAL, Seal};
use annals::internals::format::index_file::IndexHeader;
use annals::internals::format::segment_header::{LEN, SegmentHeader};
use annals::internals::format::{head, record};
use annals::internals::segment::START;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

/// A commit of a segment, or its seal.
struct Commit {
    /// From its header to after its body and the checksums of that: the trailer adds nothing.
    bytes: Range<usize>,
    /// The next position when it was written.
    position: u64,
    /// Its records, in order of positions.
    records: Vec<Range<usize>>,
}

/// The layout of a segment as it was written.
struct Written<'a> {
    bytes: &'a [u8],
    header: SegmentHeader,
    commits: Vec<Commit>,
}

impl<'a> Written<'a> {
    fn new(bytes: &'a [u8]) -> Self {
        let header = SegmentHeader::decode(bytes, Path::new("")).ok().flatten().expect("a good segment");
        let (mut commits, mut position, mut end) = (Vec::new(), header.first_position, START as usize);
        for frame in frames(&bytes[START as usize..], START, header.mask()) {
            commits.push(Commit::new(bytes, frame.offset as usize, &frame.header));
            (position, end) = (frame.header.end_position(), frame.offset as usize + frame.bytes.len());
        }
        // The seal, if there is one, is where the next commit would be.
        if bytes.get(end + 8) == Some(&SEAL) {
            commits.push(Commit { bytes: end..end + Seal::FRAME as usize, position, records: Vec::new() });
        }
        Written { bytes, header, commits }
    }
}

impl Commit {
    fn new(bytes: &[u8], at: usize, header: &FrameHeader) -> Self {
        let mut next = at + HEADER + header.attributes_len as usize;
        let records = (0..header.events).map(|_| {
            let len = record::len(&bytes[next..]).expect("a good record");
            next += len;
            next - len..next
        });
        let records = records.collect();
        let end = at + (header.table_at() + header.table_len()) as usize;
        Commit { bytes: at..end, position: header.first_position, records }
    }
}

/// What is left of a store.
pub(super) struct Intact {
    /// Positions whose record must come back.
    pub demanded: BTreeSet<u64>,
    /// What is left proves that the positions below this one were acknowledged.
    pub proven: u64,
    /// Something is left that names the store.
    pub is_named: bool,
}

impl Intact {
    pub(super) fn of(base: &Built, files: &BTreeMap<String, Vec<u8>>) -> Self {
        let segments = base.files.iter().filter(|(name, _)| name.ends_with(".seg"));
        let segments: Vec<Written<'_>> = segments.map(|(_, bytes)| Written::new(bytes)).collect();
        let (mut whole, mut single) = (BTreeSet::new(), BTreeSet::new());
        let mut found = Intact { demanded: BTreeSet::new(), proven: 0, is_named: false };
        let mut there = 0;
        for bytes in files.iter().filter(|(name, _)| may_be_segment(name)).map(|(_, bytes)| bytes) {
            let header = SegmentHeader::decode_damaged(bytes, Path::new("")).ok().flatten();
            found.is_named |= header.is_some();
            let Some(segment) = segments.iter().find(|segment| bytes.get(..LEN) == segment.bytes.get(..LEN)) else {
                continue;
            };
            there = there.max(segment.header.number);
            found.proven = found.proven.max(segment.header.first_position);
            let same =
                |at: &Range<usize>| bytes.get(at.clone()).is_some_and(|bytes| *bytes == segment.bytes[at.clone()]);
            for commit in &segment.commits {
                let positions = commit.position..;
                if same(&commit.bytes) {
                    found.proven = found.proven.max(commit.position);
                    whole.extend(positions.take(commit.records.len()));
                } else {
                    single.extend(
                        positions.zip(&commit.records).filter(|(_, at)| same(at)).map(|(position, _)| position),
                    );
                }
            }
        }
        if let Some(bytes) = files.get("HEAD")
            && let Ok(Some(head)) = head::decode_damaged(bytes, Path::new(""))
        {
            found.proven = found.proven.max(head.position);
            found.is_named = true;
        }
        for bytes in
            files.iter().filter(|(name, _)| name.ends_with(".idx") && !name.contains('/')).map(|(_, bytes)| bytes)
        {
            let Some(index) = IndexHeader::decode(bytes) else { continue };
            found.is_named = true;
            // One of a segment after all that are left may be of an earlier use.
            if index.segment <= there {
                found.proven = found.proven.max(index.chain.next_position);
            }
        }
        found.demanded = whole;
        // The tracked position of a commit is in its attributes, so that its record alone has no
        // content.
        let is_tracking = |position: &&u64| base.tracked.iter().any(|(at, _)| at == *position);
        found.demanded.extend(single.range(..found.proven).filter(|position| !is_tracking(position)));
        found
    }
}

/// As in salvage: files that are something else by their names are not taken for segments.
fn may_be_segment(name: &str) -> bool {
    let others = ["HEAD", "LOCK", "POSITIONS"].iter().any(|other| name.starts_with(other));
    !others && !name.contains('/') && !name.ends_with(".idx")
}
