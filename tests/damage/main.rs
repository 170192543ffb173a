//! Damaged stores: what opening and reading make of them, salvage, and repair.

mod flips;
mod repair;
mod salvage;
