//! A record: one event in the body of a frame. The grammar is in `docs/FORMAT.md`.

use super::checksum::{self, BLOCK, CRC, Mask};
use super::extras::{
    ByteReader, Extras, HAS_CAUSATION, HAS_CORRELATION, HAS_EXTRAS, HAS_ID, HAS_NAMED_TYPE, HAS_OCCURRED, HAS_SCHEMA,
    HAS_TAGS, MAX_LABEL,
};
use super::type_names::{self, NameSlot};
use super::{put, u16_at, u32_at, u64_at, varint};
use crate::error::{Error, Result};
use crate::event::{ContentType, MAX_TAGS, NewEvent};
use crate::stream::{MAX_KEY, MAX_NAME, check_name, is_key};
use crate::system::System;

/// Maximum length of a record, and the highest value of the limit for events.
pub const MAX_RECORD: usize = 1 << 29;

const WIDE: u16 = 1 << 7;
const CONTENT_SHIFT: u32 = 8;
const CONTENT_MASK: u16 = 7;
const UNUSED: u16 = !((1 << 11) - 1);

const ORDINAL: usize = 3;
const TIME: usize = 7;

/// Maximum length of the tail.
const TAIL: usize = ORDINAL + TIME + 8 + CRC;

/// Returns the length of the tail.
fn tail_len(wide: bool) -> usize {
    ORDINAL + TIME + if wide { 8 } else { 4 } + CRC
}

/// A record without what the commit lock decides.
#[derive(Clone, Copy)]
pub struct Unfinished {
    /// Its bytes in its buffer.
    at: u32,
    tail_at: u32,
    /// CRC of everything before the tail.
    crc: u32,
    wide: bool,
    sequence: u64,
}

/// The state from which the CRC of a record without a table continues.
#[derive(Clone, Copy)]
pub struct Whole {
    covered: u32,
    stored: [u8; CRC],
}

impl Whole {
    /// The CRC of the record, its own CRC included.
    pub fn crc(&self) -> u32 {
        checksum::extend(self.covered, &self.stored)
    }
}

/// Checks an event against all limits except those on its size.
fn check(event: &NewEvent<'_>) -> Result<()> {
    check_name("event type", &event.event_type)?;
    if let ContentType::Named(name) = &event.content_type {
        check_name("content type", name)?;
    }
    if event.tags.len() > MAX_TAGS {
        return Err(Error::limit("tags of an event", event.tags.len(), MAX_TAGS));
    }
    for tag in &event.tags {
        if tag.is_empty() {
            return Err(Error::invalid("tag", "it is empty"));
        }
        check_label("bytes in a tag", tag)?;
    }
    check_label("bytes in a correlation id", &event.correlation_id)?;
    check_label("bytes in a causation id", &event.causation_id)
}

fn check_label(what: &'static str, label: &str) -> Result<()> {
    if label.len() > MAX_LABEL {
        return Err(Error::limit(what, label.len(), MAX_LABEL));
    }
    Ok(())
}

fn content_code(content_type: &ContentType) -> u16 {
    match content_type {
        ContentType::Bytes => 0,
        ContentType::Json => 1,
        ContentType::Text => 2,
        ContentType::Bincode => 3,
        ContentType::Named(_) => 7,
    }
}

/// Returns the content type of an event; a name is in its extras.
#[derive(Clone, Copy)]
enum Content {
    Bytes,
    Json,
    Text,
    Bincode,
    Named,
}

/// Returns the content type in the flags, if they have one.
fn content(flags: u16) -> Option<Content> {
    match (flags >> CONTENT_SHIFT) & CONTENT_MASK {
        0 => Some(Content::Bytes),
        1 => Some(Content::Json),
        2 => Some(Content::Text),
        3 => Some(Content::Bincode),
        7 if flags & HAS_NAMED_TYPE != 0 => Some(Content::Named),
        _ => None,
    }
}

