//! Opening and closing: the lock, directories that are not stores, read-only opens, options outside
//! their limits, a disk that fails or is full.

use annals::{Durability, Error, Expected, NewEvent, Options, Result, Store};
use annals_testkit::*;
use annals_testkit::{Fault, Image, Operation, SimFs};
use std::io::{BufRead, BufReader, ErrorKind, Lines};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

// ---------------------------------------------------------------- another process

const ROLE: &str = "ANNALS_TEST_ROLE";
const PLACE: &str = "ANNALS_TEST_PLACE";

/// This program again, in another process, which plays a role in a directory and reports line by
/// line.
struct Other {
    process: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Other {
    fn start(role: &str, place: &Path, current_dir: &Path) -> Other {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "open::what_the_other_process_does", "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(PLACE, place)
            .current_dir(current_dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(process.stdout.take().unwrap()).lines();
        Other { process, lines }
    }

    /// Waits for a line that begins with this, and returns the rest. The test harness of the other
    /// process writes lines, too.
    fn hears(&mut self, start: &str) -> String {
        for line in self.lines.by_ref() {
            let line = line.unwrap();
            if let Some(at) = line.find(&format!("<{start}>")) {
                return line[at + start.len() + 2..].trim().to_owned();
            }
        }
        panic!("the other process has ended without <{start}>")
    }

    /// SIGKILL, where there are signals.
    fn kill(mut self) {
        self.process.kill().unwrap();
        self.process.wait().unwrap();
    }

    /// Lets it end on its own.
    fn end(mut self) {
        drop(self.process.stdin.take());
        assert!(self.process.wait().unwrap().success());
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        // It may have ended long ago.
        let (Ok(()) | Err(_)) = self.process.kill();
        let (Ok(_) | Err(_)) = self.process.wait();
    }
}

/// Not a test: what this program does when another process of it starts it.
#[test]
fn what_the_other_process_does() {
    let (Ok(role), Some(place)) = (std::env::var(ROLE), std::env::var_os(PLACE)) else { return };
    let until_told = || std::io::stdin().lines().for_each(drop);
    let say = |word: &str, more: &dyn std::fmt::Display| println!("<{word}> {more}");
    let id = stream("s-1");
    match role.as_str() {
        "own" => {
            let store = Store::open(place).unwrap();
            store.append(&id, Expected::Any, texts(["from another process"])).unwrap();
            say("open", &std::process::id());
            until_told();
        }
        "read" => {
            let store = Options::new().open_read_only(place).unwrap();
            say("open", &store.len());
            until_told();
        }
        "try" => match Store::open(place) {
            Ok(_) => say("result", &"ok"),
            Err(error) => say("result", &error),
        },
        // Appends, and reports it, until it is killed.
        "append" => {
            let store = Options::new().segment_size(TINY).open(place).unwrap();
            say("open", &store.len());
            for n in store.len() / 2.. {
                let text = format!("event {n}");
                let data = [NewEvent::new("T", &text), NewEvent::with_data("U", noise(n, 700))];
                let appended = store.append(&id, Expected::Next(n * 2), data).unwrap();
                say("acknowledged", &appended.positions.end);
            }
        }
        "sleep" => {
            say("asleep", &"");
            until_told();
        }
        other => panic!("no role {other}"),
    }
}

// ---------------------------------------------------------------- the lock

#[track_caller]
fn locked_by<T: std::fmt::Debug>(result: Result<T>, path: &Path) -> Option<String> {
    match result {
        Err(Error::Locked { path: told, owner }) if told == path => owner,
        other => panic!("not locked: {other:?}"),
    }
}

/// Returns whether a text names this process by its id.
fn names_pid(text: &str, pid: u32) -> bool {
    text.split(|c: char| !c.is_ascii_digit()).any(|number| number == pid.to_string())
}

#[test]
fn a_store_is_open_once_in_a_process() {
    on_all_beds(|bed| {
        let store = bed.open();
        let path = bed.path();
        let kept = store.append(&stream("s-1"), Expected::Any, texts(["x"])).unwrap();
        for _ in 0..3 {
            let second = bed.options().open(&path);
            let text = second.as_ref().unwrap_err().to_string();
            assert!(names_pid(&text, std::process::id()) && text.contains(path.to_str().unwrap()), "{text}");
            let owner = locked_by(second, &path).unwrap();
            assert!(names_pid(&owner, std::process::id()), "{owner}");
            locked_by(bed.options().open_read_only(&path), &path);
        }
        if let Disk::Directory(dir) = &bed.disk {
            // By another path to the same directory.
            let around = dir.path().join("store").join("..").join("store");
            locked_by(Store::open(&around), &around);
        }
        // Those that did not get it have not disturbed its owner.
        assert_eq!(
            store.append(&stream("s-1"), Expected::Next(1), texts(["y"])).unwrap().positions,
            kept.positions.end..2
        );
        let handle = store.clone();
        drop(store);
        locked_by(bed.options().open(&path), &path);
        handle.close().unwrap();
        bed.close_and_check(bed.open());
    });
}

#[test]
fn another_process_is_told_who_has_the_store_open() {
    let bed = Bed::directory();
    let path = bed.path();
    let mut owner = Other::start("own", &path, Path::new("."));
    let pid = owner.hears("open").parse::<u32>().unwrap();
    assert_eq!(pid, owner.process.id());
    let second = Store::open(&path);
    assert!(names_pid(&second.as_ref().unwrap_err().to_string(), pid), "{second:?}");
    assert!(names_pid(&locked_by(second, &path).unwrap(), pid));
    locked_by(Options::new().open_read_only(&path), &path);
    // A caller that only reads needs no lock.
    assert!(annals::offline::verify(&path).unwrap().is_sound());
    owner.end();
    let store = Store::open(&path).unwrap();
    assert_eq!(store.len(), 1);
    assert!(store.open_report().clean, "its last handle was dropped: {:?}", store.open_report());

    let mut third = Other::start("try", &path, Path::new("."));
    let text = third.hears("result");
    assert!(names_pid(&text, std::process::id()), "{text}");
    store.close().unwrap();
    let mut fourth = Other::start("try", &path, Path::new("."));
    assert_eq!(fourth.hears("result"), "ok");
}

#[test]
fn the_lock_is_gone_when_its_owner_is_killed() {
    let bed = Bed::directory();
    let path = bed.path();
    let mut owner = Other::start("own", &path, Path::new("."));
    owner.hears("open");
    locked_by(Store::open(&path), &path);
    owner.kill();
    let store = Store::open(&path).unwrap();
    assert_eq!(data_of(&all_records(&store)), ["from another process"]);
    // The new owner is named, not the dead one.
    let owner = locked_by(Store::open(&path), &path).unwrap();
    assert!(names_pid(&owner, std::process::id()), "{owner}");
    bed.close_and_check(store);
}

/// Everything acknowledged before a SIGKILL is there after it, complete, and otherwise only what
/// was in flight.
#[test]
fn acknowledged_events_survive_a_kill() {
    let bed = Bed::directory().tiny();
    let path = bed.path();
    let mut at_least = 0;
    for round in 0..6 {
        let mut writer = Other::start("append", &path, Path::new("."));
        writer.hears("open");
        for _ in 0..round * 15 + 1 {
            at_least = writer.hears("acknowledged").parse().unwrap();
        }
        writer.kill();
        let store = bed.open();
        let records = all_records(&store);
        assert!(records.len() as u64 >= at_least, "{} of {at_least} events", records.len());
        assert_eq!(records.len() % 2, 0, "a commit is there in part");
        for pair in records.chunks(2) {
            let n = pair[0].sequence / 2;
            assert_eq!((data_of(pair).remove(0), &pair[1].data.0), (format!("event {}", n), &noise(n, 700)));
        }
        // The writer numbers its events by the head.
        store.close().unwrap();
        if round < 5 {
            continue;
        }
        bed.holds(&records);
    }
}

/// While others read, a writer is refused. The last writing process is gone, and does not matter.
#[test]
fn readers_are_not_mistaken_for_the_last_writer() {
    let bed = Bed::directory();
    let path = bed.path();
    let mut writer = Other::start("own", &path, Path::new("."));
    let dead = writer.hears("open").parse::<u32>().unwrap();
    writer.end();
    let reader = Options::new().open_read_only(&path).unwrap();
    let refused = Store::open(&path);
    let text = refused.as_ref().unwrap_err().to_string();
    locked_by(refused, &path);
    assert!(!names_pid(&text, dead), "{text}: that process has ended");
    drop(reader);
    Store::open(&path).unwrap().close().unwrap();
}

#[test]
fn several_processes_may_read_at_once() {
    let bed = Bed::directory();
    let path = bed.path();
    let store = bed.open();
    store.append(&stream("s-1"), Expected::Any, texts(["x"; 5])).unwrap();
    store.close().unwrap();
    let mut others = [0, 1].map(|_| Other::start("read", &path, Path::new(".")));
    assert!(others.iter_mut().all(|other| other.hears("open") == "5"));
    let reader = bed.read_only();
    assert_eq!(all_records(&reader).len(), 5);
    let [one, two] = others;
    one.end();
    two.kill();
    locked_by(Store::open(&path), &path);
    reader.close().unwrap();
    Store::open(&path).unwrap().close().unwrap();
}

/// Programs that are started while the store is open do not inherit the lock.
#[test]
fn a_child_process_does_not_inherit_the_lock() {
    let bed = Bed::directory();
    let store = bed.open();
    let mut child = Other::start("sleep", &bed.path(), Path::new("."));
    child.hears("asleep");
    store.close().unwrap();
    bed.close_and_check(bed.open());
    child.end();
}

#[test]
fn a_path_may_be_relative_and_directories_missing() {
    let dir = tempfile::tempdir().unwrap();
    let mut other = Other::start("own", Path::new("shop"), dir.path());
    other.hears("open");
    other.end();
    assert_eq!(Store::open(dir.path().join("shop")).unwrap().len(), 1);
    let deep = dir.path().join("a/b/c");
    let store = Store::open(&deep).unwrap();
    assert_eq!(store.path(), deep);
    assert!(format!("{store:?}").contains("a/b/c"));
    store.close().unwrap();
    assert!(!Store::open(&deep).unwrap().open_report().created);
}

// ---------------------------------------------------------------- what is not a store

#[track_caller]
fn not_a_store(result: Result<Store>, path: &Path) {
    let error = result.unwrap_err();
    assert!(matches!(&error, Error::NotAStore { path: told } if told == path), "{error:?}");
    assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
}

#[test]
fn a_store_that_is_missing_is_not_created_unless_asked_for() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    not_a_store(Options::new().create(false).open(&missing), &missing);
    not_a_store(Options::new().open_read_only(&missing), &missing);
    not_a_store(Options::new().create(true).open_read_only(&missing), &missing);
    assert!(!missing.exists());

    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    let foreign = dir.path().join("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("notes.txt"), "not ours").unwrap();
    for dir in [&empty, &foreign] {
        let before = snapshot(dir);
        not_a_store(Options::new().create(false).open(dir), dir);
        not_a_store(Options::new().open_read_only(dir), dir);
        assert_eq!(snapshot(dir), before);
    }
    for bed in [Bed::memory(), Bed::simulated()] {
        not_a_store(bed.options().create(false).open(bed.path()), &bed.path());
        not_a_store(bed.options().open_read_only(bed.path()), &bed.path());
        bed.open().close().unwrap();
        bed.options().create(false).open(bed.path()).unwrap().close().unwrap();
    }
    Store::open(&missing).unwrap().close().unwrap();
    Options::new().create(false).open(&missing).unwrap().close().unwrap();
}

#[test]
fn a_file_in_place_of_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "not a directory").unwrap();
    for path in [file.clone(), file.join("below")] {
        let tries = [
            Options::new().open(&path),
            Options::new().create(false).open(&path),
            Options::new().open_read_only(&path),
        ];
        for tried in tries {
            let error = tried.unwrap_err();
            assert!(matches!(error, Error::Io { .. } | Error::NotAStore { .. }), "{error:?}");
            assert!(error.to_string().contains(path.to_str().unwrap()), "{error}");
        }
    }
    assert_eq!(std::fs::read(&file).unwrap(), b"not a directory");
    assert_eq!(snapshot(dir.path()).len(), 1);
}

