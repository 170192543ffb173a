//! Repair in place: after any crash, doing it again has the same result: a sound store, with every
//! intact event, and everything that was replaced in quarantine.
//!
//! `a_repair_survives_crashes` has seen each of these bugs, planted in the library: new files in
//! place before the old ones are durable in quarantine; the list of moves not synced before the
//! first move.

use annals::offline::{Action, Repair, Salvage, verify_in};
use annals::{Error, Expected, NewEvent, Options, Store, Timestamp};
use annals_testkit::{Crash, Image, SimFs};
use annals_testkit::{EventRecord, stream};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

fn options(disk: &SimFs) -> Options {
    let now = Arc::new(AtomicI64::new(1_700_000_000_000_000_000));
    let clock = move || Timestamp::from_nanos(now.fetch_add(1_000, Ordering::Relaxed));
    Options::new().file_system(disk.clone()).maintenance(false).segment_size(4096).reserve(0).clock(clock)
}

fn fill(store: &Store, commits: u32) {
    for n in 0..commits {
        let (a, b) = (stream("a-1"), stream(&format!("b-{}", n % 3)));
        let event = NewEvent::with_data("One", vec![n as u8; 100 + n as usize % 5 * 50]);
        store
            .transaction()
            .append(&a, Expected::Any, [event])
            .append(&b, Expected::Any, [NewEvent::new("Two", "x")])
            .commit()
            .unwrap();
    }
}

/// A store of three segments or more, closed, all of it durable.
fn sample() -> (SimFs, Vec<EventRecord>) {
    let disk = SimFs::new();
    let store = options(&disk).open("store").unwrap();
    fill(&store, 30);
    let records = annals_testkit::records(store.read_all());
    store.close().unwrap();
    assert!(segments(&disk).len() >= 3);
    (disk.crash(Image::All), records)
}

fn files(disk: &SimFs) -> BTreeMap<PathBuf, Vec<u8>> {
    disk.files().into_iter().map(|path| (path.clone(), disk.contents(&path).unwrap())).collect()
}

fn segments(disk: &SimFs) -> Vec<PathBuf> {
    let mut files = disk.files();
    files.retain(|path| {
        path.parent().is_some_and(|dir| dir.ends_with("store")) && path.extension().is_some_and(|e| e == "seg")
    });
    files.sort();
    files
}

/// Changes a file, and returns the disk.
fn with(disk: &SimFs, path: &str, change: impl FnOnce(&mut Vec<u8>)) -> SimFs {
    let copy = disk.crash(Image::All);
    let mut bytes = copy.contents(path).unwrap();
    change(&mut bytes);
    copy.set_contents(path, bytes);
    copy
}

/// Changes the type of an event in the middle.
fn hit_an_event(bytes: &mut [u8]) {
    let at = bytes.windows(3).skip(1000).position(|window| window == b"One").unwrap();
    bytes[1000 + at] ^= 1;
}

fn seg(number: u32) -> String {
    format!("store/{number:020}.seg")
}

fn idx(number: u32) -> String {
    format!("store/{number:020}.idx")
}

/// Plans, which changes nothing; repairs; finds nothing more to do; and returns the actions and
/// what can be read then.
#[track_caller]
fn repair(disk: &SimFs, repair: &Repair) -> (Vec<String>, Vec<EventRecord>) {
    let before = files(disk);
    let plan = repair.plan_in(disk, "store").unwrap();
    assert!(files(disk) == before, "a plan has changed something");
    let done = repair.run_in(disk, "store").unwrap();
    assert_eq!(done.actions, plan.actions);
    // Nothing is destroyed.
    let after = files(disk);
    for (path, bytes) in &before {
        let index_or_lock = path.extension().is_none_or(|e| e == "idx");
        assert!(index_or_lock || after.values().any(|kept| kept == bytes), "{} is gone", path.display());
    }
    let verified = verify_in(disk, "store").unwrap();
    assert!(verified.is_sound() && verified.torn.is_none() && verified.notices.is_empty(), "{verified:?}");
    let again = repair.run_in(disk, "store").unwrap();
    assert!(again.actions.is_empty(), "{again:?}");
    assert!(files(disk) == after, "a second repair has changed something");
    let store = options(disk).open("store").unwrap();
    assert!(store.open_report().cut.is_none() && store.open_report().notices.is_empty(), "{:?}", store.open_report());
    let records = annals_testkit::records(store.read_all());
    store.append(&stream("new-1"), Expected::NoStream, annals_testkit::texts(["goes on"])).unwrap();
    store.close().unwrap();
    (done.actions.iter().map(Action::to_string).collect(), records)
}

