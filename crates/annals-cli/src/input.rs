//! Input of an import: a file or stdin, compressed or not, line by line.

use crate::failure::{Failure, Result};
use crate::interruption::Interruption;
use crate::progress::Progress;
use flate2::bufread::GzDecoder;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::path::Path;

/// Maximum length of a line in bytes: the largest event of a store, 512 MiB, as base64, with
/// everything else that its line may have.
pub const MAX_LINE: usize = 704 << 20;

/// Number of bytes of a line that are read before it must look like an event, so that another kind
/// of file, without line breaks, takes no more memory.
const SHORT: usize = 1 << 20;

/// The first bytes of gzip. No line of JSON begins with them, and no CSV that is text.
const GZIP: [u8; 2] = [0x1f, 0x8b];

/// The byte order mark that some programs put before text in UTF-8.
const MARK: &[u8] = "\u{FEFF}".as_bytes();

const BUFFER: usize = 256 << 10;

/// Bytes to be read, decompressed, without a byte order mark.
pub struct Input {
    /// Its name in messages.
    pub name: String,
    pub reader: Box<dyn BufRead>,
    pub progress: Progress,
}

/// Opens a file, or stdin for `-`. `quiet` shows no progress.
pub fn open(path: &Path, quiet: bool, interruption: &Interruption) -> Result<Input> {
    let bar = |total| if quiet { Progress::hidden() } else { Progress::bytes(total) };
    let (name, opened) = match path.as_os_str() == "-" {
        true => ("stdin".to_owned(), stdin()),
        false => (path.display().to_string(), File::open(path)),
    };
    let opened = opened.and_then(|file| Ok((file.metadata()?, file)));
    let (metadata, file) = opened.map_err(|e| Failure::failed(e).at(&name))?;
    let progress = bar(metadata.is_file().then_some(metadata.len()));
    let raw = progress.reading(interruption.reading(file));
    let reader = unpacked(raw).and_then(unmarked).map_err(|e| Failure::failed(e).at(&name))?;
    Ok(Input { name, reader, progress })
}

/// Stdin without a buffer of its own, so that waiting for it can be interrupted.
#[cfg(unix)]
fn stdin() -> io::Result<File> {
    use std::os::fd::AsFd;
    Ok(io::stdin().as_fd().try_clone_to_owned()?.into())
}

#[cfg(windows)]
fn stdin() -> io::Result<File> {
    use std::os::windows::io::AsHandle;
    Ok(io::stdin().as_handle().try_clone_to_owned()?.into())
}

/// Returns all bytes of a file, if there are not more than this many.
pub fn whole(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let read = File::open(path).and_then(|file| file.take(limit + 1).read_to_end(&mut bytes));
    read.map_err(|e| Failure::failed(e).at(path.display()))?;
    match bytes.len() as u64 > limit {
        true => Err(Failure::failed(format_args!("the file has more than {limit} bytes")).at(path.display())),
        false => Ok(bytes),
    }
}

/// Decompresses input that begins as gzip does, whatever its name is.
fn unpacked(mut raw: Box<dyn Read>) -> io::Result<Box<dyn BufRead>> {
    let mut start = Vec::with_capacity(GZIP.len());
    raw.by_ref().take(GZIP.len() as u64).read_to_end(&mut start)?;
    let packed = start == GZIP;
    let whole = BufReader::with_capacity(BUFFER, Cursor::new(start).chain(raw));
    Ok(match packed {
        true => Box::new(BufReader::with_capacity(BUFFER, Members::new(whole))),
        false => Box::new(whole),
    })
}

