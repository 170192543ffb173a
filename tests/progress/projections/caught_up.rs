//! The modes, saving, pausing, rebuilding, and the status.

use super::*;
use annals::projection::Start;
use annals::snapshot::Codec;
use annals::{Error, Options};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn catches_up_and_goes_on_where_it_was_saved() {
    on_all_beds(|bed| {
        let store = filled(bed, 40);
        for query in [Query::new(), Query::new().domain("order")] {
            let watch = Watch { query: query.clone(), version: u32::from(query == Query::new()), ..watch() };
            let model = store.projection(watch.clone()).catch_up().unwrap();
            assert_eq!((model.position(), model.status().start), (Some(store.len() - 1), Start::Beginning));
            holds(&store, &model, &query);
            model.stop().unwrap();
            let before = store.len();
            append(&store, before);
            let model = store.projection(watch).catch_up().unwrap();
            assert_eq!(model.status().start, Start::Saved(Some(before - 1)));
            assert!(model.status().applied <= 1, "nothing is taken in twice");
            holds(&store, &model, &query);
            let late = append(&store, before + 1);
            assert_eq!(model.catch_up().unwrap(), Some(late));
            holds(&store, &model, &query);
        }
        store.close().unwrap();
        let store = bed.open();
        let model = store.projection(Watch { version: 0, ..watch_domain("order") }).catch_up().unwrap();
        assert_eq!(model.status().start, Start::Saved(Some(store.len() - 1)), "dropping saves, too");
        holds(&store, &model, &Query::new().domain("order"));
    });
}

#[test]
fn an_empty_store() {
    let store = Store::in_memory();
    let model = store.projection(watch()).catch_up().unwrap();
    assert_eq!((model.position(), model.state().unwrap()), (None, Seen::default()));
    model.stop().unwrap();
    let model = store.projection(watch()).live().unwrap();
    let first = append(&store, 0);
    assert!(model.wait_for(first, LATE).unwrap());
    assert_eq!(model.state().unwrap().count, 1);
}

#[test]
fn live_and_continuous_follow_what_comes() {
    on(vec![Bed::memory(), Bed::directory(), Bed::directory().tiny()], |bed| {
        let store = filled(bed, 1000);
        let live = store.projection(watch()).live().unwrap();
        assert_eq!(live.position(), Some(999), "it has caught up when it returns");
        let continuous = store.projection(Watch { version: 2, ..watch_domain("order") }).continuous().unwrap();
        let mut last = 0;
        for n in 1000..1200 {
            last = append(&store, n);
        }
        // No caller waits in a way that would help: the threads do it.
        let begun = std::time::Instant::now();
        while live.position() < Some(last) && begun.elapsed() < LATE {
            std::thread::sleep(SOON);
        }
        holds(&store, &live, &Query::new());
        assert!(continuous.wait_for(last, LATE).unwrap());
        holds(&store, &continuous, &Query::new().domain("order"));
        assert_eq!((live.position(), live.status().lag), (Some(last), 0));
    });
}

/// A thread that no event wakes still advances, so that the lag does not grow without end.
#[test]
fn events_of_others_are_stepped_over() {
    let store = Store::in_memory();
    let model = store.projection(watch_domain("none")).save_after(SOON).live().unwrap();
    let last = Some(append_all(&store, 0..50));
    let begun = std::time::Instant::now();
    while model.position() < last && begun.elapsed() < LATE {
        std::thread::sleep(SOON);
    }
    assert_eq!((model.position(), model.state().unwrap()), (last, Seen::default()));
}

/// A query that ends at a time finds nothing more, and the position still advances.
#[test]
fn a_query_that_ends_at_a_time() {
    let store = filled(&Bed::memory(), 3);
    let last = store.read_all().backwards().into_iter().next().unwrap().unwrap().recorded_at();
    std::thread::sleep(Duration::from_millis(2));
    let query = Query::new().recorded_until(last);
    let model = store.projection(Watch { query: query.clone(), ..watch() }).live().unwrap();
    let position = append(&store, 3);
    assert!(model.wait_for(position, LATE).unwrap());
    assert_eq!((model.state().unwrap().count, model.status().lag), (3, 0));
}

