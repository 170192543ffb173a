//! Extras: the parts of a record that few events have. They are checked when the record is decoded,
//! and found when they are used: most readers use none or one of them.

use super::{array, varint};
use crate::event::MAX_TAGS;
use crate::stream::MAX_NAME;
use crate::time::Timestamp;
use uuid::Uuid;

pub(super) const HAS_ID: u16 = 1;
pub(super) const HAS_OCCURRED: u16 = 1 << 1;
pub(super) const HAS_SCHEMA: u16 = 1 << 2;
pub(super) const HAS_NAMED_TYPE: u16 = 1 << 3;
pub(super) const HAS_CORRELATION: u16 = 1 << 4;
pub(super) const HAS_CAUSATION: u16 = 1 << 5;
pub(super) const HAS_TAGS: u16 = 1 << 6;
pub(super) const HAS_EXTRAS: u16 = (1 << 7) - 1;

pub(super) const MAX_LABEL: usize = 1024;

/// A reader over bytes that came from a file: nothing in it panics, and nothing in it allocates.
pub(super) struct ByteReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> ByteReader<'a> {
    /// Returns a reader that begins at `at`, which must be inside the bytes.
    #[inline(always)]
    pub(super) fn new(bytes: &'a [u8], at: usize) -> Self {
        ByteReader { bytes, at }
    }

    #[inline(always)]
    pub(super) fn at(&self) -> usize {
        self.at
    }

    #[inline(always)]
    pub(super) fn varint(&mut self) -> Option<usize> {
        let (value, len) = varint::get(self.bytes.get(self.at..)?)?;
        self.at += len;
        usize::try_from(value).ok()
    }

    #[inline(always)]
    pub(super) fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let taken = self.bytes.get(self.at..self.at.checked_add(len)?)?;
        self.at += len;
        Some(taken)
    }

    #[inline(always)]
    pub(super) fn string(&mut self) -> Option<&'a [u8]> {
        let len = self.varint()?;
        self.take(len)
    }

    #[inline(always)]
    pub(super) fn text(&mut self, max: usize) -> Option<&'a [u8]> {
        let bytes = self.string()?;
        let sound = !bytes.is_empty() && bytes.len() <= max && (bytes.is_ascii() || str::from_utf8(bytes).is_ok());
        sound.then_some(bytes)
    }
}

/// The extras of a record, with the flags that say which of them exist.
#[derive(Clone, Copy)]
pub struct Extras<'a> {
    flags: u16,
    bytes: &'a [u8],
}

impl<'a> Extras<'a> {
    #[inline]
    pub(super) fn new(flags: u16, bytes: &'a [u8]) -> Self {
        Extras { flags, bytes }
    }

    #[inline]
    fn has(self, bit: u16) -> bool {
        self.flags & bit != 0
    }

    /// Returns whether they follow the grammar.
    pub(super) fn is_sound(self) -> bool {
        let mut reader = ByteReader::new(self.bytes, 0);
        let sound = self.check(&mut reader).is_some();
        sound && reader.at == self.bytes.len()
    }

    fn check(self, reader: &mut ByteReader<'a>) -> Option<()> {
        if self.has(HAS_ID) {
            reader.take(16)?;
        }
        if self.has(HAS_OCCURRED) {
            reader.take(8)?;
        }
        if self.has(HAS_SCHEMA) {
            u32::try_from(reader.varint()?).ok()?;
        }
        for (bit, max) in [(HAS_NAMED_TYPE, MAX_NAME), (HAS_CORRELATION, MAX_LABEL), (HAS_CAUSATION, MAX_LABEL)] {
            if self.has(bit) {
                reader.text(max)?;
            }
        }
        if self.has(HAS_TAGS) {
            let count = reader.varint().filter(|&count| count <= MAX_TAGS)?;
            for _ in 0..count {
                reader.text(MAX_LABEL)?;
            }
        }
        Some(())
    }

    /// Returns the part with this flag, if it exists: a string without its length, tags with their
    /// number.
    fn part(self, wanted: u16) -> Option<&'a [u8]> {
        if !self.has(wanted) {
            return None;
        }
        let mut reader = ByteReader::new(self.bytes, 0);
        let mut bit = HAS_ID;
        loop {
            let part = match bit {
                _ if !self.has(bit) => &[],
                HAS_ID => reader.take(16)?,
                HAS_OCCURRED => reader.take(8)?,
                HAS_SCHEMA => {
                    let at = reader.at;
                    reader.varint()?;
                    &self.bytes[at..reader.at]
                }
                HAS_TAGS => &self.bytes[reader.at..],
                _ => reader.string()?,
            };
            if bit == wanted {
                return Some(part);
            }
            bit <<= 1;
        }
    }

    pub fn id(self) -> Option<Uuid> {
        Some(Uuid::from_bytes(array(self.part(HAS_ID)?, 0)))
    }

    pub fn occurred_at(self) -> Option<Timestamp> {
        let nanos = i64::from_le_bytes(array(self.part(HAS_OCCURRED)?, 0));
        Some(Timestamp::from_nanos(nanos))
    }

    pub fn schema_version(self) -> u32 {
        let version = self.part(HAS_SCHEMA).and_then(varint::get);
        version.map_or(0, |(version, _)| version as u32)
    }

    pub fn content_name(self) -> Option<&'a [u8]> {
        self.part(HAS_NAMED_TYPE)
    }

    pub fn correlation_id(self) -> Option<&'a [u8]> {
        self.part(HAS_CORRELATION)
    }

    pub fn causation_id(self) -> Option<&'a [u8]> {
        self.part(HAS_CAUSATION)
    }

    pub fn tags(self) -> Tags<'a> {
        let mut reader = ByteReader::new(self.part(HAS_TAGS).unwrap_or_default(), 0);
        let left = reader.varint().unwrap_or(0);
        Tags { reader, left }
    }
}

/// The tags of an event, one after the other.
pub struct Tags<'a> {
    reader: ByteReader<'a>,
    left: usize,
}

impl<'a> Iterator for Tags<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        self.left = self.left.checked_sub(1)?;
        self.reader.string()
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Tags<'_> {}
