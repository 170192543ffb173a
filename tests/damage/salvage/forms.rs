//! Other forms of salvage: renumbered, of large commits, of a store that was salvaged before,
//! interrupted.

use super::*;
use annals::{Error, Query};
use annals_testkit::Crash;

#[test]
fn renumbered_stores_are_dense() {
    let sample = sample();
    for path in segments(&sample.disk) {
        let good = sample.disk.contents(&path).unwrap();
        for at in (128..good.len()).step_by(97) {
            let copy = sample.disk.crash(Image::Killed);
            let mut bad = good.clone();
            let end = (at + 200).min(bad.len());
            bad[at..end].fill(0x55);
            copy.set_contents(&path, bad);
            let report = Salvage::new().renumber(true).run_in(&copy, "store", "out").unwrap();
            let store = options(&copy).open("out").unwrap();
            assert!(store.losses().unwrap().is_empty());
            let found = annals_testkit::records(store.read_all());
            let intact = sample.outside(&path, at..end);
            assert_eq!(
                (found.len(), report.events, report.positions),
                (intact.len(), intact.len() as u64, intact.len() as u64)
            );
            let mut next: BTreeMap<_, u64> = BTreeMap::new();
            for ((n, record), written) in found.iter().enumerate().zip(&intact) {
                let main = record.stream.in_edition("").unwrap();
                let shared = if record.stream.edition().is_some() { next.get(&main).copied().unwrap_or(0) } else { 0 };
                let expected = next.entry(record.stream.clone()).or_insert(record.sequence.min(shared));
                assert_eq!((record.position, record.sequence), (n as u64, *expected), "{record:?}");
                *expected += 1;
                // Everything else is unchanged, including the id that the store assigned.
                let same =
                    EventRecord { position: record.position, sequence: record.sequence, ..written.record.clone() };
                assert_eq!(*record, same);
                assert_eq!(store.event(record.id).unwrap().map(|event| event.position()), Some(record.position));
            }
            drop(store);
            assert!(verify_in(&copy, "out").unwrap().is_sound());
        }
    }
}

/// A commit of thousands of events that is hit in the middle loses those that are hit, and keeps
/// its key.
#[test]
fn of_a_large_commit_the_rest_is_kept() {
    let disk = SimFs::new();
    let store = options(&disk).segment_size(1 << 20).open("store").unwrap();
    let (a, b) = (stream("a-1"), stream("b-1"));
    let events = |n: u32| (0..n).map(|n| NewEvent::with_data("Many", n.to_le_bytes().repeat(n as usize % 50)));
    store.transaction().append(&a, Expected::Any, events(3000)).idempotency_key("large").commit().unwrap();
    store.append(&b, Expected::Any, events(10)).unwrap();
    let records = annals_testkit::records(store.read_all());
    store.close().unwrap();
    let sample = Sample { written: places(&disk, records), disk };
    let path = &segments(&sample.disk)[0];
    let good = sample.disk.contents(path).unwrap();
    assert!(good.len() > 200_000);
    for hit in [200..201, 20_000..20_700, 60_000..60_001, good.len() - 5000..good.len() - 4999] {
        let mut bad = good.clone();
        bad[hit.clone()].iter_mut().for_each(|byte| *byte = !*byte);
        sample.disk.set_contents(path, bad);
        let (_, disk) = salvage(&sample.disk, &sample.outside(path, hit.clone()), &format!("{hit:?}"));
        let store = options(&disk).open("out").unwrap();
        let commit = |n| store.transaction().append(&a, Expected::Any, events(n)).idempotency_key("large").commit();
        // The key is in the first block of the commit: if that is hit, nothing proves it. Otherwise
        // a repeat is one, and other content is refused, although part of the first one is lost.
        if hit.start > 9000 {
            assert!(commit(3000).unwrap().duplicate, "{hit:?}");
            assert!(matches!(commit(1), Err(annals::Error::IdempotencyMismatch { .. })), "{hit:?}");
        } else {
            assert!(!commit(1).unwrap().duplicate, "{hit:?}");
        }
    }
    // Only single events are left: headers of segment and commit, and all marks, are gone.
    let mut bad = good.clone();
    bad[..190].fill(0);
    bad[50_000] ^= 1;
    sample.disk.set_contents(path, bad);
    salvage(
        &sample.disk,
        &sample
            .outside(path, 0..190)
            .into_iter()
            .filter(|written| !written.bytes.contains(&50_000))
            .collect::<Vec<_>>(),
        "no header",
    );
}

