//! Unreadable pages.
//!
//! A disk with one bad sector answered reads of one page with EIO, and salvage, verify, repair and
//! a read-only open ended there, in any file: a failed read was an error of the call and not
//! damage, even if the page held only an index. Now such a page is a hole in its file, whose bytes
//! are damaged bytes: everything else is salvaged, and the hole is reported.

use annals::offline::{Kind, Repair, Salvage, dump_in, verify_in};
use annals::progress::ExpectedVersion;
use annals::{Error, Expected, NewEvent, Options, Store, StreamId, Timestamp};
use annals_testkit::{Image, SimFs};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

const PAGE: usize = 4096;
const CHECKPOINTS: usize = 150;

fn options(disk: &SimFs) -> Options {
    let now = Arc::new(AtomicI64::new(1_700_000_000_000_000_000));
    let clock = move || Timestamp::from_nanos(now.fetch_add(1_234_567, Ordering::Relaxed));
    Options::new().file_system(disk.clone()).maintenance(false).segment_size(12 << 10).reserve(0).clock(clock)
}

fn stream(n: usize) -> StreamId {
    StreamId::new("order", n.to_string()).unwrap()
}

/// Segments of three pages, indexes, HEAD, POSITIONS and snapshots.
fn fill(store: &Store) {
    for n in 0..100 {
        let data = vec![n as u8; 60 + n % 7 * 60];
        let events = (0..1 + n % 3).map(|k| NewEvent::new("Placed", &data[k..]).tag(format!("tag:{n}")));
        store.append(&stream(n % 5), Expected::Any, events).unwrap();
    }
    // The second batch, which no mark proves before the store is closed, has a page of its own.
    for batch in [0..20, 20..CHECKPOINTS] {
        for n in batch {
            store.checkpoints().commit(&format!("checkpoint-{n:0>60}"), 7, ExpectedVersion::Any).unwrap();
        }
        store.checkpoints().flush().unwrap();
    }
    store.snapshots().put(&stream(1), 3, &vec![7u8; 5000]).unwrap();
}

/// The position of each event, and the location of its record.
fn records(disk: &SimFs) -> BTreeMap<u64, (PathBuf, Range<usize>)> {
    let mut found = BTreeMap::new();
    dump_in(disk, "store", |piece| {
        if piece.kind != Kind::Commit {
            return;
        }
        let bytes = disk.contents(&piece.path).unwrap();
        let mut at = piece.offset as usize + 56;
        for n in 0..u64::from(piece.events) {
            let (mut len, mut shift, start) = (0usize, 0, at);
            loop {
                let byte = bytes[at];
                at += 1;
                len |= usize::from(byte & 127) << shift;
                shift += 7;
                if byte < 128 {
                    break;
                }
            }
            at += len;
            found.insert(piece.first_position.unwrap() + n, (piece.path.clone(), start..at));
        }
    })
    .unwrap();
    found
}

fn positions(store: &Store) -> (BTreeSet<u64>, usize) {
    let (events, errors): (Vec<_>, Vec<_>) = store.read_all().into_iter().take(3000).partition(Result::is_ok);
    (events.into_iter().map(|event| event.unwrap().position()).collect(), errors.len())
}

/// Each page of each file of a store, in turn.
fn on_each_page(disk: &SimFs, mut f: impl FnMut(SimFs, &Path, Range<u64>)) {
    for path in disk.files() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name == "LOCK" || name.starts_with("SPARE") {
            continue;
        }
        let len = disk.contents(&path).unwrap().len();
        for at in (0..len).step_by(PAGE) {
            let page = at as u64..(at + PAGE).min(len) as u64;
            let copy = disk.crash(Image::All);
            copy.make_unreadable(&path, page.clone());
            f(copy, &path, page);
        }
    }
}

