//! The store as an application uses it: appends, reads, queries, snapshots, editions, opening, and
//! random operations against a model.

mod append;
mod concurrency;
mod dcb;
mod editions;
mod golden;
mod idempotency;
mod large_commits;
mod model;
mod open;
mod query;
mod read;
mod regressions;
mod snapshots;
mod spare;
