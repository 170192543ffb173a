use super::*;
use flate2::Compression;
use flate2::write::GzEncoder;

fn line(stream: &str, data: usize) -> String {
    format!("{{\"stream\":\"{stream}\",\"type\":\"T\",\"data\":{data}}}\n")
}

fn numbered(count: usize) -> String {
    (0..count).map(|n| line(&format!("a-{}", n % 3), n)).collect()
}

fn packed(text: &str) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn from_a_file_a_pipe_and_gzip() {
    let text = numbered(10);
    let mut twice = packed(&line("a-0", 0));
    twice.extend(packed(numbered(10).split_once('\n').unwrap().1));
    for (name, content) in
        [("x.jsonl", text.clone().into_bytes()), ("x.gz", packed(&text)), ("packed", packed(&text)), ("two.gz", twice)]
    {
        let place = place();
        let file = place.file(name, &content);
        assert_eq!(place.run("import", &[&file]).ok(), "events\t10\ncommits\t1\nnext_position\t10\n");
        for (verb, count) in [("streams", 3), ("export", 10)] {
            assert_eq!(place.run(verb, &[]).ok().lines().count(), count, "{name}");
        }
        let piped = super::place();
        piped.run_with("import", &["-"], &content).ok();
        assert_eq!(piped.export().lines().count(), 10);
    }
}

#[test]
fn commits_have_as_many_events_as_asked_for() {
    let place = place();
    let out = place.run_with("import", &["--batch", "4", "--json"], numbered(10).as_bytes()).ok();
    let summary = json(&out);
    assert_eq!(
        (&summary["events"], &summary["commits"], &summary["next_position"]),
        (&10.into(), &3.into(), &10.into())
    );
    let dump = place.run("dump", &["--json"]).ok();
    let sizes: Vec<u64> = dump
        .lines()
        .map(json)
        .filter(|piece| piece["kind"] == "commit")
        .map(|piece| piece["events"].as_u64().unwrap())
        .collect();
    assert_eq!(sizes, [4, 4, 2]);
}

#[test]
fn acknowledgements_name_the_next_position() {
    let place = place();
    let run =
        place.run_with("import", &["--batch", "4", "--acknowledge", "--durability", "os"], numbered(10).as_bytes());
    assert_eq!(lines(&run.ok())[..3], ["acknowledged 4", "acknowledged 8", "acknowledged 10"]);
}

#[test]
fn a_bad_line_is_named_and_its_commit_is_not_stored() {
    let place = place();
    let mut text = numbered(10);
    text.push_str("{\"stream\":\"a-1\",\"tpye\":\"T\"}\n");
    text.push_str(&line("a-1", 11));
    let file = place.file("in.jsonl", &text);
    let said = place.run("import", &[&file, "--batch", "4"]).fails(1);
    assert!(said.contains(&format!("{file}:11: unknown field `tpye`")), "{said}");
    assert!(said.contains("hint: 8 events are imported and stay; continue after them with --skip 8\n"), "{said}");
    assert_eq!(place.export().lines().count(), 8);

    // The corrected import continues.
    let file = place.file("in.jsonl", text.replace("tpye", "type"));
    place.run("import", &[&file, "--skip", "8"]).ok();
    assert_eq!(place.export().lines().count(), 12);
    place.run("verify", &[]).ok();
}

#[test]
fn a_bad_first_line_makes_no_store() {
    let place = place();
    let said = place.run_with("import", &[], b"\n\nnot json\n").fails(1);
    assert!(said.starts_with("annals: error: stdin:3: "), "{said}");
    assert!(!place.store.exists());
    assert!(place.run("import", &["/no/such/file"]).fails(1).contains("/no/such/file: "));
    place.run("import", &["/"]).fails(1);
    assert!(!place.store.exists());
}

