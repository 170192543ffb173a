//! Salvage: copies every intact event of a damaged store into a new one.

use super::affected::{self, Affected};
use super::renumber::Renumber;
use super::verify::{Sequences, read_all};
use super::{is_incomplete, sidecars, write};
use crate::Uuid;
use crate::directory::INCOMPLETE;
use crate::error::{Damage, Error, Result};
use crate::format::head::DurableMark;
use crate::format::segment_header::SegmentHeader;
use crate::fs::{Fs, Holes, RealFs};
use crate::reconstruct::{Builder, Inventory, LeftOut, Loss, LostEvents, RebuiltSegment, SlotPart};
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Maximum number of lost positions that are filled in one segment.
const LOST_AT_ONCE: u64 = 1 << 20;

/// The result of [`Salvage::run`].
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Salvaged {
    /// The id of the store. The new store has the same id, so that the ids that the store assigned
    /// to events do not change.
    pub store: Uuid,
    /// Number of events copied.
    pub events: u64,
    /// Number of streams of the copied events.
    pub streams: u64,
    /// Number of positions of the new store, including lost ones unless it is renumbered.
    pub positions: u64,
    /// Number of segments of the new store.
    pub segments: u64,
    /// Size of the segments of the old store in bytes.
    pub bytes: u64,
    /// Losses, in order of positions.
    pub losses: Vec<Loss>,
    /// Sequences that streams are missing according to the neighbouring events: these events
    /// existed, whatever the reason for their absence.
    pub missing: Vec<LostEvents>,
    /// Positions that were copied although no evidence proves that they were acknowledged: complete
    /// commits at the end of the log.
    pub unproven: Range<u64>,
    /// Bytes at the end of the log that are not a complete commit, and were not copied: a torn
    /// write, which an open would cut.
    pub torn: Option<Damage>,
    /// Damaged bytes of POSITIONS. Their content is unknown: positions and checkpoints may be older
    /// than acknowledged, or missing, or restored after they were deleted.
    pub lost_entries: Vec<Damage>,
    /// Handlers, checkpoints and snapshots that may include lost events.
    pub affected: Vec<Affected>,
    /// Files that were not used, and why.
    pub left_out: Vec<LeftOut>,
    /// Other files that were copied, by their names in the new store: snapshots unchanged, and
    /// POSITIONS with all intact entries. Empty if the new store is renumbered.
    pub copied: Vec<PathBuf>,
    /// Bytes that the disk does not return, in any file of the store. `losses` and `lost_entries`
    /// name what is lost with them.
    pub unreadable: Vec<Damage>,
    /// Irregularities without a loss of events.
    pub notices: Vec<String>,
}

impl Salvaged {
    /// Returns the number of lost positions, not counting losses whose end is unknown.
    pub fn lost(&self) -> u64 {
        let positions = self.losses.iter().map(|loss| &loss.damage.positions);
        positions.filter(|positions| positions.end < u64::MAX).map(|positions| positions.end - positions.start).sum()
    }
}

/// Copies every intact event of a store that may be damaged, before and after the damage, into a
/// new store that opens without damage. The old store is only read, without a lock; no process
/// should have it open.
///
/// Intact commits are copied whole; of a damaged commit, each event whose own checksum matches is
/// copied. Positions and sequences do not change: a lost record replaces each lost event,
/// [`Store::losses`](crate::Store::losses) lists the lost positions, and readers skip them. Files
/// are identified by their content: wrong names, duplicate and missing segments, and files of other
/// stores do no harm.
///
/// ```
/// use annals::{Expected, NewEvent, Store, StreamId, offline::Salvage};
/// let dir = tempfile::tempdir()?;
/// let (damaged, rescued) = (dir.path().join("damaged"), dir.path().join("rescued"));
/// let store = Store::open(&damaged)?;
/// let order = StreamId::new("order", "1")?;
/// for event_type in ["Placed", "Paid", "Shipped"] {
///     store.append(&order, Expected::Any, [NewEvent::new(event_type, "")])?;
/// }
/// store.close()?;
/// let segment = damaged.join("00000000000000000001.seg");
/// let mut bytes = std::fs::read(&segment)?;
/// let at = bytes.windows(4).position(|bytes| bytes == b"Paid").unwrap();
/// bytes[at] = b'p';
/// std::fs::write(&segment, bytes)?;
///
/// let salvaged = Salvage::new().run(&damaged, &rescued)?;
/// assert_eq!((salvaged.events, salvaged.lost()), (2, 1));
/// let store = Store::open(&rescued)?;
/// assert_eq!(store.losses()?, [1..2]);
/// let types: Vec<_> = store.read(&order).into_iter().map(|event| event.unwrap().event_type().to_owned()).collect();
/// assert_eq!(types, ["Placed", "Shipped"]);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "nothing is copied before `run`"]
pub struct Salvage {
    renumber: bool,
}

