//! `annals import`: events from JSON lines or CSV.

use crate::failure::{Failure, Result};
use crate::gaps::Gaps;
use crate::input::{self, Lines};
use crate::lines::{self, Incoming, place};
use crate::opening;
use crate::output::{Out, note};
use crate::rows::{Columns, Rows};
use annals::fs::MemFs;
use annals::{Durability, Error, Expected, Options, Store, StreamId, Ticket, Timestamp};
use clap::ValueEnum;
use serde::Serialize;
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of input after which a commit is closed, however few events it has.
const COMMIT_BYTES: usize = 32 << 20;

/// Import events from JSON lines or CSV
///
/// Each line is an event: stream and type, and whatever else `export` writes. Events are stored in commits, each of which is there as a whole or not at all.
///
/// Lines with recorded_at keep that time, unless the store is past it already; only lines with the same one are stored together. Lines without it get the time
/// of the import.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store; created if it is missing
    store: PathBuf,
    /// JSON lines, or CSV with --stream-column; gzip is unpacked; - is stdin
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Events a commit; fewer if they have more than 32 MiB together, or differ in recorded_at
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Leave out so many lines (of CSV: rows), to go on with an import that was interrupted
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: u64,
    /// What a commit survives: sync, a power cut; os, the end of this process
    #[arg(long, value_enum, default_value_t = Safety::Sync)]
    durability: Safety,
    /// Print `acknowledged POSITION` when a commit is durable: all events below that position are
    #[arg(long)]
    acknowledge: bool,
    /// Close the gaps in the sequences of streams, as an export has them of a store that has lost events
    #[arg(long)]
    renumber: bool,
    #[command(flatten)]
    columns: Columns,
}

#[derive(Clone, Copy, ValueEnum)]
enum Safety {
    Sync,
    Os,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let mut source = Source::open(self)?;
        // Before the store: what is wrong with the first line should not leave an empty store behind, and an empty store takes its first time from the clock.
        let first = source.next(self.skip)?;
        let clock = Clock::default();
        clock.set(first.as_ref().and_then(|entry| entry.event.recorded_at));
        let options = Options::new().clock(clock.clone().function()).durability(match self.durability {
            Safety::Sync => Durability::Sync,
            Safety::Os => Durability::Os,
        });
        let store = source.progress().aside(|| opening::to_write(&self.store, options))?;
        let mut import = Import {
            batch: self.batch as usize,
            acknowledge: self.acknowledge,
            name: source.name().to_owned(),
            summary: Summary { first_position: store.len(), next_position: store.len(), ..Summary::default() },
            store,
            clock,
            heads: HashMap::new(),
            gaps: self.renumber.then(Gaps::default),
            commit: Vec::new(),
            commit_bytes: 0,
            waiting: Vec::new(),
            waiting_events: 0,
            upto: self.skip,
        };
        let fed = import.feed(first, &mut source, out);
        let settled = import.settle(out);
        let Import { store, summary, upto, gaps, .. } = import;
        drop(source);
        if let Err(failure) = fed.and(settled) {
            return Err(match summary.events {
                0 => failure.hint("nothing was imported"),
                events => failure
                    .hint(format_args!("{events} events are imported and stay; go on behind them with --skip {upto}")),
            });
        }
        store.close()?;
        if summary.recorded_later > 0 {
            let count = summary.recorded_later;
            note(
                "annals: warning: ",
                &format!("{count} events have a later recorded_at now: the store was past theirs already"),
            );
        }
        if let Some(Gaps { moved: moved @ 1.., .. }) = gaps {
            note(
                "annals: warning: ",
                &format!("{moved} events have another sequence now: there were gaps before them"),
            );
        }
        let shown = [
            ("events", summary.events.to_string()),
            ("commits", summary.commits.to_string()),
            ("next_position", summary.next_position.to_string()),
        ];
        out.facts(&summary, &shown)
    }
}

#[derive(Serialize, Default)]
struct Summary {
    events: u64,
    commits: u64,
    first_position: u64,
    next_position: u64,
    recorded_later: u64,
}

/// The time that the store takes for its own: that of the lines, or the system's.
#[derive(Clone, Default)]
struct Clock(Arc<Mutex<Option<Timestamp>>>);

impl Clock {
    fn set(&self, time: Option<Timestamp>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = time;
    }

