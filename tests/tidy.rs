//! The shape of the code: which layer may import which, where `unsafe` stands, and that nothing
//! unfinished is left.
//!
//! The table is the picture in ARCHITECTURE.md. A module that is not in it, or an import that is
//! not in its row, fails the test.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const VOCABULARY: &[&str] =
    &["directory", "error", "event", "expected", "position", "process", "stream", "system", "time", "waker"];

/// Each module, and the modules other than the vocabulary that it may import.
const MAY_IMPORT: &[(&str, &[&str])] = &[
    ("directory", &[]),
    ("error", &[]),
    ("event", &[]),
    ("expected", &[]),
    ("position", &[]),
    ("process", &[]),
    ("stream", &[]),
    ("system", &[]),
    ("time", &[]),
    ("waker", &[]),
    ("format", &[]),
    ("codec", &["format"]),
    ("fs", &[]),
    ("segment", &["format", "fs"]),
    ("log", &["format", "fs", "segment"]),
    ("index", &["format", "fs", "segment"]),
    ("snapshots", &["format", "fs"]),
    ("positions", &["format", "fs"]),
    ("reconstruct", &["format", "fs", "segment", "index"]),
    ("store", &["codec", "format", "fs", "segment", "log", "index", "reconstruct", "positions", "snapshots"]),
    ("subscription", &["store"]),
    ("consumer", &["store", "subscription"]),
    ("projection", &["codec", "format", "fs", "store", "subscription"]),
    ("offline", &["format", "fs", "segment", "index", "reconstruct", "positions", "snapshots"]),
    // The way in for the fuzz targets, only under a cfg of theirs.
    ("internals", &["format", "fs", "index", "positions", "segment", "snapshots"]),
];

/// What each file of the library is called in the table, and its text without comments and tests.
fn modules() -> Vec<(String, PathBuf, String)> {
    let mut found = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in rust_files(&root) {
        let below = path.strip_prefix(&root).unwrap();
        let module = below.components().next().unwrap().as_os_str().to_str().unwrap();
        let module = module.trim_end_matches(".rs").to_owned();
        let text = fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap();
        let lines = code.lines().filter(|line| !line.trim_start().starts_with("//"));
        found.push((module, below.to_owned(), lines.collect::<Vec<_>>().join("\n")));
    }
    assert!(found.len() > 30, "the library is somewhere else");
    found
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(rust_files(&path));
        } else if path.extension().is_some_and(|e| e == "rs") {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The first part of each path that begins with `crate::`, also in a group: `crate::{a, b::c}`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    // A macro for other crates names things as those do, from outside.
    let code = code.replace("$crate::", "");
    for after in code.split("crate::").skip(1) {
        let names: Vec<&str> = match after.strip_prefix('{') {
            Some(group) => group.split('}').next().unwrap().split(',').collect(),
            None => vec![after],
        };
        for name in names {
            let name: String = name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            // A macro names modules by its variables.
            if !name.is_empty() {
                found.insert(name);
            }
        }
    }
    found
}

#[test]
fn arrows_go_down_only() {
    for (module, path, code) in modules() {
        if module == "lib" {
            continue;
        }
        let row = MAY_IMPORT.iter().find(|(name, _)| *name == module);
        let (_, allowed) = row.unwrap_or_else(|| panic!("{module} is not in the table"));
        for import in imports(&code) {
            // Types that `lib.rs` re-exports are named by their paths in docs only.
            let own = import == module || import.starts_with(char::is_uppercase);
            let known = own || VOCABULARY.contains(&&*import) || allowed.contains(&&*import);
            assert!(known, "{}: {module} must not import {import}", path.display());
        }
    }
}

#[test]
fn unsafe_stands_in_one_file() {
    for (_, path, code) in modules() {
        let used = code.split(|c: char| !c.is_alphanumeric() && c != '_').any(|word| word == "unsafe");
        assert!(!used || path == Path::new("fs/map.rs"), "{}", path.display());
    }
}

#[test]
fn nothing_unfinished_is_left() {
    for (_, path, code) in modules() {
        for word in ["println!", "eprintln!", "dbg!", "todo!", "unimplemented!", "TODO", "FIXME", "XXX"] {
            assert!(!code.contains(word), "{}: {word}", path.display());
        }
    }
}

#[test]
fn files_answer_one_question() {
    for (_, path, code) in modules() {
        let lines = code.lines().count();
        assert!(lines <= 480, "{}: {lines} lines of code; look for the seam", path.display());
    }
}

/// The format page and the code name the same numbers.
#[test]
fn the_format_page_knows_the_magics() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/FORMAT.md")).unwrap();
    for known in [
        "89 41 4E 4C 0D 0A 1A 0A",
        "89 41 4E 48 0D 0A 1A 0A",
        "A7 46 52 0A",
        "9E3779B1",
        "9E3779B97F4A7C15",
        "89 41 4E 58 0D 0A 1A 0A",
        "89 41 4E 53 0D 0A 1A 0A",
        "89 41 4E 4A 0D 0A 1A 0A",
        "89 41 4E 50 0D 0A 1A 0A",
        "A7 50 42 0A",
    ] {
        assert!(page.contains(known), "{known}");
    }
}
