//! How the key-value stores have events: by position, and by stream and sequence the position. One
//! event is one value.

use crate::events::{Event, Stream, Sum};

/// A value: the lengths of type and metadata, then type, metadata and data. The name of the stream
/// is in the key of the index, and also here, as replay has to know it.
pub fn value(event: &Event<'_>, value: &mut Vec<u8>) {
    value.clear();
    let parts = [event.stream.name.as_bytes(), event.event_type.as_bytes(), event.metadata];
    parts.iter().for_each(|part| value.push(part.len() as u8));
    parts.iter().for_each(|part| value.extend_from_slice(part));
    value.extend_from_slice(event.data);
}

pub fn add(sum: &mut Sum, value: &[u8]) {
    let [name, event_type, metadata] = [0, 1, 2].map(|n| value[n] as usize);
    let (event_type, rest) = value[3 + name..].split_at(event_type);
    let (metadata, data) = rest.split_at(metadata);
    sum.add(event_type, metadata, data);
}

/// The key of an event in the index of streams: sorted by stream, then by sequence.
pub fn key(stream: &Stream, sequence: u64, key: &mut Vec<u8>) {
    key.clear();
    key.extend_from_slice(stream.name.as_bytes());
    key.push(0);
    key.extend_from_slice(&sequence.to_be_bytes());
}

/// The number at the end of a key.
pub fn number(key: &[u8]) -> u64 {
    u64::from_be_bytes(key[key.len() - 8..].try_into().expect("eight bytes"))
}
