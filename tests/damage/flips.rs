//! Damage: flipped bits, cut files, segments that are missing, duplicate, swapped, or from another
//! store.
//!
//! For every damaged copy of a small store the tests demand that nothing panics and that no wrong
//! event is ever returned: whatever opens shows a prefix of what was written. And no loss is
//! silent: the open refuses, or the report says what was cut.
//!
//! These tests have failed with each of these bugs in the library: HEAD not compared at the end of
//! recovery (`every_truncation`); later intact frames not considered
//! (`a_flip_before_acknowledged_commits_is_damage`); `Chain::accepts` always true
//! (`stale_commits_end_the_log`); the checksum of a record not verified by `Segment::event_at`, or
//! that of a body not by the cursor (`bytes_that_go_bad_under_an_open_store`).

use annals::offline::{Kind, dump_in, verify_in};
use annals::{Error, Expected, NewEvent, Options, Store, StreamId, Timestamp};
use annals_testkit::{Image, SimFs};
use std::path::{Path, PathBuf};

type Written = (String, u64, Vec<u8>);

fn options(disk: &SimFs) -> Options {
    // The clock stands still: wrong order must be detected by other marks.
    let clock = || Timestamp::from_nanos(1_000);
    Options::new().file_system(disk.clone()).maintenance(false).segment_size(4096).reserve(0).clock(clock)
}

/// A store of three segments, with small and large commits, closed.
fn sample() -> (SimFs, Vec<Written>) {
    let disk = SimFs::new();
    let store = options(&disk).open("store").unwrap();
    fill(&store, 12);
    let written = contents(&store).unwrap();
    store.close().unwrap();
    (disk, written)
}

fn fill(store: &Store, commits: u8) {
    let (a, b) = (StreamId::new("a", "1").unwrap(), StreamId::new("b", "2").unwrap());
    for n in 0..commits {
        let data = vec![n; 30 + usize::from(n) * 80];
        let one = NewEvent::new("One", &data).tag("n:1").correlation_id("c");
        let transaction = store.transaction().append(&a, Expected::Any, [one]);
        transaction.append(&b, Expected::Any, [NewEvent::new("Two", "b"), NewEvent::new("Two", "")]).commit().unwrap();
    }
}

fn contents(store: &Store) -> Result<Vec<Written>, Error> {
    let events = store.read_all().into_iter();
    events
        .map(|event| event.map(|event| (event.stream().to_string(), event.sequence(), event.data().to_vec())))
        .collect()
}

/// The result of opening a damaged store.
#[derive(PartialEq, Eq, Debug)]
enum Outcome {
    Refused,
    /// All events are there.
    Whole,
    /// A prefix is there, and the report says what was cut, or that there is no evidence of what
    /// may be lost.
    Cut,
}

/// Opens a copy of the disk, and compares it with what was written.
fn open(disk: &SimFs, written: &[Written], context: &str) -> Outcome {
    let copy = disk.crash(Image::Killed);
    let store = match options(&copy).open("store") {
        Ok(store) => store,
        Err(Error::Damaged(_) | Error::UnsupportedFormat { .. } | Error::NotAStore { .. }) => return Outcome::Refused,
        Err(other) => panic!("{context}: {other}"),
    };
    // Opening does not read sealed segments: damage in them is found by reads, which report it.
    let found = match contents(&store) {
        Ok(found) => found,
        Err(Error::Damaged(_)) => {
            no_wrong_event(&store, written, context);
            return Outcome::Refused;
        }
        Err(other) => panic!("{context}: {other}"),
    };
    assert!(written.starts_with(&found), "{context}: an event that was not written, or in another order");
    let backwards = store.read_all().backwards().into_iter().count();
    assert_eq!(backwards, found.len(), "{context}");
    for info in store.streams("").unwrap() {
        let events = store.read(&info.stream).into_iter().map(|event| event.unwrap().data().to_vec());
        let name = info.stream.to_string();
        let expected = found.iter().filter(|(stream, ..)| *stream == name).map(|(.., data)| data.clone());
        assert!(events.eq(expected), "{context}");
    }
    if found.len() == written.len() {
        return Outcome::Whole;
    }
    let report = store.open_report();
    let told = report.cut.is_some() || report.notices.iter().any(|notice| notice.contains("HEAD"));
    assert!(told, "{context}: events are gone without a word");
    Outcome::Cut
}

