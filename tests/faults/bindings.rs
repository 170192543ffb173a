//! Data that is bound to an event: snapshots, states, checkpoints, positions, dead letters, and
//! subscriptions.

use annals::consumer::Reset;
use annals::fs::{Entry, Fs, FsLayer, MemFs};
use annals::offline::{Salvage, verify};
use annals::progress::{BindingFault, ExpectedVersion};
use annals::projection::{ExternalSink, SavedFault, Start};
use annals::snapshot::{Codec, Retention, SnapshotFault};
use annals::subscription::Delivery;
use annals::{
    Durability, Error, Event, Expected, NewEvent, Options, Outcome, Projection, Query, Result, Store, Timestamp,
};

use annals_testkit::{Bed, Dice, Gap, Image, SimFs, break_records, stream};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex, mpsc};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

fn append(store: &Store, name: &str, event_type: &'static str, count: usize) {
    for _ in 0..count {
        store.append(&stream(name), Expected::Any, [NewEvent::new(event_type, "")]).unwrap();
    }
}

/// Copies the files of one directory over those of another, as `cp -a from/. to` does.
fn copy_over(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_over(&entry.path(), &to),
            false => _ = std::fs::copy(entry.path(), to).unwrap(),
        }
    }
}

/// A sink that stores its checkpoint and the recorded time of the event there.
#[derive(Clone, Default)]
struct Sink {
    checkpoint: Option<u64>,
    recorded_at: Option<Timestamp>,
    events: u64,
}

impl ExternalSink for Sink {
    type Error = Error;
    fn checkpoint(&mut self) -> Result<Option<u64>> {
        Ok(self.checkpoint)
    }
    fn recorded_at(&mut self) -> Result<Option<Timestamp>> {
        Ok(self.recorded_at)
    }
    fn apply(&mut self, events: &[Event], checkpoint: u64) -> Result<()> {
        (self.checkpoint, self.recorded_at) = (Some(checkpoint), events.last().map(Event::recorded_at));
        self.events += events.len() as u64;
        Ok(())
    }
}

/// A store over which a backup of its first 50 events was restored. The 50 events after those were
/// seen by a consumer, `mailer`, which gave up the one at 60, by a handler, `billing`, and by a
/// sink.
struct Restored {
    dir: tempfile::TempDir,
    sink: Sink,
}

impl Restored {
    fn new() -> Restored {
        let dir = tempfile::tempdir().unwrap();
        let (path, backup) = (dir.path().join("store"), dir.path().join("backup"));
        let store = Store::open(&path).unwrap();
        append(&store, "order-1", "Old", 50);
        store.close().unwrap();
        copy_over(&path, &backup);

        let store = Store::open(&path).unwrap();
        append(&store, "order-1", "Lost", 50);
        let park = |event: &Event| match event.position() {
            60 => Outcome::Park("no address".into()),
            _ => Outcome::Ack,
        };
        store.consumer("mailer").until_caught_up().run(park).unwrap();
        store.positions().put("billing", &stream("order-1"), 99).unwrap();
        store.positions().put("early", &stream("order-1"), 49).unwrap();
        let mut external = store.external(Sink::default());
        external.catch_up().unwrap();
        let sink = external.into_sink();
        store.close().unwrap();
        copy_over(&backup, &path);
        Restored { dir, sink }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("store")
    }

    fn open(&self) -> Store {
        Store::open(self.path()).unwrap()
    }
}

fn mailer(store: &Store) -> annals::Consumer {
    store.consumer("mailer").until_caught_up()
}

/// `verify` reports what opening has reported of bindings, and calls the store sound.
fn as_opening(path: &Path, notices: &str) {
    let report = verify(path).unwrap();
    assert!(report.is_sound(), "{report:?}");
    let [mut told, mut found]: [Vec<&str>; 2] =
        [notices.lines().collect(), report.notices.iter().map(|of| &**of).collect()];
    told.sort_unstable();
    found.sort_unstable();
    assert_eq!(found, told);
}

fn nothing(_: &Event) {
    panic!("nothing is handed out")
}

