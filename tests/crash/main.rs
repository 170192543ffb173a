//! Crashes at every call of every small workload, on the simulated disk.
//!
//! All workloads of one to three steps are run; at each changing call of the file system the process dies; of what is then on the disk every image of the
//! fault model is built (see `annals::fs::SimFs`); each image is opened and held against the oracle:
//!
//! * every acknowledged commit is there, in order, equal to the byte;
//! * every other commit is there as a whole, in order, or not at all; a commit that was refused is not there;
//! * nothing else is there;
//! * a second recovery changes nothing;
//! * appends after recovery work, and survive the next power cut.
//!
//! The oracle was shown to see, each by running the tests against a library with that bug: the sync of a group left out, or done at the end of a segment only (all tests fail); the
//! directory sync of a new segment left out (all); a failed write not withdrawn (`refused_commits_stay_away`, `full_disks`); the heads of refused commits not forgotten (the same); the
//! unproven tail not written again on open (`failed_syncs`).
//!
//! `cargo test --release --test crash` runs workloads of up to 2 steps with 2 seeds an image mode. `ANNALS_CRASH_STEPS=3 ANNALS_CRASH_SEEDS=4` runs the whole of it (minutes).

mod oracle;
mod snapshots;

use annals::fs::{Crash, Fault, Image, Operation, SimFs};
use annals::{Durability, Expected, NewEvent, StreamId};
use oracle::{Run, Step, check, check_prefix, images, options, setting, workloads};
use std::io::ErrorKind;
use std::time::Duration;

#[test]
fn acknowledged_commits_survive() {
    let mut built = 0u64;
    for steps in workloads(setting("ANNALS_CRASH_STEPS", 2)) {
        let calls = Run::new(SimFs::new()).all(&steps).disk.calls();
        for call in 0..=calls {
            let disk = SimFs::new();
            disk.crash_when(Crash::AtCall(call));
            let run = Run::new(disk).all(&steps);
            for image in images(&run.disk) {
                let context = format!("{steps:?}, death at call {call} of {calls}, {image:?}");
                check(&run.disk.crash(image), &run.history, &context);
                built += 1;
            }
        }
    }
    println!("{built} images, no violation");
}

/// Recovery itself dies, at each of its calls, and so does the recovery from that.
#[test]
fn recovery_survives_its_own_crashes() {
    let mut built = 0u64;
    for steps in workloads(setting("ANNALS_CRASH_STEPS", 2).min(2)) {
        let calls = Run::new(SimFs::new()).all(&steps).disk.calls();
        for call in 0..=calls {
            let disk = SimFs::new();
            disk.crash_when(Crash::AtCall(call));
            let run = Run::new(disk).all(&steps);
            for image in
                [Image::All, Image::Subset(call), Image::Sectors(512, call), Image::Bytes(call), Image::SizeWithoutData]
            {
                // Two levels for longer workloads make two million images: a minute.
                let depth = if steps.len() == 1 || setting("ANNALS_CRASH_STEPS", 2) > 2 { 2 } else { 1 };
                let context = format!("{steps:?}, call {call}, {image:?}");
                built += recover_to_depth(&run, &run.disk.crash(image), depth, &context);
            }
        }
    }
    println!("{built} images of crashed recoveries, no violation");
}

fn recover_to_depth(run: &Run, disk: &SimFs, depth: u32, context: &str) -> u64 {
    let mut built = 0;
    for call in 0.. {
        let attempt = disk.crash(Image::Killed);
        attempt.crash_when(Crash::AtCall(call));
        let opened = oracle::options(&attempt).open("store");
        if opened.is_ok() && attempt.calls() <= call {
            break;
        }
        drop(opened);
        for image in [Image::Durable, Image::All, Image::Subset(call), Image::Bytes(call ^ 5)] {
            let context = format!("{context}, recovery dies at call {call}, {image:?}");
            let crashed = attempt.crash(image);
            // A copy: the check appends.
            check(&crashed.crash(Image::Killed), &run.history, &context);
            built += 1;
            if depth > 1 {
                built += recover_to_depth(run, &crashed, depth - 1, &context);
            }
        }
    }
    built
}

