//! UmaDB, its core without the server. A stream is a tag, and the expected sequence is a condition:
//! no event with this tag after the last one that was seen.
//!
//! A thread alone appends for itself, which is quicker; where threads share the store or somebody
//! waits for events, the server's own writing thread does it for them. A read gathers all that it
//! finds before it gives any, so replay asks for 1,000 events at a time, as the server does. Its
//! cache of pages, which it has not unless asked, holds all that is read: with it, reads are
//! several times quicker.

use crate::engine::{Engine, Options, Seen, Session, Wanted, not_offered};
use crate::events::{Event, Stream, Sum};
use anyhow::{Context, Result};
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot, watch};
use umadb_core::db::UmaDb;
use umadb_core::mvcc::{Mvcc, StorageOptions};
use umadb_core::writer_thread_blocking::writer_thread_blocking;
use umadb_core::writer_thread_request::WriterThreadRequest;
use umadb_dcb::{DcbAppendCondition, DcbEvent, DcbEventStoreSync, DcbQuery, DcbQueryItem, DcbSequencedEvent};

/// Events a read, and the most that the writing thread puts into a commit (the server's figure).
const PAGE: u64 = 1000;
const MOST: usize = 2000;

pub struct Umadb {
    mvcc: Arc<Mvcc>,
    writer: Option<mpsc::Sender<WriterThreadRequest>>,
    head: watch::Sender<Option<u64>>,
}

impl Umadb {
    pub fn open(options: &Options) -> Result<Self> {
        if !options.durable {
            return not_offered("every commit is synced");
        }
        let storage = StorageOptions::default().db_path(&options.dir).page_cache_max_mb(1024);
        let mvcc = Arc::new(Mvcc::new(false, storage)?);
        let (head, _) = watch::channel(None);
        let mut writer = None;
        if options.threads > 1 || options.subscribed {
            let (requests, received) = mpsc::channel(10_000);
            let (mvcc, head) = (mvcc.clone(), head.clone());
            std::thread::spawn(move || writer_thread_blocking(mvcc, received, head, MOST));
            writer = Some(requests);
        }
        Ok(Umadb { mvcc, writer, head })
    }
}

impl Engine for Umadb {
    fn session(&self) -> Result<Box<dyn Session>> {
        let database = UmaDb::from_arc(self.mvcc.clone());
        Ok(Box::new(UmadbSession { database, writer: self.writer.clone(), newest: HashMap::new() }))
    }

    /// As the server does it: wait until the head moves, then read what has come.
    fn subscribe(&self, mut seen: Seen) -> Result<()> {
        let (mut head, database) = (self.head.subscribe(), UmaDb::from_arc(self.mvcc.clone()));
        let mut position = database.head()?.unwrap_or(0);
        let runtime = tokio::runtime::Builder::new_current_thread().build()?;
        std::thread::spawn(move || -> Result<()> {
            while runtime.block_on(head.changed()).is_ok() {
                let batch = database.read(None, Some(position + 1), false, Some(PAGE as u32))?.next_batch()?;
                position += batch.len() as u64;
                seen(batch.len() as u64);
            }
            Ok(())
        });
        Ok(())
    }
}

struct UmadbSession {
    database: UmaDb,
    writer: Option<mpsc::Sender<WriterThreadRequest>>,
    /// By stream, the newest event that this session has written.
    newest: HashMap<u64, u64>,
}

fn of_stream(stream: &Stream) -> DcbQuery {
    DcbQuery::new().item(DcbQueryItem::new().tags([&*stream.name]))
}

fn query(wanted: &Wanted) -> DcbQuery {
    DcbQuery::new().item(DcbQueryItem::new().types([wanted.event_type]).tags([&*wanted.tag]))
}

fn new_event(event: &Event<'_>) -> DcbEvent {
    let metadata = String::from_utf8_lossy(event.metadata);
    let tags = [&*event.stream.name].into_iter().chain(event.tag);
    DcbEvent::new().event_type(event.event_type).tags(tags).data(event.data).metadata([("m", &*metadata)])
}

fn add(sum: &mut Sum, events: &[DcbSequencedEvent]) {
    for DcbSequencedEvent { event, .. } in events {
        let metadata = event.metadata.first().map_or(&b""[..], |(_, value)| value.as_bytes());
        sum.add(event.event_type.as_bytes(), metadata, &event.data);
    }
}

impl Session for UmadbSession {
    fn commit(&mut self, events: &[Event<'_>]) -> Result<()> {
        let stream = events[0].stream;
        // A condition has one position for all that it asks for, so it guards one stream.
        let alone = events.iter().all(|event| event.stream.number == stream.number);
        let after = self.newest.get(&stream.number).copied();
        let condition = alone.then(|| DcbAppendCondition::new(of_stream(stream)).after(after));
        let position = self.append(events.iter().map(new_event).collect(), condition)?;
        if alone {
            self.newest.insert(stream.number, position);
        }
        Ok(())
    }

    fn replay(&mut self, positions: Range<u64>, sum: &mut Sum) -> Result<()> {
        // Positions begin with 1 there.
        for first in positions.clone().step_by(PAGE as usize) {
            let limit = PAGE.min(positions.end - first) as u32;
            add(sum, &self.database.read(None, Some(first + 1), false, Some(limit))?.next_batch()?);
        }
        Ok(())
    }

    fn stream(&mut self, stream: &Stream, sum: &mut Sum) -> Result<()> {
        self.read(of_stream(stream), false, None, sum)
    }

    fn newest(&mut self, stream: &Stream, sum: &mut Sum) -> Result<()> {
        self.read(of_stream(stream), true, Some(1), sum)
    }

    fn find(&mut self, wanted: &Wanted, sum: &mut Sum) -> Result<()> {
        self.read(query(wanted), false, None, sum)
    }

    fn commit_if_absent(&mut self, event: &Event<'_>, absent: &Wanted) -> Result<()> {
        self.append(vec![new_event(event)], Some(DcbAppendCondition::new(query(absent))))?;
        Ok(())
    }
}

impl UmadbSession {
    fn append(&self, events: Vec<DcbEvent>, condition: Option<DcbAppendCondition>) -> Result<u64> {
        let Some(writer) = &self.writer else { return Ok(self.database.append(events, condition, None)?) };
        let (response_tx, response) = oneshot::channel();
        let request = WriterThreadRequest::Append { events, condition, tracking_info: None, response_tx, cancel: None };
        writer.blocking_send(request).ok().context("the writing thread takes requests")?;
        Ok(response.blocking_recv()??)
    }

    fn read(&self, query: DcbQuery, backwards: bool, limit: Option<u32>, sum: &mut Sum) -> Result<()> {
        add(sum, &self.database.read(Some(query), None, backwards, limit)?.next_batch()?);
        Ok(())
    }
}
