//! Death at every call of the file system while projections run, and every image that a crash can
//! leave of the disk.
//!
//! Every image is then opened, and checked: a saved state is the fold of all events up to its
//! checkpoint, and the log has that checkpoint; after catching up, the state is the fold of all
//! events; each acknowledged event of a store that syncs is in it, once. Then it continues: more is
//! appended and saved, and the next power cut is survived.
//!
//! These tests have failed with each of these bugs in the library: state and checkpoint in two
//! files, each synced and renamed; a saved state not synced before it gets its name; its directory
//! not synced; events not made durable before the state that includes them
//! (`logs_that_do_not_sync`).

use super::*;
use annals::projection::Start;
use annals::{Durability, Options, Timestamp};
use annals_testkit::crash::oracle::{sequences, setting};
use annals_testkit::{Crash, Fault, Image, Operation, SimFs};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Step {
    Append,
    /// Three events in two streams.
    Batch,
    Save,
    Rebuild,
    /// The projection stops and starts again.
    Restart,
    /// The store is closed and opened again, and the projection started.
    Reopen,
}

const STEPS: [Step; 6] = [Step::Append, Step::Batch, Step::Save, Step::Rebuild, Step::Restart, Step::Reopen];

/// All workloads of up to `most` steps, each after two events.
fn workloads(most: u64) -> Vec<Vec<Step>> {
    sequences(&[Step::Append, Step::Append], &STEPS, most)
}

/// A clock that stands still most of the time: time alone does not tell events apart.
fn options(disk: &SimFs, durability: Durability, from: i64) -> Options {
    let now = Arc::new(AtomicI64::new(from));
    let clock = move || Timestamp::from_nanos(now.fetch_add(1, Ordering::Relaxed) / 3);
    let options = Options::new().file_system(disk.clone()).maintenance(false).segment_size(4096).reserve(0);
    options.durability(durability).clock(clock)
}

fn images(disk: &SimFs) -> Vec<Image> {
    let mut all = vec![
        Image::Killed,
        Image::Durable,
        Image::All,
        Image::SizeWithoutData,
        Image::DataWithoutSize,
        Image::NamesOnly,
        Image::DataOnly,
    ];
    all.extend((1..disk.unsynced()).map(Image::Prefix));
    for seed in 0..setting("ANNALS_CRASH_SEEDS", 2) {
        all.extend([Image::Subset(seed), Image::Sectors(512, seed), Image::Bytes(seed)]);
    }
    all
}

fn start(store: &Store, inline: bool, every: u64) -> Result<ReadModel<Watch>> {
    let project = store.projection(watch()).save_every(every).save_after(LATE);
    if inline { project.inline() } else { project.catch_up() }
}

/// Runs a workload up to the death of the process. Returns the number of acknowledged events.
fn run(disk: &SimFs, steps: &[Step], durability: Durability, inline: bool, every: u64) -> u64 {
    let mut acknowledged = 0;
    let mut opened = options(disk, durability, 3000).open("store").ok();
    let mut model = opened.as_ref().and_then(|store| start(store, inline, every).ok());
    for (n, step) in steps.iter().enumerate() {
        let Some(store) = opened.clone() else { break };
        let data = n.to_string();
        let events = |count: u64| (0..count).map(|_| NewEvent::new("T", &data)).collect::<Vec<_>>();
        match step {
            Step::Append => {
                acknowledged += u64::from(store.append(&stream("a-1"), Expected::Any, events(1)).is_ok());
            }
            Step::Batch => {
                let batch = store.transaction().append(&stream("a-1"), Expected::Any, events(2));
                let batch = batch.append(&stream("b-1"), Expected::Any, events(1));
                acknowledged += 3 * u64::from(batch.commit().is_ok());
            }
            Step::Save => drop(model.as_ref().map(ReadModel::save)),
            Step::Rebuild => drop(model.as_ref().map(ReadModel::rebuild)),
            Step::Restart => {
                drop(model.take());
                model = start(&store, inline, every).ok();
            }
            Step::Reopen => {
                drop((model.take(), opened.take()));
                drop(store.close());
                opened = options(disk, durability, 4000).open("store").ok();
                model = opened.as_ref().and_then(|store| start(store, inline, every).ok());
            }
        }
        if !inline {
            drop(model.as_ref().map(ReadModel::catch_up));
        }
        if let (Some(model), Some(store), false) = (&model, &opened, disk.is_dead()) {
            holds(store, model, &Query::new());
        }
    }
    disk.while_dead(|| drop((model, opened)));
    acknowledged
}

