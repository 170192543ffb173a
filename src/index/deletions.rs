//! Deletions of editions, and their locations in the log.

use super::memory::Posted;
use super::term;
use crate::position::Location;
use crate::stream::split_key;
use crate::system::System;
use std::collections::HashMap;

/// A deletion: earlier events of its edition are gone.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default)]
pub(crate) struct Deletion {
    pub at: Location,
    pub position: u64,
}

/// The newest deletion of each edition, and of each domain in one. The deletion of a stream that
/// was never deleted is before the log.
#[derive(Clone, Debug, Default)]
pub(crate) struct Deletions {
    editions: HashMap<Box<str>, HashMap<Box<str>, Deletion>>,
}

impl Deletions {
    pub(super) fn note(&mut self, edition: &str, domain: Option<&str>, deletion: Deletion) {
        let domains = self.editions.entry(edition.into()).or_default();
        let newest = domains.entry(domain.unwrap_or("").into()).or_default();
        *newest = deletion.max(*newest);
    }

    /// Adds an entry of an index.
    pub(super) fn note_term(&mut self, term: &[u8], segment: u64, posted: Posted) {
        let (Ok(edition), Ok(domain)) = (str::from_utf8(term::edition(term)), str::from_utf8(term::text(term))) else {
            return;
        };
        let at = Location { segment, offset: posted.last.into() };
        self.note(edition, (!domain.is_empty()).then_some(domain), Deletion { at, position: posted.value });
    }

    /// Returns the newest deletion of exactly this: of the whole edition, or of one domain.
    pub(crate) fn exactly(&self, edition: &str, domain: Option<&str>) -> Deletion {
        let domains = self.editions.get(edition);
        domains.and_then(|domains| domains.get(domain.unwrap_or(""))).copied().unwrap_or_default()
    }

    /// Returns the location of the newest deletion of a whole edition, and of the newest of all in
    /// it.
    pub(crate) fn hits(&self, edition: &str) -> (Location, Location) {
        let newest = self.editions.get(edition).and_then(|domains| domains.values().max());
        (self.exactly(edition, None).at, newest.copied().unwrap_or_default().at)
    }

    /// Returns the newest deletion that has hit a domain of an edition.
    pub(crate) fn of(&self, edition: &str, domain: &str) -> Deletion {
        let Some(domains) = self.editions.get(edition) else { return Deletion::default() };
        let newest = |name| domains.get(name).copied().unwrap_or_default();
        newest("").max(newest(domain))
    }

    /// Returns the newest deletion that has hit the stream with this key.
    pub(crate) fn of_key(&self, key: &[u8]) -> Deletion {
        if key.first() != Some(&0) || self.editions.is_empty() {
            return Deletion::default();
        }
        let parts = split_key(key);
        let named = parts.and_then(|parts| Some((parts.edition?, parts.domain)));
        named.map_or_else(Deletion::default, |(edition, domain)| self.of(edition, domain))
    }

    /// Returns whether no reader may see the record of this stream at this position: it was
    /// deleted, or it is a system record.
    #[inline]
    pub(crate) fn hide(&self, key: &[u8], position: u64) -> bool {
        key.first() == Some(&0) && (System::of(key).is_some() || position < self.of_key(key).position)
    }
}

/// Returns whether a deletion hits the stream with this key.
pub(crate) fn covers(edition: &str, domain: Option<&str>, key: &[u8]) -> bool {
    split_key(key).is_some_and(|parts| parts.edition == Some(edition) && domain.is_none_or(|name| name == parts.domain))
}
