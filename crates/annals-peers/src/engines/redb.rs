//! redb: a table of events by position, and one of positions by stream and sequence.
//! `Durability::Immediate`, or `None` where nothing is to be synced.

use super::key_value::{add, key, number, value};
use crate::engine::{Engine, Options, Session};
use crate::events::{Event, Stream, Sum};
use anyhow::{Result, ensure};
use redb::{Database, Durability, ReadableDatabase, ReadableTable, TableDefinition};
use std::ops::Range;
use std::sync::Arc;

const EVENTS: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("events");
const STREAMS: TableDefinition<'_, &[u8], u64> = TableDefinition::new("streams");

pub struct Redb(RedbSession);

#[derive(Clone)]
struct RedbSession {
    database: Arc<Database>,
    durability: Durability,
}

impl Redb {
    pub fn open(options: &Options) -> Result<Self> {
        let database = Database::create(options.dir.join("events.redb"))?;
        let transaction = database.begin_write()?;
        transaction.open_table(EVENTS)?;
        transaction.open_table(STREAMS)?;
        transaction.commit()?;
        let durability = if options.durable { Durability::Immediate } else { Durability::None };
        Ok(Redb(RedbSession { database: Arc::new(database), durability }))
    }
}

impl Engine for Redb {
    fn session(&self) -> Result<Box<dyn Session>> {
        Ok(Box::new(self.0.clone()))
    }
}

impl Session for RedbSession {
    fn commit(&mut self, new: &[Event<'_>]) -> Result<()> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(self.durability)?;
        {
            let mut events = transaction.open_table(EVENTS)?;
            let mut streams = transaction.open_table(STREAMS)?;
            let mut position = events.last()?.map_or(0, |(position, _)| position.value() + 1);
            let (mut from, mut to, mut bytes) = (Vec::new(), Vec::new(), Vec::new());
            for run in new.chunk_by(|a, b| a.stream.number == b.stream.number) {
                key(run[0].stream, 0, &mut from);
                key(run[0].stream, u64::MAX, &mut to);
                let newest = streams.range(&*from..=&*to)?.next_back().transpose()?;
                let next = newest.map_or(0, |(key, _)| number(key.value()) + 1);
                ensure!(next == run[0].sequence, "a conflict");
                for event in run {
                    value(event, &mut bytes);
                    key(event.stream, event.sequence, &mut from);
                    events.insert(position, &*bytes)?;
                    streams.insert(&*from, position)?;
                    position += 1;
                }
            }
        }
        Ok(transaction.commit()?)
    }

    fn replay(&mut self, positions: Range<u64>, sum: &mut Sum) -> Result<()> {
        let events = self.database.begin_read()?.open_table(EVENTS)?;
        for entry in events.range(positions)? {
            add(sum, entry?.1.value());
        }
        Ok(())
    }

    fn stream(&mut self, stream: &Stream, sum: &mut Sum) -> Result<()> {
        self.read(stream, usize::MAX, false, sum)
    }

    fn newest(&mut self, stream: &Stream, sum: &mut Sum) -> Result<()> {
        self.read(stream, 1, true, sum)
    }
}

impl RedbSession {
    fn read(&self, stream: &Stream, limit: usize, backwards: bool, sum: &mut Sum) -> Result<()> {
        let transaction = self.database.begin_read()?;
        let (events, streams) = (transaction.open_table(EVENTS)?, transaction.open_table(STREAMS)?);
        let (mut from, mut to) = (Vec::new(), Vec::new());
        key(stream, 0, &mut from);
        key(stream, u64::MAX, &mut to);
        let mut entries = streams.range(&*from..=&*to)?;
        let entries = std::iter::from_fn(|| if backwards { entries.next_back() } else { entries.next() });
        for entry in entries.take(limit) {
            let event = events.get(entry?.1.value())?;
            add(sum, event.expect("the event of an entry").value());
        }
        Ok(())
    }
}
