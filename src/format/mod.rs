//! The format: bytes to structs and back, as pure functions on slices. `docs/FORMAT.md` is the
//! specification.

pub mod checksum;
pub mod commit;
pub mod content_digest;
pub mod draft;
pub mod event;
pub mod extras;
pub mod frame;
pub mod head;
pub mod index_file;
pub mod positions_file;
pub mod projection_file;
pub mod record;
pub mod segment_header;
pub mod snapshot_file;
pub mod state_file;
pub mod type_names;
pub mod varint;

use std::path::Path;

use crate::error::{Error, Result};

/// The version of the format that this code writes, and the newest that it reads.
pub const VERSION: u16 = 1;

/// Returns an error for a file whose oldest reader version is newer than this code. Called before
/// any checksum is verified: a newer version may have moved those.
pub fn check_version(path: &Path, version: u16, min_reader: u16) -> Result<()> {
    if min_reader <= VERSION {
        return Ok(());
    }
    Err(Error::UnsupportedFormat {
        path: path.to_owned(),
        found: format!("format {version}, readable from version {min_reader} on; this is {VERSION}"),
    })
}

/// Returns whether these bytes begin as the files of a store do, of any kind.
pub fn has_magic(bytes: &[u8]) -> bool {
    matches!(bytes, [0x89, b'A', b'N', _, b'\r', b'\n', 0x1A, b'\n', ..])
}

/// Copies an array out of a slice. The caller has checked the length.
#[inline]
pub fn array<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("N bytes")
}

#[inline]
pub fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(array(bytes, at))
}

#[inline]
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array(bytes, at))
}

#[inline]
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(array(bytes, at))
}

#[inline]
pub fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Returns whether a slice has only zeros.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (chunks, rest) = bytes.as_chunks::<64>();
    chunks.iter().all(|c| c.iter().fold(0, |a, b| a | b) == 0) && rest.iter().all(|&b| b == 0)
}
