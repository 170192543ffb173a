//! The model: a list of commits.

use super::steps::{Asked, Part, expected};
use crate::event::NewEvent;
use crate::fuzzing::build::{self, stream};
use crate::fuzzing::facts::Fact;
use crate::time::Timestamp;
use std::collections::BTreeSet;
use std::ops::Range;
use uuid::Uuid;

/// A commit that was accepted.
pub(super) struct Accepted {
    pub(super) facts: Vec<Fact>,
    pub(super) key: u8,
    /// Whoever asked has been told that it is durable, or has seen it after an open.
    pub(super) acknowledged: bool,
}

/// What the store should say to a commit.
pub(super) enum Answer {
    Nothing,
    /// One of these commits, by number.
    Duplicate(Vec<usize>),
    GuardFailed(u64),
    Conflict(u64),
    Accepted(Vec<Fact>, Vec<Range<u64>>),
}

/// What should be there.
#[derive(Default)]
pub(super) struct Model {
    pub(super) commits: Vec<Accepted>,
    /// Events that were ever tried: each is another one.
    pub(super) written: u64,
}

impl Model {
    /// All events that were accepted, in order.
    pub(super) fn accepted(&self) -> impl Iterator<Item = &Fact> {
        self.commits.iter().flat_map(|commit| &commit.facts)
    }

    pub(super) fn acknowledged(&self) -> u64 {
        let last = self.commits.iter().rposition(|commit| commit.acknowledged);
        self.commits[..last.map_or(0, |last| last + 1)].iter().map(|commit| commit.facts.len() as u64).sum()
    }

    /// What the store should say.
    pub(super) fn decide(&mut self, parts: &[Part], asked: Option<&(Asked, Option<u8>)>, key: u8) -> Answer {
        if parts.iter().all(|part| part.events.is_empty()) {
            return Answer::Nothing;
        }
        let writes: BTreeSet<_> =
            parts.iter().filter(|part| !part.events.is_empty()).map(|part| stream(part.stream.into())).collect();
        let repeats = self.commits.iter().enumerate().filter(|(_, commit)| {
            key != 0 && commit.key == key && commit.facts.iter().any(|fact| writes.contains(&fact.stream))
        });
        let repeats: Vec<_> = repeats.map(|(n, _)| n).collect();
        if !repeats.is_empty() {
            return Answer::Duplicate(repeats);
        }
        if let Some((asked, after)) = asked {
            let mut behind = self.accepted().filter(|fact| after.is_none_or(|after| fact.position > after.into()));
            if let Some(fact) = behind.find(|fact| asked.finds(fact)) {
                return Answer::GuardFailed(fact.position);
            }
        }
        let mut position = self.accepted().count() as u64;
        let mut facts: Vec<Fact> = Vec::new();
        let mut ranges = Vec::new();
        for part in parts {
            let stream = stream(part.stream.into());
            let next = self.accepted().chain(&facts).filter(|fact| fact.stream == stream).count() as u64;
            if !expected(part.hope, next).allows(next) {
                return Answer::Conflict(next);
            }
            for (n, &(bits, len)) in part.events.iter().enumerate() {
                let event = build::event(self.written << 4 | u64::from(bits % 16), usize::from(len % 3000));
                self.written += 1;
                facts.push(fact_of(&event, &stream, position, next + n as u64));
                position += 1;
            }
            ranges.push(next..next + part.events.len() as u64);
        }
        Answer::Accepted(facts, ranges)
    }
}

pub(super) fn fact_of(event: &NewEvent<'_>, stream: &crate::StreamId, position: u64, sequence: u64) -> Fact {
    Fact {
        position,
        stream: stream.clone(),
        sequence,
        event_type: event.event_type.to_string(),
        id: event.id.unwrap_or_default(),
        recorded_at: Timestamp::MIN,
        occurred_at: event.occurred_at,
        correlation_id: (!event.correlation_id.is_empty()).then(|| event.correlation_id.to_string()),
        causation_id: (!event.causation_id.is_empty()).then(|| event.causation_id.to_string()),
        tags: event.tags.iter().map(|tag| tag.to_string()).collect(),
        metadata: event.metadata.to_vec(),
        data: event.data.to_vec(),
        content_type: event.content_type.clone(),
        schema_version: event.schema_version,
    }
}

/// Whether an event that was found is this one, which may not know yet what the store gave it.
pub(super) fn same(found: &Fact, known: &Fact) -> bool {
    let id = if known.id == Uuid::nil() { found.id } else { known.id };
    let recorded_at = if known.recorded_at == Timestamp::MIN { found.recorded_at } else { known.recorded_at };
    *found == Fact { id, recorded_at, ..known.clone() }
}
