//! The positions file: a header, and a batch for each flush. The grammar is in `docs/FORMAT.md`.
//!
//! ```text
//! header (64)   0       8         10    12       16         32     40        48        56     60
//!               | magic | version | min | length | store id | salt | durable_len | lineage | zero | CRC |
//!
//! batch header  0       4     8        16            20        24         28
//!        (32)   | magic | CRC | number | body length | entries | previous | body CRC |   then the body, then its table
//! ```

use super::checksum::{self, BLOCK, CRC, Mask, crc};
use super::{VERSION, array, check_version, put, u16_at, u32_at, u64_at, varint};
use crate::error::{Error, Result};
use crate::stream::{MAX_NAME, MAX_ROOT, StreamId, split_key};
use std::path::Path;

pub const HEADER: usize = 64;
const CRC_AT: usize = HEADER - CRC;
const MAGIC: [u8; 8] = *b"\x89ANP\r\n\x1A\n";

pub const BATCH: usize = 32;
pub const BATCH_MAGIC: [u8; 4] = *b"\xA7PB\n";
const BODY_CRC_AT: usize = 28;

/// Maximum length of the body of a batch.
pub const MAX_BODY: usize = 16 << 20;

const GROUP: u8 = 1;
const PUT: u8 = 2;
const DELETE: u8 = 3;
const CHECKPOINT: u8 = 4;
const NO_CHECKPOINT: u8 = 5;
const LETTER: u8 = 6;
const NO_LETTER: u8 = 7;

/// The recorded time of an entry that is not bound: there was no event when it was made.
pub const UNBOUND: i64 = i64::MIN;

/// Maximum length of the reason of a dead letter, in bytes.
pub const MAX_REASON: usize = 1024;

/// The header of the file. It is written last, before the file gets its name, and never changed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct FileHeader {
    pub store: [u8; 16],
    pub salt: u64,
    /// The bytes below this offset were durable before the file got its name: an error in them is
    /// damage.
    pub durable_len: u64,
}

impl FileHeader {
    pub fn encode(&self) -> [u8; HEADER] {
        let mut out = [0; HEADER];
        put(&mut out, 0, &MAGIC);
        put(&mut out, 8, &VERSION.to_le_bytes());
        put(&mut out, 10, &1u16.to_le_bytes());
        put(&mut out, 12, &(HEADER as u32).to_le_bytes());
        put(&mut out, 16, &self.store);
        put(&mut out, 32, &self.salt.to_le_bytes());
        put(&mut out, 40, &self.durable_len.to_le_bytes());
        let crc = crc(&out[..CRC_AT]);
        put(&mut out, CRC_AT, &crc.to_le_bytes());
        out
    }

    /// Decodes the header; `Ok(None)` if the bytes are not one.
    ///
    /// # Errors
    ///
    /// [`Error::UnsupportedFormat`] if they are, but of a newer version.
    pub fn decode(bytes: &[u8], path: &Path) -> Result<Option<Self>> {
        if bytes.len() < HEADER || bytes[..8] != MAGIC {
            return Ok(None);
        }
        check_version(path, u16_at(bytes, 8), u16_at(bytes, 10))?;
        if crc(&bytes[..CRC_AT]) != u32_at(bytes, CRC_AT) {
            return Ok(None);
        }
        let unsupported = |found: String| Err(Error::UnsupportedFormat { path: path.to_owned(), found });
        if u32_at(bytes, 12) != HEADER as u32 {
            return unsupported(format!("a positions file with a header of {} bytes", u32_at(bytes, 12)));
        }
        if u64_at(bytes, 48) != 0 {
            return unsupported(format!("a positions file of lineage {}", u64_at(bytes, 48)));
        }
        Ok(Some(FileHeader { store: array(bytes, 16), salt: u64_at(bytes, 32), durable_len: u64_at(bytes, 40) }))
    }

    /// Decodes the header of a file that may be damaged. A newer version only counts if the
    /// checksum holds.
    ///
    /// # Errors
    ///
    /// [`Error::UnsupportedFormat`] if the header is intact, and of a newer version.
    pub fn decode_damaged(bytes: &[u8], path: &Path) -> Result<Option<Self>> {
        let whole = bytes.len() >= HEADER && crc(&bytes[..CRC_AT]) == u32_at(bytes, CRC_AT);
        if whole { Self::decode(bytes, path) } else { Ok(None) }
    }

    /// Segments are numbered from 1 on: 0 is for this file.
    pub fn mask(&self) -> Mask {
        Mask::new(&self.store, 0, self.salt)
    }

