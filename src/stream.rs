//! Names of streams: domain, root, edition.

use crate::error::{Error, Result};
use crate::system::System;
use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Maximum number of bytes in a domain or an edition.
pub(crate) const MAX_NAME: usize = 255;
/// Maximum number of bytes in a root.
pub(crate) const MAX_ROOT: usize = 4096;
/// Maximum number of bytes in the key of a stream.
pub(crate) const MAX_KEY: usize = 2 + MAX_NAME + 1 + MAX_NAME + MAX_ROOT;

/// The name of the main edition, which is also the unnamed one.
pub(crate) const MAIN: &str = "main";

/// The name of a stream: one ordered history, usually that of one aggregate.
///
/// It has three parts: a **domain** (what kind of thing: `order`), a **root** (which one: `123`;
/// any bytes), and an **edition** (which timeline; the main one unless named). The text form is
/// `order-123`, or `order-123@what-if` in an edition: the first `-` ends the domain and the last
/// `@` begins the edition. A `-` in a domain, an `@` inside a part, control characters, `%`, and
/// bytes that are not UTF-8 are percent-encoded in the text form, and only there. A text without a
/// `-` is a domain with an empty root.
///
/// Clones are cheap: they share one allocation.
///
/// ```
/// use annals::StreamId;
/// let order = StreamId::new("order", "123")?;
/// assert_eq!(order, "order-123".parse()?);
/// assert_eq!(order.in_edition("what-if")?.to_string(), "order-123@what-if");
///
/// let mail = StreamId::new("user", "ann@example.org")?;
/// assert_eq!(mail.to_string(), "user-ann%40example.org");
/// assert_eq!(mail, mail.to_string().parse()?);
///
/// assert!(StreamId::new("", "123").is_err());
/// # Ok::<(), annals::Error>(())
/// ```
///
/// # Limits
///
/// Domain and edition have 1 to 255 bytes, a root 0 to 4,096.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct StreamId {
    key: Arc<[u8]>,
}

/// The three parts of a key, borrowed from it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct KeyParts<'a> {
    pub edition: Option<&'a str>,
    pub domain: &'a str,
    pub root: &'a [u8],
}

impl StreamId {
    /// Returns the stream of `domain` and `root` in the main edition.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the domain is empty, [`Error::LimitExceeded`] if a part is longer than
    /// the [limits](StreamId#limits) allow.
    pub fn new(domain: impl AsRef<str>, root: impl AsRef<[u8]>) -> Result<Self> {
        Self::build(None, domain.as_ref(), root.as_ref())
    }

    /// Returns the same stream in another edition. `main` and the empty name are the main edition.
    ///
    /// # Errors
    ///
    /// [`Error::LimitExceeded`] if the name is longer than 255 bytes.
    pub fn in_edition(&self, edition: impl AsRef<str>) -> Result<Self> {
        let edition = edition.as_ref();
        let named = !edition.is_empty() && edition != MAIN;
        let parts = self.parts();
        Self::build(named.then_some(edition), parts.domain, parts.root)
    }

    /// Returns the domain: the kind of thing.
    pub fn domain(&self) -> &str {
        self.parts().domain
    }

    /// Returns the root: which thing of its domain.
    pub fn root(&self) -> &[u8] {
        self.parts().root
    }

    /// Returns the name of the edition, or `None` in the main one.
    pub fn edition(&self) -> Option<&str> {
        self.parts().edition
    }

    fn build(edition: Option<&str>, domain: &str, root: &[u8]) -> Result<Self> {
        check_name("domain", domain)?;
        if root.len() > MAX_ROOT {
            return Err(Error::limit("bytes in the root of a stream", root.len(), MAX_ROOT));
        }
        let mut key = Vec::with_capacity(3 + domain.len() + root.len());
        if let Some(edition) = edition {
            check_name("edition", edition)?;
            key.extend_from_slice(&[0, edition.len() as u8]);
            key.extend_from_slice(edition.as_bytes());
        }
        key.push(domain.len() as u8);
        key.extend_from_slice(domain.as_bytes());
        key.extend_from_slice(root);
        Ok(StreamId { key: key.into() })
    }

    /// Returns the canonical bytes of the name, as `docs/FORMAT.md` defines them.
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Returns the key, shared.
    pub(crate) fn shared_key(&self) -> Arc<[u8]> {
        self.key.clone()
    }

    /// Returns the stream with this key, or `None` if the bytes are not a key.
    pub(crate) fn from_key(key: &[u8]) -> Option<Self> {
        split_key(key)?;
        Some(StreamId { key: key.into() })
    }

    /// Returns the stream of a system record. It has a key and no name: it must not reach a caller.
    pub(crate) fn of_system(system: System<'_>) -> Self {
        StreamId { key: system.key().into() }
    }

