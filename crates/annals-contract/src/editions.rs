//! Timelines that diverge from the main one, and can be discarded.

use super::events::grid;
use super::verbs::{
    Must, append, append_events, begin, dense, everything, found, next_sequence, part, read, refused, stream, texts,
    texts_of,
};
use super::{Append, Criteria, EventData, EventStore, Reading, RecordedEvent};
use annals::{AsOf, Expected};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

fn in_edition(name: &str) -> Criteria {
    Criteria { edition: name.to_owned(), ..Criteria::default() }
}

#[track_caller]
fn delete<B: EventStore>(store: &B, edition: &str, domain: Option<&str>) -> u64 {
    store.delete_edition(edition, domain).must("deleting an edition")
}

#[track_caller]
fn listed<B: EventStore>(store: &B) -> Vec<(String, u64)> {
    store.editions().must("listing the editions").into_iter().collect()
}

/// `order-1@x` diverges at 2 from five events of main: `m0 m1 e2 e3`.
fn diverged<B: EventStore>(store: &B) {
    begin(store, 5);
    append(store, "order-1@x", Expected::Next(2), &["e2", "e3"]);
}

/// The main timeline is the unnamed edition, also called `main`: both names mean the same,
/// everywhere.
pub fn main_has_two_names<B: EventStore>(store: &B) {
    append(store, "order-1@main", Expected::NoStream, &["a"]);
    append(store, "order-1", Expected::Next(1), &["b"]);
    refused(store, &[part("order-1@main", Expected::NoStream, &["c"])], "main by its other name");
    append(store, "order-1@main", Expected::Next(2), &["c"]);
    for name in ["order-1", "order-1@main"] {
        assert_eq!(texts_of(store, name), ["a", "b", "c"]);
        assert_eq!(next_sequence(store, name), 3);
    }
    assert!(everything(store).iter().all(|event| event.stream == stream("order-1")), "there is one stream");
    for name in ["", "main"] {
        assert_eq!(found(store, &in_edition(name)), ["a", "b", "c"], "a query of {name:?} is one of main");
    }
    let keyed = |name| store.commit(&[part(name, Expected::Any, &["d"])], "k").must("a commit with a key");
    assert!(!keyed("order-1@main").duplicate);
    assert!(keyed("order-1").duplicate, "a key counts under both names");
    assert!(listed(store).is_empty(), "main is no named edition");
}

/// A stream without events of its own in an edition reads as main, including later events of main.
pub fn an_edition_reads_as_main_until_it_diverges<B: EventStore>(store: &B) {
    begin(store, 3);
    assert_eq!(texts_of(store, "order-1@x"), ["m0", "m1", "m2"]);
    assert_eq!(next_sequence(store, "order-1@x"), 3);
    append(store, "order-1", Expected::Next(3), &["m3"]);
    assert_eq!(texts_of(store, "order-1@x"), ["m0", "m1", "m2", "m3"], "as long as it has not diverged");
    append(store, "order-2@x", Expected::Any, &["other"]);
    assert_eq!(texts_of(store, "order-1@x"), ["m0", "m1", "m2", "m3"], "it diverges stream by stream");
    let shared = read(store, "order-1@x", &Reading::default());
    assert!(shared == read(store, "order-1", &Reading::default()), "what it shares are the events of main themselves");
}

/// The sequence of an edition's first event in a stream is where it diverges: anything from 0,
/// which shadows main completely, to main's next sequence, which shares all of it.
pub fn the_first_event_sets_the_point<B: EventStore>(store: &B) {
    begin(store, 4);
    for point in 0..=4 {
        let name = format!("order-1@at-{point}");
        assert_eq!(append(store, &name, Expected::Next(point), &["e", "f"]), point..point + 2);
        let mut wanted: Vec<String> = (0..point).map(|n| format!("m{n}")).collect();
        wanted.extend(["e".to_owned(), "f".to_owned()]);
        assert_eq!(texts_of(store, &name), wanted, "an edition that diverges at {point}");
        assert_eq!(next_sequence(store, &name), point + 2);
    }
    assert_eq!(texts_of(store, "order-1"), ["m0", "m1", "m2", "m3"]);
}

