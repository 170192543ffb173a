//! A page of a file that cannot be read: of a store that a random schedule leaves, closed or
//! killed, any page of any file answers reads with an error.
//!
//! * Nothing panics or ends early: open, a read-only open, verify, salvage and repair.
//! * Every event that was acknowledged and has no byte on the page, or near it, is in the salvaged
//!   copy, and in what a read-only open shows, in order, equal to the byte.
//! * Nothing is there that was never written.
//! * The report names missing acknowledged events.

use super::oracle::{self, Run, Step};
use super::schedules::{Random, schedule};
use crate::{Image, SimFs};
use annals::offline::{Repair, Salvage, verify_in};
use annals::{Error, Store};
use std::path::{Path, PathBuf};

const PAGE: u64 = 4096;

/// A commit whose header is on the page, and that no evidence proves acknowledged, is given up as a
/// whole.
const COMMIT: usize = 12_000;

type Written = (String, Vec<u8>);

fn events(store: &Store) -> Vec<Written> {
    let events = store.read_all().into_iter().filter_map(Result::ok);
    events.map(|event| (event.stream().to_string(), event.data().to_vec())).collect()
}

/// The locations of the events of a sound store.
fn places(disk: &SimFs, all: &[Written]) -> Vec<(PathBuf, usize, usize)> {
    let files: Vec<_> =
        disk.files().into_iter().filter(|path| path.extension().is_some_and(|end| end == "seg")).collect();
    let contents: Vec<_> = files.iter().map(|path| disk.contents(path).unwrap_or_default()).collect();
    let place = |data: &[u8]| {
        let found = files.iter().zip(&contents).find_map(|(path, bytes)| {
            let at = bytes.windows(data.len()).position(|window| window == data)?;
            Some((path.clone(), at, at + data.len()))
        });
        found.expect("each event has other bytes")
    };
    all.iter().map(|(_, data)| place(data)).collect()
}

/// Returns whether `found` are some of `all`, in order.
fn are_among(found: &[Written], all: &[Written]) -> bool {
    let mut all = all.iter();
    found.iter().all(|event| all.any(|other| other == event))
}

/// Runs the case that follows from a number. Panics at a violation.
pub fn run(seed: u64) -> u64 {
    let mut random = Random(seed);
    let mut plan = schedule(&mut random);
    plan.setup.durability = annals::Durability::Sync;
    plan.steps.retain(|step| !matches!(step, Step::Fail(..) | Step::Full(_)));
    plan.steps.push(Step::Large);
    if random.below(2) == 0 {
        plan.steps.push(Step::Reopen);
    }
    let disk = Run::set_up(SimFs::new(), plan.setup).all(&plan.steps).disk;
    // What a recovery finds, without changing this disk.
    let all = events(&oracle::options(&disk.crash(Image::All)).open("store").expect("a good store"));
    let disk = disk.crash(Image::All);
    let files: Vec<_> = disk.files().into_iter().filter(|path| path.starts_with("store")).collect();
    let path = &files[random.below(files.len() as u64) as usize];
    let len = disk.contents(path).unwrap_or_default().len() as u64;
    let at = random.below(len.max(1)) / PAGE * PAGE;
    let (start, end) = (at as usize, (at + PAGE).min(len) as usize);
    let context = format!("case {seed}: {plan:?}, {} from {start} to {end}", path.display());
    let near = |(of, from, to): &(PathBuf, usize, usize)| of == path && *from < end + COMMIT && start < to + COMMIT;
    let places = places(&disk, &all);
    let safe: Vec<Written> =
        all.iter().zip(&places).filter(|(_, place)| !near(place)).map(|(event, _)| event.clone()).collect();
    disk.make_unreadable(path, at..end as u64);

    check_verify(&disk, path, start < end, &context);
    let report = Salvage::new().run_in(&disk, "store", "out").unwrap_or_else(|e| panic!("{context}: salvage: {e}"));
    let copy = oracle::options(&disk).open("out").unwrap_or_else(|e| panic!("{context}: the copy: {e}"));
    let rescued = events(&copy);
    assert!(are_among(&rescued, &all), "{context}: not written");
    assert!(are_among(&safe, &rescued), "{context}: {} of {} events are rescued", rescued.len(), all.len());
    assert!(rescued.len() == all.len() || !report.losses.is_empty(), "{context}: a loss that is not reported");
    drop(copy);

    match oracle::options(&disk).open_read_only("store") {
        Ok(around) => {
            let shown = events(&around);
            assert!(
                are_among(&shown, &all) && are_among(&safe, &shown),
                "{context}: around: {} of {}",
                shown.len(),
                all.len()
            );
        }
        Err(error) => panic!("{context}: a read-only open: {error}"),
    }
    match oracle::options(&disk.crash(Image::Killed)).open("store") {
        Ok(store) => assert!(are_among(&events(&store), &all), "{context}: open"),
        Err(Error::Damaged(_) | Error::Io { .. }) => {}
        Err(error) => panic!("{context}: open: {error}"),
    }
    let repair = Repair::new().accept(&report);
    repair.plan_in(&disk, "store").unwrap_or_else(|e| panic!("{context}: plan: {e}"));
    repair.run_in(&disk, "store").unwrap_or_else(|e| panic!("{context}: repair: {e}"));
    let store = oracle::options(&disk).open("store").unwrap_or_else(|e| panic!("{context}: repaired: {e}"));
    assert_eq!(events(&store), rescued, "{context}: repaired");
    1
}

fn check_verify(disk: &SimFs, path: &Path, has_bytes: bool, context: &str) {
    let report = verify_in(disk, "store").unwrap_or_else(|e| panic!("{context}: verify: {e}"));
    let is_ours = path.extension().is_some_and(|end| end == "seg" || end == "idx") || path.ends_with("HEAD");
    assert!(!has_bytes || !is_ours || !report.is_sound(), "{context}: verify passes over it");
}
