//! Versions of one projection side by side: the old one answers until the new one has caught up,
//! and then, at once, the new one does.

use super::files;
use super::model::ReadModel;
use super::{Project, Projection, ProjectionStatus};
use crate::error::{Error, Result, told_by};
use crate::store::Store;
use parking_lot::{Condvar, Mutex, RwLock};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// The new version replaces the old one when at most this many positions are missing: it applies
/// them while the old one waits.
const CLOSE: u64 = 1000;

impl Store {
    /// Versions of one projection, whose states may be of different types, and which answer the
    /// same questions.
    pub fn versions<Q: ?Sized + 'static, A: 'static>(&self) -> VersionSet<Q, A> {
        VersionSet { store: self.clone(), inline: false, candidates: Vec::new() }
    }
}

/// Versions of one projection that do not run yet. From [`Store::versions`].
///
/// A question has the type `Q` and an answer the type `A`. Each version has a function that answers
/// questions from its state, so versions may have states of different types.
///
/// ```
/// use annals::{Event, Expected, NewEvent, Projection, Result, Store, StreamId};
/// use std::collections::BTreeMap;
/// use std::time::Duration;
///
/// struct Total;
/// impl Projection for Total {
///     type State = u64;
///     fn name(&self) -> &str {
///         "placed"
///     }
///     fn version(&self) -> u32 {
///         1
///     }
///     fn apply(&self, total: &mut u64, _: &Event) -> Result<()> {
///         *total += 1;
///         Ok(())
///     }
/// }
/// struct ByType;
/// impl Projection for ByType {
///     type State = BTreeMap<String, u64>;
///     fn name(&self) -> &str {
///         "placed"
///     }
///     fn version(&self) -> u32 {
///         2
///     }
///     fn apply(&self, counts: &mut Self::State, event: &Event) -> Result<()> {
///         *counts.entry(event.event_type().to_owned()).or_default() += 1;
///         Ok(())
///     }
/// }
///
/// let store = Store::in_memory();
/// let order = StreamId::new("order", "1")?;
/// store.append(&order, Expected::Any, [NewEvent::new("Placed", "")])?;
/// store.projection(Total).catch_up()?.stop()?; // version 1 has been saved
///
/// let placed = store
///     .versions::<str, u64>()
///     .version(store.projection(Total), |total, _| *total)
///     .version(store.projection(ByType), |counts, event_type| counts.get(event_type).copied().unwrap_or(0))
///     .open()?;
/// assert_eq!(placed.ask("Placed")?, 1); // version 1 or version 2
/// assert!(placed.wait_switched(Duration::from_secs(10))?);
/// assert_eq!((placed.version(), placed.ask("Paid")?), (2, 0));
/// # Ok::<(), annals::Error>(())
/// ```
#[must_use = "nothing happens before `open`"]
pub struct VersionSet<Q: ?Sized, A> {
    store: Store,
    inline: bool,
    candidates: Vec<Candidate<Q, A>>,
}

/// A version that does not run yet.
struct Candidate<Q: ?Sized, A> {
    name: String,
    version: u32,
    begin: Box<dyn FnOnce() -> Result<RunningVersion<Q, A>> + Send>,
}

/// A version that runs: it does not matter any more what its state is.
type RunningVersion<Q, A> = Arc<dyn Version<Q, A>>;

trait Version<Q: ?Sized, A>: Send + Sync {
    fn ask(&self, question: &Q) -> Result<A>;
    fn version(&self) -> u32;
    fn position(&self) -> Option<u64>;
    fn wait_for(&self, position: u64, timeout: Duration) -> Result<bool>;
    fn status(&self) -> ProjectionStatus;
    fn catch_up(&self) -> Result<()>;
    fn save(&self) -> Result<()>;
    /// Applies new events from now on: inline, or on its own thread.
    fn go(&self, inline: bool) -> Result<()>;
    /// Calls `f` while the state does not change.
    fn hold(&self, f: &mut dyn FnMut() -> Result<()>) -> Result<()>;
    fn retire(&self, save: bool);
}

