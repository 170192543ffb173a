use super::*;

#[test]
fn says_what_it_would_do_and_does_it() {
    let place = small();
    fs::remove_file(place.store.join("HEAD")).unwrap();
    place.change(|bytes| bytes.extend_from_slice(b"half a commit"));
    let before = fs::read(place.segment()).unwrap();
    let out = place.run("repair", &[]).ok();
    assert!(out.contains("to do\tcut the torn tail") && out.contains("to do\trewrite HEAD"), "{out}");
    assert_eq!(lines(&out).last(), Some(&"verdict\tnothing was changed; --yes does it"));
    assert_eq!(fs::read(place.segment()).unwrap(), before);
    let out = place.run("repair", &["--yes"]).ok();
    assert!(out.contains("done\tcut the torn tail"), "{out}");
    let kept = place.store.join("quarantine/00000000000000000001.seg-0.repair");
    assert_eq!(fs::read(kept).unwrap(), before);
    assert_eq!(lines(&place.run("repair", &["--yes"]).ok()), ["verdict\trepaired"]);
    assert_eq!(place.run("read", &["order-1"]).ok().lines().count(), 3);
}

#[test]
fn loss_is_accepted_with_its_report() {
    let place = small();
    place.damage(1);
    let run = place.run("repair", &["--yes"]);
    assert_eq!(run.code, 3);
    assert!(run.stdout.contains("--accept-loss REPORT"), "{}", run.stdout);
    let report = place.dir.path().join("report.json");
    let report = report.to_str().unwrap();
    let rescued = place.dir.path().join("rescued");
    assert_eq!(place.run("salvage", &[rescued.to_str().unwrap(), "--report", report]).code, 4);
    let other = place.file("other.json", r#"{"losses":[{"from_position":0,"to_position":1}]}"#);
    assert_eq!(place.run("repair", &["--accept-loss", &other, "--yes"]).code, 3);
    place.file("broken.json", "{");
    let run = place.run("repair", &["--accept-loss", report, "--yes", "--json"]);
    assert_eq!((run.code, &json(&run.stdout)["done"]), (0, &true.into()), "{}", run.stderr);
    assert_eq!(place.run("read", &["order-1"]).ok().lines().count(), 2);
    assert_eq!(place.run("verify", &[]).code, 0);
    // An open store is not changed.
    let store = place.open();
    place.run("repair", &["--yes"]).fails(5);
    store.close().unwrap();
}

/// If many files are rebuilt for the same reason, they share one line.
#[test]
fn one_reason_is_one_line() {
    let dir = tempfile::tempdir().unwrap();
    let store = annals::Options::new().segment_size(4096).open(dir.path()).unwrap();
    let stream = annals::StreamId::new("order", "1").unwrap();
    for _ in 0..40 {
        store.append(&stream, annals::Expected::Any, [annals::NewEvent::new("Placed", &[7; 2000])]).unwrap();
    }
    store.close().unwrap();
    for entry in fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|of| of == "idx") {
            fs::remove_file(path).unwrap();
        }
    }
    let out = annals(["repair".as_ref(), dir.path().as_os_str()]).ok();
    assert_eq!(out.lines().count(), 2, "{out}");
    assert!(out.contains("indexes"), "{out}");
}
