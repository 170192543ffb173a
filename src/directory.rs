//! The names of the files of a store. docs/FORMAT.md has a table of their contents.

/// The file whose lock belongs to the owner of the directory.
pub const LOCK: &str = "LOCK";

/// The file with the durable mark.
pub const HEAD: &str = "HEAD";

/// Handler positions, checkpoints and dead letters; and the file that will replace it.
pub const POSITIONS: &str = "POSITIONS";
pub const NEW_POSITIONS: &str = "POSITIONS.new";

/// Directories of sidecar files: see `src/snapshots` and `src/projection/files.rs`.
pub const SNAPSHOTS: &str = "snapshots";
pub const PROJECTIONS: &str = "projections";

/// The directory where recovery and repair keep what they remove.
pub const QUARANTINE: &str = "quarantine";

/// Marks a directory that holds the beginning of a copy.
pub const INCOMPLETE: &str = "SALVAGE-INCOMPLETE";

/// Marks a directory that is being repaired, and lists what is left to do.
pub const REPAIRING: &str = "REPAIR";

/// The directory of files that a repair has made and not yet moved into place.
pub const REBUILT: &str = "rebuilt";

/// Prefix of the names of zeroed files that will become segments. Nothing in them belongs to the
/// store.
pub const SPARE: &str = "SPARE.";

/// Suffix of the temporary names of files.
pub const NEW: &str = ".new";

const SEGMENT: &str = ".seg";
const INDEX: &str = ".idx";

/// Returns the file name of a segment.
pub fn segment_name(number: u64) -> String {
    format!("{number:020}{SEGMENT}")
}

/// Returns the number in the file name of a segment.
pub fn segment_number(name: &str) -> Option<u64> {
    number(name, SEGMENT)
}

/// Returns whether a file may be taken for a segment: its name ends like that of one.
pub fn is_like_segment(name: &str) -> bool {
    name.ends_with(SEGMENT)
}

/// Returns the file name of the index of a segment.
pub fn index_name(segment: u64) -> String {
    format!("{segment:020}{INDEX}")
}

/// Returns the number in the file name of an index.
pub fn index_number(name: &str) -> Option<u64> {
    number(name, INDEX)
}

/// Returns whether a file may be taken for an index: its name ends like that of one.
pub fn is_like_index(name: &str) -> bool {
    name.ends_with(INDEX)
}

fn number(name: &str, suffix: &str) -> Option<u64> {
    let digits = name.strip_suffix(suffix)?;
    let plain = digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit());
    digits.parse().ok().filter(|_| plain)
}

/// Returns the file name of a spare file.
pub fn spare_name(number: u64) -> String {
    format!("{SPARE}{number}")
}

/// Returns the number in the file name of a spare file, as the store makes them.
pub fn spare_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix(SPARE)?.parse().ok()?;
    (spare_name(number) == name).then_some(number)
}

/// Returns the temporary name of a file, which no other file has.
pub fn temporary_name(name: &str, owner: u64, number: u64) -> String {
    format!("{name}.{owner:016x}-{number}{NEW}")
}

/// Returns the final name of a file, if `name` is a [temporary](temporary_name) one.
pub fn meant_by(name: &str) -> Option<&str> {
    let (meant, unique) = name.strip_suffix(NEW)?.rsplit_once('.')?;
    let (owner, number) = unique.split_once('-')?;
    let hex = owner.len() == 16 && owner.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    let digits = !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit());
    (hex && digits).then_some(meant)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers() {
        for number in [0, 1, u64::MAX] {
            assert_eq!(segment_number(&segment_name(number)), Some(number));
            assert_eq!(index_number(&index_name(number)), Some(number));
            assert_eq!(spare_number(&spare_name(number)), Some(number));
        }
        for bad in ["1.seg", "00000000000000000001.idx", "+0000000000000000001.seg", "0000000000000000000x.seg"] {
            assert_eq!(segment_number(bad), None, "{bad}");
        }
        for bad in ["SPARE.", "SPARE.01", "SPARE.+1", "SPARE.1x", "SPARE.18446744073709551616", "spare.1"] {
            assert_eq!(spare_number(bad), None, "{bad}");
        }
    }

    #[test]
    fn temporary_names_tell_what_is_meant() {
        assert_eq!(meant_by(&temporary_name("1.idx", u64::MAX, 7)), Some("1.idx"));
        assert_eq!(meant_by(&temporary_name("1.idx", 0, 0)), Some("1.idx"));
        for name in ["1.idx.new", "1.idx", "notes.new", "a.0123456789abcdef-.new", "a.0123456789ABCDEF-1.new"] {
            assert_eq!(meant_by(name), None, "{name}");
        }
    }
}