/// Of the expectations without a sequence, `NoStream` shadows main completely, and the others share
/// all of it at that moment.
pub fn an_expectation_sets_the_point<B: EventStore>(store: &B) {
    begin(store, 3);
    assert_eq!(append(store, "order-1@none", Expected::NoStream, &["e"]), 0..1, "NoStream shadows main");
    assert_eq!(append(store, "order-1@any", Expected::Any, &["e"]), 3..4, "Any shares all of main");
    assert_eq!(append(store, "order-1@exists", Expected::Exists, &["e"]), 3..4, "Exists shares all of main");
    assert_eq!(texts_of(store, "order-1@none"), ["e"]);
    assert_eq!(texts_of(store, "order-1@exists"), ["m0", "m1", "m2", "e"]);
    // If main has no events, there is nothing to share.
    refused(
        store,
        &[part("order-9@x", Expected::Exists, &["e"])],
        "Exists, where neither main nor the edition has any",
    );
    refused(store, &[part("order-9@x", Expected::Next(1), &["e"])], "a future sequence of an unknown stream");
    assert_eq!(append(store, "order-9@x", Expected::Any, &["e"]), 0..1);
    assert_eq!(next_sequence(store, "order-9"), 0, "main has still nothing");
    // One call may extend main and then diverge from it.
    let call = [part("order-1", Expected::Next(3), &["m3"]), part("order-1@late", Expected::Next(4), &["e4"])];
    store.commit(&call, "").must("extending main and diverging behind that");
    assert_eq!(texts_of(store, "order-1@late"), ["m0", "m1", "m2", "m3", "e4"]);
}

/// An edition cannot diverge beyond main's next sequence: that would leave a gap.
pub fn nothing_diverges_beyond_main<B: EventStore>(store: &B) {
    begin(store, 3);
    for beyond in [4, 5, u64::MAX] {
        refused(store, &[part("order-1@x", Expected::Next(beyond), &["e"])], "diverging beyond main");
    }
    assert_eq!(texts_of(store, "order-1@x"), ["m0", "m1", "m2"], "it has not diverged");
    append(store, "order-1@x", Expected::Next(3), &["e"]);
    assert_eq!(texts_of(store, "order-1@x"), ["m0", "m1", "m2", "e"]);
}

/// Once it has diverged, an edition's stream has expectations like any other, and events of main do
/// not count in them.
pub fn an_edition_goes_on_like_any_stream<B: EventStore>(store: &B) {
    diverged(store);
    for (expected, why) in [
        (Expected::Next(2), "a stale sequence, at the point itself"),
        (Expected::Next(1), "a stale sequence, below the point"),
        (Expected::Next(3), "a stale sequence"),
        (Expected::Next(5), "a future sequence, which is main's next one"),
        (Expected::NoStream, "NoStream, once it has diverged"),
    ] {
        refused(store, &[part("order-1@x", expected, &["late"])], why);
    }
    assert_eq!(append(store, "order-1@x", Expected::Next(4), &["e4"]), 4..5);
    assert_eq!(append(store, "order-1@x", Expected::Exists, &["e5"]), 5..6);
    assert_eq!(append(store, "order-1@x", Expected::Any, &["e6"]), 6..7);
    assert_eq!(texts_of(store, "order-1@x"), ["m0", "m1", "e2", "e3", "e4", "e5", "e6"]);
}

/// Once an edition has diverged, later appends to main do not show in it.
pub fn later_appends_to_main_do_not_show_through<B: EventStore>(store: &B) {
    begin(store, 2);
    append(store, "order-1@all", Expected::Next(2), &["e2"]);
    append(store, "order-1@some", Expected::Next(1), &["e1"]);
    append(store, "order-1@zero", Expected::NoStream, &["e0"]);
    append(store, "order-1", Expected::Next(2), &["m2", "m3", "m4"]);
    assert_eq!(texts_of(store, "order-1@all"), ["m0", "m1", "e2"]);
    assert_eq!(texts_of(store, "order-1@some"), ["m0", "e1"]);
    assert_eq!(texts_of(store, "order-1@zero"), ["e0"]);
    let next = ["all", "some", "zero"].map(|name| next_sequence(store, &format!("order-1@{name}")));
    assert_eq!(next, [3, 2, 1]);
    assert_eq!(found(store, &in_edition("some")), ["m0", "e1"]);
}

