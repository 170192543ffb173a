//! A store of format 1, written once and kept: `tests/data/golden/v1`. It must open forever, with
//! the same content.
//!
//! `ANNALS_WRITE_GOLDEN=1 cargo test --test store golden::` writes a directory that is missing. An
//! existing one is never rewritten: a change of the format needs a new version and a new directory
//! beside it.

use annals::{ContentType, Event, Expected, NewEvent, Options, Store, StreamId, Timestamp, Uuid};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/golden/v1")
}

fn write(store: &Store) {
    let order = StreamId::new("order", "123").unwrap();
    let odd = StreamId::new("with-dash", b"\xFF\x00@%").unwrap().in_edition("what-if").unwrap();
    let full = NewEvent::new("Paid", b"\xFF\x00\n")
        .content_type(ContentType::Named("application/cbor".into()))
        .schema_version(3)
        .metadata(&b"{\"user\":7}"[..])
        .id(Uuid::from_u128(0x0123_4567_89AB_CDEF_0123_4567_89AB_CDEF))
        .occurred_at(Timestamp::from_nanos(-1))
        .correlation_id("workflow-1")
        .causation_id("command-2")
        .tags(["customer:7", "märz"]);
    store.append(&order, Expected::NoStream, [NewEvent::json("Placed", "x").unwrap(), full]).unwrap();
    let large: Vec<u8> = (0..20_000u32).map(|i| (i * i) as u8).collect();
    let transaction = store.transaction().append(&odd, Expected::NoStream, [NewEvent::new("Large", &large)]);
    transaction
        .append(&order, Expected::Next(2), [NewEvent::bincode("Counted", &(1u8, "two")).unwrap()])
        .commit()
        .unwrap();
    for n in 0..30u64 {
        let text = format!("note {n}");
        let note = NewEvent::new("Noted", &text).content_type(ContentType::Text);
        store.append(&order, Expected::Next(3 + n), [note]).unwrap();
    }
}

/// All fields of an event, except those that depend on the random store id.
fn describe(event: &Event) -> String {
    let mut text = String::new();
    let checksum = event.data().iter().fold(0u64, |sum, &byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    let given = event.id().get_version_num() != 7;
    write!(
        text,
        "{} {} {} {} recorded {} occurred {:?} id {} correlation {:?} causation {:?} tags {:?} {:?} v{} metadata {:?} \
            data {} bytes {checksum:x}",
        event.position(),
        event.stream(),
        event.sequence(),
        event.event_type(),
        event.recorded_at().as_nanos(),
        event.occurred_at(),
        if given { event.id().to_string() } else { "given by the store".into() },
        event.correlation_id(),
        event.causation_id(),
        event.tags().collect::<Vec<_>>(),
        event.content_type(),
        event.schema_version(),
        String::from_utf8_lossy(event.metadata()),
        event.data().len(),
    )
    .unwrap();
    text
}

fn contents(store: &Store) -> String {
    store.read_all().into_iter().map(|event| describe(&event.unwrap()) + "\n").collect()
}

fn options() -> Options {
    let now = AtomicI64::new(1_700_000_000_000_000_000);
    let clock = move || Timestamp::from_nanos(now.fetch_add(1_000_000_007, Ordering::Relaxed));
    Options::new().segment_size(4096).maintenance(false).clock(clock)
}

#[test]
fn format_1_says_the_same_for_ever() {
    let golden = golden();
    if !golden.exists() && std::env::var_os("ANNALS_WRITE_GOLDEN").is_some() {
        let store = options().open(&golden).unwrap();
        write(&store);
        fs::write(golden.join("expected.txt"), contents(&store)).unwrap();
        store.close().unwrap();
    }
    let copy = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(&golden).unwrap() {
        let entry = entry.unwrap();
        fs::copy(entry.path(), copy.path().join(entry.file_name())).unwrap();
    }
    let expected = fs::read_to_string(golden.join("expected.txt")).unwrap();
    let report = annals::offline::verify(copy.path()).unwrap();
    assert!(report.is_sound() && report.torn.is_none(), "{report:?}");

    let store = Options::new().open_read_only(copy.path()).unwrap();
    assert!(store.open_report().clean);
    assert_eq!(contents(&store), expected);
    drop(store);
    let store = Options::new().open(copy.path()).unwrap();
    store.append(&StreamId::new("order", "123").unwrap(), Expected::Next(33), [NewEvent::new("More", "")]).unwrap();
    assert!(contents(&store).starts_with(&expected));
}

/// The same events give the same content today as then.
#[test]
fn todays_writer_agrees() {
    let dir = tempfile::tempdir().unwrap();
    let store = options().open(dir.path()).unwrap();
    write(&store);
    let expected = fs::read_to_string(golden().join("expected.txt")).unwrap();
    assert_eq!(contents(&store), expected);
}
