//! Those who do something whenever a commit is visible, before its caller goes on, and when the
//! store is closed: projections.

use crate::store::Store;
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

/// Somebody who is told of commits, by those who make them.
pub(crate) trait Hook: Send + Sync {
    /// The name and the version of the projection: only one of each runs.
    fn id(&self) -> (&str, u32);
    /// All events below this position are visible. Called by who has committed the last of them,
    /// several at a time and in any order.
    fn committed(&self, store: &Store, end: u64);
    /// The store will be closed. Events can still be made durable, and files be written.
    fn closing(&self);
}

#[derive(Default)]
pub(crate) struct Hooks {
    /// How many want to be told of commits: appends look at nothing else as long as it is 0.
    inline: AtomicUsize,
    all: RwLock<Arc<Vec<Hung>>>,
}

#[derive(Clone)]
struct Hung {
    hook: Arc<dyn Hook>,
    inline: bool,
}

impl Hooks {
    /// Tells `hook` of the end of the store. `false` if there is one with this id.
    pub(crate) fn add(&self, hook: Arc<dyn Hook>) -> bool {
        let mut all = self.all.write();
        let free = all.iter().all(|hung| hung.hook.id() != hook.id());
        if free {
            Arc::make_mut(&mut all).push(Hung { hook, inline: false });
        }
        free
    }

    /// Tells it of commits, too: of all that are begun from now on.
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

    /// Whether anybody wants to be told of commits.
    #[inline]
    pub(crate) fn has_inline(&self) -> bool {
        self.inline.load(SeqCst) > 0
    }

    pub(crate) fn committed(&self, store: &Store, end: u64) {
        loop {
            // Not under the lock: it is not our code.
            let all = self.all.read().clone();
            all.iter().filter(|hung| hung.inline).for_each(|hung| hung.hook.committed(store, end));
            // One that has taken the place of another meanwhile has not been told.
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
