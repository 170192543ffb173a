//! Opening a store, and saying on stderr what that has found.

use crate::failure::{Failure, Result};
use crate::output::{note, one_line};
use annals::{AsOf, Error, Event, Options, Store};
use std::path::Path;

/// What one line of an import may have, and a little more for what is not in the line: events of a store that was opened with higher limits pass, too.
const MAX_EVENT: usize = (64 << 20) + (1 << 20);
const MAX_COMMIT: usize = 256 << 20;

pub fn to_read(path: &Path) -> Result<Store> {
    let store = Options::new().create(false).open_read_only(path)?;
    warn(&store);
    Ok(store)
}

/// Opens to write, and creates what is missing.
pub fn to_write(path: &Path, options: Options) -> Result<Store> {
    let store = with_limits(options).open(path)?;
    warn(&store);
    Ok(store)
}

/// The limits of all stores that are opened to write.
pub fn with_limits(options: Options) -> Options {
    options.max_event_bytes(MAX_EVENT).max_commit_bytes(MAX_COMMIT)
}

/// Says that a position is not there yet: it may have been meant for something else, such as a day.
pub fn note_beyond(store: &Store, point: Option<AsOf>) {
    if let Some(AsOf::Position(position)) = point
        && position >= store.len()
    {
        let count = store.len();
        note("annals: note: ", &format!("position {position} is not reached: the store has {count} events, from 0 on"));
    }
}

/// Says on stderr that what is shown is not about an event of this log.
pub fn note_fault(what: &str, fault: Option<&str>) {
    if let Some(fault) = fault {
        note("annals: warning: ", &one_line(&format!("{what}: {fault}; it is refused until it is reset")));
    }
}

/// Gaps in what is read of a damaged store: they are said on stderr, and what stands behind them is read all the same.
#[derive(Default)]
pub struct Gaps {
    met: bool,
}

impl Gaps {
    /// The event, or `None` at a gap.
    pub fn pass(&mut self, read: annals::Result<Event>) -> Result<Option<Event>> {
        match read {
            Err(gap @ Error::Damaged(_)) => {
                self.met = true;
                note("annals: error: ", &one_line(&gap.to_string()));
                Ok(None)
            }
            read => Ok(read.map(Some)?),
        }
    }

    /// Nobody takes an answer with gaps for a whole one.
    pub fn end(self) -> Result<()> {
        if self.met { Err(Failure::gaps_told()) } else { Ok(()) }
    }
}

fn warn(store: &Store) {
    let report = store.open_report();
    let warning = |text: &str| note("annals: warning: ", &one_line(text));
    if let Some(cut) = &report.cut {
        let count = cut.bytes.end - cut.bytes.start;
        let (path, from, why) = (cut.path.display(), cut.bytes.start, &cut.why);
        let found = format!("{path}: {count} bytes from {from} on are not a commit ({why})");
        match &cut.quarantine {
            Some(kept) => warning(&format!("{found}; they were cut and are kept in {}", kept.display())),
            None => warning(&format!("{found}; they are left where they are and not read")),
        }
    }
    for damage in &report.damage {
        warning(&format!("damaged: {damage}; read around"));
    }
    for notice in &report.notices {
        warning(notice);
    }
}
