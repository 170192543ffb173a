//! Entries in the directory of a store that are not files of it.

use annals::offline::{Action, Repair, Salvage, verify};
use annals::{Error, Expected, NewEvent, Options, Store, StreamId};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

fn fill(dir: &Path) {
    let store = Options::new().segment_size(8 << 10).open(dir).unwrap();
    let stream = StreamId::new("order", "1").unwrap();
    for _ in 0..60 {
        store.append(&stream, Expected::Any, [NewEvent::new("Placed", &[7; 200])]).unwrap();
    }
    store.close().unwrap();
}

fn pipe(path: &Path) {
    assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
}

fn socket(path: &Path) {
    drop(std::os::unix::net::UnixListener::bind(path).unwrap());
}

fn replace(path: &Path) {
    if path.is_file() {
        fs::remove_file(path).unwrap();
    }
}

/// The lock of an editor, a link that leads nowhere, ended salvage and repair, and a pipe made them
/// wait forever: everything in the directory was opened. Now only regular files are opened,
/// whatever their names.
#[test]
fn what_is_no_file_is_left_alone() {
    type Make = fn(&Path);
    let make: [(&str, Make); 6] = [
        ("dangling link", |path| symlink("somebody@host.123:456", path).unwrap()),
        ("link to itself", |path| symlink(path.file_name().unwrap(), path).unwrap()),
        ("link to a directory", |path| symlink("/tmp", path).unwrap()),
        ("pipe", pipe),
        ("socket", socket),
        ("directory", |path| fs::create_dir(path).unwrap()),
    ];
    let top = tempfile::tempdir().unwrap();
    for (what, make) in make {
        for name in [".#00000000000000000001.seg", "notes", "00000000000000000009.idx.new"] {
            let (dir, out) =
                (top.path().join(format!("{what} {name}")), top.path().join(format!("out of {what} {name}")));
            fill(&dir);
            make(&dir.join(name));
            assert!(verify(&dir).unwrap().is_sound(), "{what} {name}");
            let report = Salvage::new().run(&dir, &out).unwrap();
            assert_eq!((report.events, report.losses.len()), (60, 0), "{what} {name}");
            assert!(Repair::new().run(&dir).unwrap().actions.is_empty(), "{what} {name}");
            assert!(fs::symlink_metadata(dir.join(name)).is_ok(), "it is somebody's");
            let store = Store::open(&dir).unwrap();
            assert_eq!(store.read_all().into_iter().filter(Result::is_ok).count(), 60);
        }
        // In place of a file of the store, it is in the way.
        for name in ["HEAD", "POSITIONS", "00000000000000000002.idx", "snapshots", "00000000000000000002.seg"] {
            let (dir, out) =
                (top.path().join(format!("{what} {name}")), top.path().join(format!("out of {what} {name}")));
            fill(&dir);
            replace(&dir.join(name));
            make(&dir.join(name));
            if name == "snapshots" && what.contains("directory") {
                continue;
            }
            let is_segment = name.ends_with(".seg");
            assert_eq!(verify(&dir).unwrap().is_sound(), !is_segment, "{what} {name}");
            match Options::new().open(&dir) {
                Ok(store) => {
                    let stream = StreamId::new("order", "1").unwrap();
                    store.append(&stream, Expected::Any, [NewEvent::new("Placed", "")]).unwrap();
                    store.close().unwrap();
                    assert!(!is_segment, "{what} {name}");
                }
                Err(Error::Damaged(_)) => assert!(is_segment, "{what} {name}"),
                // A link that leads nowhere is a missing file; for one to itself, the system
                // reports more.
                Err(error) => panic!("{what} {name}: {error}"),
            }
            let report = Salvage::new().run(&dir, &out).unwrap();
            assert_eq!(report.losses.is_empty(), !is_segment, "{what} {name}");
            let is_told = report.left_out.iter().any(|left| left.path == dir.join(name));
            // Unless the store has written a file there: over a link, or to its target.
            assert!(is_told || dir.join(name).is_file(), "{what} {name}");
            let done = Repair::new().accept(&report).run(&dir).unwrap();
            let aside = |action: &Action| matches!(action, Action::SetAside { path, .. } if *path == dir.join(name));
            assert!(is_segment || !is_told || done.actions.iter().any(aside), "{what} {name}: {done:?}");
            let found = verify(&dir).unwrap();
            assert!(found.is_sound() && !found.notices.iter().any(|notice| notice.contains("not a")), "{what} {name}");
            assert!(Repair::new().run(&dir).unwrap().actions.is_empty(), "{what} {name}");
            assert!(Store::open(&dir).is_ok(), "{what} {name}");
        }
    }
}

/// A segment that was moved to another disk, with a link in its place, is a segment.
#[test]
fn links_to_files_are_followed() {
    let top = tempfile::tempdir().unwrap();
    let (dir, elsewhere) = (top.path().join("store"), top.path().join("elsewhere"));
    fill(&dir);
    let segment = dir.join("00000000000000000001.seg");
    fs::rename(&segment, &elsewhere).unwrap();
    symlink(&elsewhere, &segment).unwrap();
    assert!(verify(&dir).unwrap().is_sound());
    assert!(Repair::new().plan(&dir).unwrap().actions.is_empty());
    assert_eq!(Salvage::new().run(&dir, top.path().join("out")).unwrap().events, 60);
    assert_eq!(Store::open(&dir).unwrap().len(), 60);
}
