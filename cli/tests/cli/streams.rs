use super::*;

#[test]
fn names_and_numbers() {
    let place = varied();
    let all = place.run("streams", &[]).ok();
    assert_eq!(all.lines().count(), 12);
    assert!(lines(&all).contains(&"order-1\t2"));
    assert!(lines(&all).contains(&"order-1@what-if\t1"));
    assert!(lines(&all).contains(&"user-ann%40example.org\t1"));
    assert!(lines(&all).contains(&"bin-%FF%00\t1"));
    assert_eq!(place.run("streams", &["order-1"]).ok(), "order-1\t2\norder-1@what-if\t1\n");
    assert_eq!(place.run("streams", &["nothing"]).ok(), "");
}

#[test]
fn as_json() {
    let place = small();
    assert_eq!(place.run("streams", &["--json"]).ok(), "{\"stream\":\"order-1\",\"events\":3}\n");
}
