//! Commits as plain bytes, which overwrite zeros.

use anyhow::Result;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::{Condvar, Mutex};

/// The zeros are overwritten from the front; at the end it begins again. What a write costs does
/// not depend on what it overwrites.
const SIZE: u64 = 512 << 20;
/// Zeros that are written at a time. A page cache that keeps what one call has written in one large
/// folio makes each small write into it dearer.
const CHUNK: usize = 64 << 10;

/// The commits of threads. Anyone who finds nobody writing writes all that has gathered; the others
/// wait, and are all woken.
pub struct Together {
    file: File,
    durable: bool,
    state: Mutex<State>,
    written: Condvar,
}

#[derive(Default)]
struct State {
    gathered: Vec<u8>,
    /// The buffer that gathers next.
    spare: Vec<u8>,
    end: u64,
    accepted: u64,
    written: u64,
    writing: bool,
}

impl Together {
    pub fn new(zeros: &Path, durable: bool) -> Result<Self> {
        if fs::metadata(zeros).is_ok_and(|metadata| metadata.len() == SIZE) {
            let file = OpenOptions::new().write(true).open(zeros)?;
            return Ok(Together { file, durable, state: Mutex::default(), written: Condvar::new() });
        }
        let mut file = File::create(zeros)?;
        for _ in 0..SIZE / CHUNK as u64 {
            file.write_all(&[0; CHUNK])?;
        }
        file.sync_all()?;
        Ok(Together { file, durable, state: Mutex::default(), written: Condvar::new() })
    }

    pub fn commit(&self, frame: &[u8]) -> Result<()> {
        let mut state = self.state.lock().expect("no thread panics");
        state.gathered.extend_from_slice(frame);
        state.accepted += 1;
        let mine = state.accepted;
        while state.written < mine {
            if state.writing {
                state = self.written.wait(state).expect("no thread panics");
                continue;
            }
            state.writing = true;
            let spare = std::mem::take(&mut state.spare);
            let mut group = std::mem::replace(&mut state.gathered, spare);
            let upto = state.accepted;
            let at = if state.end + group.len() as u64 > SIZE { 0 } else { state.end };
            state.end = at + group.len() as u64;
            drop(state);

            // An error ends the run, so nobody is left to wait.
            self.file.write_all_at(&group, at)?;
            if self.durable {
                self.file.sync_data()?;
            }

            group.clear();
            state = self.state.lock().expect("no thread panics");
            state.spare = group;
            state.written = upto;
            state.writing = false;
            self.written.notify_all();
        }
        Ok(())
    }
}
