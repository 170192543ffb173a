//! What can happen to a store.

use crate::noise;
use annals::snapshot::Retention;
use annals::{Expected, Query, StreamId};
use annals_testkit::EventRecord;
use annals_testkit::Image;
use arbitrary::{Arbitrary, Unstructured};

/// Maximum number of steps of one input.
const STEPS: usize = 32;

/// Streams that are written to. Three of them diverge from others.
const STREAMS: [&str; 6] = ["a-1", "b-2", "b-%FF", "a-1@what-if", "b-2@what-if", "a-1@x"];
pub(super) const EDITIONS: [&str; 2] = ["what-if", "x"];
pub(super) const DOMAINS: [&str; 2] = ["a", "b"];
pub(super) const UPSTREAMS: [&str; 2] = ["inbox", "other"];
pub(super) const HANDLERS: [&str; 2] = ["h", "billing"];

pub(super) fn stream(n: u8) -> StreamId {
    STREAMS[usize::from(n) % STREAMS.len()].parse().expect("a good name")
}

pub(super) fn retention(n: u8) -> Retention {
    [Retention::Default, Retention::Transient, Retention::Persist][usize::from(n) % 3]
}

#[derive(Arbitrary, Debug)]
pub(super) enum Step {
    Commit(Commit),
    /// An edition is deleted, or a domain of it.
    Delete {
        edition: u8,
        domain: Option<u8>,
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
    /// Streams, editions, upstreams and handler positions are listed.
    List,
    Load {
        of: u8,
        every: u8,
        as_of: Option<u8>,
    },
    Snapshot {
        of: u8,
        sequence: u8,
        retention: u8,
    },
    Position {
        handler: u8,
        of: u8,
        sequence: u8,
        change: Change,
    },
    Flush,
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
    /// An index file or a snapshot has another byte while the store is closed, or is gone.
    Spoil {
        file: u8,
        at: u16,
        delete: bool,
    },
}

#[derive(Arbitrary, Clone, Copy, Debug)]
pub(super) enum Change {
    Put,
    Reset,
    Delete,
}

#[derive(Debug)]
pub(super) struct Commit {
    pub(super) parts: Vec<Part>,
    pub(super) guard: Option<(Asked, Option<u8>)>,
    /// 0 is none.
    pub(super) key: u8,
    pub(super) tracking: Option<(u8, u8)>,
    pub(super) wait: bool,
}

#[derive(Debug)]
pub(super) struct Part {
    pub(super) stream: u8,
    pub(super) hope: u8,
    pub(super) events: Vec<(u8, u16)>,
}

/// Not derived: most commits must succeed, and have events.
impl<'a> Arbitrary<'a> for Commit {
    fn arbitrary(input: &mut Unstructured<'a>) -> arbitrary::Result<Commit> {
        let has: u8 = input.arbitrary()?;
        let count = [1, 1, 1, 2, 2, 3, 0, 1][usize::from(has & 7)];
        Ok(Commit {
            parts: (0..count).map(|_| input.arbitrary()).collect::<Result<_, _>>()?,
            guard: if has >> 3 & 3 == 3 { Some(input.arbitrary()?) } else { None },
            tracking: if has >> 5 & 3 == 3 || count == 0 { Some(input.arbitrary()?) } else { None },
            key: if has >> 6 == 1 { input.arbitrary::<u8>()? % 4 } else { 0 },
            wait: has >> 7 == 1,
        })
    }
}

impl<'a> Arbitrary<'a> for Part {
    fn arbitrary(input: &mut Unstructured<'a>) -> arbitrary::Result<Part> {
        let (stream, hope, count) = input.arbitrary::<(u8, u8, u8)>()?;
        let count = [1, 1, 1, 2, 2, 3, 4, 0][usize::from(count & 7)];
        let events = (0..count).map(|_| input.arbitrary()).collect::<Result<_, _>>()?;
        Ok(Part { stream, hope, events })
    }
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
        let query = match self.what % 8 {
            0 => Query::new(),
            1 => Query::new().tag(format!("n:{}", self.which % 5)).tag("all"),
            2 => Query::new().event_type(Self::type_name(self.which)),
            3 => Query::new().domain(DOMAINS[usize::from(self.which) % 2]),
            4 => Query::new().edition("what-if").stream(&stream(0)),
            5 => Query::new().edition(EDITIONS[usize::from(self.which) % 2]),
            6 => Query::new().edition("x").tag("all"),
            _ => Query::new().correlation("workflow").stream(&stream(self.which % 3)),
        };
        match self.or_type {
            Some(n) => query.or().event_type(Self::type_name(n)),
            None => query,
        }
    }

    /// The edition in which it looks.
    pub(super) fn edition(self) -> Option<&'static str> {
        match self.what % 8 {
            4 => Some("what-if"),
            5 => Some(EDITIONS[usize::from(self.which) % 2]),
            6 => Some("x"),
            _ => None,
        }
    }

    /// Whether it matches this one, of the visible events of its edition.
    pub(super) fn finds(self, record: &EventRecord) -> bool {
        let has_tag = |tag: &str| record.tags.iter().any(|have| have == tag);
        let is_in = |n: u8| (record.stream.domain(), record.stream.root()) == (stream(n).domain(), stream(n).root());
        let first = match self.what % 8 {
            // A query without a condition matches all, but beside another item it is ignored.
            0 | 5 => self.or_type.is_none(),
            1 => has_tag(&format!("n:{}", self.which % 5)) && has_tag("all"),
            2 => record.event_type == Self::type_name(self.which),
            3 => record.stream.domain() == DOMAINS[usize::from(self.which) % 2],
            4 => is_in(0),
            6 => has_tag("all"),
            _ => record.correlation_id.as_deref() == Some("workflow") && is_in(self.which % 3),
        };
        first || self.or_type.is_some_and(|n| record.event_type == Self::type_name(n))
    }
}

/// Every third one is a commit, whatever else there is.
fn step(input: &mut Unstructured<'_>) -> arbitrary::Result<Step> {
    match input.arbitrary::<u8>()? {
        0..=95 => Ok(Step::Commit(input.arbitrary()?)),
        _ => input.arbitrary(),
    }
}

pub(super) fn steps(input: &[u8]) -> Vec<Step> {
    let mut input = Unstructured::new(input);
    let mut steps = Vec::new();
    while steps.len() < STEPS
        && !input.is_empty()
        && let Ok(step) = step(&mut input)
    {
        steps.push(step);
    }
    steps
}

pub(crate) fn show(input: &[u8]) -> String {
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

/// The expectation of a stream that has this many events.
pub(super) fn expected(hope: u8, next: u64) -> Expected {
    match hope % 12 {
        0 => Expected::NoStream,
        1 => Expected::Exists,
        2 => Expected::Next(next + 1),
        3 => Expected::Next(next.wrapping_sub(1)),
        4 | 5 => Expected::Next(next),
        // In an edition that has not diverged, it does so there.
        6 => Expected::Next(next / 2),
        _ => Expected::Any,
    }
}

pub(crate) fn seeds() -> Vec<Vec<u8>> {
    (0..40).map(|seed| noise(seed + 500, 60 + seed as usize * 25)).collect()
}
