//! Projections: states that events add up to, kept up to date and saved together with their
//! checkpoint.

mod batches;
mod engine;
mod external;
mod files;
mod follow;
mod model;
mod parallel;
mod progress;
mod versions;

pub use external::{External, ExternalSink};
pub use files::{SavedFault, SavedProjection};
pub use model::ReadModel;
pub use parallel::PerStream;
pub use versions::{VersionSet, VersionedModel};

use crate::Event;
use crate::error::{Error, Result};
use crate::format::snapshot_file::Codec;
use crate::store::{Query, Store};
use crate::stream::check_name;
use engine::{Engine, EngineSettings};
use parallel::Parallel;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A read model: a state that the events of a query add up to, in order of positions.
///
/// The state is kept in memory, and saved in a file of the store, together with its checkpoint. So
/// after a restart or a crash it continues from where it was saved, and no event is missing or
/// applied twice. It is a cache: it can be rebuilt from the events, and is if the file is missing
/// or damaged.
///
/// [`Store::projection`] runs it. With a query of a named edition, it applies what the edition
/// shows at the time: events that are deleted later stay in the state until it is
/// [rebuilt](ReadModel::rebuild).
///
/// ```
/// use annals::{Event, Expected, NewEvent, Projection, Query, Result, Store, StreamId};
/// use std::collections::BTreeMap;
///
/// /// How many orders each customer has placed.
/// struct Orders;
///
/// impl Projection for Orders {
///     type State = BTreeMap<String, u64>;
///
///     fn name(&self) -> &str {
///         "orders-by-customer"
///     }
///     fn version(&self) -> u32 {
///         1
///     }
///     fn query(&self) -> Query {
///         Query::new().domain("order").event_type("Placed")
///     }
///     fn apply(&self, orders: &mut Self::State, event: &Event) -> Result<()> {
///         for customer in event.tags() {
///             *orders.entry(customer.to_owned()).or_default() += 1;
///         }
///         Ok(())
///     }
/// }
///
/// let store = Store::in_memory();
/// let orders = store.projection(Orders).inline()?;
/// let order = StreamId::new("order", "1")?;
/// store.append(&order, Expected::NoStream, [NewEvent::new("Placed", "").tag("ann")])?;
/// assert_eq!(orders.read(|orders| orders["ann"])?, 1);
/// # Ok::<(), annals::Error>(())
/// ```
pub trait Projection: Send + Sync + 'static {
    /// The state. Its default is the state before the first event.
    ///
    /// A state is saved only if the codec returns it unchanged, as far as serde can see: a field
    /// with `#[serde(skip)]` is neither compared nor saved, and has its default after a restart.
    type State: Default + Serialize + DeserializeOwned + Send + Sync + 'static;

    /// Returns the name, 1 to 255 bytes. It must always be the same.
    fn name(&self) -> &str;

    /// Returns a number that rises whenever `State`, `query` or `apply` change, so that a saved
    /// state of an older version is not used for a newer one. It must always be the same for one
    /// value.
    fn version(&self) -> u32;

    /// Returns which events are applied. Default: all of the main edition. Called once.
    fn query(&self) -> Query {
        Query::new()
    }

    /// Applies an event to the state. The result must depend on nothing else, as a state may be
    /// rebuilt at any time.
    ///
    /// It must not append to the store, nor read its own model: with an [inline](Project::inline)
    /// model, two threads that do so may wait for each other forever.
    ///
    /// # Errors
    ///
    /// An error or a panic ends the projection: its model returns [`Error::ProjectionFailed`] from
    /// then on. To skip an event, return `Ok`.
    fn apply(&self, state: &mut Self::State, event: &Event) -> Result<()>;
}

impl Store {
    /// Returns a projection to be configured. Nothing happens before [`Project::catch_up`],
    /// [`Project::live`], [`Project::continuous`] or [`Project::inline`].
    pub fn projection<P: Projection>(&self, projection: P) -> Project<P> {
        let settings =
            EngineSettings { codec: Codec::default(), every: 50_000, after: Duration::from_secs(5), parallel: None };
        Project { store: self.clone(), projection, settings }
    }

    /// Returns the saved states of projections.
    pub fn projections(&self) -> Projections {
        Projections { store: self.clone() }
    }
}

/// A projection that is not running yet. From [`Store::projection`].
///
/// | | which thread applies events | when |
/// |---|---|---|
/// | [`catch_up`](Project::catch_up) | the caller | existing events, now; then whenever [`ReadModel::catch_up`] is called |
/// | [`live`](Project::live) | the caller, then its own thread | existing events, now; then new ones as they come |
/// | [`continuous`](Project::continuous) | its own thread | from now on, existing events, then new ones as they come |
/// | [`inline`](Project::inline) | the caller, then each appending thread | existing events, now; then new ones before `append` returns |
///
/// In a store that is opened read-only, states are computed and not saved.
///
/// # Errors
///
/// All four:
///
/// * [`Error::Invalid`] if the name is empty, if the codec is [`Codec::Bytes`], or if a projection
///   of this name and version is already running;
/// * [`Error::LimitExceeded`] if the name has more than 255 bytes;
/// * except `continuous`: [`Error::ProjectionFailed`], [`Error::Damaged`], [`Error::Io`].
///
/// A saved state that cannot be used is no error: it is rebuilt, and the
/// [status](ReadModel::status) says why. Neither is a save that fails.
#[must_use = "nothing happens before it is run"]
pub struct Project<P: Projection> {
    store: Store,
    projection: P,
    settings: EngineSettings<P>,
}

