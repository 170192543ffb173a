//! The conditions on events that `query` and `tail` share.

use crate::failure::{Failure, Result};
use crate::times::{self, Time};
use annals::{Query, StreamId, Timestamp};

#[derive(clap::Args)]
pub struct Filter {
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
    /// Events that occurred at this time or later; an event without an occurrence time counts with
    /// its recorded time
    #[arg(long, value_name = "TIME", value_parser = times::parse_friendly)]
    since: Option<Timestamp>,
    /// Events that occurred at this time or earlier; an event without an occurrence time counts
    /// with its recorded time
    #[arg(long, value_name = "TIME", value_parser = times::parse_friendly)]
    until: Option<Timestamp>,
    /// Events that were recorded at this time or later
    #[arg(long, value_name = "TIME", value_parser = times::parse_friendly)]
    recorded_since: Option<Timestamp>,
    /// Events that were recorded at this time or earlier
    #[arg(long, value_name = "TIME", value_parser = times::parse_friendly)]
    recorded_until: Option<Timestamp>,
    /// Events of this edition. Default: the edition of the given streams, or else the main one
    #[arg(long, value_name = "NAME")]
    edition: Option<String>,
}

impl Filter {
    pub fn query(&self) -> Result<Query> {
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

    /// Returns the edition to query. The library queries one edition, whatever the names of the
    /// streams say.
    fn edition(&self) -> Result<&str> {
        let of_streams: Vec<Option<&str>> = self.stream.iter().map(StreamId::edition).collect();
        let edition = self.edition.as_deref().or(of_streams.first().copied().flatten()).unwrap_or("main");
        // A name without an edition is that of the stream in the given edition.
        let agrees = |of: &Option<&str>| match of {
            Some(of) => *of == edition,
            None => self.edition.is_some() || edition == "main",
        };
        match of_streams.iter().all(agrees) {
            true => Ok(edition),
            false => Err(Failure::usage("a query is about one edition, but the streams belong to several")),
        }
    }
}

fn in_order(first: &str, since: Option<Timestamp>, second: &str, until: Option<Timestamp>) -> Result<()> {
    match (since, until) {
        (Some(since), Some(until)) if since > until => {
            let (since, until) = (Time(since), Time(until));
            Err(Failure::usage(format_args!("{first} {since} is later than {second} {until}: nothing can match")))
        }
        _ => Ok(()),
    }
}
