//! W9: from the return of a durable append to the hands of a subscriber.

use crate::engine::Options;
use crate::engines;
use crate::events::{Events, Stream};
use crate::measure::{Figures, Latencies, quiesce};
use anyhow::{Result, ensure};
use clap::Args;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Subscribe {
    /// A directory to work in, which is emptied before and removed afterwards.
    #[arg(long)]
    dir: PathBuf,
    #[arg(long, default_value_t = 1000)]
    appends: u64,
}

pub fn run(engine: &str, arguments: &Subscribe) -> Result<Figures> {
    engines::clear(&arguments.dir)?;
    quiesce();
    let dir = arguments.dir.clone();
    let options = Options { dir, durable: true, threads: 1, batch: 1, kept: false, subscribed: true };
    let store = engines::open(engine, &options)?;
    let mut session = store.session()?;
    let (events, stream) = (Events::new(), Stream::new(1));
    let begun = Instant::now();
    let nanos = move || begun.elapsed().as_nanos() as u64;
    let (seen, seen_at) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (count, at) = (seen.clone(), seen_at.clone());
    store.subscribe(Box::new(move |events| {
        at.store(nanos(), SeqCst);
        count.fetch_add(events, SeqCst);
    }))?;
    std::thread::sleep(Duration::from_millis(100));
    let (mut from_return, mut from_call) = (Latencies::default(), Latencies::default());
    for n in 0..arguments.appends {
        // The subscriber is asleep again.
        std::thread::sleep(Duration::from_micros(200));
        let called = nanos();
        session.commit(&[events.event(n, &stream, n)])?;
        let returned = nanos();
        while seen.load(SeqCst) <= n {
            ensure!(nanos() - returned < 1_000_000_000, "the subscriber sees every event");
            std::hint::spin_loop();
        }
        let seen_at = seen_at.load(SeqCst);
        from_return.push(Duration::from_nanos(seen_at.saturating_sub(returned)));
        from_call.push(Duration::from_nanos(seen_at - called));
    }
    // The subscriber goes on waiting, and ends with the process.
    engines::clear(&arguments.dir)?;
    Ok(vec![
        ("p50_us", from_return.quantile(0.5)),
        ("p99_us", from_return.quantile(0.99)),
        ("from_call_p50_us", from_call.quantile(0.5)),
    ])
}