/// A store that was salvaged is used, damaged again, and salvaged again.
#[test]
fn salvaged_again() {
    let sample = sample();
    let path = &segments(&sample.disk)[1];
    let mut bad = sample.disk.contents(path).unwrap();
    bad[700] ^= 4;
    sample.disk.set_contents(path, bad);
    let (first, disk) = salvage(&sample.disk, &sample.outside(path, 700..701), "first");
    assert!(first.lost() > 0);
    let store = options(&disk).open("out").unwrap();
    fill(&store, 6);
    let info = store.stream(&stream("a-1")).unwrap().unwrap();
    // Two of the commits have keys that the store knows, so they add nothing.
    assert_eq!(info.next_sequence, 26);
    let tagged = store.query(&Query::new().stream(&stream("a-1"))).into_iter().count();
    assert_eq!(tagged, store.read(&stream("a-1")).into_iter().count());
    let records = annals_testkit::records(store.read_all());
    let losses = store.losses().unwrap();
    store.close().unwrap();
    assert!(verify_in(&disk, "out").unwrap().is_sound());
    for path in disk.files().into_iter().filter(|path| path.starts_with("store")) {
        disk.delete(path);
    }
    for path in disk.files().into_iter().filter(|path| path.starts_with("out")) {
        disk.set_contents(Path::new("store").join(path.file_name().unwrap()), disk.contents(&path).unwrap());
        disk.delete(path);
    }
    for path in segments(&disk) {
        let good = disk.contents(&path).unwrap();
        for at in (0..good.len()).step_by(61) {
            let copy = disk.crash(Image::Killed);
            let mut bad = good.clone();
            bad[at] ^= 1;
            copy.set_contents(&path, bad);
            let report = Salvage::new().run_in(&copy, "store", "out").unwrap();
            let store = options(&copy).open("out").unwrap();
            let found = annals_testkit::records(store.read_all());
            let mut known = records.iter();
            assert!(found.iter().all(|record| known.any(|known| known == record)), "{}, byte {at}", path.display());
            let lost: Vec<u64> = store.losses().unwrap().into_iter().flatten().collect();
            assert!(losses.iter().cloned().flatten().all(|position| lost.contains(&position)));
            assert!(found.len() + 1 >= records.len(), "{}, byte {at}: {report:?}", path.display());
        }
    }
}

/// A salvage was killed half-way. The beginning of the copy was "sound" for `verify`, "not a store"
/// for an open that creates nothing, and "not empty" for the next salvage, so that it could be
/// taken for the copy. Now each of them says what it is, and a salvage of it reports that it copies
/// a beginning.
fn says_what_it_is(disk: &SimFs, context: &str) {
    let outcomes = [
        options(disk).create(false).open("out").map(drop),
        options(disk).open_read_only("out").map(drop),
        options(disk).open("out").map(drop),
        verify_in(disk, "out").map(drop),
        Salvage::new().run_in(disk, "store", "out").map(drop),
    ];
    for (n, outcome) in outcomes.into_iter().enumerate() {
        let is_told = matches!(&outcome, Err(Error::Unfinished { what: "salvage", path }) if path.ends_with("out"));
        assert!(is_told, "{context}, {n}: {outcome:?}");
    }
    if let Ok(copied) = Salvage::new().run_in(disk, "out", "copy of a beginning") {
        let told = copied.notices.iter().any(|notice| notice.starts_with("SALVAGE-INCOMPLETE: "));
        assert!(told, "{context}: {copied:?}");
    }
}

