use super::*;

#[test]
fn counts_and_segments() {
    let place = varied();
    let out = place.run("stats", &[]).ok();
    let events = place.export().lines().count();
    assert!(lines(&out).contains(&format!("events\t{events}").as_str()), "{out}");
    assert!(lines(&out).contains(&"streams\t12"));
    assert!(lines(&out).contains(&"deleted_events\t0") && lines(&out).contains(&"system_records\t0"));
    assert!(out.contains("\n00000000000000000001.seg\t0\t"));

    let stats = json(&place.run("stats", &["--json"]).ok());
    assert_eq!(stats["events"], events);
    let segments = stats["segments"].as_array().unwrap();
    assert!(segments.len() > 1);
    let sum: u64 = segments.iter().map(|segment| segment["bytes"].as_u64().unwrap()).sum();
    assert_eq!(stats["bytes"], sum);
    let indexes: Vec<u64> = segments.iter().map(|segment| segment["index_bytes"].as_u64().unwrap()).collect();
    assert_eq!(stats["index_bytes"], indexes.iter().sum::<u64>());
    for (segment, bytes) in segments.iter().zip(indexes) {
        let file = place.store.join(segment["file"].as_str().unwrap()).with_extension("idx");
        assert_eq!(bytes, fs::metadata(file).map_or(0, |file| file.len()));
    }
    assert!(stats["index_bytes"].as_u64().unwrap() > 0);
    assert_eq!(segments[0]["first_position"], 0);
}

/// The number of positions was printed as the number of events, including deleted events and the
/// record of the deletion.
#[test]
fn what_was_deleted_is_no_event() {
    let place = small();
    for _ in 0..2 {
        place.run("append", &["order-1@x", "--type", "T"]).ok();
    }
    let before = json(&place.run("stats", &["--json"]).ok());
    assert_eq!(
        (&before["events"], &before["deleted_events"], &before["system_records"]),
        (&5.into(), &0.into(), &0.into())
    );
    annals(["editions", "delete", place.store.to_str().unwrap(), "x", "--yes"]).ok();
    let after = json(&place.run("stats", &["--json"]).ok());
    assert_eq!(
        (&after["events"], &after["deleted_events"], &after["system_records"]),
        (&3.into(), &2.into(), &1.into())
    );
}
