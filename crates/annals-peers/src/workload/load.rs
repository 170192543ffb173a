//! Makes a data set for the workloads that read, and W8: what it takes on the disk.
//!
//! The events go to the streams in turn, 1,000 a durable commit. What a crash leaves is copied
//! before the store is closed: a kill at this moment would leave exactly these files, as the system
//! keeps what a process has written.

use crate::engine::Options;
use crate::engines;
use crate::events::{CONTENT, Event, Events, Stream, Sum};
use crate::measure::{Figures, allocated, quiesce};
use anyhow::{Context, Result};
use clap::Args;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

const BATCH: u64 = 1000;

#[derive(Args)]
pub struct Load {
    /// Where to make it. What is there is removed.
    #[arg(long)]
    dir: PathBuf,
    #[arg(long, default_value_t = 1_000_000)]
    events: u64,
    /// Give each event one of so many tags.
    #[arg(long, default_value_t = 0)]
    tags: u64,
    /// Put what a kill would have left before the store was closed into `<dir>-crashed`.
    #[arg(long)]
    crashed: bool,
}

/// What stands in a data set.
pub struct Facts {
    pub streams: u64,
    pub tags: u64,
    /// Of all events.
    pub sum: Sum,
}

impl Facts {
    fn path(dir: &Path) -> PathBuf {
        dir.with_extension("facts")
    }

    pub fn read(dir: &Path) -> Result<Self> {
        let text = fs::read_to_string(Self::path(dir))?;
        let numbers: Vec<u64> = text.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        let [streams, tags, events, words] = numbers[..] else { anyhow::bail!("four numbers are expected: {text}") };
        Ok(Facts { streams, tags, sum: Sum { events, words } })
    }

    fn write(&self, dir: &Path) -> Result<()> {
        let Facts { streams, tags, sum } = self;
        Ok(fs::write(Self::path(dir), format!("{streams} {tags} {} {}\n", sum.events, sum.words))?)
    }
}

pub fn run(engine: &str, arguments: &Load) -> Result<Figures> {
    let Load { dir, events: count, tags, .. } = arguments;
    let crashed = crashed(dir);
    engines::clear(dir)?;
    if arguments.crashed {
        engines::clear(&crashed)?;
    }
    let options = Options { dir: dir.clone(), durable: true, threads: 1, batch: BATCH, kept: true, subscribed: false };
    let store = engines::open(engine, &options)?;
    let mut session = store.session()?;
    let events = Events::tagged(*tags);
    // Streams of 100 events each, and so many that no commit comes to one twice.
    let streams: Vec<Stream> = (0..(count / 100).max(BATCH)).map(Stream::new).collect();
    let mut facts = Facts { streams: streams.len() as u64, tags: *tags, sum: Sum::default() };
    let event = |n: u64| events.event(n, &streams[(n % facts.streams) as usize], n / facts.streams);
    let started = Instant::now();
    for first in (0..*count).step_by(BATCH as usize) {
        let batch: Vec<Event<'_>> = (first..(first + BATCH).min(*count)).map(event).collect();
        session.commit(&batch)?;
        batch.iter().for_each(|event| facts.sum.add(event.event_type.as_bytes(), event.metadata, event.data));
    }
    let took = started.elapsed().as_secs_f64();
    if arguments.crashed {
        copy(dir, &crashed).context("copying what a kill would leave")?;
    }
    drop(session);
    store.close()?;
    quiesce();
    facts.write(dir)?;
    let bytes = allocated(dir) as f64 / *count as f64;
    Ok(vec![("loaded_per_second", *count as f64 / took), ("bytes", bytes), ("content", CONTENT as f64)])
}

/// Where what a kill leaves is put.
fn crashed(dir: &Path) -> PathBuf {
    let mut name = dir.as_os_str().to_owned();
    name.push("-crashed");
    name.into()
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let (entry, to) = (entry?, to);
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &to)?,
            false => fs::copy(entry.path(), &to).map(|_| ())?,
        }
    }
    Ok(())
}
