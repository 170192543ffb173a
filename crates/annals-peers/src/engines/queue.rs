//! A group-commit queue in front of an engine that has none: one thread drains it into one commit.
//! It is what a careful user would build.

use crate::engine::{Engine, Session};
use crate::events::{Event, Stream, Sum};
use anyhow::{Context, Result, anyhow};
use std::ops::Range;
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// The most requests that become one commit.
const MOST: usize = 512;

pub struct Queue {
    engine: Box<dyn Engine>,
    requests: Sender<Request>,
}

struct Request {
    events: Vec<Owned>,
    answer: SyncSender<Result<(), String>>,
}

/// An event that can be handed to another thread.
struct Owned {
    stream: Stream,
    sequence: u64,
    event_type: &'static str,
    tag: Option<String>,
    metadata: Vec<u8>,
    data: Vec<u8>,
}

impl Queue {
    pub fn new(engine: Box<dyn Engine>) -> Result<Self> {
        let (requests, received) = channel();
        let session = engine.session()?;
        std::thread::spawn(move || drain(session, &received));
        Ok(Queue { engine, requests })
    }
}

fn drain(mut session: Box<dyn Session>, received: &Receiver<Request>) {
    while let Ok(first) = received.recv() {
        let mut requests = vec![first];
        requests.extend(received.try_iter().take(MOST - 1));
        let events: Vec<Event<'_>> = requests.iter().flat_map(|request| &request.events).map(Owned::borrow).collect();
        let done = session.commit(&events).map_err(|error| error.to_string());
        for request in &requests {
            // Anyone who has gone away does not want it.
            let _ = request.answer.send(done.clone());
        }
    }
}

impl Engine for Queue {
    fn session(&self) -> Result<Box<dyn Session>> {
        let (answer, answers) = sync_channel(1);
        Ok(Box::new(QueueSession { requests: self.requests.clone(), answer, answers, inner: self.engine.session()? }))
    }

    fn close(self: Box<Self>) -> Result<()> {
        self.engine.close()
    }
}

struct QueueSession {
    requests: Sender<Request>,
    answer: SyncSender<Result<(), String>>,
    answers: Receiver<Result<(), String>>,
    inner: Box<dyn Session>,
}

impl Session for QueueSession {
    fn commit(&mut self, events: &[Event<'_>]) -> Result<()> {
        let events = events.iter().map(Owned::new).collect();
        let request = Request { events, answer: self.answer.clone() };
        self.requests.send(request).ok().context("the thread takes requests")?;
        self.answers.recv()?.map_err(|error| anyhow!(error))
    }

    fn replay(&mut self, positions: Range<u64>, sum: &mut Sum) -> Result<()> {
        self.inner.replay(positions, sum)
    }

    fn stream(&mut self, stream: &Stream, sum: &mut Sum) -> Result<()> {
        self.inner.stream(stream, sum)
    }

    fn newest(&mut self, stream: &Stream, sum: &mut Sum) -> Result<()> {
        self.inner.newest(stream, sum)
    }
}

impl Owned {
    fn new(event: &Event<'_>) -> Self {
        let Event { stream, sequence, event_type, tag, metadata, data } = *event;
        let (tag, metadata, data) = (tag.map(str::to_owned), metadata.to_vec(), data.to_vec());
        Owned { stream: stream.clone(), sequence, event_type, tag, metadata, data }
    }

    fn borrow(&self) -> Event<'_> {
        let Owned { stream, sequence, event_type, tag, metadata, data } = self;
        Event { stream, sequence: *sequence, event_type, tag: tag.as_deref(), metadata, data }
    }
}
