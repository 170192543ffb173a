//! Events before they are stored.

use crate::time::Timestamp;
use std::borrow::Cow;
use std::collections::HashSet;
use uuid::Uuid;

/// Maximum number of tags of an event.
pub(crate) const MAX_TAGS: usize = 1024;

/// Up to this many tags are compared with one another; beyond, a set finds repeated ones.
const FEW_TAGS: usize = 16;

/// The encoding of the data of an event.
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
    /// Any other type, by a name of 1 to 255 bytes, such as a media type.
    Named(String),
}

/// An event that has not been stored yet.
///
/// Only type and data are required. Everything can be borrowed: appending copies it once, into the
/// log.
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
/// Type: 1 to 255 bytes. At most 1,024 tags of 1 to 1,024 bytes. Correlation and causation id: up
/// to 1,024 bytes; an empty one is none. Everything together:
/// [`Options::max_event_bytes`](crate::Options::max_event_bytes), 16 MiB by default. The append
/// checks them.
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
    /// Returns an event of this type with these data. The data may be empty and need not be text.
    pub fn new<D>(event_type: impl Into<Cow<'a, str>>, data: &'a D) -> Self
    where
        D: AsRef<[u8]> + ?Sized,
    {
        Self::with_data(event_type, data.as_ref())
    }

    /// Returns an event of this type with these data, borrowed or owned.
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

    /// The encoding of the data. Default: [`ContentType::Bytes`].
    pub fn content_type(mut self, content_type: ContentType) -> Self {
        self.content_type = content_type;
        self
    }

    /// The version of the type's schema, for upcasting. Default: 0.
    pub fn schema_version(mut self, version: u32) -> Self {
        self.schema_version = version;
        self
    }

    /// Data about the event that are not part of the fact.
    pub fn metadata(mut self, metadata: impl Into<Cow<'a, [u8]>>) -> Self {
        self.metadata = metadata.into();
        self
    }

    /// The id of the event. By default, the store assigns a UUID version 7 made of the time and the
    /// position.
    ///
    /// The store does not check whether an event already has the id; use expectations for that.
    pub fn id(mut self, id: Uuid) -> Self {
        self.id = Some(id);
        self
    }

    /// When it happened, if that is not when it is recorded. Any time, also before 1970.
    pub fn occurred_at(mut self, time: Timestamp) -> Self {
        self.occurred_at = Some(time);
        self
    }

    /// The correlation id: the same for all events of one business process. An empty id is none.
    pub fn correlation_id(mut self, id: impl Into<Cow<'a, str>>) -> Self {
        self.correlation_id = id.into();
        self
    }

    /// The causation id: usually the id of a command or of another event. An empty id is none.
    pub fn causation_id(mut self, id: impl Into<Cow<'a, str>>) -> Self {
        self.causation_id = id.into();
        self
    }

    /// Adds a tag: `key:value` or any text. A repeated tag is kept once.
    pub fn tag(mut self, tag: impl Into<Cow<'a, str>>) -> Self {
        let tag = tag.into();
        // Above the maximum, the append refuses the event, with or without repeated tags.
        if self.tags.len() > MAX_TAGS || !self.tags.contains(&tag) {
            self.tags.push(tag);
        }
        self
    }

    /// Adds several tags, as [`NewEvent::tag`] does.
    pub fn tags<T: Into<Cow<'a, str>>>(mut self, tags: impl IntoIterator<Item = T>) -> Self {
        let mut tags = tags.into_iter();
        while self.tags.len() < FEW_TAGS {
            let Some(tag) = tags.next() else { return self };
            self = self.tag(tag);
        }
        self.tags.extend(tags.map(Into::into));
        let mut seen = HashSet::with_capacity(self.tags.len());
        let is_first: Vec<bool> = self.tags.iter().map(|tag| seen.insert(&**tag)).collect();
        let mut is_first = is_first.into_iter();
        self.tags.retain(|_| is_first.next().unwrap_or(true));
        self
    }
}
