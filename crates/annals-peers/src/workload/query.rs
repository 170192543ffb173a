//! W10: events by tag and type, and durable appends on the condition that a query finds nothing in
//! the whole store.
//!
//! The condition names a tag that events have and a type that none has, so that it holds, and no
//! engine can tell by the tag alone. What is appended has no tag: it makes later conditions no
//! harder.

use super::Set;
use crate::engines;
use crate::events::{ABSENT_TYPE, Events, Random, Stream, Sum, wanted};
use crate::measure::{Figures, Latencies};
use anyhow::{Result, ensure};
use clap::Args;
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Query {
    #[command(flatten)]
    set: Set,
    /// How long each of both lasts.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

pub fn run(engine: &str, arguments: &Query) -> Result<Figures> {
    let store = engines::open(engine, &arguments.set.options())?;
    let mut session = store.session()?;
    // An engine without queries has no data set to ask.
    session.find(&wanted(&mut Random::new(1), 1, None), &mut Sum::default())?;
    let facts = arguments.set.facts()?;
    ensure!(facts.tags > 0, "the data set has no tags");
    let time = Duration::from_secs_f64(arguments.seconds);

    let (mut random, mut sum) = (Random::new(5), Sum::default());
    for _ in 0..1000 {
        session.find(&wanted(&mut random, facts.tags, None), &mut sum)?;
    }
    let (mut found, mut sum) = (Latencies::default(), Sum::default());
    let started = Instant::now();
    while started.elapsed() < time {
        let wanted = wanted(&mut random, facts.tags, None);
        let before = Instant::now();
        session.find(&wanted, &mut sum)?;
        found.push(before.elapsed());
    }
    let (queries, took) = (found.len() as f64, started.elapsed().as_secs_f64());
    ensure!(sum.events > 0, "queries find events");

    let (events, stream) = (Events::new(), Stream::new(facts.streams));
    let mut guarded = Latencies::default();
    let started = Instant::now();
    for n in 0.. {
        if started.elapsed() >= time {
            break;
        }
        let absent = wanted(&mut random, facts.tags, Some(ABSENT_TYPE));
        let event = events.event(n, &stream, n);
        let before = Instant::now();
        session.commit_if_absent(&event, &absent)?;
        guarded.push(before.elapsed());
    }
    drop(session);
    store.close()?;
    Ok(vec![
        ("find_p50_us", found.quantile(0.5)),
        ("find_p99_us", found.quantile(0.99)),
        ("found_each", sum.events as f64 / queries),
        ("found_per_second", sum.events as f64 / took),
        ("guarded_p50_us", guarded.quantile(0.5)),
        ("guarded_p99_us", guarded.quantile(0.99)),
    ])
}
