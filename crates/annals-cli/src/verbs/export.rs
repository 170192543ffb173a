//! `annals export`: all events as JSON lines.

use crate::failure::{Failure, Result};
use crate::interruption::Interruption;
use crate::left_behind;
use crate::lines::{Line, Tracked};
use crate::opening;
use crate::output::Out;
use crate::progress::Progress;
use crate::replaced::NewFile;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde::Serialize;
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Write all events as JSON lines, which `import` reads
///
/// Every event is written with everything it was stored with: stream, sequence, type, id, times,
/// correlation and causation ids, tags, metadata, data, content type and schema version, byte for
/// byte. Editions diverge at the same events. After the last event comes one line for each tracked
/// upstream, {"upstream":NAME,"tracked":POSITION}; only an export that reaches the end of the store
/// has these lines.
///
/// Not exported, and therefore missing from an imported store: idempotency keys; commit boundaries;
/// deleted editions (positions of later events move up); handler positions, and the checkpoints and
/// dead letters of consumers; snapshots and projection states, which are rebuilt; the id of the
/// store. A note on stderr says when the store has keys, positions without events, handlers or
/// consumers that are left out. To keep everything, copy the directory while no process has the
/// store open for writing.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
    /// The position to begin with
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    from: u64,
    /// The position to stop before
    #[arg(long, value_name = "POSITION", default_value_t = u64::MAX, hide_default_value = true)]
    to: u64,
    /// Write into this file; compressed if its name ends in .gz. An existing file is replaced when
    /// the export is complete, and otherwise stays unchanged
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let store = opening::to_read(&self.store)?;
        let positions = self.from..self.to.min(store.len());
        // Read first: tracked positions must not be newer than the events that follow.
        let mut gaps = opening::Gaps::default();
        let tracked = store.all_tracked().unwrap_or_else(|error| {
            gaps.note("tracked positions of upstreams", &error);
            BTreeMap::new()
        });
        let events = store.read_all().from(self.from).to(self.to);
        let progress = match self.output.is_none() && io::stdout().is_terminal() {
            true => Progress::hidden(),
            false => Progress::events(positions.end.saturating_sub(positions.start)),
        };
        // Signals are watched before there is a temporary file. Anything but a regular file is
        // written to directly.
        let interruption = match &self.output {
            Some(path) if fs::metadata(path).map_or(true, |found| found.is_file()) => {
                Some(Interruption::watch().map_err(Failure::failed)?)
            }
            _ => None,
        };
        let mut target = match &self.output {
            Some(path) => Target::file(path, &self.store)?,
            None => Target::Out(out),
        };
        let mut count = 0;
        for read in events {
            if let Some(signal) = interruption.as_ref().and_then(Interruption::signal) {
                return Err(target.given_up(Failure::interrupted(signal)));
            }
            if let Some(event) = progress.aside(|| gaps.pass(read))? {
                target.line(&Line(&event))?;
                count += 1;
            }
            progress.add(1);
        }
        let is_complete = positions.end == store.len();
        if is_complete {
            tracked
                .iter()
                .try_for_each(|(upstream, &tracked)| target.line(&Tracked { upstream: upstream.clone(), tracked }))?;
        }
        drop(progress);
        let gaps = gaps.end();
        if gaps.is_err() && target.replaces() {
            // The existing file may be complete.
            return gaps.map_err(|failure| target.given_up(failure));
        }
        target.finish()?;
        left_behind::tell(&store, positions, count, if is_complete { 0 } else { tracked.len() });
        gaps
    }
}

enum Target<'o> {
    Out(&'o mut Out),
    File(Box<Packing>),
}

/// A file that may be compressed.
struct Packing {
    new: NewFile,
    writer: Writer,
}

enum Writer {
    Plain(BufWriter<File>),
    Packed(BufWriter<GzEncoder<File>>),
}

impl Target<'_> {
    fn file(path: &Path, store: &Path) -> Result<Self> {
        let new = NewFile::create(path, &[store])?;
        let file = new.file().map_err(|e| Failure::failed(e).at(new.name()))?;
        let writer = match path.extension().is_some_and(|extension| extension == "gz") {
            true => Writer::Packed(BufWriter::with_capacity(64 << 10, GzEncoder::new(file, Compression::default()))),
            false => Writer::Plain(BufWriter::with_capacity(64 << 10, file)),
        };
        Ok(Target::File(Box::new(Packing { new, writer })))
    }

    fn line(&mut self, line: &impl Serialize) -> Result<()> {
        let file = match self {
            Target::Out(out) => return out.json(line),
            Target::File(file) => &mut **file,
        };
        let written = match &mut file.writer {
            Writer::Plain(writer) => write_line(writer, line),
            Writer::Packed(writer) => write_line(writer, line),
        };
        written.map_err(|e| Failure::failed(e).at(file.new.name()))
    }

    /// Returns whether a file would be replaced.
    fn replaces(&self) -> bool {
        matches!(self, Target::File(file) if file.new.replaces())
    }

    /// Adds to a failure that the file was not written, or is unchanged.
    fn given_up(&self, failure: Failure) -> Failure {
        let Target::File(file) = self else { return failure };
        let became = if file.new.replaces() { "is unchanged" } else { "was not written" };
        failure.and_hint(format_args!("{} {became}", file.new.name()))
    }

    /// An export may become the only copy: it is durable before this returns.
    fn finish(self) -> Result<()> {
        let Packing { new, writer } = match self {
            // Flushed, so that later messages come after it.
            Target::Out(out) => return out.flush(),
            Target::File(file) => *file,
        };
        let finished = match writer {
            Writer::Plain(mut writer) => writer.flush(),
            Writer::Packed(writer) => {
                writer.into_inner().map_err(|e| e.into_error()).and_then(GzEncoder::finish).map(drop)
            }
        };
        finished.map_err(|e| Failure::failed(e).at(new.name()))?;
        new.finish()
    }
}

fn write_line(to: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *to, line)?;
    to.write_all(b"\n")
}
