//! LMDB, by heed: a database of events by position, to which is appended, and one of positions by
//! stream and sequence. `NO_SYNC` where nothing is to be synced.
//!
//! The environment is never closed: a read of it may go on in another thread until the process
//! ends, and every commit is complete in the file.

use super::key_value::{add, key, number, value};
use crate::engine::{Engine, Options, Session};
use crate::events::{Event, Stream, Sum};
use anyhow::{Context, Result, ensure};
use heed::types::Bytes;
use heed::{CommitOrAbort, Database, Env, EnvFlags, EnvOpenOptions, PutFlags};
use std::ops::{Bound, Range};

type Table = Database<'static, Bytes, Bytes>;

#[derive(Clone, Copy)]
pub struct Lmdb {
    env: &'static Env,
    events: Table,
    streams: Table,
}

impl Lmdb {
    pub fn open(options: &Options) -> Result<Self> {
        let mut open = EnvOpenOptions::new();
        open.map_size(32 << 30).max_dbs(2).max_readers(256);
        // SAFETY: nothing else writes to the files, and not to sync loses no more than what was not
        // synced.
        let env = unsafe {
            if !options.durable {
                open.flags(EnvFlags::NO_SYNC);
            }
            open.open(&options.dir)?
        };
        let env: &'static Env = Box::leak(Box::new(env));
        let table = |name| -> Result<Table> {
            let transaction = env.write_txn()?;
            let made = env.create_databases_and_commit(transaction, |making, transaction| -> heed::Result<_> {
                let table = making.create_database::<Bytes, Bytes>(transaction, Some(name))?;
                Ok(CommitOrAbort::<_, ()>::Commit(table))
            })?;
            Ok(made.unwrap_commit())
        };
        Ok(Lmdb { env, events: table("events")?, streams: table("streams")? })
    }
}

impl Engine for Lmdb {
    fn session(&self) -> Result<Box<dyn Session>> {
        Ok(Box::new(*self))
    }
}

/// What all keys of a stream begin with.
fn prefix(stream: &Stream, key: &mut Vec<u8>) {
    key.clear();
    key.extend_from_slice(stream.name.as_bytes());
    key.push(0);
}

impl Session for Lmdb {
    fn commit(&mut self, new: &[Event<'_>]) -> Result<()> {
        let Lmdb { env, events, streams } = self;
        let mut transaction = env.write_txn()?;
        let mut position = events.last(&transaction)?.map_or(0, |(key, _)| number(key) + 1);
        let (mut place, mut bytes) = (Vec::new(), Vec::new());
        for run in new.chunk_by(|a, b| a.stream.number == b.stream.number) {
            prefix(run[0].stream, &mut place);
            let newest = streams.rev_prefix_iter(&transaction, &place)?.next().transpose()?;
            let next = newest.map_or(0, |(key, _)| number(key) + 1);
            ensure!(next == run[0].sequence, "a conflict");
            for event in run {
                value(event, &mut bytes);
                key(event.stream, event.sequence, &mut place);
                events.put_with_flags(&mut transaction, PutFlags::APPEND, &position.to_be_bytes(), &bytes)?;
                streams.put(&mut transaction, &place, &position.to_be_bytes())?;
                position += 1;
            }
        }
        Ok(transaction.commit()?)
    }

    fn replay(&mut self, positions: Range<u64>, sum: &mut Sum) -> Result<()> {
        let transaction = self.env.read_txn()?;
        let (from, to) = (positions.start.to_be_bytes(), positions.end.to_be_bytes());
        for entry in self.events.range(&transaction, &(Bound::Included(&from[..]), Bound::Excluded(&to[..])))? {
            add(sum, entry?.1);
        }
        Ok(())
    }

    fn stream(&mut self, stream: &Stream, sum: &mut Sum) -> Result<()> {
        let transaction = self.env.read_txn()?;
        let mut place = Vec::new();
        prefix(stream, &mut place);
        for entry in self.streams.prefix_iter(&transaction, &place)? {
            add(sum, self.events.get(&transaction, entry?.1)?.context("the event of an entry")?);
        }
        Ok(())
    }

    fn newest(&mut self, stream: &Stream, sum: &mut Sum) -> Result<()> {
        let transaction = self.env.read_txn()?;
        let mut place = Vec::new();
        prefix(stream, &mut place);
        let (_, position) =
            self.streams.rev_prefix_iter(&transaction, &place)?.next().context("the stream is there")??;
        add(sum, self.events.get(&transaction, position)?.context("the event of an entry")?);
        Ok(())
    }
}
