//! W5: all events in order, every byte touched, by one thread or by several that take a part each.

use super::Set;
use crate::engines;
use crate::events::Sum;
use crate::measure::{Figures, processor_seconds};
use anyhow::{Result, ensure};
use clap::Args;
use std::time::Instant;

#[derive(Args)]
pub struct Replay {
    #[command(flatten)]
    set: Set,
    #[arg(long, default_value_t = 1)]
    threads: u64,
    /// Begin again until so much time is over.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
}

pub fn run(engine: &str, arguments: &Replay) -> Result<Figures> {
    let store = engines::open(engine, &arguments.set.options())?;
    let facts = arguments.set.facts()?;
    let mut sessions = Vec::new();
    for _ in 0..arguments.threads {
        sessions.push(store.session()?);
    }
    let (events, threads) = (facts.sum.events, arguments.threads);
    let mut read = || -> Result<Sum> {
        let parts: Vec<Result<Sum>> = std::thread::scope(|scope| {
            let started = (0..threads).zip(&mut sessions).map(|(n, session)| {
                let positions = events * n / threads..events * (n + 1) / threads;
                scope.spawn(move || {
                    let mut sum = Sum::default();
                    session.replay(positions, &mut sum).map(|()| sum)
                })
            });
            let handles: Vec<_> = started.collect();
            handles.into_iter().map(|handle| handle.join().expect("no thread panics")).collect()
        });
        let mut sum = Sum::default();
        for part in parts {
            sum.join(part?);
        }
        Ok(sum)
    };
    // Once before it counts: so it is seen to be right, and what is to be in memory is there.
    ensure!(read()? == facts.sum, "something else is read than was written");
    let (started, processor, mut passes) = (Instant::now(), processor_seconds(), 0);
    while passes == 0 || started.elapsed().as_secs_f64() < arguments.seconds {
        ensure!(read()? == facts.sum, "something else is read than was written");
        passes += 1;
    }
    let (took, processor) = (started.elapsed().as_secs_f64(), processor_seconds() - processor);
    drop(sessions);
    store.close()?;
    let count = (events * passes) as f64;
    Ok(vec![("per_second", count / took), ("processor_us", processor * 1e6 / count)])
}
