//! A whole store with changes of bytes, files and names.

use super::build::{self, Built, stream};
use super::edits::{self, BASES, DIR, Edit, bases, disk};
use super::records::drain;
use super::{noise, positions};
use annals::Timestamp;
use annals::fs::{Fs, MemFs, Mode};
use annals::internals::directory::segment_number;
use annals::offline::{Report, verify_in};
use annals::{Error, Expected, NewEvent, Options, Query, Store};
use annals_testkit::EventRecord;
use arbitrary::{Arbitrary, Unstructured};
use std::path::Path;

#[derive(Arbitrary, Debug)]
struct Input {
    base: u8,
    /// Changes before the checksums are corrected; nothing is corrected if this is empty.
    tampered: Vec<Edit>,
    damaged: Vec<Edit>,
    read_only: bool,
}

pub(super) fn options(fs: &MemFs) -> Options {
    let clock = || Timestamp::from_nanos(5_000);
    Options::new().file_system(fs.clone()).maintenance(false).segment_size(16 << 10).reserve(0).clock(clock)
}

/// The input changes a small store: bytes, files and names, with the checksums possibly corrected
/// in between. Nothing panics. If no checksum was corrected, every returned event is one that was
/// written, and a missing one is reported by the open or the read, and by verify; and what opens
/// once opens again and shows the same.
pub fn open_directory(input: &[u8]) {
    if let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(input)) {
        run(&input);
    }
}

fn run(input: &Input) {
    let base = &bases()[usize::from(input.base % BASES)];
    let tampered = !input.tampered.is_empty();
    let fs = disk(&edits::after(base, &input.tampered, &input.damaged));
    let verified = verify_in(&fs, DIR);
    let seen = open(&fs, input.read_only, (!tampered).then_some((base, base.end)));
    if tampered {
        return;
    }
    if let Ok(report) = &verified {
        is_told(report, &seen, base.end);
    }
    let Seen::Store { records, end, error: None, .. } = seen else { return };
    // Whatever the first open has made of it stays.
    let second = open(&fs, false, Some((base, end)));
    if input.read_only && !matches!(second, Seen::Store { error: None, .. }) {
        // It was read around damage that costs no event, such as that of a header.
        return;
    }
    let Seen::Store { records: again, end: end_again, error: None, .. } = second else {
        panic!("what was opened once does not open again");
    };
    assert_eq!((records, end), (again.clone(), end_again));
    // Damage that costs no event is not repaired by opening, and shows when an index is rebuilt.
    if verified.is_ok_and(|report| report.is_sound()) {
        go_on(&fs, &again);
    }
}

/// What an open has shown.
enum Seen {
    Refused(Error),
    Store {
        records: Vec<EventRecord>,
        end: u64,
        error: Option<Error>,
        /// It looks as if the last commits had never been written.
        shorter: bool,
    },
}

/// Opens the store and reads it in every way. Compares it with what was written, up to some
/// position.
fn open(fs: &MemFs, read_only: bool, written: Option<(&Built, u64)>) -> Seen {
    let options = options(fs);
    let opened = if read_only { options.open_read_only(DIR) } else { options.open(DIR) };
    let store = match opened {
        Ok(store) => store,
        Err(error) => {
            assert!(is_refusal(&error), "{error}");
            return Seen::Refused(error);
        }
    };
    let (records, error) = drain(store.read_all().into_iter());
    assert!(error.as_ref().is_none_or(is_refusal), "{error:?}");
    let end = store.len();
    assert!(records.iter().all(|record| record.position < end) && records.is_sorted_by(|a, b| a.position < b.position));
    let others = others(&store, &records, written.is_none());
    caches(&store, written.map(|(built, _)| built), &records);
    let mut shorter = false;
    if let Some((built, all)) = written {
        let live = built.live(end);
        // A store that is only read is read around damage: all that is intact is there, after gaps
        // that are reported. Deleted events are there again if the deletion is in a gap.
        let around = read_only && error.is_some();
        let mut live = if around { built.records.clone() } else { live };
        // Ids that the store assigned are derived from its id; if it is lost, that is reported.
        let renamed = store.open_report().notices.iter().any(|notice| notice.contains("id of the store is lost"));
        let (mut records, mut others) = (records.clone(), others);
        for record in live.iter_mut().chain(&mut records).chain(&mut others).filter(|_| renamed) {
            record.id = uuid::Uuid::nil();
        }
        let whole =
            if around { records.iter().all(|record| live.contains(record)) } else { live.starts_with(&records) };
        assert!(whole, "an event that was not written, or in another order");
        assert!(error.is_some() || records.len() == live.len());
        for record in &others {
            assert!(live.contains(record), "an event that was not written, or was deleted: {record:?}");
        }
        match store.tracked(build::UPSTREAM) {
            Ok(tracked) => assert!(around || tracked == built.tracked(end)),
            Err(error) => assert!(is_refusal(&error), "{error}"),
        }
        let report = store.open_report();
        let told = report.created || report.cut.is_some() || !report.notices.is_empty() || error.is_some();
        shorter = was_never_written(fs, built, end, report.clean);
        assert!(end <= all && (told || shorter || end == all), "events are gone without a word: {report:?}");
    }
    Seen::Store { records, end, error, shorter }
}

