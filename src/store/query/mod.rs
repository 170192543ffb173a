//! Queries: events of any stream, by type, tag, domain, time and id.

pub(crate) mod candidates;
pub(crate) mod search;
pub(crate) mod visibility;

use crate::error::Result;
use crate::format::commit::Recorded;
use crate::format::event::Event;
use crate::format::extras::Extras;
use crate::index::term::{Term, TermKind};
use crate::stream::{KeyNames, StreamId, check_name, main_key, names};
use crate::time::Timestamp;

/// A description of events that can be stored, sent, and reused.
///
/// An item says what an event must have; [`Query::or`] begins another item, and an event that
/// matches any item is found. Within an item, domains and streams are alternatives, types are
/// alternatives, and all tags are required (as the specification of Dynamic Consistency Boundaries,
/// dcb.events, defines it). A query without any condition finds all events.
///
/// ```
/// use annals::{Expected, NewEvent, Query, Store, StreamId};
/// let store = Store::in_memory();
/// let order = StreamId::new("order", "1")?;
/// let events = ["Placed", "Paid", "Shipped"].map(|event_type| NewEvent::new(event_type, "").tag("customer:7"));
/// store.append(&order, Expected::Any, events)?;
///
/// let query = Query::new().domain("order").types(["Paid", "Shipped"]).tag("customer:7");
/// let found: Result<Vec<_>, _> = store.query(&query).backwards().limit(1).into_iter().collect();
/// assert_eq!(found?[0].event_type(), "Shipped");
/// # Ok::<(), annals::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Query {
    items: Vec<Item>,
    edition: Option<String>,
    recorded: (Option<Timestamp>, Option<Timestamp>),
    occurred: (Option<Timestamp>, Option<Timestamp>),
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
struct Item {
    domains: Vec<String>,
    streams: Vec<StreamId>,
    types: Vec<String>,
    tags: Vec<String>,
    correlation: Option<String>,
}

impl Query {
    /// Returns a query that finds all events.
    pub fn new() -> Self {
        Query::default()
    }

    fn item(&mut self) -> &mut Item {
        if self.items.is_empty() {
            self.items.push(Item::default());
        }
        self.items.last_mut().expect("an item was pushed if there was none")
    }

    /// Begins another item: an event that matches either is found. An item without any condition is
    /// ignored if there are others, so that a query can be assembled in a loop.
    pub fn or(mut self) -> Self {
        self.items.push(Item::default());
        self
    }

    /// The items that have conditions; empty if any event matches.
    fn conditions(&self) -> impl Iterator<Item = &Item> {
        self.items.iter().filter(|item| !item.is_empty())
    }

    /// Matches events of streams in this domain; with other domains or streams, of any of them.
    pub fn domain(mut self, domain: impl Into<String>) -> Self {
        self.item().domains.push(domain.into());
        self
    }

    /// Matches events of this stream; with other streams or domains, of any of them. The edition of
    /// the name is ignored: see [`Query::edition`].
    pub fn stream(mut self, stream: &StreamId) -> Self {
        self.item().streams.push(stream.clone());
        self
    }

    /// Matches events of this type; with other types, of any of them.
    pub fn event_type(mut self, event_type: impl Into<String>) -> Self {
        self.item().types.push(event_type.into());
        self
    }

    /// Matches events of any of these types.
    pub fn types<T: Into<String>>(self, types: impl IntoIterator<Item = T>) -> Self {
        types.into_iter().fold(self, Query::event_type)
    }

