use super::*;

/// `order-1` with three events; in `what-if` it diverges at 1, and `bill-1` has one event there; in
/// `other`, all of `order-1` is shadowed.
fn orders() -> Place {
    let place = place();
    let append = |name: &str, expect: &str, data: &str| {
        place.run("append", &[name, "--type", "T", "--expect", expect, "--data", data]).ok();
    };
    for (n, data) in ["m0", "m1", "m2"].iter().enumerate() {
        append("order-1", &n.to_string(), data);
    }
    append("order-1@what-if", "1", "e1");
    append("order-1@what-if", "2", "e2");
    append("bill-1@what-if", "none", "b0");
    append("order-1@other", "none", "o0");
    place
}

/// `annals editions VERB STORE …`
fn editions(place: &Place, verb: &str, rest: &[&str]) -> Run {
    let store = place.store.to_str().unwrap();
    annals(["editions", verb, store].iter().chain(rest))
}

/// The data of the events, as text.
fn data(place: &Place, rest: &[&str]) -> Vec<String> {
    let out = place.run("read", rest).ok();
    out.lines().map(|line| line.rsplit('\t').next().unwrap().to_owned()).collect()
}

#[test]
fn what_is_listed() {
    let place = orders();
    assert_eq!(editions(&place, "list", &[]).ok(), "other\t1\torder 1\nwhat-if\t3\tbill 1, order 2\n");
    assert_eq!(
        editions(&place, "list", &["--json"]).ok(),
        "{\"edition\":\"other\",\"events\":1,\"domains\":{\"order\":1}}\n\
         {\"edition\":\"what-if\",\"events\":3,\"domains\":{\"bill\":1,\"order\":2}}\n"
    );
    assert_eq!(editions(&small(), "list", &[]).ok(), "");
}

#[test]
fn a_stream_is_read_as_an_edition_has_it() {
    let place = orders();
    assert_eq!(data(&place, &["order-1@what-if"]), ["m0", "e1", "e2"]);
    assert_eq!(data(&place, &["order-1@other"]), ["o0"]);
    assert_eq!(data(&place, &["order-1@new"]), ["m0", "m1", "m2"]);
    assert_eq!(data(&place, &["order-1@main"]), ["m0", "m1", "m2"]);
    let place = &place;
    let at = |name, sequence| data(place, &[name, "--diverging-at", sequence]);
    assert_eq!(at("order-1@what-if", "2"), ["m0", "m1", "e2"]);
    assert_eq!(at("order-1@what-if", "0"), [""; 0]);
    assert_eq!(at("order-1@new", "2"), ["m0", "m1"]);
    assert_eq!(data(place, &["order-1@new", "--diverging-at", "2", "--backwards", "--limit", "1"]), ["m1"]);
}

#[test]
fn what_cannot_diverge() {
    let place = orders();
    for name in ["order-1", "order-1@main"] {
        let said = place.run("read", &[name, "--diverging-at", "1"]).fails(2);
        assert!(said.contains("does not diverge"), "{said}");
    }
    place.run("read", &["order-1@what-if", "--diverging-at", "x"]).fails(2);
    let text = place.run("append", &["order-1@third", "--type", "T", "--expect", "4"]).fails(6);
    assert!(text.contains("conflict on order-1@third"), "{text}");
}

#[test]
fn nothing_is_deleted_without_yes() {
    let place = orders();
    let before = place.export();
    let said = editions(&place, "delete", &["what-if"]).fails(2);
    assert!(said.contains("3 events would be deleted (bill 1, order 2)") && said.contains("hint: "), "{said}");
    let said = editions(&place, "delete", &["what-if", "--domain", "order"]).fails(2);
    assert!(said.contains("2 events would be deleted (order 2)"), "{said}");
    let said = editions(&place, "delete", &["nobody"]).fails(2);
    assert!(said.contains("0 events would be deleted; "), "{said}");
    assert_eq!(place.export(), before);
}