/// A read model and the function that answers questions out of its state.
struct AnsweringModel<P: Projection, F> {
    model: ReadModel<P>,
    answer: F,
}

impl<P, F, Q, A> Version<Q, A> for AnsweringModel<P, F>
where
    P: Projection,
    F: Fn(&P::State, &Q) -> A + Send + Sync,
    Q: ?Sized,
{
    fn ask(&self, question: &Q) -> Result<A> {
        self.model.read(|state| (self.answer)(state, question))
    }

    fn version(&self) -> u32 {
        self.model.engine().version()
    }

    fn position(&self) -> Option<u64> {
        self.model.position()
    }

    fn wait_for(&self, position: u64, timeout: Duration) -> Result<bool> {
        self.model.wait_for(position, timeout)
    }

    fn status(&self) -> ProjectionStatus {
        self.model.status()
    }

    fn catch_up(&self) -> Result<()> {
        self.model.catch_up().map(drop)
    }

    fn save(&self) -> Result<()> {
        self.model.save()
    }

    fn go(&self, inline: bool) -> Result<()> {
        if inline { self.model.set_inline() } else { self.model.follow() }
    }

    fn hold(&self, f: &mut dyn FnMut() -> Result<()>) -> Result<()> {
        self.model.engine().hold(f)
    }

    fn retire(&self, save: bool) {
        self.model.retire(save);
    }
}

impl<Q: ?Sized + 'static, A: 'static> VersionSet<Q, A> {
    /// Adds a version, and the function that answers questions from its state. All versions must
    /// have the same name and different numbers.
    pub fn version<P: Projection>(
        mut self,
        project: Project<P>,
        answer: impl Fn(&P::State, &Q) -> A + Send + Sync + 'static,
    ) -> Self {
        let (name, version) = (project.projection.name().to_owned(), project.projection.version());
        let begin = Box::new(move || Ok(Arc::new(AnsweringModel { model: project.begin()?, answer }) as _));
        self.candidates.push(Candidate { name, version, begin });
        self
    }

    /// Makes the version that answers [inline](Project::inline). Default: [live](Project::live).
    pub fn inline(mut self) -> Self {
        self.inline = true;
        self
    }

    /// Starts the versions. The newest version whose saved state had caught up answers. If there is
    /// none, the oldest version with a saved state answers; without any saved state, the newest
    /// version. The version that answers catches up first, which blocks.
    ///
    /// Newer versions catch up on a thread, one after the other. A version that has caught up is
    /// saved, replaces the one that answers, and the file of the replaced one is removed. Answers
    /// never go back: the new version has applied everything that the old one has. Saved states of
    /// versions older than the one that answers are removed.
    ///
    /// # Errors
    ///
    /// * [`Error::Invalid`] if there is no version, if two have the same number, or if names
    ///   differ;
    /// * as for [`Project`](Project#errors), of the version that answers. A newer one that fails
    ///   never answers; [`VersionedModel::wait_switched`] returns why.
    pub fn open(mut self) -> Result<VersionedModel<Q, A>> {
        self.candidates.sort_by_key(|candidate| candidate.version);
        let Some(name) = self.candidates.first().map(|first| first.name.clone()) else {
            return Err(Error::invalid("versions", "there is none"));
        };
        let same = |pair: &[Candidate<Q, A>]| pair[0].version == pair[1].version;
        if self.candidates.windows(2).any(same) || self.candidates.iter().any(|other| other.name != name) {
            return Err(Error::invalid("versions", "they must have one name, and different versions"));
        }
        let site = self.store.site();
        let saved: Vec<Option<bool>> = (self.candidates.iter())
            .map(|candidate| files::load(&site, &name, candidate.version).ok().flatten().map(|file| file.head.complete))
            .collect();
        let complete = saved.iter().rposition(|saved| *saved == Some(true));
        let first = complete.or(saved.iter().position(Option::is_some)).unwrap_or(saved.len() - 1);
        let mut rest = self.candidates.drain(first..);
        let answering = (rest.next().expect("there is one at this place").begin)()?;
        let newer: Vec<_> = rest.collect();
        answering.catch_up()?;
        answering.go(self.inline)?;
        if answering.save().is_ok() {
            remove_older(&self.store, &name, answering.version());
        }
        let shared = Arc::new(VersionsShared {
            store: self.store,
            name,
            inline: self.inline,
            current: RwLock::new(answering),
            coming: Mutex::new(Coming { running: None, left: newer.len(), failure: None }),
            changed: Condvar::new(),
            stopped: AtomicBool::new(false),
        });
        let thread = match newer.is_empty() {
            true => None,
            false => {
                let (shared, named) = (shared.clone(), thread::Builder::new().name("annals-versions".into()));
                let path = shared.store.path().to_owned();
                let spawned = named.spawn(move || shared.replace(newer));
                Some(spawned.map_err(|e| Error::io("spawn a thread", &path, e))?)
            }
        };
        Ok(VersionedModel { shared, thread })
    }
}