/// Removes a byte order mark, whatever follows it.
fn unmarked(mut reader: Box<dyn BufRead>) -> io::Result<Box<dyn BufRead>> {
    let mut start = Vec::with_capacity(MARK.len());
    reader.by_ref().take(MARK.len() as u64).read_to_end(&mut start)?;
    if start == MARK {
        return Ok(reader);
    }
    if start.starts_with(b"\xFF\xFE") || start.starts_with(b"\xFE\xFF") {
        return Err(io::Error::other("the text is UTF-16; convert it to UTF-8 (iconv -f UTF-16 -t UTF-8)"));
    }
    Ok(Box::new(Cursor::new(start).chain(reader)))
}

/// The members of a gzip file, one after the other. Zeros after a member are skipped, as gzip does:
/// tapes and block copies add them.
struct Members<R: BufRead> {
    /// `None` at the end, and while it is replaced.
    decoder: Option<GzDecoder<R>>,
}

impl<R: BufRead> Members<R> {
    fn new(packed: R) -> Self {
        Members { decoder: Some(GzDecoder::new(packed)) }
    }
}

impl<R: BufRead> Read for Members<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while let Some(decoder) = &mut self.decoder {
            let read = decoder.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            let Some(mut packed) = self.decoder.take().map(GzDecoder::into_inner) else { break };
            match after_zeros(&mut packed)? {
                None => break,
                Some(byte) if byte == GZIP[0] => self.decoder = Some(GzDecoder::new(packed)),
                Some(_) => return Err(io::Error::other("the bytes after the end of the gzip data are not gzip")),
            }
        }
        Ok(0)
    }
}

/// Returns the next byte that is not zero, without consuming it.
fn after_zeros(reader: &mut impl BufRead) -> io::Result<Option<u8>> {
    loop {
        let buffer = reader.fill_buf()?;
        let (len, found) = (buffer.len(), buffer.iter().position(|&byte| byte != 0));
        match found {
            Some(at) => {
                let byte = buffer[at];
                reader.consume(at);
                return Ok(Some(byte));
            }
            None if len == 0 => return Ok(None),
            None => reader.consume(len),
        }
    }
}

/// The lines of an input.
pub struct Lines {
    pub input: Input,
    /// The number of the last line that was read; the first is 1.
    pub number: u64,
    line: Vec<u8>,
}

impl Lines {
    pub fn new(input: Input) -> Self {
        Lines { input, number: 0, line: Vec::new() }
    }

    /// Reads the next line; returns `false` at the end.
    pub fn advance(&mut self) -> Result<bool> {
        self.line.clear();
        self.number += 1;
        self.read_up_to(SHORT)?;
        if self.line.len() == SHORT && !self.is_ended() {
            if !self.line.trim_ascii_start().starts_with(b"{") {
                return Err(self.failure("the line has more than 1 MiB and does not begin as a JSON object does"));
            }
            self.read_up_to(MAX_LINE + 1)?;
        }
        if self.line.len() > MAX_LINE && !self.is_ended() {
            return Err(self.failure(format_args!("the line is longer than {} MiB", MAX_LINE >> 20)));
        }
        Ok(!self.line.is_empty())
    }

    /// Reads until the line ends, or has this many bytes.
    fn read_up_to(&mut self, len: usize) -> Result<()> {
        let more = (len - self.line.len()) as u64;
        let read = self.input.reader.by_ref().take(more).read_until(b'\n', &mut self.line);
        read.map(drop).map_err(|e| self.failure(e))
    }

    fn is_ended(&self) -> bool {
        self.line.last() == Some(&b'\n')
    }

    /// Returns the last line that was read, without trailing white space.
    pub fn line(&self) -> &[u8] {
        self.line.trim_ascii_end()
    }

    /// Returns a failure in the last line that was read.
    pub fn failure(&self, why: impl std::fmt::Display) -> Failure {
        Failure::failed(why).at(format_args!("{}:{}", self.input.name, self.number))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use flate2::Compression;
    use flate2::write::GzEncoder;
    use std::io::Write;

    /// Reads one byte at a time.
    struct Slow(Cursor<Vec<u8>>);

    impl Read for Slow {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = buffer.len().min(1);
            self.0.read(&mut buffer[..len])
        }
    }

