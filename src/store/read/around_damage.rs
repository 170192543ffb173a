//! Reads around damage that is found while a store is open: a second view of the store, made when
//! it is first needed.

use crate::error::{Error, Result};
use crate::store::options::Options;
use crate::store::{Inner, Store};
use parking_lot::Mutex;
use std::sync::Arc;

/// How a store is read around damage.
pub(crate) struct AroundDamage {
    /// How to open the view; `None` if the store is open for writing, or is such a view itself.
    how: Option<Options>,
    /// The view, once it has been made.
    view: Mutex<Option<Store>>,
}

impl AroundDamage {
    pub(crate) fn new(how: Option<Options>) -> Self {
        AroundDamage { how, view: Mutex::default() }
    }

    /// Returns whether reads can go around damage that is found.
    pub(crate) fn is_possible(&self) -> bool {
        self.how.is_some()
    }
}

impl Inner {
    /// Returns the view around the damage, and makes it if needed. `None` if this store has none.
    pub(crate) fn around(&self) -> Result<Option<Arc<Inner>>> {
        let Some(how) = &self.around.how else { return Ok(None) };
        let mut view = self.around.view.lock();
        if view.is_none() {
            *view = Some(how.clone().open_around(self.log.dir(), Some(self.log.watermark()))?);
        }
        Ok(view.as_ref().map(|store| store.inner.clone()))
    }

    /// Returns the view around the damage, if it has been made.
    pub(crate) fn seen_around(self: &Arc<Self>) -> Arc<Inner> {
        let view = if self.around.how.is_some() { self.around.view.lock().clone() } else { None };
        view.map_or_else(|| self.clone(), |store| store.inner.clone())
    }
}

impl Store {
    /// Asks the view around the damage if it has been made, otherwise the store; and the view if
    /// the store meets damage.
    pub(crate) fn ask<T>(&self, ask: impl Fn(&Store) -> Result<T>) -> Result<T> {
        match ask(&Store { inner: self.inner.seen_around() }) {
            Err(Error::Damaged(damage)) => match self.inner.around()? {
                Some(inner) => ask(&Store { inner }),
                None => Err(Error::Damaged(damage)),
            },
            answer => answer,
        }
    }
}