/// A file that cannot be removed is removed the next time.
fn remove_older(store: &Store, name: &str, version: u32) {
    let site = store.site();
    let listed = files::list(&site).unwrap_or_default();
    for older in listed.saved.iter().filter(|saved| saved.name == name && saved.version < version) {
        let (Ok(_) | Err(_)) = files::delete(&site, name, older.version);
    }
}

struct VersionsShared<Q: ?Sized, A> {
    store: Store,
    name: String,
    inline: bool,
    current: RwLock<RunningVersion<Q, A>>,
    coming: Mutex<Coming<Q, A>>,
    /// Notified when a version has replaced another one or has failed.
    changed: Condvar,
    stopped: AtomicBool,
}

struct Coming<Q: ?Sized, A> {
    /// The version that is catching up.
    running: Option<RunningVersion<Q, A>>,
    /// The number of versions that have not answered yet.
    left: usize,
    /// Why none of them will.
    failure: Option<Error>,
}

impl<Q: ?Sized + 'static, A: 'static> VersionsShared<Q, A> {
    /// Lets each newer version catch up and replace the one that answers, in order.
    fn replace(&self, newer: Vec<Candidate<Q, A>>) {
        for candidate in newer {
            let version = candidate.version;
            // `Projection::apply` may panic; callers that wait get an error.
            let replaced = catch_unwind(AssertUnwindSafe(|| {
                let next = (candidate.begin)()?;
                self.coming.lock().running = Some(next.clone());
                self.replace_with(&next)
            }));
            let replaced = replaced.unwrap_or_else(|panic| {
                let (projection, why) = (self.name.clone(), told_by(&*panic));
                Err(Error::ProjectionFailed { projection, version, position: 0, why })
            });
            let mut coming = self.coming.lock();
            match replaced {
                Ok(()) => {
                    coming.running = None;
                    coming.left -= 1;
                }
                Err(error) => coming.failure = Some(error),
            }
            self.changed.notify_all();
            if coming.failure.is_some() {
                return;
            }
        }
    }

    fn replace_with(&self, next: &RunningVersion<Q, A>) -> Result<()> {
        if self.stopped.load(SeqCst) {
            // `Drop` may not have seen it in `coming`.
            next.retire(true);
        }
        loop {
            next.catch_up()?;
            if self.stopped.load(SeqCst) || self.store.waiters().is_closed() {
                return Err(Error::Closed);
            }
            if self.store.len() - next.position().map_or(0, |position| position + 1) <= CLOSE {
                break;
            }
        }
        // Saved before it answers: after a crash in between, the new version answers and the old
        // file is removed.
        let saved = next.save();
        let old = self.current.read().clone();
        old.hold(&mut || {
            // In this order: `catch_up` applies an append that has not found the new version yet.
            next.go(self.inline)?;
            next.catch_up()?;
            if self.stopped.load(SeqCst) {
                return Err(Error::Closed);
            }
            *self.current.write() = next.clone();
            // It applies nothing more: a caller that still holds it must not see an event that the
            // new version has not applied.
            old.retire(saved.is_err());
            Ok(())
        })
        .inspect_err(|_| next.retire(true))?;
        if saved.is_ok() {
            remove_older(&self.store, &self.name, next.version());
        }
        Ok(())
    }
}

