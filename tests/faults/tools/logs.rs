//! Which log a directory holds, and whether it ever held one.

use annals::offline::{Repair, Salvage, verify_in};
use annals::{Error, Expected, NewEvent, Options, Store, StreamId};
use annals_testkit::{Image, SimFs};
use std::path::Path;

const FIRST: &str = "store/00000000000000000001.seg";
const FIRST_INDEX: &str = "store/00000000000000000001.idx";

fn options(disk: &SimFs) -> Options {
    Options::new().file_system(disk.clone()).maintenance(false).segment_size(4 << 20).reserve(0)
}

/// Some tens of events are more than a mebibyte: then a close leaves an index of the newest
/// segment.
fn append(store: &Store, stream: &str, count: usize) {
    append_of(store, stream, count, 60_000);
}

fn append_of(store: &Store, stream: &str, count: usize, bytes: usize) {
    let (stream, data) = (StreamId::new("order", stream).unwrap(), vec![7; bytes]);
    for _ in 0..count {
        store.append(&stream, Expected::Any, [NewEvent::new("Placed", &data)]).unwrap();
    }
}

/// A store that continues from a disk; it ends with a close, or the process is killed.
fn go_on(disk: &SimFs, stream: &str, count: usize, closes: bool) -> SimFs {
    let disk = disk.crash(Image::All);
    let store = options(&disk).open("store").unwrap();
    append(&store, stream, count);
    if closes {
        store.close().unwrap();
    } else {
        disk.while_dead(|| drop(store));
    }
    disk
}

fn is_damaged<T>(opened: annals::Result<T>) -> bool {
    matches!(opened, Err(Error::Damaged(_)))
}

/// Two copies of a store were both written to, and a segment of one was put into the other. HEAD
/// knew how far the log was durable but not which log, so the store opened, verify called it sound,
/// and the newest events were others. Now HEAD has the digest of the log up to its mark.
#[test]
fn a_segment_of_a_diverged_copy_is_damage() {
    let origin = SimFs::new();
    let store = options(&origin).open("store").unwrap();
    append(&store, "1", 2);
    store.close().unwrap();
    for (with_index, closes, count) in
        [(false, true, 5), (true, true, 5), (false, false, 5), (true, false, 5), (true, true, 24), (false, true, 80)]
    {
        let what = format!("index {with_index}, closes {closes}, {count} events");
        let (a, b) = (go_on(&origin, "a", 24, true), go_on(&origin, "b", count, closes));
        if !closes {
            // The process was killed: HEAD is from the open before.
            let store = options(&b).open("store").unwrap();
            append(&store, "b", 1);
            b.while_dead(|| drop(store));
        }
        b.set_contents(FIRST, a.contents(FIRST).unwrap());
        if with_index {
            b.set_contents(FIRST_INDEX, a.contents(FIRST_INDEX).unwrap());
        }
        let found = verify_in(&b, "store").unwrap();
        assert!(!found.is_sound(), "{what}");
        assert!(is_damaged(options(&b).open("store")), "{what}");
        let around = options(&b).open_read_only("store").unwrap();
        let (events, gaps): (Vec<_>, Vec<_>) = around.read_all().into_iter().partition(Result::is_ok);
        assert!(events.len() >= 26 && !gaps.is_empty(), "{what}: {} {}", events.len(), gaps.len());
        drop(around);
        let report = Salvage::new().run_in(&b, "store", "out").unwrap();
        assert!(!report.losses.is_empty(), "{what}");
        assert!(verify_in(&b, "out").unwrap().is_sound(), "{what}");
        assert!(options(&b).open("out").is_ok(), "{what}");
        // No loss is accepted unseen.
        assert!(is_damaged(Repair::new().run_in(&b, "store")), "{what}");
        Repair::new().accept(&report).run_in(&b, "store").unwrap();
        assert!(verify_in(&b, "store").unwrap().is_sound(), "{what}");
        assert!(options(&b).open("store").is_ok(), "{what}");
        assert!(Repair::new().plan_in(&b, "store").unwrap().actions.is_empty(), "{what}");
    }
}

