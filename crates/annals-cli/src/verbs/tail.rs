//! `annals tail`: the newest events, and new ones as they come.

use crate::failure::{Failure, Result};
use crate::filter::Filter;
use crate::lines::Line;
use crate::opening::{self, Gaps};
use crate::output::{List, Out, note};
use crate::verbs::query::{cells, columns};
use annals::{Error, Event, Options, Query, Store};
use std::fs::{self, Metadata};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, SystemTime};

/// Intervals at which the files are checked: at first, and after nothing has changed for a while.
const SOON: Duration = Duration::from_millis(50);
const LATER: Duration = Duration::from_millis(400);
/// The longest interval for a store that is open elsewhere.
const LOCKED: Duration = Duration::from_secs(1);
/// Files that were changed this recently may change again without a trace in their times: some file
/// systems count time in steps of two seconds.
const QUIET: Duration = Duration::from_millis(2100);
/// Number of events, and of their bytes, after which the store is closed and the events are
/// printed.
const BATCH: usize = 4096;
const BATCH_BYTES: usize = 16 << 20;

/// Show the newest events, and, with --follow, new ones as they come
///
/// The conditions are those of `annals query`.
///
/// A store that one process has open for writing cannot be read by another. Therefore, --follow
/// watches the sizes and times of its files, which takes no lock. After each change, it opens the
/// store, collects the new events, closes the store and prints them. Events of a program that opens
/// the store, appends and closes it appear within half a second. Events of a program that keeps the
/// store open appear when it closes the store; a note says so until then. A program that opens the
/// store while it is being read here gets an error that it is locked, and may try again.
#[derive(clap::Args)]
pub struct Args {
    /// Directory of the store
    store: PathBuf,
    #[command(flatten)]
    filter: Filter,
    /// Show this many of the newest events
    #[arg(long, value_name = "N", default_value_t = 10, conflicts_with = "after")]
    last: u64,
    /// Show all events after this position
    #[arg(long, value_name = "POSITION")]
    after: Option<u64>,
    /// Continue with new events, until interrupted
    #[arg(long, short)]
    follow: bool,
}

/// What shows that a store has changed, from outside and without checking all of its files.
#[derive(PartialEq, Eq, Clone, Default, Debug)]
struct Sign {
    /// Length and time of its directory, HEAD, and the newest segment.
    files: Vec<Option<(u64, SystemTime)>>,
    newest: Option<PathBuf>,
}

impl Sign {
    /// Checks a store. If its directory is unchanged since `before`, so is which segment is the
    /// newest.
    fn of(dir: &Path, before: Option<&Sign>) -> Self {
        let facts =
            |path: &Path| fs::metadata(path).ok().and_then(|of: Metadata| Some((of.len(), of.modified().ok()?)));
        let directory = facts(dir);
        let known = before.filter(|before| before.files.first() == Some(&directory));
        let newest = match known {
            Some(before) => before.newest.clone(),
            None => {
                let paths = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
                paths.filter(|path| path.extension().is_some_and(|extension| extension == "seg")).max()
            }
        };
        let segment = newest.as_deref().and_then(facts);
        Sign { files: vec![directory, facts(&dir.join("HEAD")), segment], newest }
    }

    /// Returns whether the next change will be visible, whenever it comes.
    fn is_quiet(&self, now: SystemTime) -> bool {
        let quiet = |modified: &SystemTime| now.duration_since(*modified).is_ok_and(|age| age > QUIET);
        self.files.iter().flatten().all(|(_, modified)| quiet(modified))
    }
}

/// Decides when the store is opened, and how long to wait between two checks.
#[derive(Default, Debug)]
struct Pace {
    /// What was seen before the last time that the store was opened.
    seen: Option<Sign>,
    /// Whether the next change after that will be visible.
    quiet: bool,
    /// Whether to look for the newest segment again.
    relist: bool,
    pause: Duration,
    /// How long the store has been open elsewhere.
    locked: Duration,
}

impl Pace {
    /// Checks the store. A segment that is created at the same moment as a check of the directory
    /// does not change its time visibly, so that the directory is listed again after each opening.
    fn look(&mut self, dir: &Path) -> Sign {
        let known = !std::mem::take(&mut self.relist);
        Sign::of(dir, self.seen.as_ref().filter(|_| known))
    }

    /// Returns whether to open the store after a check has seen `sign`.
    fn opens(&mut self, sign: Sign, now: SystemTime) -> bool {
        let quiet = sign.is_quiet(now);
        // A change at the same moment as the previous check is not visible; the store is opened
        // once more after some time, which finds it.
        let opens = self.seen.as_ref() != Some(&sign) || (quiet && !self.quiet);
        if opens {
            (self.seen, self.quiet, self.pause) = (Some(sign), quiet, SOON);
            self.relist = true;
        }
        opens
    }

