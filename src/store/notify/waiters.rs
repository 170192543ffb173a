//! Waiters for events: only those are woken whose query an event may match, so that the others cost
//! an append no more than a lookup.

use super::signal::Signal;
use crate::format::commit::{Each, Recorded};
use crate::index::memory::TermHash;
use crate::index::term::{Term, TermKind};
use crate::store::query::Query;
use crate::waker::Caller;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

/// The waiters for events.
#[derive(Default)]
pub(crate) struct Waiters {
    seats: AtomicUsize,
    registry: Mutex<Registry>,
    /// The waiters that will be woken.
    woken: Mutex<Vec<Arc<Signal>>>,
    /// There will be no more events.
    closed: AtomicBool,
}

#[derive(Default)]
struct Registry {
    /// Waiters by a term that an event must have.
    by_term: HashMap<Box<[u8]>, Vec<Arc<Signal>>, TermHash>,
    /// The kinds of these terms, one bit each.
    kinds: u32,
    /// Waiters that any event may interest.
    all: Vec<Arc<Signal>>,
    scratch: Term,
}

impl Registry {
    fn has(&self, kind: TermKind) -> bool {
        self.kinds & 1 << kind as u8 != 0
    }

    /// Collects the waiters that an event may interest.
    fn note(&mut self, event: &Recorded<'_>, woken: &mut Vec<Arc<Signal>>) {
        let edition = event.edition;
        let mut scratch = std::mem::take(&mut self.scratch);
        if self.has(TermKind::Stream) {
            scratch.set_stream(event.key);
            self.collect(&scratch, woken);
        }
        if self.has(TermKind::Domain) {
            scratch.set(TermKind::Domain, edition, event.domain);
            self.collect(&scratch, woken);
        }
        if self.has(TermKind::Type) {
            scratch.set(TermKind::Type, edition, event.event_type);
            self.collect(&scratch, woken);
        }
        if self.has(TermKind::Tag) {
            for tag in event.extras.tags() {
                scratch.set(TermKind::Tag, edition, tag);
                self.collect(&scratch, woken);
            }
        }
        if let Some(correlation) = event.extras.correlation_id().filter(|_| self.has(TermKind::Correlation)) {
            scratch.set(TermKind::Correlation, edition, correlation);
            self.collect(&scratch, woken);
        }
        self.scratch = scratch;
    }

    fn collect(&self, term: &Term, woken: &mut Vec<Arc<Signal>>) {
        let seats = self.by_term.get(term.bytes()).into_iter().flatten();
        woken.extend(seats.filter(|signal| signal.is_awaited()).cloned());
    }
}

impl Waiters {
    /// Returns a seat for a waiter for events of this query.
    pub(crate) fn seat(self: &Arc<Self>, query: &Query) -> Seat {
        let signal = Arc::new(Signal::default());
        let terms = query.wake_terms();
        let mut registry = self.registry.lock();
        match &terms {
            None => registry.all.push(signal.clone()),
            Some(terms) => {
                for term in terms {
                    registry.kinds |= 1 << term.bytes()[0];
                    registry.by_term.entry(term.bytes().into()).or_default().push(signal.clone());
                }
            }
        }
        drop(registry);
        self.seats.fetch_add(1, SeqCst);
        Seat { waiters: self.clone(), signal, terms }
    }

    /// Collects the waiters that these events, now visible, may interest.
    pub(crate) fn published(&self, events: &mut dyn FnMut(Each<'_>)) {
        if self.seats.load(SeqCst) == 0 {
            return;
        }
        let mut woken = Vec::new();
        let mut registry = self.registry.lock();
        woken.extend(registry.all.iter().filter(|signal| signal.is_awaited()).cloned());
        if !registry.by_term.is_empty() {
            events(&mut |_, event| registry.note(event, &mut woken));
        }
        drop(registry);
        if !woken.is_empty() {
            self.woken.lock().append(&mut woken);
        }
    }

    /// Wakes the waiters that published events may interest.
    pub(crate) fn wake(&self, caller: Caller) {
        if self.seats.load(SeqCst) > 0 {
            let woken = std::mem::take(&mut *self.woken.lock());
            woken.iter().for_each(|signal| signal.wake(caller));
        }
    }

    /// Wakes all waiters, for good.
    pub(crate) fn close(&self, caller: Caller) {
        self.closed.store(true, SeqCst);
        let registry = self.registry.lock();
        let all: Vec<_> = registry.all.iter().chain(registry.by_term.values().flatten()).cloned().collect();
        drop(registry);
        all.iter().for_each(|signal| signal.wake(caller));
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(SeqCst)
    }
}

/// A registration as a waiter, until it is dropped.
pub(crate) struct Seat {
    waiters: Arc<Waiters>,
    pub(crate) signal: Arc<Signal>,
    terms: Option<Vec<Term>>,
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut registry = self.waiters.registry.lock();
        let others = |signal: &Arc<Signal>| !Arc::ptr_eq(signal, &self.signal);
        match &self.terms {
            None => registry.all.retain(others),
            Some(terms) => {
                for term in terms {
                    if let Some(signals) = registry.by_term.get_mut(term.bytes()) {
                        signals.retain(others);
                        if signals.is_empty() {
                            registry.by_term.remove(term.bytes());
                        }
                    }
                }
            }
        }
        if registry.by_term.is_empty() {
            registry.kinds = 0;
        }
        drop(registry);
        self.waiters.seats.fetch_sub(1, SeqCst);
    }
}
