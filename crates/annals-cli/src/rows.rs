//! Events as rows of CSV.
//!
//! The columns of stream, type and time define the event; the others become its data, a JSON object
//! of strings in the order of the columns. They are not converted: only the owner of the file knows
//! whether `007` is a number.

use crate::failure::{Failure, Result};
use crate::input::Input;
use crate::lines::{Incoming, place};
use crate::output::note;
use crate::progress::Progress;
use crate::records::{Records, Wrong};
use crate::times;
use annals::{ContentType, StreamId};
use clap::Args;
use serde::Serializer;
use std::io::BufRead;

#[derive(Args, Clone)]
#[command(next_help_heading = "CSV")]
pub struct Columns {
    /// The input is CSV, and this column names the stream
    #[arg(long, value_name = "NAME", requires = "type_column")]
    pub stream_column: Option<String>,
    /// The column with the event type
    #[arg(long, value_name = "NAME", requires = "stream_column")]
    pub type_column: Option<String>,
    /// The column with the time at which the event occurred: RFC 3339; without an offset, it is in
    /// UTC
    #[arg(long, value_name = "NAME", requires = "stream_column")]
    pub time_column: Option<String>,
    /// The domain of all streams; the stream column then has only the root
    #[arg(long, value_name = "NAME", requires = "stream_column")]
    pub domain: Option<String>,
}

impl Columns {
    /// The columns of stream and type, if the input is CSV.
    fn required(&self) -> Option<(&str, &str)> {
        Some((self.stream_column.as_deref()?, self.type_column.as_deref()?))
    }

    pub fn given(&self) -> bool {
        self.required().is_some()
    }
}

/// The rows of a CSV input.
pub struct Rows {
    name: String,
    pub progress: Progress,
    records: Records<Box<dyn BufRead>>,
    heads: Vec<String>,
    stream: usize,
    event_type: usize,
    time: Option<usize>,
    domain: Option<String>,
    /// Number of rows that were read.
    pub number: u64,
}

impl Rows {
    pub fn new(input: Input, columns: &Columns) -> Result<Self> {
        let Input { name, reader, progress } = input;
        let (stream, event_type) =
            columns.required().ok_or_else(|| Failure::usage("CSV needs --stream-column and --type-column"))?;
        let mut records = Records::new(reader);
        records.advance().map_err(|wrong| refused(&name, wrong))?;
        let heads: Result<Vec<String>, Wrong> =
            (0..records.len()).map(|column| records.field(column).map(str::to_owned)).collect();
        let heads = heads.map_err(|wrong| refused(&name, wrong))?;
        if let Some((n, twice)) = heads.iter().enumerate().find(|(n, head)| heads[..*n].contains(head)) {
            return Err(Failure::failed(format_args!("column {} has the name of another one: {twice:?}", n + 1))
                .at(place(&name, records.line())));
        }
        let find = |wanted: &str| {
            let missing =
                || Failure::usage(format_args!("{name} has no column {wanted:?}; it has {}", heads.join(", ")));
            heads.iter().position(|head| head == wanted).ok_or_else(missing)
        };
        let (stream, event_type) = (find(stream)?, find(event_type)?);
        let time = columns.time_column.as_deref().map(find).transpose()?;
        let domain = columns.domain.clone();
        Ok(Rows { name, progress, records, heads, stream, event_type, time, domain, number: 0 })
    }

    /// Reads the next row. Returns the line in which it begins, and the event, unless the row is
    /// skipped; skipped rows are not checked.
    pub fn next(&mut self, skip: bool) -> Result<Option<(u64, Option<Incoming>)>> {
        if !self.records.advance().map_err(|wrong| refused(&self.name, wrong))? {
            return Ok(None);
        }
        self.number += 1;
        let line = self.records.line();
        if skip {
            return Ok(Some((line, None)));
        }
        let incoming = self.incoming().map_err(|why| Failure::failed(why).at(place(&self.name, line)))?;
        if self.records.is_unended {
            let place = place(&self.name, line);
            let text = format!("{place}: the last row ends without a line break: is the file whole?");
            self.progress.aside(|| note("annals: warning: ", &text));
        }
        Ok(Some((line, Some(incoming))))
    }

    /// Returns the name of the input for messages.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn record_len(&self) -> usize {
        self.records.size()
    }

    fn incoming(&self) -> Result<Incoming, String> {
        let (fields, heads) = (self.records.len(), self.heads.len());
        if fields != heads {
            return Err(format!("{fields} fields where the header has {heads}"));
        }
        let field = |column: usize| self.records.field(column).map_err(|wrong| wrong.why);
        let stream = field(self.stream)?;
        let stream = match &self.domain {
            Some(domain) => StreamId::new(domain, stream),
            None => stream.parse(),
        };
        let event_type = field(self.event_type)?.to_owned();
        let mut incoming = Incoming::new(stream.map_err(|e| e.to_string())?, event_type);
        let time = self.time.map(field).transpose()?.filter(|text| !text.is_empty());
        incoming.occurred_at = time.map(times::parse_lenient).transpose()?;
        incoming.content_type = ContentType::Json;
        let used = |column: &usize| [Some(self.stream), Some(self.event_type), self.time].contains(&Some(*column));
        let others = (0..heads).filter(|column| !used(column));
        let pairs: Result<Vec<(&String, &str)>, String> =
            others.map(|column| Ok((&self.heads[column], field(column)?))).collect();
        let mut json = serde_json::Serializer::new(&mut incoming.data);
        json.collect_map(pairs?).map_err(|e| e.to_string())?;
        Ok(incoming)
    }
}

fn refused(name: &str, wrong: Wrong) -> Failure {
    Failure::failed(wrong.why).at(place(name, wrong.line))
}
