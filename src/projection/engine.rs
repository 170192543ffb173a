//! The engine: applies events to a state, one after the other, driven by any thread: its own, those
//! that append, or those that wait.

use super::batches::Batches;
use super::files::{self, SavedFault};
use super::parallel::Parallel;
use super::progress::{ProgressSignal, Told};
use super::{Projection, ProjectionStatus, Start};
use crate::Event;
use crate::codec;
use crate::error::{Error, Result, told_by};
use crate::format::projection_file::ProjectionHeader;
use crate::format::snapshot_file::Codec;
use crate::format::state_file::MAX_STATE;
use crate::store::notify::hooks::Hook;
use crate::store::site::Site;
use crate::store::{Query, Store};
use crate::waker::wake;
use parking_lot::{Mutex, ReentrantMutex, ReentrantMutexGuard, RwLock};
use std::cell::RefCell;
use std::ops::Deref;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::task::Waker;
use std::time::{Duration, Instant};

/// A state without new events is saved when its checkpoint has advanced by this many positions.
const FAR: u64 = 1 << 20;

/// The longest time that the projection's own thread sleeps.
const TICK: Duration = Duration::from_secs(1);

/// How a projection is run.
pub(super) struct EngineSettings<P: Projection> {
    pub codec: Codec,
    /// Number of events after which the state is saved.
    pub every: u64,
    /// Time after which it is saved, if events were applied.
    pub after: Duration,
    pub parallel: Option<Parallel<P>>,
}

/// The state, its checkpoint, and the turn to advance both.
pub(super) struct Engine<P: Projection> {
    pub projection: P,
    name: String,
    version: u32,
    query: Query,
    site: Site,
    settings: EngineSettings<P>,
    start: Start,
    state: RwLock<EngineState<P::State>>,
    /// All events of the query below this position have been applied. Changed under the lock of the
    /// state, by the thread in turn.
    next: AtomicU64,
    /// Held by the thread that advances the state. Re-entrant, so that an `apply` that appends does
    /// not wait for itself.
    turn: ReentrantMutex<RefCell<Turn>>,
    progress: ProgressSignal,
    paused: AtomicBool,
    stopped: AtomicBool,
    /// Nothing is saved any more.
    forgotten: AtomicBool,
    /// The projection's own thread, to be woken for other reasons than events.
    alarm: Mutex<Option<Waker>>,
    alarmed: AtomicBool,
    told: Mutex<Told>,
}

struct EngineState<S> {
    value: S,
    /// Why the state is not that of any prefix of the store.
    failure: Option<Error>,
}

/// Known to and changed by the thread in turn only.
#[derive(Default)]
struct Turn {
    /// The checkpoint of the file, and whether it says that the state is complete.
    saved: Option<(u64, bool)>,
    /// Number of events applied since.
    unsaved: u64,
    last_save: Option<Instant>,
    save_failed: bool,
    complete: bool,
}

/// Ends the turn, and then notifies the threads that wait for it.
struct TurnGuard<'e> {
    /// `None` once it is over.
    turn: Option<ReentrantMutexGuard<'e, RefCell<Turn>>>,
    progress: &'e ProgressSignal,
}

impl Deref for TurnGuard<'_> {
    type Target = RefCell<Turn>;

    fn deref(&self) -> &RefCell<Turn> {
        self.turn.as_ref().expect("it is not over before this is dropped")
    }
}

impl Drop for TurnGuard<'_> {
    fn drop(&mut self) {
        self.turn = None;
        self.progress.step();
    }
}