/// A backup was restored over the directory, which had grown past the old checkpoint when the
/// consumer ran: it saw 10 of 60 new events, its dead letter was retried with another event, and
/// the handler and the external state continued at their numbers. A checkpoint was a number, and a
/// number does not identify an event. Now each is bound to its event, and refused, with the way
/// out, if the log has another one there.
#[test]
fn what_is_about_events_of_another_history_is_refused() {
    let restored = Restored::new();
    let store = restored.open();
    append(&store, "order-1", "New", 60);
    drop(store);
    let store = restored.open();
    let notices = store.open_report().notices.join("\n");
    for told in ["the checkpoint of mailer at position 99", "a dead letter of mailer", "handler billing at sequence 99"]
    {
        assert!(notices.contains(told), "{told}: {notices}");
    }

    drop(store);
    as_opening(&restored.path(), &notices);
    let store = restored.open();
    let diverged = |result: Result<()>| match result {
        Err(error @ Error::Diverged { recorded_at: Some(_), .. }) => {
            let told = error.to_string();
            assert!(told.contains("reset") && told.contains("recorded at 20"), "{told}");
        }
        other => panic!("{other:?}"),
    };
    diverged(mailer(&store).run(nothing).map(drop));
    diverged(mailer(&store).workers(2).run(nothing).map(drop));
    diverged(store.checkpoints().get("mailer").map(drop));
    diverged(store.checkpoints().commit("mailer", 105, ExpectedVersion::Any).map(drop));
    diverged(mailer(&store).control().lag().map(drop));
    diverged(store.external(restored.sink.clone()).catch_up().map(drop));
    let listed = store.checkpoints().list().unwrap();
    assert_eq!(listed[0].fault, Some(BindingFault::Diverged));
    assert_eq!(store.consumers().unwrap()[0].checkpoint.as_ref(), Some(&listed[0]));

    let order = stream("order-1");
    diverged(store.positions().get("billing", &order).map(drop));
    diverged(store.positions().put("billing", &order, 60).map(drop));
    assert_eq!(store.positions().get("early", &order).unwrap(), Some(49), "that event is still there");
    assert_eq!(store.positions().list("billing").unwrap()[0].fault, Some(BindingFault::Diverged));
    store.positions().reset("billing", &order, 49).unwrap();
    assert_eq!(store.positions().get("billing", &order).unwrap(), Some(49));

    // The event of the dead letter no longer exists: it is listed without one, and not retried with
    // another.
    let letter = mailer(&store).dead_letters().unwrap().remove(0);
    assert_eq!((letter.position, letter.fault, letter.event.is_some()), (60, Some(BindingFault::Diverged), false));
    diverged(mailer(&store).retry_dead_letters(nothing).map(drop));

    // The way out.
    mailer(&store).reset_to(Reset::After(49)).unwrap();
    let ran = mailer(&store).run(|_: &Event| ()).unwrap();
    assert_eq!((ran.handled, ran.position), (60, Some(109)));
    assert_eq!(mailer(&store).dead_letters().unwrap().len(), 1, "it does not go with the event that has its position");
    assert!(mailer(&store).drop_dead_letter(60).unwrap());
    drop(store);
    assert!(restored.open().open_report().notices.is_empty());
}

/// `verify` checked the bytes of POSITIONS, but not what they are about: for a store over which a
/// backup was restored it reported nothing, and opening checks only the newest entries. Now it
/// reports all, once for each name.
#[test]
fn verify_tells_of_all_that_is_about_another_history() {
    let dir = tempfile::tempdir().unwrap();
    let [common, one, other] = ["common", "one", "other"].map(|name| dir.path().join(name));
    let dream = |root: &str| stream(root).in_edition("dream").unwrap();
    let store = Store::open(&common).unwrap();
    append(&store, "order-1", "Common", 2);
    append(&store, "order-2", "Common", 2);
    // The present edition of a name is not an earlier one.
    append(&store, "order-1@dream", "Gone", 1);
    store.editions().delete("dream", None).unwrap();
    store.append(&dream("order-1"), Expected::Next(1), [NewEvent::new("Common", "")]).unwrap();
    store.close().unwrap();
    for (path, event_type) in [(&one, "One"), (&other, "Other")] {
        copy_over(&common, path);
        let store = Store::open(path).unwrap();
        for stream in ["order-1", "order-2", "order-1@dream", "order-3"] {
            append(&store, stream, event_type, 2);
        }
        if path == &one {
            let positions = store.positions();
            positions.put("both", &stream("order-1"), 1).unwrap();
            positions.put("both", &dream("order-1"), 1).unwrap();
            positions.put("both", &dream("order-2"), 1).unwrap();
            // Of its own, shared with the main edition, in the main one, and ahead.
            positions.put("late", &dream("order-1"), 2).unwrap();
            positions.put("late", &dream("order-2"), 3).unwrap();
            positions.put("late", &stream("order-1"), 2).unwrap();
            positions.put("late", &stream("order-3"), 1).unwrap();
            for (name, position) in [("both", 0), ("far", store.len() - 1), ("late", store.len() - 2)] {
                store.checkpoints().commit(name, position, ExpectedVersion::Any).unwrap();
            }
            let park = |event: &Event| match event.position() {
                10.. => Outcome::Park("no".into()),
                _ => Outcome::Ack,
            };
            mailer(&store).run(park).unwrap();
        }
        store.close().unwrap();
        let notices = verify(path).unwrap().notices;
        assert!(notices.is_empty(), "{notices:?}");
    }
    std::fs::copy(one.join("POSITIONS"), other.join("POSITIONS")).unwrap();
    let diverged = "the log has another event with its number";
    let expected = |more: &str, of: &str| match more {
        "" => format!("POSITIONS: {of}: {diverged}; it is refused until it is reset"),
        _ => format!("POSITIONS: {of}, and {more} more: {diverged}; they are refused until they are reset"),
    };
    let report = verify(&other).unwrap();
    assert!(report.is_sound());
    let told = |notice: &String| report.notices.contains(notice);
    assert!(told(&expected("", "the checkpoint of far at position 14")), "{report:?}");
    assert!(told(&expected("", "the checkpoint of late at position 13")), "{report:?}");
    assert!(told(&expected("", "the checkpoint of mailer at position 14")), "{report:?}");
    assert!(report.notices.iter().any(|of| of.contains("a dead letter of mailer") && of.contains("and 2 more")));
    assert!(report.notices.iter().any(|of| of.contains("of handler late") && of.contains("and 3 more")), "{report:?}");
    assert_eq!(report.notices.len(), 5, "{report:?}");

    // The log does not reach the entries after the backup; the end of a damaged log is unknown.
    std::fs::copy(one.join("POSITIONS"), common.join("POSITIONS")).unwrap();
    let ahead = verify(&common).unwrap().notices;
    assert!(ahead.len() == 5 && ahead.iter().all(|of| of.contains("has not reached")), "{ahead:?}");
    let segment = common.join("00000000000000000001.seg");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(6).rposition(|of| of == b"Common").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    let damaged = verify(&common).unwrap();
    assert!(!damaged.is_sound() && !damaged.notices.iter().any(|of| of.contains("POSITIONS")), "{damaged:?}");
    // For another store, only that is reported.
    let stranger = dir.path().join("stranger");
    let store = Store::open(&stranger).unwrap();
    append(&store, "order-1", "T", 20);
    store.close().unwrap();
    std::fs::copy(one.join("POSITIONS"), stranger.join("POSITIONS")).unwrap();
    let found = verify(&stranger).unwrap();
    assert!(found.damage.len() == 1 && found.notices.is_empty(), "{found:?}");
}