/// The store checks a whole commit; even so, the refused line must be found.
#[test]
fn what_the_store_refuses_has_a_line_number() {
    let long = "x".repeat(2000);
    let cases = [
        (format!(r#"{{"stream":"a-1","type":"{long}"}}"#), "type"),
        (r#"{"stream":"a-1","type":""}"#.to_owned(), "type"),
        (format!(r#"{{"stream":"a-1","type":"T","correlation_id":"{long}"}}"#), "correlation"),
        (format!(r#"{{"stream":"a-1","type":"T","tags":["{long}"]}}"#), "tag"),
        (r#"{"stream":"a-1","type":"T","content_type":""}"#.to_owned(), "content type"),
        (format!(r#"{{"stream":"{long}-1","type":"T"}}"#), "domain"),
    ];
    for (bad, what) in cases {
        let place = place();
        let text = format!("{}{bad}\n{}", numbered(2), numbered(2));
        let said = place.run_with("import", &[], text.as_bytes()).fails(1);
        assert!(said.starts_with("annals: error: stdin:3: ") && said.contains(what), "{said}");
        assert!(!place.store.exists() || place.export().is_empty());
    }
}

#[test]
fn sequences_must_be_the_next_ones() {
    let with =
        |stream: &str, sequence: u64| format!("{{\"stream\":\"{stream}\",\"sequence\":{sequence},\"type\":\"T\"}}\n");
    let place = place();
    let good = [with("a-1", 0), with("b-1", 0), with("a-1", 1), line("a-1", 0), with("a-1", 3)].concat();
    place.run_with("import", &[], good.as_bytes()).ok();
    let bad = [with("a-1", 4), with("b-1", 1), with("a-1", 6)].concat();
    let said = place.run_with("import", &[], bad.as_bytes()).fails(6);
    assert!(said.starts_with("annals: error: stdin:3: conflict on a-1: "), "{said}");
    assert!(said.contains("expected next sequence 6, found next sequence 5"), "{said}");
    assert!(said.contains("hint: nothing was imported\n"), "{said}");
    assert_eq!(place.export().lines().count(), 5);
}

#[test]
fn recorded_at_is_kept_where_it_never_decreases() {
    let at = |time: &str| format!("{{\"stream\":\"a-1\",\"type\":\"T\",\"recorded_at\":\"{time}\"}}\n");
    let text = [
        at("1960-01-01T00:00:00Z"),
        at("1960-01-01T00:00:00Z"),
        at("2000-01-01T00:00:00Z"),
        at("1999-01-01T00:00:00Z"),
        line("a-1", 0),
    ];
    let place = place();
    let run = place.run_with("import", &[], text.concat().as_bytes());
    assert_eq!(run.code, 0);
    assert!(run.stderr.starts_with("annals: warning: 1 events have a later recorded_at"), "{}", run.stderr);
    assert!(run.stdout.contains("commits\t4\n"), "{}", run.stdout);
    let exported = place.export();
    let times: Vec<String> =
        exported.lines().map(|line| json(line)["recorded_at"].as_str().unwrap().to_owned()).collect();
    assert_eq!(
        times[..4],
        ["1960-01-01T00:00:00Z", "1960-01-01T00:00:00Z", "2000-01-01T00:00:00Z", "2000-01-01T00:00:00Z"]
    );
    assert!(times[4].as_str() > "2020");
    place.run("verify", &[]).ok();
}

#[test]
fn large_events_and_commits() {
    let place = place();
    let data = "x".repeat(20 << 20);
    let large = format!("{{\"stream\":\"a-1\",\"type\":\"T\",\"data\":\"{data}\"}}\n");
    let out = place.run_with("import", &[], large.repeat(3).as_bytes()).ok();
    assert_eq!(out, "events\t3\ncommits\t3\nnext_position\t3\n");
    assert_eq!(place.export().len() - 3 * data.len(), place.export().replace('x', "").len());
    let said = place.run_with("import", &[], &vec![b' '; (1 << 20) + 1]).fails(1);
    assert!(said.contains("stdin:1: the line has more than 1 MiB and does not begin as a JSON object"), "{said}");
}

#[test]
fn a_broken_archive_is_an_error() {
    let mut content = packed(&numbered(5000));
    content.truncate(content.len() / 2);
    let place = place();
    let file = place.file("broken.gz", content);
    let said = place.run("import", &[&file, "--batch", "10"]).fails(1);
    assert!(said.contains("broken.gz:"), "{said}");
    assert_eq!(place.export().lines().count() % 10, 0);
}

#[test]
fn time_is_another_name_for_occurred_at() {
    let place = place();
    let text = "{\"stream\":\"a-1\",\"type\":\"T\",\"time\":\"2010-03-31T16:59:42.000+02:00\",\"data\":{\"a\":1}}\r\n";
    place.run_with("import", &[], text.as_bytes()).ok();
    assert_eq!(json(&place.export())["occurred_at"], "2010-03-31T14:59:42Z");
}

/// `import` refused what `export` wrote: bytes take a third more space as base64, so that the line
/// of an event of 48 MiB exceeded the limit of 64 MiB; and the new store refused an event from a
/// store with higher limits. Now the limits are those of the largest event of any store.
#[test]
fn every_event_comes_through_export_and_import() {
    let place = place();
    let store = place.open_with(Options::new().max_event_bytes(128 << 20).max_commit_bytes(256 << 20));
    let data: Vec<u8> = (0..90u32 << 20).map(|n| (n % 251) as u8).collect();
    store.append(&stream("a-1"), Expected::Any, [NewEvent::new("T", &data).metadata(&data[..1 << 20])]).unwrap();
    store.close().unwrap();
    let file = place.dir.path().join("copy.jsonl");
    place.run("export", &["--output", file.to_str().unwrap()]).ok();
    let to = super::place();
    to.run("import", &[file.to_str().unwrap()]).ok();
    let event = to.open().read_all().into_iter().next().unwrap().unwrap();
    assert!(event.data() == data && event.metadata() == &data[..1 << 20]);
}

/// Zeros after a gzip member, which tapes and block copies add, were taken for a broken member: all
/// events were imported, but the import failed.
#[test]
fn a_padded_archive_is_read_to_its_end() {
    let place = place();
    let mut content = packed(&numbered(3));
    content.resize(content.len() + 5000, 0);
    let file = place.file("padded.gz", &content);
    place.run("import", &[&file]).ok();
    content.extend_from_slice(b"more");
    let file = place.file("followed.gz", &content);
    let said = place.run("import", &[&file]).fails(1);
    assert!(said.contains("the bytes after the end of the gzip data are not gzip"), "{said}");
}

#[test]
fn a_byte_order_mark_is_passed_over() {
    let text = format!("\u{FEFF}{}", numbered(2));
    for content in [text.clone().into_bytes(), packed(&text)] {
        let place = place();
        place.run("import", &[&place.file("marked", &content)]).ok();
        place.run_with("import", &["-"], &content).ok();
        assert_eq!(place.export().lines().count(), 4);
    }
    let said = place().run_with("import", &[], b"\xFF\xFE{\0}\0").fails(1);
    assert!(said.starts_with("annals: error: stdin: the text is UTF-16"), "{said}");
}

/// One line with a time in the year 2200 silently determined the times of all later events. Now it
/// is refused, unless `--allow-future` accepts it.
#[test]
fn a_time_to_come_must_be_meant() {
    let at = |time: jiff::Timestamp| format!("{{\"stream\":\"a-1\",\"type\":\"T\",\"recorded_at\":\"{time}\"}}\n");
    let now = jiff::Timestamp::now();
    let (soon, late) = (now + jiff::SignedDuration::from_mins(5), now + jiff::SignedDuration::from_hours(1));
    let place = place();
    let said = place.run_with("import", &[], at(late).as_bytes()).fails(1);
    assert!(said.starts_with("annals: error: stdin:1: recorded_at 20") && said.contains("--allow-future"), "{said}");
    assert!(said.contains("hint: nothing was imported"), "{said}");
    assert!(!place.store.exists());
    let said = place.run_with("import", &["--batch", "1"], [at(now), at(soon), at(late)].concat().as_bytes()).fails(1);
    assert!(said.contains("stdin:3: ") && said.contains("--skip 2\n"), "{said}");
    place.run_with("import", &["--allow-future"], at(late).as_bytes()).ok();
    // From now on, every append warns.
    let run = place.run_with("import", &[], line("a-1", 0).as_bytes());
    assert!(run.code == 0 && run.stderr.starts_with("annals: warning: the time of the store is 20"), "{}", run.stderr);
}

/// The store was created before its first commit was checked, and remained when that commit was
/// refused.
#[test]
fn a_refused_first_commit_makes_no_store() {
    let long = "x".repeat(300);
    for (bad, code) in [
        (format!("{{\"stream\":\"a-1\",\"type\":\"{long}\"}}\n"), 1),
        ("{\"stream\":\"a-1\",\"type\":\"T\",\"sequence\":7}\n".to_owned(), 6),
        (format!("{{\"upstream\":\"{long}\",\"tracked\":7}}\n"), 1),
    ] {
        let place = place();
        let said = place.run_with("import", &[], [bad, numbered(2)].concat().as_bytes()).fails(code);
        assert!(said.contains("stdin:1: "), "{said}");
        assert!(!place.store.exists());
    }
}

/// The message was "expected ident". Now it describes the mistake in plain words, with line and
/// column.
#[test]
fn what_is_not_json_is_said_in_plain_words() {
    let cases = [
        ("  when,case", "stdin:2: this is not JSON: \"when,case\" (column 3)"),
        ("{\"stream\":7,\"type\":\"T\"}", "stdin:2: stream: integer `7` instead of a string (column 11)"),
        ("{\"stream\":\"a-1\",\"ty", "stdin:2: the line ends in the middle of a string; is it cut off? (column 19)"),
    ];
    for (bad, what) in cases {
        let said = place().run_with("import", &[], format!("{}{bad}\n", line("a-1", 0)).as_bytes()).fails(1);
        assert!(said.contains(what), "{said}");
    }
}