impl<P: Projection> Engine<P> {
    /// Begins with the saved state, if it can be used.
    pub(super) fn new(store: &Store, projection: P, settings: EngineSettings<P>) -> Self {
        let (name, version, query) = (projection.name().to_owned(), projection.version(), projection.query());
        let site = store.site();
        let loaded = files::load(&site, &name, version).and_then(|loaded| {
            let Some(loaded) = loaded else { return Ok(None) };
            let state = codec::decode_state(loaded.head.codec, loaded.state());
            Ok(Some((state.map_err(|_| SavedFault::Undecodable)?, loaded.head)))
        });
        let mut turn = Turn::default();
        let (value, next, start) = match loaded {
            Ok(Some((state, head))) => {
                turn.saved = Some((head.next, head.complete));
                turn.complete = head.complete;
                (state, head.next, Start::Saved(head.next.checked_sub(1)))
            }
            Ok(None) => (P::State::default(), 0, Start::Beginning),
            Err(fault) => (P::State::default(), 0, Start::Unusable(fault)),
        };
        let told = Told::new(turn.saved.and_then(|(next, _)| next.checked_sub(1)));
        Engine {
            projection,
            name,
            version,
            query,
            site,
            settings,
            start,
            state: RwLock::new(EngineState { value, failure: None }),
            next: AtomicU64::new(next),
            turn: ReentrantMutex::new(RefCell::new(turn)),
            progress: ProgressSignal::default(),
            paused: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
            forgotten: AtomicBool::new(false),
            alarm: Mutex::default(),
            alarmed: AtomicBool::new(false),
            told: Mutex::new(told),
        }
    }

    pub(super) fn query(&self) -> &Query {
        &self.query
    }

    pub(super) fn version(&self) -> u32 {
        self.version
    }

    pub(super) fn next(&self) -> u64 {
        self.next.load(SeqCst)
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.load(SeqCst)
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stopped.load(SeqCst)
    }

    pub(super) fn failure(&self) -> Option<Error> {
        self.state.read().failure.clone()
    }

    /// The state, and the position below which everything has been applied.
    pub(super) fn read<R>(&self, read: impl FnOnce(&P::State, u64) -> R) -> Result<R> {
        let state = self.state.read();
        match &state.failure {
            Some(failure) => Err(failure.clone()),
            None => Ok(read(&state.value, self.next())),
        }
    }

    /// Applies everything that is visible now, in order of positions. Returns early if it is paused
    /// or stopped.
    ///
    /// # Errors
    ///
    /// [`Error::ProjectionFailed`], for good; those of reading the log.
    pub(super) fn advance(&self, store: &Store) -> Result<()> {
        let turn = self.take_turn();
        // This thread has borrowed it already: `apply` has appended. Its events are applied next.
        let Ok(mut turn) = turn.try_borrow_mut() else { return Ok(()) };
        self.take_in(store, &mut turn, &|| false)
    }

