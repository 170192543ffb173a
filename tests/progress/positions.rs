//! Handler positions and checkpoints: each clause of their documentation, and random operations
//! compared with plain maps, with events that come, and are lost.

use annals::fs::MemFs;

use annals::progress::{BindingFault, Checkpoint, ExpectedVersion};
use annals::{Error, Expected, NewEvent, Options, Store, StreamId};
use annals_testkit::{Bed, Disk, Gap, on, stream};
use annals_testkit::{Image, SimFs};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

fn names(store: &Store, handler: &str) -> Vec<String> {
    let listed = store.positions().list(handler).unwrap();
    listed.iter().map(|of| format!("{} {}", of.stream, of.sequence)).collect()
}

#[test]
fn positions_rise_and_go_back_on_demand() {
    on(Bed::quick(), |bed| {
        let store = bed.open();
        let positions = store.positions();
        let order = stream("order-1");
        assert_eq!(positions.get("h", &order).unwrap(), None);
        assert!(positions.put("h", &order, 0).unwrap());
        assert_eq!(positions.get("h", &order).unwrap(), Some(0));
        assert!(!positions.put("h", &order, 0).unwrap());
        assert!(positions.put("h", &order, u64::MAX).unwrap());
        assert!(!positions.put("h", &order, 3).unwrap());
        assert_eq!(positions.get("h", &order).unwrap(), Some(u64::MAX));
        positions.reset("h", &order, 3).unwrap();
        assert_eq!(positions.get("h", &order).unwrap(), Some(3));
        positions.reset("new", &order, 9).unwrap();
        assert!(positions.delete("h", &order).unwrap());
        assert!(!positions.delete("h", &order).unwrap());
        assert_eq!(positions.get("h", &order).unwrap(), None);
        assert!(positions.put("h", &order, 1).unwrap());

        store.close().unwrap();
        let store = bed.open();
        assert_eq!(store.positions().get("h", &order).unwrap(), Some(1));
        assert_eq!(store.positions().get("new", &order).unwrap(), Some(9));
    });
}

#[test]
fn a_key_is_handler_domain_root_and_edition() {
    on(Bed::quick(), |bed| {
        let store = bed.open();
        let odd = StreamId::new("order", b"\xFF\0@-%").unwrap();
        let all = ["order-1", "order-1@x", "order", "order-12", "stock-1", "o-rder-1"].map(stream);
        let all = all.into_iter().chain([odd.clone(), odd.in_edition("main-ish").unwrap()]);
        let all: Vec<StreamId> = all.chain([StreamId::new("long", [b'x'; 4096]).unwrap()]).collect();
        for handler in ["h", "h1", &"n".repeat(255)] {
            for (stream, n) in all.iter().zip(1..) {
                assert!(store.positions().put(handler, stream, n + handler.len() as u64).unwrap());
            }
        }
        assert_eq!(store.positions().get("h", &stream("order-1@main")).unwrap(), Some(2));
        store.close().unwrap();
        let store = bed.open();
        for handler in ["h", "h1", &"n".repeat(255)] {
            let listed = store.positions().list(handler).unwrap();
            assert!(listed.is_sorted_by(|a, b| a.stream < b.stream));
            assert_eq!(listed.len(), all.len());
            for (stream, n) in all.iter().zip(1..) {
                let expected = Some(n + handler.len() as u64);
                assert_eq!(store.positions().get(handler, stream).unwrap(), expected, "{handler} {stream}");
            }
        }
        let handlers: Vec<_> = store.positions().handlers().unwrap().into_iter().map(|of| of.streams).collect();
        assert_eq!(handlers, [9, 9, 9]);
        assert_eq!(store.positions().delete_handler("h").unwrap(), 9);
        assert!(names(&store, "h").is_empty() && names(&store, "h1").len() == 9);
        for bad in ["", &"n".repeat(256)] {
            assert!(store.positions().put(bad, &all[0], 1).is_err() && store.positions().get(bad, &all[0]).is_err());
        }
    });
}