#[test]
fn foreign_files_are_left_alone() {
    let bed = Bed::directory().tiny();
    let path = bed.path();
    std::fs::create_dir(&path).unwrap();
    let foreign =
        ["notes.txt", ".hidden", "1.seg", "x.seg", "00000000000000000001.seg.bak", "0000000000000000000a.seg"];
    for name in foreign {
        std::fs::write(path.join(name), name).unwrap();
    }
    std::fs::create_dir(path.join("00000000000000000007.seg")).unwrap();
    std::fs::create_dir(path.join("folder")).unwrap();
    std::fs::write(path.join("folder/file"), "in a folder").unwrap();
    let before = snapshot(&path);
    let store = bed.open();
    for n in 0..20 {
        store.append(&stream("s-1"), Expected::Next(n), [NewEvent::with_data("T", noise(n, 1000))]).unwrap();
        if store.stats().unwrap().segments.len() == 6 {
            break;
        }
    }
    store.close().unwrap();
    let store = bed.open();
    let notices = store.open_report().notices.join("\n");
    assert!(notices.contains("x.seg") && notices.contains("1.seg") && notices.contains("0000a.seg"), "{notices}");
    assert!(!notices.contains("notes.txt"), "{notices}");
    bed.close_and_check(store);
    let after = snapshot(&path);
    assert!(before.iter().all(|(name, bytes)| after.get(name) == Some(bytes)));
}

