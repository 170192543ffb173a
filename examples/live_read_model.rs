//! A read model that is kept up to date while a writer writes: who has changed the repository most,
//! as its history unfolds.
//!
//! ```text
//! cargo run --release --example live_read_model -- [PATH]
//! ```
//!
//! One thread appends the history of the git repository at PATH (or of the current directory), one
//! commit of git after the other, oldest first. A projection follows on a thread of its own, and
//! the main thread prints the state whenever it has changed. At the end, the state is compared with
//! a plain count over all events, and again after the store was closed and opened: then it
//! continues from its saved state.

use annals::projection::{ReadModel, Start};
use annals::{Event, Expected, NewEvent, Projection, Query, Store, StreamId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

type Result<T, E = Box<dyn std::error::Error + Send + Sync>> = std::result::Result<T, E>;

/// Commits of git that make one commit of the store.
const AT_ONCE: usize = 100;
/// How often the state is printed at most, and how many authors of it.
const PAUSE: Duration = Duration::from_millis(50);
const SHOWN: usize = 5;

/// Commits by author.
struct Authors;

#[derive(Clone, PartialEq, Default, Serialize, Deserialize)]
struct Board {
    commits: BTreeMap<String, u64>,
    /// The day of the newest commit, as git prints it.
    day: String,
}

impl Projection for Authors {
    type State = Board;

    fn name(&self) -> &str {
        "commits-by-author"
    }

    fn version(&self) -> u32 {
        1
    }

    fn query(&self) -> Query {
        Query::new().domain("repository").event_type("Committed")
    }

    fn apply(&self, board: &mut Board, event: &Event) -> annals::Result<()> {
        let data = String::from_utf8_lossy(event.data());
        let (day, author) = data.split_once('\t').unwrap_or(("", &data));
        *board.commits.entry(author.to_owned()).or_default() += 1;
        board.day = day.to_owned();
        Ok(())
    }
}

fn main() -> Result<()> {
    let path = std::env::args().nth(1).unwrap_or_else(|| ".".into());
    let dir = tempfile::tempdir()?;
    let store = Store::open(dir.path().join("store"))?;
    let board = store.projection(Authors).continuous()?;

    let written = thread::scope(|scope| {
        let writer = scope.spawn(|| write_history(&store, &path));
        let mut shown = None;
        while !writer.is_finished() {
            if board.position() != shown {
                shown = board.position();
                print_board(&board)?;
            }
            thread::sleep(PAUSE);
        }
        writer.join().expect("the writer does not panic")
    })?;
    let Some(last) = store.head() else {
        println!("{path} has no history.");
        return Ok(());
    };
    // Read your own writes: the state now includes the last event.
    assert!(board.wait_for(last, Duration::from_secs(60))?);
    print_board(&board)?;

    let state = board.state()?;
    let mut counted = Board::default();
    for event in store.query(&Authors.query()) {
        Authors.apply(&mut counted, &event?)?;
    }
    assert!(state == counted, "the state is what the events add up to");
    board.stop()?;
    store.close()?;

    let store = Store::open(dir.path().join("store"))?;
    let begun = Instant::now();
    let board = store.projection(Authors).live()?;
    assert_eq!(board.status().start, Start::Saved(Some(last)));
    assert!(board.state()? == state, "it is saved as it was");
    println!(
        "{written} commits; after a restart the state was there in {:?}, without reading one of them.",
        begun.elapsed()
    );
    Ok(())
}

/// One event per commit of git, in the order in which they were made.
fn write_history(store: &Store, path: &str) -> Result<u64> {
    let format = "--pretty=format:%H%x09%at%x09%as%x09%an";
    let mut git = Command::new("git").args(["-C", path, "log", "--reverse", format]).stdout(Stdio::piped()).spawn()?;
    let lines = BufReader::new(git.stdout.take().ok_or("git has no output")?).lines();
    let repository = StreamId::new("repository", path)?;
    let (mut events, mut count) = (Vec::with_capacity(AT_ONCE), 0);
    for line in lines {
        let line = line?;
        let mut parts = line.splitn(3, '\t');
        let (Some(id), Some(time), Some(rest)) = (parts.next(), parts.next(), parts.next()) else { continue };
        let seconds: i64 = time.parse()?;
        let event = NewEvent::with_data("Committed", rest.as_bytes().to_vec()).correlation_id(id.to_owned());
        events.push(event.occurred_at(Timestamp::from_nanos(seconds.saturating_mul(1_000_000_000))));
        count += 1;
        if events.len() == AT_ONCE {
            store.append(&repository, Expected::Any, events.drain(..))?;
        }
    }
    store.append(&repository, Expected::Any, events)?;
    if git.wait()?.success() { Ok(count) } else { Err("git log has failed".into()) }
}

fn print_board(board: &ReadModel<Authors>) -> Result<()> {
    let status = board.status();
    let (Board { commits, day }, position) = board.read_at(|state, position| (state.clone(), position))?;
    let Some(position) = position else { return Ok(()) };
    let mut authors: Vec<(String, u64)> = commits.into_iter().collect();
    authors.sort_by_key(|(_, commits)| std::cmp::Reverse(*commits));
    println!("{day}  position {position}, {} behind, {:.0} events a second", status.lag, status.rate);
    for (author, commits) in authors.iter().take(SHOWN) {
        println!("  {commits:>7}  {author}");
    }
    Ok(())
}