#[test]
fn checkpoints_rise_by_versions() {
    on(Bed::quick(), |bed| {
        let store = bed.open();
        let checkpoints = store.checkpoints();
        let commit = |position, expected| checkpoints.commit("c", position, expected);
        let conflict = |result| match result {
            Err(Error::CheckpointConflict { name, expected, actual }) => {
                assert_eq!(name, "c");
                (expected, actual)
            }
            other => panic!("no conflict: {other:?}"),
        };
        let is = ExpectedVersion::Is;
        assert_eq!(checkpoints.get("c").unwrap(), None);
        assert_eq!(conflict(commit(1, is(1))), (is(1), 0));
        assert_eq!(commit(0, ExpectedVersion::Missing).unwrap().version, 1);
        assert_eq!(conflict(commit(1, ExpectedVersion::Missing)), (ExpectedVersion::Missing, 1));
        assert_eq!(commit(5, is(1)).unwrap().version, 2);
        assert_eq!(conflict(commit(6, is(1))), (is(1), 2));
        assert_eq!(commit(5, ExpectedVersion::Any).unwrap().version, 3);
        assert!(matches!(commit(4, is(3)), Err(Error::Invalid { .. })));
        let Checkpoint { position, version, .. } = checkpoints.reset("c", 2).unwrap();
        assert_eq!((position, version), (2, 4));
        checkpoints.reset("b", u64::MAX).unwrap();
        checkpoints.commit("gone", 1, is(0)).unwrap();
        checkpoints.flush().unwrap();
        assert!(checkpoints.delete("gone").unwrap() && !checkpoints.delete("gone").unwrap());

        drop(checkpoints);
        store.close().unwrap();
        let store = bed.open();
        let listed = store.checkpoints().list().unwrap();
        let listed: Vec<_> = listed.iter().map(|c| (c.name.as_str(), c.position, c.version)).collect();
        assert_eq!(listed, [("b", u64::MAX, 1), ("c", 2, 4)]);
        assert!(store.checkpoints().commit("", 1, is(0)).is_err());
    });
}

#[test]
fn a_closed_store_and_one_to_read_take_no_changes() {
    on(Bed::quick(), |bed| {
        let (order, store) = (stream("order-1"), bed.open());
        store.positions().put("h", &order, 7).unwrap();
        let kept = store.positions();
        store.close().unwrap();
        assert!(matches!(kept.put("h", &order, 8), Err(Error::Closed)));
        assert!(matches!(kept.reset("h", &order, 8), Err(Error::Closed)));
        assert!(matches!(kept.delete("h", &order), Err(Error::Closed)));
        assert_eq!(kept.get("h", &order).unwrap(), Some(7));
        kept.flush().unwrap();

        let store = bed.read_only();
        assert_eq!(names(&store, "h"), ["order-1 7"]);
        assert!(matches!(store.positions().put("h", &order, 8), Err(Error::ReadOnly)));
        assert!(matches!(store.positions().delete_handler("h"), Err(Error::ReadOnly)));
        let commit = store.checkpoints().commit("c", 1, ExpectedVersion::Any);
        assert!(matches!(commit, Err(Error::ReadOnly)));
        store.positions().flush().unwrap();
        store.close().unwrap();
    });
}

#[test]
fn the_last_handle_flushes() {
    on(Bed::quick(), |bed| {
        let positions = bed.open().positions();
        positions.put("h", &stream("order-1"), 7).unwrap();
        drop(positions);
        assert_eq!(names(&bed.open(), "h"), ["order-1 7"]);
    });
}

