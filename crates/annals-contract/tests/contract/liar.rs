//! A backend that breaks the contract in one way: calls or results are changed between the caller
//! and the honest backend.
//!
//! For each scenario there must be a lie that it detects, and each lie must be detected.

use super::naive::{Fault, Naive};
use annals::snapshot::Retention;
use annals::{AsOf, Expected, StreamId, Timestamp};
use annals_contract::{
    self, Append, Criteria, EventData, EventStore, PositionStore, Reading, RecordedEvent, Scenario, Snapshot,
    SnapshotStore, Stored,
};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, PoisonError};

type Result<T> = std::result::Result<T, Fault>;

/// Lies about events.
const EVENTS: [Lie; 41] = [
    Lie::ExpectsNothing,
    Lie::NoConflicts,
    Lie::PartByPart,
    Lie::EventByEvent,
    Lie::RefusesNothing,
    Lie::CutsData,
    Lie::ZerosEndData,
    Lie::LosesTags,
    Lie::LosesTimes,
    Lie::RootsAreText,
    Lie::RootsLoseCase,
    Lie::NoDomains,
    Lie::NoEditions,
    Lie::NothingIsAnError,
    Lie::EndIncluded,
    Lie::NoLimit,
    Lie::NotBackwards,
    Lie::StreamByStream,
    Lie::PositionsFromOne,
    Lie::NextOfMain,
    Lie::NextIsLast,
    Lie::AsOfNow,
    Lie::AsOfBefore,
    Lie::NoKeys,
    Lie::KeysOfAllStreams,
    Lie::KeysOfRefused,
    Lie::EmptyKeyCounts,
    Lie::KeysTakeAnything,
    Lie::NothingChecksNothing,
    Lie::NoTypes,
    Lie::AnyEdition,
    Lie::EmptyIdFinds,
    Lie::MainShowsThrough,
    Lie::OwnOnly,
    Lie::DivergesNowhereElse,
    Lie::ListsMain,
    Lie::DeletesMain,
    Lie::DeletesAllDomains,
    Lie::DeletesNothing,
    Lie::CountsOneMore,
    Lie::ClosesHoles,
];

/// Lies about positions.
const POSITIONS: [Lie; 12] = [
    Lie::NoneIsZero,
    Lie::PutGoesBack,
    Lie::PutFails,
    Lie::ResetIsPut,
    Lie::PositionsHaveSigns,
    Lie::OneHandler,
    Lie::HandlersByBeginning,
    Lie::NoDomains,
    Lie::RootsAreText,
    Lie::NoEditions,
    Lie::DeleteIsReset,
    Lie::FirstStays,
];

/// Lies about positions and editions.
const EDITION_POSITIONS: [Lie; 3] = [Lie::PositionsStay, Lie::DeletesAllDomains, Lie::NoEditions];

/// Lies about snapshots.
const SNAPSHOTS: [Lie; 20] = [
    Lie::CutsData,
    Lie::ZerosEndData,
    Lie::EmptyIsNone,
    Lie::NothingIsAnError,
    Lie::LatestIsFirst,
    Lie::AtIsExact,
    Lie::AtIsAbove,
    Lie::AtTimeIsLatest,
    Lie::FirstStays,
    Lie::NeedsNoEvent,
    Lie::DeletesNothing,
    Lie::AllPersist,
    Lie::NonePersists,
    Lie::AllTransient,
    Lie::NewestGoes,
    Lie::NoDomains,
    Lie::RootsAreText,
    Lie::NoEditions,
    Lie::ShadowedCounts,
    Lie::SnapshotsStay,
];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Lie {
    ExpectsNothing,
    NoConflicts,
    PartByPart,
    EventByEvent,
    RefusesNothing,
    CutsData,
    ZerosEndData,
    LosesTags,
    LosesTimes,
    RootsAreText,
    RootsLoseCase,
    NoDomains,
    NoEditions,
    NothingIsAnError,
    EndIncluded,
    NoLimit,
    NotBackwards,
    StreamByStream,
    PositionsFromOne,
    NextOfMain,
    NextIsLast,
    AsOfNow,
    AsOfBefore,
    NoKeys,
    KeysOfAllStreams,
    KeysOfRefused,
    EmptyKeyCounts,
    KeysTakeAnything,
    NothingChecksNothing,
    NoTypes,
    AnyEdition,
    EmptyIdFinds,
    MainShowsThrough,
    OwnOnly,
    DivergesNowhereElse,
    ListsMain,
    DeletesMain,
    DeletesAllDomains,
    DeletesNothing,
    CountsOneMore,
    ClosesHoles,
    NoneIsZero,
    PutGoesBack,
    PutFails,
    ResetIsPut,
    PositionsHaveSigns,
    OneHandler,
    HandlersByBeginning,
    DeleteIsReset,
    PositionsStay,
    EmptyIsNone,
    LatestIsFirst,
    AtIsExact,
    AtIsAbove,
    AtTimeIsLatest,
    FirstStays,
    NeedsNoEvent,
    AllPersist,
    NonePersists,
    AllTransient,
    NewestGoes,
    ShadowedCounts,
    SnapshotsStay,
}

