//! Tracked positions of upstreams: see
//! [`Transaction::tracking`](crate::store::Transaction::tracking).

use crate::error::Result;
use crate::index::term::{self, TermKind};
use crate::store::Store;
use std::collections::BTreeMap;

impl Store {
    /// Returns the tracked position of an upstream: that of the last visible commit with a
    /// [`Transaction::tracking`](crate::Transaction::tracking) of this name. `None` if there is
    /// none.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io), [`Error::Damaged`](crate::Error::Damaged) if an index
    /// cannot be read.
    pub fn tracked(&self, upstream: &str) -> Result<Option<u64>> {
        self.inner.catalog.index.tracked(upstream)
    }

    /// Returns the tracked position of each upstream, by name.
    ///
    /// # Errors
    ///
    /// As [`Store::tracked`].
    pub fn all_tracked(&self) -> Result<BTreeMap<String, u64>> {
        let terms = self.inner.catalog.index.terms(&[TermKind::Tracking as u8])?;
        let name = |term: &[u8]| String::from_utf8_lossy(term::text(term)).into_owned();
        Ok(terms.iter().map(|(term, info)| (name(term), info.value)).collect())
    }
}
