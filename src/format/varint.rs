//! Unsigned LEB128 in its shortest form.

/// Maximum length of a varint in bytes.
pub const MAX: usize = 10;

#[inline]
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Returns the length of `value` in bytes.
pub fn len(value: u64) -> usize {
    (64 - (value | 1).leading_zeros() as usize).div_ceil(7)
}

/// Decodes a varint at the start of `bytes`: its value and length; `None` if it is cut off, too
/// long, or not in its shortest form.
#[inline(always)]
pub fn get(bytes: &[u8]) -> Option<(u64, usize)> {
    match *bytes {
        [first, ..] if first < 0x80 => Some((first.into(), 1)),
        [first, second, ..] if second < 0x80 => {
            (second != 0).then_some((u64::from(first & 0x7F) | u64::from(second) << 7, 2))
        }
        _ => get_long(bytes),
    }
}

/// Decodes one of three bytes or more.
fn get_long(bytes: &[u8]) -> Option<(u64, usize)> {
    let (mut value, mut at) = (0, 0);
    while at < MAX {
        let byte = *bytes.get(at)?;
        value |= u64::from(byte & 0x7F) << (7 * at);
        at += 1;
        if byte < 0x80 {
            let fits = at < MAX || byte == 1;
            return (byte != 0 && fits).then_some((value, at));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_at_every_width() {
        for shift in 0..64 {
            for value in [1u64 << shift, (1u64 << shift) - 1, !0 >> shift] {
                let mut out = Vec::new();
                put(&mut out, value);
                assert_eq!(out.len(), len(value));
                assert_eq!(get(&out), Some((value, out.len())));
                assert_eq!(get(&out[..out.len() - 1]), None);
            }
        }
    }

    #[test]
    fn long_forms_are_refused() {
        assert_eq!(get(&[0x80, 0x00]), None);
        assert_eq!(get(&[0xFF; 12]), None);
        assert_eq!(get(&[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0x02]), None);
    }
}
