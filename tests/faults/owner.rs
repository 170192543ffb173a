//! The owner of a directory: locks, names, foreign files, a directory that moves.

use annals::fs::{File, Fs, FsLayer, Mode, Paced, RealFs};
use annals::offline::{Repair, verify, verify_in};
use annals::progress::ExpectedVersion;
use annals::{Error, Event, Expected, NewEvent, Options, Result, Store};
use annals_testkit::*;
use annals_testkit::{Image, SimFs};
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex};

fn append(store: &Store, id: &str) -> Result<u64> {
    let event = NewEvent::with_data("T", vec![7; 300]);
    store.append(&stream(id), Expected::Any, [event]).map(|appended| appended.positions.start)
}

/// Returns how many of so many appends are acknowledged, up to the first error.
fn appends(store: &Store, id: &str, count: usize) -> u64 {
    (0..count).take_while(|_| append(store, id).is_ok()).count() as u64
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::<_, _>::unwrap) {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

fn names(dir: &Path) -> BTreeSet<String> {
    fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

fn puts_a_position(store: &Store) -> Result<()> {
    store.positions().put("billing", &stream("running-1"), 1)?;
    store.positions().flush()
}

// ---------------------------------------------------------------- the directory

/// A directory was moved away under a running store, and another store was put in its place: a
/// backup, or a new store. Each file was opened by its path, so the running store wrote its next
/// segment, its indexes and POSITIONS into the other store, which no longer opened, and neither had
/// everything acknowledged. Now a store works relative to the directory that it has opened.
#[test]
fn a_store_goes_on_in_its_own_directory_when_another_takes_the_name() {
    for restored in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let (path, aside, backup) = (dir.path().join("store"), dir.path().join("store.old"), dir.path().join("backup"));
        // Without a thread that makes indexes while the copy is made.
        let running = Options::new().maintenance(false).segment_size(TINY).open(&path).unwrap();
        assert_eq!(appends(&running, "running-1", 50), 50);
        copy(&path, &backup);
        fs::rename(&path, &aside).unwrap();
        if restored {
            copy(&backup, &path);
        }
        // Nothing keeps the other store from opening: it is another directory.
        let other = Store::open(&path).unwrap();
        let before = other.len();
        assert_eq!(appends(&other, "other-1", 10), 10);
        let here = names(&path);
        assert_eq!(appends(&running, "running-1", 200), 200);
        puts_a_position(&running).unwrap();
        assert!(running.snapshots().put(&stream("running-1"), 9, &7u32).is_ok());
        running.close().unwrap();
        assert_eq!(names(&path), here, "the running store leaves nothing in the directory of the other one");
        assert_eq!(appends(&other, "other-1", 1), 1);
        other.close().unwrap();

        assert_eq!(Store::open(&path).unwrap().len(), before + 11);
        let report = verify(&aside).unwrap();
        assert!(report.is_sound() && report.events == 250, "{report:?}");
        let again = Store::open(&aside).unwrap();
        assert_eq!(again.positions().get("billing", &stream("running-1")).unwrap(), Some(1));
    }
}

/// The same on the simulated disk, followed by a power cut.
#[test]
fn two_directories_that_change_their_names_keep_what_each_store_has_acknowledged() {
    let disk = SimFs::new();
    let open = |path: &str| {
        Options::new().file_system(disk.clone()).maintenance(false).segment_size(TINY).reserve(0).open(path).unwrap()
    };
    let running = open("shop/store");
    assert_eq!(appends(&running, "running-1", 30), 30);
    disk.rename_dir("shop/store", "shop/aside");
    let other = open("shop/store");
    for _ in 0..30 {
        assert_eq!((appends(&running, "running-1", 1), appends(&other, "other-1", 1)), (1, 1));
    }
    puts_a_position(&running).unwrap();
    let cut = disk.crash(Image::Durable);
    for (path, events) in [("shop/aside", 60), ("shop/store", 30)] {
        let report = verify_in(&cut, path).unwrap();
        assert!(report.is_sound() && report.events == events, "{path}: {report:?}");
    }
    assert!(cut.contents("shop/aside/POSITIONS").is_some() && cut.contents("shop/store/POSITIONS").is_none());
}

/// Two stores append, flush positions, and are closed and opened again, while their directories are
/// renamed at random; each step ends in a power cut, all images of which must show what each store
/// has acknowledged, and nothing of the other one.
#[test]
fn stores_whose_directories_are_renamed_at_random() {
    for seed in 0..40 {
        let mut random = seed * 2 + 1u64;
        let mut below = |end: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % end
        };
        let disk = SimFs::new();
        let open = |disk: &SimFs, path: &str| {
            let options = Options::new().file_system(disk.clone()).maintenance(false).segment_size(TINY).reserve(0);
            options.open(path).unwrap()
        };
        // Where each one is now, and how many events it has acknowledged.
        let mut places = ["d/one".to_owned(), "d/other".to_owned()];
        let mut counts = [0, 0];
        let mut stores = places.clone().map(|path| Some(open(&disk, &path)));
        for step in 0..40 {
            let n = below(2) as usize;
            match below(6) {
                0 => {
                    disk.rename_dir(&places[0], "d/between");
                    disk.rename_dir(&places[1], &places[0]);
                    disk.rename_dir("d/between", &places[1]);
                    places.swap(0, 1);
                }
                1 => {
                    let to = format!("d/{step}");
                    disk.rename_dir(&places[n], &to);
                    places[n] = to;
                }
                2 => {
                    drop(stores[n].take());
                    stores[n] = Some(open(&disk, &places[n]));
                }
                3 => {
                    let store = stores[n].as_ref().unwrap();
                    store.positions().put("h", &stream(&format!("s-{n}")), counts[n]).unwrap();
                    store.positions().flush().unwrap();
                }
                _ => counts[n] += appends(stores[n].as_ref().unwrap(), &format!("s-{n}"), 5),
            }
            for image in [Image::Durable, Image::All, Image::Subset(below(u64::MAX))] {
                let cut = disk.crash(image);
                for n in 0..2 {
                    let again = open(&cut, &places[n]);
                    let seen: BTreeSet<_> =
                        again.read_all().into_iter().map(|e| e.unwrap().stream().to_string()).collect();
                    let own = seen.iter().all(|id| *id == format!("s-{n}"));
                    assert!(again.len() == counts[n] && own, "seed {seed}, step {step}, {image:?}: {seen:?}");
                }
            }
        }
    }
}

