//! Figures: what a workload tells, and what the system counts.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

/// What a run tells, by name.
pub type Figures = Vec<(&'static str, f64)>;

/// How long each of many took.
#[derive(Default)]
pub struct Latencies(Vec<u64>);

impl Latencies {
    pub fn push(&mut self, time: Duration) {
        self.0.push(time.as_nanos() as u64);
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn join(&mut self, other: Latencies) {
        self.0.extend(other.0);
    }

    /// In microseconds: a time that this part of all did not exceed.
    pub fn quantile(&mut self, part: f64) -> f64 {
        self.0.sort_unstable();
        let last = self.0.len().saturating_sub(1) as f64;
        self.0.get((last * part).round() as usize).map_or(f64::NAN, |&nanos| nanos as f64 / 1e3)
    }
}

/// Seconds of processor time that this process has used, in user mode and in the kernel.
pub fn processor_seconds() -> f64 {
    // SAFETY: a plain structure of numbers, which the call fills.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

/// MiB of memory of this process that no file stands after.
pub fn anonymous_memory() -> f64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib: f64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or(f64::NAN);
    kib / 1024.0
}

/// How many flushes the device below a directory has done, for whomever. `None` if the system does
/// not count them.
pub fn device_flushes(dir: &Path) -> Option<u64> {
    let device = fs::metadata(dir).ok()?.dev();
    let device = [libc::major(device).to_string(), libc::minor(device).to_string()];
    let disks = fs::read_to_string("/proc/diskstats").ok()?;
    let mut disks = disks.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    disks.find(|fields| fields.len() > 18 && fields[..2] == device).and_then(|fields| fields[18].parse().ok())
}

/// Bytes that a directory takes on the disk, with all below.
pub fn allocated(path: &Path) -> u64 {
    let Ok(metadata) = fs::symlink_metadata(path) else { return 0 };
    match metadata.is_dir() {
        true => fs::read_dir(path).into_iter().flatten().flatten().map(|entry| allocated(&entry.path())).sum(),
        false => metadata.blocks() * 512,
    }
}

/// Has everything written that waits for it, so that what one run left after does not slow down the
/// next.
pub fn quiesce() {
    // SAFETY: it takes nothing and cannot fail.
    unsafe { libc::sync() };
}
