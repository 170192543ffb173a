//! An import that is killed at any moment: the store has all acknowledged events, only whole
//! commits, in order.
//!
//! `ANNALS_KILL_ROUNDS` sets the number of rounds. A round continues with the store of the previous
//! round, as a user would with `--skip`, until the store has all lines.

use super::*;
use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

const LINES: u64 = 30_000;

/// Line `n` of an input; its lines have a recorded time if `timed`.
fn line(n: u64, timed: bool) -> String {
    let (stream, event_type, pad) = (n * 7 % 101, n % 5, "x".repeat((n * 31 % 400) as usize));
    let time = if timed { format!("\"recorded_at\":\"{}\",", time(n)) } else { String::new() };
    format!(
        "{{\"stream\":\"s-{stream}\",\"type\":\"T{event_type}\",{time}\"tags\":[\"n:{n}\"],\"data\":{{\"n\":{n},\"pad\":\"{pad}\"}}}}\n"
    )
}

/// The recorded time of line `n`. The 9, 24 or 27 lines of one second are stored together, so that
/// commits have different sizes.
fn time(n: u64) -> jiff::Timestamp {
    let second = n / 60 * 3 + [0, 9, 33].iter().filter(|&&from| n % 60 >= from).count() as u64;
    jiff::Timestamp::from_second(second as i64).unwrap()
}

/// Returns whether a commit ends before line `n`, in an import that began with line `from`.
fn is_boundary(n: u64, from: u64, batch: u64, timed: bool) -> bool {
    let first = match timed {
        true => (from..n).rev().take_while(|&line| time(line) == time(n)).last().unwrap_or(n),
        false => from,
    };
    n == LINES || (n - first).is_multiple_of(batch)
}

fn random(below: u64) -> u64 {
    (Uuid::new_v4().as_u128() % u128::from(below)) as u64
}

/// Checks the whole store against the input, and returns the number of its events.
fn check(store: &Store, timed: bool) -> u64 {
    let mut next = 0;
    let mut sequences = std::collections::HashMap::new();
    for event in store.read_all() {
        let event = event.unwrap();
        assert_eq!(event.position(), next);
        let given: serde_json::Value = serde_json::from_str(&line(next, timed)).unwrap();
        let name = event.stream().to_string();
        assert_eq!(given["stream"], name.as_str());
        assert_eq!(given["type"], event.event_type());
        assert_eq!(given["tags"][0], event.tags().next().unwrap());
        assert_eq!(given["data"], serde_json::from_slice::<serde_json::Value>(event.data()).unwrap());
        if timed {
            assert_eq!(i128::from(event.recorded_at().as_nanos()), time(next).as_nanosecond());
        }
        let sequence = sequences.entry(name).or_insert(0);
        assert_eq!(event.sequence(), *sequence);
        *sequence += 1;
        next += 1;
    }
    assert_eq!(next, store.len());
    next
}

#[test]
fn kill_9_loses_nothing_that_was_acknowledged() {
    let rounds: u32 = std::env::var("ANNALS_KILL_ROUNDS").map_or(10, |rounds| rounds.parse().unwrap());
    let input = place();
    let written = |name, timed| input.file(name, (0..LINES).map(|n| line(n, timed)).collect::<String>());
    let files = [written("untimed.jsonl", false), written("timed.jsonl", true)];
    let (mut stores, mut killed, mut torn, mut acknowledged_in_all) = (1, 0, 0, 0);
    let mut place = place();
    let mut stored = 0;
    for round in 0..rounds {
        if stored == LINES {
            place = super::place();
            (stored, stores) = (0, stores + 1);
        }
        let timed = stores % 2 == 0;
        let batch = [1, 4, 7, 1000][random(4) as usize];
        let mut command = command();
        command.arg("import").arg(&place.store).arg(&files[usize::from(timed)]);
        command.args(["--acknowledge", "--batch", &batch.to_string(), "--skip", &stored.to_string()]);
        let mut child = start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()));
        let stdout = BufReader::new(child.stdout.take().unwrap());
        let reader = std::thread::spawn(move || {
            let numbers = stdout
                .lines()
                .map_while(Result::ok)
                .filter_map(|line| line.strip_prefix("acknowledged ")?.parse().ok());
            numbers.last().unwrap_or(0)
        });
        let wait = Duration::from_micros(random(120_000));
        let start = Instant::now();
        while start.elapsed() < wait {
            std::thread::sleep(Duration::from_micros(200));
        }
        child.kill().unwrap();
        let status = child.wait().unwrap();
        let acknowledged: u64 = reader.join().unwrap();
        killed += u32::from(!status.success());
        assert!(status.code().is_none_or(|code| code == 0), "round {round}: {status}");

        if !place.store.exists() {
            assert_eq!(acknowledged, 0);
            continue;
        }
        // If the import was killed before the store was complete, the store is created here. It
        // must not begin with a later time than the lines have.
        let store = place.open_with(Options::new().clock(|| Timestamp::from_nanos(0)));
        torn += u32::from(store.open_report().cut.is_some());
        let found = check(&store, timed);
        store.close().unwrap();
        assert!(found >= acknowledged, "round {round}: {acknowledged} were acknowledged, {found} are there");
        assert!(found >= stored, "round {round}: {stored} were there, {found} are");
        assert!(
            is_boundary(found, stored, batch, timed),
            "round {round}: {found} is not the end of a commit of {batch}, from {stored}"
        );
        acknowledged_in_all += acknowledged.saturating_sub(stored);
        stored = found;
    }
    println!(
        "{rounds} rounds, {killed} killed at work, {stores} stores, {torn} torn tails cut, {acknowledged_in_all} \
            events acknowledged: all there, \
         whole commits only"
    );
}
