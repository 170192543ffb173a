//! The thread of a projection that has one.

use super::Projection;
use super::engine::Engine;
use crate::store::Store;
use crate::waker::this_thread;
use std::thread;
use std::time::Instant;

/// Applies existing and new events, until the projection is stopped or the store closed.
///
/// It is woken by events that may match its query; and from time to time to advance over others, to
/// save, and to try again if the log could not be read.
pub(super) fn follow<P: Projection>(store: &Store, engine: &Engine<P>) {
    let seat = store.waiters().seat(engine.query());
    engine.set_alarm(this_thread());
    loop {
        // The status reports the error.
        let advanced = engine.advance(store);
        engine.save_now_and_then();
        let is_over = || engine.is_stopped() || store.waiters().is_closed();
        if is_over() {
            return;
        }
        seat.signal.prepare(this_thread());
        // Checked once more: nothing wakes this thread for what came before it registered.
        let idle = advanced.is_err() || engine.is_paused() || engine.next() >= store.len();
        let until = Instant::now() + engine.tick();
        while idle && seat.signal.is_awaited() && !engine.is_alarmed() && !is_over() {
            match until.saturating_duration_since(Instant::now()) {
                left if left.is_zero() => break,
                left => thread::park_timeout(left),
            }
        }
        seat.signal.cancel();
        engine.take_alarm();
    }
}
