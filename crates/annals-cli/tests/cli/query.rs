use super::*;

/// Five events with occurrence times, recorded a year apart.
fn orders() -> Place {
    let place = place();
    let line = |stream: &str, event_type: &str, year: u32, rest: &str| {
        format!(
            "{{\"stream\":\"{stream}\",\"type\":\"{event_type}\",\"recorded_at\":\"{year}-01-01T00:00:00Z\"{rest}}}\n"
        )
    };
    let text = [
        line("order-1", "Placed", 2001, r#","occurred_at":"1990-05-01T00:00:00Z","tags":["customer:7","web"]"#),
        line("order-2", "Placed", 2002, r#","tags":["customer:7"],"correlation_id":"c-1""#),
        line("order-1", "Paid", 2003, r#","occurred_at":"1990-05-02T12:00:00Z","correlation_id":"c-1""#),
        line("parcel-1", "Sent", 2004, r#","tags":["web","customer:8"],"data":{"kg":2}"#),
        line("order-1@what-if", "Placed", 2005, r#","tags":["customer:7"]"#),
    ];
    place.run_with("import", &[], text.concat().as_bytes()).ok();
    place
}

/// The positions of the events, in order.
fn found(place: &Place, rest: &[&str]) -> Vec<u64> {
    let out = place.run("query", &[rest, &["--json"]].concat()).ok();
    out.lines().map(|line| json(line)["position"].as_u64().unwrap()).collect()
}

#[test]
fn conditions_alone_and_together() {
    let place = orders();
    let cases: [(&[&str], &[u64]); 17] = [
        (&[], &[0, 1, 2, 3]),
        (&["--domain", "order"], &[0, 1, 2]),
        (&["--domain", "order", "--domain", "parcel"], &[0, 1, 2, 3]),
        (&["--stream", "order-1"], &[0, 2]),
        (&["--stream", "order-2", "--domain", "parcel"], &[1, 3]),
        (&["--type", "Placed"], &[0, 1]),
        (&["--type", "Placed", "--type", "Sent"], &[0, 1, 3]),
        (&["--tag", "customer:7"], &[0, 1]),
        (&["--tag", "customer:7", "--tag", "web"], &[0]),
        (&["--correlation", "c-1"], &[1, 2]),
        (&["--correlation", "c-1", "--type", "Paid", "--domain", "order"], &[2]),
        (&["--type", "Refunded"], &[]),
        (&["--domain", "order", "--backwards"], &[2, 1, 0]),
        (&["--domain", "order", "--limit", "2"], &[0, 1]),
        (&["--domain", "order", "--limit", "2", "--backwards"], &[2, 1]),
        (&["--after", "0", "--limit", "2"], &[1, 2]),
        (&["--after", "0", "--tag", "web", "--as-of", "3"], &[3]),
    ];
    for (rest, positions) in cases {
        assert_eq!(found(&place, rest), positions, "{rest:?}");
    }
}

#[test]
fn since_and_until_are_when_it_occurred() {
    let place = orders();
    let cases: [(&[&str], &[u64]); 12] = [
        (&["--until", "1990-05-01"], &[0]),
        (&["--until", "1990-05-01T02:00:00+02:00"], &[0]),
        (&["--until", "1990-04-30 23:59:59.999999999"], &[]),
        (&["--since", "1990-05-02", "--until", "1999-01-01"], &[2]),
        // An event without an occurrence time counts with its recorded time.
        (&["--since", "2002-01-01"], &[1, 3]),
        (&["--since", "2002-01-01", "--until", "2002-01-01T00:00:00Z"], &[1]),
        (&["--since", "yesterday"], &[]),
        (&["--until", "3 days ago", "--type", "Paid"], &[2]),
        (&["--recorded-since", "2003-01-01"], &[2, 3]),
        (&["--recorded-until", "2003-01-01"], &[0, 1, 2]),
        (&["--recorded-since", "2001-06-01", "--until", "1999-01-01"], &[2]),
        (&["--recorded-since", "2h"], &[]),
    ];
    for (rest, positions) in cases {
        assert_eq!(found(&place, rest), positions, "{rest:?}");
    }
}

#[test]
fn as_of_a_position_or_a_time() {
    let place = orders();
    for (point, count) in [("0", 1), ("2", 3), ("2000-12-31", 0), ("2002-01-01", 2), ("2h", 4), ("now", 4)] {
        let all: Vec<u64> = (0..count).collect();
        assert_eq!(found(&place, &["--as-of", point]), all, "{point}");
        let out = place.run("read", &["order-1", "--as-of", point, "--json"]).ok();
        let read: Vec<u64> = out.lines().map(|line| json(line)["position"].as_u64().unwrap()).collect();
        assert_eq!(read, all.iter().copied().filter(|n| [0, 2].contains(n)).collect::<Vec<_>>(), "{point}");
    }
    // The user may have meant a day.
    for verb in [&["query"][..], &["read", "order-1"]] {
        let run = place.run(verb[0], &[&verb[1..], &["--as-of", "20020101"]].concat());
        assert_eq!(run.code, 0);
        assert_eq!(run.stderr, "annals: note: position 20020101 is not reached: the store has 5 events, from 0 on\n");
    }
}

#[test]
fn one_edition_at_a_time() {
    let place = orders();
    assert_eq!(found(&place, &["--edition", "what-if"]), [0, 1, 2, 3, 4], "what it shares with main, and its own");
    assert_eq!(found(&place, &["--edition", "main"]), [0, 1, 2, 3]);
    assert_eq!(found(&place, &["--stream", "order-1@what-if"]), [0, 2, 4]);
    assert_eq!(found(&place, &["--stream", "order-1", "--edition", "what-if"]), [0, 2, 4]);
    for (stream, other) in [("order-1", "order-1@what-if"), ("order-1@what-if", "order-1"), ("a-1@x", "a-1@y")] {
        let said = place.run("query", &["--stream", stream, "--stream", other]).fails(2);
        assert!(said.contains("one edition"), "{said}");
    }
    place.run("query", &["--stream", "order-1@what-if", "--edition", "main"]).fails(2);
}

#[test]
fn what_is_shown() {
    let place = orders();
    let plain = place.run("query", &["--type", "Paid", "--type", "Sent"]).ok();
    assert_eq!(
        plain,
        "2\torder-1\t1\t1990-05-02T12:00:00Z\tPaid\t\n3\tparcel-1\t0\t2004-01-01T00:00:00Z\tSent\t{\"kg\":2}\n"
    );
    let exported = place.export();
    let main: Vec<&str> = exported.lines().filter(|line| !line.contains('@')).collect();
    assert_eq!(lines(&place.run("query", &["--json"]).ok()), main);
    let varied = varied();
    let out = varied.run("query", &[]).ok();
    assert!(out.lines().all(|line| line.split('\t').count() == 6) && !out.contains('\x1b'));
}

#[test]
fn a_bad_time_is_a_usage_error() {
    let place = orders();
    for option in ["--since", "--until", "--recorded-since", "--recorded-until", "--as-of"] {
        for text in ["", "soon", "2012-13-01", "2012", "1600-01-01", "2012-05-01T10:00:00+99:00"] {
            if option == "--as-of" && text == "2012" {
                continue;
            }
            let run = place.run("query", &[option, text]);
            assert_eq!((run.code, run.stdout.as_str()), (2, ""), "{option} {text:?}");
            assert!(run.stderr.contains(option), "{}", run.stderr);
        }
    }
    place.run("read", &["order-1", "--as-of", "soon"]).fails(2);
    place.run("read", &["order-1", "--as-of", "99999999999999999999"]).fails(2);
    for (since, until) in [("--since", "--until"), ("--recorded-since", "--recorded-until")] {
        let said = place.run("query", &[since, "2h", until, "3h"]).fails(2);
        assert!(said.contains("is later than"), "{said}");
    }
}
