//! Subscriptions and consumers: how soon an event is delivered, what idle ones cost an append, and
//! how fast one catches up. Consumers store a checkpoint every 1,000 events.
//!
//! `cargo bench --bench subscribe -- [--rounds N] [--events N]`. Each line has the median of the
//! comparison, that of Annals, and the ratio of the rounds: median, lowest and highest.

mod common;

use annals::consumer::Reset;
use annals::subscription::Delivery;
use annals::{Durability, Event, Expected, NewEvent, Query, Result, Store, Subscription};
use common::{Workload, Writer, line, median};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

struct Bench {
    rounds: usize,
    events: u64,
    appends: u64,
    workload: Workload,
}

fn main() {
    let mut bench = match common::is_test() {
        false => Bench { rounds: 5, events: 1_000_000, appends: 4000, workload: Workload::new() },
        true => Bench { rounds: 1, events: 10_000, appends: 50, workload: Workload::new() },
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|n| n.parse().ok()).expect("a number follows the option");
        match argument.as_str() {
            "--rounds" => bench.rounds = number() as usize,
            "--events" => bench.events = number(),
            _ => {}
        }
    }
    bench.latency();
    bench.idle(Durability::Sync, "durable");
    bench.idle(Durability::Os, "not synced");
    bench.catch_up();
}

impl Bench {
    /// From the return of a durable append to the delivery to the reader. The floor: from unparking
    /// a thread to its next statement.
    fn latency(&self) {
        let rounds: Vec<_> = (0..self.rounds).map(|_| (wake_up(self.appends), self.delivery())).collect();
        line("append returned to handler, p50: a parked thread, annals", "us", &rounds);
        for workers in [0, 4] {
            let rounds: Vec<_> = (0..self.rounds).map(|_| (self.delivery(), self.consumption(workers))).collect();
            line(&format!("the same: subscription, consumer with {workers} workers"), "us", &rounds);
        }
    }

    fn delivery(&self) -> f64 {
        let dir = common::temp_dir();
        let store = common::open(dir.path(), Durability::Sync);
        let mut subscription = store.subscribe(Query::new().event_type("Typed"));
        assert!(matches!(subscription.next(), Some(Ok(Delivery::CaughtUp(_)))));
        let stop = subscription.stopper();
        let follow = |told: &(dyn Fn() + Sync)| {
            for delivery in subscription {
                if let Ok(Delivery::Event(_)) = delivery {
                    told();
                }
            }
        };
        self.appends_to(&store, follow, || stop.stop())
    }

    fn consumption(&self, workers: usize) -> f64 {
        let dir = common::temp_dir();
        let store = common::open(dir.path(), Durability::Sync);
        let consumer = store.consumer("bench").query(Query::new().event_type("Typed"));
        let control = consumer.control();
        let follow = |told: &(dyn Fn() + Sync)| {
            let done = match workers {
                0 => consumer.run(|_: &Event| told()),
                n => consumer.workers(n).run(|_: &Event| told()),
            };
            done.expect("the disk has room");
        };
        self.appends_to(&store, follow, || control.stop())
    }

    /// The median of the times from the return of an append until `follow` reports it, in
    /// microseconds.
    fn appends_to(&self, store: &Store, follow: impl FnOnce(&(dyn Fn() + Sync)) + Send, stop: impl Fn()) -> f64 {
        let handed = AtomicU64::new(0);
        let begun = Instant::now();
        let nanos = || begun.elapsed().as_nanos() as u64;
        let mut latencies = Vec::new();
        std::thread::scope(|scope| {
            scope.spawn(|| follow(&|| handed.store(nanos(), Ordering::SeqCst)));
            let order = common::stream(1);
            std::thread::sleep(Duration::from_millis(20));
            for _ in 0..self.appends {
                std::thread::sleep(Duration::from_micros(200));
                handed.store(0, Ordering::SeqCst);
                store.append(&order, Expected::Any, [NewEvent::new("Typed", &[7; 256])]).expect("the append succeeds");
                let returned = nanos();
                let at = loop {
                    match handed.load(Ordering::SeqCst) {
                        0 => std::hint::spin_loop(),
                        at => break at,
                    }
                };
                latencies.push(at.saturating_sub(returned) as f64 / 1000.0);
            }
            stop();
        });
        median(latencies).0
    }

