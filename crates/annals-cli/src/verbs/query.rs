//! `annals query`: events of any stream, by domain, type, tag, time and id.

use crate::failure::Result;
use crate::filter::Filter;
use crate::lines::{Line, shown_data};
use crate::opening;
use crate::output::{Column, List, Out, number, text};
use crate::times::{self, Time};
use annals::{AsOf, Event, Search};
use std::path::PathBuf;

/// Find events of any stream
///
/// Several domains and streams are alternatives, and so are several types; all tags are required.
/// All conditions must hold together. Without conditions, all events match.
///
/// --since and --until apply to the time at which an event occurred; an event without an occurrence
/// time counts with its recorded time. The column `time` shows the same time. --recorded-since,
/// --recorded-until and --as-of apply to when events were recorded. All bounds are inclusive. A
/// TIME is RFC 3339, 2024-05-01 10:00 (UTC), 2024-05-01 (its midnight), now, today, yesterday, or a
/// time ago: 2h, 3 days.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
    #[command(flatten)]
    filter: Filter,
    /// Only events after this position
    #[arg(long, value_name = "POSITION")]
    after: Option<u64>,
    /// Only events that were recorded up to this point, inclusive: a position, or a time
    #[arg(long, value_name = "POSITION|TIME", value_parser = times::parse_point)]
    as_of: Option<AsOf>,
    /// Show at most this many events
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    limit: u64,
    /// Show the newest event first
    #[arg(long)]
    backwards: bool,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let query = self.filter.query()?;
        let store = opening::to_read(&self.store)?;
        opening::note_beyond(&store, self.as_of);
        let search = store.query(&query).after(self.after).limit(self.limit);
        let search = self.as_of.into_iter().fold(search, Search::as_of);
        let search = if self.backwards { search.backwards() } else { search };
        let mut list = List::new(out, columns());
        let mut gaps = opening::Gaps::default();
        let shown = search.into_iter().try_for_each(|read| match gaps.pass(read)? {
            Some(event) => list.add(&Line(&event), |Line(event)| cells(event)),
            None => Ok(()),
        });
        // Events before damage are shown, too.
        list.end().and(shown).and_then(|()| gaps.end())
    }
}

/// Returns the columns of the table, also for `tail`.
pub fn columns() -> [Column; 6] {
    [number("position"), text("stream"), number("sequence"), text("time"), text("type"), text("data")]
}

pub fn cells(event: &Event) -> Vec<String> {
    vec![
        event.position().to_string(),
        event.stream().to_string(),
        event.sequence().to_string(),
        Time(event.occurred_at().unwrap_or(event.recorded_at())).to_string(),
        event.event_type().to_owned(),
        shown_data(event).into_owned(),
    ]
}
