#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(not(annals_internals), deny(missing_docs))]
#![cfg_attr(annals_internals, allow(clippy::len_without_is_empty, clippy::should_implement_trait))]
#![deny(unsafe_code)]

//! Annals is an embedded, log-structured event store: a durable, ordered, immutable history in a
//! directory of files, linked into the application as SQLite is.
//!
//! ```
//! # #[cfg(feature = "json")] {
//! use annals::{Expected, NewEvent, Query, Store, StreamId};
//!
//! let dir = tempfile::tempdir()?;
//! let store = Store::open(dir.path())?;
//! let order = StreamId::new("order", "123")?;
//!
//! // Append if the stream is new. The event is on the disk when the call returns.
//! let placed = NewEvent::json("OrderPlaced", &7)?.tag("customer:7");
//! store.append(&order, Expected::NoStream, [placed])?;
//!
//! // Read a stream, or query events of all streams by type, tag, time ...
//! for event in store.read(&order) {
//!     println!("{}", event?.event_type());
//! }
//! assert_eq!(store.query(&Query::new().tag("customer:7")).into_iter().count(), 1);
//! store.close()?;
//! # }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # A tour of the types
//!
//! | to | use |
//! |---|---|
//! | open a store, and choose how durable it is | [`Store::open`], [`Options`], [`Durability`], [`OpenReport`] |
//! | write | [`Store::append`] for one stream, [`Store::transaction`] for several, [`NewEvent`], [`Expected`]; [`Transaction::submit`] returns a [`Ticket`] instead of waiting |
//! | write under a condition on other streams | [`Guard`], with [`Store::query`] and [`Search::collect_with_head`] |
//! | read | [`Store::read`] and [`Store::read_all`] return a [`Read`], [`Store::query`] a [`Search`]; both iterate as [`Events`] |
//! | follow new events | [`subscription`]: history, then live events; [`consumer`]: at least once, with retries and dead letters |
//! | keep read models | [`projection`]: states that are kept up to date, saved, and versioned |
//! | load aggregates quickly | [`snapshot`]: [`Store::load`] and [`Store::snapshots`] |
//! | remember the progress of a handler | [`progress`]: positions and checkpoints |
//! | try out another history | [`edition`]: timelines that diverge from the main one |
//! | list the content of a store | [`info`]: domains, streams, types, tags, sizes |
//! | check, salvage or repair a damaged store | [`offline`]: verify, dump, salvage, repair |
//! | test | [`Store::in_memory`], and [`fs`] for file systems of your own; the crate `annals-contract` for backends of your own |
//!
//! All handles are cheap to clone, [`Send`] and [`Sync`]. Calls block unless their documentation
//! says otherwise; with the feature `async`, tickets are futures and subscriptions are streams on
//! any runtime.
//!
//! # Promises, limits, and the bytes
//!
//! The [README](https://docs.rs/crate/annals/latest) says what holds after a crash, what the lock
//! protects from, and which limits there are. `docs/FORMAT.md` specifies the format on the disk,
//! and `docs/RECOVERY.md` says what to do when a store does not open.

mod codec;
pub mod consumer;
mod directory;
mod error;
mod event;
mod expected;
mod format;
pub mod fs;
mod index;
#[cfg(annals_internals)]
#[doc(hidden)]
pub mod internals;
mod log;
pub mod offline;
mod position;
mod positions;
mod process;
pub mod projection;
mod reconstruct;
mod segment;
mod snapshots;
mod store;
mod stream;
pub mod subscription;
mod system;
mod time;
mod waker;

pub use crate::consumer::{Consumer, Outcome};
pub use crate::error::{Damage, Error, Result};
pub use crate::event::{ContentType, NewEvent};
pub use crate::expected::Expected;
pub use crate::format::event::Event;
pub use crate::log::{Durability, OpenReport};
pub use crate::projection::Projection;
pub use crate::store::{
    Appended, AsOf, Committed, Events, Guard, Options, Query, Read, Search, Store, Ticket, Transaction,
};
pub use crate::stream::StreamId;
pub use crate::subscription::Subscription;
pub use crate::time::Timestamp;
pub use uuid::Uuid;

/// Snapshots: saved states of aggregates, so that loading one need not replay all its events.
///
/// A snapshot is a cache. Without it the answer is the same, and takes longer.
pub mod snapshot {
    pub use crate::format::snapshot_file::{Codec, Retention};
    pub use crate::store::{
        Load, Loaded, SkippedSnapshots, Snapshot, SnapshotCheck, SnapshotFault, SnapshotInfo, SnapshotReport, Snapshots,
    };
}

/// Progress of handlers and consumers: positions per stream, and checkpoints in the whole store.
pub mod progress {
    pub use crate::expected::ExpectedVersion;
    pub use crate::store::{BindingFault, Checkpoint, Checkpoints, HandlerInfo, HandlerPosition, Positions};
}

/// Editions: timelines that diverge from the main one, and can be discarded.
pub mod edition {
    pub use crate::store::{EditionInfo, Editions};
}

/// The content of a store: domains, streams, types and tags, sizes, and what opening it found.
pub mod info {
    pub use crate::log::Cut;
    pub use crate::store::{Correlated, NameInfo, SegmentStats, Stats, StreamInfo};
}

// The README's examples are tests, too.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
