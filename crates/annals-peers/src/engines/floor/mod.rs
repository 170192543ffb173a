//! The floors: the least that any store on the same disk and the same processor has to do. They are
//! measured as an engine is, beside each engine.
//!
//! * **Writing** ([`zeros`]): the bytes of a commit, as many as Annals writes, go to a file that
//!   was filled with zeros and synced beforehand: one positioned write, and one `fdatasync` if they
//!   are to be durable. Nothing is encoded, checked or remembered. Threads share both through the
//!   smallest group commit that there is.
//! * **Reading** ([`records`]): the same events in a file with as many bytes an event, which is
//!   mapped. A checksum is verified for each. Where each stream's events are, and each query's, is
//!   known in advance.
//! * **Opening**: everything is scanned.
//! * **Subscribing**: a thread waits at a condition variable.

mod records;
mod zeros;

use crate::engine::{Engine, Options, Seen, Session, Wanted};
use crate::events::{Event, Events, Stream, Sum};
use annals::{Durability, Expected, NewEvent, Store, StreamId};
use anyhow::Result;
use records::{Records, Writer};
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use zeros::Together;

pub struct Floor(Arc<Shared>);

struct Shared {
    options: Options,
    commits: OnceLock<Commits>,
    records: OnceLock<Records>,
    /// Commits that were made, for who waits for them.
    made: Mutex<u64>,
    more: Condvar,
}

/// What writes commits, and the bytes of one.
struct Commits {
    together: Together,
    frame: Vec<u8>,
}

impl Floor {
    pub fn open(options: &Options) -> Result<Self> {
        let (commits, records) = (OnceLock::new(), OnceLock::new());
        if records::path(&options.dir).exists() {
            let _ = records.set(Records::map(&options.dir)?);
        }
        let (made, more) = (Mutex::default(), Condvar::new());
        let shared = Shared { options: options.clone(), commits, records, made, more };
        if !options.kept {
            shared.commits()?;
        }
        Ok(Floor(Arc::new(shared)))
    }
}

impl Shared {
    /// Where commits are written that nobody is going to read.
    fn commits(&self) -> Result<&Commits> {
        if let Some(commits) = self.commits.get() {
            return Ok(commits);
        }
        let Options { dir, durable, batch, .. } = &self.options;
        // Beside the directory, and kept: the next run finds the file as this one did.
        let together = Together::new(&dir.with_file_name("zeros"), *durable)?;
        let frame = vec![0x5a; bytes_of_commit(&dir.with_extension("frame"), *batch)? as usize];
        Ok(self.commits.get_or_init(|| Commits { together, frame }))
    }

    fn records(&self) -> &Records {
        self.records.get().expect("a data set is read")
    }
}

/// Bytes that a commit of so many events takes in the log of Annals.
fn bytes_of_commit(scratch: &Path, batch: u64) -> Result<u64> {
    let store = annals::Options::new().durability(Durability::Os).open(scratch)?;
    let (events, stream, id) = (Events::new(), Stream::new(1), StreamId::new("order", "1")?);
    let commit = |first| -> Result<u64> {
        let new = (first..first + batch).map(|n| {
            let event = events.event(n, &stream, n);
            NewEvent::new(event.event_type, event.data).metadata(event.metadata)
        });
        store.append(&id, Expected::Next(first), new)?;
        Ok(stored(&store)?)
    };
    let before = commit(0)?;
    let bytes = commit(batch)? - before;
    store.close()?;
    super::clear(scratch)?;
    Ok(bytes)
}

fn stored(store: &Store) -> annals::Result<u64> {
    Ok(store.stats()?.segments.iter().map(|segment| segment.bytes).sum())
}

impl Engine for Floor {
    fn session(&self) -> Result<Box<dyn Session>> {
        Ok(Box::new(FloorSession { shared: self.0.clone(), writer: None }))
    }

    fn subscribe(&self, mut seen: Seen) -> Result<()> {
        let shared = self.0.clone();
        std::thread::spawn(move || {
            let mut known = 0;
            loop {
                let made = shared.made.lock().expect("no thread panics");
                let made = *shared.more.wait_while(made, |made| *made == known).expect("no thread panics");
                seen(made - known);
                known = made;
            }
        });
        Ok(())
    }
}

struct FloorSession {
    shared: Arc<Shared>,
    /// Of a data set that is being made.
    writer: Option<Writer>,
}

impl FloorSession {
    fn write(&self) -> Result<()> {
        let commits = self.shared.commits()?;
        commits.together.commit(&commits.frame)?;
        if self.shared.options.subscribed {
            *self.shared.made.lock().expect("no thread panics") += 1;
            self.shared.more.notify_all();
        }
        Ok(())
    }
}

impl Session for FloorSession {
    fn commit(&mut self, events: &[Event<'_>]) -> Result<()> {
        let Options { dir, batch, kept, .. } = &self.shared.options;
        if !kept {
            return self.write();
        }
        if self.writer.is_none() {
            let each = bytes_of_commit(&dir.with_extension("frame"), *batch)? / batch;
            self.writer = Some(Writer::create(dir, each as usize)?);
        }
        events.iter().try_for_each(|event| self.writer.as_mut().expect("it was made").write(event))
    }

    fn replay(&mut self, positions: Range<u64>, sum: &mut Sum) -> Result<()> {
        self.shared.records().replay(positions, sum);
        Ok(())
    }

    fn stream(&mut self, stream: &Stream, sum: &mut Sum) -> Result<()> {
        self.shared.records().stream(&stream.name, sum);
        Ok(())
    }

    fn newest(&mut self, stream: &Stream, sum: &mut Sum) -> Result<()> {
        self.shared.records().newest(&stream.name, sum);
        Ok(())
    }

    fn find(&mut self, wanted: &Wanted, sum: &mut Sum) -> Result<()> {
        self.shared.records().find(&wanted.tag, wanted.event_type, sum);
        Ok(())
    }

    fn commit_if_absent(&mut self, _event: &Event<'_>, _absent: &Wanted) -> Result<()> {
        self.write()
    }
}
