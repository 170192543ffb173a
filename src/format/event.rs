//! Events in the store.

use super::extras::Extras;
use super::record::{Layout, RecordParts};
use super::segment_header::SegmentHeader;
use crate::event::{ContentType, NewEvent};
use crate::stream::{StreamId, split_key};
use crate::time::Timestamp;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;

/// Verified bytes that were copied out of the log, shared by the events in them.
pub struct Block {
    pub bytes: Vec<u8>,
    /// What ids that are not stored are derived from.
    pub id_seed: u128,
}

/// An event in the store, which never changes.
///
/// Its bytes were verified against their checksum after they were copied out of the log. An event
/// shares a block of memory with the events that were read with it (up to 128 KiB, or one event if
/// that is larger); clones share it too. To keep a few events for long, copy what is needed.
#[derive(Clone)]
pub struct Event {
    block: Arc<Block>,
    position: u64,
    sequence: u64,
    recorded_at: Timestamp,
    layout: Layout,
}

impl Event {
    /// Returns the event whose record was decoded in this block; `None` if no segment with this
    /// header can have it.
    #[inline]
    pub(crate) fn new(block: &Arc<Block>, parts: &RecordParts, header: &SegmentHeader) -> Option<Event> {
        let (position, recorded_at) = parts.place(header.first_position, header.base_time)?;
        Some(Self::of(block, position, recorded_at, parts))
    }

    /// Returns the event with these parts of this block.
    #[inline(always)]
    pub(crate) fn of(block: &Arc<Block>, position: u64, recorded_at: i64, parts: &RecordParts) -> Event {
        let (block, recorded_at) = (block.clone(), Timestamp::from_nanos(recorded_at));
        Event { block, position, sequence: parts.sequence, recorded_at, layout: parts.layout }
    }

    /// Returns whether its bytes are in this block.
    #[inline(always)]
    pub(crate) fn is_of(&self, block: &Arc<Block>) -> bool {
        Arc::ptr_eq(&self.block, block)
    }

    /// Becomes another event of the same block.
    #[inline(always)]
    pub(crate) fn become_of(&mut self, position: u64, recorded_at: i64, parts: &RecordParts) {
        self.position = position;
        self.sequence = parts.sequence;
        self.recorded_at = Timestamp::from_nanos(recorded_at);
        self.layout = parts.layout;
    }

    #[inline]
    fn bytes(&self) -> &[u8] {
        &self.block.bytes
    }

    #[inline]
    pub(crate) fn key(&self) -> &[u8] {
        self.layout.key(self.bytes())
    }