struct Liar {
    lie: Lie,
    honest: Naive,
    /// What lies need to remember.
    keys: Mutex<BTreeMap<String, Stored>>,
    snapshots: Mutex<BTreeMap<(StreamId, u64), Snapshot>>,
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Liar {
    fn new(lie: Lie) -> Liar {
        let honest = Naive::default();
        Liar { lie, honest, keys: Mutex::default(), snapshots: Mutex::default() }
    }

    fn is(&self, lie: Lie) -> bool {
        self.lie == lie
    }

    fn name(&self, stream: &StreamId) -> StreamId {
        let edition = stream.edition().unwrap_or_default();
        let of = |domain: &str, root: &[u8], edition: &str| {
            StreamId::new(domain, root).unwrap().in_edition(edition).unwrap()
        };
        match self.lie {
            Lie::RootsAreText => of(stream.domain(), String::from_utf8_lossy(stream.root()).trim().as_bytes(), edition),
            Lie::RootsLoseCase => of(stream.domain(), &stream.root().to_ascii_lowercase(), edition),
            Lie::NoDomains => of("all", stream.root(), edition),
            Lie::NoEditions => of(stream.domain(), stream.root(), ""),
            _ => stream.clone(),
        }
    }

    fn data(&self, data: &[u8]) -> Vec<u8> {
        match self.lie {
            Lie::CutsData => data[..data.len().min(64 << 10)].to_vec(),
            Lie::ZerosEndData => data.split(|byte| *byte == 0).next().unwrap_or_default().to_vec(),
            _ => data.to_vec(),
        }
    }

    fn fact(&self, fact: &EventData) -> EventData {
        let mut fact = EventData { data: self.data(&fact.data), ..fact.clone() };
        if self.is(Lie::LosesTags) {
            fact.tags.clear();
        }
        if self.is(Lie::LosesTimes) {
            fact.occurred_at = None;
        }
        fact
    }

    fn append(&self, append: &Append) -> Append {
        let expected = if self.is(Lie::ExpectsNothing) { Expected::Any } else { append.expected };
        let facts = append.facts.iter().map(|fact| self.fact(fact)).collect();
        Append { stream: self.name(&append.stream), expected, facts }
    }

    fn reading(&self, reading: &Reading) -> Reading {
        let mut reading = reading.clone();
        match self.lie {
            Lie::EndIncluded => reading.to = reading.to.saturating_add(1),
            Lie::NoLimit => reading.limit = u64::MAX,
            Lie::NotBackwards => reading.backwards = false,
            Lie::DivergesNowhereElse => reading.diverging_at = None,
            _ => {}
        }
        Reading { as_of: self.as_of(reading.as_of), ..reading }
    }

    fn as_of(&self, as_of: Option<AsOf>) -> Option<AsOf> {
        match (self.lie, as_of?) {
            (Lie::AsOfNow, _) => None,
            (Lie::AsOfBefore, AsOf::Position(n)) => Some(AsOf::Position(n.saturating_sub(1))),
            (Lie::AsOfBefore, AsOf::Time(t)) => Some(AsOf::Time(Timestamp::from_nanos(t.as_nanos().saturating_sub(1)))),
            (_, as_of) => Some(as_of),
        }
    }

    fn told(&self, mut events: Vec<RecordedEvent>) -> Result<Vec<RecordedEvent>> {
        match self.lie {
            Lie::NothingIsAnError if events.is_empty() => return Err(Fault::Refused),
            Lie::PositionsFromOne => events.iter_mut().for_each(|event| event.position += 1),
            _ => {}
        }
        Ok(events)
    }
}

impl EventStore for Liar {
    type Error = Fault;