#[test]
fn a_sound_store_needs_nothing() {
    let (disk, records) = sample();
    let (actions, found) = repair(&disk, &Repair::new());
    assert!(actions.is_empty() && found == records, "{actions:?}");
}

#[test]
fn what_takes_no_event_is_put_in_order() {
    let (disk, records) = sample();
    let last = segments(&disk).len() as u32;
    let cases: [(&str, SimFs); 10] = [
        ("rewrite HEAD", with(&disk, "store/HEAD", |bytes| bytes.fill(7))),
        (
            "rewrite HEAD",
            with(&disk, "store/HEAD", |bytes| bytes.iter_mut().skip(100).step_by(512).for_each(|b| *b ^= 1)),
        ),
        ("rebuild the index", with(&disk, &idx(1), |bytes| bytes[600] ^= 1)),
        ("rebuild the index", with(&disk, &idx(1), Vec::clear)),
        // The header of a segment, a trailer, a seal: all of their content can be reconstructed.
        (": it is not intact, and no event in it is lost", with(&disk, &seg(2), |bytes| bytes[20] ^= 1)),
        (": it is not intact, and no event in it is lost", with(&disk, &seg(1), |bytes| bytes[..128].fill(0))),
        (
            ": it is not intact, and no event in it is lost",
            with(&disk, &seg(1), |bytes| *bytes.last_mut().unwrap() ^= 1),
        ),
        (
            ": it is not intact, and no event in it is lost",
            with(&disk, &seg(1), |bytes| {
                let end = bytes.iter().rposition(|&byte| byte != 0).unwrap();
                bytes[end] ^= 1;
            }),
        ),
        ("cut the torn tail", with(&disk, &seg(last), |bytes| bytes.extend_from_slice(b"half a commit"))),
        ("cut the torn tail", with(&disk, &seg(last), |bytes| bytes.extend_from_slice(&[0xA7; 5000]))),
    ];
    for (expected, disk) in cases {
        let (actions, found) = repair(&disk, &Repair::new());
        assert!(actions.iter().any(|action| action.contains(expected)), "{expected}: {actions:?}");
        assert!(found == records, "{expected}");
        // Only what is bad is rebuilt.
        assert!(
            actions.iter().filter(|action| action.starts_with("rebuild ") && action.contains(".seg")).count() <= 1,
            "{actions:?}"
        );
    }
    let deleted = disk.crash(Image::All);
    deleted.delete(idx(1));
    deleted.delete("store/HEAD");
    let (actions, found) = repair(&deleted, &Repair::new());
    assert_eq!((actions.len(), found == records), (2, true), "{actions:?}");
}

#[test]
fn files_that_do_not_belong_there_are_set_aside() {
    let (disk, records) = sample();
    let (other, _) = sample();
    let copy = disk.crash(Image::All);
    copy.set_contents("store/other.seg", other.contents(seg(1)).unwrap());
    copy.set_contents("store/again.bak", disk.contents(seg(1)).unwrap());
    copy.set_contents("store/moved", disk.contents(seg(2)).unwrap());
    copy.delete(seg(2));
    copy.set_contents("store/notes.txt", b"mine".to_vec());
    let (actions, found) = repair(&copy, &Repair::new());
    assert!(found == records);
    assert!(
        actions.iter().any(|action| action.contains("other.seg to quarantine: a segment of another store")),
        "{actions:?}"
    );
    assert!(actions.iter().any(|action| action.contains("again.bak to quarantine")), "{actions:?}");
    assert!(copy.contents("store/notes.txt").is_some() && copy.contents(seg(2)).is_some());
}

/// A loss is accepted only by a caller that has seen it.
#[test]
fn loss_must_be_accepted_as_it_is() {
    let (disk, records) = sample();
    let damaged = with(&disk, &seg(2), |bytes| hit_an_event(bytes));
    let before = files(&damaged);
    assert!(matches!(Repair::new().run_in(&damaged, "store"), Err(Error::Damaged(_))));
    assert!(matches!(
        Repair::new().accept_loss(std::iter::once(0..1)).run_in(&damaged, "store"),
        Err(Error::Invalid { .. })
    ));
    let report = Salvage::new().run_in(&damaged, "store", "out").unwrap();
    assert_eq!(report.lost(), 1);
    let mut more = report.losses[0].damage.positions.clone();
    more.end += 1;
    assert!(matches!(
        Repair::new().accept_loss(std::iter::once(more)).run_in(&damaged, "store"),
        Err(Error::Invalid { .. })
    ));
    assert!(files(&damaged).into_iter().filter(|(path, _)| path.starts_with("store")).eq(before));

    let (actions, found) = repair(&damaged, &Repair::new().accept(&report));
    assert!(actions.iter().any(|action| action.starts_with("accept the loss")), "{actions:?}");
    let lost = report.losses[0].damage.positions.start;
    let left: Vec<EventRecord> = records.into_iter().filter(|record| record.position != lost).collect();
    assert!(found == left);
    let store = options(&damaged).open("store").unwrap();
    assert_eq!(store.losses().unwrap(), std::slice::from_ref(&(lost..lost + 1)));
}

