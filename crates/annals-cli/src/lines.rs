//! Events as JSON lines: what `export` and `read --json` write, and `import` reads.
//!
//! | field | |
//! |---|---|
//! | `position` | ignored by `import`: the store assigns its own, which are the same if it was empty |
//! | `stream` | the text form, `order-123@what-if` |
//! | `sequence` | `import` refuses the line if it is not the next one of the stream |
//! | `type` | |
//! | `id` | UUID |
//! | `recorded_at`, `occurred_at` | RFC 3339. `time` is another name for `occurred_at` |
//! | `correlation_id`, `causation_id`, `tags` | |
//! | `metadata`, or `metadata_base64` | |
//! | `schema_version` | if it is not 0 |
//! | `content_type` | `bytes`, `json`, `text`, `bincode`, or any other name. Without it, `data` are `json`, all else is `bytes` |
//! | `data`, or `data_base64` | no field at all if there are none |
//!
//! Only `stream` and `type` are required. `data` and `metadata` are exactly the bytes between the
//! colon and the comma: numbers, escapes, the order of keys and spaces are kept. Bytes that cannot
//! be written there unchanged (they are not JSON, or contain a line break) go into the `_base64`
//! field.
//!
//! After the events, there may be one line for each tracked upstream:
//! `{"upstream":"billing-inbox","tracked":991}`.

use crate::mistakes;
use crate::times::{self, Time};
use annals::{ContentType, Event, NewEvent, StreamId, Timestamp, Uuid};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::fmt::Display;

/// Maximum number of tags of an event. Checked first, because each tag is compared with all before
/// it.
const MAX_TAGS: usize = 1024;

/// An event that was read and is not stored yet.
#[derive(Debug)]
pub struct Incoming {
    pub stream: StreamId,
    pub sequence: Option<u64>,
    pub event_type: String,
    pub id: Option<Uuid>,
    pub recorded_at: Option<Timestamp>,
    pub occurred_at: Option<Timestamp>,
    pub correlation_id: String,
    pub causation_id: String,
    pub tags: Vec<String>,
    pub metadata: Vec<u8>,
    pub schema_version: u32,
    pub content_type: ContentType,
    pub data: Vec<u8>,
}

impl Incoming {
    pub fn new(stream: StreamId, event_type: String) -> Self {
        Incoming {
            stream,
            sequence: None,
            event_type,
            id: None,
            recorded_at: None,
            occurred_at: None,
            correlation_id: String::new(),
            causation_id: String::new(),
            tags: Vec::new(),
            metadata: Vec::new(),
            schema_version: 0,
            content_type: ContentType::Bytes,
            data: Vec::new(),
        }
    }

    pub fn event(&self) -> NewEvent<'_> {
        let event = NewEvent::new(&self.event_type, &self.data)
            .content_type(self.content_type.clone())
            .schema_version(self.schema_version)
            .metadata(&self.metadata)
            .correlation_id(&self.correlation_id)
            .causation_id(&self.causation_id)
            .tags(&self.tags);
        let event = self.id.into_iter().fold(event, NewEvent::id);
        self.occurred_at.into_iter().fold(event, NewEvent::occurred_at)
    }
}

/// The content of a line.
#[derive(Debug)]
pub enum Parsed {
    Event(Box<Incoming>),
    /// The tracked position of an upstream.
    Tracked(Tracked),
}

/// The tracked position of an upstream.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
#[serde(deny_unknown_fields, expecting = "an object with upstream and tracked")]
pub struct Tracked {
    pub upstream: String,
    pub tracked: u64,
}

