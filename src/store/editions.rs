//! Editions: timelines that diverge from the main one, and can be discarded.

use super::Store;
use crate::error::{Error, Result};
use crate::position::Location;
use crate::stream::{MAIN, check_name};
use crate::waker;
use std::collections::BTreeMap;
use std::fmt;

/// The events that an edition has of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct EditionInfo {
    /// Its name.
    pub name: String,
    /// Number of its own events, without those of the main edition that it shares.
    pub events: u64,
    /// Number of its own events for each domain in which it has any.
    pub domains: BTreeMap<String, u64>,
}

/// The named editions of a store: timelines that diverge from the main one.
///
/// The main edition is unnamed, and also called `main`. A stream in a named edition reads as that
/// of the main one until an event is appended to it there; from then on it consists of the events
/// of the main edition below the sequence of its own first event, followed by its own. Later
/// appends to the main edition do not show in it. The [expectation](crate::Expected) of the first
/// append decides where it diverges.
///
/// [Queries](crate::Query) see the main edition or, with [`Query::edition`](crate::Query::edition),
/// what a named one shows.
///
/// ```
/// use annals::{Expected, NewEvent, Store, StreamId};
/// let store = Store::in_memory();
/// let order = StreamId::new("order", "1")?;
/// store.append(&order, Expected::NoStream, ["Placed", "Paid", "Shipped"].map(|t| NewEvent::new(t, "")))?;
///
/// let what_if = order.in_edition("what-if")?;
/// store.append(&what_if, Expected::Next(1), [NewEvent::new("Cancelled", "")])?;
/// let types = |stream| -> Result<Vec<String>, annals::Error> {
///     store.read(stream).into_iter().map(|event| Ok(event?.event_type().to_owned())).collect()
/// };
/// assert_eq!(types(&what_if)?, ["Placed", "Cancelled"]);
/// assert_eq!(types(&order)?, ["Placed", "Paid", "Shipped"]);
///
/// assert_eq!(store.editions().delete("what-if", None)?, 1);
/// assert_eq!(types(&what_if)?, ["Placed", "Paid", "Shipped"]);
/// # Ok::<(), annals::Error>(())
/// ```
pub struct Editions {
    store: Store,
}

impl Store {
    /// Returns the named editions.
    pub fn editions(&self) -> Editions {
        Editions { store: self.clone() }
    }
}

impl Editions {
    /// Returns the editions that have events of their own, sorted by name.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::Damaged`] if an index cannot be read.
    pub fn list(&self) -> Result<Vec<EditionInfo>> {
        let events = self.store.ask(|store| {
            let index = &store.inner.catalog.index;
            index.edition_events(None, &index.deletions(), Location::END)
        })?;
        let mut editions: Vec<EditionInfo> = Vec::new();
        for ((name, domain), events) in events {
            match editions.last_mut() {
                Some(last) if last.name == name => {
                    last.events += events;
                    last.domains.insert(domain, events);
                }
                _ => editions.push(EditionInfo { name, events, domains: [(domain, events)].into() }),
            }
        }
        Ok(editions)
    }

    /// Deletes the events that an edition has of its own, in one domain or in all. Returns their
    /// number.
    ///
    /// Durable when it returns; blocks for a write and a sync. A reader that has begun may or may
    /// not see the events; later ones do not. The edition's [snapshots](Store::snapshots) and
    /// [handler positions](Store::positions) are deleted with it. Readers skip the positions of the
    /// events, and one more for the deletion itself. The bytes stay in the log and on the disk. An
    /// edition of the same name may be begun again.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for the main edition, which cannot be deleted; otherwise as
    /// [`Store::append`].
    pub fn delete(&self, name: &str, domain: Option<&str>) -> Result<u64> {
        if name.is_empty() || name == MAIN {
            return Err(Error::invalid("edition", "the main edition cannot be deleted"));
        }
        check_name("edition", name)?;
        domain.map_or(Ok(()), |domain| check_name("domain", domain))?;
        // A waiter for a commit that this writes may also delete an edition.
        waker::afterwards(|| self.delete_alone(name, domain))
    }

    /// One deletion at a time: each counts the events between the previous one and itself.
    fn delete_alone(&self, name: &str, domain: Option<&str>) -> Result<u64> {
        let inner = &self.store.inner;
        let _one = inner.deleting.lock();
        inner.writer()?.arrive();
        let index = &inner.catalog.index;
        let before = index.deletions();
        let events_until = |until| -> Result<u64> {
            let events = index.edition_events(Some(name), &before, until)?;
            let wanted = events.iter().filter(|((_, of), _)| domain.is_none_or(|domain| domain == of));
            Ok(wanted.map(|(_, events)| events).sum())
        };
        // Determined before the events are counted: a later put belongs to whoever has begun the
        // edition in the meantime.
        let known = inner.snapshots.directory.of_edition(name).unwrap_or_default();
        let mut count = 0;
        loop {
            let mut epoch = u64::MAX;
            if events_until(Location::END)? > 0 {
                self.store.transaction().deletion(name, domain).commit()?;
                let deletion = index.deletions().exactly(name, domain);
                inner.sync_visible()?;
                (count, epoch) = (events_until(deletion.at)?, deletion.position);
            }
            // Also if there are no events: the shared part of an edition has snapshots and
            // positions, too. Those of deleted events are refused anyway, so removing them only
            // frees room, and failing to is no error of a deletion that is done.
            let (Ok(_) | Err(_)) = inner.snapshots.directory.delete_edition(name, domain, Some(&known));
            // Positions of an edition without events are removed only while it has none: otherwise
            // they would be those of an edition that was just begun.
            let is_deleted = || Ok(epoch != u64::MAX || events_until(Location::END)? == 0);
            if !matches!(inner.positions.delete_edition(name, domain, epoch, is_deleted), Ok(None)) {
                break;
            }
        }
        Ok(count)
    }
}

impl fmt::Debug for Editions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Editions").field("store", &self.store).finish()
    }
}
