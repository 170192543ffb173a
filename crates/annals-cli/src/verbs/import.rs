//! `annals import`: events from JSON lines or CSV.

use crate::failure::{Failure, Result};
use crate::gaps::Gaps;
use crate::input::{self, Lines};
use crate::interruption::Interruption;
use crate::lines::{self, Incoming, Parsed, Tracked, place};
use crate::opening;
use crate::output::{Out, note};
use crate::rows::{Columns, Rows};
use crate::times::Time;
use annals::{Durability, Error, Expected, Options, Store, StreamId, Ticket, Timestamp, Transaction};
use clap::ValueEnum;
use serde::Serialize;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Number of input bytes after which a commit is closed, however few events it has.
const COMMIT_BYTES: usize = 32 << 20;

/// Import events from JSON lines or CSV
///
/// Each line is an event: stream and type, and any other fields that `export` writes. Events are
/// stored in commits, each of which is stored completely or not at all.
///
/// Events with recorded_at keep that time, unless the store is already past it; only events with
/// the same time share a commit. Events without it get the time of the import.
///
/// The import of an export restores every event with all its fields, in the same order, and the
/// tracked upstreams; `annals export --help` lists what is not exported. Positions are assigned
/// again: they are the same if the store was empty and every exported position had an event.
///
/// After Ctrl-C or SIGTERM, an import stores the events it has read so far and prints the value of
/// --skip to continue with.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store; created if it is missing
    store: PathBuf,
    /// JSON lines, or CSV with --stream-column; gzip is decompressed; - is stdin
    #[arg(default_value = "-")]
    file: PathBuf,
    /// Events per commit; fewer if they have more than 32 MiB together, or differ in recorded_at
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    batch: u32,
    /// Skip this many lines (of CSV: rows), to continue an interrupted import
    #[arg(long, value_name = "N", default_value_t = 0)]
    skip: u64,
    /// What a commit survives: with sync, a power cut; with os, the end of this process
    #[arg(long, value_enum, default_value_t = Safety::Sync)]
    durability: Safety,
    /// Print `acknowledged POSITION` when a commit is durable: all events below that position are
    /// durable
    #[arg(long)]
    acknowledge: bool,
    /// Close gaps in streams, as the export of a salvaged store has them: each event gets the next
    /// sequence of its stream, whatever the line says
    #[arg(long)]
    renumber: bool,
    /// Accept lines whose recorded_at is more than 10 minutes ahead of the clock. All later events
    /// of the store are then recorded with that time, until the clock has reached it
    #[arg(long)]
    allow_future: bool,
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
        let interruption = Interruption::watch().map_err(Failure::failed)?;
        let done = self.import(out, &interruption);
        // After a signal, any failed read counts as the interruption.
        match (done, interruption.signal()) {
            (Err(Stopped::Early(hint)), Some(signal)) => Err(Failure::interrupted(signal).hint(hint)),
            (Err(Stopped::Early(hint)), None) => Err(Failure::failed("stopped early").hint(hint)),
            (Err(Stopped::Failed(failure)), _) => Err(failure),
            (Ok(()), _) => Ok(()),
        }
    }

    fn import(&self, out: &mut Out, interruption: &Interruption) -> Result<(), Stopped> {
        let early = || Stopped::Early("nothing was imported".into());
        let or_early = |failure| if interruption.signal().is_some() { early() } else { Stopped::Failed(failure) };
        let mut source = Source::open(self, interruption).map_err(or_early)?;
        // Read before the store is opened: a mistake in the first line should not leave an empty
        // store, and an empty store takes its first time from the clock.
        let first = source.next(self.skip).map_err(or_early)?;
        let clock = Clock::default();
        clock.set(first.as_ref().and_then(Entry::recorded_at));
        let options = Options::new().clock(clock.clone().function()).durability(match self.durability {
            Safety::Sync => Durability::Sync,
            Safety::Os => Durability::Os,
        });
        let store = source.progress().aside(|| opening::existing_to_write(&self.store, options.clone()))?;
        let next_position = store.as_ref().map_or(0, Store::len);
        let mut import = Import {
            batch: self.batch as usize,
            acknowledge: self.acknowledge,
            name: source.name().to_owned(),
            summary: Summary { first_position: next_position, next_position, ..Summary::default() },
            target: Target { path: &self.store, options, store },
            allow_future: self.allow_future,
            gaps: self.renumber.then(Gaps::default),
            clock,
            heads: HashMap::new(),
            commit: Vec::new(),
            commit_bytes: 0,
            waiting: Vec::new(),
            waiting_events: 0,
            upto: self.skip,
            recorded_at: None,
        };
        let fed = import.feed(first, &mut source, interruption, out);
        let submitted = import.wait_for_submitted(out);
        let created = match (&fed, &submitted) {
            (Ok(Fed::All), Ok(())) => import.target.store().map(drop),
            _ => Ok(()),
        };
        let Import { target, summary, upto, gaps, recorded_at, .. } = import;
        drop(source);
        let hint = match upto > self.skip {
            false => "nothing was imported".to_owned(),
            true => {
                let events = summary.events;
                format!("{events} events are imported and stay; continue after them with --skip {upto}")
            }
        };
        let fed = match fed.and_then(|fed| submitted.and(created).map(|()| fed)) {
            Ok(fed) => fed,
            Err(failure) => return Err(failure.hint(hint).into()),
        };
        target.store.map_or(Ok(()), Store::close).map_err(Failure::from)?;
        summary.warn();
        if let Some(Gaps { moved: moved @ 1.., .. }) = gaps {
            note(
                "annals: warning: ",
                &format!("{moved} events have another sequence now: there were gaps before them"),
            );
        }
        if let Some(time) = recorded_at.filter(|_| !self.allow_future) {
            opening::warn_ahead(time);
        }
        match fed {
            Fed::All => Ok(summary.show(out)?),
            Fed::Early => Err(Stopped::Early(hint)),
        }
    }
}

