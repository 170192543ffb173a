//! The model: a list of commits, and a map of handler positions.

use super::steps::{Asked, Part, UPSTREAMS, expected, stream};
use crate::build;
use annals::NewEvent;
use annals::Timestamp;
use annals::internals::fields;
use annals::{Expected, StreamId};
use annals_testkit::{Bytes, EventRecord};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use uuid::Uuid;

/// A commit that was accepted.
pub(super) struct Accepted {
    pub(super) records: Vec<EventRecord>,
    pub(super) first: u64,
    /// Positions that it takes: those of its events, or one if it has none.
    pub(super) len: u64,
    pub(super) says: Option<Says>,
    pub(super) key: u8,
    /// Its durability was acknowledged, or it was seen after an open.
    pub(super) acknowledged: bool,
}

/// The side effects of a commit.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Says {
    Deleted { edition: &'static str, domain: Option<&'static str> },
    Tracked { upstream: &'static str, position: u64 },
}

impl Accepted {
    /// Whether a commit with these events has the same content.
    fn says_the_same(&self, records: &[EventRecord], says: Option<&Says>) -> bool {
        let content = |record: &EventRecord| {
            let EventRecord { stream, event_type, tags, data, content_type, schema_version, .. } = record.clone();
            (stream, event_type, tags, data, content_type, schema_version)
        };
        self.says.as_ref() == says && self.records.iter().map(content).eq(records.iter().map(content))
    }
}

impl Says {
    fn upstream(&self) -> Option<&'static str> {
        match self {
            Says::Tracked { upstream, .. } => Some(upstream),
            Says::Deleted { .. } => None,
        }
    }

    pub(super) fn tracked((upstream, position): (u8, u8)) -> Says {
        Says::Tracked { upstream: UPSTREAMS[usize::from(upstream) % UPSTREAMS.len()], position: position.into() }
    }
}

/// The expected result of a commit.
pub(super) enum Answer {
    Nothing,
    /// For commits with the key, by number: a duplicate of one with the same content, or a mismatch
    /// with one without. If both exist, the order of streams decides.
    Repeat {
        same: Vec<usize>,
        others: Vec<usize>,
    },
    GuardFailed(u64),
    /// The guard has a position that does not exist.
    Ahead,
    AlreadyTracked(u64),
    Conflict(u64),
    Accepted(Accepted, Vec<Range<u64>>),
}

