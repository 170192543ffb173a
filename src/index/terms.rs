//! The terms of a segment in memory, each with a number. What many terms share, the name of an
//! edition, a stream, an idempotency key, is stored once.
//!
//! A term takes its text, at least 3 bytes besides, 8 for its place, and 11 to 22 in the table. As
//! a map of boxed terms, a unique tag of four bytes took 170 bytes, and one in an edition with a
//! long name 400: a segment of 64 MiB could have an index of several GiB.

use super::term::{self, Term, TermKind};
use crate::format::index_file;
use crate::format::varint;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

/// First bytes of short forms, besides the kinds of terms: a text that idempotency keys share, and
/// a key in one stream.
const TEXT: u8 = 0;
const KEYED: u8 = 0x80 | TermKind::Idempotency as u8;

/// Bytes that an edition takes besides its name.
const EDITION: usize = 80;

const FIRST_CHUNK: usize = 1 << 10;
const CHUNK: usize = 1 << 20;

/// The place of a short form.
#[derive(Clone, Copy)]
struct ShortFormPlace {
    chunk: u32,
    at: u32,
}

#[derive(Clone)]
pub(super) struct Terms {
    seed: u64,
    /// By hash: 0, or the low half of the hash and the number plus 1. The length is a power of two.
    slots: Vec<u64>,
    /// By number.
    places: Vec<ShortFormPlace>,
    /// Short forms: length, first byte, then the number of an edition and text, or the numbers of a
    /// stream and of a text.
    chunks: Vec<Vec<u8>>,
    /// Bytes of all chunks and editions.
    bytes: usize,
    /// The names of editions; the first is that of the main one.
    editions: Vec<Box<[u8]>>,
    edition_numbers: HashMap<Box<[u8]>, u32>,
    /// The edition of the last lookup.
    edition: u32,
    scratch: Vec<u8>,
}

impl Default for Terms {
    fn default() -> Self {
        Terms {
            seed: RandomState::new().hash_one(0),
            slots: Vec::new(),
            places: Vec::new(),
            chunks: Vec::new(),
            bytes: 0,
            editions: vec![Box::default()],
            edition_numbers: HashMap::new(),
            edition: 0,
            scratch: Vec::new(),
        }
    }
}

/// The stream and the text of an idempotency key, if it can be split and joined again.
fn keyed(term: &[u8]) -> Option<(Term, &[u8])> {
    let [kind, 0, low, high, rest @ ..] = term else { return None };
    let (key, text) = rest.split_at_checked(u16::from_le_bytes([*low, *high]).into())?;
    let stream = Term::stream(key);
    (*kind == TermKind::Idempotency as u8 && term::stream_key(stream.bytes()) == key).then_some((stream, text))
}

/// A term as the pieces that it consists of.
pub(super) struct Pieces<'a> {
    head: [u8; 6],
    head_len: usize,
    parts: [&'a [u8]; 3],
}

impl Pieces<'_> {
    fn all(&self) -> [&[u8]; 4] {
        let [a, b, c] = self.parts;
        [&self.head[..self.head_len], a, b, c]
    }

    pub(super) fn put(&self, out: &mut Vec<u8>) {
        out.clear();
        self.all().into_iter().for_each(|piece| out.extend_from_slice(piece));
    }

    pub(super) fn starts_with(&self, prefix: &[u8]) -> bool {
        let mut left = prefix;
        let same = self.all().into_iter().all(|piece| {
            let len = piece.len().min(left.len());
            let (here, after) = left.split_at(len);
            left = after;
            piece[..len] == *here
        });
        same && left.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.all().into_iter().map(<[u8]>::len).sum()
    }

    /// The order of terms, as bytes.
    pub(super) fn cmp(&self, other: &Pieces<'_>) -> Ordering {
        let ([edition, text, rest], [other_edition, other_text, other_rest]) = (self.parts, other.parts);
        let same_head = (self.head, self.head_len) == (other.head, other.head_len);
        if same_head && std::ptr::eq(edition, other_edition) {
            // Most have the same kind and edition. The head says how long the text is, if anything
            // follows it.
            return text.cmp(other_text).then_with(|| rest.cmp(other_rest));
        }
        let (ours, theirs) = (self.all(), other.all());
        let (mut ours, mut theirs) = (ours.into_iter(), theirs.into_iter());
        let (mut a, mut b): (&[u8], &[u8]) = (&[], &[]);
        loop {
            a = if a.is_empty() { ours.find(|piece| !piece.is_empty()).unwrap_or_default() } else { a };
            b = if b.is_empty() { theirs.find(|piece| !piece.is_empty()).unwrap_or_default() } else { b };
            let len = a.len().min(b.len());
            let order = a[..len].cmp(&b[..len]);
            if len == 0 || order.is_ne() {
                return order.then(a.len().cmp(&b.len()));
            }
            (a, b) = (&a[len..], &b[len..]);
        }
    }
}

