//! Wakers, as one type: for a thread that sleeps, or a task of any async runtime.

use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
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

/// Maximum number of nested callers that are known.
const KNOWN: usize = 4;

/// The callers that are waking something in this thread, the outermost first.
#[derive(Clone, Copy)]
struct Callers {
    depth: usize,
    known: [u64; KNOWN],
}

/// Wakers that a thread calls afterwards.
struct Later {
    /// Number of calls of [`afterwards`] that have not returned.
    calls: usize,
    woken: Vec<(Caller, Waker)>,
}

// Except for the first, without destructors, as the destructor of another thread-local may drop a
// store.
thread_local! {
    /// Created once per thread, so that waiting allocates nothing.
    static THREAD: Waker = Waker::from(Arc::new(Parked(std::thread::current())));
    static WAKING: Cell<Callers> = const { Cell::new(Callers { depth: 0, known: [0; KNOWN] }) };
    static LATER: ManuallyDrop<RefCell<Later>> =
        const { ManuallyDrop::new(RefCell::new(Later { calls: 0, woken: Vec::new() })) };
}

/// Wakes. A waker of an async runtime is not our code: if it panics, the thread that notifies of a
/// commit continues.
pub(crate) fn wake(waker: Waker) {
    let (Ok(()) | Err(_)) = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| waker.wake()));
}

/// An open store, as the one that wakes others during calls that have not returned.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller(u64);

impl Caller {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Caller(NEXT.fetch_add(1, Relaxed))
    }

    /// Wakes, and is registered as the caller meanwhile. A waker that is not our code is kept for
    /// [`afterwards`], if this thread is in such a call.
    pub(crate) fn wake(self, waker: Waker) {
        if is_of_thread(&waker) {
            return waker.wake();
        }
        let Some(waker) = self.keep(waker) else { return };
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

    /// Keeps a waker for later, or returns it.
    fn keep(self, waker: Waker) -> Option<Waker> {
        LATER.with(|later| {
            let mut later = later.borrow_mut();
            match later.calls {
                0 => Some(waker),
                _ => {
                    later.woken.push((self, waker));
                    None
                }
            }
        })
    }

    /// Returns whether this thread is waking something for this caller, so that the present code is
    /// not ours and runs within a call of the caller that has not returned: it must not wait for
    /// that call, nor for this thread. It may wait for another caller, none of whose calls is in
    /// this thread.
    ///
    /// If there are more callers than are known, any may be among them.
    pub(crate) fn is_waking(self) -> bool {
        let Callers { depth, known } = WAKING.get();
        depth > KNOWN || known[..depth].contains(&self.0)
    }
}

/// Calls `run`, which waits for commits while it holds a lock, and wakes tasks only after it: the
/// thread may write the commits of others meanwhile, and a woken task may call in here again, for
/// the same lock. Threads are woken at once.
pub(crate) fn afterwards<T>(run: impl FnOnce() -> T) -> T {
    struct Call;
    impl Drop for Call {
        fn drop(&mut self) {
            let woken = LATER.with(|later| {
                let mut later = later.borrow_mut();
                later.calls -= 1;
                if later.calls == 0 { std::mem::take(&mut later.woken) } else { Vec::new() }
            });
            woken.into_iter().for_each(|(caller, waker)| caller.wake(waker));
        }
    }
    LATER.with(|later| later.borrow_mut().calls += 1);
    let _call = Call;
    run()
}

/// Returns whether a waker is one of [`this_thread`], of any thread. One that is not recognized is
/// only called later.
fn is_of_thread(waker: &Waker) -> bool {
    THREAD.try_with(|own| std::ptr::eq(own.vtable(), waker.vtable())).unwrap_or(false)
}

/// Unparks this thread.
pub(crate) fn this_thread() -> Waker {
    THREAD.with(Waker::clone)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    /// Wakes the next one in the name of its caller, and records at the end which callers are
    /// known.
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

    #[test]
    fn tasks_are_woken_afterwards_and_threads_at_once() {
        struct Counts(AtomicU64);
        impl Wake for Counts {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Relaxed);
            }
        }
        let (task, caller) = (Arc::new(Counts(AtomicU64::new(0))), Caller::new());
        let (other, parked) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            other.send(this_thread()).unwrap();
            std::thread::park();
        });
        let parked = parked.recv().unwrap();
        assert!(is_of_thread(&parked) && !is_of_thread(&task.clone().into()));
        afterwards(|| {
            afterwards(|| caller.wake(task.clone().into()));
            caller.wake(parked);
            thread.join().unwrap();
            assert_eq!(task.0.load(Relaxed), 0);
        });
        assert_eq!(task.0.load(Relaxed), 1);
        // Also if the call ends in a panic.
        let panic = std::panic::AssertUnwindSafe(|| {
            afterwards(|| {
                caller.wake(task.clone().into());
                std::panic::resume_unwind(Box::new("no"));
            })
        });
        assert!(std::panic::catch_unwind(panic).is_err());
        assert_eq!(task.0.load(Relaxed), 2);
        caller.wake(task.clone().into());
        assert_eq!(task.0.load(Relaxed), 3);
    }
}
