//! HEAD: two slots of 512 bytes with the durable mark: up to where the log is known to be durable,
//! and its digest there.

use super::checksum::crc;
use super::frame::Chain;
use super::{VERSION, array, check_version, is_zero, put, u16_at, u32_at, u64_at};
use crate::error::Result;
use std::path::Path;

pub const SLOT: usize = 512;
pub const LEN: usize = 2 * SLOT;
const CRC_AT: usize = SLOT - 4;
const MAGIC: [u8; 8] = *b"\x89ANH\r\n\x1A\n";
const CLEAN: u32 = 1;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DurableMark {
    pub clean: bool,
    pub store: [u8; 16],
    pub generation: u64,
    pub segment: u64,
    pub position: u64,
    pub len: u64,
    /// The digest of all commits below the position: [`Chain::mark`](super::frame::Chain::mark).
    /// Another log of the same length has another digest.
    pub digest: u64,
}

/// The reason when a commit does not match HEAD.
pub const OTHER_LOG: &str = "HEAD marks another log: the commit there is not the one that was durable; a file of \
    another copy of this store may have replaced one of this copy";

/// The content of a HEAD file.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Slots {
    /// The newest valid slot.
    pub newest: Option<DurableMark>,
    /// Number of slots that hold something invalid: a torn write, or damage.
    pub bad: usize,
}

impl DurableMark {
    /// Returns whether a commit is consistent with this mark: it ends at the marked position with
    /// the marked digest, or ends elsewhere.
    pub fn is_of(&self, before: u64, after: &Chain) -> bool {
        let is_marked = before < self.position && self.position <= after.next_position;
        !is_marked || (after.next_position, after.digest) == (self.position, self.digest)
    }

    /// Returns the offset of this generation in the file.
    pub fn slot_at(&self) -> u64 {
        (self.generation % 2) * SLOT as u64
    }

    pub fn encode(&self) -> [u8; SLOT] {
        let mut out = [0; SLOT];
        put(&mut out, 0, &MAGIC);
        put(&mut out, 8, &VERSION.to_le_bytes());
        put(&mut out, 10, &1u16.to_le_bytes());
        put(&mut out, 12, &(self.clean as u32 * CLEAN).to_le_bytes());
        put(&mut out, 16, &self.store);
        put(&mut out, 32, &self.generation.to_le_bytes());
        put(&mut out, 40, &self.segment.to_le_bytes());
        put(&mut out, 48, &self.position.to_le_bytes());
        put(&mut out, 56, &self.len.to_le_bytes());
        put(&mut out, 64, &self.digest.to_le_bytes());
        let crc = crc(&out[..CRC_AT]);
        put(&mut out, CRC_AT, &crc.to_le_bytes());
        out
    }

    fn decode(slot: &[u8], path: &Path) -> Result<Option<Self>> {
        if slot.len() < SLOT || slot[..8] != MAGIC {
            return Ok(None);
        }
        check_version(path, u16_at(slot, 8), u16_at(slot, 10))?;
        if crc(&slot[..CRC_AT]) != u32_at(slot, CRC_AT) {
            return Ok(None);
        }
        let generation = u64_at(slot, 32);
        Ok((generation < u64::MAX).then(|| DurableMark {
            clean: u32_at(slot, 12) & CLEAN != 0,
            store: array(slot, 16),
            generation,
            segment: u64_at(slot, 40),
            position: u64_at(slot, 48),
            len: u64_at(slot, 56),
            digest: u64_at(slot, 64),
        }))
    }
}

/// Decodes the slots of a HEAD file of any length.
///
/// # Errors
///
/// [`Error::UnsupportedFormat`](crate::Error::UnsupportedFormat) if a slot is of a newer version.
pub fn decode(file: &[u8], path: &Path) -> Result<Slots> {
    let mut slots = Slots::default();
    for slot in file.chunks(SLOT).take(2) {
        match DurableMark::decode(slot, path)? {
            Some(head) if slots.newest.is_none_or(|n| n.generation < head.generation) => {
                slots.newest = Some(head);
            }
            Some(_) => {}
            None => slots.bad += usize::from(!is_zero(slot)),
        }
    }
    Ok(slots)
}

/// Decodes the newest intact slot, whatever the other bytes are. A newer version only counts if the
/// checksum holds: otherwise it may be a flipped bit.
///
/// # Errors
///
/// [`Error::UnsupportedFormat`](crate::Error::UnsupportedFormat) if an intact slot is of a newer
/// version.
pub fn decode_damaged(file: &[u8], path: &Path) -> Result<Option<DurableMark>> {
    let mut newest: Option<DurableMark> = None;
    for slot in file.chunks_exact(SLOT).take(2) {
        if crc(&slot[..CRC_AT]) != u32_at(slot, CRC_AT) {
            continue;
        }
        if let Some(head) = DurableMark::decode(slot, path)?
            && newest.is_none_or(|newest| newest.generation < head.generation)
        {
            newest = Some(head);
        }
    }
    Ok(newest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: DurableMark =
        DurableMark { clean: true, store: [3; 16], generation: 7, segment: 2, position: 100, len: 5000, digest: 9 };

    fn file(heads: &[DurableMark]) -> Vec<u8> {
        let mut file = vec![0; LEN];
        for head in heads {
            put(&mut file, head.slot_at() as usize, &head.encode());
        }
        file
    }

    #[test]
    fn the_newest_slot_counts_and_a_torn_one_falls_back() {
        let path = Path::new("HEAD");
        let newer = DurableMark { generation: 8, clean: false, ..HEAD };
        let mut bytes = file(&[HEAD, newer]);
        assert_eq!(decode(&bytes, path).unwrap().newest, Some(newer));
        bytes[40] ^= 1;
        let torn = decode(&bytes, path).unwrap();
        assert_eq!((torn.newest, torn.bad), (Some(HEAD), 1));
        assert_eq!(decode(&file(&[]), path).unwrap(), Slots::default());
        assert_eq!(decode(&bytes[..700], path).unwrap().newest, None);
    }
}
