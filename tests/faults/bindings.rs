//! What is bound to an event: snapshots, states, checkpoints, positions, letters, and those who follow.
