//! Reading events in order of positions, over all segments.

use super::Log;
use crate::error::{Error, Result};
use crate::event::Event;
use crate::position::Location;
use crate::segment::Segment;
use crate::segment::cursor::Cursor;
use std::ops::Range;
use std::sync::Arc;

impl Log {
    /// Reads and verifies the event at a location.
    pub(crate) fn event_at(&self, location: Location) -> Result<Event> {
        let segment = self.segment(location.segment).expect("the index only knows segments of the log");
        segment.event_at(location.offset)
    }

    /// The segment that has the event at this position, if it has been written.
    fn segment_of(&self, position: u64) -> Arc<Segment> {
        let segments = self.segments.read();
        let behind = segments.partition_point(|segment| segment.header.first_position <= position);
        segments[behind - 1].clone()
    }

    /// A cursor that begins with the event at this position.
    fn cursor(&self, position: u64) -> Result<Cursor> {
        let segment = self.segment_of(position);
        let ordinal = position - segment.header.first_position;
        let waypoint = self.listener.waypoint(segment.header.number, ordinal)?;
        Cursor::new(segment, position, waypoint)
    }

    /// The events at these positions, all of which must be below the watermark.
    pub(crate) fn forwards(self: &Arc<Self>, positions: Range<u64>) -> Forwards {
        Forwards { log: self.clone(), positions, cursor: None }
    }

    /// The same, from the highest position to the lowest.
    pub(crate) fn backwards(self: &Arc<Self>, positions: Range<u64>) -> Backwards {
        Backwards { log: self.clone(), positions, events: Vec::new() }
    }
}

/// Events in rising order of positions.
pub(crate) struct Forwards {
    log: Arc<Log>,
    positions: Range<u64>,
    cursor: Option<Cursor>,
}

impl Forwards {
    #[inline]
    pub(crate) fn next(&mut self) -> Result<Option<Event>> {
        while self.positions.start < self.positions.end {
            let cursor = match &mut self.cursor {
                Some(cursor) => cursor,
                None => self.cursor.insert(self.log.cursor(self.positions.start)?),
            };
            if let Some(event) = cursor.next()? {
                if event.position != self.positions.start {
                    let segment = cursor.segment();
                    let positions = self.positions.start..event.position;
                    return Err(Error::damaged(&segment.path, 0..segment.readable(), positions, "events are missing"));
                }
                self.positions.start += 1;
                return Ok(Some(event));
            }
            let ended = cursor.segment().header.number;
            self.cursor = None;
            let next = self.log.segment_of(self.positions.start);
            if next.header.number == ended {
                return Err(next.damaged(next.readable()..next.readable(), "the segment ends before its last event"));
            }
        }
        Ok(None)
    }
}

/// Events in falling order of positions. They are read forwards from waypoint to waypoint and handed out from behind.
pub(crate) struct Backwards {
    log: Arc<Log>,
    positions: Range<u64>,
    events: Vec<Event>,
}

impl Backwards {
    pub(crate) fn next(&mut self) -> Result<Option<Event>> {
        if self.events.is_empty() && self.positions.start < self.positions.end {
            let last = self.positions.end - 1;
            let segment = self.log.segment_of(last);
            let first = segment.header.first_position;
            let waypoint = self.log.listener.waypoint(segment.header.number, last - first)?;
            let waypoint = waypoint.map_or(0, |waypoint| waypoint.ordinal.into());
            let first = self.positions.start.max(first + waypoint);
            let mut forwards = self.log.forwards(first..self.positions.end);
            while let Some(event) = forwards.next()? {
                self.events.push(event);
            }
            self.positions.end = first;
        }
        Ok(self.events.pop())
    }
}
