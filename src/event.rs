//! Events: facts before they are stored ([`NewEvent`]) and after ([`Event`]).

use crate::stream::{StreamId, split_key};
use crate::time::Timestamp;
use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use uuid::Uuid;

/// What the data of an event are.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
#[non_exhaustive]
pub enum ContentType {
    /// Bytes that only the application understands.
    #[default]
    Bytes,
    /// JSON.
    Json,
    /// UTF-8 text.
    Text,
    /// What [`NewEvent::bincode`] writes: bincode 2, standard configuration.
    Bincode,
    /// Anything else, under a name of 1 to 255 bytes, such as a media type.
    Named(String),
}

/// A fact that has not been stored yet.
///
/// Type and data are all that it must have. Whatever it is given can be borrowed: appending copies it once, into the log.
///
/// ```
/// use annals::{NewEvent, Timestamp};
/// let paid = NewEvent::new("OrderPaid", b"\x01\x02")
///     .metadata(br#"{"user":7}"#)
///     .tag("customer:7")
///     .correlation_id("checkout-991")
///     .occurred_at(Timestamp::from_nanos(1_262_304_000_000_000_000));
/// assert_eq!(paid.event_type(), "OrderPaid");
/// ```
///
/// # Limits
///
/// Type: 1 to 255 bytes. At most 1,024 tags of 1 to 1,024 bytes. Correlation and causation id: up to 1,024 bytes, and an empty one is none.
/// Everything together: [`Options::max_event_bytes`](crate::Options::max_event_bytes), 16 MiB by default. They are checked by the append.
#[derive(Clone, Debug)]
pub struct NewEvent<'a> {
    pub(crate) event_type: Cow<'a, str>,
    pub(crate) data: Cow<'a, [u8]>,
    pub(crate) metadata: Cow<'a, [u8]>,
    pub(crate) content_type: ContentType,
    pub(crate) schema_version: u32,
    pub(crate) id: Option<Uuid>,
    pub(crate) occurred_at: Option<Timestamp>,
    pub(crate) correlation_id: Cow<'a, str>,
    pub(crate) causation_id: Cow<'a, str>,
    pub(crate) tags: Vec<Cow<'a, str>>,
}

impl<'a> NewEvent<'a> {
    /// An event of this type with these data. The data may be empty and need not be text.
    pub fn new<D>(event_type: impl Into<Cow<'a, str>>, data: &'a D) -> Self
    where
        D: AsRef<[u8]> + ?Sized,
    {
        Self::with_data(event_type, data.as_ref())
    }

    /// An event of this type with these data, borrowed or owned.
    pub fn with_data(event_type: impl Into<Cow<'a, str>>, data: impl Into<Cow<'a, [u8]>>) -> Self {
        NewEvent {
            event_type: event_type.into(),
            data: data.into(),
            metadata: Cow::Borrowed(&[]),
            content_type: ContentType::Bytes,
            schema_version: 0,
            id: None,
            occurred_at: None,
            correlation_id: Cow::Borrowed(""),
            causation_id: Cow::Borrowed(""),
            tags: Vec::new(),
        }
    }

    /// The type of the event.
    pub fn event_type(&self) -> &str {
        &self.event_type
    }

    /// Says what the data are. [`ContentType::Bytes`] unless said otherwise.
    pub fn content_type(mut self, content_type: ContentType) -> Self {
        self.content_type = content_type;
        self
    }

    /// The version of the type's schema, for upcasting. 0 unless said otherwise.
    pub fn schema_version(mut self, version: u32) -> Self {
        self.schema_version = version;
        self
    }

    /// Data about the event that are not part of the fact.
    pub fn metadata(mut self, metadata: impl Into<Cow<'a, [u8]>>) -> Self {
        self.metadata = metadata.into();
        self
    }

    /// The id of the event. Without one, the store gives it a UUID version 7 that is made of the time and the position.
    ///
    /// The store does not look for an event that has the id already; use expectations for that.
    pub fn id(mut self, id: Uuid) -> Self {
        self.id = Some(id);
        self
    }

    /// When it happened, where that is not when it is recorded. Any time, also before 1970.
    pub fn occurred_at(mut self, time: Timestamp) -> Self {
        self.occurred_at = Some(time);
        self
    }

    /// What the event belongs to: the same for all events of one business process. The empty id is none.
    pub fn correlation_id(mut self, id: impl Into<Cow<'a, str>>) -> Self {
        self.correlation_id = id.into();
        self
    }

