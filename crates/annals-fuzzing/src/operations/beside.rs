//! Operations besides appends: deletions of editions, lists, snapshots, handler positions.

use super::World;
use super::model::{Accepted, Places, Says};
use super::steps::{Change, DOMAINS, EDITIONS, HANDLERS, retention, stream};
use annals::{Error, Event, Result, Store, StreamId};
use std::collections::{BTreeMap, BTreeSet};

impl World {
    /// The handler positions that a store shows.
    pub(super) fn places(&self, store: &Store) -> Result<Places> {
        let positions = store.positions();
        let mut places = Places::new();
        for info in positions.handlers()? {
            let handler = HANDLERS.iter().find(|name| **name == info.name).expect("a handler that has put something");
            let listed = positions.list(handler)?;
            assert_eq!(listed.len() as u64, info.streams);
            for of in listed {
                let epoch = self.model.epoch(&of.stream, u64::MAX);
                places.insert((handler, of.stream, epoch), of.sequence);
            }
        }
        Ok(places)
    }

    /// What would be found after a flush may be found from now on.
    pub(super) fn flushes(&mut self) {
        let now = &self.model.places;
        if !self.disk.is_dead() && !self.model.flushed.contains(now) {
            self.model.flushed.push(now.clone());
        }
    }

    /// It is the least, if the flush has succeeded.
    pub(super) fn flushed(&mut self, done: bool) {
        if done {
            self.model.flushed = vec![self.model.places.clone()];
        }
    }

    /// Deletes an edition, or a domain of it. Whether it is deleted is known in the end; whether
    /// its handler positions are deleted in the file, only if no call has failed.
    pub(super) fn delete(&mut self, edition: u8, domain: Option<u8>) {
        if self.trouble {
            self.wait_for_all();
            if self.disk.is_dead() {
                return;
            }
        }
        let edition = EDITIONS[usize::from(edition) % EDITIONS.len()];
        let domain = domain.map(|domain| DOMAINS[usize::from(domain) % DOMAINS.len()]);
        let (hit, first) = (self.model.hit(edition, domain), self.model.end());
        let without = self.model.places_without(edition, domain);
        self.model.flushed.push(without.clone());
        let deleted = self.store().editions().delete(edition, domain);
        let dead = self.disk.is_dead();
        let (is_there, acknowledged) = match &deleted {
            Ok(count) => {
                // Commits in flight may have failed.
                assert!(*count == hit || dead, "{count} events are gone, and not {hit}");
                (true, *count == hit)
            }
            Err(error) => {
                assert!(self.trouble_allows(error), "{error}");
                let is_seen = self.store().len() > first;
                (is_seen || dead || matches!(error, Error::DurabilityUnknown { .. }), is_seen && !dead)
            }
        };
        if is_there && hit > 0 {
            let says = Some(Says::Deleted { edition, domain });
            self.model.commits.push(Accepted { records: Vec::new(), first, len: 1, says, key: 0, acknowledged });
        }
        if dead {
            return;
        }
        if deleted.is_ok() && !self.trouble {
            self.model.flushed = vec![without.clone()];
        }
        if let Err(error) = &deleted
            && matches!(error, Error::DurabilityUnknown { .. })
        {
            return self.after_failure(error);
        }
        let found = self.places(self.store()).expect("they are in memory");
        assert!(found == without || self.trouble && found == self.model.shown(&self.model.places));
        self.model.places = found;
    }

    /// Lists what there is: streams, editions, upstreams, handler positions.
    pub(super) fn list(&self) {
        let end = self.visible();
        let live = self.model.live(end);
        let streams: BTreeSet<&StreamId> = live.iter().map(|record| &record.stream).collect();
        let next = |stream: &StreamId| self.model.stream(stream, end, u64::MAX).len() as u64;
        let right: Vec<_> = streams.into_iter().map(|stream| (stream.clone(), next(stream))).collect();
        let found = self.store().streams("");
        let found = found.map(|found| found.into_iter().map(|info| (info.stream, info.next_sequence)).collect());
        self.is_right(found, right);
        let mut editions: BTreeMap<String, u64> = BTreeMap::new();
        for edition in live.iter().filter_map(|record| record.stream.edition()) {
            *editions.entry(edition.to_owned()).or_default() += 1;
        }
        let found = self.store().editions().list();
        self.is_right(found.map(|found| found.into_iter().map(|info| (info.name, info.events)).collect()), editions);
        self.is_right(self.store().all_tracked(), self.model.tracked(end));
        self.is_right(self.places(self.store()), self.model.shown(&self.model.places));
    }