/// Why an import has ended early.
enum Stopped {
    /// It was asked to end. The hint for the user.
    Early(String),
    Failed(Failure),
}

impl From<Failure> for Stopped {
    fn from(failure: Failure) -> Self {
        Stopped::Failed(failure)
    }
}

/// How much of the input was stored.
#[derive(Clone, Copy)]
enum Fed {
    All,
    Early,
}

#[derive(Serialize, Default)]
struct Summary {
    events: u64,
    commits: u64,
    first_position: u64,
    next_position: u64,
    recorded_later: u64,
    /// Number of lines with a tracked position that were stored.
    tracked: u64,
}

impl Summary {
    fn warn(&self) {
        if self.recorded_later > 0 {
            let count = self.recorded_later;
            note(
                "annals: warning: ",
                &format!("{count} events have a later recorded_at now: the store was past theirs already"),
            );
        }
    }

    fn show(&self, out: &mut Out) -> Result<()> {
        let mut shown = vec![
            ("events", self.events.to_string()),
            ("commits", self.commits.to_string()),
            ("next_position", self.next_position.to_string()),
        ];
        if self.tracked > 0 {
            shown.push(("tracked", self.tracked.to_string()));
        }
        out.facts(self, &shown)
    }
}

/// The store that is written to. A missing one is created when the first commit has succeeded in
/// memory: a refused commit leaves nothing behind.
struct Target<'a> {
    path: &'a Path,
    options: Options,
    store: Option<Store>,
}

impl Target<'_> {
    fn store(&mut self) -> Result<&Store> {
        let store = match self.store.take() {
            Some(store) => store,
            None => opening::to_write(self.path, self.options.clone())?,
        };
        Ok(self.store.insert(store))
    }

    /// Submits a commit. The inner error is the refusal of the commit by the store.
    fn submit(&mut self, build: impl Fn(&Store) -> Transaction) -> Result<Result<Ticket, Error>> {
        if self.store.is_none()
            && let Err(error) = build(&opening::rehearsal()?).commit()
        {
            return Ok(Err(error));
        }
        Ok(build(self.store()?).submit())
    }
}

/// The clock of the store: the time of the lines, or that of the system.
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

/// The content of a line, and its place in the input.
struct Entry {
    said: Parsed,
    /// The number of the line, for messages.
    line: u64,
    /// The value of `--skip` that continues after it.
    number: u64,
    bytes: usize,
}

impl Entry {
    fn recorded_at(&self) -> Option<Timestamp> {
        match &self.said {
            Parsed::Event(event) => event.recorded_at,
            Parsed::Tracked(_) => None,
        }
    }
}

/// An event, and its place.
struct Given {
    event: Box<Incoming>,
    line: u64,
    number: u64,
}

