//! The process dies at every call of the file system while an edition is appended to, deleted and
//! begun again.

use super::*;
use annals::Options;
use annals_testkit::{Crash, Image, SimFs};

fn options(disk: &SimFs) -> Options {
    Options::new().file_system(disk.clone()).maintenance(false).segment_size(4096).reserve(0)
}

/// The acknowledged states, in order: the content of `order-1@x`, and the number of events of its
/// own that editions hold.
fn run(disk: &SimFs) -> (Vec<(Vec<String>, u64)>, bool) {
    let mut states = vec![(vec![], 0)];
    let mut step = |store: &Store, result: Result<()>, state: (&[&str], u64)| {
        let done = result.is_ok();
        let _ = store;
        states.push((state.0.iter().map(ToString::to_string).collect(), state.1));
        done
    };
    let finished = (|| {
        let Ok(mut store) = options(disk).open("store") else { return false };
        let filler = "f".repeat(1500);
        let main = ["m0", "m1"];
        step(&store, append(&store, "order-1", Expected::NoStream, &main).map(drop), (&main, 0))
            && step(
                &store,
                append(&store, "order-1@x", Expected::Next(1), &["a1", "a2"]).map(drop),
                (&["m0", "a1", "a2"], 2),
            )
            && step(
                &store,
                append(&store, "filler-1@y", Expected::Any, &[&filler, &filler]).map(drop),
                (&["m0", "a1", "a2"], 4),
            )
            && step(&store, store.editions().delete("x", None).map(|count| assert_eq!(count, 2)), (&main, 2))
            && {
                drop(store);
                let Ok(reopened) = options(disk).open("store") else { return false };
                store = reopened;
                true
            }
            && step(&store, append(&store, "order-1@x", Expected::Next(2), &["b2"]).map(drop), (&["m0", "m1", "b2"], 3))
            && step(
                &store,
                store.editions().delete("y", Some("filler")).map(|count| assert_eq!(count, 2)),
                (&["m0", "m1", "b2"], 1),
            )
            && store.close().is_ok()
    })();
    (states, finished)
}

#[test]
fn deletions_survive_crashes_at_any_point() {
    let whole = SimFs::new();
    let (all, finished) = run(&whole);
    assert!(finished && all.len() == 7);
    let calls = whole.calls();
    let mut built = 0;
    for call in 0..=calls {
        let disk = SimFs::new();
        disk.crash_when(Crash::AtCall(call));
        let (states, finished) = run(&disk);
        let mut images = vec![Image::Killed, Image::Durable, Image::All, Image::SizeWithoutData, Image::NamesOnly];
        for seed in 0..6 {
            images.extend([Image::Subset(seed), Image::Bytes(seed), Image::Sectors(512, seed)]);
        }
        for image in images {
            let context = format!("death at call {call} of {calls}, {image:?}");
            let crashed = disk.crash(image);
            for again in 0..2 {
                let store = options(&crashed).open("store").unwrap_or_else(|e| panic!("{context}: {e}"));
                let own = store.editions().list().unwrap().iter().map(|info| info.events).sum();
                let state = (data(&store, "order-1@x"), own);
                // The last one was not acknowledged, unless all were.
                let allowed = &states[states.len() - if finished { 1 } else { 2.min(states.len()) }..];
                assert!(allowed.contains(&state), "{context}, open {again}: {state:?} is none of {allowed:?}");
            }
            let store = options(&crashed).open("store").unwrap();
            append(&store, "order-1@x", Expected::Any, &["later"]).unwrap();
            let before = store.editions().list().unwrap().iter().find(|info| info.name == "x").unwrap().events;
            assert_eq!(store.editions().delete("x", None).unwrap(), before, "{context}");
            let after = options(&crashed.crash(Image::Durable)).open("store").unwrap();
            assert!(after.editions().list().unwrap().iter().all(|info| info.name != "x"), "{context}");
            built += 1;
        }
    }
    println!("{built} images, no violation");
}
