//! Sidecar files: handler positions, checkpoints, snapshots.

use super::*;
use annals::StreamId;
use annals::offline::Affected;
use annals::progress::ExpectedVersion;

const POSITIONS: &str = "store/POSITIONS";

/// The sample, with a snapshot of `a-1` after its third event, and handlers at its fifth and at its
/// first event. Each position and checkpoint is in a batch of its own.
fn kept() -> Sample {
    let sample = sample();
    let store = options(&sample.disk).open("store").unwrap();
    let (a, b) = (stream("a-1"), stream("b-2"));
    store.snapshots().put_bytes(&a, 2, b"state").unwrap();
    for (handler, id, sequence) in [("billing", &a, 4), ("billing", &b, 0), ("mail", &a, 0)] {
        store.positions().put(handler, id, sequence).unwrap();
        store.positions().flush().unwrap();
    }
    store.checkpoints().commit("all", 30, ExpectedVersion::Missing).unwrap();
    store.close().unwrap();
    sample
}

fn snapshot(disk: &SimFs) -> PathBuf {
    let found = disk.files().into_iter().find(|path| path.extension().is_some_and(|e| e == "snap"));
    found.expect("there is a snapshot")
}

fn flip(disk: &SimFs, path: impl AsRef<Path>, at: usize) {
    let mut bytes = disk.contents(&path).unwrap();
    bytes[at] ^= 1;
    disk.set_contents(path, bytes);
}

#[test]
fn verify_counts_them() {
    let report = verify_in(&kept().disk, "store").unwrap();
    assert_eq!((report.positions, report.checkpoints, report.snapshots), (3, 1, 1));
    assert!(report.is_sound() && report.notices.is_empty() && report.not_covered.is_empty(), "{report:?}");
}

/// Positions were acknowledged. The mark at the end, which has no entries, cannot be told from a
/// torn write.
#[test]
fn verify_finds_damage_in_positions() {
    let sample = kept();
    let size = sample.disk.contents(POSITIONS).unwrap().len();
    for at in 0..size {
        flip(&sample.disk, POSITIONS, at);
        let report = verify_in(&sample.disk, "store").unwrap();
        let mark = at >= size - 32;
        assert_eq!((report.is_sound(), report.notices.len()), (mark, usize::from(mark)), "byte {at}: {report:?}");
        assert!(mark || report.damage[0].path.ends_with("POSITIONS"), "byte {at}: {report:?}");
        assert!(report.positions + report.checkpoints >= 3, "byte {at}: {report:?}");
        flip(&sample.disk, POSITIONS, at);
    }
    // Of another store.
    let other = kept();
    sample.disk.set_contents(POSITIONS, other.disk.contents(POSITIONS).unwrap());
    let report = verify_in(&sample.disk, "store").unwrap();
    assert!(report.damage[0].why.contains("another store"), "{report:?}");
}

/// A snapshot is a cache: no event is lost with it, and nothing acknowledged.
#[test]
fn a_bad_snapshot_is_a_notice() {
    let sample = kept();
    let path = snapshot(&sample.disk);
    let good = sample.disk.contents(&path).unwrap();
    for at in (0..good.len()).step_by(3) {
        flip(&sample.disk, &path, at);
        let report = verify_in(&sample.disk, "store").unwrap();
        assert!(report.is_sound(), "byte {at}");
        assert_eq!((report.snapshots, report.notices.len()), (0, 1), "byte {at}: {report:?}");
        flip(&sample.disk, &path, at);
    }
    sample.disk.set_contents(path.with_file_name("00000000000000000003.snap"), good);
    let report = verify_in(&sample.disk, "store").unwrap();
    assert_eq!(report.snapshots, 1);
    assert!(report.notices[0].contains("in the wrong place"), "{report:?}");
}

/// The content of the new store.
fn kept_in(disk: &SimFs, dir: &str) -> (Vec<(String, StreamId, u64)>, Option<u64>, usize) {
    let store = options(disk).open(dir).unwrap();
    let mut positions = Vec::new();
    for handler in ["billing", "mail"] {
        let listed = store.positions().list(handler).unwrap();
        positions.extend(listed.into_iter().map(|at| (handler.to_owned(), at.stream, at.sequence)));
    }
    positions.sort();
    let checkpoint = store.checkpoints().get("all").unwrap().map(|checkpoint| checkpoint.position);
    (positions, checkpoint, store.snapshots().list_all().unwrap().len())
}

#[test]
fn salvage_takes_them_along() {
    let sample = kept();
    let (report, disk) = salvage(&sample.disk, &sample.all(), "sound");
    assert_eq!(report.copied.len(), 2, "{report:?}");
    assert!(report.lost_entries.is_empty() && report.affected.is_empty() && report.left_out.is_empty(), "{report:?}");
    assert_eq!(disk.contents("out/POSITIONS"), disk.contents(POSITIONS));
    let before = kept_in(&disk, "store");
    assert_eq!((before.0.len(), before.1, before.2), (3, Some(30), 1));
    assert_eq!(kept_in(&disk, "out"), before);
}

/// One batch is hit: the entries of the others are there, and the report names the bytes.
#[test]
fn salvage_tells_of_entries_that_are_lost() {
    let sample = kept();
    let before = kept_in(&sample.disk.crash(Image::All), "store");
    let size = sample.disk.contents(POSITIONS).unwrap().len();
    for at in 0..size {
        flip(&sample.disk, POSITIONS, at);
        let (report, disk) = salvage(&sample.disk, &sample.all(), &format!("byte {at}"));
        let batch = (64..size - 32).contains(&at);
        assert_eq!(report.lost_entries.len(), usize::from(batch), "byte {at}: {report:?}");
        assert!(report.lost_entries.iter().all(|damage| damage.bytes.contains(&(at as u64))));
        let after = kept_in(&disk, "out");
        let lost = before.0.len() - after.0.len() + usize::from(after.1.is_none());
        assert_eq!(lost, usize::from(batch), "byte {at}");
        assert!(after.0.iter().all(|found| before.0.contains(found)), "byte {at}");
        flip(&sample.disk, POSITIONS, at);
    }
}

/// A damaged snapshot is not copied; progress that includes lost events is reported.
#[test]
fn salvage_names_whom_a_loss_touches() {
    let sample = kept();
    let hit = sample.written.iter().find(|w| w.record.stream == stream("a-1") && w.record.sequence == 1).unwrap();
    flip(&sample.disk, &hit.path, hit.bytes.end - 20);
    let (report, _) = salvage(&sample.disk, &sample.outside(&hit.path, hit.bytes.clone()), "one event");
    assert_eq!(report.lost(), 1);
    let told: Vec<String> = report.affected.iter().map(Affected::to_string).collect();
    let expected =
        ["handler billing, in 1 stream", "checkpoint all at position 30", "the snapshot of a-1 at sequence 2"];
    assert_eq!(told, expected);
    flip(&sample.disk, snapshot(&sample.disk), 50);
    let (report, disk) = salvage(&sample.disk, &sample.outside(&hit.path, hit.bytes.clone()), "and a snapshot");
    assert!(report.left_out[0].path.extension().is_some_and(|e| e == "snap"), "{report:?}");
    assert_eq!(kept_in(&disk, "out").2, 0);
}

#[test]
fn a_renumbered_store_has_none() {
    let disk = kept().disk;
    let report = Salvage::new().renumber(true).run_in(&disk, "store", "out").unwrap();
    assert_eq!((report.left_out.len(), report.copied.len()), (2, 0), "{report:?}");
    assert_eq!(kept_in(&disk, "out"), (Vec::new(), None, 0));
}