    #[inline]
    pub(crate) fn extras(&self) -> Extras<'_> {
        self.layout.extras(self.bytes())
    }

    /// Returns its position, the number of the event in the whole store: 0, 1, 2 …
    #[inline]
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Returns its sequence, the number of the event in its stream: 0, 1, 2 …
    #[inline]
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Returns the stream, as a new [`StreamId`]; [`Event::domain`], [`Event::root`] and
    /// [`Event::edition`] only borrow.
    pub fn stream(&self) -> StreamId {
        StreamId::from_key(self.key()).expect("the key was checked when the event was decoded")
    }

    /// Returns whether the event is in this stream.
    #[inline]
    pub fn is_in(&self, stream: &StreamId) -> bool {
        self.key() == stream.key()
    }

    /// Returns the domain of the stream.
    pub fn domain(&self) -> &str {
        split_key(self.key()).map_or("", |parts| parts.domain)
    }

    /// Returns the root of the stream.
    pub fn root(&self) -> &[u8] {
        split_key(self.key()).map_or(&[], |parts| parts.root)
    }

    /// Returns the edition of the stream, or `None` in the main one.
    pub fn edition(&self) -> Option<&str> {
        split_key(self.key())?.edition
    }

    /// Returns the type.
    #[inline]
    pub fn event_type(&self) -> &str {
        self.layout.type_name(self.bytes())
    }

    #[inline]
    pub(crate) fn type_bytes(&self) -> &[u8] {
        self.layout.event_type(self.bytes())
    }

    /// Returns the id: the caller's, or the one that the store assigned, a UUID version 7.
    pub fn id(&self) -> Uuid {
        let given = self.extras().id();
        given.unwrap_or_else(|| derived_id(self.block.id_seed, self.position, self.recorded_at))
    }

    /// Returns when the event was recorded, by the store's clock. Never decreases from position to
    /// position; the same for all events of a commit.
    #[inline]
    pub fn recorded_at(&self) -> Timestamp {
        self.recorded_at
    }

    /// Returns when it happened, if the writer gave that time.
    pub fn occurred_at(&self) -> Option<Timestamp> {
        self.extras().occurred_at()
    }

    /// Returns the correlation id, if the writer gave one.
    pub fn correlation_id(&self) -> Option<&str> {
        self.extras().correlation_id().map(text)
    }

    /// Returns the causation id, if the writer gave one.
    pub fn causation_id(&self) -> Option<&str> {
        self.extras().causation_id().map(text)
    }

    /// Returns the tags, in the order in which they were given.
    pub fn tags(&self) -> impl ExactSizeIterator<Item = &str> {
        self.extras().tags().map(text)
    }

    /// Returns the data, exactly as they were given.
    #[inline]
    pub fn data(&self) -> &[u8] {
        self.layout.data(self.bytes())
    }

    /// Returns the metadata, exactly as they were given.
    #[inline]
    pub fn metadata(&self) -> &[u8] {
        self.layout.metadata(self.bytes())
    }

    /// Returns the encoding of the data.
    pub fn content_type(&self) -> ContentType {
        self.layout.content_type(self.bytes())
    }

    /// Returns the version of the type's schema; 0 by default.
    pub fn schema_version(&self) -> u32 {
        self.extras().schema_version()
    }

    /// Returns the same content as a new event, to be stored elsewhere. It keeps the id.
    ///
    /// Position, sequence and recorded time are not part of it: the store that it is appended to
    /// assigns its own.
    pub fn to_new(&self) -> NewEvent<'_> {
        NewEvent {
            id: Some(self.id()),
            occurred_at: self.occurred_at(),
            content_type: self.content_type(),
            schema_version: self.schema_version(),
            metadata: Cow::Borrowed(self.metadata()),
            correlation_id: Cow::Borrowed(self.correlation_id().unwrap_or("")),
            causation_id: Cow::Borrowed(self.causation_id().unwrap_or("")),
            tags: self.tags().map(Cow::Borrowed).collect(),
            ..NewEvent::with_data(self.event_type(), self.data())
        }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("position", &self.position)
            .field("stream", &format_args!("{}", self.stream()))
            .field("sequence", &self.sequence)
            .field("event_type", &self.event_type())
            .field("recorded_at", &self.recorded_at)
            .field("data", &String::from_utf8_lossy(self.data()))
            .finish_non_exhaustive()
    }
}

/// Returns text that was checked when the event was decoded.
#[inline]
fn text(bytes: &[u8]) -> &str {
    str::from_utf8(bytes).unwrap_or_default()
}

/// Returns the id of an event that was stored without one (see `docs/FORMAT.md`, Record): a UUID
/// version 7 (RFC 9562) of the time in milliseconds and a 74-bit number that rises with the
/// position.
fn derived_id(seed: u128, position: u64, recorded_at: Timestamp) -> Uuid {
    let millis = recorded_at.as_nanos().max(0) as u128 / 1_000_000;
    let number = seed.wrapping_add(u128::from(position)) & ((1 << 74) - 1);
    let (high, low) = (number >> 62, number & ((1 << 62) - 1));
    Uuid::from_u128(millis << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)
}

/// Returns the position that an id was derived from, if it was derived with this seed.
pub(crate) fn derived_position(seed: u128, id: Uuid) -> Option<u64> {
    if id.get_version_num() != 7 {
        return None;
    }
    let bits = id.as_u128();
    let number = (bits >> 64 & 0xFFF) << 62 | bits & ((1 << 62) - 1);
    u64::try_from(number.wrapping_sub(seed) & ((1 << 74) - 1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_ids_are_version_7_and_rise() {
        let seed = (1 << 73) - 5;
        let mut last = Uuid::nil();
        for position in 0..10 {
            let id = derived_id(seed, position, Timestamp::from_nanos(1_700_000_000_000_000_000));
            assert_eq!(id.get_version_num(), 7);
            assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
            assert!(id > last);
            assert_eq!(derived_position(seed, id), Some(position));
            last = id;
        }
    }
}