#[test]
fn saves_after_events_and_after_time() {
    let store = filled(&Bed::memory(), 1000);
    let saved = || store.projections().list().unwrap().first().and_then(|saved| saved.position);
    let model = store.projection(watch()).save_every(300).save_after(LATE).live().unwrap();
    assert_eq!(saved(), Some(999), "when it has caught up for the first time");
    model.pause();
    append_all(&store, 1000..1299);
    model.resume();
    model.wait_for(1298, LATE).unwrap();
    assert_eq!(saved(), Some(999));
    append(&store, 1299);
    model.wait_for(1299, LATE).unwrap();
    model.pause();
    assert_eq!(saved(), Some(1299), "after 300 events");
    model.stop().unwrap();
    let model = store.projection(watch()).save_after(SOON).live().unwrap();
    append(&store, 1300);
    let begun = std::time::Instant::now();
    while saved() != Some(1300) && begun.elapsed() < LATE {
        std::thread::sleep(SOON);
    }
    assert_eq!((saved(), model.status().saved), (Some(1300), Some(1300)));
    append(&store, 1301);
    model.wait_for(1301, LATE).unwrap();
    model.save().unwrap();
    assert_eq!(saved(), Some(1301));
}

#[test]
fn paused_models_take_nothing_in() {
    let store = filled(&Bed::memory(), 10);
    let live = store.projection(watch()).live().unwrap();
    let inline = store.projection(Watch { version: 2, ..watch() }).inline().unwrap();
    for model in [&live, &inline] {
        model.pause();
    }
    let last = append(&store, 10);
    for model in [&live, &inline] {
        assert!(!model.wait_for(last, SOON).unwrap());
        model.catch_up().unwrap();
        assert_eq!((model.position(), model.status().lag, model.status().paused), (Some(9), 1, true));
        model.resume();
        assert!(model.wait_for(last, LATE).unwrap());
        holds(&store, model, &Query::new());
    }
}

#[test]
fn a_rebuild_begins_at_the_first_event_and_swaps_at_once() {
    let store = filled(&Bed::memory(), 3000);
    // The saved state is wrong, as an older `apply` may have made it.
    struct Wrong;
    impl Projection for Wrong {
        type State = Seen;
        fn name(&self) -> &str {
            "watch"
        }
        fn version(&self) -> u32 {
            1
        }
        fn apply(&self, seen: &mut Seen, _: &Event) -> Result<()> {
            seen.count += 1000;
            Ok(())
        }
    }
    store.projection(Wrong).catch_up().unwrap().stop().unwrap();
    let model = store.projection(watch()).live().unwrap();
    let wrong = model.state().unwrap();
    assert_eq!(wrong.count, 3_000_000);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| append_all(&store, 3000..3500));
        let reader = scope.spawn(|| {
            let mut before = 0;
            while model.state().unwrap().count >= 3_000_000 {
                let position = model.position().unwrap();
                assert!(position >= before);
                before = position;
            }
            assert!(model.position().unwrap() >= before, "the new one is not behind the old one");
        });
        model.rebuild().unwrap();
        reader.join().unwrap();
        let last = writer.join().unwrap();
        assert!(model.wait_for(last, LATE).unwrap());
        holds(&store, &model, &Query::new());
    });
    model.stop().unwrap();
    let model = store.projection(watch()).catch_up().unwrap();
    assert_eq!(model.status().start, Start::Saved(Some(3499)));
    holds(&store, &model, &Query::new());
}

/// Events that are appended while a rebuild reads are in the state before and after the swap.
#[test]
fn a_rebuild_is_not_behind_what_it_replaces() {
    struct Gated(Store, Arc<AtomicBool>);
    impl Projection for Gated {
        type State = Seen;
        fn name(&self) -> &str {
            "gated"
        }
        fn version(&self) -> u32 {
            1
        }
        fn apply(&self, seen: &mut Seen, event: &Event) -> Result<()> {
            seen.take(event);
            if self.1.swap(false, Ordering::SeqCst) {
                // The present state applies it, as no thread has the turn.
                std::thread::scope(|scope| scope.spawn(|| append(&self.0, 100)).join().unwrap());
            }
            Ok(())
        }
    }
    let (store, gate) = (filled(&Bed::memory(), 10), Arc::new(AtomicBool::new(false)));
    let model = store.projection(Gated(store.clone(), gate.clone())).inline().unwrap();
    gate.store(true, Ordering::SeqCst);
    model.rebuild().unwrap();
    assert!(!gate.load(Ordering::SeqCst));
    assert_eq!(model.position(), Some(10));
    assert_eq!(model.state().unwrap(), expected(&store, &Query::new(), Some(10)));
}

#[test]
fn a_status_tells_lag_and_rate() {
    let store = filled(&Bed::memory(), 500);
    let model = store.projection(watch()).catch_up().unwrap();
    append(&store, 500);
    let status = model.status();
    assert_eq!((status.name.as_str(), status.version, status.position, status.lag), ("watch", 1, Some(499), 1));
    assert_eq!((status.applied, status.saved, status.paused, status.stopped), (500, Some(499), false, false));
    assert!(status.rate > 0.0 && status.failure.is_none() && status.save_error.is_none(), "{status:?}");
}

