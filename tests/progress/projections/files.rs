//! The files of saved states: which are used, and how they are listed.

use super::*;
use annals::Error;
use annals::projection::{SavedFault, Start};
use annals_testkit::SimFs;
use std::path::PathBuf;

fn saved(disk: &SimFs) -> PathBuf {
    disk.files().into_iter().find(|path| path.extension().is_some_and(|e| e == "state")).unwrap()
}

/// A closed store on a simulated disk with a saved state of `watch`.
fn with_saved(count: u64) -> Bed {
    let bed = Bed::simulated();
    let store = filled(&bed, count);
    store.projection(watch()).catch_up().unwrap().stop().unwrap();
    store.close().unwrap();
    bed
}

/// Starts it, and returns what it began with: in any case the state is right.
fn start(bed: &Bed) -> Start {
    let store = bed.open();
    let model = store.projection(watch()).catch_up().unwrap();
    holds(&store, &model, &Query::new());
    model.status().start
}

#[test]
fn every_byte_and_every_length() {
    let bed = with_saved(5);
    let path = saved(bed.sim());
    let whole = bed.sim().contents(&path).unwrap();
    assert_eq!(start(&bed), Start::Saved(Some(4)));
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x20;
        bed.sim().set_contents(&path, bytes);
        let found = start(&bed);
        assert!(matches!(found, Start::Unusable(SavedFault::Damaged | SavedFault::Newer)), "byte {at}: {found:?}");
    }
    for len in 0..whole.len() {
        bed.sim().set_contents(&path, whole[..len].to_vec());
        assert_eq!(start(&bed), Start::Unusable(SavedFault::Damaged), "{len} bytes");
    }
    bed.sim().set_contents(&path, [&whole[..], &[0]].concat());
    assert_eq!(start(&bed), Start::Unusable(SavedFault::Damaged));
    // Made again, it is whole.
    assert_eq!(start(&bed), Start::Saved(Some(4)));
    bed.sim().delete(&path);
    assert_eq!(start(&bed), Start::Beginning);
}

/// An intact file of another store, or in another's place, is not used.
#[test]
fn files_of_others() {
    let bed = with_saved(5);
    let path = saved(bed.sim());
    let other = with_saved(5);
    bed.sim().set_contents(&path, other.sim().contents(saved(other.sim())).unwrap());
    assert_eq!(start(&bed), Start::Unusable(SavedFault::NotInPlace));

    let bed = with_saved(5);
    let store = bed.open();
    store.projection(Watch { version: 2, ..watch() }).catch_up().unwrap().stop().unwrap();
    let listed = store.projections().list().unwrap();
    store.close().unwrap();
    let second = bed.sim().contents(&listed[1].path).unwrap();
    bed.sim().set_contents(&listed[0].path, second);
    assert_eq!(start(&bed), Start::Unusable(SavedFault::NotInPlace));
}

/// The log was replaced by an older copy of itself, and continued: the state has events that do not
/// exist.
#[test]
fn states_that_are_ahead_of_the_log() {
    for more in 0..5 {
        let bed = Bed::simulated();
        let old = {
            let store = filled(&bed, 3);
            store.close().unwrap();
            bed.sim().crash(annals_testkit::Image::All)
        };
        let store = bed.open();
        append_all(&store, 3..6);
        store.projection(watch()).catch_up().unwrap().stop().unwrap();
        store.close().unwrap();
        let path = saved(bed.sim());
        old.set_contents(&path, bed.sim().contents(&path).unwrap());
        let bed = Bed { disk: Disk::Simulated(old), ..Bed::simulated() };
        let store = bed.open();
        (0..more).for_each(|n| {
            append(&store, 100 + n);
        });
        assert_eq!(store.projections().unusable().unwrap(), [(path, SavedFault::NotOfLog)]);
        store.close().unwrap();
        assert_eq!(start(&bed), Start::Unusable(SavedFault::NotOfLog));
    }
}

