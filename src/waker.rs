//! Who waits, as one type: a thread that sleeps, or a task of any async runtime.

use std::cell::Cell;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::Thread;

struct Parked(Thread);

impl Wake for Parked {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.0.unpark();
    }
}

thread_local! {
    /// Made once a thread, so that waiting allocates nothing.
    static THREAD: Waker = Waker::from(Arc::new(Parked(std::thread::current())));
    /// Somebody is being woken by this thread.
    static WAKING: Cell<bool> = const { Cell::new(false) };
}

/// Wakes. A waker of an async runtime is not our code: should it panic, the thread that tells the
/// others of a commit goes on.
pub(crate) fn wake(waker: Waker) {
    let before = WAKING.replace(true);
    let (Ok(()) | Err(_)) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| waker.wake()));
    WAKING.set(before);
}

/// Whether this thread is waking somebody, so that what runs now is not our code, within a call of
/// ours that is not over: it must not wait for that call, nor for this thread.
pub(crate) fn is_waking() -> bool {
    WAKING.get()
}

/// What unparks this thread.
pub(crate) fn this_thread() -> Waker {
    THREAD.with(Waker::clone)
}
