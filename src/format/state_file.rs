//! The common layout of snapshots and saved projections.
//!
//! ```text
//! 0        124   128
//! | header | CRC | key | state | table | CRC |
//! ```
//!
//! The first CRC covers header and key, so that both can be trusted without reading the state; the
//! second one covers the first and the state, or the table in its place.

use super::checksum::{CRC, crc, extend, put_table, table_holds, table_len};
use super::u32_at;
use std::ops::Range;

/// Length of the header in bytes.
pub const LEN: usize = 128;
/// Offset of its CRC.
pub(super) const CRC_AT: usize = LEN - CRC;
/// Maximum length of a state.
pub const MAX_STATE: u64 = 1 << 30;

/// Why a file is not used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfit {
    /// It is not complete and intact.
    Damaged,
    /// A newer version wrote it.
    Newer,
}

/// Returns the length of the whole file.
pub(super) fn len(key_len: usize, state_len: u64) -> u64 {
    (LEN + key_len) as u64 + state_len + table_len(state_len) + CRC as u64
}

/// Encodes the file. `header` has its CRC.
pub(super) fn assemble(header: &[u8; LEN], key: &[u8], state: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(len(key.len(), state.len() as u64) as usize);
    out.extend_from_slice(header);
    out.extend_from_slice(key);
    let at = out.len();
    out.extend_from_slice(state);
    let end = out.len();
    let piece = match table_len(state.len() as u64) {
        0 => at..end,
        _ => {
            put_table(&mut out, at..end);
            end..out.len()
        }
    };
    let crc = extend(crc(&header[CRC_AT..]), &out[piece]);
    out.extend_from_slice(&crc.to_le_bytes());
    out
}

/// Returns where in a file the state is, if it is intact. The header is, and has the lengths.
pub(super) fn locate(file: &[u8], key_len: usize, state_len: u64) -> Result<Range<usize>, Unfit> {
    if len(key_len, state_len) != file.len() as u64 {
        return Err(Unfit::Damaged);
    }
    let start = LEN + key_len;
    let state = start..start + state_len as usize;
    let table = state.end..file.len() - CRC;
    let piece = if table.is_empty() { state.clone() } else { table.clone() };
    let sum = extend(crc(&file[CRC_AT..LEN]), &file[piece]);
    let intact =
        sum == u32_at(file, table.end) && (table.is_empty() || table_holds(&file[state.clone()], &file[table]));
    if intact { Ok(state) } else { Err(Unfit::Damaged) }
}
