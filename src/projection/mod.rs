//! Projections: states that events add up to, kept up to date and saved together with how far they
//! have come.

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

/// A state that the events of a query add up to, in order of positions: a read model.
///
/// The state is kept in memory, and saved in a file of the store, together with the position that
/// it has come to. So after a restart or a crash it goes on where it was saved, and no event is
/// missing in it or in it twice. It is a cache: all of it can be made from the events again, and
/// is, if the file is gone or not intact.
///
/// [`Store::projection`] runs it. In a query of a named edition, it takes in what the edition shows
/// at the time: what is deleted later stays in the state until that is
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
    /// What the events add up to. Its default is the state before the first event.
    ///
    /// A state is saved only if it comes back as it is, as far as serde shows it: what a field with
    /// `#[serde(skip)]` holds is not part of what is compared or saved, and is the field's default
    /// after a restart.
    type State: Default + Serialize + DeserializeOwned + Send + Sync + 'static;

    /// What it is called, in 1 to 255 bytes. Always the same.
    fn name(&self) -> &str;

    /// A number that rises whenever `State`, `query` or `apply` change, so that a state of the old
    /// kind is not taken for one of the new kind. Always the same for one value.
    fn version(&self) -> u32;

    /// Which events: all of the main edition by default. Asked once.
    fn query(&self) -> Query {
        Query::new()
    }

    /// Takes an event into the state. Must depend on nothing but the two, as a state can be made
    /// again at any time.
    ///
    /// It must not append to the store, nor read its own model: with a model that is
    /// [inline](Project::inline), two threads that do may wait for one another for ever.
    ///
    /// # Errors
    ///
    /// An error or a panic ends the projection: its model gives [`Error::ProjectionFailed`] from
    /// then on. To step over an event, give `Ok`.
    fn apply(&self, state: &mut Self::State, event: &Event) -> Result<()>;
}

impl Store {
    /// Runs a projection. Nothing happens before [`Project::catch_up`], [`Project::live`],
    /// [`Project::continuous`] or [`Project::inline`].
    pub fn projection<P: Projection>(&self, projection: P) -> Project<P> {
        let settings =
            EngineSettings { codec: Codec::default(), every: 50_000, after: Duration::from_secs(5), parallel: None };
        Project { store: self.clone(), projection, settings }
    }

    /// The saved states of projections.
    pub fn projections(&self) -> Projections {
        Projections { store: self.clone() }
    }
}

/// A projection that is not running yet. From [`Store::projection`].
///
/// | | who takes events in | when |
/// |---|---|---|
/// | [`catch_up`](Project::catch_up) | the caller | all there are, now; then whenever [`ReadModel::catch_up`] is called |
/// | [`live`](Project::live) | the caller, then a thread of its own | all there are, now; then as they come |
/// | [`continuous`](Project::continuous) | a thread of its own | from now on, first all there are, then as they come |
/// | [`inline`](Project::inline) | the caller, then those who append | all there are, now; then before `append` returns |
///
/// In a store that is opened read-only, states are made and not saved.
///
/// # Errors
///
/// All four:
///
/// * [`Error::Invalid`] if the name is empty, if the codec is [`Codec::Bytes`], or if a projection
///   of this name and version is running already;
/// * [`Error::LimitExceeded`] if the name has more than 255 bytes;
/// * but for `continuous`: [`Error::ProjectionFailed`], [`Error::Damaged`], [`Error::Io`].
///
/// A saved state that cannot be used is no error: it is made again, and the
/// [status](ReadModel::status) says why. Neither is a save that fails.
#[must_use = "nothing happens before it is told how to run"]
pub struct Project<P: Projection> {
    store: Store,
    projection: P,
    settings: EngineSettings<P>,
}

impl<P: Projection> Project<P> {
    /// How the state is saved: [`Codec::Json`] or [`Codec::Bincode`]; [`Codec::default`] unless
    /// said otherwise.
    ///
    /// A state is only saved if it comes back as it is: it is decoded once more, and compared. That
    /// costs about as much as loading it, and holds it in memory a second time meanwhile. If it
    /// does not, [`ProjectionStatus::save_error`] says so, what was saved before stays, and after a
    /// restart the events behind that are taken in again.
    pub fn codec(mut self, codec: Codec) -> Self {
        self.settings.codec = codec;
        self
    }