fn flags(event: &NewEvent<'_>, wide: bool) -> u16 {
    let given = [
        (HAS_ID, event.id.is_some()),
        (HAS_OCCURRED, event.occurred_at.is_some()),
        (HAS_SCHEMA, event.schema_version != 0),
        (HAS_NAMED_TYPE, matches!(event.content_type, ContentType::Named(_))),
        (HAS_CORRELATION, !event.correlation_id.is_empty()),
        (HAS_CAUSATION, !event.causation_id.is_empty()),
        (HAS_TAGS, !event.tags.is_empty()),
        (WIDE, wide),
    ];
    let bits = given.iter().filter(|(_, given)| *given);
    bits.fold(content_code(&event.content_type) << CONTENT_SHIFT, |flags, (bit, _)| flags | bit)
}

fn put_string(out: &mut Vec<u8>, text: &[u8]) {
    varint::put(out, text.len() as u64);
    out.extend_from_slice(text);
}

fn encode_extras(event: &NewEvent<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(64);
    if let Some(id) = event.id {
        out.extend_from_slice(id.as_bytes());
    }
    if let Some(time) = event.occurred_at {
        out.extend_from_slice(&time.as_nanos().to_le_bytes());
    }
    if event.schema_version != 0 {
        varint::put(&mut out, event.schema_version.into());
    }
    if let ContentType::Named(name) = &event.content_type {
        put_string(&mut out, name.as_bytes());
    }
    for id in [&event.correlation_id, &event.causation_id] {
        if !id.is_empty() {
            put_string(&mut out, id.as_bytes());
        }
    }
    if !event.tags.is_empty() {
        varint::put(&mut out, event.tags.len() as u64);
        for tag in &event.tags {
            put_string(&mut out, tag.as_bytes());
        }
    }
    out
}

/// Appends a record to `out`, without what [`Unfinished::finish`] adds. `wide` makes room for
/// sequences beyond 32 bits.
///
/// # Errors
///
/// [`Error::Invalid`] and [`Error::LimitExceeded`]; `out` is then unchanged.
pub fn encode(out: &mut Vec<u8>, key: &[u8], event: &NewEvent<'_>, wide: bool, max_event: usize) -> Result<Unfinished> {
    check(event)?;
    let flags = flags(event, wide);
    let extras = if flags & HAS_EXTRAS == 0 { Vec::new() } else { encode_extras(event) };
    let string_len = |bytes: &[u8]| varint::len(bytes.len() as u64) + bytes.len();
    let content = 2
        + string_len(key)
        + string_len(event.event_type.as_bytes())
        + string_len(&event.metadata)
        + if flags & HAS_EXTRAS == 0 { 0 } else { string_len(&extras) }
        + event.data.len();

    // The length counts the table, and the table covers the length field: a longer field can need
    // one block more.
    let tail = tail_len(wide);
    let mut len = content + tail;
    loop {
        let covered = varint::len(len as u64) + content;
        let with_table = content + checksum::table_len(covered as u64) as usize + tail;
        if with_table == len {
            break;
        }
        len = with_table;
    }
    let total = varint::len(len as u64) + len;
    if total > max_event {
        return Err(Error::limit("bytes in an event", total, max_event));
    }

    let at = out.len();
    out.reserve(total);
    varint::put(out, len as u64);
    out.extend_from_slice(&flags.to_le_bytes());
    put_string(out, key);
    put_string(out, event.event_type.as_bytes());
    varint::put(out, event.metadata.len() as u64);
    if flags & HAS_EXTRAS != 0 {
        put_string(out, &extras);
    }
    out.extend_from_slice(&event.metadata);
    out.extend_from_slice(&event.data);
    let table_at = out.len();
    let covered = at..table_at;
    let crc = if covered.len() > BLOCK {
        checksum::put_table(out, covered);
        checksum::crc(&out[table_at..])
    } else {
        checksum::crc(&out[covered])
    };
    let tail_at = out.len();
    out.extend_from_slice(&[0; TAIL][..tail]);
    debug_assert_eq!(out.len() - at, total);
    Ok(Unfinished { at: at as u32, tail_at: tail_at as u32, crc, wide, sequence: 0 })
}

