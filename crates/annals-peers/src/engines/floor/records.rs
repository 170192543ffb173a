//! A data set as a file of records: length and checksum, the lengths of type, metadata, name, tag
//! and padding in a byte each; then type, metadata, name of the stream, tag, padding and data. The
//! padding makes a record as long as those of Annals are on average.

use crate::events::{Event, Sum};
use anyhow::Result;
use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

const LENGTHS: usize = 5;
const HEADER: usize = 8 + LENGTHS;

pub fn path(dir: &Path) -> PathBuf {
    dir.join("records")
}

pub struct Writer {
    file: BufWriter<File>,
    each: usize,
    record: Vec<u8>,
}

impl Writer {
    pub fn create(dir: &Path, each: usize) -> Result<Self> {
        Ok(Writer { file: BufWriter::with_capacity(1 << 20, File::create(path(dir))?), each, record: Vec::new() })
    }

    pub fn write(&mut self, event: &Event<'_>) -> Result<()> {
        let (name, tag) = (event.stream.name.as_bytes(), event.tag.unwrap_or_default().as_bytes());
        let parts = [event.event_type.as_bytes(), event.metadata, name, tag];
        let content = HEADER + parts.iter().map(|part| part.len()).sum::<usize>() + event.data.len();
        let padding = self.each.saturating_sub(content);
        let Writer { file, record, .. } = self;
        record.clear();
        record.extend_from_slice(&((content + padding) as u32).to_le_bytes());
        record.extend_from_slice(&[0; 4]);
        record.extend(parts.iter().map(|part| part.len() as u8).chain([padding as u8]));
        parts.iter().for_each(|part| record.extend_from_slice(part));
        record.resize(record.len() + padding, 0);
        record.extend_from_slice(event.data);
        let checksum = crc32fast::hash(&record[8..]);
        record[4..8].copy_from_slice(&checksum.to_le_bytes());
        Ok(file.write_all(record)?)
    }
}

pub struct Records {
    map: memmap2::Mmap,
    known: OnceLock<Known>,
}

/// Where records are.
#[derive(Default)]
struct Known {
    positions: Vec<usize>,
    streams: HashMap<String, Vec<usize>>,
    /// By tag, by type.
    tags: HashMap<String, HashMap<String, Vec<usize>>>,
}

struct Record<'a> {
    event_type: &'a [u8],
    metadata: &'a [u8],
    name: &'a [u8],
    tag: &'a [u8],
    data: &'a [u8],
}

impl Records {
    /// Maps the file, and knows nothing of it yet.
    pub fn map(dir: &Path) -> Result<Self> {
        // SAFETY: nothing writes to the file while it is mapped.
        let map = unsafe { memmap2::Mmap::map(&File::open(path(dir))?) }?;
        Ok(Records { map, known: OnceLock::new() })
    }

    /// The record at an offset, and where it ends.
    #[inline]
    fn record(&self, at: usize) -> (Record<'_>, usize) {
        let word = |at: usize| u32::from_le_bytes(self.map[at..at + 4].try_into().expect("four bytes"));
        let end = at + word(at) as usize;
        let bytes = &self.map[at + 8..end];
        assert_eq!(crc32fast::hash(bytes), word(at + 4), "the record is intact");
        let [event_type, metadata, name, tag, padding] = [0, 1, 2, 3, 4].map(|n| bytes[n] as usize);
        let (event_type, rest) = bytes[LENGTHS..].split_at(event_type);
        let (metadata, rest) = rest.split_at(metadata);
        let (name, rest) = rest.split_at(name);
        let (tag, rest) = rest.split_at(tag);
        (Record { event_type, metadata, name, tag, data: &rest[padding..] }, end)
    }

    #[inline]
    fn add(&self, at: usize, sum: &mut Sum) -> usize {
        let (record, end) = self.record(at);
        sum.add(record.event_type, record.metadata, record.data);
        end
    }

    /// Scans all; the first time it is asked for.
    fn known(&self) -> &Known {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        self.known.get_or_init(|| {
            let (mut known, mut at) = (Known::default(), 0);
            while at < self.map.len() {
                let (record, end) = self.record(at);
                known.positions.push(at);
                known.streams.entry(text(record.name)).or_default().push(at);
                if !record.tag.is_empty() {
                    let types = known.tags.entry(text(record.tag)).or_default();
                    types.entry(text(record.event_type)).or_default().push(at);
                }
                at = end;
            }
            known
        })
    }

    pub fn replay(&self, positions: Range<u64>, sum: &mut Sum) {
        let mut at = match positions.start {
            0 => 0,
            start => self.known().positions[start as usize],
        };
        for _ in positions {
            at = self.add(at, sum);
        }
    }

    pub fn stream(&self, name: &str, sum: &mut Sum) {
        for &at in &self.known().streams[name] {
            self.add(at, sum);
        }
    }

    /// If it is not known yet where the streams are, one scan finds it.
    pub fn newest(&self, name: &str, sum: &mut Sum) {
        if let Some(known) = self.known.get() {
            self.add(*known.streams[name].last().expect("a stream has events"), sum);
            return;
        }
        let (mut newest, mut at) = (None, 0);
        while at < self.map.len() {
            let (record, end) = self.record(at);
            if record.name == name.as_bytes() {
                newest = Some(at);
            }
            at = end;
        }
        self.add(newest.expect("a stream has events"), sum);
    }

    pub fn find(&self, tag: &str, event_type: &str, sum: &mut Sum) {
        let found = self.known().tags.get(tag).and_then(|types| types.get(event_type));
        for &at in found.into_iter().flatten() {
            self.add(at, sum);
        }
    }
}
