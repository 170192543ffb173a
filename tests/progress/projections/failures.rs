//! Failures of `apply`, of saving, and of files.

use super::*;
use annals::Error;
use annals::projection::{SavedFault, Start};
use annals_testkit::{Fault, Operation};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Fails at one position, in the middle of changing the state.
#[derive(Clone)]
struct Fails {
    at: Arc<AtomicU64>,
    panics: bool,
}

impl Projection for Fails {
    type State = Vec<u64>;
    fn name(&self) -> &str {
        "fails"
    }
    fn version(&self) -> u32 {
        1
    }
    fn apply(&self, seen: &mut Vec<u64>, event: &Event) -> Result<()> {
        seen.push(event.position());
        if event.position() == self.at.load(Ordering::SeqCst) {
            seen.push(u64::MAX);
            assert!(!self.panics, "no such thing");
            return Err(Error::Codec { codec: "test", why: "no such thing".into() });
        }
        Ok(())
    }
}

impl PerStream for Fails {
    fn merge(&self, into: &mut Vec<u64>, part: Vec<u64>) {
        into.extend(part);
        into.sort_unstable();
    }
}

#[track_caller]
fn failed_at<T: std::fmt::Debug>(result: Result<T>, at: u64) {
    match result {
        Err(Error::ProjectionFailed { position, why, .. }) => {
            assert!(position == at && why.contains("no such thing"), "{position}: {why}");
        }
        other => panic!("it has not failed: {other:?}"),
    }
}

/// An event that cannot be applied ends the projection, in every mode; appends continue, and after
/// a restart it continues from its saved state.
#[test]
fn an_error_or_a_panic_in_apply() {
    for panics in [false, true] {
        let store = filled(&Bed::memory(), 10);
        let fails = Fails { at: Arc::new(AtomicU64::new(12)), panics };
        let inline = store.projection(fails.clone()).save_every(1).inline().unwrap();
        for n in 10..15 {
            append(&store, n);
        }
        assert_eq!(store.len(), 15);
        failed_at(inline.read(|_| ()), 12);
        failed_at(inline.catch_up(), 12);
        failed_at(inline.wait_for(14, LATE), 12);
        failed_at(inline.wait_for(100, LATE), 12);
        failed_at(inline.save(), 12);
        failed_at(inline.rebuild(), 12);
        assert_eq!(inline.status().position, Some(11));
        failed_at(inline.status().failure.map_or(Ok(()), Err), 12);
        drop(inline);
        assert_eq!(store.projections().list().unwrap()[0].position, Some(11), "the last right state is kept");

        failed_at(store.projection(fails.clone()).catch_up(), 12);
        failed_at(store.projection(fails.clone()).live(), 12);
        let continuous = store.projection(fails.clone()).continuous().unwrap();
        failed_at(continuous.wait_for(14, LATE), 12);
        drop(continuous);

        fails.at.store(u64::MAX, Ordering::SeqCst);
        let model = store.projection(fails.clone()).catch_up().unwrap();
        assert_eq!(
            (model.status().start, model.state().unwrap()),
            (Start::Saved(Some(11)), (0..15).collect::<Vec<_>>())
        );
    }
}

/// All waiters get a failure at once, whichever thread met it.
#[test]
fn all_who_wait_are_told() {
    let store = filled(&Bed::memory(), 10_000);
    let fails = Fails { at: Arc::new(AtomicU64::new(9000)), panics: false };
    let model = store.projection(fails).continuous().unwrap();
    let begun = std::time::Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| failed_at(model.wait_for(9999, LATE), 9000));
        }
    });
    assert!(begun.elapsed() < LATE);
}

/// A rebuild ends a failure once the cause is gone, and the projection's own thread continues.
#[test]
fn a_rebuild_ends_a_failure() {
    let store = filled(&Bed::memory(), 10);
    let fails = Fails { at: Arc::new(AtomicU64::new(5)), panics: false };
    let model = store.projection(fails.clone()).continuous().unwrap();
    failed_at(model.wait_for(9, LATE), 5);
    fails.at.store(u64::MAX, Ordering::SeqCst);
    model.rebuild().unwrap();
    append(&store, 10);
    assert!(model.wait_for(10, LATE).unwrap());
    assert_eq!(model.state().unwrap(), (0..=10).collect::<Vec<_>>());
}

/// With several threads, the reported failure is that of the lowest position, as one thread would
/// have met it.
#[test]
fn failures_in_parallel() {
    let store = filled(&Bed::memory(), 1000);
    let fails = Fails { at: Arc::new(AtomicU64::new(700)), panics: true };
    failed_at(store.projection(fails.clone()).parallel(3).catch_up(), 700);
    fails.at.store(u64::MAX, Ordering::SeqCst);
    let model = store.projection(fails.clone()).parallel(3).catch_up().unwrap();
    assert_eq!(model.state().unwrap(), (0..1000).collect::<Vec<_>>());
    fails.at.store(500, Ordering::SeqCst);
    failed_at(model.rebuild(), 500);
    assert_eq!(model.state().unwrap().len(), 1000, "the present state stays");
}

/// Failed saves are reported, tried again, and cost only time.
#[test]
fn saves_that_fail() {
    let operations = [Operation::Create, Operation::Write, Operation::Sync, Operation::Rename, Operation::SyncDir];
    for operation in operations {
        let bed = Bed::simulated();
        let store = filled(&bed, 10);
        let model = store.projection(watch()).catch_up().unwrap();
        append(&store, 10);
        model.catch_up().unwrap();
        bed.sim().fail(Fault { operation, after: 0, times: u64::MAX, kind: ErrorKind::StorageFull });
        assert!(matches!(model.save(), Err(Error::Io { .. })), "{operation:?}");
        assert!(model.status().save_error.is_some());
        holds(&store, &model, &Query::new());
        bed.sim().heal();
        model.save().unwrap();
        assert!(model.status().save_error.is_none());
        assert_eq!(store.projections().list().unwrap()[0].position, Some(10));
        let half = bed.sim().files().into_iter().find(|path| path.extension().is_some_and(|e| e == "new"));
        assert_eq!(half, None, "{operation:?}");
    }
}

#[test]
fn states_that_cannot_be_encoded_or_decoded() {
    struct Odd(bool);
    #[derive(Default)]
    struct State;
    impl serde::Serialize for State {
        fn serialize<S: serde::Serializer>(&self, _: S) -> Result<S::Ok, S::Error> {
            Err(serde::ser::Error::custom("not today"))
        }
    }
    impl<'de> serde::Deserialize<'de> for State {
        fn deserialize<D: serde::Deserializer<'de>>(_: D) -> Result<Self, D::Error> {
            Err(serde::de::Error::custom("never"))
        }
    }
    impl Projection for Odd {
        type State = State;
        fn name(&self) -> &str {
            "watch"
        }
        fn version(&self) -> u32 {
            1
        }
        fn apply(&self, _: &mut State, _: &Event) -> Result<()> {
            if self.0 { panic!("no") } else { Ok(()) }
        }
    }
    let store = filled(&Bed::memory(), 3);
    store.projection(watch()).catch_up().unwrap().stop().unwrap();
    let model = store.projection(Odd(false)).catch_up().unwrap();
    assert_eq!(model.status().start, Start::Unusable(SavedFault::Undecodable));
    append(&store, 3);
    model.catch_up().unwrap();
    assert!(matches!(model.save(), Err(Error::Codec { .. })));
    assert!(matches!(model.stop(), Err(Error::Codec { .. })));
    let model = store.projection(watch()).catch_up().unwrap();
    assert_eq!(model.status().start, Start::Saved(Some(2)), "what was saved before still is");
}
