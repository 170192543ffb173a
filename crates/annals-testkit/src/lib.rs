//! What the tests, the campaign and the fuzz targets of Annals share: a simulated disk that fails
//! and crashes, a file system that holds threads at chosen calls, the crash harness with its
//! oracle, plain records of events, and losses of events.

#![allow(missing_docs, reason = "for the tests of this workspace; not published")]
#![allow(clippy::should_implement_trait, reason = "random numbers have no end to iterate to")]

#[cfg(not(any(annals_internals, doc)))]
compile_error!("RUSTFLAGS replaces what .cargo/config.toml says: add --cfg annals_internals");

pub mod bed;
pub mod crash;
pub mod gaps;
pub mod held;
pub mod records;
pub mod sim;
pub mod words;

pub use bed::{Bed, Disk, Spoil, TINY, on, on_all_beds};
pub use gaps::{Around, Dice, Gap, break_records};
pub use records::{
    Bytes, EventRecord, all_records, all_records_but, assert_same, check_order, check_order_but, drain, records,
};
pub use sim::{Crash, Fault, Image, Operation, SimFs};
pub use words::{conflict, data_of, noise, snapshot, stream, texts};
