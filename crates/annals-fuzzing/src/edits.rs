//! Changes of the files of a small store: bytes, files and names. Kept inputs depend on this list,
//! so that nothing may be removed or reordered.

use super::build::{self, Built, Ended, put_file};
use super::{noise, seal};
use annals::fs::MemFs;
use annals::internals::format::frame::frame_len;
use annals::internals::format::u32_at;
use annals::internals::segment::START;
use arbitrary::Arbitrary;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::OnceLock;

/// The directory of the store.
pub(super) const DIR: &str = "store";

/// Names that files can get.
const NAMES: [&str; 12] = [
    "HEAD",
    "LOCK",
    "00000000000000000001.seg",
    "00000000000000000002.seg",
    "00000000000000000003.seg",
    "00000000000000000004.seg",
    "00000000000000000005.seg",
    "18446744073709551615.seg",
    "00000000000000000000.seg",
    "00000000000000000001.idx",
    "00000000000000000003.idx",
    "quarantine/x",
];

/// Files are numbered in the order of their names, and places wrap around at the end of the file.
#[derive(Arbitrary, Debug)]
pub(super) enum Edit {
    Flip {
        file: u8,
        at: u32,
        bit: u8,
    },
    Set {
        file: u8,
        at: u32,
        len: u8,
        value: u64,
    },
    /// A number in the header of a segment or of one of its frames.
    Field {
        file: u8,
        frame: u8,
        at: u8,
        value: u64,
    },
    Truncate {
        file: u8,
        len: u32,
    },
    Append {
        file: u8,
        len: u16,
        value: u64,
    },
    Zero {
        file: u8,
        at: u32,
        len: u16,
    },
    SwapSectors {
        file: u8,
        one: u8,
        other: u8,
    },
    Copy {
        from: u8,
        at: u32,
        len: u16,
        to: u8,
        behind: u32,
    },
    Delete {
        file: u8,
    },
    Duplicate {
        file: u8,
        name: u8,
    },
    Rename {
        file: u8,
        name: u8,
    },
}

/// Number of initial stores. Another number would give each kept input another meaning.
pub(super) const BASES: u8 = 12;

pub(super) fn bases() -> &'static [Built] {
    static STORES: OnceLock<Vec<Built>> = OnceLock::new();
    STORES.get_or_init(|| {
        vec![
            build::small(Ended::Closed),
            build::small(Ended::Killed),
            build::store(&[&[(1, 10), (2, 30), (1, 0), (3, 200)]], Ended::Closed),
            build::store(&[&[(1, 10), (2, 30), (1, 0), (3, 200)]], Ended::Killed),
            // So many events that index files have several samples and waypoints.
            build::store(&[&[(40, 300), (70, 20)], &[(1, 20)]], Ended::Closed),
            build::store(&[&[]], Ended::Closed),
            build::odd(),
            build::store(&[&[(2, 70_000), (1, 10)]], Ended::Killed),
            build::edited(Ended::Closed),
            build::edited(Ended::Killed),
            build::edited(Ended::Closed).with_caches(),
            build::small(Ended::Killed).with_caches(),
        ]
    })
}

/// The files of a store while they are changed.
pub(super) struct Files {
    pub files: BTreeMap<String, Vec<u8>>,
    /// Whether values are used as they are. Real damage does not compute checksums.
    pub tampering: bool,
}

impl Files {
    fn name(&self, file: u8) -> Option<String> {
        let count = self.files.len().max(1);
        self.files.keys().nth(usize::from(file) % count).cloned()
    }

    fn bytes(&mut self, file: u8) -> Option<&mut Vec<u8>> {
        let name = self.name(file)?;
        self.files.get_mut(&name)
    }

    fn value(&self, value: u64) -> [u8; 8] {
        match self.tampering {
            true => value.to_le_bytes(),
            false => noise(value, 8).try_into().expect("eight bytes"),
        }
    }

