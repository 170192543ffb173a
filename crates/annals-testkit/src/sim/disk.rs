//! One version of the simulated disk, the changes that lead to the next, and what a crash keeps of
//! them.

use annals::internals::fs::mem::write_vec;
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a crash leaves of the unsynced changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Image {
    /// The process died, the system lives on: all is there, and still unsynced.
    Killed,
    /// None.
    Durable,
    /// All.
    All,
    /// The first n.
    Prefix(usize),
    /// Each kept or lost.
    Subset(u64),
    /// Of each write, each sector of this many bytes kept or lost; other changes kept or lost.
    Sectors(usize, u64),
    /// Of each write, each byte kept or lost; other changes kept or lost.
    Bytes(u64),
    /// Files have their new length and zeros in place of the new data; names are kept.
    SizeWithoutData,
    /// New data are there as far as the old length goes; names are kept.
    DataWithoutSize,
    /// All names, no data.
    NamesOnly,
    /// All data, no names.
    DataOnly,
}

pub(super) type Inode = usize;

#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { inode: Inode, at: u64, bytes: Arc<[u8]> },
    Truncate { inode: Inode, size: u64 },
    Link { path: PathBuf, inode: Inode },
    Rename { from: PathBuf, to: PathBuf, inode: Inode },
    Unlink { path: PathBuf },
}

impl Change {
    pub(super) fn inode(&self) -> Option<Inode> {
        match self {
            Change::Write { inode, .. } | Change::Truncate { inode, .. } => Some(*inode),
            _ => None,
        }
    }

    pub(super) fn each_path(&mut self, mut f: impl FnMut(&mut PathBuf)) {
        match self {
            Change::Write { .. } | Change::Truncate { .. } => {}
            Change::Link { path, .. } | Change::Unlink { path } => f(path),
            Change::Rename { from, to, .. } => {
                f(from);
                f(to);
            }
        }
    }

    pub(super) fn is_in(&self, dir: &Path) -> bool {
        match self {
            Change::Link { path, .. } | Change::Unlink { path } | Change::Rename { to: path, .. } => {
                path.parent() == Some(dir)
            }
            _ => false,
        }
    }
}

/// One version of the disk: bytes by inode, inodes by name.
#[derive(Clone, Default, Debug)]
pub(super) struct Disk {
    pub contents: Vec<Arc<Vec<u8>>>,
    pub names: BTreeMap<PathBuf, Inode>,
}

impl Disk {
    pub(super) fn content(&mut self, inode: Inode) -> &mut Vec<u8> {
        Arc::make_mut(&mut self.contents[inode])
    }

    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Write { inode, at, bytes } => write_vec(self.content(*inode), *at, bytes),
            Change::Truncate { inode, size } => self.content(*inode).resize(*size as usize, 0),
            Change::Link { path, inode } => {
                self.names.insert(path.clone(), *inode);
            }
            Change::Rename { from, to, inode } => {
                self.names.remove(from);
                self.names.insert(to.clone(), *inode);
            }
            Change::Unlink { path } => {
                self.names.remove(path);
            }
        }
    }

    /// Applies a write in pieces of `piece` bytes, each kept or lost.
    fn apply_in_pieces(&mut self, inode: Inode, at: u64, bytes: &[u8], piece: usize, random: &mut Random) {
        let mut start = 0;
        while start < bytes.len() {
            // Pieces are aligned to their size in the file, as sectors are.
            let into = (at as usize + start) % piece;
            let end = bytes.len().min(start + piece - into);
            if random.coin() {
                write_vec(self.content(inode), at + start as u64, &bytes[start..end]);
            }
            start = end;
        }
    }

    /// Applies what an image keeps of the unsynced changes.
    pub(super) fn keep(&mut self, unsynced: &[Change], image: Image) {
        let mut random = Random::new(match image {
            Image::Subset(seed) | Image::Sectors(_, seed) | Image::Bytes(seed) => seed,
            _ => 0,
        });
        for (n, change) in unsynced.iter().enumerate() {
            let is_name = change.inode().is_none();
            match (image, change) {
                (Image::Durable | Image::Killed, _) => {}
                (Image::All, _) => self.apply(change),
                (Image::Prefix(count), _) if n < count => self.apply(change),
                (Image::Prefix(_), _) => {}
                (Image::Sectors(size, _), Change::Write { inode, at, bytes }) => {
                    self.apply_in_pieces(*inode, *at, bytes, size, &mut random);
                }
                (Image::Bytes(_), Change::Write { inode, at, bytes }) => {
                    self.apply_in_pieces(*inode, *at, bytes, 1, &mut random);
                }
                (Image::Subset(_) | Image::Sectors(..) | Image::Bytes(_), _) => {
                    if random.coin() {
                        self.apply(change);
                    }
                }
                (Image::SizeWithoutData, Change::Write { inode, at, bytes }) => {
                    let content = self.content(*inode);
                    let size = content.len().max(*at as usize + bytes.len());
                    content.resize(size, 0);
                }
                (Image::DataWithoutSize, Change::Write { inode, at, bytes }) => {
                    let content = self.content(*inode);
                    let room = content.len().saturating_sub(*at as usize).min(bytes.len());
                    write_vec(content, *at, &bytes[..room]);
                }
                (Image::DataWithoutSize, Change::Truncate { .. }) => {}
                (Image::SizeWithoutData | Image::DataWithoutSize, _) => self.apply(change),
                (Image::NamesOnly, _) if is_name => self.apply(change),
                (Image::DataOnly, _) if !is_name => self.apply(change),
                (Image::NamesOnly | Image::DataOnly, _) => {}
            }
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): small, seeded, good enough to toss coins.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Self {
        Random(seed)
    }

    fn coin(&mut self) -> bool {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) & 1 == 1
    }
}

/// The error of a read that meets a bad sector.
pub(super) fn bad_sector() -> io::Error {
    io::Error::from_raw_os_error(if cfg!(windows) { 23 } else { 5 })
}