    /// What caused the event: usually the id of a command or of another event. The empty id is none.
    pub fn causation_id(mut self, id: impl Into<Cow<'a, str>>) -> Self {
        self.causation_id = id.into();
        self
    }

    /// Adds a tag, `key:value` or any text. A tag that is there already is kept once.
    pub fn tag(mut self, tag: impl Into<Cow<'a, str>>) -> Self {
        let tag = tag.into();
        if !self.tags.contains(&tag) {
            self.tags.push(tag);
        }
        self
    }

    /// Adds several tags, as [`NewEvent::tag`] does.
    pub fn tags<T: Into<Cow<'a, str>>>(self, tags: impl IntoIterator<Item = T>) -> Self {
        tags.into_iter().fold(self, NewEvent::tag)
    }
}

/// The content type of an event; a name stands in its extras.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Content {
    Bytes,
    Json,
    Text,
    Bincode,
    Named,
}

/// Bytes that were copied out of the log and verified, shared by the events in them.
pub(crate) struct Block {
    pub bytes: Vec<u8>,
    /// What ids that are not stored are made of.
    pub id_seed: u128,
}

/// A piece of a block.
#[derive(Clone, Copy, Default)]
pub(crate) struct Span {
    pub at: u32,
    pub len: u32,
}

/// Where the parts of an event stand in its block.
#[derive(Clone, Default)]
pub(crate) struct Spans {
    pub key: Span,
    pub event_type: Span,
    pub metadata: Span,
    pub data: Span,
}

/// The parts that few events have.
#[derive(Clone, Default)]
pub(crate) struct Extras {
    pub id: Option<Uuid>,
    pub occurred_at: Option<Timestamp>,
    pub schema_version: u32,
    pub content_name: Option<Span>,
    pub correlation_id: Option<Span>,
    pub causation_id: Option<Span>,
    pub tags: Vec<Span>,
}

/// A fact as it stands in the store, for ever.
///
/// Its bytes were verified against their checksum after they were copied out of the log. An event shares a block of memory with the events that
/// were read with it (up to 64 KiB, or one event if that is larger); clones share it too. To keep a few events for long, copy what is needed.
#[derive(Clone)]
pub struct Event {
    pub(crate) block: Arc<Block>,
    pub(crate) position: u64,
    pub(crate) sequence: u64,
    pub(crate) recorded_at: Timestamp,
    pub(crate) content: Content,
    pub(crate) spans: Spans,
    pub(crate) extras: Option<Box<Extras>>,
}

impl Event {
    fn bytes(&self, span: Span) -> &[u8] {
        &self.block.bytes[span.at as usize..][..span.len as usize]
    }

    /// Spans of text were checked when the event was decoded.
    fn text(&self, span: Span) -> &str {
        str::from_utf8(self.bytes(span)).unwrap_or_default()
    }

    fn optional_text(&self, span: impl Fn(&Extras) -> Option<Span>) -> Option<&str> {
        let span = span(self.extras.as_deref()?)?;
        Some(self.text(span))
    }

    pub(crate) fn key(&self) -> &[u8] {
        self.bytes(self.spans.key)
    }

    /// The number of the event in the whole store: 0, 1, 2 …
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The number of the event in its stream: 0, 1, 2 …
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The stream. This makes a new [`StreamId`]; [`Event::domain`], [`Event::root`] and [`Event::edition`] only look.
    pub fn stream(&self) -> StreamId {
        StreamId::from_key(self.key()).expect("the key was checked when the event was decoded")
    }

    /// Whether the event stands in this stream.
    pub fn is_in(&self, stream: &StreamId) -> bool {
        self.key() == stream.key()
    }

    /// The domain of the stream.
    pub fn domain(&self) -> &str {
        split_key(self.key()).map_or("", |parts| parts.domain)
    }

    /// The root of the stream.
    pub fn root(&self) -> &[u8] {
        split_key(self.key()).map_or(&[], |parts| parts.root)
    }

    /// The edition of the stream, or `None` in the main one.
    pub fn edition(&self) -> Option<&str> {
        split_key(self.key())?.edition
    }

    /// The type.
    pub fn event_type(&self) -> &str {
        self.text(self.spans.event_type)
    }

    /// The id: the caller's, or the one the store gave, a UUID version 7.
    pub fn id(&self) -> Uuid {
        let given = self.extras.as_ref().and_then(|extras| extras.id);
        given.unwrap_or_else(|| derived_id(self.block.id_seed, self.position, self.recorded_at))
    }

    /// When the event was recorded, by the store's clock. Never decreases from position to position; the same for all events of a commit.
    pub fn recorded_at(&self) -> Timestamp {
        self.recorded_at
    }

