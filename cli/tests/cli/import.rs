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
    assert!(said.contains("hint: 8 events are imported and stay; go on behind them with --skip 8\n"), "{said}");
    assert_eq!(place.export().lines().count(), 8);

    // Corrected, it goes on where it was.
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

/// The store looks at a whole commit; the line that it does not like must be found all the same.
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
    let said = place.run_with("import", &[], &vec![b' '; (64 << 20) + 1]).fails(1);
    assert!(said.contains("stdin:1: the line is longer than 64 MiB"), "{said}");
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
