//! Random schedules: a workload, failing calls, full disks and idle times in between, a death, an
//! image, and deaths of the recoveries from that. Everything follows from one number.

use super::oracle::{self, Clock, Run, Setup, Step, check, check_prefix};
use super::sweeps::KINDS;
use crate::{Crash, Image, Operation, SimFs};
use annals::Durability;
use std::time::Duration;

/// SplitMix64 (Steele, Lea, Flood 2014).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    fn one_in(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    fn image(&mut self, disk: &SimFs) -> Image {
        let seed = self.next();
        match self.below(14) {
            0 => Image::Killed,
            1 => Image::Durable,
            2 => Image::All,
            3 => Image::SizeWithoutData,
            4 => Image::DataWithoutSize,
            5 => Image::NamesOnly,
            6 => Image::DataOnly,
            7 | 8 => Image::Subset(seed),
            9 => Image::Sectors(512, seed),
            10 => Image::Sectors(4096, seed),
            11 | 12 => Image::Bytes(seed),
            _ => Image::Prefix(self.below(disk.unsynced() as u64 + 1) as usize),
        }
    }
}

/// A schedule that is run.
#[derive(Debug)]
pub struct Schedule {
    pub steps: Vec<Step>,
    pub setup: Setup,
    /// Number of images of the disk that it leaves.
    images: u64,
}

/// Up to twelve steps. Without syncs only the process fails: a caller that waits for no sync gets
/// no failure.
pub fn schedule(random: &mut Random) -> Schedule {
    let durability = match random.below(10) {
        0 | 1 => Durability::Os,
        2..5 => Durability::Interval(Duration::from_secs(1)),
        _ => Durability::Sync,
    };
    // The thread that syncs runs when the others do.
    let by_hand = matches!(durability, Durability::Interval(_)) || random.one_in(2);
    let fails = durability == Durability::Sync && random.one_in(2);
    let steps = (0..1 + random.below(12)).map(|_| {
        if fails && random.one_in(3) {
            let operations =
                [Operation::Write, Operation::Create, Operation::Truncate, Operation::Sync, Operation::SyncDir];
            return match random.below(6) {
                0 => Step::Full(random.below(6_000)),
                1 | 2 => Step::Heal,
                _ => {
                    let operation = random.pick(&operations);
                    let writes = operation == Operation::Write;
                    let kind = if writes { random.pick(&KINDS) } else { KINDS[0] };
                    Step::Fail(operation, random.below(8), kind)
                }
            };
        }
        if by_hand && random.one_in(4) {
            return random.pick(&[Step::Idle, Step::Idle, Step::IdleBetween, Step::Orphan]);
        }
        if random.one_in(6) {
            return random.pick(&[Step::Second, Step::Late, Step::Late, Step::Foreign]);
        }
        let plain =
            [Step::One, Step::Batch, Step::Group, Step::Roll, Step::Large, Step::Repeat, Step::Reopen, Step::Abandon];
        random.pick(&plain)
    });
    let steps = steps.collect();
    let setup = Setup {
        durability,
        segment_size: random.pick(&[4096, 4096, 6000, 16 << 10, 1 << 20]),
        memory_map: random.one_in(2),
        max_commit: random.pick(&[64 << 20, 12_000, 2_600]),
        clock: random.pick(&[Clock::Ticks, Clock::Stands, Clock::Jumps]),
        by_hand,
    };
    Schedule { steps, setup, images: 4 + random.below(8) }
}

/// Runs the schedule that follows from a number. Returns the number of images, and panics at a
/// violation.
pub fn run(seed: u64) -> u64 {
    let mut random = Random(seed);
    let Schedule { steps, setup, images } = schedule(&mut random);
    let durability = setup.durability;
    let calls = Run::set_up(SimFs::new(), setup).all(&steps).disk.calls();
    let call = random.below(calls + 2);
    let disk = SimFs::new();
    disk.crash_when(Crash::AtCall(call));
    let run = Run::set_up(disk, setup).all(&steps);
    for number in 0..images {
        let image = random.image(&run.disk);
        let mut disk = run.disk.crash(image);
        let mut context = format!("schedule {seed}: {steps:?}, {setup:?}, death at call {call} of {calls}, {image:?}");
        // What a power cut takes from a store that does not sync, it takes once: nothing more may
        // be lost after the recovery.
        let lossy = durability != Durability::Sync && image != Image::Killed;
        let mut depth = if lossy { 0 } else { random.below(3) };
        while depth > 0 {
            let attempt = disk.crash(Image::Killed);
            let call = random.below(12);
            attempt.crash_when(Crash::AtCall(call));
            drop(oracle::options(&attempt).open("store"));
            let image = if durability != Durability::Sync { Image::Killed } else { random.image(&attempt) };
            context += &format!(", recovery dies at call {call}, {image:?}");
            disk = attempt.crash(image);
            depth -= 1;
        }
        let context = format_args!("{context}, image {number}");
        match lossy {
            true => check_prefix(&disk, &run.history, &context),
            false => check(&disk, &run.history, &context),
        }
    }
    images
}