/// Whether the store looks as it did before the last commits were made, which no evidence proves
/// durable: the process was killed, and there are zeros in their place to the end.
fn was_never_written(fs: &MemFs, built: &Built, end: u64, clean: bool) -> bool {
    let gone = |path: &Path| {
        let file = fs.open(path, Mode::Read).expect("it is listed");
        let mut bytes = vec![0; file.size().expect("memory") as usize];
        file.read_at(0, &mut bytes).expect("memory");
        let holds = |record: &EventRecord| {
            record.data.0.len() >= 8 && bytes.windows(record.data.0.len()).any(|part| part == record.data.0)
        };
        !built.records.iter().any(|record| record.position >= end && holds(record))
    };
    let listed = fs.list(Path::new(DIR)).expect("memory");
    let newest = listed.iter().filter(|entry| segment_number(&entry.name).is_some()).map(|entry| &entry.name).max();
    !clean && end >= built.proven && newest.is_some_and(|name| gone(&Path::new(DIR).join(name)))
}

/// Handler positions and snapshots: refused, or as they were put; and loading returns what reading
/// returns.
fn caches(store: &Store, written: Option<&Built>, records: &[EventRecord]) {
    match positions::is_of_sample(store) {
        Ok(is_known) => {
            let has_none = written.is_none_or(|built| !built.files.contains_key("POSITIONS"));
            assert!(is_known || has_none, "handler positions that were not put");
        }
        Err(error) => assert!(is_refusal(&error), "{error}"),
    }
    for name in 0..build::STREAMS.len() {
        let snapshot = match store.snapshots().latest(&stream(name)) {
            Ok(Some(snapshot)) => snapshot,
            Ok(None) => continue,
            Err(error) => {
                let is_index = matches!(error, Error::Invalid { what: "index", .. });
                assert!(is_refusal(&error) || written.is_none() && is_index, "{error}");
                continue;
            }
        };
        let record = records.iter().find(|record| record.position == snapshot.position());
        if let (Some(_), Some(record)) = (written, record) {
            assert_eq!((snapshot.sequence(), snapshot.bytes()), (record.sequence, &build::state(record)[..]));
        }
    }
    let reports = [store.snapshots().list_all().map(drop), store.snapshots().verify().map(drop)];
    for error in reports.into_iter().filter_map(Result::err) {
        let is_index = matches!(error, Error::Invalid { what: "index", .. });
        assert!(is_refusal(&error) || written.is_none() && is_index, "{error}");
    }
}

fn is_refusal(error: &Error) -> bool {
    matches!(
        error,
        Error::Damaged(_) | Error::UnsupportedFormat { .. } | Error::NotAStore { .. } | Error::ForeignFile { .. }
    )
}

