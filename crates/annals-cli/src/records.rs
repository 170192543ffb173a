//! Records of CSV, as RFC 4180 defines them.
//!
//! Common parsers of CSV accept everything: a quote that is never closed turns everything after it
//! into one field, and `"7" wide"` becomes `7 wide"`. Imported events stay, so malformed input is
//! refused here, with the line. Three things are accepted beyond the RFC: lines that end in LF or
//! CR alone; empty lines, which are skipped; and quotes in a field that is not quoted, which are
//! part of its text.

use std::io::{self, BufRead};

/// Maximum length of a record in bytes. It limits the memory that a quote can take that is never
/// closed.
pub const MAX_RECORD: usize = 64 << 20;

/// What is wrong, and in which line.
#[derive(Debug)]
pub struct Wrong {
    pub line: u64,
    pub why: String,
}

/// Reads record by record.
pub struct Records<R> {
    input: R,
    record: Record,
    /// Whether the last record ended with the input, without a line break.
    pub is_unended: bool,
}

/// The part of a record that has been read.
struct Record {
    /// Its fields, one after the other.
    bytes: Vec<u8>,
    /// The end of each field.
    ends: Vec<usize>,
    /// The line in which it begins; the first is 1.
    line: u64,
    /// The current line.
    now: u64,
    /// Whether the last byte was a CR.
    after_cr: bool,
}

/// The state before the next byte.
#[derive(Clone, Copy, PartialEq, Eq)]
enum At {
    /// Before the first byte of the record.
    Record,
    /// At the first byte of a field.
    Field,
    /// In a field without quotes.
    Plain,
    /// After spaces at the beginning of a field without quotes.
    Spaces,
    /// Between quotes, the first of which is in this line.
    Quoted(u64),
    /// After a quote that ends the field, or is the first one of two.
    Quote(u64),
    /// After the record.
    End,
}

impl<R: BufRead> Records<R> {
    pub fn new(input: R) -> Self {
        let record = Record { bytes: Vec::new(), ends: Vec::new(), line: 1, now: 1, after_cr: false };
        Records { input, record, is_unended: false }
    }

    /// Reads the next record; returns `false` at the end.
    pub fn advance(&mut self) -> Result<bool, Wrong> {
        let Records { input, record, .. } = self;
        record.bytes.clear();
        record.ends.clear();
        let mut at = At::Record;
        loop {
            let buffer = match input.fill_buf() {
                Ok(buffer) => buffer,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(Wrong { line: record.now, why: error.to_string() }),
            };
            if buffer.is_empty() {
                return self.finish(at);
            }
            let mut used = 0;
            for &byte in buffer {
                used += 1;
                at = record.take(at, byte)?;
                if at == At::End {
                    break;
                }
            }
            input.consume(used);
            if at == At::End {
                return Ok(true);
            }
            record.check_size(at)?;
        }
    }

    fn finish(&mut self, at: At) -> Result<bool, Wrong> {
        match at {
            At::Record => return Ok(false),
            At::Quoted(line) => {
                let why =
                    "a quote is not closed: the file ends within the field that begins in this line; is it cut off?";
                return Err(Wrong { line, why: why.into() });
            }
            _ => self.record.end_field(),
        }
        self.is_unended = true;
        Ok(true)
    }

    /// Returns the line in which the last record begins.
    pub fn line(&self) -> u64 {
        self.record.line
    }

    /// Returns the number of fields of the last record.
    pub fn len(&self) -> usize {
        self.record.ends.len()
    }

    /// Returns the number of bytes of the last record, without separators.
    pub fn size(&self) -> usize {
        self.record.bytes.len()
    }

    /// Returns a field of the last record; empty if it has no such field.
    pub fn field(&self, number: usize) -> Result<&str, Wrong> {
        let Record { bytes, ends, line, .. } = &self.record;
        let start = number.checked_sub(1).map_or(Some(0), |before| ends.get(before).copied());
        let range = start.zip(ends.get(number).copied());
        let field = range.map_or(&[][..], |(start, end)| &bytes[start..end]);
        str::from_utf8(field).map_err(|error| {
            let (number, at) = (number + 1, error.valid_up_to() + 1);
            let why =
                format!("field {number} is not UTF-8 from its byte {at} on; does the file have another encoding?");
            Wrong { line: *line, why }
        })
    }
}

