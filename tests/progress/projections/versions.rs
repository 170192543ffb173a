//! Versions side by side: one answers, the next one catches up, and the switch is atomic for every
//! caller.

use super::*;
use annals::Error;
use annals::projection::VersionedModel;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

/// Another type of state, and the same answers.
struct Counts(u32);

impl Projection for Counts {
    type State = Vec<(String, u64)>;
    fn name(&self) -> &str {
        "watch"
    }
    fn version(&self) -> u32 {
        self.0
    }
    fn apply(&self, counts: &mut Self::State, event: &Event) -> Result<()> {
        assert!(event.event_type() != "Bad", "it cannot be counted");
        let domain = event.domain();
        match counts.iter_mut().find(|(name, _)| name == domain) {
            Some((_, count)) => *count += 1,
            None => counts.push((domain.to_owned(), 1)),
        }
        Ok(())
    }
}

fn of_seen(seen: &Seen, domain: &str) -> u64 {
    seen.streams.iter().filter(|(name, _)| name.starts_with(domain)).map(|(_, (count, _))| count).sum()
}

fn of_counts(counts: &[(String, u64)], domain: &str) -> u64 {
    counts.iter().find(|(name, _)| name == domain).map_or(0, |(_, count)| *count)
}

fn open(store: &Store, inline: bool, versions: &[u32]) -> Result<VersionedModel<str, u64>> {
    let mut all = store.versions::<str, u64>();
    for &version in versions {
        all = match version {
            1 => all.version(store.projection(watch()), of_seen),
            _ => all.version(store.projection(Counts(version)), |counts, domain| of_counts(counts, domain)),
        };
    }
    if inline { all.inline().open() } else { all.open() }
}

fn saved(store: &Store) -> Vec<u32> {
    store.projections().list().unwrap().iter().map(|saved| saved.version).collect()
}

/// A store that version 1 was used in.
fn used(bed: &Bed, count: u64) -> Store {
    let store = filled(bed, count);
    store.projection(watch()).catch_up().unwrap().stop().unwrap();
    store
}

#[test]
fn the_new_one_takes_over() {
    for inline in [false, true] {
        on(vec![Bed::memory(), Bed::directory().tiny()], |bed| {
            let store = used(bed, 300);
            let view = open(&store, inline, &[1, 2]).unwrap();
            assert!(view.wait_switched(LATE).unwrap());
            assert_eq!((view.version(), view.ask("order").unwrap(), view.status().len()), (2, 200, 1));
            assert_eq!(saved(&store), [2], "the file of the old one is gone");
            let position = append(&store, 300);
            assert!(view.wait_for(position, LATE).unwrap());
            assert_eq!((view.ask("order").unwrap(), view.position()), (201, Some(position)));
            drop(view);
            store.close().unwrap();
            // The same program starts again: the new one answers at once.
            let store = bed.open();
            let view = open(&store, inline, &[1, 2]).unwrap();
            assert_eq!((view.version(), view.ask("order").unwrap()), (2, 201));
            assert!(view.wait_switched(SOON).unwrap());
            // And the next one comes.
            let view = {
                drop(view);
                open(&store, inline, &[2, 3]).unwrap()
            };
            assert!(view.wait_switched(LATE).unwrap());
            assert_eq!((view.version(), saved(&store)), (3, vec![3]));
        });
    }
}

