//! A changed store, salvaged and repaired.

use super::build::{self, Built, stream};
use super::directory::options;
use super::edits::{self, BASES, DIR, Edit, bases, disk};
use super::intact::Intact;
use super::records::drain;
use super::{noise, positions};
use annals::fs::{self, Fs, MemFs, Mode};
use annals::offline::{Repair, Salvage, Salvaged, verify_in};
use annals::{Error, Expected, NewEvent, Result, Store};
use annals_testkit::EventRecord;
use arbitrary::{Arbitrary, Unstructured};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// If a store claims to have lost more, no copy with all positions is made here: it is as long as
/// it claims.
const MOST_LOST: u64 = 1 << 12;

#[derive(Arbitrary, Debug)]
struct Input {
    base: u8,
    /// Changes before the checksums are corrected; nothing is corrected if this is empty.
    tampered: Vec<Edit>,
    damaged: Vec<Edit>,
}

/// The input changes a small store: bytes, files and names, with the checksums possibly corrected
/// in between. Then it is salvaged, with its positions and without, and repaired.
///
/// The damaged store stays unchanged. The copy is sound, opens clean, accepts events, and a salvage
/// of it loses nothing. A repair does what its plan says, refuses unaccepted losses without having
/// touched anything, leads to the same events as the salvage, and finds nothing to do when it is
/// done again. If no checksum was corrected, each event in the copy is one that was written, those
/// that the damage did not touch (`intact.rs`) are there, and missing ones are reported.
pub fn salvage(input: &[u8]) {
    if let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(input)) {
        run(&input);
    }
}

fn run(input: &Input) {
    let base = &bases()[usize::from(input.base % BASES)];
    let tampered = !input.tampered.is_empty();
    let files = edits::after(base, &input.tampered, &input.damaged);
    let fs = disk(&files);
    let renumbered = salvaged(&fs, "dense", true);
    if let Ok(copy) = &renumbered
        && copy.report.lost() > MOST_LOST
    {
        assert!(tampered, "more is lost than there was");
        let planned = Repair::new().plan_in(&fs, DIR);
        let refused = matches!(&planned, Err(Error::Damaged(_)));
        assert!(refused || planned.is_ok_and(|plan| !plan.accepted));
        return;
    }
    let plain = salvaged(&fs, "out", false);
    assert!(contents(&fs, DIR) == files, "the damaged store was written to");
    let written = (!tampered).then_some(base);
    if let Some(base) = written {
        is_what_was_written(base, &files, plain.as_ref().ok());
    }
    // With new numbers, POSITIONS is not copied.
    let newer = matches!(&plain, Err(Error::UnsupportedFormat { path, .. }) if path.ends_with("POSITIONS"));
    assert!(newer || plain.is_ok() == renumbered.is_ok(), "{:?}, {:?}", plain.err(), renumbered.err());
    if let (Ok(plain), Ok(renumbered)) = (&plain, &renumbered) {
        is_dense(plain, renumbered, tampered);
    }
    repair(&files, plain.as_ref().ok(), tampered);
}

/// The files in a directory and below it.
fn contents(fs: &MemFs, dir: &str) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut below = vec![String::new()];
    while let Some(prefix) = below.pop() {
        for entry in fs.list(&Path::new(dir).join(&prefix)).expect("memory") {
            let name = format!("{prefix}{}", entry.name);
            if entry.is_dir {
                below.push(name + "/");
                continue;
            }
            let mut bytes = vec![0; entry.size as usize];
            let file = fs.open(&Path::new(dir).join(&name), Mode::Read).expect("memory");
            fs::read_full(&*file, 0, &mut bytes).expect("memory");
            found.insert(name, bytes);
        }
    }
    found
}

/// What a salvage has made.
struct Copy {
    report: Salvaged,
    records: Vec<EventRecord>,
    /// The files of the copy before it was opened.
    files: BTreeMap<String, Vec<u8>>,
    /// Positions that the copy reports as lost.
    losses: Vec<u64>,
}

/// Damage itself is no reason to refuse.
fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::UnsupportedFormat { .. } | Error::NotAStore { .. } | Error::ForeignFile { .. })
}