// ---------------------------------------------------------------- reports

#[test]
fn the_report_tells_what_opening_found() {
    on_all_beds(|bed| {
        let store = bed.open();
        let report = store.open_report();
        assert!(report.created && report.cut.is_none() && report.notices.is_empty(), "{report:?}");
        assert_eq!((report.events, report.segments, report.unproven.is_empty()), (0, 1, true));
        for n in 0..10 {
            store.append(&stream("s-1"), Expected::Next(n), [NewEvent::with_data("T", noise(n, 1500))]).unwrap();
        }
        let segments = store.stats().unwrap().segments.len() as u64;
        assert!(bed.segment_size > TINY || segments > 3);
        drop(store);
        for read_only in [false, true] {
            let store = if read_only { bed.read_only() } else { bed.open() };
            let report = store.open_report();
            assert!(report.clean && !report.created && report.cut.is_none() && report.notices.is_empty(), "{report:?}");
            assert_eq!((report.events, report.segments, report.unproven.is_empty()), (10, segments, true));
        }
    });
}

/// Bytes after the last commit that are not a commit: cut, reported and kept.
#[test]
fn a_torn_tail_is_cut_reported_and_kept() {
    on(vec![Bed::directory(), Bed::directory().without_map()], |bed| {
        let store = bed.open();
        store.append(&stream("s-1"), Expected::Any, texts(["a", "b", "c"])).unwrap();
        let records = all_records(&store);
        let path = store.stats().unwrap().segments[0].path.clone();
        store.close().unwrap();
        let mut bytes = std::fs::read(&path).unwrap();
        let end = bytes.len() as u64;
        let junk = noise(5, 333);
        bytes.extend_from_slice(&junk);
        std::fs::write(&path, &bytes).unwrap();

        let before = snapshot(&bed.path());
        let strict = bed.options().strict(true).open(bed.path());
        let Err(Error::Damaged(damage)) = &strict else { panic!("{strict:?}") };
        assert_eq!((&damage.path, damage.bytes.start, damage.positions.start), (&path, end, 3));
        let text = strict.unwrap_err().to_string();
        assert!(text.contains(&end.to_string()) && text.contains(path.to_str().unwrap()), "{text}");
        let reader = bed.read_only();
        let cut = reader.open_report().cut.clone().unwrap();
        assert_eq!((&cut.path, cut.bytes, cut.position, cut.quarantine), (&path, end..end + 333, 3, None));
        assert_same(&all_records(&reader), &records, bed);
        drop(reader);
        assert_eq!(snapshot(&bed.path()), before);

        let store = bed.open();
        let report = store.open_report();
        let cut = report.cut.clone().unwrap();
        assert!(!report.clean && !cut.why.is_empty(), "{report:?}");
        assert_eq!((&cut.path, cut.bytes, cut.position), (&path, end..end + 333, 3));
        assert_eq!(std::fs::read(cut.quarantine.unwrap()).unwrap(), junk);
        assert_same(&all_records(&store), &records, bed);
        store.append(&stream("s-1"), Expected::Next(3), texts(["d"])).unwrap();
        bed.close_and_check(store);
    });
}

/// Index files can be rebuilt from the segments: without them, or with others, a store answers the
/// same.
#[test]
fn lost_and_broken_indexes_are_rebuilt() {
    let beds = vec![
        Bed::directory().tiny(),
        Bed::directory().tiny().without_map(),
        Bed::memory().tiny(),
        Bed::simulated().tiny(),
    ];
    on(beds, |bed| {
        let store = bed.open();
        for n in 0..60 {
            commit(&store, n).unwrap();
        }
        let records = all_records(&store);
        store.close().unwrap();
        let flips = (0..40).map(Spoil::Flip);
        for how in flips.chain((0..8).map(Spoil::Cut)).chain([Spoil::Delete, Spoil::Zeros, Spoil::Delete]) {
            assert!(bed.spoil_indexes(how) > 10);
            let store = if how == Spoil::Flip(7) { bed.read_only() } else { bed.open() };
            assert_same(&all_records(&store), &records, &how);
            let stale = store.append(&stream("a-1"), Expected::Next(0), texts(["stale"]));
            assert!(matches!(stale, Err(Error::Conflict { .. } | Error::ReadOnly)), "{how:?}: {stale:?}");
            store.close().unwrap();
        }
        bed.holds(&records);
    });
}

// ---------------------------------------------------------------- read-only