/// The same, while the store is shorter than the checkpoint: a consumer silently went back to the
/// end. Now all report the same error, and opening reports it first, even in a store that is only
/// read.
#[test]
fn what_is_ahead_of_a_restored_store_is_refused() {
    let restored = Restored::new();
    let notices = annals::Options::new().open_read_only(restored.path()).unwrap().open_report().notices.join("\n");
    assert!(notices.contains("mailer") && notices.contains("has not reached"), "{notices}");
    as_opening(&restored.path(), &notices);
    let store = restored.open();
    let ahead = |result: Result<()>| match result {
        Err(error @ Error::PositionAhead { position: 99, end: 50, .. }) => {
            assert!(error.to_string().contains("restored from a backup"), "{error}");
        }
        other => panic!("{other:?}"),
    };
    ahead(mailer(&store).run(nothing).map(drop));
    ahead(store.checkpoints().get("mailer").map(drop));
    ahead(store.positions().get("billing", &stream("order-1")).map(drop));
    ahead(store.external(restored.sink.clone()).catch_up().map(drop));
    ahead(store.external(Sink { recorded_at: None, ..restored.sink.clone() }).catch_up().map(drop));
    ahead(store.subscribe(Query::new()).after(99).next().expect("an error").map(drop));
    assert_eq!(store.checkpoints().list().unwrap()[0].fault, Some(BindingFault::Ahead));
    assert_eq!(mailer(&store).dead_letters().unwrap()[0].fault, Some(BindingFault::Ahead));

    store.checkpoints().delete("mailer").unwrap();
    assert_eq!(mailer(&store).run(|_: &Event| ()).unwrap().handled, 50);
}

/// A subscription after a position that the store had not reached returned the same error forever,
/// even after it was stopped: 3.6 million errors in 8 seconds through an endpoint. It checked the
/// position before it checked whether it had ended. Now there is one error, and then it has ended.
#[test]
fn a_subscription_that_begins_after_the_end_fails_once() {
    let store = Store::in_memory();
    append(&store, "a-1", "T", 1);
    let mut ahead = store.subscribe(Query::new()).after(1000);
    assert!(matches!(ahead.next(), Some(Err(Error::PositionAhead { position: 1000, end: 1, .. }))));
    assert!(ahead.is_ended() && ahead.next().is_none() && matches!(ahead.try_next(), Ok(None)));
    ahead.stopper().stop();
    assert!(ahead.next().is_none());
    let stopped = store.subscribe(Query::new()).after(1000);
    stopped.stopper().stop();
    assert_eq!(stopped.count(), 0, "one that is stopped says nothing");
    // The head itself is where live begins.
    let mut at_the_head = store.subscribe(Query::new()).after(0);
    assert!(matches!(at_the_head.next(), Some(Ok(Delivery::CaughtUp(Some(0))))));
}

/// `after(u64::MAX)` was reported as one less: it was kept as the position after it, which the last
/// number does not have. Now the given number is reported, here as for a checkpoint.
#[test]
fn the_last_number_is_told_as_it_is() {
    let store = Store::in_memory();
    append(&store, "a-1", "T", 1);
    for number in [u64::MAX - 1, u64::MAX] {
        let mut ahead = store.subscribe(Query::new()).after(number);
        assert_eq!((ahead.checkpoint(), ahead.lag()), (Some(number), 0));
        let refused = ahead.try_next();
        let told = matches!(&refused, Err(Error::PositionAhead { position, end: 1, .. }) if *position == number);
        assert!(told, "{refused:?}");
        store.checkpoints().reset("mailer", number).unwrap();
        let refused = mailer(&store).run(|_: &Event| ()).map(drop);
        let told = matches!(&refused, Err(Error::PositionAhead { position, end: 1, .. }) if *position == number);
        assert!(told, "{refused:?}");
        let info = store.consumers().unwrap().remove(0);
        assert_eq!((info.checkpoint.unwrap().position, info.behind), (number, 0));
        assert_eq!(store.query(&Query::new()).after(number).into_iter().count(), 0);
        assert!(matches!(mailer(&store).reset_to(Reset::After(number)), Err(Error::Invalid { .. })));
    }
}

