//! Output: tables on a terminal, plain text in a pipe, JSON on demand.

use crate::failure::{Failure, Result};
use console::Alignment::{self, Left, Right};
use console::{Term, measure_text_width, pad_str, style, truncate_str};
use serde::Serialize;
use std::borrow::Cow;
use std::io::{self, BufWriter, IsTerminal, Write};

/// Number of rows that a table collects to find the widths of its columns; later rows are printed
/// at once.
const PAGE: usize = 200;
/// Maximum width of a column, except the last: longer cells are shortened.
const WIDEST: usize = 60;
/// Minimum width, which is used for a terminal that reports less.
const NARROWEST: usize = 40;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    Table,
    Plain,
    Json,
}

/// The destination of a verb's output.
pub struct Out {
    form: Form,
    to: Box<dyn Write>,
    width: usize,
}

impl Out {
    pub fn stdout(json: bool) -> Self {
        let stdout = io::stdout();
        let form = match json {
            true => Form::Json,
            false if stdout.is_terminal() => Form::Table,
            false => Form::Plain,
        };
        let width = usize::from(Term::stdout().size().1).max(NARROWEST);
        Out { form, to: Box::new(BufWriter::with_capacity(64 << 10, stdout.lock())), width }
    }

    pub fn form(&self) -> Form {
        self.form
    }

    /// Prints a line, which must be free of control characters: see [`one_line`].
    pub fn line(&mut self, line: &str) -> Result<()> {
        writeln!(self.to, "{line}").map_err(Failure::output)
    }

    /// Prints bytes unchanged.
    pub fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.to.write_all(bytes).map_err(Failure::output)
    }

    pub fn json(&mut self, value: &impl Serialize) -> Result<()> {
        serde_json::to_writer(&mut self.to, value).map_err(|e| Failure::output(e.into()))?;
        self.to.write_all(b"\n").map_err(Failure::output)
    }

    /// Prints one item, in named parts. `parts` are printed unless the output is JSON.
    pub fn facts(&mut self, value: &impl Serialize, parts: &[(&str, String)]) -> Result<()> {
        let widest = parts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        match self.form {
            Form::Json => self.json(value),
            Form::Plain => parts.iter().try_for_each(|(name, part)| self.line(&format!("{name}\t{}", one_line(part)))),
            Form::Table => parts.iter().try_for_each(|(name, part)| {
                let name = pad_str(name, widest, Left, None);
                self.line(&format!("{}  {}", style(name).bold(), one_line(part)))
            }),
        }
    }

    /// Writes what is buffered. Must be called at the end: a dropped writer cannot report a failed
    /// write.
    pub fn flush(&mut self) -> Result<()> {
        self.to.flush().map_err(Failure::output)
    }
}

pub type Column = (&'static str, Alignment);

/// Items of one kind, one per line.
pub struct List<'o> {
    out: &'o mut Out,
    columns: Vec<Column>,
    /// Rows that are held until the widths are known.
    page: Vec<Vec<String>>,
    widths: Vec<usize>,
    /// Whether text that does not fit into the last column continues on the next line.
    wraps: bool,
}

/// A column of text.
pub fn text(name: &'static str) -> Column {
    (name, Left)
}

/// A column of numbers.
pub fn number(name: &'static str) -> Column {
    (name, Right)
}

impl<'o> List<'o> {
    pub fn new(out: &'o mut Out, columns: impl Into<Vec<Column>>) -> Self {
        List { out, columns: columns.into(), page: Vec::new(), widths: Vec::new(), wraps: false }
    }

    /// Shows the whole text of the last column, in as many lines as needed.
    pub fn wrapping(mut self) -> Self {
        self.wraps = true;
        self
    }

