//! A damaged store that is opened read-only: every intact event is served, and each gap is
//! reported.

use super::*;
use annals::{Error, Query};

/// The items of a read: events and reported gaps, in order.
#[derive(Debug)]
enum Item {
    Event(Box<EventRecord>),
    Gap(Range<u64>),
}

fn items(read: impl IntoIterator<Item = annals::Result<annals::Event>>) -> Vec<Item> {
    let item = |item: annals::Result<annals::Event>| match item {
        Ok(event) => Item::Event(Box::new(EventRecord::of(&event))),
        Err(Error::Damaged(damage)) => Item::Gap(damage.positions),
        Err(other) => panic!("{other}"),
    };
    read.into_iter().map(item).collect()
}

fn events(items: &[Item]) -> Vec<&EventRecord> {
    let mut events = Vec::new();
    for item in items {
        if let Item::Event(record) = item {
            events.push(&**record);
        }
    }
    events
}

/// Reads a damaged disk in all ways.
#[track_caller]
fn check(disk: &SimFs, intact: &[&Written], all: usize, context: &str) {
    let disk = disk.crash(Image::Killed);
    let before = all_files(&disk);
    let store = options(&disk).open_read_only("store").unwrap_or_else(|e| panic!("{context}: {e}"));
    let expected: Vec<&EventRecord> = intact.iter().map(|written| &written.record).collect();
    let found = items(store.read_all());
    assert!(events(&found) == expected, "{context}: {} of {}", events(&found).len(), expected.len());
    // Together, events and gaps have each position once, in order.
    let positions = found.iter().flat_map(|item| match item {
        Item::Event(record) => record.position..record.position + 1,
        Item::Gap(positions) => positions.clone(),
    });
    assert!(positions.eq(0..all as u64), "{context}: a position that is neither read nor named");
    let mut backwards = events(&items(store.read_all().backwards())).into_iter().cloned().collect::<Vec<_>>();
    backwards.reverse();
    assert!(backwards.iter().eq(expected.iter().copied()), "{context}: backwards");

    let gaps: u64 = store.losses().unwrap().iter().map(|range| range.end - range.start).sum();
    assert_eq!(gaps as usize, all - expected.len(), "{context}");
    for name in ["a-1", "b-2", "odd-%FF%00"] {
        let id = stream(name);
        let own: Vec<&EventRecord> = expected.iter().copied().filter(|record| record.stream == id).collect();
        for backwards in [false, true] {
            let read = if backwards { store.read(&id).backwards() } else { store.read(&id) };
            let found = items(read);
            let mut records = events(&found);
            if backwards {
                records.reverse();
            }
            assert!(records == own, "{context}: {name}");
            let told = found.iter().any(|item| matches!(item, Item::Gap(_)));
            let dense = own.iter().zip(0..).all(|(record, n)| record.sequence == n);
            assert!(told || dense, "{context}: a shorter {name} without a word");
        }
    }
    // A query may have missed something in each gap.
    let found = items(store.query(&Query::new().event_type("Two")));
    let twos: Vec<&EventRecord> = expected
        .iter()
        .copied()
        .filter(|record| record.event_type == "Two" && record.stream.edition().is_none())
        .collect();
    assert!(events(&found) == twos, "{context}: query");
    let named: u64 = found.iter().map(|item| if let Item::Gap(at) = item { at.end - at.start } else { 0 }).sum();
    assert_eq!(named, gaps, "{context}: query");
    drop(store);
    assert!(all_files(&disk) == before, "{context}: reading has written");
}

#[test]
fn flipped_bytes_are_read_around() {
    let sample = sample();
    let all = sample.written.len();
    for path in segments(&sample.disk) {
        let good = sample.disk.contents(&path).unwrap();
        // What appears to be of a newer version is refused before anything else is read.
        for at in (0..good.len()).step_by(11).filter(|at| !(8..12).contains(at)) {
            let mut bad = good.clone();
            bad[at] ^= 1 << (at % 8);
            sample.disk.set_contents(&path, bad);
            let context = format!("{}, byte {at}", path.display());
            check(&sample.disk, &sample.outside(&path, at..at + 1), all, &context);
        }
        sample.disk.set_contents(&path, good);
    }
}