/// Salvages, and checks the copy in all ways.
fn salvaged(fs: &MemFs, out: &str, renumber: bool) -> Result<Copy> {
    let report = Salvage::new().renumber(renumber).run_in(fs, DIR, out);
    let report = report.inspect_err(|error| assert!(is_refusal(error), "{error}"))?;
    let files = contents(fs, out);
    let again_in = format!("{out} again");
    let again = Salvage::new().run_in(fs, out, &again_in).expect("the copy is a store");
    let clean =
        again.losses.is_empty() && again.torn.is_none() && again.left_out.is_empty() && again.notices.is_empty();
    assert!(clean && again.lost_entries.is_empty(), "a salvage of the copy finds something to do: {again:?}");
    let plan = Repair::new().plan_in(fs, out).expect("the copy is a store");
    assert!(plan.actions.is_empty(), "a repair of the copy finds something to do: {plan:?}");
    assert!(contents(fs, out) == files, "the copy was written to");
    let (records, losses) = opened(fs, out);
    assert_eq!(opened(fs, &again_in), (records.clone(), losses.clone()), "a second salvage gives something else");
    go_on(fs, &again_in, &records);
    Ok(Copy { report, records, files, losses })
}

/// Opens a store that must be in order, and after a salvage also closed. Returns its events, and
/// the positions that it reports as lost.
fn opened(fs: &MemFs, dir: &str) -> (Vec<EventRecord>, Vec<u64>) {
    let verified = verify_in(fs, dir).expect("a store");
    // What a repair leaves to the next open.
    let left = |notice: &String| {
        ["they will be overwritten", "it will be rebuilt", "a newer version wrote it; it is not used"]
            .iter()
            .any(|end| notice.ends_with(end))
    };
    let silent = verified.torn.is_none() && verified.notices.iter().all(|notice| dir == DIR && left(notice));
    assert!(verified.is_sound() && silent, "{verified:?}");
    let store = options(fs).open(dir).unwrap_or_else(|error| panic!("{dir} does not open: {error}"));
    let report = store.open_report();
    let clean = report.clean || dir == DIR;
    assert!(clean && report.cut.is_none() && report.notices.is_empty(), "{report:?}");
    let records = read(&store);
    let losses = store.losses().expect("a good store").into_iter().flatten().collect();
    positions::is_of_sample(&store).expect("positions that can be read");
    store.snapshots().list_all().expect("snapshots that can be listed");
    store.close().expect("nothing stands against closing");
    (records, losses)
}

/// All events of a good store, read in all ways.
fn read(store: &Store) -> Vec<EventRecord> {
    let all = |read: annals::Read| {
        let (records, error) = drain(read.into_iter());
        assert!(error.is_none(), "{error:?}");
        records
    };
    let records = all(store.read_all());
    let mut backwards = all(store.read_all().backwards());
    backwards.reverse();
    assert!(backwards == records, "backwards, something else is read");
    for n in 0..build::STREAMS.len() {
        let stream = stream(n);
        let own = records.iter().filter(|record| record.stream == stream);
        let found = all(store.read(&stream));
        assert!(found.iter().filter(|record| record.stream == stream).eq(own), "in {stream}, something else is read");
    }
    records
}

/// The store takes an event after those that it has.
fn go_on(fs: &MemFs, dir: &str, records: &[EventRecord]) {
    let store = options(fs).open(dir).expect("it has been opened before");
    let appended = store.append(&stream(0), Expected::Any, [NewEvent::new("More", "more")]);
    appended.expect("nothing stands against an append");
    store.close().expect("nothing stands against closing");
    let (more, _) = opened(fs, dir);
    assert_eq!((more.len(), &more[..records.len()]), (records.len() + 1, records));
}

