//! Repair: restores a store in place.
//!
//! Replacements are made first, in `rebuilt/`, and synced. Then `REPAIR`, the list of all moves, is
//! written and synced: from then on, the store does not open until the repair is finished. All old
//! files move to `quarantine/` before the first replacement moves in; then the list is removed.
//! After any crash, carrying out the list again has the same result.

use super::salvage::Salvaged;
use super::write;
use crate::directory::{HEAD, LOCK, REPAIRING, index_name, segment_name, segment_number};
use crate::error::{Damage, Error, Result};
use crate::format::head::DurableMark;
use crate::format::segment_header::SegmentHeader;
use crate::fs::{Fs, Holes, Lock, LockMode, RealFs};
use crate::index::memory::Memory;
use crate::reconstruct::{Builder, Inventory, Loss, read};
use crate::segment::scan::{ScanSource, Scanned};
use crate::segment::succession::SegmentExtent;
use crate::segment::{foreign, head};
use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Maximum number of lost positions that a repair fills: it builds each segment in memory, and a
/// damaged file can claim any number.
const MOST_LOST: u64 = 1 << 22;

mod moves;
mod sidecars;

use moves::Moves;

/// A step of a repair, done or planned.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Action {
    /// An interrupted repair is finished.
    Finish,
    /// Bytes after the last complete commit are cut; no evidence proves that they were
    /// acknowledged.
    CutTail(Damage),
    /// A segment is rebuilt.
    Rewrite {
        /// Its file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
    /// The events at these positions are given up: lost records replace them.
    AcceptLoss(Loss),
    /// The index of a segment is rebuilt.
    RebuildIndex {
        /// Its file.
        path: PathBuf,
    },
    /// HEAD is rewritten.
    RewriteHead {
        /// The reason.
        why: String,
    },
    /// POSITIONS is rebuilt from its intact entries.
    RewritePositions {
        /// The reason.
        why: String,
    },
    /// The entries in these bytes of POSITIONS are given up: positions and checkpoints may be older
    /// than acknowledged, or missing, or restored after they were deleted.
    AcceptLostEntries(Damage),
    /// A file is moved to quarantine.
    SetAside {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: String,
    },
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Finish => f.write_str("finish the repair that was interrupted"),
            Action::CutTail(torn) => write!(f, "cut the torn tail: {torn}"),
            Action::Rewrite { path, why } => write!(f, "rebuild {}: {why}", path.display()),
            Action::AcceptLoss(loss) => write!(f, "accept the loss: {}", loss.damage),
            Action::RebuildIndex { path } => write!(f, "rebuild the index {}", path.display()),
            Action::RewriteHead { why } => write!(f, "rewrite HEAD: {why}"),
            Action::RewritePositions { why } => write!(f, "rebuild POSITIONS from its intact entries: {why}"),
            Action::AcceptLostEntries(damage) => write!(f, "accept the loss of entries: {damage}"),
            Action::SetAside { path, why } => write!(f, "move {} to quarantine: {why}", path.display()),
        }
    }
}

/// The plan of a repair.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Plan {
    /// The actions, in order; empty if there is nothing to repair.
    pub actions: Vec<Action>,
    /// Losses that must be accepted first.
    pub losses: Vec<Loss>,
    /// Bytes of POSITIONS whose entries are lost, which must also be accepted.
    pub lost_entries: Vec<Damage>,
    /// Bytes that the disk does not return, in any file of the store.
    pub unreadable: Vec<Damage>,
    /// Whether nothing is lost, or exactly what was passed to [`Repair::accept_loss`] and
    /// [`Repair::accept_lost_entries`].
    pub accepted: bool,
}

