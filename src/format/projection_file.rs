//! The file of a projection: its state and its checkpoint, which are saved together in one file.
//!
//! ```text
//! 0       8         10    12       16         32         40     48            56        60     72             80            82      83      84     124   128
//! | magic | version | min | length | store id | saved-at | next | recorded-at | version | zero | state length | name length | codec | flags | zero | CRC | name | state | table | CRC |
//! ```

use super::checksum::{crc, extend};
use super::snapshot_file::Codec;
use super::state_file::{self, CRC_AT, LEN, MAX_STATE, Unfit};
use super::{VERSION, array, put, u16_at, u32_at, u64_at};
use std::ops::Range;

const MAGIC: [u8; 8] = *b"\x89ANJ\r\n\x1A\n";

/// Maximum length of the name.
pub const MAX_NAME: usize = 255;
/// Number of bytes that hold header and name of any projection.
pub const MAX_HEAD: usize = LEN + MAX_NAME;

/// The state had caught up at some time: it may answer.
const COMPLETE: u8 = 1;

/// The header of the file, without the name.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProjectionHeader {
    pub store: [u8; 16],
    pub saved_at: i64,
    /// All events below this position are in the state.
    pub next: u64,
    /// The recorded time of the event before `next`; 0 if there is none. It tells that event from
    /// another one with its position.
    pub recorded_at: i64,
    /// The version of the projection.
    pub version: u32,
    pub codec: Codec,
    pub complete: bool,
    /// Length of the state in bytes.
    pub state_len: u64,
}

impl ProjectionHeader {
    /// Returns the length of the whole file, given that of the name.
    pub fn file_len(&self, name_len: usize) -> u64 {
        state_file::len(name_len, self.state_len)
    }

    fn encode(&self, name: &str) -> [u8; LEN] {
        let mut out = [0; LEN];
        put(&mut out, 0, &MAGIC);
        put(&mut out, 8, &VERSION.to_le_bytes());
        put(&mut out, 10, &1u16.to_le_bytes());
        put(&mut out, 12, &(LEN as u32).to_le_bytes());
        put(&mut out, 16, &self.store);
        put(&mut out, 32, &self.saved_at.to_le_bytes());
        put(&mut out, 40, &self.next.to_le_bytes());
        put(&mut out, 48, &self.recorded_at.to_le_bytes());
        put(&mut out, 56, &self.version.to_le_bytes());
        put(&mut out, 72, &self.state_len.to_le_bytes());
        put(&mut out, 80, &(name.len() as u16).to_le_bytes());
        out[82] = self.codec.byte();
        out[83] = if self.complete { COMPLETE } else { 0 };
        let crc = extend(crc(&out[..CRC_AT]), name.as_bytes());
        put(&mut out, CRC_AT, &crc.to_le_bytes());
        out
    }

    /// Decodes header and name, from the first [`MAX_HEAD`] bytes of a file or all that it has.
    pub fn decode(bytes: &[u8]) -> Result<(Self, &str), Unfit> {
        if bytes.len() < LEN || bytes[..8] != MAGIC {
            return Err(Unfit::Damaged);
        }
        // Before any checksum: a newer version may have moved those.
        if u16_at(bytes, 10) > VERSION {
            return Err(Unfit::Newer);
        }
        let name_len = usize::from(u16_at(bytes, 80));
        let name = bytes[LEN..].get(..name_len).filter(|name| name.len() <= MAX_NAME).ok_or(Unfit::Damaged)?;
        if extend(crc(&bytes[..CRC_AT]), name) != u32_at(bytes, CRC_AT) {
            return Err(Unfit::Damaged);
        }
        if u32_at(bytes, 12) != LEN as u32 || bytes[83] & !COMPLETE != 0 {
            return Err(Unfit::Newer);
        }
        let head = ProjectionHeader {
            store: array(bytes, 16),
            saved_at: u64_at(bytes, 32) as i64,
            next: u64_at(bytes, 40),
            recorded_at: u64_at(bytes, 48) as i64,
            version: u32_at(bytes, 56),
            codec: Codec::of(bytes[82]).ok_or(Unfit::Newer)?,
            complete: bytes[83] & COMPLETE != 0,
            state_len: u64_at(bytes, 72),
        };
        let name = std::str::from_utf8(name).map_err(|_| Unfit::Damaged)?;
        if head.state_len > MAX_STATE { Err(Unfit::Damaged) } else { Ok((head, name)) }
    }
}

