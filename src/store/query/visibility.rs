//! The events that a search may return: none that were deleted; and for a named edition, the events
//! of the main edition that it shares.
//!
//! The divergence of a stream is looked up when an event of it is met: the cost of a search depends
//! on what it finds, not on how many streams have diverged.

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
    /// The divergences of streams in the named edition of the query.
    shadows: Option<Shadows>,
    /// The end of what was visible then.
    watermark: u64,
    /// The search ends before this position.
    end: u64,
}

/// Where streams of the main edition are shadowed in a named one.
struct Shadows {
    edition: String,
    /// Locations of the edition's own events; looked up with the first stream.
    spread: Option<Spread>,
    /// The streams that were looked up, by key in the main edition, and the sequences from which
    /// they are shadowed.
    known: HashMap<Box<[u8]>, Option<u64>>,
    /// The divergences of all streams, once as many have been looked up as the edition has events:
    /// from then on that is cheaper.
    all: Option<HashMap<Vec<u8>, Location>>,
    /// The first sequence that each stream is known to have lost. Looked up with the first stream,
    /// in a store that is read around damage.
    lost: Option<HashMap<Vec<u8>, u64>>,
}

impl Inner {
    /// Returns whether a query will see an event in flight: an event of the main edition is not
    /// visible in a named one in which its stream has diverged before it.
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
    /// Returns the current state.
    pub(crate) fn now(store: &Inner, query: &Query) -> Self {
        let (deletions, watermark) = store.catalog.index.deletions_at(|| store.log.watermark());
        Visible { deletions, shadows: query.named_edition().map(Shadows::of), watermark, end: watermark }
    }

    pub(crate) fn watermark(&self) -> u64 {
        self.watermark
    }

    /// Considers only events below a position: streams that diverge later have not diverged yet.
    pub(crate) fn before(&mut self, end: u64) {
        self.end = end;
    }

    pub(crate) fn shows(&mut self, store: &Inner, event: &Event) -> Result<bool> {
        if self.deletions.hide(event.key(), event.position()) {
            return Ok(false);
        }
        // A key that begins with 0 is not of the main edition.
        let Some(shadows) = self.shadows.as_mut().filter(|_| event.key().first() != Some(&0)) else { return Ok(true) };
        let from = shadows.start(store, &self.deletions, event.key(), self.end)?;
        Ok(from.is_none_or(|sequence| event.sequence() < sequence))
    }
}

impl Shadows {
    fn of(edition: &str) -> Self {
        Shadows { edition: edition.to_owned(), spread: None, known: HashMap::new(), all: None, lost: None }
    }

    /// Returns the sequence from which the stream with this key in the main edition is shadowed, by
    /// events below a position that these deletions have not hit.
    fn start(&mut self, store: &Inner, deletions: &Deletions, main: &[u8], before: u64) -> Result<Option<u64>> {
        let intact = self.intact_start(store, deletions, main, before)?;
        if store.gaps.is_empty() {
            return Ok(intact);
        }
        let lost = self.lost.get_or_insert_with(|| store.lost_own(&self.edition, deletions, before));
        Ok(intact.into_iter().chain(lost.get(main).copied()).min())
    }

    /// Returns the same according to the intact events.
    ///
    /// Later events change no answer: the first event of a stream is looked up after the same
    /// deletions each time, and one at or after the position does not count.
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
            // That a stream is not among them need not be remembered.
            Some(all) => match all.get(main) {
                Some(&first) => Some(first),
                None => return Ok(None),
            },
            None => index.first_own(stream.key(), deletions, &spread.segments)?,
        };
        // The sequence is read from the event: where some are lost, the number of later events does
        // not tell it.
        let first = first.map(|first| store.event_in(&stream, first)).transpose()?;
        let from = first.filter(|first| first.position() < before).map(|first| first.sequence());
        self.known.insert(main.into(), from);
        Ok(from)
    }
}