#[test]
fn each_page_of_a_closed_store() {
    let disk = SimFs::new();
    let store = options(&disk).open("store").unwrap();
    fill(&store);
    store.close().unwrap();
    let records = records(&disk);
    assert!(records.len() > 150);
    let mut pages = 0;
    on_each_page(&disk, |disk, path, page| {
        pages += 1;
        let what = format!("{} {page:?}", path.display());
        let touched = |bytes: &Range<usize>| bytes.start < page.end as usize && (page.start as usize) < bytes.end;
        let lost: BTreeSet<u64> =
            records.iter().filter(|(_, (of, bytes))| of == path && touched(bytes)).map(|(&at, _)| at).collect();
        let rescued: BTreeSet<u64> = records.keys().copied().filter(|at| !lost.contains(at)).collect();

        let found = verify_in(&disk, "store").unwrap();
        assert!(!found.is_sound(), "{what}");
        assert!(
            found.damage.iter().any(|damage| damage.path == path && damage.why.contains("read")),
            "{what}: {found:?}"
        );
        assert!(found.torn.is_none(), "{what}");

        let report = Salvage::new().run_in(&disk, "store", "out").unwrap();
        // A salvage reads only what it needs of an index.
        let is_index = path.extension().is_some_and(|of| of == "idx");
        let holes: Vec<_> = report.unreadable.iter().map(|hole| (&*hole.path, hole.bytes.clone())).collect();
        assert!(holes == [(path, page.clone())] || is_index && holes.is_empty(), "{what}: {holes:?}");
        let named: BTreeSet<u64> = report.losses.iter().flat_map(|loss| loss.damage.positions.clone()).collect();
        assert_eq!(named, lost, "{what}");
        let out = options(&disk).open("out").unwrap();
        assert_eq!(positions(&out), (rescued.clone(), 0), "{what}");
        let checkpoints = out.checkpoints().list().unwrap().len();
        let kept = path.ends_with("POSITIONS");
        assert!(
            if kept {
                checkpoints < CHECKPOINTS && !report.lost_entries.is_empty()
            } else {
                checkpoints == CHECKPOINTS
            },
            "{what}"
        );
        drop(out);

        let around = options(&disk).open_read_only("store").unwrap();
        let (events, errors) = positions(&around);
        assert_eq!((events, errors > 0), (rescued.clone(), !lost.is_empty()), "{what}");
        drop(around);
        if let Ok(store) = options(&disk.crash(Image::Killed)).open("store") {
            let (events, errors) = positions(&store);
            assert!(events == rescued && lost.is_empty() || errors > 0, "{what}");
        }

        let repair = Repair::new().accept(&report);
        let plan = repair.plan_in(&disk, "store").unwrap();
        assert!(plan.accepted && !plan.actions.is_empty(), "{what}: {plan:?}");
        assert_eq!((&*plan.unreadable[0].path, &plan.unreadable[0].bytes), (path, &page), "{what}");
        repair.run_in(&disk, "store").unwrap();
        let found = verify_in(&disk, "store").unwrap();
        assert!(found.is_sound(), "{what}: {found:?}");
        let store = options(&disk).open("store").unwrap();
        assert_eq!(positions(&store), (rescued, 0), "{what}");
    });
    assert!(pages > 25, "{pages}");
}

/// A process was killed, so that zeros follow the last commit and HEAD lags: the content of a page
/// at the end is unknown, and that is a loss and no torn write.
#[test]
fn each_page_of_a_store_that_was_not_closed() {
    let disk = SimFs::new();
    let store = options(&disk).open("store").unwrap();
    fill(&store);
    disk.while_dead(|| drop(store));
    let records = records(&disk);
    let last = records.values().next_back().unwrap().clone();
    on_each_page(&disk, |disk, path, page| {
        let what = format!("{} {page:?}", path.display());
        let found = verify_in(&disk, "store").unwrap();
        assert!(!found.is_sound() && found.torn.is_none(), "{what}: {found:?}");
        let report = Salvage::new().run_in(&disk, "store", "out").unwrap();
        assert!(report.torn.is_none(), "{what}");
        let out = options(&disk).open("out").unwrap();
        let (rescued, errors) = positions(&out);
        assert_eq!(errors, 0);
        // The last batch of POSITIONS may have been acknowledged, and is no torn write, either.
        let kept = out.checkpoints().list().unwrap().len();
        assert_eq!(
            (kept < CHECKPOINTS, report.lost_entries.is_empty()),
            (path.ends_with("POSITIONS"), !path.ends_with("POSITIONS"))
        );
        let lost: BTreeSet<u64> = records.keys().copied().filter(|at| !rescued.contains(at)).collect();
        // No part of a commit is used whose header is lost and that no evidence proves.
        let near = |of: &PathBuf, bytes: &Range<usize>| {
            of == path && bytes.start < page.end as usize + 2000 && (page.start as usize) < bytes.end + 100
        };
        assert!(lost.iter().all(|at| near(&records[at].0, &records[at].1)), "{what}: {lost:?}");
        let named = |at: &u64| report.losses.iter().any(|loss| loss.damage.positions.contains(at));
        assert!(lost.iter().all(named), "{what}: {lost:?} {:?}", report.losses);
        let open = report.losses.iter().any(|loss| loss.damage.positions.end == u64::MAX);
        assert_eq!(open, path == last.0 && page.end as usize > last.1.end, "{what}");
        let around = options(&disk).open_read_only("store").unwrap();
        let (events, errors) = positions(&around);
        assert_eq!((events, errors > 0), (rescued, !report.losses.is_empty()), "{what}");
        drop(around);
        match options(&disk).open("store") {
            Ok(store) => _ = positions(&store),
            Err(error) => assert!(matches!(error, Error::Damaged(_)), "{what}: {error}"),
        }
    });
}
