//! The code of the fuzz targets in `fuzz/`, with their oracles.
//! `crates/annals-fuzzing/tests/corpus.rs` runs the same functions on the inputs that are kept.
//!
//! Random bytes never get past a checksum, but an attacker can compute one. So each target has a
//! form in which the input is *sealed* first (`seal.rs`): all checksums are corrected, and the
//! bytes behind them are trusted as far as those of any file.
//!
//! A target is a function of bytes that panics on a finding, a file in `fuzz/fuzz_targets` that
//! calls it, and its line in [`TARGETS`].

mod bounded;
mod build;
mod change;
mod directory;
mod edits;
mod frame;
mod index;
mod intact;
mod operations;
mod positions;
mod records;
mod salvage;
mod seal;
mod segment;
mod snapshot;

pub use directory::open_directory;
pub use frame::frame;
pub use index::index_file;
pub use operations::operations;
pub use positions::positions_file;
pub use salvage::salvage;
pub use segment::segment_scan;
pub use snapshot::snapshot_file;

/// A target: its name, what it runs, and its seeds.
pub struct Target {
    /// As in `fuzz/Cargo.toml`.
    pub name: &'static str,
    /// Panics if the input shows a fault.
    pub run: fn(&[u8]),
    /// Inputs to begin with, the same each time.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// What an input means.
    pub show: fn(&[u8]) -> String,
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target { name: "frame", run: frame, seeds: frame::seeds, show: bytes },
    Target { name: "segment_scan", run: segment_scan, seeds: segment::seeds, show: bytes },
    Target { name: "index_file", run: index_file, seeds: index::seeds, show: bytes },
    Target { name: "snapshot_file", run: snapshot_file, seeds: snapshot::seeds, show: snapshot::show },
    Target { name: "positions_file", run: positions_file, seeds: positions::seeds, show: positions::show },
    Target { name: "open_directory", run: open_directory, seeds: directory::seeds, show: directory::show },
    Target { name: "salvage", run: salvage, seeds: salvage::seeds, show: salvage::show },
    Target { name: "operations", run: operations, seeds: operations::seeds, show: operations::show },
];

/// The first byte says how the others are used.
fn bytes(input: &[u8]) -> String {
    format!("{} bytes, {:?} …", input.len(), input.get(..16).unwrap_or(input))
}

/// Bytes that differ from seed to seed: SplitMix64 (Steele, Lea, Flood 2014).
fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (state ^ (state >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    };
    let mut bytes: Vec<u8> = (0..len.div_ceil(8)).flat_map(|_| next().to_le_bytes()).collect();
    bytes.truncate(len);
    bytes
}
