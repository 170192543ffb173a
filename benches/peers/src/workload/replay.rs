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
}

pub fn run(engine: &str, arguments: &Replay) -> Result<Figures> {
    let facts = arguments.set.facts()?;
    let store = engines::open(engine, &arguments.set.options())?;
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
    let (started, processor) = (Instant::now(), processor_seconds());
    let sum = read()?;
    let (took, processor) = (started.elapsed().as_secs_f64(), processor_seconds() - processor);
    ensure!(sum == facts.sum, "something else is read than was written");
    drop(sessions);
    store.close()?;
    Ok(vec![("per_second", events as f64 / took), ("processor_us", processor * 1e6 / events as f64)])
}