impl<P: Projection> Project<P> {
    /// The codec of the saved state: [`Codec::Json`] or [`Codec::Bincode`]. Default:
    /// [`Codec::default`].
    ///
    /// A state is saved only if the codec returns it unchanged: it is decoded again and compared.
    /// That costs about as much as loading it, and holds it in memory twice meanwhile. If it
    /// differs, [`ProjectionStatus::save_error`] says so, the previously saved state stays, and
    /// after a restart later events are applied again.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.settings.codec = codec;
        self
    }

    /// Saves the state when this many events were applied since the last save. Default: 50,000. It
    /// is also saved when it has caught up for the first time, when 1,048,576 positions were passed
    /// without an event of its query, and when it ends.
    ///
    /// A save writes the whole state and blocks threads that apply events, not those that read the
    /// state.
    pub fn save_every(mut self, events: u64) -> Self {
        self.settings.every = events.max(1);
        self
    }

    /// Saves the state if events were applied and this much time has passed. Default: 5 seconds.
    pub fn save_after(mut self, time: Duration) -> Self {
        self.settings.after = time;
        self
    }

    /// Applies all existing events, saves the state if a save is due, and returns.
    ///
    /// ```
    /// use annals::{Event, Expected, NewEvent, Projection, Result, Store, StreamId};
    /// struct Count;
    /// impl Projection for Count {
    ///     type State = u64;
    ///     fn name(&self) -> &str {
    ///         "count"
    ///     }
    ///     fn version(&self) -> u32 {
    ///         1
    ///     }
    ///     fn apply(&self, count: &mut u64, _: &Event) -> Result<()> {
    ///         *count += 1;
    ///         Ok(())
    ///     }
    /// }
    /// let store = Store::in_memory();
    /// let order = StreamId::new("order", "1")?;
    /// store.append(&order, Expected::Any, [NewEvent::new("Placed", "")])?;
    /// let count = store.projection(Count).catch_up()?;
    /// store.append(&order, Expected::Any, [NewEvent::new("Paid", "")])?;
    /// assert_eq!(count.state()?, 1);
    /// assert_eq!(count.catch_up()?, Some(1));
    /// assert_eq!(count.state()?, 2);
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// See [`Project`](Project#errors).
    pub fn catch_up(self) -> Result<ReadModel<P>> {
        let model = self.begin()?;
        model.catch_up()?;
        Ok(model)
    }

    /// Applies all existing events, and returns; from then on, a thread of its own applies new
    /// ones.
    ///
    /// # Errors
    ///
    /// See [`Project`](Project#errors).
    pub fn live(self) -> Result<ReadModel<P>> {
        let model = self.catch_up()?;
        model.follow()?;
        Ok(model)
    }

    /// Returns at once; a thread of its own applies existing events, then new ones. Readers see the
    /// state grow.
    ///
    /// # Errors
    ///
    /// See [`Project`](Project#errors).
    pub fn continuous(self) -> Result<ReadModel<P>> {
        let model = self.begin()?;
        model.follow()?;
        Ok(model)
    }

    /// Applies all existing events, and returns; from then on, each append applies what has been
    /// committed before it returns.
    ///
    /// The promise: when an append that began after this has returned `Ok`, the state includes its
    /// events, and all before them, each once and in order of positions, however many threads
    /// append. The same holds when [`Ticket::wait`](crate::Ticket::wait), or a ticket that is
    /// awaited, returns. If a ticket was dropped or a future cancelled, the next reader of the
    /// state applies the commit: a read includes everything that was visible when it began. The
    /// promise does not hold while the model is paused or stopped, has failed, or the log cannot be
    /// read: the append has still succeeded, and [`ReadModel::read`] and [`ReadModel::status`]
    /// report it.
    ///
    /// The cost: an append reads its events again from memory or the page cache, and takes turns
    /// with others that append; the one in turn applies everything that is visible by then. Without
    /// inline projections, appends pay for reading one number.
    ///
    /// # Errors
    ///
    /// See [`Project`](Project#errors).
    pub fn inline(self) -> Result<ReadModel<P>> {
        let model = self.catch_up()?;
        model.set_inline()?;
        Ok(model)
    }

    /// With the saved state.
    fn begin(self) -> Result<ReadModel<P>> {
        let (name, version) = (self.projection.name(), self.projection.version());
        check_name("name of a projection", name)?;
        if self.settings.codec == Codec::Bytes {
            return Err(Error::invalid("projection", "a state is a value, and `Codec::Bytes` encodes none"));
        }
        let taken = Error::invalid("projection", format!("{name}, version {version}, is running already"));
        let engine = Arc::new(Engine::new(&self.store, self.projection, self.settings));
        let added = self.store.hooks().add(engine.clone());
        if added { Ok(ReadModel::new(self.store, engine)) } else { Err(taken) }
    }
}

