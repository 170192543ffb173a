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
    assert!(place.run("get", &["order-1"]).fails(2).contains("<ID>"));
}
