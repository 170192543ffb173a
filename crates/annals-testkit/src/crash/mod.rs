//! Crashes of small workloads on the simulated disk, and the oracle of what may be left.
//!
//! The tests run them at a small scale, `annals-campaign` by the million.

pub mod holds;
pub mod oracle;
pub mod pages;
pub mod schedules;
pub mod sweeps;
