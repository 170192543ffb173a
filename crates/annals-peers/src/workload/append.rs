//! W1 to W4: threads that commit over and over, each to streams of its own.

use crate::engine::{Options, Session};
use crate::engines;
use crate::events::{Event, Events, Stream};
use crate::measure::{Figures, Latencies, device_flushes, processor_seconds, quiesce};
use anyhow::Result;
use clap::Args;
use std::path::PathBuf;
use std::sync::Barrier;
use std::time::{Duration, Instant};

#[derive(Args)]
pub struct Append {
    /// A directory to work in, which is emptied before and removed afterwards.
    #[arg(long)]
    dir: PathBuf,
    #[arg(long, default_value_t = 1)]
    threads: u64,
    /// Events a commit.
    #[arg(long, default_value_t = 1)]
    batch: u64,
    /// Leave syncing to the operating system.
    #[arg(long)]
    unsynced: bool,
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// End after so many commits of each thread, too.
    #[arg(long, default_value_t = u64::MAX)]
    commits: u64,
}

pub fn run(engine: &str, arguments: &Append) -> Result<Figures> {
    let Append { threads, batch, .. } = *arguments;
    engines::clear(&arguments.dir)?;
    quiesce();
    let dir = arguments.dir.clone();
    let options = Options { dir, durable: !arguments.unsynced, threads, batch, kept: false, subscribed: false };
    let store = engines::open(engine, &options)?;
    let events = Events::new();
    // A thread alone goes round 1,000 streams; one of many has one.
    let streams_each = if threads == 1 && batch == 1 { 1000 } else { 1 };
    let mut writers = Vec::new();
    for thread in 0..threads {
        let streams = (thread * streams_each..(thread + 1) * streams_each).map(Stream::new).collect();
        let mut writer = Writer { session: store.session()?, events: &events, streams, batch, commits: 0 };
        // The first commit may make files and tables.
        if arguments.commits > 0 {
            writer.commit()?;
        }
        writers.push(writer);
    }

    let time = Duration::from_secs_f64(arguments.seconds);
    let flushes = || device_flushes(&arguments.dir);
    let (processor, flushes_before) = (processor_seconds(), flushes());
    let barrier = &Barrier::new(writers.len());
    let done: Vec<Result<(Duration, Latencies, u64)>> = std::thread::scope(|scope| {
        let repeat = |writer| scope.spawn(move || repeat(writer, barrier, time, arguments.commits));
        let handles: Vec<_> = writers.into_iter().map(repeat).collect();
        handles.into_iter().map(|handle| handle.join().expect("no thread panics")).collect()
    });
    let (processor, flushes_after) = (processor_seconds() - processor, flushes());

    let (mut took, mut latencies, mut commits) = (Duration::ZERO, Latencies::default(), 0);
    for thread in done {
        let (time, times, count) = thread?;
        (took, commits) = (took.max(time), commits + count);
        latencies.join(times);
    }
    store.close()?;
    engines::clear(&arguments.dir)?;
    let count = (commits * batch) as f64;
    let mut figures = vec![
        ("per_second", count / took.as_secs_f64()),
        ("p50_us", latencies.quantile(0.5)),
        ("p99_us", latencies.quantile(0.99)),
        ("processor_us", processor * 1e6 / count),
    ];
    if let (Some(before), Some(after)) = (flushes_before, flushes_after) {
        figures.push(("flushes", (after - before) as f64 / commits as f64));
    }
    Ok(figures)
}

fn repeat(mut writer: Writer<'_>, barrier: &Barrier, time: Duration, most: u64) -> Result<(Duration, Latencies, u64)> {
    let (mut latencies, mut commits) = (Latencies::default(), 0);
    barrier.wait();
    let started = Instant::now();
    let mut before = started;
    while commits < most && before - started < time {
        writer.commit()?;
        let now = Instant::now();
        latencies.push(now - before);
        before = now;
        commits += 1;
    }
    Ok((before - started, latencies, commits))
}

/// A thread's appends, to its own streams in turn.
struct Writer<'a> {
    session: Box<dyn Session>,
    events: &'a Events,
    streams: Vec<Stream>,
    batch: u64,
    commits: u64,
}

impl Writer<'_> {
    fn commit(&mut self) -> Result<()> {
        let streams = self.streams.len() as u64;
        let stream = &self.streams[(self.commits % streams) as usize];
        let stored = self.commits / streams * self.batch;
        let first = self.commits * self.batch;
        let events: Vec<Event<'_>> =
            (0..self.batch).map(|n| self.events.event(first + n, stream, stored + n)).collect();
        self.session.commit(&events)?;
        self.commits += 1;
        Ok(())
    }
}