/// Opening, reading, and asking for what is missing leave no file behind.
#[test]
fn only_a_flush_makes_a_file() {
    let disk = SimFs::new();
    let open = || Options::new().file_system(disk.clone()).maintenance(false).open("store").unwrap();
    let store = open();
    assert_eq!(store.positions().get("h", &stream("order-1")).unwrap(), None);
    assert!(!store.positions().delete("h", &stream("order-1")).unwrap());
    store.positions().flush().unwrap();
    store.close().unwrap();
    assert_eq!(disk.contents("store/POSITIONS"), None);
    let store = open();
    store.positions().put("h", &stream("order-1"), 1).unwrap();
    store.close().unwrap();
    let written = disk.contents("store/POSITIONS").unwrap();
    // Nor does reading change a clean one.
    let store = open();
    assert_eq!(store.positions().get("h", &stream("order-1")).unwrap(), Some(1));
    store.close().unwrap();
    assert_eq!(disk.contents("store/POSITIONS").unwrap(), written);
}

#[test]
fn each_change_is_durable_on_demand() {
    let disk = SimFs::new();
    let options = |disk: &SimFs| Options::new().file_system(disk.clone()).maintenance(false).sync_positions(true);
    let store = options(&disk).open("store").unwrap();
    let after_power_cut = |check: &dyn Fn(&Store)| check(&options(&disk.crash(Image::Durable)).open("store").unwrap());
    let order = stream("order-1");
    store.positions().put("h", &order, 7).unwrap();
    after_power_cut(&|store| assert_eq!(names(store, "h"), ["order-1 7"]));
    store.positions().reset("h", &order, 3).unwrap();
    after_power_cut(&|store| assert_eq!(names(store, "h"), ["order-1 3"]));
    store.checkpoints().commit("c", 9, ExpectedVersion::Missing).unwrap();
    after_power_cut(&|store| assert_eq!(store.checkpoints().get("c").unwrap().unwrap().position, 9));
    store.positions().delete("h", &order).unwrap();
    after_power_cut(&|store| assert!(names(store, "h").is_empty()));
}

#[test]
fn threads_share_flushes_and_lose_nothing() {
    for disk in [Disk::Memory(MemFs::new()), Disk::Simulated(SimFs::new())] {
        let bed = Bed { disk, map: true, segment_size: 64 << 20, maintenance: false };
        let store = bed.open_with(|options| options.sync_positions(true));
        std::thread::scope(|scope| {
            for thread in 0..4u64 {
                let store = &store;
                scope.spawn(move || {
                    let (own, shared) = (StreamId::new("own", thread.to_string()).unwrap(), stream("shared-1"));
                    for n in 0..200 {
                        store.positions().put("h", &own, n).unwrap();
                        store.positions().put("h", &shared, n * 4 + thread).unwrap();
                    }
                });
            }
        });
        let expected = ["own-0 199", "own-1 199", "own-2 199", "own-3 199", "shared-1 799"];
        assert_eq!(names(&store, "h"), expected);
        store.close().unwrap();
        assert_eq!(names(&bed.open(), "h"), expected);
    }
}

#[test]
fn the_file_does_not_grow_for_ever() {
    let disk = SimFs::new();
    let store = Options::new().file_system(disk.clone()).maintenance(false).open("store").unwrap();
    let length = || disk.contents("store/POSITIONS").unwrap().len();
    for n in 0..20_000 {
        store.positions().put("h", &StreamId::new("order", (n % 10u64).to_string()).unwrap(), n).unwrap();
        store.positions().flush().unwrap();
        assert!(length() <= 64 << 10, "{}", length());
    }
    // The file may have up to four times the bytes that it needs.
    for round in 0..20 {
        for n in 0..5000u64 {
            store.positions().put("h", &StreamId::new("order", n.to_string()).unwrap(), 100_000 + round).unwrap();
        }
        store.positions().flush().unwrap();
        assert!(length() < 5000 * 4 * 20, "{}", length());
    }
    assert_eq!(store.positions().delete_handler("h").unwrap(), 5000);
    store.positions().put("h", &stream("order-1"), 1).unwrap();
    store.positions().flush().unwrap();
    store.positions().put("h", &stream("order-1"), 2).unwrap();
    store.positions().flush().unwrap();
    assert!(length() < 1000, "{}", length());
}

