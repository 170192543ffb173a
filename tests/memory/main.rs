//! Memory of stores and of positions. Both are measured on demand, each in a run of its own:
//!
//! ```sh
//! cargo test --release --test memory store -- --ignored --nocapture
//! cargo test --release --test memory positions -- --ignored --nocapture
//! ```

mod positions;
#[cfg(target_os = "linux")]
mod store;
