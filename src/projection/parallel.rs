//! Parallel rebuilds: one thread reads, the others each apply the events of their share of the
//! streams.

use super::Projection;
use super::batches::Batches;
use super::engine::Engine;
use crate::Event;
use crate::error::{Error, Result, told_by};
use crate::format::index_file::hash;
use crate::store::Store;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

/// Number of batches that may wait for a worker, so that the reader does not get far ahead.
const WAITING: usize = 4;

/// Number of events handed to a worker at once.
const HANDED: usize = 256;

/// A projection whose state consists of parts that each depend on the events of one stream, such as
/// balances of accounts. It must not depend on the order of events of different streams.
///
/// So states of different streams can be computed separately and merged, as
/// [`Project::parallel`](crate::projection::Project::parallel) does.
///
/// ```
/// use annals::projection::PerStream;
/// use annals::{Event, Expected, NewEvent, Projection, Result, Store, StreamId};
/// use std::collections::BTreeMap;
///
/// struct Lengths;
/// impl Projection for Lengths {
///     type State = BTreeMap<String, u64>;
///     fn name(&self) -> &str {
///         "lengths"
///     }
///     fn version(&self) -> u32 {
///         1
///     }
///     fn apply(&self, lengths: &mut Self::State, event: &Event) -> Result<()> {
///         *lengths.entry(event.stream().to_string()).or_default() += 1;
///         Ok(())
///     }
/// }
/// impl PerStream for Lengths {
///     fn merge(&self, into: &mut Self::State, part: Self::State) {
///         into.extend(part);
///     }
/// }
///
/// let store = Store::in_memory();
/// for n in 0..10 {
///     store.append(&StreamId::new("order", n.to_string())?, Expected::Any, [NewEvent::new("Placed", "")])?;
/// }
/// let lengths = store.projection(Lengths).parallel(4).catch_up()?;
/// assert_eq!(lengths.read(|lengths| lengths.len())?, 10);
/// # Ok::<(), annals::Error>(())
/// ```
pub trait PerStream: Projection {
    /// Adds a part to another one. The two were computed from the events of different streams, and
    /// each began with the default state.
    ///
    /// In a named edition, the shared events of a stream and its own are events of one stream.
    fn merge(&self, into: &mut Self::State, part: Self::State);
}

/// How to compute a state with several threads.
pub(super) struct Parallel<P: Projection> {
    threads: usize,
    merge: fn(&P, &mut P::State, P::State),
}

impl<P: PerStream> Parallel<P> {
    pub(super) fn new(threads: usize) -> Self {
        Parallel { threads, merge: P::merge }
    }
}

impl<P: Projection> Parallel<P> {
    /// Returns the state of all events that are visible now, and the position after them. `None` if
    /// it was halted.
    pub(super) fn fold(
        &self,
        engine: &Engine<P>,
        store: &Store,
        halted: &dyn Fn() -> bool,
    ) -> Result<Option<(P::State, u64)>> {
        thread::scope(|scope| {
            let (mut senders, mut workers) = (Vec::new(), Vec::new());
            for _ in 0..self.threads {
                let (sender, receiver) = sync_channel(WAITING);
                let thread = thread::Builder::new().name("annals-rebuild".into());
                match thread.spawn_scoped(scope, move || work(engine, &receiver)) {
                    Ok(worker) => {
                        senders.push(sender);
                        workers.push(worker);
                    }
                    // Fewer threads do it as well.
                    Err(_) if !workers.is_empty() => break,
                    Err(e) => return Err(Error::io("start a thread for", store.path(), e)),
                }
            }
            let read = deal(engine, store, senders, halted);
            let mut whole = P::State::default();
            let mut failures = Vec::new();
            for worker in workers {
                let part = worker.join().unwrap_or_else(|panic| Err(engine.failed(0, told_by(&*panic))));
                let merged = part.and_then(|part| {
                    let merge = AssertUnwindSafe(|| (self.merge)(&engine.projection, &mut whole, part));
                    catch_unwind(merge).map_err(|panic| engine.failed(0, format!("merge {}", told_by(&*panic))))
                });
                failures.extend(merged.err());
            }
            let read = read?;
            // The error that a single thread would have met.
            let position = |error: &Error| match error {
                Error::ProjectionFailed { position, .. } => *position,
                _ => 0,
            };
            match failures.into_iter().min_by_key(position) {
                Some(failure) => Err(failure),
                None => Ok(read.map(|next| (whole, next))),
            }
        })
    }
}

/// Reads, and hands each event to the worker of its stream.
fn deal<P: Projection>(
    engine: &Engine<P>,
    store: &Store,
    senders: Vec<SyncSender<Vec<Event>>>,
    halted: &dyn Fn() -> bool,
) -> Result<Option<u64>> {
    let mut hands: Vec<Vec<Event>> = senders.iter().map(|_| Vec::new()).collect();
    let mut batches = Batches::new(store, engine.query(), 0);
    let mut end = 0;
    while let Some((events, next)) = batches.next()? {
        end = next;
        for event in events {
            let share = share_of(&event, senders.len());
            hands[share].push(event);
            // A worker that has failed takes nothing more; its error is collected in the end.
            if hands[share].len() >= HANDED && senders[share].send(std::mem::take(&mut hands[share])).is_err() {
                return Ok(None);
            }
        }
        if halted() {
            return Ok(None);
        }
    }
    let (Ok(()) | Err(_)) = senders.iter().zip(hands).try_for_each(|(sender, hand)| sender.send(hand));
    Ok(Some(end))
}

/// By domain and root: the events of an edition continue those of the main one.
fn share_of(event: &Event, shares: usize) -> usize {
    let seed = hash(event.domain().as_bytes(), 0);
    ((u128::from(hash(event.root(), seed)) * shares as u128) >> 64) as usize
}

fn work<P: Projection>(engine: &Engine<P>, events: &Receiver<Vec<Event>>) -> Result<P::State> {
    let mut part = P::State::default();
    for events in events {
        engine.fold(&mut part, &events)?;
    }
    Ok(part)
}
