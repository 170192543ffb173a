//! Subscriptions: what has happened, and then what happens, through one read path.

#[cfg(feature = "async")]
mod stream;

#[cfg(feature = "async")]
pub use stream::SubscriptionStream;

use crate::Event;
use crate::error::{Error, Result};
use crate::position::behind;
use crate::store::notify::waiters::Seat;
use crate::store::{Events, Query, Store};
use crate::waker::this_thread;
use std::fmt;
use std::iter::FusedIterator;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

/// How far a subscription may lag before it says that it has fallen behind, unless it is told
/// another number.
const LAG: u64 = 1024;

/// What a subscription hands out.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Delivery {
    /// An event, in order of positions.
    Event(Event),
    /// All events up to this position have been handed out that there were (`None`: there were
    /// none): from now on, they come as they happen.
    CaughtUp(Option<u64>),
    /// The reader was slower than the writers: so many positions are in between. It reads history
    /// again, until it has caught up.
    FellBehind(u64),
}

impl Store {
    /// Subscribes to the events of a query: those that there are, and then those that come. See
    /// [`Subscription`].
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

/// Events as they happen, after those that have happened: a blocking iterator that ends when it is
/// stopped, or when the store is closed and all was handed out.
///
/// There is no gap and no duplicate between history and live, as both come by one path: it reads
/// the log up to what can be read, and then sleeps until there is more. Nothing is queued for it,
/// so it takes the same little memory however slow its reader is. Only what can be read is handed
/// out: what is as durable as [`Durability`](crate::Durability) asks for. It sleeps without costing
/// others anything: an append wakes only those whose query may fit.
///
/// It takes no thread but that of its reader. It holds the store open, as iterators do.
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
/// A subscription to a query of a named edition hands out what the edition shows at the time. An
/// event of the main edition that was handed out before its stream diverged below it stays handed
/// out.
pub struct Subscription {
    store: Store,
    query: Query,
    /// All events up to this position have been handed out.
    reached: Option<u64>,
    lag: u64,
    /// What is being handed out.
    found: Option<Events>,
    /// The newest position that could be read when that began.
    head: Option<u64>,
    seat: Option<Seat>,
    /// It has caught up.
    live: bool,
    /// It has slept since it handed out an event: what has come meanwhile is not its fault.
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
    /// Ends the subscription: it hands out nothing more, and wakes if it sleeps. The position that
    /// it has come to is kept.
    pub fn stop(&self) {
        self.0.stopped.store(true, SeqCst);
        let waker = self.0.asleep.lock().clone();
        if let Some(waker) = waker {
            crate::waker::wake(waker);
        }
    }

    /// Whether it was stopped.
    pub fn is_stopped(&self) -> bool {
        self.0.stopped.load(SeqCst)
    }
}

impl Subscription {
    /// Begins after this position, which is usually that of the last event that was processed;
    /// `None` begins with the first event, as without this. Set before the first event is taken.
    ///
    /// The first call for an event gives [`Error::PositionAhead`] if the store has not come to this
    /// position, and it ends then: the store was restored from a backup, or has lost events that
    /// were not synced, and others will take their positions. Once they have, a number does not
    /// tell: take it from [`Checkpoints::get`](crate::progress::Checkpoints::get), which looks
    /// whether its event is still the one.
    pub fn after(mut self, position: impl Into<Option<u64>>) -> Self {
        self.reached = position.into();
        self
    }

    /// Begins after all that there is now: only what comes.
    pub fn from_now(mut self) -> Self {
        self.reached = self.store.head();
        self
    }

    /// Says [`Delivery::FellBehind`] when it lags by more than so many positions after it had
    /// caught up. 1,024 by default.
    pub fn lag_limit(mut self, positions: u64) -> Self {
        self.lag = positions;
        self
    }

    /// The position up to which all events of the query have been handed out, or `None` if that is
    /// none. Moves on over events that do not match; that of the last event that was handed out, or
    /// after it.
    pub fn checkpoint(&self) -> Option<u64> {
        self.reached
    }

    /// How many positions there are that it has not come to.
    pub fn lag(&self) -> u64 {
        self.store.len().saturating_sub(behind(self.reached))
    }

    /// What stops it from another thread.
    pub fn stopper(&self) -> Stop {
        self.stop.clone()
    }

    /// Is stopped by this one.
    pub(crate) fn stopped_by(mut self, stop: &Stop) -> Self {
        self.stop = stop.clone();
        self
    }

    /// Whether there will be nothing more: it was stopped, the store was closed, or there was an
    /// error.
    pub fn is_ended(&self) -> bool {
        self.ended
    }

    /// What comes next, if it can be had without waiting.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`], [`Error::Io`],
    /// [`Error::PositionAhead`] if it was to begin [after a
    /// position](Subscription::after) that there is not. An error comes once, and the subscription
    /// ends with it, but for a gap of a store that is [read around
    /// damage](crate::Options::open_read_only), after which it goes on.
    pub fn try_next(&mut self) -> Result<Option<Delivery>> {
        let next = self.advance();
        self.ended |= next.is_err() && !self.found.as_ref().is_some_and(Events::goes_on);
        next
    }

    /// What comes next; blocks until there is something, or this time is over: `None` then, and
    /// also at the [end](Subscription::is_ended).
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
                let what = "the place behind which a subscription begins".to_owned();
                return Err(Error::PositionAhead { what, position, end });
            }
            if let Some(found) = &mut self.found {
                if let Some(event) = found.next().transpose()? {
                    self.reached = Some(event.position());
                    self.slept = false;
                    return Ok(Some(Delivery::Event(event)));
                }
                // A search that ends before the head did so as its query ends at a time: nothing
                // that comes later can fit.
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

    /// Gets ready to sleep. `false` if there is something to do after all.
    fn prepare(&mut self, waker: std::task::Waker) -> bool {
        *self.stop.0.asleep.lock() = Some(waker.clone());
        let seat = self.seat.get_or_insert_with(|| self.store.waiters().seat(&self.query));
        seat.signal.prepare(waker);
        let closed = self.store.waiters().is_closed();
        // Looked at once more: what has come before this, nobody will wake for.
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

    /// Blocks until there is something. `None` when it was stopped, the store was closed, or there
    /// was an error before that has ended it.
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
