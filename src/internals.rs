//! The inside of the library, for the fuzz targets and the simulated disk: only with
//! `--cfg annals_internals`, and not part of the API.

use crate::format::event::{Block, Event};
use crate::format::record::RecordParts;
use crate::format::segment_header::SegmentHeader;
use crate::{ContentType, NewEvent, Options, Store, Timestamp, Uuid};
use std::borrow::Cow;
use std::sync::Arc;

macro_rules! reach {
    ($($room:ident { $($item:ident),*; $($file:ident),* })*) => {
        $(pub mod $room {
            $(pub use crate::$room::$item;)*
            $(pub mod $file {
                pub use crate::$room::$file::*;
            })*
        })*
    };
}

reach! {
    format {
        put, u16_at, u32_at, u64_at;
        checksum, commit, draft, event, frame, head, index_file, positions_file, record, segment_header,
        snapshot_file, state_file, varint
    }
    fs { ; mem }
    index { ; file, memory, term }
    positions { ; salvage }
    segment { START, Segment; cursor, scan }
    directory { index_name, segment_name, segment_number; }
    snapshots { Directory, SnapshotSettings; }
    system { System; }
}

/// Returns the event in a verified block.
pub fn event(block: &Arc<Block>, parts: &RecordParts, header: &SegmentHeader) -> Option<Event> {
    Event::new(block, parts, header)
}

/// Returns the key of its stream, from the record.
pub fn key(event: &Event) -> &[u8] {
    event.key()
}

/// The content of a new event.
pub struct Fields<'a> {
    pub event_type: &'a str,
    pub data: &'a [u8],
    pub metadata: &'a [u8],
    pub content_type: &'a ContentType,
    pub schema_version: u32,
    pub id: Option<Uuid>,
    pub occurred_at: Option<Timestamp>,
    pub correlation_id: &'a str,
    pub causation_id: &'a str,
    pub tags: &'a [Cow<'a, str>],
}

pub fn fields<'a>(event: &'a NewEvent<'_>) -> Fields<'a> {
    Fields {
        event_type: &event.event_type,
        data: &event.data,
        metadata: &event.metadata,
        content_type: &event.content_type,
        schema_version: event.schema_version,
        id: event.id,
        occurred_at: event.occurred_at,
        correlation_id: &event.correlation_id,
        causation_id: &event.causation_id,
        tags: &event.tags,
    }
}

/// Gives an event the same tag several times, which its builder would not.
pub fn repeat_tag(event: &mut NewEvent<'_>, tag: &'static str, times: usize) {
    event.tags.extend(vec![tag.into(); times]);
}

/// Returns the key of the stream of an event.
pub fn stream_key(event: &Event) -> &[u8] {
    event.key()
}

/// Returns options for a store without threads of its own, whose time passes when [`pass_time`]
/// is called.
pub fn by_hand(options: Options) -> Options {
    options.by_hand()
}

/// Lets time pass: does what the threads of the store do until they sleep, in this thread and in a
/// fixed order.
pub fn pass_time(store: &Store) {
    store.pass_time();
}