/// Main shows no event of an edition.
pub fn main_sees_nothing_of_editions<B: EventStore>(store: &B) {
    diverged(store);
    append(store, "order-2@x", Expected::Any, &["other"]);
    assert_eq!(texts_of(store, "order-1"), ["m0", "m1", "m2", "m3", "m4"]);
    assert_eq!(next_sequence(store, "order-1"), 5);
    assert!(read(store, "order-2", &Reading::default()).is_empty());
    assert_eq!(append(store, "order-1", Expected::Next(5), &["m5"]), 5..6);
    assert_eq!(append(store, "order-2", Expected::NoStream, &["m0"]), 0..1);
}

/// Editions do not show each other's events.
pub fn editions_are_apart<B: EventStore>(store: &B) {
    diverged(store);
    append(store, "order-1@y", Expected::Next(1), &["y1"]);
    assert_eq!(texts_of(store, "order-1@x"), ["m0", "m1", "e2", "e3"]);
    assert_eq!(texts_of(store, "order-1@y"), ["m0", "y1"]);
    assert_eq!(texts_of(store, "order-1@z"), ["m0", "m1", "m2", "m3", "m4"]);
    assert_eq!(found(store, &in_edition("y")), ["m0", "y1"]);
}

/// Ranges, limits and backwards reads apply to the composite of main and edition, wherever they
/// fall.
pub fn ranges_limits_and_backwards_of_composites<B: EventStore>(store: &B) {
    begin(store, 5);
    append(store, "order-1@x", Expected::Next(2), &["e2", "e3"]);
    append(store, "order-1@zero", Expected::Next(0), &["e0", "e1", "e2", "e3"]);
    grid(store, "order-1@x", &["m0", "m1", "e2", "e3"]);
    grid(store, "order-1@zero", &["e0", "e1", "e2", "e3"]);
    grid(store, "order-1@none", &["m0", "m1", "m2", "m3", "m4"]);
}

/// A stream can be read as if it diverged elsewhere: main below that, then the edition's own events
/// from there on, if there is no gap in between.
pub fn diverging_at_reads_as_if<B: EventStore>(store: &B) {
    diverged(store);
    let at = |name: &str, sequence| {
        let reading = Reading { diverging_at: Some(sequence), ..Reading::default() };
        let events = read(store, name, &reading);
        dense(&events);
        let mut backwards = read(store, name, &Reading { backwards: true, ..reading });
        backwards.reverse();
        assert!(backwards == events, "backwards, it is the same");
        texts(&events)
    };
    assert_eq!(at("order-1@none", 0), [""; 0], "all of main is shadowed");
    assert_eq!(at("order-1@none", 3), ["m0", "m1", "m2"]);
    assert_eq!(at("order-1@none", 99), ["m0", "m1", "m2", "m3", "m4"], "there is no more to share");
    assert_eq!(at("order-1@x", 2), ["m0", "m1", "e2", "e3"], "where it does diverge");
    assert_eq!(at("order-1@x", 3), ["m0", "m1", "m2", "e3"]);
    assert_eq!(at("order-1@x", 4), ["m0", "m1", "m2", "m3"]);
    assert_eq!(at("order-1@x", 1), ["m0"], "what it has of its own begins at 2: there would be a gap");
    assert_eq!(at("order-1@x", 0), [""; 0]);
    assert_eq!(at("order-1", 1), ["m0", "m1", "m2", "m3", "m4"], "main does not diverge");
}

