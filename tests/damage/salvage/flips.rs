//! Bytes that changed: bits, whole bytes, sectors, cut ends.

use super::*;

/// A bit of every third byte of every segment, and of some bytes of other files; with
/// `ANNALS_SALVAGE_BITS=1`, every bit of all, and each byte set to 0, to 255, and to another value.
#[test]
fn every_flipped_bit() {
    let sample = sample();
    let all = std::env::var_os("ANNALS_SALVAGE_BITS").is_some();
    for path in all_files(&sample.disk).into_keys() {
        let good = sample.disk.contents(&path).unwrap();
        let is_segment = path.extension().is_some_and(|e| e == "seg");
        let step = if all {
            1
        } else if is_segment {
            3
        } else {
            13
        };
        for at in (0..good.len()).step_by(step) {
            let bits = if all { 0..8 } else { at % 8..at % 8 + 1 };
            let flips = bits.map(|bit| good[at] ^ (1 << bit));
            let values: Vec<u8> = if all {
                flips.chain([0, 255, annals_testkit::noise(at as u64, 1)[0]]).collect()
            } else {
                flips.collect()
            };
            for value in values.into_iter().filter(|&value| value != good[at]) {
                let mut bad = good.clone();
                bad[at] = value;
                sample.disk.set_contents(&path, bad);
                let context = format!("{}, byte {at} set to {value}", path.display());
                salvage(&sample.disk, &sample.outside(&path, at..at + 1), &context);
            }
        }
        sample.disk.set_contents(&path, good);
    }
}

/// Every length of every segment, followed by nothing, zeros, junk, or older bytes.
#[test]
fn every_truncation() {
    let sample = sample();
    let all = std::env::var_os("ANNALS_SALVAGE_BITS").is_some();
    for path in segments(&sample.disk) {
        let good = sample.disk.contents(&path).unwrap();
        for len in (0..good.len()).step_by(if all { 1 } else { 3 }) {
            for fill in 0..4 {
                if !all && fill != len % 4 {
                    continue;
                }
                let cut = good.len() - len;
                let fill: Vec<u8> = match fill {
                    0 => Vec::new(),
                    1 => vec![0; cut],
                    2 => annals_testkit::noise(len as u64, cut),
                    _ => good[..cut].to_vec(),
                };
                let bad = [&good[..len], &fill].concat();
                let same = bad.iter().zip(&good).take_while(|(bad, good)| bad == good).count();
                sample.disk.set_contents(&path, bad);
                let context = format!("{} cut at {len}, fill of {}", path.display(), fill.len());
                salvage(&sample.disk, &sample.outside(&path, same..usize::MAX), &context);
            }
        }
        sample.disk.set_contents(&path, good);
    }
}

/// Every sector zeroed, swapped with the next, or replaced by the one before; and all sectors but
/// one.
#[test]
fn sectors() {
    let sample = sample();
    for path in segments(&sample.disk) {
        let good = sample.disk.contents(&path).unwrap();
        for at in (0..good.len()).step_by(512) {
            let end = (at + 512).min(good.len());
            let next = (at + 1024).min(good.len());
            let zeroed = [&good[..at], &vec![0; end - at], &good[end..]].concat();
            let swapped = [&good[..at], &good[end..next], &good[at..end], &good[next..]].concat();
            let doubled = [&good[..end], &good[at..at + next - end], &good[next..]].concat();
            for (what, bad) in [("zeroed", zeroed), ("swapped", swapped), ("doubled", doubled)] {
                let differs = |n: &usize| bad[*n] != good[*n];
                let Some(first) = (0..good.len()).find(differs) else { continue };
                let bytes = first..(0..good.len()).rfind(differs).unwrap() + 1;
                sample.disk.set_contents(&path, bad);
                let context = format!("{}, sector at {at} {what}", path.display());
                salvage(&sample.disk, &sample.outside(&path, bytes), &context);
            }
        }
        sample.disk.set_contents(&path, good);
    }
}

/// Damage at many places at once, and in all files.
#[test]
fn damage_everywhere() {
    let sample = sample_of(40);
    for seed in 0..40 {
        let copy = sample.disk.crash(Image::Killed);
        let mut intact = sample.all();
        for (n, path) in all_files(&sample.disk).into_keys().enumerate() {
            let mut bytes = copy.contents(&path).unwrap();
            // Without HEAD, an incomplete commit at the end was perhaps never acknowledged: see
            // below.
            if bytes.is_empty() || path.ends_with("HEAD") {
                continue;
            }
            let noise = annals_testkit::noise(seed * 1000 + n as u64, 64);
            for hit in noise.chunks_exact(8).take(1 + seed as usize % 6) {
                let at = u64::from_le_bytes(hit.try_into().unwrap()) as usize % bytes.len();
                // A newer version is refused before anything else is read.
                bytes[at] ^= 1 << (hit[7] % 8);
                intact.retain(|written| written.path != path || !written.bytes.contains(&at));
            }
            copy.set_contents(&path, bytes);
        }
        salvage(&copy, &intact, &format!("seed {seed}"));
    }
}

/// Without evidence, the rest of a commit at the end of the log may be a torn write: half a commit
/// is never salvaged then, and complete ones are.
#[test]
fn truncation_without_evidence() {
    let sample = sample();
    sample.disk.delete("store/HEAD");
    let path = segments(&sample.disk).pop().unwrap();
    let good = sample.disk.contents(&path).unwrap();
    let mut torn = 0;
    for len in (128..good.len()).step_by(3) {
        sample.disk.set_contents(&path, good[..len].to_vec());
        let mut intact = sample.outside(&path, len..usize::MAX);
        let cut = sample.written[intact.len()..].first().map(|first| first.record.recorded_at);
        intact.retain(|written| Some(written.record.recorded_at) != cut);
        let (report, _) = salvage(&sample.disk, &intact, &format!("cut at {len}, no HEAD"));
        assert_eq!(report.lost(), 0);
        torn += u32::from(report.torn.is_some());
    }
    assert!(torn > 10);
}

/// Any bytes of any length anywhere, `ANNALS_SALVAGE_ROUNDS` times.
#[test]
fn holes_of_every_size() {
    let sample = sample();
    let rounds = std::env::var("ANNALS_SALVAGE_ROUNDS").map_or(300, |rounds| rounds.parse().unwrap());
    let all = segments(&sample.disk);
    for round in 0..rounds {
        let noise = annals_testkit::noise(round + 1, 24);
        let number = |n: usize| u64::from_le_bytes(noise[n * 8..][..8].try_into().unwrap()) as usize;
        let path = &all[number(0) % all.len()];
        let good = sample.disk.contents(path).unwrap();
        let at = number(1) % good.len();
        let end = (at + 1 + number(2) % (1 << (round % 12))).min(good.len());
        let mut bad = good.clone();
        match round % 3 {
            0 => bad[at..end].fill(0),
            1 => bad[at..end].copy_from_slice(&annals_testkit::noise(round + 7, end - at)),
            _ => bad[at..end].copy_from_slice(&good.repeat(2)[at / 2..][..end - at]),
        }
        let differs = |n: &usize| bad[*n] != good[*n];
        let Some(first) = (at..end).find(differs) else { continue };
        let bytes = first..(at..end).rfind(differs).unwrap() + 1;
        sample.disk.set_contents(path, bad);
        salvage(&sample.disk, &sample.outside(path, bytes), &format!("{}, {at}..{end}", path.display()));
        sample.disk.set_contents(path, good);
    }
}