    fn commit(&self, appends: &[Append], key: &str) -> Result<Stored> {
        let twisted: Vec<Append> = appends.iter().map(|append| self.append(append)).collect();
        let key = if self.is(Lie::NoKeys) { "" } else { key };
        let counts = matches!(self.lie, Lie::KeysOfAllStreams | Lie::KeysOfRefused) && !key.is_empty();
        if (counts || self.is(Lie::EmptyKeyCounts) && key.is_empty())
            && let Some(first) = locked(&self.keys).get(key)
        {
            return Ok(Stored { duplicate: true, ..first.clone() });
        }
        let one_by_one = |appends: Vec<Append>| {
            let stored = appends.iter().map(|append| self.honest.commit(std::slice::from_ref(append), key));
            let stored = stored.collect::<Result<Vec<Stored>>>()?;
            let begin = stored.first().map_or(0, |first| first.positions.start);
            let positions = begin..stored.last().map_or(begin, |last| last.positions.end);
            let sequences = stored.iter().flat_map(|stored| stored.sequences.clone()).collect();
            Ok(Stored { sequences, positions, duplicate: stored.iter().any(|stored| stored.duplicate) })
        };
        let done = match self.lie {
            Lie::PartByPart => one_by_one(twisted),
            Lie::EventByEvent => {
                let mut sequences = Vec::new();
                let begin = self.honest.commit(&[], "")?.positions.start;
                let mut end = begin;
                for append in twisted {
                    let stream = &append.stream;
                    let facts = append.facts.iter().enumerate().map(|(n, fact)| Append {
                        stream: stream.clone(),
                        expected: if n == 0 { append.expected } else { Expected::Any },
                        facts: vec![fact.clone()],
                    });
                    let stored = one_by_one(facts.collect())?;
                    std::thread::yield_now();
                    let first = stored.sequences.first().map_or(0, |range| range.start);
                    sequences.push(first..stored.sequences.last().map_or(first, |range| range.end));
                    end = stored.positions.end;
                }
                Ok(Stored { sequences, positions: begin..end, duplicate: false })
            }
            Lie::RefusesNothing if twisted.iter().all(|append| append.facts.is_empty()) => Err(Fault::Refused),
            Lie::NothingChecksNothing if twisted.iter().all(|append| append.facts.is_empty()) => {
                self.honest.commit(&[], "")
            }
            _ => self.honest.commit(&twisted, key),
        };
        if self.is(Lie::KeysTakeAnything) && matches!(done, Err(Fault::Mismatch)) {
            let first = locked(&self.keys).get(key).cloned().expect("there is one that says something else");
            return Ok(Stored { duplicate: true, ..first });
        }
        match &done {
            Ok(stored) if self.is(Lie::KeysTakeAnything) && !stored.duplicate => {
                locked(&self.keys).insert(key.to_owned(), stored.clone());
            }
            Err(_) if self.is(Lie::KeysOfRefused) => {
                let stored = Stored { sequences: vec![], positions: 0..0, duplicate: false };
                locked(&self.keys).insert(key.to_owned(), stored);
            }
            Ok(stored) if self.is(Lie::KeysOfAllStreams) || self.is(Lie::EmptyKeyCounts) => {
                locked(&self.keys).insert(key.to_owned(), stored.clone());
            }
            _ => {}
        }
        done.map_err(|fault| if self.is(Lie::NoConflicts) { Fault::Refused } else { fault })
    }

