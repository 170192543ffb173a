//! `annals export`: all events as JSON lines.

use crate::failure::{Failure, Result};
use crate::lines::Line;
use crate::opening;
use crate::output::Out;
use crate::progress::Progress;
use annals::Event;
use flate2::Compression;
use flate2::write::GzEncoder;
use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};

/// Write all events as JSON lines, which `import` reads
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
    /// The position to begin with
    #[arg(long, value_name = "POSITION", default_value_t = 0)]
    from: u64,
    /// The position to end before
    #[arg(long, value_name = "POSITION", default_value_t = u64::MAX, hide_default_value = true)]
    to: u64,
    /// Write into this file, which is overwritten; packed if its name ends in .gz
    #[arg(long, value_name = "FILE")]
    output: Option<PathBuf>,
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let store = opening::to_read(&self.store)?;
        let events = store.read_all().from(self.from).to(self.to);
        let count = self.to.min(store.len()).saturating_sub(self.from);
        let progress = match self.output.is_none() && io::stdout().is_terminal() {
            true => Progress::hidden(),
            false => Progress::events(count),
        };
        let mut target = match &self.output {
            Some(path) => Target::file(path)?,
            None => Target::Out(out),
        };
        let mut gaps = opening::Gaps::default();
        for read in events {
            if let Some(event) = progress.aside(|| gaps.pass(read))? {
                target.line(&event)?;
            }
            progress.add(1);
        }
        target.finish().and_then(|()| gaps.end())
    }
}

enum Target<'o> {
    Out(&'o mut Out),
    File { name: String, file: File, writer: Writer },
}

enum Writer {
    Plain(BufWriter<File>),
    Packed(BufWriter<GzEncoder<File>>),
}

impl Target<'_> {
    fn file(path: &Path) -> Result<Self> {
        let name = path.display().to_string();
        let opened = File::create(path).and_then(|file| Ok((file.try_clone()?, file)));
        let (clone, file) = opened.map_err(|e| Failure::failed(e).at(&name))?;
        let writer = match path.extension().is_some_and(|extension| extension == "gz") {
            true => Writer::Packed(BufWriter::with_capacity(64 << 10, GzEncoder::new(clone, Compression::default()))),
            false => Writer::Plain(BufWriter::with_capacity(64 << 10, clone)),
        };
        Ok(Target::File { name, file, writer })
    }

    fn line(&mut self, event: &Event) -> Result<()> {
        match self {
            Target::Out(out) => out.json(&Line(event)),
            Target::File { name, writer, .. } => {
                let written = match writer {
                    Writer::Plain(writer) => write_line(writer, event),
                    Writer::Packed(writer) => write_line(writer, event),
                };
                written.map_err(|e| Failure::failed(e).at(name))
            }
        }
    }

    /// An export may be the only copy some day: it is durable before this returns.
    fn finish(self) -> Result<()> {
        let Target::File { name, file, writer } = self else { return Ok(()) };
        let finished = match writer {
            Writer::Plain(mut writer) => writer.flush(),
            Writer::Packed(writer) => {
                writer.into_inner().map_err(|e| e.into_error()).and_then(GzEncoder::finish).map(drop)
            }
        };
        let synced =
            finished.and_then(|()| file.metadata()).and_then(|m| if m.is_file() { file.sync_all() } else { Ok(()) });
        synced.map_err(|e| Failure::failed(e).at(name))
    }
}

fn write_line(to: &mut impl Write, event: &Event) -> io::Result<()> {
    serde_json::to_writer(&mut *to, &Line(event))?;
    to.write_all(b"\n")
}