impl Terms {
    /// Returns how many numbers have been assigned. Some are of texts, not of terms.
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// Returns the number of bytes of memory.
    pub(super) fn weight(&self) -> usize {
        self.bytes + self.slots.len() * 8 + self.places.len() * 8
    }

    /// Returns the number of a term, if it has one.
    pub(super) fn find(&self, term: &[u8]) -> Option<u32> {
        let mut short = Vec::with_capacity(term.len() + 8);
        if let Some((stream, text)) = keyed(term) {
            let (stream, text) = (self.find(stream.bytes())?, self.find_short(&[&[TEXT], text].concat())?);
            short.push(KEYED);
            varint::put(&mut short, stream.into());
            varint::put(&mut short, text.into());
        } else {
            let name = term::edition(term);
            let edition = if name.is_empty() { 0 } else { *self.edition_numbers.get(name)? };
            short.push(*term.first()?);
            varint::put(&mut short, edition.into());
            short.extend_from_slice(term::text(term));
        }
        self.find_short(&short)
    }

    /// Returns the number of a term, and assigns one if it has none.
    pub(super) fn number(&mut self, term: &[u8]) -> u32 {
        let mut short = std::mem::take(&mut self.scratch);
        short.clear();
        if let Some((stream, text)) = keyed(term) {
            let (stream, text) = (self.number(stream.bytes()), self.number_short(&[&[TEXT], text].concat()));
            short.push(KEYED);
            varint::put(&mut short, stream.into());
            varint::put(&mut short, text.into());
        } else {
            short.push(term.first().copied().unwrap_or_default());
            varint::put(&mut short, self.edition_number(term::edition(term)).into());
            short.extend_from_slice(term::text(term));
        }
        let number = self.number_short(&short);
        self.scratch = short;
        number
    }

    fn edition_number(&mut self, name: &[u8]) -> u32 {
        if *self.editions[self.edition as usize] == *name {
            return self.edition;
        }
        self.edition = match (name.is_empty(), self.edition_numbers.get(name)) {
            (true, _) => 0,
            (false, Some(&number)) => number,
            (false, None) => {
                let number = self.editions.len() as u32;
                self.editions.push(name.into());
                self.bytes += 2 * name.len() + EDITION;
                self.edition_numbers.insert(name.into(), number);
                number
            }
        };
        self.edition
    }

    /// Returns the slot of a short form, or the free one where it belongs.
    fn slot(&self, short: &[u8], hash: u32) -> usize {
        let mask = self.slots.len() - 1;
        let mut at = hash as usize & mask;
        loop {
            let slot = self.slots[at];
            if slot == 0 || (slot >> 32 == u64::from(hash) && self.short(slot as u32 - 1) == short) {
                return at;
            }
            at = (at + 1) & mask;
        }
    }

    fn find_short(&self, short: &[u8]) -> Option<u32> {
        if self.slots.is_empty() {
            return None;
        }
        let hash = index_file::hash(short, self.seed) as u32;
        (self.slots[self.slot(short, hash)] as u32).checked_sub(1)
    }

    fn number_short(&mut self, short: &[u8]) -> u32 {
        if self.places.len() * 4 >= self.slots.len() * 3 {
            self.grow();
        }
        let hash = index_file::hash(short, self.seed) as u32;
        let at = self.slot(short, hash);
        if let Some(number) = (self.slots[at] as u32).checked_sub(1) {
            return number;
        }
        let number = self.places.len() as u32;
        self.slots[at] = u64::from(hash) << 32 | u64::from(number + 1);
        let place = self.put(short);
        self.places.push(place);
        number
    }

    fn grow(&mut self) {
        let len = (self.slots.len() * 2).max(16);
        let before = std::mem::replace(&mut self.slots, vec![0; len]);
        for slot in before.into_iter().filter(|&slot| slot != 0) {
            let mut at = (slot >> 32) as usize & (len - 1);
            while self.slots[at] != 0 {
                at = (at + 1) & (len - 1);
            }
            self.slots[at] = slot;
        }
    }

    fn put(&mut self, short: &[u8]) -> ShortFormPlace {
        let needed = short.len() + varint::MAX;
        let has_room = self.chunks.last().is_some_and(|chunk| chunk.capacity() - chunk.len() >= needed);
        if !has_room {
            let capacity = self.bytes.clamp(FIRST_CHUNK, CHUNK).max(needed);
            self.chunks.push(Vec::with_capacity(capacity));
            self.bytes += capacity;
        }
        let number = self.chunks.len() - 1;
        let chunk = &mut self.chunks[number];
        let place = ShortFormPlace { chunk: number as u32, at: chunk.len() as u32 };
        varint::put(chunk, short.len() as u64);
        chunk.extend_from_slice(short);
        place
    }

    fn short(&self, number: u32) -> &[u8] {
        let ShortFormPlace { chunk, at } = self.places[number as usize];
        let bytes = &self.chunks[chunk as usize][at as usize..];
        let (len, skip) = varint::get(bytes).unwrap_or_default();
        &bytes[skip..][..len as usize]
    }