#[test]
fn a_salvage_that_is_interrupted_leaves_nothing_that_opens() {
    let sample = sample();
    let path = &segments(&sample.disk)[0];
    let mut bad = sample.disk.contents(path).unwrap();
    bad[300] ^= 1;
    sample.disk.set_contents(path, bad);
    // All of it is durable.
    let base = sample.disk.crash(Image::All);
    let mut ended = false;
    for call in 0.. {
        let disk = base.crash(Image::Killed);
        let before = all_files(&disk);
        disk.crash_when(Crash::AtCall(disk.calls() + call));
        let done = Salvage::new().run_in(&disk, "store", "out");
        for image in [Image::Durable, Image::All, Image::NamesOnly, Image::Subset(call), Image::Killed] {
            let after = disk.crash(image);
            assert!(all_files(&after) == before, "call {call}, {image:?}");
            let there = after.files().iter().any(|path| path.starts_with("out"));
            if after.files().iter().any(|path| path.ends_with("SALVAGE-INCOMPLETE")) {
                says_what_it_is(&after, &format!("call {call}, {image:?}"));
            }
            match options(&after).create(false).open("out") {
                Ok(store) => {
                    let last = done.is_ok() || call > 10;
                    assert!(last, "call {call}, {image:?}: opens too early");
                    assert_eq!(annals_testkit::records(store.read_all()).len(), sample.outside(path, 300..301).len());
                }
                Err(Error::Unfinished { what: "salvage", .. }) => assert!(there),
                Err(Error::NotAStore { .. }) => assert!(done.is_err(), "call {call}, {image:?}"),
                Err(other) => panic!("call {call}, {image:?}: {other}"),
            }
        }
        if done.is_ok() {
            ended = true;
            break;
        }
    }
    assert!(ended);
}

#[test]
fn nothing_is_written_into_a_directory_that_holds_something() {
    let sample = sample();
    sample.disk.set_contents("out/anything", vec![1]);
    let refused = Salvage::new().run_in(&sample.disk, "store", "out");
    assert!(matches!(refused, Err(Error::Invalid { .. })), "{refused:?}");
    assert!(matches!(Salvage::new().run_in(&sample.disk, "nowhere", "new"), Err(Error::NotAStore { .. })));
}

/// A lost deletion: what was begun again after it must not be taken for a contradiction.
#[test]
fn editions_that_were_deleted() {
    let disk = SimFs::new();
    let store = options(&disk).open("store").unwrap();
    let (a, branch) = (stream("a-1"), stream("a-1@x"));
    store.append(&a, Expected::Any, annals_testkit::texts(["0", "1", "2", "3"])).unwrap();
    store.append(&branch, Expected::Next(3), annals_testkit::texts(["old 3", "old 4"])).unwrap();
    store.editions().delete("x", None).unwrap();
    store.append(&branch, Expected::Next(1), annals_testkit::texts(["new 1", "new 2"])).unwrap();
    store.append(&a, Expected::Any, annals_testkit::texts(["4"])).unwrap();
    let visible = annals_testkit::data_of(&annals_testkit::records(store.read(&branch)));
    assert_eq!(visible, ["0", "new 1", "new 2"]);
    store.close().unwrap();
    let path = &segments(&disk)[0];
    let good = disk.contents(path).unwrap();
    let deletion = good.windows(14).position(|window| window == b"EditionDeleted").unwrap();
    for at in 0..good.len() {
        let copy = disk.crash(Image::Killed);
        let mut bad = good.clone();
        bad[at] ^= 1;
        copy.set_contents(path, bad);
        let report = Salvage::new().run_in(&copy, "store", "out").unwrap();
        assert!(report.lost() <= 1, "byte {at}: {report:?}");
        let store = options(&copy).open("out").unwrap();
        let found = annals_testkit::data_of(&annals_testkit::records(store.read(&branch)));
        // If the event with which the edition diverges is lost, nothing shows that it had diverged
        // there.
        let shared = |data: &String| data == "1" && !found.contains(&"new 1".to_owned());
        assert!(found.iter().all(|data| visible.contains(data) || shared(data)), "byte {at}: {found:?}");
        if (deletion..deletion + 14).contains(&at) {
            assert_eq!(found, visible, "byte {at}");
        }
    }
}

