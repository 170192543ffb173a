//! Which events a search may see: none that were deleted, and of the main edition, for a named one, those that it shares.

use super::Inner;
use super::query::Query;
use crate::error::Result;
use crate::format::event::Event;
use crate::index::deletions::Deletions;
use crate::index::editions::{Diverged, Divergence};
use crate::segment::scan::Recorded;
use crate::stream::{StreamId, split_key};
use std::sync::Arc;

/// The state of the editions when a search began.
pub(super) struct Visible {
    deletions: Arc<Deletions>,
    /// The streams that diverge in the named edition that is asked about.
    diverged: Diverged,
    /// All that could be read then ended before this position.
    watermark: u64,
    /// What is looked for ends before this position.
    end: u64,
}

impl Inner {
    /// Whether an event that is on its way will be seen by a query: one of the main edition will not be in a named one in which its stream has diverged before it.
    pub(super) fn shares(&self, query: &Query, event: &Recorded<'_>) -> Result<bool> {
        let (Some(edition), Some(stream)) = (query.named_edition(), StreamId::from_key(event.key)) else {
            return Ok(true);
        };
        if stream.edition().is_some() {
            return Ok(true);
        }
        let diverges = self.view.diverges_at(&stream.in_edition(edition)?)?;
        Ok(diverges.is_none_or(|sequence| event.sequence < sequence))
    }
}

impl Visible {
    /// The state at this moment.
    pub(super) fn now(store: &Inner, query: &Query) -> Result<Self> {
        let index = &store.view.index;
        let (diverged, (deletions, watermark)) = match query.named_edition() {
            None => (Diverged::new(), index.deletions_at(|| store.log.watermark())),
            Some(name) => index.diverged(name, || store.log.watermark())?,
        };
        let mut diverged = diverged;
        if index.is_lossy() {
            // Where sequences have gaps, the number of events behind the first does not tell which that is.
            for divergence in diverged.values_mut() {
                divergence.sequence = store.log.event_at(divergence.first)?.sequence();
            }
        }
        Ok(Visible { deletions, diverged, watermark, end: watermark })
    }

    pub(super) fn watermark(&self) -> u64 {
        self.watermark
    }

    /// Looks only at what stands before a position: streams that diverged later have not diverged yet.
    pub(super) fn before(&mut self, end: u64) {
        self.end = end;
    }

    pub(super) fn shows(&mut self, store: &Inner, event: &Event) -> Result<bool> {
        if self.deletions.hide(event.key(), event.position()) {
            return Ok(false);
        }
        if self.diverged.is_empty() {
            return Ok(true);
        }
        let is_main = split_key(event.key()).is_some_and(|parts| parts.edition.is_none());
        let Some(&Divergence { sequence, first }) = self.diverged.get(event.key()).filter(|_| is_main) else {
            return Ok(true);
        };
        if event.sequence() < sequence {
            return Ok(true);
        }
        if self.end < self.watermark && store.log.event_at(first)?.position() >= self.end {
            self.diverged.remove(event.key());
            return Ok(true);
        }
        Ok(false)
    }
}
