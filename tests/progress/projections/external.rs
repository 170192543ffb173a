//! States of the application's own: each event once, as the checkpoint is stored with the state.

use super::*;
use annals::projection::ExternalSink;
use annals::{Error, Options};
use std::sync::{Arc, Mutex};

/// A database: what is committed, and how many commits it takes until it fails.
#[derive(Clone, Default)]
struct Database {
    committed: Arc<Mutex<(Seen, Option<u64>)>>,
    batches: Arc<Mutex<Vec<usize>>>,
    left: Option<u64>,
    domain: Option<&'static str>,
}

impl ExternalSink for Database {
    type Error = Error;

    fn query(&self) -> Query {
        self.domain.map_or_else(Query::new, |domain| Query::new().domain(domain))
    }

    fn checkpoint(&mut self) -> Result<Option<u64>> {
        Ok(self.committed.lock().unwrap().1)
    }

    fn apply(&mut self, events: &[Event], checkpoint: u64) -> Result<()> {
        let mut seen = self.committed.lock().unwrap().0.clone();
        events.iter().for_each(|event| seen.take(event));
        assert_eq!(events.last().unwrap().position(), checkpoint);
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(1).ok_or_else(|| Error::Codec { codec: "database", why: "gone".into() })?;
        }
        *self.committed.lock().unwrap() = (seen, Some(checkpoint));
        self.batches.lock().unwrap().push(events.len());
        Ok(())
    }
}

#[test]
fn every_event_once_in_batches() {
    on(Bed::quick(), |bed| {
        let store = filled(bed, 25);
        let mut external = store.external(Database::default()).batch(10);
        assert_eq!(external.catch_up().unwrap(), 25);
        assert_eq!(external.catch_up().unwrap(), 0);
        append(&store, 25);
        assert_eq!(external.catch_up().unwrap(), 1);
        let database = external.into_sink();
        assert_eq!(*database.batches.lock().unwrap(), [10, 10, 5, 1]);
        assert_eq!(database.committed.lock().unwrap().0, expected(&store, &Query::new(), Some(25)));
    });
}

/// It dies before, between and after transactions; the next run continues after what is committed.
#[test]
fn transactions_that_fail() {
    let store = filled(&Bed::memory(), 30);
    for left in 0..5 {
        let database = Database { left: Some(left), domain: Some("order"), ..Database::default() };
        let mut external = store.external(database.clone()).batch(4);
        external.catch_up().unwrap_err();
        let checkpoint = database.committed.lock().unwrap().1;
        assert_eq!(database.committed.lock().unwrap().0, expected(&store, &Query::new().domain("order"), checkpoint));
        let database = Database { left: None, ..database };
        store.external(database.clone()).batch(4).catch_up().unwrap();
        let committed = database.committed.lock().unwrap();
        assert_eq!(committed.0, expected(&store, &Query::new().domain("order"), Some(29)), "{left}");
    }
}

#[test]
fn follows_until_it_is_stopped_or_the_store_closed() {
    for closed in [false, true] {
        let store = filled(&Bed::memory(), 10);
        let database = Database::default();
        let mut external = store.external(database.clone());
        let stop = external.stopper();
        let running = std::thread::spawn(move || external.follow().unwrap());
        append_all(&store, 10..60);
        let begun = std::time::Instant::now();
        while database.committed.lock().unwrap().1 != Some(59) && begun.elapsed() < LATE {
            std::thread::sleep(SOON);
        }
        match closed {
            true => store.clone().close().unwrap(),
            false => stop.stop(),
        }
        assert_eq!(running.join().unwrap(), 60);
        assert_eq!(database.committed.lock().unwrap().0, expected(&store, &Query::new(), Some(59)));
    }
}

/// A checkpoint that the store does not reach belongs to another store.
#[test]
fn checkpoints_of_other_stores() {
    let database = Database::default();
    filled(&Bed::memory(), 30).external(database.clone()).catch_up().unwrap();
    let other = filled(&Bed::memory(), 20).external(database).catch_up();
    assert!(matches!(other, Err(Error::PositionAhead { .. })), "{other:?}");
}

/// Only durable events are applied, even if the store does not sync.
#[test]
fn only_what_is_durable_is_handed_out() {
    let bed = Bed::simulated();
    let store = bed.open_with(|options: Options| options.durability(annals::Durability::Os));
    append_all(&store, 0..10);
    let database = Database::default();
    store.external(database.clone()).batch(3).catch_up().unwrap();
    let after = Bed { disk: Disk::Simulated(bed.sim().crash(annals_testkit::Image::Durable)), ..bed };
    assert!(after.open().len() > database.committed.lock().unwrap().1.unwrap());
}
