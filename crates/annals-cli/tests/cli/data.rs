//! Real event logs, if they are present: imported, counted, exported and compared line by line.

use super::*;
use flate2::read::MultiGzDecoder;
use serde::Deserialize;
use serde_json::value::RawValue;
use std::fs::File;
use std::io::{BufRead, BufReader};

/// The fields of an input line, and of an exported one.
#[derive(Deserialize)]
struct Given {
    stream: String,
    #[serde(rename = "type")]
    event_type: String,
    #[serde(alias = "occurred_at")]
    time: String,
    data: Box<RawValue>,
}

impl Given {
    fn parts(&self) -> (&str, &str, jiff::Timestamp, &str) {
        (&self.stream, &self.event_type, self.time.parse().unwrap(), self.data.get())
    }
}

fn real(name: &str, events: usize, streams: usize) {
    let Some(path) = shared_data(name) else {
        println!("skipped: {name} is not here");
        return;
    };
    let place = place();
    let out = place.run("import", &[path.to_str().unwrap()]).ok();
    assert!(out.starts_with(&format!("events\t{events}\n")), "{out}");
    let stats = json(&place.run("stats", &["--json"]).ok());
    assert_eq!((&stats["events"], &stats["streams"]), (&events.into(), &streams.into()));
    let listed = place.run("streams", &[]).ok();
    assert_eq!(listed.lines().count(), streams);
    let sum: usize = listed.lines().map(|line| line.split('\t').nth(1).unwrap().parse::<usize>().unwrap()).sum();
    assert_eq!(sum, events);

    let exported = place.export();
    let given = BufReader::new(MultiGzDecoder::new(File::open(&path).unwrap()));
    let mut lines = exported.lines();
    for (n, given) in given.lines().enumerate() {
        let (given, line) = (given.unwrap(), lines.next().unwrap());
        let given: Given = serde_json::from_str(&given).unwrap();
        let stored: Given = serde_json::from_str(line).unwrap();
        assert_eq!(stored.parts(), given.parts(), "line {n}");
    }
    assert!(lines.next().is_none());
    let verified = json(&place.run("verify", &["--json"]).ok());
    assert_eq!((&verified["sound"], &verified["events"]), (&true.into(), &events.into()));

    let copy = super::place();
    copy.run_with("import", &[], exported.as_bytes()).ok();
    assert!(copy.export() == exported, "the copy of {name} differs");
    println!(
        "{name}: {events} events of {streams} streams imported, exported, equal line by line, and verified; so is a \
            copy"
    );
}

#[test]
fn incidents() {
    real("incidents.jsonl.gz", 65_533, 7_554);
}

#[test]
fn permits() {
    real("permits.jsonl.gz", 8_577, 1_434);
}
