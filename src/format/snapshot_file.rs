//! The file of a snapshot: the state of one aggregate after one of its events.
//!
//! ```text
//! 0       8         10    12       16         32           40         48         56            64            72             80           82      83          84     124   128
//! | magic | version | min | length | store id | created-at | sequence | position | recorded-at | fingerprint | state length | key length | codec | retention | zero | CRC | key | state | table | CRC |
//! ```
//!
//! The first CRC covers header and key, so that both can be trusted without reading the state; the
//! second one covers the first and the state, or the table in its place.

use super::checksum::{crc, extend};
use super::state_file::{self, CRC_AT, LEN, MAX_STATE, Unfit};
use super::{VERSION, array, put, u16_at, u32_at, u64_at};
use std::ops::Range;

const MAGIC: [u8; 8] = *b"\x89ANS\r\n\x1A\n";

/// Maximum length of the key of a stream: edition, domain and root at their limits.
const MAX_KEY: usize = 2 + 255 + 1 + 255 + 4096;
/// Number of bytes that hold header and key of any snapshot.
pub const MAX_HEAD: usize = LEN + MAX_KEY;

// One CRC covers header and key.
const _: () = assert!(MAX_HEAD <= super::checksum::BLOCK);

/// How long a snapshot is kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Retention {
    /// Until there are enough newer ones:
    /// [`Options::snapshots_kept`](crate::Options::snapshots_kept) of them are kept besides the
    /// newest.
    #[default]
    Default,
    /// Until there is a newer one.
    Transient,
    /// Until it is deleted.
    Persist,
}

/// The encoding of a snapshot, or of the state of a projection. Default: [`Codec::Json`], or
/// [`Codec::Bincode`] without the feature `json`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum Codec {
    /// bincode 2, standard configuration: smaller and faster. It writes no names, so that some
    /// types cannot be read back: those with fields that may be left out (`skip_serializing_if`),
    /// enums that are untagged or internally tagged, and `serde_json::Value`; and a state of
    /// another type may be read as one of this type, unless they have different fingerprints or
    /// versions.
    #[cfg_attr(not(feature = "json"), default)]
    Bincode,
    /// JSON. Needs the feature `json`. Keys of maps must be text or numbers, and numbers must be
    /// finite.
    #[cfg_attr(feature = "json", default)]
    Json,
    /// Bytes that only the application understands.
    Bytes,
}

impl Retention {
    fn byte(self) -> u8 {
        match self {
            Retention::Default => 0,
            Retention::Transient => 1,
            Retention::Persist => 2,
        }
    }

    fn of(byte: u8) -> Option<Self> {
        [Retention::Default, Retention::Transient, Retention::Persist].into_iter().find(|r| r.byte() == byte)
    }
}

impl Codec {
    pub(super) fn byte(self) -> u8 {
        match self {
            Codec::Bytes => 0,
            Codec::Json => 1,
            // Returns the content type of events with this encoding.
            Codec::Bincode => 3,
        }
    }

    pub(super) fn of(byte: u8) -> Option<Self> {
        [Codec::Bytes, Codec::Json, Codec::Bincode].into_iter().find(|c| c.byte() == byte)
    }
}

/// The header of a snapshot, without the stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SnapshotHeader {
    pub store: [u8; 16],
    pub created_at: i64,
    pub sequence: u64,
    pub position: u64,
    /// The recorded time of the event. Position and time together tell it from another one with its
    /// numbers.
    pub recorded_at: i64,
    pub fingerprint: u64,
    pub codec: Codec,
    pub retention: Retention,
    /// Length of the state in bytes.
    pub state_len: u64,
}

impl SnapshotHeader {
    /// Returns the length of the whole file, given that of the key.
    pub fn file_len(&self, key_len: usize) -> u64 {
        state_file::len(key_len, self.state_len)
    }

    fn encode(&self, key: &[u8]) -> [u8; LEN] {
        let mut out = [0; LEN];
        put(&mut out, 0, &MAGIC);
        put(&mut out, 8, &VERSION.to_le_bytes());
        put(&mut out, 10, &1u16.to_le_bytes());
        put(&mut out, 12, &(LEN as u32).to_le_bytes());
        put(&mut out, 16, &self.store);
        put(&mut out, 32, &self.created_at.to_le_bytes());
        put(&mut out, 40, &self.sequence.to_le_bytes());
        put(&mut out, 48, &self.position.to_le_bytes());
        put(&mut out, 56, &self.recorded_at.to_le_bytes());
        put(&mut out, 64, &self.fingerprint.to_le_bytes());
        put(&mut out, 72, &self.state_len.to_le_bytes());
        put(&mut out, 80, &(key.len() as u16).to_le_bytes());
        out[82] = self.codec.byte();
        out[83] = self.retention.byte();
        let crc = extend(crc(&out[..CRC_AT]), key);
        put(&mut out, CRC_AT, &crc.to_le_bytes());
        out
    }