    /// Returns the same stream in the main edition, if this one is in a named edition.
    pub(crate) fn in_main(&self) -> Option<Self> {
        let main = main_key(&self.key);
        (main.len() < self.key.len()).then(|| StreamId { key: main.into() })
    }

    fn parts(&self) -> KeyParts<'_> {
        split_key(&self.key).expect("a StreamId holds a valid key")
    }
}

/// Splits a key into its parts; `None` if the bytes are not a canonical key.
pub(crate) fn split_key(key: &[u8]) -> Option<KeyParts<'_>> {
    let KeyNames { edition, domain, root } = names(key)?;
    let text = |bytes| str::from_utf8(bytes).ok();
    let edition = if edition.is_empty() { None } else { Some(text(edition)?) };
    Some(KeyParts { edition, domain: text(domain)?, root })
}

/// Returns whether the bytes are a canonical key.
#[inline(always)]
pub(crate) fn is_key(key: &[u8]) -> bool {
    let is_text = |bytes: &[u8]| bytes.is_ascii() || str::from_utf8(bytes).is_ok();
    names(key).is_some_and(|names| is_text(names.edition) && is_text(names.domain))
}

/// The names in a key, as bytes.
pub(crate) struct KeyNames<'a> {
    /// Empty in the main edition.
    pub edition: &'a [u8],
    pub domain: &'a [u8],
    pub root: &'a [u8],
}

/// Returns the names in a key. Whether they are UTF-8 is not checked, which takes longer than all
/// the rest: see [`is_key`].
#[inline(always)]
pub(crate) fn names(key: &[u8]) -> Option<KeyNames<'_>> {
    let (edition, rest) = match key {
        [0, len, rest @ ..] => {
            let (edition, rest) = rest.split_at_checked(*len as usize)?;
            if edition.is_empty() || edition == MAIN.as_bytes() {
                return None;
            }
            (edition, rest)
        }
        _ => (&key[..0], key),
    };
    let (len, rest) = rest.split_first()?;
    let (domain, root) = rest.split_at_checked(*len as usize)?;
    (!domain.is_empty() && root.len() <= MAX_ROOT).then_some(KeyNames { edition, domain, root })
}

/// Returns the key of the same stream in the main edition.
pub(crate) fn main_key(key: &[u8]) -> &[u8] {
    match key {
        [0, len, rest @ ..] if *len > 0 => rest.get(usize::from(*len)..).unwrap_or(key),
        _ => key,
    }
}

/// Checks a name of 1 to 255 bytes.
pub(crate) fn check_name(what: &'static str, name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::invalid(what, "it is empty"));
    }
    if name.len() > MAX_NAME {
        return Err(Error::limit(bytes_of(what), name.len(), MAX_NAME));
    }
    Ok(())
}

/// What is limited in a name.
fn bytes_of(what: &str) -> &'static str {
    match what {
        "domain" => "bytes in the name of a domain",
        "edition" => "bytes in the name of an edition",
        "event type" => "bytes in an event type",
        "content type" => "bytes in a content type",
        "handler" => "bytes in the name of a handler",
        "consumer" => "bytes in the name of a consumer",
        "checkpoint" => "bytes in the name of a checkpoint",
        "upstream" => "bytes in the name of an upstream",
        "name of a projection" => "bytes in the name of a projection",
        _ => "bytes in a name",
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.parts();
        escape(f, parts.domain.as_bytes(), |c| c == '-' || c == '@')?;
        if !parts.root.is_empty() {
            f.write_str("-")?;
            escape(f, parts.root, |c| c == '@')?;
        }
        if let Some(edition) = parts.edition {
            f.write_str("@")?;
            escape(f, edition.as_bytes(), |c| c == '@')?;
        }
        Ok(())
    }
}

impl fmt::Debug for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "StreamId({self})")
    }
}

/// Writes `bytes`, with `%`, control characters, bytes that are not UTF-8, and those in `also`
/// percent-encoded.
fn escape(f: &mut fmt::Formatter<'_>, bytes: &[u8], also: fn(char) -> bool) -> fmt::Result {
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c == '%' || c.is_control() || also(c) {
                let mut utf8 = [0; 4];
                for byte in c.encode_utf8(&mut utf8).bytes() {
                    write!(f, "%{byte:02X}")?;
                }
            } else {
                write!(f, "{c}")?;
            }
        }
        for byte in chunk.invalid() {
            write!(f, "%{byte:02X}")?;
        }
    }
    Ok(())
}

impl FromStr for StreamId {
    type Err = Error;