    /// Matches events that have this tag; with other tags, all of them.
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.item().tags.push(tag.into());
        self
    }

    /// Matches events that have all of these tags.
    pub fn tags<T: Into<String>>(self, tags: impl IntoIterator<Item = T>) -> Self {
        tags.into_iter().fold(self, Query::tag)
    }

    /// Matches events with this correlation id. The empty id matches nothing.
    pub fn correlation(mut self, id: impl Into<String>) -> Self {
        self.item().correlation = Some(id.into());
        self
    }

    /// Finds events as a named edition shows them: the events of the main edition that it shares,
    /// and its own. Default: those of the main edition, which is also called `main`.
    ///
    /// Names of editions have at most 255 bytes: with a longer one, a search, guard or subscription
    /// returns [`Error::LimitExceeded`](crate::Error::LimitExceeded).
    pub fn edition(mut self, edition: impl Into<String>) -> Self {
        let edition = edition.into();
        self.edition = (!edition.is_empty() && edition != "main").then_some(edition);
        self
    }

    /// Matches events that were recorded at this time or later.
    pub fn recorded_since(mut self, time: Timestamp) -> Self {
        self.recorded.0 = Some(time);
        self
    }

    /// Matches events that were recorded at this time or earlier.
    pub fn recorded_until(mut self, time: Timestamp) -> Self {
        self.recorded.1 = Some(time);
        self
    }

    /// Matches events that occurred at this time or later. An event without an occurrence time
    /// counts with its recorded time.
    pub fn occurred_since(mut self, time: Timestamp) -> Self {
        self.occurred.0 = Some(time);
        self
    }

    /// Matches events that occurred at this time or earlier. An event without an occurrence time
    /// counts with its recorded time.
    pub fn occurred_until(mut self, time: Timestamp) -> Self {
        self.occurred.1 = Some(time);
        self
    }

    /// Returns an error if the query is invalid.
    pub(crate) fn check(&self) -> Result<()> {
        self.edition.as_deref().map_or(Ok(()), |edition| check_name("edition", edition))
    }

    /// The named edition whose events are found.
    pub(crate) fn named_edition(&self) -> Option<&str> {
        self.edition.as_deref()
    }

    /// Returns whether an event matches. The event alone cannot tell whether a named edition shares
    /// an event of the main one: it counts as shared.
    pub fn matches(&self, event: &Event) -> bool {
        self.matches_fields(&EventFields::of(event), false)
    }

    /// Returns whether an event matches, with the events of all editions.
    pub(crate) fn matches_in_any_edition(&self, event: &Event) -> bool {
        self.matches_fields(&EventFields::of(event), true)
    }

    /// Returns whether an event in flight matches.
    pub(crate) fn matches_recorded(&self, event: &Recorded<'_>) -> bool {
        let recorded_at = Timestamp::from_nanos(event.recorded_at);
        let Recorded { key, event_type, extras, .. } = *event;
        self.matches_fields(&EventFields { key, event_type, extras, recorded_at }, false)
    }

    /// Text is compared as bytes: it was checked to be UTF-8 when the event was decoded, and
    /// checking it again takes longer than all the rest.
    fn matches_fields(&self, fields: &EventFields<'_>, any_edition: bool) -> bool {
        let within = |bounds: (Option<Timestamp>, Option<Timestamp>), time: &dyn Fn() -> Timestamp| match bounds {
            (None, None) => true,
            (since, until) => since.is_none_or(|since| since <= time()) && until.is_none_or(|until| time() <= until),
        };
        let Some(names) = names(fields.key) else { return false };
        let edition = self.edition.as_deref().unwrap_or_default().as_bytes();
        (any_edition || names.edition.is_empty() || names.edition == edition)
            && within(self.recorded, &|| fields.recorded_at)
            && within(self.occurred, &|| fields.extras.occurred_at().unwrap_or(fields.recorded_at))
            && (self.conditions().next().is_none() || self.conditions().any(|item| item.matches(&names, fields)))
    }

    /// The recorded times of events that can match: from the first to the second.
    pub(crate) fn recorded(&self) -> (Option<Timestamp>, Option<Timestamp>) {
        self.recorded
    }

    /// Returns the terms of which an event must have one to match: the rarest kind of each item.
    /// `None` if any event may match.
    pub(crate) fn wake_terms(&self) -> Option<Vec<Term>> {
        // An invalid query waits for nothing.
        if self.check().is_err() {
            return Some(Vec::new());
        }
        // Of one kind of group, a stream is rarer than a domain.
        let rank = |group: &Vec<Term>| match group.first().map(|term| term.bytes()[0]) {
            Some(kind) if kind == TermKind::Correlation as u8 => 0,
            Some(kind) if kind == TermKind::Stream as u8 => 1,
            Some(kind) if kind == TermKind::Tag as u8 => 2,
            Some(kind) if kind == TermKind::Type as u8 => 3,
            _ => 4,
        };
        let rarest = self.groups()?.into_iter().map(|groups| groups.into_iter().min_by_key(rank).unwrap_or_default());
        Some(rarest.flatten().collect())
    }

    /// Returns, for each item, the groups of terms that the index can be asked for: an event must
    /// have one of each group. `None` if any event may match.
    pub(crate) fn groups(&self) -> Option<Vec<Vec<Vec<Term>>>> {
        // A named edition shares events with the main one.
        self.groups_in(self.edition.as_deref())
    }

    /// Returns the groups for the main edition and these.
    pub(crate) fn groups_in<'e>(&self, named: impl IntoIterator<Item = &'e str>) -> Option<Vec<Vec<Vec<Term>>>> {
        let editions: Vec<Option<&str>> = std::iter::once(None).chain(named.into_iter().map(Some)).collect();
        let items = self.conditions().map(|item| item.groups(&editions)).collect::<Vec<_>>();
        (!items.is_empty()).then_some(items)
    }
}

