//! The content digest of an idempotent commit: attribute 129 of its frame.
//!
//! A repeat under the same idempotency key must have the same content. Left out is what may differ
//! between two attempts: expectations and guards, event ids, occurrence times, correlation and
//! causation ids, metadata.
//!
//! SipHash-2-4 with 128 bits and the key 0 (Aumasson and Bernstein, 2012), over fields that each
//! begin with their length or have a fixed one. It detects mistakes, not forgeries: whoever can
//! choose the content of both commits is the caller.

use super::extras::Extras;
use super::record::Layout;
use crate::event::ContentType;
use siphasher::sip128::{Hasher128, SipHasher24};
use std::hash::Hasher;

/// Length of a digest in bytes.
pub const LEN: usize = 16;

pub struct ContentDigest(SipHasher24);

impl ContentDigest {
    pub fn new() -> Self {
        ContentDigest(SipHasher24::new())
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.number(bytes.len() as u64);
        self.0.write(bytes);
    }

    fn number(&mut self, number: u64) {
        self.0.write(&number.to_le_bytes());
    }

    /// Adds an event whose parts are in `bytes`.
    pub fn event(&mut self, layout: &Layout, bytes: &[u8]) {
        let extras: Extras<'_> = layout.extras(bytes);
        self.bytes(layout.key(bytes));
        self.bytes(layout.event_type(bytes));
        let (code, name) = match layout.content_type(bytes) {
            ContentType::Bytes => (0, String::new()),
            ContentType::Json => (1, String::new()),
            ContentType::Text => (2, String::new()),
            ContentType::Bincode => (3, String::new()),
            ContentType::Named(name) => (7, name),
        };
        self.number(code);
        self.bytes(name.as_bytes());
        self.number(extras.schema_version().into());
        let tags = extras.tags();
        self.number(tags.len() as u64);
        tags.for_each(|tag| self.bytes(tag));
        self.bytes(layout.data(bytes));
    }

    /// Adds the tracked position that the commit sets.
    pub fn tracking(&mut self, upstream: &str, position: u64) {
        self.bytes(upstream.as_bytes());
        self.number(position);
    }

    pub fn finish(&self) -> [u8; LEN] {
        self.0.finish128().as_bytes()
    }
}
