//! Salvage: of a damaged store, every event that the damage does not touch comes back, equal in all
//! fields, in a store that verifies sound and opens clean; and the damaged one is unchanged.
//!
//! These tests have failed with each of these bugs in the library: stopping at the first damage;
//! records trusted without their CRC; single events of damaged commits dropped (all three:
//! `every_flipped_bit` and nearly all others); half a commit kept that no evidence proves
//! acknowledged (`truncation_without_evidence`); only the first of several files of a segment used
//! (`duplicate_segments_complete_each_other`); gaps not reported (`around`); the mark of an
//! unfinished copy removed too early (`a_salvage_that_is_interrupted_leaves_nothing_that_opens`). A
//! commit that does not follow the one before it was accepted, and no test saw that, before
//! `stale_commits_are_left_behind`.

mod around;
mod beside;
mod files;
mod flips;
mod forms;

use annals::offline::{Kind, Salvage, Salvaged, dump_in, verify_in};
use annals::{Expected, NewEvent, Options, Store, Timestamp, Uuid};
use annals_testkit::{EventRecord, stream};
use annals_testkit::{Image, SimFs};
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// An event of the sample, and where it stands.
#[derive(Clone)]
struct Written {
    record: EventRecord,
    path: PathBuf,
    bytes: Range<usize>,
}

/// A store of several segments on a simulated disk, closed.
struct Sample {
    disk: SimFs,
    written: Vec<Written>,
}

fn options(disk: &SimFs) -> Options {
    // The clock goes on by an odd step, so that each commit has a time of its own.
    let now = Arc::new(AtomicI64::new(1_700_000_000_000_000_000));
    let clock = move || Timestamp::from_nanos(now.fetch_add(1_234_567, Ordering::Relaxed));
    Options::new().file_system(disk.clone()).maintenance(false).segment_size(4096).reserve(0).clock(clock)
}

/// All that an event can have, commits over several streams, an edition, keys and positions of
/// upstreams.
fn fill(store: &Store, commits: u32) {
    let (a, b, odd) = (stream("a-1"), stream("b-2"), stream("odd-%FF%00"));
    let branch = a.in_edition("what-if").unwrap();
    for n in 0..commits {
        let data = vec![n as u8; 30 + n as usize % 7 * 60];
        let one = NewEvent::new("One", &data).tag("n:1").correlation_id("c").metadata(vec![n as u8; n as usize % 3]);
        let two = NewEvent::new("Two", "b").id(Uuid::from_u128(n.into())).occurred_at(Timestamp::from_nanos(-5));
        let mut transaction = store.transaction().append(&a, Expected::Any, [one]);
        transaction = transaction.append(&b, Expected::Any, [two, NewEvent::new("Two", "").schema_version(n)]);
        if n % 3 == 0 {
            transaction = transaction.append(&odd, Expected::Any, [NewEvent::new("Odd", "").causation_id("cause")]);
            transaction = transaction.idempotency_key(format!("key-{n}"));
        }
        if n % 4 == 1 {
            transaction = transaction
                .append(&branch, Expected::Any, [NewEvent::new("If", "")])
                .tracking("inbox", store.len() + 1);
        }
        transaction.commit().unwrap();
    }
}

/// 22 commits, 10 KiB; with `ANNALS_SALVAGE_COMMITS=150`, 64 KiB.
fn sample() -> Sample {
    let commits = std::env::var("ANNALS_SALVAGE_COMMITS").ok();
    sample_of(commits.map_or(22, |commits| commits.parse().unwrap()))
}

fn sample_of(commits: u32) -> Sample {
    let disk = SimFs::new();
    let store = options(&disk).open("store").unwrap();
    fill(&store, commits);
    let records = annals_testkit::records(store.read_all());
    store.close().unwrap();
    Sample { written: places(&disk, records), disk }
}

/// Finds out where the events stand.
fn places(disk: &SimFs, records: Vec<EventRecord>) -> Vec<Written> {
    let mut places = Vec::new();
    dump_in(disk, "store", |piece| {
        if piece.kind == Kind::Commit {
            let bytes = disk.contents(&piece.path).unwrap();
            let at = piece.offset as usize;
            let mut record = at + 56 + u32::from_le_bytes(bytes[at + 20..at + 24].try_into().unwrap()) as usize;
            for _ in 0..piece.events {
                let (len, field) = varint(&bytes[record..]);
                places.push((piece.path.clone(), record..record + field + len));
                record += field + len;
            }
        }
    })
    .unwrap();
    assert_eq!(places.len(), records.len());
    records.into_iter().zip(places).map(|(record, (path, bytes))| Written { record, path, bytes }).collect()
}

fn varint(bytes: &[u8]) -> (usize, usize) {
    let field = bytes.iter().position(|byte| byte & 0x80 == 0).unwrap() + 1;
    let value = bytes[..field].iter().rev().fold(0, |value, byte| value << 7 | usize::from(byte & 0x7F));
    (value, field)
}

fn segments(disk: &SimFs) -> Vec<PathBuf> {
    let mut files = disk.files();
    files.retain(|path| path.starts_with("store") && path.extension().is_some_and(|e| e == "seg"));
    files.sort();
    files
}

fn all_files(disk: &SimFs) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = disk.files().into_iter().filter(|path| path.starts_with("store"));
    files.map(|path| (path.clone(), disk.contents(&path).unwrap())).collect()
}

