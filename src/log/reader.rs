//! Reading: events in order of positions, over all segments.

use super::{HeldDirectory, LogIndex};
use crate::error::{Error, Result};
use crate::format::event::Event;
use crate::position::Location;
use crate::segment::Segment;
use crate::segment::cursor::SegmentCursor;
use crate::segment::verified::{Next, Verified};
use crate::waker::Caller;
use parking_lot::RwLock;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// The readable part of the log: the events of all segments, below the watermark.
pub(crate) struct LogReader {
    pub(super) held: Arc<HeldDirectory>,
    /// By number, from 1 on.
    pub(super) segments: RwLock<Vec<Arc<Segment>>>,
    /// Positions below this one are visible.
    pub(super) watermark: AtomicU64,
    pub(super) indexes: Arc<dyn LogIndex>,
    /// The identity of this log towards the wakers that it calls.
    pub(super) caller: Caller,
}

impl LogReader {
    pub(crate) fn held(&self) -> &Arc<HeldDirectory> {
        &self.held
    }

    pub(crate) fn caller(&self) -> Caller {
        self.caller
    }

    pub(crate) fn dir(&self) -> &Path {
        self.held.path()
    }

    /// Sequentially consistent, for waiters that check once more before they sleep.
    pub(crate) fn watermark(&self) -> u64 {
        self.watermark.load(Ordering::SeqCst)
    }

    pub(crate) fn segments(&self) -> Vec<Arc<Segment>> {
        self.segments.read().clone()
    }

    fn segment(&self, number: u64) -> Option<Arc<Segment>> {
        let index = usize::try_from(number.checked_sub(1)?).ok()?;
        self.segments.read().get(index).cloned()
    }

    /// Adds a segment that has just been created.
    pub(super) fn register(&self, segment: Arc<Segment>) {
        let mut segments = self.segments.write();
        // An earlier attempt to create it may have failed after it was registered.
        segments.truncate(segment.header.number as usize - 1);
        segments.push(segment);
    }

    /// Reads and verifies the event at a location.
    pub(crate) fn event_at(&self, location: Location) -> Result<Event> {
        let segment = self.segment(location.segment).expect("the index only knows segments of the log");
        segment.event_at(location.offset)
    }

    /// Reads and verifies the records at these offsets of a segment: see [`Segment::records_at`].
    pub(crate) fn records_at(
        &self,
        segment: u64,
        offsets: &[u32],
        most: usize,
        verified: &mut Verified,
    ) -> Result<usize> {
        let segment = self.segment(segment).expect("the index only knows segments of the log");
        segment.records_at(offsets, most, verified)
    }

    /// Returns the number of the segment that has the event at this position.
    pub(crate) fn segment_at(&self, position: u64) -> u64 {
        self.segment_of(position).header.number
    }

    /// Returns the id of the store, which is in all its files.
    pub(crate) fn store_id(&self) -> [u8; 16] {
        self.segment_of(0).header.store
    }

    /// Returns what ids that are not stored are derived from.
    pub(crate) fn id_seed(&self) -> u128 {
        self.segment_of(0).header.id_seed()
    }

    /// Returns the positions of the commit whose frame is at a location.
    pub(crate) fn positions_at(&self, frame: Location) -> Result<Range<u64>> {
        let segment = self.segment(frame.segment).expect("the index only knows segments of the log");
        let header = segment.frame_at(frame.offset)?;
        Ok(header.first_position..header.end_position())
    }

    /// Returns the attributes of the commit whose frame is at a location.
    pub(crate) fn attributes_at(&self, frame: Location) -> Result<Vec<u8>> {
        let segment = self.segment(frame.segment).expect("the index only knows segments of the log");
        segment.attributes_at(frame.offset)
    }

    /// Returns the readable bytes of a segment.
    pub(crate) fn readable(&self, segment: u64) -> u64 {
        self.segment(segment).map_or(0, |segment| segment.readable())
    }

    /// Returns the positions in a segment; for the last one, without an end.
    pub(crate) fn positions_of(&self, segment: u64) -> Range<u64> {
        let first = |number| self.segment(number).map_or(u64::MAX, |segment| segment.header.first_position);
        first(segment)..first(segment + 1)
    }

    /// Returns the number of the last segment that begins at this time or before, and the position
    /// of its first event; the first segment if none does.
    pub(crate) fn segment_at_time(&self, time: i64) -> (u64, u64) {
        let segments = self.segments.read();
        let after = segments.partition_point(|segment| segment.header.base_time <= time);
        let header = &segments[after.saturating_sub(1)].header;
        (header.number, header.first_position)
    }

    /// Returns the segment that has the event at this position, if it has been written.
    fn segment_of(&self, position: u64) -> Arc<Segment> {
        let segments = self.segments.read();
        let after = segments.partition_point(|segment| segment.header.first_position <= position);
        segments[after - 1].clone()
    }

    /// Returns a cursor that begins with the event at this position.
    fn cursor(&self, position: u64) -> Result<SegmentCursor> {
        let segment = self.segment_of(position);
        let ordinal = position - segment.header.first_position;
        let waypoint = self.indexes.waypoint(segment.header.number, ordinal)?;
        SegmentCursor::new(segment, position, waypoint)
    }

    /// Iterates over the events at these positions, all of which must be below the watermark.
    pub(crate) fn forwards(self: &Arc<Self>, positions: Range<u64>) -> Forwards {
        Forwards { log: self.clone(), positions, cursor: None }
    }

    /// Iterates over the same events, from the highest position to the lowest.
    pub(crate) fn backwards(self: &Arc<Self>, positions: Range<u64>) -> Backwards {
        Backwards { log: self.clone(), positions, events: Vec::new() }
    }
}

/// Events in ascending order of positions.
pub(crate) struct Forwards {
    log: Arc<LogReader>,
    positions: Range<u64>,
    cursor: Option<SegmentCursor>,
}

impl Forwards {
    /// Returns the next event if its record has been read. Events whose keys begin with a zero are
    /// returned only with `all`.
    #[inline(always)]
    pub(crate) fn at_hand(&mut self, all: bool) -> Option<(Next, &Verified)> {
        let position = self.positions.start;
        if position >= self.positions.end {
            return None;
        }
        let cursor = self.cursor.as_mut().filter(|cursor| cursor.position() == position)?;
        let found = cursor.at_hand(all)?;
        self.positions.start += 1;
        Some(found)
    }

    pub(crate) fn next(&mut self) -> Result<Option<Event>> {
        while self.positions.start < self.positions.end {
            let cursor = match &mut self.cursor {
                Some(cursor) => cursor,
                None => self.cursor.insert(self.log.cursor(self.positions.start)?),
            };
            if let Some(event) = cursor.next()? {
                if event.position() != self.positions.start {
                    let segment = cursor.segment();
                    let positions = self.positions.start..event.position();
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

/// Events in descending order of positions. They are read forwards from waypoint to waypoint, and
/// returned in reverse.
pub(crate) struct Backwards {
    log: Arc<LogReader>,
    positions: Range<u64>,
    events: Vec<Event>,
}

impl Backwards {
    pub(crate) fn next(&mut self) -> Result<Option<Event>> {
        if self.events.is_empty() && self.positions.start < self.positions.end {
            let last = self.positions.end - 1;
            let segment = self.log.segment_of(last);
            let first = segment.header.first_position;
            let waypoint = self.log.indexes.waypoint(segment.header.number, last - first)?;
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
