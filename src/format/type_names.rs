//! The names of event types that have been read. Checking that 16 bytes are UTF-8 takes longer than
//! all the rest of decoding an event, and stores have few types.

use std::sync::OnceLock;

const SLOTS: usize = 256;

/// Checked names, each in the slot that its bytes lead to; the first one keeps the slot. They are
/// kept for the life of the process: 64 KiB at most.
static NAMES: [OnceLock<Box<str>>; SLOTS] = [const { OnceLock::new() }; SLOTS];

/// The slot of a checked name, if it has one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NameSlot(Option<u8>);

/// Returns the slot of a name: multiplicative hashing of its first and last bytes (Knuth, The Art
/// of Computer Programming, volume 3, 6.4).
#[inline]
fn place(name: &[u8]) -> u8 {
    let word = match (name.first_chunk::<8>(), name.last_chunk::<8>()) {
        (Some(first), Some(last)) => u64::from_le_bytes(*first) ^ u64::from_le_bytes(*last).rotate_left(29),
        _ => name.iter().fold(0, |word, &byte| word << 8 | u64::from(byte)),
    };
    ((word ^ name.len() as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8
}

/// Returns whether two names are equal. Most have 8 to 16 bytes, which two words cover.
#[inline]
fn are_same(a: &[u8], b: &[u8]) -> bool {
    match (a.first_chunk::<8>(), a.last_chunk::<8>(), b.first_chunk::<8>(), b.last_chunk::<8>()) {
        (Some(a0), Some(a1), Some(b0), Some(b1)) if a.len() == b.len() && a.len() <= 16 => a0 == b0 && a1 == b1,
        _ => a == b,
    }
}

/// Returns the slot of the name with these bytes; `None` if they are not UTF-8.
#[inline]
pub fn slot(name: &[u8]) -> Option<NameSlot> {
    let at = place(name);
    match NAMES[usize::from(at)].get() {
        Some(known) if are_same(known.as_bytes(), name) => Some(NameSlot(Some(at))),
        known => keep(name, at, known.is_none()),
    }
}

#[cold]
fn keep(name: &[u8], at: u8, is_free: bool) -> Option<NameSlot> {
    let text = str::from_utf8(name).ok()?;
    // Another thread may have stored another name there.
    let kept = is_free && &**NAMES[usize::from(at)].get_or_init(|| text.into()) == text;
    Some(NameSlot(kept.then_some(at)))
}

/// Returns the name with these bytes, which were checked, and led to this slot.
#[inline]
pub fn name(slot: NameSlot, bytes: &[u8]) -> &str {
    match slot.0.and_then(|at| NAMES[usize::from(at)].get()) {
        Some(name) => name,
        None => str::from_utf8(bytes).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back_kept_or_not() {
        let names: Vec<String> = (0..2000).map(|n| format!("Type{n}{}", "é".repeat(n % 7))).collect();
        let slots: Vec<NameSlot> = names.iter().map(|name| slot(name.as_bytes()).unwrap()).collect();
        assert!(slots.iter().any(|slot| slot.0.is_some()) && slots.iter().any(|slot| slot.0.is_none()));
        for (text, &kept) in names.iter().zip(&slots) {
            assert_eq!(name(kept, text.as_bytes()), text);
            assert_eq!(slot(text.as_bytes()), Some(kept));
        }
        assert_eq!(slot(b"\xFF"), None);
        assert_eq!(slot(b"long enough \xFF"), None);
    }
}