/// Restores a store in place: cuts a torn tail, rebuilds indexes, HEAD, segments and POSITIONS,
/// moves bad snapshots to quarantine, and, on demand, accepts a loss that a [`Salvaged`] report
/// names.
///
/// Replaced files are kept in `quarantine/`. If a repair is interrupted, at any moment, the next
/// one finishes it; until then, the store does not open. Repeating a repair changes nothing.
///
/// ```
/// use annals::{Store, offline::Repair};
/// let dir = tempfile::tempdir()?;
/// Store::open(dir.path())?.close()?;
/// std::fs::remove_file(dir.path().join("HEAD"))?;
/// assert_eq!(Repair::new().plan(dir.path())?.actions.len(), 1);
/// Repair::new().run(dir.path())?;
/// assert!(Repair::new().plan(dir.path())?.actions.is_empty());
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is done before `plan` or `run`"]
pub struct Repair {
    accepted: Option<Vec<Range<u64>>>,
    accepted_entries: Option<Vec<Range<u64>>>,
}

impl Repair {
    /// Returns a repair that accepts no loss.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives up the events at these positions, which must be exactly the lost ones that a
    /// [`Salvage`](super::Salvage) of the store reports, so that no loss is accepted unseen.
    pub fn accept_loss(mut self, positions: impl IntoIterator<Item = Range<u64>>) -> Self {
        self.accepted = Some(joined(positions));
        self
    }

    /// Gives up the entries in these bytes of POSITIONS, which must be exactly the damaged ones.
    pub fn accept_lost_entries(mut self, bytes: impl IntoIterator<Item = Range<u64>>) -> Self {
        self.accepted_entries = Some(joined(bytes));
        self
    }

    /// Accepts the lost events and entries in the report of a salvage.
    pub fn accept(self, report: &Salvaged) -> Self {
        let entries = report.lost_entries.iter().map(|damage| damage.bytes.clone());
        self.accept_loss(report.losses.iter().map(|loss| loss.damage.positions.clone())).accept_lost_entries(entries)
    }

    /// Returns what a repair would do. Changes nothing and takes no lock.
    ///
    /// # Errors
    ///
    /// [`Error::NotAStore`], also if nothing is left of the log. [`Error::Damaged`] if more than
    /// 4,194,304 positions are lost, or if the list of an interrupted repair is damaged.
    /// [`Error::UnsupportedFormat`], [`Error::Io`].
    pub fn plan(&self, path: impl AsRef<Path>) -> Result<Plan> {
        self.plan_in(&RealFs, path)
    }

    /// Does the same in another file system.
    ///
    /// # Errors
    ///
    /// As [`Repair::plan`].
    pub fn plan_in(&self, fs: &dyn Fs, path: impl AsRef<Path>) -> Result<Plan> {
        let (fs, dir) = (&Holes::new(fs), path.as_ref());
        if moves::pending(fs, dir)?.is_some() {
            return Ok(Plan { actions: vec![Action::Finish], ..Plan::default() });
        }
        self.look(fs, dir, None)
    }

    /// Repairs the store. Returns what was done.
    ///
    /// # Errors
    ///
    /// [`Error::Damaged`] if events or entries are lost and no loss was accepted,
    /// [`Error::Invalid`] if a different loss was accepted; in both cases, nothing is changed,
    /// except that an interrupted repair is finished. [`Error::Locked`] if the store is open.
    /// Otherwise as [`Repair::plan`]; after [`Error::Io`], run the repair again.
    pub fn run(&self, path: impl AsRef<Path>) -> Result<Plan> {
        self.run_in(&RealFs, path)
    }