/// Whatever can be read, in any way, is what was written there.
fn no_wrong_event(store: &Store, written: &[Written], context: &str) {
    let streams = store.streams("").unwrap_or_default();
    let by_stream = streams.iter().map(|info| store.read(&info.stream));
    for read in [store.read_all(), store.read_all().backwards()].into_iter().chain(by_stream) {
        for event in read.into_iter().flatten() {
            let (stream, sequence, data) = &written[event.position() as usize];
            let same = (event.stream().to_string(), event.sequence(), event.data());
            assert_eq!(same, (stream.clone(), *sequence, &data[..]), "{context}");
        }
    }
}

fn segments(disk: &SimFs) -> Vec<PathBuf> {
    let mut files = disk.files();
    files.retain(|path| path.extension().is_some_and(|e| e == "seg"));
    files.sort();
    files
}

/// Every byte of every file, one bit, all bits, zero, and 255. The store was closed, so HEAD knows
/// all of it: nothing may be cut.
#[test]
fn every_flipped_byte() {
    let (disk, written) = sample();
    let mut changed = 0;
    for path in disk.files() {
        let good = disk.contents(&path).unwrap();
        for at in 0..good.len() {
            for value in [good[at] ^ (1 << (at % 8)), !good[at], 0, 255] {
                if value == good[at] {
                    continue;
                }
                let mut bad = good.clone();
                bad[at] = value;
                disk.set_contents(&path, bad);
                changed += 1;
                let context = format!("{}, byte {at} set to {value}", path.display());
                let outcome = open(&disk, &written, &context);
                assert_ne!(outcome, Outcome::Cut, "{context}");
                let noticed =
                    verify_in(&disk, "store").map_or(true, |report| !report.is_sound() || !report.notices.is_empty());
                assert!(noticed || path.ends_with("LOCK"), "{context}: verify does not see it");
                // Some bytes are not needed for any event: trailers, seals, indexes. Opening does
                // not check all of them.
                let sound = verify_in(&disk, "store").is_ok_and(|report| report.is_sound());
                assert!(outcome == Outcome::Whole || !sound, "{context}: verify passes over what a read meets");
            }
        }
        disk.set_contents(&path, good);
    }
    assert_eq!(open(&disk, &written, "undamaged"), Outcome::Whole);
    println!("{changed} changes");
}

/// Every length of every segment, followed by nothing, zeros, junk, or older bytes.
#[test]
fn every_truncation() {
    let (disk, written) = sample();
    for path in segments(&disk) {
        let good = disk.contents(&path).unwrap();
        let fills: [&dyn Fn(usize) -> Vec<u8>; 4] =
            [&|_| Vec::new(), &|cut| vec![0; cut], &|cut| (0..cut).map(|i| (i * 37 + 11) as u8).collect(), &|cut| {
                good[..cut.min(good.len())].to_vec()
            }];
        for len in 0..good.len() {
            for (n, fill) in fills.iter().enumerate() {
                let bad = [&good[..len], &fill(good.len() - len)].concat();
                if bad == good {
                    continue;
                }
                // The fill may repeat what was cut off: then less is damaged. A cut one byte before
                // the seal, whose fill began with the last byte of a checksum, failed here.
                let intact = good.iter().zip(&bad).take_while(|(good, bad)| good == bad).count();
                disk.set_contents(&path, bad);
                let context = format!("{} cut at {len}, fill {n}", path.display());
                let outcome = open(&disk, &written, &context);
                assert!(outcome == Outcome::Refused || seal_only(&good, intact), "{context}: {outcome:?}");
            }
        }
        disk.set_contents(&path, good);
    }
}