/// A position says nothing of the content of the store: a handler may be ahead of a restored
/// backup.
#[test]
fn positions_do_not_hinder_the_store() {
    let disk = SimFs::new();
    let open = || Options::new().file_system(disk.clone()).maintenance(false).open("store").unwrap();
    let store = open();
    store.positions().put("h", &stream("order-1"), 7).unwrap();
    store.close().unwrap();
    disk.set_contents("store/POSITIONS", vec![0; 500]);
    let store = open();
    store.append(&stream("order-1"), Expected::NoStream, [NewEvent::new("T", "")]).unwrap();
    assert!(matches!(store.positions().get("h", &stream("order-1")), Err(Error::Damaged(_))));
    assert!(matches!(store.checkpoints().list(), Err(Error::Damaged(_))));
    // As documented: moved away, it begins again.
    disk.delete("store/POSITIONS");
    assert_eq!(store.positions().get("h", &stream("order-1")).unwrap(), None);
    store.close().unwrap();
}

#[derive(Clone, Debug)]
enum Op {
    Put(u8, u8, u64),
    Reset(u8, u8, u64),
    Delete(u8, u8),
    DeleteHandler(u8),
    Commit(u8, u64, u64),
    Move(u8, u64),
    Forget(u8),
    Flush,
    Many(u64),
    Reopen,
    Kill,
    /// This many events. A stream of a named edition that begins diverges this far back.
    Append(u8, u64, u64),
    Lose(Gap),
}

fn op() -> impl Strategy<Value = Op> {
    let number = prop_oneof![3 => 0..8u64, 1 => 0..20u64, 1 => Just(u64::MAX), 1 => any::<u64>()];
    // One stream and the same in a named edition more often than the others.
    let name = || prop_oneof![2 => Just(0u8), 3 => Just(2), 2 => 0..6u8];
    prop_oneof![
        8 => (0..3u8, name(), number.clone()).prop_map(|(h, s, n)| Op::Put(h, s, n)),
        2 => (0..3u8, 0..6u8, number.clone()).prop_map(|(h, s, n)| Op::Reset(h, s, n)),
        3 => (0..3u8, 0..6u8).prop_map(|(h, s)| Op::Delete(h, s)),
        1 => (0..3u8).prop_map(Op::DeleteHandler),
        3 => (0..3u8, 0..20u64, 0..4u64).prop_map(|(c, n, v)| Op::Commit(c, n, v)),
        1 => (0..3u8, number).prop_map(|(c, n)| Op::Move(c, n)),
        1 => (0..3u8).prop_map(Op::Forget),
        4 => Just(Op::Flush),
        1 => (0..20u64).prop_map(Op::Many),
        2 => Just(Op::Reopen),
        1 => Just(Op::Kill),
        8 => (name(), 1..5u64, 0..4u64).prop_map(|(s, count, back)| Op::Append(s, count, back)),
        2 => (any::<u64>(), any::<bool>()).prop_map(|(seed, repair)| Op::Lose(Gap { seed, repair })),
    ]
}

fn streams(n: u8) -> StreamId {
    stream(["a-1", "a-2", "a-1@x", "b-1", "b", "b-%00@y"][n as usize])
}

/// The positions of handlers, with the log position of the event that each was put for; and
/// checkpoints.
type Model = (BTreeMap<(String, StreamId), (u64, Option<u64>)>, BTreeMap<String, (u64, u64)>);

/// The content of each position of the log, as a stream and a sequence; `None` if it is lost.
#[derive(Default)]
struct Log(Vec<Option<(StreamId, u64)>>);

impl Log {
    fn own(&self, stream: &StreamId) -> Vec<(u64, u64)> {
        let events = (0..).zip(&self.0).filter_map(|(position, event)| Some((position, event.as_ref()?)));
        events.filter(|(_, (of, _))| of == stream).map(|(position, (_, sequence))| (position, *sequence)).collect()
    }