/// A number that was committed before the log had reached it was taken for a position once the log
/// had grown past it.
#[test]
fn a_number_that_was_no_position_is_none_later() {
    let store = Store::in_memory();
    append(&store, "a-1", "T", 1);
    store.checkpoints().commit("mailer", 5, ExpectedVersion::Missing).unwrap();
    append(&store, "a-1", "T", 9);
    let ran = mailer(&store).run(nothing);
    assert!(matches!(ran, Err(Error::Diverged { position: 5, recorded_at: None, .. })), "{ran:?}");
    assert_eq!(store.checkpoints().get("mailer").unwrap().map(|of| of.position), Some(5), "a number, as it was given");
}

/// A power cut loses events of a store that does not sync them. Data about events is written to the
/// disk after them, so it is never about a missing one: nothing is refused then, and new events are
/// seen.
#[test]
fn a_power_cut_leaves_nothing_that_is_about_lost_events() {
    let disk = SimFs::new();
    let open = |disk: &SimFs| {
        let options = Options::new().file_system(disk.clone()).maintenance(false).durability(Durability::Os);
        options.open("store").unwrap()
    };
    let store = open(&disk);
    append(&store, "a-1", "T", 5);
    let park = |_: &Event| Outcome::Park("no".into());
    mailer(&store).run(park).unwrap();
    store.positions().put("h", &stream("a-1"), 4).unwrap();
    store.positions().flush().unwrap();
    append(&store, "a-1", "Lost", 5);
    store.positions().put("h", &stream("a-1"), 9).unwrap();
    store.checkpoints().commit("other", 9, ExpectedVersion::Missing).unwrap();
    for image in [Image::Durable, Image::All, Image::Subset(1), Image::Sectors(512, 3)] {
        let left = disk.crash(image);
        let store = open(&left);
        assert!(!store.open_report().notices.iter().any(|notice| notice.contains("POSITIONS")), "{image:?}");
        assert_eq!(store.positions().get("h", &stream("a-1")).unwrap(), Some(4), "{image:?}");
        assert_eq!(store.checkpoints().get("other").unwrap(), None, "{image:?}");
        let before = store.len();
        append(&store, "a-1", "New", 3);
        assert_eq!(mailer(&store).run(|_: &Event| ()).unwrap().handled, before - 5 + 3, "{image:?}");
        assert_eq!(mailer(&store).retry_dead_letters(|_: &Event| ()).unwrap().handled, 5, "{image:?}");
    }
}

/// A projection that sets its state once, and is saved automatically.
struct Keeps<S>(S);

impl<S> Projection for Keeps<S>
where
    S: Serialize + for<'de> Deserialize<'de> + Default + Clone + Send + Sync + 'static,
{
    type State = S;
    fn name(&self) -> &str {
        "keeps"
    }
    fn version(&self) -> u32 {
        1
    }
    fn apply(&self, state: &mut S, _: &Event) -> Result<()> {
        *state = self.0.clone();
        Ok(())
    }
}

#[derive(Serialize, Deserialize, Default, Debug, PartialEq, Clone)]
struct Optional {
    #[serde(skip_serializing_if = "Option::is_none", default)]
    note: Option<u8>,
    count: u8,
    extra: Vec<u8>,
}

#[derive(Serialize, Deserialize, Default, Debug, PartialEq, Clone)]
#[serde(tag = "kind")]
enum Tagged {
    #[default]
    Idle,
    Busy {
        with: String,
    },
}

#[derive(Serialize, Deserialize, Default, Debug, PartialEq, Clone)]
struct Floats(Vec<Option<f64>>);

fn optional() -> Optional {
    Optional { note: None, count: 1, extra: vec![7, 0] }
}

fn busy() -> Tagged {
    Tagged::Busy { with: "x".into() }
}

/// The results of two loads, and a projection that is started twice; with the default codec, or
/// this one.
fn twice<S>(state: &S, codec: Option<Codec>) -> (bool, Start)
where
    S: Serialize + for<'de> Deserialize<'de> + Default + Clone + Send + Sync + PartialEq + std::fmt::Debug + 'static,
{
    let store = Store::in_memory();
    append(&store, "a-1", "T", 10);
    let load = || {
        let load = store.load(&stream("a-1")).snapshot_every(5);
        let load = codec.map_or(load.clone(), |codec| load.codec(codec));
        let set = |of: &mut S, _: &Event| {
            *of = state.clone();
            Ok(())
        };
        load.fold(S::default(), set).unwrap()
    };
    let (first, second) = (load(), load());
    assert_eq!((&first.state, &second.state), (state, state), "the same with a snapshot and without");
    assert_eq!(second.snapshot.is_some(), first.put);
    assert_eq!(first.put_error.is_none(), first.put);
    assert_eq!(store.snapshots().skipped().unfaithful, if first.put { 0 } else { 2 });
    assert_eq!(store.snapshots().list_all().unwrap().len(), usize::from(first.put), "nothing is kept that is not used");

    let start = || {
        let project = store.projection(Keeps(state.clone()));
        codec.map_or_else(|| store.projection(Keeps(state.clone())), |codec| project.codec(codec)).catch_up().unwrap()
    };
    let model = start();
    assert_eq!(model.status().save_error.is_none(), first.put, "{:?}", model.status().save_error);
    assert_eq!(model.stop().is_ok(), first.put);
    let model = start();
    assert_eq!(model.state().unwrap(), *state);
    (first.put, model.status().start)
}

