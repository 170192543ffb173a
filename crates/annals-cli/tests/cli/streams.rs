use super::*;

#[test]
fn names_and_numbers() {
    let place = varied();
    let listed = |prefix: &[&str]| counts(&place.run("streams", prefix).ok());
    let all = listed(&[]);
    assert_eq!(all.len(), 12);
    for line in ["order-1\t2", "order-1@what-if\t3", "user-ann%40example.org\t1", "bin-%FF%00\t1"] {
        assert!(all.iter().any(|of| of == line), "{line}");
    }
    assert_eq!(listed(&["order-1"]), ["order-1\t2", "order-1@what-if\t3"]);
    assert!(listed(&["nothing"]).is_empty());
}

#[test]
fn the_last_event_of_each_is_told() {
    let place = small();
    let last = json(place.export().lines().last().unwrap());
    let time = last["recorded_at"].as_str().unwrap();
    assert_eq!(place.run("streams", &[]).ok(), format!("order-1\t3\t{time}\n"));
    let line = format!("{{\"stream\":\"order-1\",\"events\":3,\"last_position\":2,\"last_recorded_at\":\"{time}\"}}\n");
    assert_eq!(place.run("streams", &["--json"]).ok(), line);
}
