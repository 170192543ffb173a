//! A signal: sleep until something has happened, without missing it.
//!
//! A waiter registers first, then checks once more whether there is something to do, and only then
//! sleeps. A notifier makes its news visible first, and then looks for waiters. Both registering
//! and looking happen under one lock, so the second of them sees the first. `loom` tries every
//! order: `RUSTFLAGS="--cfg annals_loom --cfg annals_internals" cargo test --release --lib signal`.
//! (It finds a deadlock if the second check is left out, or if the notifier looks before the
//! watermark rises.)

use crate::waker::Caller;
#[cfg(all(test, annals_loom))]
use loom::sync::Mutex;
#[cfg(not(all(test, annals_loom)))]
use std::sync::Mutex;
use std::sync::PoisonError;
use std::task::Waker;

/// A thread or task that may be asleep.
#[derive(Default)]
pub(crate) struct Signal(Mutex<Sleeper>);

#[derive(Default)]
struct Sleeper {
    awaited: bool,
    waker: Option<Waker>,
}

impl Signal {
    fn sleeper<T>(&self, act: impl FnOnce(&mut Sleeper) -> T) -> T {
        act(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Registers a waker that is about to sleep. The condition must be checked once more after
    /// this.
    pub(crate) fn prepare(&self, waker: Waker) {
        self.sleeper(|sleeper| *sleeper = Sleeper { awaited: true, waker: Some(waker) });
    }

    /// Returns whether no waiter sleeps.
    pub(crate) fn cancel(&self) {
        self.sleeper(|sleeper| sleeper.awaited = false);
    }

    /// Returns whether a waiter sleeps that has not been woken.
    pub(crate) fn is_awaited(&self) -> bool {
        self.sleeper(|sleeper| sleeper.awaited)
    }

    /// Wakes the waiters. The condition must be visible before this.
    pub(crate) fn wake(&self, caller: Caller) {
        let waker = self.sleeper(|sleeper| std::mem::take(&mut sleeper.awaited).then(|| sleeper.waker.take()));
        // Called without the lock: it is not our code.
        if let Some(waker) = waker.flatten() {
            caller.wake(waker);
        }
    }
}

#[cfg(all(test, annals_loom))]
mod tests {
    use super::*;
    use loom::sync::atomic::{AtomicU64, Ordering::SeqCst};
    use loom::sync::{Arc, Condvar};
    use loom::thread;
    use std::task::Wake;

    /// A thread that sleeps. (Not a parked one: those of loom are not woken spuriously.)
    #[derive(Default)]
    struct Thread {
        woken: Mutex<bool>,
        wake: Condvar,
    }

    impl Thread {
        fn sleep(&self) {
            let mut woken = self.woken.lock().unwrap();
            while !*woken {
                woken = self.wake.wait(woken).unwrap();
            }
            *woken = false;
        }
    }

    impl Wake for Thread {
        fn wake(self: std::sync::Arc<Self>) {
            *self.woken.lock().unwrap() = true;
            self.wake.notify_one();
        }
    }

    /// Two commits raise the watermark while a reader sleeps until it has seen both: a lost wake-up
    /// is a deadlock, which loom reports.
    #[test]
    fn no_wake_up_is_lost() {
        loom::model(|| {
            let signal = Arc::new(Signal::default());
            let watermark = Arc::new(AtomicU64::new(0));
            let publisher = {
                let (signal, watermark) = (signal.clone(), watermark.clone());
                thread::spawn(move || {
                    for upto in 1..=2 {
                        watermark.store(upto, SeqCst);
                        signal.wake(Caller::new());
                    }
                })
            };
            let reader = std::sync::Arc::new(Thread::default());
            let mut seen = 0;
            while seen < 2 {
                signal.prepare(Waker::from(reader.clone()));
                let now = watermark.load(SeqCst);
                if now > seen {
                    signal.cancel();
                    seen = now;
                    continue;
                }
                while signal.is_awaited() {
                    reader.sleep();
                }
            }
            publisher.join().unwrap();
        });
    }
}
