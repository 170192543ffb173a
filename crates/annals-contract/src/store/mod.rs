//! A store of this library, as the contract sees it: through its public face only.

mod events;
mod positions;
mod snapshots;
