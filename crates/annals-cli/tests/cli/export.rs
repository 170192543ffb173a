use super::*;

/// `import` turns what `export` writes into an equal store.
#[test]
fn export_and_import_give_an_equal_store() {
    let from = varied();
    let exported = from.export();
    let to = place();
    to.run_with("import", &[], exported.as_bytes()).ok();
    assert_eq!(to.export(), exported);
    to.run("verify", &[]).ok();
    let (from, to) = (from.open(), to.open());
    let mut others = to.read_all().into_iter();
    for event in from.read_all() {
        let (event, other) = (event.unwrap(), others.next().unwrap().unwrap());
        assert_eq!((event.position(), event.sequence()), (other.position(), other.sequence()));
        assert_eq!((event.stream(), event.event_type(), event.id()), (other.stream(), other.event_type(), other.id()));
        assert_eq!((event.recorded_at(), event.occurred_at()), (other.recorded_at(), other.occurred_at()));
        assert_eq!((event.correlation_id(), event.causation_id()), (other.correlation_id(), other.causation_id()));
        assert!(event.tags().eq(other.tags()));
        assert_eq!((event.metadata(), event.data()), (other.metadata(), other.data()));
        assert_eq!((event.content_type(), event.schema_version()), (other.content_type(), other.schema_version()));
    }
    assert!(others.next().is_none());
}

#[test]
fn it_stays_equal_whatever_the_batch() {
    let exported = varied().export();
    for batch in ["1", "3", "100000"] {
        let to = place();
        to.run_with("import", &["--batch", batch], exported.as_bytes()).ok();
        assert_eq!(to.export(), exported, "--batch {batch}");
    }
}

#[test]
fn a_line_has_all_fields_in_order() {
    let place = place();
    let line = concat!(
        r#"{"position":0,"stream":"order-1","sequence":0,"type":"T","id":"0190163d-8694-739b-aea5-966c26f8ad91","#,
        r#""recorded_at":"2024-06-14T10:00:00.000000001Z","occurred_at":"1901-01-01T00:00:00Z","correlation_id":"c","#,
        r#""causation_id":"d","tags":["a","b"],"metadata":{"m":1},"schema_version":2,"data":{"x":1.0,"a":[]}}"#,
    );
    place.run_with("import", &[], line.as_bytes()).ok();
    assert_eq!(place.export().trim_end(), line);
}

#[test]
fn parts_carry_on_a_copy() {
    let from = varied();
    let all = from.export();
    let count = all.lines().count();
    let (half, rest) = (from.run("export", &["--to", "100"]).ok(), from.run("export", &["--from", "100"]).ok());
    assert_eq!((half.lines().count(), rest.lines().count()), (100, count - 100));
    let to = place();
    to.run_with("import", &[], half.as_bytes()).ok();
    to.run_with("import", &[], rest.as_bytes()).ok();
    assert_eq!(to.export(), all);
    // Importing the second part again is refused.
    to.run_with("import", &[], rest.as_bytes()).fails(6);
    assert_eq!(to.export(), all);
}

#[test]
fn into_a_file() {
    let from = varied();
    let exported = from.export();
    for name in ["out.jsonl", "out.jsonl.gz"] {
        let file = from.dir.path().join(name);
        let file = file.to_str().unwrap();
        assert_eq!(from.run("export", &["--output", file]).ok(), "");
        let packed = fs::read(file).unwrap() != exported.as_bytes();
        assert_eq!(packed, name.ends_with("gz"));
        let to = place();
        to.run("import", &[file]).ok();
        assert_eq!(to.export(), exported);
    }
    from.run("export", &["--output", "/no/such/directory/x"]).fails(1);
    from.run("export", &["--output", "/dev/null"]).ok();
}

#[test]
fn an_empty_store_is_exported_and_imported() {
    let from = place();
    from.open().close().unwrap();
    assert_eq!(from.export(), "");
    let to = place();
    to.run_with("import", &[], b"").ok();
    assert_eq!(to.export(), "");
}

/// `--output` wrote in place: an export that failed destroyed the previous one.
#[test]
fn a_failed_export_leaves_the_file_as_it_was() {
    let from = varied();
    let file = from.file("backup.jsonl", "old\n");
    // An event in the middle fails its checksum: the existing file may be complete, and the new one
    // is not.
    let mut bytes = fs::read(from.segment()).unwrap();
    let at = bytes.windows(5).position(|at| at == b"order").unwrap();
    bytes[at] ^= 1;
    fs::write(from.segment(), bytes).unwrap();
    let run = from.run("export", &["--output", &file]);
    assert_eq!(run.code, 3, "{}", run.stderr);
    assert!(run.stderr.ends_with(&format!("; {file} is unchanged\n")), "{}", run.stderr);
    assert_eq!(fs::read_to_string(&file).unwrap(), "old\n");
    // If there is no file yet, it is written, with gaps.
    let other = from.dir.path().join("other.jsonl");
    assert_eq!(from.run("export", &["--output", other.to_str().unwrap()]).code, 3);
    assert!(fs::read_to_string(&other).unwrap().lines().count() > 10);
    let names: Vec<_> = fs::read_dir(from.dir.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names.len(), 3, "{names:?}");
}

/// The output file could have the name of one of the files of the store.
#[test]
fn no_file_is_written_into_a_store() {
    let from = small();
    let before = from.export();
    for name in ["HEAD", "backup.jsonl"] {
        let file = from.store.join(name);
        from.run("export", &["--output", file.to_str().unwrap()]).fails(2);
        let out = from.dir.path().join("rescued");
        from.run("salvage", &[out.to_str().unwrap(), "--report", file.to_str().unwrap()]).fails(2);
        assert!(!out.exists());
    }
    assert_eq!(from.export(), before);
    from.run("verify", &[]).ok();
}