    /// Saves the state when so many events were taken in since it was saved: 50,000 by default. It
    /// is saved, too, when it has caught up for the first time, and when it ends.
    ///
    /// A save writes all of the state and blocks anyone who takes events in, not those who read the
    /// state.
    pub fn save_every(mut self, events: u64) -> Self {
        self.settings.every = events.max(1);
        self
    }

    /// Saves the state when events were taken in and so much time has passed: 5 seconds by default.
    pub fn save_after(mut self, time: Duration) -> Self {
        self.settings.after = time;
        self
    }

    /// Takes in all events that there are, saves, and returns.
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

    /// Takes in all events that there are, and returns; from then on a thread of its own takes in
    /// those that come.
    ///
    /// # Errors
    ///
    /// See [`Project`](Project#errors).
    pub fn live(self) -> Result<ReadModel<P>> {
        let model = self.catch_up()?;
        model.follow()?;
        Ok(model)
    }

    /// Returns at once; a thread of its own takes in the events that there are, and then those that
    /// come. Readers see how the state grows.
    ///
    /// # Errors
    ///
    /// See [`Project`](Project#errors).
    pub fn continuous(self) -> Result<ReadModel<P>> {
        let model = self.begin()?;
        model.follow()?;
        Ok(model)
    }

    /// Takes in all events that there are, and returns; from then on, anyone who appends takes in
    /// what has come before `append` returns.
    ///
    /// What is promised: when an append that began after this has returned `Ok`, the state has
    /// taken in its events, and all before them, each once and in order of positions, however many
    /// threads append. So has it when [`Ticket::wait`](crate::Ticket::wait) returns, or a ticket
    /// that is awaited. What was committed by a ticket that was dropped, or a future that was
    /// cancelled, anyone who reads the state next takes in: a read has all that could be read when
    /// it began. Not if the model is paused or stopped, has failed, or the log cannot be read: the
    /// append has succeeded all the same, and [`ReadModel::read`] and [`ReadModel::status`] tell.
    ///
    /// What it costs: an append reads its events again from memory or the page cache, and takes
    /// turns with others that append; the one in turn takes in for all that are visible by then.
    /// Without inline projections, appends pay for one look at a number.
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
    /// Makes the state with so many threads, whenever it is made from the first event on: each
    /// takes in the events of its share of the streams, and the parts are
    /// [merged](PerStream::merge) at the end. The caller's thread reads. Until then, readers see
    /// the state before the first event, or the one before the rebuild.
    ///
    /// For an `apply` that takes longer than reading an event does; it takes one thread otherwise.
    pub fn parallel(mut self, threads: usize) -> Self {
        self.settings.parallel = (threads > 1).then(|| Parallel::new(threads));
        self
    }
}

/// How a projection is doing. From [`ReadModel::status`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ProjectionStatus {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: u32,
    /// The position up to which all events of its query are in the state; `None` if that is none.
    pub position: Option<u64>,
    /// How many positions there are after it that it has not looked at. Events that its query does
    /// not find wake no thread: it steps over them within a second.
    pub lag: u64,
    /// Events taken in per second, over the last second or two.
    pub rate: f64,
    /// Events taken in since it was started, but for those of a parallel rebuild.
    pub applied: u64,
    /// What it began with.
    pub start: Start,
    /// The position that the saved state has come to.
    pub saved: Option<u64>,
    /// Why the last save has failed, if it has. It is tried again.
    pub save_error: Option<Error>,
    /// Why the log could not be read, if that was so the last time. It is tried again.
    pub read_error: Option<Error>,
    /// It takes nothing in until it is resumed.
    pub paused: bool,
    /// It takes nothing in any more: the store was closed.
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
    /// What was saved, up to this position.
    Saved(Option<u64>),
    /// The first event: what was saved could not be used.
    Unusable(SavedFault),
}

/// The saved states of projections, as files tell, whether the projections run or not. From
/// [`Store::projections`].
#[derive(Clone, Debug)]
pub struct Projections {
    store: Store,
}

impl Projections {
    /// All that are saved, in order of names and versions. States are not read.
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

    /// The files whose headers are not intact, or that do not belong where they are, and why. They
    /// cost nothing but a longer start.
    ///
    /// # Errors
    ///
    /// As [`Projections::list`].
    pub fn unusable(&self) -> Result<Vec<(PathBuf, SavedFault)>> {
        Ok(files::list(&self.store.site())?.unusable)
    }

    /// Removes the saved state of a version, and returns whether there was one. One that is running
    /// saves its state again.
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
