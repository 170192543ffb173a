//! Random runs compared with a model: outcomes, panics, pauses, stops, restarts and kills, with one
//! thread and several.
//!
//! Events are lost to damage between runs, and the store is salvaged or repaired: no later run sees
//! those, and they count as done.
//!
//! Within a run, an event of a key is handed out only when the one before it is done or given up,
//! and none is skipped. At each restart, all events up to the checkpoint were acknowledged or are
//! dead letters. At the end, no event was missed.

use super::*;
use annals_testkit::{Image, SimFs};
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

/// One life of the consumer.
#[derive(Clone, Debug)]
struct Life {
    /// Streams of the events that are appended before it.
    appended: Vec<u8>,
    workers: usize,
    every: u64,
    window: usize,
    by_tag: bool,
    /// The handler's outcomes are made of this.
    seed: u64,
    /// After this many calls the handler stops it, or the process is killed.
    calls: Option<(u64, bool)>,
    back: Option<u64>,
    /// Events are lost before it.
    gap: Option<Gap>,
}

fn life() -> impl Strategy<Value = Life> {
    let appended = prop::collection::vec(0u8..4, 0..12);
    let numbers = (0usize..4, 1u64..6, 1usize..8, any::<bool>(), any::<u64>());
    let ends = (prop::option::of((0u64..12, any::<bool>())), prop::option::weighted(0.15, 0u64..20));
    let gap = (any::<u64>(), any::<bool>()).prop_map(|(seed, repair)| Gap { seed, repair });
    let gap = prop::option::weighted(0.3, gap);
    (appended, numbers, ends, gap).prop_map(|(appended, (workers, every, window, by_tag, seed), (calls, back), gap)| {
        Life { appended, workers, every, window, by_tag, seed, calls, back, gap }
    })
}

#[derive(Default)]
struct Seen {
    acknowledged: BTreeSet<u64>,
    given_up: BTreeSet<u64>,
    lost: BTreeSet<u64>,
    /// For each key, the event that was handed out last in this life, how often, and whether it is
    /// closed.
    keys: BTreeMap<String, (u64, u64, bool)>,
    calls: u64,
    killed: Option<SimFs>,
    wrong: Vec<String>,
}

impl Seen {
    fn is_known(&self, position: u64) -> bool {
        self.acknowledged.contains(&position) || self.lost.contains(&position)
    }
}

fn mix(seed: u64, position: u64, attempt: u64) -> u64 {
    let mixed =
        (seed ^ position.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ attempt << 17).wrapping_mul(0xD134_2543_DE82_EF95);
    mixed >> 40
}

const ATTEMPTS: u64 = 3;

fn handle(event: &Event, life: &Life, disk: &SimFs, keys: &[Vec<u64>; 2], seen: &Mutex<Seen>) -> Outcome {
    let position = event.position();
    let key = match life.by_tag {
        true => event.tags().next().unwrap().to_owned(),
        false => event.stream().to_string(),
    };
    let mut seen = seen.lock().unwrap();
    if seen.lost.contains(&position) {
        seen.wrong.push(format!("{position} is lost"));
    }
    let (last, attempt) = match seen.keys.get(&key).copied() {
        Some((last, attempts, false)) if last == position => (None, attempts + 1),
        Some((last, _, closed)) => {
            if !closed || last >= position {
                seen.wrong.push(format!("{key}: {position} behind {last}, closed: {closed}"));
            }
            (Some(last), 1)
        }
        None => (None, 1),
    };
    if let Some(last) = last {
        // Nothing of the key is between the two.
        let all = &keys[usize::from(life.by_tag)];
        let own = all[position as usize];
        if (last + 1..position).any(|between| all[between as usize] == own && !seen.lost.contains(&between)) {
            seen.wrong.push(format!("{key}: from {last} to {position}"));
        }
    }
    seen.calls += 1;
    if let Some((calls, kill)) = life.calls
        && seen.calls > calls
    {
        seen.keys.insert(key, (position, attempt, false));
        if kill && seen.killed.is_none() {
            // What a power cut leaves, with everything that may have been acknowledged so far.
            seen.killed = Some(disk.crash(Image::Durable));
        }
        return Outcome::Stop;
    }
    let gives_up = attempt == ATTEMPTS;
    let (outcome, closed) = match mix(life.seed, position, attempt) % 10 {
        0 => (Outcome::Park("parked".into()), true),
        1 | 2 => (Outcome::Retry("again".into()), gives_up),
        3 => (Outcome::Retry("panic".into()), gives_up),
        _ => (Outcome::Ack, true),
    };
    match outcome {
        Outcome::Ack => _ = seen.acknowledged.insert(position),
        _ if closed => _ = seen.given_up.insert(position),
        _ => {}
    }
    seen.keys.insert(key, (position, attempt, closed));
    drop(seen);
    if outcome == Outcome::Retry("panic".into()) {
        std::panic::resume_unwind(Box::new("on purpose"));
    }
    outcome
}

