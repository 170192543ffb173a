//! What can happen to a store.

use crate::fs::Image;
use crate::fuzzing::build::stream;
use crate::fuzzing::facts::Fact;
use crate::fuzzing::noise;
use crate::{Expected, Query};
use arbitrary::{Arbitrary, Unstructured};

/// Most steps of one input.
const STEPS: usize = 24;

#[derive(Arbitrary, Debug)]
pub(super) enum Step {
    Commit {
        parts: Vec<Part>,
        guard: Option<(Asked, Option<u8>)>,
        key: u8,
        wait: bool,
    },
    WaitForAll,
    DropTicket,
    Sync,
    Read {
        of: Option<u8>,
        from: u8,
        len: u8,
        limit: u8,
        backwards: bool,
        as_of: Option<u8>,
    },
    Query {
        asked: Asked,
        after: Option<u8>,
        limit: u8,
        backwards: bool,
    },
    Clock {
        nanos: u16,
    },
    Reopen {
        large_segments: bool,
    },
    Abandon,
    PowerCut {
        image: u8,
        seed: u8,
    },
    /// The process dies at one of the next calls.
    Die {
        after: u8,
    },
    Fault {
        operation: u8,
        after: u8,
        times: u8,
        kind: u8,
    },
    Full {
        room: u16,
    },
    Heal,
    /// An index file has another byte while the store is closed, or is gone.
    Spoil {
        file: u8,
        at: u16,
        delete: bool,
    },
}

#[derive(Arbitrary, Debug)]
pub(super) struct Part {
    pub(super) stream: u8,
    pub(super) hope: u8,
    pub(super) events: Vec<(u8, u16)>,
}

/// A query as the model understands it, too.
#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) struct Asked {
    what: u8,
    which: u8,
    or_type: Option<u8>,
}

impl Asked {
    pub(super) fn type_name(n: u8) -> &'static str {
        ["Placed", "Paid", "Shipped"][usize::from(n) % 3]
    }

    pub(super) fn query(self) -> Query {
        let query = match self.what % 6 {
            0 => Query::new(),
            1 => Query::new().tag(format!("n:{}", self.which % 5)).tag("all"),
            2 => Query::new().event_type(Self::type_name(self.which)),
            3 => Query::new().domain(["a", "b"][usize::from(self.which) % 2]),
            4 => Query::new().edition("what-if").stream(&stream(0)),
            _ => Query::new().correlation("workflow").stream(&stream(self.which.into())),
        };
        match self.or_type {
            Some(n) => query.or().event_type(Self::type_name(n)),
            None => query,
        }
    }

    pub(super) fn finds(self, fact: &Fact) -> bool {
        let has_tag = |tag: &str| fact.tags.iter().any(|have| have == tag);
        let is_in = |n: usize| (fact.stream.domain(), fact.stream.root()) == (stream(n).domain(), stream(n).root());
        let first = match self.what % 6 {
            // A query without a condition finds all, but beside another item it does not count.
            0 => self.or_type.is_none(),
            1 => has_tag(&format!("n:{}", self.which % 5)) && has_tag("all"),
            2 => fact.event_type == Self::type_name(self.which),
            3 => fact.stream.domain() == ["a", "b"][usize::from(self.which) % 2],
            4 => is_in(0),
            _ => fact.correlation_id.as_deref() == Some("workflow") && is_in(self.which.into()),
        };
        let edition = if self.what % 6 == 4 { Some("what-if") } else { None };
        fact.stream.edition() == edition
            && (first || self.or_type.is_some_and(|n| fact.event_type == Self::type_name(n)))
    }
}

pub(super) fn steps(input: &[u8]) -> Vec<Step> {
    let mut input = Unstructured::new(input);
    let mut steps = Vec::new();
    while steps.len() < STEPS
        && !input.is_empty()
        && let Ok(step) = Step::arbitrary(&mut input)
    {
        steps.push(step);
    }
    steps
}

pub(in crate::fuzzing) fn show(input: &[u8]) -> String {
    steps(input).iter().map(|step| format!("{step:?}\n")).collect()
}

pub(super) fn step_image(image: u8, seed: u8) -> Image {
    let seed = seed.into();
    let images = [
        Image::Killed,
        Image::Durable,
        Image::All,
        Image::Subset(seed),
        Image::Sectors(512, seed),
        Image::Sectors(4096, seed),
        Image::Bytes(seed),
        Image::SizeWithoutData,
        Image::DataWithoutSize,
        Image::NamesOnly,
        Image::DataOnly,
        Image::Prefix(seed as usize % 8),
    ];
    images[usize::from(image) % images.len()]
}

/// What to expect of a stream that has so many events.
pub(super) fn expected(hope: u8, next: u64) -> Expected {
    match hope % 8 {
        0 => Expected::NoStream,
        1 => Expected::Exists,
        2 => Expected::Next(next + 1),
        3 => Expected::Next(next.wrapping_sub(1)),
        4 | 5 => Expected::Next(next),
        _ => Expected::Any,
    }
}

pub(in crate::fuzzing) fn seeds() -> Vec<Vec<u8>> {
    (0..24).map(|seed| noise(seed + 500, 60 + seed as usize * 25)).collect()
}