/// Appends an intact record to `out`, to be finished at another offset. It keeps its sequence.
///
/// `None` if it breaks the grammar; `out` is then unchanged.
pub fn adopt(out: &mut Vec<u8>, record: &[u8]) -> Option<Unfinished> {
    let parts = decode(record, 0, record.len())?;
    let wide = parts.layout.flags & WIDE != 0;
    let tail_at = record.len() - tail_len(wide);
    let covered = checksum::piece_len(tail_at as u64)? as usize;
    let stands_in = if covered < tail_at { &record[covered..tail_at] } else { &record[..covered] };
    let at = out.len();
    out.extend_from_slice(record);
    let (crc, sequence) = (checksum::crc(stands_in), parts.sequence);
    Some(Unfinished { at: at as u32, tail_at: (at + tail_at) as u32, crc, wide, sequence })
}

impl Unfinished {
    /// Sets the sequence of the event. Returns `false` if there is no room for one that high.
    #[must_use]
    pub fn set_sequence(&mut self, sequence: u64) -> bool {
        self.sequence = sequence;
        self.wide || sequence <= u32::MAX.into()
    }

    /// Returns the start of the record in its buffer.
    pub fn start(&self) -> usize {
        self.at as usize
    }

    /// Adjusts to its buffer, in which something before the record has changed its length from
    /// `before` to `after`.
    pub fn shift(&mut self, before: usize, after: usize) {
        let moved = |at: u32| at - before as u32 + after as u32;
        self.at = moved(self.at);
        self.tail_at = moved(self.tail_at);
    }

    /// Fills the tail. `out` is the buffer that the record was encoded into, whose first byte will
    /// be at `buffer_at` in the segment; `ordinal` and `time` are relative to the segment's first
    /// position and base time. Returns the state from which the CRC continues.
    #[inline]
    pub fn finish(&self, out: &mut [u8], mask: Mask, buffer_at: u64, ordinal: u64, time: u64) -> Whole {
        let mut tail = [0; ORDINAL + TIME + 8];
        put(&mut tail, 0, &ordinal.to_le_bytes()[..ORDINAL]);
        put(&mut tail, ORDINAL, &time.to_le_bytes()[..TIME]);
        put(&mut tail, ORDINAL + TIME, &self.sequence.to_le_bytes());
        let tail = &tail[..tail_len(self.wide) - CRC];
        let covered = checksum::extend(self.crc, tail);
        let stored = mask.stored(covered, buffer_at + u64::from(self.at)).to_le_bytes();
        put(out, self.tail_at as usize, tail);
        put(out, self.tail_at as usize + tail.len(), &stored);
        Whole { covered, stored }
    }
}

/// Returns the length of the record at the start of `bytes`, length field included; `None` if it is
/// cut off, or cannot be a record.
#[inline]
pub fn len(bytes: &[u8]) -> Option<usize> {
    let (len, field) = varint::get(bytes)?;
    let len = usize::try_from(len).ok().filter(|&len| len <= MAX_RECORD)?;
    Some(field + len)
}

/// Returns whether `record`, at `offset`, has the CRC in its tail. `false` also if it is too short.
pub fn verify(record: &[u8], mask: Mask, offset: u64) -> bool {
    let Some((_, field)) = varint::get(record) else { return false };
    if record.len() < field + 2 {
        return false;
    }
    let tail = tail_len(u16_at(record, field) & WIDE != 0);
    let Some(tail_at) = record.len().checked_sub(tail) else { return false };
    let Some(covered) = checksum::piece_len(tail_at as u64) else { return false };
    let (content, table) = record[..tail_at].split_at(covered as usize);
    let crc_at = record.len() - CRC;
    // The table, or else the content, is right before the tail.
    let from = if table.is_empty() { 0 } else { content.len() };
    let crc = checksum::crc(&record[from..crc_at]);
    mask.stored(crc, offset) == u32_at(record, crc_at) && (table.is_empty() || checksum::table_holds(content, table))
}

/// The parts of an event, relative to the start of the bytes that were decoded. Text was checked to
/// be UTF-8.
#[derive(Clone, Copy)]
pub struct Layout {
    key_at: u32,
    type_at: u32,
    extras_at: u32,
    metadata_at: u32,
    data_at: u32,
    data_end: u32,
    key_len: u16,
    flags: u16,
    type_len: u8,
    type_slot: NameSlot,
    content: Content,
}