    fn lines(raw: impl Read + 'static) -> io::Result<Lines> {
        let reader = unpacked(Box::new(raw)).and_then(unmarked)?;
        Ok(Lines::new(Input { name: "test".into(), reader, progress: Progress::hidden() }))
    }

    fn read(raw: impl Read + 'static) -> Option<Vec<String>> {
        let mut lines = lines(raw).ok()?;
        let mut all = Vec::new();
        while lines.advance().ok()? {
            all.push(String::from_utf8(lines.line().to_vec()).unwrap());
        }
        Some(all)
    }

    /// Returns the result, however the bytes arrive.
    fn all(bytes: &[u8]) -> Option<Vec<String>> {
        let at_once = read(Cursor::new(bytes.to_vec()));
        assert_eq!(read(Slow(Cursor::new(bytes.to_vec()))), at_once);
        at_once
    }

    fn packed(text: &str) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn lines_end_in_all_the_usual_ways() {
        assert_eq!(all(b"a\r\n\nb").unwrap(), ["a", "", "b"]);
        assert!(all(b"").unwrap().is_empty());
        assert_eq!(all(b"\x1f").unwrap(), ["\x1f"]);
    }

    /// A mark was only removed from a first line of JSON, and from CSV if the first read of the
    /// parser returned all of it. Now it is removed before either of them reads it.
    #[test]
    fn a_byte_order_mark_is_no_part_of_the_text() {
        assert_eq!(all("\u{FEFF}a\n".as_bytes()).unwrap(), ["a"]);
        assert_eq!(all("\u{FEFF}\u{FEFF}a\n".as_bytes()).unwrap(), ["\u{FEFF}a"], "only one");
        assert_eq!(all(&packed("\u{FEFF}\"a\"\n")).unwrap(), ["\"a\""]);
        assert_eq!(all("\u{FEFF}".as_bytes()).unwrap(), [""; 0]);
        assert_eq!(all(b"a"), Some(vec!["a".to_owned()]));
        for utf16 in [&b"\xFF\xFEa\0"[..], b"\xFE\xFF\0a"] {
            assert!(lines(Cursor::new(utf16.to_vec())).err().unwrap().to_string().contains("UTF-16"));
        }
    }

    /// Tapes and block copies are padded with zeros. The decoder took them for a member with a
    /// broken header; gzip skips them.
    #[test]
    fn zeros_after_a_member_are_no_member() {
        let (a, b, zeros) = (packed("a\n"), packed("b\n"), vec![0; 3000]);
        assert_eq!(all(&[a.clone(), b.clone()].concat()).unwrap(), ["a", "b"]);
        assert_eq!(all(&[a.clone(), zeros.clone()].concat()).unwrap(), ["a"]);
        assert_eq!(all(&[a.clone(), zeros.clone(), b.clone(), zeros.clone()].concat()).unwrap(), ["a", "b"]);
        assert_eq!(all(&packed("")).unwrap(), [""; 0]);
        assert_eq!(all(&[a.clone(), zeros, b"tail".to_vec()].concat()), None, "other bytes are not skipped");
        assert_eq!(all(&[a.clone(), b[..b.len() - 1].to_vec()].concat()), None, "a member that is cut off");
        assert_eq!(all(&[a, b[..1].to_vec()].concat()), None, "a member that is cut off within its header");
    }

    #[test]
    fn a_line_without_end_is_refused() {
        let refused = |bytes: Vec<u8>| lines(Cursor::new(bytes)).unwrap().advance().is_err();
        assert!(refused(vec![b'x'; SHORT + 10]));
        assert!(refused(vec![b' '; SHORT + 10]));
        let mut long = vec![b' '; 2 * SHORT];
        long[7] = b'{';
        long.extend_from_slice(b"\ny\n");
        assert_eq!(read(Cursor::new(long)).unwrap().len(), 2);
    }
}