/// A read as of a point returns what was visible then: main, while the edition had not diverged.
pub fn as_of_sees_what_had_diverged_by_then<B: EventStore>(store: &B) {
    diverged(store);
    append(store, "order-1", Expected::Any, &["m5"]);
    append(store, "order-1@x", Expected::Any, &["e4"]);
    let all = everything(store);
    let at = |position: u64| {
        let reading = Reading { as_of: Some(AsOf::Position(position)), ..Reading::default() };
        let events = read(store, "order-1@x", &reading);
        dense(&events);
        let mut backwards = read(store, "order-1@x", &Reading { backwards: true, ..reading });
        backwards.reverse();
        assert!(backwards == events, "backwards, it is the same");
        let criteria = Criteria { as_of: Some(AsOf::Position(position)), ..in_edition("x") };
        assert_eq!(found(store, &criteria), texts(&events), "a query as of {position} sees the same");
        texts(&events)
    };
    assert_eq!(at(0), ["m0"]);
    assert_eq!(at(4), ["m0", "m1", "m2", "m3", "m4"], "it had not diverged");
    assert_eq!(at(5), ["m0", "m1", "e2"], "between two events of one commit");
    assert_eq!(at(6), ["m0", "m1", "e2", "e3"]);
    assert_eq!(at(7), ["m0", "m1", "e2", "e3"], "what came to main meanwhile does not show through");
    assert_eq!(at(8), ["m0", "m1", "e2", "e3", "e4"]);
    let by_time = Reading { as_of: Some(AsOf::Time(all[8].recorded_at)), ..Reading::default() };
    assert_eq!(texts(&read(store, "order-1@x", &by_time)), ["m0", "m1", "e2", "e3", "e4"]);
}

/// A fold that continues where it stopped equals one from the beginning, across the point where an
/// edition diverges.
pub fn folds_agree_with_reads<B: EventStore>(store: &B) {
    diverged(store);
    append(store, "order-1@x", Expected::Next(4), &["e4", "e5"]);
    let whole = texts_of(store, "order-1@x");
    for step in 1..=3 {
        let mut state: Vec<String> = Vec::new();
        loop {
            let from = state.len() as u64;
            let page = read(store, "order-1@x", &Reading { from, limit: step, ..Reading::default() });
            if page.is_empty() {
                break;
            }
            assert!(
                page.iter().map(|event| event.sequence).eq(from..from + page.len() as u64),
                "pages follow each other"
            );
            state.extend(texts(&page));
        }
        assert_eq!(state, whole, "a fold in steps of {step}");
        assert_eq!(state.len() as u64, next_sequence(store, "order-1@x"), "and it ends at the next sequence");
    }
}

/// Queries see main only, unless an edition is named.
pub fn queries_see_main_unless_an_edition_is_named<B: EventStore>(store: &B) {
    diverged(store);
    append(store, "bill-1@x", Expected::Any, &["b0"]);
    let main = ["m0", "m1", "m2", "m3", "m4"];
    assert_eq!(found(store, &Criteria::default()), main);
    assert_eq!(found(store, &in_edition("main")), main);
    assert_eq!(found(store, &Criteria { event_type: Some("T".to_owned()), ..Criteria::default() }), main);
    assert_eq!(found(store, &Criteria { domain: Some("bill".to_owned()), ..Criteria::default() }), [""; 0]);
}

/// A query of an edition sees of each stream what a read of it returns.
pub fn queries_of_an_edition_see_the_composite<B: EventStore>(store: &B) {
    begin(store, 5);
    append_events(
        store,
        &stream("order-2"),
        &[EventData { tags: vec!["a".to_owned()], ..EventData::new("U", "other") }],
    );
    append(store, "order-1@x", Expected::Next(1), &["e1"]);
    append_events(store, &stream("bill-1@x"), &[EventData { tags: vec!["a".to_owned()], ..EventData::new("U", "b0") }]);
    append(store, "order-1", Expected::Any, &["m5"]);
    let all = in_edition("x");
    assert_eq!(found(store, &all), ["m0", "other", "e1", "b0"]);
    assert_eq!(found(store, &Criteria { domain: Some("order".to_owned()), ..all.clone() }), ["m0", "other", "e1"]);
    assert_eq!(found(store, &Criteria { event_type: Some("T".to_owned()), ..all.clone() }), ["m0", "e1"]);
    assert_eq!(found(store, &Criteria { tag: Some("a".to_owned()), ..all }), ["other", "b0"]);
    let main = ["m0", "m1", "m2", "m3", "m4", "other", "m5"];
    assert_eq!(found(store, &in_edition("nobody")), main, "where nothing diverges, it is main");
}

