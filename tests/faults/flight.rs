//! Answers that rest on what is in flight, and limits together.