/// bincode was the silent default for states, and writes no names: a struct with a field that may
/// be left out was loaded with other values, and an internally tagged enum could not be loaded at
/// all, so that each load replayed everything and wrote it again. Now JSON is the default; and a
/// state that the codec does not return unchanged is not kept, and every load reports that.
#[test]
fn a_state_comes_back_as_it_was_or_is_not_kept() {
    let saved = Start::Saved(Some(9));
    assert_eq!(twice(&optional(), None), (true, saved));
    assert_eq!(twice(&busy(), None), (true, saved));
    assert_eq!(twice(&std::collections::HashMap::from([(1, 2.5), (7, 1e-300)]), None), (true, saved), "in any order");
    assert_eq!(twice(&(0..50).collect::<std::collections::HashSet<u8>>(), Some(Codec::Bincode)), (true, saved));
    let not_kept = (false, Start::Beginning);
    assert_eq!(twice(&optional(), Some(Codec::Bincode)), not_kept);
    assert_eq!(twice(&busy(), Some(Codec::Bincode)), not_kept);
    assert_eq!(twice(&Floats(vec![Some(f64::INFINITY)]), Some(Codec::Json)), not_kept);
    assert_eq!(twice(&Floats(vec![Some(f64::INFINITY), None]), Some(Codec::Bincode)), (true, saved));
    // Numbers to the last bit: by default, JSON would lose it.
    let floats = (1..2000u64)
        .map(|n| Some(f64::from_bits(n.wrapping_mul(0x9E37_79B9_7F4A_7C15))))
        .map(|of| of.filter(|f| f.is_finite()));
    assert_eq!(twice(&Floats(floats.collect()), None), (true, saved));
}

/// The same for a put by hand, where the type that will be read is unknown: a state that no type
/// can read back is refused.
#[test]
fn a_put_refuses_what_cannot_come_back() {
    let store = Store::in_memory();
    append(&store, "a-1", "T", 1);
    let (a, snapshots) = (stream("a-1"), store.snapshots());
    let refused = |put: Result<()>| assert!(matches!(put, Err(Error::Codec { .. })), "{put:?}");
    refused(snapshots.clone().codec(Codec::Bincode).put(&a, 0, &optional()));
    refused(snapshots.put(&a, 0, &f64::NAN));
    refused(snapshots.put(&a, 0, &Some(None::<u8>)));
    assert!(snapshots.latest(&a).unwrap().is_none());
    snapshots.put(&a, 0, &optional()).unwrap();
    assert_eq!(snapshots.latest(&a).unwrap().unwrap().decode::<Optional>().unwrap(), optional());
    snapshots.clone().codec(Codec::Bincode).put(&a, 0, &Optional { note: Some(1), ..optional() }).unwrap();

    // A snapshot of another type is reported, and replaced by one of this type.
    snapshots.put(&a, 0, "text").unwrap();
    let one_more = |n: &mut u64, _: &Event| {
        *n += 1;
        Ok(())
    };
    let load = || store.load(&a).snapshot_every(1).fold(0, one_more).unwrap();
    let loaded = load();
    assert_eq!((loaded.skipped, loaded.put, loaded.replayed), (Some(SnapshotFault::Undecodable), true, 1));
    assert_eq!((load().skipped, load().replayed), (None, 0));
}

/// A saved state that could no longer be decoded was rebuilt at each start without a report.
#[test]
fn a_projection_tells_that_its_state_is_of_another_type() {
    let store = Store::in_memory();
    append(&store, "a-1", "T", 1);
    store.projection(Keeps("text".to_owned())).catch_up().unwrap().stop().unwrap();
    let model = store.projection(Keeps(7u64)).catch_up().unwrap();
    assert_eq!((model.status().start, model.state().unwrap()), (Start::Unusable(SavedFault::Undecodable), 7));
    model.stop().unwrap();
    assert_eq!(store.projection(Keeps(7u64)).catch_up().unwrap().status().start, Start::Saved(Some(0)));
}