    /// Called when the store is open elsewhere. Returns whether this is worth a note, which it is
    /// not if it only lasts for a moment.
    fn locked(&mut self) -> bool {
        self.seen = None;
        let before = self.locked;
        self.pause = (before / 2).clamp(SOON, LOCKED);
        self.locked += self.pause;
        before < LOCKED && self.locked >= LOCKED
    }

    fn opened(&mut self) {
        self.locked = Duration::ZERO;
    }

    /// Returns how long to wait now: the longer nothing changes, the longer.
    fn pause(&mut self) -> Duration {
        let pause = self.pause.max(SOON);
        if self.locked.is_zero() {
            self.pause = (pause * 2).min(LATER);
        }
        pause
    }
}

impl Args {
    pub fn run(&self, out: &mut Out) -> Result<()> {
        let query = self.filter.query()?;
        let mut list = List::new(out, columns());
        let mut gaps = Gaps::default();
        let mut pace = Pace::default();
        // Checked before the store is opened, so that later changes are visible.
        let sign = Sign::of(&self.store, None);
        let store = match Options::new().create(false).memory_map(false).open_read_only(&self.store) {
            Err(Error::Locked { .. }) if self.follow => self.wait(&mut pace)?,
            _ => {
                pace.opens(sign, SystemTime::now());
                opening::to_read(&self.store)?
            }
        };
        let (newest, mut next) = match (self.after, self.follow) {
            // The loop shows them.
            (Some(position), true) => (Vec::new(), position.saturating_add(1)),
            _ => (self.newest(&store, &query, &mut gaps)?, store.len()),
        };
        let mut more = next < store.len();
        drop(store);
        newest.iter().try_for_each(|event| add(&mut list, event))?;
        if !self.follow {
            return list.end().and_then(|()| gaps.end());
        }
        loop {
            list.show()?;
            if more {
                // A writer can open the store in between.
                thread::sleep(SOON / 5);
                pace.seen = None;
            }
            let store = self.wait(&mut pace)?;
            let events = taken(&store, &query, next, &mut gaps)?;
            more = events.len() == BATCH || bytes(&events) >= BATCH_BYTES;
            next = match events.last() {
                Some(last) if more => last.position() + 1,
                _ => next.max(store.len()),
            };
            drop(store);
            events.iter().try_for_each(|event| add(&mut list, event))?;
        }
    }

    /// Returns the newest events, the oldest of them first.
    fn newest(&self, store: &Store, query: &Query, gaps: &mut Gaps) -> Result<Vec<Event>> {
        let search = store.query(query);
        let search = match self.after {
            Some(position) => search.after(position),
            None => search.backwards().limit(self.last),
        };
        let events = search.into_iter().filter_map(|read| gaps.pass(read).transpose());
        let mut events = events.collect::<Result<Vec<Event>>>()?;
        if self.after.is_none() {
            events.reverse();
        }
        Ok(events)
    }

    /// Waits until the files have changed, or may have changed without a trace, and the store can
    /// be read.
    fn wait(&self, pace: &mut Pace) -> Result<Store> {
        loop {
            let sign = pace.look(&self.store);
            if pace.opens(sign, SystemTime::now()) {
                match Options::new().create(false).memory_map(false).open_read_only(&self.store) {
                    Ok(store) => {
                        pace.opened();
                        return Ok(store);
                    }
                    Err(Error::Locked { .. }) => {
                        if pace.locked() {
                            note(
                                "annals: note: ",
                                "another process has the store open for writing: its events are shown when it closes \
                                    the store",
                            );
                        }
                    }
                    Err(error) => return Err(Failure::from(error)),
                }
            }
            thread::sleep(pace.pause());
        }
    }
}

/// Returns the first events from a position on.
fn taken(store: &Store, query: &Query, from: u64, gaps: &mut Gaps) -> Result<Vec<Event>> {
    let mut events = Vec::new();
    let mut bytes = 0;
    for event in store.query(query).after(from.checked_sub(1)) {
        let Some(event) = gaps.pass(event)? else { continue };
        bytes += size(&event);
        events.push(event);
        if events.len() == BATCH || bytes >= BATCH_BYTES {
            break;
        }
    }
    Ok(events)
}

fn size(event: &Event) -> usize {
    event.data().len() + event.metadata().len()
}

fn bytes(events: &[Event]) -> usize {
    events.iter().map(size).sum()
}

