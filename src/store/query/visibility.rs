//! Which events a search may see: none that were deleted, and of the main edition, for a named one,
//! those that it shares.
//!
//! Where a stream diverges is looked up when an event of it is met: the cost of a search depends on
//! what it finds, and not on how many streams have diverged.

use super::Query;
use crate::error::Result;
use crate::format::commit::Recorded;
use crate::format::event::Event;
use crate::index::deletions::Deletions;
use crate::index::editions::Spread;
use crate::position::Location;
use crate::store::Inner;
use crate::stream::StreamId;
use std::collections::HashMap;
use std::sync::Arc;

/// The state of the editions when a search began.
pub(crate) struct Visible {
    deletions: Arc<Deletions>,
    /// Where streams diverge in the named edition that is asked about.
    shadows: Option<Shadows>,
    /// All that could be read then ended before this position.
    watermark: u64,
    /// What is looked for ends before this position.
    end: u64,
}

/// Where the streams of the main edition are shadowed in a named one.
struct Shadows {
    edition: String,
    /// Where the edition's own events stand; looked up with the first stream.
    spread: Option<Spread>,
    /// The streams that were looked up, by their keys in the main edition, and the sequences that
    /// they are shadowed from.
    known: HashMap<Box<[u8]>, Option<u64>>,
    /// Where all streams diverge, once as many were looked up as the edition has events: from then
    /// on that is cheaper.
    all: Option<HashMap<Vec<u8>, Location>>,
    /// Of streams that are known to have lost events of their own: the first sequence of these.
    /// Looked up with the first stream, in a store that is read around damage.
    lost: Option<HashMap<Vec<u8>, u64>>,
}

impl Inner {
    /// Whether an event that is in flight will be seen by a query: one of the main edition will not
    /// be in a named one in which its stream has diverged before it.
    pub(crate) fn shares(&self, query: &Query, event: &Recorded<'_>) -> Result<bool> {
        let (Some(edition), Some(stream)) = (query.named_edition(), StreamId::from_key(event.key)) else {
            return Ok(true);
        };
        if stream.edition().is_some() {
            return Ok(true);
        }
        let diverges = match self.catalog.pending_divergence(&stream.in_edition(edition)?) {
            Some(diverges) => diverges,
            None => {
                let index = &self.catalog.index;
                Shadows::of(edition).start(self, &index.deletions(), event.key, u64::MAX)?
            }
        };
        Ok(diverges.is_none_or(|sequence| event.sequence < sequence))
    }
}

impl Visible {
    /// The state at this moment.
    pub(crate) fn now(store: &Inner, query: &Query) -> Self {
        let (deletions, watermark) = store.catalog.index.deletions_at(|| store.log.watermark());
        Visible { deletions, shadows: query.named_edition().map(Shadows::of), watermark, end: watermark }
    }

    pub(crate) fn watermark(&self) -> u64 {
        self.watermark
    }

    /// Looks only at what stands before a position: streams that diverged later have not diverged
    /// yet.
    pub(crate) fn before(&mut self, end: u64) {
        self.end = end;
    }

    pub(crate) fn shows(&mut self, store: &Inner, event: &Event) -> Result<bool> {
        if self.deletions.hide(event.key(), event.position()) {
            return Ok(false);
        }
        // Whatever begins with 0 is not of the main edition.
        let Some(shadows) = self.shadows.as_mut().filter(|_| event.key().first() != Some(&0)) else { return Ok(true) };
        let from = shadows.start(store, &self.deletions, event.key(), self.end)?;
        Ok(from.is_none_or(|sequence| event.sequence() < sequence))
    }
}

impl Shadows {
    fn of(edition: &str) -> Self {
        Shadows { edition: edition.to_owned(), spread: None, known: HashMap::new(), all: None, lost: None }
    }

    /// From which sequence on the stream with this key in the main edition is shadowed, by events
    /// before a position that these deletions have not hit.
    fn start(&mut self, store: &Inner, deletions: &Deletions, main: &[u8], before: u64) -> Result<Option<u64>> {
        let intact = self.intact_start(store, deletions, main, before)?;
        if store.gaps.is_empty() {
            return Ok(intact);
        }
        let lost = self.lost.get_or_insert_with(|| store.lost_own(&self.edition, deletions, before));
        Ok(intact.into_iter().chain(lost.get(main).copied()).min())
    }

    /// The same, going by the events that are intact.
    ///
    /// What comes later changes no answer: the first event of a stream is looked for after the same
    /// deletions each time, and one that stands at the position or after it does not count.
    fn intact_start(&mut self, store: &Inner, deletions: &Deletions, main: &[u8], before: u64) -> Result<Option<u64>> {
        if let Some(&known) = self.known.get(main) {
            return Ok(known);
        }
        let index = &store.catalog.index;
        let spread = match &mut self.spread {
            Some(spread) => spread,
            none => none.insert(index.spread(&self.edition, deletions)?),
        };
        if self.all.is_none() && self.known.len() as u64 >= spread.events {
            self.all = Some(index.all_first_own(&self.edition, deletions, &spread.segments)?);
        }
        let Some(stream) = StreamId::from_key(main) else { return Ok(None) };
        let stream = stream.in_edition(&self.edition)?;
        let first = match &self.all {
            // That a stream is not among them need not be kept.
            Some(all) => match all.get(main) {
                Some(&first) => Some(first),
                None => return Ok(None),
            },
            None => index.first_own(stream.key(), deletions, &spread.segments)?,
        };
        // The sequence stands with the event: where some are lost, the number of those after it
        // does not tell.
        let first = first.map(|first| store.event_in(&stream, first)).transpose()?;
        let from = first.filter(|first| first.position() < before).map(|first| first.sequence());
        self.known.insert(main.into(), from);
        Ok(from)
    }
}