const PLACE: &str = "ANNALS_TEST_CHDIR";

/// Not a test: the part of another process, as a process has one working directory.
#[test]
fn what_a_process_with_another_working_directory_does() {
    let Some(place) = std::env::var_os(PLACE).map(PathBuf::from) else { return };
    std::env::set_current_dir(&place).unwrap();
    let store = Options::new().segment_size(TINY).file_system(Paced::new(RealFs)).open("held").unwrap();
    assert_eq!(appends(&store, "s-1", 5), 5);
    std::env::set_current_dir(place.join("elsewhere")).unwrap();
    assert_eq!(appends(&store, "s-1", 50), 50);
    puts_a_position(&store).unwrap();
    store.close().unwrap();
    std::env::set_current_dir(&place).unwrap();
    // Also if damage is found when the store is already open, so that it is opened once more to
    // read around it.
    let reader = Options::new().open_read_only("held").unwrap();
    let segment = place.join("held/00000000000000000001.seg");
    let mut bytes = fs::read(&segment).unwrap();
    bytes[1000] ^= 1;
    fs::write(&segment, bytes).unwrap();
    std::env::set_current_dir(place.join("elsewhere")).unwrap();
    let (read, gaps): (Vec<_>, Vec<_>) = reader.read_all().into_iter().partition(Result::is_ok);
    assert!(read.len() >= 53 && gaps.len() == 1, "{} events, {gaps:?}", read.len());
}