/// A HEAD that lags does not mean another log, wherever the process was killed, nor does a missing
/// one.
#[test]
fn head_may_lag() {
    let disk = SimFs::new();
    let mut last = 0;
    for round in 0..30 {
        let store = options(&disk).segment_size(4096).open("store").unwrap();
        assert_eq!(store.len(), last);
        append_of(&store, "1", round % 7, 300);
        last = store.len();
        if round % 5 == 0 {
            store.close().unwrap();
        } else {
            disk.while_dead(|| drop(store));
        }
        assert!(verify_in(&disk, "store").unwrap().is_sound());
        if round % 11 == 10 {
            disk.delete("store/HEAD");
        }
    }
}

/// All segments were empty or missing (a copy that met a full disk, a restore that left them out)
/// and HEAD with them, while indexes and positions still referred to events. An open for writing
/// began an empty store at position 0, and acknowledged events. Now it refuses, and says what it
/// found.
#[test]
fn no_store_is_begun_over_what_is_left_of_one() {
    let origin = SimFs::new();
    let store = options(&origin).segment_size(16 << 10).open("store").unwrap();
    append_of(&store, "1", 100, 300);
    store.positions().put("billing", &StreamId::new("order", "1").unwrap(), 7).unwrap();
    store.snapshots().put(&StreamId::new("order", "1").unwrap(), 3, &7u8).unwrap();
    store.close().unwrap();
    let files = |disk: &SimFs, ending: &str| -> Vec<_> {
        let files = disk.files().into_iter();
        files.filter(|path| path.extension().is_some_and(|of| of == ending)).collect()
    };
    let segments = files(&origin, "seg");
    assert!(segments.len() > 2);
    type Loses = fn(&SimFs, &Path);
    let empties: Loses = |disk, path| disk.set_contents(path, Vec::new());
    let deletes: Loses = |disk, path| disk.delete(path);
    for loses in [empties, deletes] {
        for which in 0..6 {
            let disk = origin.crash(Image::All);
            loses(&disk, Path::new("store/HEAD"));
            // Nothing would reveal the newest one, which is not sealed.
            let gone = if which == 5 { &segments[segments.len() - 2..] } else { &segments[..] };
            gone.iter().for_each(|path| loses(&disk, path));
            // Each remaining file reveals it.
            if which != 0 && which != 5 {
                files(&disk, "idx").iter().for_each(|path| disk.delete(path));
            }
            if [2, 4].contains(&which) {
                disk.delete("store/POSITIONS");
            }
            if [3, 4].contains(&which) {
                files(&disk, "snap").iter().for_each(|path| disk.delete(path));
            }
            let opened = options(&disk).open("store");
            if which == 4 {
                // Nothing is left that only a store has.
                assert_eq!(opened.is_ok(), loses as usize == deletes as usize);
                continue;
            }
            let Err(Error::Damaged(damage)) = opened else { panic!("{which}: {opened:?}") };
            let told = damage.why.contains("index") || damage.why.contains("another directory");
            // Of several empty files, the first is not a segment that was being created.
            assert!(told || loses as usize == empties as usize, "{damage}");
            assert!(!verify_in(&disk, "store").unwrap().is_sound(), "{which}");
            if [0, 5].contains(&which) {
                let report = Salvage::new().run_in(&disk, "store", "out").unwrap();
                assert!(report.losses.iter().any(|loss| loss.damage.positions.end > 90), "{which}: {report:?}");
                let around = options(&disk).open_read_only("store").unwrap();
                assert!(around.read_all().into_iter().any(|event| event.is_err()), "{which}");
            }
        }
    }
    // An older copy of the newest segment, with the index of the last close.
    let disk = SimFs::new();
    let store = options(&disk).open("store").unwrap();
    append(&store, "1", 2);
    store.close().unwrap();
    let (before, disk) = (disk.contents(FIRST).unwrap(), go_on(&disk, "1", 20, true));
    assert!(disk.contents(FIRST_INDEX).is_some());
    disk.set_contents(FIRST, before);
    disk.delete("store/HEAD");
    assert!(is_damaged(options(&disk).open("store")));
    assert!(!verify_in(&disk, "store").unwrap().is_sound());
}
