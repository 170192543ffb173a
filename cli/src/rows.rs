//! Events as rows of CSV.
//!
//! Three columns say what the event is; the others become its data, a JSON object of texts in the order of the columns. Whether `007` is a number, only the
//! owner of the file knows.

use crate::failure::{Failure, Result};
use crate::input::{Input, MAX_LINE};
use crate::lines::{Incoming, place};
use crate::progress::Progress;
use crate::times;
use annals::{ContentType, StreamId};
use clap::Args;
use csv::{Reader, StringRecord};
use serde::Serializer;
use std::cell::Cell;
use std::io::{self, Read};
use std::rc::Rc;

#[derive(Args, Clone)]
#[command(next_help_heading = "CSV")]
pub struct Columns {
    /// The input is CSV, and this column names the stream
    #[arg(long, value_name = "NAME", requires = "type_column")]
    pub stream_column: Option<String>,
    /// The column with the event type
    #[arg(long, value_name = "NAME", requires = "stream_column")]
    pub type_column: Option<String>,
    /// The column with the time at which it happened: RFC 3339, or without an offset, which is then UTC
    #[arg(long, value_name = "NAME", requires = "stream_column")]
    pub time_column: Option<String>,
    /// The stream column holds only the root, and this is the domain of all streams
    #[arg(long, value_name = "NAME", requires = "stream_column")]
    pub domain: Option<String>,
}

impl Columns {
    /// The columns of stream and type, if this is about CSV at all.
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
    reader: Reader<Allowance>,
    left: Rc<Cell<usize>>,
    record: StringRecord,
    heads: Vec<String>,
    stream: usize,
    event_type: usize,
    time: Option<usize>,
    domain: Option<String>,
    /// Number of rows that were read.
    pub number: u64,
}

/// What a record may still take from the input.
struct Allowance {
    input: Box<dyn io::BufRead>,
    left: Rc<Cell<usize>>,
}

impl Read for Allowance {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.input.read(buffer)?;
        let left = self.left.get().checked_sub(read);
        self.left.set(left.ok_or_else(|| io::Error::other("the record is longer than 64 MiB; is a quote open?"))?);
        Ok(read)
    }
}

impl Rows {
    pub fn new(input: Input, columns: &Columns) -> Result<Self> {
        let Input { name, reader, progress } = input;
        let (stream, event_type) =
            columns.required().ok_or_else(|| Failure::usage("CSV needs --stream-column and --type-column"))?;
        let left = Rc::new(Cell::new(MAX_LINE));
        let mut reader = Reader::from_reader(Allowance { input: reader, left: left.clone() });
        let heads = reader.headers().map_err(|e| refused(&name, &e))?;
        let heads: Vec<String> = heads.iter().map(str::to_owned).collect();
        if let Some((n, twice)) = heads.iter().enumerate().find(|(n, head)| heads[..*n].contains(head)) {
            return Err(Failure::failed(format_args!("column {} has the name of another one: {twice:?}", n + 1))
                .at(place(&name, 1)));
        }
        let find = |wanted: &str| {
            let missing =
                || Failure::usage(format_args!("{name} has no column {wanted:?}; it has {}", heads.join(", ")));
            heads.iter().position(|head| head == wanted).ok_or_else(missing)
        };
        let (stream, event_type) = (find(stream)?, find(event_type)?);
        let time = columns.time_column.as_deref().map(find).transpose()?;
        let (record, domain) = (StringRecord::new(), columns.domain.clone());
        Ok(Rows { name, progress, reader, left, record, heads, stream, event_type, time, domain, number: 0 })
    }

    /// Reads the next row: the line where it begins, and the event, which is not looked at for rows that are skipped.
    pub fn next(&mut self, skip: bool) -> Result<Option<(u64, Option<Incoming>)>> {
        self.left.set(MAX_LINE);
        if !self.reader.read_record(&mut self.record).map_err(|e| refused(&self.name, &e))? {
            return Ok(None);
        }
        self.number += 1;
        let line = self.record.position().map_or(0, |position| position.line());
        if skip {
            return Ok(Some((line, None)));
        }
        let incoming = self.incoming().map_err(|why| Failure::failed(why).at(place(&self.name, line)))?;
        Ok(Some((line, Some(incoming))))
    }

    /// What messages call the input.
    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn record_len(&self) -> usize {
        self.record.as_slice().len()
    }

    fn incoming(&self) -> Result<Incoming, String> {
        let stream = &self.record[self.stream];
        let stream = match &self.domain {
            Some(domain) => StreamId::new(domain, stream),
            None => stream.parse(),
        };
        let mut incoming = Incoming::new(stream.map_err(|e| e.to_string())?, self.record[self.event_type].to_owned());
        let time = self.time.map(|column| &self.record[column]).filter(|text| !text.is_empty());
        incoming.occurred_at = time.map(times::parse_lenient).transpose()?;
        incoming.content_type = ContentType::Json;
        let used = |column: &usize| [Some(self.stream), Some(self.event_type), self.time].contains(&Some(*column));
        let others = (0..self.heads.len()).filter(|column| !used(column));
        let pairs = others.map(|column| (&self.heads[column], &self.record[column]));
        let mut json = serde_json::Serializer::new(&mut incoming.data);
        json.collect_map(pairs).map_err(|e| e.to_string())?;
        Ok(incoming)
    }
}

fn refused(name: &str, error: &csv::Error) -> Failure {
    match error.kind() {
        csv::ErrorKind::UnequalLengths { pos: Some(pos), expected_len, len } => {
            Failure::failed(format_args!("{len} fields where the header has {expected_len}"))
                .at(place(name, pos.line()))
        }
        csv::ErrorKind::Utf8 { pos: Some(pos), err } => Failure::failed(err).at(place(name, pos.line())),
        _ => Failure::failed(error).at(name),
    }
}
