//! Helpers of tests.

use crate::records::EventRecord;
use annals::{Error, Expected, NewEvent, Result, StreamId};
use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

pub fn stream(name: &str) -> StreamId {
    name.parse().unwrap()
}

/// Events of type `T` with these texts as data.
pub fn texts<'a>(texts: impl IntoIterator<Item = &'a str>) -> Vec<NewEvent<'a>> {
    texts.into_iter().map(|text| NewEvent::new("T", text)).collect()
}

/// The data of events, as text.
pub fn data_of(records: &[EventRecord]) -> Vec<String> {
    records.iter().map(|record| String::from_utf8_lossy(&record.data.0).into_owned()).collect()
}

/// Pseudorandom bytes that differ from seed to seed.
pub fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        // xorshift64 (Marsaglia 2003).
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// The conflict that an append met: stream, expected, found.
#[track_caller]
pub fn conflict<T: fmt::Debug>(result: Result<T>) -> (StreamId, Expected, u64) {
    match result {
        Err(Error::Conflict { stream, expected, actual }) => (stream, expected, actual),
        other => panic!("no conflict: {other:?}"),
    }
}

/// Every file below a directory with its bytes.
pub fn snapshot(dir: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(snapshot(&path));
            found.insert(path, None);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            found.insert(path, Some(bytes));
        }
    }
    found
}