/// Salvages a damaged disk, and demands that all of these events come back, each at its position;
/// nothing else; a store that is sound; and the old one untouched. Gives the report and the disk
/// with the new store.
#[track_caller]
fn salvage(disk: &SimFs, intact: &[&Written], context: &str) -> (Salvaged, SimFs) {
    let disk = disk.crash(Image::Killed);
    let before = all_files(&disk);
    let report = Salvage::new().run_in(&disk, "store", "out").unwrap_or_else(|e| panic!("{context}: {e}"));
    assert!(all_files(&disk) == before, "{context}: the damaged store was written to");
    let found = check_out(&disk, &report, context);
    let mut expected = intact.iter().map(|written| &written.record);
    for record in &found {
        let same = expected.next().unwrap_or_else(|| panic!("{context}: an event that must not be there: {record:?}"));
        assert_eq!(record, same, "{context}");
    }
    assert_eq!(expected.next(), None, "{context}: not salvaged");
    (report, disk)
}

/// Opens and reads the new store in all ways.
#[track_caller]
fn check_out(disk: &SimFs, report: &Salvaged, context: &str) -> Vec<EventRecord> {
    let verified = verify_in(disk, "out").unwrap();
    assert!(verified.is_sound() && verified.torn.is_none() && verified.notices.is_empty(), "{context}: {verified:?}");
    let store = options(disk).open("out").unwrap_or_else(|e| panic!("{context}: {e}"));
    let opened = store.open_report();
    assert!(opened.clean && opened.cut.is_none() && opened.notices.is_empty(), "{context}: {opened:?}");
    let found = annals_testkit::records(store.read_all());
    assert_eq!(report.events, found.len() as u64, "{context}");
    assert_eq!(report.positions, store.len(), "{context}");
    let mut lost: Vec<u64> = (0..store.len()).collect();
    lost.retain(|position| !found.iter().any(|record| record.position == *position));
    let told: Vec<u64> = report.losses.iter().flat_map(|loss| loss.damage.positions.clone()).collect();
    let recorded: Vec<u64> = store.losses().unwrap().into_iter().flatten().collect();
    assert_eq!((&told, &recorded), (&lost, &lost), "{context}: what is lost");
    by_stream(&store, &found, context);
    store.close().unwrap();
    found
}

/// Reads of each stream, in both directions and from each sequence on, agree.
#[track_caller]
fn by_stream(store: &Store, found: &[EventRecord], context: &str) {
    let mut backwards = annals_testkit::records(store.read_all().backwards());
    backwards.reverse();
    assert!(backwards == found, "{context}: backwards");
    let mut streams: BTreeMap<_, Vec<&EventRecord>> = BTreeMap::new();
    for record in found {
        streams.entry(record.stream.clone()).or_default().push(record);
    }
    assert_eq!(store.streams("").unwrap().len(), streams.len(), "{context}");
    for (stream, records) in streams {
        let last = records.last().unwrap();
        let own = |read: annals::Read| -> Vec<EventRecord> {
            let all = annals_testkit::records(read);
            all.into_iter().filter(|record| record.stream == stream).collect()
        };
        assert!(own(store.read(&stream)).iter().eq(records.iter().copied()), "{context}: {stream}");
        let mut backwards = own(store.read(&stream).backwards());
        backwards.reverse();
        assert!(backwards.iter().eq(records.iter().copied()), "{context}: {stream} backwards");
        let info = store.stream(&stream).unwrap().unwrap();
        assert_eq!((info.next_sequence, info.last_position), (last.sequence + 1, last.position), "{context}");
        let middle = records[records.len() / 2].sequence;
        let from = own(store.read(&stream).from(middle).limit(10_000));
        assert!(
            from.iter().eq(records.iter().copied().filter(|record| record.sequence >= middle)),
            "{context}: {stream}"
        );
        let until = own(store.read(&stream).to(middle));
        assert!(
            until.iter().eq(records.iter().copied().filter(|record| record.sequence < middle)),
            "{context}: {stream}"
        );
        let as_of = own(store.read(&stream).as_of(last.position - 1));
        assert_eq!(as_of.len(), records.len() - 1, "{context}: {stream} as of");
    }
}

impl Sample {
    /// The events outside of these bytes of a file.
    fn outside(&self, path: &Path, bytes: Range<usize>) -> Vec<&Written> {
        let touched = |written: &&Written| {
            written.path == path && written.bytes.start < bytes.end && bytes.start < written.bytes.end
        };
        self.written.iter().filter(|written| !touched(written)).collect()
    }

    /// The events in other files.
    fn not_in(&self, path: &Path) -> Vec<&Written> {
        self.outside(path, 0..usize::MAX)
    }

    fn all(&self) -> Vec<&Written> {
        self.written.iter().collect()
    }
}

#[test]
fn a_sound_store_comes_back_whole() {
    let sample = sample();
    assert!(segments(&sample.disk).len() >= 3, "{:?}", segments(&sample.disk));
    let (report, _) = salvage(&sample.disk, &sample.all(), "sound");
    assert_eq!((report.lost(), report.losses.len()), (0, 0));
    assert!(report.left_out.is_empty() && report.torn.is_none() && report.notices.is_empty(), "{report:?}");
    assert!(report.unproven.is_empty() && report.missing.is_empty());
}