    /// When it happened, if the writer said so.
    pub fn occurred_at(&self) -> Option<Timestamp> {
        self.extras.as_ref()?.occurred_at
    }

    /// The correlation id, if the writer gave one.
    pub fn correlation_id(&self) -> Option<&str> {
        self.optional_text(|extras| extras.correlation_id)
    }

    /// The causation id, if the writer gave one.
    pub fn causation_id(&self) -> Option<&str> {
        self.optional_text(|extras| extras.causation_id)
    }

    /// The tags, in the order in which they were given.
    pub fn tags(&self) -> impl ExactSizeIterator<Item = &str> {
        let spans = self.extras.as_ref().map_or(&[][..], |extras| &extras.tags);
        spans.iter().map(|&span| self.text(span))
    }

    /// The data, exactly as they were given.
    pub fn data(&self) -> &[u8] {
        self.bytes(self.spans.data)
    }

    /// The metadata, exactly as they were given.
    pub fn metadata(&self) -> &[u8] {
        self.bytes(self.spans.metadata)
    }

    /// What the data are.
    pub fn content_type(&self) -> ContentType {
        match self.content {
            Content::Bytes => ContentType::Bytes,
            Content::Json => ContentType::Json,
            Content::Text => ContentType::Text,
            Content::Bincode => ContentType::Bincode,
            Content::Named => {
                let name = self.optional_text(|extras| extras.content_name);
                ContentType::Named(name.unwrap_or_default().to_owned())
            }
        }
    }

    /// The version of the type's schema; 0 unless the writer said otherwise.
    pub fn schema_version(&self) -> u32 {
        self.extras.as_ref().map_or(0, |extras| extras.schema_version)
    }

    /// The same fact as a new event, to be stored somewhere else. It keeps the id.
    ///
    /// Position, sequence and recorded-at are not part of it: the store that it is appended to gives its own.
    pub fn to_new(&self) -> NewEvent<'_> {
        NewEvent {
            id: Some(self.id()),
            occurred_at: self.occurred_at(),
            content_type: self.content_type(),
            schema_version: self.schema_version(),
            metadata: Cow::Borrowed(self.metadata()),
            correlation_id: Cow::Borrowed(self.correlation_id().unwrap_or("")),
            causation_id: Cow::Borrowed(self.causation_id().unwrap_or("")),
            tags: self.tags().map(Cow::Borrowed).collect(),
            ..NewEvent::with_data(self.event_type(), self.data())
        }
    }
}

impl fmt::Debug for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Event")
            .field("position", &self.position)
            .field("stream", &format_args!("{}", self.stream()))
            .field("sequence", &self.sequence)
            .field("event_type", &self.event_type())
            .field("recorded_at", &self.recorded_at)
            .field("data", &String::from_utf8_lossy(self.data()))
            .finish_non_exhaustive()
    }
}

/// The id of an event that was stored without one (see `docs/FORMAT.md`, Record): a UUID version 7 (RFC 9562) of the time in
/// milliseconds and a 74-bit number that rises with the position.
fn derived_id(seed: u128, position: u64, recorded_at: Timestamp) -> Uuid {
    let millis = recorded_at.as_nanos().max(0) as u128 / 1_000_000;
    let number = seed.wrapping_add(u128::from(position)) & ((1 << 74) - 1);
    let (high, low) = (number >> 62, number & ((1 << 62) - 1));
    Uuid::from_u128(millis << 80 | 0x7 << 76 | high << 64 | 0b10 << 62 | low)
}

/// The position that an id was derived from, if it was derived with this seed.
pub(crate) fn derived_position(seed: u128, id: Uuid) -> Option<u64> {
    if id.get_version_num() != 7 {
        return None;
    }
    let bits = id.as_u128();
    let number = (bits >> 64 & 0xFFF) << 62 | bits & ((1 << 62) - 1);
    u64::try_from(number.wrapping_sub(seed) & ((1 << 74) - 1)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derived_ids_are_version_7_and_rise() {
        let seed = (1 << 73) - 5;
        let mut last = Uuid::nil();
        for position in 0..10 {
            let id = derived_id(seed, position, Timestamp::from_nanos(1_700_000_000_000_000_000));
            assert_eq!(id.get_version_num(), 7);
            assert_eq!(id.get_variant(), uuid::Variant::RFC4122);
            assert!(id > last);
            assert_eq!(derived_position(seed, id), Some(position));
            last = id;
        }
    }
}