enum Source {
    Lines(Lines),
    Rows(Box<Rows>),
}

impl Source {
    fn open(args: &Args, interruption: &Interruption) -> Result<Self> {
        if !args.columns.given() && is_csv(&args.file) {
            return Err(Failure::usage("CSV needs --stream-column and --type-column"));
        }
        let input = input::open(&args.file, args.acknowledge, interruption)?;
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

    /// Returns the next entry after the first `skip` lines.
    fn next(&mut self, skip: u64) -> Result<Option<Entry>> {
        match self {
            Source::Lines(lines) => {
                while lines.advance()? {
                    let (number, line) = (lines.number, lines.line());
                    if number > skip && !line.is_empty() {
                        let bytes = line.len();
                        let said = lines::parse(line).map_err(|why| lines.failure(why))?;
                        return Ok(Some(Entry { said, line: number, number, bytes }));
                    }
                }
            }
            Source::Rows(rows) => {
                while let Some((line, event)) = rows.next(rows.number < skip)? {
                    let (number, bytes) = (rows.number, rows.record_len());
                    if let Some(event) = event {
                        let said = Parsed::Event(Box::new(event));
                        return Ok(Some(Entry { said, line, number, bytes }));
                    }
                }
            }
        }
        Ok(None)
    }
}

fn is_csv(path: &Path) -> bool {
    let name = path.to_string_lossy().to_lowercase();
    name.trim_end_matches(".gz").ends_with(".csv")
}

struct Import<'a> {
    batch: usize,
    acknowledge: bool,
    allow_future: bool,
    /// Closes gaps in sequences, with `--renumber`.
    gaps: Option<Gaps>,
    name: String,
    target: Target<'a>,
    clock: Clock,
    /// The next sequences of the streams seen so far, counting events that are not stored yet.
    heads: HashMap<StreamId, u64>,
    commit: Vec<Given>,
    commit_bytes: usize,
    /// Commits that are submitted and not durable yet: small ones share a sync.
    waiting: Vec<Waiting>,
    waiting_events: usize,
    summary: Summary,
    /// The value of `--skip` that continues after everything that is stored.
    upto: u64,
    /// The time of the newest commit.
    recorded_at: Option<Timestamp>,
}

struct Waiting {
    ticket: Ticket,
    events: u64,
    /// The time that was requested.
    recorded_at: Option<Timestamp>,
    number: u64,
}