/// Compares the copy with what was written, and with what the damage has left of it.
fn is_what_was_written(base: &Built, files: &BTreeMap<String, Vec<u8>>, copy: Option<&Copy>) {
    let intact = Intact::of(base, files);
    let Some(Copy { report, records, files: copied, losses }) = copy else {
        let version = |name: &String| files.get(name).and_then(|bytes| bytes.get(8..12));
        let newer =
            files.keys().any(|name| base.files.get(name).is_some_and(|bytes| bytes.get(8..12) != version(name)));
        assert!(intact.demanded.is_empty() || newer, "there are events, and none is salvaged");
        return;
    };
    // The end of a missing newest segment may be unknown.
    let known = report.losses.iter().map(|loss| &loss.damage.positions).filter(|positions| positions.end < u64::MAX);
    let told: Vec<u64> = known.flat_map(Clone::clone).collect();
    // Where something else is now than what is lost: a repeated deletion.
    let mut others = told.iter().filter(|position| !losses.contains(position));
    assert!(others.all(|_| !base.deletions.is_empty()), "the report and the copy tell of other losses");
    assert!(losses.iter().all(|position| told.contains(position)), "the report does not tell of all losses");
    assert!(told.is_sorted_by(|a, b| a < b), "{told:?}");
    assert_eq!(report.events, report.positions - losses.len() as u64);
    assert!((intact.proven..=base.end).contains(&report.positions), "{} positions: {report:?}", report.positions);
    let lost: BTreeSet<u64> = told.into_iter().collect();
    let too_much = lost.intersection(&intact.demanded).next();
    assert_eq!(too_much, None, "an event that the damage did not touch is lost: {report:?}");
    assert!(!lost.is_empty() || report.missing.is_empty(), "{report:?}");
    let same_store = report.store.as_bytes() == &build::first_header().store;
    assert!(same_store || !intact.is_named, "the id of the store is another");
    let mut shown = records.iter().peekable();
    for record in base.records.iter().filter(|record| record.position < report.positions) {
        let visible = shown.next_if(|shown| shown.position == record.position);
        let gone = base.deletions.iter().filter(|(at, domain)| {
            let is_of = record.stream.edition() == Some(build::EDITION);
            *at > record.position && is_of && domain.is_none_or(|domain| domain == record.stream.domain())
        });
        let deleted = gone.clone().any(|(at, _)| intact.demanded.contains(at));
        match visible {
            Some(shown) => {
                // Ids that the store assigned are derived from its own, which is lost.
                let id = if same_store { shown.id } else { record.id };
                assert_eq!(&EventRecord { id, ..shown.clone() }, record, "an event that was not written");
                assert!(!deleted && !lost.contains(&record.position), "an event that is gone: {record:?}");
            }
            None => assert!(
                lost.contains(&record.position) || gone.count() > 0,
                "an event is gone without a word: {record:?}, {report:?}"
            ),
        }
    }
    assert_eq!(shown.next(), None, "an event that was not written");
    // Intact sidecar files are copied unchanged.
    for (name, bytes) in &base.files {
        let is_beside = name == "POSITIONS" || name.ends_with(".snap");
        if is_beside && same_store && files.get(name) == Some(bytes) {
            assert!(copied.get(name) == Some(bytes), "{name} is not taken along: {report:?}");
        }
    }
}

/// The same events, with positions and sequences that have no gaps.
fn is_dense(plain: &Copy, dense: &Copy, tampered: bool) {
    assert_eq!(dense.report.losses, plain.report.losses);
    assert!(dense.losses.is_empty(), "positions are lost where there are none");
    assert_eq!(dense.report.events, dense.report.positions);
    assert_eq!(plain.records.len(), dense.records.len());
    let mut next: BTreeMap<_, u64> = BTreeMap::new();
    let (mut position, same_store) = (0, plain.report.store == dense.report.store);
    for (plain, dense) in plain.records.iter().zip(&dense.records) {
        let id = if same_store { dense.id } else { plain.id };
        // Falling times, which this code does not write, are raised to those before them; and a
        // lost event may have one.
        let recorded_at = if tampered { plain.recorded_at } else { dense.recorded_at };
        let id = if tampered { plain.id } else { id };
        let same = EventRecord { position: plain.position, sequence: plain.sequence, id, recorded_at, ..dense.clone() };
        assert_eq!(&same, plain, "renumbered, the event is another");
        assert!((position..=plain.position).contains(&dense.position), "{dense:?}");
        position = dense.position + 1;
        if dense.stream.edition().is_none() {
            let sequence = next.entry(dense.stream.clone()).or_default();
            assert_eq!(dense.sequence, *sequence, "{dense:?}");
            *sequence += 1;
        }
    }
}