#[test]
fn listed_and_deleted() {
    let store = filled(&Bed::memory(), 8);
    let first = store.projection(watch()).catch_up().unwrap();
    let other = Watch { name: "a b/../ä", version: 7, query: Query::new().domain("order") };
    store.projection(other).catch_up().unwrap().stop().unwrap();
    first.stop().unwrap();
    append(&store, 8);
    let listed = store.projections().list().unwrap();
    let told: Vec<_> = listed.iter().map(|saved| (&*saved.name, saved.version, saved.position, saved.lag)).collect();
    assert_eq!(told, [("a b/../ä", 7, Some(7), 1), ("watch", 1, Some(7), 1)]);
    assert!(listed.iter().all(|saved| saved.complete && saved.state_bytes > 0));
    assert!(listed.iter().all(|saved| saved.path.starts_with(store.path().join("projections"))));
    assert!(store.projections().delete("watch", 1).unwrap());
    assert!(!store.projections().delete("watch", 1).unwrap());
    assert_eq!(store.projections().list().unwrap().len(), 1);
    store.clone().close().unwrap();
    assert!(matches!(store.projections().delete("a b/../ä", 7), Err(Error::Closed)));
    assert!(Store::in_memory().projections().list().unwrap().is_empty());
}

/// States over many blocks of checksums.
#[test]
fn large_states() {
    struct Large;
    impl Projection for Large {
        type State = Vec<u8>;
        fn name(&self) -> &str {
            "large"
        }
        fn version(&self) -> u32 {
            1
        }
        fn apply(&self, bytes: &mut Vec<u8>, event: &Event) -> Result<()> {
            bytes.extend(noise(event.position(), 100_000));
            Ok(())
        }
    }
    let bed = Bed::directory();
    let store = filled(&bed, 20);
    let state = store.projection(Large).catch_up().unwrap().state().unwrap();
    let model = store.projection(Large).catch_up().unwrap();
    assert_eq!(model.status().start, Start::Saved(Some(19)));
    assert!(model.state().unwrap() == state && state.len() == 2_000_000);
}

/// A plain file named `projections` was an error of listing and an unreadable state, without a
/// report of what is in the way. Nothing is saved there, as with snapshots; opening reports it, and
/// so does the error of saving.
#[test]
fn a_file_in_the_place_of_the_directory() {
    for name in ["projections", "snapshots"] {
        let bed = Bed::directory();
        filled(&bed, 3).close().unwrap();
        let path = bed.path().join(name);
        std::fs::write(&path, "a list of projects").unwrap();
        for options in [bed.options(), bed.options().create(false)] {
            let store = options.open(bed.path()).unwrap();
            let first = store.read_all().into_iter().next().unwrap().unwrap().stream().clone();
            let notices = &store.open_report().notices;
            let told = format!("{name}: it is not a directory; move it away");
            assert_eq!(*notices, [told]);
            assert!(store.projections().list().unwrap().is_empty());
            assert!(store.projections().unusable().unwrap().is_empty());
            assert!(!store.projections().delete("watch", 1).unwrap());
            assert!(store.snapshots().list_all().unwrap().is_empty());
            assert_eq!(store.snapshots().delete(&first).unwrap(), 0);
            let model = store.projection(watch()).catch_up().unwrap();
            holds(&store, &model, &Query::new());
            assert_eq!(model.status().start, Start::Beginning, "{name}");
            let refused = match name {
                "projections" => [model.save().unwrap_err(), model.status().save_error.unwrap()].map(|e| e.to_string()),
                _ => {
                    let put = || store.snapshots().put(&first, 0, &1u8).unwrap_err();
                    [put(), put()].map(|e| e.to_string())
                }
            };
            let told = |text: &String| text.contains(path.to_str().unwrap()) && text.contains("move it away");
            assert!(refused.iter().all(told), "{refused:?}");
            store.projections().delete("watch", 1).unwrap();
            store.close().unwrap();
        }
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a list of projects");
        std::fs::remove_file(&path).unwrap();
        let store = bed.open();
        assert!(store.open_report().notices.is_empty());
        store.projection(watch()).catch_up().unwrap().save().unwrap();
        assert_eq!(store.projections().list().unwrap().len(), 1);
    }
}