/// Whether a cut at `len` removes only the seal, whose loss costs no event.
fn seal_only(segment: &[u8], len: usize) -> bool {
    const SEAL_FRAME: usize = 112;
    let end = segment.iter().rposition(|&byte| byte != 0).unwrap() + 1;
    len >= end - SEAL_FRAME
}

/// Without HEAD, a cut at the end cannot be told from a torn write: then it is cut, and reported;
/// and strict opening refuses. Anything before the last group is still damage.
#[test]
fn truncation_without_evidence() {
    let (disk, written) = sample();
    disk.delete("store/HEAD");
    let path = segments(&disk).pop().unwrap();
    let good = disk.contents(&path).unwrap();
    let mut cut = 0;
    for len in 128..good.len() {
        disk.set_contents(&path, good[..len].to_vec());
        let context = format!("cut at {len}, no HEAD");
        cut += u32::from(open(&disk, &written, &context) == Outcome::Cut);
    }
    assert!(cut > 0);
    let copy = disk.crash(Image::Killed);
    assert!(matches!(options(&copy).strict(true).open("store"), Err(Error::Damaged(_))));
    let before = copy.contents(&path);
    let store = options(&copy).open_read_only("store").unwrap();
    assert!(store.open_report().cut.as_ref().unwrap().quarantine.is_none());
    drop(store);
    assert_eq!(copy.contents(&path), before, "reading does not cut");
    let store = options(&copy).open("store").unwrap();
    let kept = store.open_report().cut.clone().unwrap();
    let quarantine = copy.contents(kept.quarantine.unwrap()).unwrap();
    assert_eq!(quarantine, before.unwrap()[kept.bytes.start as usize..], "nothing is destroyed");
}

/// The locations of the commits in the newest segment.
fn commits_in_last(disk: &SimFs) -> (PathBuf, Vec<std::ops::Range<usize>>) {
    let path = segments(disk).pop().unwrap();
    let mut commits = Vec::new();
    dump_in(disk, "store", |piece| {
        if piece.path == path && piece.kind == Kind::Commit {
            commits.push(piece.offset as usize..(piece.offset + piece.len) as usize);
        }
    })
    .unwrap();
    (path, commits)
}

/// A flipped byte in the middle of the active segment, followed by acknowledged commits, is damage:
/// never a torn tail. (tephra 0.4.1 cuts there.)
#[test]
fn a_flip_before_acknowledged_commits_is_damage() {
    let disk = SimFs::new();
    let store = options(&disk).segment_size(1 << 20).open("store").unwrap();
    fill(&store, 6);
    let written = contents(&store).unwrap();
    store.close().unwrap();
    disk.delete("store/HEAD");
    let (path, commits) = commits_in_last(&disk);
    assert_eq!(commits.len(), 6);
    let good = disk.contents(&path).unwrap();
    for at in 128..commits[5].start {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        disk.set_contents(&path, bad);
        assert_eq!(open(&disk, &written, &format!("byte {at}")), Outcome::Refused, "byte {at}");
    }
}

/// Frames of an earlier attempt right after the last commit, complete and at their offsets, are not
/// part of the log: they do not follow the commit that is now before them.
#[test]
fn stale_commits_end_the_log() {
    let disk = SimFs::new();
    let store = options(&disk).segment_size(1 << 20).open("store").unwrap();
    fill(&store, 2);
    store.close().unwrap();
    let append = |disk: &SimFs, data: &[&str]| {
        let copy = disk.crash(Image::Killed);
        let store = options(&copy).segment_size(1 << 20).open("store").unwrap();
        let stream = StreamId::new("c", "3").unwrap();
        for data in data {
            store.append(&stream, Expected::Any, [NewEvent::new("Three", data)]).unwrap();
        }
        let written = contents(&store).unwrap();
        store.close().unwrap();
        (copy, written)
    };
    let (stale, _) = append(&disk, &["first", "lost"]);
    let (last, written) = append(&disk, &["again"]);
    let (path, commits) = commits_in_last(&stale);
    let bytes = [last.contents(&path).unwrap(), stale.contents(&path).unwrap()[commits[3].clone()].to_vec()].concat();
    last.set_contents(&path, bytes);
    assert_eq!(open(&last, &written, "stale"), Outcome::Whole);
    let store = options(&last).open("store").unwrap();
    assert!(store.open_report().cut.is_some());
}