/// A line as it is read. An unknown field is refused: a typing mistake must not lose data silently.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, expecting = "an object with the fields of an event")]
struct Read<'a> {
    #[serde(rename = "position")]
    _position: Option<u64>,
    #[serde(borrow)]
    stream: Cow<'a, str>,
    sequence: Option<u64>,
    #[serde(rename = "type")]
    event_type: String,
    id: Option<String>,
    recorded_at: Option<String>,
    occurred_at: Option<String>,
    time: Option<String>,
    correlation_id: Option<String>,
    causation_id: Option<String>,
    tags: Option<Vec<String>>,
    #[serde(borrow, default, deserialize_with = "present")]
    metadata: Option<&'a RawValue>,
    #[serde(borrow)]
    metadata_base64: Option<Cow<'a, str>>,
    schema_version: Option<u32>,
    content_type: Option<String>,
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    data_base64: Option<Cow<'a, str>>,
}

/// Deserializes a field that is present, even if it is `null`: for data, that is a value like any
/// other.
fn present<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<&'de RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// Parses a line. An error says what is wrong; the caller says where.
pub fn parse(line: &[u8]) -> Result<Parsed, String> {
    // Otherwise, a list of values in the order of the fields would be accepted, too.
    if !line.trim_ascii_start().starts_with(b"{") {
        return Err(mistakes::no_object(line));
    }
    let is_tracked = line.trim_ascii_start().strip_prefix(b"{").is_some_and(|rest| {
        let rest = rest.trim_ascii_start();
        rest.starts_with(br#""upstream""#) || rest.starts_with(br#""tracked""#)
    });
    if is_tracked {
        return read::<Tracked>(line).map(Parsed::Tracked);
    }
    event(read(line)?).map(|event| Parsed::Event(Box::new(event)))
}

fn read<'a, T: Deserialize<'a>>(line: &'a [u8]) -> Result<T, String> {
    serde_json::from_slice(line).map_err(|error| mistakes::plain::<T>(line, &error))
}

fn event(read: Read<'_>) -> Result<Incoming, String> {
    let field = |name: &'static str| move |why: String| format!("{name}: {why}");
    if read.time.is_some() && read.occurred_at.is_some() {
        return Err("time and occurred_at are the same field, and both are given".into());
    }
    let tags = read.tags.unwrap_or_default();
    if tags.len() > MAX_TAGS {
        return Err(format!("tags: {} are over the limit of {MAX_TAGS}", tags.len()));
    }
    let time = |name, text: Option<String>| text.map(|text| times::parse(&text).map_err(field(name))).transpose();
    let given = read.content_type.as_deref().map(content_type);
    let inline = read.data.is_some();
    let content_type = given.unwrap_or(if inline { ContentType::Json } else { ContentType::Bytes });
    if inline && content_type != ContentType::Json {
        return Err("data: the content type is not json; such data go into data_base64".into());
    }
    Ok(Incoming {
        stream: read.stream.parse().map_err(|e: annals::Error| field("stream")(e.to_string()))?,
        sequence: read.sequence,
        event_type: read.event_type,
        id: read.id.map(|id| Uuid::parse_str(&id).map_err(|e| field("id")(e.to_string()))).transpose()?,
        recorded_at: time("recorded_at", read.recorded_at)?,
        occurred_at: time("time", read.time)?.or(time("occurred_at", read.occurred_at)?),
        correlation_id: read.correlation_id.unwrap_or_default(),
        causation_id: read.causation_id.unwrap_or_default(),
        tags,
        metadata: bytes("metadata", read.metadata, read.metadata_base64)?,
        schema_version: read.schema_version.unwrap_or(0),
        content_type,
        data: bytes("data", read.data, read.data_base64)?,
    })
}

fn bytes(name: &str, inline: Option<&RawValue>, base64: Option<Cow<'_, str>>) -> Result<Vec<u8>, String> {
    match (inline, base64) {
        (Some(_), Some(_)) => Err(format!("both {name} and {name}_base64 are given")),
        (Some(json), None) => Ok(json.get().as_bytes().to_vec()),
        (None, Some(text)) => BASE64.decode(&*text).map_err(|e| format!("{name}_base64: {e}")),
        (None, None) => Ok(Vec::new()),
    }
}

/// A line as it is written.
#[derive(Serialize)]
struct Written<'a> {
    position: u64,
    stream: String,
    sequence: u64,
    #[serde(rename = "type")]
    event_type: &'a str,
    id: String,
    recorded_at: Time,
    #[serde(skip_serializing_if = "Option::is_none")]
    occurred_at: Option<Time>,
    #[serde(skip_serializing_if = "Option::is_none")]
    correlation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    causation_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tags: Vec<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata_base64: Option<String>,
    #[serde(skip_serializing_if = "is_zero")]
    schema_version: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    content_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data_base64: Option<String>,
}