    /// Does the same in another file system.
    ///
    /// # Errors
    ///
    /// As [`Repair::run`].
    pub fn run_in(&self, fs: &dyn Fs, path: impl AsRef<Path>) -> Result<Plan> {
        let dir = path.as_ref();
        if fs.list(dir).map_or(true, |entries| entries.is_empty()) {
            return Err(Error::NotAStore { path: dir.to_owned() });
        }
        // The directory that is examined is the one that is repaired, even if another one gets its
        // name meanwhile.
        let held = fs.hold(dir).map_err(|e| Error::io("open", dir, e))?;
        let fs = &Holes::new(held.as_deref().unwrap_or(fs));
        foreign::check(fs, dir)?;
        let lock_path = dir.join(LOCK);
        let _lock = match fs.lock(&lock_path, LockMode::Exclusive).map_err(|e| Error::io("lock", &lock_path, e))? {
            Lock::Taken(owner) => {
                let owner = (!owner.is_empty()).then_some(owner);
                return Err(Error::Locked { path: dir.to_owned(), owner });
            }
            held => held,
        };
        let mut done = Plan::default();
        if let Some(pending) = moves::pending(fs, dir)? {
            pending.carry_out(fs, dir)?;
            done.actions.push(Action::Finish);
        }
        let planned = self.look(fs, dir, None)?;
        if !planned.accepted {
            let told = self.accepted.is_some() || self.accepted_entries.is_some();
            let first = planned.losses.into_iter().map(|loss| loss.damage).chain(planned.lost_entries).next();
            return Err(match first {
                Some(first) if !told => Error::Damaged(Box::new(first)),
                _ => Error::invalid(
                    "report",
                    format!(
                        "it names the positions {:?} and the bytes {:?} of POSITIONS, but the present losses differ",
                        self.accepted.as_deref().unwrap_or_default(),
                        self.accepted_entries.as_deref().unwrap_or_default()
                    ),
                ),
            });
        }
        if !planned.actions.is_empty() {
            sidecars::set_aside_snapshots(fs, dir, &planned.actions)?;
            let mut moves = Moves::begin(fs, dir)?;
            self.look(fs, dir, Some(&mut moves))?;
            moves.commit(fs, dir)?.carry_out(fs, dir)?;
        }
        done.actions.extend(planned.actions.iter().cloned());
        Ok(Plan { accepted: true, actions: done.actions, ..planned })
    }

    /// Examines the store and returns the plan. With `moves`, also makes the replacements.
    fn look(&self, fs: &Holes<'_>, dir: &Path, moves: Option<&mut Moves>) -> Result<Plan> {
        let inventory = Inventory::new(fs, dir)?;
        if inventory.places.is_empty() {
            return Err(Error::NotAStore { path: dir.to_owned() });
        }
        let mut look = Look {
            fs,
            dir,
            inventory: &inventory,
            moves,
            plan: Plan::default(),
            before: None,
            rewritten: false,
            kept: Vec::new(),
        };
        for n in 0..inventory.places.len() {
            look.place(n)?;
        }
        look.head()?;
        look.aside();
        look.sidecars()?;
        let mut plan = look.plan;
        plan.unreadable = fs.met();
        let events = joined(plan.losses.iter().map(|loss| loss.damage.positions.clone()));
        let entries = joined(plan.lost_entries.iter().map(|damage| damage.bytes.clone()));
        let is = |accepted: &Option<Vec<_>>, found: Vec<_>| found.is_empty() || accepted.as_ref() == Some(&found);
        plan.accepted = is(&self.accepted, events) && is(&self.accepted_entries, entries);
        Ok(plan)
    }
}

/// Sorts ranges, and merges those that touch.
fn joined(ranges: impl IntoIterator<Item = Range<u64>>) -> Vec<Range<u64>> {
    let mut ranges: Vec<_> = ranges.into_iter().filter(|range| !range.is_empty()).collect();
    ranges.sort_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if last.end >= range.start => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// The segment before the current one, as it will be after the repair.
#[derive(Clone, Copy)]
struct PlannedPredecessor {
    extent: SegmentExtent,
    /// The end of its last commit.
    len: u64,
    /// The digest of all commits up to there.
    digest: u64,
}

struct Look<'a> {
    fs: &'a Holes<'a>,
    dir: &'a Path,
    inventory: &'a Inventory,
    moves: Option<&'a mut Moves>,
    plan: Plan,
    before: Option<PlannedPredecessor>,
    /// Whether a segment is rebuilt.
    rewritten: bool,
    /// Files that stay where they are.
    kept: Vec<PathBuf>,
}

