//! The example kills itself between and within batches, and compares what is left with the events.

use std::process::Command;

#[test]
fn exactly_once() {
    let run = Command::new(env!("CARGO_BIN_EXE_annals-example-sqlite")).output().unwrap();
    let told = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{told}{}", String::from_utf8_lossy(&run.stderr));
    let died: u32 = told.lines().last().unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(died > 5, "hardly one has died: {told}");
}
