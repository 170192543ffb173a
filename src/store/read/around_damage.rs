//! Reading around damage that shows when a store is open already: a second view of the store, made
//! when it is first needed.

use crate::error::{Error, Result};
use crate::store::options::Options;
use crate::store::{Inner, Store};
use parking_lot::Mutex;
use std::sync::Arc;

/// How a store is read around damage.
pub(crate) struct AroundDamage {
    /// How to open the view; `None` if the store is open for writing, or is such a view.
    how: Option<Options>,
    /// The view, once there is one.
    view: Mutex<Option<Store>>,
}

impl AroundDamage {
    pub(crate) fn new(how: Option<Options>) -> Self {
        AroundDamage { how, view: Mutex::default() }
    }

    /// Whether damage that shows can be read around.
    pub(crate) fn is_possible(&self) -> bool {
        self.how.is_some()
    }
}

impl Inner {
    /// The view around the damage. `None` if this store has none.
    pub(crate) fn around(&self) -> Result<Option<Arc<Inner>>> {
        let Some(how) = &self.around.how else { return Ok(None) };
        let mut view = self.around.view.lock();
        if view.is_none() {
            *view = Some(how.clone().open_around(self.log.dir(), Some(self.log.watermark()))?);
        }
        Ok(view.as_ref().map(|store| store.inner.clone()))
    }

    /// The view around the damage, if there is one already.
    pub(crate) fn seen_around(self: &Arc<Self>) -> Arc<Inner> {
        let view = if self.around.how.is_some() { self.around.view.lock().clone() } else { None };
        view.map_or_else(|| self.clone(), |store| store.inner.clone())
    }
}

impl Store {
    /// Asks the store, or the view around its damage if there is one already, or if damage is met.
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
