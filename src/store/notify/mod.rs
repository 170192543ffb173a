//! Notification of threads and tasks that wait for events, and of hooks that run at each commit.

pub(crate) mod hooks;
pub(crate) mod signal;
pub(crate) mod waiters;
