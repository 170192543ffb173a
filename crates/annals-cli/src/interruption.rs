//! Interruption: SIGINT, SIGTERM and SIGHUP ask a verb that writes to finish.
//!
//! The first signal is a request; the second one ends the process at once. A signal that is ignored
//! when the process starts (by `nohup`, or in the background of a script) stays ignored.

use std::fs::File;
use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

#[cfg(unix)]
const SIGNALS: [i32; 3] = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM, signal_hook::consts::SIGHUP];
#[cfg(not(unix))]
const SIGNALS: [i32; 2] = [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM];

/// Whether the process was asked to end.
#[derive(Clone)]
pub struct Interruption {
    /// The signal that was received; 0 if there was none.
    signal: Arc<AtomicUsize>,
    /// Readable once a signal was received.
    #[cfg(unix)]
    woken: Arc<std::os::unix::net::UnixStream>,
}

impl Interruption {
    /// Begins to treat signals as requests.
    pub fn watch() -> io::Result<Self> {
        let signal = Arc::new(AtomicUsize::new(0));
        #[cfg(unix)]
        let (woken, waker) = std::os::unix::net::UnixStream::pair()?;
        let again = Arc::new(AtomicBool::new(false));
        for number in SIGNALS.into_iter().filter(|&number| !is_ignored(number)) {
            // In this order: the second signal finds what the first one has set.
            signal_hook::flag::register_conditional_default(number, again.clone())?;
            signal_hook::flag::register(number, again.clone())?;
            signal_hook::flag::register_usize(number, signal.clone(), number as usize)?;
            #[cfg(unix)]
            signal_hook::low_level::pipe::register(number, waker.try_clone()?)?;
        }
        Ok(Interruption {
            signal,
            #[cfg(unix)]
            woken: Arc::new(woken),
        })
    }

    /// Returns the signal that asked the process to end.
    pub fn signal(&self) -> Option<i32> {
        match self.signal.load(Ordering::Relaxed) {
            0 => None,
            signal => i32::try_from(signal).ok(),
        }
    }

    /// Returns a reader of a file. Its reads fail when the process is asked to end; on Unix, even
    /// while they wait for a pipe or a terminal.
    pub fn reading(&self, file: File) -> impl Read + use<> {
        Interruptible { file, interruption: self.clone() }
    }
}

struct Interruptible {
    file: File,
    interruption: Interruption,
}

impl Read for Interruptible {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        #[cfg(unix)]
        wait(&self.file, &self.interruption.woken)?;
        match self.interruption.signal() {
            Some(_) => Err(io::Error::other("interrupted")),
            None => self.file.read(buffer),
        }
    }
}

/// Waits until one of the two can be read.
#[cfg(unix)]
fn wait(file: &File, woken: &std::os::unix::net::UnixStream) -> io::Result<()> {
    use rustix::event::{PollFd, PollFlags, poll};
    let mut both = [PollFd::new(file, PollFlags::IN), PollFd::new(woken, PollFlags::IN)];
    loop {
        match poll(&mut both, None) {
            Ok(_) => return Ok(()),
            Err(error) if error == rustix::io::Errno::INTR => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Returns whether the process ignores a signal; `false` if the system has no `/proc`.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or(0);
    u32::try_from(signal - 1).ok().and_then(|bit| ignored.checked_shr(bit)).is_some_and(|bits| bits & 1 == 1)
}

/// Ends the process as the signal would have.
pub fn end(signal: i32) {
    let (Ok(()) | Err(_)) = signal_hook::low_level::emulate_default_handler(signal);
}