impl Record {
    /// Consumes a byte. Returns the state before the next one.
    fn take(&mut self, at: At, byte: u8) -> Result<At, Wrong> {
        let is_second = self.after_cr && byte == b'\n';
        let line = self.now;
        self.after_cr = byte == b'\r';
        if self.after_cr || (byte == b'\n' && !is_second) {
            self.now += 1;
        }
        match (at, byte) {
            (At::Quoted(from), b'"') => return Ok(At::Quote(from)),
            (At::Quoted(_), _) => {
                self.bytes.push(byte);
                return Ok(at);
            }
            // The rest of the previous line break, and empty lines.
            (_, b'\n') if is_second => return Ok(at),
            (At::Record, b'\n' | b'\r') => return Ok(at),
            (At::Record, _) => self.line = line,
            _ => {}
        }
        match (at, byte) {
            (_, b'\n' | b'\r') => {
                self.end_field();
                Ok(At::End)
            }
            (_, b',') => {
                self.end_field();
                Ok(At::Field)
            }
            (At::Record | At::Field, b'"') => Ok(At::Quoted(line)),
            (At::Quote(from), b'"') => {
                self.bytes.push(byte);
                Ok(At::Quoted(from))
            }
            (At::Quote(from), _) => Err(after_quote(from, line)),
            (At::Spaces, b'"') => {
                let why = "there are spaces before a quote: is the field quoted, or does it begin with spaces?";
                Err(Wrong { line, why: why.into() })
            }
            _ => {
                self.bytes.push(byte);
                let blank = matches!(at, At::Record | At::Field | At::Spaces) && matches!(byte, b' ' | b'\t');
                Ok(if blank { At::Spaces } else { At::Plain })
            }
        }
    }

    fn end_field(&mut self) {
        self.ends.push(self.bytes.len());
    }

    fn check_size(&self, at: At) -> Result<(), Wrong> {
        if self.bytes.len() <= MAX_RECORD && self.ends.len() <= MAX_RECORD / size_of::<usize>() {
            return Ok(());
        }
        let (line, why) = match at {
            At::Quoted(line) => (line, "the record is longer than 64 MiB; is the quote in this line closed?"),
            _ => (self.line, "the record is longer than 64 MiB"),
        };
        Err(Wrong { line, why: why.into() })
    }
}

