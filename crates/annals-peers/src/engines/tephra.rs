//! Tephra: a log in segments with an index of tags, and one thread that writes for all. A stream is
//! a tag, and the expected sequence is a condition: no event with this tag after the last one that
//! was seen. There is no metadata, so that stands in front of the data.

use crate::engine::{Engine, Options, Seen, Session, Wanted, not_offered};
use crate::events::{Event, Stream, Sum};
use anyhow::Result;
use std::collections::HashMap;
use std::ops::Range;
use tephra::read::Reads;
use tephra::{
    AppendCondition, EventType, Position, Query, QueryItem, SegmentConfig, SegmentSet, Tag, Tags, WriteCoordinator,
    WriteHandle, WriterConfig,
};

pub struct Tephra {
    coordinator: WriteCoordinator,
    handle: WriteHandle,
}

impl Tephra {
    pub fn open(options: &Options) -> Result<Self> {
        if !options.durable {
            return not_offered("every commit is synced");
        }
        // The size of its own example.
        let segments = SegmentSet::open(&options.dir, SegmentConfig::new(256 << 20))?;
        let (coordinator, handle) = WriteCoordinator::start(segments, WriterConfig::default())?;
        Ok(Tephra { coordinator, handle })
    }
}

impl Engine for Tephra {
    fn session(&self) -> Result<Box<dyn Session>> {
        Ok(Box::new(TephraSession { handle: self.handle.clone(), newest: HashMap::new() }))
    }

    fn subscribe(&self, mut seen: Seen) -> Result<()> {
        let mut subscription = self.handle.subscribe(Query::all(), self.handle.head());
        std::thread::spawn(move || {
            while let Some(Ok(batch)) = subscription.next_batch() {
                seen(batch.len() as u64);
            }
        });
        Ok(())
    }

    fn close(self: Box<Self>) -> Result<()> {
        drop(self.handle);
        self.coordinator.shutdown();
        Ok(())
    }
}

struct TephraSession {
    handle: WriteHandle,
    /// By stream, the newest event that this session has written.
    newest: HashMap<u64, Position>,
}

fn tags<'a>(tags: impl IntoIterator<Item = &'a str>) -> Result<Tags> {
    let tags: Result<Vec<Tag>, _> = tags.into_iter().map(Tag::new).collect();
    Ok(Tags::new(tags?)?)
}

fn of_stream(stream: &Stream) -> Result<Query> {
    Ok(Query::item(QueryItem::with_tags(tags([&*stream.name])?)))
}

fn query(wanted: &Wanted) -> Result<Query> {
    Ok(Query::item(QueryItem::new(vec![EventType::new(wanted.event_type)?], tags([&*wanted.tag])?)))
}

fn new_event(event: &Event<'_>) -> Result<tephra::Event> {
    let data = [&[event.metadata.len() as u8][..], event.metadata, event.data].concat();
    let tags = tags([&*event.stream.name].into_iter().chain(event.tag))?;
    Ok(tephra::Event::new(&EventType::new(event.event_type)?, &tags, &data)?)
}

fn add(sum: &mut Sum, mut reads: Reads) -> Result<()> {
    while let Some(event) = reads.next() {
        let event = event?.event;
        let (length, rest) = event.data().split_at(1);
        let (metadata, data) = rest.split_at(length[0] as usize);
        sum.add(event.event_type().as_bytes(), metadata, data);
    }
    Ok(())
}

impl Session for TephraSession {
    fn commit(&mut self, events: &[Event<'_>]) -> Result<()> {
        let stream = events[0].stream;
        let alone = events.iter().all(|event| event.stream.number == stream.number);
        let new: Result<Vec<_>> = events.iter().map(new_event).collect();
        let mut condition = None;
        // A condition has one position for all that it asks for, so it guards one stream.
        if alone {
            let after = self.newest.get(&stream.number).copied().unwrap_or(Position::ZERO);
            condition = Some(AppendCondition::new(of_stream(stream)?).after(after));
        }
        let appended = self.handle.append(new?, condition)?;
        if alone {
            self.newest.insert(stream.number, appended.last);
        }
        Ok(())
    }

    fn replay(&mut self, positions: Range<u64>, sum: &mut Sum) -> Result<()> {
        // After position 0 comes the first event.
        let (after, limit) = (Position::new(positions.start), positions.end - positions.start);
        add(sum, self.handle.read(&Query::all(), after, Some(limit)))
    }

    fn stream(&mut self, stream: &Stream, sum: &mut Sum) -> Result<()> {
        add(sum, self.handle.read(&of_stream(stream)?, Position::ZERO, None))
    }

    fn newest(&mut self, stream: &Stream, sum: &mut Sum) -> Result<()> {
        add(sum, self.handle.read_back(&of_stream(stream)?, Position::MAX, Some(1)))
    }

    fn find(&mut self, wanted: &Wanted, sum: &mut Sum) -> Result<()> {
        add(sum, self.handle.read(&query(wanted)?, Position::ZERO, None))
    }

    fn commit_if_absent(&mut self, event: &Event<'_>, absent: &Wanted) -> Result<()> {
        let condition = AppendCondition::new(query(absent)?);
        self.handle.append(vec![new_event(event)?], Some(condition))?;
        Ok(())
    }
}
