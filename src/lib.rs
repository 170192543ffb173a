#![deny(missing_docs)]
#![deny(unsafe_code)]
//! x
mod error;
mod event;
mod expected;
mod format;
mod stream;
mod time;
pub use error::*;
pub use event::{ContentType, Event, NewEvent};
pub use expected::Expected;
pub use stream::StreamId;
pub use time::Timestamp;