    /// Decodes header and key, from the first [`MAX_HEAD`] bytes of a file or all that it has.
    pub fn decode(bytes: &[u8]) -> Result<(Self, &[u8]), Unfit> {
        if bytes.len() < LEN || bytes[..8] != MAGIC {
            return Err(Unfit::Damaged);
        }
        // Before any checksum: a newer version may have moved those.
        if u16_at(bytes, 10) > VERSION {
            return Err(Unfit::Newer);
        }
        let key_len = usize::from(u16_at(bytes, 80));
        let key = bytes[LEN..].get(..key_len).filter(|key| key.len() <= MAX_KEY).ok_or(Unfit::Damaged)?;
        if extend(crc(&bytes[..CRC_AT]), key) != u32_at(bytes, CRC_AT) {
            return Err(Unfit::Damaged);
        }
        if u32_at(bytes, 12) != LEN as u32 {
            return Err(Unfit::Newer);
        }
        let head = SnapshotHeader {
            store: array(bytes, 16),
            created_at: u64_at(bytes, 32) as i64,
            sequence: u64_at(bytes, 40),
            position: u64_at(bytes, 48),
            recorded_at: u64_at(bytes, 56) as i64,
            fingerprint: u64_at(bytes, 64),
            codec: Codec::of(bytes[82]).ok_or(Unfit::Newer)?,
            retention: Retention::of(bytes[83]).ok_or(Unfit::Newer)?,
            state_len: u64_at(bytes, 72),
        };
        if head.state_len > MAX_STATE { Err(Unfit::Damaged) } else { Ok((head, key)) }
    }
}

/// Encodes the file. The caller has checked the length of the state, which must be that of `head`.
pub fn encode(head: &SnapshotHeader, key: &[u8], state: &[u8]) -> Vec<u8> {
    assert!(head.state_len == state.len() as u64 && head.state_len <= MAX_STATE && key.len() <= MAX_KEY);
    state_file::assemble(&head.encode(key), key, state)
}

/// Decodes a whole file: its header, the stream, and where the state is.
pub fn decode(file: &[u8]) -> Result<(SnapshotHeader, &[u8], Range<usize>), Unfit> {
    let (head, key) = SnapshotHeader::decode(file)?;
    let state = state_file::locate(file, key.len(), head.state_len)?;
    Ok((head, key, state))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(state: &[u8]) -> SnapshotHeader {
        SnapshotHeader {
            store: *b"0123456789abcdef",
            created_at: -2,
            sequence: 41,
            position: 1000,
            recorded_at: -3,
            fingerprint: 7,
            codec: Codec::Json,
            retention: Retention::Persist,
            state_len: state.len() as u64,
        }
    }

    #[test]
    fn round_trips_on_both_sides_of_a_block() {
        for len in [0, 1, 8191, 8192, 8193, 16_384, 100_000] {
            let state: Vec<u8> = (0..len).map(|n| (n * 31 % 251) as u8).collect();
            let file = encode(&head(&state), b"\x05order1", &state);
            assert_eq!(file.len() as u64, head(&state).file_len(7));
            let (found, key, place) = decode(&file).unwrap();
            assert_eq!((found, key, &file[place]), (head(&state), &b"\x05order1"[..], &state[..]));
        }
    }

    /// The bytes of version 1 never change.
    #[test]
    fn golden() {
        let file = encode(&head(b"{}"), b"\x05order1", b"{}");
        let hex: String = file.iter().map(|byte| format!("{byte:02X}")).collect();
        let expected = [
            "89414E530D0A1A0A",
            "0100",
            "0100",
            "80000000",
            "30313233343536373839616263646566",
            "FEFFFFFFFFFFFFFF",
            "2900000000000000",
            "E803000000000000",
            "FDFFFFFFFFFFFFFF",
            "0700000000000000",
            "0200000000000000",
            "0700",
            "01",
            "02",
            &"00".repeat(40),
            "18144854",
            "056F7264657231",
            "7B7D",
            "154B4D1C",
        ];
        assert_eq!(hex, expected.concat());
    }

    #[test]
    fn every_flipped_bit_and_every_other_length_show() {
        for state in [&b"state"[..], &[7; 8200]] {
            let file = encode(&head(state), b"\x05order1", state);
            for bit in 0..file.len() * 8 {
                let mut file = file.clone();
                file[bit / 8] ^= 1 << (bit % 8);
                assert!(decode(&file).is_err(), "bit {bit}");
            }
            for len in 0..file.len() {
                assert_eq!(decode(&file[..len]), Err(Unfit::Damaged), "{len} bytes");
            }
            assert_eq!(decode(&[&file[..], &[0]].concat()), Err(Unfit::Damaged));
        }
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        let mut file = encode(&head(b"x"), b"\x01a", b"x");
        file[10] = 2;
        file[124] ^= 1;
        assert_eq!(decode(&file), Err(Unfit::Newer));
    }

    /// Unknown checksummed bytes are from a newer version that older ones may read.
    #[test]
    fn unknown_codecs_and_retentions_are_newer() {
        for at in [82, 83] {
            let mut file = encode(&head(b"x"), b"\x01a", b"x");
            file[at] = 99;
            let crc = extend(crc(&file[..CRC_AT]), b"\x01a");
            put(&mut file, CRC_AT, &crc.to_le_bytes());
            assert_eq!(decode(&file), Err(Unfit::Newer));
        }
    }

    #[test]
    fn lengths_are_not_believed() {
        for (at, value) in [(72, u64::MAX), (72, MAX_STATE + 1), (80, 0xFFFF)] {
            let mut file = encode(&head(b"x"), b"\x01a", b"x");
            let len = if at == 80 { 2 } else { 8 };
            put(&mut file, at, &value.to_le_bytes()[..len]);
            let crc = extend(crc(&file[..CRC_AT]), b"\x01a");
            put(&mut file, CRC_AT, &crc.to_le_bytes());
            assert_eq!(decode(&file), Err(Unfit::Damaged));
        }
    }
}
