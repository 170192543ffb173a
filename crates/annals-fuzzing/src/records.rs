//! Reading up to the first error.

use annals::{Error, Event, Result};
use annals_testkit::EventRecord;

/// The events of a read up to its end or its first error.
pub(super) fn drain(events: impl Iterator<Item = Result<Event>>) -> (Vec<EventRecord>, Option<Error>) {
    let mut found = Vec::new();
    for event in events {
        match event {
            Ok(event) => found.push(EventRecord::of(&event)),
            Err(error) => return (found, Some(error)),
        }
    }
    (found, None)
}