    fn take_turn(&self) -> TurnGuard<'_> {
        TurnGuard { turn: Some(self.turn.lock()), progress: &self.progress }
    }

    /// No thread advances the state while `f` runs.
    pub(super) fn hold<R>(&self, f: impl FnOnce() -> R) -> R {
        let _turn = self.take_turn();
        f()
    }

    fn take_in(&self, store: &Store, turn: &mut Turn, enough: &dyn Fn() -> bool) -> Result<()> {
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        let halted = || self.is_paused() || self.is_stopped() || enough();
        if halted() {
            return Ok(());
        }
        let taken = self.take_in_until(store, turn, &halted);
        self.told.lock().read_error = match &taken {
            Err(error) if !matches!(error, Error::ProjectionFailed { .. }) => Some(error.clone()),
            _ => None,
        };
        taken
    }

    fn take_in_until(&self, store: &Store, turn: &mut Turn, halted: &dyn Fn() -> bool) -> Result<()> {
        if let (0, Some(parallel)) = (self.next(), &self.settings.parallel) {
            let folded = parallel.fold(self, store, halted).inspect_err(|error| self.fail(error));
            let Some((value, next)) = folded? else { return Ok(()) };
            self.install(value, next);
            turn.unsaved += next;
        }
        if self.next() < store.len() {
            let mut batches = Batches::new(store, &self.query, self.next());
            while let Some((events, next)) = batches.next()? {
                self.apply(&events, next)?;
                turn.unsaved += events.len() as u64;
                self.told.lock().count(events.len() as u64);
                self.progress.step();
                self.save_if_due(turn);
                if halted() {
                    return Ok(());
                }
            }
        }
        turn.complete = true;
        self.save_if_due(turn);
        Ok(())
    }

    /// Applies events to the state that readers see. If one fails, the state is that of no prefix,
    /// and is not read any more.
    fn apply(&self, events: &[Event], next: u64) -> Result<()> {
        let mut state = self.state.write();
        let applied = self.fold(&mut state.value, events);
        match &applied {
            Ok(()) => self.next.store(next, SeqCst),
            Err(failure) => state.failure = Some(failure.clone()),
        }
        applied
    }

    /// The events that the state would consist of cannot be applied.
    fn fail(&self, error: &Error) {
        if let Error::ProjectionFailed { .. } = error {
            self.state.write().failure = Some(error.clone());
        }
    }

    /// Applies events to a state.
    pub(super) fn fold(&self, state: &mut P::State, events: &[Event]) -> Result<()> {
        let mut at = 0;
        let applied = catch_unwind(AssertUnwindSafe(|| {
            events.iter().try_for_each(|event| {
                at = event.position();
                self.projection.apply(state, event)
            })
        }));
        match applied {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.failed(at, error.to_string())),
            Err(panic) => Err(self.failed(at, told_by(&*panic))),
        }
    }

    pub(super) fn failed(&self, position: u64, why: String) -> Error {
        Error::ProjectionFailed { projection: self.name.clone(), version: self.version, position, why }
    }

    /// From now on readers see this state.
    fn install(&self, value: P::State, next: u64) {
        let mut state = self.state.write();
        *state = EngineState { value, failure: None };
        self.next.store(next, SeqCst);
    }

    /// Computes the state again, from the first event on, while readers see the present one; then
    /// replaces it.
    ///
    /// # Errors
    ///
    /// As [`Engine::advance`]; then the present one stays.
    pub(super) fn rebuild(&self, store: &Store) -> Result<()> {
        let stopped = || self.is_stopped();
        let (mut value, mut next) = match &self.settings.parallel {
            Some(parallel) => parallel.fold(self, store, &stopped)?.ok_or(Error::Closed)?,
            None => (P::State::default(), 0),
        };
        self.fold_on(store, &mut value, &mut next)?;
        let turn = self.take_turn();
        let Ok(mut turn) = turn.try_borrow_mut() else {
            return Err(Error::invalid("projection", "`apply` must not rebuild"));
        };
        // Events that came in the meantime: the new state must not be behind the old one.
        self.fold_on(store, &mut value, &mut next)?;
        self.install(value, next);
        *turn = Turn { complete: true, ..Turn::default() };
        self.save_quietly(&mut turn);
        Ok(())
    }

    fn fold_on(&self, store: &Store, value: &mut P::State, next: &mut u64) -> Result<()> {
        let mut batches = Batches::new(store, &self.query, *next);
        while let Some((events, after)) = batches.next()? {
            self.fold(value, &events)?;
            *next = after;
            if self.is_stopped() {
                return Err(Error::Closed);
            }
        }
        Ok(())
    }

    /// Saves state and checkpoint together.
    ///
    /// # Errors
    ///
    /// Those of encoding, and of writing the file. The previous file is unchanged.
    pub(super) fn save(&self) -> Result<()> {
        let turn = self.take_turn();
        let Ok(mut turn) = turn.try_borrow_mut() else {
            return Err(Error::invalid("projection", "`apply` must not save"));
        };
        let saved = self.save_in_turn(&mut turn);
        self.tell_saved(&saved);
        saved
    }

    /// Saves them from the projection's own thread, if that is due.
    pub(super) fn save_now_and_then(&self) {
        let turn = self.take_turn();
        if let Ok(mut turn) = turn.try_borrow_mut() {
            self.save_if_due(&mut turn);
        }
    }

    fn save_if_due(&self, turn: &mut Turn) {
        let (saved, complete) = turn.saved.unwrap_or_default();
        let waited = turn.last_save.get_or_insert_with(Instant::now).elapsed() >= self.settings.after;
        let first = turn.complete && !complete && self.next() > 0;
        let far = self.next().saturating_sub(saved) >= FAR;
        let due = turn.unsaved >= self.settings.every || first || far;
        // A failed save is not tried again for each batch.
        if (due && !turn.save_failed) || (waited && (due || turn.unsaved > 0)) {
            self.save_quietly(turn);
        }
    }

    /// A failed save only makes the next start longer: the status reports it.
    fn save_quietly(&self, turn: &mut Turn) {
        let saved = self.save_in_turn(turn);
        self.tell_saved(&saved);
        (turn.last_save, turn.save_failed) = (Some(Instant::now()), saved.is_err());
    }

    fn tell_saved(&self, saved: &Result<()>) {
        self.told.lock().save_error = match saved {
            // Nothing was to be saved.
            Ok(()) | Err(Error::ReadOnly | Error::Closed | Error::ProjectionFailed { .. }) => None,
            Err(error) => Some(error.clone()),
        };
    }

    fn save_in_turn(&self, turn: &mut Turn) -> Result<()> {
        if let Some(failure) = self.failure() {
            return Err(failure);
        }
        let next = self.next();
        if turn.saved == Some((next, turn.complete)) || self.forgotten.load(SeqCst) {
            return Ok(());
        }
        self.site.check_writable()?;
        let encoded = catch_unwind(AssertUnwindSafe(|| {
            self.read(|state, _| codec::encode_faithfully(self.settings.codec, state))
        }));
        let state = encoded.map_err(|panic| Error::Codec { codec: "state", why: told_by(&*panic) })???;
        if state.len() as u64 > MAX_STATE {
            return Err(Error::limit("bytes in a state", state.len(), MAX_STATE as usize));
        }
        // The file must not include events that a power cut may take.
        self.site.make_durable(next)?;
        let last = next.checked_sub(1).map_or(Ok(None), |last| self.site.recorded_at(last))?;
        let head = ProjectionHeader {
            store: self.site.store_id(),
            saved_at: self.site.now().as_nanos(),
            next,
            recorded_at: last.map_or(0, |time| time.as_nanos()),
            version: self.version,
            codec: self.settings.codec,
            complete: turn.complete,
            state_len: state.len() as u64,
        };
        files::put(&self.site, &head, &self.name, &state)?;
        (turn.saved, turn.unsaved) = (Some((next, turn.complete)), 0);
        self.told.lock().saved = next.checked_sub(1);
        Ok(())
    }

    /// When this returns, nothing is applied any more.
    pub(super) fn pause(&self) {
        self.paused.store(true, SeqCst);
        self.hold(|| ());
    }

    pub(super) fn resume(&self) {
        self.paused.store(false, SeqCst);
        self.progress.step();
        self.wake();
    }

    pub(super) fn stop(&self) {
        self.stopped.store(true, SeqCst);
        self.progress.step();
        self.wake();
    }

    /// When this returns, nothing is saved any more.
    pub(super) fn forget(&self) {
        self.hold(|| self.forgotten.store(true, SeqCst));
    }

    /// Wakes the projection's own thread.
    pub(super) fn wake(&self) {
        self.alarmed.store(true, SeqCst);
        // Called without the lock: the thread that wakes up may ask for it.
        let waker = self.alarm.lock().clone();
        waker.into_iter().for_each(wake);
    }

    /// Sets the projection's own thread.
    pub(super) fn set_alarm(&self, waker: Waker) {
        *self.alarm.lock() = Some(waker);
    }

    pub(super) fn is_alarmed(&self) -> bool {
        self.alarmed.load(SeqCst)
    }

    /// Returns whether it was woken since the last call.
    pub(super) fn take_alarm(&self) -> bool {
        self.alarmed.swap(false, SeqCst)
    }

    /// Returns how long the projection's own thread may sleep.
    pub(super) fn tick(&self) -> Duration {
        self.settings.after.clamp(Duration::from_millis(1), TICK)
    }

    /// Blocks until the state includes everything below `end`, which is visible, or the time is
    /// over. A waiting thread applies what no other thread does.
    pub(super) fn reach(&self, store: &Store, end: u64, deadline: Option<Instant>) -> Result<bool> {
        let is_late = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
        loop {
            let seen = self.progress.now();
            if self.next() >= end {
                return self.failure().map_or(Ok(true), Err);
            }
            if let Some(failure) = self.failure() {
                return Err(failure);
            }
            if self.is_stopped() {
                return Err(Error::Closed);
            }
            if is_late() {
                return Ok(false);
            }
            let turn = if self.is_paused() { None } else { self.turn.try_lock() };
            let Some(turn) = turn else {
                // The thread in turn notifies when its turn is over.
                self.progress.wait(seen, deadline);
                continue;
            };
            let turn = TurnGuard { turn: Some(turn), progress: &self.progress };
            let Ok(mut turn) = turn.try_borrow_mut() else {
                return Err(Error::invalid("projection", "`apply` must not wait for its own state"));
            };
            self.take_in(store, &mut turn, &|| self.next() >= end || is_late())?;
        }
    }

    pub(super) fn status(&self, head: u64) -> ProjectionStatus {
        let told = self.told.lock();
        ProjectionStatus {
            name: self.name.clone(),
            version: self.version,
            position: self.next().checked_sub(1),
            lag: head.saturating_sub(self.next()),
            rate: told.rate(),
            applied: told.applied,
            start: self.start,
            saved: told.saved,
            save_error: told.save_error.clone(),
            read_error: told.read_error.clone(),
            paused: self.is_paused(),
            stopped: self.is_stopped(),
            failure: self.failure(),
        }
    }
}

