use super::*;

#[test]
fn nothing_lost_is_code_0() {
    let place = varied();
    let rescued = place.dir.path().join("rescued");
    let out = place.run("salvage", &[rescued.to_str().unwrap()]).ok();
    assert!(lines(&out).contains(&"lost\t0"), "{out}");
    assert_eq!(lines(&out).last(), Some(&"verdict\tnothing is lost"));
    let copy = annals(["export", rescued.to_str().unwrap()]).ok();
    assert_eq!(copy, place.export());
}

#[test]
fn loss_is_code_4_and_in_the_report() {
    let place = small();
    place.damage(1);
    let before = fs::read(place.segment()).unwrap();
    let rescued = place.dir.path().join("rescued");
    let rescued = rescued.to_str().unwrap();
    let file = place.dir.path().join("report.json");
    let run = place.run("salvage", &[rescued, "--report", file.to_str().unwrap()]);
    assert_eq!((run.code, run.stderr.as_str()), (4, ""), "{}", run.stdout);
    assert!(run.stdout.contains("\nloss\t") && run.stdout.contains("position 1"), "{}", run.stdout);
    assert!(run.stdout.contains("\nmissing\torder-1 sequence 1\n"), "{}", run.stdout);
    assert_eq!(fs::read(place.segment()).unwrap(), before);
    let report = json(&fs::read_to_string(&file).unwrap());
    assert_eq!((&report["lost"], &report["events"]), (&1.into(), &2.into()));
    assert_eq!((&report["losses"][0]["from_position"], &report["losses"][0]["to_position"]), (&1.into(), &2.into()));
    assert_eq!(report["missing"][0]["stream"], "order-1");

    // The copy is a store like any other.
    let read = annals(["read", rescued, "order-1"]).ok();
    assert_eq!(read.lines().count(), 2);
    let verified = annals(["verify", rescued]).ok();
    assert!(lines(&verified).contains(&"lost earlier\t1"), "{verified}");
    annals(["append", rescued, "order-1", "--type", "T", "--expect", "3"]).ok();
    // An existing store is not overwritten.
    place.run("salvage", &[rescued]).fails(1);

    let dense = place.dir.path().join("dense");
    let run = place.run("salvage", &[dense.to_str().unwrap(), "--renumber", "--json"]);
    assert_eq!((run.code, &json(&run.stdout)["positions"]), (4, &2.into()));
    let exported = annals(["export", dense.to_str().unwrap()]).ok();
    let sequences: Vec<_> = exported.lines().map(|line| json(line)["sequence"].clone()).collect();
    assert_eq!(sequences, [0, 1]);
}

/// A damaged store is read around the damage: what is intact is printed, and the gap is an error.
#[test]
fn reading_names_the_gap() {
    let place = small();
    place.damage(1);
    let run = place.run("read", &["order-1"]);
    assert_eq!(run.code, 3);
    assert!(run.stderr.contains("lacks sequence 1"), "{}", run.stderr);
}

#[test]
fn a_rate_slows_down() {
    let place = varied();
    let since = std::time::Instant::now();
    place.run("verify", &["--rate", "1"]).ok();
    assert!(since.elapsed() < std::time::Duration::from_secs(20));
    place.run("verify", &["--rate", "fast"]).fails(2);
}

/// An export of a salvaged store has gaps in its sequences, and no import accepted it: each event
/// after a gap was in conflict, and so was an edition that diverges after one. With `--renumber`,
/// the events are consecutive, and streams of editions have the same content as before; without it,
/// the message says what to do.
#[test]
fn an_export_with_gaps_can_be_imported() {
    let place = place();
    let line = |stream: &str, data: &str| format!("{{\"stream\":\"{stream}\",\"type\":\"T\",\"data\":\"{data}\"}}\n");
    let lines: String = ["zero", "first", "second", "third"].map(|data| line("order-1", data)).concat();
    place.run_with("import", &["--batch", "1"], lines.as_bytes()).ok();
    for (stream, expect, data) in [("order-1@x", "3", "if"), ("order-1@x", "4", "iffy"), ("order-1@y", "0", "or")] {
        place.run("append", &[stream, "--type", "T", "--expect", expect, "--data", data]).ok();
    }
    place.change(|bytes| {
        let at = bytes.windows(5).position(|window| window == b"first").unwrap();
        bytes[at] ^= 1;
    });
    let rescued = place.dir.path().join("rescued");
    let rescued = rescued.to_str().unwrap();
    assert_eq!(place.run("salvage", &[rescued]).code, 4);
    let export = annals(["export", rescued]);
    assert!(export.code == 0 && export.stderr.contains("--renumber"), "{}", export.stderr);
    let export = export.stdout;
    assert_eq!(export.lines().count(), 6);

    let copy = super::place();
    let said = copy.run_with("import", &[], export.as_bytes()).fails(6);
    assert!(said.contains("found next sequence 1") && said.contains("hint: "), "{said}");
    let copy = super::place();
    for part in [&export.split_inclusive('\n').take(2).collect::<String>(), &export] {
        let skip = if part.len() < export.len() { "0" } else { "2" };
        let run = copy.run_with("import", &["--renumber", "--skip", skip], part.as_bytes());
        assert_eq!(run.code, 0, "{}", run.stderr);
        assert!(run.stderr.contains("events have another sequence now"), "{}", run.stderr);
    }
    let data = |store: &str, stream: &str| -> Vec<String> {
        let read = annals(["read", store, stream, "--json"]).ok();
        read.lines().map(|line| json(line)["data"].to_string()).collect()
    };
    for stream in ["order-1", "order-1@x", "order-1@y"] {
        assert_eq!(data(copy.store.to_str().unwrap(), stream), data(rescued, stream), "{stream}");
    }
    assert_eq!(data(rescued, "order-1@x").len(), 4);
    // Importing the same events again is a conflict, not a gap.
    copy.run_with("import", &["--renumber"], export.as_bytes()).fails(6);
}

/// The remains of a killed salvage: `verify` found them sound and ended with 0, and the next
/// salvage said that the directory is not empty. Now all verbs say what the directory is and what
/// to do, and change nothing.
#[test]
fn the_beginning_of_a_copy_is_told_of() {
    let place = small();
    let rescued = place.dir.path().join("rescued");
    place.run("salvage", &[rescued.to_str().unwrap()]).ok();
    fs::write(rescued.join("SALVAGE-INCOMPLETE"), "").unwrap();
    let before = fs::read_dir(&rescued).unwrap().count();
    let rescued = rescued.to_str().unwrap();
    let runs = [annals(["verify", rescued]), annals(["stats", rescued]), place.run("salvage", &[rescued])];
    for run in runs {
        assert_eq!(run.code, 3, "{}{}", run.stdout, run.stderr);
        let said = run.stderr.contains("a salvage was interrupted");
        assert!(said && run.stderr.contains("remove the directory, and salvage again"), "{}", run.stderr);
    }
    assert_eq!(fs::read_dir(rescued).unwrap().count(), before);
}
