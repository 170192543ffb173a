//! `domains`, `types` and `tags`.

use super::*;

#[test]
fn counts_are_those_of_the_events() {
    let place = varied();
    let exported = place.exported();
    // Only the main edition counts.
    let of = |has: &dyn Fn(&serde_json::Value) -> bool| {
        exported.iter().filter(|line| !line["stream"].as_str().unwrap().contains('@') && has(line)).count()
    };
    for (verb, key) in [("domains", "domain"), ("types", "type"), ("tags", "tag")] {
        let shown: Vec<_> = place.run(verb, &["--json"]).ok().lines().map(json).collect();
        assert!(!shown.is_empty());
        for name in &shown {
            let text = name[key].as_str().unwrap();
            let count = match key {
                "domain" => of(&|line| line["stream"].as_str().unwrap().split('-').next() == Some(text)),
                "type" => of(&|line| line["type"] == text),
                _ => of(&|line| line["tags"].as_array().is_some_and(|tags| tags.iter().any(|tag| tag == text))),
            };
            assert_eq!(name["events"], count, "{verb} {text}");
        }
        let plain = place.run(verb, &[]).ok();
        assert_eq!(plain.lines().count(), shown.len());
        if key != "tag" {
            let sum: u64 = shown.iter().map(|name| name["events"].as_u64().unwrap()).sum();
            assert_eq!(sum as usize, of(&|_| true));
        }
    }
}

#[test]
fn the_forms() {
    let place = varied();
    let domains = counts(&place.run("domains", &[]).ok());
    assert_eq!(
        domains.iter().map(|line| line.split('\t').next().unwrap()).collect::<Vec<_>>(),
        ["batch", "bin", "lobby", "order", "user"]
    );
    assert_eq!(place.run("tags", &[]).ok(), "customer:7\t1\t0\nä b\t1\t0\n");
    assert_eq!(place.run("tags", &["cust"]).ok(), "customer:7\t1\t0\n");
    assert_eq!(place.run("tags", &["x"]).ok(), "");
    assert_eq!(
        place.run("tags", &["cust", "--json"]).ok(),
        "{\"tag\":\"customer:7\",\"events\":1,\"in_editions\":0}\n"
    );
    assert!(place.run("types", &[]).ok().contains("type with\\ttab \"and\" \\u{1b}[31m\t1\t0\n"));
}
