//! Until when the work of one owner of a directory may go on, and when it has to be over.
//!
//! Work that takes several calls holds a token, and [`Gate::end`] waits for all of them. Each
//! single call that changes something passes the gate, and none of them does once it is shut,
//! anyone who makes it. `loom` tries every order of a few threads:
//! `RUSTFLAGS="--cfg annals_loom --cfg annals_internals" cargo test --release --lib gate`. (It
//! finds a fault if the end does not wait for tokens, if a token is given without a look at the end
//! under the lock, if a call is made after the gate was looked at rather than while it is held, and
//! a deadlock if the last token does not wake who waits for it.)

#[cfg(all(test, annals_loom))]
use loom::{
    sync::atomic::{AtomicBool, Ordering},
    sync::{Condvar, Mutex, MutexGuard, RwLock},
    thread::{self, ThreadId},
};
use std::sync::PoisonError;
#[cfg(not(all(test, annals_loom)))]
use std::{
    sync::atomic::{AtomicBool, Ordering},
    sync::{Condvar, Mutex, MutexGuard, RwLock},
    thread::{self, ThreadId},
};

#[derive(Debug)]
pub(super) struct Gate {
    /// Held by each call that changes something; says whether there may be no more of them.
    shut: RwLock<bool>,
    /// The threads at work that takes several calls; one that came to more work stands there more
    /// than once.
    at_work: Mutex<Vec<ThreadId>>,
    /// Told when work is done.
    done: Condvar,
    /// No work begins any more.
    ending: AtomicBool,
}

/// Work on the directory is under way: the lock is not released before this is dropped.
#[derive(Debug)]
pub(crate) struct WorkToken<'a>(&'a Gate);

impl Drop for WorkToken<'_> {
    fn drop(&mut self) {
        let mut at_work = self.0.at_work();
        let this = thread::current().id();
        if let Some(at) = at_work.iter().rposition(|&thread| thread == this) {
            at_work.swap_remove(at);
        }
        if self.0.is_ending() {
            self.0.done.notify_all();
        }
    }
}

impl Gate {
    pub(super) fn new() -> Self {
        Gate {
            shut: RwLock::new(false),
            at_work: Mutex::new(Vec::new()),
            done: Condvar::new(),
            ending: AtomicBool::new(false),
        }
    }

    fn at_work(&self) -> MutexGuard<'_, Vec<ThreadId>> {
        self.at_work.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins work that takes several calls; `None` once the end has begun.
    pub(super) fn work(&self) -> Option<WorkToken<'_>> {
        let mut at_work = self.at_work();
        if self.is_ending() {
            return None;
        }
        at_work.push(thread::current().id());
        Some(WorkToken(self))
    }

    /// Whether work that takes long had better stop.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    /// Lets no more work begin, and waits for what other threads have begun. This one may be at
    /// work, too.
    pub(super) fn end_work(&self) {
        let this = thread::current().id();
        let mut at_work = self.at_work();
        self.ending.store(true, Ordering::SeqCst);
        while at_work.iter().any(|&thread| thread != this) {
            at_work = self.done.wait(at_work).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for work and calls that are under way, and lets no further ones through.
    pub(super) fn end(&self) {
        self.end_work();
        self.close();
    }

    /// Lets no further calls through, without waiting for work that is under way.
    pub(super) fn shut(&self) {
        self.ending.store(true, Ordering::SeqCst);
        self.close();
    }

    fn close(&self) {
        *self.shut.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Makes a call that changes something; `None` if it may not be made any more.
    pub(super) fn pass<T>(&self, call: impl FnOnce() -> T) -> Option<T> {
        let shut = self.shut.read().unwrap_or_else(PoisonError::into_inner);
        (!*shut).then(call)
    }
}

#[cfg(all(test, annals_loom))]
mod tests {
    use super::*;
    use loom::sync::Arc;

    /// What an owner does, and whether its directory is another's by now.
    struct Owner {
        gate: Gate,
        gone: AtomicBool,
        calls: Mutex<u32>,
    }

    impl Owner {
        fn new() -> Arc<Owner> {
            Arc::new(Owner { gate: Gate::new(), gone: AtomicBool::new(false), calls: Mutex::new(0) })
        }

        fn is_gone(&self) -> bool {
            self.gone.load(Ordering::SeqCst)
        }

        /// A call that must not be made when the directory is another's. Returns whether it was.
        fn call(&self) -> bool {
            let made = self.gate.pass(|| {
                assert!(!self.is_gone(), "a call in the directory of another owner");
                *self.calls.lock().unwrap() += 1;
                assert!(!self.is_gone(), "a call that has outlived its owner");
            });
            made.is_some()
        }

        /// Calls under one token: all are made, or none.
        fn work(&self, calls: u32) {
            if let Some(work) = self.gate.work() {
                assert!(!self.is_gone(), "a token behind the end");
                assert!((0..calls).all(|_| self.call()), "work is cut short by an end that did not wait");
                assert!(!self.is_gone(), "the end has not waited for a token");
                drop(work);
            }
        }

        fn leave(&self) {
            self.gone.store(true, Ordering::SeqCst);
            assert!(self.gate.work().is_none() && !self.call(), "behind the end");
        }
    }

    /// The end waits for two threads at work, or they do not begin: there is neither a call nor a
    /// token after it, and a wake-up that is lost is a deadlock, which loom reports.
    #[test]
    fn nothing_is_done_behind_the_end() {
        loom::model(|| {
            let owner = Owner::new();
            let workers = [(); 2].map(|()| {
                let owner = owner.clone();
                thread::spawn(move || owner.work(1))
            });
            owner.gate.end();
            let calls = *owner.calls.lock().unwrap();
            owner.leave();
            workers.into_iter().for_each(|worker| worker.join().unwrap());
            assert_eq!(*owner.calls.lock().unwrap(), calls);
        });
    }

    /// A lock that is lost waits for no work, but for each call that is under way.
    #[test]
    fn no_call_passes_a_gate_that_is_shut() {
        loom::model(|| {
            let owner = Owner::new();
            let worker = {
                let owner = owner.clone();
                thread::spawn(move || {
                    let work = owner.gate.work();
                    owner.call();
                    owner.call();
                    drop(work);
                })
            };
            owner.gate.shut();
            owner.leave();
            worker.join().unwrap();
            owner.gate.end();
        });
    }

    /// A thread at work ends it all itself, as one that drops the last handle does: it waits for
    /// the other one, and not for itself.
    #[test]
    fn who_is_at_work_can_end_it() {
        loom::model(|| {
            let owner = Owner::new();
            let worker = {
                let owner = owner.clone();
                thread::spawn(move || owner.work(2))
            };
            let own = [owner.gate.work().unwrap(), owner.gate.work().unwrap()];
            owner.gate.end();
            owner.leave();
            drop(own);
            worker.join().unwrap();
        });
    }
}
