//! An invalid time is an error wherever a time is accepted. It never leads to an empty answer, and
//! nothing is stored with it.

use super::*;

/// Texts that are not a time anywhere.
const BAD: [&str; 14] = [
    "",
    " ",
    "soon",
    "2012",
    "2012-13-01",
    "2012-02-30",
    "2012-05-01T25:00:00Z",
    "2012-05-01T10:00:00+99:00",
    "2012-05-01T10:00:00+00:00[Europe/Berlin]",
    "1600-01-01",
    "3000-01-01T00:00:00Z",
    "10:00:00",
    "+2h",
    "2012-05-01 nonsense",
];

#[test]
fn of_options_that_read() {
    let place = small();
    let options = [
        ("query", &[][..], "--since"),
        ("query", &[], "--until"),
        ("query", &[], "--recorded-since"),
        ("query", &[], "--recorded-until"),
        ("query", &[], "--as-of"),
        ("read", &["order-1"], "--as-of"),
    ];
    for (verb, before, option) in options {
        for text in BAD {
            // For `--as-of`, a number is a position.
            if option == "--as-of" && text == "2012" {
                continue;
            }
            let given = format!("{option}={text}");
            let run = place.run(verb, &[before, &[&given]].concat());
            assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{verb} {given}");
            assert!(run.stderr.contains(option), "{}", run.stderr);
        }
    }
}

#[test]
fn of_options_that_write() {
    let place = place();
    for text in BAD {
        let given = format!("--occurred-at={text}");
        let said = place.run("append", &["a-1", "--type", "T", &given]).fails(2);
        assert!(said.contains("--occurred-at"), "{said}");
        assert!(!place.store.exists());
    }
}

#[test]
fn of_lines_that_are_imported() {
    let place = place();
    for field in ["time", "occurred_at", "recorded_at"] {
        // A file is not typed by a person: the friendlier forms are not accepted in it.
        for text in BAD.iter().chain(&["now", "yesterday", "2h", "2012-05-01"]) {
            let line = format!("{{\"stream\":\"a-1\",\"type\":\"T\",\"{field}\":\"{text}\"}}\n");
            let said = place.run_with("import", &[], line.as_bytes()).fails(1);
            assert!(said.contains(&format!("stdin:1: {field}: ")), "{said}");
        }
    }
    assert!(!place.store.exists());
}

#[test]
fn of_columns_that_are_imported() {
    let place = place();
    for text in BAD.iter().chain(&["now", "yesterday", "2h"]) {
        // An empty cell means that there is no time, which is allowed.
        if text.is_empty() {
            continue;
        }
        let table = format!("when,case,activity\n{text},a-1,A\n");
        let columns = ["-", "--stream-column", "case", "--type-column", "activity", "--time-column", "when"];
        let said = place.run_with("import", &columns, table.as_bytes()).fails(1);
        assert!(said.contains("stdin:2: ") && said.contains("not a time") || said.contains("outside"), "{said}");
    }
    assert!(!place.store.exists());
}
