//! Everything that can happen to one workload. Each sweep returns the number of images that it has
//! built, and panics at a violation.

use super::oracle::{self, Run, Step, check, check_prefix, images};
use crate::{Crash, Fault, Image, Operation, SimFs};
use annals::Durability;
use std::io::ErrorKind;

/// The process dies at each of its changing calls.
pub fn deaths(steps: &[Step]) -> u64 {
    let mut built = 0;
    let calls = Run::new(SimFs::new()).all(steps).disk.calls();
    for call in 0..=calls {
        let disk = SimFs::new();
        disk.crash_when(Crash::AtCall(call));
        let run = Run::new(disk).all(steps);
        for image in images(&run.disk) {
            let context = format_args!("{steps:?}, death at call {call} of {calls}, {image:?}");
            check(&run.disk.crash(image), &run.history, &context);
            built += 1;
        }
    }
    built
}

/// Recovery itself dies, at each of its calls, and so does the recovery from that, as deep as
/// requested.
pub fn crashed_recoveries(steps: &[Step], depth: u32) -> u64 {
    let mut built = 0;
    let calls = Run::new(SimFs::new()).all(steps).disk.calls();
    for call in 0..=calls {
        let disk = SimFs::new();
        disk.crash_when(Crash::AtCall(call));
        let run = Run::new(disk).all(steps);
        for image in
            [Image::All, Image::Subset(call), Image::Sectors(512, call), Image::Bytes(call), Image::SizeWithoutData]
        {
            let context = format!("{steps:?}, call {call}, {image:?}");
            built += recover_to_depth(&run, &run.disk.crash(image), depth, &context);
        }
    }
    built
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

pub const KINDS: [ErrorKind; 4] =
    [ErrorKind::Other, ErrorKind::StorageFull, ErrorKind::WriteZero, ErrorKind::Interrupted];

/// Every call fails once, in every way. The store continues if it can, and what it refused never
/// comes back.
pub fn failed_calls(steps: &[Step]) -> u64 {
    let mut built = 0;
    let operations = [Operation::Write, Operation::Create, Operation::Truncate];
    for (operation, kind) in operations.into_iter().flat_map(|operation| KINDS.map(|kind| (operation, kind))) {
        for after in 0.. {
            let fault = Fault { operation, after, times: 1, kind };
            let disk = SimFs::new();
            disk.fail(fault);
            let run = Run::new(disk).all(steps);
            for image in images(&run.disk) {
                let context = format_args!("{steps:?}, {fault:?}, {image:?}");
                check(&run.disk.crash(image), &run.history, &context);
                built += 1;
            }
            if !run.disk.has_failed() {
                break;
            }
        }
    }
    built
}

/// Every sync fails once. It is then unknown what is durable: but what a reopen shows stays,
/// through a power cut right after it.
pub fn failed_syncs(steps: &[Step]) -> u64 {
    let mut built = 0;
    for operation in [Operation::Sync, Operation::SyncDir] {
        for after in 0.. {
            let fault = Fault { operation, after, times: 1, kind: ErrorKind::Other };
            let disk = SimFs::new();
            disk.fail(fault);
            let run = Run::new(disk).all(steps);
            let context = format!("{steps:?}, {fault:?}");
            for image in images(&run.disk) {
                check(&run.disk.crash(image), &run.history, &format_args!("{context}, {image:?}"));
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
    built
}

/// The disk is full after each number of bytes, and then has room again.
pub fn full_disks(steps: &[Step]) -> u64 {
    let mut built = 0;
    let used: usize = {
        let disk = Run::new(SimFs::new()).all(steps).disk;
        disk.files().iter().filter_map(|path| disk.contents(path)).map(|bytes| bytes.len()).sum()
    };
    for capacity in (0..used as u64 + 200).step_by(97) {
        let disk = SimFs::new();
        disk.set_capacity(capacity);
        let mut run = Run::new(disk).all(steps);
        run.disk.heal();
        run = run.all(&[Step::One, Step::Roll]);
        assert!(run.history.acknowledged() >= 2, "{steps:?} at {capacity}: the store goes on when there is room");
        for image in [Image::Durable, Image::All, Image::Killed, Image::Subset(capacity)] {
            let context = format_args!("{steps:?}, full at {capacity}, {image:?}");
            check(&run.disk.crash(image), &run.history, &context);
            built += 1;
        }
    }
    built
}

/// Without a sync a power cut may take acknowledged commits, but only from some commit on; a killed
/// process takes none; and a failed sync damages nothing.
pub fn without_syncs(steps: &[Step]) -> u64 {
    let mut built = 0;
    let calls = Run::with(SimFs::new(), Durability::Os).all(steps).disk.calls();
    let deaths = (0..=calls).map(|call| (Crash::AtCall(call), None));
    let failures = (0..calls).map(|after| {
        let fault = Fault { operation: Operation::Sync, after, times: 1, kind: ErrorKind::Other };
        (Crash::Never, Some(fault))
    });
    for (crash, fault) in deaths.chain(failures) {
        let disk = SimFs::new();
        disk.crash_when(crash);
        fault.into_iter().for_each(|fault| disk.fail(fault));
        let run = Run::with(disk, Durability::Os).all(steps);
        for image in images(&run.disk) {
            let context = format_args!("{steps:?}, {crash:?}, {fault:?}, {image:?}");
            match image {
                Image::Killed => check(&run.disk.crash(image), &run.history, &context),
                _ => check_prefix(&run.disk.crash(image), &run.history, &context),
            }
            built += 1;
        }
    }
    built
}
