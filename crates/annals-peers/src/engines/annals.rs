//! Annals, with its defaults.

use crate::engine::{Engine, Options, Seen, Session, Wanted};
use crate::events::{Event, Stream, Sum};
use annals::subscription::Delivery;
use annals::{Durability, Expected, Guard, NewEvent, Query, Read, Store, StreamId};
use anyhow::Result;
use std::collections::HashMap;
use std::ops::Range;

pub struct Annals(Store);

impl Annals {
    pub fn open(options: &Options) -> Result<Self> {
        let durability = if options.durable { Durability::Sync } else { Durability::Os };
        Ok(Annals(annals::Options::new().durability(durability).open(&options.dir)?))
    }
}

impl Engine for Annals {
    fn session(&self) -> Result<Box<dyn Session>> {
        Ok(Box::new(AnnalsSession { store: self.0.clone(), ids: HashMap::new() }))
    }

    fn subscribe(&self, mut seen: Seen) -> Result<()> {
        let subscription = self.0.subscribe(Query::new()).from_now();
        std::thread::spawn(move || {
            for delivery in subscription {
                if let Ok(Delivery::Event(_)) = delivery {
                    seen(1);
                }
            }
        });
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        Ok(self.0.close()?)
    }
}

struct AnnalsSession {
    store: Store,
    /// Who writes to a stream keeps its id.
    ids: HashMap<u64, StreamId>,
}

fn id<'a>(ids: &'a mut HashMap<u64, StreamId>, stream: &Stream) -> &'a StreamId {
    ids.entry(stream.number).or_insert_with(|| stream.name.parse().expect("a good name"))
}

fn new_event<'a>(event: &Event<'a>) -> NewEvent<'a> {
    let new = NewEvent::new(event.event_type, event.data).metadata(event.metadata);
    match event.tag {
        Some(tag) => new.tag(tag),
        None => new,
    }
}

fn query(wanted: &Wanted) -> Query {
    Query::new().event_type(wanted.event_type).tag(&*wanted.tag)
}

fn add_event(sum: &mut Sum, event: &annals::Event) {
    sum.add(event.event_type().as_bytes(), event.metadata(), event.data());
}

fn add(sum: &mut Sum, read: Read) -> Result<()> {
    let mut events = read.into_iter();
    while let Some(event) = events.advance()? {
        add_event(sum, event);
    }
    Ok(())
}

impl Session for AnnalsSession {
    fn commit(&mut self, events: &[Event<'_>]) -> Result<()> {
        let mut runs = events.chunk_by(|a, b| a.stream.number == b.stream.number).peekable();
        let Some(first) = runs.next() else { return Ok(()) };
        let expected = Expected::Next(first[0].sequence);
        let id = id(&mut self.ids, first[0].stream);
        if runs.peek().is_none() {
            self.store.append(id, expected, first.iter().map(new_event))?;
            return Ok(());
        }
        let mut transaction = self.store.transaction().append(id, expected, first.iter().map(new_event));
        for run in runs {
            let id = self::id(&mut self.ids, run[0].stream);
            transaction = transaction.append(id, Expected::Next(run[0].sequence), run.iter().map(new_event));
        }
        transaction.commit()?;
        Ok(())
    }

    fn replay(&mut self, positions: Range<u64>, sum: &mut Sum) -> Result<()> {
        add(sum, self.store.read_all().from(positions.start).to(positions.end))
    }

    fn stream(&mut self, stream: &Stream, sum: &mut Sum) -> Result<()> {
        add(sum, self.store.read(id(&mut self.ids, stream)))
    }

    fn newest(&mut self, stream: &Stream, sum: &mut Sum) -> Result<()> {
        add(sum, self.store.read(id(&mut self.ids, stream)).backwards().limit(1))
    }

    fn find(&mut self, wanted: &Wanted, sum: &mut Sum) -> Result<()> {
        for event in self.store.query(&query(wanted)) {
            add_event(sum, &event?);
        }
        Ok(())
    }

    fn commit_if_absent(&mut self, event: &Event<'_>, absent: &Wanted) -> Result<()> {
        let id = id(&mut self.ids, event.stream);
        let transaction = self.store.transaction().append(id, Expected::Any, [new_event(event)]);
        transaction.guard(Guard::absent(query(absent))).commit()?;
        Ok(())
    }
}
