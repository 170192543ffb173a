use super::*;
use annals::{Event, Outcome};

/// `annals consumers …`, with the store after these words.
fn consumers(place: &Place, verbs: &[&str], rest: &[&str]) -> Run {
    annals(["consumers"].iter().chain(verbs).chain(&[place.store.to_str().unwrap()]).chain(rest))
}

fn letters(place: &Place, verb: &str, rest: &[&str]) -> Run {
    consumers(place, &["dead-letters", verb], &[&["mailer"], rest].concat())
}

/// Three events; the second one was given up.
fn consumed() -> Place {
    let place = small();
    let store = place.open();
    let consumer = store.consumer("mailer").until_caught_up();
    let handler = |event: &Event| match event.position() {
        1 => Outcome::Park("no\tmailbox".into()),
        _ => Outcome::Ack,
    };
    consumer.run(handler).unwrap();
    store.append(&stream("order-2"), Expected::Any, [NewEvent::new("Counted", "")]).unwrap();
    store.close().unwrap();
    place
}

#[test]
fn they_are_listed_and_shown() {
    let place = consumed();
    assert_eq!(consumers(&place, &["list"], &[]).ok(), "mailer\t2\t1\t1\n");
    let json = consumers(&place, &["list"], &["--json"]).ok();
    assert_eq!(json, "{\"consumer\":\"mailer\",\"position\":2,\"behind\":1,\"dead_letters\":1}\n");
    let shown = consumers(&place, &["show"], &["mailer"]).ok();
    let shown = lines(&shown);
    assert_eq!([shown[0], shown[2], shown[4]], ["position\t2", "behind\t1", "dead letters\t1"]);
    assert!(shown[1].starts_with("version\t") && shown[3].starts_with("next\t20"), "{shown:?}");
    let missing = consumers(&place, &["show"], &["nobody"]).fails(1);
    assert_eq!(missing, "annals: error: no consumer nobody has stored anything\n");
    assert_eq!(consumers(&small(), &["list"], &[]).ok(), "");
}

#[test]
fn a_reset_wants_to_be_meant_and_a_place() {
    let place = consumed();
    consumers(&place, &["reset"], &["mailer", "--start"]).fails(2);
    consumers(&place, &["reset"], &["mailer", "--yes"]).fails(2);
    consumers(&place, &["reset"], &["mailer", "--start", "--now", "--yes"]).fails(2);
    let cases = [
        (&["--start"][..], "before\t2\nposition\t-\n"),
        (&["--after", "1"], "before\t-\nposition\t1\n"),
        (&["--now"], "before\t1\nposition\t3\n"),
        (&["--at", "2001-01-01"], "before\t3\nposition\t-\n"),
    ];
    for (to, expected) in cases {
        assert_eq!(consumers(&place, &["reset"], &[&["mailer", "--yes"], to].concat()).ok(), expected);
    }
    assert_eq!(consumers(&place, &["list"], &[]).ok(), "mailer\t-\t4\t1\n");
    let beyond = consumers(&place, &["reset"], &["mailer", "--yes", "--after", "4"]).fails(1);
    assert!(beyond.contains("there is no position 4: the store has 4 events"), "{beyond}");
}

#[test]
fn dead_letters_are_listed_shown_and_dropped() {
    let place = consumed();
    let listed = letters(&place, "list", &[]).ok();
    assert!(listed.starts_with("1\torder-1\tCounted\t1\t20") && listed.ends_with("\tno\\tmailbox\n"), "{listed}");
    let json_listed = json(letters(&place, "list", &["--json"]).ok().trim());
    assert_eq!((&json_listed["position"], &json_listed["reason"]), (&1.into(), &"no\tmailbox".into()));
    let shown = letters(&place, "show", &["1"]).ok();
    assert!(shown.contains("reason\tno\\tmailbox\nstream\torder-1\nsequence\t1\n"), "{shown}");
    assert!(shown.ends_with("data\t{\"n\":1}\n"), "{shown}");
    let json_shown = json(letters(&place, "show", &["1", "--json"]).ok().trim());
    assert_eq!(json_shown["event"]["data"]["n"], 1);
    assert!(letters(&place, "show", &["2"]).fails(1).contains("mailer has not given up 2"));
    letters(&place, "drop", &["1"]).fails(2);
    letters(&place, "drop", &["--yes"]).fails(2);
    assert_eq!(letters(&place, "drop", &["1", "2", "--yes"]).ok(), "dropped\t1\n");
    assert_eq!(letters(&place, "drop", &["--all", "--yes"]).ok(), "dropped\t0\n");
    assert_eq!(letters(&place, "list", &[]).ok(), "");
}

/// A consumer that had caught up was shown as behind by all positions that were added while it
/// slept and did not match its query: events of other domains and of named editions, and even the
/// deletion of an edition, a record that no reader sees. Now the consumer advances over such
/// positions when it ends, and only events that a reader sees are counted.
#[test]
fn a_consumer_that_has_caught_up_is_not_behind() {
    let place = small();
    let store = place.open();
    let running = store.consumer("mailer").query(annals::Query::new().domain("order"));
    let control = running.control();
    let handle = running.spawn(|_: &Event| ()).unwrap();
    while control.position().unwrap().is_none_or(|position| position < 1) {
        std::thread::yield_now();
    }
    for name in ["order-1@x", "bill-1", "order-1@x", "bill-1"] {
        store.append(&stream(name), Expected::Any, [NewEvent::new("T", "")]).unwrap();
    }
    store.editions().delete("x", None).unwrap();
    control.stop();
    handle.join().unwrap();
    let behind = |store: &annals::Store| store.consumers().unwrap()[0].behind;
    assert_eq!((behind(&store), control.lag().unwrap().positions), (0, 0));
    store.close().unwrap();
    assert_eq!(consumers(&place, &["list"], &[]).ok(), format!("mailer\t{}\t0\t0\n", 7));
    // It has not reached later events that are visible.
    let store = place.open();
    store.append(&stream("order-1@x"), Expected::Any, ["A", "B"].map(|of| NewEvent::new(of, ""))).unwrap();
    assert_eq!(behind(&store), 2);
    store.editions().delete("x", None).unwrap();
    assert_eq!(behind(&store), 0);
    store.close().unwrap();
    assert!(consumers(&place, &["show"], &["mailer"]).ok().contains("behind\t0\n"));
}
