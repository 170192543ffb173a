//! Progress of handlers and consumers, and whether stored progress is about events of this log.

pub(crate) mod bindings;
pub(crate) mod checkpoints;
pub(crate) mod consumers;
pub(crate) mod handlers;
