use super::*;

#[test]
fn everything_that_an_event_can_have() {
    let place = place();
    let metadata = place.file("metadata", br#"{"user":7}"#);
    let data = r#"{"sku":1.50}"#;
    let id = "0190163d-8694-739b-aea5-966c26f8ad91";
    let out = place.run(
        "append",
        &[
            "order-1",
            "--type",
            "OrderPlaced",
            "--expect",
            "none",
            "--data",
            data,
            "--metadata",
            &format!("@{metadata}"),
            "--tag",
            "customer:7",
            "--tag",
            "b",
            "--id",
            id,
            "--correlation",
            "wf-1",
            "--causation",
            "cmd-1",
            "--occurred-at",
            "1969-07-20T20:17:40.5Z",
            "--schema-version",
            "3",
        ],
    );
    assert_eq!(out.ok(), "position\t0\nsequence\t0\n");
    let line = json(&place.export());
    assert_eq!(line["stream"], "order-1");
    assert_eq!(line["type"], "OrderPlaced");
    assert_eq!(line["id"], id);
    assert_eq!(line["occurred_at"], "1969-07-20T20:17:40.5Z");
    assert_eq!(line["correlation_id"], "wf-1");
    assert_eq!(line["causation_id"], "cmd-1");
    assert_eq!(line["tags"], serde_json::json!(["customer:7", "b"]));
    assert_eq!(line["metadata"], serde_json::json!({"user": 7}));
    assert_eq!(line["schema_version"], 3);
    assert!(place.export().trim_end().ends_with(r#""data":{"sku":1.50}}"#));
}

#[test]
fn the_answer_as_json() {
    let place = small();
    let answer = json(&place.run("append", &["order-1", "--type", "T", "--json"]).ok());
    assert_eq!(
        (&answer["position"], &answer["sequence"], &answer["stream"]),
        (&3.into(), &3.into(), &"order-1".into())
    );
}

#[test]
fn data_from_stdin_and_files() {
    let place = place();
    let append = |rest: &[&str], stdin: &[u8]| {
        let arguments = ["a-1", "--type", "T"].iter().chain(rest).copied().collect::<Vec<_>>();
        place.run_with("append", &arguments, stdin).ok();
        let store = place.open();
        let event = store.read_all().backwards().into_iter().next().unwrap().unwrap();
        (event.data().to_vec(), event.content_type())
    };
    let file = place.file("data", b"\0\xFF");
    assert_eq!(append(&[], b"not looked at"), (b"".to_vec(), ContentType::Bytes));
    assert_eq!(append(&["--data", "-"], b"{\"a\": 1}\n"), (b"{\"a\": 1}".to_vec(), ContentType::Json));
    assert_eq!(append(&["--data", "-"], b"plain\n"), (b"plain\n".to_vec(), ContentType::Bytes));
    assert_eq!(append(&["--data", "-5"], b""), (b"-5".to_vec(), ContentType::Json));
    assert_eq!(append(&["--data", &format!("@{file}")], b""), (b"\0\xFF".to_vec(), ContentType::Bytes));
    assert_eq!(append(&["--data", "1\n", "--content-type", "text"], b""), (b"1\n".to_vec(), ContentType::Text));
    let named = ContentType::Named("application/x".into());
    assert_eq!(append(&["--data", "1", "--content-type", "application/x"], b""), (b"1".to_vec(), named));
}

#[test]
fn expectations() {
    let place = place();
    let append = |expect: &str| place.run("append", &["a-1", "--type", "T", "--expect", expect]);
    let text = append("exists").fails(6);
    assert!(text.contains("conflict on a-1") && text.contains("hint: "), "{text}");
    append("1").fails(6);
    append("0").ok();
    append("none").fails(6);
    append("exists").ok();
    append("2").ok();
    append("2").fails(6);
    append("any").ok();
    assert_eq!(lines(&place.export()).len(), 4);
}

#[test]
fn what_cannot_be_stored() {
    let place = place();
    place.run("append", &["a-1"]).fails(2);
    place.run("append", &["-1", "--type", "T"]).fails(2);
    place.run("append", &["a-1", "--type", "T", "--expect", "sometimes"]).fails(2);
    place.run("append", &["a-1", "--type", "T", "--id", "7"]).fails(2);
    place.run("append", &["a-1", "--type", "T", "--occurred-at", "soon"]).fails(2);
    place.run("append", &["a-1", "--type", "T", "--data", "-", "--metadata", "-"]).fails(2);
    assert!(
        place.run("append", &["a-1", "--type", "T", "--data", "@/no/such/file"]).fails(1).contains("/no/such/file")
    );
    assert!(!place.store.exists());
    assert!(place.run("append", &["a-1", "--type", ""]).fails(1).contains("type"));
    assert!(!place.store.exists());
}

/// A refused append to a mistyped name left a new, empty store there, which the next append with
/// the same mistake found. Now a store is created only for an event that is accepted.
#[test]
fn a_refused_append_leaves_no_store() {
    let place = place();
    let long = "x".repeat(300);
    let refused: [(&[&str], i32); 5] = [
        (&["--type", "T", "--expect", "exists"], 6),
        (&["--type", "T", "--expect", "7"], 6),
        (&["--type", ""], 1),
        (&["--type", &long], 1),
        (&["--type", "T", "--tag", ""], 1),
    ];
    for (arguments, code) in refused {
        place.run("append", &[&["a-1"], arguments].concat()).fails(code);
        assert!(!place.store.exists(), "{arguments:?}");
        // An existing directory stays unchanged.
        fs::create_dir(&place.store).unwrap();
        place.run("append", &[&["a-1"], arguments].concat()).fails(code);
        assert_eq!(fs::read_dir(&place.store).unwrap().count(), 0, "{arguments:?}");
        fs::remove_dir(&place.store).unwrap();
    }
    place.run("append", &["a-1", "--type", "T", "--expect", "none"]).ok();
    assert_eq!(place.export().lines().count(), 1);
    let file = place.file("file", "x");
    assert!(annals(["append", &file, "a-1", "--type", "T"]).fails(1).contains(&file));
    assert_eq!(fs::read_to_string(&file).unwrap(), "x");
}

/// Times never decrease: a clock that was wrong once determines the times of all later events,
/// which was not reported.
#[test]
fn a_store_that_is_ahead_of_the_clock_is_worth_a_warning() {
    let place = place();
    let store = place.open_with(Options::new().clock(|| Timestamp::MAX));
    store.append(&stream("a-1"), Expected::Any, [NewEvent::new("T", "")]).unwrap();
    store.close().unwrap();
    let run = place.run("append", &["a-1", "--type", "T"]);
    assert_eq!(run.code, 0);
    assert!(run.stderr.starts_with("annals: warning: the time of the store is 2262-04-11T"), "{}", run.stderr);
}

#[test]
fn a_time_ago() {
    let place = place();
    place.run("append", &["a-1", "--type", "T", "--occurred-at", "2h"]).ok();
    let store = place.open();
    let event = store.read_all().into_iter().next().unwrap().unwrap();
    let ago = event.recorded_at().as_nanos() - event.occurred_at().unwrap().as_nanos();
    assert!((7200..7260).contains(&(ago / 1_000_000_000)), "{ago}");
}
