#![cfg_attr(not(annals_internals), deny(missing_docs))]
#![cfg_attr(annals_internals, allow(clippy::len_without_is_empty, clippy::should_implement_trait))]
#![deny(unsafe_code)]
#![doc = include_str!("../README.md")]

mod codec;
mod consumer;
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
mod process;
mod progress;
mod projection;
mod reconstruct;
mod segment;
mod snapshot;
mod store;
mod stream;
mod subscription;
mod system;
mod time;
mod waker;

pub use crate::consumer::{
    Consumer, ConsumerHandle, ConsumerInfo, Control, DeadLetter, Lag, Outcome, Partition, Poison, Reset, Retried,
    Retry, Status, Workers,
};
pub use crate::error::{Damage, Error, Result};
pub use crate::event::{ContentType, NewEvent};
pub use crate::expected::{Expected, ExpectedVersion};
pub use crate::format::event::Event;
pub use crate::format::snapshot_file::{Codec, Retention};
pub use crate::log::{Cut, Durability, OpenReport};
pub use crate::projection::{
    External, ExternalSink, PerStream, Project, Projection, ProjectionStatus, Projections, ReadModel, SavedFault,
    SavedProjection, Start, Versions, View,
};
pub use crate::store::{
    Appended, AsOf, BindingFault, Checkpoint, Checkpoints, Committed, Correlated, EditionInfo, Editions, Events, Guard,
    HandlerInfo, HandlerPosition, Load, Loaded, NameInfo, Options, Positions, Query, Read, Search, SegmentStats,
    SkippedSnapshots, Snapshot, SnapshotCheck, SnapshotFault, SnapshotInfo, SnapshotReport, Snapshots, Stats, Store,
    StreamInfo, Ticket, Transaction,
};
pub use crate::stream::StreamId;
#[cfg(feature = "async")]
pub use crate::subscription::SubscriptionStream;
pub use crate::subscription::{Delivery, Stop, Subscription};
pub use crate::time::Timestamp;
pub use uuid::Uuid;