/// Makes directories of all sorts, and returns the events in each.
fn sorts_of_stores() -> Vec<(&'static str, Bed, Vec<EventRecord>)> {
    let fill = |bed: &Bed, store: &Store| {
        for n in 0..30 {
            store
                .append(&stream("s-1"), Expected::Next(n), [NewEvent::with_data("T", noise(n, 40 * n as usize))])
                .unwrap();
        }
        assert!(bed.segment_size > TINY || store.stats().unwrap().segments.len() > 3);
        all_records(store)
    };
    // What a crash leaves: a copy of the files of a store that is open.
    let copy_of = |bed: &Bed| {
        let copy = Bed { segment_size: bed.segment_size, ..Bed::directory() };
        std::fs::create_dir(copy.path()).unwrap();
        for entry in std::fs::read_dir(bed.path()).unwrap() {
            let entry = entry.unwrap();
            match std::fs::copy(entry.path(), copy.path().join(entry.file_name())) {
                // A temporary file of the maintenance thread, which has been renamed since.
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                copied => _ = copied.unwrap(),
            }
        }
        copy
    };
    let last_segment = |bed: &Bed| {
        let names = std::fs::read_dir(bed.path()).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| path.extension().is_some_and(|ext| ext == "seg")).max().unwrap()
    };
    let mut sorts = Vec::new();
    for bed in [Bed::directory(), Bed::directory().tiny(), Bed::directory().tiny().without_map()] {
        let store = bed.open();
        let records = fill(&bed, &store);
        let crashed = copy_of(&bed);
        store.close().unwrap();
        let torn = copy_of(&crashed);
        let newest = last_segment(&torn);
        let mut bytes = std::fs::read(&newest).unwrap();
        let end = bytes.iter().rposition(|&byte| byte != 0).unwrap() / 8 * 8 + 64;
        bytes.resize(end.max(bytes.len()) + 100, 0);
        bytes[end..end + 100].copy_from_slice(&noise(9, 100));
        std::fs::write(&newest, bytes).unwrap();
        let no_lock = copy_of(&bed);
        std::fs::remove_file(no_lock.path().join("LOCK")).unwrap();
        let no_head = copy_of(&bed);
        std::fs::remove_file(no_head.path().join("HEAD")).unwrap();
        let unborn = copy_of(&bed);
        // A roll ends with a seal, so a next segment exists only after one: that of the tiny ones
        // has it.
        sorts.extend(
            [("crashed", crashed), ("torn", torn), ("no LOCK", no_lock), ("no HEAD", no_head), ("copy", unborn)]
                .map(|(sort, bed)| (sort, bed, records.clone())),
        );
        sorts.push(("closed", bed, records));
    }
    sorts
}

/// Seeded: a read-only open that lets recovery cut; seen here.
#[test]
fn a_read_only_open_changes_nothing() {
    let id = stream("s-1");
    for (sort, bed, records) in sorts_of_stores() {
        let before = snapshot(&bed.path());
        let readers = [0, 1, 2].map(|_| bed.read_only());
        for reader in &readers {
            assert_same(&all_records(reader), &records, &sort);
            let refused = [
                reader.append(&id, Expected::Any, texts(["x"])).map(drop),
                reader.append(&id, Expected::Next(77), texts(["x"])).map(drop),
                reader.transaction().append(&id, Expected::Any, texts(["x"])).commit().map(drop),
                reader.transaction().append(&id, Expected::Any, texts(["x"])).submit().map(drop),
            ];
            assert!(refused.iter().all(|refused| matches!(refused, Err(Error::ReadOnly))), "{refused:?}");
            reader.sync().unwrap();
        }
        // Longer than it takes for a store to count as idle.
        std::thread::sleep(Duration::from_millis(if sort == "crashed" { 250 } else { 0 }));
        let [one, two, three] = readers;
        one.close().unwrap();
        drop(two);
        assert_same(&self::records(three.read_all()), &records, &sort);
        drop(three);
        let after = snapshot(&bed.path());
        let names = |snapshot: &std::collections::BTreeMap<_, _>| snapshot.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&after), names(&before), "{sort}");
        assert!(after == before, "{sort}: bytes have changed");

        let store = bed.open();
        assert_same(&all_records(&store), &records, &sort);
        store.append(&id, Expected::Next(30), texts(["on"])).unwrap();
        bed.close_and_check(store);
    }
}

#[test]
fn readers_keep_a_writer_out() {
    let bed = Bed::directory();
    bed.open().close().unwrap();
    let (one, two) = (bed.read_only(), bed.read_only());
    locked_by(bed.options().open(bed.path()), &bed.path());
    drop(one);
    let events = two.read_all().into_iter();
    drop(two);
    locked_by(bed.options().open(bed.path()), &bed.path());
    drop(events);
    bed.close_and_check(bed.open());
}

// ---------------------------------------------------------------- options

#[test]
fn options_at_their_limits_and_one_beyond() {
    let (mib, gib) = (1 << 20, 1 << 30);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let beyond: [(Options, &str); 4] = [
        (Options::new().segment_size(4095), "4095"),
        (Options::new().segment_size(gib + 1), "1073741825"),
        (Options::new().max_event_bytes(512 * mib + 1), "536870913"),
        (Options::new().max_commit_bytes(gib as usize + 1), "1073741825"),
    ];
    for (options, number) in beyond {
        for result in [options.clone().open(&path), options.clone().open_read_only(&path)] {
            let error = result.unwrap_err();
            assert!(matches!(error, Error::Invalid { .. } | Error::LimitExceeded { .. }), "{error:?}");
            assert!(error.to_string().contains(number), "{error}");
        }
    }
    for wild in [0, u64::MAX] {
        assert!(Options::new().segment_size(wild).open(&path).is_err());
    }
    assert!(Options::new().max_event_bytes(usize::MAX).open(&path).is_err());
    assert!(Options::new().max_commit_bytes(usize::MAX).open(&path).is_err());
    assert!(!path.exists(), "an open that was refused has left something behind");

    let at = [
        Options::new().segment_size(4096),
        Options::new().segment_size(gib),
        Options::new().max_event_bytes(512 * mib),
        Options::new().max_commit_bytes(gib as usize),
        Options::new().max_commit_bytes(100).max_event_bytes(1000),
        Options::new().max_event_bytes(0),
        Options::new().reserve(u64::MAX),
        Options::new().durability(Durability::Interval(Duration::MAX)),
        Options::new().durability(Durability::Interval(Duration::ZERO)),
    ];
    for options in at {
        options.open(&path).unwrap().close().unwrap();
    }
    // All but those that leave no room for it accept an event.
    let append = |options: Options| options.open(&path).unwrap().append(&stream("s-1"), Expected::Any, texts(["x"]));
    assert!(matches!(append(Options::new().max_event_bytes(0)), Err(Error::LimitExceeded { limit: 0, .. })));
    assert!(matches!(append(Options::new().max_commit_bytes(0)), Err(Error::LimitExceeded { limit: 0, .. })));
    append(Options::new().max_event_bytes(512 * mib).max_commit_bytes(gib as usize).segment_size(gib)).unwrap();
    append(Options::new().durability(Durability::Interval(Duration::MAX))).unwrap();
    assert_eq!(Store::open(&path).unwrap().len(), 2);
}

