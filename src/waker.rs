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

/// What unparks this thread.
pub(crate) fn this_thread() -> Waker {
    THREAD.with(Waker::clone)
}
