//! The header of a segment: its first 128 bytes.
//!
//! ```text
//! 0       8      10      12      16        32      40              48    56         64               72                  80    124
//! | magic | version | min | length | store id | number | first position | salt | base time | previous digest | previous length | zero | CRC |
//! ```

use super::checksum::{Mask, crc};
use super::{VERSION, array, check_version, put, u16_at, u32_at, u64_at};
use crate::error::{Error, Result};
use std::path::Path;

pub const LEN: usize = 128;
const CRC_AT: usize = LEN - 4;
const MAGIC: [u8; 8] = *b"\x89ANL\r\n\x1A\n";

/// Maximum number of events in a segment, so that an ordinal has 24 bits.
pub const MAX_EVENTS: u64 = 1 << 24;
/// Maximum number of nanoseconds from the base time to the last event of a segment, so that a time
/// has 56 bits.
pub const MAX_AGE: u64 = (1 << 56) - 1;

/// Returns whether bytes may be a header of which a crash has kept some bytes and lost others,
/// which are zero then.
pub fn may_be_header(bytes: &[u8]) -> bool {
    bytes.iter().zip(MAGIC).all(|(&byte, magic)| byte == 0 || byte == magic)
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SegmentHeader {
    pub store: [u8; 16],
    pub number: u64,
    pub first_position: u64,
    pub salt: u64,
    pub base_time: i64,
    pub previous_digest: u64,
    pub previous_len: u64,
}

impl SegmentHeader {
    /// The header of a first segment, for tests that need any header.
    #[cfg(test)]
    pub const SAMPLE: Self = Self::first([1; 16], 2, 0);

    /// Returns the header of the first segment of a store.
    pub const fn first(store: [u8; 16], salt: u64, base_time: i64) -> Self {
        SegmentHeader { store, number: 1, first_position: 0, salt, base_time, previous_digest: 0, previous_len: 0 }
    }

    pub fn encode(&self) -> [u8; LEN] {
        let mut out = [0; LEN];
        put(&mut out, 0, &MAGIC);
        put(&mut out, 8, &VERSION.to_le_bytes());
        put(&mut out, 10, &1u16.to_le_bytes());
        put(&mut out, 12, &(LEN as u32).to_le_bytes());
        put(&mut out, 16, &self.store);
        put(&mut out, 32, &self.number.to_le_bytes());
        put(&mut out, 40, &self.first_position.to_le_bytes());
        put(&mut out, 48, &self.salt.to_le_bytes());
        put(&mut out, 56, &self.base_time.to_le_bytes());
        put(&mut out, 64, &self.previous_digest.to_le_bytes());
        put(&mut out, 72, &self.previous_len.to_le_bytes());
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
        if bytes.len() < LEN || bytes[..8] != MAGIC {
            return Ok(None);
        }
        check_version(path, u16_at(bytes, 8), u16_at(bytes, 10))?;
        if crc(&bytes[..CRC_AT]) != u32_at(bytes, CRC_AT) {
            return Ok(None);
        }
        if u32_at(bytes, 12) != LEN as u32 {
            let found = format!("a segment header of {} bytes", u32_at(bytes, 12));
            return Err(Error::UnsupportedFormat { path: path.to_owned(), found });
        }
        Ok(Some(SegmentHeader {
            store: array(bytes, 16),
            number: u64_at(bytes, 32),
            first_position: u64_at(bytes, 40),
            salt: u64_at(bytes, 48),
            base_time: u64_at(bytes, 56) as i64,
            previous_digest: u64_at(bytes, 64),
            previous_len: u64_at(bytes, 72),
        }))
    }

    /// Decodes the header of a segment that may be damaged. A newer version only counts if the
    /// checksum holds, and a version changed by a flipped bit is corrected. Also returns whether it
    /// is intact.
    ///
    /// # Errors
    ///
    /// [`Error::UnsupportedFormat`] if the header is intact, and of a newer version.
    pub fn decode_damaged(bytes: &[u8], path: &Path) -> Result<Option<(Self, bool)>> {
        if bytes.len() < LEN {
            return Ok(None);
        }
        if crc(&bytes[..CRC_AT]) == u32_at(bytes, CRC_AT)
            && let Some(header) = Self::decode(bytes, path)?
        {
            return Ok(Some((header, true)));
        }
        let mut ours: [u8; LEN] = array(bytes, 0);
        put(&mut ours, 0, &MAGIC);
        put(&mut ours, 8, &VERSION.to_le_bytes());
        put(&mut ours, 10, &1u16.to_le_bytes());
        put(&mut ours, 12, &(LEN as u32).to_le_bytes());
        Ok(Self::decode(&ours, path)?.map(|header| (header, false)))
    }

    /// Returns the CRC field of the encoded header: the predecessor of the first frame.
    pub fn crc(&self) -> u32 {
        u32_at(&self.encode(), CRC_AT)
    }

    pub fn mask(&self) -> Mask {
        Mask::new(&self.store, self.number, self.salt)
    }

    /// Returns what ids that are not stored are derived from.
    pub fn id_seed(&self) -> u128 {
        u128::from_le_bytes(self.store) & ((1 << 73) - 1)
    }
}

/// Folds the header CRC of one more frame into the digest of a segment.
pub fn fold_digest(digest: u64, frame: u32) -> u64 {
    let d = (digest ^ u64::from(frame)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    d ^ (d >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: SegmentHeader = SegmentHeader {
        store: [9; 16],
        number: 3,
        first_position: 1000,
        salt: 0x1234_5678_9ABC_DEF0,
        base_time: -5,
        previous_digest: 77,
        previous_len: 4096,
    };

    #[test]
    fn round_trips_and_knows_its_own_crc() {
        let bytes = HEADER.encode();
        let path = Path::new("x.seg");
        assert_eq!(SegmentHeader::decode(&bytes, path).unwrap(), Some(HEADER));
        assert_eq!(SegmentHeader::decode(&bytes[..127], path).unwrap(), None);
    }

    #[test]
    fn every_flipped_bit_shows() {
        let path = Path::new("x.seg");
        for bit in 0..LEN * 8 {
            let mut bytes = HEADER.encode();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(!matches!(SegmentHeader::decode(&bytes, path), Ok(Some(_))), "bit {bit}");
        }
    }

    #[test]
    fn a_newer_format_is_told_from_damage() {
        let mut bytes = HEADER.encode();
        bytes[10] = 2;
        let found = SegmentHeader::decode(&bytes, Path::new("x.seg"));
        assert!(matches!(found, Err(Error::UnsupportedFormat { .. })));
    }
}
