use super::*;
use std::io::{BufRead, BufReader};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// The positions of the events.
fn shown(place: &Place, rest: &[&str]) -> Vec<u64> {
    let out = place.run("tail", &[rest, &["--json"]].concat()).ok();
    out.lines().map(|line| json(line)["position"].as_u64().unwrap()).collect()
}

#[test]
fn the_newest_events_in_order() {
    let place = small();
    assert_eq!(shown(&place, &[]), [0, 1, 2]);
    assert_eq!(shown(&place, &["--last", "2"]), [1, 2]);
    assert_eq!(shown(&place, &["--last", "0"]), Vec::<u64>::new());
    assert_eq!(shown(&place, &["--after", "0"]), [1, 2]);
    assert_eq!(shown(&place, &["--type", "Other"]), Vec::<u64>::new());
    assert_eq!(place.run("tail", &["--last", "1"]).ok(), place.run("query", &["--after", "1"]).ok());
    place.run("tail", &["--last", "1", "--after", "1"]).fails(2);
    assert_eq!(annals(["tail", "/nowhere/at/all"]).code, 1);
    let store = place.open();
    assert_eq!(place.run("tail", &[]).code, 5);
    store.close().unwrap();
}

struct Following {
    child: Child,
    lines: Receiver<String>,
    notes: Receiver<String>,
}

impl Following {
    fn new(place: &Place, rest: &[&str]) -> Following {
        let mut command = command();
        command.args(["tail", place.store.to_str().unwrap(), "--follow"]).args(rest);
        let mut child = start(command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()));
        let lines = received(child.stdout.take().unwrap());
        let notes = received(child.stderr.take().unwrap());
        Following { child, lines, notes }
    }

    /// Position and type of the next event.
    #[track_caller]
    fn next(&self) -> String {
        let line = self.lines.recv_timeout(Duration::from_secs(20)).expect("something comes");
        let cells: Vec<&str> = line.split('\t').collect();
        format!("{} {}", cells[0], cells[4])
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn received(from: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (into, out) = channel();
    std::thread::spawn(move || BufReader::new(from).lines().map_while(Result::ok).try_for_each(|line| into.send(line)));
    out
}

#[test]
fn following_shows_what_others_append() {
    let place = small();
    let following = Following::new(&place, &["--last", "1"]);
    assert_eq!(following.next(), "2 Counted");
    for n in 0..3u64 {
        let mut appended = place.run("append", &["order-2", "--type", &format!("Added{n}")]);
        while appended.code == 5 {
            // It was being read.
            appended = place.run("append", &["order-2", "--type", &format!("Added{n}")]);
        }
        assert_eq!(appended.code, 0, "{}", appended.stderr);
        assert_eq!(following.next(), format!("{} Added{n}", n + 3));
    }
    assert!(following.lines.try_recv().is_err());
}

#[test]
fn following_waits_for_a_writer_and_says_so() {
    let place = small();
    let store = place.open();
    let following = Following::new(&place, &["--after", "1", "--type", "Wanted", "--type", "Counted"]);
    let note = following.notes.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(note.starts_with("annals: note: another process has the store open for writing"), "{note}");
    for event_type in ["Wanted", "Other"] {
        store.append(&stream("order-2"), Expected::Any, [NewEvent::new(event_type, "")]).unwrap();
    }
    assert!(following.lines.recv_timeout(Duration::from_millis(300)).is_err());
    store.close().unwrap();
    assert_eq!([following.next(), following.next()], ["2 Counted", "3 Wanted"]);
    assert!(following.notes.try_recv().is_err(), "it is said once");
}

/// `tail` ended at the first gap of a damaged store, and did not show the intact events after it.
#[test]
fn following_names_a_gap_and_goes_on() {
    for (begin, shown) in [(["--last", "10"], &["0 Counted", "2 Counted"][..]), (["--after", "0"], &["2 Counted"])] {
        let place = small();
        place.damage(1);
        let run = place.run("tail", &begin);
        let said = "annals: error: ";
        let gaps =
            |text: &str| text.lines().filter(|line| line.starts_with(said) && line.contains("position 1")).count();
        assert_eq!((run.code, gaps(&run.stderr), run.stdout.lines().count()), (3, 1, shown.len()), "{}", run.stderr);
        let (report, rescued) = (place.dir.path().join("report.json"), place.dir.path().join("rescued"));
        let (report, rescued) = (report.to_str().unwrap(), rescued.to_str().unwrap());
        assert_eq!(place.run("salvage", &[rescued, "--report", report]).code, 4);
        let following = Following::new(&place, &begin);
        assert_eq!(shown.iter().map(|_| following.next()).collect::<Vec<_>>(), shown);
        for (verb, rest) in [("repair", ["--accept-loss", report, "--yes"]), ("append", ["order-2", "--type", "Added"])]
        {
            let mut done = place.run(verb, &rest);
            while done.code == 5 {
                // It was being read.
                done = place.run(verb, &rest);
            }
            assert_eq!(done.code, 0, "{}", done.stderr);
        }
        assert_eq!(following.next(), "3 Added");
        let notes: Vec<String> = following.notes.try_iter().collect();
        assert_eq!(gaps(&notes.join("\n")), 1, "{notes:?}");
    }
}

/// A gap without an end is met again each time that the store is read.
#[test]
fn a_gap_is_named_once() {
    let place = place();
    let written = place.dir.path().join("written");
    let store = Options::new().segment_size(4 << 10).maintenance(false).open(&written).unwrap();
    while store.stats().unwrap().segments.len() < 2 {
        store.append(&stream("order-1"), Expected::Any, [NewEvent::with_data("Counted", vec![b'1'; 900])]).unwrap();
    }
    // The store as it is after a kill, without its newest segment.
    fs::create_dir(&place.store).unwrap();
    for name in ["HEAD", "00000000000000000001.seg"] {
        fs::copy(written.join(name), place.store.join(name)).unwrap();
    }
    let following = Following::new(&place, &["--last", "1"]);
    assert!(following.next().ends_with("Counted"));
    for n in 0..3 {
        std::thread::sleep(Duration::from_millis(500));
        fs::write(place.store.join(format!("note-{n}.txt")), "").unwrap();
    }
    std::thread::sleep(Duration::from_millis(500));
    let notes: Vec<String> = following.notes.try_iter().filter(|note| note.starts_with("annals: error: ")).collect();
    assert!(notes.len() == 1 && notes[0].contains("the newest segment is missing"), "{notes:?}");
}
