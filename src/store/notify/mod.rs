//! Telling those who wait: threads and tasks that wait for events, and what runs at each commit.

pub(crate) mod hooks;
pub(crate) mod signal;
pub(crate) mod waiters;