impl Import<'_> {
    /// Imports the whole input. When the process is asked to end, the next read fails: lines that
    /// were read before it are stored first, because a pipe does not return them again.
    fn feed(
        &mut self,
        first: Option<Entry>,
        source: &mut Source,
        interruption: &Interruption,
        out: &mut Out,
    ) -> Result<Fed> {
        let mut next = first;
        let fed = loop {
            let Some(entry) = next else { break Fed::All };
            self.take(entry, out)?;
            next = match source.next(0) {
                Err(_) if interruption.signal().is_some() => break Fed::Early,
                read => read?,
            };
        };
        self.submit(out).map(|()| fed)
    }

    fn take(&mut self, entry: Entry, out: &mut Out) -> Result<()> {
        let Entry { said, line, number, bytes } = entry;
        let event = match said {
            Parsed::Event(event) => event,
            Parsed::Tracked(tracked) => return self.track(&tracked, line, number, out),
        };
        let mut given = Given { event, line, number };
        self.check_time(&given)?;
        let differs = |first: &Given| first.event.recorded_at != given.event.recorded_at;
        if self.commit.first().is_some_and(differs) || self.commit_bytes + bytes > COMMIT_BYTES {
            self.submit(out)?;
        }
        self.check_sequence(&mut given)?;
        self.commit_bytes += bytes;
        self.commit.push(given);
        if self.commit.len() == self.batch { self.submit(out) } else { Ok(()) }
    }

    /// Refuses a time that is far ahead of the clock: times never decrease, so that all later
    /// events would get it, too.
    fn check_time(&self, given: &Given) -> Result<()> {
        let now = Timestamp::now();
        match given.event.recorded_at {
            Some(time) if !self.allow_future && opening::ahead(time, now) => {
                let (time, now) = (Time(time), Time(now));
                let why = format!(
                    "recorded_at {time} is ahead of the clock ({now}), and all later events would be recorded with \
                        that time; --allow-future accepts it"
                );
                Err(Failure::failed(why).at(place(&self.name, given.line)))
            }
            _ => Ok(()),
        }
    }

    /// Checks the sequence of an event. The store would refuse the same, but for a whole commit,
    /// and without the line.
    fn check_sequence(&mut self, entry: &mut Given) -> Result<()> {
        let (stream, given) = (&entry.event.stream, entry.event.sequence);
        let found = match self.head(stream)? {
            Some(next) => match (&mut self.gaps, given) {
                (Some(gaps), Some(given)) => gaps.close(stream, given, next).ok_or(next),
                (_, given) => given.is_none_or(|sequence| sequence == next).then_some(next).ok_or(next),
            },
            // The first event of an edition may diverge anywhere up to the end of the main stream.
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

    /// Returns the next sequence of a stream, including events in flight; `None` for a stream of a
    /// named edition that has no events of its own yet.
    fn head(&mut self, stream: &StreamId) -> Result<Option<u64>> {
        if let Some(next) = self.heads.get(stream) {
            return Ok(Some(*next));
        }
        let newest = |store: &Store| store.read(stream).backwards().limit(1).into_iter().next().transpose();
        let last = self.target.store.as_ref().map(newest).transpose()?.flatten();
        let own = last.filter(|last| last.is_in(stream)).map(|last| last.sequence() + 1);
        let next = own.or_else(|| stream.edition().is_none().then_some(0));
        if let Some(next) = next {
            self.heads.insert(stream.clone(), next);
        }
        Ok(next)
    }

    /// Submits the commit to the store.
    fn submit(&mut self, out: &mut Out) -> Result<()> {
        let commit = std::mem::take(&mut self.commit);
        self.commit_bytes = 0;
        let Some(last) = commit.last() else { return Ok(()) };
        let recorded_at = last.event.recorded_at;
        self.clock.set(recorded_at);
        let submitted = self.target.submit(|store| {
            commit.iter().fold(store.transaction(), |transaction, given| {
                let event = &given.event;
                let expected = event.sequence.map_or(Expected::Any, Expected::Next);
                transaction.append(&event.stream, expected, [event.event()])
            })
        })?;
        let ticket = submitted.map_err(|error| self.refused(&commit, error))?;
        self.waiting.push(Waiting { ticket, events: commit.len() as u64, recorded_at, number: last.number });
        self.waiting_events += commit.len();
        if self.waiting_events >= self.batch { self.wait_for_submitted(out) } else { Ok(()) }
    }

    /// Stores the tracked position of an upstream, after all events that were read before.
    fn track(&mut self, tracked: &Tracked, line: u64, number: u64, out: &mut Out) -> Result<()> {
        self.submit(out)?;
        let Tracked { upstream, tracked } = tracked;
        match self.target.submit(|store| store.transaction().tracking(upstream, *tracked))? {
            Ok(ticket) => {
                self.summary.tracked += 1;
                self.waiting.push(Waiting { ticket, events: 0, recorded_at: None, number });
                Ok(())
            }
            // The same line was imported before, or the store has tracked more since.
            Err(Error::AlreadyTracked { .. }) => Ok(()),
            Err(error) => Err(Failure::from(error).at(place(&self.name, line))),
        }
    }

    /// Waits until everything submitted is durable.
    fn wait_for_submitted(&mut self, out: &mut Out) -> Result<()> {
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
            self.recorded_at = Some(committed.recorded_at);
            self.upto = waiting.number;
            if self.acknowledge {
                let told = out.line(&format!("acknowledged {}", committed.positions.end)).and_then(|()| out.flush());
                told.map_err(|_| Failure::failed("the reader of the acknowledgements is gone"))?;
            }
        }
        Ok(())
    }

    /// Finds the line of a commit that the store refuses, by storing its events one by one into
    /// another store.
    fn refused(&self, commit: &[Given], error: Error) -> Failure {
        if !matches!(error, Error::Invalid { .. } | Error::LimitExceeded { .. }) {
            return error.into();
        }
        let refused = |scratch: &Store, given: &Given| {
            let event = &given.event;
            scratch.append(&event.stream, Expected::Any, [event.event()]).err().map(|error| (given.line, error))
        };
        match opening::rehearsal().map(|scratch| commit.iter().find_map(|given| refused(&scratch, given))) {
            Ok(Some((line, error))) => Failure::from(error).at(place(&self.name, line)),
            _ => error.into(),
        }
    }
}