impl Layout {
    #[inline]
    pub fn key(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.key_at as usize..][..self.key_len.into()]
    }

    #[inline]
    pub fn event_type(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.type_at as usize..][..self.type_len.into()]
    }

    #[inline]
    pub fn type_name(self, bytes: &[u8]) -> &str {
        type_names::name(self.type_slot, self.event_type(bytes))
    }

    #[inline]
    pub fn metadata(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.metadata_at as usize..self.data_at as usize]
    }

    #[inline]
    pub fn data(self, bytes: &[u8]) -> &[u8] {
        &bytes[self.data_at as usize..self.data_end as usize]
    }

    /// Returns the parts that few events have.
    #[inline]
    pub fn extras(self, bytes: &[u8]) -> Extras<'_> {
        let Layout { flags, extras_at, metadata_at, .. } = self;
        let bytes = if flags & HAS_EXTRAS == 0 { &[] } else { &bytes[extras_at as usize..metadata_at as usize] };
        Extras::new(flags, bytes)
    }

    pub fn content_type(self, bytes: &[u8]) -> ContentType {
        match self.content {
            Content::Bytes => ContentType::Bytes,
            Content::Json => ContentType::Json,
            Content::Text => ContentType::Text,
            Content::Bincode => ContentType::Bincode,
            Content::Named => {
                let name = self.extras(bytes).content_name().unwrap_or_default();
                ContentType::Named(String::from_utf8_lossy(name).into_owned())
            }
        }
    }
}

/// The content of a record.
pub struct RecordParts {
    pub layout: Layout,
    pub ordinal: u64,
    pub time: u64,
    pub sequence: u64,
}

impl RecordParts {
    /// Returns the position and the time of an event in a segment that begins with these; `None` if
    /// they would overflow.
    #[inline]
    pub fn place(&self, first_position: u64, base_time: i64) -> Option<(u64, i64)> {
        Some((first_position.checked_add(self.ordinal)?, base_time.checked_add_unsigned(self.time)?))
    }
}

/// How the last decoded record began: its flags, stream and type. The next one often begins with
/// the same bytes, which need not be checked again.
#[derive(Clone, Copy, Default)]
pub struct Beginning {
    at: usize,
    /// From `at` on; 0 if there is none.
    len: usize,
    /// Where stream and type are, from `at` on.
    names: RecordNames,
}

#[derive(Clone, Copy, Default)]
struct RecordNames {
    key: u16,
    key_len: u16,
    event_type: u16,
    type_len: u8,
    type_slot: NameSlot,
}

impl Beginning {
    /// Returns whether a record whose flags are at `at` begins in the same way.
    #[inline(always)]
    fn is_again(&self, bytes: &[u8], at: usize, end: usize) -> bool {
        if self.len == 0 || self.len > end - at {
            return false;
        }
        let (this, last) = (&bytes[at..at + self.len], &bytes[self.at..][..self.len]);
        // Where streams alternate, most differ in the last byte of their keys.
        let after = usize::from(self.names.key + self.names.key_len);
        this[after - 1] == last[after - 1] && this == last
    }

    /// Decodes that of the record whose flags are at `at`; `None` if its stream or its type break
    /// the grammar.
    #[inline(always)]
    fn read(bytes: &[u8], at: usize, end: usize) -> Option<Self> {
        let mut reader = ByteReader::new(&bytes[..end], at + 2);
        let key = reader.string()?;
        let key_at = reader.at() - key.len();
        let event_type = reader.string().filter(|name| (1..=MAX_NAME).contains(&name.len()))?;
        if key.len() > MAX_KEY || !(is_key(key) || System::of(key).is_some()) {
            return None;
        }
        let type_slot = type_names::slot(event_type)?;
        let names = RecordNames {
            key: (key_at - at) as u16,
            key_len: key.len() as u16,
            event_type: (reader.at() - event_type.len() - at) as u16,
            type_len: event_type.len() as u8,
            type_slot,
        };
        Some(Beginning { at, len: reader.at() - at, names })
    }
}

/// Decodes the record at `bytes[at..end]`, whose checksum (its own or that of its frame) has been
/// verified; `None` if it breaks the grammar.
pub fn decode(bytes: &[u8], at: usize, end: usize) -> Option<RecordParts> {
    decode_next(bytes, at, end, &mut Beginning::default())
}