#[test]
fn segments_that_are_missing_are_given_up() {
    let (disk, records) = sample();
    for number in 1..=segments(&disk).len() as u32 {
        let copy = disk.crash(Image::All);
        copy.delete(seg(number));
        let plan = Repair::new().plan_in(&copy, "store").unwrap();
        assert!(!plan.accepted);
        let lost: Vec<_> = plan.losses.iter().map(|loss| loss.damage.positions.clone()).collect();
        let (_, found) = repair(&copy, &Repair::new().accept_loss(lost.clone()));
        let left: Vec<&EventRecord> =
            records.iter().filter(|record| !lost.iter().any(|range| range.contains(&record.position))).collect();
        assert!(found.iter().eq(left), "segment {number}");
    }
}

/// Death at every changing call, every image: the store does not open before the repair is done,
/// and doing it again has the same result as without the crash.
#[test]
fn a_repair_survives_crashes() {
    let (disk, records) = sample();
    let last = segments(&disk).len() as u32;
    let damaged = with(&disk, &seg(2), |bytes| hit_an_event(bytes));
    let damaged = with(&damaged, &seg(last), |bytes| bytes.extend_from_slice(b"half a commit"));
    damaged.set_contents("store/again.bak", disk.contents(seg(1)).unwrap());
    let accept = Repair::new().accept(&Salvage::new().run_in(&damaged.crash(Image::All), "store", "out").unwrap());
    let clean = damaged.crash(Image::All);
    let (_, expected) = repair(&clean, &accept);
    assert_eq!(expected.len() + 1, records.len());

    for call in 0.. {
        let run = damaged.crash(Image::All);
        run.crash_when(Crash::AtCall(run.calls() + call));
        let done = accept.run_in(&run, "store");
        let images =
            [Image::Durable, Image::All, Image::Killed, Image::NamesOnly, Image::DataOnly, Image::SizeWithoutData];
        for image in images.into_iter().chain((0..6).map(Image::Subset)).chain((0..4).map(Image::Prefix)) {
            let context = format!("call {call}, {image:?}");
            let after = run.crash(image);
            // Before the list exists, there is the damage; then nothing opens; then all is done.
            match options(&after.crash(Image::Killed)).open("store") {
                // Damage in a sealed segment is found when it is read.
                Ok(store) => {
                    let found: Vec<_> = store.read_all().into_iter().take_while(Result::is_ok).collect();
                    assert!(found.len() < records.len(), "{context}");
                }
                Err(Error::Unfinished { what: "repair", .. } | Error::Damaged(_)) => {}
                Err(other) => panic!("{context}: {other}"),
            }
            accept.run_in(&after, "store").unwrap_or_else(|e| panic!("{context}: {e}"));
            let verified = verify_in(&after, "store").unwrap();
            assert!(
                verified.is_sound() && verified.torn.is_none() && verified.notices.is_empty(),
                "{context}: {verified:?}"
            );
            let store = options(&after).open("store").unwrap();
            assert!(annals_testkit::records(store.read_all()) == expected, "{context}");
            drop(store);
            for (path, bytes) in files(&damaged) {
                let replaced = path.extension().is_some_and(|e| e == "idx") || path.ends_with("LOCK");
                assert!(
                    replaced || files(&after).values().any(|kept| *kept == bytes),
                    "{context}: {} is gone",
                    path.display()
                );
            }
        }
        if done.is_ok() {
            assert!(call > 20, "{call}");
            return;
        }
    }
}

const POSITIONS: &str = "store/POSITIONS";

/// The sample with positions, each in a batch of its own, a checkpoint, and two snapshots.
fn kept() -> (SimFs, Vec<EventRecord>) {
    let (disk, records) = sample();
    let store = options(&disk).open("store").unwrap();
    for (handler, sequence) in [("h1", 1), ("h2", 2), ("h3", 3)] {
        store.positions().put(handler, &stream("a-1"), sequence).unwrap();
        store.positions().flush().unwrap();
    }
    store.checkpoints().commit("c", 9, annals::progress::ExpectedVersion::Missing).unwrap();
    for id in ["a-1", "b-1"] {
        store.snapshots().put_bytes(&stream(id), 1, b"state").unwrap();
    }
    store.close().unwrap();
    (disk.crash(Image::All), records)
}

