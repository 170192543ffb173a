//! The baseline: a line for the compiler, and one for each operation.

use std::fmt::Write;
use std::process::Command;

pub const FILE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/baseline.txt");
const HEAD: &str = "\
# Instructions an operation, as valgrind counts them. Written by: cargo run --release -p annals-instructions -- --accept
# Compared only with what the same compiler makes for the same target.
";
const COMPILER: &str = "compiler: ";

#[derive(Default)]
pub struct Baseline {
    pub compiler: String,
    operations: Vec<(String, f64)>,
}

impl Baseline {
    /// The accepted figures, or nothing.
    pub fn read() -> Self {
        let mut baseline = Baseline::default();
        for line in std::fs::read_to_string(FILE).unwrap_or_default().lines() {
            if let Some(compiler) = line.strip_prefix(COMPILER) {
                baseline.compiler = compiler.to_owned();
            } else if let Some((name, count)) = line.rsplit_once(' ').filter(|_| !line.starts_with('#')) {
                let count = count.parse().unwrap_or_else(|_| panic!("{FILE}: no number in `{line}`"));
                baseline.operations.push((name.trim().to_owned(), count));
            }
        }
        baseline
    }

    pub fn write(measured: &[(&str, f64)]) {
        let mut text = format!("{HEAD}{COMPILER}{}\n", compiler());
        for (name, count) in measured {
            writeln!(text, "{name:<44} {count:>9.0}").expect("a string takes all");
        }
        std::fs::write(FILE, text).expect("the baseline can be written");
    }

    pub fn of(&self, name: &str) -> Option<f64> {
        self.operations.iter().find(|(known, _)| known == name).map(|(_, count)| *count)
    }
}

/// The compiler and what it compiles for, as one line.
pub fn compiler() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc can be started");
    let told = String::from_utf8_lossy(&output.stdout);
    let version = told.lines().next().unwrap_or_default();
    let host = told.lines().find_map(|line| line.strip_prefix("host: ")).unwrap_or_default();
    format!("{version} for {host}")
}
