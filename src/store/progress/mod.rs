//! How far handlers and consumers have come, and whether what is stored about events is about
//! events of this log.

pub(crate) mod bindings;
pub(crate) mod checkpoints;
pub(crate) mod consumers;
pub(crate) mod handlers;
