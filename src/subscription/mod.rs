//! Subscriptions: history, then live events, through one read path.

#[cfg(feature = "async")]
mod stream;

#[cfg(feature = "async")]
pub use stream::SubscriptionStream;

use crate::Event;
use crate::error::{Error, Result};
use crate::position::after;
use crate::store::notify::waiters::Seat;
use crate::store::{Events, Query, Store};
use crate::waker::this_thread;
use std::fmt;
use std::iter::FusedIterator;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// Number of positions by which a subscription may lag before it reports that it has fallen behind,
/// by default.
const LAG: u64 = 1024;

/// What a subscription returns.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Delivery {
    /// An event, in order of positions.
    Event(Event),
    /// All events up to this position that existed have been returned (`None`: there were none);
    /// from now on events are returned as they happen.
    CaughtUp(Option<u64>),
    /// The reader was slower than the writers, by this many positions. It reads history again,
    /// until it has caught up.
    FellBehind(u64),
}

impl Store {
    /// Subscribes to the events of a query: existing ones, then new ones. See [`Subscription`].
    pub fn subscribe(&self, query: impl Into<Query>) -> Subscription {
        Subscription {
            store: self.clone(),
            query: query.into(),
            reached: None,
            lag: LAG,
            found: None,
            head: None,
            seat: None,
            live: false,
            slept: true,
            ended: false,
            stop: Stop::default(),
        }
    }
}

/// Existing events, then new ones as they are committed: a blocking iterator that ends when it is
/// stopped, or when the store is closed and everything has been returned.
///
/// There is no gap and no duplicate between history and live events, as both use one path: it reads
/// the log up to what is visible, then sleeps until there is more. Nothing is queued for it, so it
/// takes the same little memory however slow its reader is. It returns only visible events: those
/// that are as durable as [`Durability`](crate::Durability) asks for. While it sleeps it costs
/// writers nothing: an append wakes only those whose query may match.
///
/// It uses no thread but that of its reader. It keeps the store open, as iterators do.
///
/// ```
/// use annals::subscription::Delivery;
/// use annals::{Expected, NewEvent, Query, Store, StreamId};
/// let store = Store::in_memory();
/// let order = StreamId::new("order", "1")?;
/// store.append(&order, Expected::Any, [NewEvent::new("Placed", "")])?;
///
/// let mut seen = Vec::new();
/// for delivery in store.subscribe(Query::new().domain("order")) {
///     match delivery? {
///         Delivery::Event(event) => seen.push(event.event_type().to_owned()),
///         Delivery::CaughtUp(position) => {
///             assert_eq!(position, Some(0));
///             break;
///         }
///         _ => {}
///     }
/// }
/// assert_eq!(seen, ["Placed"]);
/// # Ok::<(), annals::Error>(())
/// ```
///
/// # In a named edition
///
/// A subscription to a query of a named edition returns what the edition shows at the time. It does
/// not take back an event of the main edition whose stream diverges below it later.
pub struct Subscription {
    store: Store,
    query: Query,
    /// All events up to this position have been returned.
    reached: Option<u64>,
    lag: u64,
    /// The search that is being read.
    found: Option<Events>,
    /// The newest visible position when the search began.
    head: Option<u64>,
    seat: Option<Seat>,
    /// It has caught up.
    live: bool,
    /// It has slept since it returned an event: events that came in the meantime are not its
    /// reader's lag.
    slept: bool,
    ended: bool,
    stop: Stop,
}

/// Stops a [`Subscription`] from another thread.
#[derive(Clone, Default)]
pub struct Stop(Arc<Stopping>);

#[derive(Default)]
struct Stopping {
    stopped: AtomicBool,
    asleep: parking_lot::Mutex<Option<std::task::Waker>>,
}

impl Stop {
    /// Ends the subscription: it returns nothing more, and wakes up if it sleeps. Its checkpoint is
    /// kept.
    pub fn stop(&self) {
        self.0.stopped.store(true, SeqCst);
        let waker = self.0.asleep.lock().clone();
        if let Some(waker) = waker {
            crate::waker::wake(waker);
        }
    }

    /// Returns whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.load(SeqCst)
    }
}

impl Subscription {
    /// Begins after this position, usually that of the last event that was processed; `None` begins
    /// with the first event, which is the default. Call it before the first event is taken.
    ///
    /// If the store has not reached this position, the first call for an event returns
    /// [`Error::PositionAhead`], and the subscription ends: the store was restored from a backup,
    /// or has lost unsynced events, and other events will get their positions. Once they have, the
    /// number alone does not tell: take it from
    /// [`Checkpoints::get`](crate::progress::Checkpoints::get), which checks that its event is
    /// still the same.
    pub fn after(mut self, position: impl Into<Option<u64>>) -> Self {
        self.reached = position.into();
        self
    }

    /// Begins after all existing events: only new ones are returned.
    pub fn from_now(mut self) -> Self {
        self.reached = self.store.head();
        self
    }

    /// Returns [`Delivery::FellBehind`] when it lags by more than this many positions after it had
    /// caught up. Default: 1,024.
    pub fn lag_limit(mut self, positions: u64) -> Self {
        self.lag = positions;
        self
    }