    fn function(self) -> impl Fn() -> Timestamp + Send + Sync + 'static {
        move || self.0.lock().unwrap_or_else(PoisonError::into_inner).unwrap_or_else(Timestamp::now)
    }
}

/// An event, and where in the input it stands.
struct Entry {
    event: Incoming,
    /// What messages say.
    line: u64,
    /// What `--skip` would be to go on behind it.
    number: u64,
    bytes: usize,
}

enum Source {
    Lines(Lines),
    Rows(Box<Rows>),
}

impl Source {
    fn open(args: &Args) -> Result<Self> {
        if !args.columns.given() && is_csv(&args.file) {
            return Err(Failure::usage("CSV needs --stream-column and --type-column"));
        }
        let input = input::open(&args.file, args.acknowledge)?;
        Ok(match args.columns.given() {
            true => Source::Rows(Box::new(Rows::new(input, &args.columns)?)),
            false => Source::Lines(Lines::new(input)),
        })
    }

    fn name(&self) -> &str {
        match self {
            Source::Lines(lines) => &lines.input.name,
            Source::Rows(rows) => rows.name(),
        }
    }

    fn progress(&self) -> &crate::progress::Progress {
        match self {
            Source::Lines(lines) => &lines.input.progress,
            Source::Rows(rows) => &rows.progress,
        }
    }

    /// The next event behind the first `skip` lines.
    fn next(&mut self, skip: u64) -> Result<Option<Entry>> {
        match self {
            Source::Lines(lines) => {
                while lines.advance()? {
                    let (number, line) = (lines.number, lines.line());
                    if number > skip && !line.is_empty() {
                        let bytes = line.len();
                        let event = lines::parse(line).map_err(|why| lines.failure(why))?;
                        return Ok(Some(Entry { event, line: number, number, bytes }));
                    }
                }
            }
            Source::Rows(rows) => {
                while let Some((line, event)) = rows.next(rows.number < skip)? {
                    let (number, bytes) = (rows.number, rows.record_len());
                    if let Some(event) = event {
                        return Ok(Some(Entry { event, line, number, bytes }));
                    }
                }
            }
        }
        Ok(None)
    }
}

fn is_csv(path: &std::path::Path) -> bool {
    let name = path.to_string_lossy().to_lowercase();
    name.trim_end_matches(".gz").ends_with(".csv")
}

struct Import {
    batch: usize,
    acknowledge: bool,
    name: String,
    store: Store,
    clock: Clock,
    /// The next sequences of the streams that were met, counting events that are not stored yet.
    heads: HashMap<StreamId, u64>,
    /// What closes gaps in sequences, if it is asked for.
    gaps: Option<Gaps>,
    commit: Vec<Entry>,
    commit_bytes: usize,
    /// Commits that have their place and are not durable yet: small ones share a sync.
    waiting: Vec<Waiting>,
    waiting_events: usize,
    summary: Summary,
    /// What `--skip` would be to go on behind all that is stored.
    upto: u64,
}

struct Waiting {
    ticket: Ticket,
    events: u64,
    recorded_at: Option<Timestamp>,
    number: u64,
}

impl Import {
    fn feed(&mut self, first: Option<Entry>, source: &mut Source, out: &mut Out) -> Result<()> {
        let mut next = first;
        while let Some(entry) = next {
            self.take(entry, out)?;
            next = source.next(0)?;
        }
        self.submit(out)
    }

    fn take(&mut self, mut entry: Entry, out: &mut Out) -> Result<()> {
        let differs = |first: &Entry| first.event.recorded_at != entry.event.recorded_at;
        if self.commit.first().is_some_and(differs) || self.commit_bytes + entry.bytes > COMMIT_BYTES {
            self.submit(out)?;
        }
        self.check_sequence(&mut entry)?;
        self.commit_bytes += entry.bytes;
        self.commit.push(entry);
        if self.commit.len() == self.batch { self.submit(out) } else { Ok(()) }
    }

