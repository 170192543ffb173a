//! The command line, run as a user runs it: a process, its output, its exit code. One file per
//! verb.

mod append;
mod consumers;
mod data;
mod discover;
mod dump;
mod editions;
mod errors;
mod export;
mod get;
mod import;
mod import_csv;
mod interrupted;
mod kill;
mod positions;
mod projections;
mod query;
mod query_data;
mod read;
mod repair;
mod salvage;
mod snapshots;
mod stats;
mod streams;
mod tail;
mod times;
mod travel;
mod verify;

use annals::{ContentType, Expected, NewEvent, Options, Store, StreamId, Timestamp, Uuid};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, PoisonError};
use tempfile::TempDir;

/// The result of a run.
struct Run {
    code: i32,
    stdout: String,
    stderr: String,
}

fn command() -> Command {
    Command::new(env!("CARGO_BIN_EXE_annals"))
}

/// Held while a process is started: until the new process has become `annals`, it is a copy of this
/// one, and holds the locks of all stores that are open here. Opening a store that was closed in
/// another thread, or starting a process that opens one, must wait until there is no such copy.
static STARTING: Mutex<()> = Mutex::new(());

fn start(command: &mut Command) -> Child {
    let _starting = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    command.spawn().unwrap()
}

fn annals<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>) -> Run {
    annals_with(arguments, b"")
}

/// The same, with something on stdin.
fn annals_with<A: AsRef<OsStr>>(arguments: impl IntoIterator<Item = A>, stdin: &[u8]) -> Run {
    let mut command = command();
    command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = start(&mut command);
    let mut pipe = child.stdin.take().unwrap();
    let stdin = stdin.to_vec();
    // A process that ends early does not read all of it.
    let writer = std::thread::spawn(move || pipe.write_all(&stdin).ok());
    let Output { status, stdout, stderr } = child.wait_with_output().unwrap();
    writer.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: status.code().unwrap(), stdout: text(stdout), stderr: text(stderr) }
}

impl Run {
    /// The output of a run that must have succeeded without a message.
    #[track_caller]
    fn ok(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (0, ""), "{}", self.stdout);
        self.stdout
    }

    /// The message of a run that must have failed with this code.
    #[track_caller]
    fn fails(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}\n{}", self.stdout, self.stderr);
        if code != 2 {
            assert!(self.stderr.starts_with("annals: error: "), "{}", self.stderr);
        }
        self.stderr
    }
}

/// A directory, and in it a place for a store.
struct Place {
    dir: TempDir,
    store: PathBuf,
}

fn place() -> Place {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    Place { dir, store }
}

impl Place {
    /// `annals VERB STORE …`
    fn run(&self, verb: &str, rest: &[&str]) -> Run {
        self.run_with(verb, rest, b"")
    }

    fn run_with(&self, verb: &str, rest: &[&str], stdin: &[u8]) -> Run {
        let store = self.store.to_str().unwrap();
        annals_with([verb, store].iter().chain(rest), stdin)
    }

