//! Partitions: which events must wait for one another.

use crate::Event;
use std::hash::{BuildHasher, RandomState};

/// Which events are handled one after the other, in order: those with the same key. An event that
/// is tried again holds back only those of its own key.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Partition {
    /// By stream. A stream in a named edition is another stream.
    #[default]
    Stream,
    /// By the first tag of this kind: `customer` stands for tags that begin with `customer:`. An
    /// event without one has the key of its stream.
    Tag(String),
    /// All of them have the same key.
    Store,
}

/// Returns keys as hashes. If two keys share a hash, their events wait for one another, which only
/// costs speed.
pub(super) struct Keys {
    partition: Partition,
    hasher: RandomState,
}

impl Keys {
    pub(super) fn new(partition: Partition) -> Self {
        Keys { partition, hasher: RandomState::new() }
    }

    pub(super) fn of(&self, event: &Event) -> u64 {
        let stream = || self.hasher.hash_one(event.key());
        match &self.partition {
            Partition::Stream => stream(),
            Partition::Store => 0,
            Partition::Tag(kind) => {
                let is_of = |tag: &&str| tag.strip_prefix(kind).is_some_and(|rest| rest.starts_with(':'));
                event.tags().find(is_of).map_or_else(stream, |tag| self.hasher.hash_one(tag))
            }
        }
    }
}