    /// Returns what the first batch has as the CRC of its predecessor.
    pub fn chain(&self) -> u32 {
        crc(&self.encode()[16..40])
    }
}

/// The header of a batch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchHeader {
    pub number: u64,
    /// The CRC field of the batch before, as stored.
    pub previous: u32,
    /// The CRC field of this one.
    pub crc: u32,
    pub entries: u32,
    body_len: u32,
    body_crc: u32,
}

impl BatchHeader {
    /// Completes a batch in `bytes`, which hold [`BATCH`] bytes of any value and then the body:
    /// writes the header and appends the table.
    ///
    /// # Panics
    ///
    /// If the body is longer than [`MAX_BODY`].
    pub fn finish(bytes: &mut Vec<u8>, entries: u32, number: u64, previous: u32, mask: Mask, at: u64) -> BatchHeader {
        let len = bytes.len() - BATCH;
        assert!(len <= MAX_BODY, "a body of {len} bytes");
        let covered = if len > BLOCK {
            checksum::put_table(bytes, BATCH..BATCH + len);
            crc(&bytes[BATCH + len..])
        } else {
            crc(&bytes[BATCH..])
        };
        let body_crc = mask.stored(covered, at + BODY_CRC_AT as u64);
        put(bytes, 0, &BATCH_MAGIC);
        put(bytes, 8, &number.to_le_bytes());
        put(bytes, 16, &(len as u32).to_le_bytes());
        put(bytes, 20, &entries.to_le_bytes());
        put(bytes, 24, &previous.to_le_bytes());
        put(bytes, BODY_CRC_AT, &body_crc.to_le_bytes());
        let crc = mask.stored(crc(&bytes[8..BATCH]), at);
        put(bytes, 4, &crc.to_le_bytes());
        BatchHeader { number, previous, crc, entries, body_len: len as u32, body_crc }
    }

    /// Decodes the header at the start of `bytes`, whose offset is `at`; `None` if there is none.
    pub fn decode(bytes: &[u8], mask: Mask, at: u64) -> Option<Self> {
        if bytes.len() < BATCH || bytes[..4] != BATCH_MAGIC {
            return None;
        }
        let header = BatchHeader {
            number: u64_at(bytes, 8),
            previous: u32_at(bytes, 24),
            crc: u32_at(bytes, 4),
            entries: u32_at(bytes, 20),
            body_len: u32_at(bytes, 16),
            body_crc: u32_at(bytes, BODY_CRC_AT),
        };
        let holds = mask.stored(crc(&bytes[8..BATCH]), at) == header.crc;
        let sound = header.body_len as usize <= MAX_BODY && (header.body_len == 0) == (header.entries == 0);
        (holds && sound && header.number > 0).then_some(header)
    }

    /// Returns whether it is a mark: everything before it was durable.
    pub fn is_mark(&self) -> bool {
        self.entries == 0
    }

    /// Returns the length of body and table together.
    pub fn rest_len(&self) -> u64 {
        u64::from(self.body_len) + checksum::table_len(self.body_len.into())
    }

    /// Returns the body, if it is intact. `rest` is what follows the header, whose offset is `at`.
    pub fn body<'a>(&self, rest: &'a [u8], mask: Mask, at: u64) -> Option<&'a [u8]> {
        let rest = rest.get(..self.rest_len() as usize)?;
        let (body, table) = rest.split_at(self.body_len as usize);
        let covered = if table.is_empty() { crc(body) } else { crc(table) };
        let holds = mask.stored(covered, at + BODY_CRC_AT as u64) == self.body_crc
            && (table.is_empty() || checksum::table_holds(body, table));
        let body = holds.then_some(body)?;
        is_sound(body, self.entries).then_some(body)
    }

    /// Decodes the header at the start of `bytes`, and returns it with the mask under which it is
    /// intact: for a file whose own header, and with it the salt, is lost. Only a body that is
    /// intact under the same mask proves it.
    pub fn implied(bytes: &[u8], at: u64) -> Option<(Self, Mask)> {
        if bytes.len() < BATCH {
            return None;
        }
        let mask = Mask::implied(crc(&bytes[8..BATCH]), u32_at(bytes, 4), at);
        Some((Self::decode(bytes, mask, at)?, mask))
    }
}

/// The common part of positions: handler, edition, domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HandlerGroup<'a> {
    pub handler: &'a str,
    /// `None` is the main one.
    pub edition: Option<&'a str>,
    /// Which of the successive editions of this name; 0 in the main one.
    pub epoch: u64,
    pub domain: &'a str,
}

