use super::*;
use annals::snapshot::{Codec, Retention};

/// A store with snapshots of two streams, closed.
fn with_snapshots() -> Place {
    let place = small();
    let store = place.open();
    store.append(&stream("stock-ä@b"), Expected::Any, [NewEvent::new("T", "")]).unwrap();
    let order = stream("order-1");
    let snapshots = store.snapshots();
    let state = BTreeMap::from([("n", 0)]);
    snapshots.clone().retention(Retention::Persist).put(&order, 0, &state).unwrap();
    snapshots.clone().fingerprint(7).codec(Codec::Bincode).put(&order, 1, "two").unwrap();
    snapshots.put_bytes(&stream("stock-ä@b"), 0, b"raw\0\xFF").unwrap();
    store.close().unwrap();
    place
}

fn run(place: &Place, verb: &str, rest: &[&str]) -> Run {
    annals(["snapshots", verb, place.store.to_str().unwrap()].iter().chain(rest))
}

fn files(place: &Place) -> Vec<PathBuf> {
    let listed = run(place, "list", &["--json"]).ok();
    listed.lines().map(|line| json(line)["file"].as_str().unwrap().into()).collect()
}

#[test]
fn list_of_all_and_of_one() {
    let place = with_snapshots();
    let all = run(&place, "list", &[]).ok();
    let heads: Vec<String> = all.lines().map(|line| line.split('\t').take(5).collect::<Vec<_>>().join(" ")).collect();
    let expected = ["order-1 0 7 json persist", "order-1 1 4 bincode default", "stock-ä@b 0 5 bytes default"];
    assert_eq!(heads, expected);
    assert_eq!(lines(&run(&place, "list", &["order-1"]).ok()), lines(&all)[..2]);
    assert_eq!(run(&place, "list", &["order-2"]).ok(), "");
    let second = json(run(&place, "list", &["order-1", "--json"]).ok().lines().nth(1).unwrap());
    assert_eq!((&second["sequence"], &second["position"], &second["fingerprint"]), (&1.into(), &1.into(), &7.into()));
    assert!(second["created_at"].as_str().unwrap().ends_with('Z'));
    assert!(files(&place).iter().all(|file| file.starts_with(&place.store) && file.exists()));
}

#[test]
fn show_the_newest_and_one_of_the_past() {
    let place = with_snapshots();
    let newest = run(&place, "show", &["order-1"]).ok();
    for part in ["stream\torder-1", "sequence\t1", "fingerprint\t7", "codec\tbincode", "state\tbase64:A3R3bw=="] {
        assert!(lines(&newest).contains(&part), "{newest}");
    }
    let past = run(&place, "show", &["order-1", "--sequence", "0", "--json"]).ok();
    let past = json(&past);
    assert_eq!((&past["sequence"], &past["retention"]), (&0.into(), &"persist".into()));
    assert_eq!(past["state"], serde_json::json!({ "n": 0 }));
    assert_eq!(run(&place, "show", &["order-1", "--sequence", "0", "--raw"]).ok(), r#"{"n":0}"#);
    assert_eq!(run(&place, "show", &["order-1", "--raw"]).ok(), "\u{3}two");
    let bytes = json(&run(&place, "show", &["stock-ä@b", "--json"]).ok());
    assert_eq!(bytes["state_base64"], "cmF3AP8=");
    assert_eq!(run(&place, "show", &["order-2"]).fails(1), "annals: error: order-2 has no snapshot that can be used\n");
    run(&place, "show", &["order-1", "--raw", "--json"]).fails(2);
}

#[test]
fn delete_needs_a_yes() {
    let place = with_snapshots();
    let text = run(&place, "delete", &["order-1"]).fails(2);
    assert!(text.contains("--yes"), "{text}");
    assert_eq!(files(&place).len(), 3);
    assert_eq!(run(&place, "delete", &["order-1", "--yes"]).ok(), "stream\torder-1\ndeleted\t2\n");
    let again = json(&run(&place, "delete", &["order-1", "--yes", "--json"]).ok());
    assert_eq!(again["deleted"], 0);
    assert_eq!(files(&place).len(), 1);
    assert_eq!(place.exported().len(), 4, "no event is touched");
    let nowhere = place.dir.path().join("nowhere");
    annals(["snapshots", "delete", nowhere.to_str().unwrap(), "order-1", "--yes"]).fails(1);
    assert!(!nowhere.exists());
}

#[test]
fn verify_counts_and_damage_is_code_3() {
    let place = with_snapshots();
    let report = json(&run(&place, "verify", &["--json"]).ok());
    assert_eq!((&report["files"], &report["usable"], &report["sound"]), (&3.into(), &3.into(), &true.into()));
    assert_eq!(report["unusable"], serde_json::json!([]));
    assert_eq!(lines(&run(&place, "verify", &[]).ok()).last(), Some(&"verdict\tsound"));
    assert_eq!(json(&place.run("verify", &["--json"]).ok())["not_covered"], serde_json::json!([]));

    let files = files(&place);
    // A snapshot under the name of another one is intact, but not used.
    fs::copy(&files[0], files[0].with_file_name("00000000000000000002.snap")).unwrap();
    let found = run(&place, "verify", &[]).ok();
    assert!(found.contains("00000000000000000002.snap: the stream does not have the event that it names"), "{found}");

    let mut bytes = fs::read(&files[1]).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&files[1], bytes).unwrap();
    let found = run(&place, "verify", &[]);
    assert_eq!((found.code, found.stderr.as_str()), (3, ""));
    assert!(found.stdout.contains("00000000000000000001.snap: torn or changed"), "{}", found.stdout);
    assert!(lines(&found.stdout).contains(&"usable\t2"));
    // The previous snapshot is shown, and the store is sound.
    assert!(run(&place, "show", &["order-1"]).ok().contains("\nsequence\t0\n"));
    place.run("verify", &[]).ok();

    // A snapshot with a torn header is not listed, and a note says so.
    fs::write(&files[1], b"").unwrap();
    let run = run(&place, "list", &[]);
    assert_eq!((run.code, lines(&run.stdout).len()), (0, 2));
    assert!(run.stderr.contains("annals snapshots verify"), "{}", run.stderr);
}