/// In a store that was salvaged, `put(&s, 3, …)` with a lost event at sequence 3 stored the
/// snapshot for event 4, the next one that a read returned, and loads left event 4 out. Now a
/// request for the event with a sequence gets that event or none.
#[test]
fn there_is_no_snapshot_for_a_lost_event() {
    let dir = tempfile::tempdir().unwrap();
    let (path, out) = (dir.path().join("store"), dir.path().join("out"));
    let store = Store::open(&path).unwrap();
    for n in 0..6 {
        let event = NewEvent::with_data("T", format!("this is event {n}").into_bytes());
        store.append(&stream("a-1"), Expected::Next(n), [event]).unwrap();
    }
    store.positions().put("h", &stream("a-1"), 3).unwrap();
    store.close().unwrap();
    let mut files = std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path());
    let segment = files.find(|path| path.extension().is_some_and(|of| of == "seg")).expect("a segment");
    let mut bytes = std::fs::read(&segment).unwrap();
    let at = bytes.windows(15).position(|of| of == b"this is event 3").unwrap();
    bytes[at] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    assert_eq!(Salvage::new().run(&path, &out).unwrap().lost(), 1);
    let found = [verify(&out).unwrap().notices, verify(&path).unwrap().notices];
    assert!(found.iter().all(Vec::is_empty), "{found:?}");

    let store = Store::open(&out).unwrap();
    assert!(store.open_report().notices.is_empty(), "{:?}", store.open_report().notices);
    let a = stream("a-1");
    let add = |sum: &mut u64, event: &Event| {
        *sum += event.sequence();
        Ok(())
    };
    let count = || store.load(&a).fold(0, add).unwrap();
    assert_eq!(count().state, 1 + 2 + 4 + 5);
    let put = store.snapshots().put(&a, 3, &3u64);
    assert!(matches!(put, Err(Error::Invalid { what: "snapshot", .. })), "{put:?}");
    assert!(store.snapshots().put_bytes(&a, 3, b"").is_err());
    store.snapshots().put(&a, 4, &7u64).unwrap();
    assert_eq!((count().state, count().replayed), (12, 1));
    // A handler that has handled it stays valid: no other event has its number.
    assert_eq!(store.positions().get("h", &a).unwrap(), Some(3));
    store.positions().reset("early", &a, 3).unwrap();
    assert_eq!(store.positions().list("early").unwrap()[0].recorded_at, None, "it is not that of event 4");
}

struct Count;

impl Projection for Count {
    type State = u64;
    fn name(&self) -> &str {
        "count"
    }
    fn version(&self) -> u32 {
        1
    }
    fn apply(&self, count: &mut u64, _: &Event) -> Result<()> {
        *count += 1;
        Ok(())
    }
}

/// An inline read model did not see an event whose ticket was dropped, or whose future was
/// cancelled, as when the client of a server has gone, until the next append: only waits for
/// commits notified it. Now its readers apply what no appender has.
#[test]
fn an_inline_model_shows_what_nobody_waits_for() {
    for maintenance in [true, false] {
        let store = Options::new().file_system(MemFs::new()).maintenance(maintenance).open("store").unwrap();
        let count = store.projection(Count).inline().unwrap();
        let submit = || {
            let event = NewEvent::new("T", "");
            store.transaction().append(&stream("a-1"), Expected::Any, [event]).submit().unwrap()
        };
        let visible = |events| {
            while store.len() < events {
                std::thread::yield_now();
            }
        };
        drop(submit());
        visible(1);
        assert_eq!((count.state().unwrap(), count.status().lag, count.position()), (1, 0, Some(0)));
        let mut cancelled = Box::pin(submit());
        let polled = cancelled.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        assert!(maintenance || matches!(polled, Poll::Ready(Ok(_))));
        drop(cancelled);
        visible(2);
        assert_eq!(count.read(|count| *count).unwrap(), 2);
        count.pause();
        drop(submit());
        visible(3);
        assert_eq!(count.state().unwrap(), 2, "it is paused");
        count.resume();
        assert_eq!(count.read_at(|count, at| (*count, at)).unwrap(), (3, Some(2)));
    }
}

type Act = Box<dyn FnOnce() + Send>;

/// Memory in which something happens right before a directory is listed for the nth time.
#[derive(Clone)]
struct Interrupted {
    fs: MemFs,
    listed: Arc<AtomicU64>,
    at: Arc<Mutex<Option<(u64, Act)>>>,
}

impl std::fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.fs.fmt(f)
    }
}

impl FsLayer for Interrupted {
    fn inner(&self) -> &dyn Fs {
        &self.fs
    }

    fn list(&self, path: &Path) -> io::Result<Vec<Entry>> {
        if path.ends_with("snapshots") {
            let n = self.listed.fetch_add(1, SeqCst);
            let due = self.at.lock().unwrap().take_if(|(at, _)| *at == n);
            if let Some((_, act)) = due {
                act();
            }
        }
        self.fs.list(path)
    }
}

/// Deleting an edition without events of its own checked that there were none, and then removed its
/// positions and snapshots, even a persistent one: also those of a writer who had begun the edition
/// in between. Now only data from before is removed, in editions with events, too.
#[test]
fn deleting_an_edition_leaves_what_is_begun_meanwhile() {
    let mut left = 0;
    for (nth, events) in (0..4).flat_map(|nth| [(nth, 0), (nth, 1)]) {
        let (listed, at) = (Arc::new(AtomicU64::new(0)), Arc::default());
        let fs = Interrupted { fs: MemFs::new(), listed: listed.clone(), at };
        let store = Options::new().file_system(fs.clone()).maintenance(false).open("store").unwrap();
        append(&store, "a-1", "T", 2);
        append(&store, "a-1@what-if", "T", events);
        let own = stream("a-1@what-if");
        // From before: it belongs to the deleted edition.
        store.positions().put("old", &own, 1).unwrap();
        store.snapshots().retention(Retention::Persist).put(&own, 0, "old").unwrap();
        let began = Arc::new(AtomicBool::new(false));
        let act = {
            let (store, own, began) = (store.clone(), own.clone(), began.clone());
            move || {
                let mine = store.append(&own, Expected::Any, [NewEvent::new("Mine", "")]).unwrap().sequences.start;
                store.positions().put("new", &own, mine).unwrap();
                store.snapshots().retention(Retention::Persist).put(&own, mine, "new").unwrap();
                began.store(true, SeqCst);
            }
        };
        *fs.at.lock().unwrap() = Some((listed.load(SeqCst) + nth, Box::new(act)));
        let deleted = store.editions().delete("what-if", None).unwrap();
        fs.at.lock().unwrap().take();
        let there = began.load(SeqCst) && deleted == events as u64;
        left += u32::from(there);
        let kept = store.positions().get("new", &own).unwrap();
        let snapshot = store.snapshots().latest(&own).unwrap().map(|of| of.decode::<String>().unwrap());
        let expected = if there { (Some(2), Some("new")) } else { (None, None) };
        assert_eq!((kept, snapshot.as_deref()), expected, "{nth}, {events} events");
        assert_eq!(store.positions().get("old", &own).unwrap(), None, "{nth}, {events} events");
    }
    assert!(left > 0, "it is begun after the deletion, too");
}

