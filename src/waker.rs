//! Who waits, as one type: a thread that sleeps, or a task of any async runtime.

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
}

/// Wakes. A waker of an async runtime is not our code: should it panic, whoever tells the others of a commit goes on.
pub(crate) fn wake(waker: Waker) {
    let (Ok(()) | Err(_)) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| waker.wake()));
}

/// What unparks this thread.
pub(crate) fn this_thread() -> Waker {
    THREAD.with(Waker::clone)
}
