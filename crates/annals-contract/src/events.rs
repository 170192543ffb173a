//! Streams, commits and queries.

use super::verbs::{
    Must, append, append_events, begin, dense, everything, found, next_sequence, part, read, refused, stream, texts,
    texts_of, try_append,
};
use super::{Append, Criteria, EventData, EventStore, Reading};
use annals::{AsOf, Expected, StreamId, Timestamp};

/// Events come back in the order in which they were appended: sequences are 0, 1, 2 … in a stream,
/// positions rise without gaps over all, and times do not fall.
pub fn events_come_back_in_order<B: EventStore>(store: &B) {
    for n in 0..6 {
        let name = format!("order-{}", n % 2);
        let sequences = append(store, &name, Expected::Any, &[&format!("{n}a"), &format!("{n}b")]);
        assert_eq!(sequences, n / 2 * 2..n / 2 * 2 + 2, "an append tells the sequences of its events");
    }
    assert_eq!(texts_of(store, "order-0"), ["0a", "0b", "2a", "2b", "4a", "4b"]);
    assert_eq!(texts_of(store, "order-1"), ["1a", "1b", "3a", "3b", "5a", "5b"]);
    let all = everything(store);
    let positions: Vec<u64> = all.iter().map(|event| event.position).collect();
    assert_eq!(positions, (0..12).collect::<Vec<_>>(), "positions are 0, 1, 2 … in the order of commits");
    assert!(all.is_sorted_by_key(|event| event.recorded_at), "the times of recording never fall");
    let of_stream: Vec<_> = all.into_iter().filter(|event| event.stream == stream("order-1")).collect();
    assert_eq!(read(store, "order-1", &Reading::default()), of_stream, "a stream holds the events that the store does");
}

/// All fields come back unchanged: empty data, text, zeros, any bytes, and the other fields.
pub fn content_comes_back_to_the_byte<B: EventStore>(store: &B) {
    let facts = [
        EventData::new("Empty", ""),
        EventData::new("Zürich, 東京, 🦀", "Grüße, \u{202e}abc, e\u{301}"),
        EventData::new("Zeros", "\0a\0\0"),
        EventData::new("Bytes", (0..=255).collect::<Vec<u8>>()),
        EventData::new("Lines", "a\r\nb\n"),
        EventData { metadata: vec![0, 0xFF, b'"'], ..EventData::new("T", "with metadata") },
        EventData { tags: vec!["b:2".into(), "a:1".into(), "überall".into()], ..EventData::new("T", "with tags") },
        EventData {
            correlation_id: Some("wf-1 '%".into()),
            causation_id: Some("cmd-1".into()),
            ..EventData::new("T", "ids")
        },
        EventData {
            occurred_at: Some(Timestamp::from_nanos(-14_182_980_000_000_001)),
            ..EventData::new("T", "before 1970")
        },
        EventData { occurred_at: Some(Timestamp::from_nanos(0)), ..EventData::new("T", "in 1970") },
    ];
    append_events(store, &stream("order-1"), &facts);
    let events = read(store, "order-1", &Reading::default());
    assert_eq!(events.len(), facts.len(), "each fact is an event");
    for (event, fact) in events.iter().zip(&facts) {
        assert_eq!(&event.fact, fact, "what a writer said comes back to the byte");
        assert_eq!(event.stream, stream("order-1"), "an event tells its stream");
    }
}

