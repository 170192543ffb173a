//! raft-engine: a log of many regions, here one for each stream. It refuses no conflict and has no
//! order over all; what is written so is also held in memory, and read from there.

use super::key_value::{add, value};
use crate::engine::{Engine, Options, Session, not_offered};
use crate::events::{Event, Stream, Sum};
use anyhow::{Context, Result};
use raft_engine::{Config, LogBatch};
use std::ops::Range;
use std::sync::Arc;

pub struct RaftEngine(RaftSession);

#[derive(Clone)]
struct RaftSession {
    engine: Arc<raft_engine::Engine>,
    durable: bool,
}

impl RaftEngine {
    pub fn open(options: &Options) -> Result<Self> {
        let dir = options.dir.to_str().context("a directory with a name of text")?.to_owned();
        let engine = Arc::new(raft_engine::Engine::open(Config { dir, ..Config::default() })?);
        Ok(RaftEngine(RaftSession { engine, durable: options.durable }))
    }
}

impl Engine for RaftEngine {
    fn session(&self) -> Result<Box<dyn Session>> {
        Ok(Box::new(self.0.clone()))
    }
}

/// Region 0 is none.
fn region(stream: &Stream) -> u64 {
    stream.number + 1
}

impl Session for RaftSession {
    fn commit(&mut self, events: &[Event<'_>]) -> Result<()> {
        let mut batch = LogBatch::with_capacity(events.len());
        for event in events {
            let mut bytes = Vec::with_capacity(512);
            value(event, &mut bytes);
            batch.put(region(event.stream), event.sequence.to_be_bytes().to_vec(), bytes)?;
        }
        self.engine.write(&mut batch, self.durable)?;
        Ok(())
    }

    fn replay(&mut self, _: Range<u64>, _: &mut Sum) -> Result<()> {
        not_offered("no order over all streams")
    }

    fn stream(&mut self, stream: &Stream, sum: &mut Sum) -> Result<()> {
        self.read(stream, false, sum)
    }

    fn newest(&mut self, stream: &Stream, sum: &mut Sum) -> Result<()> {
        self.read(stream, true, sum)
    }
}

impl RaftSession {
    fn read(&self, stream: &Stream, newest: bool, sum: &mut Sum) -> Result<()> {
        self.engine.scan_raw_messages(region(stream), None, None, newest, |_, event| {
            add(sum, event);
            !newest
        })?;
        Ok(())
    }
}
