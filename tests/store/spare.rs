//! Spare files: zeros that become the next segment.
//!
//! The crash tests show that nothing acknowledged is lost with them, and that no zeros overwrite
//! events: they make spare files as everything else does, and die at each step of it.
//!
//! Planted and seen: all spare files under one name, so that a new one truncates the segment that
//! was made of one (`tests/store/concurrency.rs`); the header of a segment that is made of one not
//! synced (`tests/crash`, four of its tests).

use annals::offline::{Salvage, verify_in};
use annals::{Expected, NewEvent, Options, Store};
use annals_testkit::held::{Call, HeldFs, Made};
use annals_testkit::stream;
use annals_testkit::{Fault, Image, Operation, SimFs};
use std::io::ErrorKind;

fn options(disk: &SimFs) -> Options {
    Options::new().file_system(disk.clone()).maintenance(false).segment_size(4096).reserve(0)
}

/// Names of spare files.
fn spares(disk: &SimFs) -> Vec<String> {
    let names = disk.files().into_iter().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned()));
    names.filter(|name| name.starts_with("SPARE.")).collect()
}

fn append(store: &Store, events: usize) {
    for _ in 0..events {
        let event = NewEvent::with_data("T", vec![7; 300]);
        store.append(&stream("s-1"), Expected::Any, [event]).unwrap();
    }
}

/// Commits of about 420 bytes: a segment has nine of them.
#[test]
fn one_is_made_when_a_segment_is_a_quarter_full_and_becomes_the_next() {
    let disk = SimFs::new();
    let store = options(&disk).open("store").unwrap();
    append(&store, 2);
    assert!(spares(&disk).is_empty());
    append(&store, 3);
    assert_eq!(spares(&disk).len(), 1);
    let made = disk.contents(format!("store/{}", spares(&disk)[0])).unwrap();
    assert!(made.len() == 4096 && made.iter().all(|&byte| byte == 0));
    append(&store, 6);
    assert!(spares(&disk).is_empty(), "the second segment is made of it");
    assert_eq!(disk.contents("store/00000000000000000002.seg").unwrap().len(), 4096);
    append(&store, 40);
    store.close().unwrap();
    assert!(spares(&disk).is_empty());
    assert_eq!(options(&disk).open("store").unwrap().read_all().into_iter().filter(Result::is_ok).count(), 51);
}

/// A process is killed, and leaves one.
#[test]
fn what_is_left_of_one_belongs_to_nobody() {
    let disk = SimFs::new();
    let store = options(&disk).open("store").unwrap();
    append(&store, 5);
    let left = disk.crash(Image::Killed);
    drop(store);
    assert_eq!(spares(&left).len(), 1);
    let report = verify_in(&left, "store").unwrap();
    assert!(report.is_sound() && report.not_covered.is_empty(), "{report:?}");
    assert_eq!(options(&left).open_read_only("store").unwrap().len(), 5);
    assert_eq!(spares(&left).len(), 1, "reading changes nothing");
    let salvaged = Salvage::new().run_in(&left, "store", "out").unwrap();
    assert!(salvaged.losses.is_empty() && salvaged.left_out.is_empty(), "{salvaged:?}");
    assert_eq!(options(&left).open("store").unwrap().len(), 5);
    assert!(spares(&left).is_empty());
}

/// A process that was killed left a spare file of 64 MiB, and the next open read all of it, to be
/// sure that it holds zeros: 10 ms and more, or as long as a slow disk takes for 64 MiB. Now its
/// name proves which store made it, and its start and its end are enough to tell that the user has
/// not put something else there.
#[test]
fn one_that_is_left_is_not_read_to_its_end() {
    let disk = SimFs::new();
    let store = options(&disk).open("store").unwrap();
    append(&store, 5);
    let left = disk.crash(Image::Killed);
    drop(store);
    let name = spares(&left).remove(0);
    left.set_contents(format!("store/{name}"), vec![0; 64 << 20]);
    let fs = HeldFs::over(left.clone());
    let store = options(&left).file_system(fs.clone()).open("store").unwrap();
    assert_eq!((store.len(), spares(&left).len()), (5, 0));
    let is_read = |made: &&Made| made.call == Call::Read && made.path.ends_with(&name);
    assert!(fs.made().iter().filter(is_read).count() <= 4, "of at most 64 KiB each");
}

/// Any failure while one is made or used: the commit does not fail, and nothing is left.
#[test]
fn nobody_depends_on_one() {
    for operation in [Operation::Write, Operation::Sync, Operation::Rename] {
        for after in 0..12 {
            let disk = SimFs::new();
            let store = options(&disk).open("store").unwrap();
            append(&store, 2);
            // In the commit that makes the spare file, the calls after those for its own bytes; in
            // the one that rolls, the rename.
            let own = if operation == Operation::Rename { 0 } else { 2 };
            disk.fail(Fault { operation, after: after + own, times: 1, kind: ErrorKind::Other });
            let mut stored = 2;
            for _ in 0..30 {
                let event = NewEvent::with_data("T", vec![7; 300]);
                match store.append(&stream("s-1"), Expected::Any, [event]) {
                    Ok(_) => stored += 1,
                    // The fault met a commit.
                    Err(_) => break,
                }
            }
            disk.heal();
            let after_kill = disk.crash(Image::Killed);
            disk.while_dead(|| drop(store));
            let again = options(&after_kill).open("store").unwrap();
            assert!(again.len() >= stored, "{operation:?} {after}: {stored} were acknowledged");
            append(&again, 30);
            again.close().unwrap();
            assert!(spares(&after_kill).is_empty(), "{operation:?} {after}");
            assert!(verify_in(&after_kill, "store").unwrap().is_sound(), "{operation:?} {after}");
        }
    }
}

/// A spare file must not take the room that commits need.
#[test]
fn its_room_is_given_back_where_room_is_wanting() {
    let disk = SimFs::new();
    let store = options(&disk).reserve(2000).open("store").unwrap();
    append(&store, 5);
    assert_eq!(spares(&disk).len(), 1);
    let used: usize = disk.files().iter().filter_map(|path| disk.contents(path)).map(|bytes| bytes.len()).sum();
    // Room for a commit beyond the zeros, but not beside the reserve.
    disk.set_capacity(used as u64 + 2100);
    append(&store, 6);
    let big = NewEvent::with_data("T", vec![7; 2500]);
    store.append(&stream("s-1"), Expected::Any, [big]).unwrap();
    assert!(spares(&disk).is_empty());
}