impl Salvage {
    /// Returns a salvage that does not change positions and sequences.
    pub fn new() -> Self {
        Self::default()
    }

    /// Sets whether positions and sequences are assigned again, without gaps. Those that are stored
    /// elsewhere, outside of the store or in snapshots and handler positions, are then wrong.
    /// Events keep their ids, which are stored with them from then on.
    pub fn renumber(mut self, renumber: bool) -> Self {
        self.renumber = renumber;
        self
    }

    /// Copies `store` into the directory `out`, which must be empty or missing. The copy is
    /// verified before this returns.
    ///
    /// If the salvage is interrupted, the directory stays marked: opening it, verifying it and
    /// salvaging into it return [`Error::Unfinished`]. Remove it, and salvage again. Salvaging
    /// *from* it copies what it holds, with a notice.
    ///
    /// # Errors
    ///
    /// [`Error::NotAStore`] if there is nothing to copy, [`Error::Invalid`] if the directory is not
    /// empty, [`Error::Unfinished`] if it holds an interrupted copy, [`Error::UnsupportedFormat`],
    /// [`Error::Io`], [`Error::Damaged`] if the copy fails its verification.
    pub fn run(self, store: impl AsRef<Path>, out: impl AsRef<Path>) -> Result<Salvaged> {
        self.run_in(&RealFs, store, out)
    }

    /// Does the same in another file system.
    ///
    /// # Errors
    ///
    /// As [`Salvage::run`].
    pub fn run_in(self, fs: &dyn Fs, store: impl AsRef<Path>, out: impl AsRef<Path>) -> Result<Salvaged> {
        let (dir, out) = (store.as_ref(), out.as_ref());
        let fs = &Holes::new(fs);
        let early = if self.renumber { None } else { Some(sidecars::Early::read(fs, dir)?) };
        let inventory = Inventory::new(fs, dir)?;
        if inventory.places.is_empty() {
            return Err(Error::NotAStore { path: dir.to_owned() });
        }
        begin(fs, out)?;
        let mut copy = Copy {
            fs,
            out,
            inventory: &inventory,
            renumber: self.renumber.then(Renumber::default),
            report: Salvaged {
                store: Uuid::from_bytes(inventory.store),
                bytes: inventory.bytes(),
                left_out: inventory.left_out.clone(),
                notices: inventory.notices.clone(),
                ..Salvaged::default()
            },
            before: None,
        };
        if is_incomplete(fs, dir) {
            let why =
                "the source is itself an interrupted copy, and incomplete: look for the store that it was made from";
            copy.report.notices.push(format!("{INCOMPLETE}: {why}"));
        }
        for n in 0..inventory.places.len() {
            copy.place(n)?;
        }
        copy.end()?;
        let mut report = copy.finish();
        let kept = sidecars::copy(fs, dir, out, early, &mut report)?;
        report.unreadable = fs.met();
        write::sync_dir(fs, out)?;
        let sequences = check(fs, out, &mut report)?;
        report.affected = affected::affected(&kept, &report, &sequences);
        let marker = out.join(INCOMPLETE);
        fs.remove(&marker).map_err(|e| Error::io("remove", &marker, e))?;
        write::sync_dir(fs, out)?;
        Ok(report)
    }
}

/// Creates the directory, and marks it as unfinished.
fn begin(fs: &dyn Fs, out: &Path) -> Result<()> {
    if is_incomplete(fs, out) {
        return Err(Error::Unfinished { path: out.to_owned(), what: "salvage" });
    }
    if fs.list(out).is_ok_and(|entries| !entries.is_empty()) {
        return Err(Error::invalid("directory", format!("{} is not empty", out.display())));
    }
    fs.create_dir(out).map_err(|e| Error::directory("create", out, e))?;
    write::file(
        fs,
        &out.join(INCOMPLETE),
        b"A salvage into this directory was interrupted. Remove it, and salvage again.\n",
    )?;
    write::sync_dir(fs, out)?;
    let parent = out
        .parent()
        .map_or(Path::new("."), |parent| if parent.as_os_str().is_empty() { Path::new(".") } else { parent });
    write::sync_dir(fs, parent)
}