fn snapshots(disk: &SimFs) -> Vec<PathBuf> {
    let mut files = disk.files();
    files.retain(|path| path.extension().is_some_and(|e| e == "snap"));
    files.sort();
    files
}

#[test]
fn bad_snapshots_are_set_aside() {
    let (disk, records) = kept();
    let all = snapshots(&disk);
    let damaged = with(&disk, all[0].to_str().unwrap(), |bytes| bytes[40] ^= 1);
    damaged.set_contents(all[1].with_file_name("00000000000000000007.snap"), disk.contents(&all[1]).unwrap());
    let (actions, found) = repair(&damaged, &Repair::new());
    assert!(found == records && actions.len() == 2, "{actions:?}");
    assert!(actions.iter().all(|action| action.contains(".snap to quarantine")), "{actions:?}");
    assert_eq!(snapshots(&damaged), all[1..]);
}

/// The header costs no entry; a batch does, and that must be accepted.
#[test]
fn positions_are_rebuilt() {
    let (disk, records) = kept();
    let (actions, _) = repair(&with(&disk, POSITIONS, |bytes| bytes[20] ^= 1), &Repair::new());
    assert!(actions.len() == 1 && actions[0].starts_with("rebuild POSITIONS"), "{actions:?}");

    let damaged = with(&disk, POSITIONS, |bytes| bytes[100] ^= 1);
    assert!(matches!(Repair::new().run_in(&damaged, "store"), Err(Error::Damaged(_))));
    let other = Repair::new().accept_lost_entries(std::iter::once(64..65));
    assert!(matches!(other.run_in(&damaged, "store"), Err(Error::Invalid { .. })));
    let report = Salvage::new().run_in(&damaged.crash(Image::All), "store", "out").unwrap();
    let (actions, found) = repair(&damaged, &Repair::new().accept(&report));
    assert!(found == records && actions.len() == 2, "{actions:?}");
    assert!(actions[1].starts_with("accept the loss of entries: store/POSITIONS, bytes 64 to "), "{actions:?}");
    let store = options(&damaged).open("store").unwrap();
    let of = |handler: &str| store.positions().get(handler, &stream("a-1")).unwrap();
    assert_eq!([of("h1"), of("h2"), of("h3")], [None, Some(2), Some(3)]);
    assert_eq!(store.checkpoints().get("c").unwrap().map(|checkpoint| checkpoint.position), Some(9));
}

/// A torn batch at the end was never acknowledged: the store opens, and overwrites it.
#[test]
fn a_torn_batch_needs_no_repair() {
    let (disk, _) = kept();
    let torn = with(&disk, POSITIONS, |bytes| bytes.extend_from_slice(b"half a batch"));
    assert!(Repair::new().plan_in(&torn, "store").unwrap().actions.is_empty());
    let store = options(&torn).open("store").unwrap();
    assert!(store.positions().put("h1", &stream("a-1"), 5).unwrap());
    store.close().unwrap();
    assert!(verify_in(&torn, "store").unwrap().notices.is_empty());
}

#[test]
fn a_repair_beside_the_log_survives_crashes() {
    let (disk, records) = kept();
    let damaged = with(&disk, POSITIONS, |bytes| bytes[100] ^= 1);
    let damaged = with(&damaged, snapshots(&disk)[0].to_str().unwrap(), |bytes| bytes[40] ^= 1);
    let accept = Repair::new().accept(&Salvage::new().run_in(&damaged.crash(Image::All), "store", "out").unwrap());
    for call in 0.. {
        let run = damaged.crash(Image::All);
        run.crash_when(Crash::AtCall(run.calls() + call));
        let done = accept.run_in(&run, "store");
        let images = [Image::Durable, Image::All, Image::Killed, Image::NamesOnly, Image::DataOnly];
        for image in images.into_iter().chain((0..6).map(Image::Subset)).chain((0..4).map(Image::Prefix)) {
            let context = format!("call {call}, {image:?}");
            let after = run.crash(image);
            accept.run_in(&after, "store").unwrap_or_else(|e| panic!("{context}: {e}"));
            let verified = verify_in(&after, "store").unwrap();
            assert!(verified.is_sound() && verified.notices.is_empty(), "{context}: {verified:?}");
            assert_eq!((verified.positions, verified.checkpoints, verified.snapshots), (2, 1, 1), "{context}");
            let kept = files(&after);
            for path in [POSITIONS.into(), snapshots(&disk)[0].clone()] {
                let bytes = damaged.contents(&path).unwrap();
                assert!(kept.values().any(|kept| *kept == bytes), "{context}: {} is gone", path.display());
            }
            assert!(annals_testkit::records(options(&after).open("store").unwrap().read_all()) == records, "{context}");
        }
        if done.is_ok() {
            return;
        }
    }
}