    /// The store would find the same, but for a whole commit, and without the line.
    fn check_sequence(&mut self, entry: &mut Entry) -> Result<()> {
        let (stream, given) = (&entry.event.stream, entry.event.sequence);
        let found = match self.head(stream)? {
            Some(next) => match (&mut self.gaps, given) {
                (Some(gaps), Some(given)) => gaps.close(stream, given, next).ok_or(next),
                (_, given) => given.is_none_or(|sequence| sequence == next).then_some(next).ok_or(next),
            },
            // The first event of an edition here may stand anywhere up to where main has come.
            None => {
                let main = stream.in_edition("")?;
                let next = self.head(&main)?.unwrap_or(0);
                match (&mut self.gaps, given) {
                    (Some(gaps), Some(given)) => Ok(gaps.diverge(stream, &main, given, next)),
                    (_, given) => given.or(Some(next)).filter(|&first| first <= next).ok_or(next),
                }
            }
        };
        let found = found.map_err(|actual| {
            let (stream, expected) = (stream.clone(), given.map_or(Expected::Any, Expected::Next));
            let conflict =
                Failure::from(Error::Conflict { stream, expected, actual }).at(place(&self.name, entry.line));
            match given {
                Some(given) if given > actual => {
                    conflict.hint("events before it are missing; --renumber closes the gap")
                }
                _ => conflict,
            }
        })?;
        self.heads.insert(stream.clone(), found + 1);
        entry.event.sequence = given.and(Some(found));
        Ok(())
    }

    /// The next sequence of a stream, with what is still on its way; `None` if it is one of an edition that has nothing of its own there yet.
    fn head(&mut self, stream: &StreamId) -> Result<Option<u64>> {
        if let Some(next) = self.heads.get(stream) {
            return Ok(Some(*next));
        }
        let last = self.store.read(stream).backwards().limit(1).into_iter().next().transpose()?;
        let own = last.filter(|last| last.is_in(stream)).map(|last| last.sequence() + 1);
        let next = own.or_else(|| stream.edition().is_none().then_some(0));
        if let Some(next) = next {
            self.heads.insert(stream.clone(), next);
        }
        Ok(next)
    }

    /// Gives the commit its place in the store.
    fn submit(&mut self, out: &mut Out) -> Result<()> {
        let commit = std::mem::take(&mut self.commit);
        self.commit_bytes = 0;
        let Some(last) = commit.last() else { return Ok(()) };
        let recorded_at = last.event.recorded_at;
        self.clock.set(recorded_at);
        let transaction = commit.iter().fold(self.store.transaction(), |transaction, entry| {
            let event = &entry.event;
            let expected = event.sequence.map_or(Expected::Any, Expected::Next);
            transaction.append(&event.stream, expected, [event.event()])
        });
        let ticket = transaction.submit().map_err(|error| self.refused(&commit, error))?;
        self.waiting.push(Waiting { ticket, events: commit.len() as u64, recorded_at, number: last.number });
        self.waiting_events += commit.len();
        if self.waiting_events >= self.batch { self.settle(out) } else { Ok(()) }
    }

    /// Waits until all is durable that was submitted.
    fn settle(&mut self, out: &mut Out) -> Result<()> {
        self.waiting_events = 0;
        for waiting in std::mem::take(&mut self.waiting) {
            let committed = waiting.ticket.wait()?;
            let summary = &mut self.summary;
            summary.events += waiting.events;
            summary.commits += 1;
            summary.next_position = committed.positions.end;
            if waiting.recorded_at.is_some_and(|time| time != committed.recorded_at) {
                summary.recorded_later += waiting.events;
            }
            self.upto = waiting.number;
            if self.acknowledge {
                let told = out.line(&format!("acknowledged {}", committed.positions.end)).and_then(|()| out.flush());
                told.map_err(|_| Failure::failed("nobody reads the acknowledgements any more"))?;
            }
        }
        Ok(())
    }

    /// Finds the line of a commit that the store refuses, by storing its events one by one into another store.
    fn refused(&self, commit: &[Entry], error: Error) -> Failure {
        if !matches!(error, Error::Invalid { .. } | Error::LimitExceeded { .. }) {
            return error.into();
        }
        let options = opening::with_limits(Options::new()).file_system(MemFs::new()).maintenance(false);
        let refused = |scratch: &Store, entry: &Entry| {
            let event = &entry.event;
            scratch.append(&event.stream, Expected::Any, [event.event()]).err().map(|error| (entry.line, error))
        };
        match options.open("memory").map(|scratch| commit.iter().find_map(|entry| refused(&scratch, entry))) {
            Ok(Some((line, error))) => Failure::from(error).at(place(&self.name, line)),
            _ => error.into(),
        }
    }
}