/// A store was opened by a relative path, and the process changed its working directory (as a
/// daemon does): the next segment could not be created, and in a directory of the same name it
/// would have been created elsewhere. Now the path is resolved when the store is opened.
#[test]
fn a_relative_path_counts_at_the_time_of_opening() {
    let dir = tempfile::tempdir().unwrap();
    // Where the files would go.
    fs::create_dir_all(dir.path().join("elsewhere/held")).unwrap();
    let test = "owner::what_a_process_with_another_working_directory_does";
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--test-threads=1"])
        .env(PLACE, dir.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    assert!(names(&dir.path().join("elsewhere/held")).is_empty());
    // One event was damaged to be read around.
    assert_eq!(verify(dir.path().join("held")).unwrap().events, 54);
}

// ---------------------------------------------------------------- the lock

/// A user took LOCK for a left-over and removed it while the store was open. The next process found
/// no lock and opened the store, too: both acknowledged, and the commits of one of them were lost.
/// Now the directory is locked as well, so the second one is refused.
#[cfg(unix)]
#[test]
fn a_second_writer_is_refused_although_lock_was_removed() {
    for replaced in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let first = Options::new().segment_size(TINY).maintenance(false).open(&path).unwrap();
        assert_eq!(appends(&first, "first-1", 5), 5);
        fs::remove_file(path.join("LOCK")).unwrap();
        if replaced {
            fs::write(path.join("LOCK"), "").unwrap();
        }
        for _ in 0..2 {
            let second = Store::open(&path);
            assert!(matches!(&second, Err(Error::Locked { .. })), "{second:?}");
            let reader = Options::new().open_read_only(&path);
            assert!(matches!(&reader, Err(Error::Locked { .. })), "{reader:?}");
            let text = reader.unwrap_err().to_string();
            assert!(text.contains("LOCK may have been removed"), "{text}");
        }
        let repair = Repair::new().run(&path);
        assert!(matches!(&repair, Err(Error::Locked { .. })), "{repair:?}");
        // The first one has noticed when its segment is full.
        let acknowledged = 5 + appends(&first, "first-1", 200);
        assert!(acknowledged < 30, "{acknowledged}");
        assert!(matches!(append(&first, "first-1"), Err(Error::LockLost { path: lost }) if lost == path.join("LOCK")));
        // It accepts nothing that could not be kept, either.
        let put = first.positions().put("billing", &stream("first-1"), 0);
        assert!(matches!(put, Err(Error::LockLost { .. })), "{put:?}");
        let moved = first.checkpoints().commit("mailer", 0, ExpectedVersion::Any);
        assert!(matches!(moved, Err(Error::LockLost { .. })), "{moved:?}");
        assert!(matches!(first.close(), Err(Error::LockLost { .. })));
        let again = Store::open(&path).unwrap();
        assert_eq!(again.len(), acknowledged);
    }
}

/// The same if a directory cannot be locked: then the second one opens. The first one notices
/// before it begins or ends a segment, and before it writes HEAD or POSITIONS, and writes nothing
/// from then on.
#[test]
fn a_store_whose_lock_was_removed_writes_nothing_once_it_looks() {
    for step in ["close", "drop", "position", "roll", "snapshot", "sync"] {
        let disk = SimFs::new();
        let open = || {
            let options = Options::new().file_system(disk.clone()).maintenance(false).segment_size(TINY).reserve(0);
            options.open("store")
        };
        let first = open().unwrap();
        assert_eq!(appends(&first, "first-1", 3), 3);
        disk.delete("store/LOCK");
        let second = open().unwrap();
        assert_eq!(appends(&second, "second-1", 2), 2);
        let before: Vec<_> = disk.files().into_iter().map(|path| (disk.contents(&path), path)).collect();
        let lost = |result: Result<()>| assert!(matches!(result, Err(Error::LockLost { .. })), "{step}: {result:?}");
        match step {
            "close" => lost(first.close()),
            "drop" => drop(first),
            "position" => {
                lost(puts_a_position(&first));
                lost(append(&first, "first-1").map(drop));
                lost(first.close());
            }
            "roll" => {
                // Too large for the rest of the segment.
                let big = NewEvent::with_data("T", vec![7; 3500]);
                lost(first.append(&stream("first-1"), Expected::Any, [big]).map(drop));
                lost(append(&first, "first-1").map(drop));
            }
            "snapshot" => {
                lost(first.snapshots().put(&stream("first-1"), 1, &7u32).map(drop));
                lost(first.close());
            }
            // There is nothing to sync, and closing finds out.
            _ => drop((first.sync(), first)),
        }
        let after: Vec<_> = disk.files().into_iter().map(|path| (disk.contents(&path), path)).collect();
        assert!(before == after, "{step}: the files are the second one's");
        assert_eq!(appends(&second, "second-1", 20), 20, "{step}");
        second.close().unwrap();
        let report = verify_in(&disk, "store").unwrap();
        assert!(report.is_sound() && report.events == 25, "{step}: {report:?}");
    }
}