/// Correlated events are those of all editions, under the streams in which they were stored.
pub fn correlated_events_are_of_all_editions<B: EventStore>(store: &B) {
    let fact = |text: &str| EventData { correlation_id: Some("w".to_owned()), ..EventData::new("T", text) };
    append_events(store, &stream("order-1"), &[fact("a"), fact("b")]);
    let call = Append { stream: stream("order-1@x"), expected: Expected::Next(1), facts: vec![fact("c")] };
    store.commit(&[call], "").must("diverging");
    append_events(store, &stream("bill-1@y"), &[fact("d")]);
    let correlated: Vec<_> = store.correlated("w").must("asking for a correlation id").into_iter().collect();
    let found: BTreeMap<String, Vec<String>> =
        correlated.iter().map(|(stream, events)| (stream.to_string(), texts(events))).collect();
    let wanted = [("order-1", vec!["a", "b"]), ("order-1@x", vec!["c"]), ("bill-1@y", vec!["d"])];
    let wanted = wanted.map(|(name, texts)| (name.to_owned(), texts.into_iter().map(str::to_owned).collect()));
    assert_eq!(found, BTreeMap::from(wanted));
}

/// The same idempotency key in an edition is another one.
pub fn keys_belong_to_their_edition<B: EventStore>(store: &B) {
    let keyed = |name| store.commit(&[part(name, Expected::Any, &["x"])], "k").must("a commit with a key").duplicate;
    for name in ["order-1", "order-1@x", "order-1@y"] {
        assert!(!keyed(name), "{name} has no commit with this key yet");
        assert!(keyed(name), "{name} has one now");
    }
}

/// Editions that have events of their own are listed, with their number.
pub fn editions_are_listed<B: EventStore>(store: &B) {
    assert!(listed(store).is_empty(), "there is none");
    diverged(store);
    append(store, "bill-1@x", Expected::Any, &["b0"]);
    append(store, "order-1@y", Expected::Any, &["y5"]);
    texts_of(store, "order-1@z");
    assert_eq!(listed(store), [("x".to_owned(), 3), ("y".to_owned(), 1)], "reading makes no edition");
}

/// Main cannot be deleted, under either name, as a whole or in part.
pub fn main_cannot_be_deleted<B: EventStore>(store: &B) {
    diverged(store);
    let before = everything(store);
    for (name, domain) in [("main", None), ("", None), ("main", Some("order")), ("", Some("order"))] {
        let refused = store.delete_edition(name, domain);
        assert!(refused.is_err(), "main ({name:?}) cannot be deleted, not even {domain:?}");
    }
    assert!(everything(store) == before, "what is refused leaves nothing");
}

/// Deleting an edition returns the number of its events; then its streams read as main, and
/// continue as if it had never existed.
pub fn deleting_gives_back_main<B: EventStore>(store: &B) {
    diverged(store);
    append(store, "bill-1@x", Expected::Any, &["b0"]);
    append(store, "order-1@y", Expected::Next(1), &["y1"]);
    assert_eq!(delete(store, "x", None), 3, "the number of events that are gone");
    assert_eq!(texts_of(store, "order-1@x"), ["m0", "m1", "m2", "m3", "m4"]);
    assert_eq!(next_sequence(store, "order-1@x"), 5);
    assert_eq!(texts_of(store, "bill-1@x"), [""; 0]);
    assert_eq!(next_sequence(store, "bill-1@x"), 0);
    assert_eq!(texts_of(store, "order-1"), ["m0", "m1", "m2", "m3", "m4"], "main is unchanged");
    assert_eq!(texts_of(store, "order-1@y"), ["m0", "y1"], "others are as they were");
    assert_eq!(listed(store), [("y".to_owned(), 1)]);
}