    /// Adds one item. `cells` are printed unless the output is JSON, one per column.
    pub fn add<T: Serialize>(&mut self, value: &T, cells: impl FnOnce(&T) -> Vec<String>) -> Result<()> {
        if self.out.form == Form::Json {
            return self.out.json(value);
        }
        let mut cells = cells(value);
        for cell in &mut cells {
            *cell = one_line(cell).into_owned();
        }
        if self.out.form == Form::Plain {
            return self.out.line(&cells.join("\t"));
        }
        if !self.widths.is_empty() {
            return self.table_row(&cells);
        }
        // Text that cannot be shown anyway is not kept.
        let shown = cells.len() - usize::from(self.wraps);
        for cell in &mut cells[..shown] {
            *cell = truncate_str(cell, self.out.width, "…").into_owned();
        }
        self.page.push(cells);
        if self.page.len() == PAGE { self.turn() } else { Ok(()) }
    }

    /// Prints the rows that were added so far, for a user who is waiting.
    pub fn show(&mut self) -> Result<()> {
        if !self.page.is_empty() {
            self.turn()?;
        }
        self.out.flush()
    }

    /// Prints the remaining rows.
    pub fn end(mut self) -> Result<()> {
        if self.page.is_empty() { Ok(()) } else { self.turn() }
    }

    fn turn(&mut self) -> Result<()> {
        let page = std::mem::take(&mut self.page);
        let cells = |n: usize| page.iter().filter_map(move |row| row.get(n));
        let widths = self.columns.iter().enumerate().map(|(n, (name, _))| {
            let widest = cells(n).map(|cell| measure_text_width(cell)).max().unwrap_or(0);
            widest.min(WIDEST).max(name.len())
        });
        self.widths = widths.collect();
        if let (Some(last), Some((_, Left))) = (self.widths.last_mut(), self.columns.last()) {
            *last = usize::MAX;
        }
        let heads: Vec<String> = self.columns.iter().map(|(name, _)| (*name).to_owned()).collect();
        let heads = self.laid_out(&heads);
        self.out.line(&style(heads).bold().to_string())?;
        page.iter().try_for_each(|row| self.table_row(row))
    }

    fn table_row(&mut self, cells: &[String]) -> Result<()> {
        let Some((last, first)) = cells.split_last().filter(|_| self.wraps) else {
            let line = self.laid_out(cells);
            return self.out.line(&line);
        };
        let first = self.laid_out_in_full(first);
        let indent = (measure_text_width(&first) + 2).min(self.out.width / 2);
        let mut start = format!("{first}  ");
        if measure_text_width(&start) > indent {
            self.out.line(&truncate_str(&first, self.out.width, "…"))?;
            start = " ".repeat(indent);
        }
        for part in wrapped(last, self.out.width - indent) {
            self.out.line(format!("{start}{part}").trim_end())?;
            start = " ".repeat(indent);
        }
        Ok(())
    }

    fn laid_out(&self, cells: &[String]) -> String {
        truncate_str(self.laid_out_in_full(cells).trim_end(), self.out.width, "…").into_owned()
    }

    fn laid_out_in_full(&self, cells: &[String]) -> String {
        let mut line = String::new();
        for ((cell, &width), (_, alignment)) in cells.iter().zip(&self.widths).zip(&self.columns) {
            if !line.is_empty() {
                line.push_str("  ");
            }
            match width {
                usize::MAX => line.push_str(cell),
                _ => line.push_str(&pad_str(cell, width, *alignment, Some("…"))),
            }
        }
        line
    }
}

/// Returns all of the text in lines of at most this width, broken at spaces where possible; at
/// least one line.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let (mut lines, mut line, mut used) = (Vec::new(), String::new(), 0);
    for word in text.split_inclusive(' ') {
        let wide = measure_text_width(word.trim_end());
        if used > 0 && used + wide > width {
            lines.push(std::mem::take(&mut line));
            used = 0;
        }
        for c in word.chars() {
            let wide = measure_text_width(c.encode_utf8(&mut [0; 4]));
            // A space at the end of a line need not fit.
            if used > 0 && used + wide > width && c != ' ' {
                lines.push(std::mem::take(&mut line));
                used = 0;
            }
            line.push(c);
            used += wide;
        }
    }
    lines.push(line);
    lines
}