/// Bytes that go bad while the store is open: a read of them is an error, and never a wrong event.
/// Stream reads and reads in order of positions have different checks.
#[test]
fn bytes_that_go_bad_under_an_open_store() {
    let disk = SimFs::new();
    let store = options(&disk).open("store").unwrap();
    fill(&store, 12);
    let large = NewEvent::with_data("Large", (0..100_000u32).map(|i| i as u8).collect::<Vec<_>>());
    store.append(&StreamId::new("c", "3").unwrap(), Expected::Any, [large]).unwrap();
    let written = contents(&store).unwrap();
    let streams = store.streams("").unwrap();
    let mut errors = [0; 3];
    for path in segments(&disk) {
        let good = disk.contents(&path).unwrap();
        let step = if good.len() > 50_000 { 101 } else { 1 };
        for at in (128..good.len()).step_by(step) {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            disk.set_contents(&path, bad);
            let by_stream = streams.iter().map(|info| store.read(&info.stream));
            let reads = [store.read_all(), store.read_all().backwards()].into_iter().chain(by_stream);
            for (n, read) in reads.enumerate() {
                for event in read {
                    match event {
                        Ok(event) => {
                            let (stream, sequence, data) = &written[event.position() as usize];
                            let same = (event.stream().to_string(), event.sequence(), event.data());
                            assert_eq!(same, (stream.clone(), *sequence, &data[..]), "{}, byte {at}", path.display());
                        }
                        Err(Error::Damaged(_)) => errors[n.min(2)] += 1,
                        Err(other) => panic!("{other}"),
                    }
                }
            }
        }
        disk.set_contents(&path, good);
    }
    assert!(errors.iter().all(|&count| count > 3000), "{errors:?}");
}

#[test]
fn segments_that_are_missing_doubled_or_swapped() {
    let (disk, written) = sample();
    let all = segments(&disk);
    assert!(all.len() >= 3, "the sample has a first, a middle and a last segment");
    for path in &all {
        let copy = disk.crash(Image::Killed);
        copy.delete(path);
        assert_eq!(open(&copy, &written, &format!("{} missing", path.display())), Outcome::Refused);
        for other in all.iter().filter(|other| *other != path) {
            let copy = disk.crash(Image::Killed);
            copy.set_contents(path, disk.contents(other).unwrap());
            let context = format!("{} in place of {}", other.display(), path.display());
            assert_eq!(open(&copy, &written, &context), Outcome::Refused);
        }
    }
    let copy = disk.crash(Image::Killed);
    let beyond = format!("store/{:020}.seg", all.len() + 1);
    copy.set_contents(&beyond, disk.contents(all.last().unwrap()).unwrap());
    assert_eq!(open(&copy, &written, "duplicated after the last"), Outcome::Refused);
    copy.delete(&beyond);
    copy.set_contents(format!("store/{:020}.seg", all.len() + 2), vec![1]);
    assert_eq!(open(&copy, &written, "a gap in the numbers"), Outcome::Refused);
    let everything_gone = disk.crash(Image::Killed);
    all.iter().for_each(|path| everything_gone.delete(path));
    assert_eq!(open(&everything_gone, &written, "all segments gone"), Outcome::Refused);
}