fn check(disk: &SimFs, durability: Durability, acknowledged: u64, image: Image, context: &str) {
    let store = options(disk, durability, 30_000).open("store").unwrap_or_else(|e| panic!("{context}: {e}"));
    let kept = durability == Durability::Sync || image == Image::Killed;
    assert!(store.len() >= acknowledged || !kept, "{context}: {} of {acknowledged} events", store.len());
    let unusable = store.projections().unusable().unwrap();
    assert_eq!(unusable, [], "{context}: written and renamed, it is whole and not ahead of the log");
    let saved = store.projections().list().unwrap().first().map(|saved| saved.position);

    let model = store.projection(watch()).continuous().unwrap();
    match (saved, model.status().start) {
        (None, Start::Beginning) => {}
        (Some(position), Start::Saved(found)) => assert_eq!(position, found, "{context}"),
        other => panic!("{context}: {other:?}"),
    }
    if let Some(last) = store.head() {
        assert!(model.wait_for(last, LATE).expect(context));
    }
    let (seen, position) = model.read_at(|seen, position| (seen.clone(), position)).expect(context);
    assert_eq!(position, store.head(), "{context}");
    assert_eq!(seen, expected(&store, &Query::new(), position), "{context}: saved up to {saved:?}");

    // It continues, and what is saved now survives.
    let last = append(&store, 0);
    assert!(model.wait_for(last, LATE).expect(context));
    model.stop().expect(context);
    let durable = disk.crash(Image::Durable);
    disk.while_dead(|| drop(store));
    let store = options(&durable, durability, 60_000).open("store").expect(context);
    let model = store.projection(watch()).catch_up().expect(context);
    assert_eq!(model.status().start, Start::Saved(Some(last)), "{context}");
    assert_eq!(model.state().unwrap(), expected(&store, &Query::new(), Some(last)), "{context}");
}

fn die_everywhere(durability: Durability, inline: bool, every: u64) {
    let mut built = 0u64;
    for steps in workloads(setting("ANNALS_CRASH_STEPS", 2).min(3)) {
        let whole = SimFs::new();
        run(&whole, &steps, durability, inline, every);
        for call in 0..=whole.calls() {
            let disk = SimFs::new();
            disk.crash_when(Crash::AtCall(call));
            let acknowledged = run(&disk, &steps, durability, inline, every);
            for image in images(&disk) {
                let context = format!("{steps:?}, death at call {call} of {}, {image:?}", whole.calls());
                check(&disk.crash(image), durability, acknowledged, image, &context);
                built += 1;
            }
        }
    }
    println!("{built} images, no violation");
}

#[test]
fn saved_at_each_event() {
    die_everywhere(Durability::Sync, true, 1);
}

#[test]
fn saved_now_and_then() {
    die_everywhere(Durability::Sync, false, 3);
}

/// The log may lose its end: the state has not been saved with it.
#[test]
fn logs_that_do_not_sync() {
    die_everywhere(Durability::Os, true, 1);
    die_everywhere(Durability::Os, false, 2);
}

/// Every call fails once, in every way that matters: saved states are right all the same, and the
/// next save heals.
#[test]
fn failed_calls() {
    let mut built = 0u64;
    let operations = [
        Operation::Create,
        Operation::Write,
        Operation::Sync,
        Operation::Rename,
        Operation::SyncDir,
        Operation::Remove,
    ];
    for steps in workloads(setting("ANNALS_CRASH_STEPS", 2).min(2)) {
        for operation in operations {
            for after in 0.. {
                let disk = SimFs::new();
                disk.fail(Fault { operation, after, times: 1, kind: ErrorKind::Other });
                run(&disk, &steps, Durability::Sync, true, 1);
                for image in [Image::Killed, Image::Durable, Image::All, Image::Subset(after), Image::Bytes(after)] {
                    let context = format!("{steps:?}, {operation:?} {after} fails, {image:?}");
                    // The tests of commits check which appends were refused.
                    check(&disk.crash(image), Durability::Sync, 0, image, &context);
                    built += 1;
                }
                if !disk.has_failed() {
                    break;
                }
            }
        }
    }
    println!("{built} images after failed calls, no violation");
}