/// The directory was removed under a running store, which continued to acknowledge into files
/// without a name. Now it notices on its own.
#[cfg(unix)]
#[test]
fn a_store_whose_directory_was_removed_stops() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = Store::open(&path).unwrap();
    assert_eq!(appends(&store, "s-1", 3), 3);
    fs::remove_dir_all(&path).unwrap();
    // The maintenance thread checks every 100 ms while there are commits. No segment is full and
    // nothing is closed.
    let error = (0..5_000).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(1));
        append(&store, "s-1").err()
    });
    assert!(matches!(error, Some(Error::LockLost { .. })), "{error:?}");
    assert!(matches!(store.close(), Err(Error::LockLost { .. })));
    assert!(!path.exists());
}

/// A process with an open store was forked, and the child dropped its copy of the handle: that
/// unlocked the open file, which both share, and another process could write beside the parent. The
/// child also waited for a thread that only the parent has. Now a handle does nothing in another
/// process than the one that opened it, and returns an error.
#[cfg(unix)]
#[test]
fn a_forked_child_does_nothing_with_the_handle() {
    use std::os::unix::process::CommandExt;
    for maintenance in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let store = Options::new().maintenance(maintenance).segment_size(TINY).open(&path).unwrap();
        // Few enough that the parent makes no spare file meanwhile. It may mark them durable in
        // HEAD.
        assert_eq!(appends(&store, "parent-1", 1), 1);
        store.positions().put("billing", &stream("parent-1"), 0).unwrap();
        let files = || -> Vec<_> {
            let names = names(&path).into_iter().filter(|name| name != "HEAD");
            names.map(|name| (fs::read(path.join(&name)).unwrap(), name)).collect()
        };
        let before = files();

        let told = dir.path().join("told");
        let handle = Arc::new(Mutex::new(Some(store)));
        let (copied, report) = (handle.clone(), told.clone());
        let in_child = move || {
            let store = copied.lock().unwrap().take().expect("it is in the memory that was copied");
            // More than the rest of the segment, too.
            let big = NewEvent::with_data("T", vec![7; 3900]);
            let results = [
                append(&store, "child-1").map(drop),
                store.append(&stream("child-1"), Expected::Any, [big]).map(drop),
                store.positions().put("billing", &stream("parent-1"), 0).map(drop),
                store.checkpoints().commit("mailer", 0, ExpectedVersion::Any).map(drop),
                store
                    .consumer("mailer")
                    .until_caught_up()
                    .run(|event: &Event| assert!(event.position() > 9, "handed out"))
                    .map(drop),
                store.positions().flush(),
                store.snapshots().put(&stream("parent-1"), 0, &7u32).map(drop),
                store.sync(),
                store.clone().close(),
            ];
            let refused = results.iter().all(|result| matches!(result, Err(Error::Forked { .. })));
            let read = store.read(&stream("parent-1")).into_iter().filter(Result::is_ok).count();
            fs::write(&report, format!("{refused} {read} {results:?}"))?;
            // The last handle in this process.
            drop(store);
            fs::write(report.with_extension("dropped"), "")?;
            Ok(())
        };
        let mut command = Command::new("true");
        // SAFETY: the child allocates and writes a file, and the other threads of this process hold
        // none of its locks for long; at worst it hangs.
        unsafe { command.pre_exec(in_child) };
        assert!(command.status().unwrap().success());
        assert!(told.with_extension("dropped").exists());
        let told = fs::read_to_string(told).unwrap();
        assert!(told.starts_with("true 1 "), "{told}");

        assert!(before == files(), "the child has changed files: {:?}", names(&path));
        let second = Store::open(&path);
        assert!(matches!(&second, Err(Error::Locked { .. })), "the child has released the lock: {second:?}");
        let store = handle.lock().unwrap().take().unwrap();
        assert_eq!(appends(&store, "parent-1", 40), 40);
        store.close().unwrap();
        assert_eq!(Store::open(&path).unwrap().len(), 41);
    }
}