    /// Writes a file, and returns its path.
    fn file(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Runs `export`, which may print notes about what it leaves out.
    #[track_caller]
    fn export(&self) -> String {
        let run = self.run("export", &[]);
        assert!(run.stderr.lines().all(|line| line.starts_with("annals: note: ")), "{}", run.stderr);
        assert_eq!(run.code, 0, "{}", run.stderr);
        run.stdout
    }

    /// The lines of the export without the data, which `Value` may not be able to represent.
    fn exported(&self) -> Vec<serde_json::Value> {
        let without_data = |line: &str| {
            let mut fields: BTreeMap<String, Box<RawValue>> = serde_json::from_str(line).unwrap();
            fields.remove("data");
            serde_json::to_value(fields).unwrap()
        };
        self.export().lines().map(without_data).collect()
    }

    /// The store, opened by the library.
    fn open(&self) -> Store {
        self.open_with(Options::new())
    }

    fn open_with(&self, options: Options) -> Store {
        drop(STARTING.lock().unwrap_or_else(PoisonError::into_inner));
        options.open(&self.store).unwrap()
    }

    fn segment(&self) -> PathBuf {
        self.store.join("00000000000000000001.seg")
    }

    /// Changes the file of the first segment.
    fn change(&self, change: impl FnOnce(&mut Vec<u8>)) {
        let mut bytes = fs::read(self.segment()).unwrap();
        change(&mut bytes);
        fs::write(self.segment(), bytes).unwrap();
    }

    /// Changes the data of an event of a [`small`] store.
    fn damage(&self, position: u64) {
        let data = format!(r#"{{"n":{position}}}"#);
        self.change(|bytes| {
            let at = bytes.windows(data.len()).position(|window| window == data.as_bytes()).unwrap();
            bytes[at + 5] ^= 1;
        });
    }
}

fn stream(text: &str) -> StreamId {
    text.parse().unwrap()
}

/// A store with all fields that an event can have, closed, and made of several segments.
fn varied() -> Place {
    let place = place();
    let store = Options::new().segment_size(4 << 10).open(&place.store).unwrap();
    let append = |name: &str, event: NewEvent<'_>| {
        store.append(&stream(name), Expected::Any, [event]).unwrap();
    };
    let json = |text: &'static str| NewEvent::new("Js", text).content_type(ContentType::Json);
    append("order-1", NewEvent::new("Empty", ""));
    append("order-1", json(r#"{"z":1.10,"a":[12345678901234567890123,1e400], "s":"\ud800\u0041ä"}"#));
    append("order-1@what-if", json("{\n  \"pretty\": true\n}"));
    append("user-ann%40example.org", json("null").metadata(br#"{"user": 7}"#));
    append("bin-%FF%00", NewEvent::new("Bytes", b"\0\xFF\n\x1b").metadata(b"\x01\x02"));
    append("lobby", NewEvent::new("Text", "Zürich\nline").content_type(ContentType::Text));
    append("lobby", NewEvent::new("B", b"\x01").content_type(ContentType::Bincode).schema_version(7));
    append("lobby", NewEvent::new("Named", "<x/>").content_type(ContentType::Named("application/xml".into())));
    append("lobby", NewEvent::new("Tricky", "1").content_type(ContentType::Named("json".into())));
    append("lobby", NewEvent::new("type with\ttab \"and\" \u{1b}[31m", ""));
    append(
        "lobby",
        NewEvent::new("Tagged", "").tags(["customer:7", "ä b", ""].into_iter().filter(|tag| !tag.is_empty())),
    );
    append("lobby", NewEvent::new("Old", "").occurred_at(Timestamp::from_nanos(-14_182_980_000_000_001)));
    append("lobby", NewEvent::new("Oldest", "").occurred_at(Timestamp::MIN));
    append("lobby", NewEvent::new("Latest", "").occurred_at(Timestamp::MAX));
    let id = Uuid::from_u128(0x1234_5678);
    append("lobby", NewEvent::new("Linked", "").id(id).correlation_id("checkout-991").causation_id("cmd \"1\""));
    for n in 0..100u32 {
        let batch = (0..n % 5 + 1).map(|n| NewEvent::with_data("Batch", n.to_string().into_bytes()));
        let name = format!("batch-{}", n % 7);
        store.append(&stream(&name), Expected::Any, batch.map(|event| event.content_type(ContentType::Json))).unwrap();
    }
    store.close().unwrap();
    place
}

/// A store with three events of one stream, closed.
fn small() -> Place {
    let place = place();
    let store = place.open();
    for n in 0..3 {
        let data = format!(r#"{{"n":{n}}}"#);
        let event = NewEvent::new("Counted", &data).content_type(ContentType::Json);
        store.append(&stream("order-1"), Expected::Next(n), [event]).unwrap();
    }
    store.close().unwrap();
    place
}

fn lines(text: &str) -> Vec<&str> {
    text.lines().collect()
}

/// The first two columns of each line.
fn counts(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split('\t').take(2).collect::<Vec<_>>().join("\t")).collect()
}

fn json(line: &str) -> serde_json::Value {
    serde_json::from_str(line).unwrap()
}

/// The real event logs, if they are present.
fn shared_data(name: &str) -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data").join(name);
    path.exists().then_some(path)
}
