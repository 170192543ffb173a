//! Hooks: what runs whenever a commit is visible, before its caller continues, and when the store
//! is closed. Projections use them.

use crate::store::Store;
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Is called after commits, in the threads that make them.
pub(crate) trait Hook: Send + Sync {
    /// The name and the version of the projection: only one of each runs.
    fn id(&self) -> (&str, u32);
    /// All events below this position are visible. Called by the thread that has committed the last
    /// of them, by several at a time and in any order.
    fn committed(&self, store: &Store, end: u64);
    /// The store will be closed. Events can still be made durable, and files be written.
    fn closing(&self);
}

#[derive(Default)]
pub(crate) struct Hooks {
    /// Number of hooks that want commits: appends check nothing else while it is 0.
    inline: AtomicUsize,
    all: RwLock<Arc<Vec<Hung>>>,
}

#[derive(Clone)]
struct Hung {
    hook: Arc<dyn Hook>,
    inline: bool,
}

impl Hooks {
    /// Registers `hook` for the end of the store. Returns `false` if there is one with this id.
    pub(crate) fn add(&self, hook: Arc<dyn Hook>) -> bool {
        let mut all = self.all.write();
        let free = all.iter().all(|hung| hung.hook.id() != hook.id());
        if free {
            Arc::make_mut(&mut all).push(Hung { hook, inline: false });
        }
        free
    }

    /// Registers it for commits, too: for all that begin from now on.
    pub(crate) fn set_inline(&self, hook: &Arc<dyn Hook>) {
        let mut all = self.all.write();
        for hung in Arc::make_mut(&mut all).iter_mut().filter(|hung| !hung.inline && Arc::ptr_eq(&hung.hook, hook)) {
            hung.inline = true;
            self.inline.fetch_add(1, SeqCst);
        }
    }

    pub(crate) fn remove(&self, hook: &Arc<dyn Hook>) {
        let mut all = self.all.write();
        let is_meant = |hung: &Hung| Arc::ptr_eq(&hung.hook, hook);
        let inline = all.iter().filter(|hung| hung.inline && is_meant(hung)).count();
        Arc::make_mut(&mut all).retain(|hung| !is_meant(hung));
        self.inline.fetch_sub(inline, SeqCst);
    }

    /// Returns whether any hook wants commits.
    #[inline]
    pub(crate) fn has_inline(&self) -> bool {
        self.inline.load(SeqCst) > 0
    }

    pub(crate) fn committed(&self, store: &Store, end: u64) {
        loop {
            // Called without the lock: it is not our code.
            let all = self.all.read().clone();
            all.iter().filter(|hung| hung.inline).for_each(|hung| hung.hook.committed(store, end));
            // A hook that has replaced another in the meantime has not been called.
            if Arc::ptr_eq(&all, &self.all.read()) {
                return;
            }
        }
    }

    pub(crate) fn closing(&self) {
        let all = self.all.read().clone();
        all.iter().for_each(|hung| hung.hook.closing());
    }
}