impl<'a> HandlerGroup<'a> {
    /// Returns the group of a stream with this key, and its root.
    pub fn of(handler: &'a str, key: &'a [u8], epoch: u64) -> (Self, &'a [u8]) {
        let parts = split_key(key).expect("a stream has a valid key");
        let epoch = if parts.edition.is_some() { epoch } else { 0 };
        (HandlerGroup { handler, edition: parts.edition, epoch, domain: parts.domain }, parts.root)
    }

    /// Returns the stream of the group with this root.
    pub fn stream(&self, root: &[u8]) -> StreamId {
        let stream = StreamId::new(self.domain, root);
        let stream = stream.and_then(|stream| stream.in_edition(self.edition.unwrap_or("")));
        stream.expect("the parts were those of a stream")
    }

    pub fn encode(&self, out: &mut Vec<u8>) {
        put_bytes(out, self.handler.as_bytes());
        put_bytes(out, self.edition.unwrap_or("").as_bytes());
        varint::put(out, self.epoch);
        put_bytes(out, self.domain.as_bytes());
    }

    /// Decodes the group at the start of `bytes`, and returns it with its length.
    pub fn decode(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let mut cursor = ByteCursor { bytes, at: 0 };
        let handler = cursor.name()?;
        let edition = str::from_utf8(cursor.bytes(MAX_NAME)?).ok()?;
        let epoch = cursor.varint()?;
        let domain = cursor.name()?;
        let edition = (!edition.is_empty()).then_some(edition);
        let sound = match edition {
            None => epoch == 0,
            Some(edition) => edition != "main",
        };
        sound.then_some((HandlerGroup { handler, edition, epoch, domain }, cursor.at))
    }
}

/// An entry of a body.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ProgressEntry<'a> {
    /// The positions that follow are of this group.
    Group(HandlerGroup<'a>),
    Put {
        root: &'a [u8],
        sequence: u64,
        /// The recorded time of the event with this sequence, or [`UNBOUND`].
        recorded_at: i64,
    },
    Delete {
        root: &'a [u8],
    },
    Checkpoint {
        name: &'a str,
        position: u64,
        version: u64,
        /// The recorded time of the event at this position, or [`UNBOUND`].
        recorded_at: i64,
    },
    NoCheckpoint {
        name: &'a str,
    },
    /// A consumer has given up the event at this position.
    DeadLetter {
        name: &'a str,
        position: u64,
        attempts: u64,
        /// When it gave up, in nanoseconds since 1970.
        time: i64,
        /// The recorded time of the event, or [`UNBOUND`].
        recorded_at: i64,
        reason: &'a str,
    },
    NoLetter {
        name: &'a str,
        position: u64,
    },
}

impl<'a> ProgressEntry<'a> {
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            ProgressEntry::Group(group) => {
                out.push(GROUP);
                group.encode(out);
            }
            ProgressEntry::Put { root, sequence, recorded_at } => {
                out.push(PUT);
                put_bytes(out, root);
                varint::put(out, sequence);
                out.extend_from_slice(&recorded_at.to_le_bytes());
            }
            ProgressEntry::Delete { root } => {
                out.push(DELETE);
                put_bytes(out, root);
            }
            ProgressEntry::Checkpoint { name, position, version, recorded_at } => {
                out.push(CHECKPOINT);
                put_bytes(out, name.as_bytes());
                varint::put(out, position);
                varint::put(out, version);
                out.extend_from_slice(&recorded_at.to_le_bytes());
            }
            ProgressEntry::NoCheckpoint { name } => {
                out.push(NO_CHECKPOINT);
                put_bytes(out, name.as_bytes());
            }
            ProgressEntry::DeadLetter { name, position, attempts, time, recorded_at, reason } => {
                out.push(LETTER);
                put_bytes(out, name.as_bytes());
                varint::put(out, position);
                varint::put(out, attempts);
                out.extend_from_slice(&time.to_le_bytes());
                out.extend_from_slice(&recorded_at.to_le_bytes());
                put_bytes(out, reason.as_bytes());
            }
            ProgressEntry::NoLetter { name, position } => {
                out.push(NO_LETTER);
                put_bytes(out, name.as_bytes());
                varint::put(out, position);
            }
        }
    }

    /// Decodes the entry at the start of `bytes`, and returns it with its length.
    fn decode(bytes: &'a [u8]) -> Option<(Self, usize)> {
        let (kind, rest) = bytes.split_first()?;
        let mut cursor = ByteCursor { bytes: rest, at: 0 };
        let entry = match *kind {
            GROUP => {
                let (group, len) = HandlerGroup::decode(rest)?;
                cursor.at = len;
                ProgressEntry::Group(group)
            }
            PUT => ProgressEntry::Put {
                root: cursor.bytes(MAX_ROOT)?,
                sequence: cursor.varint()?,
                recorded_at: cursor.time()?,
            },
            DELETE => ProgressEntry::Delete { root: cursor.bytes(MAX_ROOT)? },
            CHECKPOINT => ProgressEntry::Checkpoint {
                name: cursor.name()?,
                position: cursor.varint()?,
                version: cursor.varint()?,
                recorded_at: cursor.time()?,
            },
            NO_CHECKPOINT => ProgressEntry::NoCheckpoint { name: cursor.name()? },
            LETTER => ProgressEntry::DeadLetter {
                name: cursor.name()?,
                position: cursor.varint()?,
                attempts: cursor.varint()?,
                time: cursor.time()?,
                recorded_at: cursor.time()?,
                reason: str::from_utf8(cursor.bytes(MAX_REASON)?).ok()?,
            },
            NO_LETTER => ProgressEntry::NoLetter { name: cursor.name()?, position: cursor.varint()? },
            _ => return None,
        };
        Some((entry, 1 + cursor.at))
    }
}