    /// A stream as it is read: positions and sequences.
    fn stream(&self, stream: &StreamId) -> Vec<(u64, u64)> {
        let own = self.own(stream);
        let first = own.first().map_or(u64::MAX, |(_, sequence)| *sequence);
        let mut shared =
            if stream.edition().is_some() { self.own(&stream.in_edition("").unwrap()) } else { Vec::new() };
        shared.retain(|(_, sequence)| *sequence < first);
        shared.into_iter().chain(own).collect()
    }

    fn next(&self, stream: &StreamId) -> u64 {
        self.stream(stream).last().map_or(0, |(_, last)| last + 1)
    }

    fn event(&self, stream: &StreamId, sequence: u64) -> Option<u64> {
        self.stream(stream).into_iter().find(|(_, of)| *of == sequence).map(|(position, _)| position)
    }

    /// Why a position is not about an event of this log. One whose event is lost is, while the
    /// stream continues after it and has no other event with its number.
    fn fault(&self, stream: &StreamId, (sequence, event): (u64, Option<u64>)) -> Option<BindingFault> {
        let event = event?;
        if sequence >= self.next(stream) {
            return Some(BindingFault::Ahead);
        }
        let (now, is_lost) = (self.event(stream, sequence), self.0[event as usize].is_none());
        (now != Some(event) && (now.is_some() || !is_lost)).then_some(BindingFault::Diverged)
    }
}

