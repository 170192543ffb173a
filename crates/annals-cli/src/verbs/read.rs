//! `annals read`: the events of a stream.

use crate::failure::{Failure, Result};
use crate::lines::{Line, shown_data};
use crate::opening;
use crate::output::{List, Out, note, number, text};
use crate::times::{self, Time};
use annals::{AsOf, Event, Read, StreamId};
use std::path::PathBuf;

/// Read the events of a stream
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
    /// The stream, such as order-123, or order-123@what-if in an edition
    stream: StreamId,
    /// The sequence to begin with
    #[arg(long, value_name = "SEQUENCE", default_value_t = 0)]
    from: u64,
    /// The sequence to stop before
    #[arg(long, value_name = "SEQUENCE", default_value_t = u64::MAX, hide_default_value = true)]
    to: u64,
    /// Show at most this many events
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    limit: u64,
    /// Show the newest event first
    #[arg(long)]
    backwards: bool,
    /// Only events that were recorded up to this point, inclusive: a position in the store, or a
    /// time: RFC 3339, 2024-05-01 10:00 (UTC), now, today, yesterday, 2h ago
    #[arg(long, value_name = "POSITION|TIME", value_parser = times::parse_point)]
    as_of: Option<AsOf>,
    /// Read as if the edition diverged from the main one at this sequence: the events of main below
    /// it, and the edition's own events from there on
    #[arg(long, value_name = "SEQUENCE")]
    diverging_at: Option<u64>,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        if self.diverging_at.is_some() && self.stream.edition().is_none() {
            return Err(Failure::usage(format_args!("{} is in the main edition, which does not diverge", self.stream)));
        }
        let store = opening::to_read(&self.store)?;
        if store.stream(&self.stream)?.is_none() {
            note("annals: note: ", &format!("{} has no events", self.stream));
        }
        let read = store.read(&self.stream).from(self.from).to(self.to).limit(self.limit);
        let read = if self.backwards { read.backwards() } else { read };
        let read = self.as_of.into_iter().fold(read, Read::as_of);
        let read = self.diverging_at.into_iter().fold(read, Read::diverging_at);
        opening::note_beyond(&store, self.as_of);
        let columns = [number("position"), number("sequence"), text("recorded_at"), text("type"), text("data")];
        let mut list = List::new(out, columns);
        let mut gaps = opening::Gaps::default();
        let shown = read.into_iter().try_for_each(|read| match gaps.pass(read)? {
            Some(event) => list.add(&Line(&event), |Line(event)| cells(event)),
            None => Ok(()),
        });
        // Events before damage are shown, too.
        list.end().and(shown).and_then(|()| gaps.end())
    }
}

fn cells(event: &Event) -> Vec<String> {
    vec![
        event.position().to_string(),
        event.sequence().to_string(),
        Time(event.recorded_at()).to_string(),
        event.event_type().to_owned(),
        shown_data(event).into_owned(),
    ]
}
