//! `annals query`: the events of any stream, found by what they are about.

use crate::failure::{Failure, Result};
use crate::lines::{Line, shown_data};
use crate::opening;
use crate::output::{List, Out, number, text};
use crate::times::{self, Time};
use annals::{AsOf, Event, Query, Search, StreamId, Timestamp};
use std::path::PathBuf;

/// Find events by what they are about
///
/// Several domains and streams are alternatives, and so are several types; tags must all be there. All conditions together must hold. Without any, all events are found.
///
/// --since and --until are about when events occurred; for those that do not say, about when they were recorded. So is the column `time`. --recorded-since,
/// --recorded-until and --as-of are about when they were recorded. All bounds are included. A TIME is RFC 3339, 2024-05-01 10:00 (UTC), 2024-05-01 (its
/// midnight), now, today, yesterday, or a time ago: 2h, 3 days.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
    /// Events of streams in this domain; may be repeated
    #[arg(long, value_name = "NAME")]
    domain: Vec<String>,
    /// Events of this stream, such as order-123; may be repeated
    #[arg(long, value_name = "STREAM")]
    stream: Vec<StreamId>,
    /// Events of this type; may be repeated
    #[arg(long = "type", value_name = "T")]
    event_type: Vec<String>,
    /// Events that have this tag; may be repeated
    #[arg(long, value_name = "TAG")]
    tag: Vec<String>,
    /// Events with this correlation id
    #[arg(long, value_name = "ID")]
    correlation: Option<String>,
    /// Events that occurred (were recorded, if they do not say) at this time or later
    #[arg(long, value_name = "TIME", value_parser = times::parse_friendly)]
    since: Option<Timestamp>,
    /// Events that occurred (were recorded, if they do not say) at this time or earlier
    #[arg(long, value_name = "TIME", value_parser = times::parse_friendly)]
    until: Option<Timestamp>,
    /// Events that were recorded at this time or later
    #[arg(long, value_name = "TIME", value_parser = times::parse_friendly)]
    recorded_since: Option<Timestamp>,
    /// Events that were recorded at this time or earlier
    #[arg(long, value_name = "TIME", value_parser = times::parse_friendly)]
    recorded_until: Option<Timestamp>,
    /// Events of a named edition. Unless given: that of the streams asked for, or else the main one
    #[arg(long, value_name = "NAME")]
    edition: Option<String>,
    /// Only events behind this position
    #[arg(long, value_name = "POSITION")]
    after: Option<u64>,
    /// Only what had been recorded then, it included: a position, or a time
    #[arg(long, value_name = "POSITION|TIME", value_parser = times::parse_point)]
    as_of: Option<AsOf>,
    /// At most so many events
    #[arg(long, value_name = "N", default_value_t = u64::MAX, hide_default_value = true)]
    limit: u64,
    /// The newest first
    #[arg(long)]
    backwards: bool,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let query = self.query()?;
        let store = opening::to_read(&self.store)?;
        opening::note_beyond(&store, self.as_of);
        let search = store.query(&query).after(self.after).limit(self.limit);
        let search = self.as_of.into_iter().fold(search, Search::as_of);
        let search = if self.backwards { search.backwards() } else { search };
        let columns =
            [number("position"), text("stream"), number("sequence"), text("time"), text("type"), text("data")];
        let mut list = List::new(out, columns);
        let mut gaps = opening::Gaps::default();
        let shown = search.into_iter().try_for_each(|read| match gaps.pass(read)? {
            Some(event) => list.add(&Line(&event), |Line(event)| cells(event)),
            None => Ok(()),
        });
        // What stands before damage is shown.
        list.end().and(shown).and_then(|()| gaps.end())
    }

    fn query(&self) -> Result<Query> {
        in_order("--since", self.since, "--until", self.until)?;
        in_order("--recorded-since", self.recorded_since, "--recorded-until", self.recorded_until)?;
        let query = Query::new().edition(self.edition()?).types(&self.event_type).tags(&self.tag);
        let query = self.domain.iter().fold(query, Query::domain);
        let query = self.stream.iter().fold(query, Query::stream);
        let query = self.correlation.iter().fold(query, Query::correlation);
        let query = self.since.into_iter().fold(query, Query::occurred_since);
        let query = self.until.into_iter().fold(query, Query::occurred_until);
        let query = self.recorded_since.into_iter().fold(query, Query::recorded_since);
        Ok(self.recorded_until.into_iter().fold(query, Query::recorded_until))
    }

    /// The one edition that is asked for. The library looks at one, whatever the names of the streams say.
    fn edition(&self) -> Result<&str> {
        let of_streams: Vec<Option<&str>> = self.stream.iter().map(StreamId::edition).collect();
        let edition = self.edition.as_deref().or(of_streams.first().copied().flatten()).unwrap_or("main");
        // A name without an edition stands for the stream in the edition that was given.
        let agrees = |of: &Option<&str>| match of {
            Some(of) => *of == edition,
            None => self.edition.is_some() || edition == "main",
        };
        match of_streams.iter().all(agrees) {
            true => Ok(edition),
            false => Err(Failure::usage("a query is about one edition, and the streams are of several")),
        }
    }
}

fn in_order(first: &str, since: Option<Timestamp>, second: &str, until: Option<Timestamp>) -> Result<()> {
    match (since, until) {
        (Some(since), Some(until)) if since > until => {
            let (since, until) = (Time(since), Time(until));
            Err(Failure::usage(format_args!("{first} {since} is later than {second} {until}: nothing can be found")))
        }
        _ => Ok(()),
    }
}

fn cells(event: &Event) -> Vec<String> {
    vec![
        event.position().to_string(),
        event.stream().to_string(),
        event.sequence().to_string(),
        Time(event.occurred_at().unwrap_or(event.recorded_at())).to_string(),
        event.event_type().to_owned(),
        shown_data(event).into_owned(),
    ]
}