#[test]
fn deleting_with_yes() {
    let place = orders();
    let json = editions(&place, "delete", &["what-if", "--domain", "bill", "--yes", "--json"]).ok();
    assert_eq!(json, "{\"edition\":\"what-if\",\"domain\":\"bill\",\"deleted\":1}\n");
    assert_eq!(editions(&place, "list", &[]).ok(), "other\t1\torder 1\nwhat-if\t2\torder 2\n");
    assert_eq!(editions(&place, "delete", &["what-if", "--yes"]).ok(), "edition\twhat-if\ndeleted\t2\n");
    assert_eq!(editions(&place, "delete", &["what-if", "--yes"]).ok(), "edition\twhat-if\ndeleted\t0\n");
    assert_eq!(editions(&place, "list", &[]).ok(), "other\t1\torder 1\n");
    assert_eq!(data(&place, &["order-1@what-if"]), ["m0", "m1", "m2"]);
    place.run("verify", &[]).ok();
}

#[test]
fn what_cannot_be_deleted() {
    let place = orders();
    let before = place.export();
    for arguments in [&["main"][..], &["main", "--yes"], &["", "--yes"], &["main", "--domain", "order", "--yes"]] {
        let said = editions(&place, "delete", arguments).fails(1);
        assert!(said.contains("main edition cannot be deleted"), "{said}");
    }
    editions(&place, "delete", &["x", "--domain", "", "--yes"]).fails(1);
    editions(&place, "delete", &[]).fails(2);
    assert_eq!(place.export(), before);
}

#[test]
fn without_a_store_or_with_its_lock_taken() {
    let empty = place();
    for arguments in [&["list"][..], &["delete", "x"], &["delete", "x", "--yes"]] {
        let text = editions(&empty, arguments[0], &arguments[1..]).fails(1);
        assert!(text.contains("is not a store"), "{text}");
        assert!(!empty.store.exists());
    }
    let place = orders();
    let store = place.open();
    for arguments in [&["list"][..], &["delete", "x"], &["delete", "x", "--yes"]] {
        editions(&place, arguments[0], &arguments[1..]).fails(5);
    }
    drop(store);
}

/// An export has the events in order, so that an import diverges where the original does, whatever
/// the size of the commits, and also if it is split into two imports.
#[test]
fn a_copy_diverges_where_the_original_does() {
    let original = orders();
    // The edition is deleted and begun again at another sequence, while main continues.
    editions(&original, "delete", &["other", "--yes"]).ok();
    original.run("append", &["order-1@other", "--type", "T", "--expect", "2", "--data", "o2"]).ok();
    original.run("append", &["order-1", "--type", "T", "--data", "m3"]).ok();
    let text = original.export();
    for batch in ["1", "2", "1000"] {
        for first in [1, 3, 4, 6] {
            let copy = place();
            let (head, tail): (Vec<&str>, Vec<&str>) =
                (text.split_inclusive('\n').take(first).collect(), text.split_inclusive('\n').skip(first).collect());
            copy.run_with("import", &["--batch", batch], head.concat().as_bytes()).ok();
            copy.run_with("import", &["--batch", batch], tail.concat().as_bytes()).ok();
            for name in ["order-1", "order-1@what-if", "order-1@other", "bill-1@what-if", "order-1@new"] {
                assert_eq!(data(&copy, &[name]), data(&original, &[name]), "{name}, {first} and then the rest");
            }
            assert_eq!(editions(&copy, "list", &[]).ok(), editions(&original, "list", &[]).ok());
        }
    }
    let beyond = "{\"stream\":\"order-1\",\"type\":\"T\"}\n{\"stream\":\"order-1@x\",\"sequence\":2,\"type\":\"T\"}\n";
    let said = place().run_with("import", &[], beyond.as_bytes()).fails(6);
    assert!(said.contains("stdin:2: conflict on order-1@x: expected next sequence 2, found next sequence 1"), "{said}");
}
