use super::*;

#[test]
fn a_pipe_gets_an_event_a_line() {
    let place = small();
    let out = place.run("read", &["order-1"]).ok();
    let rows: Vec<Vec<&str>> = out.lines().map(|line| line.split('\t').collect()).collect();
    assert_eq!(rows.len(), 3);
    for (n, row) in rows.iter().enumerate() {
        let number = n.to_string();
        assert_eq!(row[..2], [&number, &number]);
        assert!(row[2].ends_with('Z'));
        assert_eq!(row[3..], ["Counted", &format!(r#"{{"n":{n}}}"#)]);
    }
}

#[test]
fn parts_of_a_stream() {
    let place = small();
    let sequences = |rest: &[&str]| {
        let arguments: Vec<&str> = ["order-1", "--json"].iter().chain(rest).copied().collect();
        let out = place.run("read", &arguments).ok();
        out.lines().map(|line| json(line)["sequence"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(sequences(&[]), [0, 1, 2]);
    assert_eq!(sequences(&["--from", "1"]), [1, 2]);
    assert_eq!(sequences(&["--to", "2"]), [0, 1]);
    assert_eq!(sequences(&["--limit", "1"]), [0]);
    assert_eq!(sequences(&["--backwards", "--limit", "2"]), [2, 1]);
    assert_eq!(sequences(&["--from", "1", "--to", "2", "--backwards"]), [1]);
    assert_eq!(sequences(&["--from", "5"]), [0; 0]);
}

#[test]
fn json_lines_are_those_of_export() {
    let place = small();
    assert_eq!(place.run("read", &["order-1", "--json"]).ok(), place.export());
}

#[test]
fn a_stream_without_events_is_pointed_out() {
    let run = small().run("read", &["order-2"]);
    assert_eq!((run.code, run.stdout.as_str()), (0, ""));
    assert_eq!(run.stderr, "annals: note: order-2 has no events\n");
}

#[test]
fn nothing_breaks_a_line() {
    let place = varied();
    let out = place.run("read", &["lobby"]).ok();
    assert_eq!(out.lines().count(), 10);
    assert!(out.lines().all(|line| line.split('\t').count() == 5));
    assert!(!out.contains('\x1b'));
    assert!(out.contains("Zürich\\nline"));
    let out = place.run("read", &["bin-%FF%00"]).ok();
    assert!(out.trim_end().ends_with("\tbase64:AP8KGw=="), "{out}");
}
