//! Files that are missing, duplicate, swapped, misnamed, from another store, or not files of a
//! store at all.

use super::*;

#[test]
fn segments_that_are_missing() {
    let sample = sample();
    for path in segments(&sample.disk) {
        for index in [true, false] {
            let copy = sample.disk.crash(Image::Killed);
            copy.delete(&path);
            if !index {
                copy.delete(path.with_extension("idx"));
            }
            let (report, _) = salvage(&copy, &sample.not_in(&path), &format!("{} missing", path.display()));
            let told = report.losses.iter().any(|loss| loss.damage.path == path);
            assert!(told, "{report:?}");
            // Only the index knows what of each stream was in the segment.
            let known = report.losses.iter().all(|loss| loss.all_known);
            assert_eq!(known, index && path.with_extension("idx").exists_on(&copy), "{report:?}");
        }
    }
    for keep in segments(&sample.disk) {
        let copy = sample.disk.crash(Image::Killed);
        segments(&copy).iter().filter(|path| **path != keep).for_each(|path| copy.delete(path));
        let intact: Vec<_> = sample.written.iter().filter(|written| written.path == keep).collect();
        salvage(&copy, &intact, &format!("only {} is there", keep.display()));
    }
}

trait ExistsOn {
    fn exists_on(&self, disk: &SimFs) -> bool;
}

impl ExistsOn for PathBuf {
    fn exists_on(&self, disk: &SimFs) -> bool {
        disk.contents(self).is_some()
    }
}

#[test]
fn names_do_not_matter() {
    let sample = sample();
    let all = segments(&sample.disk);
    let copy = sample.disk.crash(Image::Killed);
    for (n, path) in all.iter().enumerate() {
        copy.set_contents(format!("store/lost+found.{}", 99 - n), sample.disk.contents(path).unwrap());
        copy.delete(path);
    }
    copy.delete("store/HEAD");
    salvage(&copy, &sample.all(), "all names lost");
    let copy = sample.disk.crash(Image::Killed);
    copy.set_contents(&all[0], sample.disk.contents(&all[1]).unwrap());
    copy.set_contents(&all[1], sample.disk.contents(&all[0]).unwrap());
    salvage(&copy, &sample.all(), "swapped");
}

/// Duplicate segments: what is damaged in one is taken from the other, event by event.
#[test]
fn duplicate_segments_complete_each_other() {
    let sample = sample();
    for path in segments(&sample.disk) {
        let good = sample.disk.contents(&path).unwrap();
        let copy = sample.disk.crash(Image::Killed);
        let (mut first, mut second) = (good.clone(), good.clone());
        for at in (0..good.len()).step_by(64) {
            // No event is longer than what is between.
            match at / 512 % 4 {
                0 => first[at] ^= 1,
                2 => second[at] ^= 1,
                _ => {}
            }
        }
        copy.set_contents(&path, first);
        copy.set_contents("store/copy of it.bak", second);
        salvage(&copy, &sample.all(), &format!("{} doubled", path.display()));
    }
}

#[test]
fn foreign_files_are_left_out() {
    let (sample, other) = (sample(), sample_of(20));
    let copy = sample.disk.crash(Image::Killed);
    for (n, path) in segments(&other.disk).iter().enumerate() {
        copy.set_contents(format!("store/foreign-{n}.seg"), other.disk.contents(path).unwrap());
    }
    copy.set_contents("store/notes.txt", b"nothing of ours".repeat(100));
    copy.set_contents("store/noise", annals_testkit::noise(7, 50_000));
    copy.set_contents("store/000000000000.seg", annals_testkit::noise(8, 5_000));
    let (report, _) = salvage(&copy, &sample.all(), "foreign files");
    assert_eq!(report.left_out.len(), segments(&other.disk).len(), "{report:?}");
    // In place of one of its own.
    let path = &segments(&sample.disk)[1];
    let copy = sample.disk.crash(Image::Killed);
    copy.set_contents(path, other.disk.contents(path).unwrap());
    salvage(&copy, &sample.not_in(path), "a foreign segment in place of one of its own");
}

/// A file with a name that no segment has, and one that is too short to be one.
#[test]
fn names_and_lengths_that_no_segment_has() {
    let sample = sample();
    let last = segments(&sample.disk).pop().unwrap();
    let copy = sample.disk.crash(Image::Killed);
    copy.set_contents("store/00000000000000000000.seg", vec![0xAA; 500]);
    let mut bytes = copy.contents(&last).unwrap();
    bytes[..128].fill(0xAA);
    copy.set_contents(&last, bytes);
    salvage(&copy, &sample.all(), "a segment 0");
    copy.delete(&last);
    copy.delete(last.with_extension("idx"));
    copy.delete("store/HEAD");
    copy.set_contents(&last, vec![1; 90]);
    let (report, _) = salvage(&copy, &sample.not_in(&last), "a short one");
    assert!(report.left_out.iter().any(|left_out| left_out.path == last), "{report:?}");
}

/// Without HEAD, index files and segment headers, the commits themselves tell everything that is
/// needed, except for the id of the store.
#[test]
fn headers_are_found_out() {
    let sample = sample();
    for path in segments(&sample.disk) {
        let copy = sample.disk.crash(Image::Killed);
        copy.delete(path.with_extension("idx"));
        let mut bytes = copy.contents(&path).unwrap();
        bytes[..128].fill(0xAA);
        copy.set_contents(&path, bytes);
        salvage(&copy, &sample.all(), &format!("no header in {}", path.display()));
        copy.delete("store/HEAD");
        salvage(&copy, &sample.all(), &format!("no header in {}, and no HEAD", path.display()));
    }
    let copy = sample.disk.crash(Image::Killed);
    for path in segments(&copy) {
        let mut bytes = copy.contents(&path).unwrap();
        bytes[..128].fill(0);
        copy.set_contents(&path, bytes);
        copy.delete(path.with_extension("idx"));
    }
    salvage(&copy, &sample.all(), "no headers at all");
    for path in segments(&copy) {
        let renamed = format!("store/{}", path.file_name().unwrap().to_string_lossy().replace(".seg", ".bin"));
        copy.set_contents(renamed, copy.contents(&path).unwrap());
        copy.delete(path);
    }
    salvage(&copy, &sample.all(), "no headers and no names");
}

/// Whatever is in the directory: no panic, and no event that was not written.
#[test]
fn garbage() {
    let sample = sample();
    let all = segments(&sample.disk);
    for seed in 0..60u64 {
        let copy = sample.disk.crash(Image::Killed);
        let path = &all[seed as usize % all.len()];
        let mut bytes = copy.contents(path).unwrap();
        let noise = annals_testkit::noise(seed + 1, bytes.len());
        let at = seed as usize * 131 % bytes.len();
        let end = (at + 64 * seed as usize).min(bytes.len());
        bytes[at..end].copy_from_slice(&noise[at..end]);
        if seed % 3 == 0 {
            // Shifted: no later bytes are where they were written.
            bytes.splice(at..at, annals_testkit::noise(seed, 24));
        }
        copy.set_contents(path, bytes);
        let report = Salvage::new().run_in(&copy, "store", "out").unwrap();
        let found = check_out(&copy, &report, &format!("seed {seed}"));
        for record in found {
            assert_eq!(record, sample.written[record.position as usize].record, "seed {seed}");
        }
    }
    let disk = SimFs::new();
    disk.set_contents("store/anything", annals_testkit::noise(3, 100_000));
    assert!(matches!(Salvage::new().run_in(&disk, "store", "out"), Err(annals::Error::NotAStore { .. })));
}
