//! Exit codes and messages that all verbs share.

use super::*;

const ID: &str = "00000000-0000-0000-0000-000000000001";

/// The last two only read the files, and do not open the store.
const READERS: [&[&str]; 11] = [
    &["read", "a-1"],
    &["query"],
    &["get", ID],
    &["export"],
    &["streams"],
    &["domains"],
    &["types"],
    &["tags"],
    &["stats"],
    &["verify"],
    &["dump"],
];

#[test]
fn no_store_is_code_1_and_none_is_made() {
    let place = place();
    for verb in READERS {
        let text = place.run(verb[0], &verb[1..]).fails(1);
        assert!(text.contains("is not a store") && text.contains("\nhint: "), "{text}");
        assert!(!place.store.exists());
    }
}

#[test]
fn locked_is_code_5() {
    let place = small();
    let store = place.open();
    for verb in &READERS[..9] {
        let text = place.run(verb[0], &verb[1..]).fails(5);
        assert!(text.contains(&format!("pid {}", std::process::id())), "{text}");
    }
    place.run("append", &["a-1", "--type", "T"]).fails(5);
    place.run_with("import", &[], b"").fails(5);
    place.run("verify", &[]).ok();
    assert!(place.run("dump", &[]).code == 0);
    drop(store);
    place.run("append", &["a-1", "--type", "T"]).ok();
}

#[test]
fn a_newer_format_is_code_7() {
    let place = small();
    place.change(|bytes| bytes[10] = 9);
    for verb in READERS {
        let text = place.run(verb[0], &verb[1..]).fails(7);
        assert!(text.contains("newer version"), "{text}");
    }
    place.run("append", &["a-1", "--type", "T"]).fails(7);
    place.run_with("import", &[], b"").fails(7);
}

#[test]
fn usage_is_code_2() {
    annals([] as [&str; 0]).fails(2);
    annals(["conquer", "store"]).fails(2);
    annals(["read", "store"]).fails(2);
    annals(["read", "store", "a-1", "--from", "x"]).fails(2);
    annals(["import", "store", "--batch", "0"]).fails(2);
    annals(["stats", "store", "--colour"]).fails(2);
    annals(["get", "store", "1.7"]).fails(2);
    annals(["query", "store", "--stream", "@x"]).fails(2);
}

#[test]
fn help_and_version_are_code_0() {
    let help = annals(["--help"]).ok();
    assert!(help.contains("Exit codes:") && help.contains("import"));
    assert!(annals(["import", "--help"]).ok().contains("--stream-column"));
    assert_eq!(annals(["--version"]).ok(), format!("annals {}\n", env!("CARGO_PKG_VERSION")));
}

/// `annals export store | head -1`: a reader that closes the pipe has read enough.
#[test]
fn a_closed_pipe_is_no_failure() {
    let place = place();
    let line = format!("{{\"stream\":\"a-1\",\"type\":\"T\",\"data\":\"{}\"}}\n", "x".repeat(1000));
    place.run_with("import", &[], line.repeat(2000).as_bytes()).ok();
    for verb in [&["export"][..], &["read", "a-1"], &["query", "--type", "T"]] {
        let mut command = command();
        command.arg(verb[0]).arg(&place.store).args(&verb[1..]).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = start(&mut command);
        drop(child.stdout.take());
        let Output { status, stderr, .. } = child.wait_with_output().unwrap();
        assert_eq!((status.code(), stderr.len()), (Some(0), 0), "{verb:?}");
    }
}
