//! Interruption of verbs that write.
#![cfg(unix)]

use super::*;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

const TERM: i32 = 15;

fn terminate(child: &Child) {
    let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(sent.success());
}

fn ended(mut child: Child) -> (Option<i32>, String) {
    let status = child.wait().unwrap();
    let mut stderr = String::new();
    child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
    (status.signal(), stderr)
}

fn numbered(lines: std::ops::Range<usize>) -> String {
    lines.map(|n| format!("{{\"stream\":\"a-1\",\"type\":\"T\",\"data\":{n}}}\n")).collect()
}

/// An interrupted import did not say how many events it had stored, nor how to continue, so that
/// the same command stored them twice. And the lines that it had read from a pipe and not stored
/// were lost. Now it stores what it has read, even if it is interrupted while it waits for more,
/// and prints the number for `--skip`.
#[test]
fn an_import_stores_what_it_has_read_and_says_how_to_go_on() {
    for (from, skip) in [(0, None), (10, Some("10"))] {
        let place = place();
        if skip.is_some() {
            place.run_with("import", &[], numbered(0..10).as_bytes()).ok();
        }
        let mut command = command();
        command.arg("import").arg(&place.store).args(["-", "--batch", "4", "--acknowledge"]);
        command.args(skip.iter().flat_map(|skip| ["--skip", skip]));
        let mut child = start(command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()));
        // An incomplete line is not an event.
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(format!("{}{{\"stream\":", numbered(0..from + 10)).as_bytes()).unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap()).lines();
        let acknowledged = format!("acknowledged {}", from + 8);
        assert!(stdout.any(|line| line.unwrap() == acknowledged));
        terminate(&child);
        let (signal, stderr) = ended(child);
        drop(pipe);
        assert_eq!(signal, Some(TERM), "{stderr}");
        let upto = from + 10;
        let said = format!(
            "annals: error: interrupted\nhint: 10 events are imported and stay; continue after them with --skip \
                {upto}\n"
        );
        assert_eq!(stderr, said);
        place.run_with("import", &["--skip", &upto.to_string()], numbered(0..upto + 5).as_bytes()).ok();
        let data: Vec<_> = place.export().lines().map(|line| json(line)["data"].as_u64().unwrap()).collect();
        assert_eq!(data, (0..upto as u64 + 5).collect::<Vec<_>>());
    }
}

#[test]
fn an_import_that_has_read_nothing_leaves_nothing() {
    for begun in ["", "{\"stream\":"] {
        let place = place();
        let mut command = command();
        command.arg("import").arg(&place.store);
        let mut child = start(command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()));
        let mut pipe = child.stdin.take().unwrap();
        pipe.write_all(begun.as_bytes()).unwrap();
        // Until it watches signals, a signal ends it silently; the test cannot see when it begins
        // to watch.
        std::thread::sleep(Duration::from_millis(300));
        terminate(&child);
        let (signal, stderr) = ended(child);
        assert_eq!(signal, Some(TERM), "{stderr}");
        assert!(["", "annals: error: interrupted\nhint: nothing was imported\n"].contains(&&*stderr), "{stderr}");
        assert!(!place.store.exists());
    }
}

/// An export overwrote the previous file: if it was interrupted, it left half of a file that looked
/// like a complete one. Now the old file stays, and nothing else is left.
#[test]
fn an_export_leaves_the_file_as_it_was() {
    let place = place();
    let event = NewEvent::with_data("T", vec![b'x'; 2000]);
    let store = place.open();
    for _ in 0..40 {
        store.append(&stream("a-1"), Expected::Any, vec![event.clone(); 1000]).unwrap();
    }
    store.close().unwrap();
    let out = tempfile::tempdir().unwrap();
    let file = out.path().join("backup.jsonl");
    let names = || fs::read_dir(out.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect::<Vec<_>>();
    fs::write(&file, "old\n").unwrap();
    let mut command = command();
    command.arg("export").arg(&place.store).arg("--output").arg(&file);
    let child = start(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()));
    while names().len() < 2 && fs::read_to_string(&file).unwrap() == "old\n" {
        std::thread::sleep(Duration::from_millis(1));
    }
    // A signal that comes before it watches signals would leave the temporary file.
    std::thread::sleep(Duration::from_millis(20));
    terminate(&child);
    let (signal, stderr) = ended(child);
    assert_eq!(names(), ["backup.jsonl"]);
    let text = fs::read_to_string(&file).unwrap();
    match signal {
        Some(signal) => {
            assert_eq!((signal, text.as_str()), (TERM, "old\n"));
            assert!(
                stderr.contains("annals: error: interrupted\nhint: ") && stderr.contains("is unchanged"),
                "{stderr}"
            );
        }
        // The export ended before the signal.
        None => assert_eq!(text.lines().count(), 40_000),
    }
}