/// The holder of the last handle of a store, which drops or closes it, and signals when it is gone.
struct Holds(Mutex<Option<Store>>, bool, mpsc::Sender<()>);

impl Wake for Holds {
    fn wake(self: Arc<Self>) {
        let store = self.0.lock().unwrap().take().expect("it is woken once");
        match self.1 {
            false => drop(store),
            true => assert!(matches!(store.close(), Err(Error::Invalid { what: "close", .. }))),
        }
        self.2.send(()).unwrap();
    }
}

/// A task that held the last handle of a store dropped it when the maintenance thread woke it:
/// closing waited for that thread, which was itself, and panicked; the lock stayed for the life of
/// the process. Now another thread closes.
#[test]
fn a_waker_may_drop_or_close_the_last_handle() {
    for closes in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let (told, gone) = mpsc::channel();
        let mut ticket = {
            let event = NewEvent::new("T", "");
            Box::pin(store.transaction().append(&stream("a-1"), Expected::Any, [event]).submit().unwrap())
        };
        let waker = Waker::from(Arc::new(Holds(Mutex::new(Some(store)), closes, told)));
        let polled = ticket.as_mut().poll(&mut Context::from_waker(&waker));
        drop(waker);
        if polled.is_ready() {
            // The maintenance thread was faster than this one, and there was no waker to call.
            continue;
        }
        gone.recv().expect("closing does not panic in the thread that wakes");
        let store = loop {
            match Store::open(dir.path()) {
                Err(Error::Locked { .. }) => std::thread::yield_now(),
                opened => break opened.unwrap(),
            }
        };
        assert_eq!((store.len(), store.open_report().clean), (1, true));
        assert!(matches!(ticket.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(Ok(_))));
    }
}

/// A handler had reached sequence 3 of a stream in a named edition, an event of the main one. The
/// edition diverged at 2, and lost its own event 3. The gap counted as the handler's event, and the
/// handler continued after it, although it had never seen the edition's events 2 and 3. The lost
/// event is the edition's own: the one that the handler has seen is still in the main edition,
/// which the stream has left.
#[test]
fn a_gap_does_not_stand_for_an_event_that_is_not_lost() {
    let bed = Bed::simulated();
    let now = Arc::new(AtomicU64::new(0));
    let open = || {
        let now = now.clone();
        bed.open_with(|options| options.clock(move || Timestamp::from_nanos(now.fetch_add(1, SeqCst) as i64)))
    };
    let store = open();
    append(&store, "a-1", "T", 5);
    let (main, edition) = (stream("a-1"), stream("a-1@x"));
    store.positions().put("h", &edition, 3).unwrap();
    store.positions().put("main", &main, 3).unwrap();
    store.append(&edition, Expected::Next(2), [NewEvent::new("T", "")]).unwrap();
    append(&store, "a-1@x", "T", 3);
    store.close().unwrap();
    let lose = |position: u64| {
        let lost = BTreeSet::from([position]);
        break_records(bed.fs(), &bed.path(), &lost, &mut Dice::new(position));
        Gap { seed: 0, repair: true }.apply(&bed, &lost);
        open()
    };
    let store = lose(6);
    let got = store.positions().get("h", &edition);
    assert!(matches!(got, Err(Error::Diverged { .. })), "{got:?}");
    let [of] = &store.positions().list("h").unwrap()[..] else { panic!() };
    assert_eq!(of.fault, Some(BindingFault::Diverged));
    assert_eq!(store.positions().get("main", &main).unwrap(), Some(3));
    store.close().unwrap();
    // If the event of the main edition is lost, too, the gap may be that event.
    let store = lose(3);
    assert_eq!(store.positions().get("h", &edition).unwrap(), Some(3));
    assert_eq!(store.positions().get("main", &main).unwrap(), Some(3));
}

/// What is done on a wake-up, once.
struct Does(Mutex<Option<Box<dyn FnOnce() + Send>>>);

impl Wake for Does {
    fn wake(self: Arc<Self>) {
        let does = self.0.lock().unwrap().take();
        does.into_iter().for_each(|does| does());
    }
}

fn does(what: impl FnOnce() + Send + 'static) -> Waker {
    Waker::from(Arc::new(Does(Mutex::new(Some(Box::new(what))))))
}