/// Decodes one of many records in the same bytes, which must not change meanwhile.
#[inline(always)]
pub fn decode_next(bytes: &[u8], at: usize, end: usize, last: &mut Beginning) -> Option<RecordParts> {
    let (_, field) = varint::get(&bytes[at..end])?;
    let flags_at = at + field;
    if end - flags_at < 2 {
        return None;
    }
    let flags = u16_at(bytes, flags_at);
    let wide = flags & WIDE != 0;
    let tail_at = end.checked_sub(tail_len(wide)).filter(|&tail| tail >= flags_at + 2)?;
    let content_end = at + checksum::piece_len((tail_at - at) as u64)? as usize;
    let content = content(flags)?;
    if flags & UNUSED != 0 || content_end < flags_at + 2 {
        return None;
    }
    if !last.is_again(bytes, flags_at, content_end) {
        *last = Beginning::read(bytes, flags_at, content_end)?;
    }
    let mut reader = ByteReader::new(&bytes[..content_end], flags_at + last.len);
    let metadata_len = reader.varint()?;
    let extras_len = if flags & HAS_EXTRAS != 0 { reader.varint()? } else { 0 };
    let extras_at = reader.at();
    let extras = reader.take(extras_len)?;
    if flags & HAS_EXTRAS != 0 && !Extras::new(flags, extras).is_sound() {
        return None;
    }
    let metadata_at = reader.at();
    reader.take(metadata_len)?;
    let sequence_at = tail_at + ORDINAL + TIME;
    let names = &last.names;
    Some(RecordParts {
        layout: Layout {
            key_at: (flags_at + usize::from(names.key)) as u32,
            type_at: (flags_at + usize::from(names.event_type)) as u32,
            extras_at: extras_at as u32,
            metadata_at: metadata_at as u32,
            data_at: reader.at() as u32,
            data_end: content_end as u32,
            key_len: names.key_len,
            flags,
            type_len: names.type_len,
            type_slot: names.type_slot,
            content,
        },
        // Overlapping reads of eight bytes; the tail and what must be before it are long enough.
        ordinal: u64::from(u32_at(bytes, tail_at) & 0xFF_FFFF),
        time: u64_at(bytes, tail_at + ORDINAL - 1) >> 8,
        sequence: if wide { u64_at(bytes, sequence_at) } else { u32_at(bytes, sequence_at).into() },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::format::event::{Block, Event};
    use crate::format::segment_header::SegmentHeader;
    use crate::time::Timestamp;
    use std::sync::Arc;
    use uuid::Uuid;

    const HEADER: SegmentHeader = SegmentHeader {
        store: [4; 16],
        number: 1,
        first_position: 500,
        salt: 11,
        base_time: 1_000,
        previous_digest: 0,
        previous_len: 0,
    };

    fn stored(event: &NewEvent<'_>, sequence: u64) -> Vec<u8> {
        let mut out = b"before".to_vec();
        let key = b"\x05order7";
        let wide = sequence > u64::from(u32::MAX);
        let mut record = encode(&mut out, key, event, wide, MAX_RECORD).unwrap();
        assert!(record.set_sequence(sequence));
        record.finish(&mut out, HEADER.mask(), 4096 - 6, 0xABCDEF, 0x0011_2233_4455_6677);
        out[6..].to_vec()
    }

    fn read(bytes: &[u8]) -> Option<Event> {
        let whole = len(bytes)? == bytes.len();
        if !whole || !verify(bytes, HEADER.mask(), 4096) {
            return None;
        }
        let parts = decode(bytes, 0, bytes.len())?;
        let block = Arc::new(Block { bytes: bytes.to_vec(), id_seed: HEADER.id_seed() });
        Event::new(&block, &parts, &HEADER)
    }

    fn full() -> NewEvent<'static> {
        NewEvent::new("Paid", b"\xFF\x00 data")
            .content_type(ContentType::Named("x/y".into()))
            .schema_version(300)
            .metadata(&b"meta"[..])
            .id(Uuid::from_u128(77))
            .occurred_at(Timestamp::from_nanos(-5))
            .correlation_id("corr")
            .causation_id("cause")
            .tags(["a:1", "b"])
    }

    #[test]
    fn all_fields_come_back() {
        let event = read(&stored(&full(), u64::MAX)).unwrap();
        assert_eq!(event.position(), 500 + 0xABCDEF);
        assert_eq!(event.sequence(), u64::MAX);
        assert_eq!(event.recorded_at().as_nanos(), 1_000 + 0x0011_2233_4455_6677);
        assert_eq!(event.stream().to_string(), "order-7");
        assert_eq!(event.event_type(), "Paid");
        assert_eq!(event.data(), b"\xFF\x00 data");
        assert_eq!(event.metadata(), b"meta");
        assert_eq!(event.id(), Uuid::from_u128(77));
        assert_eq!(event.occurred_at(), Some(Timestamp::from_nanos(-5)));
        assert_eq!(event.correlation_id(), Some("corr"));
        assert_eq!(event.causation_id(), Some("cause"));
        assert_eq!(event.tags().collect::<Vec<_>>(), ["a:1", "b"]);
        assert_eq!(event.schema_version(), 300);
        assert_eq!(event.content_type(), ContentType::Named("x/y".into()));
    }

    #[test]
    fn data_of_every_size_around_the_blocks_come_back() {
        let sizes = (0..3).chain(8100..8300).chain(16_300..16_500).chain([1 << 20]);
        for size in sizes {
            let data: Vec<u8> = (0..size).map(|i| i as u8).collect();
            let event = read(&stored(&NewEvent::new("T", &data), 1)).unwrap();
            assert_eq!(event.data(), data, "{size}");
        }
    }

    #[test]
    fn adopted_records_are_the_same_in_another_place() {
        for event in [full(), NewEvent::with_data("T", vec![7; 9000])] {
            let bytes = stored(&event, u64::MAX);
            let mut out = b"before".to_vec();
            let adopted = adopt(&mut out, &bytes).unwrap();
            adopted.finish(&mut out, HEADER.mask(), 4096 - 6, 0xABCDEF, 0x0011_2233_4455_6677);
            assert_eq!(out[6..], bytes);
            adopted.finish(&mut out, HEADER.mask(), 8192, 1, 2);
            assert!(verify(&out[6..], HEADER.mask(), 8192 + 6) && out[6..] != bytes);
        }
    }

    #[test]
    fn every_flipped_bit_of_a_record_shows() {
        for event in [full(), NewEvent::with_data("T", vec![7; 9000])] {
            let mut bytes = stored(&event, 3);
            for bit in 0..bytes.len() * 8 {
                bytes[bit / 8] ^= 1 << (bit % 8);
                assert!(read(&bytes).is_none(), "bit {bit}");
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    #[test]
    fn limits_are_checked() {
        let mut out = Vec::new();
        let mut refused = |event: NewEvent<'_>| {
            let result = encode(&mut out, b"\x01a", &event, false, 1000);
            assert!(result.is_err() && out.is_empty());
        };
        refused(NewEvent::new("", ""));
        refused(NewEvent::new("x".repeat(256), ""));
        refused(NewEvent::new("T", "").tag(""));
        refused(NewEvent::new("T", "").tag("x".repeat(1025)));
        refused(NewEvent::new("T", "").tags((0..1025).map(|i| i.to_string())));
        refused(NewEvent::new("T", "").correlation_id("x".repeat(1025)));
        refused(NewEvent::new("T", "").content_type(ContentType::Named(String::new())));
        refused(NewEvent::with_data("T", vec![0; 1000]));
    }

    /// Whatever the bytes are: no panic, and spans that stay inside.
    #[test]
    fn garbage_never_panics() {
        let good = stored(&full(), 3);
        for at in 0..good.len() {
            for value in [0, 1, 0x7F, 0x80, 0xFF] {
                let mut bytes = good.clone();
                bytes[at] = value;
                for end in 0..=bytes.len() {
                    if let Some(parts) = decode(&bytes, 0, end) {
                        let block = Arc::new(Block { bytes: bytes.clone(), id_seed: 0 });
                        if let Some(event) = Event::new(&block, &parts, &HEADER) {
                            let _ = (event.data(), event.tags().count(), event.id(), event.stream());
                        }
                    }
                }
            }
        }
    }
}
