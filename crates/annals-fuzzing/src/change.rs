//! Changes of the bytes of one file.

use super::noise;
use arbitrary::Arbitrary;

/// Places wrap around at the end of the file.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Change {
    Flip { at: u16, bit: u8 },
    Set { at: u16, len: u8, value: u64 },
    Truncate { len: u16 },
    Append { len: u16, seed: u8 },
    Insert { at: u16, len: u8, value: u8 },
    Remove { at: u16, len: u8 },
    Copy { from: u16, len: u16, to: u16 },
}

impl Change {
    pub(super) fn apply(self, bytes: &mut Vec<u8>) {
        let place = |at: u16, bytes: &[u8]| usize::from(at) % bytes.len().max(1);
        match self {
            Change::Append { len, seed } => bytes.extend_from_slice(&noise(seed.into(), usize::from(len) % 2000)),
            Change::Insert { at, len, value } => {
                let at = place(at, bytes);
                bytes.splice(at..at, vec![value; usize::from(len % 64)]);
            }
            _ if bytes.is_empty() => {}
            Change::Flip { at, bit } => {
                let at = place(at, bytes);
                bytes[at] ^= 1 << (bit % 8);
            }
            Change::Set { at, len, value } => {
                let at = place(at, bytes);
                let end = bytes.len().min(at + 1 + usize::from(len % 8));
                bytes[at..end].copy_from_slice(&value.to_le_bytes()[..end - at]);
            }
            Change::Truncate { len } => bytes.truncate(place(len, bytes)),
            Change::Remove { at, len } => {
                let at = place(at, bytes);
                bytes.drain(at..bytes.len().min(at + usize::from(len)));
            }
            Change::Copy { from, len, to } => {
                let (from, to) = (place(from, bytes), place(to, bytes));
                let len = usize::from(len).min(bytes.len() - from.max(to));
                bytes.copy_within(from..from + len, to);
            }
        }
    }
}