#[test]
fn the_size_of_segments_may_differ_from_one_open_to_the_next() {
    on(vec![Bed::memory(), Bed::directory().without_map(), Bed::directory()], |bed| {
        let mut n = 0;
        for size in [64 << 20, 4096, 1 << 16, 4096, 1 << 30, 5000] {
            let store = bed.open_with(|options| options.segment_size(size));
            for _ in 0..12 {
                store.append(&stream("s-1"), Expected::Next(n), [NewEvent::with_data("T", noise(n, 900))]).unwrap();
                n += 1;
            }
            bed.close_and_check(store);
        }
    });
}

// ---------------------------------------------------------------- a disk that fails

/// A workload of commits of one and of several streams, over several segments. The content of each
/// follows from its number.
fn commit(store: &Store, n: u64) -> Result<()> {
    let ids = ["a-1", "b-1"].map(stream);
    let data = noise(n, [10, 900, 4_300, 0][n as usize % 4]);
    let events = || (0..1 + n % 3).map(|_| NewEvent::new("T", &data));
    store
        .transaction()
        .append(&ids[0], Expected::Any, events())
        .append(&ids[1], Expected::Any, events())
        .commit()
        .map(drop)
}

fn size_of(n: u64) -> u64 {
    2 * (1 + n % 3)
}

/// Exactly these commits are there, complete, in this order.
#[track_caller]
fn holds_commits(store: &Store, commits: &[u64], context: &dyn std::fmt::Debug) {
    let records = all_records(store);
    assert_eq!(records.len() as u64, commits.iter().map(|&n| size_of(n)).sum::<u64>(), "{context:?}");
    let expected = commits.iter().flat_map(|&n| (0..size_of(n)).map(move |_| n));
    for (record, n) in records.iter().zip(expected) {
        assert_eq!(record.data.0, noise(n, [10, 900, 4_300, 0][n as usize % 4]), "{context:?}");
    }
}

const IMAGES: [Image; 9] = [
    Image::Killed,
    Image::Durable,
    Image::All,
    Image::Prefix(1),
    Image::Subset(1),
    Image::Subset(2),
    Image::Sectors(512, 3),
    Image::SizeWithoutData,
    Image::DataWithoutSize,
];

/// After a crash now, exactly these commits are there.
#[track_caller]
fn crashes_leave(disk: &SimFs, commits: &[u64], context: &dyn std::fmt::Debug) {
    for image in IMAGES {
        let store = Options::new().maintenance(false).file_system(disk.crash(image)).open("store");
        let store = store.unwrap_or_else(|e| panic!("{context:?}, {image:?}: {e}"));
        holds_commits(&store, commits, &(context, image));
    }
}

fn failing(operation: Operation, after: u64, times: u64, kind: ErrorKind) -> Fault {
    Fault { operation, after, times, kind }
}

/// A call fails once: the commit gets the error, nothing of it is stored, even after a crash, and
/// the next one succeeds.
///
/// Seeded: a store that remembers what it had accepted; seen here.
#[test]
fn a_write_that_fails_refuses_one_commit() {
    for segment_size in [TINY, 64 << 20] {
        for (operation, kind) in [
            (Operation::Write, ErrorKind::Other),
            (Operation::Write, ErrorKind::StorageFull),
            (Operation::Create, ErrorKind::Other),
            (Operation::Create, ErrorKind::StorageFull),
        ] {
            for after in 0..40 {
                let bed = Bed { segment_size, ..Bed::simulated() };
                let store = bed.open();
                let context = (segment_size, operation, kind, after);
                bed.sim().fail(failing(operation, after, 1, kind));
                let mut stored = Vec::new();
                let mut failed = 0;
                for n in 0..14 {
                    match commit(&store, n) {
                        Ok(()) => stored.push(n),
                        Err(Error::Io { operation, path, source }) => {
                            failed += 1;
                            assert!(!operation.is_empty() && path.starts_with("store"), "{operation} {path:?}");
                            assert_eq!(source.kind(), kind);
                            holds_commits(&store, &stored, &context);
                            crashes_leave(bed.sim(), &stored, &context);
                        }
                        Err(error) => panic!("{context:?}: {error:?}"),
                    }
                }
                assert!(failed <= 1, "{context:?}: one fault, {failed} errors");
                crashes_leave(bed.sim(), &stored, &context);
                let closed = store.close();
                assert!(closed.is_ok() || failed == 0, "{context:?}: {closed:?}");
                bed.sim().heal();
                let store = bed.open();
                holds_commits(&store, &stored, &context);
                commit(&store, 99).unwrap();
                stored.push(99);
                holds_commits(&store, &stored, &context);
                bed.close_and_check(store);
            }
        }
    }
}

