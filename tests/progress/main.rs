//! Progress of readers: handler positions and checkpoints, subscriptions, consumers, projections.

mod consumers;
mod losses;
mod positions;
mod positions_crash;
mod projections;
mod subscriptions;