fn after_quote(from: u64, line: u64) -> Wrong {
    let begun = match from == line {
        true => String::new(),
        false => format!(" of the field that begins in line {from}"),
    };
    let why =
        format!("there is text after the closing quote{begun}; a quote inside of a quoted field is written twice");
    Wrong { line, why }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::{BufReader, Cursor};

    type Read = Result<Vec<(u64, Vec<String>)>, (u64, String)>;

    fn read(text: &[u8], buffer: usize) -> Read {
        let mut records = Records::new(BufReader::with_capacity(buffer, Cursor::new(text)));
        let mut all = Vec::new();
        let mut next = || -> Result<bool, Wrong> {
            let more = records.advance()?;
            if more {
                let fields: Result<Vec<String>, Wrong> =
                    (0..records.len()).map(|n| records.field(n).map(str::to_owned)).collect();
                all.push((records.line(), fields?));
            }
            Ok(more)
        };
        loop {
            match next() {
                Ok(true) => {}
                Ok(false) => return Ok(all),
                Err(Wrong { line, why }) => return Err((line, why)),
            }
        }
    }

    fn good(text: &str) -> Vec<(u64, Vec<String>)> {
        let all = read(text.as_bytes(), 1 << 10).unwrap();
        assert_eq!(read(text.as_bytes(), 1).unwrap(), all, "{text:?}, byte by byte");
        all
    }

    fn bad(text: &[u8]) -> (u64, String) {
        let why = read(text, 1 << 10).unwrap_err();
        assert_eq!(read(text, 1).unwrap_err(), why, "{text:?}, byte by byte");
        why
    }

    #[test]
    fn fields_and_the_lines_that_they_begin_in() {
        let lines =
            |text: &str| good(text).into_iter().map(|(line, fields)| (line, fields.join("|"))).collect::<Vec<_>>();
        let is = |text: &str, wanted: &[(u64, &str)]| {
            let found = lines(text);
            assert_eq!(
                found.iter().map(|(line, fields)| (*line, fields.as_str())).collect::<Vec<_>>(),
                wanted,
                "{text:?}"
            );
        };
        for end in ["\n", "\r\n", "\r"] {
            let text = ["a,b", "", "\"c\nd\r\ne\rf\",\"\"\"\"", ",", "g,", "7\" h,\" i\"", ""].join(end);
            let third = "c\nd\r\ne\rf|\"";
            is(&text, &[(1, "a|b"), (3, third), (7, "|"), (8, "g|"), (9, "7\" h| i")]);
        }
        is("a,b", &[(1, "a|b")]);
        is("a,", &[(1, "a|")]);
        is("a,\"\"", &[(1, "a|")]);
        is("\"\"", &[(1, "")]);
        is("a, b ,c d", &[(1, "a| b |c d")]);
        is("", &[]);
        is("\r\n\n\r", &[]);
    }

    #[test]
    fn what_is_not_well_formed_is_refused_with_its_line() {
        let is = |text: &str, line: u64, what: &str| {
            let (at, why) = bad(text.as_bytes());
            assert_eq!(at, line, "{text:?}: {why}");
            assert!(why.contains(what), "{text:?}: {why}");
        };
        is("a,b\nc,\"open\nd,e\n", 2, "not closed");
        is("a,b\r\nc,\"cut o", 2, "not closed");
        is("a,b\nc,\"even\"\"", 2, "not closed");
        is("a,b\nc,\"7\" wide\"\n", 2, "after the closing quote;");
        is("a,b\nc,\"open\nd,\"e\"\n", 3, "of the field that begins in line 2");
        is("a,b\nc,\"d\" ,e\n", 2, "after the closing quote");
        is("a,b\nc, \"d\"\n", 2, "before a quote");
        assert_eq!(bad(b"a,b\n\nc,\xC3\n").0, 3);
        // The two halves of a character, in different fields, are not UTF-8.
        assert_eq!(bad(b"\xC3,\xA4\n").0, 1);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Files of other programs are read as other programs read them.
        #[test]
        fn well_formed_records_are_read_as_others_read_them(
            records in prop::collection::vec(prop::collection::vec("[a,\"\r\n ä]{0,5}", 2..4), 0..6),
            crlf in any::<bool>(),
        ) {
            let terminator = if crlf { ::csv::Terminator::CRLF } else { ::csv::Terminator::Any(b'\n') };
            let mut writer = ::csv::WriterBuilder::new()
                .flexible(true)
                .terminator(terminator)
                .quote_style(::csv::QuoteStyle::Always)
                .from_writer(Vec::new());
            records.iter().for_each(|record| writer.write_record(record).unwrap());
            let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
            let found: Vec<Vec<String>> = good(&text).into_iter().map(|(_, fields)| fields).collect();
            prop_assert_eq!(&found, &records);
            let mut reader = ::csv::ReaderBuilder::new().flexible(true).has_headers(false).from_reader(text.as_bytes());
            let fields = |record: ::csv::StringRecord| record.iter().map(str::to_owned).collect();
            let others: Vec<Vec<String>> = reader.records().map(|record| fields(record.unwrap())).collect();
            prop_assert_eq!(found, others);
        }

        /// No input causes a panic, and the result does not depend on the size of the reads.
        #[test]
        fn any_bytes(text in prop::collection::vec(prop::sample::select(b"a,\"\r\n \xC3".as_slice()), 0..24)) {
            prop_assert_eq!(read(&text, 1 << 10), read(&text, 1));
        }

        /// A file that is cut off within quotes is always detected.
        #[test]
        fn a_cut_within_quotes_is_found(field in "[a,\n]{1,8}", at in 0usize..8) {
            let at = at.min(field.len() - 1);
            let text = format!("h,i\nx,\"{}", &field[..at]);
            prop_assert_eq!(bad(text.as_bytes()).0, 2);
        }
    }
}