/// The version that answers, and the newer ones that catch up. From [`VersionSet::open`].
///
/// Dropping it stops and saves all versions.
pub struct VersionedModel<Q: ?Sized, A> {
    shared: Arc<VersionsShared<Q, A>>,
    thread: Option<JoinHandle<()>>,
}

impl<Q: ?Sized, A> VersionedModel<Q, A> {
    fn current(&self) -> RunningVersion<Q, A> {
        self.shared.current.read().clone()
    }

    /// Returns the answer of the version that answers now.
    ///
    /// # Errors
    ///
    /// As [`ReadModel::read`].
    pub fn ask(&self, question: &Q) -> Result<A> {
        self.current().ask(question)
    }

    /// Returns the number of the version that answers now.
    pub fn version(&self) -> u32 {
        self.current().version()
    }

    /// Returns the position up to which the version that answers has applied all events of its
    /// query; `None` if it has applied none.
    pub fn position(&self) -> Option<u64> {
        self.current().position()
    }

    /// Blocks until the version that answers has applied everything up to this position, as
    /// [`ReadModel::wait_for`] does.
    ///
    /// # Errors
    ///
    /// As [`ReadModel::wait_for`].
    pub fn wait_for(&self, position: u64, timeout: Duration) -> Result<bool> {
        let deadline = Instant::now().checked_add(timeout);
        loop {
            let current = self.current();
            let left = deadline.map_or(Duration::MAX, |deadline| deadline.saturating_duration_since(Instant::now()));
            match current.wait_for(position, left) {
                // It ended because another version has replaced it.
                Err(Error::Closed) if !Arc::ptr_eq(&current, &self.current()) => {}
                waited => return waited,
            }
        }
    }

    /// Blocks until the newest version answers. Returns `false` if `timeout` has passed before.
    ///
    /// # Errors
    ///
    /// [`Error::ProjectionFailed`] and others that keep a newer version from answering;
    /// [`Error::Closed`] if the store was closed.
    pub fn wait_switched(&self, timeout: Duration) -> Result<bool> {
        let deadline = Instant::now().checked_add(timeout);
        let mut coming = self.shared.coming.lock();
        loop {
            if let Some(failure) = &coming.failure {
                return Err(failure.clone());
            }
            if coming.left == 0 {
                return Ok(true);
            }
            match deadline {
                Some(deadline) if self.shared.changed.wait_until(&mut coming, deadline).timed_out() => {
                    return Ok(coming.left == 0);
                }
                Some(_) => {}
                None => self.shared.changed.wait(&mut coming),
            }
        }
    }

    /// Returns the status of the version that answers, followed by that of the version that is
    /// catching up, if there is one.
    pub fn status(&self) -> Vec<ProjectionStatus> {
        let current = self.current().status();
        let coming = self.shared.coming.lock().running.clone();
        let coming = coming.map(|coming| coming.status()).filter(|coming| coming.version != current.version);
        std::iter::once(current).chain(coming).collect()
    }
}

impl<Q: ?Sized, A> Drop for VersionedModel<Q, A> {
    fn drop(&mut self) {
        if self.shared.store.is_forked() {
            return;
        }
        self.shared.stopped.store(true, SeqCst);
        if let Some(thread) = self.thread.take() {
            // The thread checks between two batches.
            let coming = self.shared.coming.lock().running.clone();
            if let Some(coming) = coming {
                coming.retire(true);
            }
            // A panic in it has been reported by the panic hook.
            let (Ok(()) | Err(_)) = thread.join();
        }
    }
}

impl<Q: ?Sized, A> fmt::Debug for VersionSet<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VersionSet").field("versions", &self.candidates.len()).finish_non_exhaustive()
    }
}

impl<Q: ?Sized, A> fmt::Debug for VersionedModel<Q, A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VersionedModel").field("version", &self.version()).finish_non_exhaustive()
    }
}
