//! Owners of directories on the simulated disk: locks, and directories that are held while others rename them.

use super::SimFs;
use crate::fs::led::Led;
use crate::fs::{Fs, Held};
use std::path::Path;
use std::sync::Arc;

#[derive(Debug)]
pub(super) struct SimLock {
    pub fs: SimFs,
    pub number: u64,
}

impl Held for SimLock {
    fn is_named(&self) -> bool {
        self.fs.state.lock().locks.values().any(|number| *number == self.number)
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        self.fs.state.lock().locks.retain(|_, number| *number != self.number);
    }
}

impl SimFs {
    /// Renames a directory with all that is in it, durably, as another process would. Whoever [holds](Fs::hold) it goes on in it under its new name.
    pub fn rename_dir(&self, from: impl AsRef<Path>, to: impl AsRef<Path>) {
        let mut state = self.state.lock();
        let state = &mut *state;
        let moved = |path: &Path| match path.strip_prefix(from.as_ref()) {
            Ok(below) => to.as_ref().join(below).components().collect(),
            Err(_) => path.to_owned(),
        };
        for disk in [&mut state.cache, &mut state.durable] {
            disk.names =
                std::mem::take(&mut disk.names).into_iter().map(|(path, inode)| (moved(&path), inode)).collect();
        }
        state.unsynced.iter_mut().for_each(|change| change.each_path(|path| *path = moved(path)));
        state.locks = std::mem::take(&mut state.locks).into_iter().map(|(path, lock)| (moved(&path), lock)).collect();
        state.held.iter_mut().for_each(|path| *path = moved(path));
    }

    /// The file system in which a path leads to the directory that it leads to now.
    pub(super) fn held(&self, dir: &Path) -> Arc<dyn Fs> {
        let held = &mut self.state.lock().held;
        held.push(dir.to_owned());
        let number = held.len() - 1;
        let now = move |fs: &SimFs| fs.state.lock().held[number].clone();
        Arc::new(Led { under: self.clone(), path: dir.to_owned(), now: Box::new(now) })
    }
}