/// A forked child may read. A reader that meets a broken index rebuilds it, and writes it: not in
/// the child.
#[cfg(unix)]
#[test]
fn a_forked_child_that_reads_makes_no_index() {
    use std::os::unix::process::CommandExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let options = Options::new().maintenance(false).memory_map(false).segment_size(TINY);
    let store = Arc::new(options.open(&path).unwrap());
    assert_eq!(appends(&store, "s-1", 30), 30);
    let index = path.join("00000000000000000001.idx");
    let mut spoiled = fs::read(&index).unwrap();
    // After the header, which is already known.
    spoiled[512..].iter_mut().for_each(|byte| *byte ^= 1);
    fs::write(&index, &spoiled).unwrap();

    let (copied, told) = (store.clone(), dir.path().join("told"));
    let report = told.clone();
    let read = |store: &Store| store.read(&stream("s-1")).into_iter().filter(Result::is_ok).count();
    let mut command = Command::new("true");
    // SAFETY: as above.
    unsafe { command.pre_exec(move || fs::write(&report, read(&copied).to_string())) };
    assert!(command.status().unwrap().success());
    assert_eq!(fs::read_to_string(told).unwrap(), "30");
    assert!(fs::read(&index).unwrap() == spoiled, "the child has rebuilt the index");
    assert_eq!(read(&store), 30);
    assert!(fs::read(&index).unwrap() != spoiled, "the parent rebuilds it");
}

/// A writer was killed while a reader had the store open, or left the lock to a process that it had
/// forked. The next process got an error that the dead process holds the lock: its id, from LOCK,
/// may be that of an innocent one by now.
#[cfg(unix)]
#[test]
fn who_is_locked_out_is_not_told_of_a_dead_process() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    let store = Store::open(&path).unwrap();
    append(&store, "s-1").unwrap();
    let owner = |opened: Result<Store>| match opened {
        Err(Error::Locked { owner, .. }) => owner.unwrap(),
        other => panic!("not locked: {other:?}"),
    };
    let signature = fs::read_to_string(path.join("LOCK")).unwrap();
    assert_eq!(owner(Store::open(&path)), signature.trim());
    store.close().unwrap();
    assert_eq!(fs::read_to_string(path.join("LOCK")).unwrap(), "");

    let mut dead = Command::new("true").spawn().unwrap();
    dead.wait().unwrap();
    let left = signature.replace(&std::process::id().to_string(), &dead.id().to_string());
    fs::write(path.join("LOCK"), &left).unwrap();
    let reader = Options::new().open_read_only(&path).unwrap();
    assert_eq!(owner(Store::open(&path)), "a process that reads it");
    drop(reader);

    let child = fs::File::options().read(true).write(true).open(path.join("LOCK")).unwrap();
    child.lock().unwrap();
    for opened in [Store::open(&path), Options::new().open_read_only(&path)] {
        let owner = owner(opened);
        assert!(owner.starts_with("an unknown process") && owner.contains("does not run"), "{owner}");
    }
    drop(child);
    // One on another host may be running.
    let far = format!("pid {} on another-host", dead.id());
    fs::write(path.join("LOCK"), &far).unwrap();
    let child = fs::File::open(path.join("LOCK")).unwrap();
    child.lock().unwrap();
    assert_eq!(owner(Store::open(&path)), far);
    drop(child);
    assert_eq!(Store::open(&path).unwrap().len(), 1);
}