#[test]
fn what_cannot_be_run_is_refused() {
    let store = Store::in_memory();
    let _running = store.projection(watch()).live().unwrap();
    let again = store.projection(watch()).catch_up();
    assert!(matches!(&again, Err(Error::Invalid { why, .. }) if why.contains("running already")), "{again:?}");
    let empty = store.projection(Watch { name: "", ..watch() }).catch_up();
    assert!(matches!(empty, Err(Error::Invalid { .. })));
    let long = "x".repeat(256).leak();
    assert!(matches!(store.projection(Watch { name: long, ..watch() }).catch_up(), Err(Error::LimitExceeded { .. })));
    let bytes = store.projection(Watch { version: 2, ..watch() }).codec(Codec::Bytes).catch_up();
    assert!(matches!(bytes, Err(Error::Invalid { .. })));
    drop(_running);
    store.projection(watch()).catch_up().unwrap();
}

/// Nothing is written in a store that is opened read-only, and the saved state is used.
#[test]
fn read_only_stores() {
    let bed = Bed::directory();
    let store = filled(&bed, 20);
    store.projection(watch()).catch_up().unwrap().stop().unwrap();
    append_all(&store, 20..25);
    store.close().unwrap();
    let before = snapshot(&bed.path());
    let store = bed.read_only();
    let model = store.projection(watch()).live().unwrap();
    assert_eq!((model.position(), model.status().start), (Some(24), Start::Saved(Some(19))));
    holds(&store, &model, &Query::new());
    assert!(matches!(model.save(), Err(Error::ReadOnly)));
    assert!(model.status().save_error.is_none());
    drop(model);
    store.close().unwrap();
    assert_eq!(snapshot(&bed.path()), before);
}

/// Closing the store saves running projections, and readers keep what they had.
#[test]
fn closing_saves() {
    on(vec![Bed::memory(), Bed::directory()], |bed| {
        let store = filled(bed, 30);
        let live = store.projection(watch()).live().unwrap();
        let inline = store.projection(Watch { version: 2, ..watch() }).inline().unwrap();
        let last = append(&store, 30);
        assert!(live.wait_for(last, LATE).unwrap());
        store.clone().close().unwrap();
        for model in [&live, &inline] {
            holds(&store, model, &Query::new());
            assert!(model.status().stopped);
            assert!(matches!(model.wait_for(last + 1, LATE), Err(Error::Closed)));
        }
        drop((live, inline, store));
        let store = bed.open();
        for version in [1, 2] {
            let model = store.projection(Watch { version, ..watch() }).catch_up().unwrap();
            assert_eq!(model.status().start, Start::Saved(Some(last)), "version {version}");
        }
    });
}

/// With a log that is not synced, a save syncs it first.
#[test]
fn a_saved_state_is_never_ahead_of_the_disk() {
    let bed = Bed::simulated();
    let options = |options: Options| options.durability(annals::Durability::Os);
    let store = bed.open_with(options);
    append_all(&store, 0..10);
    let model = store.projection(watch()).catch_up().unwrap();
    model.save().unwrap();
    let after = Bed { disk: Disk::Simulated(bed.sim().crash(annals_testkit::Image::Durable)), ..bed };
    let reopened = after.open();
    assert_eq!(reopened.len(), 10);
    let model = reopened.projection(watch()).catch_up().unwrap();
    assert_eq!(model.status().start, Start::Saved(Some(9)));
    holds(&reopened, &model, &Query::new());
}

/// A named edition shows events of the main one and its own.
#[test]
fn named_editions() {
    let store = filled(&Bed::memory(), 6);
    let name = stream("order-1@what-if");
    store.append(&name, Expected::Any, texts(["own"])).unwrap();
    append(&store, 6);
    let query = Query::new().edition("what-if");
    let model = store.projection(Watch { query: query.clone(), ..watch() }).inline().unwrap();
    holds(&store, &model, &query);
    assert_eq!(model.state().unwrap().count, 7, "what the main stream got after the divergence is not shown");
}

/// JSON is the default, and a state is found whichever codec it was saved with.
#[cfg(feature = "json")]
#[test]
fn codecs() {
    let store = filled(&Bed::memory(), 9);
    store.projection(watch()).catch_up().unwrap().stop().unwrap();
    assert_eq!(store.projections().list().unwrap()[0].codec, Codec::Json);
    append(&store, 9);
    let model = store.projection(watch()).codec(Codec::Bincode).catch_up().unwrap();
    assert_eq!(model.status().start, Start::Saved(Some(8)));
    holds(&store, &model, &Query::new());
    model.stop().unwrap();
    assert_eq!(store.projections().list().unwrap()[0].codec, Codec::Bincode);
}
