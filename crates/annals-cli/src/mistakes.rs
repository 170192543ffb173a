//! Mistakes in a line of JSON, in plain words.

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::error::Category;

/// Number of characters of a line that are shown.
const SHOWN: usize = 24;

/// Returns what is wrong, and in which column.
pub fn plain<'a, T: Deserialize<'a>>(line: &'a [u8], error: &serde_json::Error) -> String {
    let text = error.to_string();
    // The input is one line, so its number is always 1.
    let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
    // The column counts bytes from 1, and is 0 if nothing was read.
    let mut at = error.column().saturating_sub(1).min(line.len());
    let what = match error.classify() {
        Category::Data => unfit::<T>(line, what),
        _ => {
            let is_word = |byte: u8| byte.is_ascii_alphanumeric();
            if matches!(what, "expected ident" | "expected value" | "key must be a string") {
                at -= line[..at].iter().rev().take_while(|&&byte| is_word(byte)).count();
            }
            malformed(what, &line[at..])
        }
    };
    in_column(&what, line, at)
}

/// Returns what the line has instead of an object.
pub fn no_object(line: &[u8]) -> String {
    if let Err(error) = serde_json::from_slice::<IgnoredAny>(line) {
        return plain::<IgnoredAny>(line, &error);
    }
    let at = line.len() - line.trim_ascii_start().len();
    let found = match line.get(at) {
        Some(b'[') => "a list",
        Some(b'"') => "a text",
        Some(b'-' | b'0'..=b'9') => "a number",
        _ => "a value",
    };
    in_column(&format!("{found} instead of an object with the fields of an event"), line, at)
}

fn in_column(what: &str, line: &[u8], at: usize) -> String {
    let column = String::from_utf8_lossy(&line[..at]).chars().count() + 1;
    format!("{what} (column {column})")
}

/// Describes text that is not JSON.
fn malformed(what: &str, from: &[u8]) -> String {
    let from = String::from_utf8_lossy(from);
    let mut found: String = from.chars().take(SHOWN).collect();
    if from.chars().nth(SHOWN).is_some() {
        found.push('…');
    }
    let shown = |what: &str| format!("{what} \"{found}\"");
    match what {
        "EOF while parsing a value" => "the line ends before a value; is it cut off?".into(),
        "EOF while parsing an object" => "the line ends in the middle of an object; is it cut off?".into(),
        "EOF while parsing a list" => "the line ends in the middle of a list; is it cut off?".into(),
        "EOF while parsing a string" => "the line ends in the middle of a string; is it cut off?".into(),
        "expected ident" | "expected value" => shown("this is not JSON:"),
        "expected `:`" => shown("a colon is missing before"),
        "expected `,` or `}`" | "expected `,` or `]`" => shown("a comma is missing before"),
        "trailing comma" => "there is a comma before the end of an object or a list".into(),
        "key must be a string" => shown("the name of a field must be in double quotes:"),
        "trailing characters" => shown("there is more text after the event:"),
        "invalid escape" => "a backslash is followed by something that is not an escape of JSON".into(),
        "invalid unicode code point" => "a text is not UTF-8".into(),
        "invalid number" | "number out of range" => shown("this is not a number of JSON:"),
        "recursion limit exceeded" => "lists and objects are nested too deep".into(),
        _ if what.starts_with("control character") => {
            "a text has a control character, which JSON needs as an escape such as \\n".into()
        }
        _ if what.contains("surrogate") || what.contains("hex escape") => {
            "an escape \\u stands for no character".into()
        }
        other => format!("this is not JSON: {other}"),
    }
}

/// Describes JSON of the wrong kind: the field, and what it needs.
fn unfit<'a, T: Deserialize<'a>>(line: &'a [u8], what: &str) -> String {
    let Some(what) = what.strip_prefix("invalid type: ").or_else(|| what.strip_prefix("invalid value: ")) else {
        return what.to_owned();
    };
    // Parses the line again to find the field.
    let again = serde_path_to_error::deserialize::<_, T>(&mut serde_json::Deserializer::from_slice(line));
    let field = again.err().map(|error| error.path().to_string()).filter(|path| path != ".");
    let (found, wanted) = what.rsplit_once(", expected ").unwrap_or((what, "something else"));
    let wanted = match wanted {
        "u64" => "a whole number from 0 on",
        "u32" => "a whole number from 0 to 4294967295",
        "a sequence" => "a list",
        other => other,
    };
    let found = match found {
        "sequence" => "a list",
        "map" => "an object",
        other => other,
    };
    let field = field.map(|field| format!("{field}: ")).unwrap_or_default();
    format!("{field}{found} instead of {wanted}")
}