/// The disk was completely full, and a store that had been closed cleanly did not open: the text in
/// LOCK, which is for people only, could not be written. Now the lock does not need it.
#[cfg(target_os = "linux")]
#[test]
fn a_lock_is_had_although_its_text_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store");
    append(&Store::open(&path).unwrap(), "s-1").unwrap();
    fs::remove_file(path.join("LOCK")).unwrap();
    // Each write to this one fails as on a full disk.
    std::os::unix::fs::symlink("/dev/full", path.join("LOCK")).unwrap();
    let store = Store::open(&path).unwrap();
    append(&store, "s-1").unwrap();
    assert!(matches!(Store::open(&path), Err(Error::Locked { .. })));
    store.close().unwrap();
    assert_eq!(Store::open(&path).unwrap().len(), 2);
}

// ---------------------------------------------------------------- files

/// Refuses to open one file for writing.
#[derive(Debug)]
struct Protected(&'static str);

impl FsLayer for Protected {
    fn inner(&self) -> &dyn Fs {
        &RealFs
    }

    fn open(&self, path: &Path, mode: Mode) -> io::Result<Arc<dyn File>> {
        match path.ends_with(self.0) && mode != Mode::Read {
            true => Err(io::ErrorKind::PermissionDenied.into()),
            false => RealFs.open(path, mode),
        }
    }
}

/// Sealed segments were made read-only, to protect them, or were on read-only media. They are never
/// written to again, yet the store did not open for writing, as it opened all of them for writing.
#[test]
fn sealed_segments_may_be_read_only() {
    let dir = tempfile::tempdir().unwrap();
    let options = || Options::new().segment_size(TINY);
    let store = options().open(dir.path()).unwrap();
    assert_eq!(appends(&store, "s-1", 30), 30);
    store.close().unwrap();
    let segments: Vec<_> = names(dir.path()).into_iter().filter(|name| name.ends_with(".seg")).collect();
    assert!(segments.len() > 2);
    for protected in ["00000000000000000001.seg", "00000000000000000002.seg", "00000000000000000001.idx"] {
        let store = options().file_system(Protected(protected)).open(dir.path()).unwrap();
        let before = store.len();
        assert_eq!(appends(&store, "s-1", 20), 20);
        store.close().unwrap();
        assert_eq!(options().open_read_only(dir.path()).unwrap().len(), before + 20);
    }
    // The one that is written to must be writable.
    let newest = names(dir.path()).into_iter().rfind(|name| name.ends_with(".seg")).unwrap();
    let opened = options().file_system(Protected(newest.leak())).open(dir.path());
    assert!(matches!(&opened, Err(Error::Io { operation: "open", .. })), "{opened:?}");
}

/// Opening removed every file whose name begins with `SPARE.`, including those of the user, and
/// later those of zeros under a name with a number. Now only files are removed that the store
/// itself can have made: by name, which says which store made it, and by content.
#[test]
fn only_spare_files_of_the_store_are_removed() {
    let dir = tempfile::tempdir().unwrap();
    let header = |store: &Path| fs::read(store.join("00000000000000000001.seg")).unwrap()[..128].to_vec();
    append(&Store::open(dir.path()).unwrap(), "s-1").unwrap();
    // The names that the store assigns to its own.
    let store = Options::new().segment_size(TINY).maintenance(false).open(dir.path()).unwrap();
    let mut own = BTreeSet::new();
    while own.len() < 5 {
        append(&store, "s-1").unwrap();
        own.extend(names(dir.path()).into_iter().filter(|name| name.starts_with("SPARE.")));
    }
    store.close().unwrap();
    let own: Vec<_> = own.into_iter().collect();
    let whole = |start: &[u8]| [start, &vec![0; 8192 - start.len()]].concat();
    let torn: Vec<u8> =
        header(dir.path()).iter().enumerate().map(|(n, &byte)| if n % 3 == 0 { 0 } else { byte }).collect();
    let mut ends_in_text = whole(b"");
    ends_in_text.extend_from_slice(b"the end");
    let (zeros, begun) = (whole(b""), whole(&header(dir.path())));
    let mine: [(&str, &[u8]); 14] = [
        ("SPARE.parts.csv", b""),
        ("SPARE.txt", b"mine"),
        ("SPARE.7.bak", &[0; 100]),
        ("SPARE.", b""),
        ("SPARE.007", &[0; 100]),
        ("SPARE.+7", &[0; 100]),
        ("SPARE.99999999999999999999", &[0; 100]),
        ("SPARE.1", b"mine"),
        ("SPARE.2", &ends_in_text),
        ("SPARE.3", &header(dir.path())),
        ("SPARE.4", &zeros),
        ("SPARE.5", &begun),
        ("SPARE.8", b""),
        (&own[4], &ends_in_text),
    ];
    let left = [(&own[0], zeros.clone()), (&own[1], begun.clone()), (&own[2], whole(&torn)), (&own[3], vec![0; 9])];
    for (name, bytes) in mine {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    for (name, bytes) in &left {
        fs::write(dir.path().join(name), bytes).unwrap();
    }
    fs::create_dir(dir.path().join("SPARE.9")).unwrap();
    let not_covered = verify(dir.path()).unwrap().not_covered;
    assert!(mine[..7].iter().all(|(name, _)| not_covered.iter().any(|other| other == name)), "{not_covered:?}");
    // As many as there are files of others with which the name of a new spare file could collide.
    let store = Options::new().segment_size(TINY).open(dir.path()).unwrap();
    assert_eq!(store.open_report().notices.len(), 7, "{:?}", store.open_report());
    assert_eq!(appends(&store, "s-1", 60), 60);
    store.close().unwrap();
    let still: Vec<_> = names(dir.path()).into_iter().filter(|name| name.starts_with("SPARE")).collect();
    assert_eq!(still.len(), mine.len() + 1, "{still:?}");
    for (name, bytes) in mine {
        assert_eq!(fs::read(dir.path().join(name)).unwrap(), bytes, "{name}");
    }
    assert!(verify(dir.path()).unwrap().is_sound());
}

/// A store was opened in another program's directory by mistake, such as `.git`: its HEAD was
/// overwritten, which destroyed the repository. Now, if a name of the store belongs to a foreign
/// file, and no file is of a store, nothing is touched.
#[test]
fn a_directory_of_something_else_is_left_alone() {
    let content = |dir: &Path| -> Vec<_> {
        names(dir).into_iter().map(|name| (fs::read(dir.join(&name)).unwrap(), name)).collect()
    };
    for (name, text) in
        [("HEAD", "ref: refs/heads/main\n"), ("HEAD", "x"), ("LOCK", "held by the backup"), ("POSITIONS", "1 2 3")]
    {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(name), text).unwrap();
        fs::write(dir.path().join("config"), "[core]").unwrap();
        let before = content(dir.path());
        for opened in [Store::open(dir.path()), Options::new().create(false).open(dir.path())] {
            let path = dir.path().join(name);
            assert!(matches!(&opened, Err(Error::ForeignFile { path: foreign }) if *foreign == path), "{opened:?}");
        }
        assert!(Options::new().open_read_only(dir.path()).is_err());
        assert!(Repair::new().run(dir.path()).is_err());
        assert_eq!(content(dir.path()), before, "{name}: {text}");
    }
}

/// A store shares its directory with files of other names, and what a crash leaves of its own files
/// is not foreign.
#[test]
fn other_names_and_remains_of_a_store_are_no_hindrance() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("config.toml"), "[core]").unwrap();
    // Directories of another program with names that a store uses, too.
    for name in ["snapshots", "projections"] {
        fs::create_dir(dir.path().join(name)).unwrap();
        fs::write(dir.path().join(name).join("my_test.snap"), "---\nsource: tests/x.rs\n").unwrap();
    }
    fs::write(dir.path().join("LOCK"), "pid 12 on this").unwrap();
    fs::write(dir.path().join("HEAD"), vec![0; 1024]).unwrap();
    append(&Store::open(dir.path()).unwrap(), "s-1").unwrap();
    // Damage of HEAD is no reason, either, if there are segments.
    fs::write(dir.path().join("HEAD"), "torn").unwrap();
    fs::write(dir.path().join("LOCK"), "torn").unwrap();
    assert_eq!(Store::open(dir.path()).unwrap().len(), 1);
    assert_eq!(fs::read_to_string(dir.path().join("config.toml")).unwrap(), "[core]");
}
