//! `annals tail`: the newest events, and those that come.

use crate::failure::{Failure, Result};
use crate::filter::Filter;
use crate::lines::Line;
use crate::opening;
use crate::output::{List, Out, note};
use crate::verbs::query::{cells, columns};
use annals::{Error, Event, Options, Query, Store};
use std::fs;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

/// How often the files are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Files that were changed so lately may be changed once more without a trace in their times.
const SETTLED: Duration = Duration::from_secs(1);

/// Show the newest events, and, with --follow, those that come
///
/// The conditions are those of `annals query`.
///
/// A store that one process has open to write cannot be read by another. So --follow looks at the times and lengths of its files, which takes no lock, and when they have changed opens the store
/// to read, for as long as it takes to show what has come. Events of programs that open the store, append and close it come at once; those of a program that keeps it open come when it closes it, and
/// until then a note says so. A program that opens the store in the very moment in which it is read here is told that it is locked, and may try again.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
    #[command(flatten)]
    filter: Filter,
    /// So many of the newest events
    #[arg(long, value_name = "N", default_value_t = 10, conflicts_with = "after")]
    last: u64,
    /// All events behind this position
    #[arg(long, value_name = "POSITION")]
    after: Option<u64>,
    /// Go on with events that come, until interrupted
    #[arg(long, short)]
    follow: bool,
}

/// What the files of a store look like from outside.
#[derive(PartialEq, Eq, Default)]
struct Look(Vec<(PathBuf, u64, SystemTime)>);

impl Look {
    fn at(dir: &Path) -> Self {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        let segments = entries.filter(|entry| entry.path().extension().is_some_and(|e| e == "seg"));
        let mut seen: Vec<_> = segments
            .filter_map(|entry| {
                let metadata = entry.metadata().ok()?;
                Some((entry.path(), metadata.len(), metadata.modified().ok()?))
            })
            .collect();
        seen.sort();
        Look(seen)
    }

    /// Whether the next change will show.
    fn is_settled(&self) -> bool {
        self.0.iter().all(|(_, _, modified)| modified.elapsed().is_ok_and(|age| age > SETTLED))
    }
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let query = self.filter.query()?;
        let mut list = List::new(out, columns());
        let mut look = Look::at(&self.store);
        let store = match Options::new().create(false).open_read_only(&self.store) {
            Err(Error::Locked { .. }) if self.follow => self.wait(&mut look)?,
            _ => opening::to_read(&self.store)?,
        };
        let newest = self.newest(&store, &query)?;
        newest.iter().try_for_each(|event| add(&mut list, event))?;
        let mut next = store.len();
        drop(store);
        if !self.follow {
            return list.end();
        }
        loop {
            list.show()?;
            let store = self.wait(&mut look)?;
            for event in store.query(&query).after(next.checked_sub(1)) {
                add(&mut list, &event?)?;
            }
            next = next.max(store.len());
        }
    }

    /// The oldest of them first.
    fn newest(&self, store: &Store, query: &Query) -> Result<Vec<Event>> {
        let search = store.query(query);
        let events: Result<Vec<Event>, Error> = match self.after {
            Some(position) => search.after(position).into_iter().collect(),
            None => search.backwards().limit(self.last).into_iter().collect(),
        };
        let mut events = events?;
        if self.after.is_none() {
            events.reverse();
        }
        Ok(events)
    }

    /// Waits until the files have changed, or may have without a trace, and the store can be read.
    fn wait(&self, look: &mut Look) -> Result<Store> {
        let mut told = false;
        loop {
            let now = Look::at(&self.store);
            let changed = now != *look || !look.is_settled();
            if changed || told {
                match Options::new().create(false).open_read_only(&self.store) {
                    Ok(store) => {
                        *look = now;
                        return Ok(store);
                    }
                    Err(Error::Locked { .. }) => {
                        if !std::mem::replace(&mut told, true) {
                            note(
                                "annals: note: ",
                                "another process has the store open to write: its events are shown when it closes it",
                            );
                        }
                    }
                    Err(error) => return Err(Failure::from(error)),
                }
            }
            thread::sleep(LOOK);
        }
    }
}

fn add(list: &mut List<'_>, event: &Event) -> Result<()> {
    list.add(&Line(event), |Line(event)| cells(event))
}