/// Everything that can be read in other ways. If nothing is damaged, those find the same events.
fn others(store: &Store, records: &[EventRecord], tampered: bool) -> Vec<EventRecord> {
    // A crafted index can lead anywhere, and is reported as wrong.
    let misled = |error: &Error| tampered && matches!(error, Error::Invalid { what: "index", .. });
    let is_refusal = |error: &Error| is_refusal(error) || misled(error);
    let mut all = Vec::new();
    let mut look = |events: &mut dyn Iterator<Item = annals::Result<annals::Event>>| {
        let (found, error) = drain(events);
        assert!(error.as_ref().is_none_or(&is_refusal), "{error:?}");
        all.extend(found);
    };
    look(&mut store.read_all().backwards().into_iter());
    for name in 0..build::STREAMS.len() {
        look(&mut store.read(&stream(name)).into_iter());
        look(&mut store.read(&stream(name)).backwards().from(1).limit(3).into_iter());
    }
    let queries = [
        Query::new().tag("all"),
        Query::new().domain("b").tag("n:1"),
        Query::new().event_type("Paid").recorded_since(Timestamp::from_nanos(1_030)),
        Query::new().edition("what-if"),
        Query::new().correlation("workflow").recorded_until(Timestamp::from_nanos(1_040)),
    ];
    for query in &queries {
        look(&mut store.query(query).into_iter());
        look(&mut store.query(query).backwards().after(2).limit(5).into_iter());
    }
    look(&mut records.iter().take(5).filter_map(|record| store.event(record.id).transpose()));
    let lists = [store.streams("").map(|_| ()), store.domains().map(|_| ()), store.tags("").map(|_| ())];
    assert!(
        lists.into_iter().chain([store.stats().map(|_| ())]).all(|list| list.as_ref().err().is_none_or(is_refusal))
    );
    all
}

/// Verify reports what is missing, too; and a store without a finding can be opened and read.
fn is_told(report: &Report, seen: &Seen, all: u64) {
    let silent = report.is_sound() && report.torn.is_none() && report.notices.is_empty();
    match seen {
        Seen::Refused(error) => assert!(!silent, "verify finds nothing, and open says: {error}"),
        Seen::Store { error: Some(error), .. } => {
            assert!(!report.is_sound(), "verify calls the store sound, and a read says: {error}");
        }
        Seen::Store { end, shorter, .. } => {
            assert!(!silent || *shorter || *end == all, "verify does not miss what is missing: {report:?}");
        }
    }
}

/// The store can be written to, and shows it when it is opened again.
fn go_on(fs: &MemFs, records: &[EventRecord]) {
    let store = options(fs).open(DIR).expect("it has been opened twice");
    let appended = store.append(&stream(0), Expected::Any, [NewEvent::new("More", "more")]);
    appended.expect("nothing stands against an append");
    store.close().expect("nothing stands against closing");
    let Seen::Store { records: more, error: None, .. } = open(fs, true, None) else {
        panic!("what was closed does not open");
    };
    assert_eq!((more.len(), &more[..records.len()]), (records.len() + 1, records));
    let report = verify_in(fs as &dyn Fs, DIR).expect("a store");
    assert!(report.is_sound() && report.torn.is_none(), "{report:?}");
}

pub(super) fn show(input: &[u8]) -> String {
    format!("{:#?}", Input::arbitrary_take_rest(Unstructured::new(input)))
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let lens = [0, 12, 20, 33, 47, 64, 90, 130];
    let any = (0..24).map(|seed| noise(seed + 100, lens[seed as usize % lens.len()]));
    // Those of the stores with editions.
    let edited = (0..16).map(|seed| [&[8 + (seed % 4) as u8][..], &noise(seed + 200, 20 + seed as usize * 9)].concat());
    any.chain(edited).collect()
}

#[cfg(test)]
mod tests {
    use super::super::edits::Files;
    use super::*;

    #[test]
    fn sealing_a_good_store_changes_nothing_and_it_opens() {
        for base in bases() {
            let mut files = Files { files: base.files.clone(), tampering: true };
            files.seal();
            for (name, bytes) in &base.files {
                assert_eq!(&files.files[name], bytes, "{name}");
            }
            let fs = disk(&base.files);
            let report = verify_in(&fs, DIR).unwrap();
            assert!(report.is_sound() && report.torn.is_none() && report.notices.is_empty(), "{report:?}");
            let Seen::Store { records, error: None, .. } = open(&fs, false, Some((base, base.end))) else { panic!() };
            assert_eq!(records, base.live(base.end));
            assert_eq!(base.records.len() + base.deletions.len() + base.tracked.len(), base.end as usize);
            go_on(&fs, &records);
        }
    }
    /// An index of events before its segment: checksums can be crafted.
    #[test]
    fn an_index_that_contradicts_its_segment_is_not_believed() {
        let next_position = Edit::Field { file: 2, frame: 0, at: 16, value: 0 };
        run(&Input { base: 0, tampered: vec![next_position], damaged: Vec::new(), read_only: false });
    }
}