    /// `None` if there is nothing to change.
    pub(super) fn apply(&mut self, edit: &Edit) -> Option<()> {
        match *edit {
            Edit::Flip { file, at, bit } => {
                let bytes = self.bytes(file)?;
                let at = (at as usize).checked_rem(bytes.len())?;
                bytes[at] ^= 1 << (bit % 8);
            }
            Edit::Set { file, at, len, value } => {
                let value = self.value(value);
                let bytes = self.bytes(file)?;
                let at = (at as usize).checked_rem(bytes.len())?;
                let end = bytes.len().min(at + 1 + usize::from(len % 8));
                bytes[at..end].copy_from_slice(&value[..end - at]);
            }
            Edit::Field { file, frame, at, value } => {
                let value = self.value(value);
                let bytes = self.bytes(file)?;
                let start = (0..frame % 8).fold(0, |start, _| next_header(bytes, start));
                let at = start + usize::from(at % 30) * 4;
                bytes.get_mut(at..at + 4)?.copy_from_slice(&value[..4]);
            }
            Edit::Truncate { file, len } => {
                let bytes = self.bytes(file)?;
                bytes.truncate(len as usize % (bytes.len() + 1));
            }
            Edit::Append { file, len, value } => {
                let junk = noise(value, usize::from(len % 2000));
                self.bytes(file)?.extend_from_slice(&junk);
            }
            Edit::Zero { file, at, len } => {
                let bytes = self.bytes(file)?;
                let at = (at as usize).checked_rem(bytes.len())?;
                let end = bytes.len().min(at + usize::from(len));
                bytes[at..end].fill(0);
            }
            Edit::SwapSectors { file, one, other } => {
                let bytes = self.bytes(file)?;
                let sectors = bytes.len() / 512;
                let (one, other) = (usize::from(one).checked_rem(sectors)?, usize::from(other).checked_rem(sectors)?);
                (0..512).for_each(|n| bytes.swap(one * 512 + n, other * 512 + n));
            }
            Edit::Copy { from, at, len, to, behind } => {
                let source = self.bytes(from)?;
                let at = (at as usize).checked_rem(source.len())?;
                let copied = source[at..source.len().min(at + usize::from(len))].to_vec();
                let target = self.bytes(to)?;
                let at = behind as usize % (target.len() + 1);
                target.resize(target.len().max(at + copied.len()), 0);
                target[at..at + copied.len()].copy_from_slice(&copied);
            }
            Edit::Delete { file } => {
                let name = self.name(file)?;
                self.files.remove(&name);
            }
            Edit::Duplicate { file, name } => {
                let bytes = self.bytes(file)?.clone();
                self.files.insert(NAMES[usize::from(name) % NAMES.len()].into(), bytes);
            }
            Edit::Rename { file, name } => {
                let from = self.name(file)?;
                let bytes = self.files.remove(&from)?;
                self.files.insert(NAMES[usize::from(name) % NAMES.len()].into(), bytes);
            }
        }
        Some(())
    }

    /// Corrects all checksums, of one segment after the other.
    pub(super) fn seal(&mut self) {
        let mut before = None;
        for (name, bytes) in &mut self.files {
            match name.as_str() {
                "HEAD" => seal::head(bytes),
                "POSITIONS" => seal::positions(bytes),
                name if name.ends_with(".snap") => seal::snapshot(bytes, false),
                name if name.ends_with(".idx") => seal::index(bytes),
                name if name.ends_with(".seg") => {
                    if let Some(before) = before {
                        seal::follow(bytes, before);
                    }
                    before = seal::segment(bytes);
                }
                _ => {}
            }
        }
    }
}

/// Where the next header is, if the one at `start` is a good segment header or a frame.
fn next_header(bytes: &[u8], start: usize) -> usize {
    let len = match bytes.get(start..start + 20) {
        _ if start == 0 => START as usize,
        Some(header) => frame_len(u32_at(header, 16).into()) as usize,
        None => 0,
    };
    start.saturating_add(len).min(bytes.len())
}

/// The files of a store after all changes of an input: those before the checksums are corrected, if
/// there are any, and those after.
pub(super) fn after(base: &Built, tampered: &[Edit], damaged: &[Edit]) -> BTreeMap<String, Vec<u8>> {
    let mut files = Files { files: base.files.clone(), tampering: true };
    for edit in tampered.iter().take(6) {
        files.apply(edit);
    }
    if !tampered.is_empty() {
        files.seal();
    }
    files.tampering = false;
    for edit in damaged.iter().take(6) {
        files.apply(edit);
    }
    files.files
}

/// These files on a disk.
pub(super) fn disk(files: &BTreeMap<String, Vec<u8>>) -> MemFs {
    let fs = MemFs::new();
    for (name, bytes) in files {
        put_file(&fs, &Path::new(DIR).join(name), bytes);
    }
    fs
}