    fn read(&self, stream: &StreamId, reading: &Reading) -> Result<Vec<RecordedEvent>> {
        let name = self.name(stream);
        let mut events = self.honest.read(&name, &self.reading(reading))?;
        let plain = *reading == Reading::default();
        if self.is(Lie::MainShowsThrough) && plain {
            let main = self.honest.read(&name.in_edition("").unwrap(), reading)?;
            events.extend(main.into_iter().skip(events.len()));
        }
        if self.is(Lie::OwnOnly) {
            events.retain(|event| event.stream == name);
        }
        self.told(events)
    }

    fn read_all(&self, reading: &Reading) -> Result<Vec<RecordedEvent>> {
        let mut events = self.honest.read_all(&self.reading(reading))?;
        if self.is(Lie::StreamByStream) {
            events.sort_by_key(|event| event.stream.clone());
        }
        if self.is(Lie::ClosesHoles) {
            (0..).zip(&mut events).for_each(|(position, event)| event.position = position);
        }
        self.told(events)
    }

    fn query(&self, criteria: &Criteria) -> Result<Vec<RecordedEvent>> {
        let mut criteria = Criteria { as_of: self.as_of(criteria.as_of), ..criteria.clone() };
        if self.is(Lie::NoTypes) {
            criteria.event_type = None;
        }
        if self.is(Lie::NotBackwards) {
            criteria.backwards = false;
        }
        let mut found = self.honest.query(&criteria)?;
        if self.is(Lie::AnyEdition) {
            let all = self.honest.read_all(&Reading { backwards: criteria.backwards, ..Reading::default() })?;
            found = all.into_iter().filter(|event| found.contains(event) || event.stream.edition().is_some()).collect();
        }
        if self.is(Lie::OwnOnly) {
            found.retain(|event| event.stream.edition().unwrap_or_default() == criteria.edition);
        }
        self.told(found)
    }

    fn correlated(&self, id: &str) -> Result<BTreeMap<StreamId, Vec<RecordedEvent>>> {
        let mut found = self.honest.correlated(id)?;
        if self.is(Lie::OwnOnly) {
            found.retain(|stream, _| stream.edition().is_none());
        }
        if self.is(Lie::EmptyIdFinds) && id.is_empty() {
            for event in self.honest.read_all(&Reading::default())? {
                found.entry(event.stream.clone()).or_default().push(event);
            }
        }
        Ok(found)
    }

    fn next_sequence(&self, stream: &StreamId) -> Result<u64> {
        let stream = self.name(stream);
        let next = self.honest.next_sequence(&stream)?;
        match self.lie {
            Lie::NextOfMain => self.honest.next_sequence(&stream.in_edition("").unwrap()),
            Lie::NextIsLast => Ok(next.saturating_sub(1)),
            _ => Ok(next),
        }
    }

    fn editions(&self) -> Result<BTreeMap<String, u64>> {
        let mut editions = self.honest.editions()?;
        if self.is(Lie::ListsMain) {
            editions.insert("main".to_owned(), 1);
        }
        Ok(editions)
    }

    fn delete_edition(&self, edition: &str, domain: Option<&str>) -> Result<u64> {
        let domain = if self.is(Lie::DeletesAllDomains) { None } else { domain };
        let is_gone = |stream: &StreamId| {
            stream.edition() == Some(edition) && domain.is_none_or(|domain| stream.domain() == domain)
        };
        if self.is(Lie::DeletesMain) && matches!(edition, "" | "main") {
            return Ok(0);
        }
        if self.is(Lie::DeletesNothing) {
            let events = self.honest.read_all(&Reading::default())?;
            return Ok(events.iter().filter(|event| is_gone(&event.stream)).count() as u64);
        }
        let positions = self.honest.positions_of("billing")?;
        locked(&self.snapshots).retain(|(stream, _), _| !is_gone(stream));
        let kept: Vec<(StreamId, u64)> = self.kept()?.into_iter().filter(|(stream, _)| is_gone(stream)).collect();
        let deleted = self.honest.delete_edition(edition, domain)?;
        if self.is(Lie::PositionsStay) {
            positions.iter().try_for_each(|(stream, n)| self.honest.put_position("billing", stream, *n))?;
        }
        if self.is(Lie::SnapshotsStay) {
            for (stream, sequence) in kept {
                let state = format!("{stream} {sequence}");
                // What follows a deleted event cannot be put back.
                self.honest.put_snapshot(&stream, sequence, Retention::Persist, state.as_bytes()).ok();
            }
        }
        Ok(deleted + u64::from(self.is(Lie::CountsOneMore)))
    }
}

impl Liar {
    fn handler<'a>(&self, handler: &'a str) -> &'a str {
        if self.is(Lie::OneHandler) { "all" } else { handler }
    }

    /// The snapshots of all streams.
    fn kept(&self) -> Result<Vec<(StreamId, u64)>> {
        let mut kept = BTreeMap::new();
        for event in self.honest.read_all(&Reading::default())? {
            let of_stream = self.honest.snapshots_of(&event.stream)?.into_iter();
            kept.extend(of_stream.map(|(sequence, _)| ((event.stream.clone(), sequence), ())));
        }
        Ok(kept.into_keys().collect())
    }
}

