//! Another backend: the contract in maps under one lock. It shares only the names with the library.

use annals::snapshot::Retention;
use annals::{AsOf, Expected, StreamId, Timestamp};
use annals_contract::{
    Append, BackendError, Criteria, EventData, EventStore, PositionStore, Reading, RecordedEvent, Snapshot,
    SnapshotStore, Stored,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

#[derive(Debug)]
pub enum Fault {
    Conflict,
    Refused,
    /// The key was used for other content.
    Mismatch,
}

impl BackendError for Fault {
    fn is_conflict(&self) -> bool {
        matches!(self, Fault::Conflict)
    }
}

type Result<T> = std::result::Result<T, Fault>;

/// The content of a commit.
type Said = Vec<(StreamId, EventData)>;

#[derive(Clone, Default)]
pub struct Naive(Arc<Mutex<State>>);

#[derive(Clone, Default)]
struct State {
    /// By position. A deleted event leaves a hole.
    log: Vec<Option<RecordedEvent>>,
    /// The content of the first commit with a key, and what it has stored.
    keys: HashMap<(StreamId, String), (Said, Stored)>,
    positions: BTreeMap<(String, StreamId), u64>,
    /// With the position of the event that each follows.
    snapshots: BTreeMap<(StreamId, u64), (u64, Snapshot)>,
}

fn is_known(event: &RecordedEvent, as_of: Option<AsOf>) -> bool {
    match as_of {
        None => true,
        Some(AsOf::Position(position)) => event.position <= position,
        Some(AsOf::Time(time)) => event.recorded_at <= time,
    }
}

fn main_of(stream: &StreamId) -> StreamId {
    stream.in_edition("").unwrap()
}

fn is_deleted(stream: &StreamId, edition: &str, domain: Option<&str>) -> bool {
    stream.edition() == Some(edition) && domain.is_none_or(|domain| stream.domain() == domain)
}

impl State {
    fn events(&self) -> impl DoubleEndedIterator<Item = &RecordedEvent> {
        self.log.iter().flatten()
    }

    fn own(&self, stream: &StreamId, as_of: Option<AsOf>) -> Vec<RecordedEvent> {
        self.events().filter(|event| event.stream == *stream && is_known(event, as_of)).cloned().collect()
    }

    /// A stream as its edition shows it.
    fn shown(&self, stream: &StreamId, as_of: Option<AsOf>, diverging_at: Option<u64>) -> Vec<RecordedEvent> {
        let own = self.own(stream, as_of);
        if stream.edition().is_none() {
            return own;
        }
        let mut shown = self.own(&main_of(stream), as_of);
        if let Some(point) = diverging_at.or(own.first().map(|event| event.sequence)) {
            shown.truncate(point as usize);
        }
        for event in own {
            if event.sequence == shown.len() as u64 {
                shown.push(event);
            }
        }
        shown
    }

    fn append(&mut self, append: &Append, now: Timestamp) -> Result<u64> {
        let Append { stream, expected, facts } = append;
        let next = self.shown(stream, None, None).len() as u64;
        let diverges = stream.edition().is_some() && self.own(stream, None).is_empty();
        let first = match expected {
            Expected::NoStream if diverges => 0,
            Expected::Next(n) if diverges && *n <= next => *n,
            expected if expected.allows(next) => next,
            _ => return Err(Fault::Conflict),
        };
        for (sequence, fact) in (first..).zip(facts) {
            let position = self.log.len() as u64;
            let event =
                RecordedEvent { stream: stream.clone(), sequence, position, recorded_at: now, fact: fact.clone() };
            self.log.push(Some(event));
        }
        Ok(first)
    }

    /// Those that follow an event that the stream shows.
    fn snapshots(&self, stream: &StreamId) -> Vec<Snapshot> {
        let shown = self.shown(stream, None, None);
        let all = self.snapshots.range((stream.clone(), 0)..=(stream.clone(), u64::MAX));
        let is_of = |at: u64, sequence: u64| shown.get(sequence as usize).is_some_and(|event| event.position == at);
        all.filter(|((_, sequence), (at, _))| is_of(*at, *sequence))
            .map(|(_, (_, snapshot))| snapshot.clone())
            .collect()
    }
}

fn cut(mut events: Vec<RecordedEvent>, reading: &Reading, number: fn(&RecordedEvent) -> u64) -> Vec<RecordedEvent> {
    events.retain(|event| (reading.from..reading.to.max(reading.from)).contains(&number(event)));
    if reading.backwards {
        events.reverse();
    }
    events.truncate(usize::try_from(reading.limit).unwrap_or(usize::MAX));
    events
}

impl Naive {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EventStore for Naive {
    type Error = Fault;

    fn commit(&self, appends: &[Append], key: &str) -> Result<Stored> {
        let mut state = self.state();
        let known = appends.iter().find_map(|append| state.keys.get(&(append.stream.clone(), key.to_owned())));
        let said =
            appends.iter().flat_map(|append| append.facts.iter().map(|fact| (append.stream.clone(), fact.clone())));
        let said: Vec<_> = said.collect();
        match known {
            Some((same, first)) if *same == said => return Ok(Stored { duplicate: true, ..first.clone() }),
            Some(_) => return Err(Fault::Mismatch),
            None => {}
        }
        // A refused call leaves the state unchanged.
        let mut after = state.clone();
        let begin = state.log.len() as u64;
        let mut sequences = Vec::new();
        let now = state.events().next_back().map_or(Timestamp::MIN, |last| last.recorded_at).max(Timestamp::now());
        for append in appends {
            let first = after.append(append, now)?;
            sequences.push(first..first + append.facts.len() as u64);
        }
        let stored = Stored { sequences, positions: begin..after.log.len() as u64, duplicate: false };
        if !key.is_empty() {
            let of = |append: &Append| (append.stream.clone(), key.to_owned());
            after.keys.extend(appends.iter().map(|append| (of(append), (said.clone(), stored.clone()))));
        }
        *state = after;
        Ok(stored)
    }

    fn read(&self, stream: &StreamId, reading: &Reading) -> Result<Vec<RecordedEvent>> {
        Ok(cut(self.state().shown(stream, reading.as_of, reading.diverging_at), reading, |event| event.sequence))
    }

    fn read_all(&self, reading: &Reading) -> Result<Vec<RecordedEvent>> {
        let all = self.state().events().filter(|event| is_known(event, reading.as_of)).cloned().collect();
        Ok(cut(all, reading, |event| event.position))
    }

    fn query(&self, criteria: &Criteria) -> Result<Vec<RecordedEvent>> {
        let Criteria { edition, domain, event_type, tag, as_of, backwards } = criteria;
        let state = self.state();
        let fits = |event: &RecordedEvent| {
            let shown = event.stream.in_edition(edition).unwrap();
            state.shown(&shown, *as_of, None).contains(event)
                && domain.as_ref().is_none_or(|domain| event.stream.domain() == domain)
                && event_type.as_ref().is_none_or(|event_type| event.fact.event_type == *event_type)
                && tag.as_ref().is_none_or(|tag| event.fact.tags.contains(tag))
        };
        let found = state.events().filter(|event| fits(event)).cloned().collect();
        Ok(cut(found, &Reading { backwards: *backwards, ..Reading::default() }, |event| event.position))
    }

    fn correlated(&self, id: &str) -> Result<BTreeMap<StreamId, Vec<RecordedEvent>>> {
        let mut found: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for event in self.state().events().filter(|event| event.fact.correlation_id.as_deref() == Some(id)) {
            found.entry(event.stream.clone()).or_default().push(event.clone());
        }
        Ok(found)
    }

    fn next_sequence(&self, stream: &StreamId) -> Result<u64> {
        Ok(self.state().shown(stream, None, None).len() as u64)
    }

    fn editions(&self) -> Result<BTreeMap<String, u64>> {
        let mut editions = BTreeMap::new();
        for edition in self.state().events().filter_map(|event| event.stream.edition()) {
            *editions.entry(edition.to_owned()).or_default() += 1;
        }
        Ok(editions)
    }

    fn delete_edition(&self, edition: &str, domain: Option<&str>) -> Result<u64> {
        if edition.is_empty() || edition == "main" {
            return Err(Fault::Refused);
        }
        let stays = |stream: &StreamId| !is_deleted(stream, edition, domain);
        let mut state = self.state();
        let before = state.events().count();
        for event in &mut state.log {
            event.take_if(|event| !stays(&event.stream));
        }
        state.keys.retain(|(stream, _), _| stays(stream));
        state.positions.retain(|(_, stream), _| stays(stream));
        state.snapshots.retain(|(stream, _), _| stays(stream));
        Ok((before - state.events().count()) as u64)
    }
}

impl PositionStore for Naive {
    type Error = Fault;

    fn position(&self, handler: &str, stream: &StreamId) -> Result<Option<u64>> {
        Ok(self.state().positions.get(&(handler.to_owned(), stream.clone())).copied())
    }

    fn put_position(&self, handler: &str, stream: &StreamId, sequence: u64) -> Result<()> {
        let mut state = self.state();
        let position = state.positions.entry((handler.to_owned(), stream.clone())).or_default();
        *position = sequence.max(*position);
        Ok(())
    }

    fn reset_position(&self, handler: &str, stream: &StreamId, sequence: u64) -> Result<()> {
        self.state().positions.insert((handler.to_owned(), stream.clone()), sequence);
        Ok(())
    }

    fn delete_position(&self, handler: &str, stream: &StreamId) -> Result<()> {
        self.state().positions.remove(&(handler.to_owned(), stream.clone()));
        Ok(())
    }

    fn positions_of(&self, handler: &str) -> Result<BTreeMap<StreamId, u64>> {
        let state = self.state();
        let of_handler = state.positions.iter().filter(|((of, _), _)| of == handler);
        Ok(of_handler.map(|((_, stream), sequence)| (stream.clone(), *sequence)).collect())
    }
}

impl SnapshotStore for Naive {
    fn put_snapshot(&self, stream: &StreamId, sequence: u64, retention: Retention, bytes: &[u8]) -> Result<()> {
        let mut state = self.state();
        let shown = state.shown(stream, None, None);
        let event = usize::try_from(sequence).ok().and_then(|n| shown.get(n)).ok_or(Fault::Refused)?;
        let snapshot = Snapshot { sequence, retention, state: bytes.to_vec() };
        state.snapshots.insert((stream.clone(), sequence), (event.position, snapshot));
        let older = state.snapshots(stream).into_iter().rev().skip(1).filter(|older| older.sequence != sequence);
        let mut usual = 0;
        for older in older {
            usual += u64::from(older.retention == Retention::Default);
            if older.retention == Retention::Transient || older.retention == Retention::Default && usual > 1 {
                state.snapshots.remove(&(stream.clone(), older.sequence));
            }
        }
        Ok(())
    }

    fn latest_snapshot(&self, stream: &StreamId) -> Result<Option<Snapshot>> {
        self.snapshot_at(stream, u64::MAX)
    }

    fn snapshot_at(&self, stream: &StreamId, sequence: u64) -> Result<Option<Snapshot>> {
        Ok(self.state().snapshots(stream).into_iter().rfind(|snapshot| snapshot.sequence <= sequence))
    }

    fn snapshot_at_time(&self, stream: &StreamId, time: Timestamp) -> Result<Option<Snapshot>> {
        let state = self.state();
        let known = state.shown(stream, Some(AsOf::Time(time)), None).len() as u64;
        Ok(state.snapshots(stream).into_iter().rfind(|snapshot| snapshot.sequence < known))
    }

    fn snapshots_of(&self, stream: &StreamId) -> Result<Vec<(u64, Retention)>> {
        let snapshots = self.state().snapshots(stream).into_iter();
        Ok(snapshots.map(|snapshot| (snapshot.sequence, snapshot.retention)).collect())
    }

    fn delete_snapshots(&self, stream: &StreamId) -> Result<u64> {
        let mut state = self.state();
        let before = state.snapshots.len();
        state.snapshots.retain(|(of, _), _| of != stream);
        Ok((before - state.snapshots.len()) as u64)
    }
}
