//! The simulator at scale: crash points times images, crashes of recoveries, failing calls, random
//! schedules, every flipped bit, every set byte, every truncation. Ends with a scorecard.
//!
//! ```sh
//! cargo run --release -p annals-campaign                         # all of it, with a minute of random schedules
//! cargo run --release -p annals-campaign -- --only schedules --minutes 30 --seed 7
//! cargo run --release -p annals-campaign -- --case 123456        # one random schedule again, as a violation has named it
//! ```
//!
//! What is done to a workload, and the oracle, are those of `tests/crash`. The scripts in
//! `crates/annals-campaign/scripts` do on a real system what can be done there.

mod damage;
mod pool;
mod salvage;
mod settings;
mod stale;

use annals_testkit::crash::oracle::{Step, workloads};
use annals_testkit::crash::{holds, pages, schedules, sweeps};
use damage::{Damage, Done};
use pool::{Case, Pool};
use settings::Settings;
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// The name of a harness, what it counts, and what it runs.
type Harness = (&'static str, &'static str, fn(&Settings, &Pool));

const HARNESSES: &[Harness] = &[
    ("deaths", "images of a death at each call", |settings, pool| sweep(settings, pool, sweeps::deaths)),
    ("recoveries", "images of crashed recoveries, two deep", |settings, pool| {
        sweep(&settings.up_to(2), pool, |steps| sweeps::crashed_recoveries(steps, 2));
    }),
    ("calls", "images after a failed call", |settings, pool| sweep(settings, pool, sweeps::failed_calls)),
    ("syncs", "images after a failed sync", |settings, pool| sweep(settings, pool, sweeps::failed_syncs)),
    ("full", "images of a full disk", |settings, pool| sweep(settings, pool, sweeps::full_disks)),
    ("unsynced", "images of a store that does not sync", |settings, pool| {
        sweep(settings, pool, sweeps::without_syncs);
    }),
    ("schedules", "images of random schedules", |settings, pool| at_random(settings, pool, schedules::run)),
    ("holds", "cases of two threads, one of them held at a call", |settings, pool| {
        at_random(settings, pool, holds::run);
    }),
    ("pages", "pages that cannot be read", |settings, pool| at_random(settings, pool, pages::run)),
    ("stale", "commits of another history behind the last one", stale::run),
    ("bits", "flipped bits of a store of 64 KiB", |settings, pool| {
        damage::run(settings, pool, Damage::Bits, Done::Opened)
    }),
    ("bytes", "bytes of a store of 1 MiB set to 0, 255 and a random value", |settings, pool| {
        damage::run(settings, pool, Damage::Bytes, Done::Opened);
    }),
    ("lengths", "lengths of the segments of a store of 64 KiB, with four fills", |settings, pool| {
        damage::run(settings, pool, Damage::Lengths, Done::Opened);
    }),
    ("salvage-bits", "flipped bits of a store of 64 KiB, salvaged", |settings, pool| {
        damage::run(settings, pool, Damage::Bits, Done::Salvaged);
    }),
    ("salvage-bytes", "bytes of a store of 1 MiB set to 0, 255 and a random value, salvaged", |settings, pool| {
        damage::run(settings, pool, Damage::Bytes, Done::Salvaged);
    }),
];

fn main() -> ExitCode {
    let settings = match Settings::from_arguments(std::env::args().skip(1)) {
        Ok(settings) => settings,
        Err(help) => {
            eprintln!("{help}");
            return ExitCode::from(2);
        }
    };
    if let Some(case) = settings.case {
        let run = match settings.only.first().map_or("schedules", String::as_str) {
            "holds" => holds::run,
            "pages" => pages::run,
            _ => {
                println!("{:#?}", schedules::schedule(&mut schedules::Random(case)));
                schedules::run
            }
        };
        println!("{} cases, no violation", run(case));
        return ExitCode::SUCCESS;
    }
    pool::quiet_panics();
    println!("seed {}, {} threads, workloads of up to {} steps\n", settings.seed, settings.threads, settings.steps);
    let mut violations = 0;
    for &(name, what, run) in HARNESSES.iter().filter(|(name, ..)| settings.runs(name)) {
        let (pool, started) = (Pool::new(settings.threads), Instant::now());
        run(&settings, &pool);
        let (took, cases) = (started.elapsed(), pool.cases());
        let rate = cases as f64 / took.as_secs_f64();
        println!("{name:<13} {cases:>12} {what}; {took:.1?}, {rate:.0}/s; violations: {}", pool.violations());
        for (told, times) in pool.outcomes() {
            println!("{:<13} {times:>12} {told}", "");
        }
        violations += pool.violations();
    }
    println!("\n{violations} violations");
    if violations == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Runs a sweep on all workloads.
fn sweep(settings: &Settings, pool: &Pool, each: impl Fn(&[Step]) -> u64 + Sync) {
    let all = workloads(settings.steps);
    pool.run(all.len() as u64, |n| {
        let steps = &all[n as usize];
        Case { name: format!("{steps:?}"), run: Box::new(|| (each(steps), "")) }
    });
}

/// Cases that each follow from a number, until the time or the number of images is spent.
fn at_random(settings: &Settings, pool: &Pool, run: fn(u64) -> u64) {
    let (end, most) = (Instant::now() + Duration::from_secs_f64(settings.minutes * 60.0), settings.images);
    pool.run_while(
        || most.map_or(Instant::now() < end, |most| pool.cases() < most),
        |n| {
            // Campaigns with neighbouring seeds do not overlap.
            let seed = schedules::Random(settings.seed ^ n.wrapping_mul(0xD134_2543_DE82_EF95)).next();
            Case { name: format!("--case {seed}"), run: Box::new(move || (run(seed), "")) }
        },
    );
}