impl PositionStore for Liar {
    type Error = Fault;

    fn position(&self, handler: &str, stream: &StreamId) -> Result<Option<u64>> {
        let found = self.honest.position(self.handler(handler), &self.name(stream))?;
        Ok(if self.is(Lie::NoneIsZero) { Some(found.unwrap_or(0)) } else { found })
    }

    fn put_position(&self, handler: &str, stream: &StreamId, sequence: u64) -> Result<()> {
        let (handler, stream) = (self.handler(handler), self.name(stream));
        let before = self.honest.position(handler, &stream)?;
        match (self.lie, before) {
            (Lie::PutGoesBack, _) => self.honest.reset_position(handler, &stream, sequence),
            (Lie::PutFails, Some(before)) if sequence < before => Err(Fault::Refused),
            (Lie::FirstStays, Some(_)) => Ok(()),
            (Lie::PositionsHaveSigns, Some(before)) if sequence as i64 > before as i64 => {
                self.honest.reset_position(handler, &stream, sequence)
            }
            _ => self.honest.put_position(handler, &stream, sequence),
        }
    }

    fn reset_position(&self, handler: &str, stream: &StreamId, sequence: u64) -> Result<()> {
        let (handler, stream) = (self.handler(handler), self.name(stream));
        match self.lie {
            Lie::ResetIsPut => self.honest.put_position(handler, &stream, sequence),
            _ => self.honest.reset_position(handler, &stream, sequence),
        }
    }

    fn delete_position(&self, handler: &str, stream: &StreamId) -> Result<()> {
        let (handler, stream) = (self.handler(handler), self.name(stream));
        match self.lie {
            Lie::DeleteIsReset => self.honest.reset_position(handler, &stream, 0),
            _ => self.honest.delete_position(handler, &stream),
        }
    }

    fn positions_of(&self, handler: &str) -> Result<BTreeMap<StreamId, u64>> {
        let mut found = self.honest.positions_of(self.handler(handler))?;
        if self.is(Lie::HandlersByBeginning) {
            let longer = ["billing", "shipping"].into_iter().filter(|name| name.starts_with(handler));
            for name in longer {
                found.extend(self.honest.positions_of(name)?);
            }
        }
        Ok(found)
    }
}

impl SnapshotStore for Liar {
    fn put_snapshot(&self, stream: &StreamId, sequence: u64, retention: Retention, state: &[u8]) -> Result<()> {
        let stream = self.name(stream);
        let retention = match (self.lie, retention) {
            (Lie::AllPersist, _) => Retention::Persist,
            (Lie::AllTransient, _) => Retention::Transient,
            (Lie::NonePersists, Retention::Persist) => Retention::Default,
            (_, retention) => retention,
        };
        let before = self.honest.snapshots_of(&stream)?;
        if self.is(Lie::FirstStays) && before.iter().any(|(there, _)| *there == sequence) {
            return Ok(());
        }
        let state = self.data(state);
        let done = self.honest.put_snapshot(&stream, sequence, retention, &state);
        if self.is(Lie::NeedsNoEvent) {
            return Ok(());
        }
        done?;
        if self.is(Lie::ShadowedCounts) {
            locked(&self.snapshots).insert((stream.clone(), sequence), Snapshot { sequence, retention, state });
        }
        if self.is(Lie::NewestGoes) && before.last().is_some_and(|(newest, _)| *newest > sequence) {
            let mut kept = Vec::new();
            for (sequence, _) in self.honest.snapshots_of(&stream)? {
                kept.extend(self.honest.snapshot_at(&stream, sequence)?);
            }
            kept.pop();
            self.honest.delete_snapshots(&stream)?;
            for kept in kept {
                self.honest.put_snapshot(&stream, kept.sequence, kept.retention, &kept.state)?;
            }
        }
        Ok(())
    }