    /// Appends with 1,000 sleeping subscriptions, compared with appends without.
    fn idle(&self, durability: Durability, name: &str) {
        let count = if durability == Durability::Sync { self.appends } else { self.appends * 20 };
        let rate = |subscriptions: usize| {
            let dir = common::temp_dir();
            let store = common::open(dir.path(), durability);
            let mut idle: Vec<Subscription> = (0..subscriptions).map(idle_subscription(&store)).collect();
            let mut writer = Writer::new(&store, &self.workload, 0, 100, 1);
            (0..count / 10).for_each(|_| writer.commit());
            let begun = Instant::now();
            (0..count).for_each(|_| writer.commit());
            let rate = count as f64 / begun.elapsed().as_secs_f64();
            idle.clear();
            rate / 1000.0
        };
        let rounds: Vec<_> = (0..self.rounds).map(|_| (rate(0), rate(1000))).collect();
        line(&format!("appends, {name}: without, with 1,000 idle subscriptions"), "k/s", &rounds);
    }

    /// All events through a subscription, compared with a plain read.
    fn catch_up(&self) {
        let set = common::DataSet::build(&self.workload, self.events, (self.events / 100).max(1));
        let store = common::open(&set.store(), Durability::Sync);
        let rate = |read: &dyn Fn() -> u64| {
            let begun = Instant::now();
            assert_eq!(read(), self.events);
            self.events as f64 / begun.elapsed().as_secs_f64() / 1e6
        };
        let plain = || store.read_all().into_iter().map(|event: Result<Event>| u64::from(event.is_ok())).sum();
        let subscribed = || {
            let deliveries = store.subscribe(Query::new()).take_while(|d| !matches!(d, Ok(Delivery::CaughtUp(_))));
            deliveries.filter(|delivery| matches!(delivery, Ok(Delivery::Event(_)))).count() as u64
        };
        let rounds: Vec<_> = (0..self.rounds).map(|_| (rate(&plain), rate(&subscribed))).collect();
        line("catching up: plain read, subscription", "M/s", &rounds);
        for workers in [0, 1, 4] {
            let consumed = || {
                store.consumer("bench").reset_to(Reset::Start).expect("it does not run");
                let consumer = store.consumer("bench").until_caught_up().checkpoint_every(1000, Duration::from_secs(1));
                let done = match workers {
                    0 => consumer.run(|_: &Event| ()),
                    n => consumer.workers(n).run(|_: &Event| ()),
                };
                done.expect("the disk has room").handled
            };
            let rounds: Vec<_> = (0..self.rounds).map(|_| (rate(&subscribed), rate(&consumed))).collect();
            line(&format!("the same: subscription, consumer with {workers} workers"), "M/s", &rounds);
        }
    }
}

fn idle_subscription(store: &Store) -> impl Fn(usize) -> Subscription + '_ {
    |n| {
        let query = match n % 3 {
            0 => Query::new().tag(format!("customer:{n}")),
            1 => Query::new().stream(&common::stream(1_000_000 + n as u64)),
            _ => Query::new().event_type(format!("Never{n}")),
        };
        let mut subscription = store.subscribe(query);
        while !matches!(subscription.next_timeout(Duration::ZERO), Ok(None)) {}
        subscription
    }
}

/// Returns how long it takes from unparking a thread until it runs.
fn wake_up(count: u64) -> f64 {
    let (done, woken, begun) = (AtomicBool::new(false), AtomicU64::new(0), Instant::now());
    let mut latencies = Vec::new();
    std::thread::scope(|scope| {
        let sleeper = scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                std::thread::park();
                woken.store(begun.elapsed().as_nanos() as u64, Ordering::SeqCst);
            }
        });
        for _ in 0..count {
            std::thread::sleep(Duration::from_micros(200));
            woken.store(0, Ordering::SeqCst);
            sleeper.thread().unpark();
            let told = begun.elapsed().as_nanos() as u64;
            let at = loop {
                match woken.load(Ordering::SeqCst) {
                    0 => std::hint::spin_loop(),
                    at => break at,
                }
            };
            latencies.push(at.saturating_sub(told) as f64 / 1000.0);
        }
        done.store(true, Ordering::SeqCst);
        sleeper.thread().unpark();
    });
    median(latencies).0
}
