//! Large states. Slow, and therefore a kind of its own.

use super::verbs::{Must, begin, stream};
use super::{Retention, SnapshotStore};

/// A state of 64 MiB comes back identical.
pub fn sixty_four_mebibytes_come_back<B: SnapshotStore>(store: &B) {
    begin(store, 1);
    let state: Vec<u8> = (0..64u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    store.put_snapshot(&stream("order-1"), 0, Retention::Default, &state).must("putting 64 MiB");
    let found = store.latest_snapshot(&stream("order-1")).must("asking for a snapshot").expect("it was put");
    assert!(found.state == state, "64 MiB come back to the byte");
}