#[test]
fn mixed_up_segments() {
    let (disk, written) = sample();
    let (other, _) = sample();
    for path in segments(&disk) {
        let copy = disk.crash(Image::Killed);
        copy.set_contents(&path, other.contents(&path).unwrap());
        assert_eq!(open(&copy, &written, &format!("{} from another store", path.display())), Outcome::Refused);
    }
    let copy = disk.crash(Image::Killed);
    copy.set_contents("store/HEAD", other.contents("store/HEAD").unwrap());
    assert_eq!(open(&copy, &written, "HEAD from another store"), Outcome::Refused);
    // A commit that was copied to another offset of the same segment, byte for byte.
    let (path, commits) = commits_in_last(&disk);
    let mut bytes = disk.contents(&path).unwrap();
    let again = bytes[commits[0].clone()].to_vec();
    bytes.extend_from_slice(&again);
    copy.set_contents("store/HEAD", Vec::new());
    copy.set_contents(&path, bytes);
    assert_eq!(open(&copy, &written, "a commit repeated at the end"), Outcome::Whole);
}

/// Every sector zeroed, swapped with the next, or replaced by the one before.
#[test]
fn sectors() {
    let (disk, written) = sample();
    for path in segments(&disk) {
        let good = disk.contents(&path).unwrap();
        for at in (0..good.len() - 512).step_by(512) {
            let next = (at + 1024).min(good.len());
            let zeroed = [&good[..at], &[0; 512], &good[at + 512..]].concat();
            let swapped = [&good[..at], &good[at + 512..next], &good[at..at + 512], &good[next..]].concat();
            let doubled = [&good[..at + 512], &good[at..at + 512], &good[(at + 1024).min(good.len())..]].concat();
            for (what, bad) in [("zeroed", zeroed), ("swapped", swapped), ("doubled", doubled)] {
                if bad == good {
                    continue;
                }
                let changed = bad.iter().zip(&good).position(|(bad, good)| bad != good).unwrap();
                disk.set_contents(&path, bad);
                let context = format!("{}, sector at {at} {what}", path.display());
                let outcome = open(&disk, &written, &context);
                assert!(outcome == Outcome::Refused || seal_only(&good, changed), "{context}: {outcome:?}");
            }
        }
        disk.set_contents(&path, good);
    }
}

/// A newer format is told from damage, before any checksum, and nothing is touched.
#[test]
fn newer_formats_are_left_alone() {
    let (disk, _) = sample();
    for path in segments(&disk).into_iter().chain([PathBuf::from("store/HEAD")]) {
        let copy = disk.crash(Image::Killed);
        let slots = if path.ends_with("HEAD") { vec![0, 512] } else { vec![0] };
        let mut bytes = copy.contents(&path).unwrap();
        for slot in slots {
            bytes[slot + 8] = 2;
            bytes[slot + 10] = 2;
        }
        copy.set_contents(&path, bytes);
        let all = |disk: &SimFs| disk.files().iter().map(|path| disk.contents(path)).collect::<Vec<_>>();
        let before = all(&copy);
        let opened = options(&copy).open("store");
        assert!(matches!(opened, Err(Error::UnsupportedFormat { .. })), "{}", path.display());
        assert_eq!(all(&copy), before);
    }
}

/// Junk after the end of the log, which a crash can leave there, does not stop the store from
/// opening. (salamander-db 0.2.0 stops.)
#[test]
fn junk_after_the_end_is_cut() {
    let (disk, written) = sample();
    let path = segments(&disk).pop().unwrap();
    for junk in [vec![1], vec![0xA7; 300], b"\0\0\0\0\0\0\0\0\xA7FR\n".repeat(20), vec![255; 5000]] {
        let copy = disk.crash(Image::Killed);
        let bytes = [copy.contents(&path).unwrap(), junk].concat();
        copy.set_contents(&path, bytes);
        assert_eq!(open(&copy, &written, "junk"), Outcome::Whole);
        let store = options(&copy).open("store").unwrap();
        assert!(store.open_report().cut.is_some() && Path::new("store/quarantine") != path);
    }
}