/// An edition can be deleted in one domain, whatever it has in others.
pub fn deleting_one_domain_leaves_the_others<B: EventStore>(store: &B) {
    diverged(store);
    append(store, "bill-1@x", Expected::Any, &["b0"]);
    append(store, "orders-1@x", Expected::Any, &["o0"]);
    append(store, "order-1@y", Expected::Next(1), &["y1"]);
    assert_eq!(delete(store, "x", Some("order")), 2);
    assert_eq!(texts_of(store, "order-1@x"), ["m0", "m1", "m2", "m3", "m4"]);
    assert_eq!(texts_of(store, "bill-1@x"), ["b0"]);
    assert_eq!(texts_of(store, "orders-1@x"), ["o0"]);
    assert_eq!(texts_of(store, "order-1@y"), ["m0", "y1"]);
    assert_eq!(listed(store), [("x".to_owned(), 2), ("y".to_owned(), 1)]);
    assert_eq!(found(store, &in_edition("x")), ["m0", "m1", "m2", "m3", "m4", "b0", "o0"]);
    assert_eq!(delete(store, "x", None), 2, "what is left goes with the rest");
    assert_eq!(listed(store), [("y".to_owned(), 1)]);
}

/// Deleting something that does not exist returns 0, and no error.
pub fn deleting_what_is_not_there_gives_0<B: EventStore>(store: &B) {
    assert_eq!(delete(store, "x", None), 0);
    diverged(store);
    let before = everything(store);
    assert_eq!(delete(store, "nobody", None), 0);
    assert_eq!(delete(store, "X", None), 0, "names are taken as they are");
    assert_eq!(delete(store, "x", Some("bill")), 0);
    assert!(everything(store) == before);
    assert_eq!(delete(store, "x", None), 2);
    assert_eq!(delete(store, "x", None), 0, "it is gone already");
}

/// Readers skip the positions of deleted events; they are not assigned again.
pub fn positions_of_deleted_events_are_holes<B: EventStore>(store: &B) {
    diverged(store);
    append(store, "order-1", Expected::Any, &["m5"]);
    append(store, "order-1@x", Expected::Any, &["e4"]);
    let before = everything(store);
    assert_eq!(delete(store, "x", None), 3);
    let positions = |events: &[RecordedEvent]| events.iter().map(|event| event.position).collect::<Vec<_>>();
    let after = everything(store);
    assert_eq!(positions(&after), [0, 1, 2, 3, 4, 7], "the other events keep their positions");
    let mut backwards = store.read_all(&Reading { backwards: true, ..Reading::default() }).must("a read backwards");
    backwards.reverse();
    assert!(backwards == after, "backwards, it is the same");
    let hole = Reading { from: 5, to: 7, ..Reading::default() };
    assert!(store.read_all(&hole).must("a read of a hole").is_empty(), "a hole holds nothing");
    let from_hole = Reading { from: 5, limit: 1, ..Reading::default() };
    assert_eq!(texts(&store.read_all(&from_hole).must("a read from a hole on")), ["m5"], "a hole does not count");
    append(store, "order-1@x", Expected::Any, &["new"]);
    let last = everything(store).pop().map(|event| event.position);
    assert!(last > before.last().map(|event| event.position), "positions are not given again");
}

/// Deleted events are never found.
pub fn deleted_events_are_not_found<B: EventStore>(store: &B) {
    begin(store, 2);
    let fact = |text: &str| EventData {
        tags: vec!["a".to_owned()],
        correlation_id: Some("w".to_owned()),
        ..EventData::new("Deleted", text)
    };
    append_events(store, &stream("order-1@x"), &[fact("e2"), fact("e3")]);
    append_events(store, &stream("order-1@y"), &[fact("y2")]);
    delete(store, "x", None);
    assert_eq!(found(store, &in_edition("x")), ["m0", "m1"]);
    assert_eq!(found(store, &Criteria { tag: Some("a".to_owned()), ..in_edition("x") }), [""; 0]);
    assert_eq!(found(store, &Criteria { event_type: Some("Deleted".to_owned()), ..in_edition("x") }), [""; 0]);
    assert_eq!(found(store, &Criteria { tag: Some("a".to_owned()), ..in_edition("y") }), ["y2"]);
    let correlated = store.correlated("w").must("asking for a correlation id");
    let streams: Vec<String> = correlated.keys().map(ToString::to_string).collect();
    assert_eq!(streams, ["order-1@y"]);
    let as_of = Reading { as_of: Some(AsOf::Position(3)), ..Reading::default() };
    assert_eq!(texts(&read(store, "order-1@x", &as_of)), ["m0", "m1"], "nor by going back in time");
}

