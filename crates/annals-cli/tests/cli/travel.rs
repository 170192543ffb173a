//! What `export` and `import` preserve, and what they do not.

use super::*;
use annals::{ContentType, Event, Outcome, Query};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// An operation on a store.
#[derive(Clone, Debug)]
enum Step {
    Append { stream: String, back: u64, events: Vec<Given>, tracking: Option<(&'static str, u64)>, later: i64 },
    Track(&'static str, u64),
    Delete(&'static str, Option<&'static str>),
}

/// An event with all fields.
#[derive(Clone, Debug)]
struct Given {
    event_type: String,
    data: Vec<u8>,
    metadata: Vec<u8>,
    content_type: ContentType,
    schema_version: u32,
    id: Option<u128>,
    occurred_at: Option<i64>,
    correlation: String,
    causation: String,
    tags: Vec<String>,
}

impl Given {
    fn event(&self) -> NewEvent<'_> {
        let event = NewEvent::new(&self.event_type, &self.data)
            .content_type(self.content_type.clone())
            .schema_version(self.schema_version)
            .metadata(&self.metadata)
            .correlation_id(&self.correlation)
            .causation_id(&self.causation)
            .tags(&self.tags);
        let event = self.id.map(Uuid::from_u128).into_iter().fold(event, NewEvent::id);
        self.occurred_at.map(Timestamp::from_nanos).into_iter().fold(event, NewEvent::occurred_at)
    }
}

/// Bytes that are JSON, other text, or neither.
fn bytes() -> impl Strategy<Value = Vec<u8>> {
    const JSON: [&str; 7] = [r#"{"a":1.10,"b":[1e400]}"#, "null", " 1", "{\n}", "\"\\ud800\"", "[1,\t2 ]", "{\"a\":"];
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..20),
        prop::sample::select(&JSON[..]).prop_map(|text| text.as_bytes().to_vec()),
    ]
}

fn content_type() -> impl Strategy<Value = ContentType> {
    prop_oneof![
        Just(ContentType::Bytes),
        Just(ContentType::Json),
        Just(ContentType::Text),
        Just(ContentType::Bincode),
        prop_oneof!["json", "named:", "bytes", "a/b", "ä\"\n"].prop_map(ContentType::Named),
    ]
}

fn given() -> impl Strategy<Value = Given> {
    let small = (any::<u32>(), prop::option::of(any::<u128>()), prop::option::of(any::<i64>()));
    let text = "[a\"\\\\\n\u{1b}ä@-]{0,4}";
    let tags = prop::collection::vec("[ab:\"ä]{1,3}", 0..3);
    ("[A\"\tä]{1,3}", bytes(), bytes(), content_type(), small, text, text, tags).prop_map(
        |(
            event_type,
            data,
            metadata,
            content_type,
            (schema_version, id, occurred_at),
            correlation,
            causation,
            tags,
        )| {
            Given {
                event_type,
                data,
                metadata,
                content_type,
                schema_version,
                id,
                occurred_at,
                correlation,
                causation,
                tags,
            }
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let stream = ("(a|b|x@y|%)", "(|1|-2|@|ä)", "(|||@what-if|@other|@w%40)").prop_map(|(domain, root, edition)| {
        let domain = domain.replace('%', "%25").replace('@', "%40");
        format!("{domain}-{}{edition}", root.replace('@', "%40"))
    });
    let events = prop::collection::vec(given(), 1..4);
    let upstream = prop::sample::select(&["inbox", "billing \"x\"\n"][..]);
    let tracking = prop::option::of((upstream.clone(), 0..100u64));
    let append = (stream, 0..4u64, events, tracking, 0..3i64)
        .prop_map(|(stream, back, events, tracking, later)| Step::Append { stream, back, events, tracking, later });
    let editions = prop::sample::select(&["what-if", "other", "w@"][..]);
    prop_oneof![
        8 => append,
        1 => (upstream, 0..100u64).prop_map(|(upstream, position)| Step::Track(upstream, position)),
        1 => (editions, prop::option::of(Just("a"))).prop_map(|(edition, domain)| Step::Delete(edition, domain)),
    ]
}

fn built(steps: &[Step]) -> Place {
    let place = place();
    let clock = Arc::new(AtomicI64::new(1_700_000_000_000_000_000));
    let now = clock.clone();
    let options =
        Options::new().segment_size(8 << 10).clock(move || Timestamp::from_nanos(now.load(Ordering::Relaxed)));
    let store = place.open_with(options);
    for step in steps {
        match step {
            Step::Append { stream: name, back, events, tracking, later } => {
                clock.fetch_add(*later, Ordering::Relaxed);
                let name = stream(name);
                // In an edition that has no events of its own in the stream yet, the stream
                // diverges this far before the end of the main one.
                let next = store.stream(&name).unwrap().map_or(0, |info| info.next_sequence);
                let own = store.read(&name).backwards().limit(1).into_iter().next();
                let diverges = own.is_none_or(|last| !last.unwrap().is_in(&name));
                let expected = Expected::Next(if diverges && name.edition().is_some() {
                    next.saturating_sub(*back)
                } else {
                    next
                });
                let transaction = store.transaction().append(&name, expected, events.iter().map(Given::event));
                let transaction =
                    tracking.iter().fold(transaction, |t, (upstream, position)| t.tracking(*upstream, *position));
                match transaction.commit() {
                    Ok(_) | Err(annals::Error::AlreadyTracked { .. }) => {}
                    Err(error) => panic!("{error}"),
                }
            }
            Step::Track(upstream, position) => {
                let (Ok(_) | Err(_)) = store.transaction().tracking(*upstream, *position).commit();
            }
            Step::Delete(edition, domain) => {
                store.editions().delete(edition, *domain).unwrap();
            }
        }
    }
    store.close().unwrap();
    place
}

/// All fields of an event, except its position.
fn parts(event: &Event) -> impl PartialEq + std::fmt::Debug + use<> {
    (
        (event.stream(), event.sequence(), event.event_type().to_owned(), event.id()),
        (event.recorded_at(), event.occurred_at(), event.schema_version(), event.content_type()),
        (event.correlation_id().map(str::to_owned), event.causation_id().map(str::to_owned)),
        event.tags().map(str::to_owned).collect::<Vec<_>>(),
        (event.metadata().to_vec(), event.data().to_vec()),
    )
}

fn all(events: impl IntoIterator<Item = annals::Result<Event>>) -> Vec<impl PartialEq + std::fmt::Debug> {
    events.into_iter().map(|event| parts(&event.unwrap())).collect()
}

/// For any store, everything is preserved that the help of `export` does not name as left out: all
/// events with all fields, each stream as each edition has it, the answers of queries, and the
/// tracked positions of upstreams.
#[test]
fn a_copy_has_everything_that_travels() {
    let config = Config { cases: 40, failure_persistence: None, ..Config::default() };
    let batch = prop::sample::select(&["1", "3", "1000"][..]);
    TestRunner::new(config)
        .run(&(prop::collection::vec(step(), 0..25), batch), |(steps, batch)| {
            let from = built(&steps);
            let file = from.dir.path().join("copy.jsonl.gz").to_str().unwrap().to_owned();
            let exported = from.run("export", &["--output", &file]);
            assert_eq!(exported.code, 0, "{}", exported.stderr);
            let to = place();
            to.run("import", &[&file, "--batch", batch]).ok();
            // The export of the copy is the same, except for positions if some positions of the
            // original have no events.
            let again = to.export();
            let (from, to) = (from.open(), to.open());
            assert_eq!(all(from.read_all()), all(to.read_all()));
            assert_eq!(
                again.lines().filter(|line| line.starts_with("{\"position\"")).count(),
                all(to.read_all()).len()
            );
            assert_eq!(from.all_tracked().unwrap(), to.all_tracked().unwrap());
            assert_eq!(from.editions().list().unwrap(), to.editions().list().unwrap());
            let names =
                |store: &Store| store.streams("").unwrap().into_iter().map(|info| info.stream).collect::<Vec<_>>();
            assert_eq!(names(&from), names(&to));
            for stream in names(&from) {
                for edition in ["", "what-if", "other", "w@", "new"] {
                    let stream = stream.in_edition(edition).unwrap();
                    assert_eq!(all(from.read(&stream)), all(to.read(&stream)), "{stream}");
                    let query = Query::new().stream(&stream).edition(if edition.is_empty() { "main" } else { edition });
                    assert_eq!(all(from.query(&query)), all(to.query(&query)), "{stream}");
                }
            }
            Ok(())
        })
        .unwrap();
}

#[test]
fn upstreams_travel_behind_the_events() {
    let from = small();
    let store = from.open();
    store
        .transaction()
        .append(&stream("b-1"), Expected::Any, [NewEvent::new("T", "")])
        .tracking("inbox", 991)
        .commit()
        .unwrap();
    store.transaction().tracking("a", 0).commit().unwrap();
    store.close().unwrap();
    let exported = from.export();
    let tail = "{\"upstream\":\"a\",\"tracked\":0}\n{\"upstream\":\"inbox\",\"tracked\":991}\n";
    assert!(exported.ends_with(tail), "{exported}");

    let to = place();
    let out = to.run_with("import", &[], exported.as_bytes()).ok();
    assert_eq!(out, "events\t4\ncommits\t6\nnext_position\t6\ntracked\t2\n");
    let tracked = |place: &Place| place.open().all_tracked().unwrap();
    assert_eq!(tracked(&to), tracked(&from));
    // Again: tracked positions stay, even if they are higher.
    let out = to.run_with("import", &[], tail.replace("991", "17").as_bytes()).ok();
    assert_eq!(out, "events\t0\ncommits\t0\nnext_position\t6\n");
    to.run_with("import", &[], tail.replace("991", "992").as_bytes()).ok();
    assert_eq!(to.open().tracked("inbox").unwrap(), Some(992));
    let said = to.run_with("import", &[], b"{\"upstream\":\"\",\"tracked\":1}").fails(1);
    assert!(said.contains("stdin:1: ") && said.contains("upstream"), "{said}");
    let said = to.run_with("import", &[], b"{\"upstream\":\"x\",\"tracked\":1,\"stream\":\"a-1\"}").fails(1);
    assert!(said.contains("unknown field `stream`"), "{said}");

    // An export that does not reach the end must not claim more than it has.
    let part = from.run("export", &["--to", "3"]);
    assert!(!part.stdout.contains("upstream") && part.stdout.lines().count() == 3, "{}", part.stdout);
    assert!(part.stderr.contains("not exported: 2 upstreams that are tracked"), "{}", part.stderr);
}

/// An export silently left out what a store has in addition to its events.
#[test]
fn what_is_left_behind_is_said() {
    let place = varied();
    assert_eq!(place.run("export", &[]).stderr, "");
    let store = place.open();
    for (name, key) in [("lobby", "r-1"), ("lobby", "r-2"), ("order-1@what-if", "r-1")] {
        let transaction = store.transaction().append(&stream(name), Expected::Any, [NewEvent::new("T", "")]);
        transaction.idempotency_key(key).commit().unwrap();
    }
    assert_eq!(store.idempotency_keys().unwrap(), 3);
    assert_eq!(store.editions().delete("what-if", None).unwrap(), 2);
    store.positions().put("billing", &stream("lobby"), 1).unwrap();
    let consumer = store.consumer("mailer").until_caught_up();
    consumer
        .run(|event: &Event| if event.position() == 0 { Outcome::Park("no".into()) } else { Outcome::Ack })
        .unwrap();
    store.close().unwrap();
    let run = place.run("export", &[]);
    assert_eq!(run.code, 0);
    assert_eq!(
        run.stderr,
        "annals: note: not exported: 2 idempotency keys, 3 positions without an event (later ones move up), 1 handler \
            with its positions, 1 checkpoint of a consumer, 1 dead letter\n"
    );
    let to = super::place();
    let copied = to.run_with("import", &[], run.stdout.as_bytes());
    assert_eq!(copied.code, 0, "{}", copied.stderr);
    assert_eq!(to.run("export", &[]).stderr, "");
}

/// A salvaged store has gaps where events are lost, and its export could not be imported at all.
#[test]
fn gaps_are_closed_on_demand() {
    let place = small();
    place.run("append", &["order-1@late", "--type", "T", "--expect", "2"]).ok();
    place.run("append", &["order-1@early", "--type", "T", "--expect", "1"]).ok();
    place.run("append", &["order-1@end", "--type", "T", "--expect", "3"]).ok();
    place.change(|bytes| {
        let at = bytes.windows(7).position(|window| window == br#"{"n":1}"#).unwrap();
        bytes[at + 5] ^= 1;
    });
    let rescued = place.dir.path().join("rescued");
    assert_eq!(place.run("salvage", &[rescued.to_str().unwrap()]).code, 4);
    let exported = annals(["export", rescued.to_str().unwrap()]);
    assert!(exported.code == 0 && exported.stderr.contains("1 positions are lost"), "{}", exported.stderr);
    let to = super::place();
    let said = to.run_with("import", &[], exported.stdout.as_bytes()).fails(6);
    assert!(said.contains("stdin:2: conflict on order-1"), "{said}");
    for batch in ["1", "100"] {
        let to = super::place();
        let run = to.run_with("import", &["--renumber", "--batch", batch], exported.stdout.as_bytes());
        assert!(run.code == 0 && run.stderr.contains("3 events have another sequence now"), "{}", run.stderr);
        let types = |stream: &str| -> Vec<String> {
            to.run("read", &[stream])
                .ok()
                .lines()
                .map(|line| line.split('\t').skip(3).collect::<Vec<_>>().join(" "))
                .collect()
        };
        assert_eq!(types("order-1"), ["Counted {\"n\":0}", "Counted {\"n\":2}"]);
        assert_eq!(types("order-1@early"), ["Counted {\"n\":0}", "T "]);
        assert_eq!(types("order-1@late"), ["Counted {\"n\":0}", "T "]);
        assert_eq!(types("order-1@end"), ["Counted {\"n\":0}", "Counted {\"n\":2}", "T "]);
    }
    // Where there are no gaps, nothing changes.
    let whole = varied();
    let copy = super::place();
    copy.run_with("import", &["--renumber"], whole.export().as_bytes()).ok();
    assert_eq!(copy.export(), whole.export());
}
