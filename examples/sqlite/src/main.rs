//! A read model in SQLite that applies every event exactly once: its checkpoint is a row of the
//! same database, written in the same transaction.
//!
//! ```text
//! cargo run -p annals-example-sqlite
//! ```
//!
//! It starts itself again and again as another process, and lets each die in the middle of its
//! work: before a transaction, within one, or right after one. In the end, the totals are those of
//! the events.

use annals::projection::ExternalSink;
use annals::{Durability, Event, Expected, NewEvent, Options, Query, Store, StreamId, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, ExitCode};

type Error = Box<dyn std::error::Error + Send + Sync>;
type Result<T, E = Error> = std::result::Result<T, E>;

const ACCOUNTS: u64 = 7;
const EVENTS: u64 = 500;
const BATCH: usize = 16;

/// The balance of each account, and the checkpoint, in one database.
struct Balances {
    database: Connection,
    /// Number of batches until the process dies, and where in the last one.
    death: Option<(u64, Moment)>,
}

/// Where a process dies.
#[derive(Clone, Copy, PartialEq)]
enum Moment {
    Before,
    Within,
    Behind,
}

const MOMENTS: [Moment; 3] = [Moment::Before, Moment::Within, Moment::Behind];

impl Balances {
    fn open(path: &Path) -> Result<Self> {
        let database = Connection::open(path)?;
        database.execute_batch(
            "CREATE TABLE IF NOT EXISTS balance (account TEXT PRIMARY KEY, amount INTEGER NOT NULL) STRICT;
             CREATE TABLE IF NOT EXISTS checkpoint (name TEXT PRIMARY KEY, position INTEGER NOT NULL, recorded_at INTEGER NOT NULL) STRICT;",
        )?;
        Ok(Balances { database, death: None })
    }

    fn all(&self) -> Result<BTreeMap<String, i64>> {
        let mut rows = self.database.prepare("SELECT account, amount FROM balance")?;
        let rows = rows.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    fn die_at(&self, moment: Moment) {
        if self.death == Some((0, moment)) {
            // Nothing is closed, rolled back or flushed.
            std::process::abort();
        }
    }
}

impl ExternalSink for Balances {
    type Error = Error;

    fn query(&self) -> Query {
        Query::new().domain("account").event_type("Deposited")
    }

    fn checkpoint(&mut self) -> Result<Option<u64>> {
        let found = "SELECT position FROM checkpoint WHERE name = 'balances'";
        let position: Option<i64> = self.database.query_row(found, [], |row| row.get(0)).optional()?;
        Ok(position.map(u64::try_from).transpose()?)
    }

    fn recorded_at(&mut self) -> Result<Option<Timestamp>> {
        let found = "SELECT recorded_at FROM checkpoint WHERE name = 'balances'";
        let nanos: Option<i64> = self.database.query_row(found, [], |row| row.get(0)).optional()?;
        Ok(nanos.map(Timestamp::from_nanos))
    }

    /// Balances and checkpoint, with the event's time: all or nothing.
    fn apply(&mut self, events: &[Event], checkpoint: u64) -> Result<()> {
        self.die_at(Moment::Before);
        let dies_within = self.death == Some((0, Moment::Within));
        let transaction = self.database.transaction()?;
        for (n, event) in events.iter().enumerate() {
            let account = String::from_utf8_lossy(event.root()).into_owned();
            let amount: i64 = event.decode()?;
            transaction.execute(
                "INSERT INTO balance VALUES (?1, ?2) ON CONFLICT (account) DO UPDATE SET amount = amount + ?2",
                params![account, amount],
            )?;
            if dies_within && n == events.len() / 2 {
                std::process::abort();
            }
        }
        transaction.execute(
            "INSERT INTO checkpoint VALUES ('balances', ?1, ?2)
             ON CONFLICT (name) DO UPDATE SET position = ?1, recorded_at = ?2",
            params![i64::try_from(checkpoint)?, events.last().map(|event| event.recorded_at().as_nanos())],
        )?;
        transaction.commit()?;
        self.die_at(Moment::Behind);
        if let Some((batches, _)) = &mut self.death {
            *batches = batches.saturating_sub(1);
        }
        Ok(())
    }
}

fn open_store(dir: &Path) -> Result<Store> {
    // The store does not sync its appends. Events are made durable before they are applied all the
    // same.
    Ok(Options::new().durability(Durability::Os).open(dir.join("store"))?)
}

/// The part of a process that may die: appends a little, and brings the database up to date.
fn work(dir: &Path, death: Option<(u64, Moment)>) -> Result<()> {
    let store = open_store(dir)?;
    for _ in 0..EVENTS / 10 {
        let n = store.len();
        if n >= EVENTS {
            break;
        }
        let account = StreamId::new("account", (n % ACCOUNTS).to_string())?;
        store.append(&account, Expected::Any, [NewEvent::bincode("Deposited", &(n as i64))?])?;
    }
    let mut balances = Balances::open(&dir.join("balances.db"))?;
    balances.death = death;
    store.external(balances).batch(BATCH).catch_up()?;
    store.close()?;
    Ok(())
}

/// Lets processes die until all is done. Returns how many have died.
fn run(program: &Path, dir: &Path) -> Result<u32> {
    let mut died = 0;
    for round in 0..30u64 {
        let (batches, moment) = (round % 4, round % MOMENTS.len() as u64);
        let arguments = ["--work".as_ref(), dir.as_os_str()];
        let mut process = Command::new(program);
        let status = process.args(arguments).args([batches.to_string(), moment.to_string()]).status()?;
        died += u32::from(!status.success());
    }
    work(dir, None)?;
    Ok(died)
}

/// Each account has what was deposited, once.
fn check(dir: &Path) -> Result<BTreeMap<String, i64>> {
    let store = open_store(dir)?;
    let mut expected = BTreeMap::new();
    for event in store.read_all() {
        let event = event?;
        *expected.entry(String::from_utf8_lossy(event.root()).into_owned()).or_default() += event.decode::<i64>()?;
    }
    let found = Balances::open(&dir.join("balances.db"))?.all()?;
    assert_eq!(found, expected, "each event is in it exactly once");
    Ok(found)
}

fn main() -> Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, dir, batches, moment] = &arguments[..]
        && mode == "--work"
    {
        let moment = MOMENTS[moment.parse::<usize>()? % MOMENTS.len()];
        work(Path::new(dir), Some((batches.parse()?, moment)))?;
        return Ok(ExitCode::SUCCESS);
    }
    let dir = tempfile::tempdir()?;
    let died = run(&std::env::current_exe()?, dir.path())?;
    for (account, amount) in check(dir.path())? {
        println!("account {account}: {amount}");
    }
    println!("{died} processes died at work; each of {EVENTS} events was taken in exactly once.");
    Ok(ExitCode::SUCCESS)
}
