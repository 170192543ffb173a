//! The tail: the log continues after the newest segment, or, after a seal, in a new one.

use super::report::OpenReport;
use super::{Opening, Recovered};
use crate::error::Result;
use crate::format::head;
use crate::format::segment_header::SegmentHeader;
use crate::log::LogTail;
use crate::segment::Segment;
use crate::segment::scan::{ScanEnd, ScanSource, Scanned};
use crate::segment::verdict::write_back;
use std::sync::Arc;

impl Opening<'_> {
    /// Continues after the last sealed segment; the content of the next file is kept in quarantine.
    pub(super) fn reborn(
        &self,
        mut segments: Vec<Arc<Segment>>,
        source: &ScanSource<'_>,
        before: Option<(SegmentHeader, Scanned)>,
        report: &mut OpenReport,
    ) -> Result<Recovered> {
        self.set_aside(source)?;
        let Some((header, scanned)) = before else { return self.create(report) };
        self.check_claims(&header, scanned.chain.next_position)?;
        let tail = LogTail::new(scanned.extent(&header).successor(), false);
        let active = segments.last().expect("there is one before").clone();
        if !self.settings.read_only {
            self.sync(&active)?;
        }
        segments.truncate(header.number as usize);
        Ok(self.recovered(segments, tail, scanned.end))
    }

    /// Continues after the newest segment, whose torn tail is cut first.
    pub(super) fn finish(
        &self,
        segments: Vec<Arc<Segment>>,
        source: &ScanSource<'_>,
        header: &SegmentHeader,
        scanned: Scanned,
        report: &mut OpenReport,
    ) -> Result<Recovered> {
        let segment = segments.last().expect("there is the newest").clone();
        let position = scanned.chain.next_position;
        let head = self.slots.newest;
        let cuts = self.judge_newest(source, header, &scanned)?;
        let writable = !self.settings.read_only;
        if cuts {
            report.cut = Some(self.cut(source, &scanned)?);
        }
        let sealed = matches!(scanned.stop, ScanEnd::Sealed { .. });
        let at_head =
            head.is_some_and(|head| (head.segment, head.position, head.len) == (header.number, position, scanned.end));
        report.clean = !cuts && at_head && head.is_some_and(|head| head.clean);
        let proven_upto = scanned.durable_upto.max(head.map_or(0, |head| head.position));
        if proven_upto < position {
            report.unproven = proven_upto..position;
        }
        if writable && head.is_none() {
            self.sync_parents()?;
        }
        // If HEAD names the segment, a header was durable: a second attempt to create it may have
        // written another one.
        let in_head = |head: head::DurableMark| head.segment == header.number && head.position > header.first_position;
        let has_header = report.clean || head.is_some_and(in_head);
        if let Some(what) = write_back(at_head, cuts, has_header)
            && writable
        {
            self.write_back(source, &segment, &scanned, what)?;
        }
        if sealed && self.indexes.indexed_upto(header.number) == 0 {
            self.unindexed.borrow_mut().push(scanned.extent(header));
        }
        let tail = if sealed {
            LogTail::new(scanned.extent(header).successor(), false)
        } else {
            LogTail { created: true, offset: scanned.end, chain: scanned.chain, ..LogTail::new(*header, true) }
        };
        Ok(Recovered { proven: at_head && !cuts, ..self.recovered(segments, tail, scanned.end) })
    }
}