/// Every write fails for a while. The errors say so, the commits are not there, and once the disk
/// works again the store, or one that is opened again, continues.
#[test]
fn a_disk_that_is_ill_for_a_while() {
    for segment_size in [TINY, 64 << 20] {
        for kind in [ErrorKind::Other, ErrorKind::StorageFull, ErrorKind::ReadOnlyFilesystem] {
            for healthy in 0..9 {
                let bed = Bed { segment_size, ..Bed::simulated() };
                let mut store = bed.open();
                let context = (segment_size, kind, healthy);
                (0..healthy).for_each(|n| commit(&store, n).unwrap());
                let mut stored: Vec<_> = (0..healthy).collect();
                for operation in [Operation::Write, Operation::Create, Operation::Truncate] {
                    bed.sim().fail(failing(operation, 0, u64::MAX, kind));
                }
                let refused: Vec<_> = (0..4).map(|n| commit(&store, 20 + n).unwrap_err()).collect();
                holds_commits(&store, &stored, &context);
                bed.sim().heal();
                if refused.iter().all(|error| matches!(error, Error::Io { .. })) {
                    crashes_leave(bed.sim(), &stored, &context);
                } else {
                    // A partial write could not be withdrawn: the outcome is unknown, and the store
                    // says so.
                    assert!(
                        matches!(refused.last(), Some(Error::DurabilityUnknown { .. })),
                        "{context:?}: {refused:?}"
                    );
                    store.close().unwrap_err();
                    store = bed.open();
                    holds_commits(&store, &stored, &context);
                }
                commit(&store, 30).unwrap();
                stored.push(30);
                holds_commits(&store, &stored, &context);
                bed.close_and_check(store);
            }
        }
    }
}

/// Several commits in flight, and the write of the first fails: all fail, as the later ones build
/// on it. A write that has stored half of them has stored some completely.
///
/// Seeded: a failed write that is not withdrawn, or without a sync; both were seen here after a
/// crash.
#[test]
fn a_failed_write_takes_all_that_were_decided_against_it() {
    for after in 0..3 {
        for segment_size in [TINY, 64 << 20] {
            let bed = Bed { segment_size, ..Bed::simulated() };
            let store = bed.open();
            let id = stream("s-1");
            store.append(&id, Expected::Any, texts(["before"])).unwrap();
            let submit = |n: u64| {
                let events = [NewEvent::with_data("T", noise(n, 1_500))];
                store.transaction().append(&id, Expected::Next(n), events).submit().unwrap()
            };
            let tickets: Vec<_> = (1..7).map(submit).collect();
            bed.sim().fail(failing(Operation::Write, after, 1, ErrorKind::Other));
            let results: Vec<_> = tickets.into_iter().map(|ticket| ticket.wait()).collect();
            let acknowledged = 1 + results.iter().take_while(|result| result.is_ok()).count();
            assert!(
                results[acknowledged - 1..].iter().all(|result| matches!(result, Err(Error::Io { .. }))),
                "{results:?}"
            );
            bed.sim().heal();
            assert_eq!(store.len(), acknowledged as u64);
            let records = all_records(&store);
            bed.survives_power_cuts(&records);
            // Commits that were decided against them are forgotten, and their sequences are used
            // again.
            let stale = store.append(&id, Expected::Next(7), texts(["stale"]));
            if acknowledged < 7 {
                assert_eq!(conflict(stale).2, acknowledged as u64);
            }
            store.append(&id, Expected::Next(store.len()), texts(["again"])).unwrap();
            bed.close_and_check(store);
        }
    }
}

/// A failed sync returns `DurabilityUnknown` to all, and the store accepts nothing more until it is
/// opened again.
///
/// Seeded: a store that continues after a failed sync, and a reopen that trusts what it reads from
/// the cache; both were seen here.
#[test]
fn a_sync_that_fails_ends_the_appends() {
    for segment_size in [TINY, 64 << 20] {
        for operation in [Operation::Sync, Operation::SyncDir] {
            for after in 0..12 {
                let bed = Bed { segment_size, ..Bed::simulated() };
                let store = bed.open();
                let context = (segment_size, operation, after);
                bed.sim().fail(failing(operation, after, 1, ErrorKind::Other));
                let acknowledged: Vec<_> = (0..12).take_while(|&n| commit(&store, n).is_ok()).collect();
                if acknowledged.len() == 12 {
                    // The sync of HEAD, which concerns no commit, or none of this kind.
                    crashes_leave(bed.sim(), &acknowledged, &context);
                    continue;
                }
                let unknown = acknowledged.len() as u64;
                for n in 20..23 {
                    let error = commit(&store, n).unwrap_err();
                    assert!(matches!(error, Error::DurabilityUnknown { .. }), "{context:?}: {error:?}");
                    assert!(error.to_string().contains("reopen"), "{error}");
                }
                let late = store.transaction().append(&stream("a-1"), Expected::Any, texts(["x"])).submit();
                assert!(matches!(late, Err(Error::DurabilityUnknown { .. })), "{late:?}");
                assert!(matches!(store.sync(), Err(Error::DurabilityUnknown { .. })));
                holds_commits(&store, &acknowledged, &context);

                // After any crash, and after a reopen, the commit is complete or absent.
                let with: Vec<_> = (0..=unknown).collect();
                let is_one_of = |store: &Store, context: &dyn std::fmt::Debug| {
                    let acknowledged_events: u64 = acknowledged.iter().map(|&n| size_of(n)).sum();
                    let there = if store.len() == acknowledged_events { &acknowledged } else { &with };
                    holds_commits(store, there, context);
                    there.clone()
                };
                for image in IMAGES {
                    let options = Options::new().maintenance(false).file_system(bed.sim().crash(image));
                    is_one_of(&options.open("store").unwrap(), &(context, image));
                }
                let handle = store.clone();
                assert!(matches!(store.close(), Err(Error::DurabilityUnknown { .. })), "{context:?}");
                holds_commits(&handle, &acknowledged, &context);
                let store = bed.open();
                let mut there = is_one_of(&store, &context);
                // What a reopened store shows is durable: the kernel takes the pages for clean, so
                // they must be written again.
                crashes_leave(bed.sim(), &there, &context);
                commit(&store, 50).unwrap();
                there.push(50);
                crashes_leave(bed.sim(), &there, &context);
                holds_commits(&store, &there, &context);
                bed.close_and_check(store);
            }
        }
    }
}

#[test]
fn every_waiter_hears_of_a_failed_sync() {
    let bed = Bed::simulated();
    let store = bed.open();
    let submit = |n| {
        let text = format!("{n}");
        store.transaction().append(&stream("s-1"), Expected::Next(n), texts([text.as_str()])).submit().unwrap()
    };
    let tickets: Vec<_> = (0..8).map(submit).collect();
    bed.sim().fail(failing(Operation::Sync, 0, 1, ErrorKind::Other));
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = tickets.into_iter().map(|ticket| scope.spawn(|| ticket.wait())).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(results.iter().all(|result| matches!(result, Err(Error::DurabilityUnknown { .. }))), "{results:?}");
    assert_eq!(store.len(), 0);
    drop(store);
    bed.close_and_check(bed.open());
}