/// Encodes the file. The caller has checked the lengths; that of the state must be that of `head`.
pub fn encode(head: &ProjectionHeader, name: &str, state: &[u8]) -> Vec<u8> {
    assert!(head.state_len == state.len() as u64 && head.state_len <= MAX_STATE && name.len() <= MAX_NAME);
    state_file::assemble(&head.encode(name), name.as_bytes(), state)
}

/// Decodes a whole file: its header, the name, and where the state is.
pub fn decode(file: &[u8]) -> Result<(ProjectionHeader, &str, Range<usize>), Unfit> {
    let (head, name) = ProjectionHeader::decode(file)?;
    let state = state_file::locate(file, name.len(), head.state_len)?;
    Ok((head, name, state))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(state: &[u8]) -> ProjectionHeader {
        ProjectionHeader {
            store: *b"0123456789abcdef",
            saved_at: -2,
            next: 1000,
            recorded_at: -3,
            version: 7,
            codec: Codec::Json,
            complete: true,
            state_len: state.len() as u64,
        }
    }

    #[test]
    fn round_trips_on_both_sides_of_a_block() {
        for len in [0, 1, 8191, 8192, 8193, 100_000] {
            let state: Vec<u8> = (0..len).map(|n| (n * 31 % 251) as u8).collect();
            let file = encode(&head(&state), "totals", &state);
            assert_eq!(file.len() as u64, head(&state).file_len(6));
            let (found, name, place) = decode(&file).unwrap();
            assert_eq!((found, name, &file[place]), (head(&state), "totals", &state[..]));
            assert_eq!(ProjectionHeader::decode(&file[..file.len().min(MAX_HEAD)]).unwrap(), (head(&state), "totals"));
        }
    }

    /// The bytes of version 1 never change.
    #[test]
    fn golden() {
        let file = encode(&head(b"{}"), "totals", b"{}");
        let hex: String = file.iter().map(|byte| format!("{byte:02X}")).collect();
        let expected = [
            "89414E4A0D0A1A0A",
            "0100",
            "0100",
            "80000000",
            "30313233343536373839616263646566",
            "FEFFFFFFFFFFFFFF",
            "E803000000000000",
            "FDFFFFFFFFFFFFFF",
            "07000000",
            "000000000000000000000000",
            "0200000000000000",
            "0600",
            "01",
            "01",
            &"00".repeat(40),
            "85FB30B3",
            "746F74616C73",
            "7B7D",
            "D0501715",
        ];
        assert_eq!(hex, expected.concat());
    }

    #[test]
    fn every_flipped_bit_and_every_other_length_show() {
        for state in [&b"state"[..], &[7; 8200]] {
            let file = encode(&head(state), "totals", state);
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
        let mut file = encode(&head(b"x"), "a", b"x");
        file[10] = 2;
        file[124] ^= 1;
        assert_eq!(decode(&file), Err(Unfit::Newer));
        for at in [82, 83] {
            let mut file = encode(&head(b"x"), "a", b"x");
            file[at] = 99;
            let crc = extend(crc(&file[..CRC_AT]), b"a");
            put(&mut file, CRC_AT, &crc.to_le_bytes());
            assert_eq!(decode(&file), Err(Unfit::Newer));
        }
    }

    #[test]
    fn lengths_are_not_believed() {
        for (at, value) in [(72, u64::MAX), (72, MAX_STATE + 1), (80, 0xFFFF)] {
            let mut file = encode(&head(b"x"), "a", b"x");
            let len = if at == 80 { 2 } else { 8 };
            put(&mut file, at, &value.to_le_bytes()[..len]);
            let crc = extend(crc(&file[..CRC_AT]), b"a");
            put(&mut file, CRC_AT, &crc.to_le_bytes());
            assert_eq!(decode(&file), Err(Unfit::Damaged));
        }
    }
}
