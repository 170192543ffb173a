//! Who waits, as one type: a thread that sleeps, or a task of any async runtime.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
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

/// So many callers are known that wake one within the other.
const KNOWN: usize = 4;

/// The callers that are waking somebody in a thread, the outermost first.
#[derive(Clone, Copy)]
struct Callers {
    depth: usize,
    known: [u64; KNOWN],
}

thread_local! {
    /// Made once a thread, so that waiting allocates nothing.
    static THREAD: Waker = Waker::from(Arc::new(Parked(std::thread::current())));
    /// Without a destructor, as a store may be dropped by that of another variable of the thread.
    static WAKING: Cell<Callers> = const { Cell::new(Callers { depth: 0, known: [0; KNOWN] }) };
}

/// Wakes. A waker of an async runtime is not our code: should it panic, the thread that tells the
/// others of a commit goes on.
pub(crate) fn wake(waker: Waker) {
    let (Ok(()) | Err(_)) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| waker.wake()));
}

/// A store, as it is open here: it wakes others within calls that are not over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller(u64);

impl Caller {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Caller(NEXT.fetch_add(1, Relaxed))
    }

    /// Wakes, and is known as the one who does until that is over.
    pub(crate) fn wake(self, waker: Waker) {
        let before = WAKING.get();
        let mut now = before;
        if let Some(place) = now.known.get_mut(before.depth) {
            *place = self.0;
        }
        now.depth += 1;
        WAKING.set(now);
        wake(waker);
        WAKING.set(before);
    }

    /// Whether this thread is waking somebody for this caller, so that what runs now is not our
    /// code, within a call of the caller that is not over: it must not wait for that call, nor for
    /// this thread. For another caller it may: nothing of that one runs in this thread.
    ///
    /// Of more callers than are known, any may be one.
    pub(crate) fn is_waking(self) -> bool {
        let Callers { depth, known } = WAKING.get();
        depth > KNOWN || known[..depth].contains(&self.0)
    }
}

/// What unparks this thread.
pub(crate) fn this_thread() -> Waker {
    THREAD.with(Waker::clone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Wakes the next one in the name of its caller, and notes at the end who is waking.
    struct Nested(Mutex<Vec<Caller>>, Arc<Mutex<Vec<bool>>>, Vec<Caller>);

    impl Wake for Nested {
        fn wake(self: Arc<Self>) {
            let next = self.0.lock().unwrap().pop();
            match next {
                Some(caller) => caller.wake(self.clone().into()),
                None => *self.1.lock().unwrap() = self.2.iter().map(|caller| caller.is_waking()).collect(),
            }
        }
    }

    #[test]
    fn callers_are_told_apart_as_far_as_they_are_known() {
        let all: Vec<Caller> = (0..6).map(|_| Caller::new()).collect();
        for depth in 1..=6 {
            let noted = Arc::new(Mutex::new(Vec::new()));
            wake(Arc::new(Nested(Mutex::new(all[..depth].to_vec()), noted.clone(), all.clone())).into());
            let expected: Vec<bool> = (0..6).map(|n| n < depth || depth > KNOWN).collect();
            assert_eq!(*noted.lock().unwrap(), expected, "{depth}");
            assert!(all.iter().all(|caller| !caller.is_waking()));
        }
    }
}
