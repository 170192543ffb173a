//! System records: what the store itself writes into its log, in streams that no caller can name.
//! They have positions as events do, and no reader sees them.

use crate::stream::MAX_NAME;

const DELETION: u8 = 1;
const TRACKING: u8 = 2;
const LOST: u8 = 3;

/// The content of a system record, all of which is in the key of its stream.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum System<'a> {
    /// All events of an edition before this record, or those in one domain of it, are deleted.
    Deletion { edition: &'a str, domain: Option<&'a str> },
    /// A commit that has no events of its own, and only sets the tracked position of an upstream.
    Tracking,
    /// The event at this position is lost. Salvage and repair write such records for lost events,
    /// so that positions stay dense.
    Lost,
}

impl<'a> System<'a> {
    /// Returns the key of the stream, as `docs/FORMAT.md` defines it. An edition of length 0 does
    /// not exist, so it is not the key of a caller's stream.
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

    /// Returns the content of a record with this key; `None` if it is not a system record.
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

    /// Returns the type of such a record.
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