fn is_zero(version: &u32) -> bool {
    *version == 0
}

/// An event that is written as a line.
pub struct Line<'a>(pub &'a Event);

impl Serialize for Line<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let event = self.0;
        let metadata = inline_json(event.metadata());
        let data = inline_json(event.data()).filter(|_| matches!(event.content_type(), ContentType::Json));
        let said = data.is_some() || matches!(event.content_type(), ContentType::Bytes);
        let base64 = |bytes: &[u8]| (!bytes.is_empty()).then(|| BASE64.encode(bytes));
        let written = Written {
            position: event.position(),
            stream: event.stream().to_string(),
            sequence: event.sequence(),
            event_type: event.event_type(),
            id: event.id().to_string(),
            recorded_at: Time(event.recorded_at()),
            occurred_at: event.occurred_at().map(Time),
            correlation_id: event.correlation_id(),
            causation_id: event.causation_id(),
            tags: event.tags().collect(),
            metadata,
            metadata_base64: if metadata.is_none() { base64(event.metadata()) } else { None },
            schema_version: event.schema_version(),
            content_type: (!said).then(|| content_type_name(&event.content_type())),
            data,
            data_base64: if data.is_none() { base64(event.data()) } else { None },
        };
        written.serialize(serializer)
    }
}

/// Returns the bytes as JSON, if they can be in a line unchanged.
pub fn inline_json(bytes: &[u8]) -> Option<&RawValue> {
    if bytes.iter().any(|byte| matches!(byte, b'\n' | b'\r')) {
        return None;
    }
    let json: &RawValue = serde_json::from_slice(bytes).ok()?;
    (json.get().len() == bytes.len()).then_some(json)
}

/// The prefix of a name that would otherwise be taken for another content type: `named:json` is the
/// content type with the name `json`.
const NAMED: &str = "named:";

pub fn content_type(name: &str) -> ContentType {
    match name {
        "bytes" => ContentType::Bytes,
        "json" => ContentType::Json,
        "text" => ContentType::Text,
        "bincode" => ContentType::Bincode,
        other => ContentType::Named(other.strip_prefix(NAMED).unwrap_or(other).to_owned()),
    }
}

pub fn content_type_name(of: &ContentType) -> String {
    match of {
        ContentType::Bytes => "bytes".into(),
        ContentType::Json => "json".into(),
        ContentType::Text => "text".into(),
        ContentType::Bincode => "bincode".into(),
        ContentType::Named(name) if &content_type(name) == of => name.clone(),
        ContentType::Named(name) => format!("{NAMED}{name}"),
        other => format!("{other:?}"),
    }
}

/// Returns the data for people: JSON and other text as they are, everything else as base64.
pub fn shown_data(event: &Event) -> Cow<'_, str> {
    match event.content_type() {
        ContentType::Bincode => base64(event.data()).into(),
        _ => shown_bytes(event.data()),
    }
}

/// Returns bytes that may be text, for people.
pub fn shown_bytes(bytes: &[u8]) -> Cow<'_, str> {
    str::from_utf8(bytes).map_or_else(|_| base64(bytes).into(), Cow::Borrowed)
}

fn base64(bytes: &[u8]) -> String {
    format!("base64:{}", BASE64.encode(bytes))
}