/// Repairs a copy of the store: with nothing accepted, and with the losses of the salvage.
fn repair(files: &BTreeMap<String, Vec<u8>>, salvaged: Option<&Copy>, tampered: bool) {
    let fs = disk(files);
    // Taking the lock creates its file.
    let untouched = |fs: &MemFs| {
        let (mut now, mut before) = (contents(fs, DIR), files.clone());
        now.remove("LOCK");
        before.remove("LOCK");
        now == before
    };
    let planned = Repair::new().plan_in(&fs, DIR);
    assert!(contents(&fs, DIR) == *files, "a plan has changed something");
    let (Ok(plan), Some(salvaged)) = (&planned, salvaged) else {
        let error = planned.expect_err("what can be repaired can be salvaged");
        assert!(is_refusal(&error) && salvaged.is_none(), "{error}");
        let error = Repair::new().run_in(&fs, DIR).expect_err("the plan was refused");
        assert!(is_refusal(&error), "{error}");
        assert!(untouched(&fs), "a repair that was refused has changed something");
        return;
    };
    assert_eq!(plan.losses, salvaged.report.losses, "the salvage has reported other losses");
    assert_eq!(plan.lost_entries, salvaged.report.lost_entries);
    assert_eq!(plan.accepted, plan.losses.is_empty() && plan.lost_entries.is_empty());
    let done = Repair::new().run_in(&fs, DIR);
    let done = done.or_else(|error| {
        assert!(matches!(error, Error::Damaged(_)) && !plan.accepted, "{error}");
        assert!(untouched(&fs), "a repair that was refused has changed something");
        Repair::new().accept(&salvaged.report).run_in(&fs, DIR)
    });
    let done = done.expect("the loss is accepted");
    assert_eq!(done.actions, plan.actions);
    let after = contents(&fs, DIR);
    let again = Repair::new().plan_in(&fs, DIR).expect("it is repaired");
    if tampered && !again.actions.is_empty() {
        // Crafted files may read differently when others are gone.
        return;
    }
    assert!(again.actions.is_empty() && again.accepted, "a repair leaves something to do: {again:?} after {plan:?}");
    let again = Repair::new().run_in(&fs, DIR).expect("it is repaired");
    assert!(again.actions.is_empty(), "{again:?}");
    assert!(contents(&fs, DIR) == after, "a second repair has changed something");
    if tampered {
        // The index of the newest segment stays as it is: its checksums are crafted, and it may
        // lead anywhere.
        let newest = after.keys().rfind(|name| name.ends_with(".seg") && !name.contains('/')).expect("a store");
        drop(fs.remove(&Path::new(DIR).join(newest).with_extension("idx")));
    }
    let (records, losses) = opened(&fs, DIR);
    if !tampered {
        assert_eq!((records.len(), &losses), (salvaged.records.len(), &salvaged.losses));
        let same_store = salvaged.report.store.as_bytes() == &build::first_header().store;
        for (repaired, salvaged) in records.iter().zip(&salvaged.records) {
            // A lost id of the store is another each time, and so are the ids derived from it.
            let id = if same_store { repaired.id } else { salvaged.id };
            let repaired = &EventRecord { id, ..repaired.clone() };
            assert_eq!(repaired, salvaged, "repair and salvage come to other events");
        }
    }
    go_on(&fs, DIR, &records);
}

pub(super) fn show(input: &[u8]) -> String {
    format!("{:#?}", Input::arbitrary_take_rest(Unstructured::new(input)))
}

pub(super) fn seeds() -> Vec<Vec<u8>> {
    let lens = [0, 12, 20, 33, 47, 64, 90, 130];
    let each =
        (0..36).map(|seed| [&[(seed % 12) as u8][..], &noise(seed + 300, lens[seed as usize % lens.len()])].concat());
    each.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_good_stores_all_is_demanded_and_comes_back() {
        for (n, base) in (0..).zip(bases()) {
            let intact = Intact::of(base, &base.files);
            assert!(intact.demanded.iter().copied().eq(0..base.end) && intact.is_named);
            let copy = salvaged(&disk(&base.files), "out", false).unwrap();
            assert!(copy.losses.is_empty() && copy.records == base.live(base.end));
            run(&Input { base: n, tampered: Vec::new(), damaged: Vec::new() });
        }
    }
}
