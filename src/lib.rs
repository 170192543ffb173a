#![cfg_attr(not(annals_internals), deny(missing_docs))]
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
mod mend;
mod position;
mod positions;
mod process;
mod projection;
pub mod salvage;
mod segment;
mod snapshot;
mod store;
mod stream;
mod subscription;
mod system;
mod time;
mod waker;

pub use consumer::{
    Consumer, ConsumerHandle, ConsumerInfo, Control, DeadLetter, Lag, Outcome, Partition, Poison, Reset, Retried,
    Retry, Status, Workers,
};
pub use error::{Damage, Error, Result};
pub use event::{ContentType, NewEvent};
pub use expected::{Expected, ExpectedVersion};
pub use format::event::Event;
pub use format::snapshot_file::{Codec, Retention};
pub use log::{Cut, Durability, OpenReport};
pub use projection::{
    External, ExternalSink, PerStream, Project, Projection, ProjectionStatus, Projections, ReadModel, SavedFault,
    SavedProjection, Start, Versions, View,
};
pub use store::{
    Appended, AsOf, BindingFault, Checkpoint, Checkpoints, Committed, Correlated, EditionInfo, Editions, Events, Found,
    Guard, HandlerInfo, HandlerPosition, Load, Loaded, NameInfo, Options, Positions, Query, Read, Search, SegmentStats,
    SkippedSnapshots, Snapshot, SnapshotCheck, SnapshotFault, SnapshotInfo, SnapshotReport, Snapshots, Stats, Store,
    StreamInfo, Ticket, Transaction,
};
pub use stream::StreamId;
#[cfg(feature = "async")]
pub use subscription::SubscriptionStream;
pub use subscription::{Delivery, Stop, Subscription};
pub use time::Timestamp;
pub use uuid::Uuid;
