//! How cost grows with the store: appends, guards, reads, opening and memory, from ten thousand
//! events to ten million.
//!
//! ```text
//! cargo bench --bench growth -- [--max EVENTS] [--rounds N]
//! ```
//!
//! The output is a table of medians, and the same as a picture in `docs/growth.svg`. Ten million
//! events take 4 GB of disk beside the build's output. Each round measures in processes of their
//! own, which have no memory left from before, and on a copy of the store that they may change.
//! `work.rs` has the content of the store, and what is done to it.

#[path = "../common/mod.rs"]
mod common;
mod plot;
mod work;

use plot::{Panel, Series};
use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::time::Instant;
use work::Shape;

/// The argument with which this program calls itself to do one piece of work.
const DO: &str = "--do";
const SIZES: [u64; 4] = [10_000, 100_000, 1_000_000, 10_000_000];
/// For the store in which each event has a stream of its own.
const LONE: u64 = 1_000_000;

#[rustfmt::skip]
const PANELS: &[Panel] = &[
    Panel { title: "append, durable", unit: "µs", lines: &[
        ("append", "durable append"), ("with Guard::unchanged", "durable unchanged"), ("with Guard::absent", "durable absent")] },
    Panel { title: "append, not synced", unit: "µs", lines: &[
        ("append", "append"), ("with Guard::unchanged", "unchanged"), ("with Guard::absent", "absent"),
        ("to a stream that ended long ago", "idle")] },
    Panel { title: "read a stream of 100 events", unit: "µs", lines: &[
        ("written in one stretch of the log", "near"), ("the same once more", "near again"),
        ("spread over the whole log", "spread"), ("the same once more", "spread again")] },
    Panel { title: "find one event", unit: "µs", lines: &[
        ("newest of a stream that goes on", "newest"), ("newest of a stream that ended long ago", "ended"), ("first of a tag", "tag")] },
    Panel { title: "open", unit: "ms", lines: &[
        ("after a clean close", "open"), ("after a crash", "crash open")] },
    Panel { title: "memory of a process", unit: "MiB", lines: &[
        ("anonymous, opened", "opened"), ("anonymous, has read and written", "used"), ("anonymous, opened after a crash", "crash memory"),
        ("anonymous, most while writing it all", "writer"), ("resident at most, pages of files included", "peak")] },
];

/// The medians of a store, by key.
type Figures = HashMap<String, f64>;

fn main() {
    let test = common::is_test();
    let (mut sizes, mut lone, mut rounds) = match test {
        false => (SIZES.to_vec(), Some(LONE), 5),
        true => (vec![2_000], Some(1_000), 1),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|n| n.parse::<u64>().ok()).expect("a number follows the option");
        match argument.as_str() {
            "--bench" => {}
            "--max" => {
                let max = number();
                sizes.retain(|&events| events <= max);
                lone = lone.filter(|&events| events <= max);
            }
            "--rounds" => rounds = number().max(1),
            DO => return work::run(&arguments.collect::<Vec<_>>()),
            _ => panic!("{argument} is no option"),
        }
    }
    let stores: Vec<(Shape, Figures)> = sizes
        .into_iter()
        .map(|events| Shape { events, each: 100 })
        .chain(lone.map(|events| Shape { events, each: 1 }))
        .map(|shape| (shape, measure(shape, rounds)))
        .collect();
    table(&stores);
    let dir = common::temp_dir();
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let picture = if test { dir.path() } else { &docs }.join("growth.svg");
    std::fs::write(&picture, plot::draw(PANELS, &|key| series(&stores, key))).expect("the picture can be written");
    println!("\n{}", picture.display());
}

/// Builds a store and measures it, in this many rounds.
fn measure(shape: Shape, rounds: u64) -> Figures {
    let started = Instant::now();
    let dir = common::temp_dir();
    let (store, crashed, scratch) = (dir.path().join("store"), dir.path().join("crashed"), dir.path().join("scratch"));
    let mut found: HashMap<String, Vec<f64>> = HashMap::new();
    let mut work = |what: &str, on: &Path| {
        let program = std::env::current_exe().expect("this program's path");
        let numbers = [shape.events, shape.each].map(|number| number.to_string());
        let output = Command::new(program).args([DO, what]).arg(on).args(numbers).output().expect("a process");
        assert!(output.status.success(), "{what}: {}", String::from_utf8_lossy(&output.stderr));
        for line in String::from_utf8_lossy(&output.stdout).lines() {
            let (key, value) = line.rsplit_once(' ').expect("a key and a number");
            found.entry(key.to_owned()).or_default().push(value.parse().expect("a number"));
        }
    };
    work("build", &store);
    for _ in 0..rounds {
        for (what, from) in [("read", &store), ("append", &store), ("append durably", &store), ("recover", &crashed)] {
            work::copy(from, &scratch);
            work(what, &scratch);
        }
    }
    let took = started.elapsed().as_secs_f64();
    eprintln!("{} events, {} a stream: measured in {took:.0} s", shape.events, shape.each);
    found.into_iter().map(|(key, values)| (key, common::median(values).0)).collect()
}

fn table(stores: &[(Shape, Figures)]) {
    print!("| events |");
    stores.iter().for_each(|(shape, _)| match shape.each {
        1 => print!(" {} in as many streams |", plot::short(shape.events as f64)),
        _ => print!(" {} |", plot::short(shape.events as f64)),
    });
    println!("\n|---|{}", "---|".repeat(stores.len()));
    let cells = |key: &str| stores.iter().for_each(|(_, figures)| print!(" {} |", cell(figures.get(key))));
    for panel in PANELS {
        for (name, key) in panel.lines {
            print!("| {}: {name}, {} |", panel.title, panel.unit);
            cells(key);
            println!();
        }
    }
    for key in ["segments", "MiB on the disk", "MiB in the newest segment"] {
        print!("| {key} |");
        cells(key);
        println!();
    }
}

fn cell(value: Option<&f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if *value >= 100.0 => format!("{value:.0}"),
        Some(value) if *value >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

/// The points of a line, and the one of the store in which each event has a stream of its own.
fn series(stores: &[(Shape, Figures)], key: &str) -> Series {
    let points = |lone: bool| {
        let of_kind = stores.iter().filter(move |(shape, _)| (shape.each == 1) == lone);
        of_kind.filter_map(|(shape, figures)| Some((shape.events as f64, *figures.get(key)?))).collect()
    };
    Series { line: points(false), lone: points(true) }
}