/// Returns the text with its control characters escaped, so that the content of a store can neither
/// break a line nor control the terminal.
pub fn one_line(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let mut escaped = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        if c.is_control() { escaped.extend(c.escape_default()) } else { escaped.push(c) }
    }
    Cow::Owned(escaped)
}

/// Prints a message on stderr. If that fails, the failure cannot be reported.
pub fn note(prefix: &str, text: &str) {
    let (Ok(()) | Err(_)) = writeln!(io::stderr().lock(), "{prefix}{text}");
}

/// A cell that may be empty.
pub fn cell(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::{Arc, Mutex};

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl Write for Written {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn listed(form: Form, width: usize, rows: &[[&str; 2]]) -> String {
        let written = Written::default();
        let mut out = Out { form, to: Box::new(written.clone()), width };
        let mut list = List::new(&mut out, [number("number"), text("text")]);
        for row in rows {
            list.add(row, |row| row.map(str::to_owned).to_vec()).unwrap();
        }
        list.end().unwrap();
        String::from_utf8(written.0.lock().unwrap().clone()).unwrap()
    }

    #[test]
    fn the_three_forms() {
        let rows = [["1", "one"], ["20", "tab\there"]];
        assert_eq!(listed(Form::Plain, 80, &rows), "1\tone\n20\ttab\\there\n");
        assert_eq!(listed(Form::Json, 80, &rows), "[\"1\",\"one\"]\n[\"20\",\"tab\\there\"]\n");
        assert_eq!(listed(Form::Table, 80, &rows), "number  text\n     1  one\n    20  tab\\there\n");
    }

    #[test]
    fn tables_fit_and_do_not_end() {
        let long = "x".repeat(100);
        let rows = vec![["1", long.as_str()]; 500];
        let table = listed(Form::Table, 50, &rows);
        assert_eq!(table.lines().count(), 501);
        assert!(table.lines().all(|line| measure_text_width(line) <= 50));
        assert_eq!(listed(Form::Table, 50, &[]), "");
    }

    /// The reason of a dead letter was cut off at the width of the terminal.
    #[test]
    fn what_wraps_is_shown_whole() {
        let reason = format!("no mailbox: {} {}", "word ".repeat(30), "x".repeat(200));
        for width in [40, 50, 80, 500] {
            for name in ["order-1", "order-with-a-rather-long-name-of-its-own-that-goes-on-and-on-for-long"] {
                let written = Written::default();
                let mut out = Out { form: Form::Table, to: Box::new(written.clone()), width };
                let mut list = List::new(&mut out, [number("position"), text("stream"), text("reason")]).wrapping();
                (0..300).for_each(|_| list.add(&(), |()| vec!["7".into(), name.into(), reason.clone()]).unwrap());
                list.end().unwrap();
                let table = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
                assert!(table.lines().all(|line| measure_text_width(line) <= width), "{table}");
                let words = |text: &str| text.split_whitespace().collect::<String>();
                assert_eq!(words(&table).matches(&words(&reason)).count(), 300, "{table}");
            }
        }
        assert_eq!(wrapped("", 10), [""]);
        assert_eq!(wrapped("a b", 1), ["a ", "b"]);
        assert_eq!(wrapped("ab cd", 3), ["ab ", "cd"]);
        assert_eq!(wrapped("abcd", 3), ["abc", "d"]);
        assert_eq!(wrapped("日本語", 4), ["日本", "語"]);
    }

    #[test]
    fn nothing_talks_to_the_terminal() {
        assert_eq!(one_line("a\u{1b}[31mb\u{9b}\n"), "a\\u{1b}[31mb\\u{9b}\\n");
        assert_eq!(one_line("Zürich \\n"), "Zürich \\n");
    }
}