/// Verifies the copy by reading all of it. Returns the next sequence of each stream.
fn check(fs: &dyn Fs, out: &Path, report: &mut Salvaged) -> Result<Sequences> {
    let (found, sequences) = read_all(fs, out)?;
    (report.events, report.streams) = (found.events, found.streams);
    match found.damage.into_iter().chain(found.torn).next() {
        Some(damage) => Err(Error::Damaged(Box::new(damage))),
        None if found.events + found.lost == report.positions => Ok(sequences),
        None => {
            let why =
                format!("{} positions were copied, but the copy has {}", report.positions, found.events + found.lost);
            Err(Error::damaged(out, 0..0, 0..report.positions, why))
        }
    }
}

struct Copy<'a> {
    fs: &'a Holes<'a>,
    out: &'a Path,
    inventory: &'a Inventory,
    renumber: Option<Renumber>,
    report: Salvaged,
    /// The last segment that was built. It is written when the next one is built, or at the end, as
    /// the active segment.
    before: Option<Builder>,
}

impl Copy<'_> {
    /// Copies the content of one segment.
    fn place(&mut self, n: usize) -> Result<()> {
        let rebuilt = self.inventory.rebuild(self.fs, n)?;
        let mut builder = Builder::new(self.header(n));
        for part in &rebuilt.parts {
            match (&mut self.renumber, part) {
                (Some(renumber), _) => renumber.add(&mut builder, &rebuilt, part)?,
                (None, SlotPart::Lost { positions }) => builder = self.lose(n, builder, positions.clone())?,
                (None, _) => builder.add(&rebuilt, part),
            }
        }
        let RebuiltSegment { losses, torn, notices, .. } = rebuilt;
        self.report.notices.extend(notices);
        self.report.losses.extend(losses);
        self.report.torn = torn.or(self.report.torn.take());
        if builder.chain.frames > 0 || self.before.is_none() {
            self.write_before(true)?;
            // Another segment follows, so that the one before is written sealed.
            self.before = Some(builder);
        }
        Ok(())
    }

    /// Fills lost positions, in as many segments as needed: a damaged file can claim any number of
    /// positions, and a segment is built in memory.
    fn lose(&mut self, n: usize, mut builder: Builder, mut positions: Range<u64>) -> Result<Builder> {
        loop {
            let end = positions.end.min(positions.start.saturating_add(LOST_AT_ONCE));
            builder.lose(positions.start..end);
            positions.start = end;
            if positions.is_empty() {
                return Ok(builder);
            }
            self.write_before(true)?;
            self.before = Some(builder);
            builder = Builder::new(self.header(n));
        }
    }

    /// Returns the header of the segment that is built for a slot.
    fn header(&self, n: usize) -> SegmentHeader {
        self.inventory.rebuilt_header(n, self.before.as_ref().map(|before| before.extent().successor()))
    }

    fn write_before(&mut self, sealed: bool) -> Result<()> {
        if let Some(builder) = &mut self.before {
            write::segment(self.fs, self.out, builder, sealed)?;
            self.report.segments += 1;
        }
        Ok(())
    }

    /// Writes the last segment, and HEAD.
    fn end(&mut self) -> Result<()> {
        if self.before.is_none() {
            let header = self.header(0);
            self.before = Some(Builder::new(header));
        }
        self.write_before(false)?;
        let last = self.before.as_ref().expect("there is one now");
        let position = last.chain.next_position;
        self.report.positions = position;
        let head = DurableMark {
            clean: true,
            store: self.inventory.store,
            generation: 0,
            segment: last.header.number,
            position,
            len: last.bytes.len() as u64,
            digest: last.chain.mark(&last.header),
        };
        write::head(self.fs, self.out, head)
    }

    fn finish(self) -> Salvaged {
        let mut report = self.report;
        report.losses.extend(self.inventory.other_log());
        report.missing = self.inventory.missing().to_vec();
        let end = self.inventory.len();
        report.unproven = self.inventory.proven.min(end)..end;
        report
    }
}