    fn latest_snapshot(&self, stream: &StreamId) -> Result<Option<Snapshot>> {
        let stream = self.name(stream);
        let found = match self.lie {
            Lie::LatestIsFirst => {
                let first = self.honest.snapshots_of(&stream)?.first().map_or(0, |(sequence, _)| *sequence);
                self.honest.snapshot_at(&stream, first)?
            }
            Lie::ShadowedCounts => {
                let all = locked(&self.snapshots);
                all.iter().rfind(|((of, _), _)| *of == stream).map(|(_, snapshot)| snapshot.clone())
            }
            _ => self.honest.latest_snapshot(&stream)?,
        };
        match (self.lie, found) {
            (Lie::EmptyIsNone, found) => Ok(found.filter(|found| !found.state.is_empty())),
            (Lie::NothingIsAnError, None) => Err(Fault::Refused),
            (_, found) => Ok(found),
        }
    }

    fn snapshot_at(&self, stream: &StreamId, sequence: u64) -> Result<Option<Snapshot>> {
        let stream = self.name(stream);
        let found = self.honest.snapshot_at(&stream, sequence)?;
        match self.lie {
            Lie::AtIsExact => Ok(found.filter(|found| found.sequence == sequence)),
            Lie::AtIsAbove => self.honest.snapshot_at(&stream, sequence.saturating_add(1)),
            _ => Ok(found),
        }
    }

    fn snapshot_at_time(&self, stream: &StreamId, time: Timestamp) -> Result<Option<Snapshot>> {
        let time = if self.is(Lie::AtTimeIsLatest) { Timestamp::MAX } else { time };
        self.honest.snapshot_at_time(&self.name(stream), time)
    }

    fn snapshots_of(&self, stream: &StreamId) -> Result<Vec<(u64, Retention)>> {
        self.honest.snapshots_of(&self.name(stream))
    }

    fn delete_snapshots(&self, stream: &StreamId) -> Result<u64> {
        let stream = self.name(stream);
        match self.lie {
            Lie::DeletesNothing => Ok(self.honest.snapshots_of(&stream)?.len() as u64),
            _ => self.honest.delete_snapshots(&stream),
        }
    }
}

/// Each scenario detects one of the lies, and each lie is detected by one of the scenarios.
fn all_is_seen(lies: &[Lie], scenarios: &[Scenario<Liar>]) {
    let sees =
        |lie: Lie, (_, scenario): Scenario<Liar>| catch_unwind(AssertUnwindSafe(|| scenario(&Liar::new(lie)))).is_err();
    for scenario in scenarios {
        assert!(lies.iter().any(|lie| sees(*lie, *scenario)), "{} sees no lie", scenario.0);
    }
    for lie in lies {
        assert!(scenarios.iter().any(|scenario| sees(*lie, *scenario)), "nobody sees {lie:?}");
    }
}

#[test]
fn lies_about_events_are_seen() {
    all_is_seen(&EVENTS, &[annals_contract::of_events(), annals_contract::of_editions()].concat());
}

#[test]
fn lies_about_positions_are_seen() {
    all_is_seen(&POSITIONS, &annals_contract::of_positions());
    all_is_seen(&EDITION_POSITIONS, &annals_contract::of_edition_positions());
}

#[test]
fn lies_about_snapshots_are_seen() {
    all_is_seen(&SNAPSHOTS, &annals_contract::of_snapshots());
}

/// A backend that forgets everything when it is closed.
#[test]
fn forgetting_is_seen() {
    for (name, scenario) in annals_contract::of_durability() {
        let forgets = || scenario(&Naive::default);
        assert!(catch_unwind(AssertUnwindSafe(forgets)).is_err(), "{name} does not see it");
    }
}