#[test]
fn missing_segments_are_read_around() {
    let sample = sample();
    for path in segments(&sample.disk) {
        let copy = sample.disk.crash(Image::Killed);
        copy.delete(&path);
        check(&copy, &sample.not_in(&path), sample.written.len(), &format!("{} missing", path.display()));
    }
}

/// A stream whose events are known to be elsewhere gets no gap.
#[test]
fn streams_that_a_gap_does_not_touch_read_as_ever() {
    let disk = SimFs::new();
    let store = options(&disk).open("store").unwrap();
    let (quiet, busy) = (stream("quiet-1"), stream("busy-1"));
    store.append(&quiet, Expected::Any, annals_testkit::texts(["one", "two"])).unwrap();
    for n in 0..40u32 {
        store.append(&busy, Expected::Any, [NewEvent::with_data("B", vec![n as u8; 300])]).unwrap();
    }
    store.close().unwrap();
    let path = &segments(&disk)[0];
    let mut bytes = disk.contents(path).unwrap();
    let at = bytes.windows(300).position(|window| window == [3; 300]).unwrap();
    bytes[at] ^= 1;
    disk.set_contents(path, bytes);
    let store = options(&disk).open_read_only("store").unwrap();
    assert_eq!(events(&items(store.read(&busy))).len(), 39);
    assert_eq!(items(store.read(&quiet)).len(), 2);
    assert!(store.losses().unwrap().iter().cloned().flatten().eq([5]));
    let named = store.read(&busy).into_iter().find_map(Result::err).unwrap().to_string();
    assert!(named.contains("busy-1 lacks sequence 3") && named.contains("position 5:"), "{named}");
    let first = store.read(&busy).from(3).to(4).into_iter().collect::<Vec<_>>();
    assert!(matches!(first[..], [Err(Error::Damaged(_))]), "{first:?}");
    // Limits and bounds hold.
    assert_eq!(store.read(&busy).from(10).limit(5).into_iter().filter(Result::is_ok).count(), 5);
    assert_eq!(store.stream(&busy).unwrap().unwrap().next_sequence, 40);
    assert!(matches!(store.append(&busy, Expected::Any, annals_testkit::texts(["x"])), Err(Error::ReadOnly)));
}

/// A process is killed, and then the newest segment is lost. HEAD knows that it existed, but its
/// end is unknown: each reader ended with the segment before, as if nothing had followed it.
#[test]
fn a_missing_newest_segment_is_reported() {
    for commits in [1, 40] {
        let disk = SimFs::new();
        let store = options(&disk).open("store").unwrap();
        fill(&store, commits);
        let killed = disk.crash(Image::Killed);
        let newest = segments(&killed).pop().unwrap();
        killed.delete(&newest);
        let left = options(&killed).open_read_only("store").unwrap();
        let end = left.len();
        assert_eq!(left.open_report().damage.last().map(|damage| damage.positions.clone()), Some(end..u64::MAX));
        let last = |read: annals::Read| read.into_iter().last().unwrap().unwrap_err().to_string();
        assert!(last(left.read_all()).contains(&format!("positions from {end}")));
        assert!(last(left.read_all().from(end)).contains("the newest segment is missing"));
        assert!(last(left.read(&stream("a-1"))).contains("a-1 may have had events from"));
        assert!(matches!(left.read_all().backwards().into_iter().next(), Some(Err(Error::Damaged(_)))));
        assert!(matches!(left.query(&annals::Query::new()).into_iter().last(), Some(Err(Error::Damaged(_)))));
        if let Some(last) = end.checked_sub(1) {
            assert_eq!(left.read_all().to(last).into_iter().filter(Result::is_err).count(), 0);
        }
        drop(left);
        let verified = verify_in(&killed, "store").unwrap();
        assert!(verified.damage.iter().any(|damage| damage.why.contains("missing")), "{verified:?}");
        let report = Salvage::new().run_in(&killed, "store", "out").unwrap();
        assert_eq!((report.lost(), report.losses.len()), (0, 1), "{report:?}");
        let refused = annals::offline::Repair::new().run_in(&killed, "store");
        assert!(refused.is_err(), "what is gone must be given up first");
        annals::offline::Repair::new().accept(&report).run_in(&killed, "store").unwrap();
        assert_eq!(options(&killed).open("store").unwrap().len(), end);
    }
}
