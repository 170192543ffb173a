//! A store of this library as a backend of the contract, through the public API only.

mod events;
mod positions;
mod snapshots;
