use super::*;
use annals::progress::ExpectedVersion;
use annals::{Event, Outcome};

/// `annals positions VERB STORE …`
fn positions(place: &Place, verb: &str, rest: &[&str]) -> Run {
    annals(["positions", verb, place.store.to_str().unwrap()].iter().chain(rest))
}

fn kept() -> Place {
    let place = small();
    let store = place.open();
    store.positions().put("billing", &stream("order-2"), 5).unwrap();
    store.positions().put("billing", &stream("order-1@x"), 0).unwrap();
    store.positions().put("tab\there", &stream("order-1"), 7).unwrap();
    store.checkpoints().commit("mailer", 41, ExpectedVersion::Missing).unwrap();
    store.close().unwrap();
    place
}

#[test]
fn all_of_them_are_listed() {
    let place = kept();
    let all = positions(&place, "list", &[]).ok();
    let expected = [
        "handler\tbilling\t0\torder-1@x",
        "handler\tbilling\t5\torder-2",
        "handler\ttab\\there\t7\torder-1",
        "checkpoint\tmailer\t41\t-",
    ];
    assert_eq!(lines(&all), expected);
    assert_eq!(lines(&positions(&place, "list", &["--handler", "billing"]).ok()), expected[..2]);
    assert_eq!(positions(&place, "list", &["--handler", "nobody"]).ok(), "");
    let json = positions(&place, "list", &["--json"]).ok();
    assert_eq!(lines(&json)[1], r#"{"handler":"billing","stream":"order-2","sequence":5}"#);
    assert_eq!(lines(&json)[3], r#"{"checkpoint":"mailer","position":41,"version":1}"#);
    assert_eq!(positions(&small(), "list", &[]).ok(), "");
}

#[test]
fn one_is_shown() {
    let place = kept();
    assert_eq!(positions(&place, "get", &["billing", "order-2"]).ok(), "sequence\t5\n");
    let json = positions(&place, "get", &["billing", "order-1@x", "--json"]).ok();
    assert_eq!(json, "{\"handler\":\"billing\",\"stream\":\"order-1@x\",\"sequence\":0}\n");
    let missing = positions(&place, "get", &["billing", "order-1"]).fails(1);
    assert_eq!(missing, "annals: error: billing has no position in order-1\n");
}

#[test]
fn a_reset_wants_to_be_meant() {
    let place = kept();
    positions(&place, "reset", &["billing", "order-2", "1"]).fails(2);
    assert_eq!(positions(&place, "get", &["billing", "order-2"]).ok(), "sequence\t5\n");
    let reset = positions(&place, "reset", &["billing", "order-2", "1", "--yes"]).ok();
    assert_eq!(reset, "before\t5\nsequence\t1\n");
    assert_eq!(positions(&place, "get", &["billing", "order-2"]).ok(), "sequence\t1\n");
    let json = positions(&place, "reset", &["new", "order-2", "9", "--yes", "--json"]).ok();
    assert_eq!(json, "{\"handler\":\"new\",\"stream\":\"order-2\",\"before\":null,\"sequence\":9}\n");
    let nowhere = annals(["positions", "reset", "/nowhere/at/all", "h", "order-1", "1", "--yes"]);
    assert_eq!(nowhere.code, 1);
}

#[test]
fn damage_is_code_3_and_the_events_can_be_read() {
    let place = kept();
    let path = place.store.join("POSITIONS");
    let mut bytes = fs::read(&path).unwrap();
    bytes[70] ^= 1;
    fs::write(&path, bytes).unwrap();
    assert!(positions(&place, "list", &[]).fails(3).contains("POSITIONS"));
    assert_eq!(lines(&place.export()).len(), 3);
}

/// Positions are acknowledged data: `annals verify` reports damage to them as it does for the log.
#[test]
fn damage_shows_in_verify() {
    let place = kept();
    let found = place.run("verify", &[]).ok();
    assert!(found.contains("\npositions\t3\ncheckpoints\t1\n"), "{found}");
    assert_eq!(json(&place.run("verify", &["--json"]).ok())["positions"], 3);
    let path = place.store.join("POSITIONS");
    let mut bytes = fs::read(&path).unwrap();
    bytes[100] ^= 1;
    fs::write(&path, bytes).unwrap();
    let run = place.run("verify", &[]);
    assert_eq!(run.code, 3);
    assert!(run.stdout.contains("POSITIONS, bytes 64 to "), "{}", run.stdout);

    // Entries are given up only with a report that names them.
    assert!(place.run("repair", &["--yes"]).stdout.contains("positions are lost"));
    let (report, rescued) = (place.dir.path().join("report.json"), place.dir.path().join("rescued"));
    let (report, rescued) = (report.to_str().unwrap(), rescued.to_str().unwrap());
    let run = place.run("salvage", &[rescued, "--report", report]);
    assert_eq!(run.code, 4, "{}", run.stderr);
    assert!(
        run.stdout.contains("lost entries\t") && run.stdout.ends_with("verdict\tpositions are lost\n"),
        "{}",
        run.stdout
    );
    annals(["verify", rescued]).ok();
    let none = place.file("none.json", r#"{"losses":[]}"#);
    assert_eq!(place.run("repair", &["--accept-loss", &none, "--yes"]).code, 3);
    let out = place.run("repair", &["--accept-loss", report, "--yes"]).ok();
    assert!(out.contains("done\trebuild POSITIONS"), "{out}");
    place.run("verify", &[]).ok();
}

/// A backup was restored over the store, which has grown since then: stored progress refers to
/// events that no longer exist. All verbs report that, and the resets are the way out.
#[test]
fn what_is_about_another_history_is_told_and_can_be_reset() {
    let place = small();
    let order = stream("order-2");
    let backup = place.dir.path().join("backup");
    let copy_over = |from: &Path, to: &Path| {
        fs::create_dir_all(to).unwrap();
        for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    };
    copy_over(&place.store, &backup);
    let store = place.open();
    let append = |store: &Store, event_type: &'static str| {
        store.append(&order, Expected::Any, [NewEvent::new(event_type, "")]).unwrap();
    };
    append(&store, "Lost");
    let last = store.head().unwrap();
    let sequence = store.read(&order).into_iter().last().unwrap().unwrap().sequence();
    store.consumer("mailer").until_caught_up().run(|_: &Event| Outcome::Park("no address".into())).unwrap();
    store.positions().put("billing", &order, sequence).unwrap();
    store.close().unwrap();
    copy_over(&backup, &place.store);
    append(&place.open(), "New");

    let told = "the log has another event with its number";
    let list = positions(&place, "list", &["--json"]);
    assert_eq!((list.code, list.stderr.matches(told).count()), (0, 5), "{}", list.stderr);
    assert!(lines(&list.stdout).iter().all(|line| line.contains(told)), "{}", list.stdout);
    let refused = positions(&place, "get", &["billing", "order-2"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("is not in the log") && refused.stderr.contains("hint: "), "{}", refused.stderr);
    for verb in [&["list"][..], &["show", "mailer"], &["dead-letters", "list", "mailer"]] {
        let (first, rest) = verb.split_at(verb.len() - usize::from(verb.len() > 1));
        let store = place.store.to_str().unwrap();
        let run = annals(["consumers"].iter().chain(first).chain(&[store]).chain(rest).chain(&["--json"]));
        assert!(run.code == 0 && run.stdout.contains(told), "{verb:?}: {}{}", run.stdout, run.stderr);
    }

    let after = (last - 1).to_string();
    let store = place.store.to_str().unwrap();
    let reset = annals(["consumers", "reset", store, "mailer", "--after", &after, "--yes"]);
    assert_eq!(reset.stdout, format!("before\t{last}\nposition\t{after}\n"));
    let reset = positions(&place, "reset", &["billing", "order-2", "0", "--yes"]);
    assert_eq!(reset.stdout, format!("before\t{sequence}\nsequence\t0\n"));
    annals(["consumers", "dead-letters", "drop", store, "mailer", "--all", "--yes"]);
    positions(&place, "list", &[]).ok();
    assert_eq!(place.open().consumer("mailer").until_caught_up().run(|_: &Event| ()).unwrap().handled, 1);
}