    /// Returns the position up to which all events of the query have been returned, or `None` if
    /// that is none. It also advances over events that do not match.
    pub fn checkpoint(&self) -> Option<u64> {
        self.reached
    }

    /// Returns the number of positions that it has not reached.
    pub fn lag(&self) -> u64 {
        self.store.len().saturating_sub(after(self.reached))
    }

    /// Returns a handle that stops it from another thread.
    pub fn stopper(&self) -> Stop {
        self.stop.clone()
    }

    /// Lets `stop` stop this subscription.
    pub(crate) fn stopped_by(mut self, stop: &Stop) -> Self {
        self.stop = stop.clone();
        self
    }

    /// Returns whether nothing more will follow: it was stopped, the store was closed, or there was
    /// an error.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// Returns the next item if there is one now; never waits.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`], [`Error::Io`], [`Error::PositionAhead`] if it was to begin
    /// [after a position](Subscription::after) that does not exist. An error is returned once, and
    /// ends the subscription; except for a gap of a store that is
    /// [read around damage](crate::Options::open_read_only), after which it continues.
    pub fn try_next(&mut self) -> Result<Option<Delivery>> {
        let next = self.advance();
        self.ended |= next.is_err() && !self.found.as_ref().is_some_and(Events::goes_on);
        next
    }

    /// Returns the next item; blocks until there is one, or `timeout` has passed: then `None`, as
    /// at the [end](Subscription::is_ended).
    ///
    /// # Errors
    ///
    /// As [`Subscription::try_next`].
    pub fn next_timeout(&mut self, timeout: Duration) -> Result<Option<Delivery>> {
        self.next_until(Instant::now().checked_add(timeout))
    }

    fn next_until(&mut self, deadline: Option<Instant>) -> Result<Option<Delivery>> {
        loop {
            let next = self.try_next()?;
            if next.is_some() || self.ended {
                return Ok(next);
            }
            if !self.prepare(this_thread()) {
                continue;
            }
            while self.is_asleep() {
                match deadline.map(|deadline| deadline.saturating_duration_since(Instant::now())) {
                    Some(Duration::ZERO) => {
                        self.awake();
                        return Ok(None);
                    }
                    Some(left) => std::thread::park_timeout(left),
                    None => std::thread::park(),
                }
            }
            self.awake();
        }
    }

    fn advance(&mut self) -> Result<Option<Delivery>> {
        loop {
            if self.ended || self.stop.is_stopped() {
                self.ended = true;
                return Ok(None);
            }
            self.query.check()?;
            let end = self.store.len();
            if let Some(position) = self.reached.filter(|position| *position >= end) {
                let what = "the start of a subscription".to_owned();
                return Err(Error::PositionAhead { what, position, end });
            }
            if let Some(found) = &mut self.found {
                if let Some(event) = found.next().transpose()? {
                    self.reached = Some(event.position());
                    self.slept = false;
                    return Ok(Some(Delivery::Event(event)));
                }
                // A search ends before the head if its query ends at a time: no later event can
                // match.
                self.reached = self.reached.max(found.head()).max(self.head);
                self.found = None;
            }
            let lag = self.lag();
            if lag > self.lag && self.live && !self.slept {
                self.live = false;
                return Ok(Some(Delivery::FellBehind(lag)));
            }
            if lag > 0 {
                self.head = self.store.head();
                self.found = Some(self.store.query(&self.query).after(self.reached).into_iter());
                continue;
            }
            if !self.live {
                self.live = true;
                return Ok(Some(Delivery::CaughtUp(self.checkpoint())));
            }
            return Ok(None);
        }
    }

    /// Prepares to sleep. Returns `false` if there is something to do after all.
    fn prepare(&mut self, waker: std::task::Waker) -> bool {
        *self.stop.0.asleep.lock() = Some(waker.clone());
        let seat = self.seat.get_or_insert_with(|| self.store.waiters().seat(&self.query));
        seat.signal.prepare(waker);
        let closed = self.store.waiters().is_closed();
        // Checked once more: nothing wakes this thread for what came before it registered.
        if self.lag() > 0 || closed || self.stop.is_stopped() {
            self.ended |= closed && self.lag() == 0;
            self.awake();
            return false;
        }
        self.slept = true;
        true
    }

    fn is_asleep(&self) -> bool {
        !self.stop.is_stopped() && self.seat.as_ref().is_some_and(|seat| seat.signal.is_awaited())
    }

    fn awake(&self) {
        if let Some(seat) = &self.seat {
            seat.signal.cancel();
        }
    }
}

impl Iterator for Subscription {
    type Item = Result<Delivery>;

    /// Blocks until there is an item. Returns `None` if it was stopped, the store was closed, or an
    /// earlier error has ended it.
    fn next(&mut self) -> Option<Result<Delivery>> {
        self.next_until(None).transpose()
    }
}

impl FusedIterator for Subscription {}

impl fmt::Debug for Subscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Subscription")
            .field("query", &self.query)
            .field("checkpoint", &self.checkpoint())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stop").field("stopped", &self.is_stopped()).finish()
    }
}
