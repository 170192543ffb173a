//! A guard against decay: the number of instructions of each operation, compared with a baseline in
//! the repository.
//!
//! ```text
//! cargo run --release -p annals-instructions -- [--accept] [FILTER …]
//! ```
//!
//! The program runs each operation under `valgrind --tool=callgrind`, a few times and many times,
//! and divides the difference by the operations in between: so neither starting up nor what is
//! loaded or built first counts. Instructions are those of the process, not of the kernel. They do
//! not depend on other load on the machine, so a change of a few percent is one of the code.
//! `--accept` rewrites the baseline; FILTER is a part of an operation's name. The profiles stay
//! where the program says, for `callgrind_annotate`.
//!
//! Fixed: the events, the clock, one thread, no maintenance thread. Not fixed: the seeds of hash
//! tables and of index files, which move the figures by less than one percent.

mod baseline;
mod operations;

use baseline::Baseline;
use operations::{OPERATIONS, Operation, Stores};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

/// The argument with which this program calls itself to do one thing under valgrind.
const DO: &str = "--do";
/// Percent above the baseline that are a failure, and below that are worth a note.
const TOLERANCE: f64 = 5.0;
/// Keeps glibc from copying and filling with string instructions, of which valgrind counts each
/// byte, and from a length that depends on the processor.
const NO_STRINGS: &str = "glibc.cpu.x86_rep_movsb_threshold=0x40000000:glibc.cpu.x86_rep_stosb_threshold=0x40000000";
const ACCEPT: &str = "cargo run --release -p annals-instructions -- --accept";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [first, name, store, times] = &arguments[..]
        && first == DO
    {
        let operation = OPERATIONS.iter().find(|operation| operation.name == name).expect("a known operation");
        (operation.run)(Path::new(store), times.parse().expect("a number"));
        return ExitCode::SUCCESS;
    }
    let (options, filters): (Vec<&str>, Vec<&str>) = arguments.iter().map(|a| &**a).partition(|a| a.starts_with('-'));
    let accept = match options[..] {
        [] => false,
        ["--accept"] if filters.is_empty() => true,
        _ => return failed("usage: annals-instructions [--accept | FILTER …]"),
    };
    let baseline = Baseline::read();
    if let Some(reason) = in_the_way(&baseline, accept) {
        return match accept {
            true => failed(&reason),
            false => skipped(&reason),
        };
    }
    let wanted = |name: &str| filters.is_empty() || filters.iter().any(|filter| name.contains(filter));
    let measured = measure(OPERATIONS.iter().filter(|operation| wanted(operation.name)), &baseline);
    if accept {
        Baseline::write(&measured);
        println!("\naccepted: {} was rewritten", baseline::FILE);
        return ExitCode::SUCCESS;
    }
    judge(&measured, &baseline)
}

fn failed(reason: &str) -> ExitCode {
    eprintln!("{reason}");
    ExitCode::FAILURE
}

fn skipped(reason: &str) -> ExitCode {
    println!("skipped: {reason}");
    ExitCode::SUCCESS
}

/// Why nothing can be measured here, or nothing be compared.
fn in_the_way(baseline: &Baseline, accept: bool) -> Option<String> {
    if cfg!(debug_assertions) {
        return Some("this is a build without --release".into());
    }
    let valgrind = Command::new("valgrind").arg("--version").output();
    if !valgrind.is_ok_and(|output| output.status.success()) {
        return Some("valgrind is not installed".into());
    }
    let here = baseline::compiler();
    (!accept && baseline.compiler != here).then(|| {
        format!(
            "the baseline is for {}, and this is {here}: another compiler makes other instructions. `{ACCEPT}` makes a \
                baseline for it",
            baseline.compiler
        )
    })
}

/// Instructions of each operation, printed as they come.
fn measure(operations: impl Iterator<Item = &'static Operation>, baseline: &Baseline) -> Vec<(&'static str, f64)> {
    let stores = Stores::build();
    let profiles = std::env::current_exe().expect("this program's path").with_file_name("instructions");
    std::fs::create_dir_all(&profiles).expect("a folder beside this program");
    println!("{:<44} {:>12} {:>12} {:>9}", "instructions", "baseline", "now", "change");
    let mut measured = Vec::new();
    for operation in operations {
        let profile = profiles.join(operation.name.replace([' ', ','], "-"));
        let [few, many] = operation.times.map(|times| instructions(operation, &stores, times, &profile));
        let done = (operation.times[1] - operation.times[0]) * operation.each;
        let now = many.saturating_sub(few) as f64 / done as f64;
        let (was, change) = match baseline.of(operation.name) {
            Some(was) => (format!("{was:.0}"), format!("{:+.1} %", percent(was, now))),
            None => ("-".to_owned(), String::new()),
        };
        println!("{:<44} {was:>12} {now:>12.0} {change:>9}", operation.name);
        measured.push((operation.name, now));
    }
    println!("profiles for callgrind_annotate: {}", profiles.display());
    measured
}

/// All instructions of a process that does an operation this many times, on a store of its own.
fn instructions(operation: &Operation, stores: &Stores, times: u64, profile: &Path) -> u64 {
    let store: PathBuf = stores.copy(operation.store, times);
    let output = Command::new("valgrind")
        .env("GLIBC_TUNABLES", NO_STRINGS)
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(std::env::current_exe().expect("this program's path"))
        .args([DO, operation.name])
        .args([store.as_os_str(), times.to_string().as_ref()])
        .output()
        .expect("valgrind can be started");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{}: {told}", operation.name);
    let collected = told.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse().ok());
    collected.unwrap_or_else(|| panic!("no count in what valgrind says: {told}"))
}

fn percent(was: f64, now: f64) -> f64 {
    (now / was - 1.0) * 100.0
}

/// More is a failure, less is worth a note: a baseline that is too high would hide the next loss.
fn judge(measured: &[(&'static str, f64)], baseline: &Baseline) -> ExitCode {
    let mut code = ExitCode::SUCCESS;
    for &(name, now) in measured {
        match baseline.of(name).map(|was| percent(was, now)) {
            None => {
                eprintln!("FAILED: `{name}` has no baseline. To make one: {ACCEPT}");
                code = ExitCode::FAILURE;
            }
            Some(change) if change > TOLERANCE => {
                eprintln!(
                    "FAILED: `{name}` takes {change:.1} % more instructions than the baseline; {TOLERANCE} % are \
                        allowed. If that is worth it, say why in the commit that has the new baseline: {ACCEPT}"
                );
                code = ExitCode::FAILURE;
            }
            Some(change) if change < -TOLERANCE => {
                println!(
                    "note: `{name}` takes {:.1} % fewer instructions. To keep what was won, lower the baseline: \
                        {ACCEPT}",
                    -change
                );
            }
            Some(_) => {}
        }
    }
    code
}