const KINDS: [ErrorKind; 4] = [ErrorKind::Other, ErrorKind::StorageFull, ErrorKind::WriteZero, ErrorKind::Interrupted];

/// Every call fails once, in every way. The store goes on where it can, and what it refused never comes back.
#[test]
fn refused_commits_stay_away() {
    let mut built = 0u64;
    for steps in workloads(setting("ANNALS_CRASH_STEPS", 2)) {
        let operations = [Operation::Write, Operation::Create, Operation::Truncate];
        for (operation, kind) in operations.into_iter().flat_map(|operation| KINDS.map(|kind| (operation, kind))) {
            for after in 0.. {
                let fault = Fault { operation, after, times: 1, kind };
                let disk = SimFs::new();
                disk.fail(fault);
                let run = Run::new(disk).all(&steps);
                for image in images(&run.disk) {
                    check(&run.disk.crash(image), &run.history, &format!("{steps:?}, {fault:?}, {image:?}"));
                    built += 1;
                }
                if !run.disk.has_failed() {
                    break;
                }
            }
        }
    }
    println!("{built} images after failed calls, no violation");
}

/// Every sync fails once. Nobody knows then what is durable: but what a reopen shows stays, through a power cut right after it.
#[test]
fn failed_syncs() {
    let mut built = 0u64;
    for steps in workloads(setting("ANNALS_CRASH_STEPS", 2)) {
        for operation in [Operation::Sync, Operation::SyncDir] {
            for after in 0.. {
                let fault = Fault { operation, after, times: 1, kind: ErrorKind::Other };
                let disk = SimFs::new();
                disk.fail(fault);
                let run = Run::new(disk).all(&steps);
                let context = format!("{steps:?}, {fault:?}");
                for image in images(&run.disk) {
                    check(&run.disk.crash(image), &run.history, &format!("{context}, {image:?}"));
                    built += 1;
                }
                let reopened = run.disk.crash(Image::Killed);
                let store = oracle::options(&reopened).open("store").expect(&context);
                let shown = store.len();
                for image in [Image::Durable, Image::All] {
                    let after_cut = oracle::options(&reopened.crash(image)).open("store").expect(&context);
                    assert!(after_cut.len() >= shown, "{context}: {shown} shown, {} left", after_cut.len());
                    built += 1;
                }
                if !run.disk.has_failed() {
                    break;
                }
            }
        }
    }
    println!("{built} images after failed syncs, no violation");
}

/// The disk is full after each number of bytes, and then has room again.
#[test]
fn full_disks() {
    for steps in workloads(setting("ANNALS_CRASH_STEPS", 2)) {
        let used: usize = {
            let disk = Run::new(SimFs::new()).all(&steps).disk;
            disk.files().iter().filter_map(|path| disk.contents(path)).map(|bytes| bytes.len()).sum()
        };
        for capacity in (0..used as u64 + 200).step_by(97) {
            let disk = SimFs::new();
            disk.set_capacity(capacity);
            let mut run = Run::new(disk).all(&steps);
            run.disk.heal();
            run = run.all(&[Step::One, Step::Roll]);
            assert!(run.history.acknowledged() >= 2, "{steps:?} at {capacity}: the store goes on when there is room");
            for image in [Image::Durable, Image::All, Image::Killed, Image::Subset(capacity)] {
                check(&run.disk.crash(image), &run.history, &format!("{steps:?}, full at {capacity}, {image:?}"));
            }
        }
    }
}

