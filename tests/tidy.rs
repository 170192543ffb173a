//! The shape of the code: which room and which package may import which, where `unsafe` is, how
//! wide lines are, which words have been retired, and that nothing unfinished is left.
//!
//! The table of rooms is the picture in ARCHITECTURE.md. A module that is not in it, or an import
//! that is not in its row, fails the test.

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

/// Each file of the library: its room in the table, its path, and its text without comments and
/// tests.
fn modules() -> Vec<(String, PathBuf, String)> {
    let mut found = Vec::new();
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    for path in files(&root, "rs") {
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

/// The files with this extension below a directory, without build output and hidden directories.
fn files(dir: &Path, extension: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if path.is_dir() {
            let left_out = name.starts_with('.') || ["target", "corpus", "data"].contains(&&*name);
            if !left_out {
                found.extend(files(&path, extension));
            }
        } else if path.extension().is_some_and(|e| e == extension) {
            found.push(path);
        }
    }
    found.sort();
    found
}

/// The first part of each path that begins with `crate::`, also in a group: `crate::{a, b::c}`.
fn imports(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    // A macro for other crates names items from outside.
    let code = code.replace("$crate::", "");
    for after in code.split("crate::").skip(1) {
        let names: Vec<&str> = match after.strip_prefix('{') {
            Some(group) => group.split('}').next().unwrap().split(',').collect(),
            None => vec![after],
        };
        for name in names {
            let name: String = name.trim().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            // A macro may name modules by its variables.
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
            // Types that `lib.rs` re-exports are only named in docs by their paths.
            let own = import == module || import.starts_with(char::is_uppercase);
            let known = own || VOCABULARY.contains(&&*import) || allowed.contains(&&*import);
            assert!(known, "{}: {module} must not import {import}", path.display());
        }
    }
}

#[test]
fn unsafe_is_in_one_file() {
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

/// Each package, and the packages of this workspace that it may depend on.
const MAY_DEPEND: &[(&str, &[&str])] = &[
    (".", &["annals-contract", "annals-testkit"]),
    ("crates/annals-cli", &["annals", "annals-testkit"]),
    ("crates/annals-contract", &["annals", "annals-testkit"]),
    ("crates/annals-testkit", &["annals"]),
    ("crates/annals-fuzzing", &["annals", "annals-testkit"]),
    ("crates/annals-campaign", &["annals", "annals-testkit"]),
    ("crates/annals-instructions", &["annals"]),
    ("crates/annals-peers", &["annals"]),
    ("examples/sqlite", &["annals"]),
    ("fuzz", &["annals-fuzzing"]),
];

/// The library itself depends on no other package of the workspace, except for its tests.
#[test]
fn packages_depend_downwards_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = 0;
    for path in files(root, "toml").into_iter().filter(|path| path.ends_with("Cargo.toml")) {
        let place = path.parent().unwrap().strip_prefix(root).unwrap();
        let place = if place == Path::new("") { Path::new(".") } else { place };
        let row = MAY_DEPEND.iter().find(|(name, _)| place == Path::new(name));
        let (_, allowed) = row.unwrap_or_else(|| panic!("{} is not in the table", place.display()));
        let text = fs::read_to_string(&path).unwrap();
        let mut section = "";
        for line in text.lines() {
            if line.starts_with('[') {
                section = line;
            }
            let name = line.split(['=', '.', ' ']).next().unwrap();
            if !section.contains("dependencies]") || !name.starts_with("annals") {
                continue;
            }
            assert!(allowed.contains(&name), "{}: must not depend on {name}", path.display());
            let tests_only = section == "[dev-dependencies]" || place != Path::new(".");
            assert!(tests_only, "{}: the library depends on {name}", path.display());
        }
        found += 1;
    }
    assert_eq!(found, MAY_DEPEND.len(), "a package of the table is missing");
}

/// Comments end at column 100, code of published packages at 120. Tables, code blocks, addresses
/// and command lines in comments may be wider.
#[test]
fn lines_are_not_too_wide() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for path in files(root, "rs") {
        let below = path.strip_prefix(root).unwrap();
        let published = ["src", "crates/annals-cli/src", "crates/annals-contract/src"];
        let published = published.iter().any(|dir| below.starts_with(dir));
        let text = fs::read_to_string(&path).unwrap();
        let mut in_code_block = false;
        for (number, line) in (1..).zip(text.lines()) {
            let content = line.trim_start();
            let most = if let Some(comment) = content.strip_prefix("//") {
                let comment = comment.trim_start_matches(['/', '!']).trim_start();
                in_code_block ^= comment.starts_with("```");
                let free = ["|", "```", "`"].iter().any(|start| comment.starts_with(start));
                if in_code_block || free || comment.contains("://") { usize::MAX } else { 100 }
            } else {
                in_code_block = false;
                if published { 120 } else { usize::MAX }
            };
            assert!(line.chars().count() <= most, "{}:{number} is wider than {most}", below.display());
        }
    }
}

/// Words that this project has used in a sense of its own, or that nobody says: the glossary in
/// ARCHITECTURE.md has others for them.
const RETIRED: &[&str] = &[
    "anew",
    "mend",
    "mended",
    "sift",
    "sifted",
    "survey",
    "vestige",
    "vestiges",
    "witness",
    "witnesses",
    "unless said otherwise",
    "on its way",
    "of the store's own",
    "for ever",
    "held against",
    "told of",
    "tells of",
    "gives an error",
    "behind position",
    "has come to",
    "been taken in",
];

#[test]
fn retired_words_do_not_come_back() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let pages = files(root, "md").into_iter().filter(|path| !path.ends_with("CHANGELOG.md"));
    let code = files(root, "rs").into_iter().filter(|path| !path.ends_with("tests/tidy.rs"));
    for path in pages.chain(code) {
        let below = path.strip_prefix(root).unwrap();
        for (number, line) in (1..).zip(fs::read_to_string(&path).unwrap().lines()) {
            let words: String =
                line.chars().map(|c| if c.is_alphanumeric() || "'_".contains(c) { c } else { ' ' }).collect();
            let words = format!(" {} ", words.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase());
            for retired in RETIRED {
                assert!(!words.contains(&format!(" {retired} ")), "{}:{number}: {retired:?}", below.display());
            }
        }
    }
}

/// A public type has a name that no other type of the library has.
#[test]
fn public_types_have_unique_names() {
    let mut public: Vec<(String, PathBuf)> = Vec::new();
    let mut all: Vec<(String, PathBuf)> = Vec::new();
    for (_, path, code) in modules() {
        for line in code.lines() {
            let line = line.trim_start();
            let (is_public, line) = match line.strip_prefix("pub ") {
                Some(rest) => (true, rest),
                None => (false, line.strip_prefix("pub(crate) ").or(line.strip_prefix("pub(super) ")).unwrap_or(line)),
            };
            let kinds = ["struct ", "enum ", "trait "];
            let Some(rest) = kinds.iter().find_map(|kind| line.strip_prefix(kind)) else { continue };
            let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
            if is_public {
                public.push((name.clone(), path.clone()));
            }
            all.push((name, path.clone()));
        }
    }
    assert!(public.len() > 100, "the public types are somewhere else");
    for (name, path) in &public {
        let others: Vec<_> = all.iter().filter(|(other, at)| other == name && at != path).collect();
        assert!(others.is_empty(), "{name} of {} is also in {others:?}", path.display());
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