fn add(list: &mut List<'_>, event: &Event) -> Result<()> {
    list.add(&Line(event), |Line(event)| cells(event))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::UNIX_EPOCH;

    /// A store whose files count time in steps, and its follower.
    struct Trial {
        now: Duration,
        step: Duration,
        changed: Duration,
        pace: Pace,
        opens: u32,
        /// When the store was changed and when it was opened last.
        wrote: Duration,
        read: Duration,
    }

    impl Trial {
        fn new(step: Duration) -> Self {
            let start = Duration::from_secs(100);
            let mut trial =
                Trial { now: start, step, changed: start, pace: Pace::default(), opens: 0, wrote: start, read: start };
            trial.change();
            trial.look();
            trial
        }

        fn change(&mut self) {
            self.wrote = self.now;
            let steps = self.now.as_nanos() / self.step.as_nanos();
            self.changed = Duration::from_nanos((steps * self.step.as_nanos()) as u64);
        }

        fn look(&mut self) {
            let sign = Sign { files: vec![Some((1, UNIX_EPOCH + self.changed))], newest: None };
            if self.pace.opens(sign, UNIX_EPOCH + self.now) {
                self.opens += 1;
                self.read = self.now;
            }
        }

        /// Follows for this long, and changes the store this often.
        fn follow(&mut self, time: Duration, every: Option<Duration>) {
            let end = self.now + time;
            let mut change = every.map(|every| self.now + every);
            let mut look = self.now + self.pace.pause();
            while self.now < end {
                let next = change.map_or(look, |change| change.min(look)).min(end);
                self.now = next;
                if change == Some(next) {
                    self.change();
                    change = every.map(|every| next + every);
                }
                if look == next {
                    self.look();
                    look = next + self.pace.pause();
                }
            }
        }
    }

    /// For a second after each change, the store was opened without a pause, 540 times: this took a
    /// core, and no other process could open the store for writing. Now it is opened once for each
    /// change, and once more when the next change is sure to be visible.
    #[test]
    fn a_change_is_looked_at_twice_at_most() {
        for step in [1, 4_000_000, 2_000_000_000].map(Duration::from_nanos) {
            let mut trial = Trial::new(step);
            assert_eq!(trial.opens, 1);
            trial.follow(Duration::from_secs(60), None);
            assert_eq!(trial.opens, 2, "{step:?}");
            trial.follow(Duration::from_secs(6), Some(Duration::from_millis(300)));
            assert!(trial.opens <= 2 + 20 + 4, "{} in steps of {step:?}", trial.opens);
        }
    }

    /// Two changes within one step of the clock of the file system look like one.
    #[test]
    fn nothing_stays_unseen() {
        for step in [1, 4_000_000, 2_000_000_000].map(Duration::from_nanos) {
            for every in [3, 49, 50, 100, 333, 1999].map(Duration::from_millis) {
                let mut trial = Trial::new(step);
                trial.follow(Duration::from_secs(7), Some(every));
                trial.follow(Duration::from_secs(5), None);
                assert!(trial.read >= trial.wrote, "{step:?}, {every:?}");
            }
        }
    }

    #[test]
    fn a_store_that_is_open_elsewhere_is_asked_for_less_and_less() {
        let mut pace = Pace::default();
        let (mut asked, mut told, mut waited) = (0, 0, Duration::ZERO);
        while waited < Duration::from_secs(60) {
            assert!(pace.opens(Sign::default(), UNIX_EPOCH), "a lock leaves no trace when it goes");
            asked += 1;
            told += u32::from(pace.locked());
            waited += pace.pause();
        }
        assert!(asked < 80, "{asked}");
        assert_eq!(told, 1);
        pace.opened();
        assert!(!pace.locked(), "a moment is not worth a note");
    }

    #[test]
    fn the_newest_segment_is_found_and_watched() {
        let dir = tempfile::tempdir().unwrap();
        let (first, second) =
            (dir.path().join("00000000000000000001.seg"), dir.path().join("00000000000000000002.seg"));
        let empty = Sign::of(dir.path(), None);
        fs::write(&first, "a").unwrap();
        let one = Sign::of(dir.path(), Some(&empty));
        assert_eq!(one.newest.as_ref(), Some(&first));
        fs::write(&first, "ab").unwrap();
        let longer = Sign::of(dir.path(), Some(&one));
        assert_ne!(one, longer);
        fs::write(&second, "").unwrap();
        let two = Sign::of(dir.path(), None);
        assert_eq!(two.newest.as_ref(), Some(&second));
        // A file system that counts in large steps does not show that one has come.
        let step = fs::metadata(dir.path()).unwrap().modified().unwrap();
        fs::remove_file(&second).unwrap();
        let back = || fs::File::open(dir.path()).unwrap().set_modified(step).unwrap();
        back();
        let mut pace = Pace::default();
        let sign = pace.look(dir.path());
        assert!(pace.opens(sign, step));
        fs::write(&second, "").unwrap();
        back();
        assert_eq!(pace.look(dir.path()).newest.as_ref(), Some(&second));
        assert!(!two.is_quiet(SystemTime::now()) && two.is_quiet(SystemTime::now() + QUIET * 2));
    }
}