/// Data of 1 MiB come back identical.
pub fn a_mebibyte_comes_back<B: EventStore>(store: &B) {
    let data: Vec<u8> = (0..1u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    append_events(
        store,
        &stream("blob-1"),
        &[EventData::new("T", "before"), EventData::new("T", data.clone()), EventData::new("T", "after")],
    );
    let events = read(store, "blob-1", &Reading::default());
    assert_eq!(events.len(), 3);
    assert!(events[1].fact.data == data, "1 MiB comes back to the byte");
    assert_eq!((&*events[0].fact.data, &*events[2].fact.data), (&b"before"[..], &b"after"[..]));
}

/// Roots whose bytes are hard to keep apart, or to store at all.
pub(super) fn odd_roots() -> Vec<Vec<u8>> {
    let mut roots: Vec<Vec<u8>> = [
        "", " ", "1", "01", "1 ", "a-b", "a@b", "@main", "%", "%00", "a/../b", "'; --", "A", "a", "é", "e\u{301}", "\n",
    ]
    .iter()
    .map(|text| text.as_bytes().to_vec())
    .collect();
    roots.extend([
        vec![0],
        vec![0, 0],
        vec![0xFF],
        vec![0xFF, 0xFE],
        (0..=255).collect(),
        vec![b'x'; 4096],
        vec![b'x'; 4095],
    ]);
    roots
}

/// A root is any bytes, and each is another stream: nothing is folded, cut or taken for something
/// else.
pub fn odd_roots_are_roots<B: EventStore>(store: &B) {
    let streams: Vec<StreamId> =
        odd_roots().iter().map(|root| StreamId::new("order", root).expect("any bytes are a root")).collect();
    for (n, stream) in streams.iter().enumerate() {
        append_events(store, stream, &[EventData::new("T", n.to_string())]);
    }
    for (n, stream) in streams.iter().enumerate() {
        let events = store.read(stream, &Reading::default()).must("a read of an odd root");
        assert_eq!(texts(&events), [n.to_string()], "{stream} holds its own event and no other");
        assert_eq!(events[0].stream, *stream, "the root comes back to the byte");
        assert_eq!(store.next_sequence(stream).must("asking for the next sequence"), 1, "of {stream}");
    }
}

/// Streams that differ only in domain, root or edition are different, even if the parts run
/// together to the same text.
pub fn streams_are_apart<B: EventStore>(store: &B) {
    let of = |domain: &str, root: &str| StreamId::new(domain, root).expect("a sound name");
    let in_edition = |domain, root, edition: &str| of(domain, root).in_edition(edition).expect("a sound name");
    let streams = [
        of("order", "1"),
        of("order", "2"),
        of("orders", "1"),
        of("Order", "1"),
        of("order-1", ""),
        of("order", ""),
        of("a", "b-c"),
        of("a-b", "c"),
        in_edition("bill", "1", "x"),
        in_edition("bill", "1", "y"),
        in_edition("bill", "1", "X"),
        of("bill", "1@x"),
        of("bill", "1"),
    ];
    for (n, stream) in streams.iter().enumerate() {
        let append = Append {
            stream: stream.clone(),
            expected: Expected::NoStream,
            facts: vec![EventData::new("T", n.to_string())],
        };
        store.commit(&[append], "").must(&format!("the first append to {stream}"));
    }
    for (n, stream) in streams.iter().enumerate() {
        let events = store.read(stream, &Reading::default()).must("a read");
        assert_eq!(texts(&events), [n.to_string()], "{stream} holds its own event and no other");
    }
    assert_eq!(everything(store).len(), streams.len());
}

/// Reads of unknown streams, past the end and of empty ranges return nothing, and no error.
pub fn nothing_is_read_where_nothing_is<B: EventStore>(store: &B) {
    assert!(read(store, "order-1", &Reading::default()).is_empty(), "an empty store holds nothing");
    assert!(everything(store).is_empty(), "an empty store holds nothing");
    assert_eq!(next_sequence(store, "order-1"), 0);
    begin(store, 3);
    let empty = [(0, 0), (1, 1), (2, 1), (3, 4), (3, u64::MAX), (u64::MAX, u64::MAX), (u64::MAX, 0)];
    for ((from, to), backwards) in empty.into_iter().flat_map(|range| [(range, false), (range, true)]) {
        let reading = Reading { from, to, backwards, ..Reading::default() };
        assert!(read(store, "order-1", &reading).is_empty(), "[{from}, {to}) holds nothing");
        assert!(store.read_all(&reading).must("a read of an empty range").is_empty(), "[{from}, {to}) holds nothing");
    }
    let none = Reading { limit: 0, ..Reading::default() };
    assert!(read(store, "order-1", &none).is_empty(), "a limit of 0 gives nothing");
    for name in ["order-2", "order", "bill-1", "order-11", "bill-1@x"] {
        assert!(read(store, name, &Reading::default()).is_empty(), "{name} is unknown, and holds nothing");
        assert_eq!(next_sequence(store, name), 0, "{name} is unknown, and begins at 0");
    }
}

/// `from` and `to` bound a read, `to` excluded; a limit counts from where the read begins;
/// backwards is the same in reverse.
pub fn ranges_limits_and_backwards<B: EventStore>(store: &B) {
    begin(store, 4);
    grid(store, "order-1", &["m0", "m1", "m2", "m3"]);
}

/// Every range and limit over a stream of four events.
#[track_caller]
pub(super) fn grid<B: EventStore>(store: &B, name: &str, whole: &[&str]) {
    for from in 0..6 {
        for to in 0..6 {
            for limit in [0, 1, 2, 5] {
                let reading = Reading { from, to, limit, ..Reading::default() };
                let within = whole.iter().copied().take(to as usize).skip(from as usize);
                let wanted: Vec<&str> = within.clone().take(limit as usize).collect();
                assert_eq!(texts(&read(store, name, &reading)), wanted, "{reading:?}");
                let wanted: Vec<&str> = within.rev().take(limit as usize).collect();
                let reading = Reading { backwards: true, ..reading };
                assert_eq!(texts(&read(store, name, &reading)), wanted, "{reading:?}");
            }
        }
    }
}

/// The whole store can be read from a position on, in part, and backwards.
pub fn the_whole_store_in_order_of_positions<B: EventStore>(store: &B) {
    for n in 0..5 {
        append(store, &format!("order-{n}"), Expected::NoStream, &[&n.to_string()]);
    }
    let all = |reading: Reading| texts(&store.read_all(&reading).must("a read of the whole store"));
    let whole = Reading::default();
    assert_eq!(all(whole.clone()), ["0", "1", "2", "3", "4"]);
    assert_eq!(all(Reading { from: 3, ..whole.clone() }), ["3", "4"]);
    assert_eq!(all(Reading { from: 1, to: 3, ..whole.clone() }), ["1", "2"]);
    assert_eq!(all(Reading { limit: 2, ..whole.clone() }), ["0", "1"]);
    assert_eq!(all(Reading { backwards: true, limit: 2, ..whole.clone() }), ["4", "3"]);
    assert_eq!(all(Reading { backwards: true, from: 1, to: 3, ..whole }), ["2", "1"]);
}

/// The next sequence is the number of events, at once after each append.
pub fn the_next_sequence_counts<B: EventStore>(store: &B) {
    for n in 0..4 {
        assert_eq!(next_sequence(store, "order-1"), n, "a stream of {n} events");
        append(store, "order-1", Expected::Next(n), &["x"]);
        append(store, "order-2", Expected::Any, &["x", "y"]);
    }
    assert_eq!((next_sequence(store, "order-1"), next_sequence(store, "order-2")), (4, 8));
    assert_eq!(next_sequence(store, "order-3"), 0);
}

/// A writer that expects a sequence that is taken gets a conflict, and nothing is stored.
pub fn a_stale_writer_is_refused<B: EventStore>(store: &B) {
    begin(store, 3);
    for stale in 0..3 {
        refused(store, &[part("order-1", Expected::Next(stale), &["late"])], "a stale sequence");
        refused(store, &[part("order-1", Expected::Next(stale), &["late", "later"])], "a stale sequence");
    }
    assert_eq!(append(store, "order-1", Expected::Next(3), &["in time"]), 3..4, "what was refused takes no sequence");
}

/// A writer that expects a sequence that is not reached gets a conflict, and nothing is stored.
pub fn a_future_sequence_is_refused<B: EventStore>(store: &B) {
    refused(store, &[part("order-1", Expected::Next(1), &["early"])], "a future sequence of an unknown stream");
    begin(store, 3);
    for future in [4, 5, 1 << 40, u64::MAX] {
        refused(store, &[part("order-1", Expected::Next(future), &["early"])], "a future sequence");
    }
    assert_eq!(append(store, "order-1", Expected::Next(3), &["in time"]), 3..4, "what was refused takes no sequence");
}

/// The parts of a call that name the same stream must follow each other: if one leaves a gap, all
/// of them are refused.
pub fn a_gap_inside_a_call_is_refused_whole<B: EventStore>(store: &B) {
    begin(store, 1);
    let call = [part("order-1", Expected::Next(1), &["1"]), part("order-1", Expected::Next(3), &["3"])];
    refused(store, &call, "a gap inside of a call");
    let call = [part("order-2", Expected::Next(0), &["0", "1"]), part("order-2", Expected::Next(3), &["3"])];
    refused(store, &call, "a gap inside of a call to a new stream");
    let call = [part("order-1", Expected::Next(1), &["1"]), part("order-1", Expected::Next(2), &["2"])];
    let stored = store.commit(&call, "").must("a call without a gap");
    assert_eq!(stored.sequences, [1..2, 2..3]);
    assert_eq!(texts_of(store, "order-1"), ["m0", "1", "2"]);
}

/// If a part of a call repeats a sequence of another part, all of them are refused.
pub fn a_repeat_inside_a_call_is_refused_whole<B: EventStore>(store: &B) {
    begin(store, 1);
    let call = [part("order-1", Expected::Next(1), &["1"]), part("order-1", Expected::Next(1), &["1"])];
    refused(store, &call, "a repeat inside of a call");
    let call = [part("order-2", Expected::NoStream, &["0"]), part("order-2", Expected::NoStream, &["0"])];
    refused(store, &call, "a repeat inside of a call to a new stream");
    let call = [
        part("order-2", Expected::Next(0), &["0", "1"]),
        part("order-1", Expected::Next(1), &["other"]),
        part("order-2", Expected::Next(1), &["1"]),
    ];
    refused(store, &call, "a repeat with another stream between");
    assert_eq!(append(store, "order-1", Expected::Next(1), &["1"]), 1..2, "what was refused takes no sequence");
}

/// What each expectation accepts, for streams of 0, 1 and 2 events.
pub fn expectations_hold<B: EventStore>(store: &B) {
    use Expected::{Any, Exists, Next, NoStream};
    for (count, expected, goes_through) in [
        (0, Any, true),
        (0, NoStream, true),
        (0, Exists, false),
        (0, Next(0), true),
        (0, Next(1), false),
        (1, Any, true),
        (1, NoStream, false),
        (1, Exists, true),
        (1, Next(0), false),
        (1, Next(1), true),
        (1, Next(2), false),
        (2, Any, true),
        (2, NoStream, false),
        (2, Exists, true),
        (2, Next(1), false),
        (2, Next(2), true),
        (2, Next(3), false),
    ] {
        let name = format!("{expected:?}-{count}").replace(['(', ')'], "");
        (0..count).for_each(|n| assert_eq!(append(store, &name, Any, &["x"]), n..n + 1));
        if goes_through {
            assert_eq!(append(store, &name, expected, &["y"]), count..count + 1, "{expected} with {count} events");
        } else {
            refused(store, &[part(&name, expected, &["y"])], &format!("{expected} with {count} events"));
        }
    }
}

/// An append without events checks its expectation, alone and with others, and changes nothing.
pub fn an_append_of_nothing_changes_nothing<B: EventStore>(store: &B) {
    begin(store, 2);
    let before = everything(store);
    try_append(store, "order-1", Expected::Any, &[]).must("an append of nothing");
    try_append(store, "order-1", Expected::Next(2), &[]).must("an append of nothing that expects what is there");
    refused(store, &[part("order-1", Expected::Next(7), &[])], "an append of nothing with a wrong expectation");
    store.commit(&[], "").must("a commit of nothing");
    assert!(everything(store) == before, "an append of nothing changes nothing");
    assert_eq!(next_sequence(store, "order-1"), 2);
    let call = [part("order-1", Expected::Next(7), &[]), part("order-2", Expected::Any, &["x"])];
    refused(store, &call, "an expectation without events, beside events");
    let call = [part("order-1", Expected::Next(2), &[]), part("order-2", Expected::Any, &["x"])];
    store.commit(&call, "").must("an expectation without events that holds");
    assert_eq!(texts_of(store, "order-2"), ["x"]);
}

/// A commit of several streams stores each part in its stream, in order, at positions that follow
/// each other.
pub fn a_commit_of_several_streams_is_stored<B: EventStore>(store: &B) {
    begin(store, 2);
    let call = [
        part("order-1", Expected::Next(2), &["a", "b"]),
        part("bill-1", Expected::NoStream, &["c"]),
        part("stock-1", Expected::Any, &["d"]),
        part("order-1", Expected::Next(4), &["e"]),
    ];
    let stored = store.commit(&call, "").must("a commit that is as expected");
    assert_eq!(stored.sequences, [2..4, 0..1, 0..1, 4..5], "a commit tells the sequences of each part");
    assert_eq!(stored.positions, 2..7, "the positions of a commit follow each other");
    assert_eq!(texts(&everything(store)), ["m0", "m1", "a", "b", "c", "d", "e"]);
    assert_eq!(texts_of(store, "order-1"), ["m0", "m1", "a", "b", "e"]);
    let times: Vec<_> = everything(store)[2..].iter().map(|event| event.recorded_at).collect();
    assert!(times.windows(2).all(|two| two[0] == two[1]), "the events of a commit are recorded at one time");
}

/// If one part of a commit is not as expected, nothing of it is stored in any stream.
pub fn a_commit_of_several_streams_is_refused_whole<B: EventStore>(store: &B) {
    begin(store, 2);
    let call = [
        part("bill-1", Expected::NoStream, &["a"]),
        part("order-1", Expected::Next(2), &["b"]),
        part("stock-1", Expected::Exists, &["c"]),
    ];
    refused(store, &call, "the last part is not as expected");
    let call = [part("order-1", Expected::Next(1), &["b"]), part("bill-1", Expected::NoStream, &["a"])];
    refused(store, &call, "the first part is not as expected");
    assert_eq!((next_sequence(store, "order-1"), next_sequence(store, "bill-1")), (2, 0));
    assert!(read(store, "bill-1", &Reading::default()).is_empty());
    let call = [part("bill-1", Expected::NoStream, &["a"]), part("order-1", Expected::Next(2), &["b"])];
    let stored = store.commit(&call, "").must("the commit, decided again,");
    assert_eq!(stored.positions, 2..4, "what was refused takes no position");
}

/// A read as of a position returns what had been stored up to it, included.
pub fn as_of_a_position<B: EventStore>(store: &B) {
    for n in 0..6 {
        append(store, &format!("order-{}", n % 2), Expected::Any, &[&n.to_string()]);
    }
    as_of_gives(store, AsOf::Position, |event| event.position, [0, 1, 2, 3, 4, 5, 6, u64::MAX]);
}

/// A read as of a time returns what had been recorded by then, included.
pub fn as_of_a_time<B: EventStore>(store: &B) {
    for n in 0..6 {
        append(store, &format!("order-{}", n % 2), Expected::Any, &[&n.to_string()]);
    }
    let recorded: Vec<Timestamp> = everything(store).iter().map(|event| event.recorded_at).collect();
    let earlier = recorded.iter().map(|time| Timestamp::from_nanos(time.as_nanos() - 1));
    let times: Vec<Timestamp> =
        recorded.iter().copied().chain(earlier).chain([Timestamp::MIN, Timestamp::MAX]).collect();
    as_of_gives(store, AsOf::Time, |event| event.recorded_at, times);
}

fn as_of_gives<B: EventStore, P: PartialOrd + Copy>(
    store: &B,
    point: fn(P) -> AsOf,
    of: fn(&super::RecordedEvent) -> P,
    points: impl IntoIterator<Item = P>,
) {
    let all = everything(store);
    let limited = |as_of, backwards| Reading { as_of: Some(as_of), backwards, limit: 2, ..Reading::default() };
    for at in points {
        let as_of = point(at);
        let reading = Reading { as_of: Some(as_of), ..Reading::default() };
        let known: Vec<_> = all.iter().filter(|event| of(event) <= at).cloned().collect();
        assert_eq!(texts(&store.read_all(&reading).must("a read as of a point")), texts(&known), "all as of {as_of:?}");
        let in_stream: Vec<_> = known.iter().filter(|event| event.stream == stream("order-1")).cloned().collect();
        assert_eq!(texts(&read(store, "order-1", &reading)), texts(&in_stream), "a stream as of {as_of:?}");
        let newest: Vec<_> = in_stream.iter().rev().take(2).cloned().collect();
        assert_eq!(texts(&read(store, "order-1", &limited(as_of, true))), texts(&newest), "the newest as of {as_of:?}");
        let criteria = Criteria { as_of: Some(as_of), ..Criteria::default() };
        assert_eq!(found(store, &criteria), texts(&known), "a query as of {as_of:?}");
    }
}

/// A commit that is repeated with its key stores nothing, whatever else it has, and returns what
/// the first one has stored.
pub fn a_repeated_key_stores_nothing<B: EventStore>(store: &B) {
    begin(store, 2);
    let pay = [part("order-1", Expected::Next(2), &["paid"]), part("bill-1", Expected::Any, &["settled"])];
    let first = store.commit(&pay, "request-42").must("the first commit with a key");
    assert!(!first.duplicate, "the first commit with a key is no duplicate");
    append(store, "order-1", Expected::Next(3), &["shipped"]);
    let before = everything(store);
    let other_hopes =
        [part("order-1", Expected::Next(99), &["paid"]), part("bill-1", Expected::NoStream, &["settled"])];
    for (what, appends) in [("the same again, now stale,", &pay), ("other expectations", &other_hopes)] {
        let again = store.commit(appends, "request-42").must(what);
        assert!(again.duplicate, "{what}: a repeat is marked as a duplicate");
        assert_eq!(again.sequences, first.sequences, "{what}: a repeat gives the result of the first");
        assert_eq!(again.positions, first.positions, "{what}: a repeat gives the result of the first");
        assert!(everything(store) == before, "{what}: a repeat stores nothing");
    }
    for (what, appends) in [
        ("other events under the key", &[part("order-1", Expected::Any, &["other", "events"])][..]),
        ("one of its streams under the key", &pay[1..]),
        ("its streams in another order under the key", &[pay[1].clone(), pay[0].clone()]),
    ] {
        let refused = store.commit(appends, "request-42");
        assert!(refused.is_err(), "{what}: it must be refused, and gave {refused:?}");
        assert!(everything(store) == before, "{what}: nothing is stored");
    }
    for key in ["request-43", "request-4", "Request-42", " request-42"] {
        let other = store.commit(&[part("order-1", Expected::Any, &["x"])], key).must("another key");
        assert!(!other.duplicate, "{key:?} is another key");
    }
    for _ in 0..2 {
        let none = store.commit(&[part("order-1", Expected::Any, &["x"])], "").must("no key");
        assert!(!none.duplicate, "the empty key is none");
    }
}

/// The same key in another stream is another request.
pub fn a_key_belongs_to_its_streams<B: EventStore>(store: &B) {
    for name in ["order-1", "order-2", "bill-1"] {
        let stored = store.commit(&[part(name, Expected::NoStream, &["x"])], "k").must("the first of a stream");
        assert!(!stored.duplicate, "{name} has no commit with this key yet");
        let again = store.commit(&[part(name, Expected::NoStream, &["x"])], "k").must("the second of a stream");
        assert!(again.duplicate, "{name} has one now");
    }
    assert_eq!(everything(store).len(), 3);
}

/// A commit that was refused leaves its key free.
pub fn the_key_of_a_refused_commit_is_free<B: EventStore>(store: &B) {
    begin(store, 2);
    let stale = store.commit(&[part("order-1", Expected::Next(1), &["x"])], "k");
    assert!(stale.is_err(), "a stale sequence is refused, with a key as without");
    let retried = store.commit(&[part("order-1", Expected::Next(2), &["x"])], "k").must("the commit, decided again,");
    assert!(!retried.duplicate, "nothing was stored under this key");
    assert_eq!(texts_of(store, "order-1"), ["m0", "m1", "x"]);
}

/// A query finds the events that match all of its conditions, and no others.
pub fn queries_find_what_fits<B: EventStore>(store: &B) {
    let fact = |event_type: &str, text: &str, tags: &[&str]| EventData {
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        ..EventData::new(event_type, text)
    };
    append_events(
        store,
        &stream("order-1"),
        &[fact("Placed", "a", &["customer:7"]), fact("Paid", "b", &["customer:7", "web"])],
    );
    append_events(store, &stream("order-2"), &[fact("Placed", "c", &["customer:77"])]);
    append_events(store, &stream("orders-1"), &[fact("Placed", "d", &["web"])]);
    append_events(store, &stream("bill-1"), &[fact("Paid", "e", &["customer:7"])]);
    let text = |text: &str| Some(text.to_owned());
    let all = Criteria::default();
    let domain = |name| Criteria { domain: text(name), ..all.clone() };
    assert_eq!(found(store, &all), ["a", "b", "c", "d", "e"], "without conditions, all fit");
    assert_eq!(found(store, &domain("order")), ["a", "b", "c"]);
    assert_eq!(found(store, &Criteria { event_type: text("Placed"), ..all.clone() }), ["a", "c", "d"]);
    assert_eq!(found(store, &Criteria { tag: text("customer:7"), ..all.clone() }), ["a", "b", "e"]);
    assert_eq!(found(store, &Criteria { event_type: text("Paid"), ..domain("order") }), ["b"]);
    assert_eq!(found(store, &Criteria { event_type: text("Placed"), tag: text("web"), ..all.clone() }), ["d"]);
    assert_eq!(found(store, &Criteria { tag: text("web"), ..domain("order") }), ["b"]);
    for nothing in [
        domain("nobody"),
        domain("Order"),
        Criteria { event_type: text("Pla"), ..all.clone() },
        Criteria { tag: text("customer:"), ..all },
    ] {
        assert!(found(store, &nothing).is_empty(), "{nothing:?} finds nothing");
    }
}

/// All events of one correlation id, of all domains, grouped by stream. The empty id matches
/// nothing.
pub fn correlated_events_come_by_stream<B: EventStore>(store: &B) {
    let fact = |id: &str, text: &str| EventData {
        correlation_id: (!id.is_empty()).then(|| id.to_owned()),
        ..EventData::new("T", text)
    };
    append_events(store, &stream("order-1"), &[fact("w", "a"), fact("v", "b"), fact("w", "c")]);
    append_events(store, &stream("bill-1"), &[fact("w", "d"), fact("", "e")]);
    append_events(store, &stream("order-2"), &[fact("ww", "f"), fact("", "g")]);
    append_events(store, &stream("order-1"), &[fact("w", "h")]);
    let correlated = |id| -> Vec<(String, Vec<String>)> {
        let found = store.correlated(id).must("asking for a correlation id");
        found.iter().map(|(stream, events)| (stream.to_string(), texts(events))).collect()
    };
    let strings = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
    assert_eq!(correlated("w"), [("bill-1".into(), strings(&["d"])), ("order-1".into(), strings(&["a", "c", "h"]))]);
    assert_eq!(correlated("v"), [("order-1".into(), strings(&["b"]))]);
    assert_eq!(correlated("nobody"), [], "an unknown id finds nothing");
    assert_eq!(correlated(""), [], "the empty id finds nothing");
    dense(&read(store, "order-1", &Reading::default()));
}
