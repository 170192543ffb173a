//! The contract, held against the stores of this library and against a backend that has nothing to do with them.
//!
//! The scenarios stand in `src/contract`, where other backends find them.

mod liar;
mod naive;

use annals::{Options, Store, fs::MemFs};

annals::contract!(
    in_memory,
    [events, writers, editions, positions, edition_positions, snapshots, large_snapshots],
    Store::in_memory
);

annals::contract!(
    directory,
    [events, writers, editions, durability, positions, edition_positions, snapshots, large_snapshots],
    {
        let dir = tempfile::tempdir().unwrap();
        move || Store::open(dir.path()).unwrap()
    }
);

annals::contract!(memory_reopened, [durability], {
    let fs = MemFs::new();
    move || Options::new().file_system(fs.clone()).open("store").unwrap()
});

annals::contract!(
    another_backend,
    [events, writers, editions, durability, positions, edition_positions, snapshots, large_snapshots],
    {
        let place = crate::naive::Naive::default();
        move || place.clone()
    }
);