/// A deletion of a whole edition is lost between two of a domain of it: it is put back as one of
/// the domain and gets a number there, and the next one, which is intact, gets another. If an event
/// is lost, too, it is unknown which of the two was where: then both are reported.
#[test]
fn a_deletion_of_an_edition_between_two_of_a_domain() {
    let disk = SimFs::new();
    let store = options(&disk).segment_size(1 << 20).open("store").unwrap();
    let (a, branch) = (stream("a-1"), stream("a-1@x"));
    store.append(&a, Expected::Any, annals_testkit::texts(["0", "1"])).unwrap();
    for (n, domain) in [Some("a"), None, Some("a"), Some("a")].into_iter().enumerate() {
        let (first, second) = (format!("{n} first"), format!("{n} second"));
        store.append(&branch, Expected::Any, annals_testkit::texts([&*first, &*second])).unwrap();
        store.append(&a, Expected::Any, annals_testkit::texts([&*format!("between {n}")])).unwrap();
        store.editions().delete("x", domain).unwrap();
    }
    store.append(&branch, Expected::Any, annals_testkit::texts(["last"])).unwrap();
    let visible = annals_testkit::records(store.read_all());
    store.close().unwrap();
    let path = &segments(&disk)[0];
    let mut bad = disk.contents(path).unwrap();
    let mut deletions = (0..bad.len() - 14).filter(|&at| bad[at..].starts_with(b"EditionDeleted"));
    let second = deletions.nth(1).unwrap();
    bad[second] ^= 1;
    disk.set_contents(path, bad.clone());
    let report = Salvage::new().run_in(&disk, "store", "out").unwrap();
    assert_eq!(report.lost(), 0, "{report:?}");
    let store = options(&disk).open("out").unwrap();
    assert_eq!(annals_testkit::records(store.read_all()), visible);
    drop(store);

    let event = bad.windows(9).position(|window| window == b"between 1").unwrap();
    bad[event] ^= 1;
    disk.set_contents(path, bad);
    let report = Salvage::new().run_in(&disk, "store", "out of two").unwrap();
    assert_eq!(report.lost(), 2, "{report:?}");
    let store = options(&disk).open("out of two").unwrap();
    let found = annals_testkit::records(store.read_all());
    assert!(
        found
            .iter()
            .eq(visible.iter().filter(|record| annals_testkit::data_of(std::slice::from_ref(record)) != ["between 1"]))
    );
}

/// A commit of an earlier attempt, complete, at its offset, with exactly the next position: it does
/// not follow the commit that is now before it, so it was never acknowledged.
#[test]
fn stale_commits_are_left_behind() {
    let disk = SimFs::new();
    let one_segment = |disk: &SimFs| options(disk).segment_size(1 << 20);
    let store = one_segment(&disk).open("store").unwrap();
    fill(&store, 2);
    store.close().unwrap();
    let append = |data: &[&str]| {
        let copy = disk.crash(Image::Killed);
        let store = one_segment(&copy).open("store").unwrap();
        for data in data {
            store.append(&stream("c-3"), Expected::Any, annals_testkit::texts([*data])).unwrap();
        }
        let records = annals_testkit::records(store.read_all());
        store.close().unwrap();
        (places(&copy, records), copy)
    };
    let (_, stale) = append(&["first", "lost"]);
    let (written, last) = append(&["again"]);
    let path = &segments(&disk)[0];
    let (end, mut bytes) = (last.contents(path).unwrap().len(), last.contents(path).unwrap());
    bytes.extend_from_slice(&stale.contents(path).unwrap()[end..]);
    last.set_contents(path, bytes);
    let (report, _) = salvage(&last, &written.iter().collect::<Vec<_>>(), "stale");
    assert!(report.torn.is_some() && report.lost() == 0, "{report:?}");
}
