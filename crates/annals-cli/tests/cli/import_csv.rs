use super::*;

const COLUMNS: [&str; 6] = ["--stream-column", "case", "--type-column", "activity", "--time-column", "when"];

const TABLE: &str = "\
when,case,activity,amount,\"note, long\"
2010-03-31 14:59:42,order-1,Placed,007,\"said \"\"hi\"\"
and left\"
2010-03-31T17:00:00.5+02:00,order-2,Placed,,
,order-1,Paid,1.50,ü
";

fn import(place: &Place, text: &str, rest: &[&str]) -> Run {
    place.run_with("import", &["-"].iter().chain(&COLUMNS).chain(rest).copied().collect::<Vec<_>>(), text.as_bytes())
}

#[test]
fn columns_become_events() {
    let place = place();
    import(&place, TABLE, &[]).ok();
    let exported = place.export();
    let events: Vec<_> = exported.lines().map(json).collect();
    assert_eq!(events.len(), 3);
    assert_eq!((&events[0]["stream"], &events[0]["type"]), (&"order-1".into(), &"Placed".into()));
    assert_eq!(events[0]["occurred_at"], "2010-03-31T14:59:42Z");
    assert_eq!(events[1]["occurred_at"], "2010-03-31T15:00:00.5Z");
    assert!(events[2]["occurred_at"].is_null());
    assert!(exported.contains(r#""data":{"amount":"007","note, long":"said \"hi\"\nand left"}"#), "{exported}");
    assert!(exported.contains(r#""data":{"amount":"1.50","note, long":"ü"}"#), "{exported}");
    assert_eq!(counts(&place.run("streams", &[]).ok()), ["order-1\t2", "order-2\t1"]);
}

#[test]
fn a_domain_for_all_rows() {
    let place = place();
    import(&place, "when,case,activity\n,17@x,A\n,a-18,B\n", &["--domain", "case"]).ok();
    assert_eq!(counts(&place.run("streams", &[]).ok()), ["case-17%40x\t1", "case-a-18\t1"]);
}

#[test]
fn rows_can_be_skipped() {
    let place = place();
    import(&place, TABLE, &["--skip", "1"]).ok();
    assert_eq!(place.export().lines().count(), 2);
}

#[test]
fn bad_rows_are_named() {
    let cases = [
        ("when,case,activity\n,a-1,A\n,a-1\n", 1, "stdin:3: 2 fields where the header has 3"),
        ("when,case,activity\n,a-1,A\n,-1,A\n", 1, "stdin:3: invalid domain"),
        ("when,case,activity\n,a-1,A\nnever,a-1,A\n", 1, "stdin:3: \"never\" is not a time"),
        ("when,case,activity\n,a-1,A\n,a-1,\n", 1, "stdin:3: "),
        ("when,case,case,activity\n", 1, "stdin:1: column 3"),
        ("when,kase,activity\n", 2, "no column \"case\"; it has when, kase, activity"),
        ("", 2, "no column"),
    ];
    for (text, code, what) in cases {
        let place = place();
        let said = import(&place, text, &["--batch", "100"]).fails(code);
        assert!(said.contains(what), "{said}");
        assert!(!place.store.exists() || place.export().is_empty());
    }
    let place = place();
    let file = place.file("x.csv", TABLE);
    assert!(place.run("import", &[&file]).fails(2).contains("--stream-column"));
    place.run("import", &[&file, "--stream-column", "case"]).fails(2);
    place.run("import", &[&file, "--time-column", "when"]).fails(2);
}

#[test]
fn a_quote_that_is_left_open_does_not_fill_the_memory() {
    let place = place();
    let mut text = b"when,case,activity\n,a-1,\"".to_vec();
    text.resize(70 << 20, b'x');
    let arguments: Vec<&str> = ["-"].iter().chain(&COLUMNS).copied().collect();
    let said = place.run_with("import", &arguments, &text).fails(1);
    assert!(said.contains("stdin:2: the record is longer than 64 MiB; is the quote in this line closed"), "{said}");
}

/// Without any message, a quote that was not closed swallowed all later rows, a file that was cut
/// off within quotes was taken for a complete one, and text after a closing quote was added to the
/// field.
#[test]
fn what_is_not_well_formed_is_refused() {
    let cases = [
        ("when,case,activity,note\n,o-1,A,ok\n,o-2,A,\"open\n,o-3,A,b\n", "stdin:3: a quote is not closed"),
        ("when,case,activity,note\n,o-1,A,\"ok\"\n,o-2,A,\"cut off he", "stdin:3: a quote is not closed"),
        ("when,case,activity,note\n,o-1,A,\"7\" wide\"\n,o-2,A,b\n", "stdin:2: there is text after the closing quote;"),
        (
            "when,case,activity,note\n,o-1,A,\"open\n,o-2,A,\"b\"\n",
            "stdin:3: there is text after the closing quote of the field that begins in line 2;",
        ),
        ("when,case,activity,note\n,o-1,A, \"a, b\"\n", "stdin:2: there are spaces before a quote"),
        ("when,case,activity,note\n,o-1,A,\"a\"\n\n,o-1,A,b,c\n", "stdin:4: 5 fields where the header has 4"),
    ];
    for (text, what) in cases {
        for text in [text.to_owned(), text.replace('\n', "\r\n")] {
            let place = place();
            let said = import(&place, &text, &[]).fails(1);
            assert!(said.starts_with(&format!("annals: error: {what}")), "{said}");
            assert!(!place.store.exists());
        }
    }
}

/// A byte order mark before the header was taken for a part of the first name, unless the file was
/// compressed.
#[test]
fn a_byte_order_mark_is_passed_over() {
    for text in ["\u{FEFF}case,activity,when\no-1,A,\n", "\u{FEFF}\"case\",\"activity\",\"when\"\r\n\"o-1\",\"A\",\r\n"]
    {
        let place = place();
        import(&place, text, &[]).ok();
        assert_eq!(place.export().lines().count(), 1);
    }
}

/// A cut in a row without quotes cannot be detected, but a missing line break after the last row
/// can.
#[test]
fn a_last_row_without_a_line_break_is_worth_a_warning() {
    let place = place();
    let run = import(&place, "when,case,activity\n,o-1,A\n,o-2,Cut o", &[]);
    assert_eq!((run.code, run.stdout.lines().next()), (0, Some("events\t2")));
    assert_eq!(run.stderr, "annals: warning: stdin:3: the last row ends without a line break: is the file whole?\n");
}
