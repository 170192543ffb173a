use super::*;

#[test]
fn an_event_by_the_id_that_it_was_given() {
    let place = varied();
    let id = "00000000-0000-0000-0000-000012345678";
    let line = place.export().lines().find(|line| line.contains(id)).unwrap().to_owned();
    assert_eq!(place.run("get", &[id, "--json"]).ok().trim_end(), line);
    let plain = place.run("get", &[id]).ok();
    for part in ["stream\tlobby", "type\tLinked", "correlation_id\tcheckout-991", "causation_id\tcmd \"1\""] {
        assert!(lines(&plain).contains(&part), "{plain}");
    }
}

#[test]
fn every_event_by_the_id_that_it_has() {
    let place = small();
    for line in place.export().lines() {
        let id = json(line)["id"].as_str().unwrap().to_owned();
        assert_eq!(place.run("get", &[&id, "--json"]).ok().trim_end(), line);
        assert!(place.run("get", &[&id]).ok().contains("\ntype\tCounted\n"));
    }
}

#[test]
fn all_that_is_not_text_is_escaped() {
    let place = varied();
    for event in &place.exported()[..15] {
        let shown = place.run("get", &[event["id"].as_str().unwrap()]).ok();
        assert!(shown.starts_with(&format!("position\t{}\nstream\t", event["position"])), "{shown}");
        assert!(shown.lines().all(|part| part.split('\t').count() == 2) && !shown.contains('\x1b'), "{shown}");
    }
}

#[test]
fn an_id_that_no_event_has_is_code_1() {
    let place = small();
    for form in [&[][..], &["--json"]] {
        let id = "00000000-0000-0000-0000-00000000000a";
        let run = place.run("get", &[&[id], form].concat());
        assert_eq!(run.stdout, "");
        assert_eq!(run.fails(1), format!("annals: error: no event has the id {id}\n"));
    }
    assert!(place.run("get", &["order-1"]).fails(2).contains("<ID|POSITION>"));
}

/// `get STORE 1629` was refused: a user with a position, which every table shows, had to find the
/// id first.
#[test]
fn an_event_by_its_position() {
    let place = small();
    for (position, line) in place.export().lines().enumerate() {
        assert_eq!(place.run("get", &[&position.to_string(), "--json"]).ok().trim_end(), line);
    }
    assert_eq!(
        place.run("get", &["3"]).fails(1),
        "annals: error: no event has the position 3: the store has 3, from 0 on\n"
    );
    place.run("append", &["order-1@x", "--type", "T"]).ok();
    annals(["editions", "delete", place.store.to_str().unwrap(), "x", "--yes"]).ok();
    for position in ["3", "4"] {
        assert!(place.run("get", &[position]).fails(1).contains("was deleted with its edition"));
    }
    for text in ["-1", "1.5", "+1", "18446744073709551616", ""] {
        place.run("get", &["--", text]).fails(2);
    }
    place.run("get", &["18446744073709551615"]).fails(1);
}