    /// Parses the text form.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] for an empty domain or edition, a `%` without two hexadecimal digits
    /// after it, a raw control character, or a domain or edition that is not UTF-8;
    /// [`Error::LimitExceeded`] for a part that is too long.
    fn from_str(text: &str) -> Result<Self> {
        if text.contains(char::is_control) {
            return Err(Error::invalid("stream name", "it has a control character; write it percent-encoded"));
        }
        let (name, edition) = match text.rsplit_once('@') {
            Some((_, "")) => return Err(Error::invalid("edition", "it is empty")),
            Some((name, edition)) => (name, edition),
            None => (text, ""),
        };
        let (domain, root) = name.split_once('-').unwrap_or((name, ""));
        let id = StreamId::new(unescape_text(domain)?, unescape(root)?)?;
        if edition.is_empty() { Ok(id) } else { id.in_edition(unescape_text(edition)?) }
    }
}

fn unescape(text: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        rest = tail;
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = tail.get(..2).and_then(|d| str::from_utf8(d).ok());
        let digits = digits.filter(|d| d.bytes().all(|b| b.is_ascii_hexdigit()));
        let Some(decoded) = digits.and_then(|d| u8::from_str_radix(d, 16).ok()) else {
            let why = "a % needs two hexadecimal digits after it";
            return Err(Error::invalid("stream name", why));
        };
        bytes.push(decoded);
        rest = &tail[2..];
    }
    Ok(bytes)
}

fn unescape_text(text: &str) -> Result<String> {
    String::from_utf8(unescape(text)?).map_err(|_| Error::invalid("stream name", "domain and edition must be UTF-8"))
}

impl Ord for StreamId {
    /// By domain, then root, then edition (the main one first).
    fn cmp(&self, other: &Self) -> Ordering {
        let (a, b) = (self.parts(), other.parts());
        (a.domain, a.root, a.edition).cmp(&(b.domain, b.root, b.edition))
    }
}

impl PartialOrd for StreamId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Returns the sequence that the next event of a stream must have, given the one that its event at
/// hand has: `next` if the stream has events. The first event of a stream in a named edition may
/// have any sequence that the stream has had in the main edition, or the next one there.
///
/// `main_next` returns the next sequence of the stream with this key, `None` if it has no event.
pub(crate) fn expected_sequence(
    key: &[u8],
    sequence: u64,
    next: Option<u64>,
    main_next: impl FnOnce(&[u8]) -> Option<u64>,
) -> u64 {
    if let Some(next) = next {
        return next;
    }
    match main_key(key) {
        main if main.len() < key.len() => main_next(main).unwrap_or(0).min(sequence),
        _ => 0,
    }
}

/// Returns whether a stream may continue with this sequence. In a log that has lost events, now or
/// in an earlier salvage, it may be a later one than expected.
pub(crate) fn continues(sequence: u64, expected: u64, lossy: bool) -> bool {
    sequence == expected || (lossy && sequence > expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_form_round_trips() {
        let roots: [&[u8]; 8] =
            [b"123", b"", b"1-364285768", b"a@b@c", b"100%", b"line\nfeed", b"\xFF\xFE", "Zürich".as_bytes()];
        for domain in ["order", "a-b", "x@y", "per%cent", "with space"] {
            for root in roots {
                for edition in ["", "what-if", "v@2"] {
                    let id = StreamId::new(domain, root).unwrap();
                    let id = id.in_edition(edition).unwrap();
                    let again: StreamId = id.to_string().parse().unwrap();
                    assert_eq!(again, id, "{id}");
                    assert_eq!(again.domain(), domain);
                    assert_eq!(again.root(), root);
                    assert_eq!(again.edition().unwrap_or(""), edition);
                    assert_eq!(StreamId::from_key(id.key()), Some(id));
                }
            }
        }
    }

    #[test]
    fn plain_names_stay_plain() {
        for text in ["order-123", "incident-1-364285768", "lobby", "case-a b", "order-1@x"] {
            assert_eq!(text.parse::<StreamId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn main_is_the_unnamed_edition() {
        let plain: StreamId = "order-1".parse().unwrap();
        assert_eq!(plain, "order-1@main".parse().unwrap());
        assert_eq!(plain.in_edition("x").unwrap().in_edition("").unwrap(), plain);
    }

    #[test]
    fn bad_texts_are_refused() {
        for text in ["", "-1", "order-1@", "@x", "order-%4", "order-%zz", "a\nb-1", "%FF-1"] {
            assert!(text.parse::<StreamId>().is_err(), "{text:?}");
        }
        assert!(StreamId::new("x".repeat(256), "1").is_err());
        assert!(StreamId::new("x", "1".repeat(4097)).is_err());
        assert!(StreamId::new("x", "1".repeat(4096)).is_ok());
    }

    #[test]
    fn broken_keys_are_not_streams() {
        let keys: [&[u8]; 8] =
            [b"", b"\0", b"\x05ab", b"\0\0\x01a", b"\0\x04main\x01a", b"\x01\xFF", b"\0\x01x", b"\0\x01x\0"];
        for key in keys {
            assert_eq!(StreamId::from_key(key), None, "{key:?}");
        }
    }
}
