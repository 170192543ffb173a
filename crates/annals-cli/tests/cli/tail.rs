use super::*;
use std::io::{BufRead, BufReader};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// The positions of what is shown.
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

    /// Position and type of what comes next.
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
    assert!(note.starts_with("annals: note: another process has the store open to write"), "{note}");
    for event_type in ["Wanted", "Other"] {
        store.append(&stream("order-2"), Expected::Any, [NewEvent::new(event_type, "")]).unwrap();
    }
    assert!(following.lines.recv_timeout(Duration::from_millis(300)).is_err());
    store.close().unwrap();
    assert_eq!([following.next(), following.next()], ["2 Counted", "3 Wanted"]);
    assert!(following.notes.try_recv().is_err(), "it is said once");
}
