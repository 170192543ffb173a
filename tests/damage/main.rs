//! Damaged stores: opening and reading, salvage, and repair.

mod flips;
mod repair;
mod salvage;