impl From<&Query> for Query {
    fn from(query: &Query) -> Self {
        query.clone()
    }
}

/// The fields of an event that a query looks at.
struct EventFields<'a> {
    key: &'a [u8],
    event_type: &'a [u8],
    extras: Extras<'a>,
    recorded_at: Timestamp,
}

impl<'a> EventFields<'a> {
    fn of(event: &'a Event) -> Self {
        EventFields {
            key: event.key(),
            event_type: event.type_bytes(),
            extras: event.extras(),
            recorded_at: event.recorded_at(),
        }
    }
}

impl Item {
    fn is_empty(&self) -> bool {
        let Item { domains, streams, types, tags, correlation } = self;
        domains.is_empty() && streams.is_empty() && types.is_empty() && tags.is_empty() && correlation.is_none()
    }

    fn matches(&self, names: &KeyNames<'_>, fields: &EventFields<'_>) -> bool {
        let anywhere = self.domains.is_empty() && self.streams.is_empty();
        let in_domain = || self.domains.iter().any(|domain| domain.as_bytes() == names.domain);
        let in_stream = || self.streams.iter().any(|stream| main_key(stream.key()) == main_key(fields.key));
        let correlated = |id: &String| !id.is_empty() && fields.extras.correlation_id() == Some(id.as_bytes());
        (anywhere || in_domain() || in_stream())
            && (self.types.is_empty() || self.types.iter().any(|t| t.as_bytes() == fields.event_type))
            && self.tags.iter().all(|tag| fields.extras.tags().any(|t| t == tag.as_bytes()))
            && self.correlation.as_ref().is_none_or(correlated)
    }

    /// Returns the groups of terms that the index can be asked for: an event must have one of each
    /// group.
    fn groups(&self, editions: &[Option<&str>]) -> Vec<Vec<Term>> {
        let terms = |kind, text: &str| -> Vec<Term> {
            editions.iter().map(|edition| Term::new(kind, *edition, text.as_bytes())).collect()
        };
        let mut groups = Vec::new();
        if !self.domains.is_empty() || !self.streams.is_empty() {
            let domains = self.domains.iter().flat_map(|domain| terms(TermKind::Domain, domain));
            let of_stream = |stream: &StreamId| -> Vec<Term> {
                editions.iter().map(|edition| Term::stream_in(*edition, stream.key())).collect()
            };
            groups.push(domains.chain(self.streams.iter().flat_map(of_stream)).collect());
        }
        if !self.types.is_empty() {
            groups.push(self.types.iter().flat_map(|event_type| terms(TermKind::Type, event_type)).collect());
        }
        groups.extend(self.tags.iter().map(|tag| terms(TermKind::Tag, tag)));
        groups.extend(self.correlation.iter().map(|id| terms(TermKind::Correlation, id)));
        groups
    }
}