/// A subscription at the end of a store, which wakes this when there is more, or when the store is
/// closed.
fn waits_for_more(store: &Store, wakes: &Waker) -> annals::subscription::SubscriptionStream {
    let mut waits = store.subscribe(Query::new()).from_now().into_stream();
    let mut poll = || waits.poll_next_unpin(&mut Context::from_waker(wakes));
    assert!(matches!(poll(), Poll::Ready(Some(Ok(Delivery::CaughtUp(_))))));
    assert!(poll().is_pending());
    waits
}

/// One flag for all stores said that something is being woken: in a waker of one store, closing
/// another one was refused, and dropping its last handle left its lock taken for a moment. Now only
/// the store that calls the waker cannot be waited for there.
#[test]
fn a_waker_closes_another_store_as_anybody_does() {
    for closes in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) = (Store::in_memory(), Store::open(dir.path()).unwrap());
        append(&second, "a-1", "T", 1);
        let (told, closed) = mpsc::channel();
        let waker = does(move || {
            let path = second.path().to_owned();
            let done = match closes {
                true => second.close(),
                false => {
                    drop(second);
                    Ok(())
                }
            };
            told.send((done, Store::open(path).map(|store| store.open_report().clean))).unwrap();
        });
        let waits = waits_for_more(&first, &waker);
        append(&first, "a-1", "T", 1);
        let (done, again) = closed.recv().unwrap();
        assert!(matches!((&done, &again), (Ok(()), Ok(true))), "{done:?} {again:?}");
        drop(waits);
        first.close().unwrap();
    }
}

/// Closing the other store wakes its waiters, one of which closes the first store: that one is
/// still working below, and is not waited for.
#[test]
fn a_store_is_known_below_another_one() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second) = (Store::open(dir.path()).unwrap(), Store::in_memory());
    let (told, closed) = mpsc::channel();
    let told_of_first = told.clone();
    let handle = first.clone();
    let inner = waits_for_more(&second, &does(move || told_of_first.send(("first", handle.close())).unwrap()));
    let closes = second.clone();
    let outer = waits_for_more(&first, &does(move || told.send(("second", closes.close())).unwrap()));
    let appends =
        std::thread::spawn(move || drop(first.append(&stream("a-1"), Expected::Any, [NewEvent::new("T", "")])));
    let next = || closed.recv_timeout(Duration::from_secs(20)).expect("nobody waits for itself");
    let (of_first, of_second) = (next(), next());
    assert!(matches!(of_first, ("first", Err(Error::Invalid { what: "close", .. }))), "{of_first:?}");
    assert!(matches!(of_second, ("second", Ok(()))), "{of_second:?}");
    appends.join().unwrap();
    drop((inner, outer));
    let until = Instant::now() + Duration::from_secs(20);
    while let Err(error) = Store::open(dir.path()) {
        assert!(matches!(error, Error::Locked { .. }) && Instant::now() < until, "{error}");
        std::thread::yield_now();
    }
}

/// A thread that made events durable for positions held the lock of their file meanwhile, and wrote
/// the commits of others: a task that it woke and that asked for the same lock, to store a
/// checkpoint, waited for itself. So it was with the deletion of an edition. Now tasks are woken
/// when the lock is free.
#[test]
fn what_a_waker_calls_waits_for_nobody_below_it() {
    type Call = fn(&Store);
    let keep: Call = |store| {
        let (Ok(_) | Err(_)) = store.checkpoints().commit("other", 0, ExpectedVersion::Any);
        store.checkpoints().flush().unwrap();
    };
    let delete: Call = |store| assert_eq!(store.editions().delete("other", None).unwrap(), 1);
    let flush: Call = |store| {
        store.checkpoints().commit("mailer", 0, ExpectedVersion::Any).unwrap();
        store.checkpoints().flush().unwrap();
    };
    let close: Call = |store| {
        store.checkpoints().commit("mailer", 0, ExpectedVersion::Any).unwrap();
        store.clone().close().unwrap();
    };
    let calls: [(&str, Call, Call); 4] = [
        ("a flush in a flush", flush, keep),
        ("a flush while it is closed", close, keep),
        ("a deletion in a deletion", |store| assert_eq!(store.editions().delete("dream", None).unwrap(), 1), delete),
        ("a deletion in a flush", flush, delete),
    ];
    for (name, outer, inner) in calls {
        let disk = SimFs::new();
        let options = Options::new().file_system(disk).maintenance(false).durability(Durability::Os).reserve(0);
        let store = options.open("store").unwrap();
        append(&store, "a-1", "T", 1);
        for stream in ["a-1@dream", "a-1@other"] {
            append(&store, stream, "T", 1);
        }
        let (told, over) = mpsc::channel();
        let (woken, calls) = (told.clone(), store.clone());
        let waits = waits_for_more(
            &store,
            &does(move || {
                inner(&calls);
                woken.send("woken").unwrap();
            }),
        );
        // No thread has written it: a wait for everything that is accepted will.
        let ticket =
            store.transaction().append(&stream("a-1"), Expected::Any, [NewEvent::new("T", "")]).submit().unwrap();
        std::thread::spawn(move || {
            outer(&store);
            told.send("done").unwrap();
            drop(waits);
        });
        let next = || over.recv_timeout(Duration::from_secs(20)).unwrap_or("nothing: somebody waits for itself");
        assert_eq!([next(), next()], ["woken", "done"], "{name}");
        ticket.wait().unwrap();
    }
}
