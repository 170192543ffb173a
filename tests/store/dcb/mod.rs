//! The examples of the site on Dynamic Consistency Boundaries (<https://dcb.events/examples>), one
//! module each.
//!
//! They need rules about more than one stream: read the events that a decision depends on, decide,
//! and commit only if no such event was added in between. Each module has the cases of the site,
//! and one test in which threads race and the rule holds afterwards.

mod course_subscriptions;
mod dynamic_product_price;
mod event_sourced_aggregate;
mod invoice_number;
mod opt_in_token;
mod prevent_record_duplication;
mod unique_username;

use annals::fs::MemFs;
use annals::{Committed, Error, Event, Expected, Guard, NewEvent, Options, Query, Result, Store, StreamId, Timestamp};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Barrier};
use std::thread;

/// Why a command was refused: a rule of the application, not an error of the store.
type Refusal = &'static str;

/// Most races are over before the threads have met: number of rounds.
const ROUNDS: u64 = 100;

const MINUTE: i64 = 60_000_000_000;
const DAY: i64 = 24 * 60 * MINUTE;

/// A command handler: reads what a decision depends on, decides, and stores the resulting event. If
/// a matching event was added in between, another handler was faster, and the decision is made
/// again from the new events.
fn decide(
    store: &Store,
    stream: &StreamId,
    query: &Query,
    decision: impl Fn(&[Event]) -> Result<NewEvent<'static>, Refusal>,
) -> Result<Committed, Refusal> {
    loop {
        let (events, head) = store.query(query).collect_with_head().unwrap();
        let event = decision(&events)?;
        let guard = Guard::unchanged(query.clone(), head);
        match store.transaction().append(stream, Expected::Any, [event]).guard(guard).commit() {
            Err(Error::GuardFailed { .. }) => {}
            committed => return Ok(committed.unwrap()),
        }
    }
}

fn stream(domain: &str, root: &str) -> StreamId {
    StreamId::new(domain, root).unwrap()
}

fn has_tag(event: &Event, tag: &str) -> bool {
    event.tags().any(|t| t == tag)
}

fn find(store: &Store, query: &Query) -> Vec<Event> {
    store.query(query).into_iter().collect::<Result<_>>().unwrap()
}

/// Does the same on several threads that begin at once. Returns the result of each.
fn race<T: Send>(threads: usize, run: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let (barrier, run) = (&Barrier::new(threads), &run);
    thread::scope(|scope| {
        let start = |number| {
            scope.spawn(move || {
                barrier.wait();
                run(number)
            })
        };
        let running: Vec<_> = (0..threads).map(start).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

/// How often each refusal was returned, and how often none.
fn count<T>(results: &[Result<T, Refusal>], refusal: Refusal) -> (usize, usize) {
    let refused = results.iter().filter(|r| r.as_ref().err() == Some(&refusal)).count();
    let stored = results.iter().filter(|r| r.is_ok()).count();
    (stored, refused)
}

/// A clock that stands still until time is advanced.
#[derive(Clone, Default)]
struct Clock(Arc<AtomicI64>);

impl Clock {
    /// A store whose events are recorded at the time of this clock.
    fn store(&self) -> Store {
        let clock = self.clone();
        let options = Options::new().file_system(MemFs::new()).maintenance(false);
        options.clock(move || clock.now()).open("memory").unwrap()
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_nanos(self.0.load(Ordering::SeqCst))
    }

    fn pass(&self, nanos: i64) {
        self.0.fetch_add(nanos, Ordering::SeqCst);
    }

    /// How long ago something was.
    fn since(&self, time: Timestamp) -> i64 {
        self.now().as_nanos() - time.as_nanos()
    }
}
