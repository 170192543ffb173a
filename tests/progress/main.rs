//! How far readers have come: handler positions and checkpoints, subscriptions, consumers,
//! projections.

mod consumers;
mod losses;
mod positions;
mod positions_crash;
mod projections;
mod subscriptions;