impl<P: PerStream> Project<P> {
    /// Uses this many threads whenever the state is computed from the first event on: each applies
    /// the events of its share of the streams, and the parts are [merged](PerStream::merge) at the
    /// end. The caller's thread reads. Until then, readers see the state before the first event, or
    /// the one before the rebuild.
    ///
    /// Useful if `apply` takes longer than reading an event; otherwise one thread is enough.
    pub fn parallel(mut self, threads: usize) -> Self {
        self.settings.parallel = (threads > 1).then(|| Parallel::new(threads));
        self
    }
}

/// The status of a projection. From [`ReadModel::status`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProjectionStatus {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// The position up to which all events of its query have been applied; `None` if that is none.
    pub position: Option<u64>,
    /// Number of positions after it that have not been examined. Events that do not match its query
    /// wake no thread: it advances over them within a second.
    pub lag: u64,
    /// Events applied per second, over the last second or two.
    pub rate: f64,
    /// Number of events applied since it was started, except those of a parallel rebuild.
    pub applied: u64,
    /// What it began with.
    pub start: Start,
    /// The checkpoint of the saved state.
    pub saved: Option<u64>,
    /// Why the last save has failed, if it has. It is tried again.
    pub save_error: Option<Error>,
    /// Why the log could not be read the last time, if so. It is tried again.
    pub read_error: Option<Error>,
    /// It applies nothing until it is resumed.
    pub paused: bool,
    /// It applies nothing any more: the store was closed.
    pub stopped: bool,
    /// Why the state cannot be read.
    pub failure: Option<Error>,
}

/// What a projection began with when it was started.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
#[non_exhaustive]
pub enum Start {
    /// The first event: nothing was saved.
    Beginning,
    /// The saved state, with this checkpoint.
    Saved(Option<u64>),
    /// The first event: the saved state could not be used.
    Unusable(SavedFault),
}

/// The saved states of projections, according to their files, whether the projections run or not.
/// From [`Store::projections`].
#[derive(Clone, Debug)]
pub struct Projections {
    store: Store,
}

impl Projections {
    /// Returns all saved states, in order of names and versions. The states themselves are not
    /// read.
    ///
    /// ```
    /// # use annals::{Event, Expected, NewEvent, Projection, Result, Store, StreamId};
    /// # struct Count;
    /// # impl Projection for Count {
    /// #     type State = u64;
    /// #     fn name(&self) -> &str { "count" }
    /// #     fn version(&self) -> u32 { 1 }
    /// #     fn apply(&self, count: &mut u64, _: &Event) -> Result<()> { *count += 1; Ok(()) }
    /// # }
    /// let store = Store::in_memory();
    /// store.append(&StreamId::new("order", "1")?, Expected::Any, [NewEvent::new("Placed", "")])?;
    /// store.projection(Count).catch_up()?.stop()?;
    /// let listed = store.projections().list()?;
    /// assert_eq!((listed[0].name.as_str(), listed[0].version, listed[0].position), ("count", 1, Some(0)));
    /// assert!(store.projections().delete("count", 1)?);
    /// # Ok::<(), annals::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if the directory cannot be read, and those of reading events. Files that
    /// cannot be used are left out: see [`Projections::unusable`].
    pub fn list(&self) -> Result<Vec<SavedProjection>> {
        let mut saved = files::list(&self.store.site())?.saved;
        for info in &mut saved {
            info.lag = self.store.events_from(info.position.map_or(0, |position| position + 1))?;
        }
        Ok(saved)
    }

    /// Returns the files whose headers are damaged, or that are in the wrong place, and why. They
    /// only cost a longer start.
    ///
    /// # Errors
    ///
    /// As [`Projections::list`].
    pub fn unusable(&self) -> Result<Vec<(PathBuf, SavedFault)>> {
        Ok(files::list(&self.store.site())?.unusable)
    }

    /// Removes the saved state of a version, and returns whether there was one. If the version is
    /// running, it saves its state again.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::ReadOnly`], [`Error::Closed`].
    pub fn delete(&self, name: &str, version: u32) -> Result<bool> {
        files::delete(&self.store.site(), name, version)
    }
}

impl<P: Projection> fmt::Debug for Project<P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, version) = (self.projection.name(), self.projection.version());
        f.debug_struct("Project").field("name", &name).field("version", &version).finish_non_exhaustive()
    }
}
