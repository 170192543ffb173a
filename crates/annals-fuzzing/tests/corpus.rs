//! The kept inputs of the fuzz targets, and their seeds: run again, without a fuzzer.
//!
//! `fuzz/corpus/<target>` holds seeds and what a fuzzer made of them that reaches other code;
//! `fuzz/regressions/<target>` each input that has shown a fault, named after it.
//! `ANNALS_WRITE_CORPUS=1 cargo test -p annals-fuzzing --test corpus` writes the seeds.
//! `ANNALS_INPUT=fuzz/artifacts/<target>/crash-… cargo test -p annals-fuzzing --test corpus one`
//! prints what one input means, and runs it.

use annals_fuzzing::TARGETS;
use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

fn files(dir: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(dir) else { return Vec::new() };
    let mut found: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

#[test]
fn kept_inputs_find_nothing() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    for target in TARGETS {
        let kept = ["corpus", "regressions"].map(|kind| files(&fuzz.join(kind).join(target.name)));
        for path in kept.iter().flatten() {
            let input = fs::read(path).unwrap();
            assert!(catch_unwind(|| (target.run)(&input)).is_ok(), "{}", path.display());
        }
        println!("{}: {} inputs", target.name, kept.iter().map(Vec::len).sum::<usize>());
    }
}

#[test]
fn seeds_find_nothing() {
    for target in TARGETS {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(target.name);
        for (n, seed) in (target.seeds)().into_iter().enumerate() {
            if std::env::var_os("ANNALS_WRITE_CORPUS").is_some() {
                fs::create_dir_all(&dir).unwrap();
                fs::write(dir.join(format!("seed-{n:02}")), &seed).unwrap();
            }
            assert!(catch_unwind(|| (target.run)(&seed)).is_ok(), "{}, seed {n}", target.name);
        }
    }
}

#[test]
fn one_input() {
    let Ok(path) = std::env::var("ANNALS_INPUT") else { return };
    let path = Path::new(&path);
    let name = path.parent().unwrap().file_name().unwrap();
    let target = TARGETS.iter().find(|target| name == target.name).expect("a directory named after a target");
    let input = fs::read(path).unwrap();
    println!("{}", (target.show)(&input));
    (target.run)(&input);
}
