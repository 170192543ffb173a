//! The judge: whether what was read is the whole log, and intact. Writes nothing.

use super::Opening;
use super::report::OpenReport;
use crate::directory::segment_name;
use crate::error::{Error, Result};
use crate::format::segment_header::SegmentHeader;
use crate::fs::Mode;
use crate::segment::START;
use crate::segment::remains::Claims;
use crate::segment::scan::{ScanEnd, ScanSource, Scanned};
use crate::segment::verdict::{
    NoHeader, SegmentEnd, SegmentFinding, SegmentRole, SegmentVerdict, judge, was_being_created,
};
use std::path::Path;

impl Opening<'_> {
    /// Returns whether a file without an intact header is one that was being created.
    pub(super) fn is_unborn(
        &self,
        source: &ScanSource<'_>,
        newest: bool,
        before: &Option<(SegmentHeader, Scanned)>,
    ) -> Result<bool> {
        let first = before.as_ref().map_or(0, |(_, scanned)| scanned.chain.next_position);
        Ok(was_being_created(NoHeader {
            newest,
            sealed_before: before.as_ref().is_none_or(|(_, scanned)| matches!(scanned.stop, ScanEnd::Sealed { .. })),
            content: source.content_end(START.min(source.size))? > START,
            in_head: self.slots.newest.is_some_and(|head| head.position > first),
        }))
    }

    /// Returns an error for a segment that does not follow the one before.
    pub(super) fn check_succession(
        &self,
        path: &Path,
        header: &SegmentHeader,
        before: Option<&(SegmentHeader, Scanned)>,
        report: &mut OpenReport,
    ) -> Result<()> {
        let refuse = |why: &str| {
            let positions = header.first_position..u64::MAX;
            Err(Error::damaged(path, 0..START, positions, why))
        };
        if self.slots.newest.is_some_and(|head| head.store != header.store) {
            return refuse("the segment and HEAD belong to different stores");
        }
        let Some((last, scanned)) = before else {
            return if header.first_position == 0 {
                Ok(())
            } else {
                refuse("the first segment does not begin at position 0")
            };
        };
        // A rebuilt segment has another digest than the one that was sealed.
        let reconstructed = self.settings.reconstructed;
        let what = scanned.extent(last).discontinuities(header).find(|what| !(reconstructed && what.is_of_bytes()));
        if let Some(what) = what {
            return refuse(&what.to_string());
        }
        if reconstructed {
            return Ok(());
        }
        if let ScanEnd::Sealed { junk: true, .. } = scanned.stop {
            report.notices.push(format!("{}: bytes after the seal; ignored", segment_name(last.number)));
        }
        Ok(())
    }

    /// Returns the header of a segment, if it is intact.
    fn header_of(&self, number: u64) -> Result<Option<SegmentHeader>> {
        let path = self.dir.join(segment_name(number));
        let opened = self.fs.open(&path, Mode::Read).and_then(|file| Ok((file.size()?, file)));
        let (size, file) = opened.map_err(|e| Error::io("open", &path, e))?;
        ScanSource { path: &path, file: &*file, size }.header()
    }

    /// Returns an error for a log that is shorter than an index says.
    pub(super) fn check_claims(&self, newest: &SegmentHeader, end: u64) -> Result<()> {
        if self.settings.reconstructed {
            return Ok(());
        }
        let known = Claims::read(self.fs, self.dir, newest.number)?.after(self.dir, newest, end);
        known.map_or(Ok(()), |damage| Err(Error::Damaged(Box::new(damage))))
    }

    /// Judges a segment with a successor.
    pub(super) fn judge_followed(
        &self,
        source: &ScanSource<'_>,
        header: &SegmentHeader,
        scanned: Scanned,
        report: &mut OpenReport,
    ) -> Result<Scanned> {
        let name = segment_name(header.number);
        report.notices.push(format!("{name}: its index was missing or not intact; rebuilt"));
        let vouches = match scanned.stop {
            ScanEnd::Sealed { .. } => false,
            _ => self.header_of(header.number + 1)?.is_some_and(|next| scanned.is_vouched_for_by(header, &next)),
        };
        self.unindexed.borrow_mut().push(scanned.extent(header));
        match self.judge(source, header, &scanned, SegmentRole::Followed { vouches })? {
            SegmentVerdict::KeepWithoutSeal => {
                report.notices.push(format!("{name}: the seal is not intact; all events are"));
                Ok(scanned.with_seal(header))
            }
            _ => Ok(scanned),
        }
    }

    /// Judges the newest segment. Returns whether its tail must be cut.
    pub(super) fn judge_newest(
        &self,
        source: &ScanSource<'_>,
        header: &SegmentHeader,
        scanned: &Scanned,
    ) -> Result<bool> {
        self.check_claims(header, scanned.chain.next_position)?;
        let verdict = self.judge(source, header, scanned, SegmentRole::Newest)?;
        Ok(matches!(verdict, SegmentVerdict::CutTornGroup | SegmentVerdict::CutTornTail))
    }

    /// Returns what must be done with a segment. Damage is an error with the bytes and positions
    /// that are lost.
    fn judge(
        &self,
        source: &ScanSource<'_>,
        header: &SegmentHeader,
        scanned: &Scanned,
        role: SegmentRole,
    ) -> Result<SegmentVerdict> {
        let position = scanned.chain.next_position;
        let later = match scanned.stop {
            ScanEnd::Bad { .. } => source.resync(header, scanned.end)?,
            _ => Vec::new(),
        };
        let verdict = judge(SegmentFinding {
            role,
            end: SegmentEnd::of(scanned, &later),
            below_head: self.head_position().is_some_and(|head| head > position),
            // The part that an index covers is judged before, and the scan begins after it.
            indexed: false,
            strict: self.settings.strict,
        });
        let SegmentVerdict::Damage(because) = verdict else { return Ok(verdict) };
        let next = later.iter().find(|found| found.header.first_position >= position);
        let bytes = scanned.end..next.map_or(source.size, |found| found.offset);
        let until = next.map_or(u64::MAX, |found| found.header.first_position);
        let why = match scanned.stop {
            ScanEnd::Bad { why } => format!("{why}; {because}"),
            _ => because.to_owned(),
        };
        Err(Error::damaged(source.path, bytes, position..until, why))
    }
}
