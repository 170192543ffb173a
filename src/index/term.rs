//! Terms: what events are indexed by, as bytes that sort by kind, edition and text.

use crate::stream::{MAX_NAME, main_key, names};
use crate::system::System;

/// The kind of a term.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u8)]
pub enum TermKind {
    Stream = 1,
    Domain = 2,
    Type = 3,
    Tag = 4,
    Correlation = 5,
    /// An event id that the writer gave.
    Id = 6,
    /// An idempotency key, of one stream or one upstream.
    Idempotency = 7,
    /// All events of a named edition.
    Edition = 8,
    /// A deletion of an edition, or of a domain in it.
    Deletion = 9,
    /// An upstream whose position commits track.
    Tracking = 10,
}

/// A term: kind, length of the name of the edition (0 for the main one), its name, and the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Term(Vec<u8>);

impl Term {
    pub fn new(kind: TermKind, edition: Option<&str>, text: &[u8]) -> Self {
        let mut term = Term::default();
        term.set(kind, edition.unwrap_or("").as_bytes(), text);
        term
    }

    /// Returns a term that was listed.
    pub fn of_bytes(term: Vec<u8>) -> Self {
        Term(term)
    }

    /// Turns this into another term, in the same memory. The name of the main edition is empty
    /// here.
    pub fn set(&mut self, kind: TermKind, edition: &[u8], text: &[u8]) {
        // A name from a caller must have been checked: with its length in a byte, a name of 256
        // bytes would be that of another edition.
        debug_assert!(edition.len() <= MAX_NAME);
        self.0.clear();
        self.0.extend_from_slice(&[kind as u8, edition.len() as u8]);
        self.0.extend_from_slice(edition);
        self.0.extend_from_slice(text);
    }

    /// Sets the stream with this key. The key of a stream in an edition already begins with the
    /// edition, which is before the domain once only here.
    pub fn stream(key: &[u8]) -> Self {
        let mut term = Term::default();
        term.set_stream(key);
        term
    }

    pub fn set_bytes(&mut self, term: &[u8]) {
        self.0.clear();
        self.0.extend_from_slice(term);
    }

    pub fn set_stream(&mut self, key: &[u8]) {
        let edition = names(key).map_or(&key[..0], |names| names.edition);
        self.set(TermKind::Stream, edition, main_key(key));
    }

    /// Sets the stream with the domain and root of this key, in another edition.
    pub fn stream_in(edition: Option<&str>, key: &[u8]) -> Self {
        Term::new(TermKind::Stream, edition, main_key(key))
    }

    /// Sets the idempotency key `text` of the stream with this key. Commits that only track an
    /// upstream share one system stream, so there the key belongs to the upstream.
    pub fn idempotency(key: &[u8], upstream: Option<&str>, text: &str) -> Self {
        let mut scoped = Vec::with_capacity(2 + key.len() + text.len());
        scoped.extend_from_slice(&(key.len() as u16).to_le_bytes());
        scoped.extend_from_slice(key);
        if let (Some(System::Tracking), Some(upstream)) = (System::of(key), upstream) {
            scoped.push(upstream.len() as u8);
            scoped.extend_from_slice(upstream.as_bytes());
        }
        scoped.extend_from_slice(text.as_bytes());
        Term::new(TermKind::Idempotency, None, &scoped)
    }

    /// Returns the key of the stream that an idempotency key belongs to.
    pub fn stream_of_key(&self) -> Option<&[u8]> {
        stream_of_key(&self.0)
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Returns the name of the edition in a term; empty in the main one.
pub fn edition(term: &[u8]) -> &[u8] {
    let len = term.get(1).map_or(0, |&len| usize::from(len));
    term.get(2..2 + len).unwrap_or_default()
}

/// Returns the text of a term, after kind and edition.
pub fn text(term: &[u8]) -> &[u8] {
    let edition = term.get(1).map_or(0, |&len| usize::from(len));
    term.get(2 + edition..).unwrap_or_default()
}

/// Returns the key of the stream that the idempotency key in a term belongs to.
pub fn stream_of_key(term: &[u8]) -> Option<&[u8]> {
    let (len, scoped) = text(term).split_first_chunk()?;
    scoped.get(..usize::from(u16::from_le_bytes(*len)))
}

/// Returns the key of the stream that a term is about.
pub fn stream_key(term: &[u8]) -> Vec<u8> {
    let edition = usize::from(term[1]);
    match edition {
        0 => term[2..].to_vec(),
        _ => [&[0], &term[1..]].concat(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::StreamId;

    #[test]
    fn streams_come_back() {
        for name in ["order-1", "order-1@what-if", "lobby"] {
            let stream: StreamId = name.parse().unwrap();
            let term = Term::stream(stream.key());
            assert_eq!(stream_key(term.bytes()), stream.key());
        }
    }

    #[test]
    fn editions_are_apart() {
        let main = Term::new(TermKind::Type, None, b"Paid");
        let other = Term::new(TermKind::Type, Some("x"), b"Paid");
        assert_ne!(main, other);
    }
}
