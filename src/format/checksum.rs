//! CRC-32 (IEEE), masked with its offset; for long pieces, one CRC per block.

/// Maximum length of a piece with a single CRC: beyond 11,450 bytes CRC-32 no longer detects every
/// error of three bits (Koopman, "32-bit cyclic redundancy codes for internet applications", 2002).
pub const BLOCK: usize = 8192;

/// Length of a CRC in bytes.
pub const CRC: usize = 4;

pub fn crc(bytes: &[u8]) -> u32 {
    crc32fast::hash(bytes)
}

/// Continues a CRC over more bytes.
#[inline]
pub fn extend(crc: u32, bytes: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new_with_initial(crc);
    hasher.update(bytes);
    hasher.finalize()
}

/// The mask of the CRCs of one segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Mask(u32);

impl Mask {
    pub fn new(store: &[u8; 16], segment: u64, salt: u64) -> Self {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(store);
        bytes[16..24].copy_from_slice(&segment.to_le_bytes());
        bytes[24..].copy_from_slice(&salt.to_le_bytes());
        Mask(crc(&bytes))
    }

    /// Returns the only mask under which `stored` at `offset` is a CRC of these bytes. Any bytes
    /// imply a mask: only a second CRC that agrees proves it.
    pub fn implied(crc: u32, stored: u32, offset: u64) -> Self {
        Mask(turned(crc) ^ stored ^ (offset as u32).wrapping_mul(0x9E37_79B1))
    }

    /// Returns the stored form of a CRC at `offset`: it differs for each offset of a segment, as
    /// segments are shorter than 4 GiB.
    #[inline]
    pub fn stored(self, crc: u32, offset: u64) -> u32 {
        turned(crc) ^ self.0 ^ (offset as u32).wrapping_mul(0x9E37_79B1)
    }
}

/// Returns a CRC in the form that is stored within bytes that get a CRC of their own. The CRC of
/// bytes followed by their own CRC is a constant: without the rotation the CRC of a frame would not
/// depend on its records, and the chain of frames would prove nothing. (LevelDB rotates by 15, too,
/// and adds a constant. The rotation alone keeps the guarantees for errors of few bits, as it only
/// permutes the bits of the CRC.)
#[inline]
fn turned(crc: u32) -> u32 {
    crc.rotate_right(15)
}

/// Returns the length of the table for a piece of `len` bytes: 0 if one CRC is enough.
pub fn table_len(len: u64) -> u64 {
    if len <= BLOCK as u64 { 0 } else { len.div_ceil(BLOCK as u64) * CRC as u64 }
}

/// Returns the length of a piece that takes `both` bytes together with its table; `None` if there
/// is no such length.
pub fn piece_len(both: u64) -> Option<u64> {
    if both <= BLOCK as u64 {
        return Some(both);
    }
    let blocks = both.div_ceil((BLOCK + CRC) as u64);
    let len = both - blocks * CRC as u64;
    (len + table_len(len) == both).then_some(len)
}

/// Appends the table of `piece` to `out`.
pub fn put_table(out: &mut Vec<u8>, piece: std::ops::Range<usize>) {
    let mut at = piece.start;
    while at < piece.end {
        let end = piece.end.min(at + BLOCK);
        let crc = turned(crc(&out[at..end]));
        out.extend_from_slice(&crc.to_le_bytes());
        at = end;
    }
}

/// Returns whether each block of `piece` has its CRC in `table`.
pub fn table_holds(piece: &[u8], table: &[u8]) -> bool {
    let (crcs, rest) = table.as_chunks::<CRC>();
    rest.is_empty()
        && crcs.len() == piece.len().div_ceil(BLOCK)
        && piece.chunks(BLOCK).zip(crcs).all(|(block, stored)| turned(crc(block)) == u32::from_le_bytes(*stored))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_of_pieces_are_unique() {
        for len in (0..BLOCK as u64 * 3).chain([1 << 20, (1 << 29) - 1]) {
            assert_eq!(piece_len(len + table_len(len)), Some(len));
        }
        assert_eq!(piece_len(BLOCK as u64 + 1), None);
    }

    #[test]
    fn masks_differ_from_place_to_place() {
        let mask = Mask::new(&[7; 16], 1, 99);
        let mut seen: Vec<u32> = (0..10_000).map(|i| mask.stored(0, i * 8)).collect();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), 10_000);
        assert_ne!(mask, Mask::new(&[7; 16], 2, 99));
    }

    #[test]
    fn a_stored_crc_implies_its_mask() {
        let mask = Mask::new(&[7; 16], 1, 99);
        assert_eq!(Mask::implied(12_345, mask.stored(12_345, 4096), 4096), mask);
    }

    /// Bytes of the same length, each followed by its stored CRC: without the rotation, the CRC of
    /// both would be the same.
    #[test]
    fn a_crc_over_a_crc_depends_on_what_it_covers() {
        let mask = Mask::new(&[7; 16], 1, 99);
        let covered = |text: &[u8]| crc(&[text, &mask.stored(crc(text), 8).to_le_bytes()].concat());
        assert_ne!(covered(b"first"), covered(b"again"));
    }

    #[test]
    fn extending_is_the_crc_of_the_whole() {
        assert_eq!(extend(crc(b"1234"), b"56789"), 0xCBF4_3926);
    }
}