/// A handler position: handler, stream, and which of the editions of that name it was.
pub(super) type Place = (&'static str, StreamId, u64);
pub(super) type Places = BTreeMap<Place, u64>;

/// The expected content.
#[derive(Default)]
pub(super) struct Model {
    pub(super) commits: Vec<Accepted>,
    /// Number of events ever tried: each is another one.
    pub(super) written: u64,
    /// The handler positions as they are in memory.
    pub(super) places: Places,
    /// What may be found of them after a crash: the content of the last acknowledged flush, and of
    /// those that were tried since.
    pub(super) flushed: Vec<Places>,
}

fn covers(edition: &str, domain: Option<&str>, stream: &StreamId) -> bool {
    stream.edition() == Some(edition) && domain.is_none_or(|domain| domain == stream.domain())
}

fn in_main(stream: &StreamId) -> StreamId {
    stream.in_edition("").expect("the main edition")
}

/// The content of a stream, the newest last, if these events are all there are.
fn composite(records: &[EventRecord], stream: &StreamId) -> Vec<EventRecord> {
    let own: Vec<EventRecord> = records.iter().filter(|record| record.stream == *stream).cloned().collect();
    if stream.edition().is_none() {
        return own;
    }
    let (main, first) = (in_main(stream), own.first().map_or(u64::MAX, |record| record.sequence));
    let shared = records.iter().filter(|record| record.stream == main && record.sequence < first);
    shared.cloned().chain(own).collect()
}

impl Model {
    /// The position after all that was accepted.
    pub(super) fn end(&self) -> u64 {
        self.commits.iter().map(|commit| commit.len).sum()
    }

    pub(super) fn acknowledged(&self) -> u64 {
        let last = self.commits.iter().rposition(|commit| commit.acknowledged);
        self.commits[..last.map_or(0, |last| last + 1)].iter().map(|commit| commit.len).sum()
    }

    /// The position of the last deletion before `end` that has hit a stream; 0 if there was none.
    pub(super) fn epoch(&self, stream: &StreamId, end: u64) -> u64 {
        let hits = |commit: &&Accepted| match commit.says {
            Some(Says::Deleted { edition, domain }) => commit.first < end && covers(edition, domain, stream),
            _ => false,
        };
        self.commits.iter().filter(hits).map(|commit| commit.first).max().unwrap_or(0)
    }

    /// All events before `end` that were not deleted before it, in order.
    pub(super) fn live(&self, end: u64) -> Vec<EventRecord> {
        let records = self.commits.iter().flat_map(|commit| &commit.records);
        records
            .filter(|record| record.position < end && record.position >= self.epoch(&record.stream, end))
            .cloned()
            .collect()
    }

    /// The events of a stream before `end`, as of `until`.
    pub(super) fn stream(&self, stream: &StreamId, end: u64, until: u64) -> Vec<EventRecord> {
        let mut live = self.live(end);
        live.retain(|record| record.position <= until);
        composite(&live, stream)
    }

    /// The visible events of an edition, of those before `end`.
    pub(super) fn seen(&self, edition: Option<&str>, end: u64) -> Vec<EventRecord> {
        let live = self.live(end);
        let Some(edition) = edition else {
            return live.into_iter().filter(|record| record.stream.edition().is_none()).collect();
        };
        let here = |stream: &StreamId| stream.in_edition(edition).expect("a good name");
        let streams: BTreeSet<StreamId> = live.iter().map(|record| here(&record.stream)).collect();
        let mut seen: Vec<EventRecord> = streams.iter().flat_map(|stream| composite(&live, stream)).collect();
        seen.sort_by_key(|record| record.position);
        seen
    }

    /// The tracked position of each upstream before `end`.
    pub(super) fn tracked(&self, end: u64) -> BTreeMap<String, u64> {
        let commits = self.commits.iter().filter(|commit| commit.first < end);
        let tracked = commits.filter_map(|commit| match commit.says {
            Some(Says::Tracked { upstream, position }) => Some((upstream.to_owned(), position)),
            _ => None,
        });
        tracked.collect()
    }

    /// The handler positions of the present editions.
    pub(super) fn shown(&self, places: &Places) -> Places {
        let is_current = |(_, stream, epoch): &Place| *epoch == self.epoch(stream, u64::MAX);
        places.iter().filter(|(place, _)| is_current(place)).map(|(place, at)| (place.clone(), *at)).collect()
    }

    /// Those, without what is deleted with an edition.
    pub(super) fn places_without(&self, edition: &str, domain: Option<&str>) -> Places {
        let mut places = self.places.clone();
        places.retain(|(_, stream, _), _| !covers(edition, domain, stream));
        places
    }

    /// Number of events that a deletion removes.
    pub(super) fn hit(&self, edition: &str, domain: Option<&str>) -> u64 {
        self.live(u64::MAX).iter().filter(|record| covers(edition, domain, &record.stream)).count() as u64
    }

    /// The expected result, with the events up to `visible` visible, and the expectation of each
    /// part.
    pub(super) fn decide(
        &mut self,
        parts: &[Part],
        asked: Option<&(Asked, Option<u8>)>,
        key: u8,
        says: Option<&Says>,
        visible: u64,
    ) -> (Vec<Expected>, Answer) {
        let mut live = self.live(u64::MAX);
        let (mut hopes, mut ranges, mut records) = (Vec::new(), Vec::new(), Vec::new());
        let (before, first) = (live.clone(), self.end());
        let mut conflict = None;
        for part in parts {
            let stream = stream(part.stream);
            let next = composite(&live, &stream).len() as u64;
            let diverges = stream.edition().is_some() && !live.iter().any(|record| record.stream == stream);
            let hope = expected(part.hope, next);
            let begin = match hope {
                Expected::NoStream if diverges => Some(0),
                Expected::Next(n) if diverges => (n <= next).then_some(n),
                hope => hope.allows(next).then_some(next),
            };
            hopes.push(hope);
            if begin.is_none() {
                conflict.get_or_insert(next);
            }
            let begin = begin.unwrap_or(next);
            for (n, &(bits, len)) in part.events.iter().enumerate() {
                let event = numbered(key, self.written, records.len(), bits, len);
                self.written += 1;
                let record = record_of(&event, &stream, first + records.len() as u64, begin + n as u64);
                live.push(record.clone());
                records.push(record);
            }
            ranges.push(begin..begin + part.events.len() as u64);
        }
        let answer = self.answer(&before, &records, asked, key, says, visible);
        let nothing = records.is_empty() && says.is_none();
        let answer = answer.or(conflict.map(Answer::Conflict)).or(nothing.then_some(Answer::Nothing));
        let answer = answer.unwrap_or_else(|| {
            let len = records.len().max(1) as u64;
            let accepted = Accepted { records, first, len, says: says.cloned(), key, acknowledged: false };
            Answer::Accepted(accepted, ranges)
        });
        (hopes, answer)
    }

    /// The result before the expectations of streams are checked.
    fn answer(
        &self,
        live: &[EventRecord],
        records: &[EventRecord],
        asked: Option<&(Asked, Option<u8>)>,
        key: u8,
        says: Option<&Says>,
        visible: u64,
    ) -> Option<Answer> {
        // A commit without events is a record in a stream of the system, in which keys belong to
        // upstreams.
        let repeats = |commit: &Accepted| match records {
            [] => {
                commit.records.is_empty()
                    && says.is_some_and(|says| commit.says.as_ref().is_some_and(|of| of.upstream() == says.upstream()))
            }
            _ => live.iter().any(|old| {
                commit.records.iter().any(|record| record.position == old.position)
                    && records.iter().any(|record| record.stream == old.stream)
            }),
        };
        let commits = self.commits.iter().enumerate();
        let repeats = commits.filter(|(_, commit)| key != 0 && commit.key == key && repeats(commit));
        let repeats: Vec<_> = repeats.map(|(n, _)| n).collect();
        if !repeats.is_empty() {
            let (same, others) = repeats.into_iter().partition(|&n| self.commits[n].says_the_same(records, says));
            return Some(Answer::Repeat { same, others });
        }
        if let Some((asked, after)) = asked {
            if after.is_some_and(|after| u64::from(after) >= self.end()) {
                return Some(Answer::Ahead);
            }
            let breaks =
                |record: &EventRecord| asked.finds(record) && after.is_none_or(|after| record.position > after.into());
            // What is visible is checked first. An edition that diverges in flight hides nothing
            // before it is visible.
            for end in [visible, u64::MAX] {
                if let Some(record) = self.seen(asked.edition(), end).iter().find(|record| breaks(record)) {
                    return Some(Answer::GuardFailed(record.position));
                }
            }
        }
        if let Some(Says::Tracked { upstream, position }) = says {
            let tracked = self.tracked(u64::MAX).get(*upstream).copied();
            return tracked.filter(|tracked| tracked >= position).map(Answer::AlreadyTracked);
        }
        None
    }
}

/// An event of a commit. Those of commits with a key depend on the key alone, so that repeats can
/// have the same content.
pub(super) fn numbered(key: u8, fresh: u64, n: usize, bits: u8, len: u16) -> NewEvent<'static> {
    let number = match key {
        0 => fresh << 4 | u64::from(bits % 16),
        // Without an id: that would be the same for events of several streams.
        key => (u64::from(key) << 32 | n as u64) << 4 | u64::from(bits & 0b1101),
    };
    build::event(number, usize::from(len % 3000))
}

pub(super) fn record_of(event: &NewEvent<'_>, stream: &StreamId, position: u64, sequence: u64) -> EventRecord {
    let event = fields(event);
    let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    EventRecord {
        position,
        stream: stream.clone(),
        sequence,
        event_type: event.event_type.to_owned(),
        id: event.id.unwrap_or_default(),
        recorded_at: Timestamp::MIN,
        occurred_at: event.occurred_at,
        correlation_id: some(event.correlation_id),
        causation_id: some(event.causation_id),
        tags: event.tags.iter().map(|tag| tag.to_string()).collect(),
        metadata: Bytes(event.metadata.to_vec()),
        data: Bytes(event.data.to_vec()),
        content_type: event.content_type.clone(),
        schema_version: event.schema_version,
    }
}

/// Whether an event that was found is this one, whose id may not be known yet.
pub(super) fn same(found: &EventRecord, known: &EventRecord) -> bool {
    let id = if known.id == Uuid::nil() { found.id } else { known.id };
    let recorded_at = if known.recorded_at == Timestamp::MIN { found.recorded_at } else { known.recorded_at };
    *found == EventRecord { id, recorded_at, ..known.clone() }
}
