//! Input of an import: a file or stdin, packed or not, line by line.

use crate::failure::{Failure, Result};
use crate::progress::Progress;
use flate2::bufread::MultiGzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

/// The longest line (of CSV: the longest record). It bounds the memory that a file without line breaks could ask for.
pub const MAX_LINE: usize = 64 << 20;

/// How gzip begins. No line of JSON does, and no CSV that is text.
const GZIP: [u8; 2] = [0x1f, 0x8b];

const BUFFER: usize = 256 << 10;

/// Bytes to be read, unpacked.
pub struct Input {
    /// What messages call it.
    pub name: String,
    pub reader: Box<dyn BufRead>,
    pub progress: Progress,
}

/// Opens a file, or stdin for `-`. `quiet` shows no progress.
pub fn open(path: &Path, quiet: bool) -> Result<Input> {
    let bar = |total| if quiet { Progress::hidden() } else { Progress::bytes(total) };
    let (name, progress, raw): (_, _, Box<dyn Read>) = if path.as_os_str() == "-" {
        ("stdin".to_owned(), bar(None), Box::new(io::stdin().lock()))
    } else {
        let name = path.display().to_string();
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?, file)));
        let (metadata, file) = opened.map_err(|e| Failure::failed(e).at(&name))?;
        (name, bar(metadata.is_file().then_some(metadata.len())), Box::new(file))
    };
    let reader = unpacked(progress.reading(raw)).map_err(|e| Failure::failed(e).at(&name))?;
    Ok(Input { name, reader, progress })
}

/// Unpacks what begins as gzip does, whatever its name is.
fn unpacked(mut raw: Box<dyn Read>) -> io::Result<Box<dyn BufRead>> {
    let mut start = Vec::with_capacity(GZIP.len());
    raw.by_ref().take(GZIP.len() as u64).read_to_end(&mut start)?;
    let packed = start == GZIP;
    let whole = BufReader::with_capacity(BUFFER, Cursor::new(start).chain(raw));
    Ok(match packed {
        true => Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(whole))),
        false => Box::new(whole),
    })
}

/// The lines of an input.
pub struct Lines {
    pub input: Input,
    /// The number of the line that was read last; the first is 1.
    pub number: u64,
    line: Vec<u8>,
}

impl Lines {
    pub fn new(input: Input) -> Self {
        Lines { input, number: 0, line: Vec::new() }
    }

    /// Reads the next line; `false` at the end.
    pub fn advance(&mut self) -> Result<bool> {
        self.line.clear();
        self.number += 1;
        let limit = MAX_LINE as u64 + 1;
        let read = self.input.reader.by_ref().take(limit).read_until(b'\n', &mut self.line);
        let read = read.map_err(|e| self.failure(e))?;
        if self.line.len() > MAX_LINE && self.line.last() != Some(&b'\n') {
            return Err(self.failure("the line is longer than 64 MiB"));
        }
        Ok(read > 0)
    }

    /// The line that was read last, without what ends it and spaces around it.
    pub fn line(&self) -> &[u8] {
        let line = match self.number {
            1 => self.line.strip_prefix("\u{FEFF}".as_bytes()).unwrap_or(&self.line),
            _ => &self.line,
        };
        line.trim_ascii()
    }

    /// What is wrong, with the place.
    pub fn failure(&self, why: impl std::fmt::Display) -> Failure {
        Failure::failed(why).at(format_args!("{}:{}", self.input.name, self.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(bytes: Vec<u8>) -> Lines {
        let reader = unpacked(Box::new(Cursor::new(bytes))).unwrap();
        Lines::new(Input { name: "test".into(), reader, progress: Progress::hidden() })
    }

    fn all(bytes: &[u8]) -> Vec<String> {
        let mut lines = lines(bytes.to_vec());
        let mut all = Vec::new();
        while lines.advance().unwrap() {
            all.push(String::from_utf8(lines.line().to_vec()).unwrap());
        }
        all
    }

    #[test]
    fn lines_end_in_all_the_usual_ways() {
        assert_eq!(all(b"a\r\n\nb"), ["a", "", "b"]);
        assert_eq!(all("\u{FEFF}a\n".as_bytes()), ["a"]);
        assert!(all(b"").is_empty());
        assert_eq!(all(b"\x1f"), ["\x1f"]);
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let mut lines = lines(vec![b'x'; MAX_LINE + 10]);
        assert!(lines.advance().is_err());
        let mut longest = vec![b'x'; MAX_LINE];
        longest.extend_from_slice(b"\ny\n");
        assert_eq!(all(&longest).len(), 2);
    }
}
