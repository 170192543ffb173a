//! A map from hashes to slot numbers: open addressing, linear probing, eight bytes per entry.

/// An empty entry.
const EMPTY: (u32, u32) = (u32::MAX, 0);
const LEAST: usize = 16;

/// Slot numbers, each with the hash of its key, so that a search rarely visits a wrong slot: each
/// visit is a cache miss or two.
#[derive(Default)]
pub(super) struct SlotIndex {
    /// The length is a power of two; at most three quarters are filled.
    places: Vec<(u32, u32)>,
    filled: usize,
}

impl SlotIndex {
    fn home(&self, hash: u32) -> usize {
        hash as usize & (self.places.len() - 1)
    }

    /// Returns the number with this hash that satisfies `is`.
    pub(super) fn find(&self, hash: u32, is: impl Fn(u32) -> bool) -> Option<u32> {
        self.place(hash, is).map(|at| self.places[at].0)
    }

    fn place(&self, hash: u32, is: impl Fn(u32) -> bool) -> Option<usize> {
        if self.places.is_empty() {
            return None;
        }
        let mut at = self.home(hash);
        while self.places[at] != EMPTY {
            let (number, own) = self.places[at];
            if own == hash && is(number) {
                return Some(at);
            }
            at = (at + 1) & (self.places.len() - 1);
        }
        None
    }

    /// Adds a number that is not in the map.
    pub(super) fn insert(&mut self, hash: u32, number: u32) {
        if (self.filled + 1) * 4 > self.places.len() * 3 {
            let grown = vec![EMPTY; (self.places.len() * 2).max(LEAST)];
            let before = std::mem::replace(&mut self.places, grown);
            before.into_iter().filter(|&place| place != EMPTY).for_each(|place| self.put(place));
        }
        self.put((number, hash));
        self.filled += 1;
    }

    fn put(&mut self, place: (u32, u32)) {
        let mut at = self.home(place.1);
        while self.places[at] != EMPTY {
            at = (at + 1) & (self.places.len() - 1);
        }
        self.places[at] = place;
    }

    /// Removes a number. Later entries that a search would not find after the empty one move up.
    pub(super) fn remove(&mut self, hash: u32, number: u32) {
        let Some(mut gap) = self.place(hash, |other| other == number) else { return };
        let most = self.places.len() - 1;
        let mut at = gap;
        loop {
            at = (at + 1) & most;
            let moved = self.places[at];
            if moved == EMPTY {
                break;
            }
            let home = self.home(moved.1);
            if at.wrapping_sub(home) & most >= at.wrapping_sub(gap) & most {
                self.places[gap] = moved;
                gap = at;
            }
        }
        self.places[gap] = EMPTY;
        self.filled -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bad hashes, so that many collide, wrap around and move up.
    #[test]
    fn numbers_are_found_until_they_are_removed() {
        let hash = |n: u32| n % 13 * 5;
        let (mut index, mut there) = (SlotIndex::default(), std::collections::BTreeSet::new());
        let mut state = 1u32;
        for _ in 0..20_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let n = (state >> 16) % 60;
            if there.insert(n) {
                index.insert(hash(n), n);
            } else {
                there.remove(&n);
                index.remove(hash(n), n);
            }
            for n in 0..60 {
                assert_eq!(index.find(hash(n), |other| other == n).is_some(), there.contains(&n), "{n}");
            }
        }
    }
}