/// Which one answers at first.
#[test]
fn who_begins() {
    let store = filled(&Bed::memory(), 10);
    assert_eq!(open(&store, false, &[2, 1]).unwrap().version(), 2, "nothing is saved: the newest");
    assert_eq!(saved(&store), [2]);
    let view = open(&store, false, &[1, 2, 3]).unwrap();
    assert!(view.wait_switched(LATE).unwrap());
    assert_eq!((view.version(), view.ask("stock").unwrap()), (3, 3));
    drop(view);
    assert_eq!(saved(&store), [3]);
    // Two new ones, one after the other.
    let view = open(&store, false, &[3, 4, 5]).unwrap();
    assert!(view.wait_switched(LATE).unwrap());
    assert_eq!((view.version(), saved(&store)), (5, vec![5]));
    drop(view);
    assert!(matches!(open(&store, false, &[]), Err(Error::Invalid { .. })));
    assert!(matches!(open(&store, false, &[2, 2]), Err(Error::Invalid { .. })));
    let mixed = store.versions::<str, u64>().version(store.projection(watch()), of_seen);
    let mixed = mixed.version(store.projection(Watch { name: "other", version: 2, ..watch() }), of_seen).open();
    assert!(matches!(mixed, Err(Error::Invalid { .. })));
}

/// While writers write and readers read: answers never go back, and inline ones include the latest
/// append, before, at and after the switch.
#[test]
fn under_writes() {
    for (round, inline) in [(0, false), (1, true), (2, true), (3, false), (4, true)] {
        let store = used(&Bed::memory(), 2000 + round * 500);
        let done = AtomicBool::new(false);
        let view = open(&store, inline, &[1, 2]).unwrap();
        thread::scope(|scope| {
            let (store, done, view) = (&store, &done, &view);
            let writers: Vec<_> = (0..3u64)
                .map(|_| {
                    scope.spawn(move || {
                        let mut n = 0u64;
                        while !done.load(Ordering::SeqCst) || n < 50 {
                            let appended = store.append(&stream("order-9"), Expected::Any, texts(["x"])).unwrap();
                            let before = appended.sequences.start;
                            if !inline {
                                assert!(view.wait_for(appended.positions.start, LATE).unwrap());
                            }
                            assert!(view.ask("order").unwrap() > before, "it does not know what was just appended");
                            n += 1;
                            thread::sleep(Duration::from_micros(100));
                        }
                    })
                })
                .collect();
            let reader = scope.spawn(move || {
                let mut before = 0;
                while !done.load(Ordering::SeqCst) {
                    let count = view.ask("order").unwrap();
                    assert!(count >= before, "{before}, then {count}");
                    before = count;
                }
            });
            assert!(view.wait_switched(LATE).unwrap());
            assert_eq!(view.version(), 2);
            done.store(true, Ordering::SeqCst);
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            reader.join().unwrap();
            assert!(view.wait_for(store.len() - 1, LATE).unwrap());
            let (found, _) = store.query(&Query::new().domain("order")).collect_with_head().unwrap();
            assert_eq!(view.ask("order").unwrap(), found.len() as u64);
        });
        assert_eq!(saved(&store), [2]);
    }
}

/// A new one that cannot apply an event never answers; the old one does, and keeps its file.
#[test]
fn a_new_one_that_fails() {
    let store = used(&Bed::memory(), 10);
    store.append(&stream("order-1"), Expected::Any, [NewEvent::new("Bad", "")]).unwrap();
    let view = open(&store, true, &[1, 2]).unwrap();
    let failure = view.wait_switched(LATE);
    assert!(matches!(&failure, Err(Error::ProjectionFailed { version: 2, position: 10, .. })), "{failure:?}");
    append(&store, 11);
    assert_eq!((view.version(), view.position()), (1, Some(11)));
    let status = view.status();
    assert!(status.len() == 2 && status[1].failure.is_some());
    drop(view);
    assert!(saved(&store).contains(&1));
}

/// Dropping the model while a version catches up ends it, and the progress of that version is
/// saved.
#[test]
fn dropped_on_the_way() {
    let store = used(&Bed::memory(), 30_000);
    let view = open(&store, false, &[1, 2]).unwrap();
    drop(view);
    let view = open(&store, false, &[1, 2]).unwrap();
    assert!(view.wait_switched(LATE).unwrap());
    assert_eq!(view.ask("order").unwrap(), 20_000);
    store.clone().close().unwrap();
    assert_eq!(view.ask("order").unwrap(), 20_000);
}