/// Without a sync a power cut may take acknowledged commits, but only from some commit on; a killed process takes none; and a failed sync damages nothing.
#[test]
fn what_is_not_synced_is_lost_from_the_end() {
    let mut built = 0u64;
    for steps in workloads(setting("ANNALS_CRASH_STEPS", 2)) {
        let calls = Run::with(SimFs::new(), Durability::Os).all(&steps).disk.calls();
        let deaths = (0..=calls).map(|call| (Crash::AtCall(call), None));
        let failures = (0..calls).map(|after| {
            let fault = Fault { operation: Operation::Sync, after, times: 1, kind: ErrorKind::Other };
            (Crash::Never, Some(fault))
        });
        for (crash, fault) in deaths.chain(failures) {
            let disk = SimFs::new();
            disk.crash_when(crash);
            fault.into_iter().for_each(|fault| disk.fail(fault));
            let run = Run::with(disk, Durability::Os).all(&steps);
            for image in images(&run.disk) {
                let context = format!("{steps:?}, {crash:?}, {fault:?}, {image:?}");
                match image {
                    Image::Killed => check(&run.disk.crash(image), &run.history, &context),
                    _ => check_prefix(&run.disk.crash(image), &run.history, &context),
                }
                built += 1;
            }
        }
    }
    println!("{built} images of stores that do not sync, no violation");
}

/// A sync in the background that failed was tried again: the second one succeeded and proved nothing, HEAD claimed what the disk did not hold, and the store did not open after a power cut.
#[test]
fn a_failed_background_sync_is_not_tried_again() {
    let disk = SimFs::new();
    let durability = Durability::Interval(Duration::from_millis(5));
    let store = options(&disk).maintenance(true).durability(durability).open("store").unwrap();
    disk.fail(Fault { operation: Operation::Sync, after: 0, times: 1, kind: ErrorKind::Other });
    let stream = StreamId::new("s", "1").unwrap();
    store.append(&stream, Expected::Any, [NewEvent::new("T", "")]).unwrap();
    while !disk.has_failed() {
        std::thread::sleep(Duration::from_millis(1));
    }
    std::thread::sleep(Duration::from_millis(300));
    assert!(matches!(
        store.append(&stream, Expected::Any, [NewEvent::new("T", "")]),
        Err(annals::Error::DurabilityUnknown { .. })
    ));
    let after_power_cut = disk.crash(Image::Durable);
    disk.while_dead(|| drop(store));
    assert!(options(&after_power_cut).open("store").unwrap().is_empty());
}

/// A cut that was not synced was back after a power cut, behind a HEAD that said "closed cleanly".
#[test]
fn a_cut_stays_cut() {
    let run = Run::new(SimFs::new()).all(&[Step::One, Step::Reopen]);
    let path = "store/00000000000000000001.seg";
    let bytes = [run.disk.contents(path).unwrap(), vec![0xA7; 100]].concat();
    run.disk.set_contents(path, bytes);
    let store = options(&run.disk).open("store").unwrap();
    assert!(store.open_report().cut.is_some());
    store.close().unwrap();
    let store = options(&run.disk.crash(Image::Durable)).strict(true).open("store").unwrap();
    assert_eq!((store.len(), &store.open_report().cut), (1, &None));
}

/// A store that was opened again is not closed cleanly any more, even if nothing but HEAD is left to say so.
#[test]
fn a_store_that_is_opened_again_is_not_clean() {
    let disk = Run::new(SimFs::new()).all(&[Step::One, Step::Reopen]).disk;
    let path = "store/00000000000000000001.seg";
    let closed = disk.contents(path).unwrap();
    let store = options(&disk).segment_size(1 << 20).open("store").unwrap();
    store.append(&StreamId::new("s", "1").unwrap(), Expected::Any, [NewEvent::new("T", "")]).unwrap();
    disk.while_dead(|| drop(store));
    disk.set_contents(path, closed);
    let store = options(&disk).open("store").unwrap();
    assert!(!store.open_report().clean, "{:?}", store.open_report());
}
