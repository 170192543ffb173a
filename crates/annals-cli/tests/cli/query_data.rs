//! Queries on a real event log, if it is present: the expected answers follow from its lines.

use super::*;
use flate2::read::MultiGzDecoder;
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader};

#[derive(Deserialize)]
struct Given {
    stream: String,
    #[serde(rename = "type")]
    event_type: String,
    #[serde(deserialize_with = "time")]
    time: jiff::Timestamp,
}

fn time<'de, D: Deserializer<'de>>(deserializer: D) -> Result<jiff::Timestamp, D::Error> {
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

impl Given {
    fn domain(&self) -> &str {
        self.stream.split('-').next().unwrap()
    }
}

struct Log {
    place: Place,
    /// The event at position n is that of line n.
    given: Vec<Given>,
}

impl Log {
    /// Asks the store and the lines, and returns the number of events that were found.
    #[track_caller]
    fn ask(&self, rest: &[&str], fits: impl Fn(&Given) -> bool) -> usize {
        let out = self.place.run("query", &[rest, &["--json"]].concat()).ok();
        let found: Vec<usize> = out.lines().map(|line| json(line)["position"].as_u64().unwrap() as usize).collect();
        let wanted: Vec<usize> = (0..self.given.len()).filter(|n| fits(&self.given[*n])).collect();
        assert!(found == wanted, "{rest:?}: {} events found, {} wanted", found.len(), wanted.len());
        found.len()
    }

    /// Checks that a verb lists the counts of the lines.
    #[track_caller]
    fn listed(&self, verb: &str, name: impl Fn(&Given) -> &str) -> BTreeMap<String, usize> {
        let mut wanted = BTreeMap::new();
        for given in &self.given {
            *wanted.entry(name(given).to_owned()).or_insert(0) += 1;
        }
        let shown = self.place.run(verb, &[]).ok();
        let rows = shown.lines().map(|line| {
            let mut cells = line.split('\t');
            (cells.next().unwrap().to_owned(), cells.next().unwrap().parse::<usize>().unwrap())
        });
        assert!(rows.eq(wanted.clone()), "{verb}");
        wanted
    }
}

#[test]
fn incidents() {
    let Some(path) = shared_data("incidents.jsonl.gz") else {
        println!("skipped: incidents.jsonl.gz is not here");
        return;
    };
    let lines = BufReader::new(MultiGzDecoder::new(File::open(&path).unwrap())).lines();
    let given = lines.map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect();
    let log = Log { place: place(), given };
    log.place.run("import", &[path.to_str().unwrap()]).ok();

    log.listed("domains", Given::domain);
    let types = log.listed("types", |given| &given.event_type);
    let streams = log.listed("streams", |given| &given.stream);
    let mut asked = 0;
    let mut sum = 0;
    for (event_type, count) in &types {
        let found = log.ask(&["--type", event_type], |given| given.event_type == *event_type);
        assert_eq!(found, *count);
        (asked, sum) = (asked + 1, sum + found);
    }
    assert_eq!(sum, log.given.len());
    for (stream, count) in streams.iter().step_by(500) {
        assert_eq!(log.ask(&["--stream", stream], |given| given.stream == *stream), *count);
        asked += 1;
    }

    // From, to, and other conditions.
    let time = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
    let (may, whole) = ("2012-05-01", "2012-05-01T00:00:00Z");
    let (week, behind) = ("2012-05-08 12:30", "2012-05-08T12:30:00Z");
    let within = |given: &Given| time(whole) <= given.time && given.time <= time(behind);
    let (first, second) = (types.keys().next().unwrap().as_str(), types.keys().nth(1).unwrap().as_str());
    let busiest = streams.iter().max_by_key(|(_, count)| **count).unwrap().0.as_str();
    let domain = log.given[0].domain();
    let found = [
        log.ask(&["--since", may], |given| given.time >= time(whole)),
        log.ask(&["--until", may], |given| given.time <= time(whole)),
        log.ask(&["--since", may, "--until", week], within),
        log.ask(&["--since", may, "--until", week, "--type", first, "--type", second], |given| {
            within(given) && [first, second].contains(&given.event_type.as_str())
        }),
        log.ask(&["--stream", busiest, "--type", first], |given| given.stream == busiest && given.event_type == first),
        log.ask(&["--domain", domain, "--since", may, "--type", first], |given| {
            given.domain() == domain && given.time >= time(whole) && given.event_type == first
        }),
    ];
    assert!(found.iter().all(|count| *count > 0), "{found:?}");
    // Bounds are inclusive, to the very moment of an event.
    let moment = log.given[40_000].time;
    let text = moment.to_string();
    assert!(log.ask(&["--since", &text, "--until", &text], |given| given.time == moment) > 0);
    // All events were recorded just now.
    assert_eq!(log.ask(&["--recorded-until", "yesterday"], |_| false), 0);
    assert_eq!(log.ask(&["--recorded-since", "1 day", "--until", may], |given| given.time <= time(whole)), found[1]);

    let of_type = |n: &usize| log.given[*n].event_type == first;
    let ask = |rest: &[&str]| -> Vec<usize> {
        let out = log.place.run("query", &[&["--type", first], rest].concat()).ok();
        out.lines().map(|line| line.split('\t').next().unwrap().parse().unwrap()).collect()
    };
    assert_eq!(
        ask(&["--backwards", "--limit", "7"]),
        (0..log.given.len()).rev().filter(of_type).take(7).collect::<Vec<_>>()
    );
    assert_eq!(
        ask(&["--after", "30000", "--limit", "7"]),
        (30_001..log.given.len()).filter(of_type).take(7).collect::<Vec<_>>()
    );
    assert_eq!(ask(&["--as-of", "9999"]), (0..10_000).filter(of_type).collect::<Vec<_>>());
    println!("{} questions about {} events: the answers are those of the lines", asked + 12, log.given.len());
}
