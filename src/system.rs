//! What the store itself writes into its log: records in streams that no caller can name. They take
//! positions as events do, and no reader is handed one.

use crate::stream::MAX_NAME;

const DELETION: u8 = 1;
const TRACKING: u8 = 2;
const LOST: u8 = 3;

/// What a system record says. All of it stands in the key of its stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum System<'a> {
    /// All events of an edition, or those in one domain of it, are gone that stand before this
    /// record.
    Deletion { edition: &'a str, domain: Option<&'a str> },
    /// A commit that has no events of its own, and only says how far an upstream was taken in.
    Tracking,
    /// The event that stood at this position is lost. Salvage and repair put such records where
    /// there was damage, so that positions stay dense.
    Lost,
}

impl<'a> System<'a> {
    /// The key of the stream, as `docs/FORMAT.md` defines it. An edition of length 0 does not
    /// exist, so it is the key of no caller's stream.
    pub fn key(&self) -> Vec<u8> {
        match *self {
            System::Tracking => vec![0, 0, TRACKING],
            System::Lost => vec![0, 0, LOST],
            System::Deletion { edition, domain } => {
                let mut key = vec![0, 0, DELETION, edition.len() as u8];
                key.extend_from_slice(edition.as_bytes());
                key.extend_from_slice(domain.unwrap_or("").as_bytes());
                key
            }
        }
    }

    /// What a record with this key says. `None` if the key is not one of these.
    #[inline]
    pub fn of(key: &'a [u8]) -> Option<Self> {
        match key {
            [0, 0, TRACKING] => Some(System::Tracking),
            [0, 0, LOST] => Some(System::Lost),
            [0, 0, DELETION, len, rest @ ..] if *len > 0 => {
                let (edition, domain) = rest.split_at_checked(*len as usize)?;
                let (edition, domain) = (str::from_utf8(edition).ok()?, str::from_utf8(domain).ok()?);
                let domain = (!domain.is_empty()).then_some(domain);
                domain.is_none_or(|name| name.len() <= MAX_NAME).then_some(System::Deletion { edition, domain })
            }
            _ => None,
        }
    }

    /// The type that such a record has.
    pub fn event_type(&self) -> &'static str {
        match self {
            System::Deletion { .. } => "EditionDeleted",
            System::Tracking => "Tracked",
            System::Lost => "Lost",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream::split_key;

    #[test]
    fn keys_come_back_and_are_nobody_elses() {
        for system in [
            System::Tracking,
            System::Lost,
            System::Deletion { edition: "what-if", domain: None },
            System::Deletion { edition: "x", domain: Some("order") },
        ] {
            let key = system.key();
            assert_eq!(System::of(&key), Some(system));
            assert_eq!(split_key(&key), None);
        }
        for key in [
            &b"\x05order1"[..],
            b"\0\x01x\x05order1",
            b"\0\0",
            b"\0\0\x01",
            b"\0\0\x01\0",
            b"\0\0\x01\x02x",
            b"\0\0\x09",
        ] {
            assert_eq!(System::of(key), None, "{key:?}");
        }
    }
}