fn live(lives: &[Life]) -> Result<(), TestCaseError> {
    let mut disk = SimFs::new();
    let open = |disk: &SimFs| {
        let options = annals::Options::new().file_system(disk.clone()).maintenance(false).segment_size(TINY).reserve(0);
        options.open("store").unwrap()
    };
    let seen = Mutex::new(Seen::default());
    let mut keys: [Vec<u64>; 2] = Default::default();
    for life in lives {
        if let Some(gap) = life.gap.filter(|_| !keys[0].is_empty()) {
            let lost = &mut seen.lock().unwrap().lost;
            let live: BTreeSet<u64> = (0..keys[0].len() as u64).filter(|at| !lost.contains(at)).collect();
            lost.extend(gap.open(&Bed::on_disk(&disk), live.iter().copied(), &live));
        }
        let store = open(&disk);
        for &n in &life.appended {
            let event = NewEvent::new("T", "").tag(format!("key:{}", n / 2));
            store.append(&stream(&format!("a-{n}")), Expected::Any, [event]).unwrap();
            keys[0].push(n.into());
            keys[1].push(u64::from(n) / 2);
        }
        if let Some(back) = life.back.filter(|&back| back < store.len()) {
            mailer(&store).reset_to(Reset::After(back.min(checkpoint(&store).unwrap_or(0)))).unwrap();
            // It may have gone forwards from nothing: then 0 counts as done.
            seen.lock().unwrap().acknowledged.insert(0);
        }
        {
            let mut seen = seen.lock().unwrap();
            seen.keys.clear();
            seen.calls = 0;
        }
        let consumer = mailer(&store).checkpoint_every(life.every, LATE).window(life.window).retry(quick(ATTEMPTS));
        let consumer = if life.by_tag { consumer.partition_by(Partition::Tag("key".into())) } else { consumer };
        let handler = |event: &Event| handle(event, life, &disk, &keys, &seen);
        let ended = match life.workers {
            0 => consumer.run(handler),
            n => consumer.workers(n).run(handler),
        };
        let status = ended.unwrap();
        prop_assert!(status.open == 0 || life.calls.is_some());
        let killed = seen.lock().unwrap().killed.take();
        match killed {
            Some(left) => {
                disk.while_dead(|| drop(store));
                disk = left;
            }
            None => store.close().unwrap(),
        }
        let store = open(&disk);
        let letters: BTreeSet<u64> = mailer(&store).dead_letters().unwrap().iter().map(|of| of.position).collect();
        let seen = seen.lock().unwrap();
        prop_assert_eq!(&seen.wrong, &Vec::<String>::new());
        prop_assert!(letters.is_subset(&seen.given_up));
        for position in 0..checkpoint(&store).map_or(0, |at| at + 1) {
            let known = seen.is_known(position) || letters.contains(&position);
            prop_assert!(known, "{} is before the checkpoint", position);
        }
        store.close().unwrap();
    }
    let store = open(&disk);
    let mut seen = seen.into_inner().unwrap();
    let Seen { acknowledged, lost, .. } = &mut seen;
    let last = |event: &Event| {
        assert!(!lost.contains(&event.position()));
        acknowledged.insert(event.position());
    };
    mailer(&store).run(last).unwrap();
    let letters = mailer(&store).dead_letters().unwrap();
    for position in 0..store.len() {
        let known = seen.is_known(position) || letters.iter().any(|of| of.position == position);
        prop_assert!(known, "{} was missed", position);
    }
    prop_assert_eq!(checkpoint(&store), store.head());
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: std::env::var("ANNALS_CASES").map_or(200, |n| n.parse().unwrap()), ..ProptestConfig::default() })]

    #[test]
    fn nothing_is_missed_or_out_of_order(lives in prop::collection::vec(life(), 1..6)) {
        live(&lives)?;
    }
}
