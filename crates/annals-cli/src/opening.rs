//! Opens a store, and prints on stderr what the open has found.

use crate::failure::{Failure, Result};
use crate::output::{note, one_line};
use crate::times::Time;
use annals::fs::MemFs;
use annals::{AsOf, Error, Event, Options, Store, Timestamp};
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

/// Maximum sizes in bytes of an event and of a commit in any store, so that everything in one store
/// can be put into another.
pub const MAX_EVENT: usize = 512 << 20;
const MAX_COMMIT: usize = 1 << 30;

/// If the newest event was recorded this far ahead of the clock, a warning is printed.
const AHEAD: Duration = Duration::from_secs(600);

pub fn to_read(path: &Path) -> Result<Store> {
    // Without maps: a bad sector is then an error of a read, and does not end the process.
    let store = Options::new().create(false).memory_map(false).open_read_only(path)?;
    warn(&store);
    Ok(store)
}

/// Opens for writing, and creates a missing store.
pub fn to_write(path: &Path, options: Options) -> Result<Store> {
    Ok(to_write_or_not(path, options)?)
}

/// Opens for writing; `None` if there is no store.
pub fn existing_to_write(path: &Path, options: Options) -> Result<Option<Store>> {
    match to_write_or_not(path, options.create(false)) {
        Err(Error::NotAStore { .. }) => Ok(None),
        opened => Ok(Some(opened?)),
    }
}

fn to_write_or_not(path: &Path, options: Options) -> annals::Result<Store> {
    let store = with_limits(options).open(path)?;
    warn(&store);
    Ok(store)
}

/// Returns an empty store in memory, which accepts what a new store would accept.
pub fn rehearsal() -> Result<Store> {
    Ok(with_limits(Options::new()).file_system(MemFs::new()).maintenance(false).open("memory")?)
}

/// Warns about a store whose time is ahead of the clock: times never decrease, so that all later
/// events get that time, too.
pub fn warn_ahead(recorded_at: Timestamp) {
    let now = Timestamp::now();
    if ahead(recorded_at, now) {
        let text = format!(
            "the time of the store is {}, ahead of the clock ({}): all events are recorded with that time until the \
                clock has reached it",
            Time(recorded_at),
            Time(now)
        );
        note("annals: warning: ", &text);
    }
}

/// Returns whether a time is further ahead of another than two clocks may differ.
pub fn ahead(time: Timestamp, now: Timestamp) -> bool {
    i128::from(time.as_nanos()) - i128::from(now.as_nanos()) > AHEAD.as_nanos() as i128
}

/// Sets the limits of all stores that are opened for writing.
pub fn with_limits(options: Options) -> Options {
    // A bad sector under a map ends the process; a read that fails reports it.
    options.memory_map(false).max_event_bytes(MAX_EVENT).max_commit_bytes(MAX_COMMIT)
}

/// Prints a note if a position is after the end of the store: the user may have meant something
/// else, such as a day.
pub fn note_beyond(store: &Store, point: Option<AsOf>) {
    if let Some(AsOf::Position(position)) = point
        && position >= store.len()
    {
        let count = store.len();
        note("annals: note: ", &format!("position {position} is not reached: the store has {count} events, from 0 on"));
    }
}

/// Prints on stderr that an entry in the output does not refer to an event of this log.
pub fn note_fault(what: &str, fault: Option<&str>) {
    if let Some(fault) = fault {
        note("annals: warning: ", &one_line(&format!("{what}: {fault}; it is refused until it is reset")));
    }
}

/// Gaps in the output of a damaged store: they are printed on stderr, and reading continues after
/// them.
#[derive(Default)]
pub struct Gaps {
    /// The gaps that were printed. A follower opens the store again and again, and meets a gap at
    /// its end each time; it is printed once.
    told: BTreeSet<String>,
}

impl Gaps {
    /// Returns the event, or `None` at a gap.
    pub fn pass(&mut self, read: annals::Result<Event>) -> Result<Option<Event>> {
        match read {
            Err(gap @ Error::Damaged(_)) => {
                self.tell(&gap.to_string());
                Ok(None)
            }
            read => Ok(read.map(Some)?),
        }
    }

    /// Prints an error other than an unreadable event.
    pub fn note(&mut self, what: &str, error: &Error) {
        self.tell(&format!("{what}: {error}"));
    }

    fn tell(&mut self, text: &str) {
        let text = one_line(text).into_owned();
        if !self.told.contains(&text) {
            note("annals: error: ", &text);
            self.told.insert(text);
        }
    }

    /// Returns an error if there was a gap: an answer with gaps must not be taken for a complete
    /// one.
    pub fn end(self) -> Result<()> {
        if self.told.is_empty() { Ok(()) } else { Err(Failure::gaps_told()) }
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
        warning(&format!("damaged: {damage}; the store is read around it"));
    }
    for notice in &report.notices {
        warning(notice);
    }
}
