//! W6: whole streams at random, and the newest event of one.

use super::Set;
use crate::engines;
use crate::events::{Random, Stream, Sum};
use crate::measure::{Figures, Latencies};
use anyhow::{Result, ensure};
use clap::Args;
use std::time::{Duration, Instant};

const MOST: u64 = 20_000;

#[derive(Args)]
pub struct Streams {
    #[command(flatten)]
    set: Set,
    /// The longest that each of both reads.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

pub fn run(engine: &str, arguments: &Streams) -> Result<Figures> {
    let store = engines::open(engine, &arguments.set.options())?;
    let facts = arguments.set.facts()?;
    let each = facts.sum.events / facts.streams;
    let mut session = store.session()?;
    let streams: Vec<Stream> = (0..facts.streams).map(Stream::new).collect();
    for stream in streams.iter().step_by(10) {
        session.stream(stream, &mut Sum::default())?;
    }
    let mut measure = |seed, newest: bool| -> Result<(f64, Latencies)> {
        let (mut random, mut sum, mut latencies) = (Random::new(seed), Sum::default(), Latencies::default());
        let (started, mut reads) = (Instant::now(), 0);
        let time = Duration::from_secs_f64(arguments.seconds);
        let mut before = started;
        while reads < MOST && before - started < time {
            let stream = &streams[random.below(facts.streams) as usize];
            match newest {
                true => session.newest(stream, &mut sum)?,
                false => session.stream(stream, &mut sum)?,
            }
            let now = Instant::now();
            latencies.push(now - before);
            (before, reads) = (now, reads + 1);
        }
        ensure!(sum.events == if newest { reads } else { reads * each }, "{} events in {reads} reads", sum.events);
        Ok((sum.events as f64 / (before - started).as_secs_f64(), latencies))
    };
    let (per_second, mut whole) = measure(1, false)?;
    let (_, mut newest) = measure(3, true)?;
    drop(session);
    store.close()?;
    Ok(vec![
        ("per_second", per_second),
        ("p50_us", whole.quantile(0.5)),
        ("newest_p50_us", newest.quantile(0.5)),
        ("newest_p99_us", newest.quantile(0.99)),
    ])
}