    pub(super) fn is_right<T: PartialEq + std::fmt::Debug>(&self, found: Result<T>, right: T) {
        match found {
            Ok(found) => assert_eq!(found, right),
            Err(error) => assert!(self.trouble_allows(&error), "{error}"),
        }
    }

    /// The state of an aggregate is the list of the positions of its events. Whatever snapshots
    /// there are, it is that of the model.
    pub(super) fn load(&self, of: u8, every: u8, as_of: Option<u8>) {
        let until = as_of.map_or(u64::MAX, u64::from);
        let right = self.model.stream(&stream(of), self.visible(), until);
        let right: Vec<u64> = right.iter().map(|record| record.position).collect();
        let mut load = self.store().load(&stream(of)).snapshot_every(u64::from(every % 4));
        if let Some(position) = as_of {
            load = load.as_of(u64::from(position));
        }
        let loaded = load.fold(Vec::new(), |state: &mut Vec<u64>, event: &Event| {
            state.push(event.position());
            Ok(())
        });
        self.is_right(loaded.map(|loaded| (loaded.next_sequence, loaded.state)), (right.len() as u64, right));
    }

    pub(super) fn snapshot(&mut self, of: u8, sequence: u8, keep: u8) {
        let all = self.model.stream(&stream(of), self.visible(), u64::MAX);
        let mut state: Vec<u64> = all.iter().map(|record| record.position).collect();
        let sequence = usize::from(sequence) % (all.len() + 1);
        state.truncate(sequence + 1);
        let snapshots = self.store().snapshots().retention(retention(keep));
        match snapshots.put(&stream(of), sequence as u64, &state) {
            Ok(()) if self.trouble => assert!(sequence < all.len()),
            Ok(()) => {
                let found =
                    snapshots.at(&stream(of), sequence as u64).expect("no call fails").expect("it was just put");
                let decoded = found.decode::<Vec<u64>>().expect("what was just put");
                assert_eq!((found.sequence(), decoded), (sequence as u64, state));
            }
            Err(Error::Invalid { what: "snapshot", .. }) => assert_eq!(sequence, all.len()),
            Err(error) => {
                assert!(self.trouble_allows(&error), "{error}");
                self.after_failure(&error);
            }
        }
    }

    pub(super) fn position(&mut self, handler: u8, of: u8, sequence: u8, change: Change) {
        let (handler, stream) = (HANDLERS[usize::from(handler) % HANDLERS.len()], stream(of));
        let place = (handler, stream.clone(), self.model.epoch(&stream, self.visible()));
        let (positions, before) = (self.store().positions(), self.model.places.get(&place).copied());
        let sequence = u64::from(sequence);
        match change {
            Change::Put => {
                let rose = positions.put(handler, &stream, sequence).expect("it is in memory");
                assert_eq!(rose, before.is_none_or(|before| before < sequence));
                self.model.places.insert(place, before.unwrap_or(0).max(sequence));
            }
            Change::Reset => {
                positions.reset(handler, &stream, sequence).expect("it is in memory");
                self.model.places.insert(place, sequence);
            }
            Change::Delete => {
                assert_eq!(positions.delete(handler, &stream).expect("it is in memory"), before.is_some());
                self.model.places.remove(&place);
            }
        }
    }

    pub(super) fn flush(&mut self) {
        self.flushes();
        let done = self.store().positions().flush();
        self.flushed(done.is_ok());
        if let Err(error) = done {
            assert!(self.trouble_allows(&error), "{error}");
            self.after_failure(&error);
        }
    }
}
