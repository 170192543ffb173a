//! The contract, run against the stores of this library and against a backend that has nothing to
//! do with them.
//!
//! The scenarios are in `crates/annals-contract/src`, where other backends find them.

mod liar;
mod naive;

use annals::{Options, Store, fs::MemFs};

annals_contract::contract!(
    in_memory,
    [events, writers, editions, positions, edition_positions, snapshots, large_snapshots],
    Store::in_memory
);

annals_contract::contract!(
    directory,
    [events, writers, editions, durability, positions, edition_positions, snapshots, large_snapshots],
    {
        let dir = tempfile::tempdir().unwrap();
        move || Store::open(dir.path()).unwrap()
    }
);

annals_contract::contract!(memory_reopened, [durability], {
    let fs = MemFs::new();
    move || Options::new().file_system(fs.clone()).open("store").unwrap()
});

annals_contract::contract!(
    another_backend,
    [events, writers, editions, durability, positions, edition_positions, snapshots, large_snapshots],
    {
        let place = crate::naive::Naive::default();
        move || place.clone()
    }
);
