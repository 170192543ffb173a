use super::*;

#[test]
fn a_sound_store() {
    let place = varied();
    let out = place.run("verify", &[]).ok();
    let events = place.export().lines().count();
    assert!(lines(&out).contains(&format!("events\t{events}").as_str()), "{out}");
    assert!(lines(&out).contains(&"streams\t12"));
    assert_eq!(lines(&out).last(), Some(&"verdict\tsound"));
    let report = json(&place.run("verify", &["--json"]).ok());
    assert_eq!((&report["sound"], &report["events"]), (&true.into(), &events.into()));
    assert_eq!(report["damage"], serde_json::json!([]));
}

#[test]
fn damage_is_shown_and_is_code_3() {
    let place = small();
    // The damage is in the data of the second event, which is proven durable because the store was
    // closed.
    place.damage(1);
    let run = place.run("verify", &[]);
    assert_eq!((run.code, run.stderr.as_str()), (3, ""));
    assert!(run.stdout.contains("\ndamage\t"), "{}", run.stdout);
    assert!(run.stdout.contains("position 1"), "{}", run.stdout);
    let run = place.run("verify", &["--json"]);
    assert_eq!(run.code, 3);
    let report = json(&run.stdout);
    assert_eq!(report["sound"], false);
    assert_eq!((&report["damage"][0]["from_position"], &report["damage"][0]["to_position"]), (&1.into(), &2.into()));

    // No reader gets the event, and no tool calls the store sound.
    let run = place.run("read", &["order-1"]);
    assert!(
        run.code == 3 && run.stderr.contains("error: damaged: ") && run.stderr.contains("annals verify"),
        "{}",
        run.stderr
    );
    assert_eq!(run.stdout.lines().count(), 2);
    assert_eq!(place.run("export", &[]).code, 3);
    // Intact events are counted, with a warning about the damage.
    for verb in ["stats", "streams"] {
        let run = place.run(verb, &[]);
        assert!(run.code == 0 && run.stderr.starts_with("annals: warning: damaged: "), "{}", run.stderr);
    }
    place.run("append", &["order-1", "--type", "T"]).fails(3);
    place.run_with("import", &[], b"{\"stream\":\"a-1\",\"type\":\"T\"}\n").fails(3);
    assert_eq!(place.run("verify", &[]).code, 3);
}

#[test]
fn a_torn_tail_is_no_damage() {
    let place = small();
    let end = annals::Options::new().open_read_only(&place.store).unwrap().stats().unwrap().segments[0].bytes;
    let torn = |bytes: &mut Vec<u8>| {
        bytes.truncate(end as usize);
        bytes.extend_from_slice(b"half a commit");
    };
    place.change(torn);
    let out = place.run("verify", &[]).ok();
    assert!(out.contains("\ntorn tail\t"), "{out}");

    // Reading leaves the torn tail in place, and says so.
    let run = place.run("read", &["order-1"]);
    assert_eq!((run.code, run.stdout.lines().count()), (0, 3));
    assert!(run.stderr.starts_with("annals: warning: "), "{}", run.stderr);
    assert!(run.stderr.contains("13 bytes") && run.stderr.contains("left where they are"), "{}", run.stderr);

    // Writing moves the torn tail to quarantine, and says where.
    let run = place.run("append", &["order-1", "--type", "T"]);
    assert_eq!(run.code, 0);
    let kept = run.stderr.trim_end().rsplit_once("are kept in ").unwrap().1;
    assert_eq!(fs::read(kept).unwrap(), b"half a commit");
    assert!(!place.run("verify", &[]).ok().contains("torn tail"));
}
