#![deny(missing_docs)]
#![deny(unsafe_code)]
#![doc = include_str!("../README.md")]

mod codec;
mod error;
mod event;
mod expected;
mod format;
pub mod fs;
mod index;
mod log;
mod mend;
mod position;
pub mod salvage;
mod segment;
mod store;
mod stream;
mod system;
mod time;

pub use error::{Damage, Error, Result};
pub use event::{ContentType, Event, NewEvent};
pub use expected::Expected;
pub use log::{Cut, Durability, OpenReport};
pub use store::{
    Appended, AsOf, Committed, EditionInfo, Editions, Events, Found, Guard, NameInfo, Options, Query, Read, Search,
    SegmentStats, Stats, Store, StreamInfo, Ticket, Transaction,
};
pub use stream::StreamId;
pub use time::Timestamp;
pub use uuid::Uuid;