/// Returns the place of a line for messages.
pub fn place(name: impl Display, line: u64) -> String {
    format!("{name}:{line}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use annals::{Expected, Store};
    use proptest::prelude::*;

    /// The line of an event, once it has been stored.
    fn written(incoming: &Incoming) -> String {
        let store = Store::in_memory();
        store.append(&incoming.stream, Expected::Any, [incoming.event()]).unwrap();
        let event = store.read_all().into_iter().next().unwrap().unwrap();
        serde_json::to_string(&Line(&event)).unwrap()
    }

    fn parsed(line: &str) -> Incoming {
        match parse(line.as_bytes()).unwrap() {
            Parsed::Event(event) => *event,
            Parsed::Tracked(tracked) => panic!("{tracked:?}"),
        }
    }

    fn refused(line: &str) -> String {
        parse(line.as_bytes()).unwrap_err()
    }

    fn round_trip(change: impl FnOnce(&mut Incoming)) -> String {
        let mut incoming = Incoming::new("order-1".parse().unwrap(), "T".into());
        change(&mut incoming);
        let line = written(&incoming);
        let again = parsed(&line);
        assert_eq!((&again.data, &again.content_type), (&incoming.data, &incoming.content_type), "{line}");
        assert_eq!((&again.metadata, &again.tags), (&incoming.metadata, &incoming.tags), "{line}");
        assert_eq!(again.occurred_at, incoming.occurred_at, "{line}");
        assert_eq!(again.schema_version, incoming.schema_version);
        line
    }

    #[test]
    fn data_come_back_byte_for_byte() {
        let json: [&[u8]; 9] = [
            br#"{"b":1.10,"a":1e400,"a":12345678901234567890123}"#,
            b"null",
            b"\"\\ud800\"",
            b"[ 1 ,\t2 ]",
            b" 1",
            b"{\n}",
            b"{\"a\":",
            b"",
            b"\"\xFF\"",
        ];
        for bytes in json {
            for content_type in [ContentType::Json, ContentType::Bytes, ContentType::Text, ContentType::Bincode] {
                round_trip(|event| {
                    event.data = bytes.to_vec();
                    event.metadata = bytes.to_vec();
                    event.content_type = content_type;
                });
            }
        }
        let line = round_trip(|event| (event.data, event.content_type) = (b"1.10".to_vec(), ContentType::Json));
        assert!(line.ends_with(r#","data":1.10}"#), "{line}");
    }

    #[test]
    fn deep_json_is_no_danger() {
        let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
        round_trip(|event| (event.data, event.content_type) = (deep.into_bytes(), ContentType::Json));
    }

    #[test]
    fn content_types_come_back() {
        for name in ["json", "bytes", "text", "bincode", "named:json", "named:", "application/x"] {
            round_trip(|event| event.content_type = ContentType::Named(name.into()));
        }
    }

    #[test]
    fn what_is_wrong_with_a_line_is_said() {
        let cases = [
            (r#"{"stream":"a-1","type":"T","tpye":1}"#, "unknown field `tpye`"),
            (r#"{"stream":"a-1"}"#, "missing field `type`"),
            (r#"{"type":"T"}"#, "missing field `stream`"),
            (r#"{"stream":"a-1","type":"T","type":"T"}"#, "duplicate field `type`"),
            (r#"{"stream":"-1","type":"T"}"#, "stream: "),
            (r#"{"stream":"a-1","type":"T","id":"x"}"#, "id: "),
            (r#"{"stream":"a-1","type":"T","time":"yesterday"}"#, "time: \"yesterday\" is not a time"),
            (
                r#"{"stream":"a-1","type":"T","time":"1970-01-01T00:00:00Z","occurred_at":"1970-01-01T00:00:00Z"}"#,
                "both",
            ),
            (r#"{"stream":"a-1","type":"T","data":1,"data_base64":""}"#, "both data and data_base64"),
            (r#"{"stream":"a-1","type":"T","data_base64":"*"}"#, "data_base64: "),
            (r#"{"stream":"a-1","type":"T","metadata_base64":"*"}"#, "metadata_base64: "),
            (r#"{"stream":"a-1","type":"T","data":1,"content_type":"text"}"#, "data: the content type is not json"),
            (
                r#"{"stream":"a-1","type":"T","sequence":-1}"#,
                "sequence: integer `-1` instead of a whole number from 0 on (column 40)",
            ),
            (
                r#"{"stream":"a-1","type":"T","schema_version":5000000000}"#,
                "schema_version: integer `5000000000` instead of a whole number from 0 to 4294967295",
            ),
            (r#"{"stream":5,"type":"T"}"#, "stream: integer `5` instead of a string (column 11)"),
            (r#"{"stream":"a-1","type":"T","tags":["a",7]}"#, "tags[1]: integer `7` instead of a string"),
            (r#"{"stream":"a-1","type":"T","tags":"a"}"#, "tags: string \"a\" instead of a list"),
            (r#"[0,"a-1",0,"T"]"#, "a list instead of an object with the fields of an event (column 1)"),
            ("17", "a number instead of an object with the fields of an event"),
            ("{", "the line ends in the middle of an object; is it cut off? (column 1)"),
            (r#"{"stream":"a-"#, "the line ends in the middle of a string; is it cut off? (column 13)"),
            ("not json", "this is not JSON: \"not json\" (column 1)"),
            ("  stream,type", "this is not JSON: \"stream,type\" (column 3)"),
            (r#"{"stream":"ä-1","type":oops}"#, "this is not JSON: \"oops}\" (column 24)"),
            (r#"{"stream":"a-1","type":nope}"#, "this is not JSON: \"nope}\" (column 24)"),
            (r#"{"stream" "a-1"}"#, "a colon is missing before \"\"a-1\"}\" (column 11)"),
            (r#"{"stream":"a-1" "type":"T"}"#, "a comma is missing before \"\"type\":\"T\"}\" (column 17)"),
            (r#"{"stream":"a-1",}"#, "there is a comma before the end"),
            (r#"{stream:"a-1"}"#, "the name of a field must be in double quotes: \"stream:\"a-1\"}\" (column 2)"),
            (r#"{"stream":"a\q"}"#, "not an escape of JSON"),
            (r#"{"stream":"a-1","type":"T"} x"#, "there is more text after the event: \"x\" (column 29)"),
            (r#"{"upstream":"inbox"}"#, "missing field `tracked`"),
            (r#"{"upstream":"inbox","tracked":"x"}"#, "tracked: string \"x\" instead of a whole number from 0 on"),
        ];
        for (line, what) in cases {
            assert!(refused(line).contains(what), "{line}: {}", refused(line));
        }
        assert!(!refused("{").contains("at line"));
        assert!(refused("{\"stream\":\"\u{1}\"}").contains("a text has a control character"));
        let tags = vec!["\"t\""; 1025].join(",");
        assert!(refused(&format!(r#"{{"stream":"a-1","type":"T","tags":[{tags}]}}"#)).contains("1025"));
        assert!(parse(b"\xFF").is_err());
        assert!(parse(b"{\"stream\":\"\xFF\"}").unwrap_err().contains("not UTF-8"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Any line is parsed, or the error says what is wrong with it.
        #[test]
        fn any_line(at in 0usize..200, with in prop::collection::vec(any::<u8>(), 0..4), cut in any::<bool>()) {
            let line = r#" {"stream":"ä-1","type":"T","sequence":7,"tags":["a","ü"],"data":{"a":[1,"\ud800"]}}"#;
            let mut line = line.as_bytes().to_vec();
            let at = at.min(line.len());
            let end = if cut { line.len() } else { (at + with.len()).min(line.len()) };
            line.splice(at..end, with);
            if let Err(why) = parse(&line) {
                prop_assert!(!why.is_empty() && !why.contains(" at line "), "{}", why);
            }
        }
    }

    #[test]
    fn null_is_no_value_but_in_data() {
        let read =
            parsed(r#"{"stream":"a-1","type":"T","id":null,"time":null,"tags":null,"metadata":null,"data":null}"#);
        assert_eq!((&*read.data, &*read.metadata), (&b"null"[..], &b"null"[..]));
        assert_eq!((read.id, read.occurred_at), (None, None));
    }
}