/// A deleted edition may be begun again, at another point, and with the same keys.
pub fn deleted_editions_may_begin_again<B: EventStore>(store: &B) {
    begin(store, 5);
    let keyed = |sequence, text| store.commit(&[part("order-1@x", Expected::Next(sequence), &[text])], "k");
    assert!(!keyed(2, "e2").must("the first commit with a key").duplicate);
    assert_eq!(delete(store, "x", None), 1);
    assert!(!keyed(4, "n4").must("a commit with a key that is gone").duplicate, "keys go with their edition");
    assert_eq!(texts_of(store, "order-1@x"), ["m0", "m1", "m2", "m3", "n4"]);
    assert!(keyed(4, "n4").must("a repeat").duplicate);
    append(store, "order-1@x", Expected::Next(5), &["n5"]);
    assert_eq!(listed(store), [("x".to_owned(), 2)], "only what is there now counts");
    assert_eq!(delete(store, "x", None), 2);
    assert_eq!(append(store, "order-1@x", Expected::NoStream, &["z0"]), 0..1);
    assert_eq!(texts_of(store, "order-1@x"), ["z0"]);
}

const ROUNDS: u64 = 40;

/// Appends, deletes and reads of editions race: each reader sees a consistent stream, and each
/// event is deleted once or still there.
pub fn appends_deletes_and_reads_race<B: EventStore>(store: &B) {
    begin(store, 5);
    let (appended, deleted, done) = (AtomicU64::new(0), AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let write = |name: &'static str| {
            let appended = &appended;
            move || {
                for _ in 0..ROUNDS {
                    append(store, name, Expected::Any, &["e", "f"]);
                    appended.fetch_add(2, Ordering::Relaxed);
                }
            }
        };
        let writers = [scope.spawn(write("order-1@x")), scope.spawn(write("bill-1@x"))];
        let main = scope.spawn(|| {
            for _ in 0..ROUNDS {
                append(store, "order-1", Expected::Any, &["m"]);
            }
        });
        let deleter = scope.spawn(|| {
            for round in 0..ROUNDS {
                let count = delete(store, "x", (round % 3 == 0).then_some("order"));
                deleted.fetch_add(count, Ordering::Relaxed);
            }
        });
        let readers = [false, true].map(|backwards| {
            let done = &done;
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    sees_a_whole(store, backwards);
                }
            })
        });
        let ended = writers.map(|thread| thread.join()).into_iter().chain([main.join(), deleter.join()]);
        let ended: Vec<_> = ended.collect();
        // Before anything panics here, or the readers would never end.
        done.store(true, Ordering::Relaxed);
        ended.into_iter().for_each(|ended| ended.expect("who writes or deletes must not panic"));
        readers.into_iter().for_each(|thread| thread.join().expect("a reader must not panic"));
    });
    let left: u64 = listed(store).iter().map(|(_, count)| count).sum();
    let (appended, deleted) = (appended.into_inner(), deleted.into_inner());
    assert_eq!(deleted + left, appended, "each event was deleted once, or is still there");
    let own = everything(store).iter().filter(|event| event.stream.edition().is_some()).count() as u64;
    assert_eq!(own, left, "what is listed is what can be read");
    assert_eq!(next_sequence(store, "order-1"), 5 + ROUNDS, "main has all of its own");
}

/// Main up to a point, and then the edition's own, with all events of a commit.
#[track_caller]
fn sees_a_whole<B: EventStore>(store: &B, backwards: bool) {
    let mut events = read(store, "order-1@x", &Reading { backwards, ..Reading::default() });
    if backwards {
        events.reverse();
    }
    dense(&events);
    let main = events.iter().take_while(|event| event.stream.edition().is_none()).count();
    assert!(main >= 5, "main is shared as far as it was there");
    let own = &events[main..];
    assert!(own.iter().all(|event| event.stream.edition().is_some()), "main does not show through");
    assert!(own.len().is_multiple_of(2), "a commit is seen as a whole");
    assert!(texts(own).chunks(2).all(|two| two == ["e", "f"]));
}
