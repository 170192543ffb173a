//! How far upstreams have been taken in: see
//! [`Transaction::tracking`](crate::store::Transaction::tracking).

use crate::error::Result;
use crate::index::term::{self, TermKind};
use crate::store::Store;
use std::collections::BTreeMap;

impl Store {
    /// How far an upstream has been taken in, by commits that can be read: the position that the
    /// last [`Transaction::tracking`](crate::Transaction::tracking) of this name came with. `None`
    /// if there was none.
    ///
    /// # Errors
    ///
    /// [`Error::Io`](crate::Error::Io), [`Error::Damaged`](crate::Error::Damaged) if an index
    /// cannot be read.
    pub fn tracked(&self, upstream: &str) -> Result<Option<u64>> {
        self.inner.catalog.index.tracked(upstream)
    }

    /// How far each upstream has been taken in, by name.
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
