//! Faults that use has shown, each told as a story and then tested: what went wrong, the mechanism,
//! and what holds now. A test here fails when its fault is planted again.

mod bindings;
mod durability;
mod flight;
mod owner;
mod reads;
mod tools;
mod unread;
