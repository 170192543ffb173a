//! Cases on several threads, counted; a panic is a violation.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Number of violations that are printed in full.
const TOLD: u64 = 10;

/// A case. It returns how much it counts for, and its outcome; the empty word is not counted
/// separately.
pub struct Case<'a> {
    /// How to run it again.
    pub name: String,
    pub run: Box<dyn Fn() -> (u64, &'static str) + 'a>,
}

pub struct Pool {
    threads: usize,
    cases: AtomicU64,
    violations: AtomicU64,
    outcomes: Mutex<BTreeMap<&'static str, u64>>,
}

thread_local! {
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// The pool prints panics, once and with the name of the case.
pub fn quiet_panics() {
    std::panic::set_hook(Box::new(|info| LAST_PANIC.with(|last| *last.borrow_mut() = info.to_string())));
}

impl Pool {
    pub fn new(threads: usize) -> Pool {
        Pool { threads, cases: AtomicU64::new(0), violations: AtomicU64::new(0), outcomes: Mutex::default() }
    }

    pub fn cases(&self) -> u64 {
        self.cases.load(Ordering::Relaxed)
    }

    pub fn violations(&self) -> u64 {
        self.violations.load(Ordering::Relaxed)
    }

    pub fn outcomes(&self) -> Vec<(&'static str, u64)> {
        self.outcomes.lock().expect("no case holds it").iter().map(|(&told, &times)| (told, times)).collect()
    }

    /// Runs the cases from 0 to `count`.
    pub fn run<'a>(&self, count: u64, case: impl Fn(u64) -> Case<'a> + Sync) {
        let taken = AtomicU64::new(0);
        self.on_threads(|| Some(taken.fetch_add(1, Ordering::Relaxed)).filter(|&n| n < count), case);
    }

    /// Runs cases from 0 on while `on` returns true.
    pub fn run_while<'a>(&self, on: impl Fn() -> bool + Sync, case: impl Fn(u64) -> Case<'a> + Sync) {
        let taken = AtomicU64::new(0);
        self.on_threads(|| on().then(|| taken.fetch_add(1, Ordering::Relaxed)), case);
    }

    fn on_threads<'a>(&self, next: impl Fn() -> Option<u64> + Sync, case: impl Fn(u64) -> Case<'a> + Sync) {
        std::thread::scope(|scope| {
            for _ in 0..self.threads {
                scope.spawn(|| {
                    let mut outcomes: BTreeMap<&'static str, u64> = BTreeMap::new();
                    while let Some(n) = next() {
                        let case = case(n);
                        match catch_unwind(AssertUnwindSafe(&case.run)) {
                            Ok((counted, told)) => {
                                self.cases.fetch_add(counted, Ordering::Relaxed);
                                if !told.is_empty() {
                                    *outcomes.entry(told).or_default() += counted;
                                }
                            }
                            Err(_) => self.violated(&case.name),
                        }
                    }
                    let mut all = self.outcomes.lock().expect("no case holds it");
                    outcomes.into_iter().for_each(|(told, times)| *all.entry(told).or_default() += times);
                });
            }
        });
    }

    fn violated(&self, name: &str) {
        let before = self.violations.fetch_add(1, Ordering::Relaxed);
        if before < TOLD {
            let message = LAST_PANIC.with(|last| last.borrow().clone());
            println!("VIOLATION {name}\n  {}", message.replace('\n', "\n  "));
        }
    }
}
