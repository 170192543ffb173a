//! The gate of one owner of a directory: until when its work may continue, and when it must be
//! over.
//!
//! Work of several calls holds a token, and [`Gate::end`] waits for all tokens. Each single call
//! that changes something passes the gate, and none does once it is shut, whoever makes it. `loom`
//! tries every order of a few threads:
//! `RUSTFLAGS="--cfg annals_loom --cfg annals_internals" cargo test --release --lib gate`. (It
//! finds a fault if the end does not wait for tokens, if a token is given without checking for the
//! end under the lock, if a call is made after checking the gate instead of while holding it, and a
//! deadlock if the last token does not wake the waiter.)

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
    /// Held by each call that changes something; `true` if no more are allowed.
    shut: RwLock<bool>,
    /// The threads with work of several calls; a thread with nested work is in it more than once.
    at_work: Mutex<Vec<ThreadId>>,
    /// Notified when work is done.
    done: Condvar,
    /// No new work may begin.
    ending: AtomicBool,
}

/// Work on the directory is in progress: the lock is not released before this is dropped.
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

    /// Begins work of several calls; `None` once the end has begun.
    pub(super) fn work(&self) -> Option<WorkToken<'_>> {
        let mut at_work = self.at_work();
        if self.is_ending() {
            return None;
        }
        at_work.push(thread::current().id());
        Some(WorkToken(self))
    }

    /// Returns whether long work should stop.
    pub(super) fn is_ending(&self) -> bool {
        self.ending.load(Ordering::SeqCst)
    }

    /// Lets no more work begin, and waits for the work of other threads. This thread may have work
    /// in progress, too.
    pub(super) fn end_work(&self) {
        let this = thread::current().id();
        let mut at_work = self.at_work();
        self.ending.store(true, Ordering::SeqCst);
        while at_work.iter().any(|&thread| thread != this) {
            at_work = self.done.wait(at_work).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits for work and calls in progress, and refuses later ones.
    pub(super) fn end(&self) {
        self.end_work();
        self.close();
    }

    /// Refuses later calls, without waiting for work in progress.
    pub(super) fn shut(&self) {
        self.ending.store(true, Ordering::SeqCst);
        self.close();
    }

    fn close(&self) {
        *self.shut.write().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Makes a call that changes something; `None` if none is allowed any more.
    pub(super) fn pass<T>(&self, call: impl FnOnce() -> T) -> Option<T> {
        let shut = self.shut.read().unwrap_or_else(PoisonError::into_inner);
        (!*shut).then(call)
    }
}

#[cfg(all(test, annals_loom))]
mod tests {
    use super::*;
    use loom::sync::Arc;

    /// The work of an owner, and whether its directory already belongs to another.
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

        /// A call that must not be made once the directory belongs to another owner. Returns
        /// whether it was made.
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
                assert!(!self.is_gone(), "a token after the end");
                assert!((0..calls).all(|_| self.call()), "work is cut short by an end that did not wait");
                assert!(!self.is_gone(), "the end has not waited for a token");
                drop(work);
            }
        }

        fn leave(&self) {
            self.gone.store(true, Ordering::SeqCst);
            assert!(self.gate.work().is_none() && !self.call(), "after the end");
        }
    }

    /// The end waits for the work of two threads, or it does not begin: there is neither a call nor
    /// a token after it, and a lost wake-up is a deadlock, which loom reports.
    #[test]
    fn nothing_is_done_after_the_end() {
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

    /// A lost lock does not wait for work, but for each call in progress.
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

    /// A thread with work in progress ends everything itself, as one that drops the last handle
    /// does: it waits for the other one, and not for itself.
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