impl<P: Projection> Hook for Engine<P> {
    fn id(&self) -> (&str, u32) {
        (&self.name, self.version)
    }

    fn committed(&self, store: &Store, end: u64) {
        if self.next() < end && !self.is_paused() {
            // The commit is durable all the same; readers of the state and its status get the
            // error.
            let (Ok(()) | Err(_)) = self.advance(store);
        }
    }

    fn closing(&self) {
        self.stop();
        let (Ok(()) | Err(_)) = self.save();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;
    use std::task::Wake;

    struct Nothing;

    impl Projection for Nothing {
        type State = ();

        fn name(&self) -> &str {
            "nothing"
        }

        fn version(&self) -> u32 {
            1
        }

        fn apply(&self, _: &mut (), _: &Event) -> Result<()> {
            Ok(())
        }
    }

    /// The woken thread may ask for a lock that the waker holds.
    #[test]
    fn an_alarm_rings_outside_of_its_lock() {
        struct Renews(Arc<Engine<Nothing>>, std::sync::mpsc::Sender<()>);
        impl Wake for Renews {
            fn wake(self: Arc<Self>) {
                self.0.set_alarm(crate::waker::this_thread());
                self.1.send(()).unwrap();
            }
        }
        let settings =
            EngineSettings { codec: Codec::Bincode, every: u64::MAX, after: Duration::from_secs(1), parallel: None };
        let engine = Arc::new(Engine::new(&Store::in_memory(), Nothing, settings));
        let (told, woken) = std::sync::mpsc::channel();
        engine.set_alarm(Arc::new(Renews(engine.clone(), told)).into());
        let wakes = engine.clone();
        std::thread::spawn(move || wakes.wake());
        woken.recv_timeout(Duration::from_secs(20)).expect("it does not wait for itself");
        assert!(engine.take_alarm());
    }
}