fn check(store: &Store, model: &Model, log: &Log) {
    let positions = store.positions();
    let mut told = Vec::new();
    for handler in positions.handlers().unwrap() {
        for of in positions.list(&handler.name).unwrap() {
            let got = match positions.get(&handler.name, &of.stream) {
                Ok(got) => Ok(got.unwrap()),
                Err(Error::PositionAhead { .. }) => Err(BindingFault::Ahead),
                Err(Error::Diverged { .. }) => Err(BindingFault::Diverged),
                Err(other) => panic!("{other}"),
            };
            assert_eq!(of.fault.map_or(Ok(of.sequence), Err), got, "{}", of.stream);
            told.push(((handler.name.clone(), of.stream), (of.sequence, of.fault)));
        }
    }
    let known = model.0.iter().map(|(key, &of)| (key.clone(), (of.0, log.fault(&key.1, of))));
    assert_eq!(told, known.collect::<Vec<_>>());
    // Positions of the log are never used again, and a lost one counts as done for a consumer.
    let checkpoints = store.checkpoints().list().unwrap();
    assert!(checkpoints.iter().all(|of| of.fault.is_none()), "{checkpoints:?}");
    let told: BTreeMap<_, _> = checkpoints.into_iter().map(|c| (c.name, (c.position, c.version))).collect();
    assert_eq!(told, model.1);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_operations_against_plain_maps(ops in prop::collection::vec(op(), 1..60)) {
        let bed = Bed::simulated();
        let now = Arc::new(AtomicI64::new(0));
        let open = || {
            let now = now.clone();
            let clock = move || annals::Timestamp::from_nanos(now.fetch_add(1, Ordering::Relaxed));
            Some(bed.open_with(|options| options.clock(clock)))
        };
        let mut store = open();
        let (mut model, mut flushed, mut log) = (Model::default(), Model::default(), Log::default());
        for op in ops {
            let opened = store.as_ref().unwrap();
            let (positions, checkpoints) = (opened.positions(), opened.checkpoints());
            match op {
                Op::Put(h, s, n) => {
                    let key = (format!("h{h}"), streams(s));
                    let before = model.0.get(&key).copied();
                    let put = positions.put(&key.0, &key.1, n);
                    match before.and_then(|before| log.fault(&key.1, before)) {
                        Some(BindingFault::Ahead) => assert!(matches!(put, Err(Error::PositionAhead { .. }))),
                        Some(_) => assert!(matches!(put, Err(Error::Diverged { .. }))),
                        None => {
                            let rose = before.is_none_or(|(now, _)| now < n);
                            prop_assert_eq!(put.unwrap(), rose);
                            if rose {
                                let bound = log.event(&key.1, n);
                                model.0.insert(key, (n, bound));
                            }
                        }
                    }
                }
                Op::Reset(h, s, n) => {
                    positions.reset(&format!("h{h}"), &streams(s), n).unwrap();
                    model.0.insert((format!("h{h}"), streams(s)), (n, log.event(&streams(s), n)));
                }
                Op::Delete(h, s) => {
                    let there = positions.delete(&format!("h{h}"), &streams(s)).unwrap();
                    prop_assert_eq!(there, model.0.remove(&(format!("h{h}"), streams(s))).is_some());
                }
                Op::DeleteHandler(h) => {
                    let before = model.0.len();
                    model.0.retain(|(handler, _), _| *handler != format!("h{h}"));
                    prop_assert_eq!(positions.delete_handler(&format!("h{h}")).unwrap(), (before - model.0.len()) as u64);
                }
                Op::Commit(c, n, v) => {
                    let (position, version) = model.1.get(&format!("c{c}")).copied().unwrap_or_default();
                    match checkpoints.commit(&format!("c{c}"), n, ExpectedVersion::Is(v)) {
                        Ok(moved) => {
                            prop_assert!(v == version && n >= position && moved.version == version + 1);
                            model.1.insert(format!("c{c}"), (n, version + 1));
                        }
                        Err(Error::CheckpointConflict { actual, .. }) => prop_assert!(actual == version && v != version),
                        Err(error) => prop_assert!(n < position, "{}", error),
                    }
                }
                Op::Move(c, n) => {
                    let version = model.1.get(&format!("c{c}")).map_or(0, |now| now.1) + 1;
                    prop_assert_eq!(checkpoints.reset(&format!("c{c}"), n).unwrap().version, version);
                    model.1.insert(format!("c{c}"), (n, version));
                }
                Op::Forget(c) => {
                    prop_assert_eq!(checkpoints.delete(&format!("c{c}")).unwrap(), model.1.remove(&format!("c{c}")).is_some());
                }
                Op::Flush => {
                    positions.flush().unwrap();
                    flushed = model.clone();
                }
                Op::Many(n) => {
                    for root in 0..40u64 {
                        let stream = StreamId::new("many", format!("{root:0>2000}")).unwrap();
                        if positions.put("h0", &stream, n).unwrap() {
                            model.0.insert(("h0".into(), stream), (n, None));
                        }
                    }
                    positions.flush().unwrap();
                    flushed = model.clone();
                }
                Op::Reopen => {
                    drop((positions, checkpoints));
                    store.take().unwrap().close().unwrap();
                    flushed = model.clone();
                    store = open();
                }
                Op::Kill => {
                    bed.sim().while_dead(|| {
                        drop((positions, checkpoints));
                        store = None;
                    });
                    model = flushed.clone();
                    store = open();
                }
                Op::Append(s, count, back) => {
                    for _ in 0..count {
                        let begins = streams(s).edition().is_some() && log.own(&streams(s)).is_empty();
                        let next = log.next(&streams(s)).saturating_sub(if begins { back } else { 0 });
                        let event = NewEvent::new("T", "");
                        let appended = opened.append(&streams(s), Expected::Next(next), [event]).unwrap();
                        prop_assert_eq!(appended.sequences.start, next);
                        log.0.push(Some((streams(s), next)));
                    }
                }
                Op::Lose(gap) => {
                    drop((positions, checkpoints));
                    store.take().unwrap().close().unwrap();
                    flushed = model.clone();
                    let live = (0..).zip(&log.0).filter_map(|(n, event)| event.as_ref().map(|_| n));
                    let live: BTreeSet<u64> = live.collect();
                    for lost in gap.open(&bed, live.iter().copied(), &live) {
                        log.0[lost as usize] = None;
                    }
                    store = open();
                }
            }
            check(store.as_ref().unwrap(), &model, &log);
        }
    }
}
