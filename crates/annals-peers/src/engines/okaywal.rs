//! OkayWAL: a log in front of another store. It looks at no stream and refuses no conflict, and
//! what has been handed over at a checkpoint is overwritten: here it is dropped, so what is
//! measured is the log alone.

use super::key_value::value;
use crate::engine::{Engine, Options, Session, not_offered};
use crate::events::{Event, Stream, Sum};
use anyhow::Result;
use okaywal::{LogVoid, WriteAheadLog};
use std::ops::Range;

pub struct Okaywal(WriteAheadLog);

impl Okaywal {
    pub fn open(options: &Options) -> Result<Self> {
        if !options.durable {
            return not_offered("every commit is synced");
        }
        if options.kept {
            return not_offered("what was written is not kept");
        }
        Ok(Okaywal(WriteAheadLog::recover(&options.dir, LogVoid)?))
    }
}

impl Engine for Okaywal {
    fn session(&self) -> Result<Box<dyn Session>> {
        Ok(Box::new(OkaywalSession(self.0.clone(), Vec::new())))
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.0.shutdown()?)
    }
}

struct OkaywalSession(WriteAheadLog, Vec<u8>);

impl Session for OkaywalSession {
    fn commit(&mut self, events: &[Event<'_>]) -> Result<()> {
        let mut entry = self.0.begin_entry()?;
        for event in events {
            value(event, &mut self.1);
            entry.write_chunk(&self.1)?;
        }
        entry.commit()?;
        Ok(())
    }

    fn replay(&mut self, _: Range<u64>, _: &mut Sum) -> Result<()> {
        not_offered("what was written is not kept")
    }

    fn stream(&mut self, _: &Stream, _: &mut Sum) -> Result<()> {
        not_offered("what was written is not kept")
    }

    fn newest(&mut self, _: &Stream, _: &mut Sum) -> Result<()> {
        not_offered("what was written is not kept")
    }
}
