//! SQLite: a table of events with an index of streams, in WAL mode; `synchronous=FULL`, as with
//! less a commit would not survive a power cut.
//!
//! Writers wait for a lock of this program, which is kinder than SQLite's own waiting, which
//! sleeps. Pages are cached and mapped, so that none is read twice.

use crate::engine::{Engine, Options, Session};
use crate::events::{Event, Stream, Sum};
use anyhow::{Result, ensure};
use rusqlite::{Connection, Params, params};
use std::ops::Range;
use std::sync::{Arc, Mutex};

pub struct Sqlite {
    options: Options,
    writer: Arc<Mutex<Connection>>,
}

fn connect(options: &Options) -> Result<Connection> {
    let connection = Connection::open(options.dir.join("events.db"))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", if options.durable { "FULL" } else { "OFF" })?;
    connection.pragma_update(None, "cache_size", -(256 << 10))?;
    connection.pragma_update(None, "mmap_size", 8i64 << 30)?;
    Ok(connection)
}

impl Sqlite {
    pub fn open(options: &Options) -> Result<Self> {
        let writer = connect(options)?;
        writer.execute_batch(
            "CREATE TABLE IF NOT EXISTS events(
                 position INTEGER PRIMARY KEY AUTOINCREMENT,
                 stream TEXT NOT NULL, sequence INTEGER NOT NULL,
                 type TEXT NOT NULL, metadata BLOB NOT NULL, data BLOB NOT NULL,
                 UNIQUE(stream, sequence))",
        )?;
        Ok(Sqlite { options: options.clone(), writer: Arc::new(Mutex::new(writer)) })
    }
}

impl Engine for Sqlite {
    fn session(&self) -> Result<Box<dyn Session>> {
        Ok(Box::new(SqliteSession { writer: self.writer.clone(), reader: connect(&self.options)? }))
    }
}

struct SqliteSession {
    writer: Arc<Mutex<Connection>>,
    reader: Connection,
}

fn append(writer: &Connection, events: &[Event<'_>]) -> Result<()> {
    let mut newest = writer.prepare_cached("SELECT max(sequence) FROM events WHERE stream = ?1")?;
    let mut insert = writer
        .prepare_cached("INSERT INTO events(stream, sequence, type, metadata, data) VALUES(?1, ?2, ?3, ?4, ?5)")?;
    for run in events.chunk_by(|a, b| a.stream.number == b.stream.number) {
        let found: Option<i64> = newest.query_row([&run[0].stream.name], |row| row.get(0))?;
        ensure!(found.map_or(0, |sequence| sequence + 1) == run[0].sequence as i64, "a conflict");
        for event in run {
            let Event { stream, sequence, event_type, metadata, data, .. } = event;
            insert.execute(params![stream.name, *sequence as i64, event_type, metadata, data])?;
        }
    }
    Ok(())
}

fn read(reader: &Connection, sql: &str, parameters: impl Params, sum: &mut Sum) -> Result<()> {
    let mut statement = reader.prepare_cached(sql)?;
    let mut rows = statement.query(parameters)?;
    while let Some(row) = rows.next()? {
        sum.add(row.get_ref(0)?.as_bytes()?, row.get_ref(1)?.as_blob()?, row.get_ref(2)?.as_blob()?);
    }
    Ok(())
}

impl Session for SqliteSession {
    fn commit(&mut self, events: &[Event<'_>]) -> Result<()> {
        let writer = self.writer.lock().expect("no thread panics");
        writer.prepare_cached("BEGIN IMMEDIATE")?.execute([])?;
        let appended = append(&writer, events);
        writer.prepare_cached(if appended.is_ok() { "COMMIT" } else { "ROLLBACK" })?.execute([])?;
        appended
    }

    fn replay(&mut self, positions: Range<u64>, sum: &mut Sum) -> Result<()> {
        // Positions begin with 1 there.
        let sql = "SELECT type, metadata, data FROM events WHERE position > ?1 AND position <= ?2 ORDER BY position";
        read(&self.reader, sql, [positions.start as i64, positions.end as i64], sum)
    }

    fn stream(&mut self, stream: &Stream, sum: &mut Sum) -> Result<()> {
        let sql = "SELECT type, metadata, data FROM events WHERE stream = ?1 ORDER BY sequence";
        read(&self.reader, sql, [&stream.name], sum)
    }

    fn newest(&mut self, stream: &Stream, sum: &mut Sum) -> Result<()> {
        let sql = "SELECT type, metadata, data FROM events WHERE stream = ?1 ORDER BY sequence DESC LIMIT 1";
        read(&self.reader, sql, [&stream.name], sum)
    }
}