/// Iterates over the entries of a body, as far as they can be decoded: all of them, if
/// [`BatchHeader::body`] returned it.
pub fn entries(body: &[u8]) -> impl Iterator<Item = ProgressEntry<'_>> {
    let mut rest = body;
    std::iter::from_fn(move || {
        let (entry, len) = ProgressEntry::decode(rest)?;
        rest = &rest[len..];
        Some(entry)
    })
}

/// Returns whether a body consists of this many entries, each position after a group.
fn is_sound(body: &[u8], count: u32) -> bool {
    let (mut rest, mut found, mut grouped) = (body, 0u32, false);
    while !rest.is_empty() {
        let Some((entry, len)) = ProgressEntry::decode(rest) else { return false };
        grouped |= matches!(entry, ProgressEntry::Group(_));
        if !grouped && matches!(entry, ProgressEntry::Put { .. } | ProgressEntry::Delete { .. }) {
            return false;
        }
        found += 1;
        rest = &rest[len..];
    }
    found == count
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    varint::put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

struct ByteCursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> ByteCursor<'a> {
    fn varint(&mut self) -> Option<u64> {
        let (value, len) = varint::get(self.bytes.get(self.at..)?)?;
        self.at += len;
        Some(value)
    }

    fn time(&mut self) -> Option<i64> {
        let bytes = self.bytes.get(self.at..)?.first_chunk()?;
        self.at += bytes.len();
        Some(i64::from_le_bytes(*bytes))
    }

    /// Returns as many bytes as the varint before them says, but not more than `most`.
    fn bytes(&mut self, most: usize) -> Option<&'a [u8]> {
        let len = usize::try_from(self.varint()?).ok().filter(|&len| len <= most)?;
        let bytes = self.bytes.get(self.at..)?.get(..len)?;
        self.at += len;
        Some(bytes)
    }

    fn name(&mut self) -> Option<&'a str> {
        let name = str::from_utf8(self.bytes(MAX_NAME)?).ok()?;
        (!name.is_empty()).then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: FileHeader = FileHeader { store: [9; 16], salt: 0x1234_5678_9ABC_DEF0, durable_len: 4000 };
    const GROUP: HandlerGroup<'_> =
        HandlerGroup { handler: "billing", edition: Some("what-if"), epoch: 300, domain: "order" };
    const ENTRIES: [ProgressEntry<'_>; 9] = [
        ProgressEntry::Group(GROUP),
        ProgressEntry::Put { root: b"123", sequence: 0, recorded_at: 1_000 },
        ProgressEntry::Put { root: b"", sequence: u64::MAX, recorded_at: UNBOUND },
        ProgressEntry::Delete { root: b"\xFF\0" },
        ProgressEntry::Checkpoint { name: "mailer", position: 7, version: 1, recorded_at: -3 },
        ProgressEntry::NoCheckpoint { name: "gone" },
        ProgressEntry::DeadLetter {
            name: "mailer",
            position: u64::MAX,
            attempts: 5,
            time: -1,
            recorded_at: 77,
            reason: "no such mailbox: ü",
        },
        ProgressEntry::DeadLetter {
            name: "mailer",
            position: 0,
            attempts: 0,
            time: i64::MAX,
            recorded_at: UNBOUND,
            reason: "",
        },
        ProgressEntry::NoLetter { name: "mailer", position: 300 },
    ];

    fn batch(entries: &[ProgressEntry<'_>], at: u64) -> (Vec<u8>, BatchHeader) {
        let mut bytes = vec![0; BATCH];
        entries.iter().for_each(|entry| entry.encode(&mut bytes));
        let header = BatchHeader::finish(&mut bytes, entries.len() as u32, 5, 77, FILE.mask(), at);
        (bytes, header)
    }

    fn read(bytes: &[u8], at: u64) -> Option<(BatchHeader, &[u8])> {
        let header = BatchHeader::decode(bytes, FILE.mask(), at)?;
        Some((header, header.body(&bytes[BATCH..], FILE.mask(), at)?))
    }

    #[test]
    fn headers_round_trip_and_every_flipped_bit_shows() {
        let path = Path::new("POSITIONS");
        assert_eq!(FileHeader::decode(&FILE.encode(), path).unwrap(), Some(FILE));
        assert_eq!(FileHeader::decode(&FILE.encode()[..63], path).unwrap(), None);
        for bit in 0..HEADER * 8 {
            let mut bytes = FILE.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(FileHeader::decode(&bytes, path), Ok(Some(_))), "bit {bit}");
        }
        let mut newer = FILE.encode();
        newer[10] = 2;
        assert!(matches!(FileHeader::decode(&newer, path), Err(Error::UnsupportedFormat { .. })));
        let mut lineage = FILE.encode();
        lineage[48] = 1;
        let sum = crc(&lineage[..CRC_AT]);
        put(&mut lineage, CRC_AT, &sum.to_le_bytes());
        assert!(matches!(FileHeader::decode(&lineage, path), Err(Error::UnsupportedFormat { .. })));
    }

    #[test]
    fn batches_round_trip_and_stay_in_their_place() {
        let (bytes, header) = batch(&ENTRIES, 64);
        let (found, body) = read(&bytes, 64).unwrap();
        assert_eq!((found, entries(body).collect::<Vec<_>>()), (header, ENTRIES.to_vec()));
        assert_eq!(bytes.len() as u64, BATCH as u64 + header.rest_len());
        assert_eq!(read(&bytes, 65), None);
        assert!(!header.is_mark());
        let (mark, header) = batch(&[], 64);
        assert!(header.is_mark() && read(&mark, 64) == Some((header, &[][..])));
        assert_eq!(BatchHeader::implied(&bytes, 64), Some((found, FILE.mask())));
        assert_eq!(read(&[0; 64], 64), None);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_batch_shows() {
        let (bytes, _) = batch(&ENTRIES, 64);
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(read(&bytes, 64), None, "bit {bit}");
        }
        for len in 0..bytes.len() {
            assert_eq!(read(&bytes[..len], 64), None, "{len} bytes");
        }
    }

    #[test]
    fn long_bodies_have_a_table() {
        let root = [7; 4096];
        let entries: Vec<_> = [ProgressEntry::Group(GROUP)]
            .into_iter()
            .chain([ProgressEntry::Put { root: &root, sequence: 1, recorded_at: 2 }; 5])
            .collect();
        let (bytes, header) = batch(&entries, 64);
        assert_eq!(header.rest_len() % 4096, bytes.len() as u64 % 4096 - BATCH as u64);
        assert!(read(&bytes, 64).is_some());
        for at in (BATCH..bytes.len()).step_by(997).chain([bytes.len() - 1]) {
            let mut bytes = bytes.clone();
            bytes[at] ^= 0x10;
            assert_eq!(read(&bytes, 64), None, "byte {at}");
        }
    }

    #[test]
    fn bodies_that_make_no_sense_are_refused() {
        let orphan = [ProgressEntry::Put { root: b"1", sequence: 1, recorded_at: 2 }];
        assert_eq!(read(&batch(&orphan, 64).0, 64), None);
        let main = HandlerGroup { edition: None, ..GROUP };
        for group in [main, HandlerGroup { edition: Some("main"), ..GROUP }, HandlerGroup { handler: "", ..GROUP }] {
            assert_eq!(read(&batch(&[ProgressEntry::Group(group)], 64).0, 64), None, "{group:?}");
        }
        for body in [
            &[8, 0][..],
            &[0],
            &[2, 1, b'r', 0, 0, 0],
            &[4, 1, b'c', 0, 1, 0],
            &[6, 1, b'm', 0, 0, 0],
            &[6, 1, b'm', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xFF],
            &[2, 0xFF, 0xFF, 0x7F],
            &[5, 1, 0xFF],
            &[5, 0],
        ] {
            assert!(!is_sound(body, 1), "{body:?}");
        }
    }
}
