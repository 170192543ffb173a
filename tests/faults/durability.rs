//! Handles, threads and time: what works on the files of a store, and until when.