    /// Returns the edition and the text of a short form that is not a key.
    fn plain<'a>(&'a self, short: &'a [u8]) -> (&'a [u8], &'a [u8]) {
        let (edition, len) = varint::get(&short[1..]).unwrap_or_default();
        (&self.editions[edition as usize], &short[1 + len..])
    }

    /// Returns whether the term with this number begins with `prefix`.
    #[inline]
    pub(super) fn begins(&self, number: u32, prefix: &[u8]) -> bool {
        // Most are of another kind.
        let kind = self.short(number)[0] & 0x7F;
        prefix.first().is_none_or(|&first| first == kind) && self.pieces(number).starts_with(prefix)
    }

    /// Returns the term with this number; that of a text that idempotency keys share begins with 0.
    pub(super) fn pieces(&self, number: u32) -> Pieces<'_> {
        let short = self.short(number);
        if short[0] == TEXT {
            return Pieces { head: [0; 6], head_len: 1, parts: [&short[1..], &[], &[]] };
        }
        if short[0] != KEYED {
            let (edition, text) = self.plain(short);
            let head = [short[0], edition.len() as u8, 0, 0, 0, 0];
            return Pieces { head, head_len: 2, parts: [edition, text, &[]] };
        }
        let (stream, len) = varint::get(&short[1..]).unwrap_or_default();
        let (text, _) = varint::get(&short[1 + len..]).unwrap_or_default();
        let (edition, main) = self.plain(self.short(stream as u32));
        let named = if edition.is_empty() { 0 } else { 2 + edition.len() };
        let [low, high] = ((named + main.len()) as u16).to_le_bytes();
        let head = [TermKind::Idempotency as u8, 0, low, high, 0, edition.len() as u8];
        let head_len = if edition.is_empty() { 4 } else { 6 };
        Pieces { head, head_len, parts: [edition, main, &self.short(text as u32)[1..]] }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::StreamId;

    #[test]
    fn terms_come_back_and_keep_their_numbers() {
        let streams: Vec<StreamId> = ["order-1", "order-2", "order-1@what-if"].map(|name| name.parse().unwrap()).into();
        let mut all: Vec<Term> = streams.iter().map(|stream| Term::stream(stream.key())).collect();
        for stream in &streams {
            for text in ["", "a key", "another key"] {
                all.push(Term::idempotency(stream.key(), None, text));
            }
        }
        // Not the key of a stream that a caller can name.
        all.push(Term::idempotency(&[0, 0, 2], Some("upstream"), "a key"));
        all.push(Term::idempotency(&[0, 0, 1], None, "a key"));
        all.push(Term::idempotency(&[0, 0], None, "a key"));
        for n in 0..3000 {
            for edition in [None, Some("what-if"), Some("other")] {
                all.push(Term::new(TermKind::Tag, edition, format!("tag {n}").as_bytes()));
            }
        }
        all.push(Term::new(TermKind::Tag, None, &[7; 3 << 20]));
        all.push(Term::new(TermKind::Edition, Some("what-if"), b""));
        let mut terms = Terms::default();
        assert_eq!(terms.find(all[0].bytes()), None);
        let numbers: Vec<u32> = all.iter().map(|term| terms.number(term.bytes())).collect();
        let mut bytes = Vec::new();
        for (term, &number) in all.iter().zip(&numbers) {
            assert_eq!((terms.find(term.bytes()), terms.number(term.bytes())), (Some(number), number), "{term:?}");
            terms.pieces(number).put(&mut bytes);
            assert_eq!(bytes, term.bytes());
            assert!(terms.pieces(number).starts_with(&bytes[..bytes.len() / 2]));
        }
        let mut sorted = numbers.clone();
        sorted.sort_by(|&a, &b| terms.pieces(a).cmp(&terms.pieces(b)));
        let mut expected = all.clone();
        expected.sort();
        assert!(sorted.iter().map(|&n| &all[numbers.iter().position(|&m| m == n).unwrap()]).eq(&expected));
        for unknown in
            [Term::new(TermKind::Tag, Some("none"), b"tag 1"), Term::idempotency(streams[0].key(), None, "unknown")]
        {
            assert_eq!(terms.find(unknown.bytes()), None);
        }
    }

    /// What many terms share is stored once.
    #[test]
    fn a_term_costs_what_it_costs() {
        let (mut tags, mut keys) = (Terms::default(), Terms::default());
        let (edition, long) = ("e".repeat(255), "k".repeat(1024));
        for n in 0..100_000 {
            tags.number(Term::new(TermKind::Tag, Some(&edition), format!("{n:05}").as_bytes()).bytes());
            let stream = StreamId::new("s", format!("{n:05}")).unwrap();
            keys.number(Term::idempotency(stream.key(), None, &long).bytes());
        }
        assert!(tags.weight() < 100_000 * 40, "{}", tags.weight());
        assert!(keys.weight() < 100_000 * 80, "{}", keys.weight());
    }
}
