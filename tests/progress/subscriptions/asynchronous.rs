//! The same for async code, on tokio and on an executor that knows nothing of it.

use super::*;
use annals::Error;
use annals::subscription::SubscriptionStream;
use futures_util::StreamExt;
use std::time::Duration;

async fn positions(stream: &mut SubscriptionStream, count: usize) -> Vec<u64> {
    let mut seen = Vec::new();
    while seen.len() < count {
        if let Delivery::Event(event) = stream.next().await.expect("it goes on").unwrap() {
            seen.push(event.position());
        }
    }
    seen
}

async fn scenario(store: &Store) {
    for _ in 0..3 {
        append(store, "a-1", "T");
    }
    let mut stream = store.subscribe(Query::new()).into_stream();
    assert_eq!(positions(&mut stream, 3).await, [0, 1, 2]);
    assert!(matches!(stream.next().await, Some(Ok(Delivery::CaughtUp(Some(2))))));
    let writer = {
        let store = store.clone();
        thread::spawn(move || {
            thread::sleep(SOON);
            append(&store, "a-1", "T");
        })
    };
    assert_eq!(positions(&mut stream, 1).await, [3]);
    writer.join().unwrap();
    let stop = stream.subscription().stopper();
    thread::spawn(move || {
        thread::sleep(SOON);
        stop.stop();
    });
    assert!(stream.next().await.is_none());
    assert_eq!(stream.into_inner().checkpoint(), Some(3));
}

#[test]
fn on_a_plain_executor() {
    futures_executor::block_on(scenario(&Store::in_memory()));
    futures_executor::block_on(scenario(&Bed::directory().open()));
}

#[test]
fn on_tokio() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(scenario(&Store::in_memory()));
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(scenario(&Bed::directory().open()));
}

/// Tasks append and await their tickets; others read along. Every commit arrives, even those whose
/// futures were dropped.
#[test]
fn tickets_are_futures() {
    on(
        vec![Bed::memory(), Bed::memory().maintained(true), Bed::directory(), Bed::directory().maintained(false)],
        |bed| {
            let store = bed.open();
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_time().build().unwrap();
            runtime.block_on(async {
                let readers: Vec<_> = (0..4)
                    .map(|_| {
                        let mut stream = store.subscribe(Query::new()).into_stream();
                        tokio::spawn(async move { positions(&mut stream, 800).await })
                    })
                    .collect();
                let writers: Vec<_> = (0..8)
                    .map(|n| {
                        let store = store.clone();
                        tokio::spawn(async move {
                            for _ in 0..100 {
                                let event = NewEvent::new("T", "");
                                let name = stream(&format!("a-{n}"));
                                let ticket =
                                    store.transaction().append(&name, Expected::Any, [event]).submit().unwrap();
                                match n {
                                    // Dropped at once, or after it was polled: the commit is stored
                                    // all the same.
                                    6 => drop(ticket),
                                    7 => drop(tokio::time::timeout(Duration::ZERO, ticket).await),
                                    _ => assert_eq!(ticket.await.unwrap().appends.len(), 1),
                                }
                            }
                        })
                    })
                    .collect();
                for writer in writers {
                    writer.await.unwrap();
                }
                for reader in readers {
                    let seen = tokio::time::timeout(LATE, reader).await.expect("a commit did not arrive").unwrap();
                    assert_eq!(seen, (0..800).collect::<Vec<u64>>());
                }
            });
        },
    );
}

#[test]
fn a_ticket_tells_of_failures() {
    let bed = Bed::simulated();
    let store = bed.open();
    append(&store, "a-1", "T");
    bed.sim().fail(annals_testkit::Fault {
        operation: annals_testkit::Operation::Sync,
        after: 0,
        times: 1,
        kind: std::io::ErrorKind::Other,
    });
    let ticket = store.transaction().append(&stream("a-1"), Expected::Any, texts(["x"])).submit().unwrap();
    let failed = futures_executor::block_on(ticket);
    assert!(matches!(failed, Err(Error::DurabilityUnknown { .. })), "{failed:?}");
}

/// Streams that are dropped while they sleep leave no waiter behind.
#[test]
fn dropped_streams() {
    let store = Store::in_memory();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        for _ in 0..100 {
            let mut stream = store.subscribe(Query::new().domain("b")).into_stream();
            assert!(matches!(stream.next().await, Some(Ok(Delivery::CaughtUp(_)))));
            let nothing = tokio::time::timeout(Duration::from_micros(50), stream.next()).await;
            assert!(nothing.is_err());
        }
    });
    append(&store, "b-1", "T");
}

struct Panics;

impl std::task::Wake for Panics {
    fn wake(self: std::sync::Arc<Self>) {
        panic!("a waker that panics");
    }
}

/// A panic in a waker once broke the store: the thread that wrote the commit panicked, and all
/// later commits were refused.
#[test]
fn a_waker_that_panics_harms_nobody() {
    use futures_util::Stream;
    let store = Store::in_memory();
    let mut stream = store.subscribe(Query::new()).into_stream();
    let waker = std::task::Waker::from(std::sync::Arc::new(Panics));
    let mut context = std::task::Context::from_waker(&waker);
    let mut poll = || std::pin::Pin::new(&mut stream).poll_next(&mut context).is_ready();
    assert!(poll() && !poll());
    append(&store, "a-1", "T");
    append(&store, "a-1", "T");
    assert!(poll());
}
