//! Names that events share, with the number of their events.

use crate::failure::Result;
use crate::output::{List, Out, number, text};
use annals::info::NameInfo;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

struct Name {
    kind: &'static str,
    info: NameInfo,
}

impl Serialize for Name {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(3))?;
        map.serialize_entry(self.kind, &self.info.name)?;
        map.serialize_entry("events", &self.info.events)?;
        map.serialize_entry("in_editions", &self.info.in_editions)?;
        map.end()
    }
}

/// Lists names. `kind` says what they are names of.
pub fn list(out: &mut Out, kind: &'static str, names: Vec<NameInfo>) -> Result<()> {
    let mut list = List::new(out, [text(kind), number("events"), number("in_editions")]);
    for info in names {
        list.add(&Name { kind, info }, |Name { info, .. }| {
            vec![info.name.clone(), info.events.to_string(), info.in_editions.to_string()]
        })?;
    }
    list.end()
}