#[test]
fn a_failed_sync_in_the_background_is_told_by_the_next_append() {
    for durability in [Durability::Interval(Duration::from_millis(2)), Durability::Os] {
        let bed = Bed::simulated().maintained(true);
        let store = bed.open_with(|options| options.durability(durability));
        bed.sim().fail(failing(Operation::Sync, 0, u64::MAX, ErrorKind::Other));
        let id = stream("s-1");
        store.append(&id, Expected::Any, texts(["x"])).unwrap();
        if durability == Durability::Os {
            assert!(matches!(store.sync(), Err(Error::DurabilityUnknown { .. })));
        }
        let mut tries = 0;
        let error = loop {
            match store.append(&id, Expected::Any, texts(["y"])) {
                Ok(_) if tries < 2000 => tries += 1,
                Ok(_) => panic!("no append returns it"),
                Err(error) => break error,
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        assert!(matches!(error, Error::DurabilityUnknown { .. }), "{error:?}");
        let records = all_records(&store);
        assert!(store.close().is_err());
        bed.sim().heal();
        let store = bed.open();
        assert_same(&all_records(&store), &records, &"the cache has it all");
        bed.close_and_check(store);
    }
}

/// The disk is full at each of many sizes, in the middle of frames and during a roll. Then there is
/// room again, and the same store continues.
#[test]
fn a_full_disk_at_any_point_and_then_room_again() {
    for segment_size in [TINY, 64 << 20] {
        for capacity in (0..30_000).step_by(371) {
            let bed = Bed { segment_size, ..Bed::simulated() };
            let store = bed.open_with(|options| options.reserve(0));
            let context = (segment_size, capacity);
            bed.sim().set_capacity(capacity);
            let mut stored = Vec::new();
            let mut refused = 0;
            for n in 0..12 {
                match commit(&store, n) {
                    Ok(()) => stored.push(n),
                    Err(error) => {
                        assert!(matches!(error, Error::Io { .. } | Error::DiskFull { .. }), "{context:?}: {error:?}");
                        refused += 1;
                    }
                }
                if refused == 1 {
                    holds_commits(&store, &stored, &context);
                    crashes_leave(bed.sim(), &stored, &context);
                }
            }
            assert!(refused > 0 || capacity > 8_000, "{context:?}");
            if capacity % 2 == 0 {
                // Closed while the disk is full: with an error or without, the lock is released and
                // nothing is lost.
                let (Ok(()) | Err(_)) = store.clone().close();
                bed.sim().heal();
                drop(store);
                let store = bed.open();
                holds_commits(&store, &stored, &context);
                commit(&store, 40).unwrap();
                stored.push(40);
                holds_commits(&store, &stored, &context);
                bed.close_and_check(store);
            } else {
                bed.sim().heal();
                for n in 40..46 {
                    commit(&store, n).unwrap();
                    stored.push(n);
                }
                holds_commits(&store, &stored, &context);
                crashes_leave(bed.sim(), &stored, &context);
                bed.close_and_check(store);
            }
        }
    }
}

/// Appends are refused before the disk is completely full, with the numbers that a person needs.
#[test]
fn a_reserve_is_kept_free() {
    let bed = Bed::simulated().tiny();
    let store = bed.open_with(|options| options.reserve(1 << 20));
    bed.sim().set_capacity((1 << 20) + 90_000);
    let mut stored = Vec::new();
    let error = loop {
        let n = stored.len() as u64;
        match commit(&store, n) {
            Ok(()) => stored.push(n),
            Err(error) => break error,
        }
    };
    let Error::DiskFull { path, available, reserve } = &error else { panic!("{error:?}") };
    assert_eq!((path.as_path(), *reserve), (Path::new("store"), 1 << 20));
    let text = error.to_string();
    assert!(text.contains("1048576") && text.contains(&available.to_string()), "{text}");
    assert!(!stored.is_empty());
    holds_commits(&store, &stored, &"full");
    crashes_leave(bed.sim(), &stored, &"full");
    bed.sim().heal();
    let n = stored.len() as u64;
    commit(&store, n).unwrap();
    stored.push(n);
    holds_commits(&store, &stored, &"room again");
    bed.close_and_check(store);
}

#[test]
fn short_and_interrupted_calls_are_not_noticed() {
    for segment_size in [TINY, 64 << 20] {
        for kind in [ErrorKind::Interrupted, ErrorKind::WriteZero] {
            for after in 0..30 {
                // Each short write stores half: not so often that nothing is stored.
                for times in if kind == ErrorKind::WriteZero { [1, 2, 3] } else { [1, 3, 20] } {
                    let bed = Bed { segment_size, ..Bed::simulated() };
                    let context = (segment_size, kind, after, times);
                    bed.sim().fail(failing(Operation::Write, after, times, kind));
                    if kind == ErrorKind::Interrupted {
                        bed.sim().fail(failing(Operation::Read, after, times, kind));
                    }
                    let store = bed.open();
                    for n in 0..6 {
                        commit(&store, n).unwrap_or_else(|e| panic!("{context:?}: {e}"));
                    }
                    let stored: Vec<_> = (0..6).collect();
                    holds_commits(&store, &stored, &context);
                    crashes_leave(bed.sim(), &stored, &context);
                    store.close().unwrap();
                    holds_commits(&bed.open(), &stored, &context);
                }
            }
        }
    }
}

/// `sync` and `close` write what was accepted. If that fails, they return the error as well as the
/// ticket, which may have been dropped.
#[test]
fn a_sync_or_close_tells_of_what_it_could_not_write() {
    for closes in [false, true] {
        for durability in [Durability::Sync, Durability::Os] {
            let bed = Bed::simulated();
            let store = bed.open_with(|options| options.durability(durability));
            let ticket = store.transaction().append(&stream("s-1"), Expected::Any, texts(["x"])).submit().unwrap();
            bed.sim().fail(failing(Operation::Write, 0, 1, ErrorKind::StorageFull));
            let handle = store.clone();
            let result = if closes { store.close() } else { store.sync() };
            assert!(matches!(ticket.wait(), Err(Error::Io { .. })));
            assert_eq!(handle.len(), 0);
            assert!(matches!(result, Err(Error::Io { .. })), "closes: {closes}: {result:?}");
        }
    }
}

/// Each call of an open fails once. In any case the lock is free, and the next open finds
/// everything.
#[test]
fn an_open_that_fails_can_be_repeated() {
    let operations = [
        Operation::Write,
        Operation::Read,
        Operation::Sync,
        Operation::SyncDir,
        Operation::Create,
        Operation::Truncate,
        Operation::Rename,
        Operation::Remove,
    ];
    let stored: Vec<_> = (0..9).collect();
    for segment_size in [TINY, 64 << 20] {
        // A store that was closed, one whose process was killed, one with a torn tail.
        let origin = Bed { segment_size, ..Bed::simulated() };
        let store = origin.open();
        stored.iter().for_each(|&n| commit(&store, n).unwrap());
        let killed = origin.sim().crash(Image::Killed);
        let newest = store.stats().unwrap().segments.pop().unwrap();
        store.close().unwrap();
        let torn = origin.sim().crash(Image::All);
        let mut bytes = torn.contents(&newest.path).unwrap();
        bytes.extend_from_slice(&noise(1, 500));
        torn.set_contents(&newest.path, bytes);
        let closed = origin.sim().crash(Image::All);
        for (sort, disk) in [("new", SimFs::new()), ("closed", closed), ("killed", killed), ("torn", torn)] {
            let stored = if sort == "new" { &stored[..0] } else { &stored[..] };
            for operation in operations {
                for after in 0..8 {
                    let context = (segment_size, sort, operation, after);
                    let disk = disk.crash(Image::Killed);
                    let bed = Bed { disk: Disk::Simulated(disk), segment_size, ..Bed::simulated() };
                    bed.sim().fail(failing(operation, after, 1, ErrorKind::Other));
                    match bed.options().open(bed.path()) {
                        Ok(store) => {
                            bed.sim().heal();
                            holds_commits(&store, stored, &context);
                        }
                        // The directory above is synced, too, when it gets a new name.
                        Err(Error::Io { path, .. }) => {
                            assert!(path.starts_with("store") || path == Path::new("."), "{context:?}: {path:?}");
                        }
                        Err(error) => panic!("{context:?}: {error:?}"),
                    }
                    bed.sim().heal();
                    crashes_leave(bed.sim(), stored, &context);
                    let store = bed.open();
                    holds_commits(&store, stored, &context);
                    commit(&store, 70).unwrap();
                    let stored: Vec<_> = stored.iter().copied().chain([70]).collect();
                    crashes_leave(bed.sim(), &stored, &context);
                    bed.close_and_check(store);
                }
            }
        }
    }
}

/// Each call of a close fails once: the error is returned or does not matter; the lock is released,
/// and everything is there.
#[test]
fn a_close_that_fails_gives_up_the_lock() {
    let stored: Vec<_> = (0..7).collect();
    for operation in [Operation::Write, Operation::Sync, Operation::SyncDir, Operation::Create, Operation::Truncate] {
        for durability in [Durability::Sync, Durability::Os] {
            for after in 0..5 {
                let bed = Bed::simulated().tiny();
                let context = (operation, durability, after);
                let store = bed.open_with(|options| options.durability(durability));
                stored.iter().for_each(|&n| commit(&store, n).unwrap());
                bed.sim().fail(failing(operation, after, 1, ErrorKind::Other));
                let handle = store.clone();
                let closed = store.close();
                let right = matches!(closed, Ok(()) | Err(Error::Io { .. } | Error::DurabilityUnknown { .. }));
                assert!(right, "{context:?}: {closed:?}");
                bed.sim().heal();
                if closed.is_ok() || durability == Durability::Sync {
                    crashes_leave(bed.sim(), &stored, &context);
                }
                holds_commits(&handle, &stored, &context);
                let store = bed.open();
                holds_commits(&store, &stored, &context);
                commit(&store, 60).unwrap();
                bed.close_and_check(store);
            }
        }
    }
}

// ---------------------------------------------------------------- what errors say

#[test]
fn errors_tell_what_a_person_needs() {
    let bed = Bed::directory();
    let store = bed.open();
    let id = stream("order-123@what-if");
    store.append(&id, Expected::Any, texts(["a", "b"])).unwrap();
    let text = |result: Result<annals::Appended>| result.unwrap_err().to_string();
    let conflict = text(store.append(&id, Expected::Next(17), texts(["x"])));
    assert!(["order-123@what-if", "17", "2"].iter().all(|part| conflict.contains(part)), "{conflict}");
    let conflict = text(store.append(&id, Expected::NoStream, texts(["x"])));
    assert!(conflict.contains("no events") && conflict.contains('2'), "{conflict}");
    let large = text(store.append(&id, Expected::Any, [NewEvent::new("T".repeat(300), "")]));
    assert!(large.contains("300") && large.contains("255") && large.contains("type"), "{large}");
    let empty = text(store.append(&id, Expected::Any, [NewEvent::new("", "")]));
    assert!(empty.contains("type") && empty.contains("empty"), "{empty}");
    let handle = store.clone();
    store.close().unwrap();
    let closed = text(handle.append(&id, Expected::Any, texts(["x"])));
    assert!(closed.contains("closed"), "{closed}");
    drop(handle);
    let read_only = text(bed.read_only().append(&id, Expected::Any, texts(["x"])));
    assert!(read_only.contains("read-only"), "{read_only}");

    let ill = Bed::simulated();
    let store = ill.open();
    ill.sim().fail(failing(Operation::Write, 0, 1, ErrorKind::StorageFull));
    let error = commit(&store, 0).unwrap_err();
    let told = error.to_string();
    assert!(told.contains("write") && told.contains(".seg") && told.contains("store"), "{told}");
    let source = std::error::Error::source(&error).unwrap().downcast_ref::<std::io::Error>().unwrap();
    assert_eq!(source.kind(), ErrorKind::StorageFull);
    // Errors can be cloned and passed between threads.
    let clone = error.clone();
    assert_eq!(std::thread::spawn(move || clone.to_string()).join().unwrap(), told);
}
