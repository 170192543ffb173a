//! A writer for the scripts in `crates/annals-campaign/scripts`: it appends without end and logs
//! the outcome of each commit; and the check of the store against the log afterwards.
//!
//! ```text
//! annals-workload write DIR SEGMENT-SIZE SECONDS   lines: acknowledged|refused|unknown FROM END ATTEMPT
//! annals-workload check DIR LOG
//! ```
//!
//! Each event has its position and the attempt that it was written in, so that a refused commit
//! that has come back is told from the one that was tried again.

use annals::{Error, Expected, NewEvent, Options, Store, StreamId};
use std::collections::BTreeMap;
use std::fs;
use std::io::{Write, stdout};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", dir, segment_size, seconds] => {
            let (Ok(segment_size), Ok(seconds)) = (segment_size.parse(), seconds.parse()) else { return usage() };
            write(Path::new(dir), segment_size, Duration::from_secs(seconds))
        }
        ["check", dir, log] => check(Path::new(dir), Path::new(log)),
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("annals-workload write DIR SEGMENT-SIZE SECONDS | check DIR LOG");
    ExitCode::from(2)
}

fn data(position: u64, attempt: u64) -> String {
    format!("{position} {attempt} {}", "x".repeat((position * 37 % 900) as usize))
}

fn stream(position: u64) -> StreamId {
    StreamId::new("s", format!("{}", position % 13)).expect("a good name")
}

/// Opens the store, repeatedly for some seconds if calls fail.
fn open(dir: &Path, segment_size: u64) -> Result<Store, Error> {
    let begin = Instant::now();
    loop {
        // No reserve: the disk must be completely full.
        match Options::new().segment_size(segment_size).reserve(0).open(dir) {
            Err(Error::Io { .. } | Error::DiskFull { .. }) if begin.elapsed() < Duration::from_secs(20) => {
                std::thread::sleep(Duration::from_millis(20));
            }
            other => return other,
        }
    }
}

fn write(dir: &Path, segment_size: u64, time: Duration) -> ExitCode {
    let (begin, mut attempt) = (Instant::now(), 0);
    let mut store = match open(dir, segment_size) {
        Ok(store) => store,
        Err(error) => return failed(&format!("open: {error}")),
    };
    while begin.elapsed() < time {
        attempt += 1;
        let from = store.len();
        let end = from + 1 + from % 4;
        let events: Vec<_> = (from..end).map(|position| (stream(position), data(position, attempt))).collect();
        let transaction = events.iter().fold(store.transaction(), |transaction, (stream, data)| {
            transaction.append(stream, Expected::Any, [NewEvent::new("Written", data).tag("all")])
        });
        let result = transaction.commit();
        let word = match &result {
            Ok(_) => "acknowledged",
            Err(Error::DurabilityUnknown { .. }) => "unknown",
            Err(_) => "refused",
        };
        if let Err(error) = writeln!(stdout(), "{word} {from} {end} {attempt}") {
            return failed(&format!("the log: {error}"));
        }
        match result {
            Ok(_) => {}
            Err(Error::Io { .. } | Error::DiskFull { .. }) => std::thread::sleep(Duration::from_millis(2)),
            Err(Error::DurabilityUnknown { .. }) => {
                drop(store);
                store = match open(dir, segment_size) {
                    Ok(store) => store,
                    Err(error) => return failed(&format!("open after a failed sync: {error}")),
                };
            }
            Err(error) => return failed(&format!("append: {error}")),
        }
    }
    ExitCode::SUCCESS
}

fn failed(what: &str) -> ExitCode {
    eprintln!("{what}");
    ExitCode::FAILURE
}

fn check(dir: &Path, log: &Path) -> ExitCode {
    match compare(dir, log) {
        Ok(told) => {
            println!("{told}");
            ExitCode::SUCCESS
        }
        Err(what) => failed(&what),
    }
}

/// Compares the store with the log: acknowledged commits are there, refused ones are not, and every
/// commit is complete.
fn compare(dir: &Path, log: &Path) -> Result<String, String> {
    let text = fs::read_to_string(log).map_err(|e| format!("{}: {e}", log.display()))?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    // A commit may be refused under a number under which another one was written before the process
    // died: the last entry counts.
    let mut said: BTreeMap<(u64, u64), (&str, u64)> = BTreeMap::new();
    let mut acknowledged = 0;
    for line in whole.lines() {
        let words: Vec<&str> = line.split(' ').collect();
        let [word, from, end, attempt] = words[..] else { return Err(format!("the log has the line {line:?}")) };
        let number = |word: &str| word.parse::<u64>().map_err(|e| format!("{line:?}: {e}"));
        let (from, end, attempt) = (number(from)?, number(end)?, number(attempt)?);
        said.insert((from, attempt), (word, end));
        acknowledged = acknowledged.max(if word == "acknowledged" { end } else { 0 });
    }
    let store = Options::new().reserve(0).open(dir).map_err(|e| format!("open: {e}"))?;
    let mut found = Vec::new();
    for event in store.read_all() {
        let event = event.map_err(|e| format!("read: {e}"))?;
        let position = found.len() as u64;
        let text = String::from_utf8_lossy(event.data()).into_owned();
        let attempt = text.split(' ').nth(1).and_then(|attempt| attempt.parse().ok());
        let attempt = attempt.ok_or_else(|| format!("event {position} says {text:?}"))?;
        if event.position() != position || event.stream() != stream(position) || text != data(position, attempt) {
            return Err(format!("event {position} is {event:?}"));
        }
        found.push(attempt);
    }
    if (found.len() as u64) < acknowledged {
        return Err(format!("{acknowledged} events were acknowledged, {} are there", found.len()));
    }
    for (&(from, attempt), &(word, end)) in &said {
        let of_it = (from..end).filter(|&position| found.get(position as usize) == Some(&attempt)).count() as u64;
        let right = match word {
            "acknowledged" => of_it == end - from,
            "refused" => of_it == 0,
            _ => of_it == 0 || of_it == end - from,
        };
        if !right {
            return Err(format!(
                "commit {from}..{end} in attempt {attempt} was {word}, and {of_it} of its events are there"
            ));
        }
    }
    let report = store.open_report();
    let cut = report
        .cut
        .as_ref()
        .map_or(String::new(), |cut| format!(", a torn tail of {} bytes cut", cut.bytes.end - cut.bytes.start));
    let count = |word: &str| said.values().filter(|(said, _)| *said == word).count();
    let (refused, unknown) = (count("refused"), count("unknown"));
    let told = format!(
        "{} events there, {acknowledged} acknowledged, {refused} commits refused, {unknown} unknown{cut}",
        found.len()
    );
    store.close().map_err(|e| format!("close: {e}"))?;
    let report = annals::offline::verify(dir).map_err(|e| format!("verify: {e}"))?;
    if !report.is_sound() || report.torn.is_some() {
        return Err(format!("verify: {report:?}"));
    }
    Ok(told)
}