impl Look<'_> {
    fn place(&mut self, n: usize) -> Result<()> {
        let place = &self.inventory.places[n];
        let newest = n + 1 == self.inventory.places.len();
        let path = self.dir.join(segment_name(place.number));
        if let Some((header, scanned)) = self.inventory.sound(n)
            && self.follows(&header)
        {
            let Some((file, named)) = self.inventory.file_of(n) else { return Ok(()) };
            if named {
                self.kept.push(path);
            } else {
                self.plan.actions.push(Action::Rewrite { path, why: format!("it is in {}", file.display()) });
                if let Some(moves) = &mut self.moves {
                    moves.make(self.fs, self.dir, &segment_name(place.number), &read(self.fs, file)?)?;
                }
                self.rewritten = true;
            }
            self.check_index(&header, scanned, file, newest)?;
            self.before = Some(PlannedPredecessor::of(&header, scanned));
            return Ok(());
        }
        self.remake(n, &path, newest)
    }

    /// Returns whether a segment with this header may follow the one before.
    fn follows(&self, header: &SegmentHeader) -> bool {
        match &self.before {
            None => header.number == 1 && header.first_position == 0,
            Some(before) => before.extent.discontinuities(header).next().is_none(),
        }
    }

    /// Rebuilds a segment from its intact parts.
    fn remake(&mut self, n: usize, path: &Path, newest: bool) -> Result<()> {
        let place = &self.inventory.places[n];
        let rebuilt = self.inventory.rebuild(self.fs, n)?;
        let lost = self.plan.losses.iter().chain(&rebuilt.losses).map(|loss| &loss.damage.positions);
        // A loss without a known end is not filled.
        if lost
            .filter(|positions| positions.end < u64::MAX)
            .map(|positions| positions.end - positions.start)
            .sum::<u64>()
            > MOST_LOST
        {
            let why = "too many positions are lost for a repair in place; salvage the store";
            return Err(Error::damaged(path, 0..0, place.positions.clone(), why));
        }
        let own = self.inventory.header(n).filter(|header| rebuilt.losses.is_empty() && self.follows(header));
        // With the same header, the same commits have the same bytes, so that the later segments
        // may stay.
        let header = own.unwrap_or_else(|| self.new_header(n));
        let mut builder = Builder::new(header);
        rebuilt.parts.iter().for_each(|part| builder.add(&rebuilt, part));
        let why = match (rebuilt.losses.is_empty(), self.inventory.sound(n)) {
            (false, _) => "events in it are lost",
            (true, Some(_)) => "the segment before it is rebuilt",
            (true, None) => "it is not intact, and no event in it is lost",
        };
        match &rebuilt.torn {
            Some(torn) if rebuilt.losses.is_empty() && own.is_some() => {
                self.plan.actions.push(Action::CutTail(torn.clone()));
            }
            torn => {
                let whys: Vec<&str> = [why].into_iter().chain(rebuilt.notices.iter().map(String::as_str)).collect();
                self.plan.actions.push(Action::Rewrite { path: path.to_owned(), why: whys.join("; ") });
                self.plan.actions.extend(torn.clone().map(Action::CutTail));
            }
        }
        self.plan.actions.extend(rebuilt.losses.iter().cloned().map(Action::AcceptLoss));
        self.plan.losses.extend(rebuilt.losses.iter().cloned());
        let scanned = builder.scanned();
        if let Some(moves) = &mut self.moves {
            if !newest {
                let index = write::index(&builder)?;
                builder.seal();
                moves.make(self.fs, self.dir, &index_name(place.number), &index)?;
            } else {
                moves.set_aside(&index_name(place.number));
            }
            moves.make(self.fs, self.dir, &segment_name(place.number), &builder.bytes)?;
        }
        self.before = Some(PlannedPredecessor::of(&builder.header, &scanned));
        self.rewritten = true;
        Ok(())
    }

    fn new_header(&self, n: usize) -> SegmentHeader {
        let header = self.inventory.rebuilt_header(n, self.before.map(|before| before.extent.successor()));
        let place = &self.inventory.places[n];
        SegmentHeader { number: place.number, first_position: place.positions.start, ..header }
    }

    /// Rebuilds the index of a sealed segment if it does not match the segment.
    fn check_index(&mut self, header: &SegmentHeader, scanned: &Scanned, file: &Path, newest: bool) -> Result<()> {
        let name = index_name(header.number);
        let path = self.dir.join(&name);
        let stored = read(self.fs, &path).unwrap_or_default();
        // The index of the active segment may cover any part of it, or be missing.
        if newest {
            if self.fs.is_met(&path, &(0..u64::MAX)) {
                if let Some(moves) = &mut self.moves {
                    moves.set_aside(&name);
                }
                let why = "some of its bytes cannot be read".into();
                self.plan.actions.push(Action::SetAside { path, why });
            }
            return Ok(());
        }
        let opened = self.fs.open(file, crate::fs::Mode::Read).map_err(|e| Error::io("open", file, e))?;
        let source = ScanSource { path: file, file: &*opened, size: scanned.end };
        let mut memory = Memory::default();
        source.scan(header, None, |frame| frame.records(file, |event| memory.add(&event)))?;
        let index = memory.encode(header, scanned.events_end(), scanned.chain);
        if index != stored {
            self.plan.actions.push(Action::RebuildIndex { path });
            if let Some(moves) = &mut self.moves {
                moves.make(self.fs, self.dir, &name, &index)?;
            }
        }
        Ok(())
    }

    /// Rewrites HEAD, if it is damaged or does not match the log.
    fn head(&mut self) -> Result<()> {
        let Some(before) = self.before else { return Ok(()) };
        let other = self.inventory.other_log();
        self.plan.actions.extend(other.iter().cloned().map(Action::AcceptLoss));
        let bad = head::read(self.fs, self.dir).map_or(1, |slots| slots.map_or(0, |slots| slots.bad));
        let why = match self.inventory.head {
            None => "it is missing, or not usable",
            Some(_) if bad > 0 => "a slot of it is not intact",
            Some(_) if other.is_some() => "it marks another log",
            Some(_) if self.rewritten => "a segment is rebuilt",
            Some(_) => return Ok(()),
        };
        self.plan.losses.extend(other);
        self.plan.actions.push(Action::RewriteHead { why: why.into() });
        if let Some(moves) = &mut self.moves {
            let generation = self.inventory.head.map_or(0, |head| head.generation + 1);
            let SegmentExtent { segment: header, chain, .. } = before.extent;
            let (segment, position) = (header.number, chain.next_position);
            let (len, digest) = (before.len, before.digest);
            let newest =
                DurableMark { clean: true, store: self.inventory.store, generation, segment, position, len, digest };
            moves.make(self.fs, self.dir, HEAD, &write::head_bytes(newest))?;
        }
        Ok(())
    }

    /// Moves files to quarantine that hold segments and are no longer part of the store.
    fn aside(&mut self) {
        let files: BTreeSet<&Path> = self.inventory.files().collect();
        for path in files.into_iter().filter(|path| !self.kept.iter().any(|kept| kept == path)) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let replaced = segment_number(&name)
                .is_some_and(|number| self.inventory.places.iter().any(|place| place.number == number));
            if let Some(moves) = &mut self.moves {
                moves.set_aside(&name);
            }
            if !replaced {
                let left_out = self.inventory.left_out.iter().find(|left_out| left_out.path == *path);
                let why = left_out.map_or("its events are in another file", |left_out| &left_out.why).to_owned();
                self.plan.actions.push(Action::SetAside { path: path.to_owned(), why });
            }
        }
    }
}

impl PlannedPredecessor {
    fn of(header: &SegmentHeader, scanned: &Scanned) -> Self {
        PlannedPredecessor { extent: scanned.extent(header), len: scanned.end, digest: scanned.chain.mark(header) }
    }
}

/// Returns whether a repair of this directory was interrupted.
pub(super) fn is_unfinished(fs: &dyn Fs, dir: &Path) -> bool {
    fs.list(dir).is_ok_and(|entries| entries.iter().any(|entry| entry.name == REPAIRING && entry.is_file))
}
