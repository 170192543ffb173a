//! What stands beside the log: handler positions, checkpoints, snapshots.

use super::*;
use annals::ExpectedVersion;

const POSITIONS: &str = "store/POSITIONS";

/// The sample, with a snapshot of `a-1` after its third event, and handlers that have come to its fifth and to its first. Each position and checkpoint is in a batch of its own.
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

/// Positions were acknowledged. Of the mark at the end, which holds nothing, nobody can tell that it is no torn write.
#[test]
fn verify_finds_damage_in_positions() {
    let sample = kept();
    let size = sample.disk.contents(POSITIONS).unwrap().len();
    for at in (0..size).filter(|at| !(8..12).contains(at)) {
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

/// A snapshot is a cache: no event is lost with it, and none that was acknowledged.
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
    assert!(report.notices[0].contains("does not stand where it belongs"), "{report:?}");
}
