//! fjall: keyspaces of events by position, of positions by stream and sequence, and of where each
//! stream ends. A batch a commit, with `PersistMode::SyncData`, or `Buffer` where nothing is to be
//! synced. Batches do not detect conflicts, so writers to one stream exclude one another here.

use super::key_value::{add, key, number, value};
use crate::engine::{Engine, Options, Session};
use crate::events::{Event, Stream, Sum};
use anyhow::{Context, Result, ensure};
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

pub struct Fjall(Arc<Shared>);

struct Shared {
    database: Database,
    events: Keyspace,
    streams: Keyspace,
    ends: Keyspace,
    next: AtomicU64,
    locks: Vec<Mutex<()>>,
    mode: PersistMode,
}

impl Fjall {
    pub fn open(options: &Options) -> Result<Self> {
        // The cache holds all that is read.
        let database = Database::builder(&options.dir).cache_size(1 << 30).open()?;
        let keyspace = |name| database.keyspace(name, KeyspaceCreateOptions::default);
        let (events, streams, ends) = (keyspace("events")?, keyspace("streams")?, keyspace("ends")?);
        let newest = events.last_key_value().map(|entry| entry.key()).transpose()?;
        let next = AtomicU64::new(newest.map_or(0, |key| number(&key) + 1));
        let locks = (0..1024).map(|_| Mutex::new(())).collect();
        let mode = if options.durable { PersistMode::SyncData } else { PersistMode::Buffer };
        Ok(Fjall(Arc::new(Shared { database, events, streams, ends, next, locks, mode })))
    }
}

impl Engine for Fjall {
    fn session(&self) -> Result<Box<dyn Session>> {
        Ok(Box::new(FjallSession(self.0.clone())))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.0.database.persist(PersistMode::SyncAll)?)
    }
}

struct FjallSession(Arc<Shared>);

impl Session for FjallSession {
    fn commit(&mut self, new: &[Event<'_>]) -> Result<()> {
        let Shared { database, events, streams, ends, next, locks, mode } = &*self.0;
        // Commits to several streams come from one thread.
        let _lock = new.first().map(|event| locks[event.stream.number as usize % locks.len()].lock());
        let mut batch = database.batch().durability(Some(*mode));
        let mut position = next.fetch_add(new.len() as u64, Relaxed);
        let (mut place, mut bytes) = (Vec::new(), Vec::new());
        for run in new.chunk_by(|a, b| a.stream.number == b.stream.number) {
            let name = run[0].stream.name.as_bytes();
            let end = ends.get(name)?.map_or(0, |end| number(&end));
            ensure!(end == run[0].sequence, "a conflict");
            for event in run {
                value(event, &mut bytes);
                key(event.stream, event.sequence, &mut place);
                batch.insert(events, position.to_be_bytes(), &*bytes);
                batch.insert(streams, &*place, position.to_be_bytes());
                position += 1;
            }
            batch.insert(ends, name, (end + run.len() as u64).to_be_bytes());
        }
        Ok(batch.commit()?)
    }

    fn replay(&mut self, positions: Range<u64>, sum: &mut Sum) -> Result<()> {
        for entry in self.0.events.range(positions.start.to_be_bytes()..positions.end.to_be_bytes()) {
            add(sum, &entry.value()?);
        }
        Ok(())
    }

    fn stream(&mut self, stream: &Stream, sum: &mut Sum) -> Result<()> {
        let (mut from, mut to) = (Vec::new(), Vec::new());
        key(stream, 0, &mut from);
        key(stream, u64::MAX, &mut to);
        for entry in self.0.streams.range(&*from..=&*to) {
            self.add(&entry.value()?, sum)?;
        }
        Ok(())
    }

    fn newest(&mut self, stream: &Stream, sum: &mut Sum) -> Result<()> {
        let end = self.0.ends.get(&stream.name)?.context("the stream is there")?;
        let mut place = Vec::new();
        key(stream, number(&end) - 1, &mut place);
        self.add(&self.0.streams.get(&place)?.context("the newest event has an entry")?, sum)
    }
}

impl FjallSession {
    fn add(&self, position: &[u8], sum: &mut Sum) -> Result<()> {
        add(sum, &self.0.events.get(position)?.context("the event of an entry")?);
        Ok(())
    }
}
